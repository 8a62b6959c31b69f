"""Times every variant of the template generator against eager PyTorch and torch.compile, on a CUDA device.

    python benchmarks/gen_tune.py [--cases REGEX] [--variants N] [--budget SECONDS] [--out FILE.json]

Runs from a bare checkout.  Each number is the median over repetitions with a cold L2 cache (``triton.testing.do_bench``).
``err`` is the rms error against float64, divided by that of eager PyTorch at the same precision flags.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import multiprocessing
import os
import re
import sys
import tempfile
import time
from pathlib import Path

if importlib.util.find_spec("drt") is None:
    _shim = tempfile.mkdtemp(prefix="drt-")
    os.symlink(Path(__file__).resolve().parent.parent, os.path.join(_shim, "drt"))
    sys.path.insert(0, _shim)
    os.environ["PYTHONPATH"] = os.pathsep.join([_shim, os.environ.get("PYTHONPATH", "")])

import torch
import torch.nn.functional as F
import triton
from triton.testing import do_bench

DTYPES = {"f32": torch.float32, "bf16": torch.bfloat16, "f16": torch.float16, "i64": torch.int64, "f64": torch.float64}

HEADER = "import torch\nimport triton\nimport triton.language as tl\nfrom triton.language.extra import libdevice\n\n\n"


def _linear(name: str, dtype: str, m: int, n: int, k: int) -> str:
    return f"""drt 1
graph {name}(%x: {dtype}[{m}, {k}], %w: {dtype}[{n}, {k}], %b: {dtype}[{n}]) -> (%y) {{
  %h = linear(%x, %w, %b) : {dtype}[{m}, {n}]
  %y = gelu(%h) {{approximate = none}} : {dtype}[{m}, {n}]
}}"""


def _attention(name: str, dtype: str, b: int, h: int, s: int, d: int, causal: bool) -> str:
    t = f"{dtype}[{b}, {h}, {s}, {d}]"
    return f"""drt 1
graph {name}(%q: {t}, %k: {t}, %v: {t}) -> (%y) {{
  %y = scaled_dot_product_attention(%q, %k, %v, None) {{causal = {causal}}} : {t}
}}"""


def _mlp(x, w, b):
    return F.gelu(F.linear(x, w, b))


#: name -> (program, PyTorch function, precision)
CASES = {
    "softmax_f32": ("""drt 1
graph softmax_f32(%x: f32[8192, 4096]) -> (%y) { %y = softmax(%x) {axis = 1} : f32[8192, 4096] }""",
                    lambda x: torch.softmax(x, 1), "strict"),
    "softmax_long": ("""drt 1
graph softmax_long(%x: f32[512, 131072]) -> (%y) { %y = softmax(%x) {axis = 1} : f32[512, 131072] }""",
                     lambda x: torch.softmax(x, 1), "strict"),
    "layer_norm": ("""drt 1
graph layer_norm_(%x: f32[16384, 2048], %w: f32[2048], %b: f32[2048]) -> (%y) {
  %y = layer_norm(%x, %w, %b) {normalized = [2048], eps = 1e-05} : f32[16384, 2048]
}""", lambda x, w, b: F.layer_norm(x, (2048,), w, b), "strict"),
    "rms_norm_bf16": ("""drt 1
graph rms_norm_bf16(%x: bf16[16384, 4096], %w: bf16[4096], %g: bf16[16384, 4096]) -> (%y) {
  %n = rms_norm(%x, %w) {normalized = [4096], eps = 1e-06} : bf16[16384, 4096]
  %y = mul(%n, %g) : bf16[16384, 4096]
}""", lambda x, w, g: F.rms_norm(x, (4096,), w, 1e-6) * g, "strict"),
    "group_norm": ("""drt 1
graph group_norm_(%x: f32[16, 64, 256, 256], %w: f32[64], %b: f32[64]) -> (%y) {
  %y = group_norm(%x, %w, %b) {groups = 8, eps = 1e-05} : f32[16, 64, 256, 256]
}""", lambda x, w, b: F.group_norm(x, 8, w, b), "strict"),
    "gelu_tree": ("""drt 1
graph gelu_tree(%x: f32[8192, 8192], %b: f32[8192], %r: f32[8192, 8192]) -> (%y) {
  %h = add(%x, %b) : f32[8192, 8192]
  %g = gelu(%h) {approximate = none} : f32[8192, 8192]
  %y = add(%g, %r) : f32[8192, 8192]
}""", lambda x, b, r: F.gelu(x + b) + r, "strict"),
    "transpose_add": ("""drt 1
graph transpose_add(%x: f32[8192, 8192], %y: f32[8192, 8192]) -> (%z) {
  %t = permute(%x) {order = [1, 0]} : f32[8192, 8192]
  %z = add(%t, %y) : f32[8192, 8192]
}""", lambda x, y: x.t() + y, "strict"),
    "sum_all": ("""drt 1
graph sum_all(%x: f32[268435456]) -> (%y) { %y = sum(%x) {axes = [0]} : f32[] }""", lambda x: x.sum(), "strict"),
    "sum_rows": ("""drt 1
graph sum_rows(%x: f32[16384, 8192]) -> (%y) { %y = sum(%x) {axes = [0]} : f32[8192] }""", lambda x: x.sum(0), "strict"),
    "max_pool": ("""drt 1
graph max_pool(%x: f32[16, 64, 256, 256]) -> (%y) {
  %y = max_pool2d(%x) {kernel = [3, 3], stride = [2, 2], padding = [1, 1]} : f32[16, 64, 128, 128]
}""", lambda x: F.max_pool2d(x, 3, 2, 1), "strict"),
    "mlp_f32": (_linear("mlp_f32", "f32", 4096, 4096, 4096), _mlp, "strict"),
    "mlp_tf32": (_linear("mlp_tf32", "f32", 4096, 4096, 4096), _mlp, "tf32"),
    "mlp_bf16": (_linear("mlp_bf16", "bf16", 4096, 4096, 4096), _mlp, "strict"),
    "skinny_f32": (_linear("skinny_f32", "f32", 16, 8192, 8192), _mlp, "strict"),
    "skinny_bf16": (_linear("skinny_bf16", "bf16", 16, 8192, 8192), _mlp, "strict"),
    "bmm_f32": ("""drt 1
graph bmm_f32(%a: f32[64, 512, 1024], %b: f32[64, 1024, 512]) -> (%y) {
  %y = matmul(%a, %b) : f32[64, 512, 512]
}""", lambda a, b: torch.bmm(a, b), "strict"),
    "conv_f32": ("""drt 1
graph conv_f32(%x: f32[32, 64, 56, 56], %w: f32[128, 64, 3, 3], %b: f32[128]) -> (%y) {
  %h = conv2d(%x, %w, %b) {stride = [1, 1], padding = [1, 1]} : f32[32, 128, 56, 56]
  %y = relu(%h) : f32[32, 128, 56, 56]
}""", lambda x, w, b: F.relu(F.conv2d(x, w, b, padding=1)), "strict"),
    "conv_bf16": ("""drt 1
graph conv_bf16(%x: bf16[32, 128, 56, 56], %w: bf16[128, 128, 3, 3], %b: bf16[128]) -> (%y) {
  %h = conv2d(%x, %w, %b) {stride = [1, 1], padding = [1, 1]} : bf16[32, 128, 56, 56]
  %y = relu(%h) : bf16[32, 128, 56, 56]
}""", lambda x, w, b: F.relu(F.conv2d(x, w, b, padding=1)), "strict"),
    "conv_groups_f32": ("""drt 1
graph conv_groups_f32(%x: f32[32, 128, 56, 56], %w: f32[128, 16, 3, 3], %b: f32[128]) -> (%y) {
  %y = conv2d(%x, %w, %b) {stride = [1, 1], padding = [1, 1], groups = 8} : f32[32, 128, 56, 56]
}""", lambda x, w, b: F.conv2d(x, w, b, padding=1, groups=8), "strict"),
    "gated_bf16": ("""drt 1
graph gated_bf16(%x: bf16[4096, 2048], %w: bf16[5632, 2048], %v: bf16[5632, 2048]) -> (%y) {
  %g = linear(%x, %w, None) : bf16[4096, 5632]
  %u = linear(%x, %v, None) : bf16[4096, 5632]
  %s = silu(%g) : bf16[4096, 5632]
  %y = mul(%s, %u) : bf16[4096, 5632]
}""", lambda x, w, v: F.silu(F.linear(x, w)) * F.linear(x, v), "strict"),
    "attention_bf16": (_attention("attention_bf16", "bf16", 4, 16, 4096, 64, True),
                       lambda q, k, v: F.scaled_dot_product_attention(q, k, v, is_causal=True), "strict"),
    "attention_f32": (_attention("attention_f32", "f32", 4, 16, 1024, 64, False),
                      lambda q, k, v: F.scaled_dot_product_attention(q, k, v), "strict"),
    "attention_gqa": ("""drt 1
graph attention_gqa(%q: bf16[2, 32, 4096, 128], %k: bf16[2, 8, 4096, 128], %v: bf16[2, 8, 4096, 128]) -> (%y) {
  %y = scaled_dot_product_attention(%q, %k, %v, None) {causal = True, grouped = True} : bf16[2, 32, 4096, 128]
}""", lambda q, k, v: F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True), "strict"),
    "attention_decode": ("""drt 1
graph attention_decode(%q: bf16[8, 16, 1, 128], %k: bf16[8, 16, 8192, 128], %v: bf16[8, 16, 8192, 128]) -> (%y) {
  %y = scaled_dot_product_attention(%q, %k, %v, None) : bf16[8, 16, 1, 128]
}""", lambda q, k, v: F.scaled_dot_product_attention(q, k, v), "strict"),
    "cumsum_rows": ("""drt 1
graph cumsum_rows(%x: f32[4096, 8192]) -> (%y) { %y = cumsum(%x) {axis = 1} : f32[4096, 8192] }""",
                    lambda x: torch.cumsum(x, 1), "strict"),
    "cumsum_columns": ("""drt 1
graph cumsum_columns(%x: f32[4096, 8192]) -> (%y) { %y = cumsum(%x) {axis = 0} : f32[4096, 8192] }""",
                       lambda x: torch.cumsum(x, 0), "strict"),
}  # fmt: skip


def load(source: str, entry: str):
    """Return the launcher of a candidate; Triton needs the source in a file."""
    handle = tempfile.NamedTemporaryFile("w", suffix=".py", delete=False)
    handle.write(HEADER + source)
    handle.close()
    spec = importlib.util.spec_from_file_location(Path(handle.name).stem, handle.name)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return getattr(module, entry)


def make_inputs(shapes: list[tuple[str, tuple[int, ...]]], seed: int = 0) -> list[torch.Tensor]:
    """Return standard normal inputs, scaled so that products stay of order one."""
    g = torch.Generator("cuda").manual_seed(seed)
    out = []
    for k, (dtype, shape) in enumerate(shapes):
        scale = shape[-1] ** -0.5 if k == 1 and len(shape) == 2 else 1.0
        out.append((torch.randn(shape, generator=g, device="cuda") * scale).to(DTYPES[dtype]))
    return out


def compile_one(job: tuple[str, str, list[tuple[str, tuple[int, ...]]]]) -> str:
    """Run one candidate once so that its kernels are in the compile cache; return an error, or nothing."""
    source, entry, shapes = job
    try:
        load(source, entry)(*make_inputs(shapes))
        torch.cuda.synchronize()
    except Exception as error:
        return f"{type(error).__name__}: {str(error).splitlines()[0][:120] if str(error) else ''}"
    return ""


def rms(x: torch.Tensor) -> float:
    return x.double().square().mean().sqrt().item()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cases", default=".")
    parser.add_argument("--variants", type=int, default=8)
    parser.add_argument("--budget", type=float, default=330.0)
    parser.add_argument("--workers", type=int, default=12)
    parser.add_argument("--out", default="")
    parser.add_argument("--no-compile", action="store_true", help="leave out torch.compile")
    args = parser.parse_args()
    from drt.backend.triton_gen import TemplateTranslator
    from drt.ir import DrtError, builtin_ops
    from drt.ir.text import parse_graph

    begin = time.time()
    ops = builtin_ops()
    chosen = {k: v for k, v in CASES.items() if re.search(args.cases, k)}
    jobs, work = [], []
    for name, (text, fn, precision) in chosen.items():
        graph = parse_graph(text, ops=ops)
        shapes = [(i.type.dtype, tuple(int(s) for s in i.type.shape)) for i in graph.inputs]
        try:
            found = TemplateTranslator(precision=precision, ops=ops).propose(graph, args.variants)
        except DrtError as error:
            print(f"{name}: {error}")
            found = []
        work.append((name, fn, precision, shapes, found))
        jobs += [(c.source, c.entry, shapes) for c in found]
    with multiprocessing.get_context("spawn").Pool(args.workers) as pool:
        errors = dict(zip([j[0] for j in jobs], pool.map(compile_one, jobs, chunksize=1), strict=True))
    print(f"{torch.cuda.get_device_name()} torch {torch.__version__} triton {triton.__version__}; "
          f"{len(jobs)} variants compiled after {time.time() - begin:.0f} s")  # fmt: skip
    results = []
    for name, fn, precision, shapes, found in work:
        if time.time() - begin > args.budget:
            print(f"{name}: no time left")
            continue
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = precision == "tf32"
        inputs = make_inputs(shapes)
        want = fn(*(x.double() if x.is_floating_point() else x for x in inputs))
        eager_error = rms(fn(*inputs).double() - want)
        eager = do_bench(lambda fn=fn, inputs=inputs: fn(*inputs), warmup=5, rep=40, return_mode="median") * 1e3
        compiled = float("nan")
        if not args.no_compile:
            torch._dynamo.reset()
            optimised = torch.compile(fn)
            compiled = do_bench(lambda f=optimised, i=inputs: f(*i), warmup=5, rep=40, return_mode="median") * 1e3
        print(f"{name} [{precision}]: eager {eager:.1f} us, torch.compile {compiled:.1f} us")
        rows = []
        for c in found:
            problem = errors[c.source]
            if problem:
                print(f"    {c.variant:42s} {problem}")
                continue
            run = load(c.source, c.entry)
            try:
                got = run(*inputs)
                got = got[0] if isinstance(got, tuple) else got
                ratio = rms(got.double() - want) / max(eager_error, 1e-30)
                mine = do_bench(lambda r=run, i=inputs: r(*i), warmup=5, rep=40, return_mode="median") * 1e3
            except Exception as error:
                print(f"    {c.variant:42s} {type(error).__name__}: {str(error)[:100]}")
                continue
            rows.append((mine, c.variant, ratio, c.predicted_us))
        for mine, variant, ratio, predicted in sorted(rows):
            print(f"    {variant:42s} {mine:9.1f} us  x{compiled / mine:5.2f} compile x{eager / mine:5.2f} eager  "
                  f"err {ratio:7.2f}  predicted {predicted or 0:7.1f}")  # fmt: skip
        results.append({"case": name, "precision": precision, "eager_us": eager, "compile_us": compiled,
                        "variants": [dict(zip(("us", "variant", "err", "predicted_us"), r)) for r in rows]})  # fmt: skip
        del inputs, want
        torch.cuda.empty_cache()
    if args.out:
        Path(args.out).write_text(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
