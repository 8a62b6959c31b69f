"""Plant mistakes in operator definitions and report which check of the matrix catches each: a test of the tests.

Run with ``python tests/repo/mutate_ops.py [--all]``; the exit status is 1 if a mistake goes unnoticed.
"""

from __future__ import annotations

import sys
import warnings
from pathlib import Path

import attrs

sys.path.insert(0, str(Path(__file__).parents[1]))

from drt.ir import builtin_ops, parse_ops, print_op
from ops.checks import CHECKS, problems
from ops.limitations import LIMITATIONS


@attrs.frozen
class Mistake:
    """One change of a definition's canonical text, and the check that is meant for it."""

    what: str
    op: str
    old: str
    new: str
    check: str


MISTAKES = (
    Mistake("wrong shape formula", "conv2d", "(KH - 1) - 1) // stride[0] + 1", "(KH - 1) - 1) // stride[0]", "shape"),
    Mistake("constraint missing", "conv2d", "where  c1: C == CG * groups", "where  c1: C >= 1", "accepts"),
    Mistake(
        "import arguments swapped", "conv2d",
        "default(x, w, b, stride, padding,", "default(x, w, b, padding, stride,", "import",
    ),
    Mistake("wrong FLOPs", "conv2d", "flops  2 * N", "flops  N", "flops"),
    Mistake("wrong constant", "gelu", "0.044715", "0.44715", "values"),
    Mistake("wrong axis", "softmax", "sum(e, axes=[axis]", "sum(e, axes=[0]", "values"),
    Mistake("keepdim forgotten in the type", "sum", "reduced(S, axes, keepdim)", "reduced(S, axes, False)", "shape"),
    Mistake("index transposed", "matmul", "b[I.., k, n]", "b[I.., n, k]", "values"),
    Mistake("dtypes not restricted", "silu", "type   T: float", "type   T: any", "dtypes"),
    Mistake("constraint that follows from another", "conv2d", "  where  c1:", "  where  c0: H + 1 > 0\n  where  c1:", "constraints"),
    Mistake("epsilon left out", "layer_norm", "add(v, eps)", "v", "values"),
    Mistake("operands swapped in the lowering", "sub", "torch  a - b", "torch  b - a", "values"),
)  # fmt: skip


def catches(mistake: Mistake, everything: bool = False) -> list[str]:
    """Return the checks that notice ``mistake``: the one meant for it, or else any other; all of them if ``everything``."""
    ops = builtin_ops()
    text = print_op(ops[mistake.op])
    if mistake.old not in text:
        raise ValueError(f"{mistake.op}: '{mistake.old}' is not in its definition:\n{text}")
    changed = attrs.evolve(parse_ops(text.replace(mistake.old, mistake.new))[mistake.op], family=ops[mistake.op].family)
    mutated = {**ops, mistake.op: changed}
    found: list[str] = []
    for check in sorted(CHECKS, key=lambda c: c != mistake.check):
        known = [x.match for x in LIMITATIONS if (x.op, x.check) == (mistake.op, check)]
        if any(not any(k in p for k in known) for p in problems(check, changed, mutated)):
            found.append(check)
        if check == mistake.check and found and not everything:
            break
    return found


def main(everything: bool = False) -> int:
    """Print a line per mistake; return how many went unnoticed by the check that is meant for them."""
    warnings.simplefilter("ignore")
    unnoticed = 0
    for mistake in MISTAKES:
        found = catches(mistake, everything)
        unnoticed += mistake.check not in found
        verdict = f"caught by {', '.join(found)}" if found else "NOT CAUGHT"
        print(f"{mistake.op:<12} {mistake.what:<40} {verdict}", flush=True)
    print(f"{len(MISTAKES) - unnoticed} of {len(MISTAKES)} caught by the check meant for them")
    return unnoticed


if __name__ == "__main__":
    sys.exit(min(main("--all" in sys.argv), 1))
