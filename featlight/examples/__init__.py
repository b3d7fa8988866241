"""The images of a folder that excite each tile of a run most, and where they do."""
