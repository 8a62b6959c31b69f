"""What the assembler must know of the module that a program came from, as text."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import nn

from .backend.assemble import Host, state_text
from .backend.opaque import TORCH_DTYPES
from .backend.tensors import tensor_text
from .frontend import Imported, LoadedModel
from .ir import Graph, TensorType

#: Modules of torch.nn whose forward depends on ``training``.
_MODAL = (
    nn.modules.batchnorm._BatchNorm,
    nn.modules.instancenorm._InstanceNorm,
    nn.modules.dropout._DropoutNd,
    nn.RReLU,
    nn.RNNBase,
    nn.MultiheadAttention,
    nn.TransformerEncoderLayer,
    nn.TransformerDecoderLayer,
    nn.TransformerEncoder,
)


def host_of(loaded: LoadedModel, imported: Imported, graph: Graph) -> Host:
    """Return the host of a model that was read from a file, or of a factory's result.

    A model file becomes part of the output, so that the constructor and the initial weights stay the author's own; of a
    factory's result only the parameters' names and types are kept.
    """
    module = loaded.module
    is_file = bool(loaded.source and loaded.new_inputs is not None and isinstance(module, nn.Module))
    if not is_file:
        return in_process_host(module, imported, graph)
    assert isinstance(module, nn.Module)
    host = _common(module, imported, graph)
    state = {i.name: access_text(module, i.target) for i in graph.inputs if i.kind in ("param", "buffer")}
    return Host(source=loaded.source, class_name=loaded.class_name, state=state, **host)


def in_process_host(module: nn.Module | Callable[..., Any], imported: Imported, graph: Graph) -> Host:
    """Return a host that registers empty parameters and buffers under the original's names."""
    host = _common(module, imported, graph)
    state = {i.name: state_text(i.target) for i in graph.inputs if i.kind in ("param", "buffer")}
    registry: dict[str, tuple[TensorType, bool]] = {}
    if isinstance(module, nn.Module):
        for target, tensor in module.state_dict(keep_vars=True).items():
            if isinstance(tensor, torch.Tensor):
                registry[target] = (_type_of(tensor), isinstance(tensor, nn.Parameter))
    return Host(state=state, registry=registry, **host)


def _common(module: nn.Module | Callable[..., Any], imported: Imported, graph: Graph) -> dict[str, Any]:
    forward = module.forward if isinstance(module, nn.Module) else module
    parameters, call = signature_text(forward)
    constants = {i.name: tensor_text(imported.state[i.target]) for i in graph.inputs if i.kind == "constant"}
    return {
        "parameters": parameters,
        "call": call,
        "arguments": imported.in_spec.sources(),
        "guards": imported.in_spec.guards(),
        "constants": constants,
        "result": _result_template(imported, graph),
        "training": mode_of(module),
        "autocast": imported.autocast,
    }


def _result_template(imported: Imported, graph: Graph) -> str:
    n = len(graph.outputs)
    # Braces of dict results must survive str.format, the holes must not.
    holes = [f"\0{k}\0" for k in range(n)]
    text = imported.out_spec.source(holes).replace("{", "{{").replace("}", "}}")
    for k in range(n):
        text = text.replace(f"\0{k}\0", f"{{{k}}}")
    return text


def mode_of(module: nn.Module | Callable[..., Any]) -> bool | None:
    """Return ``module.training`` where some part of the module depends on it, else None."""
    if not isinstance(module, nn.Module):
        return None
    for part in module.modules():
        if isinstance(part, _MODAL):
            return module.training
        if not type(part).__module__.startswith("torch.nn") and _mentions_training(type(part)):
            return module.training
    return None


def _mentions_training(cls: type) -> bool:
    try:
        return "training" in inspect.getsource(cls)
    except (OSError, TypeError):
        return True


def signature_text(forward: Callable[..., Any]) -> tuple[str, str]:
    """Return the parameters of ``forward`` as they stand in a ``def``, and the arguments that pass them on."""
    parameters: list[str] = []
    call: list[str] = []
    starred = False
    for p in inspect.signature(forward).parameters.values():
        default = ""
        if p.default is not p.empty:
            plain = p.default is None or isinstance(p.default, (bool, int, float, str, tuple))
            default = f"={p.default!r}" if plain else "=None"
        if p.kind is p.VAR_POSITIONAL:
            starred = True
            parameters.append(f"*{p.name}")
            call.append(f"*{p.name}")
        elif p.kind is p.VAR_KEYWORD:
            parameters.append(f"**{p.name}")
            call.append(f"**{p.name}")
        elif p.kind is p.KEYWORD_ONLY:
            if not starred:
                starred = True
                parameters.append("*")
            parameters.append(f"{p.name}{default}")
            call.append(f"{p.name}={p.name}")
        else:
            parameters.append(f"{p.name}{default}")
            call.append(p.name)
    return ", ".join(parameters), ", ".join(call)


def access_text(module: nn.Module, target: str) -> str:
    """Return Python text that reads ``target`` (``layers.0.weight``) from ``self``, as a person would write it."""
    text = "self"
    here: Any = module
    for name in target.split("."):
        if isinstance(here, (nn.Sequential, nn.ModuleList, nn.ParameterList)) and name.isdigit():
            text += f"[{name}]"
        elif isinstance(here, (nn.ModuleDict, nn.ParameterDict)):
            text += f"[{name!r}]"
        elif name.isidentifier():
            text += f".{name}"
        else:
            text = f"getattr({text}, {name!r})"
        here = getattr(here, name, None)
    return text


def _type_of(tensor: torch.Tensor) -> TensorType:
    return TensorType(_DTYPE_NAMES[tensor.dtype], tuple(tensor.shape))


_DTYPE_NAMES: Mapping[torch.dtype, str] = {theirs: ours for ours, theirs in TORCH_DTYPES.items()}
