"""Operator definition files (``.drt``) to :class:`~drt.ir.opdef.OpDef` values; :mod:`drt.ir.printing` is the way back."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from . import expr as ex
from .arguments import checked
from .errors import DrtError, ParseError, UsageError
from .opdef import (
    COMBINERS,
    DIFFERENCES,
    DISTRIBUTIONS,
    LIBRARIES,
    AtenPattern,
    Attribute,
    Constraint,
    Expand,
    Hook,
    Index,
    KernelTemplate,
    Let,
    Limitation,
    Location,
    Opaque,
    OpDef,
    OpSet,
    Param,
    Random,
    Reduce,
    Scalar,
    ValueRange,
)
from .rewrite import Rule
from .syntax import Builder, FoldHead, Token, inline, parse, unquote
from .typesys import DTYPE_CLASSES, DTYPES

OPS_DIR = Path(__file__).parent / "ops"
_CONSTANTS = {"True": True, "False": False, "None": None, "inf": float("inf"), "nan": float("nan")}


class _Kind:
    """A parsed attribute kind, on its way into an Attribute."""

    def __init__(self, kind: str, length: int | None = None, of: str = "", choices: tuple[str, ...] = ()) -> None:
        self.kind, self.length, self.of, self.choices = kind, length, of, choices


@inline
class _ExprBuilder(Builder):
    """Builds expressions; shared by operators and rewrites."""

    def integer(self, t: Token) -> ex.Expr:
        return ex.Num(int(t))

    def floating(self, t: Token) -> ex.Expr:
        return ex.Num(float(t))

    def string(self, t: Token) -> ex.Expr:
        return ex.Num(unquote(t))

    def name(self, t: Token) -> ex.Expr:
        return ex.Num(_CONSTANTS[t]) if t in _CONSTANTS else ex.Sym(str(t))

    def pack(self, t: Token) -> ex.Expr:
        return ex.Pack(str(t))

    def operation(self, items: list[Any]) -> ex.Expr:
        return self.climb(items)  # type: ignore[no-any-return]

    def fold(self, name: Token, ranges: tuple[tuple[str, ex.Expr], ...], operand: Any) -> list[Any]:
        self._check_combiner(name)
        return [FoldHead((str(name), ranges)), *(operand if isinstance(operand, list) else [operand])]

    def _prefix(self, sign: Any, value: ex.Expr) -> ex.Expr:
        if isinstance(sign, FoldHead):
            return ex.Fold(sign[0], sign[1], value)
        # A minus sign before a number is part of the number, so that printing and parsing agree.
        if sign == "-" and isinstance(value, ex.Num) and type(value.value) in (int, float):
            return ex.Num(-value.value)  # type: ignore[operator]
        return ex.Unary(str(sign), value)

    def _infix(self, a: ex.Expr, operator: str, b: ex.Expr) -> ex.Expr:
        return ex.Bin(operator, a, b)

    def _check_combiner(self, name: Token) -> None:
        if name not in COMBINERS:
            known = ", ".join(COMBINERS)
            raise self.error(name, f"unknown combiner '{name}', expected one of {known}")

    def cond(self, a: ex.Expr, test: ex.Expr, b: ex.Expr) -> ex.Expr:
        return ex.Cond(test, a, b)

    def elements(self, *items: ex.Expr) -> tuple[ex.Expr, ...]:
        return items

    dims = elements

    def list_(self, items: tuple[ex.Expr, ...] | None) -> ex.Expr:
        return ex.Lst(items or ())

    def load(self, name: Token, items: tuple[ex.Expr, ...] | None) -> ex.Expr:
        return ex.Load(str(name), items or ())

    def range(self, name: Token, extent: ex.Expr) -> tuple[str, ex.Expr]:
        return str(name), extent

    def ranges(self, *items: tuple[str, ex.Expr]) -> tuple[tuple[str, ex.Expr], ...]:
        return items

    def keyword(self, name: Token, value: ex.Expr) -> tuple[str, ex.Expr]:
        return str(name), value

    def arguments(self, *items: Any) -> tuple[Any, ...]:
        return tuple(i for i in items if i is not None)

    def call(self, fn: Token, items: tuple[Any, ...] | None) -> ex.Expr:
        items = items or ()
        return ex.Call(
            str(fn),
            tuple(i for i in items if not isinstance(i, tuple)),
            tuple(i for i in items if isinstance(i, tuple)),
        )


@inline
class _Builder(_ExprBuilder):
    """Builds operators and rewrite rules."""

    def _at(self, token: Token) -> Location:
        return Location(self.file, token.line or 0, token.column or 0)

    def param(self, name: Token, dtype: Token, dims: tuple[ex.Expr, ...] | None, mark: Token | None) -> Param:
        return Param(str(name), str(dtype), dims or (), optional=mark == "?", variadic=mark == "*")

    def params(self, *items: Param) -> tuple[Param, ...]:
        return tuple(i for i in items if i is not None)

    def plain_kind(self, kind: Token) -> _Kind:
        return _Kind(str(kind))

    def sized_kind(self, kind: Token, length: Token) -> _Kind:
        if kind != "int":
            message = f"kind {kind}[{length}] is not known, expected int[{length}]"
            raise self.error(kind, message)
        return _Kind("ints", length=int(length))

    def of_kind(self, kind: Token, of: Token) -> _Kind:
        return _Kind(str(kind), of=str(of))

    def enum_kind(self, choices: tuple[str, ...]) -> _Kind:
        return _Kind("enum", choices=choices)

    def attribute(
        self, name: Token, kind: _Kind, optional: Token | None, lo: Any, hi: Any, default: ex.Expr | None
    ) -> Attribute:
        if kind.kind == "enum" and isinstance(default, ex.Sym):
            default = ex.Num(default.name)
        return Attribute(
            str(name), kind.kind, kind.length, kind.of, kind.choices, lo, hi, default, optional=optional is not None
        )

    def attributes(self, *items: Attribute) -> tuple[Attribute, ...]:
        return tuple(i for i in items if i is not None)

    def names(self, *items: Token) -> tuple[str, ...]:
        return tuple(map(str, items))

    def doc(self, s: Token) -> tuple[str, Any]:
        return "doc", unquote(s)

    def source(self, s: Token) -> tuple[str, Any]:
        return "source", unquote(s)

    def dtypes(self, *items: Token) -> frozenset[str]:
        found: set[str] = set()
        for item in items:
            if item in DTYPE_CLASSES:
                found |= DTYPE_CLASSES[item]
            elif item in DTYPES:
                found.add(str(item))
            else:
                known = ", ".join([*DTYPE_CLASSES, *DTYPES])
                raise self.error(item, f"unknown dtype or class '{item}', expected one of {known}")
        return frozenset(found)

    def type_class(self, name: Token, dtypes: frozenset[str]) -> tuple[str, Any]:
        return "dtypes", (str(name), dtypes)

    def type_let(self, name: Token, e: ex.Expr) -> tuple[str, Any]:
        return "dtype_lets", (str(name), e)

    def let(self, name: Token, e: ex.Expr) -> tuple[str, Any]:
        return "lets", Let(str(name), e)

    def where(self, label: Token, e: ex.Expr) -> tuple[str, Any]:
        return "constraints", Constraint(str(label), e, self._at(label))

    def value_range(self, name: Token, lo: ex.Expr, hi: ex.Expr, order: Token | None) -> tuple[str, Any]:
        return "ranges", ValueRange(str(name), lo, hi, str(order or ""))

    def scalar(self, name: Token, e: ex.Expr) -> tuple[str, Any]:
        return "scalar", (str(name), e)

    def reduce(self, result: Token, combiner: Token, e: ex.Expr, axes: ex.Expr) -> tuple[str, Any]:
        self._check_combiner(combiner)
        return "body", Reduce(str(result), str(combiner), e, axes)

    def index(self, result: Token, coordinates: tuple[ex.Expr, ...] | None, e: ex.Expr) -> tuple[str, Any]:
        return "body", Index(str(result), coordinates or (), e)

    def statement(self, name: Token, e: ex.Expr) -> tuple[str, ex.Expr]:
        return str(name), e

    def expand(self, *statements: tuple[str, ex.Expr]) -> tuple[str, Any]:
        return "body", Expand(statements)

    def hook(self, name: Token) -> tuple[str, Any]:
        return "body", Hook(str(name))

    def random(self, result: Token, distribution: Token, *parameters: ex.Expr | None) -> tuple[str, Any]:
        if distribution not in DISTRIBUTIONS:
            known = ", ".join(DISTRIBUTIONS)
            raise self.error(distribution, f"unknown distribution '{distribution}', expected one of {known}")
        given = tuple(p for p in parameters if p is not None)
        wanted = DISTRIBUTIONS[distribution]
        if len(given) != len(wanted):
            raise self.error(
                distribution, f"{distribution} has {len(given)} parameters, expected {len(wanted)}: {', '.join(wanted)}"
            )
        return "body", Random(str(result), str(distribution), given)

    def opaque(self, reason: Token) -> tuple[str, Any]:
        return "body", Opaque(unquote(reason))

    def torch(self, e: ex.Expr) -> tuple[str, Any]:
        return "torch", e

    def jax(self, e: ex.Expr) -> tuple[str, Any]:
        return "jax", e

    def triton(self, path: Token, parameters: Any, guard: ex.Expr | None) -> tuple[str, Any]:
        return "kernels", (KernelTemplate(unquote(path), parameters or (), guard),)

    def limit(
        self, library: Token, kind: Token, dtypes: frozenset[str], inputs: Token, reason: Token
    ) -> tuple[str, Any]:
        for token, what, known in ((library, "library", LIBRARIES), (kind, "difference", DIFFERENCES)):
            if token not in known:
                raise self.error(token, f"unknown {what} '{token}', expected one of {', '.join(known)}")
        return "limits", (Limitation(str(library), str(kind), dtypes, unquote(inputs), unquote(reason)),)

    def flops(self, e: ex.Expr) -> tuple[str, Any]:
        return "flops", e

    def binding(self, name: Token, e: ex.Expr) -> tuple[str, ex.Expr]:
        return str(name), e

    def bindings(self, *items: tuple[str, ex.Expr]) -> tuple[tuple[str, ex.Expr], ...]:
        return items

    def aten_pattern(self, call: ex.Call, bindings: Any, results: Any, guard: Any) -> AtenPattern:
        return AtenPattern(call, bindings or (), results or (), guard)

    def aten(self, *patterns: AtenPattern) -> tuple[str, Any]:
        return "aten", patterns

    def lax(self, *patterns: AtenPattern) -> tuple[str, Any]:
        return "lax", patterns

    def op(self, name: Token, operands: Any, attributes: Any, results: Any, *clauses: tuple[str, Any]) -> OpDef:
        fields: dict[str, Any] = {}
        scalars: list[tuple[str, ex.Expr]] = []
        dtypes: dict[str, frozenset[str]] = {}
        calls: dict[str, ex.Expr] = {}
        for key, value in clauses:
            if key == "scalar":
                scalars.append(value)
            elif key == "dtypes":
                dtypes[value[0]] = value[1]
            elif key in ("torch", "jax") and key not in calls:
                calls[key] = value
            elif key in ("lets", "constraints", "dtype_lets", "ranges"):
                fields[key] = (*fields.get(key, ()), value)
            elif key in ("aten", "lax", "kernels", "limits"):
                fields[key] = fields.get(key, ()) + value
            elif key in fields or key in calls:
                message = f"clause '{key}' stands twice, expected once"
                raise self.error(name, message, str(name))
            else:
                fields[key] = value
        if scalars:
            if "body" in fields:
                message = "two meanings, expected one of scalar, reduce, index, expand, hook, random"
                raise self.error(name, message, str(name))
            fields["body"] = Scalar(tuple(scalars))
        op = OpDef(
            str(name), operands or (), attributes or (), results,
            dtypes=dtypes, calls=calls, family=Path(self.file).stem, location=self._at(name), **fields,
        )  # fmt: skip
        _check(op)
        return op

    def lets(self, *items: tuple[str, ex.Expr]) -> tuple[tuple[str, ex.Expr], ...]:
        return items

    def rewrite(
        self, name: Token, doc: Token | None, lhs: Any, rhs: Any, guard: Any, lets: Any, approximate: Any
    ) -> Rule:
        text = unquote(doc) if doc else ""
        return Rule(str(name), text, lhs, rhs, guard, lets, exact=approximate is None, location=self._at(name))

    def start(self, *items: OpDef | Rule) -> tuple[OpDef | Rule, ...]:
        return items


def _check(op: OpDef) -> None:
    """Refuse a definition that speaks of a name it does not declare."""
    operand_names = {p.name for p in op.operands}
    declared = set(operand_names) | {a.name for a in op.attributes}
    for p in op.operands:
        for d in p.shape:
            declared |= {d.name} if isinstance(d, (ex.Sym, ex.Pack)) else set()
    dtype_names = set(op.dtypes) | set(DTYPES)
    for p in op.operands:
        if p.dtype not in dtype_names:
            raise ParseError(f"operand {p.name} has undeclared dtype '{p.dtype}', expected 'type {p.dtype}: ...'",
                             place=str(op.location), subject=op.name)  # fmt: skip

    def need(e: ex.Expr | None, what: str, extra: Iterable[str] = ()) -> None:
        if e is None:
            return
        unknown = ex.names(e) - declared - set(extra) - {"_"} - dtype_names
        if unknown:
            raise ParseError(f"{what} names {', '.join(sorted(unknown))}, which is not declared",
                             place=str(op.location), subject=op.name)  # fmt: skip

    for a in op.attributes:
        for e in (a.lo, a.hi, a.default, ex.Sym(a.of) if a.of else None):
            need(e, f"attribute {a.name}")
    for let in op.lets:
        need(let.expr, f"let {let.name}")
        declared.add(let.name)
    for _, e in op.dtype_lets:
        need(e, "type")
    for c in op.constraints:
        need(c.expr, f"where {c.label}")
    for r in op.ranges:
        if r.operand not in operand_names:
            raise ParseError(f"range of {r.operand}, which is no operand", place=str(op.location), subject=op.name)
        if r.order and not op.operand(r.operand).shape:
            raise ParseError(f"range {r.operand} is {r.order}, expected an operand with an axis",
                             place=str(op.location), subject=op.name)  # fmt: skip
        if r.order == "anchored" and ex.to_text(r.lo) in ("inf", "-inf"):
            raise ParseError(f"range {r.operand} is anchored, expected a number for its lower end",
                             place=str(op.location), subject=op.name)  # fmt: skip
        for e in (r.lo, r.hi):
            need(e, f"range {r.operand}")
            if ex.names(e) & operand_names:
                raise ParseError(f"range {r.operand} depends on the elements of an operand",
                                 place=str(op.location), subject=op.name)  # fmt: skip
    for p in op.results:
        for d in p.shape:
            need(d, f"result {p.name}")
    match op.body:
        case Scalar(exprs):
            for result, e in exprs:
                need(e, f"scalar {result}")
        case Reduce(_, _, e, axes):
            need(e, "reduce")
            need(axes, "reduce")
        case Index(_, coordinates, e):
            need(e, "index", {c.name for c in coordinates if isinstance(c, (ex.Sym, ex.Pack))})
        case Random(result, _, parameters):
            for e in parameters:
                need(e, f"random {result}")
        case Expand(statements):
            known: set[str] = set()
            for name, e in statements:
                need(e, f"expand {name}", known)
                known.add(name)
            missing = {p.name for p in op.results} - known
            if missing:
                raise ParseError(f"expand does not define {', '.join(sorted(missing))}",
                                 place=str(op.location), subject=op.name)  # fmt: skip
    for what, e in op.calls.items():
        need(e, what, {n for n, _ in op.dtype_lets})
    for pattern in (*op.aten, *op.lax):
        # A pattern may name an argument of its own, as long as it says what the argument is for.
        said = [e for _, e in pattern.bindings] + ([pattern.guard] if pattern.guard is not None else [])
        own = ex.names(pattern.call) & set().union(*map(ex.names, said))
        for name, e in pattern.bindings:
            if name not in {a.name for a in op.attributes}:
                raise ParseError(f"aten binds {name}, which is no attribute", place=str(op.location), subject=op.name)
            need(e, "aten", own)
        need(pattern.guard, "aten", own)
        need(pattern.call, "aten", own)
    for kernel in op.kernels:
        need(kernel.guard, "triton")
        for name, e in kernel.parameters:
            need(e, f"triton {name}")
            if name in declared:
                message = f"triton names its parameter {name}, which is declared"
                raise ParseError(message, place=str(op.location), subject=op.name)
    need(op.flops, "flops")
    labels = [c.label for c in op.constraints]
    if len(labels) != len(set(labels)):
        raise ParseError("two constraints carry one label", place=str(op.location), subject=op.name)


def parse_definitions(text: str, file: str = "<text>") -> tuple[OpDef | Rule, ...]:
    """Parse operators and rewrites.

    Raises:
        ParseError: with place, what was found and what was expected.
    """
    items: tuple[OpDef | Rule, ...] = parse("opdef", _Builder, text, file)
    return items


def parse_ops(text: str, file: str = "<text>") -> dict[str, OpDef]:
    """Parse operator definitions; raises ParseError, also for a name that is defined twice."""
    ops: dict[str, OpDef] = {}
    for item in parse_definitions(text, file):
        if not isinstance(item, OpDef):
            raise ParseError("a rewrite stands among operators", place=str(item.location), subject=item.name)
        if item.name in ops:
            first = ops[item.name].location
            raise ParseError(f"defined twice, first at {first}", place=str(item.location), subject=item.name)
        ops[item.name] = item
    return ops


def read_text(path: str | Path) -> str:
    """Return the text of a file; raises UsageError where it cannot be read."""
    try:
        return Path(path).read_text(encoding="utf-8")
    except OSError as error:
        raise UsageError(f"cannot be read: {error.strerror or error}", place=str(path)) from None
    except UnicodeDecodeError:
        raise UsageError("is not UTF-8 text", place=str(path)) from None


@checked
def load_ops(*paths: str | os.PathLike[str], base: OpSet | None = None) -> OpSet:
    """Return the operators of ``base`` (the built-in ones if None) together with those of the files.

    Raises:
        UsageError: a file cannot be read.
        ParseError: a file is not in the grammar, or redefines an operator.
    """
    ops = dict(builtin_ops() if base is None else base)
    for path in paths:
        for name, op in parse_ops(read_text(Path(path)), str(path)).items():
            if name in ops:
                raise ParseError(
                    f"is already defined at {ops[name].location}, expected a new name",
                    place=str(op.location), subject=name,
                )  # fmt: skip
            ops[name] = op
    return ops


@cache
def builtin_ops() -> OpSet:
    """Return the operators that come with DRT (``ir/ops/*.drt``), read once."""
    return load_ops(*sorted(OPS_DIR.glob("*.drt")), base={})


def near_names(name: str, known: Iterable[str] | Mapping[str, Any], n: int = 3) -> list[str]:
    """Return up to ``n`` known names that are spelled like ``name``."""
    import difflib

    return difflib.get_close_matches(name, list(known), n=n, cutoff=0.5)


def find_op(name: str, ops: OpSet) -> OpDef:
    """Return ``ops[name]``; raises UsageError with the nearest names."""
    if name in ops:
        return ops[name]
    near = near_names(name, ops)
    hint = f"; near: {', '.join(near)}" if near else ""
    raise UsageError(f"unknown operator{hint}", subject=name)


__all__ = [
    "DrtError", "OPS_DIR", "builtin_ops", "find_op", "load_ops", "near_names", "parse_definitions", "parse_ops",
    "read_text",
]  # fmt: skip
