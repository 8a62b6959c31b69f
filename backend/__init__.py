"""Ways out of the IR, and the judge."""
