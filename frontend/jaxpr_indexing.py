"""Rules for elements picked by, and put at, computed positions, and for orders.

Indices are taken to lie within the axes, as the operators demand it: what JAX gives or drops for others is left open.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import attrs
import numpy as np

from ..ir import Unsupported
from .jaxpr_reader import KNOWN_ELEMENTS, Entry, Reader, Rule
from .jaxpr_views import cut
from .matching import Value
from .sizes import numbers

Params = Mapping[str, Any]


# -- slices at positions ----------------------------------------------------------------------------------------------------


def _starts(starts: Sequence[Entry], shape: Sequence[int], sizes: Sequence[int]) -> list[int] | None:
    """Return static positions, moved so that the slice fits as JAX does, None where one is computed."""
    found = []
    for s, n, size in zip(starts, shape, sizes, strict=True):
        if s.number is None:
            return None
        found.append(min(max(int(s.number), 0), n - size))
    return found


def dynamic_slice(r: Reader, eqn: Any, operands: list[Entry], params: Params) -> list[Entry]:
    """A slice of static size, at a static position or along computed indices."""
    x, *starts = operands
    sizes = tuple(params["slice_sizes"])
    static = _starts(starts, x.shape, sizes)
    if static is not None:
        if x.base is None:
            known = x.known[tuple(slice(s, s + n) for s, n in zip(static, sizes))]
            return [Entry(x.dtype, sizes, known)]
        return [r.of_value(cut(r, r.whole(x), static, [s + n for s, n in zip(static, sizes)]))]
    value = r.whole(x)
    for axis, (start, size) in enumerate(zip(starts, sizes, strict=True)):
        if size != x.shape[axis]:
            index = _window(r, start, x.shape[axis], size)
            value = r.add("index_select", value, index, axis=axis)
    return [r.of_value(value)]


def _window(r: Reader, start: Entry, n: int, size: int) -> Value:
    """Return the positions of a slice of an axis of ``n``, moved so that it fits."""
    first = r.whole(start)
    if first.type.dtype not in ("i32", "i64"):
        first = r.cast(first, "i64")
    low = r.add("clamp", first, min=0, max=n - size)
    return r.add("add", r.add("arange", start=0, stop=size, step=1, dtype=first.type.dtype), low)


def dynamic_update_slice(r: Reader, eqn: Any, operands: list[Entry], params: Params) -> list[Entry]:
    """An array with a part of it replaced."""
    x, update, *starts = operands
    static = _starts(starts, x.shape, update.shape)
    if static is not None:
        return [r.of_value(_replaced(r, r.whole(x), r.whole(update), static))]
    moving = [a for a, s in enumerate(starts) if update.shape[a] != x.shape[a]]
    if len(moving) != 1:
        raise Unsupported("replaces a part at computed positions of several axes, expected one")
    (axis,) = moving
    index = r.cast(_window(r, starts[axis], x.shape[axis], update.shape[axis]), "i64")
    return [r.of_value(r.add("index_copy", r.whole(x), index, r.whole(update), axis=axis))]


def _replaced(r: Reader, x: Value, update: Value, starts: Sequence[int], axis: int = 0) -> Value:
    """Return ``x`` with a part replaced: what lies before and after it along each axis joined to it."""
    if axis == x.type.rank:
        return update
    n, size, start = int(str(x.type.shape[axis])), int(str(update.type.shape[axis])), starts[axis]
    inner = x if size == n else r.add("slice", x, axis=axis, start=start, stop=start + size, step=1)
    middle = _replaced(r, inner, update, starts, axis + 1)
    parts = [r.add("slice", x, axis=axis, start=0, stop=start, step=1)] if start else []
    parts.append(middle)
    if start + size < n:
        parts.append(r.add("slice", x, axis=axis, start=start + size, stop=n, step=1))
    return parts[0] if len(parts) == 1 else r.add("cat", tuple(parts), axis=axis)


# -- gather -----------------------------------------------------------------------------------------------------------------


@attrs.frozen
class _Positions:
    """Where the elements of a gather or scatter lie.

    Attributes:
        shape: of the operand.
        result: shape of what is gathered or scattered.
        batch: axes of the result along the indices, in order.
        window: operand axis -> axis of the result along it.
        sizes: of the slice along each operand axis.
        index_axes: operand axis that each component of an index vector is a position along.
        shared: operand axis -> axis of the indices that it runs along with.
    """

    shape: tuple[int, ...]
    result: tuple[int, ...]
    batch: tuple[int, ...]
    window: Mapping[int, int]
    sizes: tuple[int, ...]
    index_axes: tuple[int, ...]
    shared: Mapping[int, int]


def gather(r: Reader, eqn: Any, operands: list[Entry], params: Params) -> list[Entry]:
    """Slices at the positions that index vectors name."""
    x, indices = operands
    d = params["dimension_numbers"]
    result = tuple(eqn.outvars[0].aval.shape)
    batching = tuple(getattr(d, "operand_batching_dims", ()))
    rest = [a for a in range(len(x.shape)) if a not in d.collapsed_slice_dims and a not in batching]
    p = _Positions(
        x.shape, result, tuple(a for a in range(len(result)) if a not in d.offset_dims),
        dict(zip(rest, d.offset_dims, strict=True)), tuple(params["slice_sizes"]), tuple(d.start_index_map),
        dict(zip(batching, getattr(d, "start_indices_batching_dims", ()), strict=True)),
    )  # fmt: skip
    clip = getattr(params.get("mode"), "name", str(params.get("mode"))) == "CLIP"
    if indices.known is not None and indices.known.size == len(p.index_axes) and not p.shared:
        return [r.of_value(_static_slice(r, r.whole(x), indices.known.reshape(-1), p))]
    if x.base is None and indices.known is not None and x.number is not None:
        return [Entry(x.dtype, result, np.broadcast_to(x.known.flat[0], result))]
    value = r.whole(x)
    if len(p.index_axes) == 1:
        (axis,) = p.index_axes
        index = _component(r, indices, 0, x.shape[axis] - p.sizes[axis] if clip else None)
        if not p.shared and p.sizes[axis] == 1 and axis not in p.window and _covers(p, axis):
            return [r.of_value(_along_one_axis(r, value, index, axis, p))]
        if _is_take_along(p, axis, index):
            return [r.of_value(r.add("gather", value, index, axis=axis))]
    flat = _flat_positions(r, indices, p, clip)
    picked = r.add("index_select", r.reshape(value, [math.prod(x.shape)]), flat, axis=0)
    return [r.of_value(r.reshape(picked, result))]


def _covers(p: _Positions, axis: int) -> bool:
    return all(size == n for a, (size, n) in enumerate(zip(p.sizes, p.shape)) if a != axis)


def _static_slice(r: Reader, x: Value, start: Any, p: _Positions) -> Value:
    """Return the one slice that a known index vector names, in the result's shape."""
    starts = [0] * len(p.shape)
    for axis, s in zip(p.index_axes, start, strict=True):
        starts[axis] = min(max(int(s), 0), p.shape[axis] - p.sizes[axis])
    piece = cut(r, x, starts, [s + n for s, n in zip(starts, p.sizes)])
    kept = sorted(p.window, key=lambda a: p.window[a])
    piece = r.permute(piece, kept + [a for a in range(len(p.shape)) if a not in p.window])
    return r.reshape(piece, p.result)


def _component(r: Reader, indices: Entry, k: int, most: int | None) -> Value:
    """Return component ``k`` of all index vectors, of the batch's shape."""
    shape = indices.shape[:-1]
    if indices.base is not None and indices.shape[-1] == 1 and len(indices.shape) - 1 not in indices.at:
        value = r.whole(Entry(indices.dtype, shape, None, indices.base, indices.at))
    else:
        value = r.whole(indices)
        value = r.add("select", value, axis=len(shape), index=k) if indices.shape[-1] > 1 else r.reshape(value, shape)
    if value.type.dtype not in ("i32", "i64"):
        value = r.cast(value, "i64")
    return value if most is None else r.add("clamp", value, min=0, max=most)


def _along_one_axis(r: Reader, x: Value, index: Value, axis: int, p: _Positions) -> Value:
    """Return positions of one axis, for index arrays of any shape."""
    shape = numbers(index.type.shape)
    before, after = p.shape[:axis], p.shape[axis + 1 :]
    if axis == 0 and len(p.shape) == 2:
        y = r.add("embedding", x, index)
    else:
        flat = r.reshape(index, [math.prod(shape)])
        y = r.reshape(r.add("index_select", x, flat, axis=axis), [*before, *shape, *after])
    # Axes of y: those before, those of the indices, those after; each has its place in the result.
    places = [p.window[a] for a in range(axis)] + list(p.batch) + [p.window[a] for a in range(axis + 1, len(p.shape))]
    return r.permute(y, sorted(range(len(places)), key=places.__getitem__))


def _is_take_along(p: _Positions, axis: int, index: Value) -> bool:
    """Return whether each element has an index of its own along one axis, the other axes running along."""
    others = [a for a in range(len(p.shape)) if a != axis]
    return (
        not p.window
        and all(size == 1 for size in p.sizes)
        and index.type.rank == len(p.shape)
        and [p.shared.get(a) for a in others] == others
    )


def _flat_positions(r: Reader, indices: Entry, p: _Positions, clip: bool) -> Value:
    """Return row-major positions in the operand for all elements of the result, as one vector."""
    rank, total = len(p.result), None
    dtype = "i64" if math.prod(p.shape) > 2**31 - 1 or indices.dtype == "i64" else "i32"

    def along(value: Value, axes: Sequence[int]) -> Value:
        shape = [1] * rank
        for size, axis in zip(value.type.shape, axes, strict=True):
            shape[axis] = int(str(size))
        return r.reshape(value, shape)

    for axis, n in enumerate(p.shape):
        stride = math.prod(p.shape[axis + 1 :])
        parts = []
        if axis in p.index_axes:
            part = _component(r, indices, p.index_axes.index(axis), n - p.sizes[axis] if clip else None)
            parts.append(along(r.cast(part, dtype), p.batch))
        if axis in p.shared:
            line = r.add("arange", start=0, stop=n, step=1, dtype=dtype)
            parts.append(along(line, [p.batch[p.shared[axis]]]))
        if axis in p.window and p.sizes[axis] > 1:
            line = r.add("arange", start=0, stop=p.sizes[axis], step=1, dtype=dtype)
            parts.append(along(line, [p.window[axis]]))
        for part in parts:
            scaled = part if stride == 1 else r.add("mul", part, stride)
            total = scaled if total is None else r.add("add", total, scaled)
    if total is None:
        total = r.add("full", shape=(1,) * rank, value=0, dtype=dtype)
    if total.type.shape != p.result:
        total = r.add("expand", total, shape=p.result)
    return r.reshape(total, [math.prod(p.result)])


# -- scatter ----------------------------------------------------------------------------------------------------------------


def scatter(how: str) -> Rule:
    """Return the rule for putting (``""``), or combining (``sum``, ``prod``, ``amax``, ``amin``), elements at positions."""

    def rule(r: Reader, eqn: Any, operands: list[Entry], params: Params) -> list[Entry]:
        x, indices, updates = operands
        d = params["dimension_numbers"]
        batching = tuple(getattr(d, "operand_batching_dims", ()))
        rest = [a for a in range(len(x.shape)) if a not in d.inserted_window_dims and a not in batching]
        sizes = [1] * len(x.shape)
        for a, axis in zip(rest, d.update_window_dims, strict=True):
            sizes[a] = updates.shape[axis]
        p = _Positions(
            x.shape, updates.shape, tuple(a for a in range(len(updates.shape)) if a not in d.update_window_dims),
            dict(zip(rest, d.update_window_dims, strict=True)), tuple(sizes), tuple(d.scatter_dims_to_operand_dims),
            dict(zip(batching, getattr(d, "scatter_indices_batching_dims", ()), strict=True)),
        )  # fmt: skip
        value, new = r.whole(x), r.whole(updates)
        if indices.known is not None and indices.known.size == len(p.index_axes) and not p.shared:
            return [r.of_value(_put_slice(r, value, new, indices.known.reshape(-1), p, how))]
        if len(p.index_axes) == 1 and not p.shared and len(p.batch) == 1 and how in ("sum", ""):
            (axis,) = p.index_axes
            if p.sizes[axis] == 1 and axis not in p.window and _covers(p, axis) and value.type.dtype != "bool":
                index = _component(r, indices, 0, None)
                order = [p.window[a] if a != axis else p.batch[0] for a in range(len(p.shape))]
                source = r.permute(new, order)
                if how:
                    return [r.of_value(r.add("index_add", value, index, source, axis=axis))]
                return [r.of_value(r.add("index_copy", value, r.cast(index, "i64"), source, axis=axis))]
        flat = r.reshape(value, [math.prod(x.shape)])
        positions = _flat_positions(r, indices, p, clip=False)
        source = r.reshape(new, [math.prod(updates.shape)])
        if how:
            made = r.add("scatter_reduce", flat, positions, source, axis=0, reduce=how, include_self=True)
        else:
            made = r.add("scatter", flat, positions, source, axis=0)
        return [r.of_value(r.reshape(made, x.shape))]

    return rule


def _put_slice(r: Reader, x: Value, new: Value, start: Any, p: _Positions, how: str) -> Value:
    """Return ``x`` with the one slice that a known index vector names replaced, or combined."""
    starts = [0] * len(p.shape)
    for axis, s in zip(p.index_axes, start, strict=True):
        starts[axis] = int(s)
        if not 0 <= starts[axis] <= p.shape[axis] - p.sizes[axis]:
            return x  # JAX drops what does not fit
    kept = sorted(p.window)
    new = r.reshape(r.permute(new, [*(p.window[a] for a in kept), *p.batch]), p.sizes)
    if how:
        old = cut(r, x, starts, [s + n for s, n in zip(starts, p.sizes)])
        new = r.add({"sum": "add", "prod": "mul", "amax": "maximum", "amin": "minimum"}[how], old, new)
    return _replaced(r, x, new, starts)


# -- orders -----------------------------------------------------------------------------------------------------------------


def sort(r: Reader, eqn: Any, operands: list[Entry], params: Params) -> list[Entry]:
    """Ascending order of one array, the others in the order of the first."""
    if params["num_keys"] != 1:
        raise Unsupported(f"sorts by {params['num_keys']} keys, expected one")
    axis = params["dimension"]
    key, *others = operands
    stable = bool(params["is_stable"])
    values, indices = _two(r, "sort", r.whole(key), axis=axis, descending=False, stable=stable)
    out = [r.of_value(values)]
    for o in others:
        if o.known is not None and _counts(o, axis):
            out.append(r.of_value(r.cast(indices, o.dtype)))
        else:
            out.append(r.of_value(r.add("gather", r.whole(o), indices, axis=axis)))
    return out


def _counts(entry: Entry, axis: int) -> bool:
    """Return whether an entry holds the positions along an axis."""
    if not entry.shape or math.prod(entry.shape) > KNOWN_ELEMENTS:
        return False
    places = [1] * len(entry.shape)
    places[axis] = entry.shape[axis]
    return bool((entry.known == np.arange(entry.shape[axis]).reshape(places)).all())


def top_k(r: Reader, eqn: Any, operands: list[Entry], params: Params) -> list[Entry]:
    """The largest elements along an axis, and where they stand."""
    x = operands[0]
    axis = params.get("axis", params.get("operand_axis", len(x.shape) - 1)) % len(x.shape)
    values, indices = _two(r, "topk", r.whole(x), axis=axis, k=params["k"], largest=True, sorted=True)
    return [r.of_value(values), r.of_value(r.cast(indices, r.dtype(eqn.outvars[1].aval.dtype)))]


def _two(r: Reader, op: str, x: Value, **attributes: Any) -> list[Value]:
    names = r.builder.add(op, x.name, location=r.location, **attributes)
    return [Value(n, r.builder.types[n]) for n in names]


RULES: dict[str, Rule] = {
    "dynamic_slice": dynamic_slice, "dynamic_update_slice": dynamic_update_slice, "gather": gather, "sort": sort,
    "top_k": top_k, "scatter": scatter(""), "scatter-add": scatter("sum"), "scatter_add": scatter("sum"),
    "scatter-mul": scatter("prod"), "scatter_mul": scatter("prod"), "scatter-max": scatter("amax"),
    "scatter_max": scatter("amax"), "scatter-min": scatter("amin"), "scatter_min": scatter("amin"),
}  # fmt: skip
