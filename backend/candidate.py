"""Candidates: Triton source for one fragment, and what is declared about it."""

from __future__ import annotations

from typing import Protocol

import attrs

from ..ir import Graph

#: Declared arithmetic of float32 products: ``strict`` is IEEE float32 accuracy (TF32 off), ``tf32`` allows TF32 inputs.
PRECISIONS = ("strict", "tf32")


@attrs.frozen
class Target:
    """The device that kernels are written for; figures are used for planning and for predicted times.

    Attributes:
        name: as printed beside numbers.
        n_multiprocessors: streaming multiprocessors.
        shared_bytes: shared memory that one block may take.
        l2_bytes: size of the last-level cache.
        bandwidth_gbps: sustained device-memory bandwidth, 1e9 bytes/s, read plus write.
        rate_tflops: sustained dense rate by arithmetic: ``f32`` (no tensor cores), ``tf32``, ``f16``, ``bf16``, ``f64``.
        launch_us: time that one more kernel launch costs, microseconds.
    """

    name: str
    n_multiprocessors: int
    shared_bytes: int
    l2_bytes: int
    bandwidth_gbps: float
    rate_tflops: dict[str, float] = attrs.field(hash=False)
    launch_us: float = 3.0


#: Measured copy bandwidth and bf16 product rate of one H100 SXM; the other rates are its datasheet's, scaled alike.
H100 = Target(
    name="H100",
    n_multiprocessors=132,
    shared_bytes=232448,
    l2_bytes=50 * 2**20,
    bandwidth_gbps=3000.0,
    rate_tflops={"f32": 52.0, "tf32": 380.0, "f16": 760.0, "bf16": 760.0, "f64": 52.0},
)


@attrs.frozen
class Candidate:
    """Python source that defines ``entry``, a launcher for one fragment.

    The source is a piece of a module: it may use ``torch``, ``triton`` and ``tl`` (``triton.language``), which the file that
    it is pasted into imports, and every top-level name in it starts with ``entry``, so that pieces never collide.  The
    launcher takes the fragment's inputs in order as positional tensors and returns the fragment's outputs: one tensor, or a
    tuple where there are several.  It allocates its outputs, derives grid and strides from its arguments, and never writes to
    an input.

    Attributes:
        variant: what distinguishes it from its siblings (``rows: one block``, ``gemm 128x128x32 tf32x3``).
        writer: the translator that wrote it (``template``, ``local``, ...); the Python of ``template``, DRT's own, is trusted
            where kernels are timed, everybody else's is not.
        precision: the arithmetic it declares; one of ``PRECISIONS``.
        predicted_us: the roofline time on the target, microseconds; None where unknown.
        pinned: axes (value, axis) whose size the source has compiled in; it serves other sizes of the others.
    """

    source: str
    entry: str
    variant: str
    writer: str = "unknown"
    precision: str = "strict"
    predicted_us: float | None = None
    pinned: tuple[tuple[str, int], ...] = ()


class Translator(Protocol):
    """Whatever writes kernels."""

    name: str

    def propose(self, fragment: Graph, n: int, feedback: tuple[str, ...] = ()) -> list[Candidate]:
        """Return up to ``n`` candidates for ``fragment``, the most promising first."""
        ...
