"""Output of a run to look at: atlases, figures, the viewer, TensorBoard."""
