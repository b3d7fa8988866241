"""A run in TensorBoard."""
