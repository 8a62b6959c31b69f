"""The tolerance accepts what a right kernel may differ by, and nothing else."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from drt.backend.verify.tolerance import Reassociated, compare


def _variants(f: Callable[..., torch.Tensor], *inputs: torch.Tensor) -> list[torch.Tensor]:
    found = [f(*inputs)]
    for k in range(2):
        with Reassociated(k):
            found.append(f(*inputs))
    return found


def _problem(f: Callable[..., torch.Tensor], g: Callable[..., torch.Tensor], *inputs: torch.Tensor) -> str:
    truth = f(*(i.double() for i in inputs))
    found = compare(0, g(*inputs), truth, _variants(f, *inputs))
    assert not found.refused
    return found.mismatch.text if found.mismatch else ""


def _blocked(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    total = torch.zeros(a.shape[0], b.shape[1])
    for k in range(0, a.shape[1], 16):
        total = total + a[:, k : k + 16] @ b[k : k + 16]
    return total


A, B = torch.randn(48, 300, generator=torch.Generator().manual_seed(1)), torch.randn(300, 40)
X = torch.randn(64, 300, generator=torch.Generator().manual_seed(2))


@pytest.mark.parametrize(
    ("f", "g", "inputs"),
    [
        (torch.matmul, _blocked, (A, B)),
        (
            lambda x: torch.softmax(x, 1),
            lambda x: (
                torch.exp2((x - x.amax(1, True)) * 1.4426950408889634)
                / torch.exp2((x - x.amax(1, True)) * 1.4426950408889634).sum(1, True)
            ),
            (X,),
        ),
        (torch.exp, lambda x: torch.exp2(x * 1.4426950408889634), (X * 5,)),
        (torch.nn.functional.gelu, lambda x: x * 0.5 * (1 + torch.erf(x * 0.70710678118)), (X,)),
        (lambda x: x.sum(1), lambda x: x.flip(1).sum(1), (X,)),
        (lambda x: x.sigmoid(), lambda x: 1 / (1 + torch.exp(-x)), (X,)),
        (lambda x: torch.softmax(x, 1), lambda x: torch.softmax(x.float(), 1).bfloat16(), (X.bfloat16(),)),
    ],
    ids=["matmul", "softmax", "exp", "gelu", "sum", "sigmoid", "softmax_bf16"],
)
def test_accepts(
    f: Callable[..., torch.Tensor], g: Callable[..., torch.Tensor], inputs: tuple[torch.Tensor, ...]
) -> None:
    assert _problem(f, g, *inputs) == ""


@pytest.mark.parametrize(
    ("f", "g", "inputs"),
    [
        (torch.matmul, lambda a, b: a.bfloat16().float() @ b.bfloat16().float(), (A, B)),
        (torch.matmul, lambda a, b: a[:, :-1] @ b[:-1], (A, B)),
        (lambda x: torch.softmax(x, 1), torch.zeros_like, (X,)),
        (torch.nn.functional.gelu, lambda x: torch.nn.functional.gelu(x, approximate="tanh"), (X,)),
        (torch.exp, lambda x: torch.where(torch.arange(300) == 7, 1.001, 1.0) * x.exp(), (X,)),
        (lambda x: x.sum(1), lambda x: x[:, :-1].sum(1), (X,)),
        (lambda x: torch.softmax(x, 1), torch.zeros_like, (X.bfloat16(),)),
        (
            lambda x: torch.nn.functional.layer_norm(x, (300,)),
            lambda x: torch.nn.functional.layer_norm(x, (300,), eps=2e-5),
            (X * 0.1,),
        ),
    ],
    ids=["bf16_inputs", "dropped_k", "zeros", "tanh", "one_column", "missing_column", "zeros_bf16", "epsilon"],
)
def test_rejects(
    f: Callable[..., torch.Tensor], g: Callable[..., torch.Tensor], inputs: tuple[torch.Tensor, ...]
) -> None:
    text = _problem(f, g, *inputs)
    assert text.startswith("output 0") and "expected" in text


def test_nan_pattern_is_compared() -> None:
    truth = torch.tensor([1.0, float("nan"), float("inf")], dtype=torch.float64)
    good = truth.float()
    assert compare(0, good, truth, [good]).mismatch is None
    bad = compare(0, torch.tensor([1.0, 0.0, float("inf")]), truth, [good]).mismatch
    assert bad is not None and bad.kind == "nonfinite" and bad.index == (1,)


def test_ill_conditioned_input_is_refused() -> None:
    truth = torch.full((32,), 1e-9, dtype=torch.float64)
    assert compare(0, torch.zeros(32), truth, [torch.full((32,), 3e-9)]).refused


def test_exact_means_equal() -> None:
    truth = torch.tensor([[3.0, -2.0]], dtype=torch.float64)
    assert compare(0, truth.bfloat16(), truth, [], exact=True).mismatch is None
    bad = compare(0, truth.bfloat16() + 1, truth, [], exact=True).mismatch
    assert (
        bad is not None and bad.text == "output 0 at index [0, 0] is 4.0, expected 3.0 exactly; 2 of 2 elements differ"
    )


def test_bounds_from_few_elements_are_wider_and_from_many_are_not() -> None:
    """An error of 4.4 times the reference's own: within what seven elements tell, and not within what ten thousand do."""
    for n, passes in ((7, True), (10_000, False)):
        truth = torch.ones(n, dtype=torch.float64)
        sign = torch.where(torch.arange(n) % 2 == 0, 1.0, -1.0).double()
        reference = (truth + 1e-5 * sign).float()
        found = compare(0, (truth + 4.4e-5 * sign).float(), truth, [reference])
        assert (found.mismatch is None) is passes, found


def _by_halves(x: torch.Tensor) -> torch.Tensor:
    while (n := x.shape[1]) > 1:
        x = torch.cat([x[:, : n // 2] * x[:, n // 2 : n // 2 * 2], x[:, n // 2 * 2 :]], 1)
    return x[:, 0]


def test_products_of_which_one_outweighs_all_others_are_accepted_in_another_order() -> None:
    for seed in range(60):
        x = torch.randn(64, 48, generator=torch.Generator().manual_seed(seed))
        assert _problem(lambda x: x.prod(1), _by_halves, x) == "", seed
        assert _problem(lambda x: x.prod(1), lambda x: x.bfloat16().float().prod(1), x), seed


@pytest.mark.parametrize("dim", [0, 1, -1])
@pytest.mark.parametrize("keepdim", [False, True])
def test_products_in_another_order_keep_shapes(dim: int, keepdim: bool) -> None:
    x = torch.randn(5, 7, generator=torch.Generator().manual_seed(3))
    for seed in range(2):
        with Reassociated(seed):
            found, whole, none = x.prod(dim, keepdim), x.prod(), x[:0].prod(0)
        torch.testing.assert_close(found, x.prod(dim, keepdim))
        torch.testing.assert_close(whole, x.prod())
        torch.testing.assert_close(none, torch.ones(7))
