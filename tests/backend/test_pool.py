"""The pool returns every verdict, whatever the candidates do to their processes."""

from __future__ import annotations

import os
import signal
import threading
import time
from pathlib import Path

import torch
from drt.backend.candidate import Candidate
from drt.backend.sandbox import interpreter_sandbox
from drt.backend.verify import verify_files
from drt.backend.verify.pool import JudgePool, summarise
from drt.backend.verify.verdict import GateReport, Verdict
from drt.ir import parse_graph
from programs.judged import BIAS_GELU

GRAPH = parse_graph(BIAS_GELU.graph)
GATES = ("trace", "memory", "meaning")
HOSTILE = {
    "hangs": "while True: pass\n",
    "exits": "import os\nos._exit(0)\n",
    "crashes": "import ctypes\nctypes.string_at(0)\n",
    "forks": "import os\nwhile True:\n    try: os.fork()\n    except OSError: pass\n",
}


def candidate(prefix: str = "", old: str = "", new: str = "") -> Candidate:
    source = BIAS_GELU.source.replace(old, new) if old else BIAS_GELU.source
    return Candidate(prefix + source, "f", "test")


def test_hostile_candidates_cost_nobody_else_a_verdict() -> None:
    wrong = candidate(old="0.7071067811865476", new="0.6")
    with JudgePool(jobs=2, device="cpu", gates=GATES, timeout_s=10.0) as pool:
        hostile = {name: pool.submit(GRAPH, candidate(prefix)) for name, prefix in HOSTILE.items()}
        right, bad = pool.submit(GRAPH, candidate()), pool.submit(GRAPH, wrong)
        assert right.result().passed, right.result().summary()
        assert bad.result().gate == "meaning"
        for name, future in hostile.items():
            assert not future.result().passed, name
            assert future.result().label not in ("lost", "internal"), (name, future.result())
        report = pool.report
    assert (report.n, report.n_passed) == (6, 1)
    assert report.per_s > 0 and "verdicts/s" in str(report)


def test_a_sandbox_that_ends_is_started_again() -> None:
    with JudgePool(jobs=1, device="cpu", gates=GATES) as pool:
        assert pool.submit(GRAPH, candidate()).result().passed
        server = interpreter_sandbox()._server
        assert server is not None
        pending = pool.submit(GRAPH, candidate("import time\ntime.sleep(0.5)\n"))
        threading.Timer(0.3, lambda: os.kill(server.process.pid, signal.SIGKILL)).start()
        verdict = pending.result()
        assert verdict.label != "lost", verdict
        assert pool.submit(GRAPH, candidate()).result().passed


def test_a_bug_of_the_judge_is_a_verdict() -> None:
    def fails() -> Verdict:
        raise RuntimeError("no such thing")

    with JudgePool(jobs=1) as pool:
        verdict = pool.call(fails).result()
    assert not verdict.passed and verdict.label == "internal" and "no such thing" in verdict.message


def test_candidates_are_judged_side_by_side() -> None:
    with JudgePool(jobs=4) as pool:
        started = time.monotonic()
        futures = [pool.call(lambda: (time.sleep(0.3), Verdict(True))[1]) for _ in range(4)]
        assert all(f.result().passed for f in futures)
        assert time.monotonic() - started < 1.0


def test_the_report_averages_the_gates_that_ran() -> None:
    a = Verdict(True, gates=(GateReport("policy", "passed", 2.0), GateReport("memory", "passed", 30.0)))
    b = Verdict(False, "policy", "import", gates=(GateReport("policy", "failed", 4.0), GateReport("device", "skipped")))
    report = summarise([a, b], 4.0)
    assert report.gate_ms == {"policy": 3.0, "memory": 30.0}
    assert (report.n_passed, report.labels, report.per_s) == (1, {"import": 1}, 0.5)


def test_references_side_by_side_leave_the_settings_of_the_process_alone(tmp_path: Path) -> None:
    """Each of them runs in float64 and under a seed, for a while: the default dtype and the thread count are shared."""
    model = "import time\nimport torch\n\n\nclass Model(torch.nn.Module):\n    def forward(self, x):\n"
    model += "        time.sleep(0.01)\n        return x + torch.ones(3)\n\n\n"
    model += "def get_inputs():\n    time.sleep(0.01)\n    return [torch.randn(3)]\n\n\ndef get_init_inputs():\n    return []\n"
    (tmp_path / "model.py").write_text(model)
    (tmp_path / "fast.py").write_text(model.replace("class Model", "class ModelNew"))
    n_threads = torch.get_num_threads()
    with JudgePool(jobs=4) as pool:
        futures = [
            pool.call(lambda: verify_files(tmp_path / "model.py", tmp_path / "fast.py", device="cpu")) for _ in range(6)
        ]
        assert {f.result().label for f in futures} == {"no_kernel"}
    assert (torch.get_default_dtype(), torch.get_num_threads()) == (torch.float32, n_threads)
