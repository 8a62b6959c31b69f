"""Judging a file by hand: one function for every kind of reference."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from .backend.candidate import Candidate
from .backend.verify import Verdict, verify_candidate, verify_files, verify_module
from .ir import PROGRAM_SUFFIXES, Graph, OpSet, UsageError, builtin_ops
from .ways import read_graph


def verify(
    reference: Graph | torch.nn.Module | str | os.PathLike[str], candidate: str | os.PathLike[str], *,
    example_inputs: Sequence[Any] = (), example_kwargs: Mapping[str, Any] | None = None, entry: str = "",
    precision: str = "strict", seeds: int = 3, device: str = "auto", timeout_s: float = 180.0, seed: int | None = None,
    ops: OpSet | None = None,
) -> Verdict:  # fmt: skip
    """Judge whether the file ``candidate`` computes what ``reference`` does, by Triton kernels of its own.

    ==================================  ==========================================================================
    reference                           what the candidate's file defines
    ==================================  ==========================================================================
    a graph, or a text file with one    a function named like the graph: its inputs in order, as positional tensors
    a file with ``class Model``         ``class ModelNew`` with the same constructor and ``state_dict`` (KernelBench)
    a module                            the same, beside ``example_inputs``
    ==================================  ==========================================================================

    Args:
        example_inputs, example_kwargs: arguments of one call; for a module.
        entry: the function or class to judge, where it is named otherwise.
        precision: declared arithmetic of float32 products: ``strict`` or ``tf32``.
        seeds: sets of fresh random inputs; for files and modules.
        device: ``auto``, ``cpu`` (no device gate) or ``cuda``.
        timeout_s: wall time of the candidate's runs.
        seed: of states and inputs; secret where None.
        ops: the operators of a graph; the built-in ones where None.

    Raises:
        UsageError: a file cannot be read or lacks something, the reference raises, or an option is wrong.
        ParseError, VerifyError: a text is not a program, or not a valid one.
    """
    if isinstance(reference, torch.nn.Module):
        return verify_module(
            reference, candidate, example_inputs, example_kwargs=example_kwargs, entry=entry or "ModelNew",
            precision=precision, seeds=seeds, device=device, timeout_s=timeout_s, seed=seed,
        )  # fmt: skip
    ops = builtin_ops() if ops is None else ops
    if not isinstance(reference, Graph):
        path = os.fspath(reference)
        if not path.endswith(PROGRAM_SUFFIXES):
            return verify_files(
                path, candidate, precision=precision, seeds=seeds, device=device, timeout_s=timeout_s, seed=seed,
                entry=entry or "ModelNew",
            )  # fmt: skip
        reference = read_graph(path, ops)[0]
    file = Path(candidate)
    try:
        source = file.read_text(encoding="utf-8")
    except OSError as error:
        raise UsageError(f"cannot be read: {error.strerror}", place=str(file)) from None
    except UnicodeDecodeError as error:
        raise UsageError(f"is not text ({error.reason}), expected Python in UTF-8", place=str(file)) from None
    made = Candidate(source, entry or reference.name, file.name, "user", precision)
    return verify_candidate(reference, made, ops=ops, device=device, timeout_s=timeout_s, seed=seed, standalone=True)
