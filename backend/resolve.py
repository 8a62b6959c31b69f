"""From the dotted names in ``torch`` and ``jax`` clauses to functions, through an allow-list.

Operator files are data that a user may take from elsewhere; the allow-list is what keeps reading one from running anything
but pure tensor functions.
"""

from __future__ import annotations

import importlib
import operator
import re
from collections.abc import Callable, Mapping
from typing import Any

from ..ir import InternalError, UsageError, decide, evaluate
from ..ir.evaluate import FUNCTIONS
from ..ir.expr import Bin, Call, Cond, Expr, Load, Lst, Num, Pack, Sym, Unary

#: Every public function of these modules may be called, except ``_REFUSED``.
MODULES = (
    "torch.nn.functional",
    "torch.special",
    "torch.linalg",
    "torch.fft",
    "jax.numpy",
    "jax.numpy.linalg",
    "jax.nn",
    "jax.lax",
    "jax.scipy.special",
)

#: Functions of :mod:`drt.backend.jax_functions`, for what JAX has under no name; clauses call them ``drt.pad``.
JAX_FUNCTIONS = frozenset(
    {"pad", "max_pool", "sum_pool", "avg_pool", "conv_transpose", "scatter", "search", "take_along"}
)


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


#: Functions of the module ``torch`` itself that may be called; pure functions of their arguments, apart from random ones.
TORCH_FUNCTIONS = _words(
    """
    abs acos acosh add addbmm addcdiv addcmul addmm addmv all amax amin aminmax angle any arange arccos arcsin arctan
    argmax argmin argsort as_strided asin asinh atan atan2 atanh avg_pool1d baddbmm batch_norm bernoulli bilinear
    bincount bitwise_and bitwise_left_shift bitwise_not bitwise_or bitwise_right_shift bitwise_xor bmm broadcast_tensors
    broadcast_to bucketize cat cdist ceil celu channel_shuffle cholesky_inverse cholesky_solve chunk clamp clamp_max
    clamp_min clone concat constant_pad_nd conv1d conv2d conv3d conv_transpose1d conv_transpose2d conv_transpose3d
    copysign cos cosh cosine_similarity count_nonzero cross cummax cummin cumprod cumsum deg2rad diag diag_embed
    diagonal diagonal_scatter diff div dot dropout einsum embedding empty_like eq erf erfc erfinv exp exp2 expand_copy
    embedding_renorm_ expm1 eye fake_quantize_per_channel_affine fake_quantize_per_tensor_affine fix flatten flip
    fliplr flipud floor floor_divide fmax fmin fmod frac frexp full full_like gather gcd ge group_norm gru gru_cell gt
    hardshrink heaviside
    histc hstack hypot index_add index_copy index_fill index_put index_reduce index_select inner instance_norm isclose
    isfinite isin isinf isnan kron kthvalue layer_norm lcm ldexp le lerp lgamma linspace log log10 log1p log2
    log_softmax logaddexp logaddexp2 logcumsumexp logdet logical_and logical_not logical_or logical_xor logit logspace
    logsumexp lstm lstm_cell lt masked_fill masked_scatter matmul max maximum mean median meshgrid min minimum mm mode
    moveaxis movedim msort mul multinomial mv mvlgamma nan_to_num nanmean nanmedian nansum narrow native_batch_norm
    native_channel_shuffle native_dropout native_group_norm native_layer_norm ne neg nextafter norm normal numel ones
    ones_like outer permute pixel_shuffle pixel_unshuffle poisson polar polygamma positive pow prelu prod quantile
    rad2deg rand rand_like randint randint_like randn randn_like randperm ravel real reciprocal relu remainder renorm
    repeat_interleave reshape rms_norm rnn_relu rnn_relu_cell rnn_tanh rnn_tanh_cell roll rot90 round rrelu rsqrt rsub
    scalar_tensor scatter scatter_add scatter_reduce searchsorted select select_scatter selu sgn sigmoid sign signbit
    sin sinc sinh slice_copy slice_scatter softmax sort split split_with_sizes sqrt square squeeze stack std std_mean
    sub sum svd swapaxes t take take_along_dim tan tanh tensordot threshold tile topk transpose trapezoid tril
    tril_indices triu triu_indices true_divide trunc unbind unflatten unsqueeze vander var var_mean vdot view_as_complex
    view_as_real vstack where xlogy zeros zeros_like
    """
)

#: Methods of tensors that have no function of the same meaning.
TENSOR_METHODS = _words(
    """
    expand expand_as to type_as contiguous unfold view reshape repeat new_full new_zeros new_ones masked_fill flatten
    movedim permute transpose squeeze unsqueeze size sum_to_size index_add index_fill index_copy scatter scatter_add
    index_put put bool int long float double half bfloat16
    uniform_ normal_ exponential_ geometric_ log_normal_ cauchy_
    """
)

_NAME = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*\Z")
_PRIVATE = re.compile(r"(\A|\.)_")
#: Public functions of ``MODULES`` that touch files, call Python functions or change state.
_REFUSED = frozenset(
    {
        f"jax.numpy.{n}"
        for n in ("load", "save", "savez", "fromfile", "frompyfunc", "from_dlpack", "fromfunction", "vectorize")
    }
    | {
        f"jax.numpy.{n}"
        for n in ("apply_along_axis", "apply_over_axes", "piecewise", "set_printoptions", "printoptions")
    }
    | {f"torch.nn.functional.{n}" for n in ("handle_torch_function", "boolean_dispatch", "assert_int_or_pair")}
)


def is_allowed(name: str) -> bool:
    """Return whether a lowering clause may call ``name``, a dotted name such as ``torch.nn.functional.gelu``."""
    if not _NAME.match(name) or _PRIVATE.search(name) or name in _REFUSED:
        return False
    module, _, last = name.rpartition(".")
    if module == "torch":
        return last in TORCH_FUNCTIONS
    if module == "torch.Tensor":
        return last in TENSOR_METHODS
    if module == "drt":
        return last in JAX_FUNCTIONS
    return module in MODULES


def resolve(name: str) -> Any:
    """Return the function called ``name``.

    Raises:
        UsageError: if the allow-list does not have the name, the library is not installed, or has no such function.
    """
    if not is_allowed(name):
        raise UsageError("not among the functions that a lowering clause may call", subject=name)
    module, _, last = name.rpartition(".")
    try:
        if module == "drt":
            return importlib.import_module(".jax_functions", __package__).FUNCTIONS[last]
        owner = importlib.import_module("torch").Tensor if module == "torch.Tensor" else importlib.import_module(module)
    except ImportError as error:
        root = "jax" if module == "drt" else module.split(".")[0]
        raise UsageError(f"{root} is not installed; install the extra drt[{root}]", subject=name) from error
    found = getattr(owner, last, None)
    if module == "torch.Tensor" and last.endswith("_") and callable(found):
        # Whatever a clause says, what is filled is a tensor of its own.
        return lambda x, *args: found(owner.new_empty(x, x.shape), *args)
    if not callable(found) or isinstance(found, type):
        raise UsageError(f"{module} has no such function", subject=name)
    return found


_BINARY: dict[str, Callable[[Any, Any], Any]] = {
    "+": operator.add, "-": operator.sub, "*": operator.mul, "/": operator.truediv, "//": operator.floordiv,
    "%": operator.mod, "**": operator.pow, "==": operator.eq, "!=": operator.ne, "<": operator.lt, "<=": operator.le,
    ">": operator.gt, ">=": operator.ge,
}  # fmt: skip


def run_clause(e: Expr, values: Mapping[str, Any], env: Mapping[str, Any]) -> Any:
    """Return the value of a ``torch`` or ``jax`` clause.

    Args:
        e: the clause.
        values: what its names stand for where it is not ``env``: arrays, numbers, ``None``, and dtypes of the library.
        env: sizes, packs, attributes, lets and ``present`` flags, as ``infer`` binds them.

    Raises:
        UsageError: the clause calls what the allow-list does not have.
    """
    match e:
        case Num(v):
            return v
        case Sym(n) | Pack(n):
            return values[n] if n in values else evaluate(e, env)
        case Lst(items):
            return _run_items(items, values, env)
        case Bin("and" | "or", _, _) | Unary("not", _):
            return evaluate(e, env)
        case Bin(op, a, b):
            x, y = run_clause(a, values, env), run_clause(b, values, env)
            if isinstance(x, (tuple, list)) and isinstance(y, (tuple, list)):
                return [*x, *y]
            return _BINARY[op](x, y)
        case Unary(_, a):
            return -run_clause(a, values, env)
        case Cond(test, a, b):
            return run_clause(a if decide(test, env) else b, values, env)
        case Load(n, items):
            value = run_clause(Sym(n), values, env)
            for i in _run_items(items, values, env):
                value = value[i]
            return value
        case Call("present", _, _):
            return evaluate(e, env)
        case Call(fn, args, kwargs):
            function = resolve(fn) if "." in fn else FUNCTIONS[fn]
            return function(*_run_items(args, values, env), **{k: run_clause(v, values, env) for k, v in kwargs})
    raise InternalError(f"{type(e).__name__} has no value in a lowering clause")


def _run_items(items: tuple[Expr, ...], values: Mapping[str, Any], env: Mapping[str, Any]) -> list[Any]:
    out: list[Any] = []
    for item in items:
        v = run_clause(item, values, env)
        out.extend(v) if isinstance(item, Pack) else out.append(v)
    return out
