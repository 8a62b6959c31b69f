"""The judge of whole programs: a module or a file against a file that defines ``ModelNew``."""

from __future__ import annotations

import ast
import contextlib
import copy
import importlib.util
import io
import os
import sys
import time
import types
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._pytree import tree_leaves, tree_map

from ...ir import UsageError, checked
from ..candidate import PRECISIONS
from ..python_text import parse_python, read_python
from ..sandbox import Frame, Reply, interpreter_sandbox
from ..threads import one_thread
from . import reading
from .draws import ModuleDraws, with_draws
from .families import secret_seed
from .policy import check_source
from .reference import ALIKE, MOVES, Reference, ReferenceResult, moved, process_settings, randomize_state
from .tolerance import compare
from .verdict import Docket, Verdict

Inputs = tuple[tuple[Any, ...], dict[str, Any]]

#: Time after which no further call of a candidate is begun in the interpreter.
BUDGET_S = 40.0

#: Calls before the first one comes once more.
REPEATED = 3

#: Elements of inputs, parameters and outputs above which interpretation takes minutes.
INTERPRETED_ELEMENTS = 4_000_000


@attrs.frozen
class _Call:
    """One call of both programs."""

    family: str
    args: tuple[Any, ...] = attrs.field(eq=False)
    kwargs: dict[str, Any] = attrs.field(eq=False)
    result: ReferenceResult = attrs.field(eq=False)
    group: int = 0


def _pickled(value: Any) -> torch.Tensor:
    buffer = io.BytesIO()
    try:
        torch.save(value, buffer)
    except Exception as error:
        raise UsageError(f"arguments cannot be sent to the sandbox: {error}", subject="verify") from None
    return torch.frombuffer(bytearray(buffer.getvalue()), dtype=torch.uint8)


def _shapes(value: Any) -> str:
    parts = [
        f"{str(t.dtype).removeprefix('torch.')}{list(t.shape)}"
        for t in tree_leaves(value)
        if isinstance(t, torch.Tensor)
    ]
    return ", ".join(parts[:6]) + (", ..." if len(parts) > 6 else "")


def n_elements_of(module: torch.nn.Module, args: Sequence[Any], kwargs: Mapping[str, Any] | None) -> int:
    """Return the elements of a module's parameters and of the arguments of a call, together."""
    given = tree_leaves((list(args), dict(kwargs or {})))
    return sum(t.numel() for t in [*given, *module.parameters()] if isinstance(t, torch.Tensor))


@checked
def verify_module(
    reference: torch.nn.Module, candidate_path: str | os.PathLike[str], example_inputs: Sequence[Any], *,
    example_kwargs: Mapping[str, Any] | None = None, init_args: Sequence[Any] = (),
    init_kwargs: Mapping[str, Any] | None = None, new_inputs: Callable[[int], Inputs] | None = None,
    reference_source: str = "", entry: str = "ModelNew", precision: str = "strict", seeds: int = 2,
    device: str = "auto", timeout_s: float = 120.0, seed: int | None = None, policy: bool = True,
    require_kernel: bool = True, real: Inputs | None = None,
) -> Verdict:  # fmt: skip
    """Judge whether a file's ``ModelNew`` computes what a module does.

    Both get the same fresh state: parameters of the module's own scale, none of them 0 or 1 throughout.  The truth is the
    module in float64; the tolerance comes from the module itself.

    Args:
        reference: the module; not changed.
        candidate_path: a Python file that defines ``entry``, a class with the module's constructor and ``state_dict``.
        example_inputs, example_kwargs: arguments of one call.
        init_args, init_kwargs: arguments of the constructor of ``entry``.
        new_inputs: makes further arguments from a seed; the examples with fresh values where None.
        reference_source: text of the file that defines the reference; what the candidate repeats of it verbatim is not
            subject to the policy.
        precision: declared arithmetic of float32 products.
        seeds: sets of fresh inputs.
        device: ``auto``, ``cpu`` or ``cuda``.
        timeout_s: wall time of the runs.
        policy: whether the source is held to the policy; for files that DRT wrote itself it need not be.
        require_kernel: fail where no Triton kernel is launched.
        real: arguments at the sizes that the file is for, where the examples are smaller: there it is traced, not run.

    Raises:
        UsageError: the reference raises, an option is wrong, or there is no such file.
    """
    if precision not in PRECISIONS:
        raise UsageError(f"precision is {precision}, expected one of {', '.join(PRECISIONS)}", subject="verify")
    if device == "cuda" and not torch.cuda.is_available():
        raise UsageError("no CUDA device is available", subject="verify")
    path = Path(candidate_path)
    source = read_python(path)
    docket = Docket()
    seed = secret_seed() if seed is None else seed
    if not _policy(source, entry, reference_source, policy, require_kernel, docket):
        return docket.verdict()
    generator = torch.Generator().manual_seed(seed % 2**62)
    n_elements = n_elements_of(reference, example_inputs, example_kwargs)
    small = n_elements < INTERPRETED_ELEMENTS
    if not small and (device == "cpu" or not torch.cuda.is_available()):
        reason = f"{n_elements / 1e6:.0f} million elements are too many to interpret, expected at most "
        reason += f"{INTERPRETED_ELEMENTS / 1e6:.0f} million, or a CUDA device"
        for gate in ("trace", "memory", "meaning"):
            docket.add_skip(gate, reason)
        return docket.verdict()
    with process_settings, torch.random.fork_rng(), one_thread() if small else contextlib.nullcontext():
        model = _on_cpu(reference)
        randomize_state(model, generator)
        truth = Reference(model, precision, seed % 2**31)
        base: Inputs = (tuple(_to_cpu(example_inputs)), dict(_to_cpu(dict(example_kwargs or {}))))
        plan = _plan(base, new_inputs, seeds, seed, generator)
        use_device = device != "cpu" and torch.cuda.is_available()
        is_random = False
        only_device = use_device and (device == "cuda" or not small)
        calls: list[_Call] = []
        if not only_device:
            is_random = truth.is_random(*base)
            # Of a random program two calls are watched, with arguments of their own; what it draws is compared by many.
            calls = _calls(truth, plan[:2] if is_random else plan, docket)
            if not is_random:
                # The same arguments again: an answer that was kept under their values is given out without a launch.
                calls.insert(REPEATED, calls[0])
    init = (tuple(init_args), dict(init_kwargs or {}))
    if only_device:
        for gate in ("trace", "memory", "meaning"):
            docket.add_skip(gate, "judged on the device")
    else:
        request = _request(source, entry, model, calls, init, timeout_s, seed, real)
        if is_random:
            request = with_draws(request, seed)
        reply = interpreter_sandbox().run(request, timeout_s)
        _read(reply, calls, docket, require_kernel, ModuleDraws(truth, seed) if is_random else None)
        if real is not None and docket.failure is None:
            _read_real(reply, model, real, docket)
    if docket.failure is None and use_device:
        from .device import judge_module_on_device

        moved_calls = [(family, *moved(given, family, generator)) for family, given in plan]
        judge_module_on_device(
            source, entry, model, moved_calls, init, precision, timeout_s, require_kernel, docket
        )  # fmt: skip
    elif docket.failure is None:
        docket.add_skip("device", "not asked for" if device == "cpu" else "no CUDA device is available")
    on_device = docket.reports.get("device")
    return docket.verdict(("device",) if on_device is not None and on_device.passed else ("meaning",))


@checked
def verify_files(
    reference: str | os.PathLike[str], candidate: str | os.PathLike[str], *, precision: str = "strict", seeds: int = 3,
    device: str = "auto", timeout_s: float = 180.0, seed: int | None = None, entry: str = "ModelNew",
    crop: Callable[[Inputs], Inputs] | None = None,
) -> Verdict:  # fmt: skip
    """Judge a file with ``class ModelNew`` against a file with ``class Model``, ``get_inputs`` and ``get_init_inputs``.

    Args:
        reference: KernelBench-style file.
        candidate: file whose ``ModelNew`` has the same constructor and ``state_dict``.
        precision, seeds, device, timeout_s, seed, entry: as for :func:`verify_module`.
        crop: makes smaller arguments of those that ``get_inputs`` gives.

    Raises:
        UsageError: the reference file is missing, incomplete, or raises.
    """
    path = Path(reference)
    with process_settings:
        namespace = _load(path)
    missing = [n for n in ("Model", "get_inputs") if not hasattr(namespace, n)]
    if missing:
        raise UsageError(f"defines no {missing[0]}, expected Model, get_inputs and get_init_inputs", place=str(path))
    with process_settings, torch.random.fork_rng():
        torch.manual_seed(0)
        init_args, init_kwargs = _arguments(getattr(namespace, "get_init_inputs", list)())
        model = namespace.Model(*init_args, **init_kwargs)

    def given_inputs(k: int) -> Inputs:
        with process_settings, torch.random.fork_rng():
            torch.manual_seed(k % 2**63)
            return _arguments(namespace.get_inputs())

    def new_inputs(k: int) -> Inputs:
        return given_inputs(k) if crop is None else crop(given_inputs(k))

    args, kwargs = new_inputs(0)
    return verify_module(
        model, candidate, args, example_kwargs=kwargs, init_args=init_args, init_kwargs=init_kwargs,
        new_inputs=new_inputs, reference_source=read_python(path), precision=precision, seeds=seeds,
        device=device, timeout_s=timeout_s, seed=seed, entry=entry, real=None if crop is None else given_inputs(0),
    )  # fmt: skip


def _load(path: Path) -> types.ModuleType:
    if not path.is_file():
        raise UsageError("no such file", place=str(path))
    name = f"drt_reference_{abs(hash(str(path.resolve())))}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise UsageError("is no Python file", place=str(path))
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        raise UsageError(f"raises {type(error).__name__}: {error}", place=str(path)) from None
    return module


def _arguments(value: Any) -> Inputs:
    """Return (positional, keyword) arguments from what ``get_inputs`` and ``get_init_inputs`` give."""
    if isinstance(value, dict):
        return (), dict(value)
    if isinstance(value, (list, tuple)):
        if len(value) == 2 and isinstance(value[0], (list, tuple)) and isinstance(value[1], dict):
            return tuple(value[0]), dict(value[1])
        return tuple(value), {}
    return (value,), {}


# -- the gates --------------------------------------------------------------------------------------------------------

#: Labels that are reported, not judged, for whole files: the dynamic checks decide what these could only hint at.
_SOFT = ("data_ptr", "__class__", "base64", "zlib", "__dict__")


def _policy(source: str, entry: str, reference_source: str, policy: bool, require_kernel: bool, docket: Docket) -> bool:
    if not policy:
        docket.add_skip("policy", "the file was written by DRT")
        return True
    started = time.perf_counter()
    violations = check_source(_without(source, reference_source), entry, "module", require_kernel)
    hard = [v for v in violations if not any(word in v.message for word in _SOFT)]
    docket.flags += [f"line {v.line}: {v.message}" for v in violations if v not in hard]
    elapsed = (time.perf_counter() - started) * 1e3
    if hard:
        place = f"line {hard[0].line}: " if hard[0].line else ""
        listing = [f"line {v.line}: {v.message}" for v in hard]
        docket.add_failure("policy", hard[0].label, f"{place}{hard[0].message}", elapsed, violations=listing[:20])
        return False
    docket.add_pass("policy", elapsed)
    return True


def _without(source: str, reference_source: str) -> str:
    """Return ``source`` with the top-level statements that the reference has verbatim blanked out; lines keep their numbers."""
    try:
        known = {ast.dump(n) for n in parse_python(reference_source).body} if reference_source else set()
        tree = parse_python(source)
    except SyntaxError:
        return source
    lines = source.splitlines()
    for node in tree.body:
        if ast.dump(node) in known and not isinstance(node, (ast.Import, ast.ImportFrom)):
            decorators = [d.lineno for d in getattr(node, "decorator_list", ())]
            for k in range(min([node.lineno, *decorators]) - 1, node.end_lineno or node.lineno):
                lines[k] = ""
    text = "\n".join(lines)
    return text


def _on_cpu(module: torch.nn.Module) -> torch.nn.Module:
    return copy.deepcopy(module).to("cpu")


def _to_cpu(value: Any) -> Any:
    return tree_map(lambda t: t.detach().to("cpu") if isinstance(t, torch.Tensor) else t, value)


def _redrawn(value: Any, generator: torch.Generator) -> Any:
    """Return fresh floats of the same mean and spread; integers and booleans are shuffled."""

    def draw(t: Any) -> Any:
        if not isinstance(t, torch.Tensor) or t.numel() < 2:
            return t
        if t.is_floating_point():
            x = t.to(torch.float32)
            if not bool(x.isfinite().all()):
                return t
            fresh = x.mean() + x.std() * torch.randn(t.shape, generator=generator)
            return (fresh.clamp(float(x.min()), float(x.max())) if float(x.min()) >= 0 else fresh).to(t.dtype)
        order = torch.randperm(t.numel(), generator=generator)
        return t.reshape(-1)[order].reshape(t.shape)

    return tree_map(draw, value)


def _plan(
    base: Inputs, new_inputs: Callable[[int], Inputs] | None, seeds: int, seed: int, generator: torch.Generator
) -> list[tuple[str, Inputs]]:
    """Return the calls to compare on: fresh inputs for each seed, then the first set to be moved."""
    sets: list[Inputs] = []
    for k in range(max(1, seeds)):
        if new_inputs is not None:
            args, kwargs = new_inputs(seed + k)
            sets.append((tuple(_to_cpu(args)), dict(_to_cpu(kwargs))))
        else:
            sets.append(_redrawn(base, generator) if k else base)
    given = [("given", s) for s in sets]
    return given[:2] + [(m, sets[0]) for m in MOVES if m != "given"] + given[2:]


def _calls(truth: Reference, plan: Sequence[tuple[str, Inputs]], docket: Docket) -> list[_Call]:
    """Return the planned calls with the reference's results; those outside what the program takes are left out."""
    generator = torch.Generator().manual_seed(truth.seed)
    calls: list[_Call] = []
    for k, (family, given) in enumerate(plan):
        args, kwargs = moved(given, family, generator)
        try:
            result = truth.run(args, kwargs)
        except UsageError:
            if k == 0:
                raise
            continue
        if family != "given" and not result.is_finite():
            continue
        if family in ALIKE and truth.is_unordered(args, kwargs):
            continue
        if k == 0 and not all(isinstance(t, torch.Tensor) for t in result.eager):
            docket.flags.append("outputs that are no tensors are not compared")
        same = [s for s in calls if _shapes((s.args, s.kwargs)) == _shapes((args, kwargs))]
        calls.append(_Call(family, args, kwargs, result, same[0].group if same else len(calls)))
    return calls


def _request(
    source: str, entry: str, model: torch.nn.Module, calls: Sequence[_Call], init: Inputs, timeout_s: float, seed: int,
    real: Inputs | None,
) -> Frame:  # fmt: skip
    tensors = {f"state.{n}": t for n, t in model.state_dict().items() if isinstance(t, torch.Tensor)}
    tensors["init"] = _pickled(init)
    runs = []
    for k, c in enumerate(calls):
        tensors[f"args.{k}"] = _pickled((c.args, c.kwargs))
        runs.append({"shapes": c.group})
    leaves = tree_leaves((calls[0].args, calls[0].kwargs))
    header = {
        "kind": "module", "source": source, "entry": entry, "training": model.training, "runs": runs,
        "names": [f"argument {i}" for i in range(len(leaves))], "budget_s": min(BUDGET_S, timeout_s * 0.8),
        "seed": seed % 2**31,
        "updated": sorted({n for c in calls for n in c.result.updated}),
    }  # fmt: skip
    if real is not None:
        header["real"] = [_spec(leaf) for leaf in tree_leaves(real)]
    return Frame(header, tensors)


def _spec(leaf: Any) -> dict[str, Any] | None:
    """Return what a fake tensor is made from; None for what is no tensor."""
    if not isinstance(leaf, torch.Tensor):
        return None
    return {"shape": list(leaf.shape), "stride": list(leaf.stride()), "dtype": str(leaf.dtype).removeprefix("torch.")}


def _expected(outputs: Sequence[Any]) -> list[dict[str, Any]]:
    out = []
    for t in outputs:
        if isinstance(t, torch.Tensor):
            shape = list(t.shape)
            layouts = [list(t.stride()), reading.contiguous(shape)]
            out.append({"shape": shape, "dtype": str(t.dtype).removeprefix("torch."), "strides": layouts})
    return out


def _outputs_at(model: torch.nn.Module, real: Inputs) -> list[Any]:
    """Return what a module gives for arguments, as tensors without values; the module's own stay what they are."""
    with FakeTensorMode(allow_non_fake_inputs=True) as mode, torch.no_grad():
        args, kwargs = tree_map(lambda t: mode.from_tensor(t) if isinstance(t, torch.Tensor) else t, real)
        return tree_leaves(copy.deepcopy(model)(*args, **kwargs))


def _read_real(reply: Reply, model: torch.nn.Module, real: Inputs, docket: Docket) -> None:
    """Judge the trace at the sizes that the file is for: its outputs, and that it goes a way that was judged."""
    try:
        expected = _expected(_outputs_at(model, real))
    except Exception as error:
        docket.flags.append(f"not traced at its own sizes: the reference raises {type(error).__name__}")
        return
    reading.read_fake(reply, expected, docket)
    path = reading.unjudged_path([reply]) if docket.failure is None else ""
    if path:
        message = f"at its own sizes the file {path}, which it did at none of the smaller sizes that could be judged"
        docket.add_failure("trace", "unjudged_path", message)


def _read(
    reply: Reply, calls: Sequence[_Call], docket: Docket, require_kernel: bool, random: ModuleDraws | None = None
) -> None:
    if not reading.read_start(reply, docket, "the file"):
        return
    names = [f"{c.family} ({_shapes((c.args, c.kwargs))})" for c in calls]
    expected = [_expected(c.result.eager) for c in calls]
    aliases = set().union(*(c.result.aliases for c in calls))
    reading.read_observations(
        reply, names, docket, expected=expected, kind="module", aliases=aliases, require_kernel=require_kernel,
        random=random is not None,
    )  # fmt: skip
    if random is not None:
        random.judge(reply, [(c.args, c.kwargs) for c in calls], docket)
        return
    started = time.perf_counter()
    used: dict[str, Any] = {}
    judged = 0
    for key, frame in reading.runs_of(reply).items():
        if frame.header["observed"]["error"]:
            continue
        call = calls[key.index]
        problem = compare_call(
            {k.removeprefix("out."): t for k, t in frame.tensors.items() if k.startswith("out.")},
            {k.removeprefix("state."): t for k, t in frame.tensors.items() if k.startswith("state.")},
            call.result, used, call.family,
        )  # fmt: skip
        judged += 1
        if problem is not None:
            label, text = problem
            where = f"inputs {_shapes((call.args, call.kwargs))}; values {call.family}"
            docket.add_failure("meaning", label, f"{text} ({where})", (time.perf_counter() - started) * 1e3, used=used)
            return
    elapsed = (time.perf_counter() - started) * 1e3
    if judged:
        docket.add_pass("meaning", elapsed, used=used, calls=judged)
    else:
        docket.add_skip("meaning", "no run gave values that could be compared")


_LABELS = {"element": "wrong_value", "bulk": "inaccurate", "nonfinite": "nonfinite", "exact": "inexact"}


def compare_call(
    outputs: Mapping[str, torch.Tensor], state: Mapping[str, torch.Tensor], result: ReferenceResult,
    used: dict[str, Any], family: str,
) -> tuple[str, str] | None:  # fmt: skip
    """Return (label, message) for the first wrong output or buffer of one call.

    Args:
        outputs: tensors by their number.
        state: what the call changed of parameters and buffers, by name.
        used: completed with how much of the allowance was used.
    """
    for i, truth in enumerate(result.truth):
        out = outputs.get(str(i))
        if out is None or out.shape != truth.shape:
            continue
        found = compare(i, out, truth, [v[i] for v in result.variants])
        if not found.refused:
            used[family] = max(used.get(family, 0.0), round(max(found.bulk / 4, found.element / 8), 3))
        if found.mismatch is not None:
            return _LABELS[found.mismatch.kind], found.mismatch.text
    for name, truth in result.updated.items():
        now = state.get(name)
        if now is None:
            return "state", f"buffer {name} was not updated, expected the reference's update"
        found = compare(0, now, truth, result.updated_variants[name])
        if found.mismatch is not None:
            return "state", f"buffer {name}: {found.mismatch.text.replace('output 0', 'its content')}"
    stray = [n for n in state if n not in result.updated]
    if stray:
        return "state", f"{stray[0]} changed during the call, expected it to stay"
    return None
