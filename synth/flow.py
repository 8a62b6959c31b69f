"""Sizes of a program call by call: operands are matched with a template, what is free is drawn, and attributes with it.

A call that does not fit is drawn again by itself.  What is kept at the end satisfies every condition at its actual sizes, for
all of them have been evaluated.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from math import exp
from typing import Any

from .cells import CALL, CONSTANT, FACTORS, LOW, NEVER, NUMBER, NUMEL, SET, Cells, divisor
from .sites import Flat, Site

#: Structures of which one that fits is looked for.
STRUCTURES = 6
#: Times that what a call brings along is drawn, by how much of the range of its sizes is used.
_SCALES = (1.0, 1.0, 0.8, 0.5)
#: Times that sizes are drawn again for the conditions of one call, and one more.
_MENDED = 5


class Flow(Cells):
    """The sizes of one program under construction.

    Attributes:
        blame: the cells on which the last failure of :meth:`place` hung.
        least: what they have to be at least, the next time.
        hopeless: whether other sizes would not have helped.
        touched: whether sizes of earlier calls have been changed for the attributes of this one.
    """

    blame: Sequence[int] = ()
    least = 1
    hopeless = False
    touched = False

    def place(
        self, site: Site, dims: Sequence[int], known: bool, fresh: Sequence[int], trial: int
    ) -> tuple[Flat, list[int], list[list[int]], list[list[int]]] | None:
        """Put a call on operand dimensions.

        Args:
            site: which call.
            dims: the cell of each operand dimension in order, -1 for those of graph inputs that are made for the call.
            known: whether some of them are cells.
            fresh: the slots of those inputs.
            trial: how often this has been tried.

        Returns:
            The template, its locals' cells, the cells of the results' and of the fresh inputs' dimensions; None where the
            sizes drawn do not fit (the state is then to be undone).

        Raises:
            ZeroDivisionError: the same, a formula having no value at the sizes drawn.
        """
        uniform = self.random
        self.hopeless = self.touched = False
        ones = 0
        if known:
            if trial > 1 and not self._nudge(dims):
                return None
            self.blame, self.least, self.smaller = dims, 2, trial > 0
            if site.narrow:
                ones = self._ones(dims, trial > 1 and site.scalar and uniform() < 0.5)
        count = len(site.structures)
        table = site.table
        # Some structures do not fit the sizes at hand (a reduction of axes of size 1).
        structure = int(uniform() * count) if count > 1 else 0
        for _ in range(STRUCTURES if count > 1 else 1):
            flats = table.get((structure, ones))
            if flats is None:
                flats = site.flats(structure, ones)
            if flats:
                break
            structure = int(uniform() * count)
        else:
            self.hopeless = not site.scalar
            return None
        flat = flats[int(uniform() * len(flats))] if len(flats) > 1 else flats[0]
        cells = [-1] * flat.locals
        later = None
        if known:
            later = self._match(flat, dims, cells)
            if later is None:
                return None
        value, items = self.value, self.items
        cell_count, item_count = len(value), len(items)
        free = flat.free
        for scale in _SCALES:
            if len(value) > cell_count or len(items) > item_count:
                self.shorten(cell_count, item_count)
                cells = [c if c < cell_count else -1 for c in cells]
            todo = [x for x in free if cells[x[0]] < 0] if known else free
            n = cell_count + len(todo)
            if todo:
                self._draw(todo, cells, scale)
            own = range(cell_count, n)
            if not flat.simple and not self._conditions(flat, cells, own, later):
                if not own or self.touched:
                    return None
                continue
            if later:
                for d, (f, args) in later:
                    x = self.computed(f, tuple([cells[k] for k in args]))
                    if x < 0 or not self.equate(x, d):
                        return None
                if self.dirty != NEVER and not self.sweep():
                    return None
            found = self._shapes(flat, cells, fresh)
            if found is not None:
                return flat, cells, *found
            # The sizes that are given have been changed for the sake of formulas, or nothing is drawn.
            if later or self.touched or not (own or flat.parts):
                return None
        return None

    def _draw(self, todo: Sequence[tuple[int, int, int]], cells: list[int], scale: float) -> None:
        """Give locals new cells with sizes by the profile's law; ``todo`` has each one's number, least value and rank."""
        value, ranks, laws, uniform, plain = self.value, self.ranks, self.laws, self.random, self.plain
        first = n = len(value)
        for k, least, rank in todo:
            cells[k] = n
            ranks[n] = rank
            n += 1
            size = (
                int(exp(laws[rank][1] * scale * uniform())) if plain and least == 1 else self.draw(least, rank, scale)
            )
            value.append(size)
        count = n - first
        self.made += [None] * count
        self.parent += range(first, n)
        self.low += [x[1] for x in todo]
        self.born += [len(self.items)] * count

    def _ones(self, dims: Sequence[int], narrow: bool) -> int:
        """Return which operand dimensions are 1 by construction, as bits.

        Args:
            dims: their cells.
            narrow: make some free ones 1: sizes that cannot be equal may still broadcast.
        """
        parent = self.parent
        ones, bit = 0, 1
        for d in dims:
            if d >= 0:
                while parent[d] != d:
                    d = parent[d]
                if narrow and d and self.made[d] is None and self.low[d] == 1 and self.random() < 0.4:
                    self.equate(0, d)
                    d = 0
                if not d:
                    ones |= bit
            bit <<= 1
        return ones

    def _match(self, flat: Flat, dims: Sequence[int], cells: list[int]) -> list[tuple[int, Any]] | None:
        """Give locals the cells of operand dimensions; return what formulas must equal, None where they do not match."""
        later: list[tuple[int, Any]] = []
        for d, s in zip(dims, flat.slots):
            if d < 0:
                continue
            if s.__class__ is int:
                if s >= 0:
                    k = cells[s]
                    if k < 0:
                        cells[s] = d
                    elif k != d and not self.equate(k, d):
                        self.blame, self.least = (k, d), 1
                        return None
                elif not self.equate(self.constant(-1 - s), d):
                    self.blame, self.least = (d,), 1
                    return None
            else:
                later.append((d, s))
        for n in flat.two:
            if cells[n] >= 0 and not self.at_least(cells[n], 2):
                self.blame = (cells[n],)
                self.hopeless = self.made[self.find(cells[n])] == CONSTANT
                return None
        if self.dirty != NEVER and not self.sweep():
            return None
        return later

    def _shapes(
        self, flat: Flat, cells: Sequence[int], fresh: Sequence[int]
    ) -> tuple[list[list[int]], list[list[int]]] | None:
        """Return the cells of the results' and of the fresh inputs' dimensions; None where a tensor has too many elements."""
        shapes: list[list[int]] = []
        results: list[list[int]] = []
        for slot in fresh:
            codes, kind = flat.operands[slot]
            shape = self._shape(codes, kind, cells)
            if shape is None:
                return None
            shapes.append(shape)
        for codes, kind in flat.results:
            shape = [cells[c] for c in codes] if kind == 2 else self._shape(codes, kind, cells)
            if shape is None:
                return None
            results.append(shape)
        return results, shapes

    def _coded(self, code: Any, cells: Sequence[int]) -> int:
        """Return the cell that a code stands for, a local, a constant or a formula; negative where a formula has no value."""
        if code.__class__ is int:
            return cells[code] if code >= 0 else self.constant(-1 - code)
        return self.computed(code[0], tuple([cells[k] for k in code[1]]))

    def _shape(self, codes: Sequence[Any], kind: int, cells: Sequence[int]) -> list[int] | None:
        value = self.value
        count = 1
        if kind:
            shape = [cells[c] for c in codes]
            for x in shape:
                count *= value[x]
        else:
            shape = []
            for c in codes:
                x = self._coded(c, cells)
                if x < 0:
                    return None
                shape.append(x)
                count *= value[x]
        if shape:
            if not 1 <= count <= self.most:
                return None
            self.items.append((NUMEL, shape, None, None))
        return shape

    def _nudge(self, dims: Sequence[int]) -> bool:
        """Draw the sizes again on which the last failure hung; False where other calls then do not hold."""
        n = len(self.value)
        # The cells of the call that failed are gone.
        drawn = self.sources([d for d in self.blame if 0 < d < n] or [d for d in dims if d > 0])
        for x in drawn:
            if len(drawn) == 1 or self.random() < 0.5:
                self.value[x] = self.draw(max(self.least, self.low[x]), self.ranks.get(x, 2), 0.8)
                self.dirty = min(self.dirty, self.born[x])
        return self.dirty == NEVER or self.sweep()

    # -- attributes -----------------------------------------------------------------------------------------------

    def _conditions(self, flat: Flat, cells: list[int], own: Sequence[int], later: Any) -> bool:
        """Draw attributes for which the call's own conditions hold.

        Args:
            flat: the template.
            cells: of its locals; those of attributes are added.
            own: sizes that the call brings along.
            later: the known cells that formulas of the template must equal.
        """
        if own:
            if later:
                self._towards(cells, own, later)
            for left, right in flat.balances:
                self._balance(cells, own, left, right)
            value, low = self.value, self.low
            for x in own:
                if value[x] < low[x]:
                    return False
        try:
            return (not flat.factors or self._factors(flat, cells)) and self._numbers(flat, cells)
        except ZeroDivisionError:
            return False

    def _towards(self, cells: Sequence[int], own: Sequence[int], later: Sequence[tuple[int, Any]]) -> None:
        """Set sizes that a call brings along so that its formulas give the operand sizes that are known."""
        value = self.value
        for d, (f, args) in later:
            at = [cells[k] for k in args]
            if any(x < 0 for x in at) or f.run(value, at) == value[d]:
                continue
            for k, x in enumerate(at):
                inverse = f.inverse(k) if x in own else None
                if inverse is not None:
                    v = inverse.run(value, [d, *at[:k], *at[k + 1 :]])
                    if v >= self.low[x]:
                        value[x] = v
                        break

    def _balance(self, cells: Sequence[int], own: Sequence[int], left: Sequence[int], right: Sequence[int]) -> None:
        """Set sizes that a call brings along so that two products are equal, where the known ones allow it."""
        value = self.value
        for fixed, loose in ((left, right), (right, left)):
            at = [cells[n] for n in loose if cells[n] in own]
            if not at or any(cells[n] < 0 for n in (*fixed, *loose)):
                continue
            known = math.prod([value[cells[n]] for n in loose if cells[n] not in own])
            rest, over = divmod(math.prod([value[cells[n]] for n in fixed]), known)
            if over:
                continue
            for x in at[:-1]:
                value[x] = divisor(rest, self.random)
                rest //= value[x]
            value[at[-1]] = rest
            return

    def _mend(self, f: Any, args: Sequence[int], least: int) -> bool:
        """Draw sizes that a condition reads again until it holds; False where it does not, or other calls then do not."""
        at = self.mended(f, args, least)
        if at < 0:
            return False
        self.touched = True
        self.dirty = min(self.dirty, at)
        return self.sweep()

    def _factors(self, flat: Flat, cells: list[int]) -> bool:
        value = self.value
        for group, size in flat.factors:
            whole = self._coded(size, cells)
            if whole < 0:
                return False
            rest = value[whole]
            made = []
            for k, n in enumerate(group):
                v = rest if k == len(group) - 1 else divisor(rest, self.random)
                rest //= v
                cells[n] = self.new(v, SET)
                made.append(cells[n])
            self.items.append((FACTORS, tuple(made), None, whole))
            for n in group:
                if n in flat.late:
                    if value[cells[n]] < 2:
                        return False
                    self.low[cells[n]] = 2
                    self.items.append((LOW, cells[n], None, None))
        return True

    def _numbers(self, flat: Flat, cells: list[int]) -> bool:
        """Draw the attributes of a call, and sizes again for which there are none."""
        value = self.value
        local = [value[c] if c >= 0 else 0 for c in cells]
        for _ in range(_MENDED):
            wrong = self.unfit(flat, cells, local)
            if wrong is None:
                break
            f, self.blame, least = wrong
            self.least = 1
            if not self._mend(f, self.blame, least):
                return False
            local = [value[c] if c >= 0 else 0 for c in cells]
        else:
            return False
        for p in flat.parts:
            number = p[0]
            cells[number] = self.new(local[number], NUMBER, 2 if number in flat.late else -(2**31))
        self.items.append((CALL, [local], flat, cells))
        return True
