"""Work and traffic of nodes and graphs, derived from the bodies of their operators.

A scalar body costs its intrinsics and operators once per element of the result; a reduction one more operation per element
of its domain; a fold one more per step.  Index arithmetic is free.  ``flops`` clauses stand in where the body says
more than an implementation does (a prefix sum is linear, its definition is quadratic).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import attrs

from . import expr as ex
from .build import expand_graph, infer_node
from .evaluate import broadcast, evaluate, partial
from .graph import OPAQUE, Graph, Input, Node
from .infer import Inferred, is_plain
from .intrinsics import INTRINSICS, OPERATOR_FLOPS
from .load import builtin_ops
from .opdef import Expand, Index, Opaque, OpDef, OpSet, Reduce, Scalar
from .products import factors
from .size import SizeLike, minimum
from .typesys import DTYPES, TensorType

_T = TypeVar("_T")
_V = TypeVar("_V")


@attrs.frozen
class Cost:
    """Work and traffic; sizes stay symbolic where the graph is.

    Attributes:
        flops: floating-point operations, weighted as in ``INTRINSICS``.
        bytes: bytes that must cross the memory bus if everything in between stays on chip: each input read at most
            once, each output written once; views are free.
        product_flops: the part of ``flops`` that sums products, which tensor cores can do.
        unfused_bytes: bytes that cross it if each node that is no view reads its operands and writes its results.
    """

    flops: SizeLike = 0
    bytes: SizeLike = 0
    product_flops: SizeLike = 0
    unfused_bytes: SizeLike = 0


@attrs.frozen
class _Work:
    """FLOPs per evaluation of an expression, and the part of them in sums of products."""

    total: SizeLike = 0
    product: SizeLike = 0

    def __add__(self, other: _Work) -> _Work:
        return _Work(self.total + other.total, self.product + other.product)

    def times(self, n: SizeLike) -> _Work:
        return _Work(self.total * n, self.product * n)


def _expression_work(
    e: ex.Expr, tensors: frozenset[str], env: Mapping[str, Any], ends: Mapping[str, Any] | None = None
) -> _Work:
    """Return the work of one evaluation of ``e``; arithmetic on coordinates is free.

    Args:
        e: an expression of a body.
        tensors: the operands' names.
        env: what the other names stand for.
        ends: the last value of each coordinate.
    """
    work_env = {**env, **ends} if ends else env
    given = [(n, work_env[n]) for n in sorted(ex.names_once(e)) if n not in tensors and n in work_env]
    if not all(is_plain(v) for _, v in given):
        return _work(partial(e, env), tensors, work_env)[0]
    # Most bodies speak of no sizes: their work is the same for all shapes.
    key = (id(e), repr(given))
    found = _WORKS.get(key)
    if found is None:
        if len(_WORKS) >= _MOST_KEPT:
            _WORKS.clear()
        found = _WORKS[key] = (e, _work(partial(e, env), tensors, work_env)[0])
    return found[1]


#: The work of expressions by what they are called with; each with its expression, which keeps the number of it its own.
_WORKS: dict[tuple[int, str], tuple[ex.Expr, _Work]] = {}
_MOST_KEPT = 8192


def _by_identity(f: Callable[[_T], _V]) -> Callable[[_T], _V]:
    """Keep what a function gives for each object, which is compared by identity: definitions do not change."""
    kept: dict[int, tuple[_T, _V]] = {}

    def get(x: _T) -> _V:
        found = kept.get(id(x))
        if found is None or found[0] is not x:
            if len(kept) >= _MOST_KEPT:
                kept.clear()
            found = kept[id(x)] = (x, f(x))
        return found[1]

    return get


def _work(e: ex.Expr, tensors: frozenset[str], env: Mapping[str, Any]) -> tuple[_Work, bool]:
    """Return the work of an expression whose conditionals are decided, and whether it reads a tensor."""
    match e:
        case ex.Call("pad", (load, _), _):
            return _work(load, tensors, env)
        case ex.Load():
            return _Work(), bool(ex.names(e) & tensors)
        case ex.Fold(_, ranges, body):
            steps: SizeLike = math.prod((_extent(r, env) for _, r in ranges), start=1)
            inner, reads = _work(body, tensors, env)
            each = inner.total + 1
            pair = factors(e)
            is_product = pair is not None and all(bool(ex.names(f) & tensors) for f in pair)
            product = each if is_product else inner.product
            return _Work(each, product).times(steps), reads
    inside, reads = _Work(), isinstance(e, (ex.Sym, ex.Pack)) and bool(ex.names(e) & tensors)
    for c in ex.children(e):
        more, other = _work(c, tensors, env)
        inside, reads = inside + more, reads or other
    own = 0
    if reads:
        match e:
            case ex.Bin(op, _, _):
                own = OPERATOR_FLOPS[op]
            case ex.Unary(op, _):
                own = OPERATOR_FLOPS["not" if op == "not" else "neg"]
            case ex.Call(fn, _, _) if fn in INTRINSICS:
                own = INTRINSICS[fn].flops
    return inside + _Work(own) if own else inside, reads


def _extent(e: ex.Expr, env: Mapping[str, Any]) -> SizeLike:
    """Return the length of a fold range; the longest one where it depends on the coordinates."""
    value: SizeLike = evaluate(e, env)
    return value


def _coordinate_ends(body: Index, shape: tuple[SizeLike, ...]) -> dict[str, Any]:
    """Return the last value of each coordinate."""
    rest = len(shape) - sum(not isinstance(c, ex.Pack) for c in body.coordinates)
    ends: dict[str, Any] = {}
    axis = 0
    for c in body.coordinates:
        if isinstance(c, ex.Pack):
            ends[c.name] = tuple(s - 1 for s in shape[axis : axis + rest])
            axis += rest
        elif isinstance(c, ex.Sym):
            ends[c.name] = shape[axis] - 1
            axis += 1
    return ends


def call_work(op: OpDef, inferred: Inferred, types: tuple[Any, ...], ops: OpSet) -> tuple[SizeLike, SizeLike]:
    """Return the FLOPs of one call and how many of them sum products.

    Args:
        op: the definition.
        inferred: what ``infer`` says of the call.
        types: the operands' types.
        ops: the operators that its expansion speaks of.
    """
    work = _body_work(op, inferred, types, ops)
    if op.flops is None:
        return work.total, work.product
    total: SizeLike = evaluate(op.flops, inferred.env)
    return total, total if work.product != 0 or isinstance(op.body, Opaque) else 0


def _body_work(op: OpDef, inferred: Inferred, types: tuple[Any, ...], ops: OpSet) -> _Work:
    tensors = frozenset(p.name for p in op.operands)
    env = inferred.env
    match op.body:
        case Scalar(exprs):
            works = [_expression_work(e, tensors, env).times(t.numel) for (_, e), t in zip(exprs, inferred.types)]
            return sum(works, start=_Work())
        case Reduce(_, _, e, _):
            domain: SizeLike = math.prod(broadcast(*(t.shape for t in _leaf_types(types))))
            return (_expression_work(e, tensors, env) + _Work(1)).times(domain)
        case Index(_, _, e):
            # Without the fold's extent the work of a body is unknown; with the last coordinates it is an upper bound.
            ends = _coordinate_ends(op.body, inferred.types[0].shape)
            return _expression_work(e, tensors, env, ends).times(inferred.types[0].numel)
        case Expand():
            graph = _expansion(op, inferred, types, ops)
            total = _Work()
            for node in graph.nodes:
                inner = infer_node(node, graph.types, ops)
                total = total + _Work(*call_work(ops[node.op], inner, _operand_types(node, graph.types), ops))
            return total
    return _Work()


def _expansion(op: OpDef, inferred: Inferred, types: tuple[Any, ...], ops: OpSet) -> Graph:
    """Return the expansion of one call as a graph over its operands."""
    inputs: list[Input] = []

    def name(t: Any) -> Any:
        if isinstance(t, tuple):
            return tuple(map(name, t))
        if isinstance(t, TensorType):
            inputs.append(Input(f"operand_{len(inputs)}", t))
            return inputs[-1].name
        return t

    operands = tuple(map(name, types))
    results = tuple(f"result_{p.name}" for p in op.results)
    node = Node(op.name, operands, inferred.attributes, results, inferred.types)
    return expand_graph(Graph(op.name, tuple(inputs), (node,), results), ops)


def _operand_types(node: Node, types: Mapping[str, TensorType]) -> tuple[Any, ...]:
    def pick(o: Any) -> Any:
        return types[o] if isinstance(o, str) else tuple(map(pick, o)) if isinstance(o, tuple) else o

    return tuple(map(pick, node.operands))


def _leaf_types(types: tuple[Any, ...]) -> list[TensorType]:
    out: list[TensorType] = []
    for t in types:
        out += _leaf_types(t) if isinstance(t, tuple) else [t] if isinstance(t, TensorType) else []
    return out


# -- views ------------------------------------------------------------------------------------------------------------

_VIEW_FUNCTIONS = frozenset(
    (
        "permuted",
        "inverse",
        "align",
        "ravel",
        "unravel",
        "set",
        "insert",
        "remove",
        "plus",
        "minus",
        "head",
        "tail",
        "concat",
        "times",
        "total",
    )
)


def is_view(op: OpDef, ops: OpSet) -> bool:
    """Return whether ``op`` only renames coordinates, with increasing strides, so that no data need move."""
    found = _VIEWS.get(id(op))
    if found is None or found[0] is not op or found[1] is not ops:
        if len(_VIEWS) >= _MOST_KEPT:
            _VIEWS.clear()
        found = _VIEWS[id(op)] = (op, ops, _only_renames(op, ops))
    return found[2]


_VIEWS: dict[int, tuple[OpDef, OpSet, bool]] = {}


def _only_renames(op: OpDef, ops: OpSet) -> bool:
    if isinstance(op.body, Expand):
        calls = [c for _, e in op.body.statements for c in _calls(e, ops)]
        return bool(calls) and all(is_view(ops[c], ops) for c in calls)
    if not isinstance(op.body, Index) or not isinstance(op.body.expr, ex.Load):
        return False
    tensors = {p.name for p in op.operands}
    coordinates = {c.name for c in op.body.coordinates if isinstance(c, (ex.Sym, ex.Pack))}
    return all(_is_affine(i, tensors, coordinates) for i in op.body.expr.index)


def _calls(e: ex.Expr, ops: OpSet) -> list[str]:
    own = [e.fn] if isinstance(e, ex.Call) and e.fn in ops else []
    return own + [c for child in ex.children(e) for c in _calls(child, ops)]


def _is_affine(e: ex.Expr, tensors: set[str], coordinates: set[str]) -> bool:
    moves = ex.names(e) & (tensors | coordinates)
    if not moves:
        return True
    match e:
        case ex.Load(n, _) if n in tensors:
            return False
        case ex.Bin("-", _, b) if ex.names(b) & coordinates:
            return False
        case ex.Bin(op, _, _) if op not in ("+", "-", "*"):
            return False
        case ex.Call(fn, _, _) if fn not in _VIEW_FUNCTIONS:
            return False
        case ex.Unary() | ex.Fold():
            return False
    return all(_is_affine(c, tensors, coordinates) for c in ex.children(e))


# -- nodes and graphs -------------------------------------------------------------------------------------------------


def node_flops(node: Node, types: Mapping[str, TensorType], ops: OpSet | None = None) -> SizeLike:
    """Return the floating-point operations of ``node``, weighted as in ``INTRINSICS``; 0 for an opaque one."""
    return _node_work(node, types, builtin_ops() if ops is None else ops)[0]


def node_bytes(node: Node, types: Mapping[str, TensorType], ops: OpSet | None = None) -> SizeLike:
    """Return the bytes that ``node`` reads and writes by itself; 0 for a view."""
    ops = builtin_ops() if ops is None else ops
    if node.op in ops and is_view(ops[node.op], ops):
        return 0
    read: SizeLike = 0
    for name in dict.fromkeys(node.uses()):
        read = read + _reads(node, name, types, ops) * DTYPES[types[name].dtype]
    return read + sum((t.size_bytes for t in node.types), start=0)


def _node_work(node: Node, types: Mapping[str, TensorType], ops: OpSet) -> tuple[SizeLike, SizeLike]:
    if node.op == OPAQUE:
        return 0, 0
    return call_work(ops[node.op], infer_node(node, types, ops), _operand_types(node, types), ops)


def _reads(node: Node, value: str, types: Mapping[str, TensorType], ops: OpSet) -> SizeLike:
    """Return how many elements of ``value`` the node reads, each counted once."""
    whole = types[value].numel
    op = ops.get(node.op)
    if op is None or not isinstance(op.body, Index):
        return whole
    # A gather reads no more elements than it makes, unless a fold reads several for each.
    if _folds(op.body.expr):
        return whole
    return minimum(whole, node.types[0].numel)


@_by_identity
def _folds(e: ex.Expr) -> bool:
    return isinstance(e, ex.Fold) or any(map(_folds, ex.children(e)))


def graph_cost(graph: Graph, ops: OpSet | None = None) -> Cost:
    """Return the work and traffic of ``graph``.

    Raises:
        Unsupported: a compile-time condition depends on a symbolic size.
    """
    ops = builtin_ops() if ops is None else ops
    flops: SizeLike = 0
    product: SizeLike = 0
    unfused: SizeLike = 0
    views = {n.op for n in graph.nodes if n.op in ops and is_view(ops[n.op], ops)}
    demand: dict[str, SizeLike] = {}
    for name in reversed(list(graph.types)):
        wanted: SizeLike = graph.types[name].numel if name in graph.live_out else 0
        for user in graph.users[name]:
            viewed = sum((demand[r] for r in user.results), start=0) if user.op in views else None
            wanted = wanted + (_reads(user, name, graph.types, ops) if viewed is None else viewed)
        demand[name] = minimum(graph.types[name].numel, wanted)
    for node in graph.nodes:
        total, products = _node_work(node, graph.types, ops)
        flops, product = flops + total, product + products
        if node.op in views:
            continue
        unfused = unfused + node_bytes(node, graph.types, ops)
    moved: SizeLike = 0
    for i in graph.inputs:
        moved = moved + demand[i.name] * DTYPES[i.type.dtype]
    inputs = {i.name for i in graph.inputs}
    for name in sorted(graph.live_out - inputs):
        source = _through_views(graph, name, views)
        moved = moved + (0 if source in inputs else graph.types[name].size_bytes)
    return Cost(flops, moved, product, unfused)


def _through_views(graph: Graph, name: str, views: set[str]) -> str:
    """Return the value that ``name`` is a view of."""
    while name in graph.producers and graph.producers[name].op in views:
        first = next(graph.producers[name].uses(), None)
        if first is None:
            return name
        name = first
    return name


__all__ = ["Cost", "call_work", "graph_cost", "is_view", "node_bytes", "node_flops"]
