"""Ways into the IR."""
