import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import torch
from engine_workers import share

from alignctl.engine.context import WorkerContext


def context(rank, events_file=Path("unused")):
    return WorkerContext(
        rank=rank, size=2, device=torch.device("cpu"), threads=1, events_file=events_file
    )


def test_sum_adds_every_workers_tensors_in_float64_and_keeps_their_shapes(described):
    results, _ = described
    ranks = range(len(results))
    for index, shape in enumerate([(2, 3), (4,), ()]):
        expected = torch.stack([share(rank, index) for rank in ranks]).sum(0)
        for result in results:
            assert result["shapes"][index] == shape
            found = torch.tensor(result["summed"][index], dtype=torch.float64)
            torch.testing.assert_close(found, expected, rtol=1e-15, atol=0)


def test_sum_leaves_its_inputs_alone(described):
    results, _ = described
    assert all(result["inputs_kept"] for result in results)


def test_gather_gives_every_worker_all_values_in_the_order_of_ranks(described):
    results, _ = described
    expected = [{"rank": rank, "squares": [rank**2, "x"]} for rank in range(len(results))]
    assert [result["gathered"] for result in results] == [expected] * len(results)


def test_tensors_are_joined_in_the_order_of_ranks(described):
    results, _ = described
    assert [result["joined"] for result in results] == [list(range(len(results)))] * len(results)


def test_only_the_first_worker_is_heard(described):
    results, heard = described
    assert [result["is_first"] for result in results] == [True, False][: len(results)]
    assert [(event["event"], event["rank"], event["text"]) for event in heard] == [
        ("hello", 0, "größer")
    ]


def test_a_later_worker_writes_no_events(tmp_path):
    context(1, tmp_path / "events.jsonl").report("step", step=1)
    assert not (tmp_path / "events.jsonl").exists()
    context(0, tmp_path / "events.jsonl").report("step", step=1)
    assert (tmp_path / "events.jsonl").read_text().count("\n") == 1


def test_the_first_worker_takes_its_turn_before_all_others(tmp_path, monkeypatch):
    barrier, done = Barrier(2, timeout=10), []
    monkeypatch.setattr(WorkerContext, "wait", lambda self: barrier.wait())

    def work(rank: int) -> int:
        def act() -> int:
            time.sleep(0 if rank else 0.2)
            done.append(rank)
            return rank

        return context(rank, tmp_path / "events.jsonl").in_turn(act)

    with ThreadPoolExecutor(2) as pool:
        assert list(pool.map(work, [1, 0])) == [1, 0]
    assert done == [0, 1]
