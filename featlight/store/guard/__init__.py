"""The way into run directories, which may come from anybody: guarded, and whole or not at all."""
