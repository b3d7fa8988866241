"""What a run makes: its tiles, in chunks, and the fingerprint of how. No torch."""
