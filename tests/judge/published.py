"""Three published rules for "the kernel is right", in the harness that they come with.

Reference and candidate run in one process at the program's own sizes, the reference first, with fresh standard-normal inputs
for each seed; the rule then compares.  A candidate that raises is refused.

* ``kernelbench``: ``torch.allclose`` with 1e-4 (float32) or 1e-2 (16 bits), absolute and relative, on five seeds
  (KernelBench, https://github.com/ScalingIntelligence/KernelBench).
* ``assert_close``: ``torch.testing.assert_close`` with its defaults.
* ``inductor``: ``torch._dynamo.utils.same`` with a float64 evaluation, tolerance 1e-4 (float32) or 1e-3 (16 bits), as in
  PyTorch's own benchmarks of TorchInductor.
"""

from __future__ import annotations

import os
import tempfile
import warnings
from typing import Any

import torch
from drt.backend import fork_server, sandbox
from drt.ir import builtin_ops, parse_graph

RULES = ("kernelbench", "assert_close", "inductor")
N_SEEDS = 5


def _accepts(rule: str, ours: Any, theirs: Any, truth: Any) -> bool:
    """Whether a rule takes a candidate's outputs for the reference's."""
    if len(ours) != len(theirs) or any(
        not isinstance(o, torch.Tensor) or o.shape != t.shape for o, t in zip(ours, theirs)
    ):
        return False
    for out, want, wide in zip(ours, theirs, truth, strict=True):
        low = want.dtype in (torch.float16, torch.bfloat16)
        try:
            if rule == "kernelbench":
                bound = 1e-2 if low else 1e-4
                if want.dtype == torch.bool:
                    out, want = out.to(torch.int8), want.to(torch.int8)
                accepted = torch.allclose(want, out, atol=bound, rtol=bound)
            elif rule == "assert_close":
                torch.testing.assert_close(out, want)
                accepted = True
            else:
                from torch._dynamo.utils import same

                exact = not want.is_floating_point()
                accepted = same(want, out, None if exact else wide, tol=1e-3 if low else 1e-4)
        except (AssertionError, RuntimeError):
            accepted = False
        if not accepted:
            return False
    return True


class _Silent:
    def send(self, kind: str, tensors: Any = None, **header: Any) -> None:
        pass


_WARM = """drt 1
graph f(%x: f32[40]) -> (%y) {
  %y = exp(%x) : f32[40]
}
"""
_WARM_SOURCE = """
@triton.jit
def f_kernel(x, o, n, BLOCK: tl.constexpr):
    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    tl.store(o + i, tl.exp(tl.load(x + i, mask=i < n, other=0.0)), mask=i < n)


def f(x):
    o = torch.empty_like(x)
    f_kernel[(triton.cdiv(x.numel(), 32),)](x, o, x.numel(), BLOCK=32)
    return o
"""


def handle(request: sandbox.Frame, channel: fork_server.Channel | _Silent) -> None:
    """Serve one job: ``source``, ``entry``, ``program``; answers which rules accept."""
    from drt.backend.oracle import Oracle
    from drt.backend.to_torch import to_callable
    from drt.backend.verify import families
    from drt.backend.verify.launches import PretendCuda, Recorder, cuda_stubs, monitored
    from drt.backend.verify.loading import load_source
    from drt.backend.verify.memory import MemoryMonitor
    from drt.ir import input_ranges
    from torch.utils._pytree import tree_leaves

    warnings.simplefilter("ignore")
    h = request.header
    ops = builtin_ops()
    graph = parse_graph(h["program"], ops=ops)
    reference, ranges = to_callable(graph, ops), input_ranges(graph, ops)
    refused = dict.fromkeys(RULES, False)
    held = []  # a harness keeps what the reference gave
    try:
        entry = getattr(load_source(h["source"]), h["entry"])
        for seed in range(N_SEEDS):
            generator = torch.Generator().manual_seed(h["seed"] + seed)
            inputs = [families.draw(i.type, "normal", generator, "real", ranges.get(i.name)) for i in graph.inputs]
            theirs = tree_leaves(reference(*inputs))
            held.append(theirs)
            truth = list(Oracle(ops).run(graph, dict(zip([i.name for i in graph.inputs], inputs, strict=True))))
            monitor = MemoryMonitor(0.25, poison=False)
            with torch.no_grad(), cuda_stubs(), Recorder(True), monitored(monitor), PretendCuda():
                ours = tree_leaves(entry(*inputs))
            for rule in RULES:
                if (rule == "kernelbench" or seed == 0) and not refused[rule]:
                    refused[rule] = not _accepts(rule, ours, theirs, truth)
            if refused["kernelbench"]:
                break
    except Exception as error:
        channel.send("rules", accepts=dict.fromkeys(RULES, False), error=f"{type(error).__name__}: {error}"[:200])
        return
    channel.send("rules", accepts={rule: not no for rule, no in refused.items()}, error="")


def main() -> None:
    """The sandbox server's program."""
    from drt.backend.verify import interpreter, memory

    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    interpreter.install()
    memory.install()
    # Loads what jobs need, the definitions and the tracer among it.
    here = os.getcwd()
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        handle(sandbox.Frame({"program": _WARM, "source": _WARM_SOURCE, "entry": "f", "seed": 0}), _Silent())
        os.chdir(here)
    fork_server.serve(handle)


_server: sandbox.Sandbox | None = None


def judge_by_rules(program: str, source: str, seed: int = 0, timeout_s: float = 20.0) -> dict[str, bool]:
    """Return, for each rule, whether it accepts ``source`` for ``program``; a crash or a time-out is refused."""
    global _server
    if _server is None:
        _server = sandbox.Sandbox("judge.published", {**sandbox.SINGLE_THREAD, "TRITON_INTERPRET": "1"})
    header = {"program": "drt 1\n" + program, "source": source, "entry": "f", "seed": seed}
    reply = _server.run(sandbox.Frame(header), timeout_s)
    if reply.status == "lost":
        raise RuntimeError(reply.detail)
    frames = reply.named("rules")
    return dict(frames[0].header["accepts"]) if frames else dict.fromkeys(RULES, False)
