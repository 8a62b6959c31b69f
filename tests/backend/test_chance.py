"""Random programs are judged in distribution: right generators pass, whatever their stream; wrong ones are named."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from drt.backend.candidate import Candidate
from drt.backend.verify import verify_candidate
from drt.backend.verify.chance import CONFIRMED, DRAWS, MORE_DRAWS, compare_draws
from drt.backend.verify.draws import compare_calls
from drt.ir import parse_graph

X, W = torch.randn(40, 25, generator=torch.Generator().manual_seed(5)), torch.randn(25, 30)
P = 0.2
FIXED = F.dropout(torch.ones(40, 25), P)
MASKS = [F.dropout(torch.ones(40, 25), P) for _ in range(16)]

RIGHT: dict[str, Callable[[], torch.Tensor]] = {
    "dropout": lambda: F.dropout(X, P),
    "dropout by hand": lambda: torch.where(torch.rand_like(X) < P, 0.0, X / (1 - P)),
    "through a product": lambda: F.dropout(X, P) @ W,
    "normal": lambda: X + torch.randn_like(X),
}
WRONG: list[tuple[str, Callable[[], torch.Tensor], str]] = [
    ("dropout", lambda: F.dropout(X, 0.25) * (0.75 / 0.8), "mean"),
    ("dropout", lambda: F.dropout(X, 0.22) * (0.78 / 0.8), "mean|zeros"),
    ("dropout", lambda: F.dropout(X, P) * (1 - P), "support"),
    ("dropout", lambda: X * F.dropout(torch.ones(25), P), "dependence"),
    ("dropout", lambda: X * F.dropout(torch.ones(40, 1), P), "dependence"),
    ("dropout", lambda: X * F.dropout(torch.ones(250), P).repeat(4).view(40, 25), "dependence"),
    ("dropout", lambda: X * MASKS[int(torch.randint(16, ()))], "mean|dependence"),
    ("dropout", lambda: X * FIXED, "constant"),
    ("dropout", lambda: X.clone(), "constant"),
    ("through a product", lambda: (X * F.dropout(torch.ones(25), P)) @ W, "dependence"),
    ("through a product", lambda: X @ W, "constant"),
    ("normal", lambda: X + 1.1 * torch.randn_like(X), "spread"),
    ("normal", lambda: X + (torch.rand_like(X) - 0.5) * 12**0.5, "shape"),
]  # fmt: skip


def draws(f: Callable[[], torch.Tensor], n: int = DRAWS) -> torch.Tensor:
    return torch.stack([f() for _ in range(n)])


@pytest.mark.parametrize("name", RIGHT)
def test_equal_distributions_are_not_told_apart(name: str) -> None:
    torch.manual_seed(1)
    reference = RIGHT["dropout" if name.startswith("dropout") else name]
    for seed in range(2):
        found = compare_draws(draws(reference), draws(RIGHT[name]), seed=seed)
        if found is not None:
            found = compare_draws(
                draws(reference, MORE_DRAWS), draws(RIGHT[name], MORE_DRAWS), seed=seed, deviations=CONFIRMED
            )
        assert found is None, found


@pytest.mark.parametrize(("name", "wrong", "kind"), WRONG)
def test_other_distributions_are_told_apart(name: str, wrong: Callable[[], torch.Tensor], kind: str) -> None:
    torch.manual_seed(2)
    assert compare_draws(draws(RIGHT[name]), draws(wrong)) is not None
    found = compare_draws(draws(RIGHT[name], MORE_DRAWS), draws(wrong, MORE_DRAWS), deviations=CONFIRMED)
    assert found is not None and found.kind in kind.split("|"), found


def test_calls_at_full_size_are_compared_by_some_elements() -> None:
    x = torch.randn(300, 200)
    assert compare_calls(lambda: (F.dropout(x, 0.3), x), lambda: (F.dropout(x, 0.3), x), 1) is None
    shared = compare_calls(lambda: F.dropout(x, 0.3), lambda: x * F.dropout(torch.ones(200), 0.3), 1)
    assert shared is not None and shared.kind == "dependence"


def test_outputs_must_not_share_their_random_numbers() -> None:
    x = torch.ones(30, 20)

    def apart() -> tuple[torch.Tensor, torch.Tensor]:
        return F.dropout(x, 0.3), F.dropout(x, 0.3)

    def together() -> tuple[torch.Tensor, torch.Tensor]:
        y = F.dropout(x, 0.3)
        return y, y.clone()

    assert compare_calls(apart, apart, 2) is None
    found = compare_calls(apart, together, 2)
    assert found is not None and found.kind == "dependence"


GRAPH = parse_graph("""drt 1
graph f(%x: f32[512, 1000], %b: f32[1000]) -> (%y) {
  %h = add(%x, %b)           : f32[512, 1000]
  %y = dropout(%h) {p = 0.2} : f32[512, 1000]
}
""")

KERNEL = """
@triton.jit
def f_kernel(x, b, o, seed, n, N, BLOCK: tl.constexpr):
    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    m = i < n
    v = tl.load(x + i, mask=m, other=0.0) + tl.load(b + i % N, mask=m, other=0.0)
    kept = tl.rand(seed, i) >= 0.2
    tl.store(o + i, tl.where(kept, v * 1.25, 0.0), mask=m)


def f(x, b):
    o = torch.empty_like(x)
    seed = int(torch.randint(2**31 - 1, (), device="cpu"))
    f_kernel[(triton.cdiv(x.numel(), 256),)](x, b, o, seed, x.numel(), x.shape[1], BLOCK=256)
    return o
"""

FAULTS = [
    ("wrong p", ">= 0.2", ">= 0.25", "distribution"),
    ("no scale", "v * 1.25", "v", "support"),
    ("one mask for all rows", "tl.rand(seed, i)", "tl.rand(seed, i % N)", "distribution"),
    ("one mask for all programs", "tl.rand(seed, i)", "tl.rand(seed, tl.arange(0, BLOCK))", "distribution"),
    ("one mask for all calls", "seed = int(torch.randint(2**31 - 1, (), device=\"cpu\"))", "seed = 7", "distribution"),
    ("no dropout", "tl.where(kept, v * 1.25, 0.0)", "v", "support|distribution"),
    ("dropped before the bias", "tl.where(kept, v * 1.25, 0.0)", "tl.where(kept, v * 1.25, 0.0) + 0.125", "support"),
]  # fmt: skip

#: Those that the default suite runs: interpreting a generator many times takes seconds.
QUICK = ("no scale", "one mask for all calls", "wrong p")
CASES = [pytest.param(*f, id=f[0], marks=() if f[0] in QUICK else pytest.mark.full) for f in FAULTS]


def test_a_kernel_with_its_own_generator_passes() -> None:
    verdict = verify_candidate(GRAPH, Candidate(KERNEL, "f", "hand"), device="cpu")
    assert verdict.passed, verdict.summary()


@pytest.mark.parametrize(("name", "old", "new", "label"), CASES)
def test_kernels_of_another_distribution_are_refused(name: str, old: str, new: str, label: str) -> None:
    assert KERNEL.count(old) == 1
    verdict = verify_candidate(GRAPH, Candidate(KERNEL.replace(old, new), "f", "hand"), device="cpu")
    assert not verdict.passed and verdict.gate == "meaning" and verdict.label in label.split("|"), verdict.summary()
