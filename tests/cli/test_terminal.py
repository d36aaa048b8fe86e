import json

import pytest
from rich.console import Console

from alignctl.cli import terminal
from alignctl.cli.progress_views import View
from alignctl.cli.terminal import print_json, print_notice, print_table


@pytest.fixture
def printed(monkeypatch, capsys):
    """A function of columns and rows: the lines of the table that is printed of them."""

    def lines(columns, rows, *, width=80):
        monkeypatch.setattr(terminal, "out", Console(width=width, highlight=False))
        print_table("Title", columns, rows)
        title, _, *table, _ = capsys.readouterr().out.splitlines()
        assert title.strip() == "Title"
        return [line[1:].rstrip() for line in table if set(line.strip()) != {"─"}]

    return lines


def test_words_are_to_the_left_and_numbers_to_the_right(printed):
    rows = [["cka", 0.5, "features", 7], ["procrustes", -12.25, "gram", 1000]]
    header, first, second = printed(["metric", "value", "form", "images"], rows)
    assert [line[:10] for line in (header, first, second)] == ["metric    ", "cka       ",
                                                               "procrustes"]  # fmt: skip
    end = header.index("value") + len("value")
    assert [line[:end].split()[-1] for line in (first, second)] == ["0.5000", "-12.2500"]
    start = header.index("form")
    assert [line[start:].split()[0] for line in (first, second)] == ["features", "gram"]
    assert header.endswith("images")
    assert [len(line) for line in (first, second)] == [len(header)] * 2


def test_a_column_of_words_and_numbers_is_to_the_right(printed):
    header, first, second = printed(["x", "mixed"], [[1, "word"], [2, 3]])
    assert [len(line) for line in (first, second)] == [len(header)] * 2


def test_a_first_column_of_numbers_is_to_the_left(printed):
    header, first, second = printed(["epoch", "cl"], [[0, 0.5], [100, 0.25]])
    assert (header[0], first[0], second[:3]) == ("e", "0", "100")


def test_numbers_have_four_digits_and_gaps_are_a_dash(printed):
    _, line = printed(["a", "b", "c", "d", "e"], [["x", 0.123456, None, float("nan"), 12]])
    assert line.split() == ["x", "0.1235", "-", "-", "12"]


def test_brackets_in_a_cell_are_shown_as_they_are(printed):
    _, line = printed(["a", "b"], [["[cl, nscl]", "runs/[/bold]"]])
    assert line == "[cl, nscl]  runs/[/bold]"


def test_a_narrow_terminal_cuts_no_digit_and_no_name(printed):
    names = [f"metric{number} key=value" for number in range(20)]
    header, line = printed(names, [[0.5] * 20], width=40)
    assert all(name in header for name in names)
    assert line.split() == ["0.5000"] * 20


def test_a_heading_of_several_lines_has_its_column_below_it(printed):
    *heading, line = printed(["epoch", "debiased\nCKA ce"], [[1, 0.25]])
    assert [part.split()[-1] for part in heading] == ["debiased", "ce"]
    assert line.split() == ["1", "0.2500"]


def test_a_table_without_rows_has_its_heading(printed):
    assert printed(["epoch", "cl"], [])[0].split() == ["epoch", "cl"]


def test_json_is_one_document(capsys):
    print_json({"a": [1, None]})
    assert json.loads(capsys.readouterr().out) == {"a": [1, None]}


def test_a_notice_is_on_stderr_and_never_wrapped(capsys):
    text = "file.yaml: [bold] " + "word " * 60 + "\n  second line"
    print_notice(text)
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("", f"note: {text}\n")


def test_a_worker_can_tell_a_notice(capsys):
    text = "of the 9 images, [2] are " + "long " * 100
    View()({"event": "notice", "text": text})
    assert capsys.readouterr() == ("", f"note: {text}\n")
