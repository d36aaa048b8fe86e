"""What people see of work that goes on: live bars on a terminal, else lines."""

from typing import Any

from rich.console import Group
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn
from rich.progress import TimeRemainingColumn as TimeLeft
from rich.table import Table

from alignctl.cli import terminal
from alignctl.cli.terminal import print_notice, print_warning
from alignctl.engine.events import Event


class View:
    """Listens to events while it is open; on a terminal with live bars."""

    def __init__(self, *, json_output: bool = False) -> None:
        # --json leaves standard output to the one document at the end
        self._console = terminal.err if json_output else terminal.out
        self._live: Live | None = None

    def __enter__(self) -> "View":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Leave the bars as they are; nothing is drawn over them any more."""
        if self._live is not None:
            self._live.stop()
            self._live = None

    def __call__(self, event: Event) -> None:
        """Show one event."""
        handler = getattr(self, f"on_{event['event']}", None)
        if handler is not None:
            handler(event)

    def on_notice(self, event: Event) -> None:
        """See `print_notice`."""
        print_notice(event["text"])

    def on_warning(self, event: Event) -> None:
        """See `print_warning`."""
        print_warning(event["text"])

    def _show(self, *parts: Any) -> None:
        """Draw these in the place of what was drawn before, where there is a terminal."""
        if not self._console.is_terminal:
            return
        if self._live is None:  # its thread comes after the launch, which forks a single thread
            self._live = Live(console=self._console, refresh_per_second=8)
            self._live.start()
        self._live.update(Group(*parts))

    def _print(self, text: str) -> None:
        self._console.print(text, markup=False, emoji=False, soft_wrap=True)

    def _line(self, text: str) -> None:
        """Only where there is no terminal."""
        if not self._console.is_terminal:
            self._print(text)


class TrainingView(View):
    """Epoch and step bars, loss by objective, images/s and time left; or a line per epoch."""

    def __init__(self, *, json_output: bool = False) -> None:
        super().__init__(json_output=json_output)
        self._batch_size = 0
        self._losses: dict[str, tuple[float | None, float]] = {}
        self._rate = 0.0
        self._bars = Progress(
            TextColumn("{task.description:>6}"),
            BarColumn(bar_width=40),
            MofNCompleteColumn(),
            TextColumn("{task.fields[note]}"),
            TimeLeft(elapsed_when_finished=True),
        )
        self._epochs: TaskID | None = None
        self._steps: TaskID | None = None
        self._total_epochs = self._total_steps = 0

    def on_start(self, event: Event) -> None:
        """The study is loaded and training begins."""
        self._total_epochs, self._batch_size = event["epochs"], event["batch_size"]
        done, steps = event["finished_epochs"], event["finished_steps"]
        self._epochs = self._bars.add_task("epoch", total=event["epochs"], completed=done, note="")
        self._total_steps = event["steps_per_epoch"]
        self._steps = self._bars.add_task("step", total=self._total_steps, completed=steps, note="")
        behind = f"epoch {done}" + (f" and {steps} steps" if steps else "")
        resumed = f", going on after {behind}" if done or steps else ""
        text = f"training {', '.join(event['objectives'])} in {event['run']}{resumed}"
        self._print(text)
        self._draw()

    def on_step(self, event: Event) -> None:
        """Some steps of an epoch are behind."""
        if self._steps is not None:
            self._bars.update(self._steps, completed=event["step"])
        self._draw()

    def on_epoch(self, event: Event) -> None:
        """An epoch is behind, with its mean losses."""
        self._rate = event["steps"] * self._batch_size / event["seconds"]
        previous = {name: value[1] for name, value in self._losses.items()}
        self._losses = {
            name: (previous.get(name), value) for name, value in event["losses"].items()
        }
        losses = "  ".join(f"{name} {value:.4f}" for name, value in event["losses"].items())
        self._line(
            f"epoch {event['epoch']:>4}/{self._total_epochs}  {losses}  {self._rate:.0f} images/s"
        )
        if self._epochs is not None and self._steps is not None:
            self._bars.update(
                self._epochs, completed=event["epoch"], note=f"{self._rate:.0f} images/s"
            )
            finished = event["epoch"] == self._total_epochs
            self._bars.update(self._steps, completed=self._total_steps if finished else 0)
        self._draw()

    def _draw(self) -> None:
        table = Table("objective", "loss", "change", box=None, padding=(0, 2), header_style="dim")
        for name, (before, loss) in self._losses.items():
            change = "" if before is None else f"{loss - before:+.4f}"
            table.add_row(name, f"{loss:.4f}", change)
        self._show(table, self._bars)


class CountView(View):
    """One bar over things done out of a total; or a line for each."""

    def __init__(self, *, json_output: bool = False) -> None:
        super().__init__(json_output=json_output)
        self._bar = Progress(
            TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeLeft()
        )
        self._task: TaskID | None = None

    def on_evaluate(self, event: Event) -> None:
        """An epoch of one split is about to be evaluated, or all of them are done."""
        if "epoch" in event:
            self._line(f"evaluating epoch {event['epoch']}, {event['split']}")
        self._advance("evaluating", event)

    def on_compare(self, event: Event) -> None:
        """A pair of objectives is about to be compared."""
        self._advance("comparing weights", event)

    def on_check(self, event: Event) -> None:
        """A claim of a run is about to be checked."""
        self._advance("verifying", event)

    def _advance(self, title: str, event: Event) -> None:
        if self._task is None:
            self._task = self._bar.add_task(title, total=event["total"])
        self._bar.update(self._task, completed=event["done"])
        self._show(self._bar)


class SweepView(View):
    """A line for each value, then its training and its evaluation as they are shown alone."""

    def __init__(self, *, json_output: bool = False) -> None:
        super().__init__(json_output=json_output)
        self._json_output = json_output
        self._part: View | None = None

    def __call__(self, event: Event) -> None:
        """Show one event: of the sweep, or of the part of it that is at work."""
        if event["event"] == "start":
            self._begin(TrainingView(json_output=self._json_output))
        elif event["event"] == "evaluate" and not isinstance(self._part, CountView):
            self._begin(CountView(json_output=self._json_output))
        if hasattr(self, f"on_{event['event']}") or self._part is None:
            super().__call__(event)
        else:
            self._part(event)

    def close(self) -> None:
        """Close the part that is at work."""
        if self._part is not None:
            self._part.close()
            self._part = None

    def on_value(self, event: Event) -> None:
        """The run of a value is begun, or has failed."""
        self.close()
        if not self._json_output:
            self._print(f"{event['label']}: {event['state']}")

    def _begin(self, part: View) -> None:
        self.close()
        self._part = part
