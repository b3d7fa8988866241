"""What people look at: atlases, figures, the viewer, TensorBoard."""
