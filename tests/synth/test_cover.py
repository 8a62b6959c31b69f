"""A program is found for each edge between two operators that the types allow, and it has the edge."""

from __future__ import annotations

import random

import pytest
from drt.ir import verify_graph
from drt.synth import Sampler, Spec
from drt.synth.cover import cover
from drt.synth.stats import impossible_edges, possible_edges

OPERATORS = (
    "add",
    "softmax",
    "matmul",
    "conv2d",
    "sum",
    "embedding",
    "cat2",
    "reshape",
    "argmax",
    "where",
    "layer_norm",
    "gt",
)


@pytest.fixture(scope="module")
def sampler() -> Sampler:
    from drt.ir import builtin_ops

    return Sampler(Spec(level=2, ops=tuple(n for n in OPERATORS if n in builtin_ops())))


def test_every_edge_has_a_program(sampler: Sampler) -> None:
    edges = sorted(possible_edges(sampler))
    random.Random(3).shuffle(edges)
    for found in cover(sampler, edges[:150]):
        assert found.program is not None, (found.edge, found.reason)
        verify_graph(found.program.graph, sampler.ops)
        # Operands of what commutes stand in one order, whichever slot was asked for.
        assert found.edge[:2] in {e[:2] for e in found.program.edges}


def test_programs_are_a_function_of_the_edge(sampler: Sampler) -> None:
    edges = sorted(possible_edges(sampler))[::17]
    alone = {e: next(iter(cover(sampler, [e]))).program for e in edges[:5]}
    together = {c.edge: c.program for c in cover(sampler, reversed(edges[:5]))}
    assert {e: p and p.text for e, p in alone.items()} == {e: p and p.text for e, p in together.items()}


def test_an_edge_that_no_types_allow_is_said(sampler: Sampler) -> None:
    edge = min(impossible_edges(sampler))
    (found,) = cover(sampler, [edge])
    assert found.program is None and "no type" in found.reason


def test_what_has_no_sizes_is_proved_to_have_none() -> None:
    pytest.importorskip("ortools")
    from drt.synth.certify import certify

    cells = Sampler(Spec(level=2, ops=("unsqueeze", "stack", "lstm_cell", "dot", "relu")))
    proof = certify(cells, ("stack", "lstm_cell", 6))
    assert proof is not None and proof.cases
    assert any("4*h.shape[1] == b_hh.shape[0]" in r and "shape (3)" in r for r in proof.reasons)
    assert all("lstm_cell" in r for r in proof.reasons)
    proof = certify(cells, ("unsqueeze", "dot", 0))
    assert proof is not None and all("dot reduces at least two elements: a.shape[0] >= 2" in r for r in proof.reasons)
    # Edges with programs have no proof.
    for edge in (("relu", "dot", 0), ("stack", "dot", 1), ("unsqueeze", "lstm_cell", 0)):
        assert certify(cells, edge) is None
        (found,) = cover(cells, [edge])
        assert found.program is not None
