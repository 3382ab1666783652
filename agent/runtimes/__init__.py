"""What runs a model: the processor's runtimes, an accelerator in a child. Refuses to know what a model is for."""
