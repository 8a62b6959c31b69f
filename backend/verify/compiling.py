"""The compile gate: every launch of a candidate, in every autotuned configuration, to machine code, without a device.

The launcher runs on fake tensors of the real sizes; each launch is then compiled for the target with Triton's own compiler
and assembler.  This refuses what only the interpreter accepts, and shows registers, spills, shared memory and TF32.
"""

from __future__ import annotations

import os
import re
import subprocess
import tempfile
import time
import warnings
from concurrent.futures import Future
from typing import Any

import torch

from ...ir import Graph
from .. import sandbox
from ..candidate import H100, Candidate, Target
from ..sandbox import Frame, Reply
from . import reading
from .verdict import Docket

#: Compute capability of the machine code.
CAPABILITY = 90

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

    def __init__(self) -> None:
        from triton.runtime.autotuner import Autotuner
        from triton.runtime.jit import JITFunction

        self.classes = JITFunction, Autotuner
        self.found: list[tuple[Any, dict[str, Any], dict[str, Any], tuple[int, int, int]]] = []

    def __enter__(self) -> _Launches:
        from .launches import bind, resolve_grid

        jit, tuner = self.classes
        self.saved = jit.run, tuner.run
        launches = self

        def run(leaf: Any, *args: Any, grid: Any, warmup: bool = False, **kwargs: Any) -> None:
            arguments, options = bind(leaf, args, kwargs)
            launches.found.append((leaf, arguments, options, resolve_grid(grid, {**arguments, **options})))

        def autotuned(self: Any, *args: Any, **kwargs: Any) -> None:
            self.nargs = dict(zip(self.arg_names, args, strict=False))
            for config in self.prune_configs(kwargs):
                self.fn.run(*args, **kwargs, **config.all_kwargs())

        jit.run, tuner.run = run, autotuned
        return self

    def __exit__(self, *exc: Any) -> None:
        jit, tuner = self.classes
        jit.run, tuner.run = self.saved

    def compile(self, launch: tuple[Any, dict[str, Any], dict[str, Any], tuple[int, int, int]]) -> dict[str, Any]:
        """Compile one launch and describe its machine code."""
        from triton.runtime.jit import MockTensor

        leaf, arguments, options, grid = launch
        values = {
            n: MockTensor(v.dtype, list(v.shape)) if isinstance(v, torch.Tensor) else v for n, v in arguments.items()
        }
        started = time.perf_counter()
        kernel = self.classes[0].run(leaf, grid=grid, warmup=True, **values, **options)
        if not hasattr(kernel, "asm"):  # newer versions compile in the background
            kernel = kernel.result()
        constants = {n: v for n, v in arguments.items() if isinstance(v, (int, bool, float)) and n.isupper()}
        found = {
            "kernel": leaf.fn.__name__, "grid": list(grid), "constants": constants,
            "n_warps": kernel.metadata.num_warps, "shared_bytes": kernel.metadata.shared,
            "tf32": bool(re.search(r"inputPrecision = tf32(?!x)", kernel.asm["ttir"])),
            "tensor_cores": any(w in kernel.asm["ptx"] for w in ("wgmma", "mma.sync")),
            "compile_ms": round((time.perf_counter() - started) * 1e3, 1),
        }  # fmt: skip
        found.update(_resources(kernel.asm.get("cubin")))
        return found


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


def handle(request: Frame, channel: sandbox.Channel | _Silent) -> None:
    """Serve one job: trace the launcher, compile every launch, send what came out."""
    from torch._subclasses.fake_tensor import FakeTensorMode

    from .families import DTYPES
    from .launches import PretendCuda, cuda_stubs
    from .loading import error_text, load_source

    warnings.simplefilter("ignore")
    h = request.header
    try:
        entry = getattr(load_source(h["source"]), h["entry"])
        with (
            cuda_stubs(), FakeTensorMode(allow_non_fake_inputs=True), torch.no_grad(), _Launches() as launches,
            PretendCuda(),
        ):  # fmt: skip
            entry(*(torch.empty_strided(i["shape"], i["stride"], dtype=DTYPES[i["dtype"]]) for i in h["real"]))
    except Exception as error:
        channel.send("untraced", error=error_text(error))
        return
    seen: set[str] = set()
    for launch in launches.found:
        leaf, arguments, options, _ = launch
        shown = {n: str(v.dtype) if isinstance(v, torch.Tensor) else repr(v) for n, v in arguments.items()}
        key = repr((leaf.fn.__name__, shown, options))
        if key in seen:
            continue
        seen.add(key)
        channel.send("stage", name="compile", kernel=leaf.fn.__name__)
        try:
            channel.send("compiled", **launches.compile(launch))
        except Exception as error:
            channel.send("refused", kernel=leaf.fn.__name__, error=error_text(error))
            return


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
    sandbox.serve(handle)


# -- in the parent ----------------------------------------------------------------------------------------------------


def submit_fragment(fragment: Graph, candidate: Candidate, timeout_s: float) -> Future[Reply]:
    """Start compiling a candidate for the real sizes of a static fragment."""
    real = [
        {"shape": list(i.type.shape), "stride": reading.contiguous(list(i.type.shape)), "dtype": i.type.dtype}  # type: ignore[arg-type]
        for i in fragment.inputs
    ]
    header = {"source": candidate.source, "entry": candidate.entry, "real": real}
    return sandbox.compiler_sandbox().submit(Frame(header), timeout_s)


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
