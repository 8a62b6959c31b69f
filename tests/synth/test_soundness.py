"""Drawn programs compute something, and every reading of them agrees: the judge of degeneracy, and the checks of data sets."""

from __future__ import annotations

import json

import attrs
import pytest
import torch
from drt.backend.triton_gen import TemplateTranslator, plan
from drt.generate import degeneracy, judge, reference_source
from drt.ir import Unsupported, UsageError, bindings, builtin_ops, infer, parse_graph
from drt.ir.build import operand_types
from drt.probe import Law, Probe
from drt.program_checks import check_rows, summary
from drt.synth import Refusal, Sampler, Spec, row
from drt.synth.dataset import COLUMNS
from drt.synth.degenerate import degenerate_call

OPS = (
    "relu", "gelu", "add", "mul", "linear", "matmul", "conv2d", "max_pool2d", "softmax", "sum", "mean", "layer_norm", "cat",
    "reshape", "permute", "where", "lt", "embedding", "cast", "cumsum", "log", "clamp", "floor", "slice", "take",
)  # fmt: skip


@pytest.fixture(scope="module")
def sampler():
    return Sampler(Spec(level=3, ops=OPS, max_rank=4), judge=judge)


class _Drawn:
    """A program as the judge sees it."""

    def __init__(self, text, ranges=None):
        self.graph, self.ranges, self.index, self.attempts = parse_graph(text), ranges or {}, 0, 1


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("%v0 = relu(%x) : f32[4, 6]\n  %y = relu(%v0) : f32[4, 6]", "changes nothing"),
        ("%y = permute(%x) {order = [0, 1]} : f32[4, 6]", "changes nothing"),
        ("%v0 = isnan(%x) : bool[4, 6]\n  %y = cast(%v0) {to = f32} : f32[4, 6]", "constant"),
        ("%v0 = neg(%x) : f32[4, 6]\n  %v1 = exp(%x) : f32[4, 6]\n  %y = add(%v0, %v1) : f32[4, 6]", ""),
        ("%y = mul(%x, 1e-30) : f32[4, 6]", "out of scale"),
        ("%v0 = sigmoid(%x) : f32[4, 6]\n  %y = add(%v0, 1e9) : f32[4, 6]", "constant"),
        ("%y = add(%x, 1.0) : f32[4, 6]", ""),
        ("%v0 = acos(%x) : f32[4, 6]\n  %y = isnan(%v0) : bool[4, 6]", "not finite"),
        # Six equal numbers less their mean are zero up to rounding, which the norm makes larger.
        (
            "%v0 = mean(%x) {axes = [1], keepdim = True} : f32[4, 1]\n  %v1 = expand(%v0) {shape = [4, 6]} : f32[4, 6]\n"
            "  %v2 = mul(%v1, 0.3) : f32[4, 6]\n  %y = instance_norm(%v2) {eps = 1e-05} : f32[4, 6]",
            "out of scale",
        ),
    ],
)
def test_degenerate_programs_are_recognised(body, reason):
    text = f"graph program(%x: f32[4, 6]) -> (%y) {{\n  {body}\n}}"
    assert degeneracy(_Drawn(text)) == reason


def test_an_input_that_does_not_matter_is_found():
    text = """graph program(%x: f32[4], %z: f32[4]) -> (%y) {
      %v0 = add(%x, %z) : f32[4]
      %y = sub(%v0, %z) : f32[4]
    }"""
    assert degeneracy(_Drawn(text)) == "ignores an input"


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("%v0 = sigmoid(%x) : f32[4, 6]\n  %y = relu(%v0) : f32[4, 6]", Refusal("changes nothing", 1)),
        ("%v0 = mul(%x, 0.0) : f32[4, 6]\n  %y = exp(%v0) : f32[4, 6]", Refusal("constant", 0)),
        ("%v0 = exp(%x) : f32[4, 6]\n  %y = mul(%v0, 1e-30) : f32[4, 6]", Refusal("out of scale", 1)),
    ],
)
def test_the_judge_names_the_node_to_blame(body, expected):
    assert judge(_Drawn(f"graph program(%x: f32[4, 6]) -> (%y) {{\n  {body}\n}}")) == expected


def test_views_are_dense_before_other_kernels_read_them():
    graph = parse_graph("""graph program(%x: f32[1]) -> (%v, %i) {
      %e = expand(%x) {shape = [6, 10, 3, 1]} : f32[6, 10, 3, 1]
      %v, %i = median_dim(%e) {axis = 1, keepdim = False} : f32[6, 3, 1], i64[6, 3, 1]
    }""")
    law = Law(Probe(graph, 0), {})
    assert torch.equal(law.values(0, 1)["v"], law.given(0)["x"].expand(6, 3, 1))


def test_operators_that_no_wiring_makes_sound_are_given_up_early():
    calls = []

    def counting(program):
        calls.append(program)
        return judge(program)

    sampler = Sampler(Spec(level=2, ops=("round",), dtypes=("f32",), max_rank=2), judge=counting)
    assert sampler.program(0) is None
    assert sampler.failures["given up as degenerate"] == 1
    assert len(calls) <= 24


def test_names_of_valid_calls_stand_for_what_inference_says(sampler):
    plain = Sampler(sampler.spec, relations=sampler.relations)
    ops = builtin_ops()
    for program in filter(None, (plain.program(i, seed=8) for i in range(60))):
        for node in program.graph.nodes:
            types = operand_types(node.operands, program.graph.types)
            env = bindings(ops[node.op], types, node.attributes)
            expected = infer(ops[node.op], types, node.attributes).env
            assert {n: env[n] for n in expected} == expected


def test_calls_that_compute_nothing_are_read_from_the_bodies(sampler):
    ops = builtin_ops()

    def reasons(name):
        return {
            (degenerate_call(ops[name], s), *(d for _, d in s.dtypes)) for s in sampler.relations.signatures(ops[name])
        }

    assert ("changes nothing", "i64") in reasons("floor") and ("", "f32") in reasons("floor")
    assert {r for r, *_ in reasons("isnan")} == {"constant"}
    assert ("constant", "f32") in reasons("eq") and ("", "i64") in reasons("eq")
    assert {r for r, *_ in reasons("full_like")} == {"constant"}
    assert {r for r, *_ in reasons("add")} == {""}


def test_the_sampler_draws_sound_programs_of_the_same_operators(sampler):
    plain = Sampler(sampler.spec, relations=sampler.relations)
    given = 0
    for index in range(30):
        program = sampler.program(index)
        if program is None:
            continue
        given += 1
        assert degeneracy(program) == "", program.text
        other = plain.program(index)
        assert other is None or sorted(other.sequence) == sorted(program.sequence)
    assert given >= 28


def test_no_program_ends_in_a_constant():
    sampler = Sampler(Spec(level=1, ops=("create", "activation"), max_rank=2))
    names = {sampler.program(i).sequence[0] for i in range(40)}
    assert not {n for n in names if not builtin_ops()[n].operands}


def test_ranges_reach_the_reference(sampler):
    program = next(p for p in (sampler.program(i) for i in range(40)) if p is not None)
    first = program.graph.inputs[0].name
    bounded = attrs.evolve(program, ranges={**program.ranges, first: (0.25, 2.0)})
    float_first = program.graph.inputs[0].type.dtype == "f32"
    assert ("* (2.0 - 0.25) + 0.25" in reference_source(bounded)) == (float_first and first not in program.ranges)


def test_every_reading_of_drawn_programs_agrees(sampler):
    rows = [row(p, sampler) for p in (sampler.program(i, seed=3) for i in range(10)) if p is not None]
    found = check_rows(rows, ("verify", "meta", "torch", "plan"))
    assert found.faults == ()
    assert found.passed["meta"] == found.passed["torch"] == len(rows)
    found = check_rows(rows[:2], ("jax", "export", "jaxpr"))
    assert found.faults == ()
    assert any(line.startswith("export") for line in summary(found))


def test_faults_are_told():
    text = "graph program(%x: f32[4]) -> (%y) {\n  %y = relu(%x) : f32[4]\n}"
    good = {"ir": text, "inputs": '[{"name": "x", "dtype": "f32", "shape": [4]}]'}
    found = check_rows([good, good | {"ir": text.replace("y = relu", "y = no_such")}], ("verify",))
    assert found.passed == {"verify": 1}
    assert [(f.check, f.number) for f in found.faults] == [("verify", 1)]
    with pytest.raises(UsageError, match="unknown check 'all'"):
        check_rows([good], ("all",))


@pytest.mark.parametrize(
    "text",
    [
        """graph a(%x: f32[5], %i: f32[2, 3, 7], %w: f32[3, 5, 3]) -> (%y) {
          %b = normalize(%x) {p = 2, axis = 0, eps = 1e-12} : f32[5]
          %y = conv_transpose1d(%i, %w, %b) : f32[2, 5, 9]
        }""",
        """graph a(%x: f32[2, 1, 1, 1]) -> (%y) {
          %b = max_pool2d(%x) {kernel = [3, 3], stride = [2, 2], padding = [1, 1], dilation = [1, 1], ceil_mode = False} : f32[2, 1, 1, 1]
          %y = sqrt(%b) : f32[2, 1, 1, 1]
        }""",
        """graph a(%x: f32[3, 9], %z: f32[3, 9], %i: i64[1, 15, 11, 2]) -> (%y) {
          %v0 = cross(%x, %z) {axis = 0} : f32[3, 9]
          %v1 = expand(%v0) {shape = [1, 3, 3, 9]} : f32[1, 3, 3, 9]
          %y = take(%v1, %i) : f32[1, 15, 11, 2]
        }""",
    ],
)
def test_planning_ends_with_an_answer(text):
    try:
        assert plan(parse_graph(text), builtin_ops()).launches >= 1
    except Unsupported as error:
        assert error.message


def test_a_fraction_of_a_size_does_not_stop_the_writer():
    text = """graph g(%x: f32[5, 4, 6]) -> (%y) {
      %v, %m = var_mean(%x) {axes = [0, 1], correction = 0.75, keepdim = True} : f32[1, 1, 6], f32[1, 1, 6]
      %y = log(%v) : f32[1, 1, 6]
    }"""
    try:
        assert TemplateTranslator().propose(parse_graph(text), 1)
    except Unsupported as error:
        assert error.message


@pytest.mark.full
@pytest.mark.parametrize("level", [1, 3, 5, 10, 20])
def test_every_operator_holds(level):
    sampler = Sampler(Spec(level=level))
    rows = [row(p, sampler) for p in (sampler.program(i, seed=5) for i in range(300)) if p is not None]
    assert check_rows(rows, ("verify", "meta")).faults == ()


@pytest.mark.full
@pytest.mark.parametrize("level", [2, 4])
def test_kernels_of_drawn_programs_pass(level):
    sampler = Sampler(Spec(level=level, ops=OPS, max_rank=4), judge=judge)
    rows = [row(p, sampler) for p in (sampler.program(i, seed=6) for i in range(12)) if p is not None]
    assert check_rows(rows, ("kernel",)).faults == ()


TIES = """drt 1
graph program(%x0: {dtype}[5, 12]) -> ({outputs}) {{
  %v, %i = sort(%x0) {{axis = 1, descending = False, stable = {stable}}} : {dtype}[5, 12], i64[5, 12]
}}
"""


@pytest.mark.parametrize(
    ("dtype", "outputs", "stable", "expected"),
    [
        ("i64", "%v, %i", "False", True),
        ("i64", "%v", "False", False),
        ("i64", "%v, %i", "True", False),
        ("f32", "%v, %i", "False", False),
    ],
)
def test_positions_of_equal_elements_are_open_where_a_sort_is_not_stable(dtype, outputs, stable, expected):
    from drt.generate import depends_on_ties
    from drt.ir import parse_graph

    graph = parse_graph(TIES.format(dtype=dtype, outputs=outputs, stable=stable))
    generator = torch.Generator().manual_seed(1)
    if dtype == "i64":
        x = torch.randint(0, 4, (5, 12), generator=generator)
    else:
        x = torch.randn(5, 12, generator=generator, dtype=torch.float64)
    assert depends_on_ties(graph, {"x0": x}) is expected


def test_programs_whose_positions_are_open_are_drawn_again_and_passed_over():
    spec = Spec(level=1, ops=("topk",), dtypes=("i64",), max_rank=2)
    sampler = Sampler(spec)
    programs = [p for p in (sampler.program(i) for i in range(30)) if p is not None]
    reasons = [degeneracy(p) for p in programs]
    assert "order of equal elements" in reasons
    found = check_rows([row(p, sampler) for p in programs], ("torch",))
    assert found.faults == ()
    assert set(found.passed_over) == {("torch", "an order that the definitions leave open decides")}


def test_positions_that_rounding_decides_are_all_right():
    text = """graph program(%x0: f32[3, 5, 7, 6, 3]) -> (%v2_0, %v2_1) {
      %v0 = full() {dtype = f32, shape = [3, 1, 2, 4, 8], value = 3} : f32[3, 1, 2, 4, 8]
      %v1 = grid_sampler_3d(%v0, %x0) {align_corners = False, mode = bilinear, padding = zeros} : f32[3, 1, 5, 7, 6]
      %v2_0, %v2_1 = adaptive_max_pool3d_with_indices(%v1) {size = [1, 5, 3]} : f32[3, 1, 1, 5, 3], i64[3, 1, 1, 5, 3]
    }"""
    found = check_rows([{"ir": text, "inputs": '[{"name": "x0"}]'}], ("torch",), seed=93)
    assert found.faults == () and found.passed == {"torch": 1}


@pytest.mark.parametrize(("operator", "expected"), [("add(%x, %z)", {0, 1, 2, 3}), ("maximum(%x, %z)", {0})])
def test_rounding_decides_between_what_was_rounded_alone(operator, expected):
    from drt.generate import other_roundings

    graph = parse_graph(f"""graph program(%x: f32[4], %z: f32[4]) -> (%y) {{
      %v = {operator} : f32[4]
      %y = argmax(%v) {{axis = 0, keepdim = False}} : i64[]
    }}""")
    same = torch.full((4,), 0.7, dtype=torch.float64)
    outputs = other_roundings(graph, {"x": same, "z": same})
    assert {int(next(outputs)[0]) for _ in range(40)} == expected


def test_a_source_is_as_long_as_any_mask():
    text = """graph program(%x0: f32[4, 6], %x1: f32[4, 6], %x2: i64[{n}]) -> (%v1) {{
      %v0 = lt(%x0, %x1) : bool[4, 6]
      %v1 = masked_scatter(3, %v0, %x2) : i64[4, 6]
    }}"""
    rows = [{"ir": text.format(n=n), "inputs": '[{"name": "x0"}, {"name": "x1"}, {"name": "x2"}]'} for n in (24, 4)]
    assert [degeneracy(_Drawn(r["ir"])) for r in rows] == ["", "does not run"]
    found = check_rows(rows, ("torch",))
    assert found.faults == () and found.passed == {"torch": 1}
    assert set(found.passed_over) == {("torch", "PyTorch takes masks of so few elements alone")}


def checked(text, seed=0, ranges=()):
    inputs = [{"name": i.name, **dict(ranges).get(i.name, {})} for i in parse_graph(text).inputs]
    return check_rows([{"ir": text, "inputs": json.dumps(inputs)}] * 3, ("torch",), seed)


def test_positions_among_elements_that_are_no_numbers_are_all_right():
    found = checked("""graph program(%x: f32[1, 1, 4, 5]) -> (%v, %i) {
      %r = neg(%x) : f32[1, 1, 4, 5]
      %l = log(%r) : f32[1, 1, 4, 5]
      %v, %i = adaptive_max_pool2d_with_indices(%l) {size = [1, 2]} : f32[1, 1, 1, 2], i64[1, 1, 1, 2]
    }""", ranges={"x": {"range": [0.5, 2.0]}})  # fmt: skip
    assert found.faults == () and found.passed == {"torch": 3}


def test_what_rounding_amplifies_in_float32_is_right_within_its_reach():
    text = """graph program(%x: f32[40], %s: f32[1], %z: i64[1]) -> (%y) {{
      %q = fake_quantize_tensor(%x, %s, %z) {{high = 90, low = -90}} : f32[40]
      %a = exp(%q) : f32[40]
      %b = add(%a, {far}) : f32[40]
      %y = sub(%b, {far}) : f32[40]
    }}"""
    for far in (1e4, 1e6):
        found = checked(text.format(far=far), ranges={"s": {"range": [0.01, 0.02]}, "z": {"range": [0, 0]}})
        assert found.faults == () and found.passed == {"torch": 3}


def test_limits_that_definitions_state_are_no_faults():
    text = """graph program(%x: f32[4, 4], %s: f32[1], %z: i64[], %i: i64[10], %o: i64[5]) -> (%y) {
      %q = fake_quantize_tensor(%x, %s, %z) {high = 3, low = 1} : f32[4, 4]
      %e = embedding_bag(%x, %i, %o) {include_last = True, mode = sum, padding = None} : f32[4, 4]
      %y = add(%q, %e) : f32[4, 4]
    }"""
    ranges = {"s": {"range": [0.1, 1.0]}, "z": {"range": [0, 1]}, "i": {"range": [0, 3]}}
    found = checked(text, ranges=ranges | {"o": {"range": [0, 6], "order": "anchored"}})
    assert found.faults == ()
    assert found.passed_over["torch", "a limit that the definition of embedding_bag states"] >= 1


def test_what_no_rounding_explains_is_told(monkeypatch):
    from drt.backend import to_torch

    monkeypatch.setattr(to_torch, "to_callable", lambda graph: lambda x: x.cos())
    (fault, *_) = checked("graph program(%x: f32[4]) -> (%y) { %y = sin(%x) : f32[4] }").faults
    assert fault.problem.startswith("in float64: %y differs in 100.0%") and fault.problem.endswith("sin differs")


def test_what_is_left_of_zero_moves_nothing():
    # One number less its mean is zero, which PyTorch has up to rounding, times a large scale.
    text = """graph program(%x: f32[3, 15], %w: f32[15], %b: f32[15]) -> (%y) {
      %c = ceil(%b) : f32[15]
      %d = mul(%w, 100.0) : f32[15]
      %y = instance_norm(%x, %d, %c) {eps = 5e-06} : f32[3, 15]
    }"""
    assert {degeneracy(_Drawn(text), seed) for seed in range(4)} == {"ignores an input"}


def test_an_interrupted_check_tells_what_it_has_found(tmp_path, monkeypatch, capsys):
    from drt import cli, program_checks

    def stopping(case, before=program_checks.CHECKS["verify"]):
        if "tanh" in str(case.graph):
            raise KeyboardInterrupt
        return before(case) or ("wrong" if "exp" in str(case.graph) else "")

    programs = [f"graph p(%x: f32[4]) -> (%y) {{ %y = {op}(%x) : f32[4] }}" for op in ("sin", "exp", "tanh", "cos")]
    rows = [dict.fromkeys(COLUMNS) | {"ir": p, "inputs": '[{"name": "x"}]'} for p in programs]
    file = tmp_path / "rows.jsonl"
    file.write_text("\n".join(map(json.dumps, rows)))
    monkeypatch.setitem(program_checks.CHECKS, "verify", stopping)
    assert cli.main(["synth", "check", str(file), "--only", "verify"]) == 130
    out, err = capsys.readouterr()
    assert "verify   1 hold, 1 fail\n2 of 4 programs were checked\n" in out
    assert "verify: row 1: wrong" in out and "interrupted" in err


@pytest.mark.parametrize("name", ["README.md", "rows.parquet", "rows"])
def test_a_file_without_programs_is_named(name, tmp_path, capsys):
    from drt import cli

    file = tmp_path / name
    file.write_text("# Title\n\nSome text.\n")
    assert cli.main(["synth", "check", str(file)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("drt: ") and line.endswith(
        f"{file}: is no data set of programs, expected one of parquet or jsonl"
    )


def test_both_signs_of_zero_are_right():
    found = checked("""graph program(%x: f32[5], %z: f32[4, 5]) -> (%y) {
      %s = softshrink(%z) {lambd = 0.5} : f32[4, 5]
      %y = copysign(%x, %s) : f32[4, 5]
    }""")
    assert found.faults == () and found.passed == {"torch": 3}


def test_small_differences_may_decide_which_element_is_the_smallest():
    # PyTorch has zero for many of these, less than one rounding of 1 away from what they are.
    text = """graph program(%x: f32[40]) -> (%y) {
      %p = ndtr(%x) : f32[40]
      %y = argmin(%p) {axis = 0, keepdim = False} : i64[]
    }"""
    x = torch.linspace(-17.0, -25.0, 9, dtype=torch.float64)
    assert int(torch.special.ndtr(x).argmin()) == 0
    found = checked(text, ranges={"x": {"range": [-60.0, 30.0]}})
    assert found.faults == () and found.passed == {"torch": 3}


def test_a_call_that_writes_its_operand_is_told(monkeypatch):
    from drt.backend import to_torch

    def writing(graph, plain=to_torch.to_callable):
        source = plain(graph).source.replace("torch.clone(v)", "v")
        namespace = {}
        exec(source, namespace)
        return namespace["run"]

    monkeypatch.setattr(to_torch, "to_callable", writing)
    found = checked("""graph program(%x: f32[6, 3], %i: i64[5]) -> (%y) {
      %v = mul(%x, 7.0) : f32[6, 3]
      %r = embedding_renorm(%v, %i) {max_norm = 0.5, ord = 2.0} : f32[6, 3]
      %y = add(%v, %r) : f32[6, 3]
    }""", ranges={"i": {"range": [0, 5]}})  # fmt: skip
    assert len(found.faults) == 3 and found.faults[0].problem.endswith("mul differs")


def test_what_is_beyond_the_dtype_is_infinite():
    found = checked("""graph program(%x: f32[6], %s: f32[1], %z: i64[1]) -> (%y) {
      %q = fake_quantize_tensor(%x, %s, %z) {high = 90, low = -90} : f32[6]
      %y = cosh(%q) : f32[6]
    }""", ranges={"x": {"range": [110.0, 120.0]}, "s": {"range": [2.0, 2.0]}, "z": {"range": [0, 0]}})  # fmt: skip
    assert found.faults == () and found.passed == {"torch": 3}


def test_infinities_may_meet_in_sums():
    found = checked("""graph program(%x: f32[3, 2, 7], %w: f32[2], %b: f32[2]) -> (%y) {
      %z = mul(%w, 0.0) : f32[2]
      %i = lgamma(%z) : f32[2]
      %y = instance_norm(%x, %i, %b) {eps = 5e-06} : f32[3, 2, 7]
    }""")
    assert found.faults == () and found.passed == {"torch": 3}


def test_what_goes_wrong_only_where_values_share_memory_is_told(monkeypatch):
    from drt.backend import to_torch

    plain = to_torch.to_callable

    def sharing(graph):
        run = plain(graph)
        # The program alone, without its inner values among the outputs, reads what another value has overwritten.
        return run if len(graph.outputs) > 1 or len(graph.nodes) == 1 else lambda *given: run(*given) + 1

    monkeypatch.setattr(to_torch, "to_callable", sharing)
    (fault, *_) = checked("""graph program(%x: f32[4, 6]) -> (%y) {
      %v = sin(%x) : f32[4, 6]
      %y = neg(%v) : f32[4, 6]
    }""").faults  # fmt: skip
    assert fault.problem.endswith("not where all its values are outputs")
