"""What all commands share: --verbose, and one line for a wrong command line."""

from pathlib import Path

import pytest

LAST = "error: missing.yaml: no such file"
VERBOSE = [
    "-v pretrain missing.yaml",
    "--verbose pretrain missing.yaml",
    "pretrain -v missing.yaml",
    "pretrain missing.yaml --verbose",
    "-v pretrain missing.yaml -v",
    "-v sweep temperature missing.yaml",
    "sweep -v temperature missing.yaml",
    "sweep temperature missing.yaml -v",
    "config -v show missing.yaml",
    "config validate missing.yaml -v",
]


@pytest.mark.parametrize("words", VERBOSE)
def test_verbose_works_before_and_behind_a_subcommand(call, words):
    result = call(*words.split())
    assert result.exit_code == 2
    assert result.stderr.startswith("Traceback")
    assert result.stderr.splitlines()[-1] == LAST


@pytest.mark.parametrize("words", [["pretrain"], ["sweep", "temperature"], ["config", "show"]])
def test_an_error_is_one_line_unless_asked_for_more(call, words):
    assert call(*words, "missing.yaml").stderr == f"{LAST}\n"


def test_an_argument_of_the_same_letters_asks_for_no_traceback(call):
    result = call("pretrain", "--", "-v")
    assert result.exit_code == 2
    assert result.stderr.startswith("error: -v: ")
    assert len(result.stderr.splitlines()) == 1


def test_one_command_is_verbose_and_the_next_is_not(call):
    assert "Traceback" in call("pretrain", "missing.yaml", "-v").stderr
    assert "Traceback" not in call("pretrain", "missing.yaml").stderr


def test_a_wrong_value_of_an_option_before_it_shows_a_traceback_too(call):
    result = call("pretrain", "--timeout=-1", "-v")
    assert result.stderr.startswith("Traceback")
    assert result.stderr.splitlines()[-1].startswith("error: --timeout: -1 is not")


@pytest.mark.parametrize(
    ("words", "line"),
    [
        ("pretrian", "'pretrian' is not a command; did you mean 'pretrain'? (compare, config, "),
        ("sweep temprature", "sweep: 'temprature' is not a command; did you mean 'temperature'?"),
        ("report to markdwn", "report to: 'markdwn' is not a command; did you mean 'markdown'?"),
        ("--verison", "'--verison' is not an option; did you mean '--version'?"),
        (
            "pretrain --run-dri x",
            "pretrain: '--run-dri' is not an option; did you mean '--run-dir'? "
            "(see alignctl pretrain --help)",
        ),
        ("config show digits --x", "config show: '--x' is not an option (see alignctl config sho"),
        ("pretrain -q", "pretrain: '-q' is not an option (see alignctl pretrain --help)"),
        ("pretrain --nproc", "pretrain: option '--nproc' requires an argument"),
        ("compare a.npy", "compare: missing argument 'B'"),
        ("compare a.npy b.npy c.npy", "compare: got unexpected extra argument"),
        ("pretrain --timeout soon", "pretrain: invalid value for '--timeout': "),
    ],
)
def test_a_wrong_command_line_is_one_line(check_refused, words, line):
    check_refused(words.split(), f"error: {line}")


def test_a_group_that_is_given_an_option_alone_misses_its_subcommand(call):
    result = call("sweep", "-v")
    assert result.exit_code == 2
    assert result.stderr.splitlines()[-1] == "error: sweep: missing command"


@pytest.mark.parametrize("words", [[], ["sweep"], ["report", "to"]])
def test_a_group_without_a_subcommand_shows_its_help(call, words):
    result = call(*words)
    assert result.exit_code == 2
    assert "Usage: " in result.stdout + result.stderr
    assert "error: " not in result.stderr


def test_nothing_is_written_by_a_wrong_command_line(call):
    call("pretrain", "--run-dri", "x")
    assert list(Path().iterdir()) == []
