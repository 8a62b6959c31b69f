"""PyTorch's own table of operators and sample calls (``op_db``), each call imported, lowered and compared.

One *sample* is one call of one operator: its tensors become inputs of a program, all else is baked in.  Samples of one
operator and dtype are imported together, as one program, because exporting takes longer than a call in it; where that
program cannot be exported, each sample is tried alone.  :func:`examine` says what became of each.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import attrs
import torch
import torch.utils._pytree as pytree
from drt.backend.oracle import Oracle
from drt.backend.to_torch import to_callable
from drt.frontend import Baked, ComplexPair, Imported, import_module
from drt.frontend.importer import DTYPE_NAMES
from drt.ir import OPAQUE, DrtError, builtin_ops, parse_graph, print_graph
from drt.ir.effects import draws_random
from drt.ir.opdef import Opaque

#: What a call may become.  ``known``: operators with a definition alone; ``opaque``: an ATen call without one is left;
#: ``refused``: the import says in one line why not; ``differs``: another value than PyTorch's, or an error that is none of
#: these; ``skipped``: PyTorch's own call fails, or it has no tensor that the IR can hold.
STATUSES = ("known", "opaque", "refused", "differs", "skipped")
DTYPES = (torch.float32, torch.int64, torch.bool, torch.bfloat16)
#: Results whose elements are not determined: only their types are compared.
UNDETERMINED = (
    "empty",
    "empty_like",
    "empty_permuted",
    "empty_strided",
    "new_empty",
    "new_empty_strided",
    "resize_",
    "resize_as_",
)
#: Calls of one operator that are imported as one program.
BATCH = 12


@attrs.frozen(eq=False)
class Sample:
    """One call.

    Attributes:
        op: the operator's name in ``op_db``, with its variant.
        dtype: that the samples were asked for in.
        number: among the operator's samples of that dtype.
        function: takes the leaves of ``(input, args, kwargs)`` in the order of ``tree``.
        leaves: tensors and everything else.
        tree: their structure.
    """

    op: str
    dtype: torch.dtype
    number: int
    function: Callable[..., Any]
    leaves: tuple[Any, ...]
    tree: Any

    def tensors(self) -> tuple[torch.Tensor, ...]:
        return tuple(v for v in self.leaves if isinstance(v, torch.Tensor))

    def call(self, tensors: Sequence[torch.Tensor]) -> Any:
        """Return the result with other tensors in place of the sample's."""
        given = iter(tensors)
        leaves = [next(given) if isinstance(v, torch.Tensor) else v for v in self.leaves]
        args, kwargs = pytree.tree_unflatten(leaves, self.tree)
        return self.function(*args, **kwargs)

    def __str__(self) -> str:
        shown = ", ".join(
            f"{DTYPE_NAMES.get(v.dtype, v.dtype)}{list(v.shape)}" if isinstance(v, torch.Tensor) else repr(v)
            for v in self.leaves
        )
        return f"{self.op}[{self.number}]({shown})"


@attrs.frozen
class Outcome:
    """What became of one sample; ``reason`` is one line, empty where all is well."""

    sample: Sample
    status: str
    reason: str = ""


def op_infos() -> list[Any]:
    """Return PyTorch's table, in its order."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from torch.testing._internal.common_methods_invocations import op_db

    return list(op_db)


def samples(info: Any, dtype: torch.dtype, most: int) -> list[Sample]:
    """Return up to ``most`` samples of an operator, spread evenly over all that PyTorch lists for the dtype."""
    if dtype not in info.dtypes:
        return []
    torch.manual_seed(0)
    try:
        found = list(info.sample_inputs("cpu", dtype, requires_grad=False))
    except Exception:  # PyTorch's generators need libraries or devices that may be absent
        return []
    chosen = sorted({(i * len(found)) // most for i in range(most)}) if len(found) > most else range(len(found))
    made = []
    for i in chosen:
        s = found[i]
        leaves, tree = pytree.tree_flatten(((s.input, *s.args), dict(s.kwargs)))
        leaves = [v.detach() if isinstance(v, torch.Tensor) else v for v in leaves]
        made.append(Sample(info.full_name, dtype, i, info.op, tuple(leaves), tree))
    return made


def examine(group: Sequence[Sample]) -> list[Outcome]:
    """Import samples of one operator together, run the graph, and compare it with PyTorch."""
    outcomes, left = [], []
    for s in group:
        problem = _unusable(s)
        if problem:
            outcomes.append(Outcome(s, "skipped", problem))
        else:
            left.append(s)
    for start in range(0, len(left), BATCH):
        part = left[start : start + BATCH]
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                outcomes += _examined(part)
        except Exception as error:
            if len(part) > 1:
                outcomes += [o for s in part for o in examine([s])]
            else:
                status = "refused" if isinstance(error, DrtError) and "internal" not in error.line() else "differs"
                outcomes.append(Outcome(part[0], status, _line(error)))
    return outcomes


def _unusable(s: Sample) -> str:
    tensors = s.tensors()
    if any(t.layout != torch.strided or t.is_quantized for t in tensors):
        return "a sparse or quantised operand"
    try:
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            result = pytree.tree_leaves(s.call([t.clone() for t in tensors]))
    except Exception as error:  # whatever PyTorch raises where it refuses its own sample
        return f"PyTorch raises {_line(error)}"
    if not any(isinstance(r, torch.Tensor) for r in result):
        return "no tensor among the results"
    return ""


def _examined(group: Sequence[Sample]) -> list[Outcome]:
    tensors = [s.tensors() for s in group]
    flat = [t for own in tensors for t in own]

    def program(*given: torch.Tensor) -> Any:
        left = list(given)
        results = []
        for s, own in zip(group, tensors):
            results.append(s.call(left[: len(own)]))
            del left[: len(own)]
        return results

    def eager(convert: Callable[[torch.Tensor], torch.Tensor]) -> Any:
        torch.manual_seed(0)
        with torch.no_grad():
            return program(*(convert(t.clone()) for t in flat))

    imported = import_module(program, tuple(t.clone() for t in flat))
    inputs = imported.bind(*(t.clone() for t in flat))
    text_problem = "" if parse_graph(print_graph(imported.graph)) == imported.graph else "its text says another graph"
    want = eager(lambda t: t)
    torch.manual_seed(0)
    with torch.no_grad():
        outputs = to_callable(imported.graph)(*(t.clone() for t in inputs))
    got = imported.result(outputs, inputs)
    hidden = _opaque_results(imported)
    per_sample = [len(pytree.tree_leaves(w)) for w in want]
    random = draws_random(imported.graph, builtin_ops())
    meaning = None if random else _meaning(imported, inputs, eager)
    outcomes: list[Outcome] = []
    at = 0
    for k, (s, n) in enumerate(zip(group, per_sample)):
        determined = s.op not in UNDETERMINED and not random
        problem = text_problem or _difference(got[k], want[k], determined)
        opaque = next((h for h in hidden[at : at + n] if h), "")
        if not problem and not opaque and meaning is not None and determined:
            problem = _difference(meaning[0][k], meaning[1][k], determined, tolerance=1e-5, types=False)
            problem = problem and f"the meaning differs: {problem}"
        at += n
        outcomes.append(Outcome(s, "differs" if problem else "opaque" if opaque else "known", problem or opaque))
    return outcomes


def _meaning(imported: Imported, inputs: list[torch.Tensor], eager: Callable[..., Any]) -> tuple[Any, Any] | None:
    """Return the result by the definitions and PyTorch's, both in float64; None where no such comparison can be made."""
    if any(t.dtype in (torch.bfloat16, torch.float16) for t in inputs) or sum(t.numel() for t in inputs) > 20_000:
        return None
    if any(n.op == OPAQUE for n in imported.graph.nodes):
        return None
    try:
        wide = eager(lambda t: t.double() if t.dtype == torch.float32 else t)
    except Exception:  # a baked-in dtype that does not go together with float64
        return None
    values = dict(zip([i.name for i in imported.graph.inputs], inputs, strict=True))
    return imported.result(Oracle().run(imported.graph, values), inputs), wide


def _opaque_results(imported: Imported) -> list[str]:
    """Return for each leaf of the result the reason why a call on the way to it is opaque, or the empty string."""
    graph = imported.graph
    reasons = {u.target: f"{u.target}: {u.reason}" for u in imported.unknown}
    seen: dict[str, str] = {i.name: "" for i in graph.inputs}
    for node in graph.nodes:
        own = reasons.get(str(node.attributes["target"]), "opaque") if node.op == OPAQUE else ""
        found = own or next((seen[u] for u in node.uses() if seen[u]), "")
        seen.update(dict.fromkeys(node.results, found))

    def of(leaf: Any) -> str:
        index = leaf.index if isinstance(leaf, ComplexPair) else leaf
        name = graph.outputs[index] if isinstance(index, int) and not isinstance(leaf, Baked) else None
        return seen.get(name, "") if isinstance(name, str) else ""

    return [of(leaf) for leaf in imported.out_spec.leaves]


def _difference(got: Any, want: Any, determined: bool, tolerance: float | None = None, types: bool = True) -> str:
    a, b = pytree.tree_leaves(got), pytree.tree_leaves(want)
    if len(a) != len(b):
        return f"{len(a)} results, expected {len(b)}"
    for x, y in zip(a, b, strict=True):
        if not isinstance(y, torch.Tensor):
            if isinstance(x, torch.Tensor) or (x != y and not (x != x and y != y)):
                return f"{x}, expected {y}"
            continue
        if x.shape != y.shape or (types and x.dtype != y.dtype):
            return f"{x.dtype}{list(x.shape)}, expected {y.dtype}{list(y.shape)}"
        if not determined:
            continue
        x = x.to(y.dtype)
        options = {} if tolerance is None else {"rtol": tolerance, "atol": tolerance}
        try:
            torch.testing.assert_close(x, y.contiguous(), equal_nan=True, **options)
        except AssertionError as error:
            return _line(error) + f": {x.flatten()[:6].tolist()}, expected {y.flatten()[:6].tolist()}"
    return ""


def _line(error: BaseException) -> str:
    text = error.line() if isinstance(error, DrtError) else str(error)
    return f"{'' if isinstance(error, DrtError) else type(error).__name__ + ': '}{(text.splitlines() or [''])[0][:300]}"


def declared_opaque() -> set[str]:
    """Return the ATen targets of operators whose definition says that PyTorch is the reference."""
    return {p.call.fn for op in builtin_ops().values() if isinstance(op.body, Opaque) for p in op.aten}


def all_samples(info: Any, most: int, dtypes: Sequence[torch.dtype] = DTYPES) -> Iterator[list[Sample]]:
    """Yield the samples of one operator, dtype by dtype; the first dtype that it has is sampled, the others thinly."""
    first = True
    for dtype in dtypes:
        found = samples(info, dtype, most if first else max(most // 4, 1))
        if found:
            yield found
            first = False
