"""The frozen networks: which there are, where their weights come from, their TFLite files. Refuses to train them."""
