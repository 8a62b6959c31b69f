"""What the judge says of a fault is enough to mend it, and is what docs/judge.md shows."""

from __future__ import annotations

from pathlib import Path

import pytest
from judge.repairs import REPAIRS, Repair

PAGE = (Path(__file__).parents[2] / "docs" / "judge.md").read_text()


@pytest.mark.parametrize("repair", REPAIRS, ids=[r.kernel for r in REPAIRS])
def test_the_message_names_what_to_mend(repair: Repair) -> None:
    verdict = repair.verdict()
    assert verdict.label == repair.label
    for piece in repair.says:
        assert piece in verdict.message, verdict.message
    assert verdict.advice
    assert f"- {repair.line}\n   + {repair.mended}" in PAGE
    assert f"`{repair.kernel}`, failed at {verdict.gate} [`{verdict.label}`]" in PAGE
