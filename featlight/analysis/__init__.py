"""Numbers computed from images and features."""
