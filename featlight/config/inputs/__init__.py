"""Image sizes, image channels, and how photographs are resized."""
