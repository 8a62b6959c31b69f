"""Graphs in JAX: source that reads well, values that are right, settings that stay as they were."""

from __future__ import annotations

import inspect
from typing import Any

import pytest

pytest.importorskip("jax", reason="jax: not installed; install drt[jax]")

import jax
import jax.numpy as jnp
import numpy as np
import torch
from drt.backend import jax_functions
from drt.backend.resolve import JAX_FUNCTIONS
from drt.backend.to_jax import to_jax_callable, to_jax_source, wide_numbers
from drt.backend.to_torch import to_callable
from drt.ir import Graph, GraphBuilder, TensorType, Update, UsageError, load_ops, parse_graph
from ops.jax_checks import to_numpy, to_torch
from programs.imported import case


def graph(text: str) -> Graph:
    return parse_graph(f"drt 1\n{text}")


BLOCK = """graph block(%x: f32[4, 8], param %w: f32[8, 8] @"fc.weight", param %b: f32[8] @"fc.bias") -> (%y) {
  %h = linear(%x, %w, %b) : f32[4, 8]
  %g = gelu(%h) {approximate = tanh} : f32[4, 8]
  %n = layer_norm(%g, %b) {normalized = [8]} : f32[4, 8]
  %m = layer_norm(%n, %b) {normalized = [8]} : f32[4, 8]
  %y = mul(%m, 0.5) : f32[4, 8]
}"""


def test_source_reads_as_a_person_wrote_it() -> None:
    source = to_jax_source(graph(BLOCK))
    assert (
        source
        == '''\
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax


def layer_norm(x, w):
    """Last axes shifted to mean 0 and scaled to variance 1, then scaled and shifted by a weight and a bias."""
    d = x - jnp.mean(x, axis=(1,), keepdims=True)
    v = jnp.mean(d * d, axis=(1,), keepdims=True)
    u = d * lax.rsqrt(v + 1e-05)
    return u * w


def block(params, x):
    h = jnp.matmul(x, jnp.transpose(params["fc.weight"])) + params["fc.bias"]
    g = jax.nn.gelu(h)
    n = layer_norm(g, params["fc.bias"])
    m = layer_norm(n, params["fc.bias"])
    return m * 0.5


def get_params(seed=0):
    rng = np.random.default_rng(seed)
    return {
        "fc.weight": (rng.standard_normal((8, 8)) / 2.828).astype(np.float32),
        "fc.bias": rng.standard_normal((8,)).astype(np.float32),
    }


def get_inputs(seed=0):
    rng = np.random.default_rng(seed)
    return [rng.standard_normal((4, 8)).astype(np.float32)]
'''
    )
    names: dict[str, Any] = {}
    exec(source, names)
    params, inputs = names["get_params"](), names["get_inputs"]()
    expected = to_callable(graph(BLOCK))(*(torch.from_numpy(v) for v in (*inputs, *params.values())))
    np.testing.assert_allclose(names["block"](params, *inputs), expected.numpy(), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    "name", ["decoder", "lookups", "pools"] + [pytest.param(n, marks=pytest.mark.full) for n in (
        "mlp", "conv net", "attention", "manual attention", "swiglu", "tied", "nested", "views", "in place", "reductions",
        "losses", "activations", "norms", "convolutions", "products", "promotion",
    )]
)  # fmt: skip
def test_pytorch_programs_run_in_jax(name: str) -> None:
    found = case(name)
    program = found.imported.graph
    expected = to_callable(program)(*found.inputs())
    run = jax.jit(to_jax_callable(program))
    with wide_numbers():
        given = run(*map(to_numpy, found.inputs()))
    results = given[0] if program.updates else given
    for a, b in zip(jax.tree.leaves(results), expected if isinstance(expected, tuple) else (expected,), strict=True):
        found_in_jax = to_torch(a)
        assert found_in_jax.dtype == b.dtype
        rounding = 0.05 if b.dtype in (torch.bfloat16, torch.float16) else 2e-5
        torch.testing.assert_close(found_in_jax, b, rtol=rounding, atol=rounding, equal_nan=True)


def test_buffers_are_returned() -> None:
    b = GraphBuilder("count")
    x = b.input("x", TensorType("f32", (3,)))
    n = b.input("n", TensorType("f32", (3,)), "buffer", "total")
    total = b.add("add", n, x)
    program = b.build([b.add("mul", total, 2.0)], [Update(n, total)])
    result, updates = to_jax_callable(program)(np.ones(3, np.float32), np.full(3, 2, np.float32))
    assert result.tolist() == [6.0] * 3 and list(updates) == ["total"] and updates["total"].tolist() == [3.0] * 3


def test_sizes_stay_symbols() -> None:
    text = """graph f<B in 1..64>(%x: f32[B, 4]) -> (%y, %z) {
  %y = reshape(%x) {shape = [4, B]} : f32[4, B]
  %z = sum(%x) {axes = [0], keepdim = False} : f32[4]
}"""
    source = to_jax_source(graph(text), style="function")
    assert "B = x.shape[0]" in source and "jnp.reshape(x, (4, B))" in source
    run = to_jax_callable(graph(text))
    for n in (1, 5):
        assert [v.shape for v in run(np.ones((n, 4), np.float32))] == [(4, n), (4,)]


def test_64_bits_stay_inside() -> None:
    text = "graph f(%x: f64[3], %i: i64[3]) -> (%y, %z) {\n  %y = mul(%x, 0.1) : f64[3]\n  %z = add(%i, 1) : i64[3]\n}"
    x = np.array([1.0, 2.0, 1e-300])
    y, z = to_jax_callable(graph(text))(x, np.array([2**40, 0, 1]))
    assert str(y.dtype) == "float64" and np.array_equal(y, x * 0.1) and z.tolist() == [2**40 + 1, 1, 2]
    assert not jax.config.jax_enable_x64 and jnp.arange(3).dtype == jnp.int32


@pytest.mark.parametrize(
    "dtype, op, literal, x, expected",
    [
        ("u8", "add", -1, [0, 5], [255, 4]),  # an integer that the dtype does not hold wraps
        ("i32", "floor_divide", 3, [-7, 7], [-3, 2]),
        ("i32", "remainder", 3, [-7, 7], [2, 1]),
        ("f32", "mul", 0.1, [1.0, 3.0], [np.float32(0.1), np.float32(3.0) * np.float32(0.1)]),
    ],
)
def test_literals_take_the_dtype_of_their_partners(
    dtype: str, op: str, literal: Any, x: list[Any], expected: list[Any]
) -> None:
    b = GraphBuilder("f")
    name = b.input("x", TensorType(dtype, (2,)))
    program = b.build([b.add(op, name, literal)])
    given = np.array(x, {"u8": np.uint8, "i32": np.int32, "f32": np.float32}[dtype])
    found = to_jax_callable(program)(given)
    assert found.dtype == given.dtype and found.tolist() == [float(v) if dtype == "f32" else v for v in expected]


def test_numbers_keep_their_precision_beside_half_floats() -> None:
    b = GraphBuilder("f")
    program = b.build([b.add("mul", b.input("x", TensorType("bf16", (1000,))), 2.1)])
    x = torch.randn(1000, generator=torch.Generator().manual_seed(0)).to(torch.bfloat16)
    assert torch.equal(to_torch(to_jax_callable(program)(to_numpy(x))), x * 2.1)


def test_bodies_without_a_clause(tmp_path: Any) -> None:
    """A user's own operator needs no clause: scalar, reduce, index and expand bodies become functions."""
    file = tmp_path / "own.drt"
    file.write_text(
        """
op bump(x: T[S..]; height: number = 2) -> (y: T[S..]) { doc "A bump." type T: float
  scalar y = height * exp(-(x * x)) if height > 0 else where(isnan(x), 0, -x) }
op energy(x: T[S..]; axes: axes(S)) -> (y: T[reduced(S, axes, False)]) { doc "Sum of squares." type T: float
  reduce y = sum(x * x) over axes }
op band(a: T[M, K], b: T[N, K]) -> (y: T[M, N]) { doc "Products beside the diagonal." type T: float
  index y[i, j] = where(abs(i - j) <= 1, sum{k in K} a[i, k] * b[j, k], 0) }
op shifted(x: T[B.., N]; by: int) -> (y: T[B.., N]) { doc "Moved along the last axis." type T: any
  index y[I.., n] = pad(x[I.., n - by], 0) }
op both(x: T[M, K]) -> (y: T[M, M]) { doc "Two steps." type T: float
  expand { s = shifted(bump(x), by=1); y = band(s, s); } }
""",
        encoding="utf-8",
    )
    ops = load_ops(file)
    b = GraphBuilder("f", ops)
    x = b.input("x", TensorType("f32", (4, 5)))
    program = b.build([b.add("both", x), b.add("energy", x, axes=(1,)), b.add("bump", x, height=-1)])
    source = to_jax_source(program, ops, style="function")
    assert "def both(x):" in source and 'jnp.einsum("' in source and "padded(" in source
    from drt.backend.oracle import Oracle

    given = torch.randn(4, 5)
    for a, e in zip(to_jax_callable(program, ops)(given.numpy()), Oracle(ops).run(program, {"x": given}), strict=True):
        np.testing.assert_allclose(np.asarray(a, np.float64), e.numpy(), rtol=1e-5, atol=1e-6)


def test_pytorchs_own_operators_are_refused_by_name() -> None:
    b = GraphBuilder("f")
    x = b.input("x", TensorType("f32", (4,)))
    b.build([b.opaque("aten.foo.default", [x], [TensorType("f32", (4,))], [["$0"], {}], result="y")])
    program = b.build(["y"])
    with pytest.raises(
        UsageError, match="to_jax: aten.foo.default is PyTorch's own, expected an operator with a meaning"
    ):
        to_jax_source(program)


def test_random_numbers_are_refused_by_name() -> None:
    b = GraphBuilder("f")
    x = b.input("x", TensorType("f32", (4,)))
    program = b.build([b.add("dropout", x, p=0.5)])
    with pytest.raises(UsageError, match="draws random numbers"):
        to_jax_source(program)


def test_unknown_styles_are_refused() -> None:
    with pytest.raises(UsageError, match="style is class, expected module or function"):
        to_jax_source(graph(BLOCK), style="class")


def test_the_functions_of_clauses_are_those_of_the_module() -> None:
    assert set(jax_functions.FUNCTIONS) == JAX_FUNCTIONS
    # Their text becomes part of generated files, which have nothing else.
    for f in jax_functions.FUNCTIONS.values():
        assert set(inspect.getclosurevars(f).globals) <= {"jnp", "lax", *JAX_FUNCTIONS}, f.__name__
