"""Expressions of operator definitions: one small tree that every reading walks.

The same tree says sizes (``(H + 2*pad[0]) // stride[0]``), constraints, scalar bodies (``x * sigmoid(x)``), index bodies
(``sum{k in K} a[m, k] * b[k, n]``) and calls into PyTorch, JAX and ATen.  A reading is a fold over it with its own meaning
of names, operators and functions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, TypeAlias, Union

import attrs


@attrs.frozen
class Num:
    """A literal: int, float, bool, str or None."""

    value: int | float | bool | str | None

    # 1, 1.0 and True are equal in Python but are different literals.
    def _key(self) -> tuple[type, object]:
        return (type(self.value), repr(self.value))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Num) and self._key() == other._key()

    def __hash__(self) -> int:
        return hash(self._key())


@attrs.frozen
class Sym:
    """A name: an operand, an attribute, a dimension, an index variable or a local of ``expand``."""

    name: str


@attrs.frozen
class Pack:
    """``S..``: any number of dimensions or index variables."""

    name: str


@attrs.frozen
class Bin:
    """A binary operator: ``+ - * / // % ** == != < <= > >= and or``."""

    op: str
    a: Expr
    b: Expr


@attrs.frozen
class Unary:
    """A unary operator: ``-`` or ``not``; a negative number is a :class:`Num`, never the ``-`` of one."""

    op: str
    a: Expr


@attrs.frozen
class Call:
    """A call; in size and scalar expressions ``fn`` is a plain name, in lowering templates a dotted one."""

    fn: str
    args: tuple[Expr, ...] = ()
    kwargs: tuple[tuple[str, Expr], ...] = ()


@attrs.frozen
class Load:
    """``name[index, ...]``: an element of a tensor operand, of a list attribute or of an index pack."""

    name: str
    index: tuple[Expr, ...]


@attrs.frozen
class Lst:
    """A list ``[a, b, S..]``."""

    items: tuple[Expr, ...]


@attrs.frozen
class Fold:
    """``sum{k in K, j in J} body``: a reduction over integer ranges ``0..K-1``; combiners are those of ``reduce``."""

    combiner: str
    ranges: tuple[tuple[str, Expr], ...]
    body: Expr


@attrs.frozen
class Cond:
    """``a if test else b`` where ``test`` is decided by sizes, attributes and present operands alone."""

    test: Expr
    a: Expr
    b: Expr


Expr: TypeAlias = Union[Num, Sym, Pack, Bin, Unary, Call, Load, Lst, Fold, Cond]

#: Binding strength, weakest first; used to print with the fewest parentheses.
PRECEDENCE = {
    "if": 0, "or": 1, "and": 2, "not": 3, "==": 4, "!=": 4, "<": 4, "<=": 4, ">": 4, ">=": 4,
    "+": 5, "-": 5, "*": 6, "/": 6, "//": 6, "%": 6, "neg": 7, "**": 8,
}  # fmt: skip


def children(e: Expr) -> Iterator[Expr]:
    """Yield the direct subexpressions of ``e``, left to right."""
    match e:
        case Bin(_, a, b):
            yield from (a, b)
        case Unary(_, a):
            yield a
        case Call(_, args, kwargs):
            yield from args
            yield from (v for _, v in kwargs)
        case Load(_, items) | Lst(items):
            yield from items
        case Fold(_, ranges, body):
            yield from (v for _, v in ranges)
            yield body
        case Cond(test, a, b):
            yield from (test, a, b)


def names(e: Expr) -> set[str]:
    """Return the free names of ``e``: operands, attributes, dimensions and packs, without bound index variables."""
    match e:
        case Sym(n) | Pack(n):
            return {n}
        case Load(n, items):
            return {n}.union(*(names(i) for i in items))
        case Fold(_, ranges, body):
            bound = {n for n, _ in ranges}
            return set().union(*(names(r) for _, r in ranges)) | (names(body) - bound)
    return set().union(*(names(c) for c in children(e)))


#: Free names of expressions of definitions by identity; each with its expression, which keeps the number of it its own.
_NAMES: dict[int, tuple[Expr, frozenset[str]]] = {}
_MOST_KEPT = 1 << 14


def names_once(e: Expr) -> frozenset[str]:
    """Return :func:`names` of an expression that is asked about again and again, as those of definitions are."""
    found = _NAMES.get(id(e))
    if found is None:
        if len(_NAMES) >= _MOST_KEPT:
            _NAMES.clear()
        found = _NAMES[id(e)] = (e, frozenset(names(e)))
    return found[1]


def map_children(e: Expr, f: Callable[[Expr], Expr]) -> Expr:
    """Return ``e`` with ``f`` applied to each direct subexpression."""
    match e:
        case Bin(op, a, b):
            return Bin(op, f(a), f(b))
        case Unary(op, a):
            return Unary(op, f(a))
        case Call(fn, args, kwargs):
            return Call(fn, tuple(map(f, args)), tuple((k, f(v)) for k, v in kwargs))
        case Load(n, items):
            return Load(n, tuple(map(f, items)))
        case Lst(items):
            return Lst(tuple(map(f, items)))
        case Fold(c, ranges, body):
            return Fold(c, tuple((n, f(r)) for n, r in ranges), f(body))
        case Cond(t, a, b):
            return Cond(f(t), f(a), f(b))
    return e


def quote(text: str) -> str:
    """Return ``text`` as a string literal of the grammars, on one line."""
    for character, escaped in (("\\", "\\\\"), ('"', '\\"'), ("\n", "\\n"), ("\t", "\\t")):
        text = text.replace(character, escaped)
    return f'"{text}"'


def literal_text(value: Any) -> str:
    """Return the text of a literal as the grammars read it."""
    if isinstance(value, str):
        return value if value.isascii() and value.isidentifier() else quote(value)
    return repr(value)


def to_text(e: Expr, outer: int = 0) -> str:
    """Return canonical text that parses back to ``e``; ``outer`` is the binding strength of the context."""

    def wrap(level: int, text: str) -> str:
        return f"({text})" if level < outer else text

    match e:
        case Num(v):
            # A bare word would read back as a name, so strings are always quoted inside expressions.
            text = quote(v) if isinstance(v, str) else repr(v)
            return f"({text})" if text.startswith("-") and outer > PRECEDENCE["neg"] else text
        case Sym(n):
            return n
        case Pack(n):
            return f"{n}.."
        case Bin("**", a, b):
            return wrap(8, f"{to_text(a, 9)} ** {to_text(b, 7)}")
        case Bin(op, a, b):
            level = PRECEDENCE[op]
            left = level + 1 if level == 4 else level
            return wrap(level, f"{to_text(a, left)} {op} {to_text(b, level + 1)}")
        case Unary("not", a):
            return wrap(3, f"not {to_text(a, 3)}")
        case Unary(_, a):
            return wrap(7, f"-{to_text(a, 7)}")
        case Call(fn, args, kwargs):
            inside = [to_text(a) for a in args] + [f"{k}={to_text(v)}" for k, v in kwargs]
            return f"{fn}({', '.join(inside)})"
        case Load(n, items):
            return f"{n}[{', '.join(map(to_text, items))}]"
        case Lst(items):
            return f"[{', '.join(map(to_text, items))}]"
        case Fold(c, ranges, body):
            head = ", ".join(f"{n} in {to_text(r, 5)}" for n, r in ranges)
            return wrap(5, f"{c}{{{head}}} {to_text(body, 6)}")
        case Cond(t, a, b):
            return wrap(0, f"{to_text(a, 1)} if {to_text(t, 1)} else {to_text(b, 0)}")
    raise TypeError(e)
