"""One generated program in float64 on draws of its inputs: whether it computes something, and which node is to blame if not.

What does not change is computed once: nodes become functions of the values before them, draws of all inputs come from one
block of random numbers, and inputs in other ranges only change what is behind them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import attrs
import numpy as np
import torch

from .backend.opaque import TORCH_DTYPES
from .backend.oracle import Oracle
from .backend.tensors import in_order
from .ir import DrtError, Graph, TensorType
from .ir.typesys import is_float

#: Machine epsilon and largest finite number of the floating-point types.
EPSILON = {"f64": 2.0**-52, "f32": 2.0**-23, "bf16": 2.0**-7, "f16": 2.0**-10}
_LARGEST = {"f64": 1.7e308, "f32": 3.4e38, "bf16": 3.3e38, "f16": 65504.0}
#: Largest element that an output may have at least, and at most: beyond, squares of it leave the range of float32.
_SMALL, _LARGE = 1e-12, 1e12
#: What is smaller than its operands by more than this is what their rounding leaves of zero.
_NOISE = 1e-9
#: Draws of the inputs before two values count as always equal.
_DRAWS = 4
#: Elements from which two draws do.
_MANY = 64
FAILS = "does not run"
#: What a call of PyTorch, or a rule of a definition, may say no with.
FAILURES = (DrtError, RuntimeError, ArithmeticError, ValueError, IndexError, TypeError)

Range = tuple[float, float]


@attrs.frozen
class Finding:
    """Why a program is degenerate.

    Attributes:
        reason: as :func:`drt.generate.degeneracy` says it.
        node: the number of the node to blame, where one is.
    """

    reason: str
    node: int | None = None


@attrs.frozen
class _Call:
    """How a node hangs together with others.

    Attributes:
        results: names.
        uses: names of what it reads, each once.
        sources: the nodes among these, by number.
        before: all nodes that lead to it.
        inputs: all graph inputs that lead to it.
    """

    results: tuple[str, ...]
    uses: tuple[str, ...]
    sources: tuple[int, ...]
    before: frozenset[int]
    inputs: frozenset[str]


class Probe:
    """A program that is ready to run.

    Args:
        graph: static.
        seed: of the inputs.

    Attributes:
        calls: its nodes.
        place: the number of the node that gives a value, by name.
        used: names of values that something reads.
        running: the node that ran last.
    """

    def __init__(self, graph: Graph, seed: int) -> None:
        self.graph, self.types = graph, graph.types
        self.outputs = tuple(map(str, graph.outputs))
        self.place = {r: k for k, n in enumerate(graph.nodes) for r in n.results}
        self.calls: list[_Call] = []
        self.running = 0
        for node in graph.nodes:
            uses = tuple(dict.fromkeys(node.uses()))
            sources = tuple(sorted({self.place[u] for u in uses if u in self.place}))
            before = frozenset(sources).union(*(self.calls[s].before for s in sources))
            inputs = frozenset(u for u in uses if u not in self.place).union(*(self.calls[s].inputs for s in sources))
            self.calls.append(_Call(node.results, uses, sources, before, inputs))
        self.used = {u for c in self.calls for u in c.uses} | {*self.outputs}
        self._run: list[Callable[[Mapping[str, Any]], list[Any]] | None] = [None] * len(graph.nodes)
        # PyTorch's own kernels: the definitions' bodies say the same, slower.
        self._oracle = Oracle(mode="torch")
        self._generator = torch.Generator().manual_seed(seed % 2**63)
        self._blocks: list[tuple[Any, Any]] = []
        self._fitted: dict[Any, Any] = {}
        self._at: dict[str, tuple[int, int]] = {}
        self._counts = [0, 0]
        for i in graph.inputs:
            kind = 0 if is_float(i.type.dtype) else 1
            start = self._counts[kind]
            self._counts[kind] += _numel(i.type)
            self._at[i.name] = (start, self._counts[kind])

    def run(self, k: int, table: dict[str, Any]) -> None:
        """Add the results of node ``k`` to a table of values; raises what refuses the call (:data:`FAILURES`)."""
        self.running = k
        run = self._run[k]
        if run is None:
            run = self._run[k] = self._oracle.prepare(self.graph.nodes[k], self.types)
        table.update(zip(self.calls[k].results, run(table), strict=True))

    def input(self, name: str, n: int, range_: Range | None) -> Any:
        """Return the values of an input on draw ``n``, floating-point ones as float64 that its dtype has."""
        while len(self._blocks) <= n:
            normal = torch.randn(self._counts[0], generator=self._generator, dtype=torch.float64)
            uniform = torch.rand(self._counts[1], generator=self._generator, dtype=torch.float64)
            self._blocks.append((normal, uniform))
        t = self.types[name]
        floating = is_float(t.dtype)
        # Most inputs have one dtype and one range: all of them are made at once.
        ends = None if range_ is None else (range_[0], range_[1])
        key = (n, t.dtype, ends)
        block = self._fitted.get(key)
        if block is None:
            block = fitted(self._blocks[n][0 if floating else 1], t.dtype, ends)
            self._fitted[key] = block = block.double() if floating else block
        start, stop = self._at[name]
        value = block[start:stop].view(t.shape)
        return value if range_ is None else in_order(value, range_)


def _numel(t: TensorType) -> int:
    return math.prod(s for s in t.shape if isinstance(s, int))


def fitted(raw: Any, dtype: str, range_: Range | None) -> Any:
    """Return random values of a dtype and range, made of random numbers in float64; their order is left as it is.

    Args:
        raw: normal ones for a floating-point type, else uniform ones below 1.
        dtype: of the values.
        range_: both ends belong to it; of a boolean the second is the share that is true, a half without a range.
    """
    if dtype == "bool":
        return raw < (0.5 if range_ is None else range_[1])
    low, high = (-math.inf, math.inf) if range_ is None else range_
    value = raw
    if is_float(dtype):
        if math.isfinite(low) and math.isfinite(high):
            value = low + (high - low) * torch.sigmoid(value)
        elif math.isfinite(low):
            value = low + value.abs()
        elif math.isfinite(high):
            value = high - value.abs()
    else:
        first = int(low) if math.isfinite(low) else -4 if dtype != "u8" else 0
        stop = int(high) + 1 if math.isfinite(high) else max(first, 0) + 8
        value = first + (value * (max(first + 1, stop) - first)).floor()
    return value.to(TORCH_DTYPES[dtype])


class Law:
    """The values of a program whose inputs have certain ranges, on several draws; computed when they are asked for.

    Args:
        probe: the program.
        ranges: of its inputs.
        other: the same program with other ranges, whose values are taken where the inputs behind them have the same range.
    """

    def __init__(self, probe: Probe, ranges: Mapping[str, Range | None], other: Law | None = None) -> None:
        self.probe, self.ranges, self.other = probe, ranges, other
        self.changed = (
            frozenset(i.name for i in probe.graph.inputs)
            if other is None
            else frozenset(i.name for i in probe.graph.inputs if ranges.get(i.name) != other.ranges.get(i.name))
        )
        self.tables: list[dict[str, Any]] = []
        self.sound: set[int] = set()
        if other is not None:
            self.sound = {k for k in other.sound if probe.calls[k].inputs.isdisjoint(self.changed)}

    def table(self, n: int) -> dict[str, Any]:
        """Return the values on draw ``n`` that are known."""
        while len(self.tables) <= n:
            self.tables.append({})
        return self.tables[n]

    def given(self, n: int) -> dict[str, Any]:
        """Return the inputs on draw ``n``."""
        table = self.table(n)
        return {i.name: self._input(i.name, n, table) for i in self.probe.graph.inputs}

    def _input(self, name: str, n: int, table: dict[str, Any]) -> Any:
        value = table.get(name)
        if value is None:
            value = table[name] = self.probe.input(name, n, self.ranges.get(name))
        return value

    def values(self, n: int, k: int) -> dict[str, Any]:
        """Return a table in which the operands and results of node ``k`` on draw ``n`` are known."""
        table = self.table(n)
        call = self.probe.calls[k]
        if call.results[0] in table:
            return table
        for s in call.sources:
            self.values(n, s)
        for u in call.uses:
            if u not in table:
                self._input(u, n, table)
        if self.other is not None and call.inputs.isdisjoint(self.changed):
            before = self.other.values(n, k)
            table.update({r: before[r] for r in call.results})
        else:
            self.probe.run(k, table)
        return table

    def finding(self) -> Finding | None:
        """Return why the program is degenerate, or None."""
        for k in range(len(self.probe.calls)):
            if k not in self.sound and (reason := self._node(k)):
                return Finding(reason, k)
            self.sound.add(k)
        found = self._outputs() or self._inputs()
        if found is None:
            self.run_unmasked()
        return found

    def is_sound_until(self, k: int) -> bool:
        """Return whether the nodes up to ``k`` that read other inputs than under the other law compute something."""
        if self._node(k, 2):
            return False
        for n in (*sorted(self.probe.calls[k].before), *range(k + 1)):
            if n not in self.sound and self._node(n):
                return False
            self.sound.add(n)
        return True

    def run_unmasked(self) -> None:
        """Call what reads masks with masks that are true everywhere; raises what refuses the call (:data:`FAILURES`).

        What takes as many elements as a mask is long (``masked_scatter``) takes those of any other mask, of any inputs.
        """
        for k in range(len(self.probe.calls)):
            self._run_masked(k, True)

    def masks_decide(self) -> bool:
        """Return whether a call takes masks that are true nowhere, and refuses those that are true everywhere."""
        for k in range(len(self.probe.calls)):
            for full in (False, True):
                try:
                    self._run_masked(k, full)
                except FAILURES:
                    return full
        return False

    def _run_masked(self, k: int, full: bool) -> None:
        call = self.probe.calls[k]
        masks = [u for u in call.uses if self.probe.types[u].dtype == "bool"]
        if not masks:
            return
        table = self.given(0)
        for s in call.sources:
            table.update(self.values(0, s))
        table.update({m: torch.full_like(table[m], full) for m in masks})
        self.probe.run(k, table)

    def _node(self, k: int, draws: int = _DRAWS) -> str:
        call, types = self.probe.calls[k], self.probe.types
        for name in call.results:
            # Each element of a large value is a draw of its own.
            n = 2 if _numel(types[name]) >= _MANY else draws
            # What has no operands is a constant on purpose, as long as something else goes into its use.
            if name in self.probe.used and call.uses and not any(self._moves(name, m, k) for m in range(1, n)):
                return "constant"
            for u in call.uses:
                if types[u] == types[name] and all(self._same(u, name, m, k) for m in range(n)):
                    return "changes nothing"
            if is_float(types[name].dtype):
                for m in range(2):
                    if reason := self._size(name, m, k):
                        return reason
        return ""

    def _size(self, name: str, n: int, k: int) -> str:
        """Return what is wrong with the magnitudes of a result of node ``k`` on draw ``n``, or ``""``."""
        values = self.values(n, k)
        size = np.abs(values[name].numpy())
        if not size.size:
            return ""
        most = float(size.max())
        if not most <= _LARGEST[self.probe.types[name].dtype]:  # NaN, too
            return "not finite"
        if not most:
            return ""
        operands = [values[u].numpy() for u in self.probe.calls[k].uses if is_float(self.probe.types[u].dtype)]
        scale = max((float(np.abs(v).max()) for v in operands if v.size), default=0.0)
        return "out of scale" if most < _NOISE * scale else ""

    def _moves(self, name: str, n: int, k: int) -> bool:
        return differ(self.values(0, k)[name], self.values(n, k)[name], self.probe.types[name].dtype)

    def _same(self, a: str, b: str, n: int, k: int) -> bool:
        values = self.values(n, k)
        return _equal(values[a], values[b])

    def _outputs(self) -> Finding | None:
        for output in self.probe.outputs:
            if not is_float(self.probe.types[output].dtype):
                continue
            k = self.probe.place.get(output)
            for n in range(2):
                v = (self.values(n, k) if k is not None else self.given(n))[output].numpy()
                most = float(np.abs(v).max(initial=0.0))
                if not most <= _LARGE or (0 < most < _SMALL):
                    return Finding("out of scale", k)
        return None

    def _inputs(self) -> Finding | None:
        for k in range(len(self.probe.calls)):
            self.values(0, k)
        if len(self.probe.graph.inputs) == 1:
            # What moves the only input is what moves everything.
            probe = self.probe
            last = [(o, probe.place.get(o)) for o in probe.outputs]
            if any(k is None or self._moves(o, n, k) for o, k in last for n in range(1, _DRAWS)):
                return None
        self.given(0)
        for i in self.probe.graph.inputs:
            end: int | None = None
            for n in range(1, _DRAWS):
                reached, end = self._reaches(i.name, n)
                if reached:
                    break
            else:
                return Finding("ignores an input", end)
        return None

    def _reaches(self, name: str, n: int) -> tuple[bool, int | None]:
        """Return whether some output changes when one input takes its value of another draw, and the last node reached."""
        before, values = self.table(0), dict(self.table(0))
        values[name] = self._input(name, n, self.table(n))
        changed, last = {name}, None
        for k, call in enumerate(self.probe.calls):
            if name not in call.inputs or changed.isdisjoint(call.uses):
                continue
            last = k
            self.probe.run(k, values)
            changed.update([r for r in call.results if differ(before[r], values[r], self.probe.types[r].dtype)])
        return not changed.isdisjoint(self.probe.outputs), last


def differ(a: Any, b: Any, dtype: str) -> bool:
    """Return whether two values differ by more than the rounding of a dtype, and by more than what it leaves of zero."""
    a, b = a.numpy(), b.numpy()
    if not a.size:
        return False
    # Mostly the first element tells.
    p, q = a.item(0), b.item(0)
    if dtype not in EPSILON:
        return p != q or not np.array_equal(a, b)
    with np.errstate(all="ignore"):
        size = np.abs(a)
        if math.isfinite(p) and math.isfinite(q):
            move = abs(p - q)
            if move > 8 * EPSILON[dtype] * max(abs(p), abs(q)) and move > _NOISE * float(size.max()):
                return True
        # Elements that are infinite are no scale.
        least = _NOISE * float(np.max(size, where=np.isfinite(size), initial=0.0))
        if bool((np.abs(a - b) > np.maximum((8 * EPSILON[dtype]) * np.maximum(size, np.abs(b)), least)).any()):
            return True
    return not np.array_equal(np.isfinite(a), np.isfinite(b))


def _equal(a: Any, b: Any) -> bool:
    """Return whether two values are equal, where NaN counts as 0 and an infinity as the largest number."""
    x, y = a.numpy(), b.numpy()
    if not x.size:
        return True
    p, q = x.item(0), y.item(0)
    if p != q and math.isfinite(p) and math.isfinite(q):
        return False
    if np.array_equal(x, y):
        return True
    if x.dtype.kind != "f" or (bool(np.isfinite(x).all()) and bool(np.isfinite(y).all())):
        return False
    return np.array_equal(np.nan_to_num(x), np.nan_to_num(y))
