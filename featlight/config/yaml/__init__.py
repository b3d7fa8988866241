"""Strict YAML of limited size."""
