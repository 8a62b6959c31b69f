"""``x[i, :, j]`` and ``x[i, :, j] = v`` with tensors as indices, as selections and writes along one axis.

The indexed axes are brought together, merged into one, and the indices into one vector of positions along it.  Rules have
the form that :mod:`.normal` describes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import attrs

from ..ir import Unsupported
from ..ir.evaluate import broadcast
from .matching import AtenCall, Value

if TYPE_CHECKING:
    from .importer import Importer

MASKS = ("bool", "u8")


@attrs.frozen
class _Place:
    """Positions along one axis that stand for the indices of several.

    Attributes:
        order: of the axes that brings the indexed ones together; the axes as they are where they were.
        first: where the indexed axes begin in that order.
        count: how many they are.
        shape: of all indices together.
        position: i64[n], the row-major position in the indexed axes.
    """

    order: tuple[int, ...]
    first: int
    count: int
    shape: tuple[Any, ...]
    position: Value

    def merged(self, b: Importer, x: Value) -> Value:
        """Return ``x`` with the indexed axes merged into one."""
        if self.order != tuple(range(x.type.rank)):
            x = b.build("aten.permute.default", x, self.order)
        if self.count == 1:
            return x
        shape, end = x.type.shape, self.first + self.count
        return b.build("aten.view.default", x, (*shape[: self.first], _product(shape[self.first : end]), *shape[end:]))

    def taken_apart(self, b: Importer, y: Value, shape: Sequence[Any]) -> Value:
        """Return what :meth:`merged` gives, or a tensor of its type, in the form of the operand of that shape."""
        wide = tuple(shape[k] for k in self.order)
        if y.type.shape != wide:
            y = b.build("aten.view.default", y, wide)
        if self.order == tuple(range(len(wide))):
            return y
        back = tuple(self.order.index(k) for k in range(len(wide)))
        return b.build("aten.permute.default", y, back)


def _product(values: Any) -> Any:
    total: Any = 1
    for v in values:
        total = total * v
    return total


def _place(b: Importer, x: Value, indices: Sequence[Value | None]) -> _Place | None:
    """Return where integer indices point to; None where one of them is a mask."""
    given = [(k, i) for k, i in enumerate(indices) if i is not None]
    if not given or any(i.type.dtype in MASKS for _, i in given):
        return None
    axes = [k for k, _ in given]
    shape = broadcast(*(i.type.shape for _, i in given))
    adjacent = axes == list(range(axes[0], axes[-1] + 1))
    rest = [k for k in range(x.type.rank) if k not in axes]
    order = tuple(range(x.type.rank)) if adjacent else (*axes, *rest)
    position: Value | None = None
    for k, i in given:
        size = x.type.shape[k]
        # An index may be negative; its remainder is the same element counted from the front.
        index = b.build("aten.remainder.Scalar", b.cast(i, "i64"), size)
        if position is None:
            position = index
        else:
            position = b.build("aten.add.Tensor", b.build("aten.mul.Tensor", position, size), index)
    assert position is not None
    if position.type.shape != shape:
        position = b.build("aten.expand.default", position, shape)
    if position.type.rank != 1:
        position = b.build("aten.view.default", position, (_product(shape),))
    return _Place(order, axes[0] if adjacent else 0, len(axes), tuple(shape), position)


def read(
    b: Importer, call: AtenCall, expected: Sequence[Any], used: set[int], names: list[str]
) -> AtenCall | Sequence[Any] | None:
    """``x[:, i, j]`` with integer tensors as a selection along one axis."""
    x, indices = call.arguments["self"], call.arguments["indices"]
    wanted = expected[0]
    if any(size == 0 for size in x.type.shape):
        return None
    place = _place(b, x, indices)
    if place is None:
        return None
    flat = place.merged(b, x)
    if len(place.shape) == 1:
        return b.call("aten.index_select.default", flat, place.first, place.position)
    chosen = b.build("aten.index_select.default", flat, place.first, place.position)
    return b.call("aten.view.default", chosen, wanted.shape)


def write(
    b: Importer, call: AtenCall, expected: Sequence[Any], used: set[int], names: list[str]
) -> AtenCall | Sequence[Any] | None:
    """``x[:, i, j] = v`` as a write along one axis; ``x[mask] = v`` as a choice between two tensors."""
    a = call.arguments
    x, indices, values, accumulate = a["self"], a["indices"], a["values"], a["accumulate"]
    given = [(k, i) for k, i in enumerate(indices) if i is not None]
    values = b.cast(values, x.type.dtype)
    if len(given) == 1 and given[0][1].type.dtype in MASKS:
        return _masked(b, x, given[0][1], given[0][0], values, accumulate)
    if any(size == 0 for size in x.type.shape):
        return [x]
    place = _place(b, x, indices)
    if place is None:
        raise Unsupported("masks among several indices: how many elements they choose is known when the program runs")
    flat = place.merged(b, x)
    shape = flat.type.shape
    wide = (*shape[: place.first], *place.shape, *shape[place.first + 1 :])
    if values.type.shape != wide:
        values = b.build("aten.expand.default", values, wide)
    if len(place.shape) != 1:
        values = b.build(
            "aten.view.default", values, (*shape[: place.first], _product(place.shape), *shape[place.first + 1 :])
        )
    target = "aten.index_add.default" if accumulate else "aten.index_copy.default"
    written = b.build(target, flat, place.first, place.position, values)
    return [place.taken_apart(b, written, x.type.shape)]


def _masked(b: Importer, x: Value, mask: Value, axis: int, values: Value, accumulate: bool) -> AtenCall | None:
    """``x[mask] = v``, where the mask covers neighbouring axes of ``x``."""
    mask = b.cast(mask, "bool")
    rest = x.type.rank - axis - mask.type.rank
    shape = (*(1,) * axis, *mask.type.shape, *(1,) * rest)
    if shape != mask.type.shape:
        mask = b.build("aten.view.default", mask, shape)
    # The result of x[mask] has one axis in place of the mask's; values with size one there are the same for all.
    before, after = axis, rest
    padded = (*(1,) * (before + 1 + after - values.type.rank), *values.type.shape)
    if len(padded) == before + 1 + after and padded[before] == 1:
        spread = (*padded[:before], *(1,) * (x.type.rank - before - after), *padded[before + 1 :])
        if values.type.shape != spread:
            values = b.build("aten.view.default", values, spread)
        if accumulate:
            values = b.build("aten.add.Tensor", x, values)
        return b.call("aten.where.self", mask, values, x)
    if accumulate or axis:
        raise Unsupported("values for each element that a mask chooses: their order is that of the mask alone")
    if mask.type.shape != x.type.shape:
        mask = b.build("aten.expand.default", mask, x.type.shape)
    return b.call("aten.masked_scatter.default", x, mask, values)
