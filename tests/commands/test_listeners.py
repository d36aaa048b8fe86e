"""Commands print nothing: what they have to say they tell a listener."""

from dataclasses import replace

import numpy as np
import pytest
import yaml

from alignctl.commands import compare, pretrain, sweep
from alignctl.commands.study_list import convert


@pytest.fixture
def in_this_process(monkeypatch, one_process, tmp_path):
    """Workers run here, and the listener is told which of them has begun."""

    def launch(worker, payload, *, listener, events_file, **_):
        listener({"event": worker.__name__})
        return [worker(replace(one_process, events_file=events_file.absolute()), payload)]

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("alignctl.engine.launch.launch", launch)


def test_a_sweep_hands_its_listener_on_to_the_runs_it_starts(in_this_process, short, capsys):
    plan = sweep.plan("temperature", None, short, values="1e-300,0.5", run_dir=None, nproc="1")
    heard = []
    result = sweep.run(plan, heard.append)
    assert list(result.failures) == ["temperature=1e-300"]
    assert heard == [
        {"event": "value", "label": "temperature=1e-300", "state": "training"},
        {"event": "train"},
        {"event": "value", "label": "temperature=1e-300", "state": "failed"},
        {"event": "value", "label": "temperature=0.5", "state": "training"},
        {"event": "train"},
        {"event": "evaluate"},
    ]
    heard.clear()
    sweep.run(replace(plan, values=plan.values[1:], studies=plan.studies[1:]), heard.append)
    assert heard == [{"event": "value", "label": "temperature=0.5", "state": "trained already"}]
    assert capsys.readouterr() == ("", "")


def test_without_a_listener_nothing_is_told(in_this_process, short, capsys):
    plan = pretrain.plan(None, short, run_dir=None, nproc="1", resume=False)
    assert pretrain.run(plan).epochs == 1
    assert capsys.readouterr() == ("", "")


def test_what_files_are_taken_for_is_told_before_they_are_compared(tmp_path, capsys):
    stream = np.random.default_rng(0)
    for name in "ab":
        ids = np.arange(30.0)[:, None]
        np.save(tmp_path / f"{name}.npy", np.hstack([stream.normal(size=(30, 3)), ids]))
    files = (str(tmp_path / "a.npy"), str(tmp_path / "b.npy"))
    plan = compare.plan(*files, metrics=("cka",), confidence=0.95, permutations=0, device="cpu")
    heard = []
    compare.run(plan, heard.append)
    assert [event["event"] for event in heard] == ["notice", "notice"]
    for event, file in zip(heard, files, strict=True):
        assert event["text"].startswith(f"{file}: column 3 holds another whole number")
    compare.run(plan)
    assert capsys.readouterr() == ("", "")


def test_what_became_of_the_originals_keys_is_told_to_who_asks(tmp_path, original, capsys):
    path = tmp_path / "old.yaml"
    path.write_text(yaml.safe_dump(original))
    heard = []
    text = convert(str(path), (), output=None, notify=heard.append)
    (notice,) = heard
    assert notice.startswith("old.yaml: a config of understanding-ssl-v2")
    assert convert(str(path), (), output=None) == text
    assert capsys.readouterr() == ("", "")
