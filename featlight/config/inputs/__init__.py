"""What images are, in words: their sizes, and their channels as people see them."""
