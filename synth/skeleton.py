"""Skeletons: which operators, with which types, feed which; counted exactly, weighted to uniform operators, drawn exactly.

A program is built backwards from its outputs.  The state is the multiset of *holes*: operand slots, by dtype and rank, that
an earlier operator must fill.  A step picks a hole type, lets one operator result fill k of its holes, and opens some of that
operator's own slots; the other slots belong to graph inputs.  Programs of L operators are paths of L steps to the empty
state, so a backward recursion counts them, and weights per position and operator make the operators uniform.  See
``docs/synth.md`` for the proof.
"""

from __future__ import annotations

import itertools
import math
import random
from bisect import bisect
from collections.abc import Callable, Mapping, Sequence, Set
from typing import Any, NamedTuple, TypeAlias

import attrs

from ..ir import Unsatisfiable
from .calls import Signature, Type

#: How likely a tensor has each rank, before the constraints speak.
RANK_WEIGHTS = (0.4, 1.0, 1.5, 1.5, 1.2, 0.6)


@attrs.frozen(eq=False)
class Choice:
    """One way to use an operator: a signature, the result that fills holes, and the slots that earlier operators fill.

    Attributes:
        number: of the operator.
        signature: its types.
        result: the position of the result.
        slots: the type of every tensor slot, list operands flattened.
        open: positions in ``slots``.
        out: the type of the result.
    """

    number: int
    signature: Signature
    result: int
    slots: tuple[Type, ...]
    open: tuple[int, ...]
    out: Type


class Step(NamedTuple):
    """One operator of a skeleton: the choice and how many holes its result fills."""

    choice: Choice
    fills: int


class Skeletons:
    """Programs of exactly ``level`` operators up to sizes and attributes.

    Args:
        signatures: of every operator, by name; the operators are numbered in this order.
        level: number of operators.
        pinned: ``(operator, position, dtype)``: operands that only graph inputs may fill, for one dtype or (``""``) all.
        holes: most holes open at once.
        outputs: most graph outputs.
        sharing: weight of each use of a value beyond its first.
        opening: weight of each slot that an earlier operator fills.
        weights: wished probability of each operator, up to a factor; None means uniform.
        inner: operators that may not stand last.
        tolerance: largest relative error of a marginal.

    Raises:
        Unsatisfiable: no program of this many operators exists, or the wished marginals cannot be had.

    Attributes:
        error: largest relative error of P(operator at position) of the exact model.
        possible: for each position, the operators that some program has there.
        sweeps: how many passes of tuning were needed.
    """

    def __init__(
        self,
        signatures: Mapping[str, Sequence[Signature]],
        level: int,
        pinned: Set[tuple[str, int, str]] = frozenset(),
        *,
        holes: int = 3,
        outputs: int = 1,
        sharing: float = 0.3,
        opening: float = 0.5,
        weights: Mapping[str, float] | None = None,
        inner: Set[str] = frozenset(),
        tolerance: float = 1e-6,
    ) -> None:
        if level < 1:
            raise Unsatisfiable(f"level {level}, expected at least 1")
        self.level = level
        self.names = tuple(n for n, s in signatures.items() if s)
        self.holes = max(holes, outputs)
        self.sharing = sharing
        self._choices: dict[tuple[Type, tuple[Type, ...]], list[tuple[float, Choice]]] = {}
        for number, name in enumerate(self.names):
            self._add_operator(number, signatures[name], pinned, opening)
        self._number()
        self._starts(outputs)
        self._connect()
        wish = [1.0 if weights is None else weights.get(n, 0.0) for n in self.names]
        last = [0.0 if n in inner else p for n, p in zip(self.names, wish)]
        self._tune([last, *[wish] * (level - 1)], tolerance)
        self._tables: list[dict[int, tuple[list[float], list[Any]]]] = [{} for _ in range(level)]
        self._singles: dict[int, Any] = {}
        self._last: tuple[tuple[int, ...], list[Any]] | None = None
        self._own: dict[tuple[int, int], tuple[list[float], list[Choice]]] = {}
        self._picks: list[dict[tuple[int, int], tuple[list[float], list[Step]]]] = [{} for _ in range(level)]
        self._key_weight: list[Any] = [None] * level

    # -- the space ------------------------------------------------------------------------------------------------

    def _add_operator(
        self, number: int, signatures: Sequence[Signature], pinned: Set[tuple[str, int, str]], opening: float
    ) -> None:
        found: list[tuple[float, tuple[Type, tuple[Type, ...]], Choice]] = []
        for s in signatures:
            slots, free = s.types, s.open_slots(pinned)
            ranks = [t[1] for t in (*slots, *s.results)]
            weight = math.prod(RANK_WEIGHTS[min(r, len(RANK_WEIGHTS) - 1)] for r in ranks) ** (1 / max(len(ranks), 1))
            for result, out in enumerate(s.results):
                for k in range(min(len(free), self.holes) + 1):
                    for opened in itertools.combinations(free, k):
                        key = (out, tuple(sorted(slots[i] for i in opened)))
                        choice = Choice(number, s, result, slots, opened, out)
                        found.append((weight * opening**k, key, choice))
        total = sum(w for w, _, _ in found)
        for w, key, choice in found:
            self._choices.setdefault(key, []).append((w / total, choice))

    def _number(self) -> None:
        types = {t for out, opened in self._choices for t in (out, *opened)}
        self.types = sorted(types)
        number = {t: i for i, t in enumerate(self.types)}
        self._keys = list(self._choices)
        self._by_out: dict[int, list[tuple[int, tuple[int, ...]]]] = {}
        for key_number, (out, opened) in enumerate(self._keys):
            self._by_out.setdefault(number[out], []).append((key_number, tuple(number[t] for t in opened)))

    def _starts(self, outputs: int) -> None:
        sinks = sorted(self._by_out)
        self._start_states = list(itertools.combinations_with_replacement(sinks, outputs))

    def _moves(self, state: tuple[int, ...], left: int) -> list[tuple[tuple[int, ...], int, float, int]]:
        """Return ``(next state, key, coefficient, fills)`` for each step from a state."""
        out = []
        for t in dict.fromkeys(state):
            n = state.count(t)
            rest = [x for x in state if x != t]
            for k in range(1, n + 1):
                kept = rest + [t] * (n - k)
                coefficient = math.comb(n, k) * self.sharing ** (k - 1)
                room = self.holes - len(kept)
                for key, opened in self._by_out.get(t, ()):
                    if len(opened) <= room:
                        out.append((tuple(sorted((*kept, *opened))), key, coefficient, k))
        return out

    def _connect(self) -> None:
        """Number the states that a path can visit and list the arcs between them."""
        import numpy as np

        index: dict[tuple[int, ...], int] = {s: i for i, s in enumerate(self._start_states)}
        frontier, arcs, fills = list(index), [], []
        for depth in range(self.level):
            fresh = []
            for state in frontier:
                for target, key, coefficient, k in self._moves(state, self.level - depth):
                    if target not in index:
                        index[target] = len(index)
                        fresh.append(target)
                    arcs.append((index[state], index[target], key, coefficient))
                    fills.append(k)
            frontier = [s for s in fresh if s]
        empty = index.setdefault((), len(index))
        self.states = len(index)
        self._empty = empty
        table = np.array(arcs, dtype=float).reshape(-1, 4)
        order = np.argsort(table[:, 0], kind="stable")
        table = table[order]
        self._fills = np.array(fills, dtype=np.int64)[order]
        self._source = table[:, 0].astype(np.int64)
        self._target = table[:, 1].astype(np.int64)
        self._key = table[:, 2].astype(np.int64)
        self._coefficient = table[:, 3].copy()
        self._first: Any = np.searchsorted(self._source, np.arange(self.states + 1))
        entries = [(k, c.number, w) for k, key in enumerate(self._keys) for w, c in self._choices[key]]
        mass: dict[tuple[int, int], float] = {}
        for k, number, w in entries:
            mass[k, number] = mass.get((k, number), 0.0) + w
        self._mass_key = np.array([k for k, _ in mass], dtype=np.int64)
        self._mass_op = np.array([o for _, o in mass], dtype=np.int64)
        self._mass = np.array(list(mass.values()))

    # -- tuning ---------------------------------------------------------------------------------------------------

    def _key_weights(self, w: Any) -> Any:
        import numpy as np

        return np.bincount(self._mass_key, self._mass * w[self._mass_op], len(self._keys))

    def _backward(self, w: Any, after: Any) -> Any:
        import numpy as np

        value = np.bincount(
            self._source, self._coefficient * self._key_weights(w)[self._key] * after[self._target], self.states
        )
        top = value.max()
        return value / top if top > 0 else value

    def _forward(self, w: Any, before: Any) -> Any:
        import numpy as np

        value = np.bincount(
            self._target, self._coefficient * self._key_weights(w)[self._key] * before[self._source], self.states
        )
        top = value.max()
        return value / top if top > 0 else value

    def _marginal(self, w: Any, before: Any, after: Any) -> Any:
        """Return P(operator) at a position from the weights of the paths before and after it."""
        import numpy as np

        per_key = np.bincount(
            self._key, self._coefficient * before[self._source] * after[self._target], len(self._keys)
        )
        per_op = w * np.bincount(self._mass_op, self._mass * per_key[self._mass_key], len(self.names))
        return per_op / np.bincount(np.zeros(len(per_op), dtype=np.int64), per_op)[0]

    def _tune(self, wishes: Sequence[Sequence[float]], tolerance: float) -> None:
        """Scale weights position by position until every marginal is as wished (iterative proportional fitting).

        Only additions in a fixed order, multiplications and divisions are used, so that the result does not depend on
        the machine.
        """
        import numpy as np

        n, level = len(self.names), self.level
        weights = [np.where(np.array(w) > 0, 1.0, 0.0) for w in wishes]
        end = np.zeros(self.states)
        end[self._empty] = 1.0
        start = np.zeros(self.states)
        start[: len(self._start_states)] = 1.0
        after = [end] * (level + 1)
        before = [start] * (level + 1)
        for t in range(level - 1, -1, -1):
            after[t] = self._backward(weights[t], after[t + 1])
        if not float((after[0] * start).max(initial=0.0)) > 0:
            raise Unsatisfiable(
                f"no program of exactly {level} of these operators exists: no output of one fits another"
            )
        targets = []
        for t in range(level):
            with np.errstate(invalid="ignore"):
                found = self._marginal(weights[t], before[t], after[t + 1])
            before[t + 1] = self._forward(weights[t], before[t])
            target = np.where(found > 0, np.array(wishes[t]), 0.0)
            if not target.sum() > 0:
                raise Unsatisfiable(f"no operator with a weight can stand at position {t + 1} of {level}")
            targets.append(target / target.sum())
        self.possible = tuple(frozenset(x for x, p in zip(self.names, t.tolist(), strict=True) if p) for t in targets)
        self.error, self.sweeps = math.inf, 0
        while self.error > tolerance and self.sweeps < 400:
            self.sweeps += 1
            worst = 0.0
            positions = range(level) if self.sweeps % 2 else range(level - 1, -1, -1)
            for t in positions:
                found = self._marginal(weights[t], before[t], after[t + 1])
                target = targets[t]
                known = target > 0
                ratio = np.ones(n)
                ratio[known] = target[known] / found[known]
                worst = max(worst, float(np.abs(found[known] / target[known] - 1).max()))
                weights[t] = np.where(known, weights[t] * ratio, 0.0)
                if self.sweeps % 2:
                    before[t + 1] = self._forward(weights[t], before[t])
                else:
                    after[t] = self._backward(weights[t], after[t + 1])
            if self.sweeps > 1:
                self.error = worst
            if level == 1:
                self.error = 0.0  # one position is solved by one scaling; the error is measured below
        if self.error > max(tolerance, 1e-5):
            raise Unsatisfiable(
                f"the wished operator frequencies cannot be had at level {level} (off by {self.error:.1e}), expected other "
                "operators or weights"
            )
        # The last sweep left one of the two messages stale; the sampler needs those after each position.
        for t in range(level - 1, -1, -1):
            after[t] = self._backward(weights[t], after[t + 1])
        for t in range(level):
            before[t + 1] = self._forward(weights[t], before[t])
        self.marginals = [self._marginal(weights[t], before[t], after[t + 1]) for t in range(level)]
        self.error = max(
            float(np.abs(m[t > 0] / t[t > 0] - 1).max()) for m, t in zip(self.marginals, targets, strict=True)
        )
        self.targets = targets
        self._weights, self._after = weights, after
        self._weight_lists = [w.tolist() for w in weights]
        self._start_sums = list(itertools.accumulate(after[0][: len(self._start_states)].tolist()))

    # -- drawing --------------------------------------------------------------------------------------------------

    def _table(self, t: int, state: int) -> tuple[list[float], list[Any]]:
        """Return cumulated weights and, of each arc: cumulated weights of its steps, these, the next state."""
        found = self._tables[t].get(state)
        if found is None:
            a, b = int(self._first[state]), int(self._first[state + 1])
            if self._key_weight[t] is None:
                self._key_weight[t] = self._key_weights(self._weights[t])
            per_key = self._key_weight[t]
            after = self._after[t + 1]
            keys, targets = self._key[a:b], self._target[a:b]
            mass = self._coefficient[a:b] * per_key[keys] * after[targets]
            kept = mass > 0
            sums = list(itertools.accumulate(mass[kept].tolist()))
            arcs = [
                (*self._picked(t, k, fills), target)
                for k, target, fills in zip(
                    keys[kept].tolist(), targets[kept].tolist(), self._fills[a:b][kept].tolist(), strict=True
                )
            ]
            found = self._tables[t][state] = (sums, arcs)
        return found

    def _picked(self, t: int, key: int, fills: int) -> tuple[list[float], list[Step]]:
        found = self._picks[t].get((key, fills))
        if found is None:
            w = self._weight_lists[t]
            choices = self._choices[self._keys[key]]
            sums = list(itertools.accumulate([m * w[c.number] for m, c in choices]))
            found = self._picks[t][key, fills] = (sums, [Step(c, fills) for _, c in choices])
        return found

    def draw(self, rng: random.Random) -> tuple[tuple[int, ...], list[Step]]:
        """Return the types of the outputs (as numbers of ``types``) and the steps from the sink backwards."""
        uniform = rng.random
        start = bisect(self._start_sums, uniform() * self._start_sums[-1])
        state, steps = start, []
        for t, rows in enumerate(self._tables):
            sums, arcs = rows.get(state) or self._table(t, state)
            picks, own, state = arcs[bisect(sums, uniform() * sums[-1])]
            steps.append(own[bisect(picks, uniform() * picks[-1])])
        return self._start_states[start], steps

    def _arcs_of(self, number: int) -> Any:
        """Return source, target, weight and place of the arcs that an operator can take."""
        found = self._singles.get(number)
        if found is None:
            import numpy as np

            only = np.zeros(len(self.names))
            only[number] = 1.0
            weight = self._coefficient * self._key_weights(only)[self._key]
            place = np.flatnonzero(weight)
            found = self._singles[number] = (self._source[place], self._target[place], weight[place], place)
        return found

    def draw_for(self, numbers: Sequence[int], rng: random.Random) -> tuple[tuple[int, ...], list[Step]]:
        """Return a skeleton whose operators, from the sink backwards, are ``numbers``: uniform over their wirings."""
        after = self._after_for(tuple(numbers))
        starts = list(itertools.accumulate(after[0][: len(self._start_states)].tolist()))
        start = bisect(starts, rng.random() * starts[-1])
        state, steps = start, []
        for t, number in enumerate(numbers):
            source, target, weight, place = self._arcs_of(number)
            a, b = source.searchsorted(state), source.searchsorted(state + 1)
            sums = list(itertools.accumulate((weight[a:b] * after[t + 1][target[a:b]]).tolist()))
            i = int(place[a + bisect(sums, rng.random() * sums[-1])])
            picks, choices = self._choices_of(int(self._key[i]), number)
            steps.append(Step(choices[bisect(picks, rng.random() * picks[-1])], int(self._fills[i])))
            state = int(self._target[i])
        return self._start_states[start], steps

    def allows(self, numbers: Sequence[int]) -> bool:
        """Return whether some skeleton has these operators, from the sink backwards."""
        return bool(self._after_for(tuple(numbers))[0][: len(self._start_states)].any())

    def _after_for(self, numbers: tuple[int, ...]) -> list[Any]:
        """Return the backward weights of a sequence of operators; the last sequence's are kept."""
        if self._last is None or self._last[0] != numbers:
            import numpy as np

            after = [self._after[self.level]]
            for number in reversed(numbers):
                source, target, weight, _ = self._arcs_of(number)
                value = np.bincount(source, weight * after[-1][target], self.states)
                after.append(value / (value.max() or 1.0))
            self._last = (numbers, after[::-1])
        return self._last[1]

    def _choices_of(self, key: int, number: int) -> tuple[list[float], list[Choice]]:
        found = self._own.get((key, number))
        if found is None:
            own = [(w, c) for w, c in self._choices[self._keys[key]] if c.number == number]
            found = self._own[key, number] = (list(itertools.accumulate(w for w, _ in own)), [c for _, c in own])
        return found


class Wired:
    """One operator of a wired skeleton; operands refer to earlier operators or are graph inputs.

    Attributes:
        choice: operator and types.
        operands: per flattened slot: ``(operator's place, result)``, or None for a graph input.
        extra: slots whose value has another use, so that they may be given up.
    """

    __slots__ = ("choice", "extra", "operands")

    def __init__(self, choice: Choice) -> None:
        self.choice = choice
        self.operands: list[tuple[int, int] | None] = [None] * len(choice.slots)
        self.extra: list[int] = []


def wired_pair(first: Signature, result: int, second: Signature, slot: int, used: int = 0) -> list[Wired]:
    """Return two operators: ``result`` of the first fills ``slot`` of the second, of which result ``used`` is used."""
    nodes = [
        Wired(Choice(0, first, result, first.types, (), first.results[result])),
        Wired(Choice(1, second, used, second.types, (slot,), second.results[used])),
    ]
    nodes[1].operands[slot] = (0, result)
    return nodes


def wire(
    start: tuple[int, ...], steps: Sequence[Step], types: Sequence[Type], rng: random.Random
) -> tuple[list[Wired], list[tuple[int, int]]]:
    """Return the operators in program order with their operands, and what fills each output.

    The holes that a step fills are drawn uniformly among those of its type.
    """
    uniform = rng.random
    nodes: list[Wired] = []
    outputs: list[tuple[int, int]] = [(0, 0)] * len(start)
    holes: dict[Type, list[tuple[Wired | None, int]]] = {}
    for i, t in enumerate(start):
        holes.setdefault(types[t], []).append((None, i))
    place = len(steps)
    for choice, fills in steps:
        place -= 1
        candidates = holes[choice.out]
        n = len(candidates)
        if fills < n:
            for k in range(fills):
                j = k + int(uniform() * (n - k))
                candidates[k], candidates[j] = candidates[j], candidates[k]
        source = (place, choice.result)
        first = int(uniform() * fills) if fills > 1 else 0
        for k in range(fills):
            node, slot = candidates[k]
            if node is None:
                outputs[slot] = source
            else:
                node.operands[slot] = source
                if k != first:
                    node.extra.append(slot)
        del candidates[:fills]
        new = Wired(choice)
        nodes.append(new)
        for slot in choice.open:
            kind = choice.slots[slot]
            found = holes.get(kind)
            if found is None:
                holes[kind] = [(new, slot)]
            else:
                found.append((new, slot))
    nodes.reverse()
    return depth_first(nodes, outputs)


def depth_first(
    nodes: Sequence[Wired], outputs: Sequence[tuple[int, int]]
) -> tuple[list[Wired], list[tuple[int, int]]]:
    """Return the same operators in the order of a depth-first walk from the outputs: what feeds one stands close before it."""
    place = [-1] * len(nodes)
    order: list[Wired] = []
    # ``~n`` stands for the end of operator n.
    todo = [n for n, _ in reversed(outputs)]
    while todo:
        n = todo.pop()
        if n < 0:
            place[~n] = len(order)
            order.append(nodes[~n])
        elif place[n] < 0:
            w = nodes[n]
            if w.choice.open:
                place[n] = 0
                todo.append(~n)
                todo += [o[0] for slot in reversed(w.choice.open) if (o := w.operands[slot]) is not None]
            else:
                place[n] = len(order)
                order.append(w)
    for w in order:
        operands = w.operands
        for slot in w.choice.open:
            o = operands[slot]
            if o is not None:
                operands[slot] = (place[o[0]], o[1])
    return order, [(place[n], r) for n, r in outputs]


Draw: TypeAlias = Callable[[random.Random], tuple[tuple[int, ...], list[Step]]]
