"""Pictures made of tiles: sheets, atlases, rows, animations."""
