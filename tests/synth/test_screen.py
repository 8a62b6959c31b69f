"""Edges that compute nothing are known before they are drawn, and each input gets the range that what reads it needs."""

from __future__ import annotations

import sqlite3

import attrs
import pytest
from drt.generate import degeneracy, judge, reference_source
from drt.ir import parse_graph
from drt.synth import Sampler, Spec
from drt.synth.screen import Screen

SPEC = Spec(level=2, ops=("any", "relu", "linear", "logspace", "neg", "sqrt"), dtypes=("f32", "bool"), max_rank=3)
FLOATS = ("any", 0, ("f32",), None)
MASKS = ("any", 0, ("bool",), None)
OF_CONSTANTS = ("neg", 0, ("f32",), (0, "logspace", 0))
OF_PRODUCTS = ("relu", 0, ("f32",), (0, "linear", 0))
EDGES = (FLOATS, MASKS, OF_CONSTANTS, OF_PRODUCTS)


@attrs.frozen
class _Drawn:
    """A program as the judge sees it."""

    graph: object
    ranges: dict = attrs.field(factory=dict)
    index: int = 0


def program_of(text):
    return _Drawn(parse_graph(text))


@pytest.fixture
def sampler(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return Sampler(SPEC, judge=judge)


def test_what_is_found_of_an_edge_hangs_on_the_edge_alone(sampler, tmp_path):
    first = {e: sampler.screen.holds(e) for e in EDGES}
    assert first == {FLOATS: False, MASKS: True, OF_CONSTANTS: False, OF_PRODUCTS: True}
    # In another order, by a judge without a name, of which nothing is kept.
    other = Screen(sampler, lambda program: judge(program), tmp_path)
    assert {e: other.holds(e) for e in reversed(EDGES)} == first


def test_findings_are_kept_and_a_file_that_is_none_is_passed_over(sampler, tmp_path):
    (folder,) = (tmp_path / "drt" / "synth").glob("templates-*")
    assert not sampler.screen.holds(FLOATS)
    sampler.screen._kept.save()
    with sqlite3.connect(folder / "edges.sqlite") as file:
        assert file.execute("SELECT edge, sound FROM edges").fetchall() == [(repr(FLOATS), 0)]
        file.execute("UPDATE edges SET sound = 1")
    again = Screen(sampler, judge, folder)
    assert again.holds(FLOATS)  # it was not worked out again
    bad = tmp_path / "bad"
    bad.mkdir()
    (bad / "edges.sqlite").write_text("no database")
    assert not Screen(sampler, judge, bad).holds(FLOATS)


def test_wirings_without_such_edges_are_drawn(sampler):
    judged = []

    def counting(program):
        judged.append(program)
        return judge(program)

    sampler = Sampler(SPEC, relations=sampler.relations, judge=counting)
    for edge in EDGES:
        sampler.screen.holds(edge)
    judged.clear()
    given = [p for p in map(sampler.program, range(60)) if p is not None]
    assert given
    for program in given:
        nodes = {r: n for n in program.graph.nodes for r in n.results}
        for node in program.graph.nodes:
            if node.op == "neg":
                assert all(u not in nodes or nodes[u].op != "logspace" for u in node.uses())


@pytest.mark.parametrize(
    "body",
    [
        "%v0 = acosh(%x) : f32[4, 6]\n  %v1 = ndtri(%z) : f32[4, 6]\n  %y = mul(%v0, %v1) : f32[4, 6]",
        "%v0 = log(%x) : f32[4, 6]\n  %v1 = asin(%z) : f32[4, 6]\n  %v2 = acosh(%x) : f32[4, 6]\n"
        "  %v3 = atan2(%v0, %v1) : f32[4, 6]\n  %y = add(%v3, %v2) : f32[4, 6]",
    ],
)
def test_each_input_gets_the_range_that_what_reads_it_needs(body):
    program = program_of(f"graph program(%x: f32[4, 6], %z: f32[4, 6]) -> (%y) {{\n  {body}\n}}")
    sound = judge(program)
    assert sound.ranges["x"] != sound.ranges["z"]
    assert degeneracy(sound) == ""


@pytest.mark.parametrize("op", ["any", "all"])
def test_masks_get_the_share_of_elements_that_what_reads_them_needs(op):
    text = f"graph program(%x: bool[8, 24]) -> (%y) {{\n  %y = {op}(%x) {{axes = [1], keepdim = False}} : bool[8]\n}}"
    sound = judge(program_of(text))
    low, share = sound.ranges["x"]
    assert low == 0 and (share < 0.5) == (op == "any")
    assert f"torch.rand(8, 24) < {share}" in reference_source(sound)


def test_integers_of_the_source_are_those_that_were_judged():
    text = "graph program(%x: i64[4, 6]) -> (%y) {\n  %y = abs(%x) : i64[4, 6]\n}"
    sound = judge(program_of(text))
    low, high = sound.ranges["x"]
    assert low < 0 < high
    assert f"torch.randint({low}, {high + 1}, (4, 6))" in reference_source(sound)
