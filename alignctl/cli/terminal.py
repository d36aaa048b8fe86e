"""What people see: tables, texts, and one line for an error."""

import json
import math
import sys
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.table import Table

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


def print_plan(summary: dict[str, Any]) -> None:
    """The plan of --dry-run, as YAML."""
    import yaml

    print_text(yaml.safe_dump(summary, sort_keys=False, width=100, allow_unicode=True))


def print_warnings(lines: Sequence[str]) -> None:
    """A line each, on standard error."""
    for line in lines:
        print_warning(line)


def print_result(result: Any) -> None:
    """A result dataclass, as the one JSON document of --json."""
    print_json(asdict(result))


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
