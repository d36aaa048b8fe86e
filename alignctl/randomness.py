"""Random numbers that are a function of what they are for: no streams, no global state.

The generator is Philox4x32-10 (Salmon et al. 2011): ten rounds that turn a counter and a key into
128 random bits. Here the key says which study and purpose, the counter which epoch, image and view,
so a number is the same whoever computes it, in whatever batch and order.
"""

import hashlib

import numpy as np
from numpy.typing import NDArray

_MASK = np.uint64(0xFFFFFFFF)
_SHIFT = np.uint64(32)
_MULTIPLIERS = np.uint64(0xD2511F53), np.uint64(0xCD9E8D57)
_KEY_STEPS = 0x9E3779B9, 0xBB67AE85
_NUM_ROUNDS = 10
_DRAWS_PER_BLOCK = 2  # a double takes two of the four words


def uniforms(
    seed: int, purpose: str, *, epoch: int, samples: NDArray[np.int64], view: int, num_draws: int
) -> NDArray[np.float64]:
    """Uniform numbers in [0, 1), one row for each sample: (n, num_draws) float64.

    samples: (n,) ids. Draw k of a sample depends on (seed, purpose, epoch, sample, view, k) alone:
    asking for more draws, or with other samples, changes nothing.
    Raises ValueError if an id, the epoch or the view lies outside 0 to 2**32 - 1.
    """
    ids = np.asarray(samples)
    extremes = [epoch, view, *((ids.min(), ids.max()) if ids.size else ())]
    if not all(0 <= value < 2**32 for value in extremes):
        raise ValueError("samples, epoch and view must lie in 0 to 2**32 - 1")
    num_blocks = -(-num_draws // _DRAWS_PER_BLOCK)
    counter = np.empty((4, len(ids), num_blocks), dtype=np.uint64)
    counter[0] = np.arange(num_blocks)
    counter[1] = ids[:, None]
    counter[2], counter[3] = epoch, view
    key = _hash(seed, purpose, b"uniforms")
    words = philox4x32(counter, (key & 0xFFFFFFFF, key >> 32))
    # 27 and 26 high bits make the 53 of a double
    high, low = words[0::2] >> np.uint64(5), words[1::2] >> np.uint64(6)
    draws = (high * np.uint64(2**26) + low) * 2.0**-53
    return np.ascontiguousarray(
        draws.transpose(1, 2, 0).reshape(len(ids), num_blocks * _DRAWS_PER_BLOCK)[:, :num_draws]
    )


def uniforms_float32(
    seed: int, purpose: str, *, epoch: int, samples: NDArray[np.int64], num_draws: int
) -> NDArray[np.float32]:
    """Uniform numbers in [0, 1) for the use of an objective: (n, num_draws) float32.

    `uniforms` of view 0, rounded down to multiples of 2**-24. The purposes of objectives are apart
    from all others.
    """
    draws = uniforms(
        seed, f"objective {purpose}", epoch=epoch, samples=samples, view=0, num_draws=num_draws
    )
    return (np.floor(draws * 2.0**24) * 2.0**-24).astype(np.float32)


def derive_seed(seed: int, purpose: str) -> int:
    """A seed in 0 to 2**63 - 1 for generators of other libraries, one for each purpose."""
    return _hash(seed, purpose, b"seed") >> 1


def philox4x32(counter: NDArray[np.uint64], key: tuple[int, int]) -> NDArray[np.uint64]:
    """Philox4x32-10 of every counter: (4, ...) words of 32 bits held in uint64, like the counter.

    counter: (4, ...), least word first. key: two words of 32 bits.
    Source: Salmon et al. 2011, section 3.3; constants of their library Random123.
    """
    a, b, c, d = counter
    for turn in range(_NUM_ROUNDS):
        key_a, key_b = ((k + turn * step) % 2**32 for k, step in zip(key, _KEY_STEPS, strict=True))
        first, second = a * _MULTIPLIERS[0], c * _MULTIPLIERS[1]
        a, b = (second >> _SHIFT) ^ b ^ np.uint64(key_a), second & _MASK
        c, d = (first >> _SHIFT) ^ d ^ np.uint64(key_b), first & _MASK
    return np.stack((a, b, c, d))


def _hash(seed: int, purpose: str, use: bytes) -> int:
    text = f"{seed}:{purpose}".encode()
    return int.from_bytes(hashlib.blake2b(text, digest_size=8, person=use).digest(), "little")
