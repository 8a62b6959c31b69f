"""Programs with the odd arguments of real code: imported whole, written and read, and equal to PyTorch in float64."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.utils._pytree as pytree
from drt.backend.to_torch import to_callable, to_source
from drt.frontend import Imported, import_module
from drt.ir import parse_graph, print_graph
from programs.unseen import FLOAT32, NOT_IN_JAX, TRAINING, UNSEEN

pytestmark = pytest.mark.filterwarnings("ignore")
#: In the default run: what imports in a moment.
QUICK = (
    "windows_of_padding_alone", "slices", "looked_up", "arguments", "BoundedEmbeddings", "mapped", "MappedModule", "Structured",
    "Checkpointed", "RecurrentLayers",
)  # fmt: skip
EVERY = [pytest.param(n, marks=() if n in QUICK else pytest.mark.slow) for n in UNSEEN]


def made(name: str) -> Any:
    torch.manual_seed(0)
    module = UNSEEN[name][0]()
    if isinstance(module, torch.nn.Module):
        module = module if name in FLOAT32 else module.double()
        module.train(name in TRAINING)
    return module


def arguments(name: str) -> Any:
    torch.manual_seed(1)

    def wide(v: Any) -> Any:
        return v.double() if isinstance(v, torch.Tensor) and v.is_floating_point() and name not in FLOAT32 else v

    return pytree.tree_map(wide, UNSEEN[name][1]())


def imported(name: str) -> Imported:
    return import_module(made(name), arguments(name), training=name in TRAINING)


def close(got: Any, want: Any, tolerance: float) -> None:
    got, want = pytree.tree_leaves(got), pytree.tree_leaves(want)
    assert len(got) == len(want)
    for a, b in zip(got, want):
        if isinstance(b, torch.Tensor):
            torch.testing.assert_close(a, b, rtol=tolerance, atol=tolerance, equal_nan=True)
        else:
            assert a == b


@pytest.mark.parametrize("name", EVERY)
def test_import_says_what_pytorch_does(name: str) -> None:
    program, module = imported(name), made(name)
    assert not program.unknown
    assert parse_graph(print_graph(program.graph)) == program.graph
    inputs = [t.clone() for t in program.bind(*arguments(name))]
    with torch.no_grad():
        want = module(*arguments(name))
        got = program.result(to_callable(program.graph)(*inputs), inputs)
    close(got, want, 1e-12)
    if isinstance(module, torch.nn.Module):
        state = {**dict(module.named_parameters()), **dict(module.named_buffers())}
        held = {i.target: t for i, t in zip(program.graph.inputs, inputs) if i.target in state}
        close([held[k] for k in held], [state[k].detach() for k in held], 1e-12)


@pytest.mark.slow
@pytest.mark.parametrize("name", UNSEEN)
def test_written_source_is_read_back(name: str) -> None:
    program = imported(name)
    namespace: dict[str, Any] = {}
    exec(compile(to_source(program.graph, constants=program.state), name, "exec"), namespace)
    again = import_module(namespace["Model"](), namespace["get_inputs"](), training=None)
    assert not again.unknown
    assert [(i.target, i.type) for i in again.graph.inputs if i.kind == "param"] == [
        (i.target, i.type) for i in program.graph.inputs if i.kind == "param"
    ]
    given = [t.clone() for t in program.bind(*arguments(name))]
    want = to_callable(program.graph)(*given)
    tensors = iter(t for i, t in zip(program.graph.inputs, program.bind(*arguments(name))) if i.kind == "input")
    state = {i.target: t for i, t in zip(program.graph.inputs, program.bind(*arguments(name))) if i.kind != "input"}
    inputs = [
        next(tensors) if i.kind == "input" else state.get(i.target, again.state[i.target]) for i in again.graph.inputs
    ]
    close(to_callable(again.graph)(*(t.clone() for t in inputs)), want, 1e-9)


@pytest.mark.slow
@pytest.mark.parametrize("name", [n for n in UNSEEN if n not in NOT_IN_JAX])
def test_jax_gives_the_same(name: str) -> None:
    jax = pytest.importorskip("jax", reason="jax: not installed; install drt[jax]")
    import numpy as np
    from drt.backend.to_jax import to_jax_callable

    program = imported(name)
    inputs = [t.clone() for t in program.bind(*arguments(name))]
    found = to_jax_callable(program.graph)(*(np.asarray(t.detach()) for t in inputs))
    outputs = found[0] if program.graph.updates else found
    want = to_callable(program.graph)(*inputs)
    wanted = list(want) if isinstance(want, tuple) else [want]
    results = list(outputs) if isinstance(outputs, (tuple, list)) else [outputs]
    assert len(results) == len(wanted)
    for a, b in zip(results, wanted):
        a = a.astype("float32") if a.dtype == jax.numpy.bfloat16 else a
        tolerance = {torch.float64: 1e-8, torch.float32: 1e-4}.get(b.dtype, 2e-2)
        close(torch.from_numpy(np.array(a)).to(b.dtype), b, tolerance)
