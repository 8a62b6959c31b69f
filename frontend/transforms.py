"""Programs with ``torch.vmap`` and ``torch.func`` (``grad``, ``jvp``, ``jacrev``), traced before they are exported.

An export either fails in such a transform or records its bookkeeping (``_vmap_increment_nesting``) as calls.  Tracing to ATen
calls, below the level at which transforms work, leaves what they compute; that trace is what is exported then.
"""

from __future__ import annotations

import contextlib
import inspect
import operator
import os
from collections.abc import Iterator, Mapping
from types import TracebackType
from typing import Any

import torch
import torch.utils._pytree as pytree
from torch.fx.experimental.proxy_tensor import make_fx

_FOLDER = os.path.join(os.path.dirname(torch.__file__), "_functorch")
#: Files of PyTorch that run transforms; the others in the folder compile.
_FILES = frozenset(os.path.join(_FOLDER, f"{n}.py") for n in ("apis", "eager_transforms", "predispatch", "vmap"))
#: Stands for a tensor among the leaves of a result.
_TENSOR = object()


def has_transforms(program: Any) -> bool:
    """Return whether an exported program has calls that are no operators: the bookkeeping of transforms."""
    return any(
        n.op == "call_function"
        and getattr(n.target, "__module__", "").startswith(("torch._functorch", "torch._C._functorch"))
        for part in program.graph_module.modules()
        if isinstance(part, torch.fx.GraphModule)
        for n in part.graph.nodes
    )


def fails_in_transform(error: BaseException) -> bool:
    """Return whether an export failed in a transform, in what a transform calls, or at a tensor that one left behind."""
    found: BaseException | None = error
    while found is not None:
        if "functorch" in str(found) or any(f in _FILES for f in _files(found.__traceback__)):
            return True
        found = found.__cause__ or found.__context__
    return False


def _files(trace: TracebackType | None) -> Iterator[str]:
    while trace is not None:
        yield trace.tb_frame.f_code.co_filename
        trace = trace.tb_next


@contextlib.contextmanager
def traced(module: torch.nn.Module, args: Any, kwargs: Any) -> Iterator[None]:
    """Within this context, a call of ``module`` like the given one runs its ATen calls, without transforms.

    Args:
        module: keeps its parameters and buffers; those that a call changes are changed.
        args, kwargs: one call, to whose sizes and numbers the trace is specialised.

    Raises:
        Exception: whatever PyTorch has against tracing the call.
    """
    signature = inspect.signature(module.forward)
    given = [t for t in pytree.tree_leaves((args, kwargs)) if isinstance(t, torch.Tensor)]
    state = _state(module)
    structure: list[Any] = []  # of the result, and its leaves with a mark where a tensor is
    changed: list[str] = []

    def call(*tensors: torch.Tensor) -> list[torch.Tensor]:
        held = dict(zip(state, tensors, strict=False))
        before = dict(held)
        rest = iter(tensors[len(state) :])
        a, k = pytree.tree_map(lambda t: next(rest) if isinstance(t, torch.Tensor) else t, (args, kwargs))
        result = torch.func.functional_call(module, held, a, k)
        leaves, spec = pytree.tree_flatten(result)
        structure[:] = [spec, [_TENSOR if isinstance(v, torch.Tensor) else v for v in leaves]]
        changed[:] = [n for n in state if held[n] is not before[n]]
        return [v for v in leaves if isinstance(v, torch.Tensor)] + [held[n] for n in changed]

    # Parameters that want gradients of their own would be views of themselves inside a derivative.
    tensors = [t.detach() for t in [*state.values(), *given]]
    flat = make_fx(call, tracing_mode="fake")(*tensors)
    _without_checks(flat)

    def forward(*a: Any, **k: Any) -> Any:
        now = _state(module)
        tensors = [t for t in pytree.tree_leaves((a, k)) if isinstance(t, torch.Tensor)]
        results = flat(*now.values(), *tensors)
        n_results = len(results) - len(changed)
        for name, value in zip(changed, results[n_results:], strict=True):
            now[name].copy_(value)
        spec, leaves = structure
        rest = iter(results[:n_results])
        return pytree.tree_unflatten([next(rest) if v is _TENSOR else v for v in leaves], spec)

    forward.__signature__ = signature  # type: ignore[attr-defined]
    before = module.__dict__.get("forward")
    module.forward = forward
    try:
        yield
    finally:
        del module.forward
        if before is not None:
            module.forward = before


def _state(module: torch.nn.Module) -> Mapping[str, torch.Tensor]:
    return {**dict(module.named_parameters()), **dict(module.named_buffers())}


def _without_checks(traced: torch.fx.GraphModule) -> None:
    """Take out what forward-mode derivatives ask of layouts, whose answers are numbers that nothing uses."""
    for node in reversed(list(traced.graph.nodes)):
        if node.op == "call_function" and not node.users and node.target is not operator.setitem:
            target = node.target
            if isinstance(target, torch._ops.OpOverload) and not target._schema.is_mutable:
                traced.graph.erase_node(node)
    traced.recompile()


__all__ = ["fails_in_transform", "has_transforms", "traced"]
