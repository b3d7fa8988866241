"""A run directory: atomic files, records, and the checks of both."""
