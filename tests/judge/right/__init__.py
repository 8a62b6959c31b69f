"""Right kernels in many styles, which the judge must pass; those with ``mutate`` are what mutants are made of."""

from __future__ import annotations

from programs.judged import SUBJECTS

from ..kernels import Kernel
from .generated import generated as generated
from .movement import MOVEMENT
from .norms import NORMS
from .pointwise import POINTWISE
from .products import PRODUCTS
from .reductions import REDUCTIONS
from .spatial import SPATIAL

_KINDS = {"bias_gelu": "pointwise", "autotuned": "pointwise", "embedding": "gather", "layer_norm": "norm"}

#: The programs of these subjects at sizes that an interpreter runs in milliseconds.
_SMALLER = (
    ("1024, 1000]", "64, 500]"), ("f32[1000]", "f32[500]"), ("1024, 4096]", "48, 512]"), ("1024, 1024]", "96, 96]"),
    ("f32[1024]", "f32[96]"), ("5000, 256]", "100, 64]"), ("32, 100, 256]", "8, 10, 64]"), ("i64[32, 100]", "i64[8, 10]"),
)  # fmt: skip


def _smaller(text: str) -> str:
    for old, new in _SMALLER:
        text = text.replace(old, new)
    return text


HAND_WRITTEN: tuple[Kernel, ...] = (
    *(
        Kernel(
            s.name, _KINDS.get(s.name, "gemm" if s.name.startswith("linear") else "softmax"),
            _smaller(s.graph.removeprefix("drt 1\n")), s.source, s.precision,
            mutate=s.name not in ("linear_relu_tf32x3", "linear_relu_tf32", "autotuned"),
        )
        for s in SUBJECTS
    ),
    *POINTWISE, *REDUCTIONS, *NORMS, *PRODUCTS, *SPATIAL, *MOVEMENT,
)  # fmt: skip
