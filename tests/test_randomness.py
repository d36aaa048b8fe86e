import hashlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alignctl.randomness import derive_seed, philox4x32, uniforms


@pytest.mark.parametrize(
    ("counter", "key", "expected"),
    [
        ("00000000 00000000 00000000 00000000", (0, 0), "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
        (
            "ffffffff ffffffff ffffffff ffffffff",
            (0xFFFFFFFF, 0xFFFFFFFF),
            "408f276d 41c83b0e a20bc7c6 6d5451fd",
        ),
        (
            "243f6a88 85a308d3 13198a2e 03707344",
            (0xA4093822, 0x299F31D0),
            "d16cfe09 94fdcceb 5001e420 24126ea1",
        ),
    ],
)
def test_philox_matches_the_known_answers_of_random123(counter, key, expected):
    words = np.array([int(word, 16) for word in counter.split()], dtype=np.uint64)
    result = philox4x32(words.reshape(4, 1), key)[:, 0]
    assert " ".join(f"{word:08x}" for word in result) == expected


def test_uniforms_are_the_doubles_of_the_documented_counter_and_key():
    digest = hashlib.blake2b(b"3:crop", digest_size=8, person=b"uniforms").digest()
    key = int.from_bytes(digest[:4], "little"), int.from_bytes(digest[4:], "little")
    words = philox4x32(np.array([[2], [9], [5], [1]], dtype=np.uint64), key)[:, 0]
    draws = uniforms(3, "crop", epoch=5, samples=np.array([9]), view=1, num_draws=6)
    assert draws[0, 4] == (int(words[0]) >> 5) / 2**27 + (int(words[1]) >> 6) / 2**53
    assert draws[0, 5] == (int(words[2]) >> 5) / 2**27 + (int(words[3]) >> 6) / 2**53


def test_uniforms_are_uniform_and_uncorrelated():
    draws = uniforms(0, "test", epoch=0, samples=np.arange(50_000), view=0, num_draws=5)
    assert draws.shape == (50_000, 5)
    assert draws.dtype == np.float64
    assert draws.min() >= 0
    assert draws.max() < 1
    quantiles = np.sort(draws, axis=0) - (np.arange(50_000)[:, None] + 0.5) / 50_000
    assert np.abs(quantiles).max() < 1.95 / np.sqrt(50_000)  # Kolmogorov-Smirnov, p = 0.001
    between_draws = np.corrcoef(draws.T) - np.eye(5)
    between_neighbours = np.corrcoef(draws[:-1].T, draws[1:].T)[:5, 5:]
    assert max(np.abs(between_draws).max(), np.abs(between_neighbours).max()) < 0.02


@settings(max_examples=25, deadline=None)
@given(st.lists(st.integers(0, 2**32 - 1), min_size=1, max_size=20), st.integers(1, 9))
def test_a_draw_depends_on_nothing_but_its_own_coordinates(samples, num_draws):
    ids = np.array(samples)
    together = uniforms(7, "views", epoch=3, samples=ids, view=1, num_draws=num_draws)
    for row, sample in zip(together, samples, strict=True):
        alone = uniforms(7, "views", epoch=3, samples=np.array([sample]), view=1, num_draws=12)
        assert np.array_equal(row, alone[0, :num_draws])


def test_every_coordinate_changes_every_draw():
    ids = np.arange(100)
    base = {"seed": 1, "purpose": "a", "epoch": 2, "samples": ids, "view": 0, "num_draws": 8}
    reference = uniforms(**base)
    others = [("seed", 2), ("purpose", "b"), ("epoch", 3), ("samples", ids + 100), ("view", 1)]
    for name, value in others:
        assert not np.any(uniforms(**(base | {name: value})) == reference), name


def test_no_samples_and_no_draws_give_empty_arrays():
    none = np.empty(0, dtype=np.int64)
    assert uniforms(0, "a", epoch=0, samples=none, view=0, num_draws=3).shape == (0, 3)
    assert uniforms(0, "a", epoch=0, samples=np.arange(2), view=0, num_draws=0).shape == (2, 0)


@pytest.mark.parametrize(("sample", "epoch"), [(-1, 0), (2**32, 0), (0, -1), (0, 2**32)])
def test_coordinates_outside_32_bits_are_refused(sample, epoch):
    with pytest.raises(ValueError, match=r"2\*\*32 - 1"):
        uniforms(0, "a", epoch=epoch, samples=np.array([sample]), view=0, num_draws=1)


def test_seeds_derive_from_seed_and_purpose():
    seeds = {derive_seed(seed, purpose) for seed in range(100) for purpose in ("a", "b", "c")}
    assert len(seeds) == 300
    assert all(0 <= seed < 2**63 for seed in seeds)
    assert max(seeds) > 2**61
    assert derive_seed(1, "a") == derive_seed(1, "a")


def test_derived_seeds_stay_what_they_were():
    # runs of earlier versions can only be repeated while these hold
    assert derive_seed(0, "weights") == 485674873391784113
    draw = uniforms(0, "views", epoch=1, samples=np.array([2]), view=1, num_draws=1)
    assert draw[0, 0] == 0.6119481449467925
