"""Rank, world size and launcher; workers of one machine; signals."""
