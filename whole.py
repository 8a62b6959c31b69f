"""The verdict on a whole program: that the pieces are right does not say that they were put together right."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs
import torch

from .backend.assemble import Step, assemble_function
from .backend.candidate import Candidate
from .backend.measure import compare
from .backend.verify import GateReport, Verdict, instances, verify_candidate, verify_module
from .ir import Graph, Input, OpSet, Unsupported
from .search import Chosen, extract, load_model_new

if TYPE_CHECKING:
    from .frontend import LoadedModel
    from .pipeline import Compiled
    from .report import CompileOptions

#: Instances of the whole program that are interpreted, at most.
MAX_INSTANCES = 2


def as_fragment(graph: Graph) -> Graph:
    """Return a program as a function of all that it reads, with the new values of updates behind its outputs."""
    inputs = tuple(Input(i.name, i.type) for i in graph.inputs)
    outputs = tuple(dict.fromkeys([*graph.outputs, *(u.value for u in graph.updates)]))
    return attrs.evolve(graph, inputs=inputs, outputs=outputs, updates=())


def verify_interpreted(graph: Graph, chosen: Sequence[Chosen], ops: OpSet, precision: str) -> Verdict:
    """Judge a cut program under the interpreter, at small sizes with its structure.

    The same kernels run as in the written file; the lines that PyTorch runs are written for the small sizes.

    Args:
        graph: the whole program.
        chosen: its steps in running order.
        ops: the operators.
        precision: declared arithmetic of float32 products.
    """
    whole = as_fragment(graph)
    candidates = [c.step.candidate for c in chosen if c.step.candidate]
    constants = sorted({int(x) for c in candidates for x in re.findall(r"(?<![\w.])\d{2,4}(?![\w.])", c.source)})
    tiles = [c for c in constants if c & (c - 1) == 0]
    try:
        small = instances(whole, ops, tiles, None, _pinned(graph, chosen))[:MAX_INSTANCES]
    except Unsupported as error:
        return _not_judged(f"the whole program: {error.message}")
    verdict: Verdict | None = None
    for instance in small:
        steps = [_at(instance.graph, c, ops) for c in chosen]
        source = assemble_function(instance.graph, steps, ops, "program")
        everything = tuple((v, a) for v, t in instance.graph.types.items() for a in range(t.rank))
        candidate = Candidate(source, "program", "whole program", "template", precision, pinned=everything)
        gates = ("trace", "memory", "meaning")  # every kernel has been held to the policy by itself
        verdict = verify_candidate(
            instance.graph,
            candidate,
            ops=ops,
            precision=precision,
            device="cpu",
            timeout_s=240.0,
            gates=gates,
            mixed=True,
        )
        if not verdict.passed:
            return verdict
    return verdict or _not_judged("the whole program has no small instance")


def _not_judged(reason: str) -> Verdict:
    return Verdict(False, "meaning", "not_judged", reason, (GateReport("meaning", "skipped", reason=reason),))


def _pinned(graph: Graph, chosen: Sequence[Chosen]) -> tuple[tuple[str, int], ...]:
    """The axes whose sizes some kernel has compiled in, by the values of the whole program.

    A kernel that serves several fragments speaks of the values of the first; the others have theirs in the same order.
    """
    found: dict[tuple[str, int], None] = {}
    for c in chosen:
        if c.step.candidate is None:
            continue
        names = dict(zip(c.kernel_values, c.step.fragment.types, strict=True))
        found.update(dict.fromkeys((names[v], axis) for v, axis in c.step.candidate.pinned if v in names))
    return tuple((v, axis) for v, axis in found if v in graph.types)


def _at(graph: Graph, chosen: Chosen, ops: OpSet) -> Step:
    """The same step over a graph of the same structure at other sizes."""
    names = {r for n in chosen.step.fragment.nodes for r in n.results}
    wanted = [k for k, n in enumerate(graph.nodes) if names & set(n.results)]
    old = chosen.step.fragment
    fragment = extract(graph, wanted, ops, old.name, views=False)
    types = graph.types
    inputs = tuple(Input(i.name, types[i.name]) for i in old.inputs)
    return Step(attrs.evolve(fragment, inputs=inputs, outputs=old.outputs), chosen.step.candidate)


def verify_whole(
    compiled: Compiled,
    loaded: LoadedModel,
    path: Path,
    args: Sequence[Any],
    kwargs: Mapping[str, Any],
    options: CompileOptions,
) -> tuple[Verdict, dict[str, float]]:
    """Judge the written file, and time it where there is a device.

    Returns:
        The verdict, and microseconds of one call by who runs it (``drt``, ``eager``, ``compiled``); empty without a device.
    """
    if compiled.device == "cpu":
        return verify_interpreted(compiled.graph, compiled.chosen, compiled.ops, options.precision), {}
    module = loaded.module
    if not isinstance(module, torch.nn.Module):
        return verify_interpreted(compiled.graph, compiled.chosen, compiled.ops, options.precision), {}
    verdict = verify_module(
        module,
        path,
        args,
        example_kwargs=kwargs,
        init_args=loaded.init_args,
        init_kwargs=loaded.init_kwargs,
        new_inputs=loaded.new_inputs,
        reference_source=loaded.source,
        precision=options.precision,
        device="cuda",
        policy=False,
        require_kernel=any(c.step.candidate for c in compiled.chosen),
        timeout_s=300.0,
    )
    if not verdict.passed:
        return verdict, {}
    return verdict, _times(loaded, module, path, args, kwargs, options)


def _times(
    loaded: LoadedModel,
    module: torch.nn.Module,
    path: Path,
    args: Sequence[Any],
    kwargs: Mapping[str, Any],
    options: CompileOptions,
) -> dict[str, float]:
    candidate = load_model_new(path, loaded.init_args, loaded.init_kwargs).to("cuda")
    candidate.load_state_dict(module.state_dict())
    candidate.train(module.training)

    def bound(function: Any) -> Any:
        return (lambda *a: function(*a, **kwargs)) if kwargs else function

    with torch.no_grad():
        rows = compare(bound(module), bound(candidate), list(args), precision=options.precision)
    names = {"eager": "eager", "torch.compile": "compiled", "drt": "drt"}
    return {names[r.timing.name]: r.timing.median_us for r in rows}
