"""Hand-written candidates that look right to a weak judge, by the pattern that they follow; each with the gate that stops it.

Patterns: A no kernel of its own, B another's answer, C shortcuts by the input, D degenerate tasks, E timing, F precision,
G state, H weaknesses of the harness, I weaknesses of the search.
"""

from __future__ import annotations

from ..runner import Case
from .answers import ANSWERS
from .harness import HARNESS
from .shortcuts import SHORTCUTS
from .tasks import Cheat
from .work import WORK

CHEATS: tuple[Cheat, ...] = (*WORK, *ANSWERS, *SHORTCUTS, *HARNESS)

#: Letter -> pattern.
PATTERNS = {
    "A": "no kernel of its own", "B": "another's answer", "C": "shortcuts by the input", "D": "degenerate tasks",
    "E": "timing", "F": "precision", "G": "state", "H": "weaknesses of the harness", "I": "weaknesses of the search",
}  # fmt: skip


def cases() -> list[Case]:
    """Return the cheats as cases for the runner."""
    return [Case("cheat", c.name, c.pattern, c.task, c.source, c.about, c.gate) for c in CHEATS]
