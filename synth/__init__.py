"""CSP-DAG: random programs that are valid by construction, with exactly uniform operators."""
