"""From a dataset to a bundle: features, heads, fine-tuning, the size of an update. Refuses to publish."""
