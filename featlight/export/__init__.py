"""What leaves a run: posters, sites, WebP tiles, dataset cards."""
