"""Rules for products, convolutions and windows: JAX numbers their axes, the operators have a fixed order."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from ..ir import Unsupported
from ..ir.typesys import is_float
from .jaxpr_reader import Entry, Reader, Rule
from .jaxpr_views import padded
from .matching import Value
from .sizes import numbers

Params = Mapping[str, Any]


def dot_general(r: Reader, eqn: Any, operands: list[Entry], params: Params) -> list[Entry]:
    """A product over pairs of axes, for each element of other pairs."""
    (left_sum, right_sum), (left_batch, right_batch) = params["dimension_numbers"]
    out = r.dtype(eqn.outvars[0].aval.dtype)
    a, b = (r.cast(r.whole(o), out) if o.dtype != out and is_float(out) else r.whole(o) for o in operands)
    if a.type.dtype == "bool":
        raise Unsupported("a product of booleans, expected numbers")
    shape = tuple(eqn.outvars[0].aval.shape)
    left_free = [i for i in range(a.type.rank) if i not in left_sum and i not in left_batch]
    right_free = [i for i in range(b.type.rank) if i not in right_sum and i not in right_batch]
    n = len(left_batch)
    if len(left_sum) == 1 and len(left_free) >= 1 and len(right_free) == 1 and (n == 0 or len(left_free) == 1):
        # Rows of any stack times one matrix, or matrix times matrix in each element of the batch.
        x = r.permute(a, [*left_batch, *left_free, *left_sum])
        w = r.permute(b, [*right_batch, *right_sum, *right_free])
        op = "matmul_shared" if n == 0 and len(left_free) > 1 else "matmul"
        return [r.of_value(r.cast(r.add(op, x, w), out))]
    if len(left_sum) == 1 and n == 0 and not right_free and left_free:
        return [r.of_value(r.cast(r.add("mv", r.permute(a, [*left_free, *left_sum]), b), out))]
    if len(left_sum) == 1 and n == 0 and not left_free and not right_free:
        return [r.of_value(r.cast(r.add("dot", a, b), out))]
    x = r.permute(a, [*left_batch, *left_free, *left_sum])
    w = r.permute(b, [*right_batch, *right_sum, *right_free])
    sizes_a = numbers(a.type.shape)
    sizes_b = numbers(b.type.shape)
    batch = [sizes_a[i] for i in left_batch]
    rows, k = math.prod(sizes_a[i] for i in left_free), math.prod(sizes_a[i] for i in left_sum)
    columns = math.prod(sizes_b[i] for i in right_free)
    product = r.add("matmul", r.reshape(x, [*batch, rows, k]), r.reshape(w, [*batch, k, columns]))
    return [r.of_value(r.cast(r.reshape(product, shape), out))]


# -- convolutions -----------------------------------------------------------------------------------------------------------


def conv_general_dilated(r: Reader, eqn: Any, operands: list[Entry], params: Params) -> list[Entry]:
    """A cross-correlation in any layout; with holes in the operand it is the transpose of one."""
    spec = params["dimension_numbers"]
    out = r.dtype(eqn.outvars[0].aval.dtype)
    x, w = (r.cast(r.permute(r.whole(o), s), out) for o, s in zip(operands, (spec.lhs_spec, spec.rhs_spec)))
    n = x.type.rank - 2
    if not 1 <= n <= 3:
        raise Unsupported(f"a convolution over {n} axes, expected 1 to 3")
    if params["batch_group_count"] != 1:
        raise Unsupported("a convolution with batch groups, expected feature groups")
    groups = params["feature_group_count"]
    stride, padding = tuple(params["window_strides"]), [(int(a), int(b)) for a, b in params["padding"]]
    holes, dilation = tuple(params["lhs_dilation"] or (1,) * n), tuple(params["rhs_dilation"] or (1,) * n)
    y = None
    if max(holes) > 1:
        y = _transposed(r, x, w, holes, stride, padding, dilation, groups)
        if y is None:
            x = padded(r, x, [(0, 0, 0)] * 2 + [(0, 0, h - 1) for h in holes], 0)
    if y is None:
        if any(before != after or before < 0 for before, after in padding):
            x = padded(r, x, [(0, 0, 0)] * 2 + [(before, after, 0) for before, after in padding], 0)
            padding = [(0, 0)] * n
        y = r.add(
            f"conv{n}d",
            x,
            w,
            None,
            stride=stride,
            padding=tuple(p for p, _ in padding),
            dilation=dilation,
            groups=groups,
        )
    order = [0] * (n + 2)
    for axis, place in enumerate(spec.out_spec):
        order[place] = axis
    return [r.of_value(r.permute(y, order))]


def _transposed(
    r: Reader, x: Value, w: Value, holes: Sequence[int], stride: Sequence[int], padding: Sequence[tuple[int, int]],
    dilation: Sequence[int], groups: int,
) -> Value | None:  # fmt: skip
    """Return the transpose of a convolution whose stride is the holes' distance, None where it is not one."""
    n = len(holes)
    sizes = numbers(w.type.shape)
    reach = [d * (k - 1) for d, k in zip(dilation, sizes[2:])]
    own = tuple(e - before for e, (before, _) in zip(reach, padding))
    extra = tuple(after - before for before, after in padding)
    fits = all(0 <= e < max(h, d) for e, h, d in zip(extra, holes, dilation))
    if max(stride) > 1 or min(own) < 0 or not fits:
        return None
    grouped = r.reshape(w, [groups, sizes[0] // groups, *sizes[1:]])
    turned = r.permute(grouped, [0, 2, 1, *range(3, n + 3)])
    weight = r.reshape(turned, [groups * sizes[1], sizes[0] // groups, *sizes[2:]])
    weight = r.add("flip", weight, axes=tuple(range(2, n + 2)))
    return r.add(
        f"conv_transpose{n}d", x, weight, None, stride=tuple(holes), padding=own, output_padding=extra,
        dilation=tuple(dilation), groups=groups,
    )  # fmt: skip


# -- windows ----------------------------------------------------------------------------------------------------------------


def window(kind: str) -> Rule:
    """Return the rule for a reduction over windows: ``max``, ``min`` or ``sum``."""

    def rule(r: Reader, eqn: Any, operands: list[Entry], params: Params) -> list[Entry]:
        x, dtype = r.whole(operands[0]), operands[0].dtype
        rank = x.type.rank
        sizes, strides = params["window_dimensions"], params["window_strides"]
        holes = params["base_dilation"] or (1,) * rank
        dilation = params["window_dilation"] or (1,) * rank
        padding = [tuple(map(int, p)) for p in params["padding"]]
        nothing: Any = 0
        if kind != "sum":
            nothing = float("-inf") if is_float(dtype) else -(2 ** {"i8": 7, "i32": 31, "i64": 63}.get(dtype, 0))
            nothing = 0 if dtype == "u8" else nothing
        if kind == "min":
            if not is_float(dtype):
                raise Unsupported("a minimum over windows of integers, expected floats")
            x = r.add("neg", x)
        if max(holes) > 1:
            x = padded(r, x, [(0, 0, h - 1) for h in holes], nothing)
        axes = [a for a in range(rank) if (sizes[a], strides[a], padding[a]) != (1, 1, (0, 0))]
        if not axes:
            return [operands[0]]
        if len(axes) > 3:
            raise Unsupported(f"windows over {len(axes)} axes, expected at most 3")
        others = [a for a in range(rank) if a not in axes]
        order = [*others, *axes]
        x = r.permute(x, order)
        # Padding beyond half the window, or uneven, is put around before.
        if any(p != q or not 0 <= 2 * p <= sizes[a] for a in axes for p, q in [padding[a]]):
            x = padded(r, x, [(0, 0, 0)] * len(others) + [(padding[a][0], padding[a][1], 0) for a in axes], nothing)
            own = [0] * len(axes)
        else:
            own = [padding[a][0] for a in axes]
        y = _pooled(r, x, kind, [sizes[a] for a in axes], [strides[a] for a in axes], own, [dilation[a] for a in axes])
        y = r.permute(y, sorted(range(rank), key=order.__getitem__))
        return [r.of_value(r.add("neg", y) if kind == "min" else y)]

    return rule


def _pooled(
    r: Reader, x: Value, kind: str, kernel: Sequence[int], stride: Sequence[int], padding: Sequence[int],
    dilation: Sequence[int],
) -> Value:  # fmt: skip
    """Return windows over the last axes, reduced."""
    n = len(kernel)
    shape = numbers(x.type.shape)
    lead, spatial = shape[: len(shape) - n], list(shape[len(shape) - n :])
    flat = (1, math.prod(lead)) if len(lead) != 2 else lead
    kernel, stride, padding, dilation = list(kernel), list(stride), list(padding), list(dilation)
    if kind == "sum" and max(dilation) > 1:
        raise Unsupported("a sum over windows with holes")
    dtype = x.type.dtype
    whole = is_float(dtype) or dtype == "i64" or (kind != "sum" and n > 1)
    if n == 1 and (kind == "sum" or not is_float(dtype)):
        # avg_pool1d has no divisor of its own, max_pool1d takes no integers: a row of windows is a grid of height one.
        n, spatial, kernel, stride = 2, [1, *spatial], [1, *kernel], [1, *stride]
        padding, dilation, whole = [0, *padding], [1, *dilation], whole or kind != "sum"
    x = r.reshape(x if whole else r.cast(x, "i64"), [*flat, *spatial])
    if kind == "sum":
        y = r.add(
            f"avg_pool{n}d", x, kernel=tuple(kernel), stride=tuple(stride), padding=tuple(padding), ceil_mode=False,
            count_include_pad=True, divisor=1,
        )  # fmt: skip
    else:
        y = r.add(
            f"max_pool{n}d", x, kernel=tuple(kernel), stride=tuple(stride), padding=tuple(padding),
            dilation=tuple(dilation), ceil_mode=False,
        )  # fmt: skip
    out = numbers(y.type.shape)
    width = len(shape) - len(lead)
    return r.cast(r.reshape(y, [*lead, *out[len(out) - width :]]), dtype)


RULES: dict[str, Rule] = {
    "dot_general": dot_general, "conv_general_dilated": conv_general_dilated, "reduce_window_max": window("max"),
    "reduce_window_min": window("min"), "reduce_window_sum": window("sum"),
}  # fmt: skip
