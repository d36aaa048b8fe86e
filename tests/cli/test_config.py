"""The subcommands of `alignctl config`."""

import json
from pathlib import Path

from alignctl.config import StudyConfig
from alignctl.config.load import load_study, study_names


def test_config_list_names_every_ready_made_study(call):
    result = call("config", "list")
    assert result.exit_code == 0
    assert [line.split()[0] for line in result.stdout.splitlines()] == study_names()


def test_config_show_prints_a_study_that_can_be_run_again(call):
    result = call("config", "show", "digits", "temperature=0.1", "objectives=[cl, scl]")
    assert result.exit_code == 0
    Path("again.yaml").write_text(result.stdout)
    assert load_study("again.yaml") == load_study(
        "digits", ["temperature=0.1", "objectives=[cl, scl]"]
    )
    assert "clip_norm: 1.0" in result.stdout  # a default that the file does not set


def test_config_validate_says_what_is_valid(call, write_study):
    result = call("config", "validate", write_study())
    assert result.exit_code == 0
    assert result.stdout == "mine.yaml: a valid study of cl, nscl, scl, ce\n"
    result = call("config", "validate", "mine.yaml", "objectives=[cl]")
    assert result.stdout == "mine.yaml: a valid study of cl\n"


def test_config_schema_prints_the_schema_of_a_study(call):
    result = call("config", "schema")
    assert result.exit_code == 0
    assert json.loads(result.stdout) == StudyConfig.model_json_schema()
