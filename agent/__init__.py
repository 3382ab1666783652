"""The device program: watches, names who is at home, and keeps its model current."""
