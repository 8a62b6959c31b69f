"""Triton launches as they happen: recorded at the leaf, run under the judge's interpreter or only recorded.

Leaf ``run`` methods are replaced, so autotuner, heuristics and grid callables have been resolved by Triton's own code when a
launch is seen.  Must be imported with ``TRITON_INTERPRET=1``.
"""

from __future__ import annotations

import contextlib
import inspect
import types
from collections.abc import Iterator
from typing import Any

import attrs
import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry
from triton.runtime import interpreter as stock
from triton.runtime.autotuner import Autotuner

from .memory import active_monitor, address_of, set_monitor, written_arguments

try:
    from triton.backends.nvidia.compiler import CUDAOptions

    LAUNCH_OPTIONS = frozenset(CUDAOptions.__dataclass_fields__)
except ImportError:
    LAUNCH_OPTIONS = frozenset({"num_warps", "num_stages", "num_ctas", "maxnreg", "debug", "enable_fp_fusion"})

#: The largest grid of a CUDA device along x, y and z.
MAX_GRID = (2**31 - 1, 65535, 65535)


@attrs.frozen
class Event:
    """One step of a traced run.

    Attributes:
        kind: ``launch`` or the class of an ATen call: ``view alloc move compute random sync opaque``.
        reads, writes: addresses of storages.
        flops: of an ATen compute call.
    """

    kind: str
    name: str
    reads: frozenset[int]
    writes: frozenset[int]
    grid: tuple[int, ...] = ()
    flops: int = 0


_ALLOC = {
    "empty", "empty_like", "empty_strided", "new_empty", "new_empty_strided", "empty_permuted", "zeros", "zeros_like",
    "full", "full_like", "ones", "ones_like", "new_zeros", "new_full", "new_ones", "scalar_tensor", "arange", "zero_",
    "fill_", "eye",
}  # fmt: skip
_MOVE = {
    "clone", "copy_", "_to_copy", "cat", "stack", "constant_pad_nd", "contiguous", "lift_fresh_copy", "lift_fresh",
    "_pin_memory", "resize_", "set_", "_has_compatible_shallow_copy_type",
}  # fmt: skip


def classify(func: Any) -> str:
    """Return what an ATen operator does, from its schema and tags."""
    name = func._schema.name.split("::")[1]
    if func.namespace not in ("aten", "prims", "prim"):
        return "opaque"
    if (
        func.is_view
        or func.namespace == "prim"
        or name in ("detach", "_unsafe_view", "alias", "_reshape_alias", "lift")
    ):
        return "view"
    if name in _ALLOC:
        return "alloc"
    if name in _MOVE:
        return "move"
    if name in ("_local_scalar_dense", "item", "equal", "is_nonzero"):
        return "sync"
    if torch.Tag.nondeterministic_seeded in func.tags:
        return "random"
    return "compute"


def _storages(value: Any) -> frozenset[int]:
    return frozenset(
        t.untyped_storage().data_ptr()
        for t in tree_leaves(value)
        if isinstance(t, torch.Tensor) and t.device.type == "cpu"
    )


class AtenRecorder(TorchDispatchMode):
    """Appends every ATen call to a list of events."""

    def __init__(self, events: list[Event]) -> None:
        super().__init__()
        self.events = events

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        out = func(*args, **kwargs)
        kind = classify(func)
        flops = 0
        if kind == "compute":
            formula = flop_registry.get(func._overloadpacket)
            flops = int(formula(*args, **kwargs, out_val=out)) if formula is not None else 0
            sizes = [t.numel() for t in tree_leaves((args, kwargs, out)) if isinstance(t, torch.Tensor)]
            flops = max(flops, max(sizes, default=0))
        name = str(func).removeprefix("aten.")
        writes = _storages(written_arguments(func, args, kwargs)) | _storages(out)
        self.events.append(Event(kind, name, _storages((args, kwargs)), writes, flops=flops))
        return out


class NameRecorder(TorchDispatchMode):
    """Collects the names of the ATen calls that compute, of fake tensors too."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if classify(func) in ("compute", "opaque", "random"):
            self.names.append(str(func).removeprefix("aten."))
        return func(*args, **(kwargs or {}))


def dead_steps(events: list[Event], outputs: Any) -> list[str]:
    """Return the names of launches and compute calls whose results never reach ``outputs``, first to last."""
    live = set(_storages(outputs))
    dead = []
    for event in reversed(events):
        if event.writes & live or event.kind in ("opaque", "sync"):
            live |= event.reads
        elif event.kind in ("launch", "compute"):
            dead.append(event.name)
    return dead[::-1]


class PretendCuda(TorchFunctionMode):
    """CPU tensors answer as CUDA tensors: ``is_cuda``, ``device``; factories and moves stay on the CPU."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        name = getattr(func, "__name__", "")
        if name == "__get__":
            owner = getattr(func.__self__, "__name__", "")
            if owner == "is_cuda":
                return True
            if owner == "is_cpu":
                return False
            if owner == "device":
                return torch.device("cuda", 0)
        if func is torch.Tensor.cuda:
            return args[0]
        if func is torch.Tensor.get_device:
            return 0
        if func is torch.Tensor.data_ptr:  # kernels may be given addresses as numbers, in a table of them
            return address_of(args[0])
        if kwargs.get("device") is not None:
            kwargs["device"] = torch.device("cpu")
        if name in ("to", "new_empty", "new_zeros", "new_full", "new_ones"):
            args = tuple(torch.device("cpu") if _is_cuda(a) else a for a in args)
        return func(*args, **kwargs)


def _is_cuda(value: Any) -> bool:
    return isinstance(value, torch.device) or (isinstance(value, str) and value.startswith("cuda"))


class _Null(contextlib.nullcontext[None]):
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__()

    cuda_stream = 0

    def synchronize(self) -> None: ...


@contextlib.contextmanager
def cuda_stubs() -> Iterator[None]:
    """Answer the questions about the device that launchers ask, as an H100 would; nothing touches a driver."""
    properties = types.SimpleNamespace(
        name="NVIDIA H100 80GB HBM3", multi_processor_count=132, major=9, minor=0, warp_size=32, total_memory=80 << 30,
        max_threads_per_multi_processor=2048, shared_memory_per_block_optin=232448, regs_per_multiprocessor=65536,
        L2_cache_size=50 << 20,
    )  # fmt: skip
    stubs: dict[str, Any] = {
        "is_available": lambda: True, "current_device": lambda: 0, "device_count": lambda: 1,
        "synchronize": lambda *a: None, "device": _Null, "device_of": _Null, "_DeviceGuard": _Null,
        "current_stream": lambda *a: _Null(), "get_device_properties": lambda *a: properties,
        "get_device_capability": lambda *a: (9, 0), "get_device_name": lambda *a: properties.name,
        "empty_cache": lambda: None, "set_device": lambda *a: None, "is_initialized": lambda: True,
    }  # fmt: skip
    saved = {k: getattr(torch.cuda, k) for k in stubs if hasattr(torch.cuda, k)}
    for k in saved:
        setattr(torch.cuda, k, stubs[k])
    try:
        yield
    finally:
        for k, v in saved.items():
            setattr(torch.cuda, k, v)


def bind(leaf: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return arguments by name and launch options; raises TypeError where the real launcher would."""
    named = {k: v for k, v in kwargs.items() if k in leaf.arg_names}
    options = {k: v for k, v in kwargs.items() if k not in leaf.arg_names and k != "warmup"}
    bound = inspect.signature(leaf.fn).bind(*args, **named)
    bound.apply_defaults()
    unknown = sorted(set(options) - LAUNCH_OPTIONS)
    if unknown:
        raise TypeError(f"kernel {leaf.fn.__name__}: unknown keyword argument(s) {', '.join(unknown)}")
    return dict(bound.arguments), options


def resolve_grid(grid: Any, arguments: dict[str, Any]) -> tuple[int, int, int]:
    """Return the three sizes of a grid; a callable grid is called."""
    value = grid(arguments) if callable(grid) else grid
    sizes = tuple(int(i) for i in ((value,) if isinstance(value, int) else value))
    if not 1 <= len(sizes) <= 3:
        raise ValueError(f"a grid has one to three sizes, this has {len(sizes)}")
    x, y, z = sizes + (1,) * (3 - len(sizes))
    return x, y, z


class GridError(ValueError):
    """A grid that no CUDA device takes."""


@attrs.define
class Recorder:
    """How launches are handled while it is entered.

    Attributes:
        execute: run kernels under the active memory monitor, or only record them.
        config: which configuration of an autotuned kernel to take; the last one where there are fewer.
    """

    execute: bool
    config: int = 0
    events: list[Event] = attrs.field(factory=list)
    n_configs: int = 1
    kernel_error: tuple[str, int, str] | None = None
    source_file: str = ""
    constants: set[int] = attrs.field(factory=set)
    _saved: Any = None

    def __enter__(self) -> Recorder:
        recorder = self

        def run(leaf: Any, *args: Any, grid: Any, warmup: bool = False, **kwargs: Any) -> None:
            if not warmup:
                recorder._launch(leaf, args, grid, kwargs)

        def autotuned(tuner: Any, *args: Any, **kwargs: Any) -> Any:
            tuner.nargs = dict(zip(tuner.arg_names, args, strict=False))
            configs = tuner.prune_configs(kwargs)
            recorder.n_configs = max(recorder.n_configs, len(configs))
            chosen = configs[min(recorder.config, len(configs) - 1)]
            everything = {**tuner.nargs, **kwargs, **chosen.all_kwargs()}
            if chosen.pre_hook is not None:
                chosen.pre_hook(everything)
            tuner.pre_hook(everything, reset_only=True)
            tuner.best_config = chosen
            return tuner.fn.run(*args, **kwargs, **chosen.all_kwargs())

        self._saved = stock.InterpretedFunction.run, Autotuner.run
        stock.InterpretedFunction.run, Autotuner.run = run, autotuned
        return self

    def __exit__(self, *exc: Any) -> None:
        stock.InterpretedFunction.run, Autotuner.run = self._saved

    def _launch(self, leaf: Any, args: tuple[Any, ...], grid: Any, kwargs: dict[str, Any]) -> None:
        name = leaf.fn.__name__
        arguments, options = bind(leaf, args, kwargs)
        sizes = resolve_grid(grid, {**arguments, **options})
        if any(s > m for s, m in zip(sizes, MAX_GRID, strict=True)) or min(sizes) < 0:
            raise GridError(f"kernel {name}: grid {sizes} is outside what a CUDA device takes, {MAX_GRID}")
        self.constants.update(
            v for v in (*arguments.values(), *options.values()) if isinstance(v, int) and not isinstance(v, bool)
        )
        if not self.execute:
            reads = frozenset[int]()
            self.events.append(Event("launch", name, reads, reads, sizes))
            return
        if not isinstance(leaf, stock.InterpretedFunction):
            raise TypeError(f"kernel {name} was not made by triton.jit")
        monitor = active_monitor()
        monitor.source_file = leaf.fn.__code__.co_filename
        monitor.begin_launch(name, arguments)
        try:
            with _disable_current_modes():
                _run_grid(leaf, arguments, sizes)
        except BaseException as error:
            root: BaseException = error
            while root.__cause__ is not None and type(root).__name__ == "InterpreterError":
                root = root.__cause__
            line, trace = -1, root.__traceback__
            while trace is not None:
                if trace.tb_frame.f_code.co_filename == monitor.source_file:
                    line = trace.tb_lineno
                trace = trace.tb_next
            self.kernel_error = (name, line, f"{type(root).__name__}: {root}")
            raise
        finally:
            read, written = monitor.end_launch()
            self.events.append(Event("launch", name, frozenset(read), frozenset(written), sizes))


def _run_grid(leaf: Any, arguments: dict[str, Any], grid: tuple[int, int, int]) -> None:
    """Run every program of a launch, one after another."""
    function = leaf.rewrite()
    constants = stock.GridExecutor(function, leaf.arg_names, grid).constexprs
    values = {n: v if n in constants else stock._implicit_cvt(v) for n, v in arguments.items()}
    for hook in getattr(leaf, "pre_run_hooks", ()):
        hook(**arguments)
    builder = stock.interpreter_builder
    builder.set_grid_dim(*grid)
    for x in range(grid[0]):
        for y in range(grid[1]):
            for z in range(grid[2]):
                builder.set_grid_idx(x, y, z)
                function(**values)


@contextlib.contextmanager
def monitored(monitor: Any) -> Iterator[Any]:
    """Make ``monitor`` the active one and let it see ATen calls."""
    set_monitor(monitor)
    try:
        with monitor:
            yield monitor
    finally:
        set_monitor(None)
        monitor.remember()
