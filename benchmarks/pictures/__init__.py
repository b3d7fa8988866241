"""Recipes judged by numbers that need no person: `python -m benchmarks.pictures`."""
