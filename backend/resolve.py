"""From the dotted names in ``torch`` and ``jax`` clauses to functions, through an allow-list.

Operator files are data that a user may take from elsewhere; the allow-list is what keeps reading one from running anything
but pure tensor functions.
"""

from __future__ import annotations

import importlib
import operator
import re
from collections.abc import Callable, Mapping, Sequence
from functools import cache, partial
from typing import Any, TypeAlias

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


@cache
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


#: Part of a clause: ``(True, value)`` where its value is known, else ``(False, function of a table of values)``.
Part: TypeAlias = "tuple[bool, Any]"


def run_clause(e: Expr, values: Mapping[str, Any], env: Mapping[str, Any]) -> Any:
    """Return the value of a ``torch`` or ``jax`` clause.

    Args:
        e: the clause.
        values: what its names stand for where it is not ``env``: arrays, numbers, ``None``, and dtypes of the library.
        env: sizes, packs, attributes, lets and ``present`` flags, as ``infer`` binds them.

    Raises:
        UsageError: the clause calls what the allow-list does not have.
    """
    return prepare_clause(e, {n: (True, v) for n, v in values.items()}, env)({})


def prepare_clause(e: Expr, known: Mapping[str, Part], env: Mapping[str, Any]) -> Callable[[Mapping[str, Any]], Any]:
    """Return a ``torch`` or ``jax`` clause as a function of a table of values, to be run many times.

    Args:
        e: the clause.
        known: what its names stand for where it is not ``env``: values, or how to find them in the table.
        env: as for :func:`run_clause`.

    Raises:
        UsageError: the clause calls what the allow-list does not have.
    """
    fixed, v = _part(e, known, env)
    run: Callable[[Mapping[str, Any]], Any] = (lambda table: v) if fixed else v
    return run


def _part(e: Expr, known: Mapping[str, Part], env: Mapping[str, Any]) -> Part:
    match e:
        case Num(v):
            return True, v
        case Sym(n) | Pack(n):
            return known[n] if n in known else (True, evaluate(e, env))
        case Lst(items):
            return _applied(_listed, _parts(items, known, env))
        case Bin("and" | "or", _, _) | Unary("not", _) | Call("present", _, _):
            return True, evaluate(e, env)
        case Bin(op, a, b):
            return _applied(partial(_combined, op), _parts((a, b), known, env))
        case Unary(_, a):
            return _applied(operator.neg, _parts((a,), known, env))
        case Cond(test, a, b):
            return _part(a if decide(test, env) else b, known, env)
        case Load(n, items):
            return _applied(_element, _parts((Sym(n), *items), known, env))
        case Call(fn, args, kwargs):
            given = _parts(args, known, env)
            named = [(k, _part(v, known, env)) for k, v in kwargs]
            if "." not in fn:
                return _applied(FUNCTIONS[fn], given, named)
            # What a library makes of known values is made anew at each run.
            return False, _runner(resolve(fn), given, named)
    raise InternalError(f"{type(e).__name__} has no value in a lowering clause")


def _parts(items: Sequence[Expr], known: Mapping[str, Part], env: Mapping[str, Any]) -> list[tuple[bool, Any, bool]]:
    """Return the parts of arguments; the third member says whether the value is a list that is spliced in."""
    out: list[tuple[bool, Any, bool]] = []
    for item in items:
        fixed, v = _part(item, known, env)
        spliced = isinstance(item, Pack)
        if fixed and spliced:
            out += [(True, x, False) for x in v]
        else:
            out.append((fixed, v, spliced))
    return out


def _applied(
    function: Callable[..., Any], given: list[tuple[bool, Any, bool]], named: Sequence[tuple[str, Part]] = ()
) -> Part:
    """Return a pure function of parts, which has its value at once where they have theirs."""
    if all(p[0] for p in given) and all(p[0] for _, p in named):
        return True, function(*[v for _, v, _ in given], **{k: v for k, (_, v) in named})
    return False, _runner(function, given, named)


def _runner(
    function: Callable[..., Any], given: list[tuple[bool, Any, bool]], named: Sequence[tuple[str, Part]]
) -> Callable[[Mapping[str, Any]], Any]:
    constants = {k: v for k, (fixed, v) in named if fixed}
    others = [(k, v) for k, (fixed, v) in named if not fixed]
    if any(spliced for _, _, spliced in given):

        def spread(table: Mapping[str, Any]) -> Any:
            args: list[Any] = []
            for fixed, v, spliced in given:
                value = v if fixed else v(table)
                args.extend(value) if spliced else args.append(value)
            return function(*args, **constants, **{k: v(table) for k, v in others})

        return spread
    plain = [(fixed, v) for fixed, v, _ in given]
    if others:
        return lambda table: function(
            *[v if fixed else v(table) for fixed, v in plain], **constants, **{k: v(table) for k, v in others}
        )
    return lambda table: function(*[v if fixed else v(table) for fixed, v in plain], **constants)


def _listed(*items: Any) -> list[Any]:
    return list(items)


def _combined(op: str, x: Any, y: Any) -> Any:
    return [*x, *y] if isinstance(x, (tuple, list)) and isinstance(y, (tuple, list)) else _BINARY[op](x, y)


def _element(value: Any, *places: Any) -> Any:
    for i in places:
        value = value[i]
    return value
