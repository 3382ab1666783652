"""Where the tensors of a model file are, by format. Refuses to run or to change a model."""
