"""Complex tensors as pairs of reals: a value ``complex64[S..]`` is an ``f32[S.., 2]`` of real and imaginary parts.

Products, sums and views of such values are written with real operators; other calls stay opaque, between
``view_as_complex`` and ``view_as_real``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

import attrs
import torch

from ..ir import Unsupported
from .matching import AtenCall, Value, match_call

if TYPE_CHECKING:
    from .importer import Importer

#: complex dtype -> the dtype of its parts.
PARTS: dict[torch.dtype, torch.dtype] = {torch.complex64: torch.float32, torch.complex128: torch.float64}

#: ATen targets whose operators are defined on pairs of reals.
PAIRED = frozenset({"aten._fft_r2c.default", "aten._fft_c2c.default", "aten._fft_c2r.default"})

#: A rule takes the importer, the arguments in order and the shape of the result (as a pair), and returns the result.
Rule: TypeAlias = Callable[["Importer", Sequence[Any], tuple[Any, ...]], Value]


def is_complex(value: Any) -> bool:
    """Return whether an argument holds a complex tensor."""
    if isinstance(value, Value):
        return value.complex
    return isinstance(value, tuple) and any(map(is_complex, value))


def as_pair(value: Value) -> Value:
    """Return the pair of reals that a complex value is kept as."""
    return attrs.evolve(value, complex=False)


def as_complex(value: Value) -> Value:
    """Return the complex value that a pair of reals stands for."""
    return attrs.evolve(value, complex=True)


def read_call(
    b: Importer, call: AtenCall, expected: Sequence[Any], result_is_complex: bool, used: set[int], names: list[str]
) -> list[Value] | None:
    """Return the results of a call that takes or gives complex tensors, or None where no rule or operator says it.

    Args:
        b: the importer.
        call: the call.
        expected: the types of its results; of the pair where one is complex.
        result_is_complex: whether its results are.
        used: positions of the results that are read.
        names: for the results.
    """
    if call.target in PAIRED:
        pairs = {k: as_pair(v) if isinstance(v, Value) else v for k, v in call.arguments.items()}
        match, _ = match_call(call.replace(**pairs), expected, used, b.ops)
        found = [] if match is None else b.append(match, names)
        return [as_complex(r) if result_is_complex else r for r in found] or None
    rule = _RULES.get(call.target)
    if rule is None or len(expected) != 1 or expected[0] is None:
        return None
    try:
        result = rule(b, list(call.arguments.values()), expected[0].shape)
    except _NoRule:
        return None
    return [as_complex(result) if result_is_complex else result]


class _NoRule(Exception):
    """The rule does not cover these arguments."""


def _part(b: Importer, x: Value, index: int) -> Value:
    return b.build("aten.select.int", as_pair(x), x.type.rank - 1, index)


def _pair(b: Importer, real: Value, imaginary: Value) -> Value:
    return b.build("aten.stack.default", (real, imaginary), real.type.rank)


def _mul(b: Importer, a: Sequence[Any], shape: tuple[Any, ...]) -> Value:
    x, y = a[0], a[1]
    if is_complex(x) and is_complex(y):
        xr, xi, yr, yi = _part(b, x, 0), _part(b, x, 1), _part(b, y, 0), _part(b, y, 1)

        def times(p: Value, q: Value) -> Value:
            return b.build("aten.mul.Tensor", p, q)

        real = b.build("aten.sub.Tensor", times(xr, yr), times(xi, yi))
        return _pair(b, real, b.build("aten.add.Tensor", times(xr, yi), times(xi, yr)))
    x, y = (x, y) if is_complex(x) else (y, x)
    return b.build("aten.mul.Tensor", as_pair(x), _real_factor(b, y))


def _matrix_product(target: str) -> Rule:
    """A product of matrices of pairs: four real products, or two where one side is real."""

    def rule(b: Importer, a: Sequence[Any], shape: tuple[Any, ...]) -> Value:
        def times(p: Value, q: Value) -> Value:
            return b.build(target, p, q)

        x, y = a[:2]
        if is_complex(x) and is_complex(y):
            xr, xi, yr, yi = _part(b, x, 0), _part(b, x, 1), _part(b, y, 0), _part(b, y, 1)
            real = b.build("aten.sub.Tensor", times(xr, yr), times(xi, yi))
            return _pair(b, real, b.build("aten.add.Tensor", times(xr, yi), times(xi, yr)))
        if is_complex(x):
            return _pair(b, times(_part(b, x, 0), y), times(_part(b, x, 1), y))
        return _pair(b, times(x, _part(b, y, 0)), times(x, _part(b, y, 1)))

    return rule


def _div(b: Importer, a: Sequence[Any], shape: tuple[Any, ...]) -> Value:
    if is_complex(a[1]):
        raise _NoRule
    return b.build("aten.div.Tensor", as_pair(a[0]), _real_factor(b, a[1]))


def _real_factor(b: Importer, y: Any) -> Any:
    """A real number or tensor, shaped to scale both parts."""
    if isinstance(y, Value):
        return b.build("aten.unsqueeze.default", y, y.type.rank) if y.type.rank else y
    if isinstance(y, complex):
        raise _NoRule
    return y


def _both(target: str) -> Rule:
    """Part by part: sums, differences and negation."""

    def rule(b: Importer, a: Sequence[Any], shape: tuple[Any, ...]) -> Value:
        operands = a[:2] if target != "aten.neg.default" else a[:1]
        if not all(map(is_complex, operands)) or (len(a) > 2 and a[2] != 1):
            raise _NoRule
        return b.build(target, *map(as_pair, operands))

    return rule


def _shaped(target: str) -> Rule:
    """A view that is its result's shape alone."""

    def rule(b: Importer, a: Sequence[Any], shape: tuple[Any, ...]) -> Value:
        return as_pair(a[0]) if a[0].type.shape == shape else b.build(target, as_pair(a[0]), shape)

    return rule


def _axis(target: str, *positions: int) -> Rule:
    """A view with axes among its arguments, which are counted without the axis of the parts."""

    def rule(b: Importer, a: Sequence[Any], shape: tuple[Any, ...]) -> Value:
        x = a[0]
        rank = x.type.rank - 1 + (target == "aten.unsqueeze.default")
        args = [v + rank if k in positions and v < 0 else v for k, v in enumerate(a)]
        return b.build(target, as_pair(x), *args[1:])

    return rule


def _permute(b: Importer, a: Sequence[Any], shape: tuple[Any, ...]) -> Value:
    rank = a[0].type.rank - 1
    return b.build("aten.permute.default", as_pair(a[0]), (*(d % rank for d in a[1]), rank))


def _cat(b: Importer, a: Sequence[Any], shape: tuple[Any, ...]) -> Value:
    if not all(map(is_complex, a[0])):
        raise _NoRule
    rank = a[0][0].type.rank - 1
    return b.build("aten.cat.default", tuple(map(as_pair, a[0])), a[1] % rank)


def _polar(b: Importer, a: Sequence[Any], shape: tuple[Any, ...]) -> Value:
    radius, angle = a[0], a[1]
    cos, sin = b.build("aten.cos.default", angle), b.build("aten.sin.default", angle)
    return _pair(b, b.build("aten.mul.Tensor", radius, cos), b.build("aten.mul.Tensor", radius, sin))


def _conjugate(b: Importer, a: Sequence[Any], shape: tuple[Any, ...]) -> Value:
    return _pair(b, _part(b, a[0], 0), b.build("aten.neg.default", _part(b, a[0], 1)))


def _abs(b: Importer, a: Sequence[Any], shape: tuple[Any, ...]) -> Value:
    return b.build("aten.linalg_vector_norm.default", as_pair(a[0]), 2, (a[0].type.rank - 1,), False)


def _converted(b: Importer, a: Sequence[Any], shape: tuple[Any, ...]) -> Value:
    """A conversion to or from complex numbers: a real number has no imaginary part, and a conversion drops it."""
    x, dtype = a[0], a[1]
    if dtype not in PARTS:
        if not isinstance(dtype, str):
            raise _NoRule
        return b.cast(_part(b, x, 0) if is_complex(x) else x, dtype)
    part = "f64" if PARTS[dtype] == torch.float64 else "f32"
    if is_complex(x):
        return b.cast(as_pair(x), part)
    real = b.cast(x, part)
    return _pair(b, real, b.build("aten.full.default", real.type.shape, 0.0, dtype=part))


def _padded(b: Importer, a: Sequence[Any], shape: tuple[Any, ...]) -> Value:
    if a[2] != 0:
        raise _NoRule
    return b.build("aten.constant_pad_nd.default", as_pair(a[0]), (0, 0, *a[1]), 0.0)


def _same(b: Importer, a: Sequence[Any], shape: tuple[Any, ...]) -> Value:
    return as_pair(a[0])


def _table() -> dict[str, Rule]:
    rules: dict[str, Rule] = {
        "aten.mul.Tensor": _mul,
        "aten.div.Tensor": _div,
        "aten.polar.default": _polar,
        "aten.complex.default": lambda b, a, shape: _pair(b, a[0], a[1]),
        "aten.abs.default": _abs,
        "aten.angle.default": lambda b, a, shape: b.build("aten.atan2.default", _part(b, a[0], 1), _part(b, a[0], 0)),
        "aten.permute.default": _permute,
        "aten.cat.default": _cat,
        "aten._to_copy.default": _converted,
        "aten.to.dtype": _converted,
        "aten.constant_pad_nd.default": _padded,
    }
    for name in ("view_as_complex", "view_as_real", "clone", "contiguous", "alias", "detach", "resolve_conj"):
        rules[f"aten.{name}.default"] = _same
    for name, index in (("real", 0), ("imag", 1)):
        rules[f"aten.{name}.default"] = lambda b, a, shape, index=index: _part(b, a[0], index)  # type: ignore[misc]
    for name in ("conj", "_conj", "conj_physical", "_conj_physical"):
        rules[f"aten.{name}.default"] = _conjugate
    for name in ("mm", "bmm", "matmul"):
        rules[f"aten.{name}.default"] = _matrix_product(f"aten.{name}.default")
    for name in ("add.Tensor", "sub.Tensor", "neg.default"):
        rules[f"aten.{name}"] = _both(f"aten.{name}")
    for name in ("view", "reshape", "_unsafe_view", "squeeze"):
        rules[f"aten.{name}.default"] = _shaped("aten.view.default")
    for name in ("flatten.using_ints", "unflatten.int", "squeeze.dim", "squeeze.dims"):
        rules[f"aten.{name}"] = _shaped("aten.view.default")
    rules["aten.expand.default"] = _shaped("aten.expand.default")
    for name, positions in (
        ("unsqueeze.default", (1,)), ("slice.Tensor", (1,)), ("select.int", (1,)), ("transpose.int", (1, 2)),
    ):  # fmt: skip
        rules[f"aten.{name}"] = _axis(f"aten.{name}", *positions)
    return rules


_RULES: dict[str, Rule] = _table()


def parts_dtype(tensor: torch.Tensor) -> torch.dtype:
    """Return the dtype of the parts; raises Unsupported for complex32."""
    if tensor.dtype not in PARTS:
        raise Unsupported(
            f"a value has dtype {str(tensor.dtype).removeprefix('torch.')}, expected complex64 or complex128"
        )
    return PARTS[tensor.dtype]
