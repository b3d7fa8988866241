"""Rewrites that give equal outputs with less work: folded norms, moved pools, omitted branches."""
