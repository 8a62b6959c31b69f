"""The compile gate: every launch of a candidate, in every autotuned configuration, to machine code, without a device.

The launcher runs on fake tensors of the real sizes; each launch is then compiled for the target with Triton's own compiler
and assembler.  This refuses what only the interpreter accepts, and shows registers, spills, shared memory and TF32.
"""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
import tempfile
import time
import warnings
from collections.abc import Mapping
from concurrent.futures import Future
from typing import Any

import torch

from ...ir import Graph
from .. import fork_server, sandbox
from ..candidate import H100, Candidate, Target
from ..sandbox import Frame, Reply
from . import reading
from .tape import Tape, TapeError, TapeRecorder, kernel_entry
from .verdict import Docket

#: Compute capability of the machine code.
CAPABILITY = 90

#: A product of float32 tensors in TF32; for other dtypes the word stands there without a meaning.
_TF32_PRODUCT = re.compile(r"tt\.dot [^\n]*inputPrecision = tf32(?!x)[^\n]*: tensor<[0-9x]*xf32>")

# -- in the sandbox ---------------------------------------------------------------------------------------------------


class _NoDriver:
    """Answers for the device that is not there."""

    def get_current_target(self) -> Any:
        from triton.backends.compiler import GPUTarget

        return GPUTarget("cuda", CAPABILITY, 32)

    def get_current_device(self) -> int:
        return 0

    def get_current_stream(self, device: Any = None) -> int:
        return 0

    def get_active_torch_device(self) -> torch.device:
        return torch.device("cuda", 0)


class _Launches:
    """Records launches of compiled kernels instead of making them; autotuned kernels are launched in every configuration."""

    def __init__(self, recorder: TapeRecorder) -> None:
        from triton.runtime.autotuner import Autotuner
        from triton.runtime.jit import JITFunction

        self.classes = JITFunction, Autotuner
        self.found: list[tuple[Any, dict[str, Any], dict[str, Any], tuple[int, int, int]]] = []
        self.recorder = recorder
        #: The launches of each launching step of the tape: positions in ``found``, one for each configuration.
        self.steps: list[list[int]] = []
        self._tuning = False

    def __enter__(self) -> _Launches:
        from .launches import bind, resolve_grid

        jit, tuner = self.classes
        self.saved = jit.run, tuner.run
        launches = self

        def run(leaf: Any, *args: Any, grid: Any, warmup: bool = False, **kwargs: Any) -> None:
            arguments, options = bind(leaf, args, kwargs)
            launches.found.append((leaf, arguments, options, resolve_grid(grid, {**arguments, **options})))
            if not launches._tuning:
                launches._step([len(launches.found) - 1], [])

        def autotuned(self: Any, *args: Any, **kwargs: Any) -> None:
            self.nargs = dict(zip(self.arg_names, args, strict=False))
            first, launches._tuning = len(launches.found), True
            try:
                for config in self.prune_configs(kwargs):
                    if config.pre_hook is not None:
                        launches.recorder.reason = launches.recorder.reason or "a configuration has a hook of its own"
                        config.pre_hook({**self.nargs, **kwargs, **config.all_kwargs()})
                    self.fn.run(*args, **kwargs, **config.all_kwargs())
            finally:
                launches._tuning = False
            every = {**self.nargs, **kwargs}
            resets = [every[n] for n in getattr(self, "reset_to_zero", ()) if n in every]
            launches._step(list(range(first, len(launches.found))), resets)

        jit.run, tuner.run = run, autotuned
        return self

    def __exit__(self, *exc: Any) -> None:
        jit, tuner = self.classes
        jit.run, tuner.run = self.saved

    def _step(self, positions: list[int], resets: list[Any]) -> None:
        """Add a launching step to the tape; its kernels are filled in once they are compiled."""
        try:
            encoded = [self.recorder.encode(t)["tensor"] for t in resets]
            self.recorder.tape.steps.append({"launch": positions, "reset": encoded})
        except TapeError as error:
            self.recorder.reason = self.recorder.reason or str(error)

    def tape(self, result: Any, kernels: Mapping[int, Any]) -> Tape:
        """Return the tape of the call; raises TapeError.

        Args:
            result: what the launcher returned.
            kernels: position in ``found`` -> the compiled kernel.
        """
        tape = self.recorder.finish(result)
        keys: dict[int, str] = {}
        for k, kernel in kernels.items():
            entry = kernel_entry(kernel)
            keys[k] = hashlib.sha256(repr(sorted(entry.items())).encode()).hexdigest()[:32]
            tape.kernels[keys[k]] = entry
        for step in tape.steps:
            if "launch" in step:
                step["launch"] = [self._entry(k, keys[k], tape) for k in step["launch"]]
        return tape

    def _entry(self, position: int, key: str, tape: Tape) -> dict[str, Any]:
        _, arguments, _, grid = self.found[position]
        names = [n for n, t in tape.kernels[key]["signature"] if t != "constexpr"]
        missing = [n for n in names if n not in arguments]
        if missing:
            raise TapeError(f"a kernel takes {missing[0]}, which is part of an argument")
        return {"kernel": key, "grid": list(grid), "args": [self.recorder.encode(arguments[n]) for n in names]}

    def compile(
        self, launch: tuple[Any, dict[str, Any], dict[str, Any], tuple[int, int, int]]
    ) -> tuple[dict[str, Any], Any]:
        """Compile one launch; returns a description of its machine code, and the kernel."""
        leaf, arguments, options, grid = launch
        values = {n: _Placed(v) if isinstance(v, torch.Tensor) else v for n, v in arguments.items()}
        started = time.perf_counter()
        kernel = self.classes[0].run(leaf, grid=grid, warmup=True, **values, **options)
        if not hasattr(kernel, "asm"):  # newer versions compile in the background
            kernel = kernel.result()
        constants = {n: v for n, v in arguments.items() if isinstance(v, (int, bool, float)) and n.isupper()}
        found = {
            "kernel": leaf.fn.__name__, "grid": list(grid), "constants": constants,
            "n_warps": kernel.metadata.num_warps, "shared_bytes": kernel.metadata.shared,
            "tf32": bool(_TF32_PRODUCT.search(kernel.asm["ttir"])),
            "tensor_cores": any(w in kernel.asm["ptx"] for w in ("wgmma", "mma.sync")),
            "compile_ms": round((time.perf_counter() - started) * 1e3, 1),
        }  # fmt: skip
        found.update(_resources(kernel.asm.get("cubin")))
        return found, kernel


class _Placed:
    """What the compiler asks of a tensor that is not there: allocations are aligned, views are where they are in them."""

    def __init__(self, tensor: torch.Tensor) -> None:
        self.dtype, self.shape, self._strides = tensor.dtype, list(tensor.shape), tensor.stride()
        self._offset = int(tensor.storage_offset()) * tensor.element_size()

    def stride(self) -> tuple[int, ...]:
        return tuple(self._strides)

    def data_ptr(self) -> int:
        return self._offset % 16

    def ptr_range(self) -> int:
        return 0


def _resources(cubin: bytes | None) -> dict[str, int]:
    """Return registers and stack bytes (spills) per thread, read by the bundled ``cuobjdump``; empty where it is missing."""
    try:
        from triton import knobs

        tool = knobs.nvidia.cuobjdump.path
    except (ImportError, AttributeError, RuntimeError):
        return {}
    if not cubin:
        return {}
    with tempfile.NamedTemporaryFile(suffix=".cubin", dir=os.getcwd()) as f:
        f.write(cubin)
        f.flush()
        try:
            done = subprocess.run([tool, "--dump-resource-usage", f.name], capture_output=True, text=True, check=False)
        except OSError:
            return {}
    numbers = dict(re.findall(r"(REG|STACK):(\d+)", done.stdout))
    return {
        key: int(numbers[name]) for key, name in (("registers", "REG"), ("stack_bytes", "STACK")) if name in numbers
    }


def _shown(value: Any) -> str:
    """Return what a kernel is compiled for in an argument."""
    if isinstance(value, torch.Tensor):
        return f"{value.dtype} {_Placed(value).data_ptr()}"
    if type(value).__name__ == "TensorDescriptor":
        return f"{value.base.dtype} {list(value.block_shape)} {value.padding}"
    return repr(value)


def handle(request: Frame, channel: fork_server.Channel | _Silent) -> None:
    """Serve one job: trace the launcher, compile every launch, send what came out."""
    from torch._subclasses.fake_tensor import FakeTensorMode

    from .families import DTYPES
    from .launches import PretendCuda, cuda_stubs
    from .loading import error_text, load_source

    warnings.simplefilter("ignore")
    h = request.header
    try:
        entry = getattr(load_source(h["source"]), h["entry"])
        with cuda_stubs(), FakeTensorMode(allow_non_fake_inputs=True), torch.no_grad():
            given = [torch.empty_strided(i["shape"], i["stride"], dtype=DTYPES[i["dtype"]]) for i in h["real"]]
            recorder = TapeRecorder(given)
            with _Launches(recorder) as launches, recorder, PretendCuda():
                result = entry(*given)
    except Exception as error:
        channel.send("untraced", error=error_text(error))
        return
    seen: dict[str, Any] = {}
    kernels: dict[int, Any] = {}
    for position, launch in enumerate(launches.found):
        leaf, arguments, options, _ = launch
        shown = {n: _shown(v) for n, v in arguments.items()}
        key = repr((leaf.fn.__name__, shown, options))
        if key not in seen:
            channel.send("stage", name="compile", kernel=leaf.fn.__name__)
            try:
                described, seen[key] = launches.compile(launch)
            except Exception as error:
                channel.send("refused", kernel=leaf.fn.__name__, error=error_text(error))
                return
            channel.send("compiled", **described)
        kernels[position] = seen[key]
    if h.get("tape"):
        try:
            channel.send("tape", tape=launches.tape(result, kernels).to_json())
        except TapeError as error:
            channel.send("no_tape", reason=str(error))


_WARM = """
@triton.jit
def warm_kernel(x, y, o, n, BLOCK: tl.constexpr):
    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    a = tl.load(x + i, mask=i < n, other=0.0)
    b = tl.load(y + i, mask=i < n, other=0.0).to(tl.float32)
    m = tl.max(a, 0) + tl.sum(tl.exp(b), 0)
    tl.store(o + i, tl.where(a > 0, a * b + m, tl.sigmoid(a)), mask=i < n)


def warm(x, y):
    o = torch.empty_like(x)
    warm_kernel[(triton.cdiv(x.numel(), 128),)](x, y, o, x.numel(), BLOCK=128)
    return o
"""


class _Silent:
    """A channel to nobody."""

    def send(self, kind: str, tensors: Any = None, **header: Any) -> None:
        """Forget a frame."""


def _warm_up() -> None:
    """Compile one small kernel, so that children start with the tracer and the compiler loaded and initialised."""
    here = os.getcwd()
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        os.environ["TRITON_CACHE_DIR"] = os.path.join(folder, "triton")
        vector = {"shape": [1000], "stride": [1]}
        real = [{**vector, "dtype": "f32"}, {**vector, "dtype": "bf16"}]
        handle(Frame({"source": _WARM, "entry": "warm", "real": real}), _Silent())
        os.chdir(here)


def main() -> None:
    """The sandbox server's program."""
    import triton

    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    triton.runtime.driver.set_active(_NoDriver())
    _warm_up()
    fork_server.serve(handle)


# -- in the parent ----------------------------------------------------------------------------------------------------


def submit_fragment(fragment: Graph, candidate: Candidate, timeout_s: float, tape: bool = False) -> Future[Reply]:
    """Start compiling a candidate for the real sizes of a static fragment; with ``tape`` its call is also recorded."""
    real = [
        {"shape": list(i.type.shape), "stride": reading.contiguous(list(i.type.shape)), "dtype": i.type.dtype}  # type: ignore[arg-type]
        for i in fragment.inputs
    ]
    header = {"source": candidate.source, "entry": candidate.entry, "real": real, "tape": tape}
    return sandbox.compiler_sandbox().submit(Frame(header), timeout_s)


def tools() -> dict[str, str]:
    """Return where the assembler and the reader of machine code are, with their versions; "" for one that is not there."""
    from triton import knobs

    found = {}
    for name in ("ptxas", "cuobjdump"):
        try:
            tool = getattr(knobs.nvidia, name)
            found[name] = f"{tool.path} ({tool.version})"
        except (AttributeError, RuntimeError, OSError):
            found[name] = ""
    return found


def why_no_tape(reply: Reply) -> str:
    """Return why the call was not recorded."""
    for frame in reply.named("no_tape"):
        return str(frame.header["reason"])
    for frame in reply.named("untraced"):
        return f"the launcher cannot be traced without a device: {frame.header['error']}"
    return "its launches were not compiled without a device"


def read_compile(reply: Reply, docket: Docket, precision: str = "strict", target: Target = H100) -> None:
    """Judge the gate compile."""
    kernels = [{k: v for k, v in f.header.items() if k != "kind"} for f in reply.named("compiled")]
    refused, untraced = reply.named("refused"), reply.named("untraced")
    if refused:
        h = refused[0].header
        docket.add_failure("compile", "compile", f"kernel {h['kernel']} does not compile: {h['error']}", reply.time_ms,
                           kernels=kernels)  # fmt: skip
        return
    if untraced:
        docket.add_skip("compile", f"the launcher cannot be traced without a device: {untraced[0].header['error']}")
        return
    if reply.status != "ok":
        stages = reply.named("stage")
        kernel = stages[-1].header["kernel"] if stages else ""
        if reply.status == "lost":
            docket.add_skip("compile", reply.detail)
        else:
            message = f"compiling kernel {kernel} ended: {reply.detail}" if kernel else f"tracing ended: {reply.detail}"
            docket.add_failure("compile", "timeout" if reply.status == "timeout" else "crash", message, reply.time_ms)
        return
    for k in kernels:
        if k["shared_bytes"] > target.shared_bytes:
            docket.add_failure("compile", "shared_memory", f"kernel {k['kernel']} needs {k['shared_bytes']} bytes of shared "
                               f"memory, {target.name} has {target.shared_bytes}", reply.time_ms, kernels=kernels)  # fmt: skip
            return
        if k["tf32"] and precision == "strict":
            docket.add_failure("compile", "tf32", f"kernel {k['kernel']} multiplies in TF32, which precision strict does "
                               "not allow; use input_precision=\"ieee\" or \"tf32x3\"", reply.time_ms,
                               kernels=kernels)  # fmt: skip
            return
    spilled = [k["kernel"] for k in kernels if k.get("stack_bytes", 0) > 0]
    if spilled:
        docket.flags.append(f"kernel {spilled[0]} spills registers to memory")
    docket.add_pass("compile", reply.time_ms, kernels=kernels)
