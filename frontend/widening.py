"""Calls whose operand lacks an axis that the operator wants: the batch of a pool, the one axis of a number."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ..ir import TensorType
from .matching import AtenCall, Value, match_call

if TYPE_CHECKING:
    from .importer import Importer

#: Packets whose operand has this rank, or one less without the axis of the batch.
BATCHED_RANKS: dict[str, int] = {
    f"{packet}{n}d": n + 2
    for n in (1, 2, 3)
    for packet in (
        "max_pool", "avg_pool", "adaptive_avg_pool", "_adaptive_avg_pool", "adaptive_max_pool", "fractional_max_pool",
        "conv", "conv_transpose", "max_unpool", "reflection_pad", "replication_pad",
    )
} | {f"max_pool{n}d_with_indices": n + 2 for n in (1, 2, 3)}  # fmt: skip


def wider_shape(call: AtenCall) -> tuple[Any, ...] | None:
    """Return the operand's shape with the axis of size one that the operator wants; None where nothing is known to lack."""
    x = next(iter(call.arguments.values()), None)
    if not isinstance(x, Value):
        return None
    if BATCHED_RANKS.get(call.target.split(".")[1]) == x.type.rank + 1:
        return (1, *x.type.shape)
    axis = next((call.arguments[n] for n in ("dim", "dimension") if n in call.arguments), 1)
    if x.type.rank == 0 and axis in (0, -1, (0,), (-1,), (), None):
        return (1,)
    return None


def read_with_axis(
    b: Importer, call: AtenCall, expected: Sequence[TensorType | None], used: set[int], names: list[str]
) -> list[Any] | None:
    """Read a call as one on the wider operand, and give its results their shapes back; None where that does not help."""
    shape = wider_shape(call)
    if shape is None or any(expected[i] is None for i in used):
        return None
    first, *others = call.arguments
    before = b.mark()

    def widened(value: Any) -> Any:
        return b.build("aten.view.default", value, shape)

    # Of a number, every operand of rank 0 has the axis; an absent batch is absent from the first operand alone.
    numbers = [
        n for n in others if shape == (1,) and isinstance(call.arguments[n], Value) and not call.arguments[n].type.shape
    ]
    changed = call.replace(**{n: widened(call.arguments[n]) for n in (first, *numbers)})
    match, _ = match_call(changed, [None] * len(expected), used, b.ops)
    if match is None:
        before.restore()
        return None
    results: list[Any] = []
    for i, (value, name) in enumerate(zip(b.append(match, [f"{n}_wide" for n in names]), names, strict=True)):
        want = expected[i]
        if i not in used or want is None:
            results.append(None)
            continue
        value = b.cast(value, want.dtype)
        same = value.type.shape == want.shape
        results.append(value if same else b.build("aten.view.default", value, want.shape, name=name))
    return results
