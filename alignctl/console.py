"""What people see: progress, tables, and one line for an error. Science is done elsewhere."""

import json
import math
import sys
import time
from collections.abc import Sequence
from types import TracebackType
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console, Group
from rich.live import Live
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn
from rich.progress import TimeRemainingColumn as TimeLeft
from rich.table import Table

Event = dict[str, Any]

out = Console(highlight=False)
err = Console(stderr=True, highlight=False)


def print_error(message: str) -> None:
    """One `error:` line (more only where a config has several wrong keys), never wrapped."""
    err.print("[bold red]error:[/] ", end="")
    err.print(message, markup=False, emoji=False, soft_wrap=True)


def print_notice(text: str) -> None:
    """What somebody should know before reading results, on standard error, never wrapped."""
    err.print("[bold cyan]note:[/] ", end="")
    err.print(text, markup=False, emoji=False, soft_wrap=True)


def print_warning(text: str) -> None:
    """Something that does not stop the work, but that its results have to be read with."""
    err.print("[bold yellow]warning:[/] ", end="")
    err.print(text, markup=False, emoji=False, soft_wrap=True)


def print_json(values: Any) -> None:
    """One JSON document on standard output."""
    print_text(json.dumps(values, indent=2) + "\n")


def print_text(text: str) -> None:
    """A text on standard output as it stands, for other programs."""
    sys.stdout.write(text)


def print_line(text: str) -> None:
    """A plain line on standard output, never wrapped."""
    out.print(text, markup=False, emoji=False, soft_wrap=True)


def print_table(title: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    """A table with words to the left and numbers to the right: four digits, gaps as a dash."""
    table = Table(
        title=title,
        title_justify="left",
        title_style="bold",
        box=SIMPLE_HEAD,
        pad_edge=False,
        collapse_padding=True,
    )
    for index, column in enumerate(columns):
        words = index == 0 or all(isinstance(row[index], str) for row in rows)
        table.add_column(column, justify="left" if words else "right", no_wrap=True)
    for row in rows:
        table.add_row(*(escape(_cell(value)) for value in row))
    # As wide as it needs to be: a terminal may wrap a line, but no digit is ever cut off.
    needed = out.measure(table, options=out.options.update(max_width=1000)).maximum
    Console(file=out.file, width=max(out.width, needed), highlight=False).print(table)


def _cell(value: Any) -> str:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return "-"
    return f"{value:.4f}" if isinstance(value, float) else str(value)


class View:
    """Listens to a launch's events while it is open; on a terminal with live bars."""

    def __init__(self, *, json_output: bool = False) -> None:
        # --json leaves standard output to the one document at the end
        self._console = err if json_output else out
        self._live: Live | None = None

    def __enter__(self) -> "View":
        if self._console.is_terminal:
            self._live = Live(console=self._console, refresh_per_second=8)
            self._live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._live is not None:
            self._live.stop()

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
        if self._live is not None:
            self._live.update(Group(*parts))

    def _line(self, text: str) -> None:
        """Only where there is no terminal."""
        if self._live is None:
            self._console.print(text, markup=False, emoji=False, soft_wrap=True)


class TrainingView(View):
    """Epoch and step bars, loss by objective, images/s and time left; or a line per epoch."""

    def __init__(self, *, batch_size: int, json_output: bool = False) -> None:
        super().__init__(json_output=json_output)
        self._batch_size = batch_size
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
        self._total_epochs = event["epochs"]
        done, steps = event["finished_epochs"], event["finished_steps"]
        self._epochs = self._bars.add_task("epoch", total=event["epochs"], completed=done, note="")
        self._total_steps = event["steps_per_epoch"]
        self._steps = self._bars.add_task("step", total=self._total_steps, completed=steps, note="")
        behind = f"epoch {done}" + (f" and {steps} steps" if steps else "")
        resumed = f", going on after {behind}" if done or steps else ""
        text = f"training {', '.join(event['objectives'])} in {event['run']}{resumed}"
        self._console.print(text, markup=False, emoji=False, soft_wrap=True)
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
        self._started = time.perf_counter()

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
