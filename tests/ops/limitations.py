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
        rare: shows in so few calls that a test may not meet one.
    """

    op: str
    check: str
    match: str
    reason: str
    rare: bool = False


#: Operators whose results PyTorch leaves open where elements are equal: their operands are drawn with no two equal.
DISTINCT: frozenset[str] = frozenset({"topk", "kthvalue", "median_dim", "nanmedian_dim", "mode"})

#: Operators that PyTorch refuses for some elements of operands that the definition allows: such draws are passed over.
PARTIAL: frozenset[str] = frozenset({"masked_scatter"})

_FUSED = "PyTorch has no call for it; the importer leaves its parts to fusion"
_BROADCAST = "PyTorch broadcasts with a call of its own before it"

LIMITATIONS: tuple[Limitation, ...] = (
    Limitation(
        "scaled_dot_product_attention", "accepts", "[scaled_dot_product_attention_c",
        "leading axes that broadcast, or none at all, are rare; such a call stays PyTorch's own",
    ),
    Limitation(
        "scaled_dot_product_attention", "values", "causal=True, scale=0.0",
        "PyTorch's kernel for CPUs scales what it has masked: -inf * 0 is NaN", rare=True,
    ),
    Limitation(
        "attention_dropout", "import", "p=0.0", "without dropout it is scaled_dot_product_attention", rare=True,
    ),
    Limitation("prod", "accepts", "[prod_c1]", "PyTorch multiplies along one axis or all; the rest is chance", rare=True),
    Limitation("smooth_l1_loss", "import", "imported as l1_loss", "with beta = 0 it is l1_loss", rare=True),
    Limitation("smooth_l1_loss", "dtypes", "[smooth_l1_loss_dtype]", "with beta = 0 it is l1_loss, of integers too", rare=True),
    *(
        Limitation(op, "dtypes", f"[{op}_dtype]", "convolutions of integers are rare; such a call stays PyTorch's own")
        for op in ("conv1d", "conv2d", "conv3d", "conv_transpose1d", "conv_transpose2d", "conv_transpose3d")
    ),
    *(
        Limitation(op, "dtypes", f"[{op}_dtype]", "PyTorch rounds images of integers; they are rare in models", rare=True)
        for op in ("upsample_linear", "upsample_linear_scaled", "upsample_cubic", "upsample_cubic_scaled", "upsample_antialiased")
    ),
    *(
        Limitation(f"upsample_{mode}_scaled", "import", f"imported as upsample_{mode}", "a whole factor is a size", rare=True)
        for mode in ("linear", "cubic")
    ),
    Limitation("upsample_linear_scaled", "accepts", "[upsample_linear_scaled_c4]", "factors of axes that are not there say nothing", rare=True),
    Limitation("topk", "values", "sorted=False", "PyTorch gives them in any order", rare=True),
    Limitation("mode", "values", "mode(bool", "PyTorch leaves open which of equal elements it names"),
    *(
        Limitation(op, "accepts", f"[{op}_c1]", "of integers PyTorch rounds as the device does; such a call stays its own", rare=True)
        for op in ("linspace", "logspace")
    ),
    *(
        Limitation(op, check, f"[{op}_c1]", "PyTorch lets tensors without axes stand for tensors of one axis", rare=True)
        for op in ("scatter", "scatter_value", "scatter_add", "scatter_reduce")
        for check in ("accepts", "dtypes")
    ),
    *(
        Limitation("masked_scatter", check, "Number of elements of source", "how many are needed is known when the program runs")
        for check in ("accepts", "dtypes")
    ),
    Limitation("fft_r2c", "import", "imported as fft_c2c after stack after full", "PyTorch makes the operand complex first", rare=True),
    Limitation("fft_c2r", "accepts", "[fft_c2r_c3]", "PyTorch first cuts or pads the operand"),
    Limitation("fft_c2r", "dtypes", "[fft_c2r_c3]", "PyTorch first cuts or pads the operand", rare=True),
    Limitation("solve_ex", "accepts", "[solve_ex_c3]", "batches of one right side are rare", rare=True),
    Limitation("index_reduce", "values", "not implemented for 'Bool'", "PyTorch's kernel for vectors has no booleans", rare=True),
    Limitation("pad", "dtypes", "without overflow", "PyTorch refuses numbers that the dtype does not have", rare=True),
    Limitation("index_add", "dtypes", "[index_add_c2]", "booleans times a number are rare", rare=True),
    *(
        Limitation(op, "dtypes", f"[{op}_dtype]", "PyTorch lets the rectified kind compute with integers", rare=True)
        for op in ("rnn", "rnn_cell")
    ),
    Limitation("grouped_matmul", "values", "got Double", "PyTorch's call wants half precision, and the check computes in float64", rare=True),
    Limitation("grouped_matmul", "import", "imported as sum", "PyTorch's call wants half precision and aligned rows; elsewhere it is a composition", rare=True),
    Limitation("grouped_matmul", "dtypes", "[grouped_matmul_dtype]", "PyTorch's own call takes floating point alone", rare=True),
    Limitation("grouped_matmul", "flops", "FLOPs in products", "the composition multiplies with every group", rare=True),
    *(
        Limitation(op, "import", "imported as", "it is lowered as a composition, which stays one when it is imported", rare=True)
        for op in (
            "quantize_per_tensor", "dequantize_per_tensor", "quantize_affine", "dequantize_affine", "fake_quantize",
            "fake_quantize_tensor", "fake_quantize_channels",
        )
    ),
    *(
        Limitation(op, check, f"[{op}_", "of other numbers PyTorch would compute the composition too", rare=True)
        for op in (
            "quantize_per_tensor", "dequantize_per_tensor", "quantize_affine", "dequantize_affine", "fake_quantize",
            "fake_quantize_tensor", "fake_quantize_channels",
        )
        for check in ("accepts", "dtypes")
    ),
    Limitation("histc", "dtypes", "[histc_dtype]", "the composition that stands for integers would count booleans too", rare=True),
    Limitation("arange", "accepts", "[arange_c4]", "PyTorch rounds fractional ends of integer ranges towards zero", rare=True),
    Limitation("elu", "import", "imported as where", "PyTorch's function has no scales; the importer reads the ATen call"),
    *(Limitation(op, "import", "imported as", _FUSED) for op in ("softsign", "tanhshrink", "softmin")),
    Limitation("batch_norm_training", "import", "imported as batch_norm_untracked", _FUSED),
    Limitation("normalize", "import", "imported as div", _FUSED),
    Limitation("matmul_shared", "import", "imported as matmul", "a product of two matrices is matmul", rare=True),
    Limitation("matmul_broadcast", "import", "imported as matmul", "with equal leading axes it is matmul", rare=True),
    Limitation("add_scaled", "import", "imported as add", "with alpha = 1 it is add", rare=True),
    *(
        Limitation(op, "import", "imported with operands", "PyTorch fills a new tensor, which is made first")
        for op in ("normal_like", "uniform_like", "exponential_like", "geometric_like", "log_normal_like", "cauchy_like")
    ),
    *(
        Limitation(op, "accepts", f"[{op}_{c}]", "random numbers of other dtypes are rare; such a call stays PyTorch's own", rare=True)
        for op, c in (("randint", "c2"), ("randint_like", "c2"), ("randperm", "c1"))
    ),
    *(
        Limitation(op, "dtypes", f"[{op}_dtype]", "random integers of such distributions are rare; they stay PyTorch's own", rare=True)
        for op in ("geometric_like", "dropout")
    ),
    Limitation("permute", "accepts", "[permute_c1]", "axes that count from the back are turned round on import", rare=True),
    Limitation("flatten", "import", "imported as reshape", "PyTorch exports it as a reshape"),
    Limitation("narrow", "import", "imported as slice", "PyTorch exports it as a slice"),
    *(
        Limitation(op, "import", "after expand", _BROADCAST, rare=True)
        for op in ("mse_loss", "l1_loss", "smooth_l1_loss", "huber_loss", "binary_cross_entropy")
    ),
)  # fmt: skip
