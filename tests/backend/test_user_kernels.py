"""Kernels that users wrote: rendered, verified like any other, preferred where they pass, and said clearly where they are wrong."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from drt.backend.candidate import H100
from drt.backend.user_kernels import UserKernels, plan_user_kernel
from drt.ir import Graph, GraphBuilder, OpSet, ParseError, TensorType, UsageError, load_ops, parse_ops, print_op
from drt.search import Chooser, partition

EXAMPLE = Path(__file__).parents[2] / "examples" / "ops" / "gated_rms_norm.drt"

DEFINITION = """
op shifted(x: T[S.., N], y: T[S.., N]; by: float = 1.0) -> (z: T[S.., N]) {
  doc    "A sum and a number."
  type   T: float
  scalar z = x + y + by
  torch  x + y + by
  triton "shifted.py.j2" {BLOCK = [64, 128]} if N % 4 == 0
  source "https://example.org"
}
"""

TEMPLATE = """
import triton
import triton.language as tl

@triton.jit
def {{ entry }}_kernel(x, y, z, n, BLOCK: tl.constexpr):
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    inside = at < n
    a = tl.load(x + at, mask=inside).to(tl.float32)
    b = tl.load(y + at, mask=inside).to(tl.float32)
    tl.store(z + at, (a + b + {{ by }}).to({{ z.dtype }}), mask=inside)


def {{ entry }}(x, y):
    x, y = x.contiguous(), y.contiguous()
    z = torch.empty_like(x)
    {{ entry }}_kernel[(triton.cdiv(x.numel(), {{ BLOCK }}),)](x, y, z, x.numel(), BLOCK={{ BLOCK }})
    return z
"""


def ops_with(folder: Path, template: str = TEMPLATE, definition: str = DEFINITION) -> OpSet:
    (folder / "shifted.drt").write_text(definition)
    (folder / "shifted.py.j2").write_text(template)
    return load_ops(folder / "shifted.drt")


def program(ops: OpSet, n: int = 12, same: bool = False, around: bool = False) -> Graph:
    b = GraphBuilder("f", ops)
    x = b.input("x", TensorType("f32", (3, n)))
    y = x if same else b.input("y", TensorType("f32", (3, n)))
    value = b.add("exp", x, result="e") if around else x
    value = b.add("shifted", value, y, by=2.5, result="z")
    return b.build([b.add("tanh", value, result="t") if around else value])


def chooser(ops: OpSet) -> Chooser:
    return Chooser(ops, H100, "strict", 4, "cpu", time.monotonic() + 60)


def chosen_for(graph: Graph, ops: OpSet) -> list[tuple[str, str, str]]:
    c = chooser(ops)
    out = []
    for part in partition(graph, ops, c.plan, H100):
        for found in c.choose(part):
            candidate = found.step.candidate
            names = " ".join(n.op for n in found.part.fragment.nodes)
            out.append((names, candidate.writer if candidate else "pytorch", found.reason))
    return out


def test_the_clause_survives_its_text() -> None:
    op = load_ops(EXAMPLE)["gated_rms_norm"]
    assert [len(k.parameters) for k in op.kernels] == [2, 2]
    assert parse_ops(print_op(op))["gated_rms_norm"] == op


def test_a_template_s_kernel_is_verified_and_used_alone(tmp_path: Path) -> None:
    ops = ops_with(tmp_path)
    assert chosen_for(program(ops, around=True), ops) == [
        ("exp", "template", ""),
        ("shifted", "user", ""),
        ("tanh", "template", ""),
    ]


def test_each_value_of_a_parameter_is_a_variant(tmp_path: Path) -> None:
    ops = ops_with(tmp_path)
    found = UserKernels(ops).propose(program(ops), 8)
    assert [c.variant for c in found] == ["shifted.py.j2 BLOCK=64", "shifted.py.j2 BLOCK=128"]
    assert "BLOCK=128" in found[1].source and "2.5" in found[1].source


def test_one_tensor_for_two_operands(tmp_path: Path) -> None:
    ops = ops_with(tmp_path)
    assert chosen_for(program(ops, same=True), ops) == [("shifted", "user", "")]


def test_where_the_guard_fails_the_generator_writes_it_fused(tmp_path: Path) -> None:
    ops = ops_with(tmp_path)
    assert chosen_for(program(ops, n=13, around=True), ops) == [("exp shifted tanh", "template", "")]


def test_a_wrong_kernel_gives_way_to_the_generator_s(tmp_path: Path) -> None:
    ops = ops_with(tmp_path, TEMPLATE.replace("a + b +", "a - b +"))
    assert chosen_for(program(ops), ops) == [("shifted", "template", "")]


def test_what_a_template_speaks_of_is_pinned(tmp_path: Path) -> None:
    ops = ops_with(tmp_path)
    assert UserKernels(ops).propose(program(ops), 1)[0].pinned == (("x", 1), ("y", 1))  # N, in the guard
    definition = DEFINITION.replace(" if N % 4 == 0", "")
    ops = ops_with(tmp_path, definition=definition)
    assert UserKernels(ops).propose(program(ops), 1)[0].pinned == ()
    ops = ops_with(tmp_path, TEMPLATE.replace("{{ by }}", "{{ by }} + 0.0 * {{ z.shape[0] }}"), definition)
    assert UserKernels(ops).propose(program(ops), 1)[0].pinned == (("x", 0), ("x", 1), ("y", 0), ("y", 1))


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("{{ by }}", "{{ by }", "is no Jinja2 template: unexpected '}'"),
        ("{{ by }}", "{{ bye }}", "cannot be rendered: 'bye' is undefined"),
        ("{{ by }}", "{{ by / 0 }}", "cannot be rendered: ZeroDivisionError: float division by zero"),
        ("    return z", "    return z +", "renders to Python that does not parse: invalid syntax at line"),
        ("def {{ entry }}(x", "def {{ entry }}_2(x", "defines no launcher, expected a function named {{ entry }}"),
        ("def {{ entry }}(x", "def run(x", "defines run, expected names that start with {{ entry }}"),
        ("import triton\n", "import os\n", "renders to 'import os', expected functions and constants"),
    ],
)
def test_a_template_that_is_wrong_is_one_clear_line(tmp_path: Path, old: str, new: str, message: str) -> None:
    ops = ops_with(tmp_path, TEMPLATE.replace(old, new, 1))
    with pytest.raises(UsageError) as error:
        plan_user_kernel(program(ops), ops)
        UserKernels(ops).propose(program(ops), 4)
    assert str(tmp_path / "shifted.py.j2") in error.value.line()
    assert message in error.value.line()


def test_a_template_that_is_not_there_is_one_clear_line(tmp_path: Path) -> None:
    ops = ops_with(tmp_path)
    (tmp_path / "shifted.py.j2").unlink()
    with pytest.raises(UsageError, match="shifted: triton: cannot be read: No such file"):
        chooser(ops).plan(program(ops))


def test_a_parameter_may_not_hide_a_dimension() -> None:
    with pytest.raises(ParseError, match="triton names its parameter N, which is declared"):
        parse_ops(DEFINITION.replace("BLOCK =", "N ="))
