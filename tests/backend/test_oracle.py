"""The float64 interpreter: each kind of body, symbols, composites, opaque nodes, and its refusals."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
import torch
from drt.backend.oracle import Oracle
from drt.backend.oracle import bodies as oracle_bodies
from drt.ir import Graph, GraphBuilder, OpSet, TensorType, Unsupported, UsageError, parse_graph, parse_ops, symbol

OPS = parse_ops("""
op product(a: T[B.., M, K], b: T[B.., K, N]) -> (y: T[B.., M, N]) {
  type T: number  index y[I.., m, n] = sum{k in K} a[I.., m, k] * b[I.., k, n]
}
op windowed(x: T[N, C, W], w: T[F, C, V]; stride: int, padding: int) -> (y: T[N, F, (W + 2*padding - V) // stride + 1]) {
  type T: float
  index y[n, f, j] = sum{c in C, v in V} pad(x[n, c, j*stride + v - padding], 0.0) * w[f, c, v]
}
op prefix(x: T[S..]; axis: axis(S)) -> (y: T[S..]) {
  type T: number  index y[I..] = sum{k in I[axis] + 1} x[set(I, axis, k)]
}
op lookup(w: T[V, D], i: i64[S..]) -> (y: T[S.., D]) { type T: any  index y[I.., d] = w[i[I..], d] }
op shuffled(x: T[S..]; order: ints) -> (y: T[permuted(S, order)]) {
  type T: any  index y[I..] = x[permuted(I, inverse(order))]
}
op reshaped(x: T[S..]; shape: ints) -> (y: T[shape]) { type T: any  index y[I..] = x[unravel(ravel(I, shape), S)] }
op total(x: T[S..]; axes: axes(S), keepdim: bool = False) -> (y: U[reduced(S, axes, keepdim)]) {
  type T: any  type U = sum_dtype(T)  reduce y = sum(x) over axes
}
op place(x: T[S..]; axis: axis(S)) -> (y: i64[remove(S, axis)]) { type T: number  reduce y = argmax(x) over axis }
op both(a: T[A..], b: T[B..]) -> (y: T[broadcast(A, B)], z: bool[broadcast(A, B)]) {
  type T: number  scalar y = max(a, b)  scalar z = a > b
}
op exponential(x: T[S..]) -> (y: T[S..]) { type T: float  scalar y = exp(x) }
op quotient(a: T[A..], b: T[B..]) -> (y: T[broadcast(A, B)]) { type T: float  scalar y = a / b }
op weighted(x: T[S..], w: T[S..]?; axis: axis(S)) -> (y: T[S..]) {
  type T: float
  expand { e = exponential(x); s = quotient(e, total(e, axes=[axis], keepdim=True)); y = quotient(s, w) if present(w) else s; }
}
""")
DTYPES = {
    torch.float32: "f32",
    torch.float16: "f16",
    torch.float64: "f64",
    torch.int64: "i64",
    torch.int32: "i32",
    torch.bool: "bool",
}


def call(name: str, *tensors: torch.Tensor | None, ops: OpSet = OPS, **attributes: object) -> list[torch.Tensor]:
    b = GraphBuilder("one", ops)
    names = [
        None if t is None else b.input(f"v{i}", TensorType(DTYPES[t.dtype], tuple(t.shape)))
        for i, t in enumerate(tensors)
    ]
    result = b.add(name, *names, **attributes)
    graph = b.build(list(result) if isinstance(result, tuple) else [result])
    return Oracle(ops).run(graph, {n: t for n, t in zip(names, tensors) if n is not None})


def rand(*shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(sum(shape)), dtype=torch.float32)


def close(a: torch.Tensor, b: torch.Tensor) -> None:
    assert a.dtype == torch.float64
    torch.testing.assert_close(a, b.double(), rtol=1e-12, atol=1e-12)


def test_a_product_is_exact_in_float64() -> None:
    a, b = rand(2, 3, 4, 5), rand(2, 3, 5, 6)
    close(call("product", a, b)[0], a.double() @ b.double())


def test_integer_products_are_exact() -> None:
    a = torch.full((2, 3), 2**31 + 1)
    assert call("product", a, a.T)[0].tolist() == (a @ a.T).tolist()


@pytest.mark.parametrize("elements", [2**22, 8])
def test_a_fold_that_does_not_fit_is_looped(elements: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(oracle_bodies, "FOLD_ELEMENTS", elements)
    x, w = rand(2, 3, 9), rand(4, 3, 2)
    expected = torch.nn.functional.conv1d(x.double(), w.double(), stride=2, padding=3)
    close(call("windowed", x, w, stride=2, padding=3)[0], expected)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_a_fold_range_may_depend_on_a_coordinate(axis: int) -> None:
    x = rand(3, 4, 2)
    close(call("prefix", x, axis=axis)[0], x.double().cumsum(axis))


def test_loads_may_depend_on_data() -> None:
    w, i = rand(5, 3), torch.tensor([[4, 0], [2, 2]])
    close(call("lookup", w, i)[0], w.double()[i])


def test_a_load_outside_its_operand_is_refused() -> None:
    with pytest.raises(Unsupported, match=r"index -1\.\.4 of axis 0 lies outside 0\.\.3"):
        call("lookup", rand(4, 3), torch.tensor([-1, 4]))


def test_coordinates_may_be_permuted_and_unravelled() -> None:
    x = rand(2, 3, 4)
    close(call("shuffled", x, order=(2, 0, 1))[0], x.permute(2, 0, 1))
    close(call("reshaped", x, shape=(6, 4))[0], x.reshape(6, 4))


@pytest.mark.parametrize("keepdim", [False, True])
def test_reductions_keep_or_drop_axes(keepdim: bool) -> None:
    x = rand(2, 3, 4)
    close(call("total", x, axes=(0, 2), keepdim=keepdim)[0], x.double().sum((0, 2), keepdim=keepdim))


def test_booleans_are_summed_as_integers() -> None:
    (y,) = call("total", torch.tensor([True, True, False]), axes=(0,))
    assert y.dtype == torch.int64 and int(y) == 2


def test_the_first_of_equal_extremes_wins_and_nan_wins_over_all() -> None:
    assert call("place", torch.tensor([[1, 3, 3], [2, 2, 1]]), axis=1)[0].tolist() == [1, 0]
    assert call("place", torch.tensor([1.0, float("nan"), 5.0]), axis=0)[0].tolist() == 1


def test_several_scalar_results_broadcast() -> None:
    y, z = call("both", torch.tensor([[1.0], [3.0]]), torch.tensor([2.0, 4.0]))
    assert y.tolist() == [[2.0, 4.0], [3.0, 4.0]] and z.tolist() == [[False, False], [True, False]]


@pytest.mark.parametrize("given", [True, False])
def test_composites_and_absent_operands(given: bool) -> None:
    x, w = rand(3, 4), rand(4, 3).T.abs() + 1
    expected = torch.softmax(x.double(), 1) / (w.double() if given else 1)
    close(call("weighted", x, w if given else None, axis=1)[0], expected)


def test_half_precision_inputs_are_not_rounded_again() -> None:
    x = torch.tensor([1.0, 1.0009765625], dtype=torch.float16)
    close(call("exponential", x)[0], torch.exp(x.double()))


# -- graphs -----------------------------------------------------------------------------------------------------------


def run(text: str, inputs: Mapping[str, torch.Tensor], mode: str = "definition") -> list[torch.Tensor]:
    return Oracle(mode=mode).run(parse_graph(text), inputs)


SYMBOLIC = """
drt 1
graph f<B in 1..16>(%x: f32[B, 4], param %w: f32[4, 4]) -> (%h, %z) {
  %h = matmul(%x, %w)                              : f32[B, 4]
  %z = reshape(%h) {shape = [4*B]}                 : f32[4*B]
}
"""


@pytest.mark.parametrize("mode", ["definition", "torch"])
def test_symbols_are_bound_by_the_inputs(mode: str) -> None:
    x, w = rand(3, 4), rand(4, 4)
    h, z = run(SYMBOLIC, {"x": x, "w": w}, mode)
    close(h, x.double() @ w.double())
    close(z, (x.double() @ w.double()).reshape(12))


def test_inputs_that_do_not_fit_are_refused() -> None:
    with pytest.raises(UsageError, match="input w is missing"):
        run(SYMBOLIC, {"x": rand(3, 4)})
    with pytest.raises(UsageError, match=r"input w has shape \[4, 5\], expected f32\[4, 4\]"):
        run(SYMBOLIC, {"x": rand(3, 4), "w": rand(4, 5)})
    with pytest.raises(UsageError, match=r"input x has shape \[3\]"):
        run(SYMBOLIC, {"x": rand(3), "w": rand(4, 4)})


def test_literals_and_numbers_among_the_outputs() -> None:
    text = "drt 1\ngraph f(%x: bf16[2]) -> (%y, 2, None) {\n  %y = mul(%x, 2.1) : bf16[2]\n}"
    y, two, none = run(text, {"x": torch.tensor([1.0, 3.0], dtype=torch.bfloat16)})
    # The number is not rounded to bf16.
    close(y, torch.tensor([2.1, 6.300000000000001], dtype=torch.float64))
    assert str(two) == "2" and none is None


def opaque(target: str) -> Graph:
    b = GraphBuilder("f")
    x = b.input("x", TensorType("f32", (symbol("B", 1, 8), 3)))
    y = b.opaque(target, [x], [b.types[x]], [["$0", 1], {}])
    return attrs_with_symbols(b.build([y]))


def attrs_with_symbols(graph: Graph) -> Graph:
    import attrs

    (size, _) = graph.inputs[0].type.shape
    (((atom,), _),) = size.terms  # type: ignore[union-attr]
    return attrs.evolve(graph, symbols=(atom,))


def test_opaque_nodes_call_their_target_in_float64() -> None:
    x = rand(2, 3)
    close(Oracle().run(opaque("aten.cumsum.default"), {"x": x})[0], x.double().cumsum(1))
    with pytest.raises(UsageError, match="target is aten.nothing.default, which PyTorch does not have"):
        Oracle().run(opaque("aten.nothing.default"), {"x": x})


def test_an_unknown_mode_is_refused() -> None:
    with pytest.raises(UsageError, match="mode is fast, expected one of definition, torch"):
        Oracle(mode="fast")


def test_what_has_no_meaning_says_why() -> None:
    ops = parse_ops('op dark(x: T[S..]) -> (y: T[S..]) { type T: any  opaque "the generator of random numbers" }')
    with pytest.raises(UsageError, match="neither a meaning nor a torch clause: the generator of random numbers"):
        call("dark", rand(2), ops=ops)
