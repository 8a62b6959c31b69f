"""How much of one model the operators say: by count, by floating-point operations, by bytes; and whether it comes back equal.

A node counts as known where an operator says it, also an operator whose body is opaque for a stated reason; opaque nodes
are those that no operator says.  Work of an opaque node is what PyTorch's own counter gives for it, and at least one
operation for each element of its largest tensor; its bytes are those of its operands and results.
"""

from __future__ import annotations

import copy
import math
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import attrs
import torch
import torch.utils._pytree as pytree
from torch.utils.flop_counter import FlopCounterMode

from .backend.opaque import TORCH_DTYPES, run_opaque
from .backend.to_torch import state_paths, to_callable, to_source
from .frontend import Imported, LoadedModel, import_module, load_model
from .ir import OPAQUE, DrtError, Graph, Node, OpSet, builtin_ops
from .ir.cost import node_bytes, node_flops

#: Largest relative error in float64 of a graph whose operators sum in another order than the model's.
TOLERANCE = 1e-9
#: The same where a model cannot run in float64 and is compared as it stands.
TOLERANCE_FLOAT32 = 1e-4


@attrs.frozen
class OpaqueTarget:
    """A target that no operator says.

    Attributes:
        target: the ATen overload.
        count: its nodes.
        reason: why the first of them is opaque.
        flops: floating-point operations of all of them.
        bytes: their traffic.
    """

    target: str
    count: int
    reason: str
    flops: float
    bytes: float


@attrs.frozen
class Comparison:
    """A graph, run in PyTorch, against the model that it was imported from.

    Attributes:
        dtype: what both computed in: ``float64``, or ``float32`` where the model cannot run in float64.
        bitwise: whether every result is the same bit for bit.
        error: the largest difference of any result, relative to the largest magnitude in that result.
        source_error: the same for the written PyTorch source, against the model.
    """

    dtype: str
    bitwise: bool
    error: float
    source_error: float

    @property
    def good(self) -> bool:
        """Whether the graph and its source compute what the model does."""
        return max(self.error, self.source_error) <= self.tolerance

    @property
    def tolerance(self) -> float:
        """The largest error that rounding explains."""
        return TOLERANCE if self.dtype == "float64" else TOLERANCE_FLOAT32


@attrs.frozen
class ModelCoverage:
    """What is known of one model.

    Attributes:
        model: its name.
        spec: what :func:`load_model` was given.
        status: ``good``, ``failed`` (the import failed, or the comparison), ``skipped`` (a package is missing).
        reason: one line, where it is not good.
        size: ``full`` where the published size was counted, else ``small``.
        n_nodes: nodes of the graph.
        n_opaque: how many of them no operator says.
        flops: floating-point operations of one call.
        opaque_flops: the part of them in opaque nodes.
        bytes: bytes that the nodes read and write, each by itself; views are free.
        opaque_bytes: the part of them in opaque nodes.
        opaque: the targets of the opaque nodes.
        export_s: time of ``torch.export.export`` (CPU seconds).
        import_s: time that the import took beside it (CPU seconds).
        comparison: None where none was asked for, or none could be made.
    """

    model: str
    spec: str
    status: str = "good"
    reason: str = ""
    size: str = "small"
    n_nodes: int = 0
    n_opaque: int = 0
    flops: float = 0.0
    opaque_flops: float = 0.0
    bytes: float = 0.0
    opaque_bytes: float = 0.0
    opaque: tuple[OpaqueTarget, ...] = ()
    export_s: float = 0.0
    import_s: float = 0.0
    comparison: Comparison | None = None


def cover_model(
    spec: str, *, name: str = "", ops: OpSet | None = None, check: bool = False, full: bool = False
) -> ModelCoverage:
    """Import one model and count; whatever goes wrong is a row with its reason.

    Args:
        spec: what :func:`load_model` takes.
        name: of the row; "" takes the spec.
        ops: the operators; None means the built-in ones.
        check: compare the graph, run in PyTorch, with the model.
        full: count at the published size: the factory is called with ``full=True`` on the meta device.
    """
    ops = builtin_ops() if ops is None else ops
    name = name or spec
    try:
        model = load_model(spec)
        comparison = compare(model, ops) if check else None
        size = "small"
        if full:
            with torch.device("meta"):
                model, size = load_model(spec, factory_arguments={"full": True}), "full"
        with _export_time() as exports:
            start_s = time.process_time()
            imported = import_module(
                model.module, model.example_inputs, example_kwargs=dict(model.example_kwargs), ops=ops
            )
            total_s = time.process_time() - start_s
        row = count(imported, ops)
    except Exception as error:
        missing = _missing_package(error)
        if missing:
            return ModelCoverage(name, spec, "skipped", f"{missing} is not installed, expected drt[zoo]")
        return ModelCoverage(name, spec, "failed", _one_line(error))
    wrong = "" if comparison is None or comparison.good else _difference(comparison)
    return attrs.evolve(
        row, model=name, spec=spec, status="failed" if wrong else "good", reason=wrong, size=size,
        export_s=exports[0], import_s=total_s - exports[0], comparison=comparison,
    )  # fmt: skip


# -- counting -------------------------------------------------------------------------------------------------------------


def count(imported: Imported, ops: OpSet) -> ModelCoverage:
    """Return the counts of an imported program."""
    graph = imported.graph
    reasons = {u.target: u.reason for u in imported.unknown}
    totals = {"flops": 0.0, "opaque_flops": 0.0, "bytes": 0.0, "opaque_bytes": 0.0}
    opaque: dict[str, OpaqueTarget] = {}
    seen: dict[Any, tuple[float, float]] = {}
    for node in graph.nodes:
        # Deep models repeat their layers.
        key = (node.op, node.attrs, node.types, tuple(_type_of(o, graph) for o in node.operands))
        if key not in seen:
            flops = _opaque_flops(node, graph) if node.op == OPAQUE else float(node_flops(node, graph.types, ops))  # type: ignore[arg-type]
            seen[key] = flops, float(node_bytes(node, graph.types, ops))  # type: ignore[arg-type]
        flops, size = seen[key]
        totals["flops"] += flops
        totals["bytes"] += size
        if node.op == OPAQUE:
            totals["opaque_flops"] += flops
            totals["opaque_bytes"] += size
            target = str(node.attributes["target"])
            old = opaque.get(target, OpaqueTarget(target, 0, reasons.get(target, ""), 0.0, 0.0))
            opaque[target] = attrs.evolve(old, count=old.count + 1, flops=old.flops + flops, bytes=old.bytes + size)
    return ModelCoverage(
        model=graph.name, spec="", n_nodes=len(graph.nodes), n_opaque=sum(t.count for t in opaque.values()),
        opaque=tuple(sorted(opaque.values(), key=lambda t: (-t.count, t.target))),
        flops=totals["flops"], opaque_flops=totals["opaque_flops"], bytes=totals["bytes"], opaque_bytes=totals["opaque_bytes"],
    )  # fmt: skip


def _type_of(operand: Any, graph: Graph) -> Any:
    if isinstance(operand, str):
        return graph.types[operand]
    return tuple(_type_of(o, graph) for o in operand) if isinstance(operand, tuple) else str(operand)


def _opaque_flops(node: Node, graph: Graph) -> float:
    """Return what PyTorch's counter says of the call on tensors without storage."""
    types = [graph.types[name] for name in node.uses()]
    least = max((float(t.numel) for t in (*types, *node.types)), default=0.0)  # type: ignore[arg-type]

    def tensor(operand: Any) -> Any:
        t = graph.types[operand]
        return torch.empty([int(s) for s in t.shape], dtype=TORCH_DTYPES[t.dtype], device="meta")  # type: ignore[arg-type]

    try:
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            run_opaque(node, tensor, device="meta")
    except Exception:  # no rule of PyTorch gives its shapes: the estimate stands
        return least
    return max(least, float(counter.get_total_flops()))


@contextmanager
def _export_time() -> Iterator[list[float]]:
    """Yield a list whose one item becomes the time spent in ``torch.export.export`` (CPU seconds)."""
    spent = [0.0]
    original = torch.export.export

    def timed(*args: Any, **kwargs: Any) -> Any:
        start_s = time.process_time()
        try:
            return original(*args, **kwargs)
        finally:
            spent[0] += time.process_time() - start_s

    torch.export.export = timed
    try:
        yield spent
    finally:
        torch.export.export = original


# -- comparing ------------------------------------------------------------------------------------------------------------


def compare(model: LoadedModel, ops: OpSet) -> Comparison:
    """Run a model and the graph that is imported from it on the same inputs, in float64 where the model can."""
    module = copy.deepcopy(model.module)
    given = model.example_inputs, dict(model.example_kwargs)
    if isinstance(module, torch.nn.Module):
        module.eval()
    dtype = "float64"
    with torch.no_grad():
        try:
            wide = module.double() if isinstance(module, torch.nn.Module) else module
            wide_given = pytree.tree_map(_double, given)
            want = _run(wide, wide_given)
        except (RuntimeError, TypeError, ValueError):  # a dtype is written into the model
            dtype, wide, wide_given = "float32", copy.deepcopy(model.module), given
            if isinstance(wide, torch.nn.Module):
                wide.eval()
            want = _run(wide, wide_given)
        imported = import_module(wide, wide_given[0], example_kwargs=wide_given[1], ops=ops)
        inputs = imported.bind(*wide_given[0], **wide_given[1])

        def called(f: Callable[..., Any]) -> list[Any]:
            copies = [t.clone() for t in inputs]
            torch.manual_seed(0)
            return pytree.tree_leaves(imported.result(f(*copies), copies))

        got = called(to_callable(imported.graph, ops))
        written = called(_written(imported, ops))
    errors = [_error(g, w) for g, w in zip(got, want, strict=True)]
    return Comparison(
        dtype=dtype,
        bitwise=all(map(_same, got, want)),
        error=max(errors, default=0.0),
        source_error=max((_error(g, w) for g, w in zip(written, want, strict=True)), default=0.0),
    )


def _double(value: Any) -> Any:
    return value.double() if isinstance(value, torch.Tensor) and value.is_floating_point() else value


def _run(module: Any, given: tuple[Any, Mapping[str, Any]]) -> list[Any]:
    """Return the leaves of the result; the module's buffers are left as they were."""
    module = copy.deepcopy(module)
    args, kwargs = pytree.tree_map(lambda v: v.clone() if isinstance(v, torch.Tensor) else v, given)
    torch.manual_seed(0)
    return pytree.tree_leaves(module(*args, **kwargs))


def _written(imported: Imported, ops: OpSet) -> Callable[..., Any]:
    """Return a function of the graph's inputs that runs its source in the form of a module."""
    namespace: dict[str, Any] = {}
    graph = imported.graph
    exec(compile(to_source(graph, ops), f"<source of {graph.name}>", "exec"), namespace)
    module = namespace["Model"](*namespace["get_init_inputs"]()).eval()
    paths = state_paths(graph)

    def run(*tensors: torch.Tensor) -> Any:
        given = []
        for i, tensor in zip(graph.inputs, tensors, strict=True):
            if i.kind == "input":
                given.append(tensor)
            else:
                *owners, leaf = paths[i.name]
                getattr(module.get_submodule(".".join(owners)), leaf).data = tensor
        return module(*given)

    return run


def _same(got: Any, want: Any) -> bool:
    if not isinstance(got, torch.Tensor) or not isinstance(want, torch.Tensor):
        return bool(got == want)
    if got.dtype != want.dtype or got.shape != want.shape:
        return False
    if got.is_floating_point():
        return bool(((got == want) | (got.isnan() & want.isnan())).all())
    return torch.equal(got, want)


def _error(got: Any, want: Any) -> float:
    """Return the largest difference relative to the largest magnitude; infinite where results cannot be compared."""
    if _same(got, want):
        return 0.0
    comparable = isinstance(got, torch.Tensor) and isinstance(want, torch.Tensor) and got.shape == want.shape
    if not comparable or got.dtype != want.dtype or not want.is_floating_point():
        return math.inf
    finite = want.isfinite()
    if not torch.equal(finite, got.isfinite()) or not _same(got[~finite], want[~finite]):
        return math.inf
    got, want = got[finite].double(), want[finite].double()
    return float((got - want).abs().max() / want.abs().max().clamp_min(1e-300))


def _difference(c: Comparison) -> str:
    what, error = ("graph", c.error) if c.error > c.tolerance else ("written source", c.source_error)
    return f"the {what} differs from the model by {error:.2g} in {c.dtype}, expected at most {c.tolerance:g}"


# -- failures -------------------------------------------------------------------------------------------------------------


def _missing_package(error: BaseException | None) -> str:
    """Return the package whose absence is the cause of ``error``, or ""."""
    while error is not None:
        if isinstance(error, ModuleNotFoundError) and error.name:
            return error.name.partition(".")[0]
        error = error.__cause__ or error.__context__
    return ""


def _one_line(error: BaseException) -> str:
    if isinstance(error, DrtError):
        return error.line()
    text = next((line.strip() for line in str(error).splitlines() if line.strip()), "")
    last = traceback.extract_tb(error.__traceback__)[-1]
    return f"{Path(last.filename).name}:{last.lineno}: {type(error).__name__}: {text}".rstrip(": ")


__all__ = ["Comparison", "ModelCoverage", "OpaqueTarget", "compare", "count", "cover_model"]
