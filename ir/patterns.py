"""Matching the patterns of rewrite rules and building their replacements; see Note [Rules] in :mod:`drt.ir.rewrite`."""

from __future__ import annotations

import math
from collections import ChainMap
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Protocol

import attrs

from . import expr as ex
from .build import infer_under
from .errors import ParseError, Unsupported, VerifyError
from .evaluate import FUNCTIONS, UNKNOWN, equal, evaluate, present_key
from .graph import AttrValue, Literal, Node, Operand
from .guards import Facts
from .opdef import OpDef, OpSet, Scalar
from .rewrite import Rule
from .size import Size, SizeLike
from .typesys import DTYPES, TensorType

#: How far a literal may be from the number in the pattern of an approximate rule, relative.
LITERAL_TOLERANCE = 1e-6


class Program(Protocol):
    """What matching needs to know of the graph around it."""

    ops: OpSet

    @property
    def types(self) -> Mapping[str, TensorType]:
        """The type of every value."""

    def producer(self, value: str) -> Node | None:
        """Return the node that defines ``value``, None for an input."""

    @property
    def facts(self) -> Facts:
        """What is known of the symbols."""
        ...

    def n_uses(self, value: str) -> int:
        """Return how many nodes, outputs and updates read ``value``."""

    def is_frozen(self, operand: Operand) -> bool:
        """Return whether ``operand`` is made from parameters, buffers and constants alone."""


@attrs.frozen
class Match:
    """What the names of a pattern stand for: operands, and values of attributes."""

    operands: Mapping[str, Operand] = attrs.field(factory=dict)
    attributes: Mapping[str, AttrValue] = attrs.field(factory=dict)


# -- functions of values --------------------------------------------------------------------------------------------


@attrs.frozen
class _Value:
    """An operand, as guards and replacements see it."""

    operand: Operand
    program: Program = attrs.field(eq=False, repr=False)

    @property
    def type(self) -> TensorType:
        if not isinstance(self.operand, str):
            raise Unsupported("a literal has no type of its own")
        return self.program.types[self.operand]


def _shape(v: _Value) -> tuple[SizeLike, ...]:
    return () if isinstance(v.operand, Literal) else v.type.shape


def _number(v: _Value) -> bool | float | SizeLike:
    if not isinstance(v.operand, Literal):
        raise Unsupported("only a literal has a value")
    return v.operand.value


def _is_power_of_two(x: Any) -> bool:
    """Return whether dividing by ``x`` and multiplying by ``1 / x`` agree to the bit in every float type."""
    if isinstance(x, bool) or x == 0 or not math.isfinite(x):
        return False
    mantissa, exponent = math.frexp(x)
    return abs(mantissa) == 0.5 and abs(exponent) < 100


def _keeps_order(shape: Sequence[SizeLike], order: Sequence[int]) -> bool:
    """Return whether a permutation moves axes of size one only past the others."""
    kept = [p for p in order if not (isinstance(shape[p], int) and shape[p] == 1)]
    return kept == sorted(kept)


#: Whether a dtype holds every value of another: integers up to 2^(significand bits).
_HOLDS = {
    "bool": frozenset(DTYPES),
    "u8": frozenset({"u8", "i32", "i64", "f16", "bf16", "f32", "f64"}),
    "i8": frozenset({"i8", "i32", "i64", "f16", "bf16", "f32", "f64"}),
    "i32": frozenset({"i32", "i64", "f64"}),
    "i64": frozenset({"i64"}),
    "f16": frozenset({"f16", "f32", "f64"}),
    "bf16": frozenset({"bf16", "f32", "f64"}),
    "f32": frozenset({"f32", "f64"}),
    "f64": frozenset({"f64"}),
}

_VALUE_FUNCTIONS: dict[str, Callable[..., Any]] = {
    "rank": lambda v: len(_shape(v)) if isinstance(v, _Value) else len(v),
    "shape": _shape,
    "size": lambda v, axis: _shape(v)[axis],
    "dtype": lambda v: v.type.dtype,
    "value": _number,
    "is_literal": lambda v: isinstance(v.operand, Literal),
    "single_use": lambda v: isinstance(v.operand, str) and v.program.n_uses(v.operand) == 1,
    "frozen": lambda v: v.program.is_frozen(v.operand),
    "is_power_of_two": _is_power_of_two,
    "is_finite": math.isfinite,
    "near": lambda a, b: math.isclose(a, b, rel_tol=LITERAL_TOLERANCE),
    "keeps_order": _keeps_order,
    "widens": lambda narrow, wide: wide in _HOLDS[narrow],
}

#: Functions that guards and replacements may call.
RULE_FUNCTIONS: Mapping[str, Callable[..., Any]] = FUNCTIONS | _VALUE_FUNCTIONS

#: What evaluating an expression may raise where the rule does not fit what it was matched with.
_MISFITS = (KeyError, IndexError, TypeError, ValueError, ZeroDivisionError, OverflowError, Unsupported)


# -- matching -------------------------------------------------------------------------------------------------------


def is_symmetric(op: OpDef) -> bool:
    """Return whether exchanging the two operands of ``op`` keeps every bit, as far as its body shows.

    Maximum and minimum are not symmetric: of two zeros, the operands' order may decide which is returned.
    """
    if len(op.operands) != 2 or not isinstance(op.body, Scalar) or any(p.optional for p in op.operands):
        return False
    a, b = op.operands
    if a.dtype != b.dtype:
        return False
    renamed = {a.name: b.name, b.name: a.name}

    def canonical(e: ex.Expr, names: Mapping[str, str]) -> ex.Expr:
        if isinstance(e, ex.Sym):
            return ex.Sym(names.get(e.name, e.name))
        e = ex.map_children(e, lambda c: canonical(c, names))
        match e:
            case ex.Bin("+" | "*" | "==" | "!=" | "and" | "or", x, y) if ex.to_text(x) > ex.to_text(y):
                return ex.Bin(e.op, y, x)
            case ex.Call("bit_and" | "bit_or" | "bit_xor", args, ()):
                return ex.Call(e.fn, tuple(sorted(args, key=ex.to_text)))
        return e

    return all(canonical(e, {}) == canonical(e, renamed) for _, e in op.body.exprs)


class Matcher:
    """Matches one rule against the nodes of a program, and builds its replacement."""

    def __init__(self, rule: Rule, ops: OpSet) -> None:
        assert isinstance(rule.lhs, ex.Call)
        self.rule = rule
        self.root = rule.lhs.fn
        self.symmetric = {fn for fn in _calls(rule.lhs) if fn in ops and is_symmetric(ops[fn])}
        said = [e for e in (rule.guard, rule.rhs, *(e for _, e in rule.lets)) if e is not None]
        self.optional = set().union(*map(_asked_for, said))

    def matches(self, node: Node, program: Program) -> Iterator[Match]:
        """Yield the ways in which the rule's pattern and guard fit ``node``."""
        lhs = self.rule.lhs
        assert isinstance(lhs, ex.Call)
        if node.op != lhs.fn or len(node.results) != 1:
            return
        for match, later in self._node(lhs, node, Match(), (), program):
            if self._compared(later, match, program) and self._allowed(match, program):
                yield match

    def _node(
        self, pattern: ex.Call, node: Node, match: Match, later: tuple[Any, ...], program: Program
    ) -> Iterator[tuple[Match, tuple[Any, ...]]]:
        if len(pattern.args) > len(node.operands):
            return
        bound = self._attributes(pattern, node, match, later, program.ops[node.op])
        if bound is None:
            return
        match, later = bound
        absent = (ex.Num(None),) * (len(node.operands) - len(pattern.args))
        yield from self._operands((*pattern.args, *absent), node.operands, match, later, program)
        if node.op in self.symmetric and len(pattern.args) == 2 and node.operands[0] != node.operands[1]:
            yield from self._operands(pattern.args, node.operands[::-1], match, later, program)

    def _operands(
        self, patterns: tuple[ex.Expr, ...], operands: tuple[Operand, ...], match: Match, later: Any, program: Program
    ) -> Iterator[tuple[Match, tuple[Any, ...]]]:
        if not patterns:
            yield match, later
            return
        for m, ls in self._operand(patterns[0], operands[0], match, later, program):
            yield from self._operands(patterns[1:], operands[1:], m, ls, program)

    def _operand(
        self, pattern: ex.Expr, operand: Operand, match: Match, later: Any, program: Program
    ) -> Iterator[tuple[Match, tuple[Any, ...]]]:
        match pattern:
            case ex.Sym("_"):
                yield match, later
            case ex.Sym(name) if name in match.operands:
                if match.operands[name] == operand:
                    yield match, later
            case ex.Sym(name):
                if not isinstance(operand, tuple) and (operand is not None or name in self.optional):
                    yield Match({**match.operands, name: operand}, match.attributes), later
            case ex.Num(None):
                if operand is None:
                    yield match, later
            case ex.Num(number):
                if isinstance(operand, Literal) and self._same_number(number, operand.value):
                    yield match, later
            case ex.Lst(items):
                if isinstance(operand, tuple) and len(operand) == len(items):
                    yield from self._operands(items, operand, match, later, program)
            case ex.Call("either", choices, ()):
                for choice in choices:
                    yield from self._operand(choice, operand, match, later, program)
            case ex.Call(fn, _, _):
                node = program.producer(operand) if isinstance(operand, str) else None
                if node is not None and node.op == fn and len(node.results) == 1:
                    yield from self._node(pattern, node, match, later, program)

    def _same_number(self, wanted: Any, found: bool | float | SizeLike) -> bool:
        if isinstance(found, Size):
            return False
        if isinstance(wanted, bool) or isinstance(found, bool):
            return wanted is found
        if wanted == found:
            return math.copysign(1.0, wanted) == math.copysign(1.0, found) if wanted == 0 else True
        return not self.rule.exact and math.isclose(wanted, found, rel_tol=LITERAL_TOLERANCE)

    def _attributes(
        self, pattern: ex.Call, node: Node, match: Match, later: tuple[Any, ...], op: OpDef
    ) -> tuple[Match, tuple[Any, ...]] | None:
        """Bind new names in attribute patterns; what must be compared is left for later, when all names are bound."""
        if not node.attrs:
            return match, later
        given = dict(pattern.kwargs)
        bound = dict(match.attributes)
        for name, value in node.attrs:
            if name not in given:
                if not _is_default(op, name, value):
                    return None
                continue
            if not _bind_attribute(given[name], value, bound):
                later = (*later, (given[name], value))
        return (Match(match.operands, bound), later)

    def _environment(self, match: Match, program: Program) -> dict[str, Any]:
        env: dict[str, Any] = dict(match.attributes)
        for name, operand in match.operands.items():
            env[name] = _Value(operand, program)
            env[present_key(name)] = operand is not None
        return env

    def _compared(self, later: Iterable[tuple[ex.Expr, AttrValue]], match: Match, program: Program) -> bool:
        env = self._environment(match, program)
        try:
            return all(equal(evaluate(e, env, RULE_FUNCTIONS), value) is True for e, value in later)
        except _MISFITS:
            return False

    def _allowed(self, match: Match, program: Program) -> bool:
        if self.rule.guard is None:
            return True
        try:
            found = evaluate(self.rule.guard, self._environment(match, program), RULE_FUNCTIONS)
        except _MISFITS:
            return False
        return found is not UNKNOWN and bool(found)

    # -- building ---------------------------------------------------------------------------------------------------

    def replacement(self, match: Match, program: Program, fresh: Callable[[str], str]) -> tuple[Operand, list[Node]]:
        """Return what replaces the matched node, and the new nodes it needs, in order.

        Args:
            match: what the names stand for.
            program: the graph around.
            fresh: makes a value name that is not taken from a wish.

        Raises:
            VerifyError: a new node would break a rule of its operator.
            Unsupported: an attribute or a type depends on the values of symbols.
        """
        env = self._environment(match, program)
        types = ChainMap[str, TensorType]({}, program.types)  # type: ignore[arg-type]
        nodes: list[Node] = []

        lets = dict(self.rule.lets)
        parts: dict[str, Operand] = {}

        def build(e: ex.Expr) -> Operand:
            match e:
                case ex.Sym(name) if name in lets:
                    if name not in parts:
                        parts[name] = build(lets[name])
                    return parts[name]
                case ex.Cond(test, a, b):
                    return build(a if evaluate(test, env, RULE_FUNCTIONS) is True else b)
                case ex.Sym(name) if isinstance(env.get(name), _Value):
                    return env[name].operand  # type: ignore[no-any-return]
                case ex.Lst(items):
                    return tuple(map(build, items))
                case ex.Call(fn, args, kwargs) if fn in program.ops:
                    return call(program.ops[fn], tuple(map(build, args)), kwargs)
            number = evaluate(e, env, RULE_FUNCTIONS)
            if number is not None and not isinstance(number, (bool, int, float)):
                raise Unsupported(f"'{ex.to_text(e)}' is no number")
            return None if number is None else Literal(number)

        def call(op: OpDef, operands: tuple[Operand, ...], kwargs: tuple[tuple[str, ex.Expr], ...]) -> str:
            attributes = tuple((k, evaluate(v, env, RULE_FUNCTIONS)) for k, v in kwargs)
            padded = operands + (None,) * (len(op.operands) - len(operands))
            inferred = infer_under(Node(op.name, padded, attributes, (), ()), types, program.ops, program.facts)
            needed = inferred.conditions(program.facts) if inferred.undecided else ()
            if needed:
                raise Unsupported(f"{op.name} would need {needed[0]}")
            name = fresh(op.name)
            types[name] = inferred.types[0]
            nodes.append(Node(op.name, padded, inferred.attributes, (name,), inferred.types))
            return name

        try:
            return build(self.rule.rhs), nodes
        except (VerifyError, Unsupported):
            raise
        except _MISFITS as error:
            raise Unsupported(f"no replacement: {error}") from None


def _is_default(op: OpDef, name: str, value: AttrValue) -> bool:
    attribute = op.attribute(name)
    if attribute.default is None:
        return attribute.optional and value is None
    return isinstance(attribute.default, (ex.Num, ex.Lst)) and equal(evaluate(attribute.default, {}), value) is True


def _bind_attribute(pattern: ex.Expr, value: AttrValue, bound: dict[str, AttrValue]) -> bool:
    """Bind the new names of an attribute pattern; return False where it must be compared."""
    if isinstance(pattern, ex.Sym) and pattern.name == "_":
        return True
    if isinstance(pattern, ex.Sym) and pattern.name not in bound:
        bound[pattern.name] = value
        return True
    items = pattern.items if isinstance(pattern, ex.Lst) else ()
    if isinstance(value, tuple) and len(value) == len(items) and items:
        return all(isinstance(i, ex.Sym) and _bind_attribute(i, v, bound) for i, v in zip(items, value, strict=True))
    return False


def _calls(pattern: ex.Expr) -> set[str]:
    own = {pattern.fn} if isinstance(pattern, ex.Call) else set()
    return own.union(*map(_calls, ex.children(pattern)))


def _asked_for(e: ex.Expr) -> set[str]:
    """Return the names of which ``e`` asks whether they are present."""
    match e:
        case ex.Call("present", (ex.Sym(name),), ()):
            return {name}
    return set().union(*map(_asked_for, ex.children(e)))


# -- checking -------------------------------------------------------------------------------------------------------


def check_rule(rule: Rule, ops: OpSet) -> None:
    """Refuse a rule that speaks of operators, attributes or names that are not there.

    Raises:
        ParseError: placed at the rule.
    """

    def fail(message: str) -> ParseError:
        return ParseError(message, place=str(rule.location or ""), subject=rule.name)

    def bound(pattern: ex.Expr) -> set[str]:
        """Return the names that a pattern is sure to bind."""
        match pattern:
            case ex.Sym(name):
                return {name}
            case ex.Call("either", choices, ()) if choices:
                return set.intersection(*map(bound, choices))
            case ex.Call(fn, args, kwargs):
                if fn not in ops:
                    raise fail(f"the pattern names the operator {fn}, which is not defined")
                known = {a.name: a for a in ops[fn].attributes}
                unknown = [k for k, _ in kwargs if k not in known]
                if unknown:
                    raise fail(f"{fn} has no attribute {unknown[0]}, expected one of {', '.join(known) or 'none'}")
                if len(args) > len(ops[fn].operands):
                    raise fail(f"{fn} takes {len(ops[fn].operands)} operands, the pattern gives {len(args)}")
                for a in known.values():
                    if a.default is None and not a.optional and a.name not in dict(kwargs):
                        raise fail(f"the pattern of {fn} does not say attribute {a.name}, which has no default")
                names = {s.name for _, v in kwargs for s in _new_names(v)}
                return names.union(*map(bound, args))
            case ex.Lst(items):
                return set().union(*map(bound, items))
            case ex.Num():
                return set()
        raise fail(f"'{ex.to_text(pattern)}' is no pattern")

    if not isinstance(rule.lhs, ex.Call) or rule.lhs.fn == "either":
        raise fail("the pattern is no call of an operator")
    names = bound(rule.lhs)
    said: list[tuple[ex.Expr | None, set[str]]] = [(rule.guard, set(names))]
    for name, e in rule.lets:
        said.append((e, set(names)))
        names.add(name)
    for expression, known in [*said, (rule.rhs, names)]:
        if expression is None:
            continue
        free = sorted(ex.names(expression) - known - set(DTYPES))
        if free:
            raise fail(f"{', '.join(free)} is not bound by the pattern")
        for fn in sorted(_calls(expression)):
            if fn not in ops and fn not in RULE_FUNCTIONS and fn != "present":
                raise fail(f"{fn} is neither an operator nor a function")


def _new_names(pattern: ex.Expr) -> list[ex.Sym]:
    if isinstance(pattern, ex.Lst):
        return [i for i in pattern.items if isinstance(i, ex.Sym)]
    return [pattern] if isinstance(pattern, ex.Sym) else []
