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
    Expected(
        "nn.functional.embedding*", "opaque", "aten.embedding_renorm", "max_norm rewrites the table that it reads"
    ),
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
    Expected("gather", "opaque", "index is u8", "indices without elements, which PyTorch takes in any dtype"),
    *(Expected(op, "differs", "the meaning differs", _TIES) for op in ("kthvalue", "topk", "mode", "sort", "argsort")),
)
