"""Seeded noise that is the same in Python and in the page.

Philox4x32-10 (Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3"), a counter-based generator: number k
of a seed is a function of k, so nothing has to be drawn before it. Box and Muller's transform makes the normals.
"""

from __future__ import annotations

import numpy as np

from .errors import UserError
from .rules import FACES, SEED_LIMIT, WALK, say

_MASK = np.uint64(0xFFFFFFFF)


def philox(counter: np.ndarray, key: int) -> np.ndarray:
    """uint32 counters (n, 4) and a 64-bit key -> uint32 (n, 4), ten rounds.

    >>> [f"{word:08x}" for word in philox(np.zeros((1, 4), np.uint32), 0)[0]]
    ['6627e8d5', 'e169c58d', 'bc57ac4c', '9b00dbd8']
    """
    a, b, c, d = (counter[:, i].astype(np.uint64) for i in range(4))
    low, high = key & 0xFFFFFFFF, key >> 32 & 0xFFFFFFFF
    for _ in range(10):
        left, right = a * np.uint64(0xD2511F53), c * np.uint64(0xCD9E8D57)
        a, b, c, d = (
            (right >> np.uint64(32)) ^ b ^ np.uint64(low),
            right & _MASK,
            (left >> np.uint64(32)) ^ d ^ np.uint64(high),
            left & _MASK,
        )
        low, high = (low + 0x9E3779B9) & 0xFFFFFFFF, (high + 0xBB67AE85) & 0xFFFFFFFF
    return np.stack([a, b, c, d], axis=1).astype(np.uint32)


def check_seed(seed: int) -> int:
    """A seed is a whole number from 0 to 2^32 - 1 (so that it fits a link); anything else is a ``UserError``."""
    if isinstance(seed, bool) or not isinstance(seed, (int, np.integer)) or not 0 <= seed <= SEED_LIMIT:
        raise UserError(say("seed", seed=repr(seed), last=SEED_LIMIT))
    return int(seed)


def normal(seed: int, first: int, rows: int, columns: int, stream: int = FACES) -> np.ndarray:
    """Rows ``first`` to ``first + rows - 1`` of the seed's endless table of N(0, 1) numbers: (rows, columns) float32.

    A row does not depend on how many are asked for: row 3 of ten is row 3 of a hundred.
    """
    blocks = -(-columns // 4)
    counter = np.zeros((rows, blocks, 4), np.uint32)
    counter[..., 0] = np.arange(blocks)
    counter[..., 1] = (first + np.arange(rows))[:, None]
    counter[..., 2] = stream
    words = philox(counter.reshape(-1, 4), check_seed(seed))
    uniform = (words.astype(np.float64) + 0.5) / 2**32  # inside (0, 1)
    radius, angle = np.sqrt(-2 * np.log(uniform[:, 0::2])), 2 * np.pi * uniform[:, 1::2]
    pairs = np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=2)
    return pairs.reshape(rows, 4 * blocks)[:, :columns].astype(np.float32)


def whole(seed: int, index: int, below: int, stream: int = WALK) -> int:
    """Number ``index`` of the seed's endless row of whole numbers from 0 to ``below - 1``."""
    counter = np.array([[0, index, stream, 1]], np.uint32)
    return int(philox(counter, check_seed(seed))[0, 0]) * below >> 32
