"""Parameterizations: the tensors that are optimized, and their images."""
