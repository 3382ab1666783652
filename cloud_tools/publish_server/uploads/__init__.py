"""From bytes of a program to files that a release can be made of. Refuses archives: each file comes alone."""
