"""The device gate's own logic, with kernels interpreted on the CPU in a process that stands in for the device's."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from drt.backend.candidate import Candidate
from drt.backend.verify import verify_candidate
from drt.ir import parse_graph
from programs.judged import BIAS_GELU, LAYER_NORM, MATMUL, SOFTMAX

#: Changes to a right kernel that the gate must see at the real sizes: (subject, old, new, label).
FAULTS = {
    "right": (BIAS_GELU, "", "", ""),
    "right_norm": (LAYER_NORM, "", "", ""),
    "writes_past_the_end": (BIAS_GELU, "m = i < n", "m = i < n + 2", "oob_write"),
    "reads_past_the_end": (SOFTMAX, "c < N, other", "c < N + 1, other", "wrong_value"),
    "leaves_elements": (BIAS_GELU, "m = i < n", "m = i < n - 1", "nonfinite"),
    "writes_input": (BIAS_GELU, "tl.store(o + i,", "tl.store(x + i,", "input_write"),
    "coefficient": (BIAS_GELU, "0.7071067811865476", "0.707", ""),
    "shape": (BIAS_GELU, "return o", "return o[:, :-1]", "shape"),
    "raises": (BIAS_GELU, "    return o", "    raise ValueError('no')", "raises"),
}


class _Channel:
    def __init__(self) -> None:
        self.sent: list[dict[str, Any]] = []

    def send(self, kind: str, tensors: Any = None, **header: Any) -> None:
        self.sent.append({"kind": kind, **header})


def _main() -> None:
    from drt.backend.sandbox import Frame
    from drt.backend.verify import device, interpreter

    interpreter.install()
    device.DEVICE = "cpu"
    names = sys.argv[1:]
    out = {}
    for name in names:
        subject, old, new, _ = FAULTS[name]
        graph = parse_graph(subject.graph.replace("1024", "24").replace("1000", "50").replace("4096", "50"))
        buffer = io.BytesIO()
        torch.save((graph, None, {}), buffer)
        program = torch.frombuffer(bytearray(buffer.getvalue()), dtype=torch.uint8)
        header = {
            "kind": "fragment", "source": subject.source.replace(old, new) if old else subject.source, "entry": "f",
            "precision": "strict",
        }  # fmt: skip
        channel = _Channel()
        device.handle(Frame(header, {"program": program}), channel)  # type: ignore[arg-type]
        out[name] = channel.sent
    print(json.dumps(out))


@pytest.fixture(scope="module")
def answers() -> Any:
    env = {
        **os.environ,
        "TRITON_INTERPRET": "1",
        "PYTHONPATH": os.pathsep.join([str(Path(__file__).parents[1]), *sys.path]),
    }
    done = subprocess.run(
        [sys.executable, __file__, *FAULTS], capture_output=True, text=True, env=env, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize("name", FAULTS)
def test_gate(name: str, answers: Any) -> None:
    label = FAULTS[name][3]
    first = answers[name][0]
    if name.startswith("right"):
        assert first["kind"] == "passed", first
    else:
        assert first["kind"] == "failure", first
        assert not label or first["label"] == label, first


@pytest.mark.gpu
@pytest.mark.parametrize("subject", [BIAS_GELU, SOFTMAX, LAYER_NORM, MATMUL], ids=lambda s: s.name)
def test_right_kernel_on_a_device(subject: Any) -> None:
    graph = parse_graph(subject.graph)
    verdict = verify_candidate(graph, Candidate(subject.source, "f", "test"), device="cuda")
    report = verdict.report("device")
    assert verdict.passed and report is not None and report.passed, verdict.summary()


@pytest.mark.gpu
@pytest.mark.parametrize("name", [n for n in FAULTS if not n.startswith("right")])
def test_wrong_kernel_on_a_device(name: str) -> None:
    subject, old, new, _ = FAULTS[name]
    candidate = Candidate(subject.source.replace(old, new), "f", "test")
    # Sizes that no tile divides, so that every mask acts.
    graph = parse_graph(subject.graph.replace("1024", "1021").replace("1000", "997").replace("4096", "4093"))
    verdict = verify_candidate(graph, candidate, device="cuda", gates=("device",))
    assert not verdict.passed and verdict.gate == "device", verdict.summary()


if __name__ == "__main__":
    _main()
