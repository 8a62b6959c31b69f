"""Instances of a graph at other sizes, CP-SAT, and minimising."""

from __future__ import annotations

import random

import pytest
from drt.ir import Unsatisfiable, parse_graph, verify_graph
from drt.synth import Instances, Profile, Sampler, Spec, instances, minimise

BLOCK = """drt 1
graph block(%x: f32[64, 128, 768], param %w: f32[3072, 768] @"fc.weight", %k: f32[8, 1, 3, 3], %i: f32[4, 1, 224, 224]) -> (%z, %c) {
  %h = linear(%x, %w, None)                  : f32[64, 128, 3072]
  %s = softmax(%h) {axis = 2}                : f32[64, 128, 3072]
  %z = sum(%s) {axes = [0], keepdim = False} : f32[128, 3072]
  %c = conv2d(%i, %k) {dilation = [1, 1], groups = 1, padding = [1, 1], stride = [2, 2]} : f32[4, 8, 112, 112]
}
"""


def test_instances_keep_structure():
    graph = parse_graph(BLOCK)
    found = dict(instances(graph, 8192))
    assert {"tiny", "odd", "blocks", "near"} <= set(found)
    for small in found.values():
        verify_graph(small)
        assert [n.op for n in small.nodes] == [n.op for n in graph.nodes]
        assert small.nodes[3].attributes["stride"] == (2, 2)
        assert small.inputs[3].type.shape[1] == 1  # a size of 1 stays 1
        assert small.inputs[1].target == "fc.weight"
        assert max(t.numel for t in small.types.values()) <= 8192


def test_instances_of_generated_programs():
    sampler = Sampler(Spec(level=3, ops=("linear", "add", "softmax", "cat", "conv2d", "permute"), max_rank=4))
    count = 0
    for index in range(15):
        program = sampler.program(index)
        if program is not None:
            for _, small in instances(program.graph, seed=index):
                verify_graph(small)
                count += 1
    assert count >= 45


def test_too_small_a_budget_is_unsatisfiable():
    pytest.importorskip("ortools")
    graph = parse_graph(
        "graph f(%x: f32[64, 64]) -> (%y) {\n  %y = slice(%x) {axis = 1, start = 40, stop = 60, step = 1} : f32[64, 20]\n}"
    )
    with pytest.raises(Unsatisfiable):
        Instances(graph).draw(Profile("none", 4, 8), random.Random(0), tries=5)


def test_solver_finds_what_draws_do_not(monkeypatch):
    pytest.importorskip("ortools")
    from drt.synth.dims import Plan

    sampler = Sampler(Spec(level=3, ops=("linear", "add", "matmul", "conv2d", "cat"), max_rank=4, solver=True))
    monkeypatch.setattr(Sampler, "_placed", lambda *_: None)
    monkeypatch.setattr(Plan, "sample", lambda self, rng, tries: None)
    found = [p for p in (sampler.program(i) for i in range(5)) if p is not None]
    assert found and sampler.failures["solved"] >= len(found)
    for p in found:
        verify_graph(p.graph)


def test_minimise_keeps_only_what_fails():
    graph = parse_graph(BLOCK)
    small = minimise(graph, lambda g: any(n.op == "softmax" for n in g.nodes))
    verify_graph(small)
    assert [n.op for n in small.nodes] == ["softmax"]
    assert sum(t.numel for t in small.types.values()) < 100
