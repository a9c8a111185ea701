"""What a training step takes of memory: traced without running it, measured by the allocator, planned to a budget."""
