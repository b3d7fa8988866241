"""The sources of networks, a module each."""
