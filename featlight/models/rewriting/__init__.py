"""The network rewritten so that less work gives the same: norms folded, pools moved, branches left out."""
