"""The viewer of a run, a folder of plain files."""
