"""Planted mistakes are caught, each by the check that is meant for it."""

from __future__ import annotations

import pytest
from repo.mutate_ops import MISTAKES, Mistake, catches


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("mistake", MISTAKES, ids=lambda m: f"{m.op}-{m.what}".replace(" ", "-"))
def test_mistake_is_caught(mistake: Mistake) -> None:
    assert mistake.check in catches(mistake)
