"""Networks: where they come from, what their layers give, and how they run fast."""
