"""Reading 2 of a definition: result types from operand types and attributes, and every violated rule by its label."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias, Union

import attrs

from . import expr as ex
from .errors import VerifyError
from .evaluate import UNKNOWN, Truth, conjunction, equal, evaluate, present_key, relate
from .graph import Literal
from .guards import Facts, Guard, conditions, simpler
from .opdef import Attribute, OpDef, Param
from .size import Size, compare
from .typesys import DTYPES, TensorType, is_float

OperandType: TypeAlias = Union[TensorType, Literal, None, "tuple[OperandType, ...]"]


@attrs.frozen
class Inferred:
    """What a definition says of one call.

    Attributes:
        types: the results' types.
        env: dimensions, packs (tuples of sizes), lets, attributes, dtype variables and ``present(x)`` flags.
        attributes: complete and normalised, sorted by name.
        guards: constraints that hold only for some values of the symbols, as text over them.
        undecided: the same constraints, each as a function that is evaluated again under assumptions.
    """

    types: tuple[TensorType, ...]
    env: Mapping[str, Any]
    attributes: tuple[tuple[str, Any], ...]
    guards: tuple[str, ...] = ()
    undecided: tuple[Callable[[], Truth], ...] = attrs.field(default=(), eq=False, repr=False)

    def conditions(self, facts: Facts | None = None) -> tuple[Guard, ...]:
        """Return the constraints that depend on symbols as guards over sizes, without those that ``facts`` say.

        Raises:
            Unsupported: a constraint compares too many symbolic sizes.
        """
        known = facts or Facts()
        found = simpler(g for test in self.undecided for g in conditions(test, known))
        return tuple(g for g in found if not known.implies(g))


class _Call:
    """The state of one inference."""

    def __init__(self, op: OpDef) -> None:
        self.op = op
        self.env: dict[str, Any] = {}
        self.origin: dict[str, str] = {}  # where each dimension and dtype variable was first bound
        self.ranks: dict[str, int] = {}  # of the operands
        self.guards: list[str] = []
        self.undecided: list[Callable[[], Truth]] = []
        self.later: list[tuple[ex.Expr, Any, str]] = []  # operand dimensions that are expressions

    def fail(self, label: str, message: str) -> VerifyError:
        return VerifyError(message, label=f"{self.op.name}_{label}", subject=self.op.name)

    # -- operands ---------------------------------------------------------------------------------------------------

    def operands(self, given: Sequence[OperandType]) -> None:
        params = self.op.operands
        required = sum(not p.optional for p in params)
        if not required <= len(given) <= len(params):
            want = str(required) if required == len(params) else f"{required} to {len(params)}"
            raise self.fail("arity", f"{len(given)} operands given, expected {want}")
        padded = [*given, *[None] * (len(params) - len(given))]
        literals: list[tuple[Param, Literal]] = []
        for p, value in zip(params, padded, strict=True):
            self.env[present_key(p.name)] = value is not None
            if value is None:
                if not p.optional:
                    raise self.fail("arity", f"operand {p.name} is absent, expected a tensor")
                for d in p.shape:  # a dimension that only an absent operand would bind stays unbound
                    if isinstance(d, ex.Pack) and d.name not in self.env:
                        self.env.setdefault(d.name, ())
                continue
            if p.variadic:
                self._variadic(p, value)
            elif isinstance(value, tuple):
                raise self.fail("arity", f"operand {p.name} is a list, expected one tensor")
            elif isinstance(value, Literal):
                literals.append((p, value))
                self._shape(p, (), p.name)
            else:
                self._dtype(p, value.dtype, p.name)
                self._shape(p, value.shape, p.name)
        for p, literal in literals:
            self._literal(p, literal)

    def _variadic(self, p: Param, value: OperandType) -> None:
        items = value if isinstance(value, tuple) else (value,)
        if not items:
            raise self.fail("arity", f"operand {p.name} is an empty list, expected at least one tensor")
        shapes = []
        for i, item in enumerate(items):
            if not isinstance(item, TensorType):
                raise self.fail("arity", f"{p.name}[{i}] is not a tensor")
            self._dtype(p, item.dtype, f"{p.name}[{i}]")
            shapes.append(item.shape)
        if len(p.shape) == 1 and isinstance(p.shape[0], ex.Pack):
            self.env[p.shape[0].name] = tuple(shapes)
            return
        raise self.fail("arity", f"variadic operand {p.name} must have a pack as its shape")

    def _dtype(self, p: Param, dtype: str, where: str) -> None:
        if p.dtype in DTYPES:
            if dtype != p.dtype:
                raise self.fail("dtype", f"{where} is {dtype}, expected {p.dtype}")
            return
        allowed = self.op.dtypes.get(p.dtype, frozenset(DTYPES))
        if dtype not in allowed:
            known = ", ".join(d for d in DTYPES if d in allowed)
            raise self.fail("dtype", f"{where} is {dtype}, expected one of {known}")
        bound = self.env.setdefault(p.dtype, dtype)
        first = self.origin.setdefault(p.dtype, where)
        if bound != dtype:
            raise self.fail("dtype", f"{where} is {dtype} but {first} is {bound}, expected one dtype; use cast")

    def _literal(self, p: Param, literal: Literal) -> None:
        dtype = p.dtype if p.dtype in DTYPES else self.env.get(p.dtype)
        if dtype is None:
            raise self.fail("dtype", f"operand {p.name} is the literal {literal} and nothing gives its dtype, "
                            "expected a tensor")  # fmt: skip
        if isinstance(literal.value, bool):
            fits = dtype == "bool"
        elif isinstance(literal.value, float):
            fits = is_float(dtype)
        else:
            fits = dtype != "bool"
        if not fits:
            raise self.fail("dtype", f"operand {p.name} is the literal {literal}, expected one that fits {dtype}")

    def _shape(self, p: Param, shape: Sequence[Any], where: str) -> None:
        self.ranks[p.name] = len(shape)
        packs = [i for i, d in enumerate(p.shape) if isinstance(d, ex.Pack)]
        n = len(p.shape) - len(packs)
        if len(shape) != n if not packs else len(shape) < n:
            more = " or more" if packs else ""
            raise self.fail("rank", f"{where} has rank {len(shape)}, expected {n}{more}")
        cut = packs[0] if packs else len(p.shape)
        width = len(shape) - n
        for i, d in enumerate(p.shape[:cut]):
            self._bind(d, shape[i], f"{where}[{i}]")
        if packs:
            self._bind(p.shape[cut], tuple(shape[cut : cut + width]), where)
            for i, d in enumerate(p.shape[cut + 1 :]):
                at = cut + width + i
                self._bind(d, shape[at], f"{where}[{at}]")

    def _bind(self, d: ex.Expr, value: Any, where: str) -> None:
        if not isinstance(d, (ex.Sym, ex.Pack)):
            self.later.append((d, value, where))
            return
        bound = self.env.setdefault(d.name, value)
        first = self.origin.setdefault(d.name, where)
        if first != where:
            self._must_equal(d.name, bound, first, value, where)

    def _must_equal(self, name: str, bound: Any, first: str, value: Any, where: str) -> None:
        same = equal(bound, value)
        if same is False:
            raise self.fail("shape", f"{name} is {show(value)} in {where} but {show(bound)} in {first}")
        if same is UNKNOWN:
            self.guards.append(f"{show(bound)} == {show(value)}")
            self.undecided.append(lambda: equal(bound, value))

    # -- attributes and clauses -------------------------------------------------------------------------------------

    def attributes(self, given: Mapping[str, Any]) -> None:
        known = {a.name for a in self.op.attributes}
        for name in given:
            if name not in known:
                expected = ", ".join(sorted(known)) or "none"
                raise self.fail("attribute", f"unknown attribute {name}, expected {expected}")
        for a in self.op.attributes:
            if a.name in given:
                value = given[a.name]
            elif a.default is not None:
                value = evaluate(a.default, self.env)
            elif a.optional:
                value = None
            else:
                raise self.fail("attribute", f"attribute {a.name} is missing")
            self.env[a.name] = self._attribute(a, value)

    def _attribute(self, a: Attribute, value: Any) -> Any:
        def wrong(expected: str) -> VerifyError:
            return self.fail("attribute", f"attribute {a.name} = {show(value)}, expected {expected}")

        if value is None:
            if a.optional:
                return None
            raise wrong(a.kind)
        integer = isinstance(value, (int, Size)) and not isinstance(value, bool)
        match a.kind:
            case "int" | "axis":
                if not integer:
                    raise wrong("an integer")
            case "float":
                if isinstance(value, bool) or not isinstance(value, (int, float)):
                    raise wrong("a number")
                value = float(value)
            case "number":
                if isinstance(value, bool) or not isinstance(value, (int, float, Size)):
                    raise wrong("a number")
            case "bool":
                if not isinstance(value, bool):
                    raise wrong("True or False")
            case "enum":
                if value not in a.choices:
                    raise wrong(f"one of {', '.join(a.choices)}")
            case "str":
                if not isinstance(value, str):
                    raise wrong("a string")
            case "dtype":
                if value not in DTYPES:
                    raise wrong(f"one of {', '.join(DTYPES)}")
            case "ints" | "axes":
                if not isinstance(value, (tuple, list)):
                    raise wrong("a list of integers")
                value = tuple(value)
                if any(isinstance(v, bool) or not isinstance(v, (int, Size)) for v in value):
                    raise wrong("a list of integers")
                if a.length is not None and len(value) != a.length:
                    raise wrong(f"{a.length} integers")
        self._domain(a, value)
        return value

    def _domain(self, a: Attribute, value: Any) -> None:
        if a.kind in ("axis", "axes"):
            n = self.ranks[a.of] if a.of in self.ranks else len(self.env.get(a.of, ()))
            lo, hi = 0, n - 1
        elif a.lo is not None and a.hi is not None:
            lo, hi = evaluate(a.lo, self.env), evaluate(a.hi, self.env)
        else:
            return
        for v in value if isinstance(value, tuple) else (value,):
            below, above = _less(v, lo), _less(hi, v)
            if below or above:
                raise self.fail("attribute", f"attribute {a.name} = {show(value)}, expected {show(lo)}..{show(hi)}")
            if isinstance(v, Size) or isinstance(lo, Size) or isinstance(hi, Size):
                self.undecided.append(lambda v=v: _lies_within(v, lo, hi))  # type: ignore[misc]
        if a.kind == "axes" and list(value) != sorted(set(value)):
            raise self.fail("attribute", f"attribute {a.name} = {show(value)}, expected ascending axes, each once")

    def clauses(self) -> None:
        op = self.op
        for let in op.lets:
            self.env[let.name] = self._value(let.expr, f"let {let.name}")
        for d, value, where in self.later:
            self._must_equal(ex.to_text(d), self._value(d, where), "the definition", value, where)
        for c in op.constraints:
            truth = self._value(c.expr, f"where {c.label}")
            if truth is UNKNOWN:
                self.guards.append(self._substituted(c.expr))
                self.undecided.append(lambda e=c.expr: evaluate(e, self._decided_lets()))  # type: ignore[misc]
            elif not truth:
                text, involved = self._involved(c.expr)
                raise self.fail(c.label, f"'{text}' does not hold for {involved or 'this call'}")

    def _decided_lets(self) -> dict[str, Any]:
        """Return the environment with truth values among the lets evaluated again, under what is assumed now."""
        env = dict(self.env)
        for let in self.op.lets:
            if env[let.name] is UNKNOWN:
                env[let.name] = evaluate(let.expr, env)
        return env

    def _value(self, e: ex.Expr, what: str) -> Any:
        try:
            return evaluate(e, self.env)
        except (ZeroDivisionError, IndexError, TypeError) as error:
            raise self.fail("shape", f"{what} '{ex.to_text(e)}' has no value: {error}") from None

    def _substituted(self, e: ex.Expr) -> str:
        text, bound = self._involved(e)
        return f"{text} where {bound}" if bound else text

    def _involved(self, e: ex.Expr) -> tuple[str, str]:
        """Return the text of an expression, and the values of its names."""
        _, text, names = _TEXTS.get(id(e)) or _text_of(e)
        return text, ", ".join([f"{n} = {show(self.env[n])}" for n in names if n in self.env])

    def results(self) -> tuple[TensorType, ...]:
        types = []
        dtypes = {n: evaluate(e, self.env) for n, e in self.op.dtype_lets}
        self.env.update(dtypes)
        for p in self.op.results:
            dtype = p.dtype if p.dtype in DTYPES else self.env.get(p.dtype)
            if dtype not in DTYPES:
                raise self.fail("dtype", f"result {p.name} has no dtype; an operand with dtype {p.dtype} is expected")
            shape: list[Any] = []
            for d in p.shape:
                value = self._value(d, f"result {p.name}")
                shape.extend(value) if isinstance(value, tuple) else shape.append(value)
            if any(compare("<", s, 0) is True for s in shape):
                raise self.fail("size", f"result {p.name} would have shape {show(tuple(shape))}, expected sizes >= 0")
            types.append(TensorType(dtype, tuple(shape)))
        return tuple(types)


#: Expressions of definitions by identity, which is theirs as long as they are kept here, with their text and names.
_TEXTS: dict[int, tuple[ex.Expr, str, tuple[str, ...]]] = {}


def _text_of(e: ex.Expr) -> tuple[ex.Expr, str, tuple[str, ...]]:
    if len(_TEXTS) > 1 << 14:
        _TEXTS.clear()
    found = _TEXTS[id(e)] = (e, ex.to_text(e), tuple(sorted(ex.names(e))))
    return found


def _less(a: Any, b: Any) -> bool:
    if isinstance(a, float) or isinstance(b, float):  # an infinite bound of a symbolic size
        return a == float("-inf") or b == float("inf") if isinstance(a, Size) or isinstance(b, Size) else bool(a < b)
    return bool(compare("<", a, b)) if isinstance(a, Size) or isinstance(b, Size) else bool(a < b)


def _lies_within(v: Any, lo: Any, hi: Any) -> Truth:
    pairs = [(a, b) for a, b in ((lo, v), (v, hi)) if not isinstance(a, float) and not isinstance(b, float)]
    return conjunction(relate("<=", a, b) for a, b in pairs)


def show(value: Any) -> str:
    """Return a value as the text form prints it."""
    if isinstance(value, tuple):
        return f"[{', '.join(map(show, value))}]"
    return str(value)


def infer(op: OpDef, operands: Sequence[OperandType], attributes: Mapping[str, Any] | None = None) -> Inferred:
    """Return the result types of one call, with everything that the definition derives on the way.

    Args:
        op: the definition.
        operands: the operands' types in order; trailing optional ones may be left out.
        attributes: by name; those with defaults may be left out.

    Raises:
        VerifyError: the first violated rule; its label is ``<op>_<constraint>`` or one of ``_arity``, ``_dtype``,
            ``_rank``, ``_shape``, ``_attribute``, ``_size``.
        Unsupported: a compile-time condition depends on a symbolic size.

    >>> from drt.ir import builtin_ops, TensorType
    >>> infer(builtin_ops()["matmul"], [TensorType("f32", (8, 16)), TensorType("f32", (16, 4))]).types[0].shape
    (8, 4)
    """
    key = _static_key(op, operands, attributes or {})
    known = _KNOWN.get(key) if key is not None else None
    if known is not None:
        return known[1]
    call = _Call(op)
    call.operands(operands)
    call.attributes(attributes or {})
    call.clauses()
    types = call.results()
    complete = tuple(sorted((a.name, call.env[a.name]) for a in op.attributes))
    found = Inferred(types, call.env, complete, tuple(dict.fromkeys(call.guards)), tuple(call.undecided))
    if key is not None:
        if len(_KNOWN) >= _MOST_KNOWN:
            _KNOWN.clear()
        _KNOWN[key] = (op, found)
    return found


#: Calls without symbols that have been inferred, each with its operator, which keeps the number of an operator its own.
_KNOWN: dict[tuple[Any, ...], tuple[OpDef, Inferred]] = {}
_MOST_KNOWN = 4096
_PLAIN = frozenset((int, float, str, bool, type(None)))


def _static_key(op: OpDef, operands: Sequence[OperandType], attributes: Mapping[str, Any]) -> tuple[Any, ...] | None:
    """Return what tells a call from all others, None where it has symbols: what holds of it then depends on assumptions."""
    row: list[Any] = [id(op)]
    for o in operands:
        if isinstance(o, tuple):
            row.append(len(o))
        for t in o if isinstance(o, tuple) else (o,):
            if isinstance(t, TensorType):
                for d in t.shape:
                    if d.__class__ is not int:
                        return None
                row += (t.dtype, t.shape)
            elif t is None or t.__class__ is Literal:
                row.append(repr(t))
            else:
                return None
    if attributes:
        if not all(map(is_plain, attributes.values())):
            return None
        row.append(repr(sorted(attributes.items())))  # 1, 1.0 and True are different values
    return tuple(row)


def is_plain(value: Any) -> bool:
    """Return whether a value of an environment has no symbols and equals itself, as NaN does not."""
    if value.__class__ in (tuple, list):
        return all(map(is_plain, value))
    return value.__class__ in _PLAIN and value == value
