"""Sizes of a program as it is built: every dimension is a cell that has its value at once.

A cell is drawn, constant, or computed from others.  Where two cells must be equal, one takes the other's value and what depends
on it is computed again.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any

from .flat import Function
from .profiles import Profile
from .sites import Flat

#: Values of attributes that nothing bounds.
_SMALL = (-2, -1, 1, 2, 3)
#: What is added to the lower bound of an attribute that has no upper one.
EXCESS = (0, 0, 0, 0, 0, 0, 0, 1, 1, 2)
#: The same, for a call that computes nothing with the least.
_EAGER = (0, 1, 1, 1, 2, 2, 3)
#: Times that a call's attributes are drawn for the sizes at hand.
_NUMBERS = 12
CONSTANT, SET, NUMBER = "constant", "set", "number"
#: Times that a size is drawn for a condition that does not hold.
_MENDS = 6
#: Times that values of drawn cells are changed in one pass over the conditions.
_REPAIRS = 12
NEVER = 1 << 30
FORMULA, NUMEL, CALL, REPAIR, FACTORS, EQUAL, LOW = range(7)


def ends(local: Sequence[int], lo: int | None, lows: Any, hi: int | None, highs: Any) -> tuple[int | None, int | None]:
    """Return the ends of a number's range: the constant ones, narrowed by functions of a call's locals."""
    for f, args in lows:
        v = f(local, args)
        if lo is None or v > lo:
            lo = v
    for f, args in highs:
        v = f(local, args)
        if hi is None or v < hi:
            hi = v
    return lo, hi


class Cells:
    """The cells of one program under construction.  Cell 0 is the constant 1.

    Attributes:
        value: of each cell.
        made: how each cell has its value: None (drawn), a constant, a function with its arguments, ...
        parent: the cell from which each takes its value, itself for most.
        low: the least value of each.
        born: the number of items when each was made.
        items: what was computed and must hold, in order: ``(kind, cell or cells, function, arguments)``.
        ranks: of drawn cells: the largest rank of a tensor that they were made for.
        dirty: the first item that may not hold.
        smaller: whether of two drawn cells that must be equal the smaller one's value is taken, not the older one's.
        eager: whether attributes are drawn away from their least values, and sizes for them rather than they for the sizes.
    """

    def __init__(self, profile: Profile, rng: random.Random, laws: Sequence[tuple[int, float]]) -> None:
        self.profile, self.laws = profile, laws
        self.most = profile.max_numel
        self.plain = not profile.menu
        self.random = rng.random
        self.value = [1]
        self.made: list[Any] = [CONSTANT]
        self.parent = [0]
        self.low = [1]
        self.born = [0]
        self.items: list[Any] = []
        self.constants = {1: 0}
        self.ranks: dict[int, int] = {}
        self.dirty = NEVER
        self.smaller = self.eager = False

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
        if found is None or found >= len(self.value) or self.value[found] != value or self.made[found] != CONSTANT:
            found = self.constants[value] = self.new(value, CONSTANT)
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

    def number(self, lo: int | None, hi: int | None) -> int | None:
        """Return a value of an attribute between bounds, None where there is none."""
        uniform = self.random
        if lo is None:
            if hi is None:
                return _SMALL[int(uniform() * len(_SMALL))]
            lo = max(0, hi - 8)
        elif hi is None:
            return lo + EXCESS[int(uniform() * len(EXCESS))]
        if hi <= lo:
            return lo if hi == lo else None
        if hi - lo > 8 and uniform() < 0.5:
            hi = lo + 4
        return lo + int(uniform() * (hi - lo + 1))

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
        self.dirty = NEVER

    def shorten(self, cells: int, items: int) -> None:
        """Forget the last cells and items, where nothing else has changed since."""
        del self.value[cells:], self.made[cells:], self.parent[cells:], self.low[cells:]
        del self.born[cells:], self.items[items:]

    # -- equality -------------------------------------------------------------------------------------------------

    def equate(self, a: int, b: int) -> bool:
        """Make two cells equal, or return False; :meth:`sweep` carries it out."""
        a, b = self.find(a), self.find(b)
        if a == b:
            return True
        made, value = self.made, self.value
        if made[a] is None:
            if made[b] is not None:
                return self._assign(a, b, 0)
            first = value[a] > value[b] if self.smaller else self.born[a] >= self.born[b]
            return (
                self._assign(a, b, 0) or self._assign(b, a, 0)
                if first
                else self._assign(b, a, 0) or self._assign(a, b, 0)
            )
        if made[b] is None:
            return self._assign(b, a, 0)
        if value[a] == value[b]:
            self.items.append((EQUAL, a, None, b))
            return True
        return self._assign(a, b, 3) or self._assign(b, a, 3)

    def _assign(self, x: int, y: int, depth: int) -> bool:
        """Make cell ``x`` take the value of ``y``, by changing a drawn cell on which ``x`` depends."""
        x = self.find(x)
        if x == y:
            return True
        made, value = self.made[x], self.value
        if made is None or made == NUMBER:
            v, low = value[y], self.low[x]
            if v < low:
                return False
            if low > self.low[y]:
                self.low[y] = low
            if made is None:
                self.parent[x] = y
            self.made[x] = SET
            if v != value[x]:
                value[x] = v
                if self.born[x] < self.dirty:
                    self.dirty = self.born[x]
            self.items.append((REPAIR, x, None, y))
            return True
        if not depth or made.__class__ is not tuple:
            return False
        whole, args = made
        for k, arg in enumerate(args):
            if args.count(arg) > 1 or self.made[self.find(arg)] == CONSTANT:
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
                    self.items.append((EQUAL, x, None, y))
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
        self.items.append((FORMULA, x, f.run, args))
        return x

    def at_least(self, x: int, low: int) -> bool:
        """Bound a cell from below, or return False; :meth:`sweep` carries it out."""
        x = self.find(x)
        if self.low[x] >= low:
            return True
        if self.value[x] < low:
            made = self.made[x]
            if made is not None:
                if made.__class__ is not tuple:
                    return False
                wish = self.new(self.draw(low, 2, 0.5), None, low)
                self.ranks[wish] = 2
                return self._assign(x, wish, 3)
            self.value[x] = self.draw(low, self.ranks.get(x, 2), 1.0)
            self.dirty = min(self.dirty, self.born[x])
        self.low[x] = low
        self.items.append((LOW, x, None, None))
        return True

    # -- conditions -----------------------------------------------------------------------------------------------

    def sweep(self) -> bool:
        """Compute and check again what may depend on changed cells; False where something does not hold."""
        value, items, low, most = self.value, self.items, self.low, self.most
        at, n, repairs = self.dirty, len(self.items), _REPAIRS
        self.dirty = NEVER
        while at < n:
            kind, x, f, args = items[at]
            at += 1
            if kind == NUMEL:
                count = 1
                for d in x:
                    count *= value[d]
                if not 1 <= count <= most:
                    repairs -= 1
                    from_ = self._smaller(x, count) if repairs >= 0 else -1
                    if from_ < 0:
                        return False
                    at = min(at - 1, from_)
            elif kind == FORMULA:
                v = f(value, args)
                if not low[x] <= v <= most:
                    return False
                value[x] = v
            elif kind == REPAIR:
                v = value[args]
                if v != value[x]:
                    repairs -= 1
                    if repairs < 0 or v < low[x]:
                        return False
                    value[x] = v
                    at = self.born[x]
            elif kind == CALL:
                local = [value[c] for c in args]
                # What a call asks for hangs on its own cells alone.
                if local != x[0]:
                    wrong = self.unfit(f, args, local)
                    if wrong is None:
                        x[0] = local
                        continue
                    repairs -= 1
                    f, args, least = wrong
                    from_ = self.mended(f, args, least) if args and repairs >= 0 else -1
                    if from_ < 0:
                        return False
                    # What the size was drawn for is looked at again, too, where it stands before.
                    at = min(at - 1, from_)
            elif kind == EQUAL:
                if value[x] != value[args]:
                    return False
            elif kind == LOW:
                if value[x] < low[x]:
                    return False
            elif math.prod([value[k] for k in x]) != value[args]:
                rest = value[args]
                for k in x[:-1]:
                    value[k] = divisor(rest, self.random)
                    rest //= value[k]
                value[x[-1]] = rest
        return True

    def unfit(self, flat: Flat, cells: Sequence[int], local: list[int]) -> tuple[Any, list[int], int] | None:
        """Draw the numbers of a call in order, each again as long as a condition that it decides does not hold.

        Args:
            flat: the call's template.
            cells: of its locals, -1 for numbers that have none yet.  Others are kept where they fit.
            local: the values of its locals; numbers are put into it.

        Returns:
            None where every condition of the call holds, else one that does not: a function of values and cells, the cells of
            sizes that it reads, and the least value that it may have.  No cells: numbers are at fault.
        """
        for f, args, least in flat.before:
            if f(local, args) < least:  # truth is 1
                return f, [cells[k] for k in args], least
        value, made, parts, uniform = self.value, self.made, flat.parts, self.random
        k, seen, n, retries = 0, -1, len(parts), _NUMBERS
        while k < n:
            part, lo, lows, hi, highs, back, decided = parts[k]
            lo, hi = ends(local, lo, lows, hi, highs)
            x = cells[part]
            drawn: int | None
            if x < 0 or k <= seen or (lo is not None and local[part] < lo) or (hi is not None and local[part] > hi):
                if x >= 0 and made[x] != NUMBER:
                    drawn = None
                elif hi is None and lo is not None:  # strides and dilations: mostly the least
                    excess = _EAGER if self.eager else EXCESS
                    drawn = lo + excess[int(uniform() * len(excess))]
                else:
                    drawn = self.number(lo, hi)
            else:
                drawn = local[part]
            if drawn is not None:
                local[part] = drawn
                if x >= 0:
                    value[x] = drawn
                for f, args, least, first in decided:
                    if f(local, args) < least:
                        back = first
                        break
                else:
                    k += 1
                    continue
                if not retries or self.eager:  # these numbers, then, and other sizes
                    return _of_sizes(local, cells, args, partial(_holds, f, args, least))
            elif back < 0 or not retries:
                read = [k for _, args in (*lows, *highs) for k in args]
                return _of_sizes(local, cells, read, partial(_room, parts[k][1:5]))
            retries -= 1
            if k > seen:
                seen = k
            k = back
        return None

    def mended(self, f: Any, args: Sequence[int], least: int) -> int:
        """Draw one of the sizes that a condition reads again until it holds; where all are computed, one that they hang on.

        Returns:
            The item from which on others may not hold then, or -1 where no draw helped, and nothing has changed.
        """
        value, made = self.value, self.made
        drawn = [x for x in map(self.find, args) if made[x] is None]
        if not drawn:
            drawn = self.sources(args)
            if not drawn:
                return -1
            x = drawn[int(self.random() * len(drawn))]
            value[x] = self.draw(self.low[x], self.ranks.get(x, 2), 1.0)
            return self.born[x]
        for _ in range(_MENDS):
            x = drawn[int(self.random() * len(drawn))]
            old = value[x]
            # All that take their value from it have it, too.
            value[x] = self.draw(self.low[x], self.ranks.get(x, 2), 0.9)
            if f(value, [self.find(a) for a in args]) >= least:
                return self.born[x]
            value[x] = old
        # Where few values hold, the least often do: a product that is 1.
        olds = [value[x] for x in drawn]
        for x in drawn:
            value[x] = self.low[x]
        if f(value, [self.find(a) for a in args]) >= least:
            return min([self.born[x] for x in drawn])
        for x, old in zip(drawn, olds, strict=True):
            value[x] = old
        return -1

    def sources(self, cells: Sequence[int]) -> list[int]:
        """Return the drawn cells from which others have their value, directly or not."""
        todo, seen, drawn = list(cells), set(), []
        while todo:
            x = self.find(todo.pop())
            if x not in seen:
                seen.add(x)
                made = self.made[x]
                if made is None:
                    drawn.append(x)
                elif made.__class__ is tuple:
                    todo += made[1]
        return drawn

    def _smaller(self, shape: Sequence[int], count: int) -> int:
        """Draw one dimension of a tensor with too many elements again, among the sizes that fit; as :meth:`mended`."""
        value, made, low = self.value, self.made, self.low
        drawn = [x for x in map(self.find, shape) if made[x] is None and value[x] > low[x]]
        while drawn and count:
            x = drawn.pop(int(self.random() * len(drawn)))
            limit = self.most * value[x] // count
            if limit >= low[x]:
                a = math.log(low[x])
                value[x] = int(math.exp(a + (math.log(limit + 1) - a) * self.random()))
                return self.born[x]
        return -1

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


def _holds(f: Any, args: Sequence[int], least: int, local: Sequence[int]) -> bool:
    return bool(f(local, args) >= least)


def _room(bounds: Any, local: Sequence[int]) -> bool:
    """Return whether bounds leave a number a value."""
    lo, hi = ends(local, *bounds)
    return lo is None or hi is None or lo <= hi


def _of_sizes(
    local: Sequence[int], cells: Sequence[int], args: Iterable[int], test: Callable[[list[int]], bool]
) -> Any:
    """Return a condition on a call's locals as one on the sizes among those that it reads, as :meth:`Cells.unfit` does."""
    places = [k for k in dict.fromkeys(args) if cells[k] >= 0]

    def holds(value: Sequence[int], at: Sequence[int]) -> bool:
        row = list(local)
        for k, x in zip(places, at, strict=True):
            row[k] = value[x]
        return test(row)

    return holds, [cells[k] for k in places], 1


def laws(profile: Profile, max_rank: int) -> list[tuple[int, float]]:
    """Return, for each rank, the largest size that a dimension is drawn from, and the logarithm of its successor."""
    out = []
    for rank in range(max_rank + 2):
        cap = profile.max_dim
        if rank > 1:
            cap = min(cap, int(profile.max_numel ** (1.6 / rank)) + 1)
        out.append((cap, math.log(cap + 1)))
    return out
