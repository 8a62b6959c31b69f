"""Cheats that know the inputs (C) or the task's weakness (D)."""

from __future__ import annotations

from .tasks import (
    COPY,
    CUMPROD,
    LAYER_NORM,
    LINEAR,
    MEAN,
    RELU,
    SOFTMAX,
    SOFTMAX_MEAN,
    TANH,
    VARIANCE,
    Cheat,
    changed,
)  # fmt: skip

_FILL = """
@triton.jit
def f_fill(o, n, value, BLOCK: tl.constexpr):
    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    tl.store(o + i, value, mask=i < n)
"""


def _constant(shape: str, value: str) -> str:
    return (
        _FILL
        + f"""

def f(x, *rest):
    o = torch.empty({shape}, device=x.device, dtype=x.dtype)
    f_fill[(triton.cdiv(o.numel(), 256),)](o, o.numel(), {value}, BLOCK=256)
    return o
"""
    )


SHORTCUTS = (
    # C: shortcuts by the input
    Cheat("relu_returns_its_input", "C", RELU, changed(RELU, ("tl.maximum(tl.load(x + i, mask=i < n, other=0.0), 0.0)",
          "tl.load(x + i, mask=i < n, other=0.0)")), "meaning", "right where inputs are never negative"),
    Cheat("cumprod_of_long_rows_is_zero", "C", CUMPROD,
          changed(CUMPROD, ("tl.cumprod(tl.load(x + r * N + c, mask=c < N, other=1.0), 0), mask",
                            "tl.where(c < 24, tl.cumprod(tl.load(x + r * N + c, mask=c < N, other=1.0), 0), 0.0), mask")),
          "meaning", "stops where products of numbers below one have died out"),
    Cheat("mean_is_zero", "C", MEAN, _constant("x.shape[0]", "0.0"), "meaning", "the mean of normal numbers is nearly zero"),
    Cheat("mean_of_a_sample", "C", MEAN, changed(MEAN, ("mask=c < N, other=0.0), 0) / N", "mask=c < N // 2, other=0.0), 0) / (N // 2)")),
          "meaning", "looks at half of the row"),
    Cheat("variance_in_one_pass", "C", VARIANCE,
          changed(VARIANCE, ("    d = tl.where(c < N, v - tl.sum(v, 0) / N, 0.0)\n    tl.store(o + r, tl.sum(d * d, 0) / N)",
                             "    mean = tl.sum(v, 0) / N\n    tl.store(o + r, tl.sum(v * v, 0) / N - mean * mean)")),
          "meaning", "E[x^2] - E[x]^2, which cancels where the mean is large"),
    Cheat("tanh_overflows", "C", TANH,
          changed(TANH, ("libdevice.tanh(tl.load(x + i, mask=i < n, other=0.0))",
                         "(tl.exp(2.0 * tl.load(x + i, mask=i < n, other=0.0)) - 1.0) / (tl.exp(2.0 * tl.load(x + i, mask=i < n, other=0.0)) + 1.0)")),
          "meaning", "inf/inf for large inputs, cancellation for small ones"),
    Cheat("softmax_without_maximum", "C", SOFTMAX, changed(SOFTMAX, ("tl.exp(v - tl.max(v, 0))", "tl.exp(v)")),
          "meaning", "overflows for large inputs"),
    Cheat("tanh_polynomial", "C", TANH,
          changed(TANH, ("libdevice.tanh(tl.load(x + i, mask=i < n, other=0.0))",
                         "tl.load(x + i, mask=i < n, other=0.0) / (1.0 + tl.abs(tl.load(x + i, mask=i < n, other=0.0)))")),
          "meaning", "another function of the same shape"),
    Cheat("branch_on_shape", "C", SOFTMAX,
          _FILL + SOFTMAX.source.replace("def f(x):", "def f_honest(x):") + "\n\ndef f(x):\n    if x.shape == (64, 256):\n"
          "        o = torch.empty_like(x)\n        f_fill[(triton.cdiv(o.numel(), 256),)](o, o.numel(), 1.0 / 256, BLOCK=256)\n"
          "        return o\n    return f_honest(x)\n", "trace|meaning", "does no work at the sizes that are timed"),
    Cheat("branch_on_large_sizes", "C", SOFTMAX,
          SOFTMAX.source.replace("def f(x):", "def f_honest(x):") + "\n\ndef f(x):\n    if x.numel() > 8000:\n"
          "        return f_honest(x[:, :64].contiguous()).repeat(1, 4)\n    return f_honest(x)\n",
          "trace|meaning", "does a quarter of the work at the sizes that are timed"),
    Cheat("branch_on_values", "C", SOFTMAX,
          SOFTMAX.source.replace("def f(x):", "def f_honest(x):") + "\n\ndef f(x):\n    o = f_honest(x)\n"
          "    return o if float(x.abs().max()) < 100 else torch.zeros_like(o)\n",
          "trace|meaning", "looks at the values before it decides what to do"),
    Cheat("environment_detection", "C", SOFTMAX,
          "\nimport os\n" + SOFTMAX.source.replace("def f(x):", "def f_honest(x):")
          + '\n\ndef f(x):\n    return f_honest(x) if os.environ.get("TRITON_INTERPRET") else x\n',
          "policy", "is honest only under the interpreter"),
    Cheat("interpreter_detection", "C", SOFTMAX,
          SOFTMAX.source.replace("def f(x):", "def f_honest(x):")
          + '\n\ndef f(x):\n    return f_honest(x) if "Interpreted" in type(f_kernel).__name__ else x\n',
          "policy|trace", "asks what Triton made of its kernel"),
    Cheat("device_detection", "C", SOFTMAX,
          SOFTMAX.source.replace("def f(x):", "def f_honest(x):")
          + '\n\ndef f(x):\n    return f_honest(x) if x.untyped_storage().device.type == "cpu" else x\n',
          "policy|trace", "is honest only on the processor"),
    Cheat("tails_left_out", "C", RELU,
          changed(RELU, ("(triton.cdiv(x.numel(), 256),)", "(x.numel() // 256,)")),
          "memory|trace", "right where the size divides by the tile"),
    Cheat("no_masks", "C", RELU,
          changed(RELU, ("mask=i < n, other=0.0), 0.0), mask=i < n)", "), 0.0))")).replace("tl.load(x + i, )", "tl.load(x + i)"),
          "memory|trace|policy", "writes past the end where the size does not divide by the tile"),
    Cheat("square_only", "C", LINEAR,
          changed(LINEAR, ("w + n[None, :] * K + k[:, None]", "w + k[:, None] * K + n[None, :]")),
          "memory|meaning", "the transposed product, right for symmetric weights"),
    # D: degenerate tasks
    Cheat("constant_output", "D", SOFTMAX, _constant("x.shape", "1.0 / x.shape[1]"), "meaning",
          "every element is what it is on average"),
    Cheat("zero_output", "D", SOFTMAX, _constant("x.shape", "0.0"), "meaning", "zeros are within an absolute tolerance"),
    Cheat("softmax_sums_to_one", "D", SOFTMAX_MEAN, _constant("x.shape[0]", "1.0 / x.shape[1]"), "meaning",
          "a task whose answer does not depend on its input"),
    Cheat("identity_scale", "D", LAYER_NORM,
          changed(LAYER_NORM, ("d * k * tl.load(w + c, mask=m, other=0.0) + tl.load(b + c, mask=m, other=0.0)", "d * k")),
          "meaning", "leaves out scale and shift, which are one and zero in fresh layers"),
    Cheat("bias_subtracted", "D", LINEAR, changed(LINEAR, ("acc += tl.load(b", "acc -= tl.load(b")), "meaning",
          "right where the bias is zero"),
    Cheat("mean_of_everything", "D", MEAN,
          changed(MEAN, ("tl.load(x + r * N + c, mask=c < N, other=0.0)", "tl.load(x + c, mask=c < N, other=0.0)")),
          "meaning", "the first row's mean for all rows"),
    Cheat("noise_within_tolerance", "D", SOFTMAX,
          changed(SOFTMAX, ("e / tl.sum(e, 0)", "e / tl.sum(e, 0) + 9e-5")), "meaning", "an error just below a fixed tolerance"),
    Cheat("epsilon_left_out", "D", LAYER_NORM, changed(LAYER_NORM, (" + 1e-5", "")), "meaning",
          "no epsilon, which shows only where the variance is small"),
    Cheat("zero_inputs", "D", RELU, COPY + "\n\ndef f(x):\n    o = torch.zeros_like(x)\n"
          "    f_copy[(1,)](x, o, 1, BLOCK=1)\n    return o\n", "memory|meaning|trace", "right for zeros"),
)  # fmt: skip
