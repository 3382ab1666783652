"""The paper's figures, measured again: its models and Table 1. Refuses to be used by anything else."""
