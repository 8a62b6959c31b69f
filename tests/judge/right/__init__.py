"""Right kernels in many styles, which the judge must pass; those with ``mutate`` are what mutants are made of."""

from __future__ import annotations

from programs.judged import SUBJECTS

from ..kernels import Kernel
from .movement import MOVEMENT
from .norms import NORMS
from .pointwise import POINTWISE
from .products import PRODUCTS
from .reductions import REDUCTIONS
from .spatial import SPATIAL

_KINDS = {"bias_gelu": "pointwise", "autotuned": "pointwise", "embedding": "gather", "layer_norm": "norm"}

HAND_WRITTEN: tuple[Kernel, ...] = (
    *(
        Kernel(
            s.name, _KINDS.get(s.name, "gemm" if s.name.startswith("linear") else "softmax"),
            s.graph.removeprefix("drt 1\n"), s.source, s.precision,
            mutate=s.name not in ("linear_relu_tf32x3", "linear_relu_tf32", "autotuned"),
        )
        for s in SUBJECTS
    ),
    *POINTWISE, *REDUCTIONS, *NORMS, *PRODUCTS, *SPATIAL, *MOVEMENT,
)  # fmt: skip
