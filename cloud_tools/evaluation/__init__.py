"""What a bundle is worth on a dataset: accuracy, thresholds, strangers. Refuses to train and to print."""
