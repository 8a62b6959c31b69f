"""Sizes of a whole program: equations between dimensions by union-find, the free ones drawn by rejection.

A dimension is a number of a class.  A class is free, a constant, or defined by a formula of other classes.  Values of free
classes are independent draws of the profile's law, kept if every bound holds, so that they follow that law conditioned on the
bounds.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterable, Sequence
from typing import Any

import attrs

from ..ir import Unsatisfiable
from .relation import Template

#: Values of attributes that nothing bounds.
_SMALL = (-2, -1, 1, 2, 3)
#: What is added to the lower bound of an attribute that has no upper one.
_EXCESS = (0, 0, 0, 0, 0, 0, 0, 1, 1, 2)


class ConflictError(Exception):
    """Two dimensions cannot be equal; expected during a search."""


@attrs.frozen
class Profile:
    """The law of free sizes and the bounds of a program.

    Attributes:
        name: for people.
        max_dim: largest free size (elements).
        max_numel: most elements of one tensor.
        min_numel: fewest elements of the largest tensor.
        menu: sizes to prefer; empty means log-uniform over ``1..max_dim``.
        menu_share: probability that a size is from the menu.
        ones: probability that a dimension that may broadcast is 1 by construction.
        max_flops: most work of one program, or None.
        min_flops: least work of one program.
        max_bytes: most bytes of all graph inputs and outputs, or None.
        max_elements: most elements of all graph inputs together, or None.
    """

    name: str
    max_dim: int
    max_numel: int
    min_numel: int = 1
    menu: tuple[int, ...] = ()
    menu_share: float = 0.0
    ones: float = 0.05
    max_flops: float | None = None
    min_flops: float = 0
    max_bytes: int | None = None
    max_elements: int | None = None


_POWERS = tuple(2**k for k in range(3, 13))
_ODD = (1, 1, 2, 3, 5, 7, 13, 15, 16, 17, 31, 32, 33, 37, 61, 63, 64, 65, 97, 127, 128, 129)

#: The dimension profiles by name.
PROFILES: dict[str, Profile] = {
    "small": Profile("small", 24, 2048),
    "bench": Profile("bench", 4096, 2**26, min_numel=2**20, menu=_POWERS, menu_share=0.5, ones=0.03, max_flops=1e12),
    "edge": Profile("edge", 129, 2**14, menu=_ODD, menu_share=0.95, ones=0.15),
}


class Sizes:
    """The dimension classes of one program under construction.  Class 0 is the constant 1."""

    def __init__(self) -> None:
        self.parent = [0]
        # None (free), ("c", value), ("f", formula, args), ("n", lows, highs), ("p", group of factors, product, place)
        self.made: list[Any] = [("c", 1)]
        self.low = [1]
        self.checks: list[tuple[Any, tuple[int, ...]]] = []
        self.products: list[Any] = []
        self.constants = {1: 0}

    def new(self, made: Any = None) -> int:
        """Return a new class, free or defined."""
        n = len(self.parent)
        self.parent.append(n)
        self.made.append(made)
        self.low.append(1)
        return n

    def mark(self) -> tuple[Any, ...]:
        """Return the present state, for :meth:`undo`."""
        return (
            self.parent.copy(), self.made.copy(), self.low.copy(), len(self.checks), len(self.products),
            self.constants.copy(),
        )  # fmt: skip

    def undo(self, mark: tuple[Any, ...]) -> None:
        """Return to a state; it may be returned to once."""
        self.parent, self.made, self.low, checks, products, self.constants = mark
        del self.checks[checks:], self.products[products:]

    def constant(self, value: int) -> int:
        """Return the class of a constant."""
        found = self.constants.get(value)
        if found is None:
            found = self.constants[value] = self.new(("c", value))
        return found

    def find(self, x: int) -> int:
        """Return the representative of a class."""
        parent = self.parent
        while parent[x] != x:
            parent[x] = x = parent[parent[x]]
        return x

    def arguments(self, made: Any) -> Iterable[int]:
        """Return the classes that a definition reads."""
        kind = made[0]
        if kind == "f":
            return made[2]  # type: ignore[no-any-return]
        if kind == "n":
            return [a for bound in (*made[1], *made[2]) for a in bound[1]]
        if kind == "p":
            return (made[2], *made[1][: made[3]])
        return ()

    def depends(self, x: int, target: int) -> bool:
        """Return whether class ``x`` is defined by ``target``, directly or not."""
        stack, seen = [x], set()
        while stack:
            y = self.find(stack.pop())
            if y == target:
                return True
            if y not in seen:
                seen.add(y)
                if self.made[y] is not None:
                    stack.extend(self.arguments(self.made[y]))
        return False

    def equate(self, a: int, b: int) -> int:
        """Make two classes one; raises ConflictError where both are defined differently."""
        a, b = self.find(a), self.find(b)
        if a == b:
            return a
        x, y = self.made[a], self.made[b]
        if x is not None and y is not None:
            same = x[0] == y[0] == "f" and x[1] is y[1] and all(map(self._same, x[2], y[2]))
            if not same:
                raise ConflictError
        elif x is None and y is not None:
            a, b = b, a
            x = y
        if x is not None and self.made[b] is None:
            if x[0] == "c":
                if x[1] < self.low[b]:
                    raise ConflictError
            elif self.depends(a, b):
                raise ConflictError
        self.parent[b] = a
        if self.low[b] > self.low[a]:
            self.low[a] = self.low[b]
        return a

    def _same(self, a: int, b: int) -> bool:
        return self.find(a) == self.find(b)

    def at_least(self, x: int, low: int) -> None:
        """Bound a class from below; raises ConflictError for a smaller constant."""
        x = self.find(x)
        made = self.made[x]
        if made is not None and made[0] == "c" and made[1] < low:
            raise ConflictError
        if self.low[x] < low:
            self.low[x] = low

    def apply(self, t: Template, dims: Sequence[int]) -> tuple[list[list[int]], list[int]]:
        """Impose a template on operand dimensions.

        Args:
            t: the template.
            dims: the classes of the operand dimensions, flattened.

        Returns:
            The classes of the results' dimensions, and of the template's local variables.

        Raises:
            ConflictError: the equations cannot hold.
        """
        local: list[int] = [-1] * t.locals
        later = None
        for d, slot in zip(dims, t.slots):
            if type(slot) is int:
                known = local[slot]
                if known < 0:
                    local[slot] = self.find(d)
                else:
                    local[slot] = self.equate(known, d)
            elif later is None:
                later = [(d, slot)]
            else:
                later.append((d, slot))
        if t.numbers:
            for number in t.numbers:
                local[number.local] = self.new(None)
        for group, _ in t.factors:
            for n in group:
                local[n] = self.new(None)
        for n, known in enumerate(local):
            if known < 0:
                local[n] = self.new()
        for number in t.numbers:
            lows = tuple((f, tuple(local[i] for i in args)) for f, args in number.lows)
            highs = tuple((f, tuple(local[i] for i in args)) for f, args in number.highs)
            self.made[local[number.local]] = ("n", lows, highs)
            self.low[local[number.local]] = -(2**31)
        for group, size in t.factors:
            whole = self._dimension(size, local)
            classes = tuple(local[n] for n in group)
            for i, n in enumerate(classes):
                self.made[n] = ("p", classes, whole, i)
        if later is not None:
            for d, slot in later:
                self._define(d, slot, local)
        for extent in t.at_least_two:
            if type(extent) is int:
                self.at_least(local[extent], 2)
            else:
                self.products.append((extent[0], tuple(local[i] for i in extent[1])))
        for f, args in t.checks:
            self.checks.append((f, tuple(local[i] for i in args)))
        return [[self._dimension(d, local) for d in shape] for shape in t.results], local

    def _dimension(self, d: Any, local: Sequence[int]) -> int:
        if type(d) is int:
            return self.find(local[d])
        if d[0] is None:
            return self.constant(d[1])
        return self.new(("f", d[0], tuple(local[i] for i in d[1])))

    def _define(self, d: int, slot: Any, local: Sequence[int]) -> None:
        d = self.find(d)
        if slot[0] is None:
            self.equate(d, self.constant(slot[1]))
            return
        args = tuple(local[i] for i in slot[1])
        made = self.made[d]
        if made is None:
            if any(self.depends(a, d) for a in args):
                raise ConflictError
            self.made[d] = ("f", slot[0], args)
        elif not (made[0] == "f" and made[1] is slot[0] and all(map(self._same, made[2], args))):
            # A size that is known already must come out the same; left to chance.
            self.checks.append((_EQUAL(slot[0]), (d, *args)))


class _Equal:
    """A condition ``first == formula(rest)``."""

    def __init__(self, formula: Any) -> None:
        self.text = f"a0 == ({formula.text})"
        self.formula = formula
        self.function = lambda first, *rest: first == formula.function(*rest)


_EQUALS: dict[Any, _Equal] = {}


def _EQUAL(formula: Any) -> _Equal:
    found = _EQUALS.get(formula)
    if found is None:
        found = _EQUALS[formula] = _Equal(formula)
    return found


class Plan:
    """The order in which the classes of a program are computed, and what must hold.

    Args:
        sizes: the classes.
        tensors: the shapes of all values.
        wanted: further classes whose value is needed (attributes).
        profile: laws and bounds.

    Raises:
        ConflictError: a definition depends on itself.
    """

    def __init__(self, sizes: Sizes, tensors: Sequence[Sequence[int]], wanted: Iterable[int], profile: Profile) -> None:
        self.sizes = sizes
        self.profile = profile
        find, made = sizes.find, sizes.made
        self.roots: list[int] = []
        self.order: list[tuple[int, Any]] = []
        state: dict[int, int] = {}
        self.constants: list[tuple[int, int]] = []

        def visit(x: int) -> None:
            x = find(x)
            seen = state.get(x)
            if seen == 2:
                return
            if seen == 1:
                raise ConflictError
            state[x] = 1
            m = made[x]
            if m is None:
                self.roots.append(x)
            elif m[0] == "c":
                self.constants.append((x, m[1]))
            else:
                for a in sizes.arguments(m):
                    visit(a)
                self.order.append((x, m))
            state[x] = 2

        self.tensors: dict[tuple[int, ...], None] = {}
        rank: dict[int, int] = {}
        for shape in tensors:
            classes = [find(d) for d in shape]
            for d in classes:
                visit(d)
                if rank.get(d, 0) < len(classes):
                    rank[d] = len(classes)
            self.tensors[tuple(sorted(d for d in classes if d))] = None
        for d in wanted:
            visit(d)
        for _, args in sizes.checks:
            for a in args:
                visit(a)
        for _, args in sizes.products:
            for a in args:
                visit(a)
        self.checks = [(f.function, [find(a) for a in args]) for f, args in sizes.checks]
        self.products = [(f.function, [find(a) for a in args]) for f, args in sizes.products]
        self.law: list[tuple[int, int, int, float, float]] = []
        for x in self.roots:
            cap = profile.max_dim
            if rank.get(x, 0) > 1:
                cap = min(cap, int(profile.max_numel ** (1.6 / rank[x])) + 1)
            low = sizes.low[x]
            if low > cap:
                cap = low
            self.law.append((x, low, cap, math.log(low), math.log(cap + 1)))
        free = set(self.roots) | {x for x, _ in self.constants}
        self.early = [t for t in self.tensors if len(t) > 1 and free.issuperset(t)]
        for t in self.early:
            del self.tensors[t]
        self.steps = [(x, m[0], m, self._compiled(m)) for x, m in self.order]

    def _compiled(self, m: Any) -> Any:
        find = self.sizes.find
        if m[0] == "f":
            return m[1].function, [find(a) for a in m[2]]
        if m[0] == "n":
            return [[(f.function, [find(a) for a in args]) for f, args in bounds] for bounds in (m[1], m[2])]
        return [find(n) for n in m[1][: m[3]]], find(m[2]), m[3] == len(m[1]) - 1

    def draw_roots(self, rng: random.Random, value: list[int], scale: float) -> None:
        """Draw every free class; ``scale`` below 1 shortens the range of sizes on a log scale."""
        p = self.profile
        uniform, exp = rng.random, math.exp
        for x, low, cap, a, b in self.law:
            if p.menu and uniform() < p.menu_share:
                n = p.menu[int(uniform() * len(p.menu))]
                if low <= n <= cap * scale:
                    value[x] = n
                    continue
            value[x] = max(low, int(exp(a + (b - a) * scale * uniform())))

    def complete(self, rng: random.Random, value: list[int]) -> bool:
        """Compute the defined classes from the free ones; return whether every bound holds."""
        p, low = self.profile, self.sizes.low
        most = p.max_numel
        biggest = 0
        for shape in self.early:
            n = 1
            for d in shape:
                n *= value[d]
            if n > most:
                return False
            if n > biggest:
                biggest = n
        for x, kind, _, compiled in self.steps:
            if kind == "f":
                f, args = compiled
                try:
                    v = f(*[value[a] for a in args])
                except ZeroDivisionError:
                    return False
            elif kind == "n":
                lows, highs = compiled
                v = self._number(lows, highs, rng, value)
                if v is None:
                    return False
            else:
                before, whole, last = compiled
                left = value[whole]
                for b in before:
                    left //= value[b]
                v = left if last else _divisor(left, rng)
            if v < low[x] or v > most:
                return False
            value[x] = v
        for f, args in self.checks:
            try:
                if not f(*[value[a] for a in args]):
                    return False
            except ZeroDivisionError:
                return False
        for f, args in self.products:
            if f(*[value[a] for a in args]) < 2:
                return False
        for shape in self.tensors:
            n = 1
            for d in shape:
                n *= value[d]
            if n > most:
                return False
            if n > biggest:
                biggest = n
        return biggest >= p.min_numel

    def _number(self, lows: Any, highs: Any, rng: random.Random, value: list[int]) -> int | None:
        lo = hi = None
        for f, args in lows:
            v = f(*[value[a] for a in args])
            lo = v if lo is None or v > lo else lo
        for f, args in highs:
            v = f(*[value[a] for a in args])
            hi = v if hi is None or v < hi else hi
        uniform = rng.random
        if lo is None and hi is None:
            return _SMALL[int(uniform() * len(_SMALL))]
        if hi is None:  # strides and dilations: mostly the least
            return lo + _EXCESS[int(uniform() * len(_EXCESS))]  # type: ignore[operator]
        if lo is None:
            lo = max(0, hi - 8)
        if hi < lo:
            return None
        if hi - lo > 8 and uniform() < 0.5:
            hi = lo + 4
        return lo + int(uniform() * (hi - lo + 1))

    def sample(self, rng: random.Random, tries: int) -> list[int] | None:
        """Return the value of every class, or None where ``tries`` draws were all out of bounds."""
        value = [1] * len(self.sizes.parent)
        for x, v in self.constants:
            value[x] = v
        for n in range(tries):
            # The first half of the draws follow the law; the others a shorter range, for programs that nearly never fit.
            scale = 1.0 if n < tries // 2 else 1.0 - 0.8 * (n - tries // 2) / (tries - tries // 2)
            self.draw_roots(rng, value, scale)
            if self.complete(rng, value):
                return value
        return None


def _divisor(n: int, rng: random.Random) -> int:
    """Return a divisor of ``n`` made of a random part of its prime factors."""
    out, p = 1, 2
    while p * p <= n:
        while n % p == 0:
            n //= p
            if rng.random() < 0.5:
                out *= p
        p += 1
    if n > 1 and rng.random() < 0.5:
        out *= n
    return out


def profile(name: str) -> Profile:
    """Return a profile by name; raises Unsatisfiable for an unknown one."""
    if name not in PROFILES:
        raise Unsatisfiable(f"unknown dimension profile '{name}', expected one of {', '.join(PROFILES)}")
    return PROFILES[name]
