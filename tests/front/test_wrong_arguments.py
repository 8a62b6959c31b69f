"""What the public functions say to arguments of the wrong kind: one of DRT's own errors, in one line."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import drt
import pytest
import torch
from drt import frontend, search, synth
from drt.backend import verify
from drt.backend.to_jax import to_jax_callable, to_jax_source
from drt.backend.to_torch import to_callable, to_source
from drt.dynamo import read_options
from drt.ir import DrtError, UsageError, builtin_ops, parse_graph
from drt.ir.arguments import checked, require

if TYPE_CHECKING:
    from drt.report import Progress

OPS = builtin_ops()
GRAPH = parse_graph("graph g(%x: f32[4]) -> (%y) {\n%y = relu(%x) : f32[4]\n}")
RELU, ONE = torch.nn.ReLU(), (torch.ones(2),)
TRACED = torch.fx.symbolic_trace(RELU)
SPEC = synth.Spec(level=1)
HERE = __file__

#: A call, and part of what it says.
CALLS: list[tuple[Callable[[], Any], str]] = [
    (lambda: drt.import_program(None), "import_program: spec: is None, expected a text or a path"),
    (lambda: drt.import_program(RELU), "import_program: spec: is a ReLU, expected"),
    (lambda: drt.import_program(b"abc"), "import_program: spec: is a bytes, expected"),
    (lambda: drt.import_program("no.py"), "no.py: no such file"),
    (lambda: drt.import_program("no.ir"), "no.ir: no such file"),
    (lambda: drt.import_program("no.pt2"), "no.pt2: no such file"),
    (lambda: drt.import_program("no.ir", ops="abc"), "import_program: ops: is the text 'abc', expected a mapping or None"),
    (lambda: drt.import_program("no.py", dynamic="x:0=B"), "import_program: dynamic: is the text 'x:0=B', expected a mapping"),
    (lambda: drt.import_program("no.py", name=3), "import_program: name: is an int, expected a text"),
    (lambda: drt.load_model(None), "load_model: spec: is None, expected"),
    (lambda: drt.load_model(""), "expected a Python file"),
    (lambda: drt.load_model("no.py"), "no.py: no such file"),
    (lambda: drt.load_model("no.py", seed="a"), "load_model: seed: is the text 'a', expected a whole number"),
    (lambda: drt.load_model("no.py", class_name=None), "load_model: class_name: is None, expected a text"),
    (lambda: drt.load_model("no.py", factory_arguments=3), "load_model: factory_arguments: is an int, expected a mapping"),
    (lambda: drt.import_module(None, ONE), "expected"),
    (lambda: drt.import_module("abc", ONE), "expected"),
    (lambda: drt.import_module(RELU, None), "expected"),
    (lambda: drt.import_module(RELU, 3), "expected"),
    (lambda: drt.import_module(RELU, "abc"), "expected"),
    (lambda: drt.import_module(RELU, ONE[0]), "expected"),
    (lambda: drt.import_module(RELU, (object(),)), "expected"),
    (lambda: drt.import_module(RELU, ONE, example_kwargs="abc"), "expected"),
    (lambda: drt.import_module(RELU, ONE, ops="abc"), "import_module: ops: is the text 'abc', expected a mapping"),
    (lambda: drt.import_module(RELU, ONE, ops=["a.drt"]), "import_module: ops: is a list, expected a mapping"),
    (lambda: drt.import_module(RELU, ONE, name=3), "import_module: name: is an int, expected a text"),
    (lambda: drt.import_module(RELU, ONE, unroll_steps="a"), "import_module: unroll_steps: is the text 'a', expected"),
    (lambda: drt.import_module(RELU, ONE, dynamic={"nope": {0: "B"}}), "nope"),
    (lambda: drt.load_ops(None), "load_ops: paths: is None, expected a text or a path"),
    (lambda: drt.load_ops(["a.drt"]), "load_ops: paths: is a list, expected"),
    (lambda: drt.load_ops("no.drt"), "no.drt: "),
    (lambda: drt.load_ops(base="x"), "load_ops: base: is the text 'x', expected a mapping or None"),
    (lambda: drt.parse_graph(None), "parse_graph: text: is None, expected a text"),
    (lambda: drt.parse_graph(GRAPH), "parse_graph: text: is a Graph, expected a text"),
    (lambda: drt.parse_graph("abc"), "expected 'drt' or 'graph'"),
    (lambda: drt.parse_graph("abc", ops="abc"), "parse_graph: ops: is the text 'abc', expected"),
    (lambda: drt.print_graph("abc"), "print_graph: graph: is the text 'abc', expected a Graph"),
    (lambda: drt.compile(RELU, None), "compile: example_inputs: is None, expected a sequence"),
    (lambda: drt.compile("abc", ONE), "compile: module: is the text 'abc', expected a Module or a callable"),
    (lambda: drt.compile(RELU, ONE, ops="abc"), "compile: ops: is the text 'abc', expected a sequence"),
    (lambda: drt.compile(RELU, ONE, ops=[3]), "compile: ops: item 0 is an int, expected a text or a path"),
    (lambda: drt.compile(RELU, ONE, precision=None), "compile: precision: is None, expected a text"),
    (lambda: drt.compile(RELU, ONE, budget_s="a"), "compile: budget_s: is the text 'a', expected a number"),
    (lambda: drt.compile(RELU, ONE, variants=0), "variants: is 0, expected at least 1"),
    (lambda: drt.compile(RELU, ONE, device="abc"), "device: is abc, expected one of auto, cpu, cuda"),
    (lambda: drt.compile(RELU, ONE, dynamic="x:0=B"), "compile: dynamic: is the text 'x:0=B', expected a sequence"),
    (lambda: drt.compile(RELU, ONE, progress=3), "compile: progress: is an int, expected a Progress"),
    (lambda: drt.compile_model(None, "o.py"), "compile_model: spec: is None, expected"),
    (lambda: drt.compile_model("no.py", None), "compile_model: output: is None, expected"),
    (lambda: drt.compile_model("no.py", "folder/o.py"), "no.py: no such file"),
    (lambda: drt.compile_model("no.py", "o.py", options={}), "compile_model: options: is a dict, expected a CompileOptions"),
    (lambda: drt.CompileOptions(ops="abc"), "CompileOptions: ops: is the text 'abc', expected a tuple"),
    (lambda: drt.verify(None, HERE), "verify: reference: is None, expected a Graph or"),
    (lambda: drt.verify("no.py", HERE), "no.py"),
    (lambda: drt.verify(GRAPH, None), "verify: candidate: is None, expected"),
    (lambda: drt.verify(GRAPH, "no.py"), "no.py"),
    (lambda: drt.verify(RELU, HERE, example_inputs=3), "verify: example_inputs: is an int, expected a sequence"),
    (lambda: drt.verify(GRAPH, HERE, ops="abc"), "verify: ops: is the text 'abc', expected"),
    (lambda: drt.verify(GRAPH, HERE, precision="abc"), "verify: precision: is abc, expected one of strict, tf32"),
    (lambda: drt.verify(GRAPH, HERE, device="abc"), "verify: device: is abc, expected one of auto, cpu, cuda"),
    (lambda: drt.verify(GRAPH, HERE, seed="a"), "verify: seed: is the text 'a', expected a whole number or None"),
    (lambda: drt.dynamo_backend("abc", []), "dynamo_backend: graph: is the text 'abc', expected a GraphModule"),
    (lambda: drt.dynamo_backend(TRACED, None), "dynamo_backend: example_inputs: is None, expected a sequence"),
    (lambda: drt.dynamo_backend(TRACED, ONE, options="abc"), "dynamo_backend: options: is the text 'abc', expected a mapping"),
    (lambda: read_options({"ops": 3}), "options: ops: is an int, expected"),
    (lambda: read_options({"budget": "a"}), "options: expected seconds for budget"),
    (lambda: frontend.import_exported(None), "import_exported: program: is None, expected an ExportedProgram"),
    (lambda: frontend.load_saved(3), "load_saved: path: is an int, expected"),
    (lambda: frontend.saved_model("no.pt2"), "no.pt2: no such file"),
    (lambda: frontend.from_text(None), "from_text: text: is None, expected a text"),
    (lambda: frontend.import_loaded("abc"), "import_loaded: loaded: is the text 'abc', expected a LoadedModel"),
    (lambda: frontend.is_jax(None), "is_jax: loaded: is None, expected a LoadedModel"),
    (lambda: frontend.parse_dynamic("x:0=B"), "parse_dynamic: texts: is the text 'x:0=B', expected a sequence"),
    (lambda: frontend.parse_dynamic([3]), "parse_dynamic: texts: item 0 is an int, expected a text"),
    (lambda: frontend.import_jax("abc", ONE), "import_jax: function: is the text 'abc', expected a callable"),
    (lambda: frontend.import_jax(abs, 3), "import_jax: example_args: is an int, expected a sequence"),
    (lambda: synth.generate(None, 3, "o", "ir"), "generate: spec: is None, expected a Spec"),
    (lambda: synth.generate(SPEC, "a", "o", "ir"), "generate: n: is the text 'a', expected a whole number"),
    (lambda: synth.generate(SPEC, 3, None, "ir"), "generate: output: is None, expected"),
    (lambda: synth.generate(SPEC, 3, "o", "abc"), "unknown format 'abc'"),
    (lambda: synth.make_spec(None), "make_spec: level: is None, expected a whole number"),
    (lambda: synth.make_spec(3, ops="abc"), "make_spec: ops: is the text 'abc', expected a tuple"),
    (lambda: synth.make_spec(3, profile="abc"), "unknown profile 'abc'"),
    (lambda: synth.statistics(None), "statistics: path: is None, expected"),
    (lambda: synth.statistics("no.jsonl"), "no.jsonl"),
    (lambda: synth.Sampler("abc"), "Sampler: spec: is the text 'abc', expected a Spec"),
    (lambda: synth.Sampler(SPEC, ops="abc"), "Sampler: ops: is the text 'abc', expected a mapping"),
    (lambda: synth.Spec(level="a"), "Spec: level: is the text 'a', expected a whole number"),
    (lambda: synth.Spec(profile="small"), "Spec: profile: is the text 'small', expected a Profile"),
    (lambda: synth.Profile("a", "b", 3), "Profile: max_dim: is the text 'b', expected a whole number"),
    (lambda: synth.stream(None, 3), "stream: sampler: is None, expected a Sampler"),
    (lambda: synth.rows("abc", 3), "rows: spec: is the text 'abc', expected a Spec"),
    (lambda: synth.row(None, None), "row: program: is None, expected a Program"),
    (lambda: synth.input_specs("abc"), "input_specs: program: is the text 'abc', expected a Program"),
    (lambda: synth.instances("abc"), "instances: graph: is the text 'abc', expected a Graph"),
    (lambda: synth.Instances(None), "Instances: graph: is None, expected a Graph"),
    (lambda: synth.minimise(GRAPH, None), "minimise: fails: is None, expected a callable"),
    (lambda: search.partition("abc", OPS, None, None), "partition: graph: is the text 'abc', expected a Graph"),
    (lambda: search.partition(GRAPH, "abc", None, None), "partition: ops: is the text 'abc', expected a mapping"),
    (lambda: search.extract(GRAPH, [7], OPS), "extract: indices: node 7, expected numbers below 1"),
    (lambda: search.extract(GRAPH, "abc", OPS), "extract: indices: is the text 'abc', expected"),
    (lambda: search.fragment_key(None), "fragment_key: fragment: is None, expected a Graph"),
    (lambda: search.is_view("relu", "abc"), "is_view: ops: is the text 'abc', expected a mapping"),
    (lambda: search.split_anchor(None, OPS, None, None), "split_anchor: part: is None, expected a Part"),
    (lambda: search.load_entry("abc"), "load_entry: candidate: is the text 'abc', expected a Candidate"),
    (lambda: search.load_file("no.py"), "no.py: no such file"),
    (lambda: search.load_model_new(None), "load_model_new: path: is None, expected"),
    (lambda: search.Chooser(None, None, "strict", 1, "cpu", 0.0), "Chooser: ops: is None, expected a mapping"),
    (lambda: to_source("abc"), "to_source: graph: is the text 'abc', expected a Graph"),
    (lambda: to_callable(None), "to_callable: graph: is None, expected a Graph"),
    (lambda: to_jax_source("abc"), "to_jax_source: graph: is the text 'abc', expected a Graph"),
    (lambda: to_jax_callable(GRAPH, "abc"), "to_jax_callable: ops: is the text 'abc', expected a mapping"),
    (lambda: verify.verify_files(None, "c.py"), "verify_files: reference: is None, expected"),
    (lambda: verify.verify_module("abc", "c.py", ONE), "verify_module: reference: is the text 'abc', expected a Module"),
    (lambda: verify.verify_module(RELU, "c.py", None), "verify_module: example_inputs: is None, expected a sequence"),
    (lambda: verify.verify_candidate(GRAPH, "c.py"), "verify_candidate: candidate: is the text 'c.py', expected a Candidate"),
    (lambda: verify.instances("abc"), "instances: graph: is the text 'abc', expected a Graph"),
    (lambda: verify.FragmentJudge(None), "FragmentJudge: fragment: is None, expected a Graph"),
    (lambda: verify.JudgePool(jobs="a"), "JudgePool: jobs: is the text 'a', expected a whole number or None"),
    (lambda: verify.Verdict.from_dict("abc"), "Verdict.from_dict: data: is the text 'abc', expected a mapping"),
    (lambda: verify.Verdict.from_dict({}), "Verdict.from_dict: has the keys [], expected"),
]  # fmt: skip


@pytest.mark.parametrize(("call", "said"), CALLS, ids=range(len(CALLS)))
def test_a_wrong_argument_is_told_in_one_line(
    call: Callable[[], Any], said: str, tmp_path: Path, monkeypatch: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DrtError) as raised:
        call()
    assert said in raised.value.line()
    assert "\n" not in raised.value.line()
    assert not list(tmp_path.iterdir())


def test_every_public_function_is_in_the_table() -> None:
    called = Path(HERE).read_text()
    names = {n for n in drt.__all__ if callable(getattr(drt, n)) and n not in ("DrtError", "CompileReport")}
    assert [n for n in sorted(names) if f"drt.{n}(" not in called] == []


def test_what_fits_is_let_through() -> None:
    @checked
    def f(a: int, *more: str, b: float | None = None, c: tuple[int, ...] = (), d: Progress = 0) -> tuple[Any, ...]:
        return a, more, b, c, d

    assert f(True, "x", b=1, c=[1, 2], d=object) == (True, ("x",), 1, [1, 2], object)
    with pytest.raises(UsageError, match=r"f: c: item 1 is the text 'x', expected a whole number"):
        f(1, c=(1, "x"))
    with pytest.raises(TypeError, match="missing 1 required positional argument: 'a'"):
        f()
    require([1], list[int], "x")
    with pytest.raises(UsageError, match="x: is the class int, expected a Graph or None"):
        require(int, type(GRAPH) | None, "x")
