"""The values that describe calls without sizes, and what one definition says of a call over symbols."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence, Set
from functools import cache, cached_property
from typing import Any, TypeAlias

import attrs

from ..ir import (
    DrtError,
    Inferred,
    OpDef,
    Size,
    SizeLike,
    TensorType,
    evaluate,
    present_key,
)
from ..ir import expr as ex
from ..ir.opdef import Attribute, Index, Reduce
from ..ir.size import symbol, symbols_of
from .symbolic import Condition, Formula, Solution, formula, size_formula

#: Most elements of a list attribute whose values must be known before shapes are (an order of axes).
LIST_CHOICES = 130
FAR = 2**31 - 1

#: ``(dtype, rank)``.
Type: TypeAlias = tuple[str, int]

#: Ranks of an operand: a number, None where it is absent, a tuple where it is a list of tensors.
Ranks = int | None | tuple[int, ...]


@attrs.frozen
class Symbolic:
    """Marks an attribute whose value is a symbol, or a list of them of a known length."""

    length: int | None = None


@attrs.frozen(eq=False)
class Structure:
    """A call with everything fixed but sizes and numbers.

    Attributes:
        ranks: of each operand.
        attributes: those on which shapes depend; values or :class:`Symbolic`.
        results: the rank of each result.
    """

    ranks: tuple[Ranks, ...]
    attributes: tuple[tuple[str, Any], ...]
    results: tuple[int, ...]


@attrs.frozen
class Signature:
    """Operand and result types of an operator up to sizes.

    Attributes:
        op: the operator's name.
        operands: ``(dtype, rank)`` of each operand, None where absent, a tuple of pairs for a list.
        results: ``(dtype, rank)`` of each result.
        dtypes: dtype variables and dtype attributes.
        structures: the structures behind it.
    """

    op: str
    operands: tuple[Any, ...]
    results: tuple[Type, ...]
    dtypes: tuple[tuple[str, str], ...]
    structures: tuple[Structure, ...] = attrs.field(eq=False, repr=False)

    @cached_property
    def slots(self) -> tuple[tuple[int, Type], ...]:
        """Every tensor slot, list operands flattened: the position of its operand, and its type."""
        return tuple(
            (position, t)
            for position, o in enumerate(self.operands)
            if o is not None
            for t in ((o,) if isinstance(o[0], str) else o)
        )

    @cached_property
    def types(self) -> tuple[Type, ...]:
        """The type of every tensor slot."""
        return tuple(t for _, t in self.slots)

    def open_slots(self, pinned: Set[tuple[str, int, str]]) -> tuple[int, ...]:
        """Return the slots that the results of operators may fill.

        Args:
            pinned: ``(operator, position, dtype)``: operands that only graph inputs may fill, for one dtype or (``""``) all.
        """
        return tuple(
            k
            for k, (position, (dtype, _)) in enumerate(self.slots)
            if not pinned & {(self.op, position, ""), (self.op, position, dtype)}
        )


@attrs.frozen(eq=False)
class Number:
    """A free attribute symbol that is not a dimension; it is drawn uniformly between its bounds."""

    local: int
    lows: tuple[tuple[Formula, tuple[int, ...]], ...]
    highs: tuple[tuple[Formula, tuple[int, ...]], ...]


@attrs.frozen(eq=False)
class Template:
    """One way in which a structure's conditions hold.

    A dimension is an int >= 0 (a local variable), or a pair: ``(None, constant)`` or ``(formula, arguments)``.

    Attributes:
        locals: number of local variables; dimensions first.
        slots: each operand dimension in order.
        results: the dimensions of each result.
        attributes: name -> a dimension, a tuple of dimensions, or ``("value", v)``.
        numbers: attribute variables to draw, in order.
        factors: ``(locals, size)``: the product of the locals is the size.
        checks: conditions left.
        at_least_two: products that must be at least 2, so that no reduction is over a single element.
        names: the number of each symbol, and what the solved ones are, for formulas that are made later.
    """

    locals: int
    slots: tuple[Any, ...]
    results: tuple[tuple[Any, ...], ...]
    attributes: tuple[tuple[str, Any], ...]
    numbers: tuple[Number, ...]
    factors: tuple[tuple[tuple[int, ...], Any], ...]
    checks: tuple[tuple[Formula, tuple[int, ...]], ...]
    at_least_two: tuple[Any, ...]
    names: Mapping[str, int]
    solution: Solution
    conditions: tuple[Condition, ...]


def mentioned_names(op: OpDef) -> set[str]:
    """Return the names on which the types of a call depend."""
    clauses = [c.expr for c in op.constraints]
    clauses += [d for p in (*op.operands, *op.results) for d in p.shape]
    clauses += [e for a in op.attributes for e in (a.lo, a.hi, a.default) if e is not None]
    mentioned = set().union(*map(ex.names, clauses)) if clauses else set()
    # A domain that depends on sizes ties an attribute to them.
    mentioned |= {a.name for a in op.attributes for e in (a.lo, a.hi) if e is not None and ex.names(e)}
    for let in reversed(op.lets):
        if let.name in mentioned:
            mentioned |= ex.names(let.expr)
    return mentioned


def completed(op: OpDef, inferred: Inferred) -> Inferred:
    """Return ``inferred`` with the lets that :meth:`Relations.typing` left out, where they have a value."""
    env = dict(inferred.env)
    for let in op.lets:
        if let.name not in env:
            try:
                env[let.name] = evaluate(let.expr, env)
            except (DrtError, KeyError, IndexError, TypeError, ValueError, ZeroDivisionError):
                continue
    return attrs.evolve(inferred, env=env)


@cache
def dimension_symbol(i: int) -> Size:
    """Return the symbol of operand dimension ``i``."""
    return symbol(f"d{i}", 1, FAR)


def common_rank(s: Signature) -> int:
    """Return a number that is larger the more axes the operands have in common."""
    ranks = [r for _, r in s.types]
    return min(ranks, default=0) * 10 + sum(ranks)


def shapes_with_one(templates: Sequence[Template], one: int | None) -> list[Any]:
    """Return what templates say of the results' shapes, with operand dimension ``one`` put to 1."""
    out = []
    for t in templates:
        names = {n: k for k, n in t.names.items()}
        slot = t.slots[one] if one is not None else None
        if slot is not None and type(slot) is not int:
            return [None]

        def show(d: Any, names: Mapping[int, str] = names, slot: Any = slot) -> Any:
            if type(d) is int:
                return 1 if d == slot else names[d]
            if d[0] is None:
                return d[1]
            return None if slot in d[1] else (d[0].text, tuple(names[i] for i in d[1]))

        shapes = [tuple(map(show, shape)) for shape in (*t.results, t.slots)]
        out.append([shape for shape in shapes if None not in shape] if slot is None else shapes)
    return out


class SelectingError(Exception):
    """A symbol stands where an integer is needed."""


def operand_types(operands: Any, types: Mapping[str, TensorType]) -> Iterator[Any]:
    """Yield the types of operands."""
    for o in operands:
        yield types[o] if isinstance(o, str) else tuple(operand_types(o, types)) if isinstance(o, tuple) else o


def extents_of(op: OpDef, env: Mapping[str, Any]) -> tuple[SizeLike, ...]:
    """Return the numbers of elements that the reductions in a body combine."""
    match op.body:
        case Reduce(_, _, e, axes):
            # The reduced operand is the one whose axes are named; all operands of a reduction have its shape.
            packs = [env[d.name] for p in op.operands for d in p.shape if isinstance(d, ex.Pack) and d.name in env]
            over = evaluate(axes, env)
            if not packs:
                return ()
            over = over if isinstance(over, tuple) else (over,)
            return (math.prod((packs[0][i] for i in over), start=1),)
        case Index(_, _, e):
            out: list[SizeLike] = []
            for fold in folds(e):
                try:
                    out.append(math.prod((evaluate(r, env) for _, r in fold.ranges), start=1))
                except (KeyError, TypeError):
                    continue  # the range depends on a coordinate
            return tuple(out)
    return ()


def folds(e: ex.Expr) -> Iterator[ex.Fold]:
    """Yield the folds inside an expression."""
    if isinstance(e, ex.Fold):
        yield e
    for c in ex.children(e):
        yield from folds(c)


def substitute_ones(e: SizeLike, dims: Sequence[SizeLike]) -> SizeLike:
    """Return a size over ``d0, d1, ...`` with the constants of ``dims`` put in."""
    if isinstance(e, int):
        return e
    from ..ir.size import substitute

    return substitute(e, {f"d{i}": d for i, d in enumerate(dims) if isinstance(d, int)})


def is_symbol(e: Any) -> bool:
    """Return whether a size is a single symbol."""
    if not isinstance(e, Size) or len(e.terms) != 1:
        return False
    monomial, coefficient = e.terms[0]
    return coefficient == 1 and len(monomial) == 1 and hasattr(monomial[0], "lo")


def known_size(e: SizeLike) -> int:
    """Return a size of a static program, which is a plain integer."""
    assert isinstance(e, int)
    return e


def symbols_in(e: Any) -> set[Any]:
    """Return the symbols of a value that may be a size."""
    return symbols_of(e) if isinstance(e, Size) else set()


def attribute_symbols(a: Attribute, marker: Symbolic) -> Any:
    """Return the symbol of an attribute, or those of a list."""
    lo = a.lo.value if isinstance(a.lo, ex.Num) and isinstance(a.lo.value, int) else -FAR
    hi = a.hi.value if isinstance(a.hi, ex.Num) and isinstance(a.hi.value, int) else FAR
    if marker.length is None:
        return symbol(f"{a.name}_", lo, hi)
    return tuple(symbol(f"{a.name}_{i}", lo, hi) for i in range(marker.length))


def bounds_of(
    name: str, checks: Sequence[Condition], names: Mapping[str, int], known: set[str]
) -> tuple[list[Any], list[Any]]:
    """Return the bounds on a symbol that conditions linear in it give in terms of known symbols."""
    lows: list[Any] = []
    highs: list[Any] = []
    for op, a, b, truth in checks:
        if op not in ("<", "<=", ">", ">="):
            continue
        if not truth:
            op = {"<": ">=", "<=": ">", ">": "<=", ">=": "<"}[op]
        p = a - b if op in (">", ">=") else b - a  # p >= 0, or p >= 1 for a strict relation
        if op in ("<", ">"):
            p = p - 1
        if not isinstance(p, Size):
            continue
        own = [(m, c) for m, c in p.terms if any(name in {x.name for x in symbols_in(Size((((t,), 1),)))} for t in m)]
        if len(own) != 1 or len(own[0][0]) != 1 or not hasattr(own[0][0][0], "lo"):
            continue
        c = own[0][1]
        rest = p - Size((own[0],))
        if not {x.name for x in symbols_in(rest)} <= known:
            continue
        # c*x + rest >= 0
        bound = size_formula(rest * -1 if c > 0 else rest, names)
        if abs(c) != 1:
            text = f"-(-({text_of(bound)}) // {c})" if c > 0 else f"({text_of(bound)}) // {-c}"
            bound = formula(text, {f"a{i}": n for i, n in enumerate(bound[1])})
        (lows if c > 0 else highs).append(bound)
    return lows, highs


def text_of(bound: tuple[Formula, tuple[int, ...]]) -> str:
    """Return the text of a formula."""
    return bound[0].text


def attribute_value(v: Any, dim: Any) -> Any:
    """Return an attribute's value as a dimension, a tuple of them, or a marked constant."""
    if isinstance(v, tuple) and any(isinstance(e, Size) for e in v):
        return tuple(dim(e) for e in v)
    return dim(v) if isinstance(v, Size) else ("value", v)


def dimensions_of(op: OpDef, ranks: Sequence[Ranks]) -> dict[str, Any]:
    """Return symbols for the dimensions and packs of a call with given ranks, for domains and axes."""
    env: dict[str, Any] = {}
    for p, r in zip(op.operands, ranks, strict=True):
        env[present_key(p.name)] = r is not None
        own = sum(not isinstance(d, ex.Pack) for d in p.shape)
        for d in p.shape:
            if isinstance(d, ex.Pack):
                if isinstance(r, tuple):
                    env[d.name] = tuple(tuple(symbol(f"e{i}") for i in range(n)) for n in r)
                else:
                    env.setdefault(d.name, tuple(symbol(f"{d.name}{i}") for i in range((r or own) - own)))
            elif isinstance(d, ex.Sym):
                env.setdefault(d.name, symbol(d.name))
    return env


def default_of(a: Attribute) -> Any:
    """Return some value of an attribute on which no shape depends; it is drawn when the call is made."""
    if a.optional:
        return None
    if isinstance(a.default, ex.Num):
        return a.default.value
    match a.kind:
        case "bool":
            return False
        case "enum":
            return a.choices[0]
        case "str":
            return ""
        case "int":
            return a.lo.value if isinstance(a.lo, ex.Num) else 0
        case "ints":
            return (a.lo.value if isinstance(a.lo, ex.Num) else 0,) * (a.length or 0)
    return 1.0 if a.kind == "float" else 1


def number_menu(a: Attribute) -> list[Any]:
    """Return some values of a number on which shapes depend."""
    fixed = [a.default.value] if isinstance(a.default, ex.Num) and a.default.value is not None else []
    lo = a.lo.value if isinstance(a.lo, ex.Num) and isinstance(a.lo.value, (int, float)) else -FAR
    hi = a.hi.value if isinstance(a.hi, ex.Num) and isinstance(a.hi.value, (int, float)) else FAR
    more = [v for v in (1, 2, 8) if lo <= v <= hi]
    return list(dict.fromkeys([*fixed, *more]))
