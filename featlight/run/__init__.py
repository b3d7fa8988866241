"""A worker's run, from the plan to the last tile, and the monitor that follows all workers."""
