"""Filters of our templates. Refuses to look anything up."""
