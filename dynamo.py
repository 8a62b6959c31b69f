"""``torch.compile(model, backend="drt")``: the graphs that TorchDynamo finds, compiled, verified and run.

PyTorch finds this backend by the entry point ``drt`` of the group ``torch_dynamo_backends``; in a checkout that is not
installed, pass :func:`dynamo_backend` itself.  A graph that needs gradients goes through AOTAutograd, and its forward and
backward graphs are compiled each by itself.  What cannot be compiled, or is refused by the judge, runs as PyTorch has it, and
the reason is logged (logger ``drt.dynamo``) and counted (``torch._dynamo.utils.counters["drt"]``).
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from pathlib import Path
from typing import Any

import attrs
import torch

from .backend.candidate import PRECISIONS
from .backend.verify import Verdict
from .ir import DrtError, Graph, UsageError, checked, require
from .pipeline import Compiled, build, to_module
from .report import CompileOptions
from .search import A_VIEW
from .whole import verify_interpreted

log = logging.getLogger(__name__)

#: Where the graphs that need gradients run their backward pass.
BACKWARD = ("drt", "eager")

_NUMBERS = count(1)


@attrs.frozen
class DynamoOptions:
    """What ``torch.compile(..., options={...})`` may say.

    Attributes:
        budget: time that the search of one graph may take, seconds.
        variants: kernels that are tried for one fragment, at most.
        precision: arithmetic of float32 products: ``strict`` or ``tf32``.
        ops: files with further operator definitions.
        strict: raise where a graph cannot be compiled, instead of running it in PyTorch.
        verify: judge each graph as a whole too, after its kernels; a graph that is refused runs in PyTorch.
        backward: who runs the backward pass: ``drt`` or ``eager``.
    """

    budget: float = 20.0
    variants: int = 4
    precision: str = "strict"
    ops: tuple[Path, ...] = ()
    strict: bool = False
    verify: bool = True
    backward: str = "drt"


@checked
def read_options(options: Mapping[str, Any] | None) -> DynamoOptions:
    """Return the options of a ``torch.compile``.

    Raises:
        UsageError: there is no such option, or it has no such value.
    """
    given = dict(options or {})
    known = [f.name for f in attrs.fields(DynamoOptions)]
    for name in given:
        if name not in known:
            raise UsageError(f"is no option of the backend drt, expected one of {', '.join(known)}", subject=str(name))
    if "ops" in given:
        files = given["ops"]
        require(files, str | os.PathLike[str] | Sequence[str | os.PathLike[str]], "options: ops")
        given["ops"] = tuple(Path(f) for f in ([files] if isinstance(files, (str, os.PathLike)) else files))
    found = DynamoOptions(**given)
    for name, choices in (("precision", PRECISIONS), ("backward", BACKWARD)):
        if getattr(found, name) not in choices:
            raise UsageError(
                f"is {getattr(found, name)!r}, expected {' or '.join(choices)}", subject=f"options: {name}"
            )
    if not isinstance(found.budget, (int, float)) or not isinstance(found.variants, int) or found.variants < 1:
        raise UsageError("expected seconds for budget and a count of at least 1 for variants", subject="options")
    return found


@checked
def dynamo_backend(
    graph: torch.fx.GraphModule,
    example_inputs: Sequence[Any],
    *,
    options: Mapping[str, Any] | None = None,
    mode: str | None = None,
) -> Callable[..., Any]:
    """Compile one graph that TorchDynamo found; see :class:`DynamoOptions` for ``options``.

    The graph is compiled for the shapes of its first call.  Calls with other shapes (``dynamic=True``) run in PyTorch, with one
    warning.

    Args:
        graph: the calls that were traced; parameters are among its inputs.
        example_inputs: tensors, and symbolic integers where sizes are dynamic.
        options: see :class:`DynamoOptions`.
        mode: of ``torch.compile``; modes are TorchInductor's, and change nothing here.

    Raises:
        UsageError: an option is wrong.
    """
    settings = read_options(options)
    if mode not in (None, "default"):
        log.warning("mode=%r is TorchInductor's and changes nothing; expected options={'budget': seconds, ...}", mode)
    if torch.is_grad_enabled() and any(isinstance(t, torch.Tensor) and t.requires_grad for t in example_inputs):
        from torch._dynamo.backends.common import aot_autograd
        from torch._functorch.aot_autograd import make_boxed_func

        def backward(g: torch.fx.GraphModule, inputs: Sequence[Any]) -> Callable[..., Any]:
            own = settings.backward == "drt"
            return make_boxed_func(_compiled(g, inputs, settings, "backward graph") if own else g)  # type: ignore[no-any-return]

        def forward(g: torch.fx.GraphModule, inputs: Sequence[Any]) -> Callable[..., Any]:
            return make_boxed_func(_compiled(g, inputs, settings, "forward graph"))  # type: ignore[no-any-return]

        return aot_autograd(fw_compiler=forward, bw_compiler=backward)(graph, example_inputs)
    return _compiled(graph, example_inputs, settings, "graph", lasting=_lasting(example_inputs))


def _lasting(example_inputs: Sequence[Any]) -> frozenset[int]:
    """Return the positions of parameters and buffers: what is computed from them alone is computed once."""
    return frozenset(
        k
        for k, t in enumerate(example_inputs)
        if isinstance(t, torch.nn.Parameter) or getattr(t, "_dynamo_static_input_type", None) is not None
    )


def _compiled(
    graph: torch.fx.GraphModule, inputs: Sequence[Any], settings: DynamoOptions, what: str,
    lasting: frozenset[int] = frozenset(),
) -> Callable[..., Any]:  # fmt: skip
    if not any(n.op.startswith("call_") for n in graph.graph.nodes):
        return graph
    run = _Run(graph, settings, f"{what} {next(_NUMBERS)}", lasting)
    return torch._dynamo.disable(run.__call__)  # type: ignore[no-any-return]


class _Run:
    """Runs one graph: by kernels for the shapes of its first call, in PyTorch for others."""

    def __init__(
        self, graph: torch.fx.GraphModule, settings: DynamoOptions, title: str, lasting: frozenset[int]
    ) -> None:
        self.graph, self.settings, self.title, self.lasting = graph, settings, title, lasting
        self.module: torch.nn.Module | None = None
        self.lifted: _Lifted | None = None
        self.key: tuple[Any, ...] = ()
        self.strides = _strides(graph)
        self.is_tried = self.has_run = self.has_warned = False

    def __call__(self, *args: Any) -> Any:
        if not self.is_tried:
            self.is_tried = True
            self._try(args)
        if self.module is None:
            return self.graph(*args)
        if _key(args) != self.key:
            if not self.has_warned:
                self.has_warned = True
                shapes = ", ".join(str(k[0]) if isinstance(k, tuple) else str(k) for k in self.key)
                log.warning("%s: runs in PyTorch for other sizes than it was compiled for: %s", self.title, shapes)
            return self.graph(*args)
        assert self.lifted is not None
        self.lifted.rebind(args, self.module)
        try:
            results = self.module(*self.lifted.given(args))
        except Exception as error:
            # What cannot be launched here fails at once, and before any argument is written to.
            if self.has_run:
                raise
            self._give_up(_describe(error))
            return self.graph(*args)
        self.has_run = True
        return [_restrided(r, s) for r, s in zip(results, self.strides, strict=True)]

    def _try(self, args: Sequence[Any]) -> None:
        start_s = time.monotonic()
        try:
            # A thread of its own has none of the caller's dispatch state: inside the forward of an autograd function, where
            # the first call may be, keys are excluded that export needs.
            with ThreadPoolExecutor(1) as thread:
                reason = thread.submit(self._compile, args).result()
        except DrtError as error:
            reason = error.line()
        except Exception as error:  # a model must run, whatever is wrong with its compiler
            reason = _describe(error)
            log.debug("%s", self.title, exc_info=True)
        if reason:
            self._give_up(reason)
            return
        torch._dynamo.utils.counters["drt"]["compiled"] += 1
        log.info("%s: compiled in %.1f s", self.title, time.monotonic() - start_s)

    def _give_up(self, reason: str) -> None:
        self.module = self.lifted = None
        torch._dynamo.utils.counters["drt"]["eager"] += 1
        if self.settings.strict:
            raise UsageError(reason, subject=self.title)
        log.warning("%s: runs in PyTorch: %s", self.title, reason)

    def _compile(self, args: Sequence[Any]) -> str:
        """Compile for these arguments; return why PyTorch must run the graph, or ""."""
        tensors = [a for a in args if isinstance(a, torch.Tensor)]
        devices = {t.device.type for t in tensors if t.dim() or t.device.type != "cpu"} or {"cpu"}
        if len(devices) > 1 or not devices <= {"cpu", "cuda"}:
            return f"its tensors are on {' and '.join(sorted(devices))}, expected one CUDA device"
        (device,) = devices
        if device == "cpu" and os.environ.get("TRITON_INTERPRET") != "1":
            return "its tensors are on the CPU, where kernels run interpreted alone (TRITON_INTERPRET=1)"
        if device == "cuda":
            torch.cuda.set_device(next(t.device for t in tensors if t.is_cuda))
        s = self.settings
        options = CompileOptions(s.ops, s.precision, s.budget, s.variants, device)
        with torch.no_grad():
            lifted = _Lifted(self.graph, args, self.lasting)
            # Shapes are what is compiled for; the content of arguments is nobody's business here.
            given = lifted.given(args)
            examples = [torch.empty_strided(t.shape, t.stride(), dtype=t.dtype, device=t.device) for t in given]
            for exact_only in (False, True):
                compiled = build(lifted, examples, {}, options, exact_only=exact_only)
                rows = compiled.rows
                if not any(r.variant for r in rows):
                    left = ", ".join(dict.fromkeys(r.reason for r in rows if r.reason))
                    return f"no fragment has a kernel ({left or 'nothing to compute'})"
                verdict = self._verdict(compiled)
                # What a rewrite has cost in accuracy, exact rewrites may save.
                if verdict is None or verdict.passed or verdict.label == "not_judged" or verdict.gate != "meaning":
                    break
            if verdict is not None and not verdict.passed and verdict.label != "not_judged":
                return f"the judge refuses it: {verdict.summary()}"
            module = to_module(compiled, lifted, options)
        self.module, self.lifted, self.key = module, lifted, _key(args)
        for row in rows:
            log.info("%s: %s: %s", self.title, row.operators, row.variant or row.reason or row.writer)
        return ""

    def _verdict(self, compiled: Compiled) -> Verdict | None:
        if not self.settings.verify:
            return None
        return verify_interpreted(_judged(compiled), compiled.chosen, compiled.ops, self.settings.precision)


class _Lifted(torch.nn.Module):
    """A graph as a module of its lasting tensors, called with the others; integers are those of its first call."""

    def __init__(self, graph: torch.fx.GraphModule, args: Sequence[Any], lasting: frozenset[int]) -> None:
        super().__init__()
        self.graph = graph
        self.names: list[str | None] = []
        self.fixed: dict[int, Any] = {}
        for k, value in enumerate(args):
            self.names.append(f"tensor_{k}" if k in lasting else None)
            if not isinstance(value, torch.Tensor):
                self.fixed[k] = value
            elif isinstance(value, torch.nn.Parameter) and k in lasting:
                self.register_parameter(f"tensor_{k}", value)
            elif k in lasting:
                self.register_buffer(f"tensor_{k}", value)

    def given(self, args: Sequence[Any]) -> list[torch.Tensor]:
        """Return the arguments that a call of this module takes."""
        return [a for k, a in enumerate(args) if self.names[k] is None and k not in self.fixed]

    def rebind(self, args: Sequence[Any], module: torch.nn.Module) -> None:
        """Give both modules the lasting tensors of a call, which may have been replaced since."""
        for k, name in enumerate(self.names):
            if name is None or k in self.fixed:
                continue
            for owner in (self, module):
                held = owner._parameters if name in owner._parameters else owner._buffers
                if held.get(name) is not args[k]:
                    held[name] = args[k]

    def forward(self, *tensors: torch.Tensor) -> Any:
        """Run the graph in PyTorch."""
        rest = iter(tensors)
        full = []
        for k, name in enumerate(self.names):
            full.append(self.fixed[k] if k in self.fixed else getattr(self, name) if name else next(rest))
        return self.graph(*full)


def _describe(error: Exception) -> str:
    return f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}"


def _judged(compiled: Compiled) -> Graph:
    """Return the program with what its results are views of, and without what are views of its inputs.

    Forward graphs give inputs and views back for the backward graph; the judge expects new tensors.
    """
    graph = compiled.graph
    base: dict[str, str] = {}
    for c in compiled.chosen:
        fragment = c.part.fragment
        if c.reason == A_VIEW and len(fragment.inputs) == 1:
            (source,) = (i.name for i in fragment.inputs)
            base.update({str(o): base.get(source, source) for o in fragment.outputs})
    given = {i.name for i in graph.inputs}
    results = dict.fromkeys(base.get(o, o) if isinstance(o, str) else o for o in graph.outputs)
    return attrs.evolve(graph, outputs=tuple(o for o in results if o not in given))


def _key(args: Sequence[Any]) -> tuple[Any, ...]:
    return tuple((a.shape, a.dtype, a.device) if isinstance(a, torch.Tensor) else a for a in args)


def _strides(graph: torch.fx.GraphModule) -> list[tuple[int, ...] | None]:
    """Return the strides that PyTorch gives each result; None where they are symbols, or it is no tensor."""
    output = next(n for n in reversed(graph.graph.nodes) if n.op == "output")
    found: list[tuple[int, ...] | None] = []
    for item in output.args[0] if isinstance(output.args[0], (tuple, list)) else output.args:
        meta = getattr(item, "meta", {})
        value = meta.get("example_value", meta.get("val"))
        strides = tuple(value.stride()) if isinstance(value, torch.Tensor) else ()
        plain = isinstance(value, torch.Tensor) and all(type(s) is int for s in strides)
        found.append(strides if plain else None)
    return found


def _restrided(result: Any, strides: tuple[int, ...] | None) -> Any:
    """Return ``result`` in the layout that PyTorch would give it: what comes after was traced with that."""
    if strides is None or not isinstance(result, torch.Tensor) or result.stride() == strides or not result.numel():
        return result
    axes = [(n, a, b) for n, a, b in zip(result.shape, result.stride(), strides, strict=True) if n > 1]
    if all(a == b for _, a, b in axes):
        return result
    return torch.empty_strided(result.shape, strides, dtype=result.dtype, device=result.device).copy_(result)


__all__ = ["DynamoOptions", "dynamo_backend", "read_options"]
