"""What generated programs must hold, from a data set's rows: each check is one reading of a program against another.

``verify``  the verifier accepts the graph, and its text is read back as the same graph
``meta``    PyTorch finds the predicted shapes and dtypes without data
``torch``   PyTorch in float64 gives what the definitions give, and it runs in the program's own dtypes
``jax``     JAX in float64 gives what the definitions give
``export``  the PyTorch source is exported and read back as a graph that computes the same
``jaxpr``   the JAX function is traced and read back as a graph that computes the same
``plan``    the template generator says yes or no
``kernel``  the kernel that it writes passes the judge under the interpreter
"""

from __future__ import annotations

import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

import attrs

from .generate import depends_on_ties, input_values, other_roundings
from .ir import (
    Graph,
    Input,
    Node,
    Unsupported,
    UsageError,
    VerifyError,
    builtin_ops,
    make_range,
    parse_graph,
    print_graph,
    verify_graph,
)
from .ir.opdef import Scalar
from .ir.typesys import UNIT_ROUNDOFF, is_float

#: Agreement in float64: so many times the largest element, where PyTorch and the definition add in another order.
_TOLERANCE = 1e-7
#: The same where a program runs in its own dtypes.
_NARROW = 1e-3
#: Other roundings of a program that are tried, at most, before a reading differs: one of n elements that rounding makes equal
#: is the largest in each n-th of them.
_ROUNDINGS = 96
#: Checks that compare values.
_OF_VALUES = frozenset({"torch", "jax", "export", "jaxpr", "kernel"})


@attrs.frozen
class Fault:
    """A program that fails a check.

    Attributes:
        check: its name.
        number: of the row, from 0.
        problem: one line.
        ir: the program.
    """

    check: str
    number: int
    problem: str
    ir: str


@attrs.frozen
class Checked:
    """What checks found.

    Attributes:
        passed: programs that hold, by check.
        passed_over: programs for which a check has no answer, by check and reason.
        faults: the others.
        rows: how many programs were held to all checks.
        interrupted: whether there are more.
    """

    passed: Mapping[str, int]
    passed_over: Mapping[tuple[str, str], int]
    faults: tuple[Fault, ...]
    rows: int = 0
    interrupted: bool = False


@attrs.frozen
class Case:
    """A program with inputs; ``exact`` are its outputs by the definitions, in float64."""

    graph: Graph
    inputs: Mapping[str, Any]
    exact: tuple[Any, ...] | None


class _PassedOverError(Exception):
    """A check has no answer for a program."""


def check_rows(rows: Iterable[Mapping[str, Any]], checks: Sequence[str] = ("verify", "meta"), seed: int = 0) -> Checked:
    """Hold every row of a data set to checks; an interruption (``KeyboardInterrupt``) ends it with what is known by then.

    Args:
        rows: with ``ir`` and ``inputs``.
        checks: of ``CHECKS``.
        seed: of the inputs.

    Raises:
        UsageError: a check is unknown.
    """
    unknown = [c for c in checks if c not in CHECKS]
    if unknown:
        raise UsageError(f"unknown check '{unknown[0]}', expected {', '.join(CHECKS)}")
    passed: Counter[str] = Counter()
    over: Counter[tuple[str, str]] = Counter()
    faults: list[Fault] = []
    done, interrupted = 0, False
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PyTorch's opinions of the shapes of losses
        try:
            for number, row in enumerate(rows):
                case: Case | None = None
                for check in checks:
                    try:
                        if case is None:
                            case = read_case(row, seed + number, exact=bool({"torch", "jax"} & {*checks}))
                        problem = _held(check, case)
                    except _PassedOverError as reason:
                        over[check, str(reason)] += 1
                        continue
                    except Exception as error:
                        problem = _raised(error)
                    if problem:
                        faults.append(Fault(check, number, problem, row["ir"]))
                    else:
                        passed[check] += 1
                done = number + 1
        except KeyboardInterrupt:
            interrupted = True
    return Checked(dict(passed), dict(over), tuple(faults), done, interrupted)


def _held(check: str, case: Case) -> str:
    """Return what is wrong with a program by one check, or ``""``; raises _PassedOverError where the check has no answer."""
    try:
        problem = CHECKS[check](case)
    except _PassedOverError:
        raise
    except Exception:
        if check in _OF_VALUES and _masks_decide(case):
            raise _PassedOverError("PyTorch takes masks of so few elements alone") from None
        raise
    if problem and check in _OF_VALUES and _order_is_open(case):
        raise _PassedOverError("an order that the definitions leave open decides")
    return problem


def _raised(error: Exception) -> str:
    place = traceback.extract_tb(error.__traceback__)[-1]
    lines = str(error).strip().splitlines() or [""]
    return f"{type(error).__name__} at {place.filename.rpartition('/')[2]}:{place.lineno}: {lines[0]}"


def _order_is_open(case: Case) -> bool:
    """Return whether PyTorch may order equal elements, or what ``sorted = False`` asks for, in another way."""
    unsorted = any(n.attributes.get("sorted") is False for n in case.graph.nodes)
    return unsorted or depends_on_ties(case.graph, _wide(case))


def _masks_decide(case: Case) -> bool:
    """Return whether PyTorch may refuse a call for its mask, on these inputs as on those of the probe."""
    from .probe import Law, Probe

    law = Law(Probe(case.graph, 0), {})
    law.table(0).update(_wide(case))
    return law.masks_decide()


def read_case(row: Mapping[str, Any], seed: int, exact: bool = True) -> Case:
    """Return a row's program with random inputs that fit its ``inputs`` column."""
    import json
    import math

    import torch

    from .backend.oracle import Oracle

    graph = parse_graph(row["ir"])
    ranges: dict[str, tuple[float, float]] = {}
    for i in json.loads(row["inputs"]):
        low, high = i.get("range", (None, None))
        ends = -math.inf if low is None else low, math.inf if high is None else high
        ranges[i["name"]] = make_range(*ends, i.get("order", ""))
    generator = torch.Generator().manual_seed(seed)
    inputs = {i.name: input_values(graph, ranges, i.name, generator) for i in graph.inputs}
    found = tuple(Oracle().run(graph, inputs)) if exact else None
    return Case(graph, inputs, found)


# -- the checks -------------------------------------------------------------------------------------------------------


def _verify(case: Case) -> str:
    verify_graph(case.graph)
    again = parse_graph(print_graph(case.graph))
    return "" if again == case.graph else "the text is read back as another graph"


def _meta(case: Case) -> str:
    import torch

    from .backend.to_torch import to_callable

    graph = case.graph
    empty = [torch.empty(v.shape, dtype=v.dtype, device="meta") for v in case.inputs.values()]
    with torch.device("meta"):
        found = _several(to_callable(graph)(*empty))
    return _types(graph, found)


def _torch(case: Case) -> str:
    from .backend.to_torch import to_callable

    def run(graph: Graph, operands: Iterable[Any]) -> list[Any]:
        return _several(to_callable(graph)(*(v.clone() for v in operands)))

    problem = _types(case.graph, run(case.graph, case.inputs.values()))
    if problem:
        return problem
    try:
        return _difference("torch", case, in_float64(case.graph), _wide(case), run)
    except VerifyError:  # an operator of float32 alone
        return _difference("torch", case, case.graph, case.inputs, run)


def _difference(
    library: str, case: Case, graph: Graph, inputs: Mapping[str, Any], run: Callable[[Graph, Iterable[Any]], list[Any]]
) -> str:
    """Return how a library's results differ from those of the definitions, or ``""`` where they do not.

    They do not where each operator gives what its definition makes of the operands that the library had for it: small
    differences may grow on their way through a program, and decide which of two elements is the largest.

    Args:
        library: as limits of operators name it.
        case: the program, and what it means.
        graph: the program in the dtypes in which the library runs it.
        inputs: of it.
        run: runs a program on inputs.

    Raises:
        _PassedOverError: the definitions of all operators that differ say that they do.
    """
    from .backend.oracle import Oracle

    dtypes = [t.dtype for t in graph.types.values() if is_float(t.dtype)]
    coarsest = max(dtypes, key=UNIT_ROUNDOFF.__getitem__, default="f64")
    tolerance = _TOLERANCE if coarsest == "f64" else _NARROW
    found = run(graph, inputs.values())
    problem = _compare(graph, found, case.exact or (), tolerance)
    if not problem:
        return ""
    wide = "in float64: " if coarsest == "f64" else ""
    names = [r for n in graph.nodes for r in n.results]
    whole = attrs.evolve(graph, outputs=tuple(names))
    values = {**inputs, **dict(zip(names, run(whole, inputs.values()), strict=True))}
    # Memory that two values share in the program need not be shared where both are outputs.
    if _compare(graph, found, [values.get(str(o), e) for o, e in zip(graph.outputs, found, strict=True)], tolerance):
        return f"{wide}{problem}; not where all its values are outputs"
    oracle = Oracle()
    strange: list[str] = []
    for node in graph.nodes:
        uses = dict.fromkeys(node.uses())
        alone = Graph(graph.name, tuple(Input(n, graph.types[n]) for n in uses), (node,), node.results)
        given = {n: _widest(values[n]) for n in uses}
        got, want = [values[r] for r in node.results], oracle.run(alone, given)
        others = islice(other_roundings(alone, given, dtype=coarsest), _ROUNDINGS)
        if not _compare(alone, got, want, tolerance, others, _infinities_meet(node, given.values())):
            continue
        limits = [x for x in builtin_ops()[node.op].limits if x.library == library]
        kinds = {
            (k, t.dtype)
            for a, b, t in zip(got, want, node.types, strict=True)
            for k in _kinds(a, b, t.dtype, tolerance)
        }
        if any(not any(x.kind == kind and dtype in x.dtypes for x in limits) for kind, dtype in kinds):
            return f"{wide}{problem}; {node.op} differs"
        strange.append(node.op)
    if strange:
        raise _PassedOverError(f"a limit that the definition of {strange[0]} states")
    return ""


def _infinities_meet(node: Node, operands: Iterable[Any]) -> bool:
    """Return whether infinities among operands may cancel or not, by the order of sums that a definition leaves open."""
    sums = not isinstance(builtin_ops()[node.op].body, Scalar)
    return sums and any(v.dtype.is_floating_point and bool(v.isinf().any()) for v in operands)


def _kinds(got: Any, want: Any, dtype: str, tolerance: float) -> set[str]:
    """Return how two tensors differ, in the words of the limits of operators."""
    wrong = _unlike(got, want, dtype, tolerance)
    if not bool(wrong.any()):
        return set()
    a, b = got.double()[wrong], want.double()[wrong]
    nan = a.isnan() != b.isnan()
    infinite = ~nan & (a.isinf() | b.isinf())
    found = {"nan": nan, "infinity": infinite, "value": ~nan & ~infinite}
    return {k for k, v in found.items() if bool(v.any())}


def _jax_function(case: Case) -> tuple[Graph, Callable[..., Any]]:
    """Return a program in float64 and as a JAX function; raises _PassedOverError where it has no such form."""
    from .backend.to_jax import to_jax_callable

    try:
        wide = in_float64(case.graph)
        return wide, to_jax_callable(wide)
    except VerifyError:
        raise _PassedOverError("an operator of float32 alone") from None
    except UsageError as error:
        raise _PassedOverError(error.message) from None


def _jax(case: Case) -> str:
    import numpy as np
    import torch

    from .backend.to_jax import to_jax_callable

    wide, _ = _jax_function(case)

    def run(graph: Graph, operands: Iterable[Any]) -> list[Any]:
        found = _several(to_jax_callable(graph)(*(v.numpy() for v in operands)))
        return [torch.from_numpy(np.array(v)) for v in found]

    return _difference("jax", case, wide, _wide(case), run)


def _export(case: Case) -> str:
    from .backend.to_torch import to_callable, to_source
    from .frontend import import_module

    namespace: dict[str, Any] = {}
    exec(to_source(case.graph), namespace)
    values = list(case.inputs.values())
    again = import_module(namespace["Model"]().eval(), values).graph
    want = _several(to_callable(case.graph)(*values))
    return _compare(case.graph, _several(to_callable(again)(*values)), want, _NARROW)


def _jaxpr(case: Case) -> str:
    from .backend.to_torch import to_callable
    from .frontend import import_jax

    wide, run = _jax_function(case)
    values = list(_wide(case).values())
    try:
        again = import_jax(run, [v.numpy() for v in values], x64=True)
    except (Unsupported, UsageError) as error:
        raise _PassedOverError(str(error).splitlines()[0][:60]) from None
    want = _several(to_callable(wide)(*values))
    found = _several(to_callable(again.graph)(*again.bind(*values)))
    return _compare(wide, found, want, others=_rounded_otherwise(case))


def _plan(case: Case) -> str:
    from .backend.triton_gen import plan

    try:
        plan(case.graph, builtin_ops())
    except Unsupported as error:
        raise _PassedOverError("not written by templates") from error
    return ""


def _kernel(case: Case) -> str:
    from .backend.triton_gen import TemplateTranslator
    from .backend.verify import verify_candidate

    try:
        candidates = TemplateTranslator().propose(case.graph, 1)
    except Unsupported:
        raise _PassedOverError("not written by templates") from None
    if not candidates:
        raise _PassedOverError("not written by templates")
    try:
        verdict = verify_candidate(case.graph, candidates[0], device="cpu", seed=0)
    except Unsupported as error:
        raise _PassedOverError(error.message[:60]) from None
    return "" if verdict.passed else f"{candidates[0].variant}: {verdict.summary()}"


#: The checks by name, cheapest first.
CHECKS: dict[str, Callable[[Case], str]] = {
    "verify": _verify, "meta": _meta, "torch": _torch, "jax": _jax, "export": _export, "jaxpr": _jaxpr, "plan": _plan,
    "kernel": _kernel,
}  # fmt: skip


# -- values -----------------------------------------------------------------------------------------------------------


def in_float64(graph: Graph) -> Graph:
    """Return a graph with float64 in the place of every narrower floating-point type; raises VerifyError if there is none."""
    from .ir import TensorType

    def wide(dtype: Any) -> Any:
        return "f64" if isinstance(dtype, str) and dtype in ("f32", "bf16", "f16") else dtype

    def wider(t: TensorType) -> TensorType:
        return TensorType(wide(t.dtype), t.shape)

    ops = builtin_ops()
    nodes = []
    for n in graph.nodes:
        kinds = {a.name: a.kind for a in ops[n.op].attributes}
        changed = tuple((k, wide(v) if kinds.get(k) == "dtype" else v) for k, v in n.attrs)
        nodes.append(attrs.evolve(n, attrs=changed, types=tuple(map(wider, n.types))))
    inputs = tuple(attrs.evolve(i, type=wider(i.type)) for i in graph.inputs)
    found = attrs.evolve(graph, inputs=inputs, nodes=tuple(nodes))
    verify_graph(found)
    return found


def _wide(case: Case) -> dict[str, Any]:
    return {k: _widest(v) for k, v in case.inputs.items()}


def _widest(value: Any) -> Any:
    return value.double() if value.dtype.is_floating_point else value


def _several(value: Any) -> list[Any]:
    return list(value) if isinstance(value, (tuple, list)) else [value]


def _types(graph: Graph, found: Sequence[Any]) -> str:
    """Return how the types of results differ from the predicted ones, or ``""``."""
    from .backend.opaque import TORCH_DTYPES

    if len(found) != len(graph.outputs):
        return f"{len(found)} results, expected {len(graph.outputs)}"
    for v, name in zip(found, graph.outputs, strict=True):
        t = graph.types[str(name)]
        if tuple(v.shape) != t.shape or v.dtype != TORCH_DTYPES[t.dtype]:
            return f"%{name} is {v.dtype} {tuple(v.shape)}, expected {t}"
    return ""


def _rounded_otherwise(case: Case) -> Iterator[Sequence[Any]]:
    """Yield what the definitions may give where rounding decides, as it does which of two elements is the largest."""
    yield from islice(other_roundings(case.graph, _wide(case)), _ROUNDINGS)


def _compare(
    graph: Graph, found: Sequence[Any], exact: Sequence[Any], tolerance: float = _TOLERANCE,
    others: Iterable[Sequence[Any]] = (), infinite: bool = False,
) -> str:  # fmt: skip
    """Return how results differ from the exact ones, or ``""``.

    Args:
        graph: the program.
        found: its outputs by some reading.
        exact: its outputs by the definitions.
        tolerance: of floating-point numbers, relative to themselves and to the largest.
        others: further outputs that are right, element by element, and for floating-point numbers all between the least
            and the largest of them; they are asked for where something differs.
        infinite: whether any element that is not finite stands for any other.
    """
    if len(found) != len(exact):
        return f"{len(found)} results, expected {len(exact)}"
    for name, got, want in zip(graph.outputs, found, exact, strict=True):
        if tuple(got.shape) != tuple(want.shape):
            return f"%{name} has shape {tuple(got.shape)}, expected {tuple(want.shape)}"

    def differs(results: Sequence[Any]) -> list[Any]:
        types = [graph.types[str(o)] for o in graph.outputs]
        return [_unlike(a, b, t.dtype, tolerance) for a, b, t in zip(found, results, types, strict=True)]

    wrong = differs(exact)
    if infinite:
        wrong = [w & (got.isfinite() | want.isfinite()) for w, got, want in zip(wrong, found, exact, strict=True)]
    rest = iter(others)
    ends = [(w, w) if w.dtype.is_floating_point else None for w in exact]
    while any(bool(w.any()) for w in wrong):
        other = next(rest, None)
        if other is None:
            break
        wrong = [w & o for w, o in zip(wrong, differs(other), strict=True)]
        for k, (got, want, o) in enumerate(zip(found, exact, other, strict=True)):
            before = ends[k]
            if before is not None:
                ends[k] = low, high = _widened(*before, o)
                # Where other roundings leave the domain of a function, its last finite values are as good.
                wrong[k] = wrong[k] & ~_between(got, low, high) & (want.isfinite() == o.isfinite())
    for name, got, want, w in zip(graph.outputs, found, exact, wrong, strict=True):
        if bool(w.any()):
            at = tuple(int(i) for i in w.nonzero()[0])
            return (
                f"%{name} differs in {float(w.double().mean()):.1%}, first at {at}: {got[at].item()!r}, "
                f"expected {want[at].item()!r}"
            )
    return ""


def _widened(low: Any, high: Any, other: Any) -> tuple[Any, Any]:
    """Return the least and the largest finite elements so far, with those of one more tensor."""
    import torch

    known = other.where(other.isfinite(), torch.nan)
    return torch.fmin(low, known), torch.fmax(high, known)


def _between(got: Any, low: Any, high: Any) -> Any:
    value = got.double()
    return (low <= value) & (value <= high)


def _unlike(got: Any, want: Any, dtype: str, tolerance: float) -> Any:
    """Return where two tensors of one shape differ."""
    import torch

    if not is_float(dtype):
        return got.to(want.dtype) != want
    a, b = got.double(), want.to(got.dtype).double()  # what is beyond the dtype is infinite
    known = b[b.isfinite()]
    scale = float(known.abs().max()) if known.numel() else 1.0
    return ~torch.isclose(a, b, rtol=tolerance, atol=tolerance * min(scale, 1e6), equal_nan=True)


def summary(found: Checked) -> list[str]:
    """Return what a person wants to know of checks, one line each."""
    lines = []
    for check in CHECKS:
        n = found.passed.get(check, 0)
        faults = sum(f.check == check for f in found.faults)
        over = {reason: k for (c, reason), k in found.passed_over.items() if c == check}
        if n or faults or over:
            more = f", {sum(over.values())} passed over ({max(over, key=lambda r: over[r])})" if over else ""
            lines.append(f"{check:8} {n} hold, {faults} fail{more}")
    return lines


__all__ = ["CHECKS", "Checked", "Fault", "check_rows", "in_float64", "read_case", "summary"]
