"""A right file for a reference file, and wrong versions of it."""

from __future__ import annotations

import attrs

#: What every file of the corpus begins with.
HEADER = """import math

import torch
import torch.nn as nn
import torch.nn.functional as F
import triton
import triton.language as tl
"""


@attrs.frozen
class Fault:
    """A change that makes a right file wrong: texts replaced by others, each of which must be there.

    Attributes:
        about: the mistake, in words.
        changes: pairs of an old text and a new one.
    """

    name: str
    about: str
    changes: tuple[tuple[str, str], ...]


def fault(name: str, about: str, *texts: str) -> Fault:
    """Return a fault from its texts, an old one and a new one in turn."""
    return Fault(name, about, tuple(zip(texts[::2], texts[1::2], strict=True)))


@attrs.frozen
class Pair:
    """A reference file with ``class Model`` and a right file with ``class ModelNew``.

    Attributes:
        kind: as that of a kernel of the other corpora.
        reference, source: texts without the common header.
        faults: wrong versions of the source.
        precision: declared arithmetic of products.
    """

    name: str
    kind: str
    reference: str = attrs.field(repr=False)
    source: str = attrs.field(repr=False)
    faults: tuple[Fault, ...] = attrs.field(default=(), repr=False)
    precision: str = "strict"

    def wrong(self, fault: Fault) -> str:
        """Return the source with a fault."""
        text = self.source
        for old, new in fault.changes:
            assert old in text, f"{self.name} {fault.name}: the source has no {old!r}"
            text = text.replace(old, new)
        return text
