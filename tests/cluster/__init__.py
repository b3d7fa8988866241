"""Runs on a real SLURM with two nodes, and under Open MPI, on this machine."""
