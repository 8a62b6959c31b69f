"""A PyTorch module as the reference: fresh state, its float64 truth, inputs that show faults."""

from __future__ import annotations

import contextlib
import copy
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import attrs
import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

from ...ir import UsageError
from .families import ascending, peaked
from .judge import reference_evaluations

_LOW = (torch.float32, torch.float16, torch.bfloat16)


def randomize_state(module: torch.nn.Module, generator: torch.Generator) -> None:
    """Give every parameter and running statistic fresh values of the same scale; none stays 0 or 1 throughout.

    Values that were all positive stay positive.  Other buffers (masks, tables) are structure and stay.
    """
    with torch.no_grad():
        for _, p in module.named_parameters():
            if p.is_floating_point() and p.numel():
                p.copy_(_fresh(p, generator))
        for name, b in module.named_buffers():
            if not b.is_floating_point() or not b.numel():
                continue
            if name.endswith("running_var"):
                b.copy_(torch.rand(b.shape, generator=generator).to(b) + 0.5)
            elif name.endswith("running_mean"):
                b.copy_(torch.randn(b.shape, generator=generator).to(b) * 0.5)


def _fresh(p: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    data = p.detach().to(torch.float32)
    spread = float(data.std()) if data.numel() > 1 else 0.0
    center = float(data.mean())
    noise = torch.randn(p.shape, generator=generator).to(p.device)
    if spread > 1e-6 * max(1.0, abs(center)):
        new = center + spread * noise
    else:  # a constant: ones, zeros
        new = center + 0.3 * noise
    if float(data.min()) > 0:
        new = new.abs() + 1e-2 * max(abs(center), 1e-3)
    return new.to(p.dtype)


class _Float64(TorchFunctionMode):
    """Turns every request for a lower floating-point type into one for float64."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        if func in (torch.Tensor.float, torch.Tensor.half, torch.Tensor.bfloat16):
            return args[0].to(torch.float64)
        if kwargs.get("dtype") in _LOW:
            kwargs["dtype"] = torch.float64
        args = tuple(torch.float64 if a in _LOW and isinstance(a, torch.dtype) else a for a in args)
        if func in (torch.Tensor.to, torch.Tensor.type_as) and any(_is_low(a) for a in args[1:]):
            return args[0].to(torch.float64)
        return func(*args, **kwargs)


def _is_low(value: Any) -> bool:
    return isinstance(value, torch.Tensor) and value.dtype in _LOW


def to_float64(value: Any) -> Any:
    """Return a nest with every floating-point tensor in float64."""
    return tree_map(lambda t: t.double() if isinstance(t, torch.Tensor) and t.is_floating_point() else t, value)


#: PyTorch's default dtype and generator belong to the process.  A thread holds this while it changes them, and while it
#: runs a user's reference, which may rely on them.
process_settings = threading.RLock()


@contextlib.contextmanager
def _default_float64() -> Iterator[None]:
    saved = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        with _Float64():
            yield
    finally:
        torch.set_default_dtype(saved)


def _widened(module: torch.nn.Module) -> torch.nn.Module:
    """Return a float64 copy; tensors kept as plain attributes are widened too."""
    wide = copy.deepcopy(module).double()
    for m in wide.modules():
        for name, value in list(vars(m).items()):
            if isinstance(value, torch.Tensor) and value.is_floating_point():
                object.__setattr__(m, name, value.double())
    return wide


@attrs.frozen
class ReferenceResult:
    """What a reference gives for one call.

    Attributes:
        truth: float64 leaves of the result (exact integers and booleans).
        variants: evaluations in the module's own precision.
        eager: what PyTorch gives, for types and layouts.
        updated: buffers that the call changes: name -> float64 content after it.
        aliases: per output, whether it shares memory with an input or a parameter.
    """

    truth: list[torch.Tensor] = attrs.field(eq=False)
    variants: list[list[torch.Tensor]] = attrs.field(eq=False)
    eager: list[Any] = attrs.field(eq=False)
    updated: dict[str, torch.Tensor] = attrs.field(eq=False)
    updated_variants: dict[str, list[torch.Tensor]] = attrs.field(eq=False)
    aliases: set[str] = attrs.field(eq=False)

    def is_finite(self) -> bool:
        """Return whether neither the truth nor what PyTorch gives has infinities or NaN."""
        floats = [t for t in (*self.truth, *self.eager) if isinstance(t, torch.Tensor) and t.is_floating_point()]
        return all(bool(t.isfinite().all()) for t in floats)


class _Names(TorchDispatchMode):
    """Collects the names of the operators that are called."""

    def __init__(self) -> None:
        super().__init__()
        self.names: set[str] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.names.add(str(func))
        return func(*args, **(kwargs or {}))


class Reference:
    """A module whose state is fixed, and what it gives.

    Args:
        module: any module; it is copied, its state and mode are kept.
        precision: declared arithmetic of float32 products.
    """

    def __init__(self, module: torch.nn.Module, precision: str, seed: int) -> None:
        self.module, self.precision, self.seed = copy.deepcopy(module), precision, seed
        self.module.requires_grad_(False)
        self._wide: torch.nn.Module | None = None

    def call(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> tuple[Any, torch.nn.Module]:
        """Return the result of one call and the module after it; the kept state does not change."""
        copied = copy.deepcopy(self.module)
        with torch.no_grad():
            return copied(*_clone(args), **_clone(kwargs)), copied

    def is_random(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> bool:
        """Return whether two calls with the same arguments differ; raises UsageError where the reference raises."""
        results = []
        for k in range(2):
            torch.manual_seed(self.seed + k)
            try:
                results.append(tree_leaves(self.call(args, kwargs)[0]))
            except Exception as error:
                raise _raised(error) from None
        return any(
            isinstance(a, torch.Tensor) and not torch.equal(a.nan_to_num(), b.nan_to_num())
            for a, b in zip(*results, strict=True)
        )

    def is_unordered(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> bool:
        """Return whether a call sorts or selects, so that which of equal numbers it takes is PyTorch's secret."""
        with _Names() as called:
            self.call(args, kwargs)
        return any(name.startswith(_UNORDERED) for name in called.names)

    def run(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> ReferenceResult:
        """Return the truth and the evaluations of one call.

        Raises:
            UsageError: the reference itself raises, or gives something else than tensors.
        """
        try:
            given_args, given_kwargs = _clone(args), _clone(kwargs)
            copied = copy.deepcopy(self.module)
            with torch.no_grad():
                eager = tree_leaves(copied(*given_args, **given_kwargs))
        except Exception as error:
            raise _raised(error) from None
        tensors = [t for t in eager if isinstance(t, torch.Tensor)]
        state, after = self.module.state_dict(), copied.state_dict()
        changed = [n for n in state if not torch.equal(state[n].nan_to_num(), after[n].nan_to_num())]
        held = {
            t.untyped_storage().data_ptr(): "input" for t in tree_leaves((given_args, given_kwargs)) if _is_tensor(t)
        }
        held.update({t.untyped_storage().data_ptr(): "state" for t in after.values()})
        aliases: set[str] = set()
        for i, t in enumerate(tensors):
            where = t.untyped_storage().data_ptr()
            if where in held:
                aliases.add(held[where])
            held.setdefault(where, f"output {i}")
        wide_module = _widened(self.module)
        with process_settings, torch.no_grad(), _default_float64():
            wide = [t for t in tree_leaves(wide_module(*to_float64(args), **to_float64(kwargs))) if _is_tensor(t)]
        truth = [w if w.is_floating_point() == t.is_floating_point() else w.to(t.dtype)
                 for w, t in zip(wide, tensors, strict=True)]  # fmt: skip
        wide_state = wide_module.state_dict()
        collected: dict[str, list[torch.Tensor]] = {n: [] for n in changed}

        def evaluate(*_: Any) -> Any:
            result, module = self.call(args, kwargs)
            for n in changed:
                collected[n].append(module.state_dict()[n])
            return result

        smallest = min((t.numel() for t in tensors), default=0)
        variants = reference_evaluations(evaluate, (), self.precision, smallest, self.seed % 1000003)
        return ReferenceResult(truth, variants, eager, {n: wide_state[n] for n in changed}, collected, aliases)


def _raised(error: Exception) -> UsageError:
    return UsageError(f"the reference raises {type(error).__name__}: {error}", subject="verify")


def _is_tensor(value: Any) -> bool:
    return isinstance(value, torch.Tensor)


def _clone(value: Any) -> Any:
    return tree_map(lambda t: t.clone() if isinstance(t, torch.Tensor) else t, value)


Move = Callable[[torch.Tensor, torch.Generator], torch.Tensor]


def _in_lines(move: Callable[[torch.Tensor], torch.Tensor]) -> Move:
    """Return a move of tensors that have lines; others stay."""
    return lambda t, g: move(t) if t.dim() and t.numel() > 1 else t


#: Ways to move example inputs where shortcuts of a candidate show, the most telling first; ``given`` are the examples.
MOVES: dict[str, Move] = {
    "given": lambda t, g: t,
    "peaks": _in_lines(peaked),
    "signed": lambda t, g: t * (torch.randint(0, 2, t.shape, generator=g) * 2 - 1).to(t),
    "offset": lambda t, g: t + 30,  # a variance as the difference of two large numbers
    "negative": lambda t, g: -t.abs(),
    "ascending": _in_lines(ascending),
    "ties": lambda t, g: (t * 2).round() / 2,
    "huge": lambda t, g: t * 150,
    "zeros": lambda t, g: t * 0,
    "shifted": lambda t, g: t - 0.5 * t.abs().mean() - 0.25,
    "large": lambda t, g: t * 3,
    "small": lambda t, g: t * 0.01,
}

#: Moves that make numbers alike, and operators of which PyTorch does not say which of equal numbers they take.
ALIKE = ("ties", "zeros")
_UNORDERED = ("aten.topk", "aten.sort", "aten.argsort", "aten.kthvalue", "aten.mode", "aten.median", "aten.unique")


def moved(value: Any, family: str, generator: torch.Generator) -> Any:
    """Return a nest of inputs with its floating-point tensors moved; integers and booleans stay."""

    def move(t: Any) -> Any:
        if not _is_tensor(t) or not t.is_floating_point():
            return t
        return MOVES[family](t.to("cpu", torch.float32), generator).to(t.device, t.dtype)

    return tree_map(move, value)
