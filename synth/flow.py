"""Sizes of a program as it is built: every dimension is a cell that has its value at once.

A cell is drawn, constant, or computed from others.  Where two cells must be equal, one takes the other's value and what depends
on it is computed again; a call that does not fit is drawn again by itself.  What is kept at the end satisfies every condition
at its actual sizes, for all of them have been evaluated.
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from typing import Any

from .flat import Flat, Function, Site, function
from .profiles import Profile

#: Values of attributes that nothing bounds.
_SMALL = (-2, -1, 1, 2, 3)
#: What is added to the lower bound of an attribute that has no upper one.
_EXCESS = (0, 0, 0, 0, 0, 0, 0, 1, 1, 2)
_COPY = function("a0", 1)
_CONSTANT, _SET, _COMPUTED, _NUMBER = "constant", "set", "computed", "number"
#: Structures of which one that fits is looked for.
STRUCTURES = 6
#: Times that values of drawn cells are changed in one pass over the conditions.
_REPAIRS = 12
_NEVER = 1 << 30
_FORMULA, _CHECK, _PRODUCT, _NUMEL, _REPAIR, _BOUNDED, _FACTORS, _EQUAL, _LOW = range(9)


class Flow:
    """The cells of one program under construction.  Cell 0 is the constant 1.

    Attributes:
        value: of each cell.
        items: what was computed and must hold, in order: ``(kind, cell or cells, function, arguments)``.
    """

    def __init__(self, profile: Profile, rng: random.Random, laws: Sequence[tuple[int, float]]) -> None:
        self.profile, self.laws = profile, laws
        self.most = profile.max_numel
        self.random = rng.random
        self.value = [1]
        self.made: list[Any] = [_CONSTANT]
        self.parent = [0]
        self.low = [1]
        self.born = [0]
        self.items: list[Any] = []
        self.constants = {1: 0}
        self.numels: dict[tuple[int, ...], int] = {}
        self.dirty = _NEVER
        self.ranks: dict[int, int] = {}

    # -- cells ----------------------------------------------------------------------------------------------------

    def new(self, value: int, made: Any, low: int = 1) -> int:
        """Return a new cell."""
        n = len(self.value)
        self.value.append(value)
        self.made.append(made)
        self.parent.append(n)
        self.low.append(low)
        self.born.append(len(self.items))
        return n

    def constant(self, value: int) -> int:
        """Return the cell of a constant."""
        found = self.constants.get(value)
        if found is None or found >= len(self.value) or self.value[found] != value or self.made[found] != _CONSTANT:
            found = self.constants[value] = self.new(value, _CONSTANT)
        return found

    def find(self, x: int) -> int:
        """Return the cell from which ``x`` takes its value."""
        parent = self.parent
        while parent[x] != x:
            x = parent[x]
        return x

    def draw(self, low: int, rank: int, scale: float) -> int:
        """Return a size by the profile's law; ``scale`` below 1 shortens its range on a log scale."""
        uniform, p = self.random, self.profile
        cap, b = self.laws[rank]
        if p.menu and uniform() < p.menu_share:
            n = p.menu[int(uniform() * len(p.menu))]
            if low <= n <= cap * scale:
                return n
        if low > 1:
            a = math.log(low)
            return max(low, int(math.exp(a + max(b - a, 0.0) * scale * uniform())))
        return int(math.exp(b * scale * uniform()))

    # -- going back -----------------------------------------------------------------------------------------------

    def mark(self) -> tuple[Any, ...]:
        """Return the present state, for :meth:`undo`."""
        return (
            self.value.copy(), self.made.copy(), self.parent.copy(), self.low.copy(), len(self.items)
        )  # fmt: skip

    def undo(self, mark: tuple[Any, ...]) -> None:
        """Return to a state, any number of times."""
        value, made, parent, low, items = mark
        self.value[:], self.made[:], self.parent[:], self.low[:] = value, made, parent, low
        del self.born[len(value) :], self.items[items:]
        self.dirty = _NEVER

    # -- equality -------------------------------------------------------------------------------------------------

    def equate(self, a: int, b: int) -> bool:
        """Make two cells equal, or return False; :meth:`sweep` carries it out."""
        a, b = self.find(a), self.find(b)
        if a == b:
            return True
        if self.made[a] is None and (self.made[b] is not None or self.born[a] >= self.born[b]):
            return self._assign(a, b, 0)
        if self.made[b] is None:
            return self._assign(b, a, 0)
        if self.value[a] == self.value[b]:
            self.items.append((_EQUAL, a, None, b))
            return True
        return self._assign(a, b, 3) or self._assign(b, a, 3)

    def _assign(self, x: int, y: int, depth: int) -> bool:
        """Make cell ``x`` take the value of ``y``, by changing a drawn cell on which ``x`` depends."""
        x = self.find(x)
        if x == y:
            return True
        made, value = self.made[x], self.value
        if made is None or made == _NUMBER:
            v, low = value[y], self.low[x]
            if v < low:
                return False
            if low > self.low[y]:
                self.low[y] = low
            if made is None:
                self.parent[x] = y
            self.made[x] = _SET
            if v != value[x]:
                value[x] = v
                if self.born[x] < self.dirty:
                    self.dirty = self.born[x]
            self.items.append((_REPAIR, x, _COPY.run, (y,)))
            return True
        if not depth or made.__class__ is not tuple:
            return False
        whole, args = made
        for k, arg in enumerate(args):
            if args.count(arg) > 1 or self.made[self.find(arg)] == _CONSTANT:
                continue
            inverse = whole.inverse(k)
            if inverse is None:
                continue
            rest = (y, *args[:k], *args[k + 1 :])
            state = self.mark()
            try:
                z = self.computed(inverse, rest, self.low[self.find(arg)])
                if z >= 0 and self._assign(arg, z, depth - 1):
                    # An inverse need not be one: floors lose remainders.
                    self.dirty = min(self.dirty, len(self.items))
                    self.items.append((_EQUAL, x, None, y))
                    return True
            except ZeroDivisionError:
                pass
            dirty = self.dirty
            self.undo(state)
            self.dirty = dirty
        return False

    def computed(self, f: Function, args: tuple[int, ...], low: int = 1) -> int:
        """Return a new cell computed by a function, or -1 where its value is out of bounds."""
        v = f.run(self.value, args)
        if not low <= v <= self.most:
            return -1
        x = self.new(v, (f, args), low)
        self.items.append((_FORMULA, x, f.run, args))
        return x

    def at_least(self, x: int, low: int) -> bool:
        """Bound a cell from below."""
        x = self.find(x)
        if self.low[x] >= low:
            return True
        self.low[x] = low
        if self.value[x] < low:
            if self.made[x] is not None:
                return False
            self.value[x] = self.draw(low, 2, 1.0)
            self.dirty = min(self.dirty, self.born[x])
        self.items.append((_LOW, x, None, None))
        return True

    def sweep(self) -> bool:
        """Compute and check again what may depend on changed cells; False where something does not hold."""
        value, items, low, most = self.value, self.items, self.low, self.most
        at, n, repairs = self.dirty, len(self.items), _REPAIRS
        self.dirty = _NEVER
        while at < n:
            kind, x, f, args = items[at]
            at += 1
            if kind == _FORMULA:
                v = f(value, args)
                if not low[x] <= v <= most:
                    return False
                value[x] = v
            elif kind == _NUMEL:
                count = 1
                for d in x:
                    count *= value[d]
                if not 1 <= count <= most:
                    return False
            elif kind == _REPAIR:
                v = f(value, args)
                if v != value[x]:
                    repairs -= 1
                    if repairs < 0 or v < low[x]:
                        return False
                    value[x] = v
                    at = self.born[x]
            elif kind == _CHECK:
                if not f(value, args):
                    return False
            elif kind == _PRODUCT:
                if f(value, args) < 2:
                    return False
            elif kind == _BOUNDED:
                lo, hi = bounds(value, *args)
                if (lo is not None and value[x] < lo) or (hi is not None and value[x] > hi):
                    if self.made[x] != _NUMBER:
                        return False
                    v = self.number(lo, hi)
                    if v is None:
                        return False
                    value[x] = v
            elif kind == _EQUAL:
                if value[x] != value[args]:
                    return False
            elif kind == _LOW:
                if value[x] < low[x]:
                    return False
            elif math.prod([value[k] for k in x]) != value[args]:
                rest = value[args]
                for k in x[:-1]:
                    value[k] = divisor(rest, self.random)
                    rest //= value[k]
                value[x[-1]] = rest
        return True

    def redraw(self, scale: float) -> bool:
        """Draw every free cell again, from shorter ranges where ``scale`` is below 1."""
        for x in range(len(self.value)):
            if self.made[x] is None:
                self.value[x] = self.draw(self.low[x], self.ranks.get(x, 2), scale)
        self.dirty = 0
        try:
            return self.sweep()
        except ZeroDivisionError:
            return False

    # -- calls ----------------------------------------------------------------------------------------------------

    def place(
        self, site: Site, dims: Sequence[int], fresh: Sequence[int], trial: int
    ) -> tuple[Flat, list[int], list[list[int]], list[list[int]]] | None:
        """Put a call on operand dimensions.

        Args:
            site: which call.
            dims: the cell of each operand dimension in order, -1 for those of graph inputs that are made for the call.
            fresh: the slots of those inputs.
            trial: how often this has been tried.

        Returns:
            The template, its locals' cells, the cells of the results' and of the fresh inputs' dimensions; None where the
            sizes drawn do not fit (the state is then to be undone).
        """
        try:
            return self._place(site, dims, fresh, trial)
        except ZeroDivisionError:
            return None

    def _place(self, site: Site, dims: Sequence[int], fresh: Sequence[int], trial: int) -> Any:
        uniform = self.random
        if trial > 1 and not self._nudge(dims):
            return None
        ones = 0
        if site.narrow:
            bit = 1
            # Sizes that cannot be equal may still broadcast, where one of them is free to be 1.
            narrow = trial > 1 and site.scalar and uniform() < 0.5
            for d in dims:
                if d >= 0:
                    x = self.find(d)
                    if narrow and x and self.made[x] is None and self.low[x] == 1 and uniform() < 0.4:
                        self.equate(0, x)
                        x = 0
                    if not x:
                        ones |= bit
                bit <<= 1
        count = len(site.structures)
        # Some structures do not fit the sizes at hand (a reduction of axes of size 1).
        for _ in range(STRUCTURES if count > 1 else 1):
            structure = int(uniform() * count)
            flats = site.table.get((structure, ones))
            if flats is None:
                flats = site.flats(structure, ones)
            if flats:
                break
        else:
            return None
        flat = flats[int(uniform() * len(flats))] if len(flats) > 1 else flats[0]
        cells = [-1] * flat.locals
        later: list[tuple[int, Any]] | None = None
        for d, s in zip(dims, flat.slots):
            if d < 0:
                continue
            if s.__class__ is int:
                if s >= 0:
                    k = cells[s]
                    if k < 0:
                        cells[s] = d
                    elif k != d and not self.equate(k, d):
                        return None
                elif not self.equate(self.constant(-1 - s), d):
                    return None
            elif later is None:
                later = [(d, s)]
            else:
                later.append((d, s))
        for n in flat.two:
            if cells[n] >= 0 and not self.at_least(cells[n], 2):
                return None
        if self.dirty != _NEVER and not self.sweep():
            return None
        scale = (1.0, 1.0, 0.8, 0.5)[trial]
        own = []
        for n, low, rank in flat.free:
            if cells[n] < 0:
                cells[n] = x = self.new(self.draw(low, rank, scale), None, low)
                self.ranks[x] = rank
                own.append(x)
        if not flat.simple and not self._conditions(flat, cells, own, later):
            return None
        if later is not None:
            for d, (f, args) in later:
                x = self.computed(f, tuple([cells[k] for k in args]))
                if x < 0 or not self.equate(x, d):
                    return None
            if self.dirty != _NEVER and not self.sweep():
                return None
        shapes = []
        for slot in fresh:
            start = site.starts[slot]
            shape = self._shape(flat.slots[start : start + site.ranks[slot]], cells)
            if shape is None:
                return None
            shapes.append(shape)
        results = []
        for codes in flat.results:
            shape = self._shape(codes, cells)
            if shape is None:
                return None
            results.append(shape)
        return flat, cells, results, shapes

    def _nudge(self, dims: Sequence[int]) -> bool:
        """Draw the sizes on which a call's operands depend again, above 1; False where other calls then do not hold."""
        todo, seen = [d for d in dims if d > 0], set()
        while todo:
            x = self.find(todo.pop())
            if x in seen:
                continue
            seen.add(x)
            made = self.made[x]
            if made is None:
                if self.random() < 0.5:
                    self.value[x] = self.draw(max(2, self.low[x]), self.ranks.get(x, 2), 0.8)
                    self.dirty = min(self.dirty, self.born[x])
            elif made.__class__ is tuple:
                todo += made[1]
        return self.dirty == _NEVER or self.sweep()

    def _shape(self, codes: Sequence[Any], cells: Sequence[int]) -> list[int] | None:
        value = self.value
        shape = []
        count = 1
        for c in codes:
            if c.__class__ is int:
                x = cells[c] if c >= 0 else self.constant(-1 - c)
            else:
                x = self.computed(c[0], tuple([cells[k] for k in c[1]]))
                if x < 0:
                    return None
            shape.append(x)
            count *= value[x]
        if not 1 <= count <= self.most:
            return None
        if shape:
            key = tuple(shape)
            at = self.numels.get(key, _NEVER)
            items = self.items
            if at >= len(items) or items[at][1] != key:
                self.numels[key] = len(items)
                items.append((_NUMEL, key, None, None))
        return shape

    def _conditions(self, flat: Flat, cells: list[int], own: Sequence[int], later: Any) -> bool:
        """Draw attributes until the call's own conditions hold; the sizes ``own`` that it brings along are drawn again, too."""
        cell_count, item_count = len(self.value), len(self.items)
        value, given = self.value, cells.copy()
        for trial in range(4):
            if trial:
                del value[cell_count:], self.made[cell_count:], self.parent[cell_count:], self.low[cell_count:]
                del self.born[cell_count:], self.items[item_count:]
                cells[:] = given
                for x in own:
                    value[x] = self.draw(self.low[x], self.ranks[x], 1.1 - 0.2 * trial)
            if later is not None:
                self._towards(cells, own, later)
            for left, right in flat.balances:
                self._balance(cells, own, left, right)
            try:
                if (
                    all(value[x] >= self.low[x] for x in own)
                    and self._factors(flat, cells)
                    and self._numbers(flat, cells)
                ):
                    return True
            except ZeroDivisionError:
                pass
            if not own:
                return False
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

    def _factors(self, flat: Flat, cells: list[int]) -> bool:
        value = self.value
        for group, size in flat.factors:
            if size.__class__ is int:
                whole = cells[size] if size >= 0 else self.constant(-1 - size)
            else:
                whole = self.computed(size[0], tuple([cells[k] for k in size[1]]))
                if whole < 0:
                    return False
            rest = value[whole]
            made = []
            for k, n in enumerate(group):
                v = rest if k == len(group) - 1 else divisor(rest, self.random)
                rest //= v
                cells[n] = self.new(v, _SET)
                made.append(cells[n])
            self.items.append((_FACTORS, tuple(made), None, whole))
            for n in group:
                if n in flat.late:
                    if value[cells[n]] < 2:
                        return False
                    self.low[cells[n]] = 2
                    self.items.append((_LOW, cells[n], None, None))
        return True

    def _numbers(self, flat: Flat, cells: list[int]) -> bool:
        """Draw the attributes of a call in order, each again as long as a condition that it decides does not hold."""
        value, items = self.value, self.items
        for n, _, _ in flat.numbers:
            cells[n] = self.new(0, _NUMBER, -(2**31))
        own: list[Any] = []
        before, parts = flat.plan
        for f, args, least in before:
            at = tuple([cells[k] for k in args])
            v = f(value, at)
            if v < least:  # truth is 1
                return False
            items.append((_PRODUCT if least > 1 else _CHECK, 0, f, at))
        k, retries = 0, 12
        while k < len(parts):
            n, lows, highs, low, decided = parts[k]
            if k == len(own):
                own.append(
                    (
                        cells[n],
                        [(f, tuple([cells[m] for m in args])) for f, args in lows],
                        [(f, tuple([cells[m] for m in args])) for f, args in highs],
                        [(f, tuple([cells[m] for m in args]), least, back) for f, args, least, back in decided],
                    )
                )
            x, lower, upper, conditions = own[k]
            lo, hi = bounds(value, lower, upper)
            if low > 1 and (lo is None or lo < low):
                lo = low
            v = self.number(lo, hi)
            k += 1
            if v is None:
                back = 0
            else:
                value[x] = v
                for f, at, least, again in conditions:
                    if f(value, at) < least:
                        back = again
                        break
                else:
                    continue
            retries -= 1
            if not retries:
                return False
            k = back
        for x, lower, upper, conditions in own:
            items.append((_BOUNDED, x, None, (lower, upper)))
            items += [(_PRODUCT if least > 1 else _CHECK, 0, f, at) for f, at, least, _ in conditions]
        for n in flat.late:
            if self.made[cells[n]] == _NUMBER:
                self.low[cells[n]] = 2
                items.append((_LOW, cells[n], None, None))
        return True

    def number(self, lo: int | None, hi: int | None) -> int | None:
        """Return a value of an attribute between bounds, None where there is none."""
        uniform = self.random
        if lo is None:
            if hi is None:
                return _SMALL[int(uniform() * len(_SMALL))]
            lo = max(0, hi - 8)
        elif hi is None:  # strides and dilations: mostly the least
            return lo + _EXCESS[int(uniform() * len(_EXCESS))]
        if hi < lo:
            return None
        if hi - lo > 8 and uniform() < 0.5:
            hi = lo + 4
        return lo + int(uniform() * (hi - lo + 1))


def bounds(value: Sequence[int], lows: Sequence[Any], highs: Sequence[Any]) -> tuple[int | None, int | None]:
    """Return the largest lower and the smallest upper bound."""
    lo = hi = None
    for f, args in lows:
        v = f(value, args)
        lo = v if lo is None or v > lo else lo
    for f, args in highs:
        v = f(value, args)
        hi = v if hi is None or v < hi else hi
    return lo, hi


def divisor(n: int, uniform: Any) -> int:
    """Return a divisor of ``n`` made of a random part of its prime factors."""
    out, p = 1, 2
    while p * p <= n:
        while n % p == 0:
            n //= p
            if uniform() < 0.5:
                out *= p
        p += 1
    if n > 1 and uniform() < 0.5:
        out *= n
    return out


def laws(profile: Profile, max_rank: int) -> list[tuple[int, float]]:
    """Return, for each rank, the largest size that a dimension is drawn from, and the logarithm of its successor."""
    out = []
    for rank in range(max_rank + 2):
        cap = profile.max_dim
        if rank > 1:
            cap = min(cap, int(profile.max_numel ** (1.6 / rank)) + 1)
        out.append((cap, math.log(cap + 1)))
    return out
