"""What a launcher does, as data: allocations, views, ATen calls and kernel launches, with the kernels as Triton IR.

A tape is recorded where a candidate's Python runs, in the sandbox and without a device, and replayed by a process that never
sees that Python: :class:`Replay` compiles the IR with Triton's own compiler and calls PyTorch by the names on the tape.  A
launcher that a tape cannot hold (it reads elements, it makes tensors from Python data, its kernels were not compiled) has
none, and the reason is kept.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import attrs
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

#: Fields of Triton's launch options that a tape may set.
OPTIONS = (
    "num_warps", "num_ctas", "num_stages", "maxnreg", "enable_fp_fusion", "launch_cooperative_grid", "launch_pdl",
    "enable_reflect_ftz", "sanitize_overflow", "debug",
)  # fmt: skip

_TYPE = re.compile(
    r"\*?(?:k)?[a-z]+[0-9a-z]*|tensordesc<[a-z0-9]+\[[0-9, ]+\](?:,[^>]*)?>|tensordesc<[a-z0-9]+\[[0-9, ]+\]>"
)


class TapeError(Exception):
    """The launcher does what a tape cannot hold; the message says what."""


@attrs.define
class Tape:
    """One call of a launcher.

    Attributes:
        n_inputs: tensors ``0..n_inputs-1`` are the arguments.
        steps: in order; ``{"call": target, "args": ..., "kwargs": ..., "out": [numbers]}`` or
            ``{"launch": [{"kernel": key, "grid": [x, y, z], "args": [...]}, ...], "reset": [...]}``, one entry for each
            autotuned configuration.
        kernels: key -> ``{"ttir": text, "options": {...}, "signature": [...], "name": ...}``.
        outputs: numbers of the tensors that are returned.
    """

    n_inputs: int
    steps: list[dict[str, Any]] = attrs.field(factory=list)
    kernels: dict[str, dict[str, Any]] = attrs.field(factory=dict)
    outputs: list[int] = attrs.field(factory=list)

    def to_json(self) -> dict[str, Any]:
        """Return plain values."""
        return attrs.asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Tape:
        """Return the tape that :meth:`to_json` described; raises TapeError where it is malformed."""
        try:
            return cls(
                int(data["n_inputs"]), list(data["steps"]), dict(data["kernels"]), [int(n) for n in data["outputs"]]
            )
        except (KeyError, TypeError, ValueError) as error:
            raise TapeError(f"the tape is malformed: {error}") from None


# -- recording ----------------------------------------------------------------------------------------------------------


class TapeRecorder(TorchDispatchMode):
    """Records ATen calls on fake tensors; launches are added by the caller."""

    def __init__(self, inputs: Sequence[torch.Tensor]) -> None:
        super().__init__()
        self.tape = Tape(len(inputs))
        self.reason = ""
        self._numbers: dict[int, int] = {id(t): k for k, t in enumerate(inputs)}
        self._kept: list[Any] = list(inputs)  # an id belongs to an object only while the object lives

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        try:
            if func.namespace != "aten":
                raise TapeError(f"the launcher calls {func}")
            if torch.Tag.nondeterministic_seeded in func.tags:
                raise TapeError(f"the launcher draws random numbers ({func})")
            step = {"call": str(func), "args": self.encode(list(args)), "kwargs": self.encode(dict(kwargs or {}))}
            tensors = out if isinstance(out, (tuple, list)) else (out,)
            if not all(isinstance(t, torch.Tensor) for t in tensors):
                raise TapeError(f"the launcher reads elements or shapes of tensors ({func})")
            self.tape.steps.append({**step, "out": [self._number(t) for t in tensors]})
        except TapeError as error:
            self.reason = self.reason or str(error)
        return out

    def _number(self, tensor: torch.Tensor) -> int:
        key = id(tensor)
        if key not in self._numbers:
            self._numbers[key] = len(self._kept)
            self._kept.append(tensor)
        return self._numbers[key]

    def encode(self, value: Any) -> Any:
        """Return an argument as plain values; raises TapeError for what has none."""
        if isinstance(value, torch.Tensor):
            if id(value) not in self._numbers:
                raise TapeError(
                    "the launcher uses a tensor that is no argument and was not made by PyTorch in the call"
                )
            return {"tensor": self._numbers[id(value)]}
        if value is None or isinstance(value, (bool, int, str)):
            return value
        if isinstance(value, float):
            return {"float": value.hex()}
        if isinstance(value, (list, tuple)):
            return [self.encode(v) for v in value]
        if isinstance(value, dict):
            return {"items": {str(k): self.encode(v) for k, v in value.items()}}
        if isinstance(value, (torch.dtype, torch.layout, torch.memory_format)):
            return {"torch": str(value).removeprefix("torch.")}
        if isinstance(value, torch.device):
            return {"device": value.type}
        if type(value).__name__ == "TensorDescriptor":
            plain = {k: [int(n) for n in getattr(value, k)] for k in ("shape", "strides", "block_shape")}
            return {"descriptor": {"base": self.encode(value.base), **plain, "padding": str(value.padding)}}
        raise TapeError(f"the launcher passes a {type(value).__name__}")

    def finish(self, result: Any) -> Tape:
        """Return the tape; raises TapeError."""
        if self.reason:
            raise TapeError(self.reason)
        leaves = tree_leaves(result)
        encoded = [self.encode(v) for v in leaves]
        if not all(isinstance(v, torch.Tensor) for v in leaves):
            raise TapeError("the launcher returns something that is no tensor")
        self.tape.outputs = [v["tensor"] for v in encoded]
        return self.tape


def kernel_entry(kernel: Any) -> dict[str, Any]:
    """Return what a tape keeps of a compiled kernel."""
    metadata = kernel.metadata._asdict()
    options = {k: metadata[k] for k in OPTIONS if k in metadata and isinstance(metadata[k], (bool, int))}
    signature = [[str(n), str(t)] for n, t in kernel.src.signature.items()]
    name, code = str(metadata["name"]), code_of(kernel)
    return {"ttir": kernel.asm["ttir"], "options": options, "signature": signature, "name": name, "code": code}


def code_of(kernel: Any) -> str:
    """Return the hash of a kernel's code as the assembler gets it, without what only a debugger reads."""
    text = re.sub(r"^\s*(?:\.loc|\.file|//)[^\n]*\n", "", kernel.asm["ptx"], flags=re.MULTILINE)
    return hashlib.sha256(
        re.split(r"^\s*\.section\s+\.debug", text, maxsplit=1, flags=re.MULTILINE)[0].encode()
    ).hexdigest()


# -- replaying ----------------------------------------------------------------------------------------------------------


@attrs.frozen
class _Kernel:
    """A kernel compiled from a tape's Triton IR."""

    compiled: Any
    aligned: tuple[bool, ...]  # which arguments the IR takes to be multiples of 16


def _aligned(ttir: str) -> list[bool]:
    """Return for each parameter of the entry function whether the IR takes it to be a multiple of 16."""
    found = re.search(r"tt\.func public @[\w.$\"-]+\((.*?)\)(?: attributes[^\n]*)? \{", ttir, re.DOTALL)
    if found is None:
        raise TapeError("the IR of a kernel has no public function")
    parameters = re.split(r"(?=%\w+: )", found[1])
    return ["tt.divisibility = 16" in p for p in parameters if p.startswith("%")]


class Replay:
    """A tape as a callable of tensors.

    Args:
        tape: what to do.
        folder: where the kernels' IR is written for the compiler.
        device: of the tensors that the tape makes.
        target: what the kernels are compiled for; None means the device that is there.

    Attributes:
        same_code: whether every kernel's code, as the assembler gets it, is what its source had been compiled to.

    Raises:
        TapeError: the tape names what PyTorch does not have, or its IR does not compile.
    """

    def __init__(self, tape: Tape, folder: Path, device: str = "cuda", target: Any = None) -> None:
        self.tape, self.device, self.target = tape, device, target
        self.same_code = True
        self.choice = {k: 0 for k, s in enumerate(tape.steps) if "launch" in s}
        self._kernels = {key: self._compiled(key, entry, folder) for key, entry in tape.kernels.items()}
        self._calls = [self._function(s["call"]) if "call" in s else None for s in tape.steps]

    @property
    def n_alternatives(self) -> int:
        """The largest number of configurations that a launch of the tape has."""
        return max((len(self.tape.steps[k]["launch"]) for k in self.choice), default=1)

    def __call__(self, *inputs: torch.Tensor) -> Any:
        """Run the tape; returns its output, or a tuple of them."""
        values: dict[int, Any] = dict(enumerate(inputs))
        for k, step in enumerate(self.tape.steps):
            call = self._calls[k]
            if call is None:
                self._launch(step, self.choice[k], values)
                continue
            kwargs = self._value(step["kwargs"], values)
            out = call(*self._value(step["args"], values), **kwargs)
            values.update(zip(step["out"], out if isinstance(out, (tuple, list)) else (out,)))
        outputs = [values[n] for n in self.tape.outputs]
        return outputs[0] if len(outputs) == 1 else tuple(outputs)

    def tune(self, inputs: Sequence[torch.Tensor], time_us: Callable[[Callable[[], Any]], float]) -> None:
        """Choose among the configurations of autotuned launches, one launch after another, by the clock.

        Args:
            inputs: arguments to run with.
            time_us: the time of a call, microseconds.
        """
        for k in self.choice:
            n = len(self.tape.steps[k]["launch"])
            if n == 1:
                continue
            times: list[float] = []
            for c in range(n):
                self.choice[k] = c
                try:
                    times.append(time_us(lambda: self(*inputs)))
                except Exception:  # a configuration that this device has too few resources for
                    times.append(float("inf"))
            self.choice[k] = times.index(min(times))

    def _function(self, target: str) -> Callable[..., Any]:
        found: Any = torch.ops
        parts = str(target).split(".")
        if parts[0] != "aten" or len(parts) != 3 or not all(p.isidentifier() for p in parts):
            raise TapeError(f"the tape calls {target}")
        for part in parts:
            found = getattr(found, part, None)
        if not isinstance(found, torch._ops.OpOverload):
            raise TapeError(f"the tape calls {target}")
        return found

    def _value(self, item: Any, values: Mapping[int, Any]) -> Any:
        if isinstance(item, list):
            return [self._value(v, values) for v in item]
        if not isinstance(item, dict):
            return item
        ((kind, content),) = item.items()
        match kind:
            case "tensor":
                return values[content]
            case "float":
                return float.fromhex(content)
            case "items":
                fixed = {"device": torch.device(self.device)} if content.get("device") is not None else {}
                return {k: self._value(v, values) for k, v in content.items()} | fixed
            case "torch":
                return getattr(torch, content)
            case "device":
                return torch.device(self.device)
            case "descriptor":
                from triton.tools.tensor_descriptor import TensorDescriptor

                base = self._value(content["base"], values)
                return TensorDescriptor(
                    base, content["shape"], content["strides"], content["block_shape"], content["padding"]
                )
        raise TapeError(f"the tape has a value of kind {kind}")

    def _launch(self, step: Mapping[str, Any], choice: int, values: Mapping[int, Any]) -> None:
        launch = step["launch"][choice]
        for name in step.get("reset", ()):
            values[name].zero_()
        kernel = self._kernels[launch["kernel"]]
        args = self._value(launch["args"], values)
        if len(kernel.aligned) == len(args):
            for a, aligned in zip(args, kernel.aligned):
                if aligned and isinstance(a, torch.Tensor) and a.data_ptr() % 16:
                    raise TapeError("a tensor is not aligned as the kernel was compiled for")
        kernel.compiled[tuple(launch["grid"])](*args)

    def _compiled(self, key: str, entry: Mapping[str, Any], folder: Path) -> _Kernel:
        import triton

        if not re.fullmatch(r"[0-9a-f]{8,64}", key):
            raise TapeError("a kernel's key is malformed")
        path = folder / f"{key}.ttir"
        path.write_text(entry["ttir"])
        options = {k: v for k, v in entry["options"].items() if k in OPTIONS and isinstance(v, (bool, int))}
        signature = {n: t for n, t in entry["signature"] if t != "constexpr"}
        strange = [t for t in signature.values() if not _TYPE.fullmatch(t)]
        if strange:
            raise TapeError(f"a kernel has an argument of type {strange[0]}")
        try:
            compiled = triton.compile(str(path), target=self.target, options=options)
        except Exception as error:
            raise TapeError(
                f"kernel {entry['name']} does not compile from its IR: {type(error).__name__}: {error}"[:300]
            ) from None
        self.same_code &= code_of(compiled) == entry["code"]
        own = [t.replace("fp", "f") for t in compiled.src.signature.values()]
        launched = [t.replace("fp", "f") for t in signature.values()]
        # A descriptor is one argument where it is launched, and several in the IR.
        if not any(t.startswith("tensordesc") for t in launched) and own != launched:
            raise TapeError(f"kernel {entry['name']} takes {own} in its IR, but {launched} where it is launched")
        compiled.src = SimpleNamespace(signature=signature, constants={}, fn=None, name=entry["name"])
        return _Kernel(compiled, tuple(_aligned(entry["ttir"])))


def set_scratch_allocator() -> None:
    """Give Triton's kernels scratch memory from PyTorch (descriptors that are made inside a kernel need it)."""
    import triton

    triton.set_allocator(lambda size, alignment, stream: torch.empty(size, dtype=torch.int8, device="cuda"))
