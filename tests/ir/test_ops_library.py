"""The library of operators as a whole; ``tests/ops`` holds each definition to PyTorch."""

from __future__ import annotations

import importlib
import re
from pathlib import Path

import pytest
from drt.ir import builtin_ops, parse_ops, print_op
from drt.ir.docgen import DEFAULT_OUTPUT, main, operator_section, page
from drt.ir.evaluate import FUNCTIONS
from drt.ir.expr import Call, Expr, children
from drt.ir.intrinsics import INTRINSICS
from drt.ir.opdef import Expand, Hook, Index, Opaque, OpDef, Reduce, Scalar

OPS = builtin_ops()
#: Functions that only bodies may call, beside the intrinsics.
BODY_FUNCTIONS = {"cast", "pad", "present"}
#: ATen functions that are read as several operators, told apart by arguments, ranks or results that are not used.
SHARED = {
    "hardtanh": "relu6 hardtanh",
    "matmul": "matmul matmul_shared matmul_broadcast mv vm dot",
    "convolution": "conv1d conv2d conv3d conv_transpose1d conv_transpose2d conv_transpose3d",
    "add": "add add_scaled",
    "sub": "sub add_scaled",
    "rsub": "sub add_scaled",
    "div": "div floor_divide trunc_divide",
    "divide": "div floor_divide trunc_divide",
    "max": "maximum amax max_dim",
    "min": "minimum amin min_dim",
    "clamp": "maximum minimum clamp clamp_tensor",
    "clamp_min": "maximum clamp",
    "clamp_max": "minimum clamp",
    "batch_norm": "batch_norm batch_norm_untracked",
    "native_batch_norm": "batch_norm batch_norm_untracked",
    "_native_batch_norm_legit": "batch_norm batch_norm_untracked",
    "_native_batch_norm_legit_functional": "batch_norm batch_norm_training",
    "median": "median_dim median",
    "nanmedian": "nanmedian_dim nanmedian",
    "pad": "pad reflection_pad1d reflection_pad2d replication_pad1d replication_pad2d circular_pad",
    "rrelu": "leaky_relu rrelu_training",
    "dropout": "identity dropout",
    "native_dropout": "identity dropout dropout_mask",
    "scaled_dot_product_attention": "scaled_dot_product_attention attention_dropout",
    "round": "round round_decimals",
    "instance_norm": "batch_norm instance_norm",
    "max_pool2d_with_indices": "max_pool2d max_pool2d_with_indices",
    "max_pool3d_with_indices": "max_pool3d max_pool3d_with_indices",
    "adaptive_max_pool1d": "adaptive_max_pool1d adaptive_max_pool1d_with_indices",
    "adaptive_max_pool2d": "adaptive_max_pool2d adaptive_max_pool2d_with_indices",
    "adaptive_max_pool3d": "adaptive_max_pool3d adaptive_max_pool3d_with_indices",
    "normal": "normal normal_tensor",
    "bernoulli": "bernoulli bernoulli_like",
    "upsample_linear1d": "upsample_linear upsample_linear_scaled",
    "upsample_bilinear2d": "upsample_linear upsample_linear_scaled",
    "upsample_trilinear3d": "upsample_linear upsample_linear_scaled",
    "upsample_bicubic2d": "upsample_cubic upsample_cubic_scaled",
    "grid_sampler": "grid_sampler_2d grid_sampler_3d",
    "scatter": "scatter_reduce scatter scatter_value",
    "linalg_svd": "svd svdvals",
    "_linalg_svd": "svd svdvals",
    "linalg_eigh": "eigh eigvalsh",
    "_linalg_eigh": "eigh eigvalsh",
    "cross_entropy_loss": "cross_entropy cross_entropy_probabilities",
    "quantize_per_tensor": "quantize_per_tensor quantize_affine",
    "dequantize_per_tensor": "dequantize_per_tensor dequantize_affine",
    "fake_quantize_per_tensor_affine": "fake_quantize fake_quantize_tensor",
}
each = pytest.mark.parametrize("op", OPS.values(), ids=lambda op: op.name)


def calls(e: Expr) -> set[str]:
    """Return the names of the functions that an expression calls."""
    found = {e.fn} if isinstance(e, Call) else set()
    return found.union(*(calls(c) for c in children(e)))


@each
def test_has_one_sentence_a_source_and_a_meaning(op: OpDef) -> None:
    assert re.fullmatch(r"[A-Z0-9].*\.", op.doc), op.doc
    assert op.source.startswith("https://")
    if isinstance(op.body, Opaque):
        assert op.body.reason and "torch" in op.calls, "PyTorch is the reference of what has no meaning here"


@each
def test_prints_and_parses(op: OpDef) -> None:
    assert parse_ops(print_op(op)) == {op.name: op}


@each
def test_calls_only_known_functions(op: OpDef) -> None:
    sizes: list[Expr] = [let.expr for let in op.lets] + [c.expr for c in op.constraints]
    sizes += [d for p in op.results for d in p.shape]
    match op.body:
        case Scalar(exprs):
            body = [e for _, e in exprs]
            known = {*INTRINSICS, *BODY_FUNCTIONS, *FUNCTIONS}
        case Reduce(_, _, e, axes):
            body, known = [e, axes], {*INTRINSICS, *BODY_FUNCTIONS, *FUNCTIONS}
        case Index(_, _, e):
            body, known = [e], {*INTRINSICS, *BODY_FUNCTIONS, *FUNCTIONS}
        case Expand(statements):
            body, known = [e for _, e in statements], {*OPS, *FUNCTIONS, "present", "item"}
        case _:
            body, known = [], set()
    for e in sizes:
        assert calls(e) <= {*FUNCTIONS, "present"}
    for e in body:
        assert calls(e) <= known


@each
def test_lowering_clauses_call_allowed_functions(op: OpDef) -> None:
    from drt.backend.resolve import is_allowed

    for library, e in op.calls.items():
        for name in calls(e):
            assert is_allowed(name) if "." in name else name in {*FUNCTIONS, "present"}, name
            own = (library + ".", "drt.") if library == "jax" else (library + ".",)
            assert "." not in name or name.startswith(own), name


@each
def test_composites_do_not_go_round_in_circles(op: OpDef) -> None:
    def below(name: str) -> set[str]:
        body = OPS[name].body
        return set().union(*(calls(e) for _, e in body.statements)) & set(OPS) if isinstance(body, Expand) else set()

    seen: set[str] = set()
    new = below(op.name)
    while new:
        seen |= new
        new = set().union(*(below(n) for n in new)) - seen
    assert op.name not in seen


def test_few_operators_need_a_hook() -> None:
    hooked = [op.name for op in OPS.values() if isinstance(op.body, Hook)]
    assert len(hooked) <= 8, hooked


def test_composites_are_preferred_to_primitives() -> None:
    composites = [op for op in OPS.values() if isinstance(op.body, Expand)]
    indexed = [op for op in OPS.values() if isinstance(op.body, Index)]
    assert len(composites) > len(indexed)


def test_targets_that_several_operators_read_are_known() -> None:
    owners: dict[str, list[str]] = {}
    for op in OPS.values():
        for pattern in op.aten:
            names = owners.setdefault(pattern.call.fn.split(".")[1], [])
            names.extend({op.name} - set(names))
    assert {target: " ".join(names) for target, names in owners.items() if len(names) > 1} == SHARED


def test_page_of_operators_is_up_to_date(tmp_path: Path) -> None:
    text = page(OPS)
    assert all(operator_section(op) in text for op in OPS.values())
    assert DEFAULT_OUTPUT.read_text() == text, "run 'make docs'"
    assert main(["--check"]) == 0
    other = tmp_path / "ops.md"
    assert main(["--check", "--output", str(other)]) == 1
    assert main(["--output", str(other)]) == 0
    assert main(["--check", "--output", str(other)]) == 0


#: Namespace of operators -> the module that registers them, which need not be installed.
REGISTERED_BY = {
    "quantized_decomposed": "torch.ao.quantization.fx._decomposed",
    "transformers": "transformers.integrations.moe",
}


def _imports(module: str) -> bool:
    try:
        importlib.import_module(module)
    except ImportError:
        return False
    return True


@pytest.mark.parametrize("op", [op for op in OPS.values() if op.aten], ids=lambda op: op.name)
def test_patterns_fit_the_schemas_of_pytorch(op: OpDef) -> None:
    import torch

    for pattern in op.aten:
        namespace, packet, overload = pattern.call.fn.split(".")
        if namespace in REGISTERED_BY and not _imports(REGISTERED_BY[namespace]):
            continue
        found = getattr(getattr(getattr(torch.ops, namespace), packet), overload)._schema
        names = [a.name for a in found.arguments]
        assert len(pattern.call.args) <= len(names)
        assert {k for k, _ in pattern.call.kwargs} <= set(names[len(pattern.call.args) :])
        required = [a.name for a in found.arguments if not a.has_default_value() and not a.kwarg_only]
        given = {*names[: len(pattern.call.args)], *(k for k, _ in pattern.call.kwargs)}
        assert set(required) <= given, f"{pattern.call.fn} needs {required}"
        assert len(pattern.results or op.results) <= len(found.returns)
