"""Numbers of images and of features."""
