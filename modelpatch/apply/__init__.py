"""What a device runs to apply a patch, to a file or a folder. The standard library alone."""
