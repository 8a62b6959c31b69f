"""Judging a file by hand: one function for every kind of reference."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import attrs
import torch
from torch.utils._pytree import tree_map

from .backend.candidate import PRECISIONS, Candidate
from .backend.python_text import read_python
from .backend.verify import GateReport, Verdict, instances, verify_candidate, verify_files, verify_module
from .backend.verify.files import INTERPRETED_ELEMENTS, n_elements_of
from .backend.verify.judge import tile_constants
from .backend.verify.reference import process_settings
from .frontend import import_module, load_model
from .ir import PROGRAM_SUFFIXES, DrtError, Graph, OpSet, UsageError, builtin_ops, checked
from .report import DEVICES
from .ways import read_graph
from .whole import as_fragment

#: Makes smaller arguments of one call's.
Crop: TypeAlias = Callable[[tuple[tuple[Any, ...], dict[str, Any]]], tuple[tuple[Any, ...], dict[str, Any]]]

#: Sets of small sizes at which a file that is too large to interpret is judged, at most.
MAX_SMALL_CALLS = 3

#: Time after which no further set of small sizes is begun.
SMALL_BUDGET_S = 30.0

#: Axes that may keep their size, one at a time, where a candidate raises without.
MAX_KEPT = 6


@checked
def verify(
    reference: Graph | torch.nn.Module | str | os.PathLike[str], candidate: str | os.PathLike[str], *,
    example_inputs: Sequence[Any] = (), example_kwargs: Mapping[str, Any] | None = None, entry: str = "",
    precision: str = "strict", seeds: int = 3, device: str = "auto", timeout_s: float = 180.0, seed: int | None = None,
    ops: OpSet | None = None,
) -> Verdict:  # fmt: skip
    """Judge whether the file ``candidate`` computes what ``reference`` does, by Triton kernels of its own.

    ==================================  ==========================================================================
    reference                           what the candidate's file defines
    ==================================  ==========================================================================
    a graph, or a text file with one    a function named like the graph: its inputs in order, as positional tensors
    a file with ``class Model``         ``class ModelNew`` with the same constructor and ``state_dict`` (KernelBench)
    a module                            the same, beside ``example_inputs``
    ==================================  ==========================================================================

    Args:
        example_inputs, example_kwargs: arguments of one call; for a module.
        entry: the function or class to judge, where it is named otherwise.
        precision: declared arithmetic of float32 products: ``strict`` or ``tf32``.
        seeds: sets of fresh random inputs; for files and modules.
        device: ``auto``, ``cpu`` (no device gate) or ``cuda``.
        timeout_s: wall time of the candidate's runs.
        seed: of states and inputs; secret where None.
        ops: the operators of a graph; the built-in ones where None.

    Raises:
        UsageError: a file cannot be read or lacks something, the reference raises, or an option is wrong.
        ParseError, VerifyError: a text is not a program, or not a valid one.
    """
    for name, value, choices in (("precision", precision, PRECISIONS), ("device", device, DEVICES)):
        if value not in choices:
            raise UsageError(f"is {value}, expected one of {', '.join(choices)}", subject=f"verify: {name}")
    ops = builtin_ops() if ops is None else ops
    interpreted = device == "cpu" or not torch.cuda.is_available()
    file = Path(candidate)
    if isinstance(reference, Graph) or (
        not isinstance(reference, torch.nn.Module) and os.fspath(reference).endswith(PROGRAM_SUFFIXES)
    ):
        graph = reference if isinstance(reference, Graph) else read_graph(os.fspath(reference), ops)[0]
        made = Candidate(read_python(file), entry or graph.name, file.name, "user", precision)
        return verify_candidate(graph, made, ops=ops, device=device, timeout_s=timeout_s, seed=seed, standalone=True)
    entry = entry or "ModelNew"
    if isinstance(reference, torch.nn.Module):
        module, kwargs = reference, dict(example_kwargs or {})

        def judge_module(crop: Crop | None = None) -> Verdict:
            given = (tuple(example_inputs), kwargs) if crop is None else crop((tuple(example_inputs), kwargs))
            return verify_module(
                module, candidate, given[0], example_kwargs=given[1], entry=entry, precision=precision, seeds=seeds,
                device=device, timeout_s=timeout_s, seed=seed, real=None if crop is None else (tuple(example_inputs), kwargs),
            )  # fmt: skip

        if interpreted and _is_large(module, example_inputs, kwargs):
            return _verify_small(module, example_inputs, kwargs, read_python(file), ops, judge_module)
        return judge_module()
    path = os.fspath(reference)

    def judge_file(crop: Crop | None = None) -> Verdict:
        return verify_files(
            path, candidate, precision=precision, seeds=seeds, device=device, timeout_s=timeout_s, seed=seed, entry=entry,
            crop=crop,
        )  # fmt: skip

    if interpreted:
        with process_settings:
            loaded = load_model(path)
        if isinstance(loaded.module, torch.nn.Module) and _is_large(
            loaded.module, loaded.example_inputs, loaded.example_kwargs
        ):
            return _verify_small(
                loaded.module, loaded.example_inputs, loaded.example_kwargs, read_python(file), ops, judge_file
            )
    return judge_file()


def _is_large(module: torch.nn.Module, args: Sequence[Any], kwargs: Mapping[str, Any]) -> bool:
    return n_elements_of(module, args, kwargs) >= INTERPRETED_ELEMENTS


def _verify_small(
    module: torch.nn.Module, args: Sequence[Any], kwargs: Mapping[str, Any], source: str, ops: OpSet,
    judge: Callable[[Crop | None], Verdict],
) -> Verdict:  # fmt: skip
    """Judge a file that is too large to interpret on arguments that are cut to sizes which are not.

    The module's parameters keep their sizes, and with them every axis of the arguments that depends on one; the others become
    small, odd and distinct as for a fragment.  A whole file promises its own sizes alone: where it raises, more axes keep
    their size (:func:`_small_shapes`).  The values are those of the arguments' first elements.

    Args:
        judge: judges at the sizes that a crop makes, or (None) says that the file is too large.
    """
    n = sum(p.numel() for p in module.parameters())
    if n >= INTERPRETED_ELEMENTS:
        return judge(None)
    try:
        graph = import_module(module, tuple(args), example_kwargs=kwargs, ops=ops, training=None).graph
    except DrtError:
        return judge(None)
    names = [i.name for i in graph.inputs if i.kind == "input"]
    failed: Verdict | None = None
    for shape_sets in _small_shapes(graph, names, tile_constants(source), ops):
        seen: list[str] = []
        passed: Verdict | None = None
        started = time.monotonic()
        for shapes in shape_sets:
            if sum(map(math.prod, shapes)) + n >= INTERPRETED_ELEMENTS:
                continue
            if seen and time.monotonic() - started > SMALL_BUDGET_S:
                break
            sizes = ", ".join(f"{name}: {list(s)}" for name, s in zip(names, shapes, strict=True))
            try:
                verdict = judge(_crop(shapes))
            except UsageError:  # values that mean something at the full sizes alone: indices, lengths
                continue
            if verdict.label in ("raises", "timeout", "compile") and verdict.gate != "policy":
                failed = failed or attrs.evolve(verdict, message=f"at ({sizes}) it fails: {verdict.message}")
                break
            if not verdict.passed:
                return verdict
            passed = verdict
            seen.append(sizes)
        if passed is not None:
            return attrs.evolve(passed, flags=(*passed.flags, f"too large to interpret; judged at {'; '.join(seen)}"))
    if failed is None:
        return judge(None)
    reason = f"too large to interpret at its own sizes, and {failed.message}"
    gates = (*(g for g in failed.gates if g.gate == "policy"), GateReport("meaning", "skipped", reason=reason))
    return Verdict(False, "meaning", "not_judged", reason, gates, failed.flags)


def _small_shapes(
    graph: Graph, names: Sequence[str], constants: Sequence[int], ops: OpSet
) -> Iterator[list[list[tuple[int, ...]]]]:
    """Yield sets of small shapes of the inputs ``names``, those that ask most of a program first.

    First every axis that may differ is of a size of its own; then one axis after another keeps its size; then sizes that are
    alike stay alike, and the last axes keep theirs; then only the largest size shrinks.
    """
    state = [(i.name, axis) for i in graph.inputs if i.kind != "input" for axis in range(i.type.rank)]
    axes = sorted(((name, k) for name in names for k in range(graph.types[name].rank)),
                  key=lambda place: (_size(graph, place), -place[1]))  # fmt: skip
    for kept in ([], *([axis] for axis in axes[:MAX_KEPT])):
        try:
            found = instances(as_fragment(graph), ops, constants, None, [*state, *kept])
        except DrtError:
            continue
        yield [[_shape(at.graph, name) for name in names] for at in found[:MAX_SMALL_CALLS]]
    full = [_shape(graph, name) for name in names]
    sizes = {size for shape in full for size in shape}
    lasting = {_size(graph, place) for place in state}
    for kept_sizes in (lasting | {shape[-1] for shape in full if shape}, sizes - {max(sizes, default=0)}):
        for aligned in (False, True):
            yield [_alike(full, kept_sizes, aligned)]


def _alike(full: Sequence[tuple[int, ...]], kept: Collection[int], aligned: bool) -> list[tuple[int, ...]]:
    """Return shapes in which every size that is not kept has become small: alike where it was, odd or a multiple of tiles."""
    others = sorted({size for shape in full for size in shape if size > 1} - set(kept))
    small = {size: min(size, 64 if aligned and size % 64 == 0 else 3 + 2 * k) for k, size in enumerate(others)}
    return [tuple(small.get(size, size) for size in shape) for shape in full]


def _shape(graph: Graph, name: str) -> tuple[int, ...]:
    return tuple(_size(graph, (name, k)) for k in range(graph.types[name].rank))


def _size(graph: Graph, place: tuple[str, int]) -> int:
    return int(graph.types[place[0]].shape[place[1]])  # type: ignore[arg-type]


def _crop(shapes: Sequence[tuple[int, ...]]) -> Crop:
    def crop(given: tuple[tuple[Any, ...], dict[str, Any]]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        wanted = iter(shapes)

        def cut(value: Any) -> Any:
            if not isinstance(value, torch.Tensor):
                return value
            return value[tuple(slice(n) for n in next(wanted))].clone(memory_format=torch.contiguous_format)

        args, kwargs = tree_map(cut, given)
        return args, kwargs

    return crop
