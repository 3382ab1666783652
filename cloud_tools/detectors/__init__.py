"""Owns the person detector of a bundle: its weights, its graph, its file. Refuses to train it."""
