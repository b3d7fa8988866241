"""A network is run to learn what it takes and what its modules give."""
