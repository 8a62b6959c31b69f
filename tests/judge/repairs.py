"""Faults in right kernels, and what the judge says of them: is the message enough to mend them?

    python benchmarks/judge.py --repairs

prints them as they stand in ``docs/judge.md``.
"""

from __future__ import annotations

import attrs
from drt.backend.verify import Verdict, verify_candidate

from .right import HAND_WRITTEN


@attrs.frozen
class Repair:
    """One fault.

    Attributes:
        kernel: name of the right kernel.
        right: a piece of its source, and ``wrong`` what stands there instead.
        label: that the verdict gives.
        says: what a reader needs to find in the message.
    """

    kernel: str
    right: str
    wrong: str
    label: str
    says: tuple[str, ...]

    @property
    def line(self) -> str:
        """The line with the fault."""
        return self._line(self.wrong)

    @property
    def mended(self) -> str:
        """The same line of the right kernel."""
        return self._line(self.right)

    def _source(self, piece: str) -> str:
        source = next(k for k in HAND_WRITTEN if k.name == self.kernel).source
        assert source.count(self.right) == 1, (self.kernel, self.right)
        return source.replace(self.right, piece)

    def _line(self, piece: str) -> str:
        source, at = self._source(piece), self._source(self.right).index(self.right)
        return source[source.rfind("\n", 0, at) + 1 : source.find("\n", at + len(piece))].strip()

    def verdict(self, seed: int = 1) -> Verdict:
        """Judge the kernel with the fault."""
        kernel = next(k for k in HAND_WRITTEN if k.name == self.kernel)
        return verify_candidate(kernel.graph, kernel.candidate(self._source(self.wrong)), device="cpu", seed=seed)


REPAIRS = (
    Repair("matmul_f32", "mask=(m[:, None] < M) & (k[None, :] < K)", "mask=m[:, None] < M", "oob_read",
           ("line 9", "'a'", "reads outside the tensor")),
    Repair("embedding", "triton.cdiv(o.numel(), 256)", "o.numel() // 256", "unwritten_output", ("'output 0'", "unwritten")),
    Repair("matmul_split_k_atomic", "tl.atomic_add(o + m[:, None] * N + n[None, :], acc,",
           "tl.store(o + m[:, None] * N + n[None, :], acc,", "race", ("line 12", "'o'", "another program")),
    Repair("mse_loss_atomic", "torch.zeros(()", "torch.empty(()", "uninitialized_read", ("'o'", "nobody wrote")),
    Repair("row_sum_loop", "(c[None, :] < N), other=0.0)", "(c[None, :] < N))", "undefined_lanes", ("lanes", "other=")),
    Repair("softmax", "tl.exp(v - tl.max(v, 0))", "tl.exp(v)", "nonfinite", ("output 0", "inf")),
    Repair("variance_two_pass", "/ (N - 1)", "/ N", "wrong_value", ("output 0", "expected")),
    Repair("layer_norm", "+ 1e-5", "+ 1e-6", "wrong_value", ("output 0", "expected")),
    Repair("max_pool2d", "i * 2 + u - 1", "i * 2 + u", "wrong_value", ("output 0", "expected")),
    Repair("flash_attention", "acc * fade[:, None]", "acc", "wrong_value", ("output 0", "expected")),
)  # fmt: skip


def page() -> str:
    """Return the faults, the messages and the mended lines as Markdown."""
    out = []
    for number, r in enumerate(REPAIRS, 1):
        v = r.verdict()
        out.append(
            f"{number}. `{r.kernel}`, failed at {v.gate} [`{v.label}`]\n\n"
            f"   ```\n   - {r.line}\n   + {r.mended}\n   ```\n\n   {v.message}"
        )
    return "\n\n".join(out)
