"""Importing programs: the graph computes what the program computes, and what cannot be imported is said in one line."""

from __future__ import annotations

import re

import pytest
import torch
import torch.utils._pytree as pytree
from drt.backend.to_torch import to_callable
from drt.frontend import Baked, import_module
from drt.ir import Literal, Size, UsageError, parse_graph, print_graph, verify_graph
from programs.imported import case
from programs.zoo import PROGRAMS, Tied
from torch import nn

NAMES = sorted(PROGRAMS)


@pytest.mark.parametrize("name", NAMES)
def test_graph_computes_what_the_program_computes(name: str) -> None:
    c = case(name)
    inputs = c.inputs()
    with torch.no_grad():
        torch.manual_seed(1)
        outputs = to_callable(c.imported.graph)(*inputs)
    got, got_tree = pytree.tree_flatten(c.imported.result(outputs, inputs))
    result, buffers = c.expected()
    want, want_tree = pytree.tree_flatten(result)
    assert got_tree == want_tree
    t = c.program.tolerance
    for g, w in zip(got, want, strict=True):
        torch.testing.assert_close(g, w, rtol=t, atol=t, equal_nan=True)
    for i, tensor in zip(c.imported.graph.inputs, inputs, strict=True):
        if i.kind == "buffer":
            torch.testing.assert_close(tensor, buffers[i.target], rtol=t, atol=t)


@pytest.mark.parametrize("name", NAMES)
def test_graph_is_valid_and_survives_its_text(name: str) -> None:
    graph = case(name).imported.graph
    verify_graph(graph)
    assert parse_graph(print_graph(graph)) == graph


@pytest.mark.parametrize("name", NAMES)
def test_only_the_named_targets_stay_opaque(name: str) -> None:
    c = case(name)
    assert {u.target for u in c.imported.unknown} == set(c.program.opaque)
    assert sum(u.count for u in c.imported.unknown) == sum(n.op == "opaque" for n in c.imported.graph.nodes)
    assert set(c.program.operators) <= {n.op for n in c.imported.graph.nodes}


@pytest.mark.parametrize("name", NAMES)
def test_nodes_know_the_line_that_they_come_from(name: str) -> None:
    places = [n.location for n in case(name).imported.graph.nodes]
    assert all(p is not None and p.file.endswith("zoo.py") and p.line > 0 for p in places)


def test_state_is_the_module_s_own() -> None:
    c = case("tied")
    (weight,) = (i for i in c.imported.graph.inputs if i.kind == "param")
    assert c.imported.state[weight.target].data_ptr() == c.module.embed.weight.data_ptr()
    graph = import_module(Tied(), (torch.zeros(2, 3, dtype=torch.int64),)).graph
    assert [n.op for n in graph.nodes] == ["embedding", "tanh", "linear"]
    assert graph.nodes[0].operands[0] == graph.nodes[2].operands[1]


def test_buffer_updates_are_explicit_results() -> None:
    graph = case("buffers").imported.graph
    assert {graph.input(u.target).target for u in graph.updates} == {"calls", "running"}


def test_calling_convention() -> None:
    imported = case("nested").imported
    assert imported.in_spec.sources() == {"batch_x": "batch['x']", "batch_ys_0": "batch['ys'][0]", "mask": "mask"}
    assert imported.in_spec.guards() == {"scale": 3, "flag": True}
    x, y, mask = torch.ones(2, 3), torch.ones(2), torch.zeros(2, 3, dtype=torch.bool)
    # Keyword arguments are known by name, in whatever order they are given.
    assert imported.in_spec.flatten({"x": x, "ys": [y]}, 3, flag=True, mask=mask)[0] is x
    with pytest.raises(UsageError, match=r"scale: is 4, expected 3: the program is specialised to it"):
        imported.in_spec.flatten({"x": x, "ys": [y]}, 4, mask=mask, flag=True)
    with pytest.raises(UsageError, match="expected the structure of the example inputs"):
        imported.in_spec.flatten({"x": x}, 3, mask=mask, flag=True)


def test_source_of_a_nested_result() -> None:
    imported = import_module(lambda x: {"a": (x + 1, None), "b": [x.shape[0], "text"]}, (torch.ones(2),))
    assert imported.out_spec.source(["y"]) == "{'a': (y, None), 'b': [2, 'text']}"
    assert imported.out_spec.leaves[1:] == (Baked(None), Baked(2), Baked("text"))
    pair = case("nested").imported
    with pytest.raises(UsageError, match="expected tensors, tuples, lists and dicts"):
        pair.out_spec.source(["a", "b", "c", "d"])


def test_dynamic_sizes_are_named_symbols() -> None:
    graph = case("dynamic").imported.graph
    assert [(s.name, s.lo, s.hi) for s in graph.symbols] == [("B", 1, 64), ("T", 3, 32)]
    assert str(graph.types["view"]) == "f32[B, 2*T, 4]"


def test_dynamic_graph_runs_at_other_sizes() -> None:
    c = case("dynamic")
    args = (torch.randn(7, 9, 8), torch.randn(7, 9, 8))
    inputs = c.imported.bind(*args)
    got = c.imported.result(to_callable(c.imported.graph)(*inputs), inputs)
    torch.testing.assert_close(got, c.module(*args), rtol=1e-6, atol=1e-6)


def test_range_of_a_symbol_given_by_name() -> None:
    graph = import_module(lambda x: x + 1, (torch.ones(4, 3),), dynamic={"x": {0: "N"}}).graph
    assert [s.name for s in graph.symbols] == ["N"]
    assert isinstance(graph.inputs[0].type.shape[0], Size)


def test_numbers_are_literals_at_full_precision() -> None:
    graph = import_module(lambda x: x * 2.1, (torch.ones(4, dtype=torch.bfloat16),)).graph
    assert graph.nodes[0].operands[1] == Literal(2.1)


def test_known_constants_become_literals() -> None:
    graph = case("constants").imported.graph
    assert [n.operands[1] for n in graph.nodes[:2]] == [Literal(2.5), Literal(0.5)]
    assert [i.target for i in graph.inputs if i.kind == "constant"] == ["lifted_tensor_1", "table"]


def test_complex_tensors_are_pairs_of_reals() -> None:
    c = case("complex rotary")
    assert {n.op for n in c.imported.graph.nodes} == {"reshape", "select", "mul", "sub", "add", "stack"}
    imported = import_module(lambda z: (z * 2, z.real), (torch.ones(3, dtype=torch.complex64),))
    assert imported.in_spec.sources() == {"z": "torch.view_as_real(z.resolve_conj())"}
    assert imported.out_spec.source(["a", "b"]) == "(torch.view_as_complex(a.contiguous()), b)"
    inputs = imported.bind(torch.tensor([1 + 2j, 3j, -1], dtype=torch.complex64))
    doubled, real = imported.result(to_callable(imported.graph)(*inputs), inputs)
    assert doubled.tolist() == [2 + 4j, 6j, -2] and real.tolist() == [1, 0, -1]


def test_identities_leave_no_node() -> None:
    def f(x):
        y = x.contiguous().clone().detach()[:, :].view(2, 3).to(torch.float32).expand(2, 3).reshape(2, -1)
        return torch.ops.aten.alias(y) + 1

    graph = import_module(f, (torch.ones(2, 3),)).graph
    assert [n.op for n in graph.nodes] == ["add"]


def test_module_is_left_in_its_mode() -> None:
    module = nn.Sequential(nn.Linear(2, 2), nn.Dropout(0.5))
    module[1].eval()
    import_module(module, (torch.ones(1, 2),))
    assert (module.training, module[1].training) == (True, False)


def test_training_none_keeps_the_mode_of_each_module() -> None:
    module = nn.Sequential(nn.Dropout(0.5), nn.BatchNorm1d(2))
    module[0].eval()
    ops = [n.op for n in import_module(module, (torch.randn(3, 2),), training=None).graph.nodes]
    assert "batch_norm_training" in ops and "opaque" not in ops


class Branch(nn.Module):
    def forward(self, x):
        if x.sum() > 0:
            return x
        return -x


class DataDependent(nn.Module):
    def forward(self, x):
        return x.nonzero()


class Short(nn.Module):
    def forward(self, x):
        return x.to(torch.int16) + 1


class Broken(nn.Module):
    def forward(self, x):
        return x @ x


class Loop(nn.Module):
    def forward(self, x):
        return torch.cond(torch.tensor(True), lambda z: z + 1, lambda z: z - 1, (x,))


@pytest.mark.parametrize(
    ("module", "pattern"),
    [
        (Branch(), r"test_import\.py:\d+: Branch: torch\.export fails: control flow depends on tensor contents"),
        (DataDependent(), r"test_import\.py:\d+: DataDependent: a size depends on tensor contents, expected"),
        (Short(), r"test_import\.py:\d+: Short: a value has dtype int16, expected one of"),
        (Broken(), r"test_import\.py:\d+: Broken: torch\.export fails: .*(reduction dim|mat1 and mat2)"),
        (Loop(), r"Loop: the program .*expected"),
        (3, r"module: is a int, expected an nn\.Module or a function"),
    ],
)
def test_what_cannot_be_imported_is_said_in_one_line(module: object, pattern: str) -> None:
    with pytest.raises(UsageError) as raised:
        import_module(module, (torch.randn(3, 4),))  # type: ignore[arg-type]
    line = raised.value.line()
    assert "\n" not in line
    assert re.search(pattern, line), line


def test_unknown_name_in_dynamic() -> None:
    with pytest.raises(UsageError, match=r"z: is not an argument of the example call, expected one of x"):
        import_module(lambda x: x, (torch.ones(2),), dynamic={"z": {0: "B"}})


def test_a_violated_range_is_named() -> None:
    with pytest.raises(UsageError, match=r"Constraints violated \(B\): .*B"):
        import_module(lambda x: x.view(2, -1) + x.new_ones(2, 4), (torch.ones(8),), dynamic={"x": {0: "B"}})


def test_a_program_on_the_meta_device_is_read_as_on_the_cpu() -> None:
    def f(x: torch.Tensor, target: torch.Tensor) -> tuple[torch.Tensor, ...]:
        scale = torch.tensor(0.5, device=x.device)
        loss = torch.nn.functional.cross_entropy(x, target, label_smoothing=0.1)
        return torch.fft.rfft(x).abs(), loss, x.diff() * scale

    args = torch.randn(4, 6), torch.randint(0, 6, (4,))
    here, there = (import_module(f, tuple(t.to(device) for t in args)) for device in ("cpu", "meta"))
    assert there.unknown == () and there.graph.types[there.graph.outputs[0]] == here.graph.types[here.graph.outputs[0]]
    assert {n.op for n in here.graph.nodes} == {n.op for n in there.graph.nodes}


def test_products_of_complex_matrices() -> None:
    x, y = torch.randn(2, 3, 4, dtype=torch.complex64), torch.randn(2, 4, 5, dtype=torch.complex64)
    for f in (lambda a, b: torch.bmm(a, b), lambda a, b: a[0] @ b[0], lambda a, b: a @ b.mT.mT):
        imported = import_module(f, (x, y))
        assert imported.unknown == ()
        inputs = imported.bind(x, y)
        got = imported.result(to_callable(imported.graph)(*inputs), inputs)
        torch.testing.assert_close(got, f(x, y), rtol=1e-5, atol=1e-5)
