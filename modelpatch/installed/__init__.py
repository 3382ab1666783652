"""What apply uses where it is installed, and does without where it is not: numpy, zstandard."""
