"""Element types and tensor types."""

from __future__ import annotations

import math
from collections.abc import Iterable

import attrs

from .size import SizeLike, substitute

#: Every element type, in the order of PyTorch's promotion lattice, with its size in bytes.
DTYPES: dict[str, int] = {
    "bool": 1, "u8": 1, "i8": 1, "i32": 4, "i64": 8, "f16": 2, "bf16": 2, "f32": 4, "f64": 8,
}  # fmt: skip

#: Dtype classes that an operator definition may name after ``type T:``.
DTYPE_CLASSES: dict[str, frozenset[str]] = {
    "float": frozenset({"f64", "f32", "f16", "bf16"}),
    "int": frozenset({"i64", "i32", "i8", "u8"}),
    "bool": frozenset({"bool"}),
    "number": frozenset({"f64", "f32", "f16", "bf16", "i64", "i32", "i8", "u8"}),
    "any": frozenset(DTYPES),
}

#: Lowest and highest values of the integer dtypes.
INTEGER_RANGES: dict[str, tuple[int, int]] = {
    "u8": (0, 2**8 - 1), "i8": (-(2**7), 2**7 - 1), "i32": (-(2**31), 2**31 - 1), "i64": (-(2**63), 2**63 - 1),
}  # fmt: skip

#: Unit roundoff of each float type (IEEE 754; bf16 has 8 bits of significand, f16 11).
UNIT_ROUNDOFF: dict[str, float] = {"f64": 2.0**-53, "f32": 2.0**-24, "f16": 2.0**-11, "bf16": 2.0**-8}


def is_float(dtype: str) -> bool:
    """Return whether ``dtype`` is a floating-point type."""
    return dtype in DTYPE_CLASSES["float"]


def _as_shape(sizes: Iterable[SizeLike]) -> tuple[SizeLike, ...]:
    return tuple(sizes)


@attrs.frozen
class TensorType:
    """The dtype and shape of one value, written ``f32[8, 256]``; sizes may be symbolic."""

    dtype: str
    shape: tuple[SizeLike, ...] = attrs.field(converter=_as_shape)

    @property
    def rank(self) -> int:
        """Number of axes."""
        return len(self.shape)

    @property
    def is_static(self) -> bool:
        """Whether every size is a plain integer."""
        return all(isinstance(s, int) for s in self.shape)

    @property
    def numel(self) -> SizeLike:
        """Number of elements."""
        return math.prod(self.shape)  # type: ignore[arg-type]

    @property
    def size_bytes(self) -> SizeLike:
        """Bytes of a dense tensor of this type."""
        return self.numel * DTYPES[self.dtype]

    def substitute(self, env: dict[str, SizeLike]) -> TensorType:
        """Return this type with symbols replaced."""
        return TensorType(self.dtype, tuple(substitute(s, env) for s in self.shape))

    def __str__(self) -> str:
        return f"{self.dtype}[{', '.join(map(str, self.shape))}]"
