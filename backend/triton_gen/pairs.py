"""Pairs of folds that one pass over the columns can do together, although the second is defined through the first.

* ``exp``: a maximum, and the sum of exponentials relative to it (softmax, logsumexp).  Every lane keeps the largest element
  that it has seen and the sum relative to that (Milakov and Gimelshein, https://arxiv.org/abs/1805.02867).
* ``square``: a sum, and the sum of squared deviations from the mean (variance).  Every lane keeps its own mean and its own
  sum of squares (Welford, https://doi.org/10.1080/00401706.1962.10490022); lanes are merged as in Chan, Golub and LeVeque,
  https://doi.org/10.1080/00031305.1983.10483115.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import attrs

from ...ir import Literal, Size, SizeLike
from ...ir import expr as ex
from ...ir.opdef import Reduce
from ...ir.typesys import is_float
from .kernel import product, size_text
from .pull import Program, Site
from .writer import LEVELS, TRITON_DTYPES, Val

if TYPE_CHECKING:
    from .loops import LoopWriter


@attrs.frozen(eq=False)
class Pair:
    """Two folds over the same elements.

    Attributes:
        kind: ``exp`` or ``square``.
        first: the maximum, or the sum.
        second: the sum of exponentials, or of squared deviations.
        shift: the value that is subtracted from every element in the second fold: one number for each row.
    """

    kind: str
    first: Site
    second: Site
    shift: str


def find_pairs(program: Program, sites: Iterable[Site]) -> tuple[Pair, ...]:
    """Return the pairs among the folds of a fragment; no fold is in two of them."""
    found: list[Pair] = []
    every = list(sites)
    for second in every:
        pair = _pair(program, second, every)
        taken = {p.first.key for p in found} | {p.second.key for p in found}
        if pair is not None and not taken & {pair.first.key, pair.second.key}:
            found.append(pair)
    return tuple(found)


def _pair(program: Program, second: Site, sites: Sequence[Site]) -> Pair | None:
    folded = _folded(program, second, "sum")
    producer = program.producers.get(folded) if folded else None
    if producer is None:
        return None
    operands = producer.operands
    if producer.op == "exp":
        kind, deviation = "exp", operands[0]
    elif producer.op == "square" or (producer.op == "mul" and operands[0] == operands[1]):
        kind, deviation = "square", operands[0]
    else:
        return None
    difference = program.producers.get(deviation) if isinstance(deviation, str) else None
    if difference is None or difference.op != "sub":
        return None
    x, shift = difference.operands
    if not isinstance(x, str) or not isinstance(shift, str) or not is_float(program.types[x].dtype):
        return None
    axes = _axes(program, second)
    kept, given = program.types[x].shape, program.types[shift].shape
    if kept != difference.types[0].shape or len(given) != len(kept) or any(given[a] != 1 for a in axes):
        return None
    for first in sites:
        if _folded(program, first, "max" if kind == "exp" else "sum") == x and _axes(program, first) == axes:
            if kind == "exp" and _only_folds(program, shift, x, first):
                return Pair(kind, first, second, shift)
            if kind == "square" and _is_mean(program, shift, first):
                return Pair(kind, first, second, shift)
    return None


def _folded(program: Program, site: Site, combiner: str) -> str:
    """Return the value that ``site`` folds as it is with ``combiner``; empty where it does something else."""
    body = program.ops[site.node.op].body
    if site.combiner != combiner or not isinstance(body, Reduce) or not isinstance(body.expr, ex.Sym):
        return ""
    operand = site.node.operands[0]
    return operand if isinstance(operand, str) else ""


def _axes(program: Program, site: Site) -> tuple[int, ...]:
    body = program.ops[site.node.op].body
    assert isinstance(body, Reduce)
    return program.reduction(site.node, body)[1]


def _only_folds(program: Program, shift: str, x: str, first: Site) -> bool:
    """Return whether ``shift`` follows from the fold ``first``, elementwise, and from nothing else but numbers."""
    result = first.node.results[0]
    stack, seen = [shift], set()
    while stack:
        v = stack.pop()
        if v == result or v in seen:
            continue
        seen.add(v)
        node = program.producers.get(v)
        if node is None or v == x:
            return False
        stack.extend(node.uses())
    return True


def _is_mean(program: Program, shift: str, first: Site) -> bool:
    node = program.producers.get(shift)
    if node is None or node.op != "div" or node.operands[0] != first.node.results[0]:
        return False
    count = node.operands[1]
    wanted: SizeLike = product(first.ranges)
    return isinstance(count, Literal) and isinstance(count.value, (int, float, Size)) and count.value == wanted


class PairWriter:
    """Writes one pair into a loop over the columns, and brings lanes or partial results together."""

    def __init__(self, loop: LoopWriter, pair: Pair) -> None:
        self.loop, self.pair = loop, pair
        self.name = pair.second.node.results[0]
        self.axes = frozenset({"row"} if loop.has_rows else ())
        self.lanes = self.axes | {"col"}

    def _sum(self, text: str, wish: str = "") -> Val:
        axis, tail = self.loop.rank - 1, "[:, None]" if self.loop.rank == 2 else ""
        return self.loop.w.assign(wish or self.name, Val(f"tl.sum({text}, axis={axis}){tail}", self.dtype, self.axes))

    def begin(self, shape: str, outer: list[str]) -> list[str]:
        """Write the accumulators to ``outer``; return the statements that add the current tile to them."""
        loop, w = self.loop, self.loop.w
        terms = loop.term(self.pair.first)
        self.dtype = terms.dtype
        t = w.assign("terms", terms).text
        dtype = TRITON_DTYPES[terms.dtype]
        self.first, self.second = (
            w.names.fresh(f"{s.node.results[0]}_acc") for s in (self.pair.first, self.pair.second)
        )
        a, b = self.first, self.second
        if self.pair.kind == "exp":
            scale = w.names.fresh("scale")
            outer += [f'{a} = tl.full({shape}, float("-inf"), {dtype})', f"{b} = tl.zeros({shape}, {dtype})"]
            return [
                f"{scale} = tl.where({t} == {a}, 1.0, tl.exp(-tl.abs({t} - {a})))",
                f"{b} = tl.where({t} > {a}, {b} * {scale} + 1.0, {b} + {scale})",
                f"{a} = tl.maximum({a}, {t}, propagate_nan=tl.PropagateNan.ALL)",
            ]
        count, delta = w.names.fresh("count"), w.names.fresh("delta")
        self.count = count
        outer += [f"{v} = tl.zeros({s}, {dtype})" for v, s in ((a, shape), (b, shape), (count, "[1]"))]
        return [
            f"{count} += 1.0",
            # Lanes outside the row, all in its last chunk, stay as they are.
            f"{delta} = tl.where(col_mask, {t} - {a}, 0.0)",
            f"{a} += {delta} * (1.0 / {count})",
            f"{b} += {delta} * ({t} - {a})",
        ]

    def finish(self, start: str, stop: str, partial: bool) -> tuple[Val, Val]:
        """Return both folds of columns ``start..stop`` after the loop.

        Args:
            start, stop: as in the loop.
            partial: whether other programs have other columns of the row; then the second fold is relative to the first
                fold of these columns.
        """
        loop, w = self.loop, self.loop.w
        if self.pair.kind == "exp":
            best = Val(self.first, self.dtype, self.lanes)
            top = loop.reduced(self.pair.first, best)
            loop.values[self.pair.first.key] = top
            if partial:
                weight = f"tl.where({best.text} == {top.text}, 1.0, tl.exp({best.text} - {top.text}))"
            else:
                weight = f"tl.exp({best.text} - {self._shift().text})"
            return top, self._sum(f"{self.second} * {weight}")
        lane = "tl.arange(0, BLOCK_COLS)" + ("[None, :]" if loop.rank == 2 else "")
        length = stop if start == "0" else f"({stop} - {start})"
        text = f"tl.maximum(({length} + BLOCK_COLS - 1 - {lane}) // BLOCK_COLS, 0).to({TRITON_DTYPES[self.dtype]})"
        n = w.assign("counts", Val(text, self.dtype, frozenset({"col"}))).text
        total = self._sum(f"{n} * {self.first}", self.pair.first.node.results[0])
        loop.values[self.pair.first.key] = total
        if partial:
            mean = w.assign("mean", Val(f"{total.text} / tl.maximum({length.strip('()')}, 1)", self.dtype, self.axes))
        else:
            mean = self._shift()
        return total, self._squares(self.second, n, self.first, mean)

    def _squares(self, inner: str, n: str, means: str, mean: Val) -> Val:
        apart = self.loop.w.assign(
            "apart", Val(f"{means} - {mean.inside(LEVELS['-'] + 1)}", self.dtype, self.lanes)
        ).text
        return self._sum(f"{inner} + {n} * {apart} * {apart}")

    def _shift(self) -> Val:
        """Return the shift of the row; the first fold is known."""
        loop, site = self.loop, self.pair.first
        axes = _axes(loop.program, site)
        rest = iter(site.coordinates)
        rank = len(loop.program.types[self.pair.shift].shape)
        at = tuple(0 if i in axes else next(rest) for i in range(rank))
        return loop.w.assign("shift", loop.pull.value(self.pair.shift, at))

    def combine(self, first: Val, second: Val) -> None:
        """Bring the partial results of all programs of a row together; ``first`` and ``second`` vary along ``col``."""
        loop, w = self.loop, self.loop.w
        self.dtype = first.dtype
        if self.pair.kind == "exp":
            loop.values[self.pair.first.key] = loop.reduced(self.pair.first, first)
            value = self._sum(f"{second.text} * tl.exp({first.text} - {self._shift().text})")
        else:
            columns = size_text(loop.domain.columns)
            text = f"tl.minimum(tl.maximum({columns} - part * PART, 0), PART).to({TRITON_DTYPES[self.dtype]})"
            loop.constants["PART"] = loop.chunk_text
            n = w.assign("counts", Val(text, self.dtype, frozenset({"col"}))).text
            loop.values[self.pair.first.key] = self._sum(first.text, self.pair.first.node.results[0])
            means = w.assign("means", Val(f"{first.text} / tl.maximum({n}, 1.0)", self.dtype, self.lanes)).text
            value = self._squares(second.text, n, means, self._shift())
        loop.values[self.pair.second.key] = value
