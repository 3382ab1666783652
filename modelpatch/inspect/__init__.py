"""What a patch does, told to a person or as JSON. Refuses to change a byte."""
