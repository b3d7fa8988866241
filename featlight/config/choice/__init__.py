"""Which layers and features a run visualizes, and their names."""
