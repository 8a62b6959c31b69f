"""Rules for primitives that rearrange, repeat, choose and repeat computations."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ..ir import Unsupported
from ..ir.typesys import is_float
from .jaxpr_reader import KNOWN_ELEMENTS, Entry, Reader, Rule
from .matching import Value
from .sizes import numbers

Params = Mapping[str, Any]


# -- broadcasts and shapes ------------------------------------------------------------------------------------------------


def broadcast_in_dim(r: Reader, eqn: Any, operands: list[Entry], params: Params) -> list[Entry]:
    """Repeat along new axes, and along axes of size one; nothing is done until all elements are needed."""
    x, shape = operands[0], tuple(params["shape"])
    axes = tuple(params["broadcast_dimensions"])
    known = None
    if x.known is not None:
        places = [1] * len(shape)
        for a, size in zip(axes, x.shape, strict=True):
            places[a] = size
        if x.number is not None:
            known = np.broadcast_to(np.asarray(x.known.flat[0]), shape)
        elif math.prod(shape) <= KNOWN_ELEMENTS:
            known = np.broadcast_to(np.reshape(x.known, places), shape)
    if x.base is None:
        if known is not None:
            return [Entry(x.dtype, shape, known)]
        r.whole(x)
    base, at = (x.base, x.at) if x.base is not None else (r.whole(x), tuple(range(len(x.shape))))
    kept = _kept_axes(r, base, at, axes, shape)
    if kept is not None:
        return [Entry(x.dtype, shape, known, kept, tuple(range(len(shape))))]
    return [Entry(x.dtype, shape, known, base, tuple(axes[a] for a in at))]


def _kept_axes(r: Reader, base: Value, at: Sequence[int], axes: Sequence[int], shape: Sequence[int]) -> Value | None:
    """Return a reduction that keeps its axes, where a broadcast puts back those that it removed."""
    if base.name not in r.reductions or tuple(at) != tuple(range(base.type.rank)):
        return None
    op, source, attributes = r.reductions[base.name]
    removed = attributes.get("axes", attributes.get("axis"))
    removed = tuple(removed) if isinstance(removed, tuple) else (removed,)
    full = r.builder.types[source].shape
    if (
        removed == (None,)
        or len(shape) != len(full)
        or tuple(axes) != tuple(a for a in range(len(full)) if a not in removed)
    ):
        return None
    return r.add(op, Value(source, r.builder.types[source]), **{**attributes, "keepdim": True})


def _reshaped(r: Reader, x: Entry, shape: tuple[int, ...]) -> Entry:
    known = None
    if x.known is not None:
        number = x.number is not None and x.known.size
        known = np.broadcast_to(x.known.flat[0], shape) if number else np.reshape(x.known, shape)
    if x.base is None:
        return Entry(x.dtype, shape, known)
    old = [a for a, size in enumerate(x.shape) if size != 1]
    new = [a for a, size in enumerate(shape) if size != 1]
    if x.is_thin and [x.shape[a] for a in old] == [shape[a] for a in new]:
        # Axes of size one come and go: what is repeated stays so.
        sizes = dict(zip(x.at, numbers(x.base.type.shape), strict=True))
        kept = [a for a in x.at if a in old]
        base = r.reshape(x.base, [sizes[a] for a in kept])
        return Entry(x.dtype, shape, known, base, tuple(new[old.index(a)] for a in kept))
    made = r.of_value(r.reshape(r.whole(x), shape))
    made.known = known
    return made


def reshape(r: Reader, eqn: Any, operands: list[Entry], params: Params) -> list[Entry]:
    """Another shape; the ``dimensions`` of a reshape are an order of axes before it."""
    x = operands[0]
    if eqn.primitive.name == "reshape" and params.get("dimensions") is not None:
        (x,) = transpose(r, eqn, [x], {"permutation": params["dimensions"]})
    return [_reshaped(r, x, tuple(eqn.outvars[0].aval.shape))]


def transpose(r: Reader, eqn: Any, operands: list[Entry], params: Params) -> list[Entry]:
    """Axes in another order."""
    x, order = operands[0], tuple(params["permutation"])
    known = None if x.known is None else np.transpose(x.known, order)
    shape = tuple(x.shape[a] for a in order)
    if x.base is None:
        return [Entry(x.dtype, shape, known)]
    at = [order.index(a) for a in x.at]
    base = r.permute(x.base, sorted(range(len(at)), key=at.__getitem__))
    return [Entry(x.dtype, shape, known, base, tuple(sorted(at)))]


def iota(r: Reader, eqn: Any, operands: list[Entry], params: Params) -> list[Entry]:
    """Positions along an axis."""
    if operands:
        raise Unsupported("iota of a size that depends on arguments")
    shape, axis = tuple(params["shape"]), params["dimension"]
    dtype = r.dtype(params["dtype"])
    if math.prod(shape) <= KNOWN_ELEMENTS and not is_float(dtype):
        places = [1] * len(shape)
        places[axis] = shape[axis]
        line = np.arange(shape[axis], dtype=np.dtype(params["dtype"])).reshape(places)
        return [Entry(dtype, shape, np.broadcast_to(line, shape))]
    return [Entry(dtype, shape, None, r.add("arange", start=0, stop=shape[axis], step=1, dtype=dtype), (axis,))]


# -- pieces ---------------------------------------------------------------------------------------------------------------


def cut(r: Reader, x: Value, starts: Sequence[int], stops: Sequence[int], steps: Sequence[int] | None = None) -> Value:
    """Return a slice along each axis."""
    for axis, (start, stop) in enumerate(zip(starts, stops, strict=True)):
        step = 1 if steps is None else steps[axis]
        if (start, stop, step) != (0, x.type.shape[axis], 1):
            x = r.add("slice", x, axis=axis, start=int(start), stop=int(stop), step=int(step))
    return x


def slice_(r: Reader, eqn: Any, operands: list[Entry], params: Params) -> list[Entry]:
    """Static slices."""
    x = operands[0]
    starts, stops, steps = params["start_indices"], params["limit_indices"], params["strides"]
    known = None
    if x.known is not None:
        known = x.known[tuple(slice(*s) for s in zip(starts, stops, steps or (1,) * len(starts), strict=True))]
        if x.base is None:
            return [Entry(x.dtype, tuple(known.shape), known)]
    made = r.of_value(cut(r, r.whole(x), starts, stops, steps))
    made.known = known
    return [made]


def split(r: Reader, eqn: Any, operands: list[Entry], params: Params) -> list[Entry]:
    """Pieces of given sizes along an axis."""
    x, axis = r.whole(operands[0]), params["axis"]
    at, out = 0, []
    for size in map(int, params["sizes"]):
        out.append(r.of_value(r.add("slice", x, axis=axis, start=at, stop=at + size, step=1)))
        at += size
    return out


def concatenate(r: Reader, eqn: Any, operands: list[Entry], params: Params) -> list[Entry]:
    """Arrays joined along an axis."""
    if all(o.known is not None for o in operands) and sum(math.prod(o.shape) for o in operands) <= KNOWN_ELEMENTS:
        joined = np.concatenate([o.known for o in operands], params["dimension"])
        if not is_float(operands[0].dtype):
            return [Entry(operands[0].dtype, tuple(joined.shape), joined)]
    if len(operands) == 1:
        return operands
    return [r.of_value(r.add("cat", tuple(r.whole(o) for o in operands), axis=params["dimension"]))]


def padded(r: Reader, x: Value, widths: Sequence[tuple[int, int, int]], value: Any) -> Value:
    """Return ``x`` with ``(before, after, between)`` elements of a number around and between its own along each axis."""
    for axis, (_, _, between) in enumerate(widths):
        size = int(str(x.type.shape[axis]))
        if between and size > 1:
            shape = numbers(x.type.shape)
            column = r.reshape(x, [*shape[: axis + 1], 1, *shape[axis + 1 :]])
            after = (0, 0) * (len(shape) - axis - 1) + (0, between)
            spread = r.add("pad", column, padding=after, value=value)
            whole = r.reshape(spread, [*shape[:axis], size * (between + 1), *shape[axis + 1 :]])
            x = r.add("slice", whole, axis=axis, start=0, stop=size + (size - 1) * between, step=1)
    around = [w for before, after, _ in reversed(widths) for w in (int(before), int(after))]
    while around and around[-2:] == [0, 0]:
        del around[-2:]
    return r.add("pad", x, padding=tuple(around), value=value) if around else x


def pad(r: Reader, eqn: Any, operands: list[Entry], params: Params) -> list[Entry]:
    """A constant around and between elements."""
    value = operands[1].number
    if value is None:
        raise Unsupported("pads with a computed number, expected a constant")
    return [r.of_value(padded(r, r.whole(operands[0]), params["padding_config"], value))]


# -- choices and repetition -------------------------------------------------------------------------------------------------


def select_n(r: Reader, eqn: Any, operands: list[Entry], params: Params) -> list[Entry]:
    """One of several arrays, element by element."""
    which, *cases = operands
    if which.number is not None:
        return [cases[int(which.number)]]
    if len(cases) != 2:
        raise Unsupported(f"chooses among {len(cases)} arrays by number, expected two")
    if which.dtype != "bool":
        which = r.of_value(r.add("ne", r.whole(which), 0))
    if all(c.number is not None for c in cases):
        if [c.number for c in cases] == [False, True] and cases[0].dtype == "bool":
            return [which]
        # Two numbers have no dtype of their own.
        full = r.whole(Entry(cases[0].dtype, (), np.asarray(cases[0].number)))
        cases = [r.of_value(full), cases[1]]
    return [r.matched(eqn, [which, *cases])]


def cond(r: Reader, eqn: Any, operands: list[Entry], params: Params) -> Sequence[Entry]:
    """A branch that constants choose."""
    index, *arguments = operands
    if index.number is None:
        raise Unsupported("control flow depends on array contents (cond), expected jnp.where or a constant condition")
    branches = params["branches"]
    return r.closed(branches[min(max(int(index.number), 0), len(branches) - 1)], arguments)


def platform_index(r: Reader, eqn: Any, operands: list[Entry], params: Params) -> list[Entry]:
    """Which of several forms of a program the host takes: the program does not depend on it."""
    forms = params["platforms"]
    host = [i for i, names in enumerate(forms) if names is None or "cpu" in names]
    if not host:
        raise Unsupported("has no form for every platform")
    return [Entry("i32", (), np.asarray(host[0], np.int32))]


def scan(r: Reader, eqn: Any, operands: list[Entry], params: Params) -> list[Entry]:
    """A loop of few steps, written out."""
    length, n_consts, n_carry = params["length"], params["num_consts"], params["num_carry"]
    if length > r.max_unroll:
        raise Unsupported(f"a scan has {length} steps, expected at most {r.max_unroll} (max_unroll)")
    consts, carry, xs = operands[:n_consts], operands[n_consts : n_consts + n_carry], operands[n_consts + n_carry :]
    columns: list[list[Entry]] = [[] for _ in range(len(eqn.outvars) - n_carry)]
    for i in reversed(range(length)) if params["reverse"] else range(length):
        results = r.closed(params["jaxpr"], [*consts, *carry, *(_step(r, x, i) for x in xs)])
        carry = results[:n_carry]
        for column, y in zip(columns, results[n_carry:], strict=True):
            column.append(y)
    out = list(carry)
    for column, var in zip(columns, eqn.outvars[n_carry:], strict=True):
        ordered = column[::-1] if params["reverse"] else column
        if not ordered:
            shape = tuple(var.aval.shape)
            out.append(Entry(r.dtype(var.aval.dtype), shape, np.zeros(shape, bool)))
        else:
            out.append(r.of_value(r.add("stack", tuple(r.whole(y) for y in ordered), axis=0)))
    return out


def _step(r: Reader, x: Entry, i: int) -> Entry:
    if x.base is None:
        return Entry(x.dtype, x.shape[1:], x.known[i])
    if x.at and x.at[0] == 0 and x.base.type.shape[0] == x.shape[0]:
        value = r.add("select", x.base, axis=0, index=i)
        return Entry(x.dtype, x.shape[1:], None, value, tuple(a - 1 for a in x.at[1:]))
    return r.of_value(r.add("select", r.whole(x), axis=0, index=i))


def while_(r: Reader, eqn: Any, operands: list[Entry], params: Params) -> list[Entry]:
    """A loop that constants end after few steps, written out."""
    n, m = params["cond_nconsts"], params["body_nconsts"]
    tests, bodies, carry = operands[:n], operands[n : n + m], operands[n + m :]
    for _ in range(r.max_unroll + 1):
        (goes_on,) = r.closed(params["cond_jaxpr"], [*tests, *carry])
        if goes_on.number is None:
            raise Unsupported(
                "control flow depends on array contents (while), expected a loop of a fixed number of steps"
            )
        if not goes_on.number:
            return carry
        carry = r.closed(params["body_jaxpr"], [*bodies, *carry])
    raise Unsupported(f"a loop has more than {r.max_unroll} steps (max_unroll)")


# -- arithmetic that is several operators -------------------------------------------------------------------------------------


def running(op: str) -> Rule:
    """Return the rule for a running reduction from either end."""

    def rule(r: Reader, eqn: Any, operands: list[Entry], params: Params) -> list[Entry]:
        if op not in r.ops:
            raise Unsupported(f"uses the primitive {eqn.primitive.name}, which no operator says")
        x, axis = r.whole(operands[0]), params["axis"]
        if params["reverse"]:
            x = r.add("flip", x, axes=(axis,))
        made = r.builder.add(op, x.name, axis=axis, location=r.location)
        name = made if isinstance(made, str) else made[0]
        y = r.cast(Value(name, r.builder.types[name]), operands[0].dtype)
        return [r.of_value(r.add("flip", y, axes=(axis,)) if params["reverse"] else y)]

    return rule


def round_(r: Reader, eqn: Any, operands: list[Entry], params: Params) -> list[Entry]:
    """The nearest integer, ties to even or away from zero."""
    if int(params["rounding_method"]) == 1:
        return [r.matched(eqn, operands)]
    x = r.laid_out(operands[0])
    whole = r.add("trunc", x)
    away = r.add("ge", r.add("abs", r.add("sub", x, whole)), 0.5)
    y = r.add("where", away, r.add("add", whole, r.add("sign", x)), whole)
    rank = y.type.rank
    shape = operands[0].shape
    return [Entry(operands[0].dtype, shape, None, y, tuple(range(len(shape) - rank, len(shape))))]


def cbrt(r: Reader, eqn: Any, operands: list[Entry], params: Params) -> list[Entry]:
    """The cube root, with the sign of the operand."""
    x = r.whole(operands[0])
    return [r.of_value(r.add("mul", r.add("sign", x), r.add("pow", r.add("abs", x), 1 / 3)))]


def reduce_precision(r: Reader, eqn: Any, operands: list[Entry], params: Params) -> list[Entry]:
    """Rounding to the exponent and mantissa of another dtype."""
    narrow = {(8, 7): "bf16", (5, 10): "f16", (8, 23): "f32", (11, 52): "f64"}.get(
        (params["exponent_bits"], params["mantissa_bits"])
    )
    if narrow is None:
        raise Unsupported("rounds to a format that is no dtype")
    x = r.whole(operands[0])
    return [r.of_value(r.cast(r.cast(x, narrow), operands[0].dtype))]


def reduction(r: Reader, eqn: Any, operands: list[Entry], params: Params) -> list[Entry]:
    """A reduction over axes, over none of them too."""
    return [r.matched(eqn, operands)] if params["axes"] else operands


def stack(r: Reader, eqn: Any, operands: list[Entry], params: Params) -> list[Entry]:
    """Arrays joined along a new axis."""
    axis = params.get("axis", params.get("dimension"))
    return [r.of_value(r.add("stack", tuple(r.whole(o) for o in operands), axis=axis))]


def same(r: Reader, eqn: Any, operands: list[Entry], params: Params) -> list[Entry]:
    """Copies, and marks for derivatives and the compiler."""
    return operands


RULES: dict[str, Rule] = {
    **{f"reduce_{name}": reduction for name in ("sum", "prod", "max", "min", "and", "or")}, "stack": stack,
    "copy": same, "copy_p": same, "stop_gradient": same, "optimization_barrier": same,
    "broadcast_in_dim": broadcast_in_dim, "reshape": reshape, "squeeze": reshape, "expand_dims": reshape,
    "transpose": transpose, "iota": iota, "slice": slice_, "split": split, "concatenate": concatenate, "pad": pad,
    "select_n": select_n, "cond": cond, "platform_index": platform_index, "scan": scan, "while": while_,
    "cumsum": running("cumsum"), "cumprod": running("cumprod"), "cummax": running("cummax"), "cummin": running("cummin"),
    "cumlogsumexp": running("logcumsumexp"), "round": round_, "cbrt": cbrt, "reduce_precision": reduce_precision,
}  # fmt: skip
