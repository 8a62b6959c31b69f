"""Kernels of one feature each.  Every one reads blocks of ``x`` and ``y`` and fills ``o``; all fit one program."""

from __future__ import annotations

import triton
import triton.language as tl
from triton.language.extra import libdevice


@triton.jit
def add(x, y, o, N: tl.constexpr):
    i = tl.arange(0, N)
    tl.store(o + i, tl.load(x + i) + tl.load(y + i))


@triton.jit
def subtract(x, y, o, N: tl.constexpr):
    i = tl.arange(0, N)
    tl.store(o + i, tl.load(x + i) - tl.load(y + i))


@triton.jit
def multiply(x, y, o, N: tl.constexpr):
    i = tl.arange(0, N)
    tl.store(o + i, tl.load(x + i) * tl.load(y + i))


@triton.jit
def divide(x, y, o, N: tl.constexpr):
    i = tl.arange(0, N)
    tl.store(o + i, tl.load(x + i) / tl.load(y + i))


@triton.jit
def divide_rn(x, y, o, N: tl.constexpr):
    i = tl.arange(0, N)
    tl.store(o + i, tl.div_rn(tl.load(x + i), tl.load(y + i)))


@triton.jit
def floor_divide(x, y, o, N: tl.constexpr):
    i = tl.arange(0, N)
    tl.store(o + i, tl.load(x + i) // tl.load(y + i))


@triton.jit
def remainder(x, y, o, N: tl.constexpr):
    i = tl.arange(0, N)
    tl.store(o + i, tl.load(x + i) % tl.load(y + i))


@triton.jit
def shift_right(x, y, o, N: tl.constexpr):
    i = tl.arange(0, N)
    tl.store(o + i, tl.load(x + i) >> (tl.load(y + i) & 7))


@triton.jit
def shift_left(x, y, o, N: tl.constexpr):
    i = tl.arange(0, N)
    tl.store(o + i, tl.load(x + i) << (tl.load(y + i) & 7))


@triton.jit
def bits(x, y, o, N: tl.constexpr):
    i = tl.arange(0, N)
    a, b = tl.load(x + i), tl.load(y + i)
    tl.store(o + i, (a & b) ^ (a | ~b))


@triton.jit
def cast(x, y, o, N: tl.constexpr):
    i = tl.arange(0, N)
    tl.store(o + i, tl.load(x + i).to(o.dtype.element_ty))


@triton.jit
def cast_in_range(x, y, o, N: tl.constexpr):
    i = tl.arange(0, N)
    tl.store(o + i, tl.minimum(tl.abs(tl.load(x + i)), 120.0).to(o.dtype.element_ty))


@triton.jit
def cast_by_store(x, y, o, N: tl.constexpr):
    i = tl.arange(0, N)
    tl.store(o + i, tl.load(x + i))


@triton.jit
def cast_toward_zero(x, y, o, N: tl.constexpr):
    i = tl.arange(0, N)
    tl.store(o + i, tl.load(x + i).to(tl.bfloat16, fp_downcast_rounding="rtz"))


@triton.jit
def same_bits(x, y, o, N: tl.constexpr):
    i = tl.arange(0, N)
    tl.store(o + i, tl.load(x + i).to(tl.int32, bitcast=True))


@triton.jit
def chain(x, y, o, N: tl.constexpr):
    i = tl.arange(0, N)
    a, b = tl.load(x + i), tl.load(y + i)
    tl.store(o + i, (a - b) * a - (a + b) * 0.3 + 2)


@triton.jit
def scalars(x, y, o, N: tl.constexpr):
    i = tl.arange(0, N)
    a = tl.load(x + i)
    tl.store(o + i, 1.0 - a * 2 + (3 - a) * 0.1)


@triton.jit
def larger(x, y, o, N: tl.constexpr):
    i = tl.arange(0, N)
    tl.store(o + i, tl.maximum(tl.load(x + i), tl.load(y + i)))


@triton.jit
def larger_or_nan(x, y, o, N: tl.constexpr):
    i = tl.arange(0, N)
    tl.store(o + i, tl.maximum(tl.load(x + i), tl.load(y + i), propagate_nan=tl.PropagateNan.ALL))


@triton.jit
def smaller(x, y, o, N: tl.constexpr):
    i = tl.arange(0, N)
    tl.store(o + i, tl.minimum(tl.load(x + i), tl.load(y + i)))


@triton.jit
def clamped(x, y, o, N: tl.constexpr):
    i = tl.arange(0, N)
    tl.store(o + i, tl.clamp(tl.load(x + i), -0.5, 0.75))


@triton.jit
def compared(x, y, o, N: tl.constexpr):
    i = tl.arange(0, N)
    a, b = tl.load(x + i), tl.load(y + i)
    tl.store(
        o + i, (a < b).to(tl.int32) + 2 * (a == b).to(tl.int32) + 4 * (a != b).to(tl.int32) + 8 * (a >= b).to(tl.int32)
    )


@triton.jit
def chosen(x, y, o, N: tl.constexpr):
    i = tl.arange(0, N)
    a, b = tl.load(x + i), tl.load(y + i)
    tl.store(o + i, tl.where(a > b, a, -b))


@triton.jit
def rounded_down(x, y, o, N: tl.constexpr):
    i = tl.arange(0, N)
    tl.store(o + i, tl.floor(tl.load(x + i)) - tl.ceil(tl.load(y + i)))


@triton.jit
def magnitude(x, y, o, N: tl.constexpr):
    i = tl.arange(0, N)
    tl.store(o + i, tl.abs(tl.load(x + i)))


@triton.jit
def exponential(x, y, o, N: tl.constexpr):
    i = tl.arange(0, N)
    tl.store(o + i, tl.exp(tl.load(x + i)))


@triton.jit
def exponential_two(x, y, o, N: tl.constexpr):
    i = tl.arange(0, N)
    tl.store(o + i, tl.exp2(tl.load(x + i)))


@triton.jit
def logarithm(x, y, o, N: tl.constexpr):
    i = tl.arange(0, N)
    tl.store(o + i, tl.log(tl.abs(tl.load(x + i))))


@triton.jit
def logarithm_two(x, y, o, N: tl.constexpr):
    i = tl.arange(0, N)
    tl.store(o + i, tl.log2(tl.abs(tl.load(x + i))))


@triton.jit
def sine(x, y, o, N: tl.constexpr):
    i = tl.arange(0, N)
    tl.store(o + i, tl.sin(tl.load(x + i)) + tl.cos(tl.load(y + i)))


@triton.jit
def root(x, y, o, N: tl.constexpr):
    i = tl.arange(0, N)
    tl.store(o + i, tl.sqrt(tl.abs(tl.load(x + i))))


@triton.jit
def root_rn(x, y, o, N: tl.constexpr):
    i = tl.arange(0, N)
    tl.store(o + i, tl.sqrt_rn(tl.abs(tl.load(x + i))))


@triton.jit
def reciprocal_root(x, y, o, N: tl.constexpr):
    i = tl.arange(0, N)
    tl.store(o + i, tl.rsqrt(tl.abs(tl.load(x + i))))


@triton.jit
def error_function(x, y, o, N: tl.constexpr):
    i = tl.arange(0, N)
    tl.store(o + i, tl.erf(tl.load(x + i)))


@triton.jit
def logistic(x, y, o, N: tl.constexpr):
    i = tl.arange(0, N)
    tl.store(o + i, tl.sigmoid(tl.load(x + i)))


@triton.jit
def multiply_add(x, y, o, N: tl.constexpr):
    i = tl.arange(0, N)
    a, b = tl.load(x + i), tl.load(y + i)
    tl.store(o + i, tl.fma(a, b, -a * b))


@triton.jit
def high_product(x, y, o, N: tl.constexpr):
    i = tl.arange(0, N)
    tl.store(o + i, tl.umulhi(tl.load(x + i), tl.load(y + i)))


@triton.jit
def lib_tanh(x, y, o, N: tl.constexpr):
    i = tl.arange(0, N)
    tl.store(o + i, libdevice.tanh(tl.load(x + i)))


@triton.jit
def lib_rounding(x, y, o, N: tl.constexpr):
    i = tl.arange(0, N)
    a = tl.load(x + i) * 4
    tl.store(o + i, libdevice.rint(a) + 100 * libdevice.round(a) + 10000 * libdevice.trunc(a))


@triton.jit
def lib_pow(x, y, o, N: tl.constexpr):
    i = tl.arange(0, N)
    tl.store(o + i, libdevice.pow(tl.abs(tl.load(x + i)), tl.load(y + i)))


@triton.jit
def lib_log1p(x, y, o, N: tl.constexpr):
    i = tl.arange(0, N)
    tl.store(o + i, libdevice.log1p(tl.abs(tl.load(x + i))) + libdevice.expm1(tl.load(y + i)))


@triton.jit
def lib_fmod(x, y, o, N: tl.constexpr):
    i = tl.arange(0, N)
    tl.store(o + i, libdevice.fmod(tl.load(x + i), tl.load(y + i)))


@triton.jit
def total(x, y, o, N: tl.constexpr):
    i = tl.arange(0, N)
    tl.store(o, tl.sum(tl.load(x + i), 0))


@triton.jit
def total_rows(x, y, o, N: tl.constexpr):
    i = tl.arange(0, N // 16)[:, None] * 16 + tl.arange(0, 16)[None, :]
    tl.store(o + tl.arange(0, N // 16), tl.sum(tl.load(x + i), 1))


@triton.jit
def largest(x, y, o, N: tl.constexpr):
    i = tl.arange(0, N)
    tl.store(o, tl.max(tl.load(x + i), 0))
    tl.store(o + 1, tl.min(tl.load(x + i), 0))


@triton.jit
def place_of_largest(x, y, o, N: tl.constexpr):
    i = tl.arange(0, N)
    a = tl.load(x + i).to(tl.int32)
    tl.store(o, tl.argmax(a, 0))
    tl.store(o + 1, tl.argmin(a, 0))


@triton.jit
def exclusive_or(x, y, o, N: tl.constexpr):
    i = tl.arange(0, N)
    tl.store(o, tl.xor_sum(tl.load(x + i), 0))


@triton.jit
def _merge(mean_a, m2_a, n_a, mean_b, m2_b, n_b):
    delta = mean_b - mean_a
    n = n_a + n_b
    share = tl.where(n == 0.0, 0.0, n_b / n)
    return mean_a + delta * share, m2_a + m2_b + delta * delta * n_a * share, n


@triton.jit
def welford(x, y, o, N: tl.constexpr):
    i = tl.arange(0, N)
    a = tl.load(x + i)
    mean, m2, n = tl.reduce((a, tl.zeros_like(a), tl.full((N,), 1.0, tl.float32)), 0, _merge)
    tl.store(o, mean)
    tl.store(o + 1, m2 / n)


@triton.jit
def running_sum(x, y, o, N: tl.constexpr):
    i = tl.arange(0, N)
    tl.store(o + i, tl.cumsum(tl.load(x + i), 0))


@triton.jit
def running_sum_backwards(x, y, o, N: tl.constexpr):
    i = tl.arange(0, N)
    tl.store(o + i, tl.cumsum(tl.load(x + i), 0, reverse=True))


@triton.jit
def _step(a, b, c, d):
    return a * c, b * c + d


@triton.jit
def recurrence(x, y, o, N: tl.constexpr):
    i = tl.arange(0, N)
    _, h = tl.associative_scan((tl.load(x + i) * 0.25, tl.load(y + i)), 0, _step)
    tl.store(o + i, h)


@triton.jit
def sorted_block(x, y, o, N: tl.constexpr):
    i = tl.arange(0, N)
    tl.store(o + i, tl.sort(tl.load(x + i)))


@triton.jit
def flipped(x, y, o, N: tl.constexpr):
    i = tl.arange(0, N)
    tl.store(o + i, tl.flip(tl.load(x + i), 0))


@triton.jit
def counted(x, y, o, N: tl.constexpr):
    i = tl.arange(0, N)
    tl.store(o + tl.arange(0, 16), tl.histogram(tl.load(x + i) & 15, 16))


@triton.jit
def gathered(x, y, o, N: tl.constexpr):
    i = tl.arange(0, N)
    tl.store(o + i, tl.gather(tl.load(x + i), (i * 7 + 3) % N, 0))


@triton.jit
def joined(x, y, o, N: tl.constexpr):
    i = tl.arange(0, N)
    a, b = tl.split(tl.reshape(tl.interleave(tl.load(x + i), tl.load(y + i)), (N, 2)))
    c = tl.join(b, a - b)
    j = i[:, None] * 2 + tl.arange(0, 2)[None, :]
    tl.store(o + j, c)


@triton.jit
def transposed(x, y, o, N: tl.constexpr):
    i = tl.arange(0, N // 16)[:, None] * 16 + tl.arange(0, 16)[None, :]
    a = tl.reshape(tl.trans(tl.load(x + i)), (N,))
    tl.store(o + tl.arange(0, N), a)


@triton.jit
def masked(x, y, o, N: tl.constexpr):
    i = tl.arange(0, N)
    tl.store(o + i, tl.load(x + i, mask=i % 3 != 0, other=7.5), mask=i % 5 != 0)


@triton.jit
def descriptor(x, y, o, N: tl.constexpr):
    source = tl.make_tensor_descriptor(x, (N // 16 - 3, 16), (16, 1), (8, 16))
    target = tl.make_tensor_descriptor(o, (N // 16, 16), (16, 1), (8, 16))
    for k in tl.static_range(4):
        target.store((k * 8, 0), source.load((k * 8 - 2, 0)))


@triton.jit
def atomic_sum(x, y, o, N: tl.constexpr):
    i = tl.arange(0, N)
    tl.atomic_add(o + i % 8, tl.load(x + i))


@triton.jit
def atomic_extremes(x, y, o, N: tl.constexpr):
    i = tl.arange(0, N)
    tl.atomic_max(o + i % 8, tl.load(x + i))
    tl.atomic_min(o + 8 + i % 8, tl.load(x + i))


@triton.jit
def exchanged(x, y, o, N: tl.constexpr):
    i = tl.arange(0, N)
    old = tl.atomic_xchg(o + i, tl.load(x + i))
    new = tl.atomic_cas(o + i, tl.load(x + i), tl.load(y + i))
    tl.store(o + N + i, old + 3 * new)


@triton.jit
def random_bits(x, y, o, N: tl.constexpr):
    i = tl.arange(0, N)
    a, b, c, d = tl.randint4x(1234567, i)
    tl.store(o + i, a ^ (b >> 1) ^ (c >> 2) ^ (d >> 3))


@triton.jit
def random_uniform(x, y, o, N: tl.constexpr):
    i = tl.arange(0, N)
    tl.store(o + i, tl.rand(97, i))


@triton.jit
def random_normal(x, y, o, N: tl.constexpr):
    i = tl.arange(0, N)
    tl.store(o + i, tl.randn(97, i))


@triton.jit
def product(x, y, o, N: tl.constexpr, PRECISION: tl.constexpr):
    r, c = tl.arange(0, 16), tl.arange(0, 32)
    a = tl.load(x + r[:, None] * 32 + c[None, :])
    b = tl.load(y + c[:, None] * 16 + r[None, :])
    tl.store(o + r[:, None] * 16 + r[None, :], tl.dot(a, b, input_precision=PRECISION))


@triton.jit
def product_f16(x, y, o, N: tl.constexpr):
    r, c = tl.arange(0, 16), tl.arange(0, 32)
    a = tl.load(x + r[:, None] * 32 + c[None, :])
    b = tl.load(y + c[:, None] * 16 + r[None, :])
    tl.store(o + r[:, None] * 16 + r[None, :], tl.dot(a, b, out_dtype=tl.float16))


@triton.jit
def product_of_bytes(x, y, o, N: tl.constexpr):
    r, c = tl.arange(0, 16), tl.arange(0, 32)
    a = tl.load(x + r[:, None] * 32 + c[None, :])
    b = tl.load(y + c[:, None] * 16 + r[None, :])
    tl.store(o + r[:, None] * 16 + r[None, :], tl.dot(a, b, out_dtype=tl.int32))


@triton.jit
def loop(x, y, o, N: tl.constexpr):
    i = tl.arange(0, N)
    a, n = tl.load(x + i), 0
    for k in tl.static_range(3):
        a = a * 0.5 + k
    while n < 5:
        a += n
        n += 2
    tl.store(o + i, a)
