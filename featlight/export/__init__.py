"""Exports of a run: posters, static sites, WebP tiles, dataset cards."""
