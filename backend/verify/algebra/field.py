"""Arithmetic modulo three primes at once, and maps between them that behave as ``exp``, ``log`` and ``sqrt`` do.

The primes are a chain ``p0, p1 = 2*p0 + 1, p2 = 2*p1 + 1``.  The squares modulo ``p1`` are a group of ``p0`` elements, so that
``x -> g**x`` takes sums modulo ``p0`` to products modulo ``p1``, as ``exp`` does, and the discrete logarithm goes back.  A
value is its residues modulo all three primes; ``exp`` moves each of them up one prime, ``log`` down one.  At the prime that
has none below (or above) it the function is an unknown one, a keyed hash: it still is a function of its argument.

Every prime is ``-1`` modulo ``8*3*5*7``.  So ``-1`` is no square, 2, 3, 5 and 7 are squares, ``x**((p + 1)/4)`` is a root of
every square, and ``sqrt(a*b) == sqrt(a)*sqrt(b)`` for all a, b; ``sqrt(x)*sqrt(x)`` is ``x`` up to its sign.

Residues are int64 arrays whose first axis is the prime: ``[3, *shape]``.
"""

from __future__ import annotations

import random
from functools import cache
from typing import TypeAlias

import numpy as np

#: Array of residues ``[LEVELS, *shape]``, int64.
Residues: TypeAlias = np.ndarray

#: Primes of a chain.
LEVELS = 3

#: First primes of chains; each judge draws one.
CHAINS = (
    456119, 459479, 507359, 513239, 592199, 605639, 607319, 665279, 702239, 730799, 814799, 845879, 960119, 1016399,
    1027319, 1045799, 1067639, 1076039, 1086119,
)  # fmt: skip

_LIMB = 10  # bits of the low part of a factor in an exact float64 product


@cache
def _logarithms(prime: int, generator: int) -> np.ndarray:
    """Return the table of ``x`` by ``generator**x`` modulo ``prime``, for the squares; -1 elsewhere."""
    order = (prime - 1) // 2
    powers: np.ndarray = np.ones(1, np.int64)
    while len(powers) < order:
        powers = np.concatenate([powers, powers * pow(generator, len(powers), prime) % prime])
    table: np.ndarray = np.full(prime, -1, np.int32)
    table[powers[:order]] = np.arange(order, dtype=np.int32)
    return table


class Field:
    """The three primes and the keys of one judge.

    Args:
        seed: of everything that a candidate must not know: the chain, the bases of the powers, the keys of the hashes.
    """

    def __init__(self, seed: int) -> None:
        draw = random.Random(seed)
        first = draw.choice(CHAINS)
        self.primes = (first, 2 * first + 1, 4 * first + 3)
        # A square other than 1 generates the squares, for their number is prime.
        self.bases = tuple(pow(draw.randrange(2, p - 1), 2, p) for p in self.primes)
        self.keys = tuple(draw.getrandbits(62) | 1 for _ in range(LEVELS))
        self.secrets = tuple(draw.getrandbits(62) for _ in range(16))
        self._moduli = np.array(self.primes, np.int64)
        low = 1 << 11
        self._low, self._high = [], []
        for p, g in zip(self.primes, self.bases, strict=True):
            self._low.append(self._ladder(g, low, p))
            self._high.append(self._ladder(pow(g, low, p), p // low + 1, p))

    @staticmethod
    def _ladder(base: int, n: int, prime: int) -> np.ndarray:
        """Return ``base**0, base**1, ...`` (n of them, or a few more)."""
        powers: np.ndarray = np.ones(1, np.int64)
        while len(powers) < n:
            powers = np.concatenate([powers, powers * pow(base, len(powers), prime) % prime])
        return powers

    def moduli(self, ndim: int) -> np.ndarray:
        """Return the primes, shaped to broadcast over residues of arrays with ``ndim`` axes."""
        return self._moduli.reshape(LEVELS, *(1,) * ndim)

    def reduce(self, r: np.ndarray) -> Residues:
        """Return ``r`` (any int64) modulo the primes."""
        return r % self.moduli(r.ndim - 1)

    def element(self, seed: int) -> tuple[int, ...]:
        """Return residues that nobody can guess, none of them zero."""
        draw = random.Random(self.secrets[seed])
        return tuple(draw.randrange(1, p) for p in self.primes)

    # -- numbers ------------------------------------------------------------------------------------------------------
    def embed(self, v: np.ndarray) -> Residues:
        """Return the residues of finite float64 numbers, which are fractions with a power of two below; exact."""
        mantissa, exponent = np.frexp(np.where(np.isfinite(v), v, 0.0))
        whole = (mantissa * 2.0**53).astype(np.int64)
        if not whole.any():
            return np.zeros((LEVELS, *v.shape), np.int64)
        shift = exponent.astype(np.int64) - 53
        lowest = int(shift.min())
        planes = []
        for p in self.primes:
            span = int(shift.max()) - lowest
            powers = [pow(2, lowest % (p - 1), p)]
            for _ in range(span):
                powers.append(powers[-1] * 2 % p)
            planes.append(whole % p * np.array(powers, np.int64)[shift - lowest] % p)
        return np.stack(planes)

    def fraction(self, numerator: int, denominator: int) -> tuple[int, ...]:
        """Return the residues of a fraction; Python integers of any size."""
        return tuple(numerator * pow(denominator, -1, p) % p for p in self.primes)

    # -- powers -------------------------------------------------------------------------------------------------------
    def power(self, r: Residues, exponents: tuple[int, ...]) -> Residues:
        """Return each residue to the power that its prime has in ``exponents``."""
        p = self.moduli(r.ndim - 1)
        out, square = np.ones_like(r), r
        left = list(exponents)
        while any(left):
            odd = [e & 1 for e in left]
            if all(odd):
                out = out * square % p
            else:
                for k in (k for k, o in enumerate(odd) if o):
                    out[k] = out[k] * square[k] % self.primes[k]
            left = [e >> 1 for e in left]
            if any(left):
                square = square * square % p
        return out

    def inverse(self, r: Residues) -> Residues:
        """Return ``1/r``, and 0 for 0: all inverses from one, by a tree of products."""
        flat = r.reshape(LEVELS, -1)
        if flat.shape[1] < 64:
            return self.power(r, tuple(p - 2 for p in self.primes))
        p = self.moduli(1)
        levels = [np.where(flat == 0, 1, flat)]
        while levels[-1].shape[1] > 8:
            top = levels[-1]
            if top.shape[1] % 2:
                top = levels[-1] = np.concatenate([top, np.ones((LEVELS, 1), np.int64)], axis=1)
            levels.append(top[:, ::2] * top[:, 1::2] % p)
        out = self.power(levels[-1], tuple(q - 2 for q in self.primes))
        for top in levels[-2::-1]:
            below = np.empty_like(top)
            below[:, ::2] = out[:, : top.shape[1] // 2] * top[:, 1::2] % p
            below[:, 1::2] = out[:, : top.shape[1] // 2] * top[:, ::2] % p
            out = below
        return np.where(flat == 0, 0, out[:, : flat.shape[1]]).reshape(r.shape)

    def root(self, r: Residues) -> Residues:
        """Return ``r**((p + 1)/4)``: a root of ``r`` where it is a square, else one of ``-r``."""
        return self.power(r, tuple((p + 1) // 4 for p in self.primes))

    def character(self, r: Residues) -> Residues:
        """Return 1 for squares, -1 for others, 0 for 0."""
        s = self.power(r, tuple((p - 1) // 2 for p in self.primes))
        return np.where(s > 1, -1, s)

    # -- functions ----------------------------------------------------------------------------------------------------
    def exp(self, r: Residues) -> Residues:
        """Return ``g**r`` one prime up; an unknown function of ``r`` at the first prime."""
        out = np.empty_like(r)
        out[0] = self.hash("exp", r)[0]
        for k in range(LEVELS - 1):
            x = r[k]
            out[k + 1] = self._low[k + 1][x & 2047] * self._high[k + 1][x >> 11] % self.primes[k + 1]
        return out

    def log(self, r: Residues) -> Residues:
        """Give the discrete logarithm one prime down, the same for ``-x``; an unknown function at the last prime."""
        out = np.empty_like(r)
        out[-1] = self.hash("log", np.minimum(r, self.moduli(r.ndim - 1) - r))[-1]
        for k in range(LEVELS - 1):
            prime = self.primes[k + 1]
            table = _logarithms(prime, self.bases[k + 1])
            found = table[r[k + 1]]
            out[k] = np.maximum(np.where(found < 0, table[-r[k + 1] % prime], found), 0)
        return out

    def hash(self, name: str, *rs: Residues) -> Residues:
        """Return an unknown function of residues: a keyed hash, prime by prime."""
        seed = 0xCBF29CE484222325
        for c in name.encode():
            seed = (seed ^ c) * 0x100000001B3 % 2**64
        keys = np.array([seed ^ k for k in self.keys], np.uint64)
        h = keys.reshape(LEVELS, *(1,) * (rs[0].ndim - 1))
        with np.errstate(over="ignore"):
            for r in rs:
                h = (h ^ r.astype(np.uint64)) * np.uint64(0xFF51AFD7ED558CCD)
                h = (h ^ (h >> np.uint64(33))) * np.uint64(0xC4CEB9FE1A85EC53)
                h = h ^ (h >> np.uint64(29))
        return (h >> np.uint64(2)).astype(np.int64) % self.moduli(rs[0].ndim - 1)

    def odd(self, name: str, r: Residues) -> Residues:
        """Return an unknown odd function: ``f(-x) == -f(x)``."""
        p = self.moduli(r.ndim - 1)
        mirrored = r > p // 2
        value = np.where(r == 0, 0, self.hash(name, np.where(mirrored, p - r, r)))
        return np.where(mirrored, -value, value) % p

    def even(self, name: str, r: Residues) -> Residues:
        """Return an unknown even function."""
        return self.hash(name, np.minimum(r, self.moduli(r.ndim - 1) - r))

    def matmul(self, a: Residues, b: Residues) -> Residues:
        """Return products of matrices ``[3, .., M, K]`` and ``[3, .., K, N]``; K is at most 2**20."""
        right: np.ndarray = b.astype(np.float64)
        p = self.moduli(max(a.ndim, b.ndim) - 1)
        # A limb times a residue has at most 33 bits, so 2**20 of them add up exactly in float64.
        low = np.matmul((a & ((1 << _LIMB) - 1)).astype(np.float64), right)
        high = np.matmul((a >> _LIMB).astype(np.float64), right)
        return ((high.astype(np.int64) % p << _LIMB) + low.astype(np.int64)) % p
