"""The deterministic Triton generator."""
