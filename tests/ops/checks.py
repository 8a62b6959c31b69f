"""What every operator definition is held to: one plain function per reading, so that mutated definitions can be held to it too.

Each check takes the definition, the set that its expansion speaks of, a source of randomness and a number of calls to draw,
and yields a line for each call that shows a mistake.
"""

from __future__ import annotations

import math
import random
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import attrs
import torch
from drt.backend.oracle import Oracle
from drt.backend.resolve import run_clause
from drt.backend.tensors import in_order
from drt.backend.verify.chance import CONFIRMED, DRAWS, MORE_DRAWS, SUSPICIOUS
from drt.backend.verify.draws import compare_sides
from drt.frontend import import_module
from drt.ir import (
    DTYPES,
    DrtError,
    Graph,
    GraphBuilder,
    Inferred,
    OpDef,
    OpSet,
    TensorType,
    Unsatisfiable,
    VerifyError,
    call_ranges,
    infer,
    parse_graph,
    parse_ops,
    print_graph,
    print_op,
    verify_graph,
)
from drt.ir.cost import call_work, graph_cost, is_view
from drt.ir.effects import random_operators
from drt.ir.opdef import Hook, Opaque, Param
from drt.ir.typesys import is_float
from ops.instances import EVALUATION, Instance, draw, draw_violation, propose
from ops.limitations import DISTINCT, PARTIAL
from torch.utils.flop_counter import FlopCounterMode

TORCH_DTYPES: dict[str, torch.dtype] = {
    "bool": torch.bool, "u8": torch.uint8, "i8": torch.int8, "i32": torch.int32, "i64": torch.int64,
    "f16": torch.float16, "bf16": torch.bfloat16, "f32": torch.float32, "f64": torch.float64,
}  # fmt: skip
#: What PyTorch raises where it refuses a call.
REFUSALS = (RuntimeError, TypeError, ValueError, IndexError, NotImplementedError, AssertionError, ZeroDivisionError)


# -- calling PyTorch --------------------------------------------------------------------------------------------------


def torch_call(op: OpDef, operands: Mapping[str, Any], inferred: Inferred) -> tuple[torch.Tensor, ...]:
    """Run the ``torch`` clause in the declared dtypes."""
    values: dict[str, Any] = TORCH_DTYPES | dict(operands)
    for a in op.attributes:
        if a.kind == "dtype" and inferred.env[a.name] is not None:
            values[a.name] = TORCH_DTYPES[inferred.env[a.name]]
    for variable in (*op.dtypes, *(n for n, _ in op.dtype_lets)):
        if variable in inferred.env:
            values[variable] = TORCH_DTYPES[inferred.env[variable]]
    found = run_clause(op.calls["torch"], values, inferred.env)
    return tuple(found) if isinstance(found, (tuple, list)) else (found,)


def by_name(op: OpDef, values: tuple[Any, ...]) -> dict[str, Any]:
    return {p.name: v for p, v in zip(op.operands, (*values, *(None,) * (len(op.operands) - len(values))))}


def plain_operands(instance: Instance, device: str = "meta") -> dict[str, Any]:
    """Return operands of ones, or of the least number that an operand's range has."""
    lowest = {name: lo for name, (lo, hi) in _ranges(instance).items() if math.isfinite(lo)}

    def make(t: Any, p: Param) -> Any:
        if isinstance(t, tuple):
            return tuple(make(x, p) for x in t)
        value = lowest.get(p.name, 1)
        if t is not None and instance.op.family == "linalg" and is_float(t.dtype) and t.rank >= 2:
            # A matrix that has an inverse and is positive definite.
            return torch.eye(*t.shape[-2:], dtype=TORCH_DTYPES[t.dtype], device=device).expand(t.shape)
        return t if t is None else torch.full(t.shape, value, dtype=TORCH_DTYPES[t.dtype], device=device)

    return by_name(instance.op, tuple(make(t, p) for t, p in zip(instance.types, instance.op.operands)))


def _ranges(instance: Instance) -> dict[str, tuple[Any, Any]]:
    """Return the range of each operand that has one, whether or not the definition accepts the call."""
    if not instance.op.ranges:
        return {}
    free = {v: frozenset(DTYPES) for v in instance.op.dtypes}
    loose = attrs.evolve(instance.op, constraints=(), dtypes=free)
    return call_ranges(instance.op, infer(loose, instance.types, instance.attributes))


def random_operands(instance: Instance, rng: random.Random, positive: bool = False) -> tuple[Any, ...]:
    """Return values in the declared dtypes and in the ranges that the operator states.

    Floats without a range are normal, mostly with deviation 1.5 and sometimes with 5, which reaches what lies beyond the knees
    of piecewise functions; or between 0 and 1 if ``positive``.
    """
    generator = torch.Generator().manual_seed(rng.randrange(2**31))
    deviation = rng.choice((1.5, 1.5, 5.0))
    ranges = _ranges(instance)

    def ordered(v: torch.Tensor, name: str) -> torch.Tensor:
        return in_order(v, ranges.get(name))

    def make(t: Any, place: int, name: str) -> Any:
        if isinstance(t, tuple):
            return tuple(make(x, place, name) for x in t)
        if t is None:
            return None
        if t.dtype == "bool":
            return torch.rand(t.shape, generator=generator) < 0.5
        lo, hi = ranges.get(name, (-math.inf, math.inf))
        if is_float(t.dtype):
            v = torch.randn(t.shape, generator=generator, dtype=torch.float64)
            u = torch.rand(t.shape, generator=generator, dtype=torch.float64) * 0.9 + 0.05
            if math.isfinite(lo) and math.isfinite(hi):
                v, positive_here = lo + (hi - lo) * u, False
            else:
                v, positive_here = (v * deviation).clamp(lo, hi), positive
            return ordered(u if positive_here else v, name).to(TORCH_DTYPES[t.dtype])
        low, high = (1, 6) if place else (-6 if t.dtype != "u8" and not positive else 1, 7)
        if name in ranges:
            low = int(lo) if math.isfinite(lo) else low
            high = max(int(hi), low) + 1 if math.isfinite(hi) else low + 7
        if instance.op.name in DISTINCT:
            if t.dtype in ("u8", "i8") and t.numel > 256:
                # More elements than numbers: no two are equal along an axis.
                parts = [torch.randperm(n, generator=generator) for n in t.shape]
                order = torch.stack(torch.meshgrid(*parts, indexing="ij")).sum(0)
            else:
                order = torch.randperm(t.numel, generator=generator) - (0 if t.dtype == "u8" else t.numel // 2)
            return order.reshape(t.shape).to(TORCH_DTYPES[t.dtype])
        return ordered(torch.randint(low, high, t.shape, generator=generator), name).to(TORCH_DTYPES[t.dtype])

    operands = zip(instance.types, instance.op.operands)
    return tuple(make(t, k, p.name) for k, (t, p) in enumerate(operands))


def one_node_graph(instance: Instance, ops: OpSet) -> Graph:
    """Return the graph that is one call, its operands the inputs."""
    b = GraphBuilder("one", ops)

    def operand(t: Any, name: str) -> Any:
        if isinstance(t, tuple):
            return tuple(operand(x, f"{name}{i}") for i, x in enumerate(t))
        return None if t is None else b.input(name, t)

    operands = [operand(t, p.name) for t, p in zip(instance.types, instance.op.operands)]
    result = b.add(instance.op.name, *operands, **instance.attributes)
    return b.build(list(result) if isinstance(result, tuple) else [result])


def graph_inputs(graph: Graph, values: tuple[Any, ...]) -> dict[str, torch.Tensor]:
    return {i.name: v for i, v in zip(graph.inputs, _flat(values), strict=True)}


#: Processor seconds that the rounds of one check may take where nobody says how many there are.
BUDGET_S = 1.0
_budget_s = math.inf


def rounds(n: int) -> Iterator[int]:
    """Count to ``n``, or to at least 3 while the budget lasts: some of PyTorch's functions on meta tensors are slow."""
    start = time.process_time()
    for k in range(n):
        yield k
        if k >= 2 and time.process_time() - start > _budget_s:
            return


# -- the checks -------------------------------------------------------------------------------------------------------


def check_shape(op: OpDef, ops: OpSet, rng: random.Random, n: int = 8) -> Iterator[str]:
    """The inferred shapes and dtypes are those of PyTorch on the meta device."""
    if "torch" not in op.calls:
        return
    for k in rounds(n):
        instance = draw(op, rng, turn=k)
        inferred = instance.infer()
        try:
            found = torch_call(op, plain_operands(instance), inferred)
        except REFUSALS as error:
            yield f"{instance}: PyTorch refuses it: {_first_line(error)}"
            continue
        ours, theirs = list(map(str, inferred.types)), [_type_of(v) for v in found]
        if ours != theirs:
            yield f"{instance}: inferred {', '.join(ours)}, PyTorch gives {', '.join(theirs)}"


def check_values(op: OpDef, ops: OpSet, rng: random.Random, n: int = 6) -> Iterator[str]:
    """The ``torch`` clause computes what the body means, in float64."""
    if "torch" not in op.calls or isinstance(op.body, Opaque):
        return
    if op.name in random_operators(ops):
        yield from _check_distribution(op, ops, rng)
        return
    meaning, clause = Oracle(ops), Oracle(ops, mode="torch")
    for k in range(n + 2 * len(op.attributes)):  # each attribute is one more thing to get wrong
        instance = _light(op, ops, rng, k)
        operands = random_operands(instance, rng, positive=k % 2 == 0)
        graph = one_node_graph(instance, ops)
        inputs = graph_inputs(graph, operands)
        ours = meaning.run(graph, inputs)
        try:
            theirs = clause.run(graph, inputs)
        except REFUSALS:
            # Some functions are defined between 0 and 1 alone, where the even draws lie.
            if k % 2 == 0 and op.name not in PARTIAL:
                raise
            continue
        for a, b in zip(ours, theirs, strict=True):
            yield from _differences(a, b, str(instance))


def _check_distribution(op: OpDef, ops: OpSet, rng: random.Random, n: int = 2) -> Iterator[str]:
    """What the ``torch`` clause draws has the distribution that the body says."""
    for k in range(n):
        instance = _light(op, ops, rng, k)
        operands = random_operands(instance, rng, positive=True)
        graph = one_node_graph(instance, ops)
        inputs = graph_inputs(graph, operands)
        for draws, deviations in ((DRAWS, SUSPICIOUS), (MORE_DRAWS, CONFIRMED)):
            sides = []
            for mode in ("definition", "torch"):
                torch.manual_seed(rng.getrandbits(60))
                sides.append([Oracle(ops, mode=mode).run(graph, inputs) for _ in range(draws)])
            found = compare_sides(*sides, seed=k, deviations=deviations)
            if found is None:
                break
        else:
            yield f"{instance}: the body and the torch clause: {found.text}"


def _light(op: OpDef, ops: OpSet, rng: random.Random, turn: int, enough_flops: int = 200_000) -> Instance:
    """Return a call with little work, the lightest of a few: the meaning of a large convolution takes seconds."""
    best: tuple[int, Instance] | None = None
    for _ in range(20):
        instance = draw(op, rng, turn=turn)
        work = call_work(attrs.evolve(op, flops=None), instance.infer(), instance.types, ops)[0]
        assert isinstance(work, int)
        if best is None or work < best[0]:
            best = work, instance
        if work <= enough_flops:
            break
    assert best is not None
    return best[1]


def check_accepts(op: OpDef, ops: OpSet, rng: random.Random, n: int = 40) -> Iterator[str]:
    """Of calls that fit the signature, the definition accepts exactly those that PyTorch accepts.

    Operands and results have elements: of empty tensors, PyTorch's kernels and meta functions think differently.
    """
    if "torch" not in op.calls:
        return
    loose = attrs.evolve(op, constraints=())
    dtypes = {v: "f32" if "f32" in allowed else sorted(allowed)[0] for v, allowed in op.dtypes.items()}
    agreed = 0
    for k in rounds(n):
        proposed = loose if k % 2 or not op.constraints else op
        instance = _proposal(proposed, rng, repair=(0.0, 0.5, 0.9)[k % 3], dtypes=dtypes)
        if instance is not None and all(t.numel for t in infer(loose, instance.types, instance.attributes).types):
            accepted, problem = _compare(op, loose, instance)
            agreed += accepted
            yield from problem
    if not agreed:
        yield f"{op.name}: no accepted call among {n} proposals"


def check_dtypes(op: OpDef, ops: OpSet, rng: random.Random, n: int = 20) -> Iterator[str]:
    """The definition takes the dtypes with which PyTorch gives results of the declared dtypes, and no other."""
    if "torch" not in op.calls:
        return
    untyped = attrs.evolve(op, dtypes={v: frozenset(DTYPES) for v in op.dtypes})
    for _ in rounds(n):
        dtypes = {v: rng.choice(("f32", "i64", "bool", "f64", "i32", "u8")) for v in op.dtypes}
        try:
            instance = draw(untyped, rng, dtypes=dtypes)
        except Unsatisfiable:
            continue
        yield from _compare(op, untyped, instance)[1]


def _compare(op: OpDef, free: OpDef, instance: Instance) -> tuple[bool, list[str]]:
    """Return whether both accept a call that ``free`` accepts, and the problem if only one does."""
    expected = infer(free, instance.types, instance.attributes)
    instance = attrs.evolve(instance, op=op)
    try:
        instance.infer()
        ours, reason = True, ""
    except VerifyError as error:
        ours, reason = False, error.line()
    theirs, why = _torch_accepts(op, instance, expected)
    if ours and not theirs:
        return False, [f"{instance}: the definition accepts it, PyTorch does not: {why}"]
    if theirs and not ours:
        return False, [f"{instance}: PyTorch accepts it, the definition does not: {reason}"]
    return ours, []


def _proposal(op: OpDef, rng: random.Random, **options: Any) -> Instance | None:
    """Return a call that fits everything but, perhaps, the constraints; None where none is found."""
    free = attrs.evolve(op, constraints=())
    for _ in range(60):
        try:
            instance = propose(op, rng, **options)
            infer(free, instance.types, instance.attributes)
            return instance
        except (DrtError, *EVALUATION):
            continue
    return None


def _torch_accepts(op: OpDef, instance: Instance, expected: Inferred) -> tuple[bool, str]:
    """Return whether PyTorch makes of the call what the signature says, with the reason if not.

    A meta tensor checks shapes; the kernels, which some checks are left to, run for dtypes that all CPU kernels know.
    """
    usual = all(t.dtype not in ("f16", "bf16") for t in _leaf_types(instance.types))
    for device in ("meta", "cpu") if usual else ("meta",):
        try:
            found = torch_call(op, plain_operands(instance, device), expected)
        except REFUSALS as error:
            return False, _first_line(error)
        theirs = [_type_of(v) for v in found]
        if theirs != list(map(str, expected.types)):
            return False, f"it gives {', '.join(theirs)}"
    return True, ""


def check_constraints(op: OpDef, ops: OpSet, rng: random.Random, n: int = 2) -> Iterator[str]:
    """A call that breaks one constraint and no other is refused under its label; each constraint can be broken alone."""
    for c in op.constraints:
        label = f"{op.name}_{c.label}"
        for _ in range(n):
            try:
                instance = draw_violation(op, c.label, rng)
            except Unsatisfiable as error:
                yield f"{c.label} may be redundant: {error}"
                break
            try:
                instance.infer()
                yield f"{instance}: accepted, although it breaks {label}"
            except VerifyError as error:
                if error.label != label or label not in str(error):
                    yield f"{instance}: refused as '{error}', not under {label}"


def check_text(op: OpDef, ops: OpSet, rng: random.Random, n: int = 4) -> Iterator[str]:
    """Printing and parsing give the definition back, and a graph of one call."""
    parsed = parse_ops(print_op(op))
    if parsed != {op.name: op}:
        yield f"{op.name}: printed as\n{print_op(op)}\nparsed as\n{parsed}"
    for _ in range(n):
        graph = one_node_graph(draw(op, rng), ops)
        text = print_graph(graph)
        again = parse_graph(text, ops=ops)
        if again != graph or print_graph(again) != text:
            yield f"{op.name}: a graph is not what its text says:\n{text}"
        verify_graph(again, ops)


class Calls(torch.nn.Module):
    """Several calls side by side, each through its ``torch`` clause, on tensors of its own."""

    def __init__(self, instances: list[Instance]) -> None:
        super().__init__()
        self.calls = [(i, i.infer()) for i in instances]

    def forward(self, *given: torch.Tensor) -> Any:
        left = list(given)

        def take(t: Any) -> Any:
            return [take(x) for x in t] if isinstance(t, tuple) else None if t is None else left.pop(0)

        out: list[torch.Tensor] = []
        for instance, inferred in self.calls:
            operands = tuple(take(t) for t in instance.types)
            out += torch_call(instance.op, by_name(instance.op, operands), inferred)
        return tuple(out)


def import_instance(op: OpDef, rng: random.Random, turn: int = 0) -> Instance:
    """Return a call in f32 where that is allowed, and, if one is found, such that it changes something."""
    dtypes = {v: "f32" for v, allowed in op.dtypes.items() if "f32" in allowed}
    for _ in range(8):
        instance = draw(op, rng, dtypes=dtypes, turn=turn)
        if [instance.infer().types[0]] != _leaf_types(instance.types) or not is_view(op, {op.name: op}):
            break
    return instance


def import_problems(instances: list[Instance], ops: OpSet, rng: random.Random) -> dict[str, list[str]]:
    """Import all calls as one program, and return what is wrong with each, by operator."""
    operands = [random_operands(i, rng, positive=True) for i in instances]
    flat = [_flat(v) for v in operands]
    graph = import_module(Calls(instances), tuple(t for v in flat for t in v), ops=ops).graph
    inputs, outputs = [i.name for i in graph.inputs], list(graph.outputs)
    problems: dict[str, list[str]] = {}
    for instance, own in zip(instances, flat):
        names, inputs = inputs[: len(own)], inputs[len(own) :]
        inferred = instance.infer()
        results, outputs = outputs[: len(inferred.types)], outputs[len(inferred.types) :]
        found = problems.setdefault(instance.op.name, [])
        # PyTorch leaves out a call that changes nothing.
        if all(r in names for r in results) and [graph.types[r] for r in results] == list(inferred.types):
            continue
        node = graph.producers.get(results[0]) if isinstance(results[0], str) else None
        if node is None or node.op != instance.op.name:
            found.append(f"{instance}: imported as {' after '.join(_history(graph, results[0])) or 'nothing'}")
        elif list(node.results) != results:
            found.append(f"{instance}: imported with results {node.results}")
        elif node.attributes != dict(inferred.attributes):
            found.append(f"{instance}: imported with attributes {node.attributes}")
        elif [o for o in _flat(node.operands) if o is not None] != names:
            found.append(
                f"{instance}: imported with operands {node.operands}: {' after '.join(_history(graph, results[0]))}"
            )
    return problems


def _history(graph: Graph, name: Any) -> list[str]:
    """Return the operators that lead to a value, the last first."""
    if name not in graph.producers:
        return []
    node = graph.producers[name]
    return [node.op, *(x for o in node.uses() for x in _history(graph, o))]


def _flat(values: tuple[Any, ...]) -> list[Any]:
    return [x for v in values for x in (_flat(v) if isinstance(v, tuple) else [] if v is None else [v])]


def check_import(op: OpDef, ops: OpSet, rng: random.Random, n: int = 8) -> Iterator[str]:
    """Importing the ``torch`` clause gives the operator and its attributes back."""
    if "torch" in op.calls:
        yield from import_problems([import_instance(op, rng, k) for k in range(n)], ops, rng)[op.name]


def check_flops(op: OpDef, ops: OpSet, rng: random.Random, n: int = 4) -> Iterator[str]:
    """The work is PyTorch's count where its counter knows the operator; elsewhere a stated count is at most the derived one."""
    moves = isinstance(op.body, (Hook, Opaque))
    for _ in rounds(n):
        instance = draw(op, rng)
        inferred = instance.infer()
        total, product = call_work(op, inferred, instance.types, ops)
        if not isinstance(total, int) or total < 0:
            yield f"{instance}: work {total}, expected a count"
        graph = one_node_graph(instance, ops)
        cost = graph_cost(graph, ops)
        most = sum(int(t.size_bytes) for t in graph.types.values())
        if not 0 <= cost.bytes <= most:
            yield f"{instance}: {cost.bytes} bytes, expected at most {most}"
        counted = 0
        if "torch" in op.calls:
            with FlopCounterMode(display=False) as counter:
                torch_call(op, plain_operands(instance), inferred)
            counted = counter.get_total_flops()
            if counted and product != counted:
                yield f"{instance}: {product} FLOPs in products, PyTorch counts {counted}"
        if op.flops is not None and not moves and not counted:
            derived, _ = call_work(attrs.evolve(op, flops=None), inferred, instance.types, ops)
            if total > derived:
                yield f"{instance}: {total} FLOPs stated, the body has {derived}"


# -- comparing --------------------------------------------------------------------------------------------------------


def _leaf_types(types: tuple[Any, ...]) -> list[TensorType]:
    out: list[TensorType] = []
    for t in types:
        out += _leaf_types(t) if isinstance(t, tuple) else [] if t is None else [t]
    return out


def _type_of(v: Any) -> str:
    if not isinstance(v, torch.Tensor):
        return type(v).__name__
    names = {d: n for n, d in TORCH_DTYPES.items()}
    return str(TensorType(names.get(v.dtype, str(v.dtype)), tuple(v.shape)))


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:200]


def _differences(a: torch.Tensor, b: torch.Tensor, what: str, tolerance: float = 1e-9) -> Iterator[str]:
    if a.shape != b.shape or a.dtype != b.dtype:
        yield f"{what}: {a.dtype}{list(a.shape)} and {b.dtype}{list(b.shape)}"
    elif not a.dtype.is_floating_point:
        if not torch.equal(a, b):
            yield f"{what}: {a.flatten()[:8].tolist()} and {b.flatten()[:8].tolist()}"
    elif not torch.allclose(a, b, rtol=tolerance, atol=tolerance, equal_nan=True):
        off = float((a - b).abs().nan_to_num(math.inf).max())
        yield f"{what}: differs by up to {off:.3g}: {a.flatten()[:6].tolist()} and {b.flatten()[:6].tolist()}"


Check = Callable[..., Iterator[str]]

#: The checks by the name that a limitation refers to.
CHECKS: dict[str, Check] = {
    "shape": check_shape,
    "values": check_values,
    "accepts": check_accepts,
    "dtypes": check_dtypes,
    "constraints": check_constraints,
    "text": check_text,
    "flops": check_flops,
    "import": check_import,
}


def problems(check: str, op: OpDef, ops: OpSet, seed: int = 0, n: int | None = None) -> list[str]:
    """Return what ``check`` finds wrong with ``op``; an exception is a problem too."""
    global _budget_s
    rng = random.Random(f"{op.name} {check} {seed}")
    found: list[str] = []
    _budget_s = BUDGET_S if n is None else math.inf
    try:
        found.extend(CHECKS[check](op, ops, rng) if n is None else CHECKS[check](op, ops, rng, n))
    except Exception as error:
        found.append(f"{op.name}: {type(error).__name__}: {error}")
    return found
