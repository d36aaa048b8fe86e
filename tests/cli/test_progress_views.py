"""What people see of work that goes on."""

import io

import pytest
from rich.console import Console

from alignctl.cli import terminal
from alignctl.cli.progress_views import CountView, SweepView, TrainingView, View

START = {"event": "start", "run": "runs/a", "objectives": ["cl", "ce"], "epochs": 2,
         "steps_per_epoch": 3, "batch_size": 16,
         "finished_epochs": 0, "finished_steps": 0}  # fmt: skip
EPOCH = {"event": "epoch", "epoch": 1, "losses": {"cl": 1.5, "ce": 2.0}, "learning_rate": 0.1,
         "steps": 3, "seconds": 0.5}  # fmt: skip
EVALUATE = {"event": "evaluate", "epoch": 2, "split": "test", "done": 0, "total": 1}
TRAINING_LINES = [
    "training cl, ce in runs/a",
    "epoch    1/2  cl 1.5000  ce 2.0000  96 images/s",
]


@pytest.fixture
def shown(monkeypatch):
    """A function of a view's class and events: what is on the two consoles."""

    def show(kind, *events, is_terminal=False, **options):
        out, err = io.StringIO(), io.StringIO()
        for name, file in (("out", out), ("err", err)):
            console = Console(file=file, force_terminal=is_terminal, width=80, highlight=False)
            monkeypatch.setattr(terminal, name, console)
        with kind(**options) as view:
            for event in events:
                view(event)
        return out.getvalue(), err.getvalue()

    return show


def test_training_is_a_line_per_epoch_where_there_is_no_terminal(shown):
    out, err = shown(TrainingView, START, {"event": "step", "epoch": 1, "step": 2}, EPOCH)
    assert out.splitlines() == TRAINING_LINES
    assert err == ""


def test_training_is_bars_on_a_terminal(shown):
    out, _ = shown(TrainingView, START, EPOCH, is_terminal=True)
    assert "\x1b[" in out
    assert "96 images/s" in out
    assert TRAINING_LINES[1] not in out


@pytest.mark.parametrize("is_terminal", [False, True])
def test_a_view_that_is_told_nothing_shows_nothing(shown, is_terminal):
    for kind in (View, TrainingView, CountView, SweepView):
        assert shown(kind, is_terminal=is_terminal) == ("", "")


def test_json_leaves_standard_output_alone(shown):
    value = {"event": "value", "label": "temperature=0.1", "state": "training"}
    out, err = shown(SweepView, value, START, EPOCH, EVALUATE, json_output=True)
    assert out == ""
    assert err.splitlines() == [*TRAINING_LINES, "evaluating epoch 2, test"]


def test_a_sweep_shows_each_value_then_its_training_and_its_evaluation(shown):
    events = [
        {"event": "value", "label": "temperature=0.1", "state": "training"},
        START,
        EPOCH,
        {"event": "notice", "text": "a notice"},
        EVALUATE,
        {"event": "value", "label": "temperature=0.5", "state": "trained already"},
        EVALUATE,
        {"event": "value", "label": "temperature=0.5", "state": "failed"},
        {"event": "warning", "text": "a warning"},
        {"event": "checkpoint", "epoch": 1},
    ]
    out, err = shown(SweepView, *events)
    assert out.splitlines() == [
        "temperature=0.1: training",
        *TRAINING_LINES,
        "evaluating epoch 2, test",
        "temperature=0.5: trained already",
        "evaluating epoch 2, test",
        "temperature=0.5: failed",
    ]
    assert err.splitlines() == ["note: a notice", "warning: a warning"]


def test_the_bars_of_one_part_of_a_sweep_end_before_the_next_begin(shown):
    value = {"event": "value", "label": "temperature=0.1", "state": "training"}
    out, _ = shown(SweepView, value, START, EPOCH, EVALUATE, value, START, is_terminal=True)
    show_cursor = out.count("\x1b[?25h")
    assert (show_cursor, out.count("\x1b[?25l")) == (3, 3)
    assert out.index("evaluating") < out.rindex("temperature=0.1: training")
