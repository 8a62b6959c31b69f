"""ATen calls to operators: the ``aten`` clauses of the definitions, matched backwards.

A pattern is a call written with the operator's own names.  Matching binds operands and attributes to the arguments of an
ATen call; whatever the pattern computes (``range(0, rank(S))``) is evaluated once the operand shapes are known; then the
definition infers the result types, which must be PyTorch's.  No torch here: the call is plain data.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeAlias, Union

import attrs

from ..ir import DTYPES, Literal, OpDef, OpSet, Size, TensorType, Unsupported, VerifyError, infer
from ..ir import expr as ex
from ..ir.evaluate import UNKNOWN, equal, evaluate, present_key
from ..ir.opdef import AtenPattern, Attribute
from ..ir.typesys import DTYPE_CLASSES, is_float

#: Arguments that say where and how a tensor is stored; values do not depend on them.
STORAGE_ARGUMENTS = frozenset({"layout", "device", "pin_memory", "memory_format", "non_blocking", "copy", "implicit"})

#: What PyTorch computes in where only Python numbers and integers meet (``torch.get_default_dtype()`` at its default).
DEFAULT_FLOAT = "f32"


@attrs.frozen
class Value:
    """A tensor of the program.

    Attributes:
        name: of the value in the graph.
        type: of the value in the graph.
        number: its content where that is one known number or size.
        complex: whether it stands for a complex tensor; the last axis of ``type`` then holds the two parts.
    """

    name: str
    type: TensorType
    number: bool | int | float | Size | None = attrs.field(default=None, eq=False)
    complex: bool = False


#: An argument of an ATen call: a tensor, a number or size, a string (also a dtype's name), None, or a tuple of these.
Argument: TypeAlias = Any
#: An operand on its way into a node: tensors are still values.
Bound: TypeAlias = Union[Value, Literal, None, "tuple[Bound, ...]"]


@attrs.frozen
class AtenCall:
    """One call of an ATen overload, arguments complete and in the order of its schema.

    Attributes:
        target: ``aten.sum.dim_IntList``.
        arguments: name -> value; defaults filled in.
        defaults: name -> default, for arguments that have one.
    """

    target: str
    arguments: Mapping[str, Argument]
    defaults: Mapping[str, Argument]

    def replace(self, /, **values: Argument) -> AtenCall:
        """Return the call with some arguments replaced."""
        return attrs.evolve(self, arguments={**self.arguments, **values})


@attrs.frozen
class Match:
    """One reading of an ATen call.

    Attributes:
        op: the operator.
        operands: in order; tensors that must be cast first stand with their present type.
        casts: names of values -> the dtype to cast them to.
        attributes: complete, sorted by name.
        types: of the operator's results.
        results: for each result of the ATen call, the index of the operator's result, or None for one that has no meaning.
    """

    op: OpDef
    operands: tuple[Bound, ...]
    casts: Mapping[str, str]
    attributes: tuple[tuple[str, Any], ...]
    types: tuple[TensorType, ...]
    results: tuple[int | None, ...]


class Mismatch(Exception):
    """The pattern does not fit; the text says why."""


Index: TypeAlias = "dict[str, tuple[tuple[OpDef, AtenPattern], ...]]"
_INDICES: dict[tuple[int, str], tuple[OpSet, Index]] = {}


def pattern_index(ops: OpSet, clause: str = "aten") -> Index:
    """Return target -> the patterns for it in ``aten`` or ``lax`` clauses, in order; built once per operator set."""
    found = _INDICES.get((id(ops), clause))
    if found is None or found[0] is not ops:
        lists: dict[str, list[tuple[OpDef, AtenPattern]]] = {}
        for op in ops.values():
            for pattern in op.aten if clause == "aten" else op.lax:
                lists.setdefault(pattern.call.fn, []).append((op, pattern))
        if len(_INDICES) > 8:
            _INDICES.clear()
        # The operator set is kept beside its index, so its id stays its own.
        found = _INDICES[id(ops), clause] = (ops, {k: tuple(v) for k, v in lists.items()})
    return found[1]


def match_call(
    call: AtenCall, expected: Sequence[TensorType | None], used: Iterable[int], ops: OpSet
) -> tuple[Match | None, str]:
    """Return the first operator that says what ``call`` says, or None and the reason.

    Args:
        call: the ATen call.
        expected: PyTorch's result types; None for a result that is not known.
        used: indices of the results that are read.
        ops: the operators.
    """
    candidates = pattern_index(ops).get(call.target, ())
    if not candidates:
        return None, "no operator has a pattern for it"
    reasons = []
    for op, pattern in candidates:
        try:
            return _Matcher(op, pattern).match(call, expected, frozenset(used)), ""
        except Mismatch as mismatch:
            reasons.append(f"{op.name}: {mismatch}")
        except VerifyError as error:
            reasons.append(error.line())
        except Unsupported as error:
            reasons.append(f"{op.name}: {error.line()}")
    return None, "; ".join(dict.fromkeys(reasons))


def match_pattern(op: OpDef, pattern: AtenPattern, call: AtenCall) -> Match:
    """Return the reading of ``call`` by one pattern, its result of any type.

    Raises:
        Mismatch: the pattern does not fit.
        VerifyError: the definition does not accept the call.
    """
    return _Matcher(op, pattern).match(call, [None], frozenset({0}))


class _Matcher:
    """The state of one attempt."""

    def __init__(self, op: OpDef, pattern: AtenPattern) -> None:
        self.op = op
        self.pattern = pattern
        self.params = {p.name: p for p in op.operands}
        self.attribute_names = {a.name for a in op.attributes}
        self.operands: dict[str, Bound] = {}
        self.attributes: dict[str, Any] = {}
        self.locals: dict[str, Any] = {}
        self.later: list[tuple[ex.Expr, Any]] = []

    def match(self, call: AtenCall, expected: Sequence[TensorType | None], used: frozenset[int]) -> Match:
        self._arguments(call)
        env = self._dimensions([self.operands.get(p.name) for p in self.op.operands])
        for name, e in self.pattern.bindings:
            self._bind(name, self._evaluate(e, env))
        operands = [self._operand(p.name) for p in self.op.operands]
        for a in self.op.attributes:
            if a.name in self.attributes:
                value = _normal_attribute(a, self.attributes[a.name], env)
                self.attributes[a.name] = env[a.name] = value
        results = self._results(expected, used)
        dtypes = self._promoted(operands, {})
        inferred = self._infer(operands, dtypes)
        wrong = {
            self.op.results[r].dtype: expected[i].dtype  # type: ignore[union-attr]
            for i, r in enumerate(results)
            if r is not None and expected[i] is not None and inferred.types[r].dtype != expected[i].dtype  # type: ignore[union-attr]
        }
        if wrong:
            # PyTorch computes in the dtype of the result: integers are summed as i64, quotients of integers are f32.
            dtypes = self._promoted(operands, wrong)
            inferred = self._infer(operands, dtypes)
        for i, r in enumerate(results):
            want = expected[i]
            if r is not None and want is not None and not _same_type(inferred.types[r], want):
                raise Mismatch(f"gives {inferred.types[r]} where PyTorch gives {want}")
        full = {**self.locals, **inferred.env}
        for e, value in self.later:
            if equal(_plain(self._evaluate(e, full)), value) is not True:
                raise Mismatch(f"{ex.to_text(e)} is not {value}")
        if self.pattern.guard is not None and self._evaluate(self.pattern.guard, full) is not True:
            raise Mismatch(f"guard '{ex.to_text(self.pattern.guard)}' does not hold")
        final = [self._final(p.dtype, o, dtypes) for p, o in zip(self.op.operands, operands, strict=True)]
        casts = {
            v.name: dtypes[p.dtype]
            for p, o in zip(self.op.operands, final, strict=True)
            for v in _values(o)
            if p.dtype in dtypes and v.type.dtype != dtypes[p.dtype]
        }
        return Match(self.op, tuple(final), casts, inferred.attributes, inferred.types, results)

    # -- unification --------------------------------------------------------------------------------------------------

    def _arguments(self, call: AtenCall) -> None:
        names = list(call.arguments)
        if len(self.pattern.call.args) > len(names):
            raise Mismatch(f"has {len(self.pattern.call.args)} arguments, the schema has {len(names)}")
        given = dict(zip(names, self.pattern.call.args, strict=False))
        for name, e in self.pattern.call.kwargs:
            if name not in call.arguments:
                raise Mismatch(f"names the argument {name}, which the schema does not have")
            given[name] = e
        for name, value in call.arguments.items():
            if name in given:
                self._unify(given[name], value)
            elif name not in STORAGE_ARGUMENTS:
                if name not in call.defaults or not _same_value(value, call.defaults[name]):
                    raise Mismatch(f"argument {name} is {_show(value)}")

    def _unify(self, e: ex.Expr, value: Argument) -> None:
        match e:
            case ex.Sym("_"):
                return
            case ex.Sym(name):
                self._bind(name, value)
            case ex.Num(v):
                if isinstance(value, Value) or not _same_value(v, value):
                    raise Mismatch(f"{_show(value)} is not {v!r}")
            case ex.Unary("-", ex.Num(v)) if isinstance(v, (int, float)):
                if not _same_value(-v, value):
                    raise Mismatch(f"{_show(value)} is not {-v!r}")
            case ex.Lst(items) if not any(isinstance(i, ex.Pack) for i in items):
                values = value if isinstance(value, tuple) else (value,)
                if value is None or len(values) != len(items):
                    raise Mismatch(f"{_show(value)} is not a list of {len(items)}")
                for i, v in zip(items, values, strict=True):
                    self._unify(i, v)
            case _:
                if any(True for _ in _values(value)):
                    raise Mismatch(f"{_show(value)} is a tensor, expected {ex.to_text(e)}")
                self.later.append((e, value))

    def _bind(self, name: str, value: Any) -> None:
        if name in self.params:
            bound = self._as_operand(name, value)
            if self.operands.setdefault(name, bound) != bound:
                raise Mismatch(f"{name} stands for two different values")
        elif name in self.attribute_names:
            if not _same_value(self.attributes.setdefault(name, value), value):
                raise Mismatch(f"{name} stands for two different values")
        elif isinstance(value, Value):
            self.locals[name] = value.type.shape
        else:
            self.locals.setdefault(name, value)
            self.later.append((ex.Sym(name), value))

    def _as_operand(self, name: str, value: Any) -> Bound:
        p = self.params[name]
        if p.variadic:
            items = value if isinstance(value, tuple) else (value,)
            if not items or not all(isinstance(v, Value) for v in items):
                raise Mismatch(f"{name} is not a list of tensors")
            return items
        if value is None or isinstance(value, Value):
            return value
        if isinstance(value, (bool, int, float, Size)):
            return Literal(value)
        raise Mismatch(f"{name} is {_show(value)}, expected a tensor or a number")

    def _operand(self, name: str) -> Bound:
        bound = self.operands.get(name)
        if bound is None and not self.params[name].optional:
            raise Mismatch(f"operand {name} is absent")
        return bound

    # -- shapes, attributes, results ------------------------------------------------------------------------------------

    def _dimensions(self, operands: list[Bound]) -> dict[str, Any]:
        """Bind dimensions without checks; inference checks them once dtypes agree."""
        env: dict[str, Any] = dict(self.locals)
        env.update(self.attributes)
        for p, o in zip(self.op.operands, operands, strict=True):
            env[present_key(p.name)] = o is not None
            if p.dtype in self.op.dtypes:
                for v in _values(o):
                    env.setdefault(p.dtype, v.type.dtype)
            if isinstance(o, tuple):
                if len(p.shape) == 1 and isinstance(p.shape[0], ex.Pack):
                    env[p.shape[0].name] = tuple(v.type.shape for v in _values(o))
                continue
            shape: tuple[Any, ...] = o.type.shape if isinstance(o, Value) else ()
            packs = [i for i, d in enumerate(p.shape) if isinstance(d, ex.Pack)]
            cut = packs[0] if packs else len(p.shape)
            width = len(shape) - len(p.shape) + len(packs)
            for i, d in enumerate(p.shape):
                if isinstance(d, ex.Pack):
                    env.setdefault(d.name, shape[cut : cut + max(width, 0)])
                elif isinstance(d, ex.Sym):
                    at = i if i < cut else i - 1 + width
                    if 0 <= at < len(shape):
                        env.setdefault(d.name, shape[at])
        for let in self.op.lets:
            try:
                env.setdefault(let.name, evaluate(let.expr, env))
            except (KeyError, TypeError, IndexError, ZeroDivisionError, Unsupported):
                continue  # needs an attribute that the bindings have still to give
        return env

    def _evaluate(self, e: ex.Expr, env: Mapping[str, Any]) -> Any:
        try:
            value = evaluate(e, env)
        except (KeyError, TypeError, IndexError, ZeroDivisionError) as error:
            raise Mismatch(f"'{ex.to_text(e)}' has no value ({type(error).__name__}: {error})") from None
        if value is UNKNOWN:
            raise Mismatch(f"'{ex.to_text(e)}' depends on a symbolic size")
        return value

    def _infer(self, operands: list[Bound], dtypes: Mapping[str, str]) -> Any:
        types = [
            _as_type(self._final(p.dtype, o, dtypes), dtypes.get(p.dtype))
            for p, o in zip(self.op.operands, operands, strict=True)
        ]
        return infer(self.op, types, self.attributes)

    def _results(self, expected: Sequence[TensorType | None], used: frozenset[int]) -> tuple[int | None, ...]:
        names = [p.name for p in self.op.results]
        order = self.pattern.results or tuple(names)
        if len(order) > len(expected):
            raise Mismatch(f"has {len(order)} results, ATen has {len(expected)}")
        found: list[int | None] = [None if n == "_" else names.index(n) for n in order]
        found += [None] * (len(expected) - len(found))
        for i in used:
            if found[i] is None:
                raise Mismatch(f"result {i} is used")
        return tuple(found)

    # -- dtypes -----------------------------------------------------------------------------------------------------------

    def _promoted(self, operands: list[Bound], forced: Mapping[str, str]) -> dict[str, str]:
        """Return a dtype for each dtype variable (and each fixed dtype) of the operands."""
        groups: dict[str, list[Bound]] = {}
        for p, o in zip(self.op.operands, operands, strict=True):
            if o is not None:
                groups.setdefault(p.dtype, []).append(o)
        dtypes: dict[str, str] = {}
        for variable, members in groups.items():
            values = [v for m in members for v in _values(m)]
            if not values:
                if variable in forced:
                    dtypes[variable] = forced[variable]
                continue
            if variable in DTYPES:
                # An index may be of any integer type in PyTorch; other fixed dtypes must be met.
                if variable == "i64" and all(v.type.dtype in DTYPE_CLASSES["int"] for v in values):
                    dtypes[variable] = variable
                continue
            allowed = self.op.dtypes.get(variable, frozenset(DTYPES))
            dtype = forced.get(variable) or result_dtype(members)
            if dtype not in allowed and DEFAULT_FLOAT in allowed and not is_float(dtype):
                dtype = DEFAULT_FLOAT
            dtypes[variable] = dtype
        return dtypes

    def _final(self, variable: str, operand: Bound, dtypes: Mapping[str, str]) -> Bound:
        """Return the operand with literals in a form that fits its dtype, and known numbers as literals."""
        dtype = dtypes.get(variable, variable if variable in DTYPES else "")
        if isinstance(operand, Literal) and isinstance(operand.value, Size):
            # The text of a program has no sizes among operands, so this becomes a tensor without axes.
            return Value("", TensorType(dtype or "i64", ()), operand.value)
        if isinstance(operand, Literal):
            return _fit(operand, dtype)
        known = isinstance(operand, Value) and not isinstance(operand.number, Size | None)
        if isinstance(operand, Value) and known and variable in self.op.dtypes:
            assert isinstance(operand.number, (bool, int, float))
            others = [
                v
                for p in self.op.operands
                if p.dtype == variable and p.name in self.operands
                for v in _values(self.operands[p.name])
                if v.number is None
            ]
            # A known number may stand as a literal where that changes neither its value nor the common dtype.
            if others and result_dtype([*others, Literal(operand.number)]) == dtype:
                literal = _fit(Literal(operand.number), dtype)
                if isinstance(literal.value, bool) == (dtype == "bool"):
                    return literal
        return operand


def _fit(literal: Literal, dtype: str) -> Literal:
    """Return a literal that means the same for partners of ``dtype``: True is 1 among numbers."""
    if isinstance(literal.value, bool) and dtype not in ("bool", ""):
        return Literal(int(literal.value))
    return literal


def _as_type(operand: Bound, dtype: str | None) -> Any:
    if isinstance(operand, Value):
        return TensorType(dtype or operand.type.dtype, operand.type.shape)
    if isinstance(operand, tuple):
        return tuple(_as_type(o, dtype) for o in operand)
    return operand


def _values(operand: Any) -> Iterable[Value]:
    if isinstance(operand, Value):
        yield operand
    elif isinstance(operand, tuple):
        for o in operand:
            yield from _values(o)


def _normal_attribute(a: Attribute, value: Any, env: Mapping[str, Any]) -> Any:
    """Return an ATen argument as the attribute wants it: axes counted from the front, one number for all of a list."""
    if value is None or isinstance(value, Value):
        if isinstance(value, Value):
            raise Mismatch(f"{a.name} is a tensor, expected a compile-time value")
        return None
    n: Any = None
    if a.kind in ("axis", "axes"):
        n = len(env[a.of]) if a.of in env else None
    elif a.kind in ("int", "ints") and a.hi is not None and isinstance(a.lo, ex.Num) and a.lo.value == 0:
        try:
            n = evaluate(a.hi, env) + 1
        except (KeyError, TypeError, IndexError, Unsupported):
            n = None

    def from_front(v: Any) -> Any:
        return v + n if isinstance(v, int) and v < 0 and isinstance(n, int) else v

    match a.kind:
        case "int" | "axis":
            if isinstance(value, tuple) and len(value) == 1:
                value = value[0]
            return from_front(value)
        case "ints" | "axes":
            items = value if isinstance(value, tuple) else (value,)
            if a.length is not None and len(items) == 1:
                items *= a.length
            items = tuple(map(from_front, items))
            return tuple(sorted(items)) if a.kind == "axes" and all(isinstance(i, int) for i in items) else items
        case "float":
            return float(value) if isinstance(value, (int, float)) else value
        case "number":
            return int(value) if isinstance(value, bool) else value
    return value


# -- PyTorch's promotion --------------------------------------------------------------------------------------------------

_ORDER = tuple(DTYPES)


def promote(a: str, b: str) -> str:
    """Return the smallest dtype that both ``a`` and ``b`` convert to (``torch.promote_types``)."""
    if a == b:
        return a
    if "f16" in (a, b) and "bf16" in (a, b):
        return "f32"
    if {a, b} == {"u8", "i8"}:
        raise Mismatch("u8 and i8 meet in i16, which is not among the dtypes")
    return max(a, b, key=_ORDER.index)


def _category(dtype: str) -> int:
    return 0 if dtype == "bool" else 2 if is_float(dtype) else 1


def result_dtype(operands: Iterable[Bound]) -> str:
    """Return the dtype that PyTorch computes in (``torch.result_type``).

    Tensors with axes decide; tensors without axes and then Python numbers only raise the category (bool, int, float).
    """
    ranks: list[str | None] = [None, None, None]
    for o in operands:
        for v in _values(o):
            at = 0 if v.type.rank else 1
            ranks[at] = v.type.dtype if ranks[at] is None else promote(ranks[at], v.type.dtype)  # type: ignore[arg-type]
        if isinstance(o, Literal):
            kind = "bool" if isinstance(o.value, bool) else DEFAULT_FLOAT if isinstance(o.value, float) else "i64"
            ranks[2] = kind if ranks[2] is None else promote(ranks[2], kind)
    result: str | None = None
    for lower in ranks:
        if lower is not None and (result is None or _category(lower) > _category(result)):
            result = lower
    if result is None:
        raise Mismatch("no operand gives a dtype")
    return result


# -- comparing values -------------------------------------------------------------------------------------------------------


def _plain(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def _same_value(a: Any, b: Any) -> bool:
    if isinstance(a, (tuple, list)) and isinstance(b, (tuple, list)):
        return len(a) == len(b) and all(map(_same_value, a, b))
    if isinstance(a, bool) != isinstance(b, bool) or isinstance(a, Value) or isinstance(b, Value):
        return a is b
    if isinstance(a, float) and isinstance(b, float) and math.isnan(a) and math.isnan(b):
        return True
    return bool(a == b)


def _same_type(a: TensorType, b: TensorType) -> bool:
    return a.dtype == b.dtype and equal(a.shape, b.shape) is not False


def _show(value: Any) -> str:
    if isinstance(value, Value):
        return f"the tensor {value.name}"
    if isinstance(value, (Size, int, float, str)) or value is None:
        return repr(value) if isinstance(value, str) else str(value)
    return f"[{', '.join(map(_show, value))}]" if isinstance(value, tuple) else str(value)
