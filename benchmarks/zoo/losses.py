"""Losses, as training code writes them: each takes what a model gives and what it should have given."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from _building import Made
from torch import nn


class Loss(nn.Module):
    """A loss as a module, as training frameworks hold it."""

    def __init__(self, function: Callable[..., torch.Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, *tensors: torch.Tensor) -> torch.Tensor:
        return self.function(*tensors)


def _logits(full: bool, classes: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    rows, columns = (4096, 32000) if full else (6, 9)
    columns = classes or columns
    return torch.randn(rows, columns), torch.randint(0, columns, (rows,))


def _pair(full: bool) -> tuple[torch.Tensor, torch.Tensor]:
    shape = (4096, 1024) if full else (6, 9)
    return torch.randn(shape), torch.randn(shape)


def cross_entropy(full: bool = False) -> Made:
    logits, target = _logits(full)
    return Loss(lambda x, t: F.cross_entropy(x, t, label_smoothing=0.1)), (logits, target)


def cross_entropy_ignored(full: bool = False) -> Made:
    """With padding that does not count, as language models train."""
    logits, target = _logits(full)
    target[::3] = -100
    return Loss(lambda x, t: F.cross_entropy(x, t, ignore_index=-100)), (logits, target)


def cross_entropy_pixels(full: bool = False) -> Made:
    size = 256 if full else 5
    logits, target = torch.randn(2, 7, size, size), torch.randint(0, 7, (2, size, size))
    return Loss(lambda x, t, w: F.cross_entropy(x, t, weight=w)), (logits, target, torch.rand(7))


def cross_entropy_soft(full: bool = False) -> Made:
    """Against probabilities, as mixup makes them."""
    logits, _ = _logits(full)
    return Loss(F.cross_entropy), (logits, torch.rand_like(logits).softmax(-1))


def _ctc(log_probability: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Connectionist temporal classification (Graves et al., 2006) by its forward recursion, one step for each frame.

    ``torch.nn.functional.ctc_loss`` cannot be exported: the shape of its second result depends on tensor contents.
    """
    batch, length = target.shape
    labels = torch.zeros(batch, 2 * length + 1, dtype=torch.int64, device=target.device)
    labels[:, 1::2] = target
    emitted = log_probability.gather(2, labels.expand(log_probability.shape[0], -1, -1))
    may_skip = F.pad((labels[:, 2:] != 0) & (labels[:, 2:] != labels[:, :-2]), (2, 0))
    start = torch.arange(2 * length + 1, device=target.device) < 2
    alpha = torch.where(start, emitted[0], -1e30)
    for frame in emitted[1:]:
        one, two = F.pad(alpha[:, :-1], (1, 0), value=-1e30), F.pad(alpha[:, :-2], (2, 0), value=-1e30)
        alpha = frame + torch.logsumexp(torch.stack([alpha, one, two.where(may_skip, -1e30)]), 0)
    return -(torch.logaddexp(alpha[:, -1], alpha[:, -2]) / length).mean()


def ctc(full: bool = False) -> Made:
    steps, classes = (50, 64) if full else (12, 6)
    return Loss(_ctc), (torch.randn(steps, 2, classes).log_softmax(-1), torch.randint(1, classes, (2, 4)))


def triplet(full: bool = False) -> Made:
    a, b = _pair(full)
    return Loss(lambda x, p, n: F.triplet_margin_loss(x, p, n, margin=0.5)), (a, b, torch.randn_like(a))


def _focal(x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
    entropy = F.binary_cross_entropy_with_logits(x, t, reduction="none")
    p = torch.sigmoid(x)
    right = p * t + (1 - p) * (1 - t)
    return ((0.25 * t + 0.75 * (1 - t)) * entropy * (1 - right) ** 2).mean()


def focal(full: bool = False) -> Made:
    x, y = _pair(full)
    return Loss(_focal), (x, (y > 0).to(x.dtype))


def _contrastive(a: torch.Tensor, b: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
    a, b = F.normalize(a, dim=-1), F.normalize(b, dim=-1)
    scores = scale.exp() * a @ b.t()
    target = torch.arange(a.shape[0], device=a.device)
    return (F.cross_entropy(scores, target) + F.cross_entropy(scores.t(), target)) / 2


def contrastive(full: bool = False) -> Made:
    """InfoNCE in both directions, as CLIP trains."""
    return Loss(_contrastive), (*_pair(full), torch.tensor(2.66))


def _supervised_contrastive(x: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
    x = F.normalize(x, dim=-1)
    scores = x @ x.mT / 0.07
    other = ~torch.eye(x.shape[0], dtype=torch.bool, device=x.device)
    same = (label[:, None] == label[None]) & other
    scores = scores.masked_fill(~other, float("-inf"))
    log_probability = scores - torch.logsumexp(scores, dim=1, keepdim=True)
    total = log_probability.masked_fill(~same, 0.0).sum(1) / same.sum(1).clamp(min=1)
    return -total.mean()


def supervised_contrastive(full: bool = False) -> Made:
    x, _ = _pair(full)
    return Loss(_supervised_contrastive), (x, torch.randint(0, 3, (x.shape[0],)))


def _dice(x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
    p = x.softmax(1)
    hot = F.one_hot(t, x.shape[1]).movedim(-1, 1).to(x.dtype)
    inside = (p * hot).sum((2, 3))
    return 1 - ((2 * inside + 1) / (p.sum((2, 3)) + hot.sum((2, 3)) + 1)).mean()


def dice(full: bool = False) -> Made:
    size = 256 if full else 5
    return Loss(_dice), (torch.randn(2, 4, size, size), torch.randint(0, 4, (2, size, size)))


def regression(full: bool = False) -> Made:
    """The four usual distances together."""

    def loss(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return F.mse_loss(x, y) + F.l1_loss(x, y) + F.smooth_l1_loss(x, y, beta=0.5) + F.huber_loss(x, y, delta=0.7)

    return Loss(loss), _pair(full)


def distillation(full: bool = False) -> Made:
    """Kullback-Leibler divergence at a temperature, beside cross entropy."""

    def loss(student: torch.Tensor, teacher: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        soft = F.kl_div(
            F.log_softmax(student / 2, -1), F.log_softmax(teacher / 2, -1), log_target=True, reduction="batchmean"
        )
        return 4 * soft + F.cross_entropy(student, target)

    logits, target = _logits(full)
    return Loss(loss), (logits, torch.randn_like(logits), target)


def binary(full: bool = False) -> Made:
    """Weighted binary cross entropy, and the one over probabilities."""

    def loss(x: torch.Tensor, t: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
        return F.binary_cross_entropy_with_logits(x, t, pos_weight=w) + F.binary_cross_entropy(x.sigmoid(), t)

    x, y = _pair(full)
    return Loss(loss), (x, (y > 0).to(x.dtype), torch.rand(x.shape[1]))


def margins(full: bool = False) -> Made:
    """Ranking, hinge, cosine and multi-label losses."""

    def loss(x: torch.Tensor, y: torch.Tensor, sign: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        row = sign[:, 0]
        return (
            F.margin_ranking_loss(x, y, sign, margin=0.1)
            + F.hinge_embedding_loss(x, sign)
            + F.cosine_embedding_loss(x, y, row)
            + F.soft_margin_loss(x, sign)
            + F.multilabel_soft_margin_loss(x, (sign > 0).to(x.dtype))
            + F.multi_margin_loss(x, target)
        )

    x, y = _pair(full)
    sign = torch.where(torch.rand_like(x) > 0.5, 1.0, -1.0)
    return Loss(loss), (x, y, sign, torch.randint(0, x.shape[1], (x.shape[0],)))


def likelihoods(full: bool = False) -> Made:
    """Negative log-likelihoods of Gaussian and Poisson variables and of classes."""

    def loss(x: torch.Tensor, y: torch.Tensor, v: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        gaussian = -torch.distributions.Normal(x, v.sqrt(), validate_args=False).log_prob(y).mean()
        poisson = F.poisson_nll_loss(x, y.abs(), log_input=True, full=True)
        return gaussian + poisson + F.nll_loss(F.log_softmax(x, 1), target)

    x, y = _pair(full)
    return Loss(loss), (x, y, torch.rand_like(x) + 0.1, torch.randint(0, x.shape[1], (x.shape[0],)))
