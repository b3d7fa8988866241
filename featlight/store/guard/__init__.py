"""Safe access to run directories, which may come from anybody, and atomic writing."""
