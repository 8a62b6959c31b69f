"""Right kernels that the template generator writes: many fragments, several variants of each."""

from __future__ import annotations

import functools

import attrs
from drt.backend.triton_gen import TemplateTranslator

from ..kernels import Kernel


@attrs.frozen
class _Fragment:
    """A program whose variants are taken: how many, and whether mutants are made of the first."""

    name: str
    kind: str
    program: str
    n: int = 2
    mutate: bool = False
    precision: str = "strict"


def _unary(name: str, op: str, attributes: str = "", dtype: str = "f32", mutate: bool = False) -> _Fragment:
    t = f"{dtype}[40, 130]"
    return _Fragment(
        name, "pointwise", f"graph f(%x: {t}) -> (%y) {{\n  %y = {op}(%x){attributes} : {t}\n}}\n", 2, mutate
    )


FRAGMENTS = (
    _unary("exp", "exp"), _unary("tanh_bf16", "tanh", dtype="bf16"), _unary("erf_f16", "erf", dtype="f16"),
    _unary("elu", "elu", " {alpha = 0.7}", mutate=True), _unary("mish", "mish", mutate=True),
    _unary("hardsigmoid", "hardsigmoid"), _unary("rsqrt", "rsqrt"), _unary("floor", "floor"), _unary("log1p", "log1p"),
    _unary("clamp", "clamp", " {min = -0.5, max = 0.75}", mutate=True),
    _Fragment("remainder", "pointwise", """graph f(%x: i32[30, 50], %y: i32[50]) -> (%z) {
  %a = abs(%y) : i32[50]
  %b = add(%a, 1) : i32[50]
  %z = remainder(%x, %b) : i32[30, 50]
}
"""),
    _Fragment("residual_gelu", "fused", """graph f(%x: f32[50, 96], %b: f32[96], %r: f32[50, 96]) -> (%y) {
  %h = add(%x, %b) : f32[50, 96]
  %g = gelu(%h) {approximate = none} : f32[50, 96]
  %y = add(%g, %r) : f32[50, 96]
}
""", 3, True),
    _Fragment("transpose_add", "move", """graph f(%x: f32[70, 90], %y: f32[90, 70]) -> (%z) {
  %t = permute(%x) {order = [1, 0]} : f32[90, 70]
  %z = add(%t, %y) : f32[90, 70]
}
""", 3, True),
    _Fragment("cat_relu", "move", """graph f(%x: f32[20, 30], %y: f32[20, 50]) -> (%z) {
  %c = cat([%x, %y]) {axis = 1} : f32[20, 80]
  %z = relu(%c) : f32[20, 80]
}
""", 2, True),
    _Fragment("roll_flip", "move", """graph f(%x: f32[20, 30]) -> (%z) {
  %c = roll(%x) {shifts = [3], axes = [1]} : f32[20, 30]
  %z = flip(%c) {axes = [0]} : f32[20, 30]
}
"""),
    _Fragment("row_max", "reduction", """graph f(%x: f32[70, 600]) -> (%y) {
  %y = amax(%x) {axes = [1], keepdim = False} : f32[70]
}
""", 3),
    _Fragment("all_sum", "reduction", """graph f(%x: f32[200, 300]) -> (%y) {
  %y = sum(%x) {axes = [0, 1], keepdim = False} : f32[]
}
""", 3, True),
    _Fragment("columns_mean", "reduction", """graph f(%x: f32[300, 70]) -> (%y) {
  %y = mean(%x) {axes = [0], keepdim = False} : f32[70]
}
""", 3, True),
    _Fragment("argmax", "reduction", """graph f(%x: f32[40, 200]) -> (%y) {
  %y = argmax(%x) {axis = 1, keepdim = False} : i64[40]
}
""", 2, True),
    _Fragment("variance", "reduction", """graph f(%x: f32[40, 300]) -> (%y) {
  %y = var(%x) {axes = [1], correction = 1, keepdim = True} : f32[40, 1]
}
""", 2),
    _Fragment("softmax", "softmax", """graph f(%x: f32[50, 300]) -> (%y) {
  %y = softmax(%x) {axis = 1} : f32[50, 300]
}
""", 5, True),
    _Fragment("log_softmax_bf16", "softmax", """graph f(%x: bf16[50, 300]) -> (%y) {
  %y = log_softmax(%x) {axis = 1} : bf16[50, 300]
}
""", 2),
    _Fragment("layer_norm", "norm", """graph f(%x: f32[50, 256], %w: f32[256], %b: f32[256]) -> (%y) {
  %y = layer_norm(%x, %w, %b) {normalized = [256], eps = 1e-05} : f32[50, 256]
}
""", 4, True),
    _Fragment("rms_norm_gate", "norm", """graph f(%x: bf16[50, 256], %w: bf16[256], %g: bf16[50, 256]) -> (%y) {
  %n = rms_norm(%x, %w) {normalized = [256], eps = 1e-06} : bf16[50, 256]
  %y = mul(%n, %g) : bf16[50, 256]
}
""", 2),
    _Fragment("group_norm", "norm", """graph f(%x: f32[3, 12, 9, 10], %w: f32[12], %b: f32[12]) -> (%y) {
  %y = group_norm(%x, %w, %b) {groups = 4, eps = 1e-05} : f32[3, 12, 9, 10]
}
""", 2),
    _Fragment("linear_gelu", "gemm", """graph f(%x: f32[70, 96], %w: f32[80, 96], %b: f32[80]) -> (%y) {
  %h = linear(%x, %w, %b) : f32[70, 80]
  %y = gelu(%h) {approximate = none} : f32[70, 80]
}
""", 6, True),
    _Fragment("linear_tf32", "gemm", """graph f(%x: f32[70, 96], %w: f32[80, 96], %b: f32[80]) -> (%y) {
  %h = linear(%x, %w, %b) : f32[70, 80]
  %y = relu(%h) : f32[70, 80]
}
""", 3, False, "tf32"),
    _Fragment("linear_bf16", "gemm", """graph f(%x: bf16[70, 96], %w: bf16[80, 96]) -> (%y) {
  %y = linear(%x, %w, None) : bf16[70, 80]
}
""", 4, True),
    _Fragment("skinny", "gemm", """graph f(%x: f32[4, 512], %w: f32[96, 512]) -> (%y) {
  %y = linear(%x, %w, None) : f32[4, 96]
}
""", 3),
    _Fragment("batched", "gemm", """graph f(%a: f32[6, 40, 50], %b: f32[6, 50, 30]) -> (%y) {
  %y = matmul(%a, %b) : f32[6, 40, 30]
}
""", 3),
    _Fragment("conv", "conv", """graph f(%x: f32[2, 8, 14, 14], %w: f32[16, 8, 3, 3], %b: f32[16]) -> (%y) {
  %h = conv2d(%x, %w, %b) {stride = [1, 1], padding = [1, 1]} : f32[2, 16, 14, 14]
  %y = relu(%h) : f32[2, 16, 14, 14]
}
""", 3, True),
    _Fragment("conv_strided", "conv", """graph f(%x: f32[2, 6, 15, 16], %w: f32[12, 3, 3, 3]) -> (%y) {
  %y = conv2d(%x, %w, None) {stride = [2, 2], padding = [1, 0], groups = 2} : f32[2, 12, 8, 7]
}
""", 2),
    _Fragment("attention", "attention", """graph f(%q: f32[2, 3, 70, 32], %k: f32[2, 3, 90, 32], %v: f32[2, 3, 90, 32]) -> (%y) {
  %y = scaled_dot_product_attention(%q, %k, %v, None) : f32[2, 3, 70, 32]
}
""", 3, True),
    _Fragment("attention_causal", "attention", """graph f(%q: bf16[1, 4, 80, 32], %k: bf16[1, 4, 80, 32], %v: bf16[1, 4, 80, 32]) -> (%y) {
  %y = scaled_dot_product_attention(%q, %k, %v, None) {causal = True} : bf16[1, 4, 80, 32]
}
""", 2),
    _Fragment("cumsum", "scan", """graph f(%x: f32[40, 500]) -> (%y) {
  %y = cumsum(%x) {axis = 1} : f32[40, 500]
}
""", 4, True),
    _Fragment("cumprod", "scan", """graph f(%x: f32[30, 40]) -> (%y) {
  %y = cumprod(%x) {axis = 0} : f32[30, 40]
}
""", 2),
    _Fragment("max_pool", "pool", """graph f(%x: f32[3, 6, 15, 16]) -> (%y) {
  %y = max_pool2d(%x) {kernel = [3, 3], stride = [2, 2], padding = [1, 1]} : f32[3, 6, 8, 8]
}
""", 2, True),
    _Fragment("avg_pool", "pool", """graph f(%x: f32[3, 6, 16, 16]) -> (%y) {
  %y = avg_pool2d(%x) {kernel = [2, 2], stride = [2, 2]} : f32[3, 6, 8, 8]
}
""", 2, True),
    _Fragment("mse", "loss", """graph f(%x: f32[50, 100], %t: f32[50, 100]) -> (%y) {
  %y = mse_loss(%x, %t) {reduction = mean} : f32[]
}
""", 2, True),
    _Fragment("huber", "loss", """graph f(%x: f32[50, 100], %t: f32[50, 100]) -> (%y) {
  %y = huber_loss(%x, %t) {delta = 0.5, reduction = none} : f32[50, 100]
}
"""),
    _Fragment("embedding_scaled", "gather", """graph f(%w: f32[100, 48], %i: i64[6, 20]) -> (%y) {
  %e = embedding(%w, %i) : f32[6, 20, 48]
  %y = mul(%e, 6.928203230275509) : f32[6, 20, 48]
}
""", 2, True),
    _Fragment("gather", "gather", """graph f(%x: f32[40, 60], %i: i64[40, 9]) -> (%y) {
  %y = gather(%x, %i) {axis = 1} : f32[40, 9]
}
""", 2, True),
    _Fragment("swiglu", "fused", """graph f(%x: bf16[40, 64], %w: bf16[96, 64], %v: bf16[96, 64]) -> (%y) {
  %g = linear(%x, %w, None) : bf16[40, 96]
  %u = linear(%x, %v, None) : bf16[40, 96]
  %s = silu(%g) : bf16[40, 96]
  %y = mul(%s, %u) : bf16[40, 96]
}
""", 2),
)  # fmt: skip


@functools.cache
def generated() -> tuple[Kernel, ...]:
    """Return the variants of all fragments; those of one fragment that have one text are one kernel."""
    found: list[Kernel] = []
    for fragment in FRAGMENTS:
        kernel = Kernel(f"template {fragment.name}", fragment.kind, fragment.program, "", fragment.precision)
        translator = TemplateTranslator(precision=fragment.precision)
        seen: set[str] = set()
        for candidate in translator.propose(kernel.graph, 3 * fragment.n):
            if len(seen) == fragment.n or candidate.source in seen:
                continue
            seen.add(candidate.source)
            found.append(
                attrs.evolve(
                    kernel, name=f"{kernel.name}, {candidate.variant}", source=candidate.source,
                    precision=candidate.precision, pinned=candidate.pinned, mutate=fragment.mutate and len(seen) == 1,
                )
            )  # fmt: skip
    return tuple(found)
