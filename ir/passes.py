"""Passes: functions from a graph to an equal one.  Each keeps the inputs, the outputs and their types."""

from __future__ import annotations

import math
import operator
import struct
from collections.abc import Callable, Mapping
from typing import Any

import attrs

from . import expr as ex
from .build import infer_node
from .effects import random_operators
from .errors import Unsupported, VerifyError
from .evaluate import partial
from .graph import OPAQUE, AttrValue, Graph, Literal, Node, Operand, Update
from .infer import Inferred
from .load import builtin_ops
from .opdef import Expand, Index, Opaque, OpDef, OpSet, Scalar
from .patterns import is_symmetric
from .size import Size
from .typesys import INTEGER_RANGES, is_float

#: The operator whose result has one number in every element.
FULL = "full"


def rename_operands(operands: tuple[Operand, ...], renamed: Mapping[str, Operand]) -> tuple[Operand, ...]:
    """Return ``operands`` with the values named in ``renamed`` replaced, inside lists too."""
    return tuple(
        renamed.get(o, o) if isinstance(o, str) else rename_operands(o, renamed) if isinstance(o, tuple) else o
        for o in operands
    )


def _with_nodes(graph: Graph, nodes: list[Node], renamed: Mapping[str, Operand]) -> Graph:
    if tuple(nodes) == graph.nodes and not renamed:
        return graph
    outputs = rename_operands(graph.outputs, renamed)
    updates = tuple(Update(u.target, str(renamed.get(u.value, u.value))) for u in graph.updates)
    return attrs.evolve(graph, nodes=tuple(nodes), outputs=outputs, updates=updates)


def eliminate_dead_code(graph: Graph) -> Graph:
    """Return the graph without nodes of which no output and no update depends."""
    needed = set(graph.live_out)
    kept: list[Node] = []
    for node in reversed(graph.nodes):
        if needed.intersection(node.results):
            needed.update(node.uses())
            kept.append(node)
    return _with_nodes(graph, kept[::-1], {})


def eliminate_common_subexpressions(graph: Graph, ops: OpSet | None = None) -> Graph:
    """Return the graph with equal applications made once; the first keeps its names.

    The operands of a symmetric operator may stand in either order.  What is random stays, and so does what has no meaning
    in the language (an ``opaque`` node or body), which may be.
    """
    ops = builtin_ops() if ops is None else ops
    symmetric: dict[str, bool] = {}
    random = random_operators(ops)
    seen: dict[Any, Node] = {}
    renamed: dict[str, Operand] = {}
    kept: list[Node] = []
    for node in graph.nodes:
        operands = rename_operands(node.operands, renamed)
        node = attrs.evolve(node, operands=operands) if operands != node.operands else node
        op = ops.get(node.op)
        if node.op == OPAQUE or op is None or isinstance(op.body, Opaque) or node.op in random:
            kept.append(node)
            continue
        if node.op not in symmetric:
            symmetric[node.op] = is_symmetric(op)
        order = tuple(sorted(operands, key=repr)) if symmetric[node.op] else operands
        # Literals of equal value and different type differ as values of Literal; 1, True and 1.0 as attributes need repr.
        key = (node.op, order, tuple((k, repr(v)) for k, v in node.attrs), node.types)
        first = seen.setdefault(key, node)
        if first is node:
            kept.append(node)
        else:
            renamed.update(zip(node.results, first.results, strict=True))
    return _with_nodes(graph, kept, renamed)


# -- constants ------------------------------------------------------------------------------------------------------


def round_to(value: float, dtype: str) -> float:
    """Return the nearest number of a float dtype, ties to even, infinite where it overflows."""
    if dtype == "f64" or not math.isfinite(value):
        return value
    if dtype == "bf16":
        (bits,) = struct.unpack("<I", struct.pack("<f", round_to(value, "f32")))
        if bits & 0x7FFFFFFF >= 0x7F800000:
            return float(struct.unpack("<f", struct.pack("<I", bits))[0])
        rounded = (bits + 0x7FFF + ((bits >> 16) & 1)) & 0xFFFF0000
        return float(struct.unpack("<f", struct.pack("<I", rounded))[0])
    try:
        form = "<f" if dtype == "f32" else "<e"
        return float(struct.unpack(form, struct.pack(form, value))[0])
    except OverflowError:
        return math.copysign(math.inf, value)


def _element(value: AttrValue, dtype: str) -> bool | int | float | None:
    """Return what an element of ``dtype`` holds when ``value`` is put into it; None where that is not certain."""
    if not isinstance(value, (bool, int, float)):  # a size that depends on symbols
        return None
    if is_float(dtype):
        return round_to(round_to(float(value), "f32") if dtype in ("f16", "bf16") else float(value), dtype)
    if dtype == "bool":
        return bool(value)
    if isinstance(value, float) and not value.is_integer():
        return None
    low, high = INTEGER_RANGES[dtype]
    return int(value) if low <= value <= high else None


def _maximum(a: Any, b: Any) -> Any:
    if a == b == 0:  # the sign of the zero is not certain
        raise Unsupported("maximum of zeros")
    return a if a != a or a > b else b if b != b or b > a else a


def _minimum(a: Any, b: Any) -> Any:
    return -_maximum(-a, -b)


#: Operations whose results IEEE 754 rounds correctly, or that are exact; double precision and one more rounding give
#: the same as single precision (Figueroa, "When is double rounding innocuous?", 1995).
_EXACT: dict[str, Callable[..., Any]] = {
    "+": operator.add, "-": operator.sub, "*": operator.mul, "/": operator.truediv, "==": operator.eq, "!=": operator.ne,
    "<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge, "neg": operator.neg, "not": operator.not_,
    "max": _maximum, "min": _minimum, "abs": abs, "sqrt": math.sqrt, "where": lambda c, a, b: a if c else b,
    "isnan": lambda x: x != x, "isfinite": math.isfinite, "isinf": math.isinf,
}  # fmt: skip


def _number(e: ex.Expr, env: Mapping[str, Any], dtype: str) -> Any:
    """Return the value of a scalar expression over numbers, in the precision that elements of ``dtype`` compute with.

    Raises:
        Unsupported: the result may differ from what a device computes.
    """
    match e:
        case ex.Num(v) if v is not None and not isinstance(v, str):
            return v
        case ex.Sym(name) if name in env:
            return env[name]
        case ex.Bin(op, a, b) if op in _EXACT:
            value = _EXACT[op](_number(a, env, dtype), _number(b, env, dtype))
        case ex.Bin("and" | "or" as op, a, b):
            x, y = bool(_number(a, env, dtype)), bool(_number(b, env, dtype))
            value = (x and y) if op == "and" else (x or y)
        case ex.Unary(op, a):
            value = _EXACT["not" if op == "not" else "neg"](_number(a, env, dtype))
        case ex.Call(fn, args, ()) if fn in _EXACT:
            value = _EXACT[fn](*(_number(a, env, dtype) for a in args))
        case _:
            raise Unsupported(f"'{ex.to_text(e)}' is not folded")
    if isinstance(value, float):
        return round_to(value, "f64" if dtype == "f64" else "f32")
    return value


_NO_VALUE = (Unsupported, ZeroDivisionError, OverflowError, ValueError, TypeError, KeyError)


def _is_exact(e: ex.Expr) -> bool:
    match e:
        case ex.Bin(op, _, _):
            known = op in _EXACT or op in ("and", "or")
        case ex.Call(fn, _, _):
            known = fn in _EXACT
        case _:
            known = not isinstance(e, (ex.Fold, ex.Load))
    return known and all(map(_is_exact, ex.children(e)))


def moves_elements(op: OpDef, ops: OpSet) -> bool:
    """Return whether every element of the result is an element of the first operand."""
    if isinstance(op.body, Index):
        return isinstance(op.body.expr, ex.Load) and op.body.expr.name == op.operands[0].name
    if not isinstance(op.body, Expand):
        return False

    def moves(e: ex.Expr, known: set[str]) -> bool:
        match e:
            case ex.Sym(name):
                return name in known
            case ex.Call(fn, (inner, *_), _) if fn in ops:
                return moves(inner, known) and moves_elements(ops[fn], ops)
        return False

    known = {op.operands[0].name}
    for name, e in op.body.statements:
        if moves(e, known):
            known.add(name)
    return all(p.name in known for p in op.results)


class _Folder:
    """Walks a graph once, keeping the number that every constant tensor holds."""

    def __init__(self, graph: Graph, ops: OpSet) -> None:
        self.graph, self.ops = graph, ops
        self.numbers: dict[str, bool | int | float] = {}
        self.moving: dict[str, bool] = {}

    def node(self, node: Node) -> Node:
        """Return ``node``, made simpler where its operands are constant."""
        op = self.ops.get(node.op)
        if op is None or len(node.results) != 1 or FULL not in self.ops:
            return node
        if node.op == FULL:
            attributes = node.attributes
            self._note(node, _element(attributes["value"], node.types[0].dtype))
            return node
        if not any(name in self.numbers for name in node.uses()):
            return node
        if isinstance(op.body, Scalar):
            return self._scalar(node, op, op.body)
        first = node.operands[0] if node.operands else None
        if isinstance(first, str) and first in self.numbers:
            if node.op not in self.moving:
                self.moving[node.op] = moves_elements(op, self.ops)
            if self.moving[node.op]:
                return self._full(node, self.numbers[first])
        return node

    def _note(self, node: Node, value: bool | int | float | None) -> None:
        if value is not None:
            self.numbers[node.results[0]] = value

    def _full(self, node: Node, value: bool | int | float | None) -> Node:
        if value is None:
            return node
        self._note(node, value)
        type = node.types[0]
        number = int(value) if isinstance(value, bool) else value
        made = (("dtype", type.dtype), ("shape", type.shape), ("value", number))
        return Node(FULL, (), made, node.results, node.types, node.location)

    def _scalar(self, node: Node, op: OpDef, body: Scalar) -> Node:
        inferred = infer_node(node, self.graph.types, self.ops)
        if node.op == "cast":
            first = node.operands[0]
            return self._full(node, _element(self.numbers[str(first)], node.types[0].dtype))
        ((_, e),) = body.exprs
        try:
            e = partial(e, inferred.env)
        except Unsupported:
            return node
        if not _is_exact(e):
            return node
        numbers = [self._constant(o) for o in node.operands]
        dtypes = [self.graph.types[o].dtype for o in node.operands if isinstance(o, str)]
        if all(n is not None for n, o in zip(numbers, node.operands, strict=True) if o is not None):
            env = dict(inferred.env) | {p.name: n for p, n in zip(op.operands, numbers, strict=True)}
            try:
                return self._full(node, _element(_number(e, env, dtypes[0]), node.types[0].dtype))
            except _NO_VALUE:
                return node
        return self._with_literals(node, inferred)

    def _constant(self, o: Operand) -> bool | int | float | None:
        if isinstance(o, Literal):
            return None if isinstance(o.value, Size) else o.value
        return self.numbers.get(o) if isinstance(o, str) else None

    def _with_literals(self, node: Node, inferred: Inferred) -> Node:
        """Write constant operands as literals, one by one, as long as the types stay."""
        for i, o in enumerate(node.operands):
            if not isinstance(o, str) or o not in self.numbers:
                continue
            operands = (*node.operands[:i], Literal(self.numbers[o]), *node.operands[i + 1 :])
            changed = attrs.evolve(node, operands=operands)
            try:
                if infer_node(changed, self.graph.types, self.ops).types == inferred.types:
                    node = changed
            except (VerifyError, Unsupported):
                continue
        return node


def fold_constants(graph: Graph, ops: OpSet | None = None) -> Graph:
    """Return the graph with elementwise arithmetic and rearrangements of constant tensors done.

    A constant tensor is a result of ``full``.  Only what every device computes to the same bit is folded.  A constant
    operand of exact elementwise arithmetic becomes a literal, if the result's type does not need its shape.
    """
    folder = _Folder(graph, builtin_ops() if ops is None else ops)
    return _with_nodes(graph, [folder.node(n) for n in graph.nodes], {})
