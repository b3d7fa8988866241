"""Which layers and which of their features a run makes, in words."""
