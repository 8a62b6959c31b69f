"""One kernel of the corpora: a program, source text that computes it, and what is declared about it."""

from __future__ import annotations

import attrs
from drt.backend.candidate import Candidate
from drt.ir import Graph, parse_graph


@attrs.frozen
class Kernel:
    """A right kernel.

    Attributes:
        kind: ``pointwise``, ``reduction``, ``softmax``, ``norm``, ``gemm``, ``conv``, ``attention``, ``scan``, ``pool``,
            ``loss``, ``gather``, ``move`` or ``fused``.
        program: the graph ``f`` in the text form, without the line that names the version.
        source: defines the launcher ``f``.
        mutate: mutants are made of it.
        pinned: as in :class:`drt.backend.candidate.Candidate`.
    """

    name: str
    kind: str
    program: str
    source: str
    precision: str = "strict"
    mutate: bool = False
    pinned: tuple[tuple[str, int], ...] = ()

    @property
    def graph(self) -> Graph:
        """The program."""
        return parse_graph("drt 1\n" + self.program)

    def candidate(self, source: str | None = None) -> Candidate:
        """Return the kernel, or other source for its program, as a candidate."""
        text = self.source if source is None else source
        return Candidate(text, "f", self.name, precision=self.precision, pinned=self.pinned)
