"""The reference source of generated programs: where the synthesizer and a back end meet."""

from __future__ import annotations

from .synth import Program


def reference_source(program: Program) -> str:
    """Return a generated program as PyTorch source that a person would write; importable by name for worker processes."""
    from .backend.to_torch import to_source

    return to_source(program.graph)
