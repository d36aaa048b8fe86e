import os

import pytest
import torch

from alignctl.engine import placement
from alignctl.engine.placement import (
    ProcessPlan,
    available_cores,
    parse_device,
    parse_nproc,
    plan_processes,
)
from alignctl.errors import ConfigError


@pytest.fixture
def machine(monkeypatch):
    """A function that pretends a number of cores and GPUs."""

    def pretend(*, cores: int, gpus: int = 0) -> None:
        monkeypatch.setattr(placement, "available_cores", lambda: cores)
        monkeypatch.setattr(torch.cuda, "is_available", lambda: gpus > 0)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)

    return pretend


@pytest.mark.parametrize(
    ("cores", "nproc", "processes", "threads"),
    [(8, 2, 2, 4), (7, 2, 2, 3), (8, None, 4, 2), (2, None, 2, 1), (2, 4, 4, 1), (1, 1, 1, 1)],
)
def test_threads_per_process_are_cores_over_processes(machine, cores, nproc, processes, threads):
    machine(cores=cores)
    plan = plan_processes(nproc, limit=4, limit_name="objectives")
    assert plan == ProcessPlan(processes, threads, "cpu")


def test_one_process_per_gpu(machine):
    machine(cores=16, gpus=2)
    assert plan_processes(None, limit=4, limit_name="objectives") == ProcessPlan(2, 8, "cuda")
    assert plan_processes(None, limit=1, limit_name="objectives") == ProcessPlan(1, 16, "cuda")
    with pytest.raises(ConfigError, match="--nproc: 3 processes, but there are only 2 GPUs"):
        plan_processes(3, limit=4, limit_name="objectives")


def test_more_processes_than_there_is_work_for_are_refused(machine):
    machine(cores=16)
    message = "--nproc: 5 processes, but there are only 4 objectives to place"
    with pytest.raises(ConfigError, match=message):
        plan_processes(5, limit=4, limit_name="objectives to place")


@pytest.mark.parametrize(("text", "number"), [("auto", None), ("1", 1), ("12", 12)])
def test_nproc_is_auto_or_a_number(text, number):
    assert parse_nproc(text) == number


@pytest.mark.parametrize("text", ["0", "-1", "2.5", "two", "", "²", "AUTO"])
def test_any_other_nproc_is_refused_with_what_is_allowed(text):
    with pytest.raises(ConfigError) as error:
        parse_nproc(text)
    assert str(error.value) == (
        f"--nproc: '{text}' is neither auto nor a whole number of at least 1"
    )


@pytest.mark.parametrize(("text", "kind"), [("auto", None), ("cpu", "cpu"), ("cuda", "cuda")])
def test_a_device_is_auto_or_a_kind(text, kind):
    assert parse_device(text) == kind


@pytest.mark.parametrize("text", ["", "gpu", "cuda:0", "CPU", "mps"])
def test_any_other_device_is_refused_with_what_is_allowed(text):
    with pytest.raises(ConfigError) as error:
        parse_device(text)
    assert str(error.value) == f"--device: '{text}' is not a device (auto, cpu, cuda)"


def test_on_the_cpu_gpus_place_and_limit_nothing(machine):
    machine(cores=16, gpus=2)
    options = {"limit": 4, "limit_name": "cores", "device": "cpu"}
    assert plan_processes(None, **options) == ProcessPlan(4, 4, "cpu")
    assert plan_processes(3, **options) == ProcessPlan(3, 5, "cpu")


def test_a_gpu_that_is_asked_for_is_taken_or_missed(machine):
    options = {"limit": 4, "limit_name": "cores", "device": "cuda"}
    machine(cores=16, gpus=2)
    assert plan_processes(None, **options) == ProcessPlan(2, 8, "cuda")
    machine(cores=16)
    with pytest.raises(ConfigError) as error:
        plan_processes(None, **options)
    assert str(error.value) == "--device: cuda is not available here"


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="needs processor affinity")
def test_only_the_cores_that_this_process_may_use_count():
    allowed = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, {min(allowed)})
        assert available_cores() == 1
    finally:
        os.sched_setaffinity(0, allowed)
    assert available_cores() == len(allowed)
