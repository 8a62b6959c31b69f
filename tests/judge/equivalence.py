"""Mutants that are the right program in other words, each by an argument that can be checked again.

Arguments, in the order in which they are tried:

* ``same code``: for the program's own sizes and for small odd ones, the launches are the same and so is the Triton IR after
  Triton has folded constants and removed what is dead.
* ``unused lanes``: only ``other=`` differs; with NaN, both infinities, a huge and a small number in its place, every output of
  every run stays the same bit for bit.  What the turned-off lanes hold reaches nothing.
* ``exact algebra``: in a finite ring, where every rounding is left out, all outputs are the same (only for mutants that do not
  change a precision): the two compute one function and differ in roundings, within the tolerance.
* ``reasoned``: every output of every run, on every family of values, special ones included, and on several seeds, is the same
  bit for bit, and :data:`REASONS` says why no input can tell the two apart.

A mutant for which none of these holds counts as wrong, whatever its outputs are.
"""

from __future__ import annotations

import ast
import functools
import re
from typing import Any

import attrs
import torch
from drt.backend.sandbox import Frame, interpreter_sandbox
from drt.backend.verify import FragmentJudge, verify_candidate
from drt.backend.verify.compiling import submit_fragment
from drt.backend.verify.judge import tile_constants
from drt.backend.verify.reading import runs_of
from drt.backend.verify.shrink import bind
from drt.ir import Graph

from .kernels import Kernel

#: (kernel, change, reason): regular expressions that match a whole name and the whole of ``kind: change``.
REASONS: tuple[tuple[str, str, str], ...] = (
    (r"(matmul|linear|batched|matrix_vector|gated|addmm|mlp|template .*gemm).*",
     r"constant: 0\.0 -> -?[0-9.]+|(?s:other: tl\.load.*)",
     "beyond K the other operand's lanes are zero, and beyond M and N the store is masked"),
    (r".*bf16.*", r"(?s:precision: .*\.to\(tl\.float32\).* -> .*)", "Triton takes bfloat16 with float32, and into maxima, as float32"),
    (r"compare_to_bool", r"(?s:precision: .*\.to\(tl\.bfloat16\).*)", "0 and 1 are bfloat16 numbers"),
    (r"max_and_index|template argmax.*", r"(?s:precision: .*\.to\(tl\.bfloat16\).*)", "indices up to 256 are bfloat16 numbers, and rows have no more"),
    (r"logsumexp_online", r"constant: 0\.0 -> .*", "the start of the running sum is multiplied by exp(-inf - m)"),
    (r"mse_loss_atomic|smooth_l1", r"(?s:swapped_operands: tl\.load\(x.* -> tl\.load\(t.*)", "the function of the difference is even"),
    (r"flash_attention_causal", r"constant: 1 -> 2", "the block of keys that is added is masked whole"),
    (r"template mse.*", r"dropped_term: tl\.where\(col_mask, y_e, 0\.0\) -> y_e", "masked lanes hold the square of 0 - 0"),
    (r"softmax_columns", r"statement: e = tl\.where.* -> pass", "masked lanes hold exp(-inf)"),
    (r"batched_matmul", r"names: K -> N", "at the program's sizes the two ranges have equally many steps, and k is masked"),
    (r"template linear_bf16.*tma", r"(?s:loop_carried: tl\.dot.*)", "at the program's sizes the loop has one step, which starts from zero"),
    (r"template linear_bf16.*tma", r"launch: triton\.cdiv\(M, 64\) \* .*", "the launch is for rows that TMA cannot take, and the program's can be"),
    (r"template conv.*", r"precision: tl\.full\(m\.shape, True, tl\.int1\) -> .*", "the other branch of a choice at compile time is taken"),
)  # fmt: skip


_PROBES = ('float("nan")', 'float("inf")', '-float("inf")', "3e38", "-1e-30")


@attrs.frozen
class _Outputs:
    """What a source gave in every run: status, and the bits of each output."""

    status: str
    bits: dict[str, torch.Tensor] = attrs.field(eq=False)

    def same(self, other: _Outputs) -> bool:
        """Whether both finished, made the same runs, and gave the same bits."""
        return (
            self.status == other.status == "ok"
            and self.bits.keys() == other.bits.keys()
            and all(torch.equal(self.bits[k], other.bits[k]) for k in self.bits)
        )


def _run(kernel: Kernel, source: str, seed: int) -> _Outputs:
    """Run a source on every trial that the judge would make of the right kernel."""
    judge = FragmentJudge(
        kernel.graph,
        precision=kernel.precision,
        seed=seed,
        constants=tile_constants(kernel.source),
        pinned=kernel.pinned,
    )
    request = judge.request(kernel.candidate(source), 60.0)
    reply = interpreter_sandbox().run(Frame({**request.header, "ring": None}, request.tensors), 90.0)
    bits: dict[str, torch.Tensor] = {}
    for key, frame in runs_of(reply).items():
        for name, tensor in frame.tensors.items():
            whole = tensor.contiguous().view(-1)
            bits[f"{key.index}.{key.config}.{name}"] = whole.view(torch.uint8) if whole.numel() else whole
    made = sum(1 for f in reply.named("run") if not f.header["observed"]["error"])
    finished = reply.status == "ok" and made >= len(judge.trials) and not reply.named("undefined")
    return _Outputs("ok" if finished else f"{reply.status} after {made} runs", bits)


@functools.lru_cache(maxsize=8)
def _right_run(kernel: Kernel, seed: int) -> _Outputs:
    """Return what the right kernel gives; mutants come kernel by kernel, so few need to be kept."""
    return _run(kernel, kernel.source, seed)


def _canonical(ttir: str) -> str:
    """Return Triton IR without places and with values numbered in order."""
    text = re.sub(r"^#loc.*$", "", ttir, flags=re.M)
    text = re.sub(r" loc\([^)\n]*\)(?=\)|,|$| )", "", text, flags=re.M)
    names: dict[str, str] = {}
    return re.sub(r"%[A-Za-z_0-9#]+", lambda m: names.setdefault(m.group(), f"%{len(names)}"), text)


def _code(graph: Graph, kernel: Kernel, source: str) -> Any:
    """Return what a launcher does and the Triton IR of its kernels, or None where there is none."""
    reply = submit_fragment(graph, kernel.candidate(source), 60.0, tape=True).result()
    tapes = reply.named("tape")
    if reply.status != "ok" or not tapes:
        return None
    tape = tapes[0].header["tape"]
    order = {key: f"kernel {k}" for k, key in enumerate(tape["kernels"])}
    kernels = [
        (_canonical(k["ttir"]), sorted(k["options"].items(), key=str), k["signature"]) for k in tape["kernels"].values()
    ]
    steps = repr(tape["steps"])
    for key, name in order.items():
        steps = steps.replace(repr(key), repr(name))
    return repr(kernels), steps, tape["outputs"]


@functools.lru_cache(maxsize=4)
def _right_code(kernel: Kernel) -> list[tuple[Graph, Any]]:
    """Return the right kernel's code, for its own sizes and for small odd ones."""
    judge = FragmentJudge(kernel.graph, seed=1, pinned=kernel.pinned)
    graphs = [bind(kernel.graph), *(i.graph for i in judge.instances[:1])]
    return [(graph, _code(graph, kernel, kernel.source)) for graph in graphs]


def _same_code(kernel: Kernel, source: str) -> bool:
    return all(right is not None and right == _code(graph, kernel, source) for graph, right in _right_code(kernel))


def _probes(kernel: Kernel, source: str) -> list[str]:
    """Return sources with other values in the ``other=`` in which ``source`` differs; empty where more differs."""
    right, mutated = ast.parse(kernel.source), ast.parse(source)
    places = [
        (k, [w.arg for w in b.keywords])
        for k, (a, b) in enumerate(zip(ast.walk(right), ast.walk(mutated), strict=False))
        if isinstance(a, ast.Call) and isinstance(b, ast.Call) and ast.dump(a) != ast.dump(b)
        and isinstance(b.func, ast.Attribute) and b.func.attr == "load"
    ]  # fmt: skip
    found = []
    for value in _PROBES:
        for k, _ in places[-1:]:
            copied = ast.parse(source)
            call = list(ast.walk(copied))[k]
            assert isinstance(call, ast.Call)
            call.keywords = [w for w in call.keywords if w.arg != "other"]
            call.keywords.append(ast.keyword("other", ast.parse(value, mode="eval").body))
            # With the right value in its place the source must be the right one, or something else differs.
            restored = ast.parse(source)
            original = list(ast.walk(right))[k]
            assert isinstance(original, ast.Call)
            twin = list(ast.walk(restored))[k]
            assert isinstance(twin, ast.Call)
            twin.keywords = original.keywords
            if ast.unparse(restored) != ast.unparse(right):
                return []
            found.append(ast.unparse(ast.fix_missing_locations(copied)) + "\n")
    return found


def _same_in_the_ring(kernel: Kernel, source: str, seed: int) -> bool:
    """Whether the judge found all outputs equal on ring elements, on two seeds."""
    for s in (seed, seed + 1):
        verdict = verify_candidate(kernel.graph, kernel.candidate(source), device="cpu", seed=s, timeout_s=60.0)
        report = verdict.report("meaning")
        if not verdict.passed or report is None or report.evidence["algebra"]["outcome"] != "equal":
            return False
    return True


def argue(kernel: Kernel, source: str, change: str, kind: str, seed: int = 1) -> str:
    """Return the argument that ``source`` is equivalent to the kernel; empty where there is none.

    A ``?`` in front says that the outputs are the same bit for bit and that a reason is missing; without it the outputs
    differ somewhere.
    """
    if _same_code(kernel, source):
        return "same code"
    right = _right_run(kernel, seed)
    if not right.same(_run(kernel, source, seed)):
        return "exact algebra" if kind != "precision" and _same_in_the_ring(kernel, source, seed) else ""
    probes = _probes(kernel, source)
    if probes and all(right.same(_run(kernel, p, seed)) for p in probes):
        return "unused lanes"
    if not all(_right_run(kernel, s).same(_run(kernel, source, s)) for s in (seed + 1, seed + 2)):
        return ""
    for name, pattern, reason in REASONS:
        if re.fullmatch(name, kernel.name) and re.fullmatch(pattern, f"{kind}: {change}"):
            return f"reasoned: {reason}"
    return "? the same bits in every run"
