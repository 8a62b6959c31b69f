"""The whole compile: model -> graph -> rewrites -> fragments -> kernels -> verdicts -> one file."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs
import torch

from .backend.assemble import Step, assemble
from .backend.candidate import H100, Target
from .files import finished_file, require_writable
from .frontend import Imported, LoadedModel, import_module, on_meta, parse_dynamic
from .host import host_of, in_process_host
from .ir import OPAQUE, Graph, Node, OpSet, UsageError, checked, load_ops, simplify
from .ir.binding import read_sizes
from .report import PYTORCH, CompileOptions, CompileReport, FragmentRow, Progress
from .search import A_VIEW, ONCE, Chooser, Chosen, load_model_new, partition
from .ways import load
from .whole import verify_whole

#: ``FragmentRow.writer`` of what PyTorch computes once, from parameters alone.
ONCE_WRITER = "once"


def _silent(stage: str, done: int, total: int, detail: str = "") -> None:
    return None


@attrs.frozen
class Compiled:
    """A program that has been cut and given kernels, before it is written anywhere."""

    imported: Imported
    graph: Graph
    chosen: tuple[Chosen, ...]
    target: Target
    ops: OpSet
    device: str

    @property
    def steps(self) -> tuple[Step, ...]:
        """The steps in running order."""
        return tuple(c.step for c in self.chosen)

    @property
    def rows(self) -> tuple[FragmentRow, ...]:
        """The rows of the report: everything but the steps that cost nothing."""
        once = [c for c in self.chosen if c.reason == ONCE]
        rows = [row_of(c) for c in self.chosen if c.reason not in (A_VIEW, ONCE)]
        if once:
            operators = ", ".join(dict.fromkeys(_operator(n) for c in once for n in c.part.fragment.nodes))
            rows.insert(0, FragmentRow(operators, ONCE_WRITER, reason=ONCE))
        return tuple(rows)


def _operator(node: Node) -> str:
    return node.op if node.op != OPAQUE else str(node.attributes["target"])


def row_of(chosen: Chosen) -> FragmentRow:
    """Return the report's row of one part."""
    operators = ", ".join(_operator(n) for n in chosen.part.fragment.nodes)
    candidate, verdict, times = chosen.step.candidate, chosen.verdict, chosen.times
    if candidate is None:
        writer, verified = PYTORCH, ""
    else:
        assert verdict is not None
        writer, verified = candidate.writer, ", ".join(g.gate for g in verdict.gates if g.passed)
    return FragmentRow(
        operators=operators,
        writer=writer,
        verified=verified,
        time_us=times.drt_us,
        time_kind=times.kind,
        eager_us=times.eager_us,
        compiled_us=times.compiled_us,
        reason=chosen.reason,
        variant=candidate.variant if candidate else "",
    )


def pick_device(wanted: str) -> str:
    """Return ``cuda`` or ``cpu``; raises UsageError where ``cuda`` is wanted and there is none."""
    if wanted == "cuda" and not torch.cuda.is_available():
        raise UsageError("no CUDA device is available, expected one; use --device cpu", subject="--device cuda")
    return "cuda" if wanted != "cpu" and torch.cuda.is_available() else "cpu"


def target_of(device: str) -> Target:
    """Return the planning figures of the device, or of an H100 where there is none to ask."""
    if device == "cpu":
        return H100
    properties = torch.cuda.get_device_properties(0)
    shared = getattr(properties, "shared_memory_per_block_optin", H100.shared_bytes)
    return attrs.evolve(
        H100,
        name=properties.name,
        n_multiprocessors=properties.multi_processor_count,
        shared_bytes=shared,
        l2_bytes=getattr(properties, "L2_cache_size", H100.l2_bytes),
    )


def precision_flags(precision: str, device: str) -> dict[str, Any]:
    """Return the arithmetic flags under which candidates and baselines run, as they are printed."""
    allowed = precision == "tf32"
    flags: dict[str, Any] = {
        "precision": precision,
        "matmul.allow_tf32": allowed,
        "cudnn.allow_tf32": allowed,
        "torch": torch.__version__,
    }
    if device == "cuda":
        flags["cuda"] = torch.version.cuda
    return flags


def build(
    module: Any,
    args: Sequence[Any],
    kwargs: Mapping[str, Any],
    options: CompileOptions,
    progress: Progress = _silent,
    exact_only: bool = False,
) -> Compiled:
    """Import, rewrite, cut and find a kernel for each fragment.

    Args:
        module: what to compile, on the device that it is compiled for.
        args, kwargs: the example arguments of one call.
        options: how to compile.
        progress: told where the work stands.
        exact_only: use only the rewrites that keep every bit.

    Raises:
        UsageError: the model cannot be exported, or an operator file is bad.
    """
    device = pick_device(options.device)
    ops = load_ops(*options.ops)
    require_weights(module)
    progress("export", 0, 1)
    dynamic = parse_dynamic(options.dynamic)
    imported = import_module(module, tuple(args), example_kwargs=kwargs, ops=ops, training=None, dynamic=dynamic)
    if not imported.graph.live_out:
        raise UsageError("gives no tensors and updates none, expected at least one", subject=imported.graph.name)
    progress("export", 1, 1, f"{len(imported.graph.nodes)} operators")
    with torch.autocast(device, enabled=False):  # the program has its casts; references must not cast again
        return _build(imported, ops, args, kwargs, options, progress, exact_only, device)


def _build(
    imported: Imported,
    ops: OpSet,
    args: Sequence[Any],
    kwargs: Mapping[str, Any],
    options: CompileOptions,
    progress: Progress,
    exact_only: bool,
    device: str,
) -> Compiled:
    """Rewrite and cut an imported program, and find a kernel for each fragment."""
    progress("rewrite", 0, 1)
    graph, applied = simplify(imported.graph, ops, exact_only=exact_only)
    progress("rewrite", 1, 1, f"{len(applied)} rewrites")
    target = target_of(device)
    # Export takes what it takes: the budget is the search's alone.
    deadline_s = time.monotonic() + options.budget_s
    sizes = example_sizes(imported, args, kwargs)
    chooser = Chooser(ops, target, options.precision, options.variants, device, deadline_s, sizes=sizes)
    progress("cut", 0, 1)
    parts = partition(graph, ops, chooser.plan, target)
    progress("cut", 1, 1, f"{len(parts)} fragments")
    chosen: list[Chosen] = []
    work = [p for p in parts if p.plan is not None]
    done = 0
    for part in parts:
        if part.plan is not None:
            progress("kernels", done, len(work), ", ".join(n.op for n in part.fragment.nodes)[:60])
            done += 1
        chosen += chooser.choose(part)
    progress("kernels", len(work), max(len(work), 1))
    return Compiled(imported, graph, tuple(chosen), target, ops, device)


def example_sizes(imported: Imported, args: Sequence[Any], kwargs: Mapping[str, Any]) -> dict[str, int]:
    """Return the values of the program's symbols in the example call."""
    if not imported.graph.symbols:
        return {}
    tensors = imported.bind(*args, **kwargs)
    return read_sizes(
        imported.graph, {i.name: tuple(t.shape) for i, t in zip(imported.graph.inputs, tensors, strict=True)}
    )


def served_sizes(graph: Graph) -> str:
    """Return the sizes that a program takes, as its header says them; empty where they are all fixed."""
    ranges = ", ".join(f"{s.name} in {s.lo}..{s.hi}" for s in graph.symbols)
    return f"{ranges} where {', '.join(map(str, graph.guards))}" if graph.guards else ranges


def require_weights(module: Any) -> None:
    """Raise UsageError where a module has no weights: kernels are timed and judged on tensors with content."""
    missing = on_meta(module)
    if missing:
        more = f" (and {len(missing) - 1} more)" if len(missing) > 1 else ""
        message = "is on the meta device and has no content, expected real weights: module.to_empty(device=...), then load them"
        raise UsageError(message, subject=f"{missing[0]}{more}")


@checked
def compile_model(
    spec: str | os.PathLike[str],
    output: str | os.PathLike[str],
    options: CompileOptions | None = None,
    progress: Progress = _silent,
) -> CompileReport:
    """Compile a model into one file that defines ``class ModelNew``.

    Args:
        spec: ``FILE.py``, ``pkg.mod:name``, ``FILE.pt2`` or ``FILE.ir``; see :func:`drt.frontend.import_program`.
        output: the file to write; it appears whole or not at all.
        options: how to compile.
        progress: told where the work stands.

    Returns:
        The report; ``report.whole.passed`` says whether the written program was verified.

    Raises:
        ParseError, UsageError: the model, an operator file or the output path is bad.
    """
    options = options or CompileOptions()
    start_s = time.monotonic()
    path = Path(output)
    require_writable(path)
    progress("load", 0, 1)
    loaded = load(spec, load_ops(*options.ops))
    module = loaded.module
    args, kwargs = _to_device((loaded.example_inputs, dict(loaded.example_kwargs)), pick_device(options.device))
    require_weights(module)
    if isinstance(module, torch.nn.Module):
        module.to(pick_device(options.device))
    progress("load", 1, 1)
    # A rewrite that keeps the real-number meaning may cost more accuracy than the whole program is allowed; what the judge
    # then refuses is compiled once more by the rewrites that keep every bit.
    for exact_only in (False, True):
        compiled = build(module, args, kwargs, options, progress, exact_only)
        host = host_of(loaded, compiled.imported, compiled.graph)
        rows = compiled.rows
        notes = _notes(rows, options, compiled.graph)
        text = assemble(compiled.graph, compiled.steps, host, compiled.ops, _title(loaded), notes)
        progress("whole", 0, 1)
        with finished_file(path, text) as draft:
            whole, whole_us = verify_whole(compiled, loaded, draft, args, kwargs, options)
        progress("whole", 1, 1)
        if whole.passed or whole.label == "not_judged":
            break
    return CompileReport(
        spec=os.fspath(spec),
        output=path,
        device=target_of(compiled.device).name if compiled.device == "cuda" else "cpu (interpreted; times predicted)",
        precision_flags=precision_flags(options.precision, compiled.device),
        rows=rows,
        whole=whole,
        whole_us=whole_us,
        elapsed_s=time.monotonic() - start_s,
        serves=served_sizes(compiled.graph),
    )


@checked
def compile(
    module: torch.nn.Module | Callable[..., Any],
    example_inputs: Sequence[Any],
    example_kwargs: Mapping[str, Any] | None = None,
    *,
    ops: Sequence[str | os.PathLike[str]] = (),
    precision: str = "strict",
    budget_s: float = 60.0,
    variants: int = 4,
    device: str = "auto",
    dynamic: Sequence[str] = (),
    progress: Progress = _silent,
) -> torch.nn.Module:
    """Compile a module in this process.

    Args:
        module: any exportable module, or a function of tensors; its parameters are shared, not copied.
        example_inputs: positional arguments of one call; their shapes are what is compiled for.
        example_kwargs: keyword arguments of one call.
        ops: files with further operator definitions.
        precision: arithmetic of float32 products: ``strict`` or ``tf32``.
        budget_s: time that the search may take, seconds.
        variants: kernels tried for one fragment, at most.
        device: where kernels are verified and timed: ``auto``, ``cpu`` or ``cuda``.
        dynamic: sizes that may change from call to call: ``x:0=B``, ``x:0=B:1..64``.
        progress: told where the work stands.

    Returns:
        A module with the original's ``state_dict``, for inference; calls that it was not compiled for run the original.
        ``compiled.report_rows`` holds the table of fragments, ``compiled.source`` the text of the program.

    Raises:
        UsageError: the model cannot be exported.
    """
    options = CompileOptions(tuple(Path(p) for p in ops), precision, budget_s, variants, device, tuple(dynamic))
    return to_module(build(module, example_inputs, example_kwargs or {}, options, progress), module, options)


def to_module(compiled: Compiled, module: Any, options: CompileOptions) -> torch.nn.Module:
    """Return a compiled program as a module of this process.

    Args:
        compiled: what :func:`build` returned.
        module: what it was built from; its parameters are shared, not copied.
        options: how it was compiled.
    """
    host = in_process_host(module, compiled.imported, compiled.graph)
    title = f"{type(module).__name__}, compiled by DRT."
    text = assemble(
        compiled.graph, compiled.steps, host, compiled.ops, title, _notes(compiled.rows, options, compiled.graph)
    )
    result = _load(text)
    _share_state(result, module)
    result.__dict__["original"] = module
    result.__dict__["report_rows"] = compiled.rows
    result.__dict__["source"] = text
    return result


def _load(text: str) -> torch.nn.Module:
    """Build ``ModelNew`` from its text; Triton reads kernels from a file, which therefore stays until the process ends."""
    path = Path(tempfile.mkdtemp(prefix="drt_")) / "compiled.py"
    path.write_text(text)
    return load_model_new(path)


def _share_state(result: torch.nn.Module, module: Any) -> None:
    if not isinstance(module, torch.nn.Module):
        return
    for target, parameter in module.named_parameters(remove_duplicate=False):
        _owner(result, target)._parameters[target.rpartition(".")[2]] = parameter
    for target, buffer in module.named_buffers(remove_duplicate=False):
        _owner(result, target)._buffers[target.rpartition(".")[2]] = buffer
    result.train(module.training)


def _owner(module: torch.nn.Module, target: str) -> torch.nn.Module:
    return module.get_submodule(target.rpartition(".")[0])


def _to_device(value: Any, device: str) -> Any:
    import torch.utils._pytree as pytree

    return pytree.tree_map(lambda v: v.to(device) if isinstance(v, torch.Tensor) else v, value)


def _title(loaded: LoadedModel) -> str:
    return f"{Path(loaded.spec).name if loaded.source_path else loaded.spec}, compiled by DRT."


def _notes(rows: Sequence[FragmentRow], options: CompileOptions, graph: Graph) -> list[str]:
    notes = [f"Float32 products: {options.precision}."]
    if graph.symbols:
        notes.append(f"Sizes: {served_sizes(graph)}.")
    notes += ["", "Fragments, in running order:"]
    for row in rows:
        what = f"{row.writer}, {row.variant}" if row.variant else row.writer
        notes.append(f"  {row.operators}: {what}{f' ({row.reason})' if row.reason else ''}")
    return notes


__all__ = ["Compiled", "build", "compile", "compile_model", "pick_device", "require_writable", "to_module"]
