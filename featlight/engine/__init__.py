"""The descent: one step, the Lightning module around it, its trainer and strategy."""
