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

from .calls import Template
from .profiles import Profile

#: Values of attributes that nothing bounds.
_SMALL = (-2, -1, 1, 2, 3)
#: What is added to the lower bound of an attribute that has no upper one.
_EXCESS = (0, 0, 0, 0, 0, 0, 0, 1, 1, 2)


class ConflictError(Exception):
    """Two dimensions cannot be equal; expected during a search."""


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
            args: tuple[int, ...] = made[2]
            return args
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
                return self._solve(a, b)
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

    def _solve(self, a: int, b: int) -> int:
        """Make two defined classes one by defining something that one of them depends on through the other."""
        for x, y in ((a, b), (b, a)):
            made = self.made[x]
            if made[0] != "f":
                continue
            formula, args = made[1], made[2]
            for i, arg in enumerate(args):
                r = self.find(arg)
                known = self.made[r]
                if (known is not None and known[0] != "n") or any(
                    self.find(o) == r for k, o in enumerate(args) if k != i
                ):
                    continue
                inverse = formula.inverse(i)
                if inverse is None or self.depends(y, r):
                    continue
                others = [o for k, o in enumerate(args) if k != i]
                if any(self.depends(o, r) for o in others):
                    continue
                if known is not None:  # the bounds that it would have been drawn in
                    self.checks += [(_bound(f, ">="), (r, *at)) for f, at in known[1]]
                    self.checks += [(_bound(f, "<="), (r, *at)) for f, at in known[2]]
                self.checks.append((_equality(formula), (y, *args)))
                self.made[r] = ("f", inverse, (y, *others))
                self.made[x] = None
                self.parent[x] = y
                self.low[y] = max(self.low[x], self.low[y])
                return y
        raise ConflictError

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
            self.checks.append((_equality(slot[0]), (d, *args)))


class _Equal:
    """A condition ``first == formula(rest)``."""

    def __init__(self, formula: Any) -> None:
        self.text = f"a0 == ({formula.text})"
        self.formula = formula
        self.function = lambda first, *rest: first == formula.function(*rest)


_EQUALS: dict[Any, _Equal] = {}


class _Bound:
    """A condition ``first >= formula(rest)``, or ``<=``."""

    def __init__(self, formula: Any, op: str) -> None:
        self.formula, self.op = formula, op
        f = formula.function
        if op == ">=":
            self.function = lambda first, *rest: first >= f(*rest)
        else:
            self.function = lambda first, *rest: first <= f(*rest)


def _bound(formula: Any, op: str) -> _Bound:
    return _Bound(formula, op)


def _equality(formula: Any) -> _Equal:
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
        self.law: list[tuple[int, int, int, float, float]] = []
        for x in self.roots:
            cap = profile.max_dim
            if rank.get(x, 0) > 1:
                cap = min(cap, int(profile.max_numel ** (1.6 / rank[x])) + 1)
            low = sizes.low[x]
            if low > cap:
                cap = low
            self.law.append((x, low, cap, math.log(low), math.log(cap + 1)))
        self.steps = self._program()
        self._blame: dict[int, list[Any]] = {}

    def _program(self) -> list[tuple[str, int, Any, int]]:
        """Return the computations in order, each condition as early as its arguments are known.

        A step is ``(kind, class, what, back)``: ``back`` is where to go on after a failure, the first of the draws of
        attributes that the failure may be due to, or -1 for a failure that is due to the free sizes.
        """
        find = self.sizes.find
        known = set(self.roots) | {x for x, _ in self.constants} | {0}
        waiting: list[tuple[str, Any, set[int]]] = []
        for f, args in self.sizes.checks:
            classes = [find(a) for a in args]
            waiting.append(("check", (f.function, classes), set(classes)))
        for f, args in self.sizes.products:
            classes = [find(a) for a in args]
            waiting.append(("product", (f.function, classes), set(classes)))
        for shape in self.tensors:
            if shape:
                waiting.append(("numel", shape, set(shape)))
        steps: list[tuple[str, int, Any, int]] = []
        drawn: dict[int, int] = {}  # class -> the last draw that it depends on, as a place in `steps`
        run = -1  # where the present run of draws begins
        begin: dict[int, int] = {}

        def settle() -> None:
            left = []
            for item in waiting:
                kind, what, needs = item
                if needs <= known:
                    last = max((drawn.get(x, -1) for x in needs), default=-1)
                    steps.append((kind, 0, what, begin.get(last, -1)))
                else:
                    left.append(item)
            waiting[:] = left

        settle()
        for x, m in self.order:
            compiled = self._compiled(m)
            last = max((drawn.get(find(a), -1) for a in self.sizes.arguments(m)), default=-1)
            if m[0] != "f":
                at = len(steps)
                if run < 0 or steps[-1][0] == "check" or steps[-1][0] == "f":
                    run = at
                begin[at] = run
                drawn[x] = at
                steps.append((m[0], x, compiled, begin.get(last, -1) if last >= 0 else -1))
            else:
                drawn[x] = last
                steps.append(("f", x, compiled, begin.get(last, -1)))
            known.add(x)
            if any(x in needs for _, _, needs in waiting):
                settle()
        return steps

    def _compiled(self, m: Any) -> Any:
        find = self.sizes.find
        if m[0] == "f":
            return m[1].function, [find(a) for a in m[2]]
        if m[0] == "n":
            return [[(f.function, [find(a) for a in args]) for f, args in bounds] for bounds in (m[1], m[2])]
        return [find(n) for n in m[1][: m[3]]], find(m[2]), m[3] == len(m[1]) - 1

    def draw_roots(self, rng: random.Random, value: list[int], law: list[Any], scale: float) -> None:
        """Draw free classes; ``scale`` below 1 shortens the range of sizes on a log scale."""
        p = self.profile
        uniform, exp = rng.random, math.exp
        for x, low, cap, a, b in law:
            if p.menu and uniform() < p.menu_share:
                n = p.menu[int(uniform() * len(p.menu))]
                if low <= n <= cap * scale:
                    value[x] = n
                    continue
            value[x] = max(low, int(exp(a + (b - a) * scale * uniform())))

    def blamed(self, step: int) -> list[Any]:
        """Return the laws of the free sizes on which the failure of a step depends."""
        found = self._blame.get(step)
        if found is None:
            kind, x, what, _ = self.steps[step]
            if kind in ("f", "check", "product"):
                todo = [x, *what[1]] if kind == "f" else list(what[1])
            elif kind == "numel":
                todo = list(what)
            elif kind == "n":
                todo = [a for bounds in what for _, args in bounds for a in args]
            else:
                todo = [what[1]]
            made, find = dict(self.order), self.sizes.find
            seen: set[int] = set()
            while todo:
                y = find(todo.pop())
                if y not in seen:
                    seen.add(y)
                    if y in made:
                        todo.extend(self.sizes.arguments(made[y]))
            found = self._blame[step] = [law for law in self.law if law[0] in seen]
        return found

    def complete(self, rng: random.Random, value: list[int]) -> int:
        """Compute the defined classes from the free ones.

        Returns:
            -1 where every bound holds, else the step that failed, or the number of steps where everything is too small.
        """
        low = self.sizes.low
        most = self.profile.max_numel
        steps = self.steps
        i, n, retries = 0, len(steps), 10 + len(steps) // 4
        while i < n:
            kind, x, what, back = steps[i]
            good = True
            if kind == "f":
                f, args = what
                try:
                    v = f(*[value[a] for a in args])
                    good = low[x] <= v <= most
                    value[x] = v
                except ZeroDivisionError:
                    good = False
            elif kind == "n":
                number = self._number(what[0], what[1], rng, value)
                good = number is not None
                value[x] = number or 0
            elif kind == "numel":
                count = 1
                for d in what:
                    count *= value[d]
                good = 1 <= count <= most
            elif kind == "p":
                before, whole, final = what
                rest = value[whole]
                for b in before:
                    rest //= value[b]
                v = rest if final else _divisor(rest, rng)
                good = low[x] <= v
                value[x] = v
            else:
                f, args = what
                try:
                    v = f(*[value[a] for a in args])
                    good = v >= 2 if kind == "product" else bool(v)
                except ZeroDivisionError:
                    good = False
            if good:
                i += 1
            elif back < 0 or not retries:
                return i
            else:
                # The attributes of a call are drawn until its own conditions hold.
                retries -= 1
                i = back
        if self.profile.min_numel > 1:
            if max((math.prod([value[d] for d in t]) for t in self.tensors), default=1) < self.profile.min_numel:
                return n
        return -1

    def holds(self, value: list[int]) -> bool:
        """Return whether given values of all classes satisfy every condition."""
        for kind, x, what, _ in self.steps:
            if kind in ("n", "p"):
                continue
            if kind == "numel":
                good = 1 <= math.prod([value[d] for d in what]) <= self.profile.max_numel
            else:
                f, args = what
                try:
                    v = f(*[value[a] for a in args])
                except ZeroDivisionError:
                    return False
                good = value[x] == v if kind == "f" else v >= 2 if kind == "product" else bool(v)
            if not good:
                return False
        return max((math.prod([value[d] for d in t]) for t in self.tensors), default=1) >= self.profile.min_numel

    def _number(self, lows: Any, highs: Any, rng: random.Random, value: list[int]) -> int | None:
        lo: int | None = None
        hi: int | None = None
        for f, args in lows:
            v = f(*[value[a] for a in args])
            lo = v if lo is None or v > lo else lo
        for f, args in highs:
            v = f(*[value[a] for a in args])
            hi = v if hi is None or v < hi else hi
        uniform = rng.random
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

    def sample(self, rng: random.Random, tries: int) -> list[int] | None:
        """Return the value of every class, or None where ``tries`` draws were all out of bounds."""
        value = [1] * len(self.sizes.parent)
        for x, v in self.constants:
            value[x] = v
        self.draw_roots(rng, value, self.law, 1.0)
        for n in range(tries):
            failed = self.complete(rng, value)
            if failed < 0:
                return value
            if n < tries // 4 or failed == len(self.steps):
                # Plain rejection: everything is drawn again, so that what is kept follows the law given the bounds.
                self.draw_roots(rng, value, self.law, 1.0)
            else:
                # Programs that nearly never fit: only what the failure depends on is drawn again, from shorter ranges.
                law = self.blamed(failed)
                if not law:
                    return None
                self.draw_roots(rng, value, law, max(0.1, 1.25 - n / tries))
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
