"""The functions that scalar expressions may call, one row each: how PyTorch, JAX and Triton spell them, and what they cost.

The table is data alone; nothing here imports PyTorch, JAX or Triton.  Every function is elementwise.  NaN and the signed
zeros follow PyTorch: ``max`` and ``min`` propagate NaN, ``round`` goes to the even neighbour, ``sign(nan)`` is 0.

The operators ``+ - * / // % **``, the comparisons and ``and or not`` are not calls and have their costs in ``OPERATOR_FLOPS``.
"""

from __future__ import annotations

import attrs


@attrs.frozen
class Intrinsic:
    """One elementwise function.

    Attributes:
        name: as written in ``scalar``, ``reduce`` and ``index`` bodies.
        arity: number of arguments.
        torch: dotted name of the PyTorch function.
        jax: dotted name of the JAX function.
        triton: a dotted name in terms of ``tl`` (``triton.language``) and ``libdevice`` (``triton.language.extra.libdevice``),
            or a template in which ``{0}``, ``{1}`` stand for the arguments (each possibly several times).
        flops: work of one call in floating-point operations, the unit of the roofline: 1 for what a GPU issues at full rate,
            ``SPECIAL`` for what its special-function units do, ``SERIES`` for what is a polynomial with range reduction.
        doc: the meaning, one line.
        result: ``"same"`` for the dtype of the arguments, ``"bool"`` for a predicate.
    """

    name: str
    arity: int
    torch: str
    jax: str
    triton: str
    flops: int
    doc: str
    result: str = "same"

    def in_triton(self, *arguments: str) -> str:
        """Return the Triton text of a call; arguments of templates must be names or literals, for they may be repeated.

        Args:
            arguments: texts of the arguments, f32 (or f64) tensors for the functions that only take floats.
        """
        if "{0}" in self.triton:
            return self.triton.format(*arguments)
        return f"{self.triton}({', '.join(arguments)})"


#: A Hopper multiprocessor issues 16 special functions per clock beside 128 fused multiply-adds (CUDA programming guide,
#: arithmetic throughput), so one stands for 16 operations.
SPECIAL = 16
#: About a dozen fused multiply-adds and one special function.
SERIES = 40

_LIB = "libdevice."


def _row(
    name: str, arity: int, triton: str, flops: int, doc: str, *, torch: str = "", jax: str = "", result: str = "same"
) -> Intrinsic:
    return Intrinsic(name, arity, torch or f"torch.{name}", jax or f"jax.numpy.{name}", triton, flops, doc, result)


_ROWS = (
    _row("abs", 1, "tl.abs", 1, "Absolute value."),
    _row("exp", 1, "tl.exp", SPECIAL, "e to the power x."),
    _row("exp2", 1, "tl.exp2", SPECIAL, "2 to the power x."),
    _row("expm1", 1, _LIB + "expm1", SERIES, "exp(x) - 1, accurate near 0."),
    _row("log", 1, "tl.log", SPECIAL, "Natural logarithm."),
    _row("log2", 1, "tl.log2", SPECIAL, "Logarithm to base 2."),
    _row("log10", 1, _LIB + "log10", SPECIAL, "Logarithm to base 10."),
    _row("log1p", 1, _LIB + "log1p", SERIES, "log(1 + x), accurate near 0."),
    _row("sqrt", 1, "tl.sqrt_rn", SPECIAL, "Square root, correctly rounded."),
    _row("rsqrt", 1, "tl.rsqrt", SPECIAL, "1 / sqrt(x).", jax="jax.lax.rsqrt"),
    _row("sin", 1, "tl.sin", SPECIAL, "Sine, radians."),
    _row("cos", 1, "tl.cos", SPECIAL, "Cosine, radians."),
    _row("tan", 1, _LIB + "tan", SERIES, "Tangent, radians."),
    _row("asin", 1, _LIB + "asin", SERIES, "Arc sine.", jax="jax.numpy.arcsin"),
    _row("acos", 1, _LIB + "acos", SERIES, "Arc cosine.", jax="jax.numpy.arccos"),
    _row("atan", 1, _LIB + "atan", SERIES, "Arc tangent.", jax="jax.numpy.arctan"),
    _row("sinh", 1, _LIB + "sinh", SERIES, "Hyperbolic sine."),
    _row("cosh", 1, _LIB + "cosh", SERIES, "Hyperbolic cosine."),
    _row("tanh", 1, _LIB + "tanh", SERIES, "Hyperbolic tangent."),
    _row("asinh", 1, _LIB + "asinh", SERIES, "Inverse hyperbolic sine.", jax="jax.numpy.arcsinh"),
    _row("acosh", 1, _LIB + "acosh", SERIES, "Inverse hyperbolic cosine.", jax="jax.numpy.arccosh"),
    _row("atanh", 1, _LIB + "atanh", SERIES, "Inverse hyperbolic tangent.", jax="jax.numpy.arctanh"),
    _row("erf", 1, "tl.erf", SERIES, "Error function.", jax="jax.lax.erf"),
    _row("erfc", 1, _LIB + "erfc", SERIES, "1 - erf(x), accurate for large x.", jax="jax.lax.erfc"),
    _row("erfinv", 1, _LIB + "erfinv", SERIES, "Inverse of erf.", jax="jax.lax.erf_inv"),
    _row("erfcx", 1, _LIB + "erfcx", SERIES, "exp(x * x) * erfc(x).",
         torch="torch.special.erfcx", jax="jax.scipy.special.erfcx"),
    _row("ndtri", 1, _LIB + "normcdfinv", SERIES, "Quantile function of the standard normal law.",
         torch="torch.special.ndtri", jax="jax.scipy.special.ndtri"),
    _row("i0", 1, _LIB + "cyl_bessel_i0", SERIES, "Modified Bessel function of the first kind, order 0.",
         torch="torch.special.i0", jax="jax.scipy.special.i0"),
    _row("i1", 1, _LIB + "cyl_bessel_i1", SERIES, "Modified Bessel function of the first kind, order 1.",
         torch="torch.special.i1", jax="jax.scipy.special.i1"),
    _row("lgamma", 1, _LIB + "lgamma", SERIES, "Logarithm of the absolute value of the gamma function.", jax="jax.lax.lgamma"),
    _row("sigmoid", 1, "tl.sigmoid", SPECIAL + 3, "1 / (1 + exp(-x)).", jax="jax.nn.sigmoid"),
    _row("floor", 1, "tl.floor", 1, "Largest integer <= x."),
    _row("ceil", 1, "tl.ceil", 1, "Smallest integer >= x."),
    _row("round", 1, _LIB + "rint", 1, "Nearest integer, ties to even."),
    _row("trunc", 1, _LIB + "trunc", 1, "Integer part, towards zero."),
    _row("sign", 1, "(({0} > 0).to(tl.int32) - ({0} < 0).to(tl.int32)).to({0}.dtype)", 1, "-1, 0 or 1."),
    _row("isnan", 1, "({0} != {0})", 1, "Whether x is NaN.", result="bool"),
    _row("isinf", 1, "(tl.abs({0}) == float('inf'))", 1, "Whether x is plus or minus infinity.", result="bool"),
    _row("isfinite", 1, "(tl.abs({0}) < float('inf'))", 1, "Whether x is neither infinite nor NaN.", result="bool"),
    _row("max", 2, "tl.maximum({0}, {1}, propagate_nan=tl.PropagateNan.ALL)", 1, "The larger argument; NaN if either is.",
         torch="torch.maximum", jax="jax.numpy.maximum"),
    _row("min", 2, "tl.minimum({0}, {1}, propagate_nan=tl.PropagateNan.ALL)", 1, "The smaller argument; NaN if either is.",
         torch="torch.minimum", jax="jax.numpy.minimum"),
    _row("pow", 2, _LIB + "pow", SERIES, "x to the power y; the same as x ** y.", jax="jax.numpy.power"),
    _row("fmod", 2, _LIB + "fmod", SPECIAL, "Remainder of the truncated quotient; has the sign of x.", jax="jax.numpy.fmod"),
    _row("atan2", 2, _LIB + "atan2", SERIES, "Angle of the point (y, x), first argument y.", jax="jax.numpy.arctan2"),
    _row("hypot", 2, _LIB + "hypot", SERIES, "Square root of x * x + y * y, without overflow."),
    _row("copysign", 2, _LIB + "copysign", 1, "Magnitude of x with the sign of y."),
    _row("where", 3, "tl.where", 1, "The second argument where the first is true, else the third."),
    _row("bit_and", 2, "({0} & {1})", 1, "Bitwise and.", torch="torch.bitwise_and", jax="jax.numpy.bitwise_and"),
    _row("bit_or", 2, "({0} | {1})", 1, "Bitwise or.", torch="torch.bitwise_or", jax="jax.numpy.bitwise_or"),
    _row("bit_xor", 2, "({0} ^ {1})", 1, "Bitwise exclusive or.", torch="torch.bitwise_xor", jax="jax.numpy.bitwise_xor"),
    _row("bit_not", 1, "(~{0})", 1, "Bitwise complement.", torch="torch.bitwise_not", jax="jax.numpy.bitwise_not"),
    _row("shift_left", 2, "({0} << {1})", 1, "Bits shifted to the left.",
         torch="torch.bitwise_left_shift", jax="jax.numpy.left_shift"),
    _row("shift_right", 2, "({0} >> {1})", 1, "Bits shifted to the right, arithmetically for signed integers.",
         torch="torch.bitwise_right_shift", jax="jax.numpy.right_shift"),
)  # fmt: skip

#: Every intrinsic by name.
INTRINSICS: dict[str, Intrinsic] = {row.name: row for row in _ROWS}

#: Work of one application of each operator of scalar expressions, floating-point operations.
OPERATOR_FLOPS: dict[str, int] = {
    "+": 1, "-": 1, "*": 1, "/": 1, "//": 2, "%": 3, "**": SERIES, "neg": 1,
    "==": 1, "!=": 1, "<": 1, "<=": 1, ">": 1, ">=": 1, "and": 1, "or": 1, "not": 1,
}  # fmt: skip
