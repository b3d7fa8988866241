"""Runs of a network that determine its valid inputs and the outputs of its modules."""
