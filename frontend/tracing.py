"""One call as the calls that PyTorch makes of it: its own decompositions, traced without mutations."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import attrs
import torch
from torch.fx.experimental.proxy_tensor import make_fx

from ..ir import Size, Unsupported
from .matching import AtenCall, Value


def traced_call(
    overload: torch._ops.OpOverload,
    call: AtenCall,
    rule: Callable[..., Any] | None,
    fake: Callable[[Value], torch.Tensor],
    fake_mode: Any,
    dtypes: Mapping[str, torch.dtype],
) -> torch.fx.GraphModule:
    """Return the calls that one call decomposes into; its tensors are the placeholders, in order.

    Args:
        overload: what is called.
        call: its arguments.
        rule: the decomposition; None takes what PyTorch does by itself.
        fake: gives the fake tensor of a value.
        fake_mode: the mode of these tensors.
        dtypes: IR dtype -> torch dtype.

    Raises:
        Unsupported: an argument is a symbolic size.
    """
    values: list[Value] = []

    def template(argument: Any) -> Any:
        if isinstance(argument, Value):
            values.append(argument)
            return _Hole(len(values) - 1)
        return [template(a) for a in argument] if isinstance(argument, tuple) else argument

    templates = {k: template(v) for k, v in call.arguments.items()}
    schema = overload._schema.arguments

    def f(*tensors: torch.Tensor) -> Any:
        full = {
            a.name: _fill(templates[a.name], tensors, dtypes if "ScalarType" in str(a.real_type) else {})
            for a in schema
        }
        args = [full[a.name] for a in schema if not a.kwarg_only]
        kwargs = {a.name: full[a.name] for a in schema if a.kwarg_only}
        return overload(*args, **kwargs)

    table = {overload: rule} if rule is not None else {}
    with torch.no_grad(), fake_mode:
        fakes = [_on_cpu(fake(v)) for v in values]
        functional = torch.func.functionalize(f, remove="mutations")
        traced = make_fx(functional, decomposition_table=table, tracing_mode="symbolic")(*fakes)
        if any(_is_mutating(n) for n in traced.graph.nodes):
            # A composite kernel mutates its temporaries below the level at which its call is made functional.
            again = torch.func.functionalize(traced, remove="mutations")
            traced = make_fx(again, tracing_mode="symbolic")(*fakes)
        return traced


@attrs.frozen
class _Hole:
    """Where tensor ``index`` stands in the arguments of a call."""

    index: int


def _fill(value: Any, tensors: Sequence[torch.Tensor], dtypes: Mapping[str, torch.dtype]) -> Any:
    if isinstance(value, _Hole):
        return tensors[value.index]
    if isinstance(value, list):
        return [_fill(v, tensors, dtypes) for v in value]
    if isinstance(value, str) and dtypes:
        return dtypes[value]
    if isinstance(value, torch.device) and value.type == "meta":
        return torch.device("cpu")
    if isinstance(value, Size):
        raise Unsupported("a symbolic size is an argument")
    return value


def _on_cpu(fake: torch.Tensor) -> torch.Tensor:
    """Return a fake tensor like one on the meta device, where PyTorch composes its kernels of other parts."""
    if not fake.is_meta:
        return fake
    return torch.empty_strided(fake.size(), fake.stride(), dtype=fake.dtype, device="cpu")


def _is_mutating(node: torch.fx.Node) -> bool:
    return isinstance(node.target, torch._ops.OpOverload) and node.target._schema.is_mutable


__all__ = ["traced_call"]
