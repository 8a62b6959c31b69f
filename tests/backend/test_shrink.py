"""Graphs at small sizes keep their structure."""

from __future__ import annotations

import pytest
from drt.backend.verify.shrink import instances
from drt.ir import Unsupported, parse_graph, verify_graph

GRAPHS = {
    "square_product": """drt 1
graph f(%x: f32[4096, 4096], %w: f32[4096, 4096], %b: f32[4096]) -> (%h) {
  %h = linear(%x, %w, %b) : f32[4096, 4096]
}
""",
    "layer_norm": """drt 1
graph f(%x: f32[64, 512, 1024], %w: f32[1024], %r: f32[64, 512, 1024]) -> (%y) {
  %h = add(%x, %r) : f32[64, 512, 1024]
  %y = layer_norm(%h, %w, None) {eps = 1e-05, normalized = [1024]} : f32[64, 512, 1024]
}
""",
    "attention": """drt 1
graph f(%x: f32[8, 1024, 1024], %w: f32[1024, 1024]) -> (%y) {
  %h = linear(%x, %w, None) : f32[8, 1024, 1024]
  %r = reshape(%h) {shape = [8, 1024, 16, 64]} : f32[8, 1024, 16, 64]
  %p = transpose(%r) {axis0 = 1, axis1 = 2} : f32[8, 16, 1024, 64]
  %t = transpose(%p) {axis0 = 2, axis1 = 3} : f32[8, 16, 64, 1024]
  %s = matmul(%p, %t) : f32[8, 16, 1024, 1024]
  %m = softmax(%s) {axis = 3} : f32[8, 16, 1024, 1024]
  %o = matmul(%m, %p) : f32[8, 16, 1024, 64]
  %q = transpose(%o) {axis0 = 1, axis1 = 2} : f32[8, 1024, 16, 64]
  %y = reshape(%q) {shape = [8, 1024, 1024]} : f32[8, 1024, 1024]
}
""",
    "gate": """drt 1
graph f(%x: f32[32, 22016]) -> (%y) {
  %a = slice(%x) {axis = 1, start = 0, step = 1, stop = 11008} : f32[32, 11008]
  %b = slice(%x) {axis = 1, start = 11008, step = 1, stop = 22016} : f32[32, 11008]
  %y = mul(%a, %b) : f32[32, 11008]
}
""",
    "broadcast": """drt 1
graph f(%x: f32[64, 1, 512], %y: f32[1, 256, 512]) -> (%z) {
  %z = mul(%x, %y) : f32[64, 256, 512]
}
""",
    "images": """drt 1
graph f(%x: f32[128, 64, 56, 56], %w: f32[128, 64, 3, 3], %g: f32[128], %fc: f32[1000, 93312]) -> (%y) {
  %h = conv2d(%x, %w, None) {dilation = [1, 1], groups = 1, padding = [0, 0], stride = [1, 1]} : f32[128, 128, 54, 54]
  %n = group_norm(%h, %g, None) {eps = 1e-05, groups = 8} : f32[128, 128, 54, 54]
  %p = max_pool2d(%n) {kernel = [2, 2], stride = [2, 2]} : f32[128, 128, 27, 27]
  %r = reshape(%p) {shape = [128, 93312]} : f32[128, 93312]
  %y = linear(%r, %fc, None) : f32[128, 1000]
}
""",
    "symbols": """drt 1
graph f<B in 1..4096>(%x: f32[B, 8192], %b: f32[8192]) -> (%h) {
  %h = add(%x, %b) : f32[B, 8192]
}
""",
}


@pytest.mark.parametrize("name", GRAPHS)
def test_instances_are_small_valid_programs_of_one_shape(name: str) -> None:
    graph = parse_graph(GRAPHS[name])
    found = instances(graph, constants=[128])
    assert found[0].name == "odd"
    for instance in found:
        small = instance.graph
        verify_graph(small)
        assert [n.op for n in small.nodes] == [n.op for n in graph.nodes]
        assert max(int(t.numel) for t in small.types.values()) <= 70_000  # type: ignore[arg-type]
        for a, b in zip(small.inputs, graph.inputs, strict=True):
            assert a.type.dtype == b.type.dtype and a.type.rank == b.type.rank
            assert [s == 1 for s in a.type.shape] == [s == 1 for s in b.type.shape] or instance.name in (
                "tiny",
                "lowest",
            )


def test_equal_sizes_become_different_where_they_may() -> None:
    odd = instances(parse_graph(GRAPHS["square_product"]))[0].graph
    assert len({*odd.inputs[0].type.shape, *odd.inputs[1].type.shape}) == 3


def test_several_tiles_and_a_long_axis() -> None:
    names = {i.name: i for i in instances(parse_graph(GRAPHS["square_product"]), constants=[128])}
    assert set(names) >= {"odd", "tiny", "tiles", "long"}
    assert any(s == 259 for s in names["long"].graph.inputs[0].type.shape)


def test_fractions_stay_fractions() -> None:
    for instance in instances(parse_graph(GRAPHS["gate"])):
        x, half = instance.graph.inputs[0].type.shape[1], instance.graph.types["a"].shape[1]
        assert x == 2 * half


def test_what_cannot_shrink_and_is_large_is_unsupported() -> None:
    text = (
        "drt 1\ngraph f(%x: f32[300, 300]) -> (%y) {\n"
        '  %y = opaque(%x) {arguments = "[[\\"$0\\"], {}]", target = "aten.foo.default"} : f32[300, 300]\n}\n'
    )
    with pytest.raises(Unsupported, match="opaque"):
        instances(parse_graph(text))
