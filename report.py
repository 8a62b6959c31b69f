"""What a compile is asked and what it answers: plain values between the pipeline and whoever calls it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import attrs

from .ir import UsageError, check_fields

#: Where kernels are verified and timed.
DEVICES = ("auto", "cpu", "cuda")

#: ``FragmentRow.writer`` of a fragment that no kernel was found for.
PYTORCH = "pytorch"


class VerdictLike(Protocol):
    """The part of a verdict that a report needs; see :class:`drt.backend.verify.Verdict`."""

    @property
    def passed(self) -> bool:
        """Whether every gate passed."""
        ...

    @property
    def label(self) -> str:
        """A short stable word for the failure; empty where it passed."""
        ...

    def to_json(self) -> str:
        """Return the verdict as JSON text."""
        ...


class Progress(Protocol):
    """Told where a compile stands, so that a person can see it move."""

    def __call__(self, stage: str, done: int, total: int, detail: str = "") -> None:
        """Report that ``done`` of ``total`` steps of ``stage`` (``verify``) are over; ``detail`` says what comes now."""
        ...


@attrs.frozen
class CompileOptions:
    """How to compile.

    Attributes:
        ops: files with operator definitions, besides the built-in ones.
        precision: arithmetic of float32 products: ``strict`` or ``tf32``.
        budget_s: time that the search may take, seconds.
        variants: kernels that are tried for one fragment, at most.
        device: where kernels are verified and timed: ``auto``, ``cpu`` or ``cuda``.
        dynamic: sizes of inputs that stay symbols, ``x:0=B`` or ``x:0=B:1..64``.
    """

    ops: tuple[Path, ...] = ()
    precision: str = "strict"
    budget_s: float = 60.0
    variants: int = 4
    device: str = "auto"
    dynamic: tuple[str, ...] = ()

    def __attrs_post_init__(self) -> None:
        check_fields(self)
        if self.device not in DEVICES:
            raise UsageError(f"is {self.device}, expected one of {', '.join(DEVICES)}", subject="device")
        if self.variants < 1:
            raise UsageError(f"is {self.variants}, expected at least 1", subject="variants")


@attrs.frozen
class FragmentRow:
    """One fragment of the compiled program.

    Attributes:
        operators: the operators in it, in order (``linear, gelu``).
        writer: the translator of its kernel, or ``pytorch`` where none was found.
        verified: what its verdict rests on (``cpu, 6 gates``); empty for PyTorch.
        time_us: time of one call, microseconds; None where unknown.
        time_kind: ``measured`` (median, device events) or ``predicted`` (roofline model).
        eager_us: the same operators in PyTorch, eager, microseconds.
        compiled_us: the same operators under ``torch.compile``, microseconds.
        reason: why it was left to PyTorch; empty otherwise.
        variant: which form of the kernel won.
    """

    operators: str
    writer: str
    verified: str = ""
    time_us: float | None = None
    time_kind: str = "predicted"
    eager_us: float | None = None
    compiled_us: float | None = None
    reason: str = ""
    variant: str = ""

    @property
    def is_leftover(self) -> bool:
        """Whether PyTorch runs this fragment."""
        return self.writer == PYTORCH


@attrs.frozen
class CompileReport:
    """The outcome of one compile.

    Attributes:
        spec: what was compiled, as it was asked for.
        output: the file that was written.
        device: where kernels were verified and timed, by name.
        precision_flags: the arithmetic flags under which every number of this report was taken.
        rows: the fragments, in the order in which they run.
        whole: the verdict on the written file against the original model.
        whole_us: times of one call of the model, microseconds, by who runs it (``drt``, ``eager``, ``compiled``); may be empty.
        elapsed_s: how long the compile took, seconds.
        serves: the sizes that the written file serves (``B in 1..64 where B % 8 == 0``); empty for those of the example.
    """

    spec: str
    output: Path
    device: str
    precision_flags: Mapping[str, Any]
    rows: tuple[FragmentRow, ...]
    whole: VerdictLike
    whole_us: Mapping[str, float] = attrs.field(factory=dict)
    elapsed_s: float = 0.0
    serves: str = ""

    @property
    def leftovers(self) -> tuple[FragmentRow, ...]:
        """The fragments that PyTorch runs."""
        return tuple(row for row in self.rows if row.is_leftover)

    def to_json(self) -> str:
        """Return the report as indented JSON text."""
        values = {
            "spec": self.spec,
            "output": str(self.output),
            "device": self.device,
            "precision_flags": dict(self.precision_flags),
            "fragments": [attrs.asdict(row) for row in self.rows],
            "whole": json.loads(self.whole.to_json()),
            "whole_us": dict(self.whole_us),
            "elapsed_s": self.elapsed_s,
            "serves": self.serves,
        }
        return json.dumps(values, indent=2) + "\n"
