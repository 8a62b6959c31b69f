"""PyTorch source from graphs: it runs, it says what a person would write, and it is read back as the same graph."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from drt.backend.opaque import size_value
from drt.backend.oracle import Oracle
from drt.backend.to_torch import render_node, to_callable, to_source
from drt.frontend import import_module
from drt.ir import UsageError, builtin_ops, parse_graph
from programs.imported import Case, case, without_names
from programs.zoo import PROGRAMS
from torch import nn

#: Programs with an operator whose ``torch`` clause is several ATen calls: they come back as other operators.
SPREAD = {"conv net, training"}


def built(c: Case) -> Any:
    """Return the emitted module with the program's state in it."""
    namespace: dict[str, Any] = {}
    exec(to_source(c.imported.graph), namespace)
    module = namespace["Model"](*namespace["get_init_inputs"]()).train(c.program.training)
    for target, tensor in c.imported.state.items():
        path, _, leaf = target.rpartition(".")
        with torch.no_grad():
            getattr(module.get_submodule(path), leaf).copy_(tensor)
    with torch.no_grad():
        module(*namespace["get_inputs"]())
    return module


@pytest.mark.parametrize("name", sorted(PROGRAMS))
def test_emitted_module_computes_the_same(name: str) -> None:
    c = case(name)
    inputs = c.inputs()
    module = built(c)
    for target, tensor in c.imported.state.items():
        path, _, leaf = target.rpartition(".")
        with torch.no_grad():
            getattr(module.get_submodule(path), leaf).copy_(tensor)
    given = [t for t, i in zip(inputs, c.imported.graph.inputs) if i.kind == "input"]
    with torch.no_grad():
        torch.manual_seed(1)
        got = module(*given)
        torch.manual_seed(1)
        want = to_callable(c.imported.graph)(*inputs)
    torch.testing.assert_close(got, want, rtol=0, atol=0, equal_nan=True)


@pytest.mark.parametrize("name", sorted(set(PROGRAMS) - SPREAD))
def test_emitted_module_imports_as_the_same_graph(name: str) -> None:
    c = case(name)
    given = [t for t, i in zip(c.inputs(), c.imported.graph.inputs) if i.kind == "input"]
    again = import_module(built(c), given, training=c.program.training, dynamic=c.program.dynamic).graph
    assert without_names(again) == without_names(c.imported.graph)


def test_module_text() -> None:
    graph = parse_graph("""
        drt 1
        graph block<B in 1..4096>(
            %x: f32[B, 8], param %w: f32[8, 8] @"layers.0.weight", param %v: f32[8] @"layers.1.weight",
            buffer %m: f32[8] @"mean", %class: bool[B, 8],
        ) -> (%y, %t) {
          %h = linear(%x, %w, None)              : f32[B, 8]
          %s = sub(%h, %m)                       : f32[B, 8]
          %p = pow(%s, 2.0)                      : f32[B, 8]
          %q = mul(%p, -0.5)                     : f32[B, 8]
          %g = gelu(%q) {approximate = tanh}     : f32[B, 8]
          %k = where(%class, %g, -inf)           : f32[B, 8]
          %y = softmax(%k) {axis = 1}            : f32[B, 8]
          %r = reshape(%y) {shape = [4, 2*B]}    : f32[4, 2*B]
          %t, %i = max_dim(%r) {axis = 0, keepdim = False} : f32[2*B], i64[2*B]
        }""")
    text = to_source(graph, name="Block")
    assert (
        text
        == """\
import torch
import torch.nn.functional as F
from torch import nn


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.ModuleList([nn.Linear(8, 8, bias=False), nn.Module()])
        self.layers[1].weight = nn.Parameter(torch.randn(8))
        self.register_buffer("mean", torch.rand(8) + 0.5)

    def forward(self, x, class_):
        B = x.shape[0]
        if class_.shape != (B, 8):
            raise ValueError(f'block: input class has shape {list(class_.shape)}, expected bool[B, 8]')
        if not 1 <= B <= 4096:
            raise ValueError(f'block: size B is {B}, expected 1..4096')
        h = self.layers[0](x)
        s = h - self.mean
        p = s ** 2.0
        q = p * -0.5
        g = F.gelu(q, approximate="tanh")
        k = torch.where(class_, g, float('-inf'))
        y = F.softmax(k, dim=-1)
        r = y.reshape(4, 2*B)
        t, _ = torch.max(r, dim=0)
        return y, t


def get_inputs():
    B = 2
    return [torch.randn(B, 8), torch.rand(B, 8) < 0.5]


def get_init_inputs():
    return []
"""
    )


def test_parentheses_stand_only_where_they_are_needed() -> None:
    graph = parse_graph("drt 1\ngraph f(%x: f32[4], %y: f32[4]) -> (%p) { %p = pow(-2.0, %x) : f32[4] }")
    node = graph.nodes[0]
    assert render_node(node, graph.types, builtin_ops(), {"x": "x", "p": "p"}) == ["p = (-2.0) ** x"]
    assert render_node(node, graph.types, builtin_ops(), {"x": "a + b", "p": "p"}) == ["p = (-2.0) ** (a + b)"]
    assert render_node(node, graph.types, builtin_ops(), {"x": "self.w[0]", "p": "p"}) == ["p = (-2.0) ** self.w[0]"]


def test_literals_where_pytorch_takes_no_number() -> None:
    graph = parse_graph("drt 1\ngraph f(%x: bf16[4]) -> (%y) { %y = maximum(%x, 0.5) : bf16[4] }")
    x = torch.tensor([0.0, 1.0, -3.0, 0.75], dtype=torch.bfloat16)
    assert torch.equal(to_callable(graph)(x), x.clamp(min=0.5))


def test_new_tensors_are_made_on_the_device_of_the_inputs() -> None:
    graph = parse_graph("""
        drt 1
        graph f(%x: f32[4]) -> (%z, %r) {
          %a = arange() {dtype = f32, start = 0, step = 1, stop = 4} : f32[4]
          %z = add(%x, %a) : f32[4]
          %r = opaque() {arguments = "[[[4]], {\\"device\\": {\\"$device\\": \\"cpu\\"}}]", target = "aten.rand.default"} : f32[4]
        }""")
    source = to_source(graph, style="function")
    assert source.count("device=x.device") == 2
    z, r = to_callable(graph)(torch.ones(4, device="meta"))
    assert z.device.type == r.device.type == "meta"


def test_device_of_one_node() -> None:
    graph = parse_graph(
        "drt 1\ngraph f() -> (%a) { %a = full() {dtype = bf16, shape = [2, 3], value = 1.5} : bf16[2, 3] }"
    )
    (line,) = render_node(graph.nodes[0], {}, builtin_ops(), {"a": "a"}, device="x.device")
    assert line == "a = torch.full([2, 3], 1.5, dtype=torch.bfloat16, device=x.device)"


def test_updates_are_written_back() -> None:
    graph = parse_graph("""
        drt 1
        graph f(%x: f32[2], buffer %n: f32[2] @"n") -> (%y; %n = %m) {
          %m = add(%n, 1) : f32[2]
          %y = mul(%x, %m) : f32[2]
        }""")
    n = torch.zeros(2)
    assert torch.equal(to_callable(graph)(torch.ones(2), n), torch.ones(2))
    assert torch.equal(n, torch.ones(2))


def test_state_names_that_python_cannot_say() -> None:
    graph = parse_graph("""
        drt 1
        graph f(%x: f32[2], param %a: f32[2] @"net.0.w", param %b: f32[2] @"net.last.w", param %c: f32[2], param %d: f32[2] @"0.w")
            -> (%y) { %v0 = add(%a, %b) : f32[2] %v = add(%c, %d) : f32[2] %y = add(%v0, %v) : f32[2] }""")
    namespace: dict[str, Any] = {}
    exec(to_source(graph), namespace)
    module = namespace["Model"]()
    assert isinstance(module, nn.Module)
    assert {"net.0.w", "net.last.w", "c"} <= set(module.state_dict())
    assert module(torch.ones(2)).shape == (2,)


@pytest.mark.parametrize(
    ("target", "arguments", "message"),
    [
        ("os.system", '[["ls"], {}]', "target is os.system, which PyTorch does not have"),
        ("aten.relu.default);x(", "[[], {}]", "expected namespace.operator.overload"),
        ("__class__.x.y", "[[], {}]", "expected namespace.operator.overload"),
        ("aten.relu.default", '[["$3"], {}]', "is not among its 1 operands"),
        ("aten.relu.default", '[["$0"], {"a b": 1}]', "arguments are not [list, object] in JSON"),
        ("aten.relu.default", "[[", "arguments are not [list, object] in JSON"),
        ("aten.relu.default", '[[{"$torch": "float32)"}], {}]', "expected one of $dtype, $device, $torch, $size"),
        ("aten.relu.default", '[[{"$size": "x.y"}], {}]', "'x.y' is no size"),
    ],
)
def test_opaque_nodes_are_read_strictly(target: str, arguments: str, message: str) -> None:
    quoted = arguments.replace('"', '\\"')
    text = f'drt 1\ngraph f(%x: f32[2]) -> (%y) {{ %y = opaque(%x) {{arguments = "{quoted}", target = "{target}"}} : f32[2] }}'
    with pytest.raises(UsageError) as raised:
        to_callable(parse_graph(text))
    assert message in raised.value.line()


def test_sizes_in_opaque_arguments() -> None:
    assert size_value("2*B - (T + 1) // 2 + min(B, 3)", {"B": 5, "T": 4}) == 10 - 2 + 3
    for text in ("B ** 2", "open('x')", "B.x", "1 if B else 2", "("):
        with pytest.raises(UsageError, match="is no size"):
            size_value(text, {"B": 1})


def test_an_operator_without_a_torch_clause() -> None:
    from drt.ir import parse_ops

    ops = builtin_ops() | parse_ops("op twice(x: T[S..]) -> (y: T[S..]) { type T: float scalar y = x + x }", "<test>")
    graph = parse_graph("drt 1\ngraph f(%x: f32[2]) -> (%y) { %y = twice(%x) : f32[2] }", ops=ops)
    with pytest.raises(UsageError, match="twice: has no torch clause"):
        to_callable(graph, ops)


def test_lists_of_lists_of_modules_are_written() -> None:
    inner = [nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))) for _ in "ab"]
    module = nn.Sequential(*inner)
    imported = import_module(module, (torch.ones(2, 4),))
    namespace: dict[str, Any] = {}
    exec(to_source(imported.graph), namespace)
    written = namespace["Model"]()
    written.load_state_dict(module.state_dict())
    torch.testing.assert_close(written(torch.ones(2, 4)), module(torch.ones(2, 4)), rtol=0, atol=0)


class Person(nn.Module):
    """Layers, a list with a gap, weights that no layer of PyTorch has, tied ones, and a table that is used twice."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(10, 8, padding_idx=0)
        self.body = nn.Sequential(nn.Linear(8, 16), nn.GELU(), nn.Linear(16, 8, bias=False))
        self.norm = nn.LayerNorm(8)
        self.scale = nn.Parameter(torch.rand(8))
        self.head = nn.Linear(8, 10, bias=False)
        self.head.weight = self.embed.weight
        self.conv = nn.Conv1d(4, 6, 3, stride=2, padding=1, groups=2)

    def forward(self, ids, mask):
        x = self.embed(ids)
        x = x + self.body(self.norm(x)) * self.scale
        q, k = x[..., :4], x[..., 4:]
        a = (q @ k.transpose(1, 2)).masked_fill(~mask, float("-inf"))
        x = self.conv(torch.softmax(a, dim=-1))
        return F.max_pool1d(x, 2), x.sum(dim=[1, 2]), self.head(self.embed(ids))


def test_text_of_a_person() -> None:
    torch.manual_seed(0)
    args = (torch.randint(1, 10, (2, 4)), torch.ones(2, 4, 4, dtype=torch.bool))
    imported = import_module(Person(), args)
    assert (
        to_source(imported.graph)
        == """\
import torch
import torch.nn.functional as F
from torch import nn


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.randn(8))
        self.body = nn.ModuleList([nn.Linear(8, 16), nn.Identity(), nn.Linear(16, 8, bias=False)])
        self.norm = nn.LayerNorm(8)
        self.head = nn.Module()
        self.head.weight = nn.Parameter(torch.randn(10, 8) / 2.828)
        self.conv = nn.Conv1d(4, 6, 3, stride=2, padding=1, groups=2)

    def forward(self, ids, mask):
        embedding = F.embedding(ids, self.head.weight)
        gelu = F.gelu(self.body[0](self.norm(embedding)))
        add = embedding + self.body[2](gelu) * self.scale
        matmul = add[..., :4] @ add[..., 4:].transpose(1, 2)
        softmax = F.softmax(matmul.masked_fill(~mask, float('-inf')), dim=-1)
        conv1d = self.conv(softmax)
        linear = F.linear(F.embedding(ids, self.head.weight), self.head.weight)
        return F.max_pool1d(conv1d, 2), conv1d.sum(dim=[1, 2]), linear


def get_inputs():
    return [torch.randint(0, 10, (2, 4)), torch.rand(2, 4, 4) < 0.5]


def get_init_inputs():
    return []
"""
    )


def test_a_layer_is_written_only_where_it_does_the_same() -> None:
    class Apart(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.both, self.used, self.held = nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 4)
            self.held.extra = nn.Parameter(torch.ones(4))
            self.bn = nn.BatchNorm1d(4)

        def forward(self, x):
            x = F.linear(self.both(x), self.both.weight)  # a second call, of another kind
            x = self.used(x) + self.used.weight.sum()  # a weight that is read by itself
            return self.bn(F.linear(x, self.held.weight, self.held.bias) * self.held.extra)

    module = Apart().eval()
    text = to_source(import_module(module, (torch.ones(3, 4),)).graph)
    assert "nn.Linear(" not in text and "nn.BatchNorm" not in text
    namespace: dict[str, Any] = {}
    exec(text, namespace)
    again = namespace["Model"]()
    again.load_state_dict({k: v for k, v in module.state_dict().items() if k in again.state_dict()})
    x = torch.randn(3, 4)
    assert torch.equal(again(x), module(x))  # in training mode too, as the program says evaluation


@pytest.mark.parametrize("n", [5, 200])
def test_tensors_of_the_code_are_kept(n: int) -> None:
    table = torch.linspace(-1, 1, n)
    table[0] = float("inf")
    imported = import_module(lambda x: x * table, (torch.ones(n),))
    text = to_source(imported.graph, constants=imported.state)
    namespace: dict[str, Any] = {}
    exec(text, namespace)
    assert torch.equal(namespace["Model"]()(torch.ones(n)), table)
    assert ("_unpack" in text) == (n == 200)


def test_a_sequence_keeps_its_numbers() -> None:
    module = nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Sequential(nn.Linear(3, 2)))
    namespace: dict[str, Any] = {}
    exec(to_source(import_module(module, (torch.ones(1, 4),)).graph), namespace)
    again = namespace["Model"]()
    again.load_state_dict(module.state_dict())
    x = torch.randn(5, 4)
    assert torch.equal(again(x), module(x))


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        # What is written to one window would stand in the others.
        ("%v0 = unfold(%x) {axis = 0, size = 3, step = 1} : f32[2, 8, 3]\n"
         "%y = diagonal_scatter(%v0, %s) {axis0 = 0, axis1 = 2, offset = 1} : f32[2, 8, 3]",
         "torch.diagonal_scatter(x.unfold(0, 3, 1).clone(), s, 1, 0, 2)"),
        ("%v0 = transpose(%x) {axis0 = 0, axis1 = 1} : f32[8, 4]\n"
         "%y = slice_scatter(%v0, %s) {axis = 1, start = 1, step = 1, stop = 3} : f32[8, 4]",
         "torch.slice_scatter(x.transpose(0, 1), s, 1, 1, 3, 1)"),
        # Positions count from the operand's first element, not from that of its memory.
        ("%v0 = slice(%x) {axis = 0, start = 2, step = 1, stop = 4} : f32[2, 8]\n"
         "%y = as_strided(%v0) {offset = 1, size = [7, 3], stride = [2, 1]} : f32[7, 3]",
         "torch.as_strided(x[2:].clone().contiguous(), [7, 3], [2, 1], 1)"),
        ("%v0 = exp(%x) : f32[4, 8]\n"
         "%y = as_strided(%v0) {offset = 1, size = [7, 3], stride = [2, 1]} : f32[7, 3]",
         "torch.as_strided(torch.exp(x).contiguous(), [7, 3], [2, 1], 1)"),
    ],
)  # fmt: skip
def test_views_are_copied_where_a_call_depends_on_their_memory(body: str, expected: str) -> None:
    graph = parse_graph(f"graph f(%x: f32[4, 8], %s: f32[8, 2]) -> (%y) {{\n{body}\n}}")
    text = to_source(graph)
    assert expected in text
    namespace: dict[str, Any] = {}
    exec(text, namespace)
    module, (x, s) = namespace["Model"](), namespace["get_inputs"]()
    (want,) = Oracle().run(graph, {"x": x, "s": s})
    again = import_module(module, [x, s]).graph
    for found in (module(x, s), to_callable(graph)(x, s), to_callable(again)(x, s)):
        torch.testing.assert_close(found, want.float())


def test_transposed_heads_are_no_copies() -> None:
    graph = parse_graph("""graph f<B in 1..64>(%x: f32[B, 18, 4, 6]) -> (%y) {
      %q = transpose(%x) {axis0 = 1, axis1 = 2} : f32[B, 4, 18, 6]
      %y = scaled_dot_product_attention(%q, %q, %q) {causal = False} : f32[B, 4, 18, 6]
    }""")
    assert "clone" not in to_source(graph) and "clone" not in to_callable(graph).source


def test_a_number_divided_is_a_quotient() -> None:
    graph = parse_graph("graph Model(%x: f32[1000]) -> (%div) { %div = div(2.5, %x) : f32[1000] }")
    x = torch.linspace(0.1, 7.0, 1000)
    exact = (2.5 / x.double()).float()
    assert not torch.equal(2.5 / x, exact)  # the reciprocal, rounded, times the number
    text = to_source(graph)
    namespace: dict[str, Any] = {}
    exec(text, namespace)
    again = import_module(namespace["Model"](), [x]).graph
    assert without_names(again) == without_names(graph), text
    for found in (namespace["Model"]()(x), to_callable(graph)(x), to_callable(again)(x)):
        assert torch.equal(found, exact)
