"""Training a model in one process: the loop, its losses, and the order of the data."""
