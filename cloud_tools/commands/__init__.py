"""What a person types: options, terminal, help. The only room that knows click; refuses to compute."""
