"""Calls that are another spelling of a more basic one: they are read as that one, so that a program has one form."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from ..ir import Size, TensorType
from .matching import AtenCall, Value

if TYPE_CHECKING:
    from .importer import Importer


def basic_call(b: Importer, call: AtenCall, expected: Sequence[TensorType | None]) -> AtenCall:
    """Return the basic spelling of a call, or the call itself where it has none."""
    rule = _RULES.get(call.target)
    found = rule(b, call.arguments, expected[0]) if rule is not None else None
    return call if found is None else found


def _flatten(b: Importer, a: Any, wanted: TensorType | None) -> AtenCall | None:
    return None if wanted is None else b.call("aten.view.default", a["self"], wanted.shape)


def _narrow(b: Importer, a: Any, wanted: TensorType | None) -> AtenCall | None:
    x, start, length = a["self"], a["start"], a["length"]
    if not isinstance(x, Value) or not isinstance(start, (int, Size)):
        return None
    size = x.type.shape[a["dim"]]
    if isinstance(start, int) and start < 0:
        start = start + size
    return b.call("aten.slice.Tensor", x, a["dim"] % x.type.rank, start, start + length)


def _cat(b: Importer, a: Any, wanted: TensorType | None) -> AtenCall | None:
    """Without the tensors of shape [0], which PyTorch takes beside tensors of any rank (a cache that is still empty)."""
    tensors = a["tensors"]
    if wanted is None or wanted.rank == 1 or all(x.type.shape != (0,) for x in tensors):
        return None
    # They still take part in the choice of a dtype.
    kept = tuple(b.cast(x, wanted.dtype) for x in tensors if x.type.shape != (0,))
    return b.call("aten.cat.default", kept, a["dim"]) if len(kept) > 1 else b.call("aten.alias.default", *kept)


_RULES: dict[str, Callable[[Importer, Any, TensorType | None], AtenCall | None]] = {
    "aten.cat.default": _cat,
    "aten.flatten.using_ints": _flatten,
    "aten.narrow.default": _narrow,
}
