"""Rewrites applied, cutting into fragments, choosing kernels."""
