"""What the documents promise exists: commands, options, studies, links, config keys."""

import itertools
import re
import shlex
from pathlib import Path
from typing import Any, get_args

import pytest
import typer

from alignctl.cli.app import app
from alignctl.config.load import find_config, load_study, study_names
from alignctl.config.metric_configs import METRIC_NAMES, AnyMetric, parse_metric
from alignctl.config.study import StudyConfig
from alignctl.config.validation import models_at

ROOT = Path(__file__).parent.parent
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def commands_in(path: Path) -> list[str]:
    """Lines of code (fenced or indented) that start with `alignctl`, without their comments."""
    text = path.read_text()
    code = "\n".join(re.findall(r"^```\w*\n(.*?)^```", text, re.MULTILINE | re.DOTALL))
    code += "\n".join(line for line in text.splitlines() if line.startswith("    "))
    lines = (line.strip().removeprefix("$ ") for line in code.splitlines())
    return [line.partition("  #")[0] for line in lines if re.match(r"alignctl [a-z]", line)]


def all_commands() -> list[str]:
    yaml_files = [find_config(name) for name in study_names()]
    comments = [
        line.lstrip("# ")
        for path in yaml_files
        for line in path.read_text().splitlines()
        if line.startswith("# alignctl ")
    ]
    return sorted({*comments, *(line for path in DOCUMENTS for line in commands_in(path))})


def test_there_are_commands_to_check() -> None:
    assert len(all_commands()) >= 10


@pytest.mark.parametrize("line", all_commands())
def test_documented_command_exists_with_its_options(line: str) -> None:
    command: Any = typer.main.get_command(app)
    words = shlex.split(line)[1:]
    while words and hasattr(command, "commands"):
        name = words.pop(0)
        assert name in command.commands, f"{name} is no command"
        command = command.commands[name]
    known = {option for parameter in command.params for option in parameter.opts}
    for word in words:
        if word.startswith("--"):
            assert word.partition("=")[0] in known


@pytest.mark.parametrize("line", [line for line in all_commands() if " pretrain" in line])
def test_documented_study_and_overrides_are_valid(line: str) -> None:
    words = [word for word in shlex.split(line)[2:] if not word.startswith("--")]
    words = [word for word in words if not word.isupper()]
    if "pull" in line or any("[" in word and word.startswith("[") for word in words):
        pytest.skip("a placeholder, or an objective that readers are shown how to write")
    source = words.pop(0) if words and "=" not in words[0] else None
    if source is None and "--resume" in line:
        pytest.skip("changes to a reader's run")
    if source and (source.endswith("config.yaml") or "--config" in line):
        pytest.skip("a run's own config, or a reader's")
    load_study(source, words)


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_relative_links_lead_somewhere(path: Path) -> None:
    targets = re.findall(r"\]\((?!https?://)([^)#]+)", path.read_text())
    missing = [target for target in targets if not (path.parent / target).exists()]
    assert not missing


@pytest.mark.parametrize("name", study_names())
def test_ready_made_study_opens_with_its_command(name: str) -> None:
    text = find_config(name).read_text()
    assert text.startswith("# ")
    assert re.search(rf"^# alignctl pretrain( {name}\b|$)", text, re.MULTILINE)


def test_configuration_page_names_every_key() -> None:
    text = (ROOT / "docs" / "configuration.md").read_text()
    for key in StudyConfig.model_fields:
        assert f"`{key}" in text
    for room in ("dataset", "training", "encoder", "projector"):
        for model in models_at(StudyConfig, [room]):
            for key in model.model_fields:
                assert key in text, f"{room}.{key}"


def test_readme_test_command_is_what_ci_runs() -> None:
    readme, script = (ROOT / "README.md").read_text(), (ROOT / ".ci" / "run").read_text()
    assert "<!-- test command -->" in readme
    assert "<!-- test command -->" in script


def test_metrics_page_describes_every_metric_and_option() -> None:
    text = (ROOT / "docs" / "metrics.md").read_text()
    for name in METRIC_NAMES:
        assert f"`{name}`" in text
    for model in get_args(AnyMetric):
        for option in set(model.model_fields) - {"name", "seed"}:
            assert f"`{option}" in text, option


@pytest.mark.parametrize("line", [line for line in all_commands() if "--metric" in line])
def test_documented_metrics_are_known(line: str) -> None:
    words = shlex.split(line)
    for option, metric in itertools.pairwise(words):
        if option == "--metric":
            parse_metric(metric)


@pytest.mark.parametrize("page", ["architecture.md", "guarantees.md"])
def test_every_file_that_a_page_names_is_there(page):
    text = (ROOT / "docs" / page).read_text()
    names = re.findall(r"`((?:[a-z_]+/)+[a-z_]+\.py)`", text)
    assert len(names) > 3
    missing = [
        name for name in names if not any((ROOT / at / name).is_file() for at in ("", "alignctl"))
    ]
    assert missing == []


def test_the_name_of_a_module_is_used_once():
    paths = [path for path in (ROOT / "alignctl").rglob("*.py") if path.stem != "__init__"]
    stems = [path.stem for path in paths]
    folders = {path.parent.name for path in paths}
    assert sorted(stem for stem in set(stems) if stems.count(stem) > 1 or stem in folders) == []
