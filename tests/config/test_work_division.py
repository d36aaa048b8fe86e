import pytest

from alignctl.config.work_division import Grid, grid, usable_processes
from alignctl.errors import ConfigError


@pytest.fixture
def study_of(make_study):
    """A function of placement, number of objectives and batch size."""

    def make(placement, num_objectives=4, batch_size=64):
        names = ["cl", "nscl", "scl", "ce"][:num_objectives]
        training = {
            "epochs": 1,
            "batch_size": batch_size,
            "optimizer": {"name": "sgd", "learning_rate": 0.1},
        }
        return make_study(placement=placement, objectives=names, training=training)

    return make


@pytest.mark.parametrize(
    ("placement", "processes", "shape"),
    [
        ("objectives", 1, (1, 1)),
        ("objectives", 3, (3, 1)),
        ("data", 1, (1, 1)),
        ("data", 4, (1, 4)),
        ("mesh", 1, (1, 1)),
        ("mesh", 4, (4, 1)),
        ("mesh", 6, (2, 3)),
        ("mesh", 8, (4, 2)),
        ("mesh", 16, (4, 4)),
    ],
)
def test_processes_divide_objectives_and_batches(study_of, placement, processes, shape):
    batch_size = 64 if processes != 6 else 66
    assert grid(study_of(placement, batch_size=batch_size), processes) == Grid(*shape)


def test_a_mesh_takes_the_shares_that_divide_the_batch(study_of):
    assert grid(study_of("mesh"), 6) == Grid(3, 2)
    assert grid(study_of("mesh", batch_size=9), 6) == Grid(2, 3)


@pytest.mark.parametrize(
    ("placement", "processes", "message"),
    [
        ("objectives", 5, "--nproc: 5 processes, but there are only 4 objectives to place"),
        ("data", 3, "--nproc: 3 processes cannot hold equal shares of a batch of 64 images"),
        ("data", 128, "--nproc: 128 processes cannot hold equal shares of a batch of 64"),
        ("mesh", 5, r"equal shares of a batch of 64 images \(placement: mesh\)"),
    ],
)
def test_what_cannot_be_divided_is_refused(study_of, placement, processes, message):
    with pytest.raises(ConfigError, match=message):
        grid(study_of(placement), processes)


@pytest.mark.parametrize(
    ("placement", "devices", "expected"),
    [("objectives", 9, 4), ("data", 9, 8), ("data", 3, 2), ("mesh", 7, 6), ("mesh", 9, 8),
     ("data", 1, 1), ("mesh", 1, 1)],
)  # fmt: skip
def test_as_many_devices_are_used_as_can_be(study_of, placement, devices, expected):
    assert usable_processes(study_of(placement), devices) == expected
