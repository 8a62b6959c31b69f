"""JAX programs: imported they compute what they computed, and say what the same programs of PyTorch say."""

from __future__ import annotations

import importlib
import random
from typing import Any

import pytest

pytest.importorskip("jax", reason="jax: not installed; install drt[jax]")

import jax
import jax.numpy as jnp
import numpy as np
import torch
import torch.utils._pytree as pytree
from drt.backend.oracle import Oracle
from drt.backend.to_jax import to_jax_callable, wide_numbers
from drt.backend.to_torch import to_callable
from drt.frontend import Imported, import_jax, import_module
from drt.ir import Graph, TensorType, UsageError, builtin_ops, simplify, verify_graph
from drt.ir.effects import random_operators
from drt.ir.opdef import Opaque
from drt.ir.typesys import UNIT_ROUNDOFF, is_float
from jax import lax
from ops.checks import graph_inputs, one_node_graph, random_operands
from ops.jax_checks import small, to_numpy, unequal
from programs.imported import without_names
from programs.jax_zoo import PROGRAMS
from torch import nn

OPS = builtin_ops()


def imported(name: str) -> tuple[Imported, list[Any]]:
    """Return a program's import and the arguments of a call of it: parameters are state, unless there are none."""
    program = PROGRAMS[name]
    params, args = program.parameters(), program.arguments()
    found = import_jax(program.function, [params, *args], params=bool(program.shapes))
    given = args if program.shapes else [params, *args]
    return found, pytree.tree_map(lambda a: torch.from_numpy(np.array(a)), given)


def check(found: list[Any], expected: list[Any], rounding: float = 1e-5) -> None:
    assert len(found) == len(expected)
    for a, b in zip(found, expected):
        a, b = np.asarray(a), np.asarray(b)
        assert (a.shape, a.dtype) == (b.shape, b.dtype)
        np.testing.assert_allclose(a, b, rtol=rounding, atol=rounding * max(1.0, float(np.abs(b).max(initial=0))))


#: Programs of the default run: between them they have loops, gradients, gathers, integers, convolutions and whole models.
SAMPLE = (
    "language_model",
    "conv_net",
    "gated_recurrent",
    "gradient",
    "indexing",
    "integers",
    "llama_block",
    "mixture",
    "orders",
)
#: Programs that go to JAX and come back in the default run.
RETURNING = ("conv_net", "integers", "graph_layer")


def sampled(names: tuple[str, ...]) -> list[Any]:
    return [pytest.param(n, marks=[] if n in names else [pytest.mark.full]) for n in PROGRAMS]


@pytest.mark.parametrize("name", sampled(SAMPLE))
def test_a_program_is_what_it_was(name: str) -> None:
    program = PROGRAMS[name]
    found, given = imported(name)
    verify_graph(found.graph)
    expected = jax.tree.leaves(jax.jit(program.function)(program.parameters(), *program.arguments()))
    inputs = found.bind(*given)
    check(jax.tree.leaves(found.result(to_callable(found.graph)(*inputs), inputs)), expected, 2e-5)
    simple, _ = simplify(found.graph, exact_only=False)
    inputs = found.bind(*given)
    check(jax.tree.leaves(found.result(to_callable(simple)(*inputs), inputs)), expected, 5e-5)


@pytest.mark.parametrize("name", sampled(RETURNING))
def test_there_and_back(name: str) -> None:
    """A graph in JAX computes what it says, and read back says the same."""
    found, given = imported(name)
    inputs = found.bind(*given)
    run = to_jax_callable(found.graph)
    arrays = [to_numpy(t) for t in inputs]
    first = to_callable(found.graph)(*inputs)
    expected = [np.asarray(v) for v in (first if isinstance(first, tuple) else (first,))]
    results = jax.tree.leaves(jax.jit(run)(*arrays))
    check(results, expected, 2e-5)
    again = import_jax(run, arrays, name=found.graph.name)
    verify_graph(again.graph)
    second = to_callable(again.graph)(*again.bind(*inputs))
    check([np.asarray(v) for v in (second if isinstance(second, tuple) else (second,))], expected, 2e-5)


# -- the same programs in PyTorch -----------------------------------------------------------------------------------------


class Mlp(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.up, self.down = nn.Parameter(torch.randn(8, 16)), nn.Parameter(torch.randn(16, 8))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.softmax(nn.functional.gelu(x @ self.up, approximate="tanh") @ self.down, -1)


def mlp(p: Any, x: Any) -> Any:
    return jax.nn.softmax(jax.nn.gelu(x @ p["up"]) @ p["down"])


class Norm(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.scale, self.bias = nn.Parameter(torch.ones(8)), nn.Parameter(torch.zeros(8))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return nn.functional.silu(nn.functional.layer_norm(x, (8,), self.scale, self.bias))


def norm(p: Any, x: Any) -> Any:
    mean, var = x.mean(-1, keepdims=True), x.var(-1, keepdims=True)
    return jax.nn.silu((x - mean) / jnp.sqrt(var + 1e-5) * p["scale"] + p["bias"])


class Heads(nn.Module):
    def forward(self, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        q, k, v = (t.transpose(1, 2) for t in (q, k, v))
        return nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True, scale=0.5).transpose(1, 2)


def heads(q: Any, k: Any, v: Any) -> Any:
    scores = jnp.einsum("bqhd,bkhd->bhqk", q, k) * 0.5
    n = q.shape[1]
    scores = jnp.where(jnp.tril(jnp.ones((n, n), bool)), scores, -jnp.inf)
    return jnp.einsum("bhqk,bkhd->bqhd", jax.nn.softmax(scores, axis=-1), v)


@pytest.mark.parametrize(
    "module, function, shapes",
    [(Mlp, mlp, [(3, 8)]), (Norm, norm, [(2, 3, 8)]), (Heads, heads, [(2, 5, 3, 4)] * 3)],
)
def test_jax_says_what_pytorch_says(module: Any, function: Any, shapes: list[tuple[int, ...]]) -> None:
    owner = module()
    params = {k: v.detach().numpy() for k, v in owner.named_parameters()}
    args = [np.zeros(s, np.float32) for s in shapes]
    ours = import_jax(function, [params, *args] if params else args, params=bool(params)).graph
    theirs = import_module(owner, tuple(map(torch.from_numpy, args))).graph
    simple = [simplify(g, exact_only=False)[0] for g in (ours, theirs)]
    assert without_names(simple[0]) == without_names(simple[1])


@pytest.mark.parametrize(
    "function, op",
    [
        (jax.nn.relu, "relu"), (jax.nn.gelu, "gelu"), (lambda x: jax.nn.gelu(x, approximate=False), "gelu"),
        (jax.nn.silu, "silu"), (jax.nn.softplus, "softplus"), (jax.nn.sigmoid, "sigmoid"), (jnp.tril, "tril"),
        (jnp.triu, "triu"), (jax.nn.softmax, "softmax"), (jax.nn.log_softmax, "log_softmax"),
        (lambda x: jax.nn.logsumexp(x, axis=1), "logsumexp"), (lambda x: x.mean(0), "mean"), (lambda x: x[:, 1], "select"),
        (lambda x: jnp.max(x, axis=1, keepdims=True), "amax"), (lambda x: jnp.var(x, axis=0), "var"),
        (lambda x: jnp.sort(x, axis=0), "sort"),
    ],
)  # fmt: skip
def test_functions_are_single_operators(function: Any, op: str) -> None:
    graph = import_jax(function, [np.zeros((4, 5), np.float32)], name="f").graph
    assert [n.op for n in simplify(graph, exact_only=False)[0].nodes] == [op]


# -- every operator -------------------------------------------------------------------------------------------------------


def through_jaxpr(op: str, seed: int) -> str:
    """Import what an operator becomes in JAX, in float64; return how it differs from what it means, or ""."""
    rng = random.Random(f"{op} {seed}")
    dtypes = {
        v: "f64" if "f64" in allowed else "i64" for v, allowed in OPS[op].dtypes.items() if {"f64", "i64"} & allowed
    }
    instance = small(OPS[op], OPS, rng, seed, dtypes=dtypes)
    graph = one_node_graph(instance, OPS)
    inputs = graph_inputs(graph, random_operands(instance, rng, positive=True))
    with wide_numbers():
        again = import_jax(to_jax_callable(graph, OPS), [to_numpy(t) for t in inputs.values()], name=op, x64=True)
    verify_graph(again.graph)
    given = dict(zip([i.name for i in again.graph.inputs], again.bind(*inputs.values())))
    expected, found = Oracle(OPS).run(graph, inputs), Oracle(OPS).run(again.graph, given)
    for o, a, b in zip(graph.outputs, expected, found, strict=True):
        assert graph.types[str(o)] == again.graph.types[str(again.graph.outputs[graph.outputs.index(o)])]
        dtype = graph.types[str(o)].dtype
        # Numbers of the program are rounded to the dtype that JAX gives them.
        rounding = max(2.0**18, 8 * UNIT_ROUNDOFF.get(dtype, 0.0) / UNIT_ROUNDOFF["f64"])
        problem = unequal(a, b, "f64" if is_float(dtype) else dtype, rounding)
        if problem:
            return f"{instance}: {problem}"
    return ""


#: What has a meaning that an oracle can compare: not drawn anew at every call.
COMPARABLE = [n for n, op in OPS.items() if not isinstance(op.body, Opaque) and n not in random_operators(OPS)]
#: What JAX says by primitives that no operator says.
ONE_WAY = {"copysign": "bitcast_convert_type", "signbit": "bitcast_convert_type"}
SAMPLED = sorted(random.Random(7).sample([n for n in COMPARABLE if n not in ONE_WAY], 16))


@pytest.mark.parametrize("op", SAMPLED)
def test_an_operator_through_jax_is_what_it_was(op: str) -> None:
    assert not through_jaxpr(op, 0)


@pytest.mark.full
@pytest.mark.parametrize("op", [n for n in COMPARABLE if n not in ONE_WAY])
def test_every_operator_through_jax_is_what_it_was(op: str) -> None:
    for seed in range(4):
        assert not through_jaxpr(op, seed)


@pytest.mark.parametrize("op", ONE_WAY)
def test_what_does_not_come_back_is_refused(op: str) -> None:
    with pytest.raises(UsageError, match=ONE_WAY[op]):
        through_jaxpr(op, 0)


# -- calling --------------------------------------------------------------------------------------------------------------


def test_parameters_become_state() -> None:
    found = import_jax(mlp, [{"up": np.ones((8, 4), np.float32), "down": np.ones((4, 8), np.float32)}, np.ones((2, 8), np.float32)],
                       params=True)  # fmt: skip
    assert [(i.name, i.kind, i.target) for i in found.graph.inputs] == [
        ("x", "input", ""), ("up", "param", "up"), ("down", "param", "down"),
    ]  # fmt: skip
    assert set(found.state) == {"up", "down"}
    assert found.in_spec.paths == ("x",)


def test_numbers_are_baked_in() -> None:
    found = import_jax(lambda x, n, flag: x * n if flag else x, [np.ones(3, np.float32), 2.5, True])
    with pytest.raises(UsageError, match="is 3.5, expected 2.5"):
        found.bind(torch.ones(3), 3.5, True)
    assert [n.op for n in found.graph.nodes] == ["mul"]


def test_arrays_of_the_program_are_constants() -> None:
    table = np.arange(6, dtype=np.float32).reshape(2, 3) ** 2
    found = import_jax(lambda x: x + jnp.asarray(table), [np.ones((2, 3), np.float32)])
    (constant,) = (i for i in found.graph.inputs if i.kind == "constant")
    assert torch.equal(found.state[constant.target], torch.from_numpy(table))


def test_nested_results() -> None:
    found = import_jax(lambda x: {"b": (x + 1, None), "a": [x, 3]}, [np.ones(2, np.float32)])
    inputs = found.bind(torch.zeros(2))
    result = found.result(to_callable(found.graph)(*inputs), inputs)
    assert result["b"][1] is None and result["a"][1] == 3 and torch.equal(result["b"][0], torch.ones(2))


def test_64_bits_on_request() -> None:
    def f(x: Any) -> Any:
        return x * 2, jnp.arange(3)

    x = np.ones(3)
    assert [t.dtype for t in output_types(import_jax(f, [x]).graph)] == ["f32", "i32"]
    assert [t.dtype for t in output_types(import_jax(f, [x], x64=True).graph)] == ["f64", "i64"]
    assert not jax.config.jax_enable_x64


def output_types(graph: Graph) -> list[TensorType]:
    return [graph.types[str(o)] for o in graph.outputs]


def noisy(x: Any) -> Any:
    return x + jax.random.normal(jax.random.key(0), x.shape)


def branching(x: Any) -> Any:
    return lax.cond(x.sum() > 0, lambda x: x, lambda x: -x, x)


def looping(x: Any) -> Any:
    return lax.while_loop(lambda c: c.sum() < 9, lambda c: c * 2, x)


def python_branch(x: Any) -> Any:
    return x if x.sum() > 0 else -x


def long_scan(x: Any) -> Any:
    return lax.scan(lambda c, _: (c * 0.5, None), x, None, length=1000)[0]


def unsigned(x: Any) -> Any:
    return x.astype(jnp.uint32) >> 1


def spectrum(x: Any) -> Any:
    return jnp.abs(jnp.fft.rfft(x))


def inverse(x: Any) -> Any:
    return jnp.linalg.inv(jnp.outer(x, x))


def masked(x: Any) -> Any:
    return x[x > 0]


def number(x: Any) -> Any:
    return x * float(x.sum())


def test_what_is_printed_is_left_out() -> None:
    def told(x: Any) -> Any:
        jax.debug.print("x is {}", x)
        return x + 1

    assert [n.op for n in import_jax(told, [np.ones(4, np.float32)]).graph.nodes] == ["add"]


@pytest.mark.parametrize(
    "function, message",
    [
        (inverse, "uses the primitive lu, which no operator says"),
        (masked, "control flow or a size depends on array contents (NonConcreteBooleanIndexError)"),
        (number, "control flow or a size depends on array contents (ConcretizationTypeError)"),
        (noisy, "expected random numbers as arguments|draws random numbers"),
        (branching, "control flow depends on array contents (cond)"),
        (looping, "control flow depends on array contents (while)"),
        (python_branch, "control flow or a size depends on array contents"),
        (long_scan, "a scan has 1000 steps, expected at most 64"),
        (unsigned, "a value has dtype uint32"),
        (spectrum, "a value has dtype complex64|uses the primitive fft"),
    ],
)  # fmt: skip
def test_refusals_name_the_line(function: Any, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        import_jax(function, [np.ones(4, np.float32)])
    line = str(caught.value).splitlines()[0]
    assert any(m in line for m in message.split("|")), line
    first = function.__code__.co_firstlineno
    assert f"test_jaxpr.py:{first + 1}: {function.__name__}" in line


def test_other_arguments_are_refused() -> None:
    with pytest.raises(UsageError, match="x: is a object, expected arrays"):
        import_jax(lambda x: x, [object()])


def test_without_jax(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = importlib.import_module

    def without(name: str, package: str | None = None) -> Any:
        if name == "jax":
            raise ImportError(name)
        return plain(name, package)

    monkeypatch.setattr(importlib, "import_module", without)
    with pytest.raises(UsageError, match=r"jax: is not installed; install the extra drt\[jax\]"):
        import_jax(lambda x: x, [np.ones(2)])
    with pytest.raises(UsageError, match=r"drt\[jax\]"):
        to_jax_callable(Graph("g", (), (), ()))
