"""Crops of people with names: from videos, from folders, split into train and test. Refuses to know of models."""
