"""What probably makes a candidate compute another function: a constant, a factor, a missing operand or element."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from ....ir.errors import DrtError
from .constants import simplest_fraction
from .element import Elements

if TYPE_CHECKING:
    from .evidence import Reading, RingJudge

_EXACT = 1e-9


def likely_cause(
    judge: RingJudge, index: int, output: int, want: Elements, v: np.ndarray, apart: np.ndarray, written: set[float],
    reading: Reading, time_ms: float,
) -> tuple[str, bool]:  # fmt: skip
    """Return one clause that names a cause, or an empty text; and whether it explains every element.

    Args:
        judge, index: whose trial it is, for trying changes to the definition.
        output: which output differs.
        want: what it should be.
        v: the values that it has.
        apart: the elements that differ.
        written: the candidate's constants.
        time_ms: when to stop trying.
    """
    deadline = time.perf_counter() + time_ms / 1e3

    def explains(outputs: list[Elements | None]) -> bool:
        other = outputs[output]
        return other is not None and _close(v, other.v)

    for mine, theirs in _constant_pairs(written, set(reading.written)):
        if time.perf_counter() > deadline:
            break
        with _ignored():
            if explains(judge.read(index, {theirs: mine}).outputs):
                said = f"the kernel has the constant {mine:.10g} where the definition has {theirs:.10g}"
                return said if mine else f"as if the definition's constant {theirs:.10g} were 0", True
    inputs = judge.trials[index].inputs
    cause = _difference(v, want.v, inputs) or _left_out(judge, index, output, v, inputs, deadline)
    return (cause, True) if cause else (_places(apart), False)


class _ignored:
    """Errors of a changed definition say only that the change is no explanation."""

    def __enter__(self) -> None: ...

    def __exit__(self, kind: Any, error: Any, trace: Any) -> bool:
        return isinstance(error, (DrtError, RuntimeError, ValueError, TypeError))


def _close(a: np.ndarray, b: np.ndarray) -> bool:
    with np.errstate(all="ignore"):
        scale: float = np.max(np.abs(b), initial=0.0, where=np.isfinite(b))
        return a.shape == b.shape and bool(np.nanmax(np.abs(a - b), initial=0.0) <= _EXACT * scale)


def _constant_pairs(mine: set[float], theirs: set[float]) -> Iterator[tuple[float, float]]:
    """Yield (candidate's, definition's) constants that only one side has, the most alike first; then zeros."""
    only = [c for c in mine - theirs if math.isfinite(c) and c]
    other = [c for c in theirs if math.isfinite(c) and c]
    pairs = [
        (abs(math.log(abs(a / b))) + 10 * ((a < 0) != (b < 0)) + 2 * (b in mine), a, b) for a in only for b in other
    ]
    for _, a, b in sorted(pairs)[:8]:
        yield a, b
    for b in sorted(set(other) - mine)[:3]:
        yield 0.0, b


def _difference(v: np.ndarray, want: np.ndarray, inputs: dict[str, torch.Tensor]) -> str:
    """Explain a difference that is the same everywhere: a factor, a summand, a multiple of an input."""
    with np.errstate(all="ignore"):
        usable = np.isfinite(v) & np.isfinite(want) & (want != 0)
        if usable.sum() < 2:
            return ""
        factor = v[usable] / want[usable]
        if np.ptp(factor) <= _EXACT * abs(factor[0]) and not v[want == 0].any():
            known = simplest_fraction(abs(float(factor[0])), 2**20, 1e-9)
            text = f"{'-' if factor[0] < 0 else ''}{known}" if known is not None else f"{factor[0]:.10g}"
            return f"every element is {text} times what it should be" if factor[0] else "every element is 0"
        gap = v - want
        usable = np.isfinite(gap)
        scale: float = np.max(np.abs(want), where=usable, initial=0.0)
        if np.ptp(gap[usable]) <= _EXACT * scale:
            return f"every element is {abs(gap[usable][0]):.10g} too {'large' if gap[usable][0] > 0 else 'small'}"
        for name, tensor in inputs.items():
            if not tensor.is_floating_point() or tensor.ndim > v.ndim or not tensor.numel():
                continue
            try:
                spread = np.broadcast_to(tensor.numpy(), v.shape)
            except ValueError:
                continue
            some = usable & (spread != 0)
            times = gap[some] / spread[some]
            if some.any() and np.ptp(times) <= 1e-7 * abs(times[0]) and abs(times[0]) > 1e-6:
                k = float(times[0])
                said = {-1: "left out", -2: "subtracted, not added", 1: "added once too often"}.get(round(k), "")
                if said and abs(k - round(k)) < 1e-7:
                    return f"{name!r} is {said}"
                return f"every element is wrong by {k:.10g} times {name!r}"
    return ""


def _left_out(
    judge: RingJudge, index: int, output: int, v: np.ndarray, inputs: dict[str, torch.Tensor], deadline: float
) -> str:
    """Explain a result that the definition gives where the first or last slice of an input counts for nothing."""
    for name, tensor in inputs.items():
        if not tensor.is_floating_point():
            continue
        for axis in reversed(range(tensor.ndim)):
            for place, word in ((-1, "last"), (0, "first")):
                for nothing in (0.0, -math.inf):
                    if time.perf_counter() > deadline or tensor.shape[axis] < 2:
                        continue
                    changed = tensor.clone()
                    changed.select(axis, place).fill_(nothing)
                    with _ignored():
                        other = judge.read(index, inputs={**inputs, name: changed}).outputs[output]
                        if other is not None and _mostly(v, other.v, tensor.shape[axis]):
                            return f"as if the {word} element along axis {axis} of {name!r} were left out"
    return ""


def _mostly(v: np.ndarray, other: np.ndarray, size: int) -> bool:
    """Return whether arrays agree but for one slice along an axis of ``size``."""
    with np.errstate(all="ignore"):
        scale: float = np.max(np.abs(other), initial=0.0, where=np.isfinite(other))
        agree = np.abs(v - other) <= _EXACT * scale
    return bool(agree.mean() >= 1 - 1 / size - 1e-9) and bool(agree.any())


def _places(apart: np.ndarray) -> str:
    """Say where the wrong elements lie, where that is a slice."""
    places = np.argwhere(apart)
    for axis in range(apart.ndim):
        size = apart.shape[axis]
        touched = np.unique(places[:, axis])
        if len(touched) == 1 and size > 2:
            return f"all of them at index {touched[0]} of axis {axis} (of {size})"
        if touched[0] > 0 and len(touched) == size - touched[0]:
            return f"all of them from index {touched[0]} of axis {axis} (of {size}) on"
        if touched[-1] < size - 1 and len(touched) == touched[-1] + 1 and size > 2:
            return f"all of them up to index {touched[-1]} of axis {axis} (of {size})"
    return ""
