"""Networks: sources, weights, layers, frozen copies, and faster equivalents."""
