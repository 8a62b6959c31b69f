"""Every variant of the template generator computes what the definitions say, at shapes that no tile divides.

The kernels run in Triton's interpreter with the arithmetic of the device, in a process of their own: Triton reads
``TRITON_INTERPRET`` when it is imported.  Run as a script, this file checks the cases of one group and prints the failures.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

HEADER = "import torch\nimport triton\nimport triton.language as tl\nfrom triton.language.extra import libdevice\n\n\n"

#: Group -> name -> (inputs, statements, outputs).
CASES: dict[str, dict[str, tuple[str, str, str]]] = {
    "pointwise": {
        "bias_silu": ("%x: f32[5, 33], %b: f32[33]", "%y = add(%x, %b) : f32[5, 33]; %z = silu(%y) : f32[5, 33]", "%z"),
        "two_outputs": ("%x: f32[7, 9]", "%y = exp(%x) : f32[7, 9]; %z = mul(%y, 2.0) : f32[7, 9]", "%y, %z"),
        "middle_broadcast": ("%x: f32[3, 5, 7], %b: f32[3, 1, 7]", "%z = mul(%x, %b) : f32[3, 5, 7]", "%z"),
        "both_broadcast": ("%x: f32[11, 1], %y: f32[1, 13]", "%z = sub(%x, %y) : f32[11, 13]", "%z"),
        "gelu_tanh_bf16": ("%x: bf16[5, 33]", "%z = gelu(%x) {approximate = tanh} : bf16[5, 33]", "%z"),
        "casts": ("%x: f32[40]", "%i = cast(%x) {to = i32} : i32[40]; %y = cast(%i) {to = f32} : f32[40]; "
                  "%z = mul(%y, 0.5) : f32[40]", "%z"),
        "integers": ("%x: i64[41], %y: i64[41]", "%a = floor_divide(%x, 3) : i64[41]; %b = mul(%y, 5) : i64[41]; "
                     "%z = remainder(%b, 7) : i64[41]; %w = add(%a, %z) : i64[41]", "%w"),
        "comparison": ("%x: f32[6, 6], %y: f32[6, 6]", "%c = lt(%x, %y) : bool[6, 6]; %z = where(%c, %x, 0.0) : f32[6, 6]",
                       "%c, %z"),
        "powers": ("%x: f32[50]", "%a = pow(%x, 3.0) : f32[50]; %b = pow(%x, 2) : f32[50]; %c = add(%a, %b) : f32[50]", "%c"),
        "double": ("%x: f64[50]", "%a = exp(%x) : f64[50]; %b = sqrt(%a) : f64[50]; %c = mul(%b, 0.1) : f64[50]", "%c"),
        "clamped": ("%x: f32[50]", "%a = clamp(%x) {min = -0.5, max = 0.5} : f32[50]; %b = mish(%a) : f32[50]; "
                    "%c = elu(%b) : f32[50]", "%c"),
        "scalar": ("%x: f32[], %y: f32[3]", "%z = mul(%y, %x) : f32[3]", "%z"),
        "empty": ("%x: f32[0, 3]", "%z = exp(%x) : f32[0, 3]", "%z"),
    },
    "views": {
        "transposed": ("%x: f32[40, 37], %y: f32[37, 40]",
                       "%t = permute(%x) {order = [1, 0]} : f32[37, 40]; %z = add(%t, %y) : f32[37, 40]", "%z"),
        "permuted": ("%x: f32[3, 5, 4, 6]", "%t = permute(%x) {order = [0, 2, 1, 3]} : f32[3, 4, 5, 6]; "
                     "%r = reshape(%t) {shape = [3, 4, 30]} : f32[3, 4, 30]; %z = relu(%r) : f32[3, 4, 30]", "%z"),
        "rotary": ("%x: f32[2, 3, 7, 8], %c: f32[7, 8], %s: f32[7, 8]",
                   "%a = slice(%x) {axis = 3, start = 0, stop = 4} : f32[2, 3, 7, 4]; "
                   "%b = slice(%x) {axis = 3, start = 4, stop = 8} : f32[2, 3, 7, 4]; %n = neg(%b) : f32[2, 3, 7, 4]; "
                   "%r = cat([%n, %a]) {axis = 3} : f32[2, 3, 7, 8]; %p = mul(%x, %c) : f32[2, 3, 7, 8]; "
                   "%q = mul(%r, %s) : f32[2, 3, 7, 8]; %y = add(%p, %q) : f32[2, 3, 7, 8]", "%y"),
        "cat_three": ("%x: f32[3, 5], %y: f32[3, 2], %w: f32[3, 6]",
                      "%c = cat([%x, %y, %w]) {axis = 1} : f32[3, 13]; %z = exp(%c) : f32[3, 13]", "%z"),
        "stacked": ("%x: f32[3, 5], %y: f32[3, 5]", "%z = stack([%x, %y]) {axis = 1} : f32[3, 2, 5]", "%z"),
        "padded": ("%x: f32[3, 5]", "%z = pad(%x) {padding = [1, 2], value = 3.0} : f32[3, 8]", "%z"),
        "rolled": ("%x: f32[3, 5]", "%z = roll(%x) {shifts = [2], axes = [1]} : f32[3, 5]", "%z"),
        "flipped": ("%x: f32[3, 5]", "%z = flip(%x) {axes = [1]} : f32[3, 5]", "%z"),
        "lower": ("%x: f32[2, 7, 7]", "%z = tril(%x) {diagonal = 1} : f32[2, 7, 7]", "%z"),
        "embedded": ("%w: f32[3, 10], %i: i64[4, 5]", "%e = embedding(%w, %i) : f32[4, 5, 10]; %z = mul(%e, 2.0) : f32[4, 5, 10]",
                     "%z"),
        "reflected": ("%x: f32[2, 3, 9]", "%z = reflection_pad1d(%x) {padding = [2, 3]} : f32[2, 3, 14]", "%z"),
        "repeated": ("%x: f32[3, 5]", "%z = repeat(%x) {repeats = [2, 3]} : f32[6, 15]", "%z"),
        "upsampled": ("%x: f32[1, 2, 3, 4]", "%z = upsample_nearest(%x) {size = [6, 10]} : f32[1, 2, 6, 10]", "%z"),
    },
    "rows": {
        "softmax": ("%x: f32[5, 33]", "%z = softmax(%x) {axis = 1} : f32[5, 33]", "%z"),
        "log_softmax_long": ("%x: f32[3, 9000]", "%z = log_softmax(%x) {axis = 1} : f32[3, 9000]; "
                             "%m = amax(%x) {axes = [1]} : f32[3]", "%z, %m"),
        "layer_norm": ("%x: f32[3, 7, 50], %w: f32[50], %b: f32[50]",
                       "%y = layer_norm(%x, %w, %b) {normalized = [50], eps = 1e-05} : f32[3, 7, 50]; "
                       "%z = relu(%y) : f32[3, 7, 50]", "%z"),
        "rms_norm_bf16": ("%x: bf16[7, 50], %w: bf16[50], %g: bf16[7, 50]",
                          "%y = rms_norm(%x, %w) {normalized = [50], eps = 1e-06} : bf16[7, 50]; "
                          "%z = mul(%y, %g) : bf16[7, 50]", "%z"),
        "group_norm": ("%x: f32[2, 6, 5, 7], %w: f32[6], %b: f32[6]",
                       "%z = group_norm(%x, %w, %b) {groups = 3, eps = 1e-05} : f32[2, 6, 5, 7]", "%z"),
        "variance": ("%x: f32[3, 5000]", "%v, %m = var_mean(%x) {axes = [1], correction = 1} : f32[3], f32[3]", "%v, %m"),
        "max_index": ("%x: f32[3, 4300]", "%v, %i = max_dim(%x) {axis = 1} : f32[3], i64[3]", "%v, %i"),
        "log_sum_exp": ("%x: f32[7, 50, 3]", "%v = logsumexp(%x) {axes = [1]} : f32[7, 3]", "%v"),
        "norm": ("%x: f32[7, 50]", "%z = normalize(%x) {axis = 1} : f32[7, 50]", "%z"),
        "any_all": ("%x: f32[7, 50]", "%p = gt(%x, 1.5) : bool[7, 50]; %a = any(%p) {axes = [1]} : bool[7]; "
                    "%b = all(%p) {axes = [1]} : bool[7]", "%a, %b"),
        "softmax_long": ("%x: f32[3, 9000]", "%z = softmax(%x) {axis = 1} : f32[3, 9000]", "%z"),
        "log_sum_exp_long": ("%x: f32[3, 9000]", "%z = logsumexp(%x) {axes = [1]} : f32[3]", "%z"),
        "layer_norm_long": ("%x: f32[2, 17000]", "%z = layer_norm(%x, None, None) {normalized = [17000], eps = 1e-05} "
                            ": f32[2, 17000]", "%z"),
        "variance_double": ("%x: f64[2, 9000]", "%v = var(%x) {axes = [1], correction = 1} : f64[2]", "%v"),
        "product": ("%x: f32[7, 10]", "%z = prod(%x) {axes = [1]} : f32[7]", "%z"),
        "matrix_vector": ("%x: f32[37, 500], %w: f32[500]", "%z = mv(%x, %w) : f32[37]", "%z"),
    },
    "columns": {
        "sum_all": ("%x: f32[40000]", "%z = sum(%x) {axes = [0]} : f32[]", "%z"),
        "mean_of_roots": ("%x: f32[1024]", "%a = abs(%x) : f32[1024]; %r = sqrt(%a) : f32[1024]; "
                          "%z = mean(%r) {axes = [0]} : f32[]", "%z"),
        "sum_of_four": ("%x: f32[2, 3, 4, 5]", "%z = sum(%x) {axes = [0, 1, 2, 3]} : f32[]", "%z"),
        "softmax_of_all": ("%x: f32[20000]", "%z = softmax(%x) {axis = 0} : f32[20000]", "%z"),
        "loss": ("%x: f32[100, 90], %y: f32[100, 90]", "%z = mse_loss(%x, %y) : f32[]", "%z"),
        "mean_first": ("%x: f32[500, 20]", "%z = mean(%x) {axes = [0]} : f32[20]", "%z"),
        "batch_norm": ("%x: f32[4, 6, 5, 7], %w: f32[6], %b: f32[6]",
                       "%z = batch_norm_untracked(%x, %w, %b) : f32[4, 6, 5, 7]", "%z"),
        "batch_norm_eval": ("%x: f32[4, 6, 5, 7], %m: f32[6], %v: f32[6], %w: f32[6], %b: f32[6]",
                            "%p = square(%v) : f32[6]; %z = batch_norm(%x, %m, %p, %w, %b) : f32[4, 6, 5, 7]", "%z"),
        "softmax_first": ("%x: f32[33, 5]", "%z = softmax(%x) {axis = 0} : f32[33, 5]", "%z"),
        "integer_sum": ("%x: i64[30, 7]", "%z = sum(%x) {axes = [0]} : i64[7]", "%z"),
        "spatial_mean": ("%x: f32[3, 4, 6, 7]", "%m = mean(%x) {axes = [2, 3], keepdim = True} : f32[3, 4, 1, 1]; "
                         "%s = sigmoid(%m) : f32[3, 4, 1, 1]; %z = mul(%x, %s) : f32[3, 4, 6, 7]", "%z"),
    },
    "products": {
        "linear_gelu": ("%x: f32[70, 50], %w: f32[45, 50], %b: f32[45]", "%h = linear(%x, %w, %b) : f32[70, 45]; "
                        "%z = gelu(%h) {approximate = none} : f32[70, 45]", "%z"),
        "residual": ("%x: f32[3, 20, 50], %w: f32[45, 50], %b: f32[45], %r: f32[3, 20, 45]",
                     "%h = linear(%x, %w, %b) : f32[3, 20, 45]; %z = add(%h, %r) : f32[3, 20, 45]", "%z"),
        "batched": ("%x: f32[2, 3, 20, 50], %w: f32[2, 3, 50, 45]",
                    "%h = matmul(%x, %w) : f32[2, 3, 20, 45]; %z = mul(%h, 0.125) : f32[2, 3, 20, 45]", "%z"),
        "heads": ("%x: f32[2, 20, 50], %w: f32[48, 50], %b: f32[48]",
                  "%h = linear(%x, %w, %b) : f32[2, 20, 48]; %r = reshape(%h) {shape = [2, 20, 4, 12]} : f32[2, 20, 4, 12]; "
                  "%z = permute(%r) {order = [0, 2, 1, 3]} : f32[2, 4, 20, 12]", "%z"),
        "gated": ("%x: f32[2, 20, 50], %w: f32[48, 50], %v: f32[48, 50]",
                  "%h = linear(%x, %w, None) : f32[2, 20, 48]; %g = linear(%x, %v, None) : f32[2, 20, 48]; "
                  "%s = silu(%g) : f32[2, 20, 48]; %z = mul(%h, %s) : f32[2, 20, 48]", "%z"),
        "transposed_scores": ("%q: f32[2, 3, 20, 16], %k: f32[2, 3, 18, 16]",
                              "%t = transpose(%k) {axis0 = 2, axis1 = 3} : f32[2, 3, 16, 18]; "
                              "%z = matmul(%q, %t) : f32[2, 3, 20, 18]", "%z"),
        "skinny": ("%x: f32[5, 700], %w: f32[48, 700], %b: f32[48]",
                   "%h = linear(%x, %w, %b) : f32[5, 48]; %z = relu(%h) : f32[5, 48]", "%z"),
        "half": ("%x: bf16[70, 50], %w: bf16[45, 50], %b: bf16[45]", "%h = linear(%x, %w, %b) : bf16[70, 45]; "
                 "%z = silu(%h) : bf16[70, 45]", "%z"),
        "aligned": ("%x: f32[72, 48], %w: f32[40, 48]", "%h = linear(%x, %w, None) : f32[72, 40]; %z = relu(%h) : f32[72, 40]",
                    "%z"),
        "aligned_half": ("%x: f16[2, 72, 64], %w: f16[2, 64, 40]", "%h = matmul(%x, %w) : f16[2, 72, 40]; "
                         "%z = relu(%h) : f16[2, 72, 40]", "%z"),
        "infinite": ("%x: f32[40, 70], %w: f32[45, 70]", "%i = div(%x, 0.0) : f32[40, 70]; %c = gt(%x, 2.7) : bool[40, 70]; "
                     "%y = where(%c, %i, %x) : f32[40, 70]; %z = linear(%y, %w, None) : f32[40, 45]", "%z"),
        "prologue": ("%x: f32[30, 50], %w: f32[50, 45]", "%y = mul(%x, 0.5) : f32[30, 50]; %z = matmul(%y, %w) : f32[30, 45]",
                     "%z"),
    },
    "windows": {
        "conv": ("%x: f32[2, 5, 9, 8], %w: f32[7, 5, 3, 3], %b: f32[7]",
                 "%h = conv2d(%x, %w, %b) {stride = [2, 1], padding = [1, 1]} : f32[2, 7, 5, 8]; "
                 "%z = relu(%h) : f32[2, 7, 5, 8]", "%z"),
        "conv_groups": ("%x: f32[2, 6, 5, 6], %w: f32[8, 3, 3, 3], %b: f32[8]",
                        "%z = conv2d(%x, %w, %b) {padding = [1, 1], groups = 2} : f32[2, 8, 5, 6]", "%z"),
        "conv_depthwise": ("%x: f32[2, 6, 5, 6], %w: f32[6, 1, 3, 3], %b: f32[6]",
                           "%z = conv2d(%x, %w, %b) {padding = [1, 1], groups = 6} : f32[2, 6, 5, 6]", "%z"),
        "conv_line": ("%x: f32[2, 5, 30], %w: f32[7, 5, 3]",
                      "%z = conv1d(%x, %w, None) {dilation = [2]} : f32[2, 7, 26]", "%z"),
        "conv_transposed": ("%x: f32[2, 6, 5, 6], %w: f32[6, 4, 3, 3], %b: f32[4]",
                            "%z = conv_transpose2d(%x, %w, %b) {stride = [2, 2], padding = [1, 1], output_padding = [1, 1]}"
                            " : f32[2, 4, 10, 12]", "%z"),
        "max_pool": ("%x: f32[2, 3, 9, 8]",
                     "%z = max_pool2d(%x) {kernel = [3, 3], stride = [2, 2], padding = [1, 1]} : f32[2, 3, 5, 4]", "%z"),
        "avg_pool": ("%x: f32[2, 3, 9, 8]", "%z = avg_pool2d(%x) {kernel = [2, 2], stride = [2, 2], padding = [1, 1], "
                     "count_include_pad = False} : f32[2, 3, 5, 5]", "%z"),
        "pool_one": ("%x: f32[2, 3, 9, 8]", "%z = adaptive_avg_pool2d(%x) {size = [1, 1]} : f32[2, 3, 1, 1]", "%z"),
    },
}  # fmt: skip


def program(name: str, case: tuple[str, str, str]) -> str:
    """Return the text of a case."""
    inputs, statements, outputs = case
    lines = "\n".join(f"  {s.strip()}" for s in statements.split(";"))
    return f"drt 1\ngraph {name}({inputs}) -> ({outputs}) {{\n{lines}\n}}\n"


@pytest.mark.parametrize("group", list(CASES))
def test_variants_compute_the_definition(group: str) -> None:
    """Variants of two kinds of every case agree with float64 evaluation of the definitions."""
    _run(group)


@pytest.mark.full
@pytest.mark.parametrize("group", list(CASES))
def test_all_variants_compute_the_definition(group: str) -> None:
    """Every variant of every case agrees with float64 evaluation of the definitions."""
    _run(group, "--full")


def _run(group: str, *options: str) -> None:
    environment = {**os.environ, "TRITON_INTERPRET": "1", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, __file__, group, *options], env=environment, capture_output=True, text=True, timeout=1800
    )
    assert done.returncode == 0, done.stdout + done.stderr


def _main(group: str, *options: str) -> int:
    full = "--full" in options
    wanted = next((o for o in options if o != "--full"), "")
    import importlib.util

    import attrs
    import drt.backend.verify.interpreter as interpreter
    import torch
    from drt.backend.candidate import H100
    from drt.backend.oracle import Oracle
    from drt.backend.triton_gen import TemplateTranslator, plan
    from drt.ir import DrtError, builtin_ops
    from drt.ir.text import parse_graph

    interpreter.install()
    torch.manual_seed(0)
    dtypes = {
        "f32": torch.float32,
        "f64": torch.float64,
        "f16": torch.float16,
        "bf16": torch.bfloat16,
        "i64": torch.int64,
    }
    ops = builtin_ops()
    oracle = Oracle(ops)
    failures = 0
    with tempfile.TemporaryDirectory() as folder:
        for name, case in CASES[group].items():
            if wanted and wanted != name:
                continue
            graph = parse_graph(program(name, case), ops=ops)
            inputs = {
                i.name: torch.randn(tuple(i.type.shape)).to(dtypes[i.type.dtype])  # type: ignore[arg-type]
                if i.type.dtype != "i64"
                else torch.randint(-9 if name == "integers" else 0, 3, tuple(i.type.shape))  # type: ignore[arg-type]
                for i in graph.inputs
            }
            expected = oracle.run(graph, inputs)
            try:
                plan(graph, ops)
                candidates = TemplateTranslator(ops=ops).propose(graph, 99)
                if group == "products":
                    # On a small device even these tiles are many: kernels that walk all of them.
                    small = TemplateTranslator(attrs.evolve(H100, n_multiprocessors=2), ops=ops)
                    candidates += [c for c in small.propose(graph, 99) if "persistent" in c.variant]
            except DrtError as error:
                print(f"{name}: {error}")
                failures += 1
                continue
            kinds = set()
            for k, c in enumerate(candidates):
                # One variant of each of two kinds, whatever its block sizes; all of them on demand.
                kind = re.sub(r"[0-9]+", "", c.variant)
                if not full and (kind in kinds or len(kinds) == 2):
                    continue
                kinds.add(kind)
                path = Path(folder) / f"{name}_{k}.py"
                path.write_text(HEADER + c.source)
                spec = importlib.util.spec_from_file_location(path.stem, path)
                assert spec is not None and spec.loader is not None
                module = importlib.util.module_from_spec(spec)
                spec.loader.exec_module(module)
                problem = ""
                try:
                    got = getattr(module, c.entry)(*inputs.values())
                    results = got if isinstance(got, tuple) else (got,)
                    for o, r, e in zip(graph.outputs, results, expected, strict=True):
                        problem = problem or _difference(r, e, str(o))
                except Exception as error:
                    problem = f"{type(error).__name__}: {error}"
                if problem:
                    failures += 1
                    print(f"{name}: {c.variant}: {problem}\n{c.source}")
                    break
    return 1 if failures else 0


def _difference(got, want, name: str) -> str:
    """Return how a result differs from the expected one, or nothing."""
    import torch

    if got.shape != want.shape:
        return f"{name} has shape {tuple(got.shape)}, expected {tuple(want.shape)}"
    if not got.is_floating_point():
        return "" if torch.equal(got.double(), want.double()) else f"{name} differs"
    unit = {torch.float64: 1e-13, torch.float32: 2e-6, torch.bfloat16: 6e-3, torch.float16: 8e-4}[got.dtype]
    a, b = got.double(), want.double()
    if not torch.equal(a.isnan(), b.isnan()):
        return f"{name} has NaN in other places"
    if not torch.equal(a.isinf() * a.sign().nan_to_num(), b.isinf() * b.sign().nan_to_num()):
        return f"{name} has infinities in other places"
    a, b = (torch.where(b.isfinite(), v, 0.0) for v in (a, b))
    scale = b.abs().max().clamp(min=1e-30) if b.numel() else torch.tensor(1.0)
    worst = ((a - b).abs().max() / scale).item() if b.numel() else 0.0
    return f"{name} is off by {worst:.1e} of the largest element" if worst > 4 * unit else ""


if __name__ == "__main__":
    sys.exit(_main(*sys.argv[1:]))
