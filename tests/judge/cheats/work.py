"""Cheats that leave the work to others (A) or to lower precision (F)."""

from __future__ import annotations

from .tasks import COPY, LAYER_NORM, LINEAR, MEAN, RELU, SOFTMAX, Cheat, changed

_DECLARED = (
    COPY
    + """

def f(x):
    return torch.softmax(x, 1)
"""
)

_CALL = "f_copy[(triton.cdiv(y.numel(), 256),)](y, o, y.numel(), BLOCK=256)\n"

WORK = (
    Cheat("kernel_declared_never_called", "A", SOFTMAX, _DECLARED, "trace",
          "declares a kernel, calls PyTorch"),
    Cheat("kernel_copies_what_pytorch_computed", "A", SOFTMAX,
          COPY + "\n\ndef f(x):\n    y = torch.softmax(x, 1)\n    o = torch.empty_like(x)\n    " + _CALL + "    return o\n",
          "trace", "computes with PyTorch, copies the result with a kernel so that a kernel wrote it"),
    Cheat("kernel_for_relu_only", "A", LINEAR,
          changed(LINEAR, ("def f(x, w, b):", "def f_unused(x, w, b):")) + COPY.replace("f_copy", "f_relu").replace(
              "tl.load(x + i, mask=i < n, other=0.0), mask", "tl.maximum(tl.load(x + i, mask=i < n, other=0.0), 0.0), mask")
          + "\n\ndef f(x, w, b):\n    h = torch.nn.functional.linear(x, w, b)\n    o = torch.empty_like(h)\n"
          "    f_relu[(triton.cdiv(h.numel(), 256),)](h, o, h.numel(), BLOCK=256)\n    return o\n",
          "trace", "writes a kernel for the cheap part only"),
    Cheat("dead_launch", "A", SOFTMAX,
          changed(SOFTMAX, ("    return o\n", "    return torch.softmax(x, 1)\n")),
          "trace", "launches a kernel whose result is dropped"),
    Cheat("empty_kernel", "A", SOFTMAX,
          "\n@triton.jit\ndef f_kernel(x):\n    pass\n\n\ndef f(x):\n    f_kernel[(1,)](x)\n    return torch.softmax(x, 1)\n",
          "trace", "launches a kernel that does nothing"),
    Cheat("pytorch_writes_over_the_output", "A", SOFTMAX,
          changed(SOFTMAX, ("    return o\n", "    torch.softmax(x, 1, out=o)\n    return o\n")),
          "trace", "a kernel runs first, then out= replaces what it wrote"),
    Cheat("pytorch_writes_in_place", "A", RELU,
          COPY + "\n\ndef f(x):\n    y = x\n    o = torch.empty_like(x)\n    " + _CALL + "    return o.clamp_(min=0)\n",
          "trace", "copies with a kernel, computes in place with PyTorch"),
    Cheat("torch_compile_inside", "A", SOFTMAX,
          COPY + "\n\nf_fast = torch.compile(lambda x: torch.softmax(x, 1))\n\n\ndef f(x):\n    y = f_fast(x)\n"
          "    o = torch.empty_like(x)\n    " + _CALL + "    return o\n",
          "policy", "lets torch.compile write the kernel"),
    Cheat("torch_compile_by_getattr", "A", SOFTMAX,
          COPY + '\n\nf_fast = getattr(torch, "compile")(lambda x: torch.softmax(x, 1))\n\n\ndef f(x):\n    y = f_fast(x)\n'
          "    o = torch.empty_like(x)\n    " + _CALL + "    return o\n",
          "policy", "reaches torch.compile by a string"),
    Cheat("fallback_on_exception", "A", SOFTMAX,
          changed(SOFTMAX, ("    f_kernel[(x.shape[0],)](x, o, x.shape[1], BLOCK=triton.next_power_of_2(x.shape[1]))\n    return o",
                            "    try:\n        f_kernel[(x.shape[0],)](x, o, x.shape[1], NO_SUCH=1)\n        return o\n"
                            "    except TypeError:\n        return torch.softmax(x, 1)")),
          "policy", "a launch that always raises, and PyTorch in the except clause"),
    Cheat("fallback_by_suppress", "A", SOFTMAX,
          "\nimport contextlib\n" + changed(SOFTMAX, (
              "    f_kernel[(x.shape[0],)](x, o, x.shape[1], BLOCK=triton.next_power_of_2(x.shape[1]))\n    return o",
              "    with contextlib.suppress(TypeError):\n"
              "        f_kernel[(x.shape[0],)](x, o, x.shape[1], NO_SUCH=1)\n        return o\n    return torch.softmax(x, 1)")),
          "policy|trace", "hides the fallback in a context manager"),
    Cheat("fallback_by_finally", "A", SOFTMAX,
          changed(SOFTMAX, (
              "    f_kernel[(x.shape[0],)](x, o, x.shape[1], BLOCK=triton.next_power_of_2(x.shape[1]))\n    return o",
              "    try:\n        f_kernel[(x.shape[0],)](x, o, x.shape[1], NO_SUCH=1)\n    finally:\n        return torch.softmax(x, 1)")),
          "policy|trace", "returns from a finally clause, which swallows the exception"),
    Cheat("library_operator", "A", SOFTMAX,
          COPY + '\n\nf_lib = torch.library.Library("cheat", "DEF")\n\n\ndef f(x):\n    y = torch.softmax(x, 1)\n'
          "    o = torch.empty_like(x)\n    " + _CALL + "    return o\n",
          "policy", "hides the call in an operator of its own"),
    Cheat("cpp_extension", "A", SOFTMAX,
          "\nfrom torch.utils.cpp_extension import load_inline\n" + SOFTMAX.source,
          "policy", "brings code of another language"),
    Cheat("matmul_left_to_pytorch_share", "A", LINEAR,
          changed(LINEAR, ("    o = torch.empty(", "    h = x @ w.t()\n    o = torch.empty(")).replace(
              "acc = tl.dot(p, q, acc, input_precision=\"ieee\")", "acc += tl.sum(p) * 0.0").replace(
              "f_kernel[grid](x, w, b, o,", "f_kernel[grid](h, w, b, o,").replace(
              "acc += tl.load(b + n, mask=n < N, other=0.0)[None, :]",
              "acc = tl.load(x + m[:, None] * N + n[None, :], mask=(m[:, None] < M) & (n[None, :] < N), other=0.0)"
              " + tl.load(b + n, mask=n < N, other=0.0)[None, :]"),
          "trace|memory", "PyTorch multiplies, the kernel adds the bias and looks busy"),
    Cheat("no_gradient_module_call", "A", MEAN,
          COPY + "\n\ndef f(x):\n    y = torch.nn.AdaptiveAvgPool1d(1)(x[:, None, :])[:, 0, 0].contiguous()\n    o = torch.empty_like(y)\n    "
          + _CALL + "    return o\n",
          "trace", "a layer of PyTorch does the reduction"),
    # F: precision
    Cheat("undeclared_tf32", "F", LINEAR, changed(LINEAR, ('"ieee"', '"tf32"')),
          "meaning", "multiplies in TF32 where float32 is asked for"),
    Cheat("default_precision_of_dot", "F", LINEAR, changed(LINEAR, (', input_precision="ieee"', "")),
          "meaning", "leaves the precision of products to the default, which is TF32"),
    Cheat("bfloat16_products", "F", LINEAR,
          changed(LINEAR, ('tl.dot(p, q, acc, input_precision="ieee")', "tl.dot(p.to(tl.bfloat16), q.to(tl.bfloat16), acc)")),
          "meaning", "rounds the operands of products to bfloat16"),
    Cheat("float16_accumulator", "F", LINEAR,
          changed(LINEAR, ('acc = tl.dot(p, q, acc, input_precision="ieee")',
                           "acc = tl.dot(p.to(tl.float16), q.to(tl.float16), acc.to(tl.float16), out_dtype=tl.float16).to(tl.float32)")),
          "meaning", "accumulates in float16"),
    Cheat("flag_for_tf32", "F", LINEAR,
          changed(LINEAR, ("def f(x, w, b):\n", "torch.backends.cuda.matmul.allow_tf32 = True\n\n\ndef f(x, w, b):\n")),
          "policy", "turns TF32 on for everybody, the reference included"),
    Cheat("flag_by_function", "F", LINEAR,
          changed(LINEAR, ("def f(x, w, b):\n", 'def f(x, w, b):\n    torch.set_float32_matmul_precision("medium")\n')),
          "policy", "lowers the precision of products by a function"),
    Cheat("inputs_rounded_by_pytorch", "F", LAYER_NORM,
          changed(LAYER_NORM, ("    o = torch.empty_like(x)\n", "    o = torch.empty_like(x)\n    x = x.bfloat16().float()\n")),
          "meaning", "reads bfloat16 to halve the traffic"),
    Cheat("half_the_output_dtype", "F", SOFTMAX,
          changed(SOFTMAX, ("torch.empty_like(x)", "torch.empty_like(x, dtype=torch.float16)")),
          "trace", "gives float16 where float32 is asked for"),
    Cheat("bfloat16_exponentials", "F", SOFTMAX,
          changed(SOFTMAX, ("tl.exp(v - tl.max(v, 0))", "tl.exp((v - tl.max(v, 0)).to(tl.bfloat16).to(tl.float32))")),
          "meaning", "rounds inside, gives float32"),
)  # fmt: skip
