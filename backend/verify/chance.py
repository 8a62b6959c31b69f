"""The comparison of random programs: whether two sets of draws come from one distribution.

Both sides are run many times on the same inputs.  Nothing is assumed of the distribution: each statistic of the candidate's
draws against the reference's is set against what it is for random relabellings of all draws together (a permutation test),
and against the discrete values that the reference takes.  What must agree:

* *support*: where an element takes few values (dropout: 0 and x / (1 - p)), it takes these and no others;
* *mean* and *spread* of every element, the *shape* of the distribution, and the share of elements that are zero;
* *dependence*: how alike two draws are over all elements.  One mask for all rows, or a mask that returns in a later call,
  makes draws alike that should not be, whatever the mask itself looks like.
"""

from __future__ import annotations

import math

import attrs
import torch

#: Draws of each side that the first comparison needs, and those of the second that confirms a difference.
DRAWS, MORE_DRAWS = 64, 192

#: Fewest draws of a candidate that say anything.
FEWEST_DRAWS = 24

#: Relabellings of the draws that show how a statistic varies by chance.
RELABELLINGS = 300

#: How far outside of that a statistic must lie, in its standard deviations, to raise a suspicion, and to confirm one with
#: fresh draws.
SUSPICIOUS, CONFIRMED = 4.5, 5.5

#: Which part of that many draws of values that the reference never takes must be beyond: they are no matter of degree.
RARE = 0.7

#: Beyond this many, no fresh draws are asked for.
CONVINCING = 20.0

#: Values that an element of discrete distribution takes, at most.
MOST_VALUES = 6


@attrs.frozen
class Difference:
    """What two sets of draws differ in.

    Attributes:
        kind: ``support``, ``mean``, ``spread``, ``shape``, ``zeros``, ``dependence`` or ``constant``.
        text: one sentence.
        deviations: how far outside of chance, in standard deviations; infinite where chance is out of the question.
    """

    kind: str
    text: str
    deviations: float = math.inf


def compare_draws(
    reference: torch.Tensor,
    candidate: torch.Tensor,
    tolerance: float = 1e-4,
    seed: int = 0,
    deviations: float = SUSPICIOUS,
) -> Difference | None:
    """Return what two sets of draws differ in, None where nothing is found.

    Args:
        reference: draws along the first axis.
        candidate: likewise; perhaps more or fewer of them.
        tolerance: relative difference of two values that count as one.
        seed: of the relabellings.
        deviations: beyond which a statistic counts as different.
    """
    a = reference.to(torch.float64).reshape(reference.shape[0], -1)
    b = candidate.to(torch.float64).reshape(candidate.shape[0], -1)
    if not a.shape[1]:
        return None
    strange = ~b.isfinite() & a.isfinite().all(0)
    if bool(strange.any()):
        element = int(strange.any(0).nonzero()[0])
        return Difference(
            "support", f"element {element} is {float(b[strange][0]):g} where the reference is always finite"
        )
    kept = a.isfinite().all(0) & b.isfinite().all(0)
    a, b = a[:, kept], b[:, kept]
    if not a.shape[1]:
        return None
    scale = torch.cat([a, b]).abs().amax(0).clamp_min(torch.finfo(torch.float64).tiny)
    fixed = (a - a[:1]).abs().amax(0) <= tolerance * scale
    found = _fixed_elements(a, b, fixed, tolerance * scale, deviations) or _support(a, b, tolerance * scale)
    if found is not None or bool(fixed.all()):
        return found
    return _statistics(a[:, ~fixed], b[:, ~fixed], seed, deviations)


def _fixed_elements(
    a: torch.Tensor, b: torch.Tensor, fixed: torch.Tensor, tolerance: torch.Tensor, deviations: float
) -> Difference | None:
    """Compare elements that the reference never changes; and see whether those that it changes ever change."""
    off = ((b - a[:1]).abs() > tolerance) & fixed
    if float(off.any(0).sum()) > 0.02 * a.shape[1] + 0.5 and bool(fixed.any()):
        # An element of rare values looks fixed by chance, on either side as often as on the other.
        back = ((a - b[:1]).abs() > tolerance) & ((b - b[:1]).abs() <= tolerance).all(0)
        there, here = int(off.any(1).sum()), int(back.any(1).sum())
        beyond = (there - here) / math.sqrt(there + here)
        if beyond > RARE * deviations:
            element = int(off.any(0).nonzero()[0])
            value = float(b[:, element][off[:, element]][0])
            known = float(a[0, element])
            return Difference(
                "support", f"element {element} is {value:.6g}, where the reference always gives {known:.6g}", beyond
            )
    moving = ~fixed
    if bool(moving.any()) and bool(((b - b[:1]).abs()[:, moving] <= tolerance[moving]).all()):
        return Difference("constant", "every call gives the same values, where the reference draws new ones")
    return None


def _support(a: torch.Tensor, b: torch.Tensor, tolerance: torch.Tensor) -> Difference | None:
    """Compare the values of elements that take few."""
    half = a.shape[0] // 2
    known, held_out = a[:half], a[half:]

    def unmatched(draws: torch.Tensor) -> torch.Tensor:
        nearest = torch.stack([(draws - value).abs() for value in known])
        return nearest.amin(0) > tolerance

    # Sorting tells how many values an element takes.
    steps = a.sort(0).values.diff(dim=0) > tolerance
    discrete = steps.sum(0) < MOST_VALUES
    if float(discrete.double().mean()) < 0.5:
        return None
    expected = unmatched(held_out)[:, discrete].double().mean()
    got = unmatched(b)[:, discrete]
    share = got.double().mean()
    n = got.numel()
    limit = expected + 8 * math.sqrt(float(expected.clamp_min(1.0 / n)) / n) + 0.01
    if share > limit:
        place = got.any(0).nonzero()[0]
        element = int(discrete.nonzero()[int(place)])
        value = float(b[:, discrete][:, place].reshape(-1)[got[:, place].reshape(-1)][0])
        values = ", ".join(f"{v:.4g}" for v in _distinct(a[:, element], float(tolerance[element])))
        return Difference("support", f"element {element} is {value:.6g}, where the reference takes the values {values}")
    return None


def _distinct(values: torch.Tensor, tolerance: float) -> list[float]:
    out: list[float] = []
    for v in values.sort().values.tolist():
        if not out or v - out[-1] > tolerance:
            out.append(v)
    return out[: MOST_VALUES + 1]


def _statistics(a: torch.Tensor, b: torch.Tensor, seed: int, deviations: float) -> Difference | None:
    """Compare means, spreads, zeros and the likeness of draws, each against random relabellings."""
    n, m = a.shape[0], b.shape[0]
    every = torch.cat([a, b])
    generator = torch.Generator().manual_seed(seed)
    labels = torch.stack(
        [torch.arange(n + m) >= n] + [torch.randperm(n + m, generator=generator) >= n for _ in range(RELABELLINGS)]
    ).double()  # row 0 is the truth; ones mark the candidate
    weights = labels / m - (1 - labels) / n
    standard = (every - every.mean(0)) / every.std(0, correction=0).clamp_min(1e-300)
    squares = standard**2
    zeros = (every == 0).double()
    gram = standard @ standard.T
    gram.fill_diagonal_(0)
    alike = gram**2 / standard.shape[1]
    inside, outside = (((side @ alike) * side).sum(1) for side in (labels, 1 - labels))
    likeness = inside / (m * (m - 1)) - outside / (n * (n - 1))
    sums = weights @ standard
    overall = sums @ every.mean(0).sign()
    rows = (
        ("mean", "the means of its elements differ", (sums**2).sum(1), 1),
        ("mean", "the mean over all elements differs", overall, 2),
        ("spread", "the spread of its elements differs", ((weights @ squares) ** 2).sum(1), 1),
        ("spread", "the spread over all elements differs", (weights @ squares).sum(1), 2),
        ("shape", "the shape of the distribution differs", (weights @ standard.abs()).sum(1), 2),
        ("shape", "the skewness of the distribution differs", (weights @ standard**3).sum(1), 2),
        ("zeros", "how often elements are zero differs", (weights @ zeros).sum(1), 2),
        ("dependence", "how alike the draws are differs", likeness, 2),
    )
    for kind, text, values, sides in rows:
        truth, chance = float(values[0]), values[1:]
        spread = float(chance.std())
        if spread <= 1e-12 * max(1.0, abs(truth)):
            continue
        off = (truth - float(chance.mean())) / spread
        # A sum of squares has a longer tail than a sum.
        limit = deviations if sides == 2 else 1.3 * deviations
        if (abs(off) if sides == 2 else off) > limit:
            detail = f"{abs(off):.0f} standard deviations from what chance gives"
            if kind == "zeros":
                shares = float((a == 0).double().mean()), float((b == 0).double().mean())
                detail = f"{shares[1]:.4f} of them, the reference {shares[0]:.4f}; {detail}"
            return Difference(kind, f"{text}: {detail}", abs(off))
    return None
