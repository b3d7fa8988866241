"""What a run is, typed and checked. No torch, so that a slip is answered at once."""
