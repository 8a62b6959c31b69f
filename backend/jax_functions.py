"""Functions that JAX has under no name, for ``jax`` clauses: ``drt.max_pool(...)``.

Each stands by itself on ``jax``, ``jnp`` and ``lax``: the text of those that a program calls becomes part of its file.
"""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
from jax import lax


def pad(x: Any, before: Any, after: Any, value: Any) -> Any:
    """Put a constant around an array; negative widths cut."""
    return lax.pad(x, jnp.asarray(value, x.dtype), [(lo, hi, 0) for lo, hi in zip(before, after)])


def max_pool(x: Any, size: Any, kernel: Any, stride: Any, padding: Any, dilation: Any) -> Any:
    """Return the maximum over windows of the last axes; `size` windows along each."""
    lead = (1,) * (x.ndim - len(kernel))
    lowest = x.dtype.type(-jnp.inf if jnp.issubdtype(x.dtype, jnp.floating) else jnp.iinfo(x.dtype).min)
    # What the last window reaches beyond the axis; negative where the windows end before it does.
    after = [
        (n - 1) * s + d * (k - 1) + 1 - w - p
        for n, k, s, p, d, w in zip(size, kernel, stride, padding, dilation, x.shape[len(lead) :])
    ]
    x = lax.pad(x, lowest, [(0, 0, 0) for _ in lead] + [(p, q, 0) for p, q in zip(padding, after)])
    return lax.reduce_window(
        x, lowest, lax.max, lead + tuple(kernel), lead + tuple(stride), "VALID",
        window_dilation=lead + tuple(dilation),
    )  # fmt: skip


def sum_pool(x: Any, size: Any, kernel: Any, stride: Any, padding: Any) -> Any:
    """Return the sum over windows of the last axes, zeros around them; `size` windows along each."""
    lead = (1,) * (x.ndim - len(kernel))
    after = [
        (n - 1) * s + k - w - p for n, k, s, p, w in zip(size, kernel, stride, padding, x.shape[len(lead) :])
    ]  # fmt: skip
    zero = x.dtype.type(0)
    x = lax.pad(x, zero, [(0, 0, 0) for _ in lead] + [(p, q, 0) for p, q in zip(padding, after)])
    return lax.reduce_window(x, zero, lax.add, lead + tuple(kernel), lead + tuple(stride), "VALID")


def avg_pool(x: Any, size: Any, kernel: Any, stride: Any, padding: Any, count_padding: Any, divisor: Any) -> Any:
    """Return the mean over windows of the last axes; `divisor` stands for the number of elements where it is given."""
    dtype = x.dtype
    exact = jnp.float32 if dtype in (jnp.float16, jnp.bfloat16) else dtype
    total = sum_pool(x.astype(exact), size, kernel, stride, padding)
    if divisor is None:
        widths = x.shape[x.ndim - len(kernel) :]
        if count_padding:
            inside = jnp.ones([w + 2 * p for w, p in zip(widths, padding)], exact)
            divisor = sum_pool(inside, size, kernel, stride, (0,) * len(kernel))
        else:
            divisor = sum_pool(jnp.ones(widths, exact), size, kernel, stride, padding)
    if jnp.issubdtype(dtype, jnp.integer):
        return lax.div(total, jnp.broadcast_to(jnp.asarray(divisor, dtype), total.shape))
    return (total / divisor).astype(dtype)


def conv_transpose(
    x: Any, w: Any, stride: Any, padding: Any, output_padding: Any, dilation: Any, groups: Any
) -> Any:  # fmt: skip
    """Return the transpose of a cross-correlation; w is [C, F // groups, ...]."""
    n = len(stride)
    spatial = tuple(range(2, 2 + n))
    w = jnp.reshape(w, (groups, w.shape[0] // groups, *w.shape[1:]))
    w = jnp.reshape(jnp.swapaxes(w, 1, 2), (w.shape[0] * w.shape[2], w.shape[1], *w.shape[3:]))
    reach = [d * (k - 1) - p for d, k, p in zip(dilation, w.shape[2:], padding)]
    return lax.conv_general_dilated(
        x, jnp.flip(w, spatial), (1,) * n, [(r, r + o) for r, o in zip(reach, output_padding)], lhs_dilation=stride,
        rhs_dilation=dilation, feature_group_count=groups,
    )  # fmt: skip


def scatter(x: Any, index: Any, src: Any, axis: Any, how: Any, include_self: Any) -> Any:
    """Put, or combine, the elements of src at places along an axis."""
    src = src[tuple(slice(n) for n in index.shape)]
    everywhere = list(jnp.meshgrid(*(jnp.arange(n) for n in index.shape), indexing="ij", sparse=True))
    everywhere[axis] = index
    place = tuple(everywhere)
    if how == "put":
        return x.at[place].set(src)
    limits = jnp.finfo if jnp.issubdtype(x.dtype, jnp.floating) else jnp.iinfo
    wide = x.astype(jnp.int64) if x.dtype == bool else x
    src = src.astype(wide.dtype)
    if not include_self:
        lowest, highest = (
            (-jnp.inf, jnp.inf) if limits is jnp.finfo else (limits(wide.dtype).min, limits(wide.dtype).max)
        )
        wide = wide.at[place].set({"sum": 0, "prod": 1, "mean": 0, "amax": lowest, "amin": highest}[how])
    at = wide.at[place]
    if how == "mean":
        total = at.add(src)
        count = jnp.full(x.shape, int(include_self)).at[place].add(1)
        count = jnp.maximum(count, 1).astype(wide.dtype)
        return total / count if limits is jnp.finfo else total // count
    combine = {"sum": at.add, "prod": at.multiply, "amax": at.max, "amin": at.min}[how]
    return combine(src).astype(x.dtype)


def take_along(x: Any, index: Any, axis: Any) -> Any:
    """Pick elements along an axis by an index for each result element, which may have fewer along the other axes."""
    if index.ndim == 0:
        return jnp.take(x, index)
    x = x[tuple(slice(None if a == axis else n) for a, n in enumerate(index.shape))]
    return jnp.take_along_axis(x, index, axis)


def search(sequence: Any, values: Any, sorter: Any, right: Any) -> Any:
    """Return where values would be inserted along the last axis of ascending sequences."""
    if sorter is not None:
        sequence = jnp.take_along_axis(sequence, sorter, axis=-1)
    # NaN lies behind every number.
    beside = sequence[..., None, :] if sequence.ndim > 1 else sequence
    before = ~(beside > values[..., None]) if right else ~(beside >= values[..., None])
    return jnp.sum(before, axis=-1)


#: The functions by name.
FUNCTIONS = {f.__name__: f for f in (pad, max_pool, sum_pool, avg_pool, conv_transpose, scatter, search, take_along)}
