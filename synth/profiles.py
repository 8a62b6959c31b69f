"""Laws of sizes and the bounds of programs."""

from __future__ import annotations

import attrs

from ..ir import check_fields


@attrs.frozen
class Profile:
    """The law of free sizes and the bounds of a program.

    Attributes:
        name: for people.
        max_dim: largest free size (elements).
        max_numel: most elements of one tensor.
        min_numel: fewest elements of the largest tensor.
        menu: sizes to prefer; empty means log-uniform over ``1..max_dim``.
        menu_share: probability that a size is from the menu.
        ones: probability that a dimension that may broadcast is 1 by construction.
        max_flops: most work of one program, or None.
        min_flops: least work of one program.
        max_bytes: most bytes of all graph inputs and outputs, or None.
        max_elements: most elements of all graph inputs together, or None.
    """

    name: str
    max_dim: int
    max_numel: int
    min_numel: int = 1
    menu: tuple[int, ...] = ()
    menu_share: float = 0.0
    ones: float = 0.05
    max_flops: float | None = None
    min_flops: float = 0
    max_bytes: int | None = None
    max_elements: int | None = None

    def __attrs_post_init__(self) -> None:
        check_fields(self)


_POWERS = tuple(2**k for k in range(3, 13))
_ODD = (1, 1, 2, 3, 5, 7, 13, 15, 16, 17, 31, 32, 33, 37, 61, 63, 64, 65, 97, 127, 128, 129)

#: The dimension profiles by name.
PROFILES: dict[str, Profile] = {
    "small": Profile("small", 24, 2048),
    "bench": Profile("bench", 4096, 2**26, min_numel=2**20, menu=_POWERS, menu_share=0.5, ones=0.03, max_flops=1e12),
    "edge": Profile("edge", 129, 2**14, menu=_ODD, menu_share=0.95, ones=0.15),
}
