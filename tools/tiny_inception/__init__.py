"""The training of the network that the package carries, and the pictures that it learns from."""
