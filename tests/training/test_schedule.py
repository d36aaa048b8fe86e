import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alignctl.training.schedule import warmup_cosine

GOLDEN = Path(__file__).parents[1] / "golden" / "schedule.json"


def test_the_factor_matches_the_original_schedule():
    golden = json.loads(GOLDEN.read_text())
    warmup, total = golden["warmup_epochs"], golden["total_epochs"]
    factors = [warmup_cosine(e, warmup_epochs=warmup, total_epochs=total) for e in range(total)]
    assert factors == pytest.approx(golden["lr_factor"], abs=1e-4)


def test_the_factor_ends_at_zero():
    assert warmup_cosine(50, warmup_epochs=10, total_epochs=50) == 0


def test_there_may_be_no_warmup():
    assert warmup_cosine(0, warmup_epochs=0, total_epochs=5) == 1


@given(total=st.floats(1, 1e4), share=st.floats(0, 1), warmup=st.floats(0, 1e4))
def test_the_factor_lies_between_zero_and_one(total, share, warmup):
    assert 0 <= warmup_cosine(share * total, warmup_epochs=warmup, total_epochs=total) <= 1


@pytest.mark.parametrize(
    ("epoch", "warmup", "total", "message"),
    [
        (-1, 0, 5, r"epoch: must lie in \[0, 5\], got -1"),
        (5.5, 0, 5, r"epoch: must lie in \[0, 5\], got 5.5"),
        (float("nan"), 0, 5, r"epoch: must lie in \[0, 5\], got nan"),
        (0, -1, 5, "warmup_epochs: must be finite and not negative, got -1"),
        (0, 0, 0, "total_epochs: must be positive and finite, got 0"),
    ],
)
def test_times_that_make_no_schedule_are_refused(epoch, warmup, total, message):
    with pytest.raises(ValueError, match=message):
        warmup_cosine(epoch, warmup_epochs=warmup, total_epochs=total)
