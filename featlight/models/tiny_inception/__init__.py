"""The network that the package carries: small, trained on procedural pictures, weights included."""
