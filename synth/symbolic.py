"""Symbolic execution of definitions: the conditions under which a call is valid, found by answering its comparisons.

A definition is evaluated over sizes that are symbols.  Each comparison that depends on them is a fork; the answers along one
path are conditions, and solving the equations among them leaves *free* symbols and definitions of the others.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeVar

import attrs

from ..ir import Size, SizeLike, Unsupported, VerifyError, assuming
from ..ir.size import Quotient, Symbol, compare, floordiv, substitute, symbol, symbols_of

T = TypeVar("T")

#: ``(relation, a, b, truth)``: an answer given on a path.
Condition = tuple[str, SizeLike, SizeLike, bool]


class _Path:
    """Answers comparisons: those of ``prefix`` as told, the others with True."""

    def __init__(self, prefix: list[bool]) -> None:
        self.prefix = prefix
        self.taken: list[Condition] = []
        self.memo: dict[Any, bool] = {}

    def __call__(self, op: str, a: SizeLike, b: SizeLike) -> bool:
        key = (op, a, b)
        found = self.memo.get(key)
        if found is None:
            i = len(self.taken)
            found = self.prefix[i] if i < len(self.prefix) else True
            self.taken.append((op, a, b, found))
            self.memo[key] = found
            if op == "==":
                self.memo[op, b, a] = found
        return found


def paths(run: Callable[[], T], runs: int = 24) -> Iterator[tuple[tuple[Condition, ...], T]]:
    """Yield the ways in which ``run`` succeeds, with their conditions; affirmative answers come first.

    Args:
        run: evaluates a definition; raises VerifyError or Unsupported where the answers do not fit.
        runs: limit on the number of evaluations.
    """
    prefix: list[bool] = []
    for _ in range(runs):
        path = _Path(prefix)
        try:
            with assuming(path):
                value = run()
            yield tuple(path.taken), value
        except (VerifyError, Unsupported):
            pass
        answers = [c[3] for c in path.taken]
        while answers and not answers[-1]:
            answers.pop()
        if not answers:
            return
        prefix = [*answers[:-1], False]


@attrs.frozen(eq=False)
class Formula:
    """A size or a condition as a Python function of some symbols; equal texts share one formula.

    Attributes:
        text: over ``a0, a1, ...``.
        arity: number of arguments.
        function: the compiled text.
        size: the formula as a size over ``a0, a1, ...``, where it is one.
        condition: the formula as a condition over ``a0, a1, ...``, where it is one.
        inverses: those found so far, by argument.
    """

    text: str
    arity: int
    function: Callable[..., Any]
    size: SizeLike | None = None
    condition: Condition | None = None
    inverses: dict[int, Formula | None] = attrs.field(factory=dict, repr=False)

    def inverse(self, i: int) -> Formula | None:
        """Return argument ``i`` as a formula of the result and the other arguments in order, or None.

        It holds wherever the argument exists; whether it does is for the caller to check (a quotient that is not whole).
        """
        if i not in self.inverses:
            found = None
            if isinstance(self.size, Size):
                solved = _invert(self.size, symbol("result", -(2**31)), f"a{i}")
                if solved is not None:
                    names = {"result": 0} | {f"a{k}": k + 1 for k in range(self.arity) if k != i}
                    order = list(names)
                    parts = {n: f"b{k}" for k, n in enumerate(order)}
                    renamed = substitute(solved, {n: symbol(b, -(2**31)) for n, b in parts.items()})
                    text = _spell(renamed)
                    arguments = ", ".join(parts.values())
                    function = eval(f"lambda {arguments}: {text}", {"min": min, "max": max, "__builtins__": {}})
                    found = Formula(text, len(order), function, renamed)
            self.inverses[i] = found
        return self.inverses[i]


def _invert(e: Size, target: SizeLike, name: str) -> SizeLike | None:
    """Return the symbol ``name`` of ``e == target``."""
    own = [(m, c) for m, c in e.terms if any(name in {s.name for s in symbols_of(Size((((a,), 1),)))} for a in m)]
    if len(own) != 1:
        return None
    monomial, c = own[0]
    rest = target - (e - Size((own[0],)))
    atoms = [a for a in monomial if isinstance(a, Symbol) and a.name == name]
    if len(atoms) == 1:
        others = Size(((tuple(a for a in monomial if a is not atoms[0]), c),)) if len(monomial) > 1 else c
        if isinstance(others, Size) and name in {s.name for s in symbols_of(others)}:
            return None
        return rest * c if others in (1, -1) else floordiv(rest, others)
    if len(monomial) == 1 and abs(c) == 1 and isinstance(monomial[0], Quotient) and monomial[0].op == "//":
        inner, divisor = monomial[0].a, monomial[0].b
        if isinstance(inner, Size) and not (
            isinstance(divisor, Size) and name in {s.name for s in symbols_of(divisor)}
        ):
            return _invert(inner, rest * c * divisor, name)
    return None


_FORMULAS: dict[tuple[str, int], Formula] = {}


def _spell(value: SizeLike) -> str:
    if isinstance(value, int):
        return str(value) if value >= 0 else f"({value})"
    terms = []
    for monomial, coefficient in value.terms:
        factors = [_spell_atom(a) for a in monomial]
        if coefficient != 1 or not factors:
            factors.insert(0, f"({coefficient})" if coefficient < 0 else str(coefficient))
        terms.append("*".join(factors))
    return terms[0] if len(terms) == 1 else f"({' + '.join(terms)})"


def _spell_atom(atom: Any) -> str:
    if isinstance(atom, Symbol):
        return atom.name
    assert isinstance(atom, Quotient)
    if atom.op in ("min", "max"):
        return f"{atom.op}({_spell(atom.a)}, {_spell(atom.b)})"
    return f"(({_spell(atom.a)}) {atom.op} ({_spell(atom.b)}))"


def formula(
    text: str, names: Mapping[str, int], size: SizeLike | None = None, condition: Condition | None = None
) -> tuple[Formula, tuple[int, ...]]:
    """Return a Python expression as a formula, and the numbers of its arguments.

    Args:
        text: over names of symbols.
        names: the number of each symbol.
        size: the same as a size, where it is one.
        condition: the same as a condition, where it is one.
    """
    used: dict[str, int] = {}

    def place(match: re.Match[str]) -> str:
        word = match[0]
        if word not in names:
            return word
        return f"a{used.setdefault(word, len(used))}"

    renamed = re.sub(r"[A-Za-z_]\w*", place, text)
    key = (renamed, len(used))
    found = _FORMULAS.get(key)
    if found is None:
        arguments = ", ".join(f"a{i}" for i in range(len(used)))
        # The text is arithmetic on symbols that _spell wrote; nothing from outside reaches it.
        function = eval(f"lambda {arguments}: {renamed}", {"min": min, "max": max, "__builtins__": {}})
        own: dict[str, SizeLike] = {n: symbol(f"a{i}", -(2**31)) for n, i in used.items()}
        if isinstance(size, Size):
            size = substitute(size, own)
        if condition is not None:
            op, a, b, truth = condition
            condition = (op, substitute(a, own), substitute(b, own), truth)
        found = _FORMULAS[key] = Formula(renamed, len(used), function, size, condition)
    return found, tuple(names[n] for n in used)


def size_formula(value: SizeLike, names: Mapping[str, int]) -> tuple[Formula, tuple[int, ...]]:
    """Return a size as a formula of its symbols."""
    return formula(_spell(value), names, size=value)


def condition_formula(c: Condition, names: Mapping[str, int]) -> tuple[Formula, tuple[int, ...]]:
    """Return a condition as a formula of its symbols."""
    op, a, b, truth = c
    text = f"({_spell(a)}) {op} ({_spell(b)})"
    return formula(text if truth else f"not ({text})", names, condition=c)


@attrs.frozen
class Solution:
    """What a path's conditions say.

    Attributes:
        values: solved symbols, each in terms of free ones.
        factors: products of free symbols that must equal a size: ``(names, size)``.
        checks: the remaining conditions over free symbols.
    """

    values: Mapping[str, SizeLike]
    factors: tuple[tuple[tuple[str, ...], SizeLike], ...]
    checks: tuple[Condition, ...]

    def apply(self, value: SizeLike) -> SizeLike:
        """Return a size in terms of free symbols."""
        return substitute(value, self.values) if isinstance(value, Size) else value


def solve(conditions: tuple[Condition, ...], weak: frozenset[str]) -> Solution | None:
    """Solve the equations of a path for symbols; None where they contradict each other.

    Args:
        conditions: as :func:`paths` gives them.
        weak: symbols that are rather defined by others than the other way around (attributes).
    """
    values: dict[str, SizeLike] = {}
    factors: list[tuple[tuple[str, ...], SizeLike]] = []
    checks: list[Condition] = []

    def apply(v: SizeLike) -> SizeLike:
        return substitute(v, values) if isinstance(v, Size) else v

    def define(name: str, value: SizeLike) -> None:
        for k in values:
            old = values[k]
            if isinstance(old, Size):
                values[k] = substitute(old, {name: value})
        values[name] = value

    for op, a, b, truth in conditions:
        a, b = apply(a), apply(b)
        if op != "==" or not truth:
            known = compare(op, a, b)
            if known is None:
                checks.append((op, a, b, truth))
            elif known != truth:
                return None
            continue
        difference = a - b
        if difference == 0:
            continue
        if isinstance(difference, int):
            return None
        name = _solvable(difference, weak)
        if name is not None:
            define(name, _isolate(difference, name))
            continue
        product = _product(difference, weak)
        if product is not None and not factors:
            factors.append(product)
        else:
            checks.append((op, a, b, truth))
    for old, (names, rest) in enumerate(factors):
        if any(n in values for n in names):
            return None
        factors[old] = (names, apply(rest))
    final = []
    for op, a, b, truth in checks:
        a, b = apply(a), apply(b)
        known = compare(op, a, b)
        if known is None:
            final.append((op, a, b, truth))
        elif known != truth:
            return None
    return Solution(values, tuple(factors), tuple(final))


def _solvable(p: Size, weak: frozenset[str]) -> str | None:
    """Return a symbol of ``p == 0`` that stands alone with coefficient 1 or -1, or the only one of ``c*x + k``."""
    count: dict[str, int] = {}
    for monomial, _ in p.terms:
        for atom in monomial:
            for s in [atom] if isinstance(atom, Symbol) else symbols_of(Size((((atom,), 1),))):
                count[s.name] = count.get(s.name, 0) + 1
    best: tuple[bool, str] | None = None
    for monomial, coefficient in p.terms:
        if len(monomial) == 1 and isinstance(monomial[0], Symbol) and count[monomial[0].name] == 1:
            name = monomial[0].name
            if abs(coefficient) == 1 or _constant_solution(p, coefficient) is not None:
                candidate = (name in weak, name)
                if best is None or candidate > best:
                    best = candidate
    return None if best is None else best[1]


def _constant_solution(p: Size, coefficient: int) -> int | None:
    """Return x of ``coefficient*x + k == 0`` where it is an integer."""
    rest = [c for m, c in p.terms if not m]
    if len(p.terms) - len(rest) != 1:
        return None
    k = rest[0] if rest else 0
    return -k // coefficient if k % coefficient == 0 else None


def _isolate(p: Size, name: str) -> SizeLike:
    for monomial, coefficient in p.terms:
        if len(monomial) == 1 and isinstance(monomial[0], Symbol) and monomial[0].name == name:
            rest = p - Size(((monomial, coefficient),))
            return floordiv(rest * -1, coefficient) if abs(coefficient) != 1 else rest * -coefficient
    raise KeyError(name)


def _product(p: Size, weak: frozenset[str]) -> tuple[tuple[str, ...], SizeLike] | None:
    """Return ``m == rest`` of ``p == 0`` where m is a product of distinct weak symbols that rest does not contain."""
    for monomial, coefficient in p.terms:
        names = [a.name for a in monomial if isinstance(a, Symbol)]
        if abs(coefficient) != 1 or len(names) != len(monomial) or len(set(names)) != len(names):
            continue
        if not names or not set(names) <= weak:
            continue
        rest = (p - Size(((monomial, coefficient),))) * -coefficient
        if not {s.name for s in symbols_of(rest)} & weak:
            return tuple(names), rest
    return None
