"""Guards: what must hold of a program's symbolic sizes beyond the range of each symbol.

A guard is a relation of two sizes (``S % 8 == 0``, ``B*S >= 16``), or several of which one must hold.  Relations are kept in
one normal form: positive terms on either side, no common factor, the constant on the right; so equal guards are mostly
equal values.  :class:`Facts` answers comparisons by what guards say.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import lru_cache
from typing import Any

import attrs

from .errors import Unsupported
from .evaluate import UNKNOWN, Truth, assuming
from .linear import solve, split_terms, sum_terms
from .size import (
    Quotient,
    Size,
    SizeLike,
    Symbol,
    bounds,
    compare,
    floordiv,
    maximum,
    minimum,
    modulo,
    substitute,
    symbols_of,
)

#: Relations of normal form; ``<`` and ``>`` of integers are ``<=`` and ``>=`` of neighbours.
RELATIONS = ("==", "!=", "<=", ">=")

#: Ways of deciding the relations of one clause that are followed, at most.
MAX_PATHS = 64

_NEGATED = {"==": "!=", "!=": "==", "<=": ">", ">=": "<", "<": ">=", ">": "<="}
_TURNED = {"==": "==", "!=": "!=", "<=": ">=", ">=": "<="}


@attrs.frozen(cache_hash=True)
class Relation:
    """``a op b`` over sizes, in normal form; made by :func:`relation`."""

    op: str
    a: SizeLike
    b: SizeLike

    def __str__(self) -> str:
        return f"{self.a} {self.op} {self.b}"

    def negation(self) -> Relation | bool:
        """Return what holds where this does not."""
        return relation(_NEGATED[self.op], self.a, self.b)

    def holds(self, sizes: Mapping[str, SizeLike]) -> bool | None:
        """Return its truth for the given values of symbols; None where some are missing; division by 0 is false."""
        try:
            return compare(self.op, substitute(self.a, sizes), substitute(self.b, sizes))
        except ZeroDivisionError:
            return False


@attrs.frozen
class Guard:
    """A condition that must hold: one of its relations at least."""

    alternatives: tuple[Relation, ...]

    def __str__(self) -> str:
        return " or ".join(map(str, self.alternatives))

    def holds(self, sizes: Mapping[str, SizeLike]) -> bool | None:
        """Return its truth for the given values of symbols; None where some are missing."""
        truths = [r.holds(sizes) for r in self.alternatives]
        return True if True in truths else None if None in truths else False

    def symbols(self) -> frozenset[str]:
        """Return the names of the symbols that it speaks of."""
        return frozenset(s.name for r in self.alternatives for side in (r.a, r.b) for s in symbols_of(side))

    def substitute(self, sizes: Mapping[str, SizeLike]) -> Guard | bool:
        """Return the guard with the symbols named in ``sizes`` replaced, or its truth where that decides it."""
        return any_of(relation(r.op, substitute(r.a, sizes), substitute(r.b, sizes)) for r in self.alternatives)


def any_of(relations: Iterable[Relation | bool]) -> Guard | bool:
    """Return the guard that one of ``relations`` holds; a truth value where that is decided."""
    kept: dict[Relation, None] = {}
    for r in relations:
        if r is True:
            return True
        if isinstance(r, Relation):
            kept[r] = None
    return Guard(tuple(kept)) if kept else False


# -- normal form ----------------------------------------------------------------------------------------------------


@lru_cache(1 << 14)
def relation(op: str, a: SizeLike, b: SizeLike) -> Relation | bool:
    """Return ``a op b`` in normal form, or its truth where the ranges of the symbols decide it.

    Args:
        op: ``==``, ``!=``, ``<=``, ``>=``, ``<`` or ``>``.
        a, b: sizes.
    """
    truth = compare(op, a, b)
    if truth is not None:
        return truth
    difference = a - b
    if op in ("<", ">"):
        difference, op = difference + (1 if op == "<" else -1), f"{op}="
    if op in ("==", "!="):
        remainder = _as_remainder(difference)
        if remainder is not None:
            return Relation(op, remainder, 0)
    # The constant keeps its place behind the common factor: 2*B <= 7 is B <= 3.
    terms, constant = split_terms(difference)
    factor = math.gcd(*terms.values())
    if op in ("==", "!="):
        if constant % factor:
            return op == "!="
        constant //= factor
    else:
        constant = -(-constant // factor) if op == "<=" else constant // factor
    terms = {m: c // factor for m, c in terms.items()}
    if constant == 0:
        terms = _without_common(terms)
    if next(iter(terms.values())) < 0:
        terms, constant, op = {m: -c for m, c in terms.items()}, -constant, _TURNED[op]
    left = sum_terms({m: c for m, c in terms.items() if c > 0})
    right = sum_terms({m: -c for m, c in terms.items() if c < 0}) - constant
    return Relation(op, left, right)


def _without_common(terms: dict[Any, int]) -> dict[Any, int]:
    """Drop factors of every term that are at least 1: they change neither the sign nor whether the sum is 0."""
    first = next(iter(terms))
    for atom in first:
        if bounds(Size((((atom,), 1),)))[0] >= 1 and all(atom in m for m in terms):
            rest = {}
            for m, c in terms.items():
                left = list(m)
                left.remove(atom)
                rest[tuple(left)] = c
            return _without_common(rest) if () not in rest else terms
    return terms


def _as_remainder(difference: SizeLike) -> SizeLike | None:
    """Return ``s % m`` where ``difference`` is a multiple of ``s - m*(s // m)``; None for anything else."""
    terms, constant = split_terms(difference)
    if constant:
        return None
    for monomial, c in terms.items():
        for atom in monomial:
            if not isinstance(atom, Quotient) or atom.op != "//" or not isinstance(atom.b, int) or c % atom.b:
                continue
            rest = list(monomial)
            rest.remove(atom)
            scale = sum_terms({tuple(rest): -c // atom.b})
            whole = scale * (atom.a - atom.b * Size((((atom,), 1),)))
            if whole == difference and bounds(sum_terms({tuple(rest): 1}))[0] >= 1:
                return modulo(atom.a, atom.b)
    return None


# -- facts ----------------------------------------------------------------------------------------------------------


class Facts:
    """What guards say, in a form that answers comparisons.

    Args:
        guards: all of them hold.
    """

    def __init__(self, guards: Iterable[Guard] = ()) -> None:
        self.guards = tuple(guards)
        self._replaced: dict[str, SizeLike] = {}
        self._between: dict[SizeLike, tuple[float, float]] = {}
        self._never: set[tuple[SizeLike, int]] = set()
        certain = [g.alternatives[0] for g in self.guards if len(g.alternatives) == 1]
        for r in sorted(certain, key=_learning_order):
            with contextlib.suppress(ZeroDivisionError):  # guards that contradict each other
                self._learn(r)

    def _learn(self, r: Relation) -> None:
        a, b = self._reduced(r.a), self._reduced(r.b)
        again = relation(r.op, a, b)
        if isinstance(again, bool):
            return
        if again.op == "==" and (self._learn_equal(again) or self._learn_multiple(again)):
            return
        part, constant, sign = _direction(_plain(again.a) - _plain(again.b))
        if again.op == "!=":
            self._never.add((part, -sign * constant))
            return
        lo, hi = self._between.get(part, (-math.inf, math.inf))
        at_most = {"==": True, "<=": sign > 0, ">=": sign < 0}[again.op]
        at_least = {"==": True, "<=": sign < 0, ">=": sign > 0}[again.op]
        limit = -sign * constant
        lo, hi = (max(lo, limit) if at_least else lo), (min(hi, limit) if at_most else hi)
        symbol = _alone(part)
        if symbol is not None and lo <= hi:
            # A tighter range of one symbol helps wherever the symbol stands.
            tight = Symbol(symbol.name, int(max(lo, symbol.lo)), int(min(hi, symbol.hi)))
            self._replace(symbol.name, Size((((tight,), 1),)) if tight.lo < tight.hi else tight.lo)
        self._between[part] = lo, hi

    def _learn_equal(self, r: Relation) -> bool:
        """Replace a symbol that an equation determines."""
        terms, _ = split_terms(r.a - r.b)
        for monomial, c in terms.items():
            if len(monomial) != 1 or not isinstance(monomial[0], Symbol) or abs(c) != 1:
                continue
            symbol = monomial[0]
            value = (r.a - r.b) * -c + Size(((monomial, 1),))
            if symbol.name not in {s.name for s in symbols_of(value)}:
                self._replace(symbol.name, value)
                return True
        return False

    def _learn_multiple(self, r: Relation) -> bool:
        """``S % m == 0``: replace S by m times a symbol."""
        atom = _atom(r.a)
        if r.b != 0 or not isinstance(atom, Quotient) or atom.op != "%" or not isinstance(atom.b, int):
            return False
        symbol, m = _alone(atom.a), atom.b
        if symbol is None:
            return False
        part = Symbol(f"{symbol.name}/{m}", -(-symbol.lo // m), symbol.hi // m)
        self._replace(symbol.name, m * Size((((part,), 1),)))
        return True

    def _replace(self, name: str, value: SizeLike) -> None:
        self._replaced = {k: substitute(v, {name: value}) for k, v in self._replaced.items()} | {name: value}
        self._between = {substitute(k, {name: value}): v for k, v in self._between.items()}

    def _reduced(self, size: SizeLike) -> SizeLike:
        return substitute(size, self._replaced)

    def decide(self, op: str, a: SizeLike, b: SizeLike) -> Truth:
        """Return the truth of ``a op b`` where the guards (and the ranges of symbols) decide it, else UNKNOWN."""
        try:
            difference = _plain(self._reduced(a - b))
        except ZeroDivisionError:
            return UNKNOWN
        known = compare(op, difference, 0)
        if known is not None:
            return known
        part, constant, sign = _direction(difference)
        terms, _ = split_terms(part)
        # The part may be a multiple of one that is known.
        factor = math.gcd(*terms.values())
        part = sum_terms({m: c // factor for m, c in terms.items()})
        lo, hi = bounds(part)
        known_lo, known_hi = self._between.get(part, (-math.inf, math.inf))
        lo, hi = max(lo, known_lo), min(hi, known_hi)
        lo, hi = sign * factor * lo, sign * factor * hi
        lo, hi = min(lo, hi) + constant, max(lo, hi) + constant
        if op in ("==", "!="):
            value, rest = divmod(-sign * constant, factor)
            never = rest != 0 or (part, value) in self._never or lo > 0 or hi < 0
            equal: Truth = False if never else True if lo == hi == 0 else UNKNOWN
            return equal if op == "==" or equal is UNKNOWN else not equal
        always = {"<": hi < 0, "<=": hi <= 0, ">": lo > 0, ">=": lo >= 0}[op]
        impossible = {"<": lo >= 0, "<=": lo > 0, ">": hi <= 0, ">=": hi < 0}[op]
        return True if always else False if impossible else UNKNOWN

    def simplify(self, size: SizeLike) -> SizeLike:
        """Return a size that is equal where the guards hold, without extremes and quotients that they decide."""
        if isinstance(size, int) or not self.guards:
            return size
        own = {s.name for s in symbols_of(size)}
        reduced = self._reduced(size)
        if {s.name for s in symbols_of(reduced)} <= own and _n_quotients(reduced) < _n_quotients(size):
            tight = {s.name: s for s in symbols_of(size)}
            size = substitute(reduced, {n: Size((((s,), 1),)) for n, s in tight.items()})
        total: SizeLike = 0
        for monomial, c in size.terms if isinstance(size, Size) else [((), size)]:
            product: SizeLike = c
            for atom in monomial:
                product = product * self._simple_atom(atom)
            total = total + product
        return total

    def _simple_atom(self, atom: Any) -> SizeLike:
        if isinstance(atom, Symbol):
            return Size((((atom,), 1),))
        a, b = self.simplify(atom.a), self.simplify(atom.b)
        if atom.op in ("min", "max"):
            for x, y in ((a, b), (b, a)):
                if self.decide("<=" if atom.op == "min" else ">=", x, y) is True:
                    return x
        if atom.op == "%" and self.decide("==", modulo(a, b), 0) is True:
            return 0
        return {"//": floordiv, "%": modulo, "min": minimum, "max": maximum}[atom.op](a, b)

    def implies(self, guard: Guard) -> bool:
        """Return whether the guards are known to say this one, too."""
        return guard in self.guards or any(self.decide(r.op, r.a, r.b) is True for r in guard.alternatives)


def _n_quotients(size: SizeLike) -> int:
    """Return how many quotients, remainders and extremes a size is made of."""
    if isinstance(size, int):
        return 0
    atoms = [a for monomial, _ in size.terms for a in monomial if isinstance(a, Quotient)]
    return sum(1 + _n_quotients(a.a) + _n_quotients(a.b) for a in atoms)


def _learning_order(r: Relation) -> int:
    """Equations between symbols first, then multiples: what is replaced makes the rest simpler."""
    if r.op == "==":
        return 1 if isinstance(_atom(r.a), Quotient) else 0
    return 2


def _atom(size: SizeLike) -> Any:
    if isinstance(size, Size) and len(size.terms) == 1:
        (monomial, c), *_ = size.terms
        return monomial[0] if len(monomial) == 1 and c == 1 else None
    return None


def _alone(size: SizeLike) -> Symbol | None:
    atom = _atom(size)
    return atom if isinstance(atom, Symbol) else None


def _direction(size: SizeLike) -> tuple[SizeLike, int, int]:
    """Return (part, constant, sign) with ``size == sign * part + constant`` and the first coefficient of part positive."""
    terms, constant = split_terms(size)
    sign = 1 if next(iter(terms.values())) > 0 else -1
    return sum_terms({m: sign * c for m, c in terms.items()}), constant, sign


def _plain(size: SizeLike) -> SizeLike:
    """Return ``size`` with remainders of numbers written as quotients, so that both spellings agree."""
    if isinstance(size, int):
        return size
    total: SizeLike = 0
    for monomial, c in size.terms:
        product: SizeLike = c
        for atom in monomial:
            if isinstance(atom, Quotient) and atom.op == "%" and isinstance(atom.b, int):
                inner = _plain(atom.a)
                product = product * (inner - atom.b * floordiv(inner, atom.b))
            else:
                product = product * Size((((atom,), 1),))
        total = total + product
    return total


# -- clauses --------------------------------------------------------------------------------------------------------


def conditions(test: Callable[[], Truth], facts: Facts | None = None) -> tuple[Guard, ...]:
    """Return the guards under which ``test`` is true: conditions that together are necessary and sufficient.

    The test is evaluated once for each sequence of answers to the comparisons that it makes; each sequence that makes it
    false is excluded by one guard.

    Args:
        test: evaluates a clause over symbolic sizes.
        facts: what is known.

    Raises:
        Unsupported: the clause depends on more comparisons than are followed.
    """
    known = facts or Facts()
    paths: list[tuple[bool, ...]] = [()]
    refused: list[tuple[Relation, ...]] = []
    n = 0
    # Each comparison comes up on many paths: its truth, or its relation and the opposite.
    said: dict[tuple[str, Any, Any], Any] = {}
    while paths:
        prefix, n = paths.pop(), n + 1
        if n > MAX_PATHS:
            raise Unsupported("a rule compares too many symbolic sizes")
        assumed: dict[Relation, bool] = {}

        def answer(op: str, a: Any, b: Any, prefix: tuple[bool, ...] = prefix, assumed: Any = assumed) -> Truth:
            key = (op, a, b)
            found = said.get(key)
            if found is None:
                truth = known.decide(op, a, b)
                found = said[key] = relation(op, a, b) if truth is UNKNOWN else truth
                if isinstance(found, Relation):
                    found = said[key] = (found, found.negation())
            if not isinstance(found, tuple):
                return bool(found)
            r, opposite = found
            if r in assumed:
                return bool(assumed[r])
            if opposite in assumed:
                return not assumed[opposite]
            assumed[r] = prefix[len(assumed)] if len(assumed) < len(prefix) else True
            return bool(assumed[r])

        with assuming(answer):
            truth = test()
        if truth is UNKNOWN:
            raise Unsupported("a rule depends on symbolic sizes in a way that guards cannot say")
        answers = tuple(assumed.values())
        paths += [(*answers[:k], False) for k in range(len(prefix), len(answers))]
        if not truth:
            taken = [r if yes else r.negation() for r, yes in assumed.items()]
            refused.append(tuple(r for r in taken if isinstance(r, Relation)))
    guards = [any_of(r.negation() for r in path) for path in refused]
    return simpler(g for g in guards if isinstance(g, Guard))


def simpler(guards: Iterable[Guard]) -> tuple[Guard, ...]:
    """Return an equal set of guards: without alternatives that other guards exclude, and without what others say."""
    found: dict[frozenset[Relation], Guard] = {frozenset(g.alternatives): g for g in guards}
    changed = True
    while changed:
        changed = False
        for key, g in list(found.items()):
            if any(other < key for other in found):
                del found[key]
                continue
            # (a or r) and (not r), or (a or r) and (a or not r), is a.
            for r in g.alternatives:
                opposite = r.negation()
                rest = key - {r}
                if rest and isinstance(opposite, Relation) and any(
                    opposite in other and other - {opposite} <= rest for other in found
                ):  # fmt: skip
                    del found[key]
                    found.setdefault(rest, Guard(tuple(a for a in g.alternatives if a != r)))
                    changed = True
                    break
    return tuple(found.values())


# -- values ---------------------------------------------------------------------------------------------------------


def as_function(size: SizeLike) -> Callable[[Mapping[str, int]], int]:
    """Return a function from values of the symbols to the value of ``size``; faster than substituting many times."""
    if isinstance(size, int):
        return lambda env: size
    parts = [(c, [_atom_function(a) for a in monomial]) for monomial, c in size.terms]

    def value(env: Mapping[str, int]) -> int:
        total = 0
        for c, atoms in parts:
            for f in atoms:
                c *= f(env)
            total += c
        return total

    return value


def _atom_function(atom: Any) -> Callable[[Mapping[str, int]], int]:
    if isinstance(atom, Symbol):
        name = atom.name
        return lambda env: env[name]
    a, b = as_function(atom.a), as_function(atom.b)
    plain: dict[str, Callable[[int, int], Any]] = {"//": floordiv, "%": modulo, "min": minimum, "max": maximum}
    f = plain[atom.op]
    return lambda env: int(f(a(env), b(env)))


def tightened(guards: Iterable[Guard], symbols: Iterable[Symbol]) -> tuple[tuple[Guard, ...], dict[str, range]]:
    """Return fewer guards that say the same, and the values that each symbol can take: first, last and step.

    Guards of one symbol are compared by the values that they leave, where its range is small enough to try all of them.

    Args:
        guards: all must hold.
        symbols: those of the program.
    """
    every = list(dict.fromkeys(guards))
    several = [g for g in every if len(g.symbols()) != 1]
    kept: list[Guard] = []
    left: dict[str, range] = {}
    for s in symbols:
        own = sorted((g for g in every if g.symbols() == {s.name}), key=lambda g: (len(g.alternatives), len(str(g))))
        if not own or s.hi - s.lo >= 2**17:
            kept += own
            continue
        values = list(range(s.lo, s.hi + 1))
        needed: list[tuple[Guard, set[int]]] = []
        for g in own:
            tests = [(r.op, as_function(r.a), as_function(r.b)) for r in g.alternatives]
            fits = [v for v in values if _holds(tests, {s.name: v})]
            if len(fits) < len(values):
                needed.append((g, set(values) - set(fits)))
                values = fits
        step = values[1] - values[0] if len(values) > 1 else 1
        if step > 1 and values == list(range(values[0], values[-1] + 1, step)):
            size = Size((((s,), 1),))
            regular = any_of([relation("==", modulo(size, step), values[0] % step)])
            needed = [(regular, set(range(values[0], values[-1])) - set(values))] if isinstance(regular, Guard) else []
        # What lies outside the first and the last value is said by the range.
        ends = range(values[0], values[-1] + 1) if values else range(0)
        kept += [g for g, dropped in needed if any(v in ends for v in dropped)]
        left[s.name] = ends
    return (*kept, *several), left


def _holds(tests: Any, env: Mapping[str, int]) -> bool:
    return any(compare(op, a(env), b(env)) for op, a, b in tests)


def choices(
    symbols: Iterable[Symbol], guards: Iterable[Guard], wished: Mapping[str, int], most: int = 4096
) -> Iterator[dict[str, int]]:
    """Yield values of the symbols that satisfy ranges and guards, those near ``wished`` first.

    Args:
        symbols: all that the guards speak of.
        guards: all must hold.
        wished: a value for some of them; others are wished to be small.
        most: assignments that are tried, at most.
    """
    names = sorted(symbols, key=lambda s: s.name)
    waiting = list(guards)
    budget = [most]

    def fits(env: Mapping[str, int]) -> bool:
        return all(g.holds(env) is not False for g in waiting)  # type: ignore[arg-type]

    def walk(k: int, env: dict[str, int]) -> Iterator[dict[str, int]]:
        if k == len(names):
            yield dict(env)
            return
        s = names[k]
        for value in _near(s, wished.get(s.name, 2), _solved(s.name, waiting, env)):
            if budget[0] <= 0:
                return
            budget[0] -= 1
            env[s.name] = value
            if fits(env):
                yield from walk(k + 1, env)
            del env[s.name]

    yield from walk(0, {})


def _near(s: Symbol, wished: int, solved: int | None) -> Iterator[int]:
    """Yield values of a symbol: what an equation says, or else all near the wished one, then powers of two."""
    if solved is not None:
        if s.lo <= solved <= s.hi:
            yield solved
        return
    start = min(max(wished, s.lo), s.hi)
    yield start
    for step in range(1, 257):
        for value in (start + step, start - step):
            if s.lo <= value <= s.hi:
                yield value
    for power in range(9, 31):
        if s.lo <= 2**power <= s.hi and abs(2**power - start) > 256:
            yield 2**power


def _solved(name: str, guards: Iterable[Guard], env: Mapping[str, int]) -> int | None:
    """Return the value that an equation with one symbol left gives it; None where no equation does."""
    for g in guards:
        if len(g.alternatives) != 1 or g.alternatives[0].op != "==" or g.symbols() - set(env) != {name}:
            continue
        r = g.alternatives[0]
        value = solve(substitute(r.a, env) - substitute(r.b, env), name)  # type: ignore[arg-type]
        if value is not None:
            return value
    return None
