"""Networks as people bring them, small, by the kind of trouble that they are; and what a hook sees in them."""
