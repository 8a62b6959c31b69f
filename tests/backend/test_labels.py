"""Every label that the judge may give is explained, and verdicts have the form that is promised."""

from __future__ import annotations

import ast
import json
from pathlib import Path
from typing import Any

import pytest
from drt.backend.candidate import Candidate
from drt.backend.verify import GATES, LABELS, Verdict, verdict_schema, verify_candidate
from drt.backend.verify.labels import table
from drt.backend.verify.memory import KINDS
from drt.ir import parse_graph
from programs.judged import BIAS_GELU

ROOT = Path(__file__).parents[2]

#: Calls that take a label, and where among their arguments.
_TAKES = {"add_failure": 1, "refuse": 0, "Violation": 0, "fail": 0}


def _labels_in_the_source() -> dict[str, str]:
    """Return label -> file, from the calls that give one as a literal and from tables of labels."""
    found = dict.fromkeys(KINDS, "memory.py")
    for path in sorted((ROOT / "backend" / "verify").glob("*.py")):
        if path.name == "labels.py":
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call):
                name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
                at = _TAKES.get(name, -1)
                if 0 <= at < len(node.args) and isinstance(node.args[at], ast.Constant):
                    found[node.args[at].value] = path.name  # type: ignore[attr-defined]
            elif isinstance(node, ast.Assign) and any(
                isinstance(t, ast.Name) and t.id in ("label", "labels", "_LABELS") for t in node.targets
            ):
                values = node.value.values if isinstance(node.value, ast.Dict) else [node.value]
                parts = [p for v in values for p in ([v.body, v.orelse] if isinstance(v, ast.IfExp) else [v])]
                found.update(
                    {p.value: path.name for p in parts if isinstance(p, ast.Constant) and isinstance(p.value, str)}
                )
    return found


def test_every_label_is_explained() -> None:
    found = _labels_in_the_source()
    assert len(found) > 40
    unknown = {label: file for label, file in found.items() if label and label not in LABELS}
    assert not unknown


def test_gates_of_labels_are_gates() -> None:
    assert all(set(label.gates) <= set(GATES) and label.advice and label.about for label in LABELS.values())


def test_the_page_has_the_table() -> None:
    assert table() in (ROOT / "docs" / "judge.md").read_text()


@pytest.mark.parametrize("old, new", [("", ""), ("0.7071067811865476", "0.6"), ("mask=i < n", "mask=i <= n")])
def test_verdicts_are_what_the_schema_says(old: str, new: str) -> None:
    source = BIAS_GELU.source.replace(old, new) if old else BIAS_GELU.source
    verdict = verify_candidate(parse_graph(BIAS_GELU.graph), Candidate(source, "f", "test"), device="cpu")
    data = json.loads(verdict.to_json())
    _hold(data, verdict_schema())
    assert Verdict.from_dict(data).summary() == verdict.summary()
    assert bool(data["advice"]) != verdict.passed


def _hold(value: Any, schema: dict[str, Any]) -> None:
    """Check the few words of JSON Schema that are used."""
    kinds = {"object": dict, "array": list, "string": str, "boolean": bool, "number": (int, float)}
    if "type" in schema:
        assert isinstance(value, kinds[schema["type"]]), (value, schema)
    if "enum" in schema:
        assert value in schema["enum"], (value, schema)
    if "items" in schema:
        for item in value:
            _hold(item, schema["items"])
    if "properties" in schema:
        assert set(schema.get("required", ())) <= set(value)
        assert schema.get("additionalProperties", True) or set(value) <= set(schema["properties"])
        for key, part in schema["properties"].items():
            if key in value:
                _hold(value[key], part)
