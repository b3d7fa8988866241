"""Features drawn while a network trains."""
