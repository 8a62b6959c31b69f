"""Hypothesis strategies for the values of the IR; every new construct is added here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import attrs
from drt.ir import Graph, GraphBuilder, Literal, SizeLike, TensorType, Update, symbol
from drt.ir import expr as ex
from drt.ir.expr import Expr
from drt.ir.opdef import COMBINERS
from drt.ir.size import Symbol, floordiv, maximum, minimum, modulo
from hypothesis import strategies as st

# -- sizes ------------------------------------------------------------------------------------------------------------

#: The symbols of :func:`size_trees`; their ranges are small enough to try every value.
SYMBOLS = (Symbol("B", 0, 5), Symbol("T", 1, 4), Symbol("L", 2, 3))

#: How each operator of a size tree is computed, on integers and on sizes.
OPERATORS = {
    "+": lambda a, b: a + b,
    "-": lambda a, b: a - b,
    "*": lambda a, b: a * b,
    "//": floordiv,
    "%": modulo,
    "min": minimum,
    "max": maximum,
}


@attrs.frozen
class SizeTree:
    """An expression over symbols, before any simplification."""

    op: str
    args: tuple[Any, ...]

    def value(self, env: Mapping[str, SizeLike]) -> SizeLike:
        """Return the value with symbols replaced, by integers or by sizes; raises ZeroDivisionError."""
        if self.op == "symbol":
            return env[self.args[0]]
        if self.op == "number":
            return self.args[0]
        a, b = (t.value(env) for t in self.args)
        if self.op in ("//", "%") and b == 0:
            raise ZeroDivisionError
        if isinstance(a, int) and isinstance(b, int):
            plain = {"//": a // b if b else 0, "%": a % b if b else 0, "min": min(a, b), "max": max(a, b)}
            return plain[self.op] if self.op in plain else OPERATORS[self.op](a, b)
        return OPERATORS[self.op](a, b)


def size_trees(operators: Sequence[str] = tuple(OPERATORS), numbers: tuple[int, int] = (-6, 12)) -> st.SearchStrategy:
    """Expressions over ``SYMBOLS``."""
    leaves = st.one_of(
        st.sampled_from([s.name for s in SYMBOLS]).map(lambda n: SizeTree("symbol", (n,))),
        st.integers(*numbers).map(lambda n: SizeTree("number", (n,))),
    )
    return st.recursive(
        leaves,
        lambda inner: st.tuples(st.sampled_from(operators), inner, inner).map(lambda t: SizeTree(t[0], t[1:])),
        max_leaves=7,
    )


def as_size(tree: SizeTree) -> SizeLike:
    """Return the size that a tree says; raises ZeroDivisionError."""
    return tree.value({s.name: symbol(s.name, s.lo, s.hi) for s in SYMBOLS})


def sizes() -> st.SearchStrategy[SizeLike]:
    """Sizes over ``SYMBOLS``, plain integers included; some are negative for some values."""

    def build(tree: SizeTree) -> SizeLike | None:
        try:
            return as_size(tree)
        except ZeroDivisionError:
            return None

    return size_trees().map(build).filter(lambda s: s is not None)


# -- expressions ------------------------------------------------------------------------------------------------------

#: Words that look like keywords are good names.
NAMES = ("x", "y", "a", "H", "S", "axis", "sum", "index", "op", "doc", "range", "in_", "over", "let", "if_", "_", "x1")
_LITERALS = st.one_of(
    st.integers(-(10**6), 10**6),
    st.floats(),
    st.booleans(),
    st.none(),
    st.text(
        alphabet=st.characters(codec="utf-8", exclude_categories=["Cs", "Cc"]) | st.sampled_from('"\\\n\t'), max_size=6
    ),
)


def expressions() -> st.SearchStrategy[Expr]:
    """Expressions of operator definitions, as the parser builds them: ``-`` never stands before a number."""
    names = st.sampled_from(NAMES)
    leaves = st.one_of(_LITERALS.map(ex.Num), names.map(ex.Sym))

    def is_number(e: Expr) -> bool:
        return isinstance(e, ex.Num) and type(e.value) in (int, float)

    def extend(inner: st.SearchStrategy[Expr]) -> st.SearchStrategy[Expr]:
        element = inner | names.map(ex.Pack)
        dotted = st.sampled_from(["f", "max", "torch.nn.functional.relu", "aten.sum.dim_IntList"])
        keywords = st.lists(st.tuples(names, inner), max_size=2).map(tuple)
        ranges = st.lists(st.tuples(st.sampled_from(["k", "c"]), inner), min_size=1, max_size=2).map(tuple)
        return st.one_of(
            st.builds(ex.Bin, st.sampled_from(sorted({"+", "-", "*", "/", "//", "%", "**", "==", "!=", "<", "<=", ">", ">=",
                                                      "and", "or"})), inner, inner),
            st.builds(ex.Unary, st.just("-"), inner.filter(lambda e: not is_number(e))),
            st.builds(ex.Unary, st.just("not"), inner),
            st.builds(ex.Call, dotted, st.lists(element, max_size=3).map(tuple), keywords),
            st.builds(ex.Load, names, st.lists(element, max_size=3).map(tuple)),
            st.builds(ex.Lst, st.lists(element, max_size=3).map(tuple)),
            st.builds(ex.Fold, st.sampled_from(COMBINERS), ranges, inner),
            st.builds(ex.Cond, inner, inner, inner),
        )  # fmt: skip

    return st.recursive(leaves, extend, max_leaves=12)


# -- graphs -----------------------------------------------------------------------------------------------------------

_UNARY = ("relu", "neg", "abs", "sigmoid", "tanh", "sin", "floor", "silu", "identity", "square")
_BINARY = ("add", "sub", "mul", "maximum", "minimum", "div", "lt", "eq")
_NUMBERS = (0, 1, 2, 0.0, -0.0, 1.0, 0.5, -1.5, 2.0, float("inf"), float("-inf"), float("nan"))


@st.composite
def graphs(draw: Any, max_nodes: int = 12, symbolic: bool = False) -> Graph:
    """Valid programs over float32 tensors: elementwise operators with broadcasting and literals, reductions, views,
    constants, variadic operands, several results and updates of buffers.

    Args:
        draw: given by hypothesis.
        max_nodes: most nodes.
        symbolic: whether the first axis of the first input is a symbol.
    """
    batch = symbol("B", 1, 6) if symbolic else 2
    shapes: list[tuple[SizeLike, ...]] = [(batch, 3, 4), (3, 1), (4,), (2, 3, 4), ()]
    b = GraphBuilder("g", symbols=(Symbol("B", 1, 6),) if symbolic else ())
    values = [b.input("x", TensorType("f32", shapes[0]))]
    buffers: list[str] = []
    for i in range(draw(st.integers(0, 3))):
        kind = draw(st.sampled_from(["input", "param", "buffer", "constant"]))
        shape = draw(st.sampled_from(shapes[1:]))
        values.append(b.input(f"v{i}", TensorType("f32", shape), kind, "" if kind == "input" else f'm.v"{i}'))
        if kind == "buffer":
            buffers.append(values[-1])
    for _ in range(draw(st.integers(1, max_nodes))):
        values += _step(draw, b, [v for v in values if b.types[v].dtype == "f32"])
    outputs = draw(st.lists(st.sampled_from(values), min_size=1, max_size=3))
    updates = []
    for name in buffers:
        fits = [v for v in values if b.types[v] == b.types[name] and v != name]
        if fits and draw(st.booleans()):
            updates.append(Update(name, draw(st.sampled_from(fits))))
    return b.build(outputs, updates)


def _step(draw: Any, b: GraphBuilder, values: list[str]) -> list[str]:
    """Add one node on top of ``values`` and return the values it makes."""
    x = draw(st.sampled_from(values))
    shape = b.types[x].shape
    rank = len(shape)
    kinds = ["unary", "binary", "literal", "full", "cat"] + (
        ["reduce", "permute", "reshape", "slice", "max"] if rank else []
    )
    kind = draw(st.sampled_from(kinds))
    if kind == "unary":
        return [b.add(draw(st.sampled_from(_UNARY)), x)]
    if kind == "binary":
        fits = [v for v in values if _broadcast(shape, b.types[v].shape)]
        return [b.add(draw(st.sampled_from(_BINARY)), x, draw(st.sampled_from(fits)))]
    if kind == "literal":
        op, number = draw(st.sampled_from(_BINARY)), Literal(draw(st.sampled_from(_NUMBERS)))
        return [b.add(op, x, number) if draw(st.booleans()) else b.add(op, number, x)]
    if kind == "full":
        wanted = draw(st.sampled_from([(), (4,), (3, 4), (1, 1)]))
        return [b.add("full", shape=wanted, value=draw(st.sampled_from([0, 1, 2.5, -0.0])), dtype="f32")]
    axis = draw(st.integers(0, max(rank - 1, 0)))
    if kind == "cat":
        return [b.add("cat", (x, x) if draw(st.booleans()) else (x,), axis=axis)] if rank else [b.add("neg", x)]
    if kind == "reduce":
        return [b.add(draw(st.sampled_from(["sum", "amax", "mean"])), x, axes=(axis,), keepdim=draw(st.booleans()))]
    if kind == "max":
        return list(b.add("max_dim", x, axis=axis, keepdim=draw(st.booleans())))[:1]
    if kind == "permute":
        return [b.add("permute", x, order=tuple(draw(st.permutations(range(rank)))))]
    if kind == "reshape":
        at = draw(st.integers(0, rank))
        merged = (shape[0] * shape[1], *shape[2:]) if rank >= 2 else (1, *shape)
        return [b.add("reshape", x, shape=draw(st.sampled_from([(*shape[:at], 1, *shape[at:]), merged, shape])))]
    size = shape[axis]
    if not isinstance(size, int) or size == 0:
        return [b.add("abs", x)]
    start = draw(st.integers(0, size - 1))
    return [
        b.add("slice", x, axis=axis, start=start, stop=draw(st.integers(start + 1, size)), step=draw(st.integers(1, 2)))
    ]


def _broadcast(a: Sequence[SizeLike], b: Sequence[SizeLike]) -> bool:
    return all(x == y or x == 1 or y == 1 for x, y in zip(reversed(a), reversed(b)))
