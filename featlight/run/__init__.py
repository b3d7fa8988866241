"""A worker's run, from the plan to the last tile, and the monitor of all workers."""
