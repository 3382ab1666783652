"""What a person types: options, terminal, help. The only room that knows click; refuses to compute.

A file for each command or group of commands; what they share with the terminal is in ``terminal``. Nothing heavy is
imported before a command runs, so that ``--help`` answers at once.
"""
