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
    Mistake("padding counted wrongly", "avg_pool2d", "max(i * stride[0] - padding[0], 0)", "(i * stride[0] - padding[0])", "values"),
    Mistake("padding wins", "max_pool2d", "padding[1]], -inf)", "padding[1]], 0.0)", "values"),
    Mistake("dilation forgotten in the window", "max_pool2d", "u * dilation[0]", "u", "values"),
    Mistake("ceil_mode lost in the lowering", "max_pool2d", ", ceil_mode=ceil_mode)", ")", "shape"),
    Mistake("output padding forgotten in the type", "conv_transpose2d", " + output_padding[0] + 1", " + 1", "shape"),
    Mistake("groups read as one", "conv2d", "f // FG * CG + c", "c", "values"),
    Mistake("mean not subtracted", "var", "mul(deviation, deviation)", "mul(x, x)", "values"),
    Mistake("correction ignored", "var", "max(count - correction, 0)", "max(count - 1, 0)", "values"),
    Mistake("scale of the scores", "scaled_dot_product_attention", "E ** -0.5", "E ** -1", "values"),
    Mistake("causal the other way round", "scaled_dot_product_attention", "where(tril(", "where(triu(", "values"),
    Mistake("upper triangle for the lower", "tril", "j - i <= diagonal", "i - j <= diagonal", "values"),
    Mistake("diagonal off by one", "tril", "j - i <= diagonal", "j - i < diagonal", "values"),
    Mistake("wrong half is the gate", "glu", "mul(value, sigmoid(gate))", "mul(gate, sigmoid(value))", "values"),
    Mistake("pixels woven wrongly", "pixel_shuffle", "[n, n + 3, n + 1, n + 4, n + 2]", "[n, n + 3, n + 2, n + 4, n + 1]", "values"),
    Mistake("inverse forgotten", "permute", "x[permuted(I, inverse(order))]", "x[permuted(I, order)]", "values"),
    Mistake("rolled along the wrong axes", "roll", "rolled(I, S, shifts, axes)", "rolled(I, S, shifts, reversed(axes))", "values"),
    Mistake("step ignored in the type", "slice", "ceildiv(stop - start, step)", "stop - start", "shape"),
    Mistake("start ignored", "slice", "start + step * I[axis]", "step * I[axis]", "values"),
    Mistake("threshold of the Huber loss", "huber_loss", "sub(d, 0.5 * delta)", "sub(d, delta)", "values"),
    Mistake("reduction codes swapped", "huber_loss", '0, delta) {reduction = "none"}', '0, delta) {reduction = "sum"}', "import"),
    Mistake("ignored index not passed on", "cross_entropy", "ignore_index=ignore_index, reduction=reduction); }", "reduction=reduction); }", "values"),
    Mistake("wrong slope of a piecewise function", "hardsigmoid", "min(max(x + 3, 0), 6) / 6", "min(max(x + 3, 0), 6) / 5", "values"),
    Mistake("saturation point", "hardsigmoid", "max(x + 3, 0), 6)", "max(x + 3, 0), 5)", "values"),
    Mistake("rounding towards zero", "floor_divide", "scalar y = a // b", "scalar y = trunc(a / b)", "values"),
    Mistake("minimum for maximum", "argmax", "reduce y = argmax(x)", "reduce y = argmin(x)", "values"),
    Mistake("bounds swapped on import", "clamp", "aten.clamp.default(x, min, max)", "aten.clamp.default(x, max, min)", "import"),
    Mistake("count of another axis", "mean", "count = prod(permuted(S, axes))", "count = prod(S)", "values"),
    Mistake("the running sum leaves its own element out", "cumsum", "I[axis] + 1}", "I[axis]}", "values"),
    Mistake("integers not widened", "cumsum", "U = sum_dtype(T)", "U = T", "dtypes"),
    Mistake("weight and bias swapped on import", "group_norm", "groups, w, b, eps, _)", "groups, b, w, eps, _)", "import"),
    Mistake("statistics of all channels", "group_norm", "A = range(2, rank(S) + 3)", "A = range(1, rank(S) + 3)", "values"),
    Mistake("one constraint that PyTorch does not have", "gather", "where  c1:", "where  c0: rank(S) >= 2\n  where  c1:", "accepts"),
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
