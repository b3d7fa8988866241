"""Circuits: which earlier features make each tile, by attribution and by expanded weights."""
