"""Where a definition is known to differ from PyTorch, as data; a limitation that no longer shows fails its test."""

from __future__ import annotations

import attrs


@attrs.frozen
class Limitation:
    """One known difference.

    Attributes:
        op: operator.
        check: name in ``CHECKS``.
        match: part of every line that the difference gives rise to.
        reason: why it stays.
    """

    op: str
    check: str
    match: str
    reason: str


_ALL_AXES = "PyTorch reads an empty list of axes as all axes; the importer writes them out"
_INTEGERS = "of integers it is the identity, a constant or rare; such a call stays PyTorch's own"
_PLAIN = "no kernels are made for integer products of this kind; such a call stays PyTorch's own"
_BOOLEANS = "arithmetic on booleans is rare in models; such a call stays PyTorch's own"

LIMITATIONS: tuple[Limitation, ...] = (
    *(
        Limitation(op, "accepts", f"[{op}_c1]", _ALL_AXES)
        for op in ("mean", "amax", "amin", "any", "all", "logsumexp", "var", "var_mean")
    ),
    *(
        Limitation(op, "dtypes", f"[{op}_dtype]", _INTEGERS)
        for op in ("isnan", "isinf", "isfinite", "floor", "ceil", "round", "trunc", "trunc_divide", "hardtanh", "threshold")
    ),
    *(
        Limitation(op, "dtypes", f"[{op}_dtype]", _PLAIN)
        for op in ("linear", "conv1d", "conv2d", "conv3d", "conv_transpose1d", "conv_transpose2d", "conv_transpose3d")
    ),
    *(
        Limitation(op, "dtypes", f"[{op}_dtype]", _BOOLEANS)
        for op in ("add", "add_scaled", "mul", "maximum", "minimum", "sign", "max_dim", "min_dim", "outer", "pad")
    ),
    Limitation("upsample_nearest", "dtypes", "[upsample_nearest_dtype]", "images of bytes are rare in models"),
    Limitation(
        "scaled_dot_product_attention", "accepts", "[scaled_dot_product_attention_c1]",
        "leading axes that broadcast are rare; such a call stays PyTorch's own",
    ),
    Limitation("matmul_shared", "accepts", "[matmul_shared_c1]", "a product of two matrices is matmul"),
    Limitation("arange", "accepts", "[arange_c4]", "PyTorch rounds fractional ends of integer ranges towards zero"),
    Limitation("triplet_margin_loss", "accepts", "[triplet_margin_loss_c1]", "of numbers, PyTorch takes rank 0 as one axis"),
    Limitation(
        "batch_norm_training", "values", "eps=0.0", "where variance and eps are both 0, PyTorch gives the bias, not NaN"
    ),
    Limitation("instance_norm", "accepts", "[instance_norm_c1]", "without spatial axes the result is the bias, or zero"),
    Limitation("slice", "accepts", "[slice_c1]", "the importer counts both ends from the front and clips them"),
    Limitation("narrow", "accepts", "[narrow_c1]", "the importer counts the start from the front"),
    Limitation("roll", "accepts", "[roll_c1]", "without axes PyTorch rolls the flattened tensor; the importer reshapes"),
    Limitation("gather", "accepts", "[gather_c1]", "PyTorch takes rank 0 as one axis of size 1"),
)  # fmt: skip
