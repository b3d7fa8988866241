"""Objectives: losses over regions of a layer's output."""
