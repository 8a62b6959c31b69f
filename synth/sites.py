"""What the sampler knows of a signature: templates ready to be applied, literals, guards, and the laws of attributes."""

from __future__ import annotations

import itertools
import re
from bisect import bisect
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Protocol

from ..ir import Literal, OpDef
from ..ir import expr as ex
from ..ir.opdef import Attribute, Scalar
from ..ir.text import attr_text
from ..ir.typesys import DTYPE_CLASSES, is_float
from .calls import Signature
from .canonical import commutes
from .flat import flatten, function
from .ranges import partial_operands
from .relation import Relations

_FLOATS = (0.5, 1.5, 2.0, 3.0, 0.75, 0.125)
_INTEGERS = (2, 3, 5)
#: How often a scalar operand is a number written in the program.
LITERAL_SHARE = 0.7
_PRODUCTS = re.compile(r"\((a\d+(?:\*a\d+)*)\) == \((a\d+(?:\*a\d+)*)\)")
#: Values of a list attribute are listed where there are no more of them.
_MOST_LISTS = 64


class Flat:
    """One template, ready to be applied.

    Attributes:
        locals: number of local variables.
        slots: the code of each operand dimension.
        operands: the same by operand, and a kind: 1 where they are locals, else 0.
        results: the codes of each result, and the kind; 2 where some operand has the same locals.
        attributes: name -> ``("value", v)``, a code, or a list of codes.
        numbers: ``(local, lower bounds, upper bounds)``, bounds as formulas.
        factors: ``(locals, code)``.
        checks: conditions.
        products: formulas that must be at least 2.
        two: locals that must be at least 2; ``late`` are those of them that are numbers or factors.
        free: locals that are drawn where no operand gives them, each with the least value and the largest rank it occurs in.
        simple: whether there are no attributes to draw and nothing to check.
        before: the conditions that read no number: ``(function, locals, least value)``.
        parts: the numbers in the order in which they are drawn, see :class:`Part`.
        row: what gives each attribute, by name.
        balances: locals whose products must be equal, by side.
        origin: the number of the structure, the dimensions that are 1, and the place among their templates.
    """

    __slots__ = (
        "attributes", "balances", "before", "checks", "factors", "free", "late", "locals", "numbers", "operands", "origin",
        "parts", "products", "results", "row", "simple", "slots", "two",
    )  # fmt: skip

    def __init__(self, data: Mapping[str, Any], ranks: Sequence[int]) -> None:
        self.locals: int = data["locals"]
        self.slots: tuple[Any, ...] = tuple(data["slots"])
        self.attributes: tuple[tuple[str, Any], ...] = tuple(data["attributes"])
        self.numbers: tuple[Any, ...] = tuple(data["numbers"])
        self.factors: tuple[Any, ...] = tuple(data["factors"])
        self.checks: tuple[Any, ...] = tuple(dict.fromkeys(data["checks"]))
        two = [c for c in data["two"] if type(c) is int]
        self.products = tuple(c for c in data["two"] if type(c) is not int)
        bound = {n for n, _, _ in self.numbers} | {n for group, _ in self.factors for n in group}
        rank = dict.fromkeys(range(self.locals), 1)
        start = 0
        operands: list[tuple[Any, ...]] = []
        for r in ranks:
            operands.append(self.slots[start : start + r])
            start += r
        results = tuple(map(tuple, data["results"]))
        self.operands = tuple((shape, int(_plain(shape))) for shape in operands)
        # What has the shape of an operand has no more elements than a tensor may have.
        self.results = tuple((shape, 0 if not _plain(shape) else 2 if shape in operands else 1) for shape in results)
        for shape in (*operands, *results):
            for c in shape:
                if type(c) is int and c >= 0:
                    rank[c] = max(rank[c], len(shape))
        self.two = tuple(n for n in two if n not in bound)
        self.late = tuple(n for n in two if n in bound)
        self.free = tuple((n, 2 if n in two else 1, rank[n]) for n in range(self.locals) if n not in bound)
        self.before, self.parts = _plan(self)
        self.balances = tuple(b for b in (_balance(f.text, args) for f, args in self.checks) if b is not None)
        self.simple = not (self.numbers or self.factors or self.checks or self.products or self.late)
        self.row: tuple[Any, ...] = ()
        self.origin = (0, 0, 0)


def _plain(codes: Sequence[Any]) -> bool:
    return all(type(c) is int and c >= 0 for c in codes)


class Part(NamedTuple):
    """A number to draw.

    Attributes:
        local: which one.
        least: its largest constant lower bound, or None.
        lows: the other lower bounds: ``(function, locals)``.
        most: its smallest constant upper bound, or None.
        highs: the other upper bounds.
        blame: the first number on which its bounds depend, as a place in the order, or -1.
        decided: conditions that it decides: ``(function, locals, least value, first number that they read)``.
    """

    local: int
    least: int | None
    lows: tuple[Any, ...]
    most: int | None
    highs: tuple[Any, ...]
    blame: int
    decided: tuple[Any, ...]


def _balance(text: str, args: Sequence[int]) -> tuple[list[int], list[int]] | None:
    """Return the locals on both sides of a condition that two products of different locals are equal."""
    sides = _PRODUCTS.fullmatch(text)
    if sides is None:
        return None
    left, right = ([args[int(a[1:])] for a in side.split("*")] for side in sides.groups())
    return None if len({*left, *right}) < len(left) + len(right) else (left, right)


def _plan(t: Flat) -> tuple[Any, Any]:
    """Return the conditions before and the numbers with their conditions; those that share conditions follow each other."""
    numbers = {n: (n, lows, highs) for n, lows, highs in t.numbers}
    conditions = [(f.run, args, 1) for f, args in t.checks] + [(f.run, args, 2) for f, args in t.products]
    part = {n: n for n in numbers}

    def join(args: Sequence[int]) -> None:
        known = [n for n in args if n in numbers]
        for n in known[1:]:
            old, new = part[n], part[known[0]]
            for m in part:
                if part[m] == old:
                    part[m] = new

    for _, args in t.checks:
        join(args)
    for n, lows, highs in t.numbers:
        for _, args in (*lows, *highs):
            join((n, *args))
    first = list(dict.fromkeys(part[n] for n in numbers))
    order = sorted(numbers, key=lambda n: first.index(part[n]))
    place = {n: k for k, n in enumerate(order)}
    before = tuple(c for c in conditions if not any(n in numbers for n in c[1]))
    parts = []
    for k, n in enumerate(order):
        decided = []
        for f, args, least in conditions:
            at = [place[m] for m in args if m in numbers]
            if at and max(at) == k:
                decided.append((f, args, least, min(at)))
        _, lows, highs = numbers[n]
        low = [f.run((), ()) for f, a in lows if not a] + ([2] if n in t.late else [])
        high = [f.run((), ()) for f, a in highs if not a]
        parts.append(
            Part(
                n,
                max(low, default=None),
                tuple((f.run, a) for f, a in lows if a),
                min(high, default=None),
                tuple((f.run, a) for f, a in highs if a),
                min((place[m] for _, a in (*lows, *highs) for m in a if m in numbers), default=-1),
                tuple(decided),
            )
        )
    return before, tuple(parts)


class Menu:
    """The law of an attribute on which no shape depends: its values and how likely each is."""

    __slots__ = ("choices", "draw", "sums")

    def __init__(self, name: str, weighted: Sequence[tuple[Any, float]]) -> None:
        total = sum(w for _, w in weighted)
        self.sums = list(itertools.accumulate(w / total for _, w in weighted))
        self.sums[-1] = 1.0
        self.choices = [(name, v, f"{name} = {attr_text(v)}") for v, _ in weighted]

    def pick(self, u: float) -> tuple[str, Any, str]:
        """Return name, value and text for a random number in [0, 1)."""
        return self.choices[bisect(self.sums, u)]


def menu(a: Attribute, integral: bool) -> Menu:
    """Return the law of a free attribute: the default with probability 0.6, else absent where it may be, else any.

    Args:
        a: the attribute.
        integral: whether the call has no floating-point type, so that numbers are integers.
    """
    default = getattr(a.default, "value", None)
    weighted: list[tuple[Any, float]] = []
    left = 1.0
    if default is not None:
        weighted.append((float(default) if a.kind == "float" else default, 0.6))
        left = 0.4
    if a.optional:
        weighted.append((None, left / 2))
        left /= 2
    values = _values(a, default, integral)
    return Menu(a.name, weighted + [(v, left / len(values)) for v in values])


def _values(a: Attribute, default: Any, integral: bool) -> list[Any]:
    lo, hi = getattr(a.lo, "value", None), getattr(a.hi, "value", None)

    def within(v: Any) -> bool:
        return (lo is None or v >= lo) and (hi is None or v <= hi)

    match a.kind:
        case "bool":
            return [False, True]
        case "enum":
            return list(a.choices)
        case "str":
            return [default or ""]
        case "int":
            return [v for v in (*range(-1, 4), lo, hi) if isinstance(v, int) and within(v)] or [0]
        case "ints":
            least = lo or 0
            span = range(least, min(hi if hi is not None else 3, least + 3) + 1)
            n = a.length or 0
            while len(span) > 1 and len(span) ** n > _MOST_LISTS:
                span = span[:-1]
            return list(itertools.product(span, repeat=n))
    if isinstance(default, float) and default:
        return [v if within(v) else default for v in (default * 0.5, default * 2.0)]
    options: Sequence[Any] = _INTEGERS if integral and a.kind == "number" else _FLOATS
    fits = [v for v in options if within(v)] or [default if default is not None else lo if lo is not None else 1]
    return [float(v) if a.kind == "float" else v for v in fits]


FLOAT_LITERALS = tuple(map(Literal, _FLOATS))
INTEGER_LITERALS = tuple(map(Literal, _INTEGERS))


class Store(Protocol):
    """Keeps what sites find."""

    def load(self, site: Site) -> None:
        """Give a site the templates that are kept of it."""

    def narrow(self, site: Site) -> bool | None:
        """Return whether sizes of 1 matter to a site's operator, where that is kept."""

    def add(self, site: Site, narrow: bool | None) -> None:
        """Note that a site has found something new."""


class Site:
    """What the sampler knows of one signature.

    Attributes:
        op: the definition.
        signature: of a call.
        literals: per slot: the numbers that may stand there instead of a tensor.
        packs: per slot: whether its dimensions may broadcast.
        guards: per slot: what the elements of a graph input there must satisfy (``"range"``, ``"positive"`` or ``""``).
        spans: per operand: first slot and one past the last of a list, or -1; None where it is absent.
        starts: per slot: the number of its first dimension.
        plan: per slot: its numbers, whether its input may be shared, its type and rank, whether it may broadcast.
        store: keeps templates from run to run, or None.
        data: the templates found so far, by structure and dimensions that are 1.
        scalar: whether it acts element by element.
        plain: whether every operand is given and none is a list.
        commutes: whether the two operands may be swapped.
    """

    def __init__(self, op: OpDef, signature: Signature, relations: Relations, store: Store | None = None) -> None:
        self.op, self.signature, self.relations, self.store = op, signature, relations, store
        self.name = op.name
        self.structures = signature.structures
        self.data: dict[tuple[int, int], list[Any]] = {}
        self.table: dict[tuple[int, int], list[Flat]] = {}
        self._narrow: bool | None = None
        self.literals: list[Any] = []
        self.packs: list[bool] = []
        self.guards: list[str] = []
        self.spans: list[tuple[int, int] | None] = []
        self.result_heads = [f"{d}[" for d, _ in signature.results]
        ranged, partial = {r.operand for r in op.ranges}, partial_operands(op)
        self._partial = partial
        self.scalar = scalar = isinstance(op.body, Scalar)
        self.types = signature.types
        self.ranks = [rank for _, rank in self.types]
        self.starts = [sum(self.ranks[:k]) for k in range(len(self.ranks))]
        for position, (dtype, rank) in signature.slots:
            p = op.operands[position]
            partner = any(
                n != position and r > 0 and op.operands[n].dtype == p.dtype and not op.operands[n].variadic
                for n, (_, r) in signature.slots
            )
            may = scalar and rank == 0 and partner and not p.variadic and dtype != "bool"
            self.literals.append((FLOAT_LITERALS if is_float(dtype) else INTEGER_LITERALS) if may else None)
            self.packs.append(any(isinstance(d, ex.Pack) for d in p.shape))
            self.guards.append(
                "range" if p.name in ranged else partial.get(p.name, "") if dtype in DTYPE_CLASSES["int"] else ""
            )
        for position, p in enumerate(op.operands):
            own = [k for k, (n, _) in enumerate(signature.slots) if n == position]
            self.spans.append((own[0], own[-1] + 1 if p.variadic else -1) if own else None)
        self.plan = tuple(
            (literals, not guard, kind, kind[1], packs)
            for literals, guard, kind, packs in zip(self.literals, self.guards, self.types, self.packs, strict=True)
        )
        self.plain = all(span is not None and span[1] < 0 for span in self.spans)
        self.commutes = commutes(op)
        self.integral = not any(d in DTYPE_CLASSES["float"] for _, d in signature.dtypes)
        self._menus: dict[str, Menu] = {}
        self._work: dict[Flat, Any] = {}

    def guarded(self) -> list[tuple[int, str, str]]:
        """Return position, dtype and guard of every operand that only graph inputs may fill, for any type it may have."""
        out = []
        for position, p in enumerate(self.op.operands):
            if any(r.operand == p.name for r in self.op.ranges):
                out.append((position, "", "range"))
            elif p.name in self._partial:
                out += [(position, d, "positive") for d in DTYPE_CLASSES["int"]]
        return out

    @property
    def narrow(self) -> bool:
        """Whether it makes a difference that a size is 1."""
        if self._narrow is None:
            if self.store is not None:
                self._narrow = self.store.narrow(self)
            if self._narrow is None:
                self._narrow = self.relations.broadcasts(self.signature, self.structures[-1])
                if self.store is not None:
                    self.store.add(self, self._narrow)
        return self._narrow

    def flats(self, structure: int, ones: int) -> list[Flat]:
        """Return the templates of a structure whose operand dimensions in ``ones`` are 1."""
        found = self.table.get((structure, ones))
        if found is None:
            if self.store is not None:
                self.store.load(self)
            data = self.data.get((structure, ones))
            if data is None:
                s = self.structures[structure]
                data = [flatten(t) for t in self.relations.templates(self.signature, s, ones)]
                self.data[structure, ones] = data
                if self.store is not None:
                    self.store.add(self, self._narrow)
            found = [Flat(d, self.ranks) for d in data]
            for place, f in enumerate(found):
                f.row = self._row(f)
                f.origin = (structure, ones, place)
            self.table[structure, ones] = found
        return found

    def _row(self, f: Flat) -> tuple[Any, ...]:
        """Return what gives each attribute, by name: a finished triple, a menu, or a code with the name."""
        known = dict(f.attributes)
        row: list[Any] = []
        for a in sorted(self.op.attributes, key=lambda a: a.name):
            if a.name in known:
                v = known[a.name]
                if type(v) is tuple and v[0] == "value":
                    row.append((a.name, v[1], f"{a.name} = {attr_text(v[1])}"))
                else:
                    row.append([a.name, v])
            else:
                row.append(self.menu(a))
        return tuple(row)

    def menu(self, a: Attribute) -> Menu:
        """Return the law of an attribute on which no shape depends."""
        found = self._menus.get(a.name)
        if found is None:
            found = self._menus[a.name] = menu(a, self.integral)
        return found

    def work(self, f: Flat, value: Sequence[int], cells: Sequence[int]) -> int | None:
        """Return the floating-point operations of a call of one of the templates, None where its definition does not tell."""
        if f not in self._work:
            structure, ones, place = f.origin
            s = self.structures[structure]
            template = self.relations.templates(self.signature, s, ones)[place]
            found = self.relations.flops(self.signature, s, ones, template)
            if found is not None and found[0] is not None:
                found = (function(found[0].text, found[0].arity, found[0]), found[1])
            self._work[f] = found
        found = self._work[f]
        if found is None or found[0] is None:
            return None if found is None else found[1]
        work: int = found[0].run(value, [cells[k] for k in found[1]])
        return work
