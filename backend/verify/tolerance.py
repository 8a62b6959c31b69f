"""How far a correct program may be from the float64 truth, derived from the reference itself.

For an output with truth r, and evaluations v of the reference in its own precision, a candidate c is right where

* bulk:    rms(c - r) <= 4 * max(max over v of rms(v - r), 0.58 * u * rms(r))
* element: |c - r| <= 8 * max(largest |v - r| of the element's row, what is usual for a row of its size, u * |r|, smallest
  normal number), a row being the last axis or as many of them as make 512 elements

with u the unit roundoff of the output's dtype.  The evaluations are the reference as PyTorch computes it, and the reference
re-associated: sums in tiles as kernels take them, products of float32 in parts as tensor cores make them, elementary functions
off by a few units in the last place as on a device.
Both bounds are estimates from the n elements of the output, and the root mean square of n errors is itself uncertain by
1/sqrt(2 n) of it: they are raised by three times that, which is nothing for outputs of usual size.  For the bulk, n counts the
elements that carry the root mean square: where a few are far larger than all others, as in products of many numbers, only them.

There is no absolute tolerance: zeros never pass for values.  Inputs on which the reference itself has lost a tenth of its
accuracy are refused.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import attrs
import torch
from torch.utils._python_dispatch import TorchDispatchMode

BULK_FACTOR, ELEMENT_FACTOR = 4.0, 8.0

#: Relative error of the reference above which an input says nothing about a candidate.
ILL_CONDITIONED = 0.1

#: Elements over which the reference's largest error is taken, at least.
_MIN_ROW = 512


@attrs.frozen
class Mismatch:
    """A wrong output.

    Attributes:
        index, value, expected, allowed: the worst element, and how far it might have been off.
        text: one line.
    """

    output: int
    kind: str
    index: tuple[int, ...]
    value: float
    expected: float
    allowed: float
    n_wrong: int
    text: str


@attrs.frozen
class Comparison:
    """The outcome for one output: how much of the allowance was used, or the mismatch."""

    bulk: float = 0.0
    element: float = 0.0
    mismatch: Mismatch | None = None
    refused: bool = False


def unit_roundoff(dtype: torch.dtype) -> float:
    """Return half the distance from 1 to the next number."""
    return torch.finfo(dtype).eps / 2


def _rows(error: torch.Tensor) -> torch.Tensor:
    """Return the largest entry of each element's row.

    A row is the last axis, or as many whole neighbouring rows of it as make ``_MIN_ROW`` elements: over fewer, after a
    function that zeroes half of them, the reference's own error may be far below its usual size by chance.
    """
    if error.dim() == 0 or error.numel() == 0:
        return error
    last = max(error.shape[-1], 1)
    length = last * max(1, -(-_MIN_ROW // last))
    flat = error.reshape(-1)
    padded = torch.nn.functional.pad(flat, (0, -flat.numel() % length))
    largest = padded.view(-1, length).amax(1, keepdim=True).expand(-1, length)
    return largest.reshape(-1)[: flat.numel()].view(error.shape)


def _usual(error: torch.Tensor, size: torch.Tensor) -> torch.Tensor:
    """Return the largest error of each element's row, or what is usual for a row of its size where that is more.

    Usual is the median over all elements of (largest error of the row) / (largest value of the row): among thousands of
    rows some have a far smaller error than the rest by chance, and would refuse what every other row allows.
    """
    errors, sizes = _rows(error), _rows(size)
    known = sizes > 0
    if not bool(known.any()):
        return errors
    ratio = (errors[known] / sizes[known]).nanmedian()
    return torch.maximum(errors, torch.where(torch.isfinite(ratio), ratio, torch.zeros_like(ratio)) * sizes)


def _rms(t: torch.Tensor) -> float:
    return float(t.square().mean().sqrt()) if t.numel() else 0.0


def _first(mask: torch.Tensor, score: torch.Tensor | None = None) -> tuple[int, ...]:
    """Return the index of the worst (or first) element of a mask."""
    at = int((score.masked_fill(~mask, -1.0) if score is not None else mask.to(torch.int8)).reshape(-1).argmax())
    index: list[int] = []
    for size in reversed(mask.shape):
        index.append(at % size)
        at //= size
    return tuple(reversed(index))


def _number(x: float) -> str:
    return f"{x:.9g}"


def compare(
    number: int, out: torch.Tensor, truth: torch.Tensor, variants: Sequence[torch.Tensor], exact: bool = False
) -> Comparison:
    """Compare one output with the truth.

    Args:
        number: of the output, for the message.
        out: what the candidate gave; its shape is that of ``truth``.
        truth: float64 (or the exact integers or booleans).
        variants: evaluations of the reference in its own precision.
        exact: demand equality with the truth rounded once to the dtype of ``out``.
    """
    if not out.numel():
        return Comparison()
    out, truth = out.detach(), truth.detach().to(out.device)
    if not out.dtype.is_floating_point:
        wrong = out != truth.to(out.dtype)
        for v in variants:  # a tie that rounding decides is not held against anyone
            wrong &= v.to(out.device) == truth.to(v.dtype)
        return _exactly(number, out, truth, wrong)
    if exact:
        want = truth.to(out.dtype)
        return _exactly(number, out, want, ~((out == want) | (out.isnan() & want.isnan())))
    r, c = truth.to(torch.float64), out.to(torch.float64)
    shown = r.to(out.dtype).to(torch.float64)  # with the dtype's overflow
    vs = [v.detach().to(out.device, torch.float64) for v in variants]
    good = shown.isfinite()
    for v in vs:
        good &= v.isfinite()
    # Where the truth is not finite, the reference must agree before a candidate is held to it.
    special = ~shown.isfinite()
    for v in vs:
        special &= (v == shown) | (v.isnan() & shown.isnan())
    wrong = special & ~((c == shown) | (c.isnan() & shown.isnan()))
    wrong |= good & ~c.isfinite()
    if wrong.any():
        at = _first(wrong)
        n = int(wrong.sum())
        text = (
            f"output {number} at index {list(at)} is {_number(float(c[at]))}, expected {_number(float(shown[at]))}"
            + (f"; {n} of {out.numel()} elements differ in NaN or infinity")
        )
        bad = Mismatch(number, "nonfinite", at, float(c[at]), float(shown[at]), 0.0, n, text)
        return Comparison(math.inf, math.inf, bad)
    zero = torch.zeros_like(r)
    r, c = torch.where(good, r, zero), torch.where(good, c, zero)
    errors = [torch.where(good, (v - r).abs(), zero) for v in vs]
    u, info = unit_roundoff(out.dtype), torch.finfo(out.dtype)
    tiny = info.tiny if out.dtype != torch.float16 else 2.0**-24
    difference = (c - r).abs()
    scale = _rms(r)
    worst = max((_rms(e) for e in errors), default=0.0)
    if worst > ILL_CONDITIONED * scale and worst > tiny:
        return Comparison(refused=True)
    slack = 1 + 3 / math.sqrt(2 * out.numel())
    spread = torch.stack(errors).amax(0) if errors else zero
    expected = torch.maximum(_usual(spread, r.abs()), u * r.abs())
    bound = max(worst, 0.58 * u * scale) * (1 + 3 / math.sqrt(2 * _carriers(expected)))
    allowed = slack * ELEMENT_FACTOR * expected.clamp_min(tiny)
    bulk = _rms(difference) / max(bound, tiny)
    ratio = difference / allowed * ELEMENT_FACTOR
    element = float(ratio.max())
    if element > ELEMENT_FACTOR:
        wrong = ratio > ELEMENT_FACTOR
        at, n = _first(wrong, ratio), int(wrong.sum())
        text = (
            f"output {number} at index {list(at)} is {_number(float(c[at]))}, expected {_number(float(r[at]))} "
            f"within {float(allowed[at]):.3g} (off by {float(difference[at]):.3g}); {n} of {out.numel()} elements are wrong"
        )
        bad = Mismatch(number, "element", at, float(c[at]), float(r[at]), float(allowed[at]), n, text)
        return Comparison(bulk, element, bad)
    if bulk > BULK_FACTOR:
        at = _first(good, difference)
        text = (
            f"output {number}: root-mean-square error {_rms(difference):.3g}, allowed {BULK_FACTOR * bound:.3g}; largest at "
            f"index {list(at)}: {_number(float(c[at]))}, expected {_number(float(r[at]))}"
        )
        bad = Mismatch(number, "bulk", at, float(c[at]), float(r[at]), BULK_FACTOR * bound, out.numel(), text)
        return Comparison(bulk, element, bad)
    return Comparison(bulk, element)


def _carriers(errors: torch.Tensor) -> float:
    """Return how many elements carry the root mean square: n for n of one size, near 1 where one outweighs the others."""
    squares = (errors / errors.max().clamp_min(torch.finfo(errors.dtype).tiny)).square()
    return max(1.0, float(squares.sum().square() / squares.square().sum().clamp_min(1e-300)))


def _exactly(number: int, out: torch.Tensor, want: torch.Tensor, wrong: torch.Tensor) -> Comparison:
    if not wrong.any():
        return Comparison()
    at, n = _first(wrong), int(wrong.sum())
    value, expected = out[at].item(), want[at].item()
    text = f"output {number} at index {list(at)} is {value}, expected {expected} exactly; {n} of {out.numel()} elements differ"
    return Comparison(math.inf, math.inf, Mismatch(number, "exact", at, float(value), float(expected), 0.0, n, text))


# -- evaluations of the reference -------------------------------------------------------------------------------------

_TILE = 32

_ELEMENTARY = {
    "exp", "exp2", "expm1", "log", "log2", "log10", "log1p", "tanh", "sigmoid", "erf", "erfc", "erfinv", "gelu", "silu",
    "mish", "softplus", "elu", "sin", "cos", "tan", "asin", "acos", "atan", "atan2", "sinh", "cosh", "asinh", "acosh",
    "atanh", "rsqrt", "sqrt", "pow", "reciprocal", "div", "lgamma", "log_sigmoid_forward", "hardswish", "logaddexp",
    "hardsigmoid", "leaky_relu",
}  # fmt: skip

_DECOMPOSED = {
    "native_layer_norm", "_softmax", "_log_softmax", "native_group_norm", "logsumexp", "var", "std", "var_mean",
    "_native_batch_norm_legit", "_native_batch_norm_legit_no_training", "native_batch_norm", "linalg_vector_norm",
    "_fused_rms_norm", "mse_loss", "smooth_l1_loss", "huber_loss", "binary_cross_entropy", "nll_loss_forward",
}  # fmt: skip


class Reassociated(TorchDispatchMode):
    """Evaluates PyTorch calls as a tiled kernel on a device would: other orders of summation, other roundings.

    Contractions and sums go over tiles of 32, and with every second seed over shuffled terms; products are taken by halves;
    running sums double their reach;
    normalisations and softmax are taken apart; the inputs and results of elementary functions are moved by two units of
    roundoff, up or down.  With ``tf32``, the inputs of float32 contractions
    lose the 13 bits that tensor cores do not read.

    Args:
        seed: of the roundings.
        reassociate: False leaves the order of summation and the roundings alone, for the effect of ``tf32`` only.
    """

    def __init__(self, seed: int = 0, tf32: bool = False, reassociate: bool = True) -> None:
        super().__init__()
        self.seed, self.tf32, self.reassociate = seed, tf32, reassociate
        self._generators: dict[torch.device, torch.Generator] = {}

    def _generator(self, device: torch.device) -> torch.Generator:
        generator = self._generators.get(device)
        if generator is None:
            generator = torch.Generator(device)
            generator.manual_seed(self.seed)
            self._generators[device] = generator
        return generator

    def _order(self, n: int, device: torch.device) -> torch.Tensor | None:
        """Return the order in which ``n`` terms are taken; None for the order in which they stand."""
        if not self.reassociate or self.seed % 2 == 0 or n < 3:
            return None
        return torch.randperm(n, generator=self._generator(device), device=device)

    def _noise(self, x: torch.Tensor, units: float) -> torch.Tensor:
        generator = self._generator(x.device)
        delta = torch.randint(0, 2, x.shape, generator=generator, device=x.device, dtype=torch.float64) * 2 - 1
        moved = x.to(torch.float64) * (1 + units * unit_roundoff(x.dtype) * delta)
        return moved.to(x.dtype)

    def _input(self, x: torch.Tensor) -> torch.Tensor:
        if not self.tf32 or x.dtype != torch.float32:
            return x
        return (x.contiguous().view(torch.int32) & -8192).view(torch.float32)

    def _in_parts(self, f: Any) -> Any:
        """Return a product of float32 operands as tensor cores make it of two parts of each, in every other evaluation.

        The parts have 11 bits each, and the product of the smaller ones is left out (``tf32x3``): as good as float32 for a
        sum of many products, and up to two bits less for one.
        """
        if not self.reassociate or self.tf32 or self.seed % 2 == 0:
            return f

        def product(a: torch.Tensor, b: torch.Tensor) -> Any:
            if a.dtype != torch.float32 or b.dtype != torch.float32:
                return f(a, b)
            (high_a, low_a), (high_b, low_b) = _two_parts(a), _two_parts(b)
            small = f(low_a, high_b) + f(high_a, low_b)
            # Nothing of an infinity is left, and nothing times infinity is not a number.
            return torch.where(small.isnan(), torch.zeros_like(small), small) + f(high_a, high_b)

        return product

    def _product(self, f: Any, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        a, b = self._input(a), self._input(b)
        f = self._in_parts(f)
        k = a.shape[-1]
        order = self._order(k, a.device) if a.dtype.is_floating_point else None
        if order is not None:
            a, b = a.index_select(-1, order), b.index_select(-2 if b.dim() > 1 else -1, order)
        if not self.reassociate or not a.dtype.is_floating_point or k <= _TILE:
            return f(a, b)
        wide = torch.float32 if a.dtype in (torch.float16, torch.bfloat16) else a.dtype
        axis = -2 if b.dim() > 1 else -1
        total: torch.Tensor | None = None
        step = max(_TILE, -(-k // 128))
        for i in range(0, k, step):
            n = min(step, k - i)
            part = f(a.narrow(-1, i, n).to(wide), b.narrow(axis, i, n).to(wide))
            total = part if total is None else total + part
        assert total is not None
        return total.to(a.dtype)

    def _sum(self, x: torch.Tensor, dims: Any, keepdim: bool, dtype: torch.dtype | None) -> torch.Tensor:
        dims = [d % max(x.dim(), 1) for d in dims] if dims else list(range(x.dim()))
        out_type = dtype or (x.dtype if x.dtype.is_floating_point else torch.int64)
        wide = torch.float32 if out_type in (torch.float16, torch.bfloat16) else out_type
        if not dims:
            return x.to(out_type)
        rest = [d for d in range(x.dim()) if d not in dims]
        flat = x.to(wide).permute(*rest, *dims).reshape(*(x.shape[d] for d in rest), -1)
        n = flat.shape[-1]
        order = self._order(n, x.device)
        if order is not None:
            flat = flat.index_select(-1, order)
        width = max(_TILE, int(n**0.5))
        pad = -n % width
        blocks = torch.nn.functional.pad(flat, (0, pad)).reshape(*flat.shape[:-1], -1, width)
        total = torch.zeros(blocks.shape[:-2] + (width,), dtype=wide, device=x.device)
        for i in range(blocks.shape[-2]):
            total = total + blocks[..., i, :]
        out = total.sum(-1).to(out_type)
        if keepdim:
            for d in sorted(dims):
                out = out.unsqueeze(d)
        return out

    def _multiply(self, x: torch.Tensor, dim: int | None, keepdim: bool, dtype: torch.dtype | None) -> torch.Tensor:
        """Return the products along an axis (None: of all elements), by halves, in this evaluation's order."""
        out_type = dtype or x.dtype
        wide = x.to(_accumulator(x.to(out_type)))
        part = wide.reshape(-1) if dim is None else wide.movedim(dim, 0)
        order = self._order(part.shape[0], x.device)
        part = part if order is None else part.index_select(0, order)
        while (n := part.shape[0]) > 1:
            half = n // 2
            part = torch.cat([part[:half] * part[half : 2 * half], part[2 * half :]])
        out = part[0] if part.shape[0] else torch.ones_like(part.sum(0))
        return (out.unsqueeze(dim) if keepdim and dim is not None else out).to(out_type)

    def _running(self, x: torch.Tensor, axis: int, dtype: torch.dtype | None, product: bool) -> torch.Tensor:
        """Return the running sums (products) along an axis: by doubling the reach, or tile after tile with what came before."""
        out_type = dtype or x.dtype
        total = x.to(_accumulator(x.to(out_type))).movedim(axis, 0)
        n = total.shape[0]
        tile = n if self.seed % 2 else _TILE
        for start in range(0, n, max(tile, 1)):
            part = total[start : start + tile]
            reach = 1
            while reach < len(part):
                more = part[reach:] * part[:-reach] if product else part[reach:] + part[:-reach]
                part = torch.cat([part[:reach], more])
                reach *= 2
            if start:
                before = total[start - 1]
                part = part * before if product else part + before
            total = torch.cat([total[:start], part, total[start + tile :]])
        return total.movedim(0, axis).to(out_type).contiguous()  # as PyTorch's: a view of the result may follow

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        name = func._schema.name.removeprefix("aten::")
        if name in ("mm", "bmm", "mv", "dot"):
            return self._product(lambda a, b: func(a, b), args[0], args[1])
        if name in ("addmm", "baddbmm", "addmv") and len(args) == 3:
            f = {"addmm": torch.mm, "baddbmm": torch.bmm, "addmv": torch.mv}[name]
            beta, alpha = kwargs.get("beta", 1), kwargs.get("alpha", 1)
            product = self._product(
                lambda a, b: f(a, b), args[1].to(_accumulator(args[1])), args[2].to(_accumulator(args[2]))
            )
            return (product * alpha + args[0].to(product.dtype) * beta).to(args[1].dtype)
        if name == "convolution" and (self.tf32 or self.reassociate):
            return self._convolution(func, args)
        if not self.reassociate:
            return func(*args, **kwargs)
        if name in ("sum", "mean") and args[0].is_floating_point():
            dims = args[1] if len(args) > 1 else kwargs.get("dim")
            keepdim = bool(args[2]) if len(args) > 2 else bool(kwargs.get("keepdim", False))
            out = self._sum(args[0], dims, keepdim, kwargs.get("dtype"))
            return out if name == "sum" else out / max(1, args[0].numel() // max(1, out.numel()))
        if name == "prod" and args[0].is_floating_point() and args[0].dim():
            dim = args[1] if len(args) > 1 else kwargs.get("dim")
            keepdim = bool(args[2]) if len(args) > 2 else bool(kwargs.get("keepdim", False))
            return self._multiply(args[0], dim, keepdim, kwargs.get("dtype"))
        if name in ("cumsum", "cumprod") and args[0].is_floating_point() and args[0].dim():
            return self._running(args[0], args[1], kwargs.get("dtype"), name == "cumprod")
        if name in _DECOMPOSED:
            rule = torch._decomp.decomposition_table.get(func)
            if rule is not None:
                with self:
                    out = rule(*args, **kwargs)
                if out is not NotImplemented:
                    return (_laid_out(out[0], args[0]), *out[1:]) if "batch_norm" in name else out
        if name.rstrip("_") in _ELEMENTARY and not name.endswith("_"):
            first = args[0] if args and isinstance(args[0], torch.Tensor) else None
            if first is not None and first.dtype in (torch.float32, torch.float64):
                if name not in ("div", "sqrt", "rsqrt", "reciprocal"):
                    args = (self._noise(first, 2.0), *args[1:])
                out = func(*args, **kwargs)
                return self._noise(out, 2.0) if isinstance(out, torch.Tensor) else out
        return func(*args, **kwargs)

    def _convolution(self, func: Any, args: Any) -> Any:
        x, w = self._input(args[0]), self._input(args[1])
        bias, rest, transposed, groups = args[2], args[3:], args[6], args[8]
        convolve = self._in_parts(lambda a, b: func(a, b, None, *rest))
        channels = x.shape[1]
        if not self.reassociate or (w.numel() <= 1 and channels <= 4):
            return func(x, w, *args[2:])
        wide = _accumulator(x)
        total: torch.Tensor | None = None
        if groups != 1 or channels <= 4 or transposed:
            # The products of each result in two parts, chosen at random among the taps.
            chosen = torch.rand(w.shape[2:], generator=self._generator(w.device), device=w.device) < 0.5
            first, second = (torch.where(c, w, torch.zeros_like(w)).to(wide) for c in (chosen, ~chosen))
            total = convolve(x.to(wide), first) + convolve(x.to(wide), second)
            channels = 0
        else:
            order = self._order(channels, x.device)
            if order is not None:
                x, w = x.index_select(1, order), w.index_select(1, order)
        step = max(4, -(-channels // 16))
        for i in range(0, channels, step):
            n = min(step, channels - i)
            part = convolve(x.narrow(1, i, n).to(wide), w.narrow(1, i, n).to(wide))
            total = part if total is None else total + part
        assert total is not None
        if bias is not None:
            total = total + bias.to(wide).reshape(1, -1, *[1] * (x.dim() - 2))
        return _laid_out(total.to(x.dtype), args[0])


def _two_parts(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return numbers of 11 bits and what they leave of float32 elements, rounded so, too; all of what is not finite first."""

    def rounded(v: torch.Tensor) -> torch.Tensor:
        return torch.where(v.isfinite(), ((v.contiguous().view(torch.int32) + 0x1000) & -8192).view(torch.float32), v)

    high = rounded(x)
    high = torch.where(high.isfinite(), high, x)  # rounded up beyond the largest number
    return high, rounded(torch.where(high.isfinite(), x - high, torch.zeros_like(x)))


def _laid_out(out: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    """Return a result in the layout that PyTorch gives it: channels last where ``x`` is, contiguous otherwise."""
    last = x.dim() == 4 and x.is_contiguous(memory_format=torch.channels_last) and not x.is_contiguous()
    return out.contiguous(memory_format=torch.channels_last if last else torch.contiguous_format)


def _accumulator(x: torch.Tensor) -> torch.dtype:
    return torch.float32 if x.dtype in (torch.float16, torch.bfloat16) else x.dtype
