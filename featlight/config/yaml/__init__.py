"""YAML as people mean it, within limits."""
