"""Which of PyTorch's sample calls are known to stay opaque or to be refused, as data with reasons.

An entry whose difference no longer shows fails ``test_opinfo.py --full``; take it out then.
"""

from __future__ import annotations

import attrs


@attrs.frozen
class Expected:
    """Samples that do not become known operators.

    Attributes:
        op: an operator's name in ``op_db``, or a pattern with ``*``.
        status: ``opaque``, ``refused`` or ``differs``.
        match: part of the reason that the importer or the comparison gives.
        reason: why it stays.
    """

    op: str
    status: str
    match: str
    reason: str


_TIES = "PyTorch leaves open which of equal elements it takes"

EXPECTED: tuple[Expected, ...] = (
    Expected("__getitem__", "refused", "depends on tensor contents", "as many elements as the mask has ones"),
    *(
        Expected(op, "opaque", match, "a rare decomposition")
        for op, match in (
            ("geqrf", "aten.geqrf"),
            ("ormqr", "aten.ormqr"),
            ("lu_unpack", "aten.lu_unpack"),
            ("triangular_solve", "aten.triangular_solve"),
            ("linalg.ldl_*", "aten.linalg_ldl"),
        )
    ),
    Expected("linalg.eigvals", "opaque", "complex numbers", "eigenvalues are complex"),
    Expected("linalg.eig", "refused", "one of several results is complex", "eigenvalues are complex"),
    Expected("linalg.lstsq*", "refused", "aten.linalg_lstsq", "the rank of the matrix decides the shape of a result"),
    Expected("matrix_exp", "opaque", "x is bf16", "PyTorch has no kernel for bfloat16 on other devices"),
    Expected("svd_lowrank", "differs", "not close", "an approximation from random vectors, of a low rank"),
    *(
        Expected(op, "refused", "depends on tensor contents", "how many elements there are depends on their values")
        for op in (
            "masked_select",
            "unique",
            "unique_consecutive",
            "nonzero",
            "argwhere",
            "bincount",
            "repeat_interleave",
            "combinations",
        )
    ),
    Expected(
        "nn.functional.one_hot",
        "refused",
        "depends on tensor contents",
        "without a number of classes, the largest index decides",
    ),
    *(
        Expected(op, "refused", "DataDependentOutputException", "PyTorch compares weights in Python")
        for op in ("cov", "corrcoef")
    ),
    Expected(
        "nn.functional.ctc_loss",
        "refused",
        "DynamicOutputShapeException",
        "the shape of an internal result depends on values",
    ),
    Expected("histogramdd", "refused", "gives list", "a list of as many tensors as there are axes"),
    Expected("hash_tensor", "refused", "uint64", "the IR has no unsigned 64-bit integers"),
    Expected("to_sparse", "refused", "sparse", "the IR has dense tensors alone"),
    *(Expected(op, "opaque", op, "rare") for op in ("histogram", "nonzero_static")),
    Expected("_segment_reduce.*", "opaque", "aten.segment_reduce", "rare; scatter_reduce says the same"),
    *(
        Expected(f"masked.{op}", "refused", "[amax_c2]", "a maximum of no elements, where PyTorch gives no elements")
        for op in ("softmax", "log_softmax", "softmin")
    ),
    Expected("linspace*", "opaque", "[linspace_c1]", "PyTorch rounds steps of integers its own way"),
    Expected("native_batch_norm", "opaque", "aten.copy_", "it writes statistics into its operands"),
    Expected("chalf", "refused", "complex32", "the IR has pairs of f32 and of f64"),
    Expected("resize_as_", "opaque", "aten.resize", "its elements are those of the storage"),
    Expected(
        "nn.functional.gaussian_nll_loss",
        "refused",
        "depends on tensor contents",
        "PyTorch looks for negative variances in Python",
    ),
    Expected("gather", "opaque", "index is u8", "indices without elements, which PyTorch takes in any dtype"),
    *(Expected(op, "differs", "the meaning differs", _TIES) for op in ("kthvalue", "topk", "mode", "sort", "argsort")),
)
