"""Why a program cannot be imported, as one line for its author: checks before the export, and PyTorch's errors after it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
import torch.utils._pytree as pytree

from ..ir import DTYPES, UsageError
from .importer import DTYPE_NAMES

#: What PyTorch's message begins with or holds -> what it means to the author of the program; groups are filled in.
_MEANINGS: tuple[tuple[str, str], ...] = (
    (r"(\S+\.\S+)$", "calls {0}, which has no fake implementation, expected one (torch.library.register_fake)"),
    (r"Found <class '([\w.]*?)([\w]+)'> in output", "the result holds a {1}, expected tensors, tuples, lists and dicts"),
    (r"Unsupported input type <class '([\w.]*?)(\w+)'>", "an argument holds a {1}, expected tensors, tuples, lists and dicts"),
    (
        r"expected compiled_fn to be GraphModule",
        "tensors that share memory are written to, expected each argument and buffer to have memory of its own",
    ),
    (r"\.numpy\(\) is not supported", "a tensor becomes an array of numpy, expected PyTorch's functions alone"),
    (r"There was no fake impl registered for <CustomOpDef\((\w+)::(\w+)\)>",
     "calls {0}.{1}, which has no fake implementation, expected one (register_fake)"),
    (r"'_OpNamespace' '(\w+)' object has no attribute '(\w+)'", "calls {0}.{1}, which no library has defined so far"),
    (r"^(aten\.\S+)$", "a size or a number depends on tensor contents ({0}), expected what depends on input shapes alone"),
    (r"argument 'size' failed to unpack the object at pos \d+ with error .*FakeTensor",
     "a size depends on tensor contents (as in packed sequences), expected sizes that depend on input shapes"),
    (r"encountered a mutation on a view chain", "a view of a view is written to (as_strided), expected a tensor of its own"),
    (r"Cannot access data pointer of Tensor", "a tensor's memory is read (data_ptr, copy.deepcopy), expected tensor functions"),
    (r"does not require grad and does not have a grad_fn",
     "gradients are computed inside the program, which is traced without them, expected torch.func.grad"),
    (r"__torch__\.torch\.classes\.quantized\.\w+", "a layer is quantised, expected layers with plain weights"),
    (r"Expected all tensors to be on the same device.*?(cpu|cuda\S*|meta) and (cpu|cuda\S*|meta)",
     "tensors are on {0} and on {1}, expected one device"),
)  # fmt: skip
#: The one meaning above that belongs to a class of errors, not to a text.
_WITHOUT_FAKE = "UnsupportedOperatorException"


def cause(error: BaseException) -> str:
    """Return PyTorch's reason for a failed export as one line.

    It is what the message means to the author where that is known, else its first line, with the first violated constraint
    where it lists them.
    """
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    text = lines[0] if lines else type(error).__name__
    if "data-dependent" in text:
        return f"control flow depends on tensor contents ({text.partition(' (')[0]})"
    if text.startswith("Constraints violated"):
        detail = next((line.removeprefix("- ") for line in lines if line.startswith("- ")), "")
        return f"{text.partition('!')[0]}: {detail}"
    for pattern, meaning in _MEANINGS[(0 if type(error).__name__ == _WITHOUT_FAKE else 1) :]:
        match = re.search(pattern, text)
        if match:
            return meaning.format(*match.groups())
    return f"{type(error).__name__}: {text}" if len(text) < 60 and not text.startswith(type(error).__name__) else text


def require_importable(
    module: Any, args: Sequence[Any], kwargs: Mapping[str, Any], paths: Sequence[str], title: str
) -> None:
    """Raise UsageError where a program is built on what the IR does not have; says which argument or tensor it is.

    Args:
        module: the module, or the function.
        args, kwargs: one call.
        paths: Python text of each leaf of the call.
        title: of the program.
    """
    if isinstance(module, (torch.jit.ScriptModule, torch.jit.ScriptFunction)):
        raise UsageError("is TorchScript, expected the nn.Module or function that it was made from", subject=title)
    leaves = pytree.tree_leaves((tuple(args), dict(kwargs)))
    named: Iterator[tuple[str, Any]] = zip(paths, leaves, strict=False)
    state: list[tuple[str, Any]] = []
    if isinstance(module, torch.nn.Module):
        if "forward" not in vars(module) and type(module).forward is torch.nn.Module.forward:
            raise UsageError("has no method forward, expected one", subject=title)
        for name, part in module.named_modules():
            if isinstance(part, torch.jit.ScriptModule):
                raise UsageError(f"{name} is TorchScript, expected the module that it was made from", subject=title)
        state = [*module.named_parameters(), *module.named_buffers()]
    for name, value in named:
        if not isinstance(value, torch.Tensor):
            continue
        _require_dense(name, value, title)
        if value.dtype not in DTYPE_NAMES and not value.is_complex():
            found, known = str(value.dtype).removeprefix("torch."), ", ".join(DTYPES)
            raise UsageError(f"{name} has dtype {found}, expected one of {known}", subject=title)
    for name, value in state:
        _require_dense(name, value, title)


def _require_dense(name: str, tensor: torch.Tensor, title: str) -> None:
    kind = _unusual(tensor)
    if kind:
        raise UsageError(f"{name} is {kind}, expected a dense tensor", subject=title)


def _unusual(tensor: torch.Tensor) -> str:
    if tensor.is_nested:
        return "a nested tensor"
    if tensor.is_quantized:
        return f"a quantised tensor ({str(tensor.dtype).removeprefix('torch.')})"
    if tensor.layout is not torch.strided:
        return f"a sparse tensor ({str(tensor.layout).removeprefix('torch.')})"
    return ""


def on_meta(module: Any) -> list[str]:
    """Return the names of a module's parameters and buffers that have no content."""
    if not isinstance(module, torch.nn.Module):
        return []
    named = [*module.named_parameters(), *module.named_buffers()]
    return [name for name, t in named if t.device.type == "meta"]


def where_module_is(module: Any, args: Any, kwargs: Any) -> tuple[Any, Any]:
    """Return example arguments without content where all of a module's tensors are on the meta device."""
    missing = on_meta(module)
    if not missing or len(missing) < sum(1 for _ in [*module.named_parameters(), *module.named_buffers()]):
        return args, kwargs
    return pytree.tree_map(lambda v: v.to("meta") if isinstance(v, torch.Tensor) else v, (args, kwargs))


__all__ = ["cause", "on_meta", "require_importable", "where_module_is"]
