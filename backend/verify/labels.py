"""What a verdict's labels mean and how a candidate with each is mended: data for people, for models, and for docs/judge.md."""

from __future__ import annotations

from typing import Any

import attrs

#: The gates, cheapest first; the first that fails decides.
GATES = ("policy", "trace", "compile", "memory", "meaning", "device")


@attrs.frozen
class Label:
    """One way to fail.

    Attributes:
        gates: that may give it, the most usual first.
        about: what was found.
        advice: what to change in the candidate.
    """

    name: str
    gates: tuple[str, ...]
    about: str
    advice: str


def _label(name: str, gates: str, about: str, advice: str) -> Label:
    return Label(name, tuple(gates.split()), about, advice)


_ALL = (
    # policy
    _label("syntax", "policy", "the source is not Python", "write one complete Python file"),
    _label(
        "entry",
        "policy",
        "the launcher or class that was asked for is not defined",
        "define it at top level, under its name",
    ),
    _label(
        "name",
        "policy",
        "a name that a kernel has no use for, or a stray top-level name",
        "use the parameters; prefix helpers with the entry's name",
    ),
    _label(
        "import",
        "policy trace device",
        "imports something else than torch, triton and a few pure modules, or the import raises",
        "import torch, triton and triton.language alone",
    ),
    _label(
        "attribute",
        "policy",
        "reaches into frames, modules, storage, streams, files or another compiler",
        "compute in a Triton kernel from the arguments",
    ),
    _label(
        "flags", "policy", "sets a precision flag of the process", "ask for precision in tl.dot (input_precision=...)"
    ),
    _label(
        "patch", "policy", "assigns to something that is not the candidate's", "assign to local names and to self alone"
    ),
    _label(
        "fallback",
        "policy",
        "can hide that other code did the work",
        "remove try/except and contexts that swallow exceptions",
    ),
    _label(
        "state",
        "policy meaning device",
        "keeps state between calls, or leaves buffers other than the reference does",
        "compute everything in every call; update the buffers that the reference updates, and no others",
    ),
    _label("class", "policy", "defines a tensor subclass or a metaclass", "return plain tensors"),
    # trace
    _label("no_kernel", "trace policy device", "no Triton kernel does work", "write a triton.jit kernel and launch it"),
    _label("construct", "trace device", "the constructor raises", "take the constructor's arguments of the reference"),
    _label(
        "raises",
        "trace memory device",
        "the launcher or a kernel raises",
        "read the exception; it names the line and the sizes",
    ),
    _label(
        "slow_launcher",
        "trace",
        "the launcher itself computes before it launches",
        "move the computation into the kernel",
    ),
    _label("n_outputs", "trace", "another number of outputs", "return what the reference returns"),
    _label("type", "trace", "an output is no tensor", "return tensors where the reference does"),
    _label(
        "alias",
        "trace",
        "an output shares memory with an input or another output",
        "allocate the output with torch.empty",
    ),
    _label("shape", "trace", "an output has another shape", "derive the shape from the inputs' as the reference does"),
    _label("dtype", "trace", "an output has another dtype", "allocate the output in the reference's dtype"),
    _label(
        "stride", "trace", "an output has another memory layout", "allocate the output with the reference's strides"
    ),
    _label("input_write", "memory trace device", "an input is changed", "write to the output alone; work on a copy"),
    _label("dead_launch", "trace", "the result of a kernel is never used", "use the result or remove the launch"),
    _label("sync", "trace", "the launcher reads a tensor's element on the host", "keep the choice in the kernel"),
    _label("aten_compute", "trace", "PyTorch does the work", "move the operators that are named into kernels"),
    _label("not_by_kernel", "trace", "no kernel writes an output", "store the result by a kernel"),
    _label(
        "unjudged_path",
        "trace",
        "at the real sizes the launcher goes another way than at all sizes that were judged",
        "take one path for all sizes, or choose by divisibility",
    ),
    _label(
        "timeout",
        "trace memory compile device",
        "no result before the deadline",
        "look for a loop that does not end; make fewer, larger programs",
    ),
    _label(
        "crash",
        "memory trace compile device",
        "the process ended by a signal",
        "look for wild pointers and for too much memory",
    ),
    _label("exit", "trace memory", "the process ended itself or left runs out", "return from the launcher"),
    # compile
    _label(
        "compile",
        "compile",
        "the kernel does not compile for the target",
        "read the compiler's message; it names the line",
    ),
    _label(
        "shared_memory",
        "compile",
        "the kernel needs more shared memory than the target has",
        "use smaller blocks or fewer stages",
    ),
    _label(
        "tf32",
        "compile",
        "multiplies float32 in TF32, which was not declared",
        "pass input_precision='ieee' or declare the precision",
    ),
    # memory
    _label("oob_read", "memory", "reads outside a tensor", "mask the load with the index bound, not with the block's"),
    _label("oob_write", "memory device", "writes outside a tensor", "mask the store"),
    _label(
        "wild_pointer",
        "memory",
        "uses a pointer into no argument",
        "derive every pointer from an argument and an in-range offset",
    ),
    _label(
        "misaligned",
        "memory",
        "accesses an address that is no multiple of the element size",
        "do not cast pointers to wider types",
    ),
    _label(
        "uninitialized_read",
        "memory",
        "reads memory that nobody wrote",
        "fill the buffer, or load it only after its store",
    ),
    _label(
        "race",
        "memory",
        "two programs of a launch meet at one address without atomics",
        "give each program its own elements, or use tl.atomic_add",
    ),
    _label("lane_conflict", "memory", "one store gives one address several values", "check the offsets' strides"),
    _label(
        "unwritten_output",
        "memory",
        "elements of an output are never written",
        "check the grid and the mask of the store",
    ),
    _label(
        "undefined_lanes",
        "memory",
        "lanes that a mask turned off reach an output",
        "give the load other=, the neutral element of what follows",
    ),
    # meaning
    _label(
        "wrong_value",
        "meaning device",
        "elements are wrong by more than the reference's own error",
        "compare the formula with the reference at the element that is named",
    ),
    _label(
        "inaccurate",
        "meaning device",
        "the error as a whole is over four times the reference's own",
        "accumulate in float32; do not round between steps",
    ),
    _label(
        "nonfinite",
        "meaning device",
        "infinities or NaN in other places",
        "subtract the maximum before exp; guard divisions and empty rows",
    ),
    _label(
        "inexact",
        "meaning device",
        "a result that must be exact is not",
        "compute integers and choices without floats; accumulate in order",
    ),
    _label(
        "other_function",
        "meaning",
        "right within the tolerance, another function in exact arithmetic",
        "check constants (eps, scale) and that every element takes part",
    ),
    _label("ignored_input", "meaning", "an input on which the program depends is never read", "read it"),
    _label(
        "support",
        "meaning",
        "random values that the reference cannot give",
        "check the bounds and the scale of the draw",
    ),
    _label(
        "distribution",
        "meaning device",
        "random values with other frequencies",
        "check the probability, and that draws are independent",
    ),
    # none of the candidate's doing
    _label(
        "not_judged",
        "meaning device",
        "a gate that must run could not",
        "read the reason: the judge cannot say anything",
    ),
    _label("lost", "trace memory device", "the sandbox ended under the candidate, twice", "judge it again"),
    _label("internal", "meaning", "the judge itself failed", "report it: this is a bug of DRT"),
)

#: Label -> what it means.
LABELS: dict[str, Label] = {label.name: label for label in _ALL}


def advice(label: str) -> str:
    """Return what to change in a candidate that failed with ``label``; empty where nothing is known."""
    known = LABELS.get(label)
    return known.advice if known else ""


def table() -> str:
    """Return all labels as a Markdown table."""
    rows = ["| label | gates | found | to mend |", "|---|---|---|---|"]
    return "\n".join([*rows, *(f"| `{x.name}` | {', '.join(x.gates)} | {x.about} | {x.advice} |" for x in _ALL)])


def verdict_schema() -> dict[str, Any]:
    """Return the JSON Schema (draft 2020-12, https://json-schema.org/draft/2020-12) of ``Verdict.to_dict()``.

    The evidence of a gate is an open object: facts are added to it, and none that is there changes its meaning.
    """
    text = {"type": "string"}
    report = {
        "type": "object",
        "additionalProperties": False,
        "required": ["gate", "status", "time_ms", "evidence", "reason"],
        "properties": {
            "gate": {"enum": list(GATES)},
            "status": {"enum": ["passed", "failed", "skipped"]},
            "time_ms": {"type": "number", "minimum": 0},
            "evidence": {"type": "object"},
            "reason": text,
        },
    }
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Verdict",
        "type": "object",
        "additionalProperties": False,
        "required": ["passed", "gate", "label", "message", "gates", "flags"],
        "properties": {
            "passed": {"type": "boolean"},
            "gate": {"enum": ["", *GATES], "description": "that decided; empty where the candidate passed"},
            "label": {"enum": ["", *LABELS], "description": "what it found; empty where the candidate passed"},
            "message": {**text, "description": "one line: kernel, line, sizes, element, what was expected"},
            "advice": {**text, "description": "what to change; empty where the candidate passed"},
            "gates": {"type": "array", "items": report},
            "flags": {"type": "array", "items": text, "description": "findings that decide nothing"},
        },
    }
