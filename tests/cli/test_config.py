"""The subcommands of `alignctl config`."""

import json
import shutil
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


def test_config_validate_reads_every_image_when_asked(call, write_study, photo_folder):
    folder = shutil.copytree(photo_folder, Path("photos"))
    dataset = {"name": "image_folder", "path": str(folder), "image_size": 16, "in_memory": False}
    study = write_study(dataset=dataset)
    whole = call("config", "validate", study, "--images")
    assert whole.exit_code == 0
    assert whole.stdout == (
        "mine.yaml: a valid study of cl, nscl, scl, ce, and 60 images that can be read\n"
    )
    damaged = ["train/ant/1.png", "train/bee/0.jpg", "test/cow/3.png"]
    for name in damaged:
        (folder / name).write_bytes((folder / name).read_bytes()[:60])
    assert call("config", "validate", study).exit_code == 0
    refused = call("config", "validate", study, "--images")
    assert refused.exit_code == 1
    lines = refused.stderr.splitlines()
    assert lines[0] == "error: 2 of 48 images cannot be read:"
    assert [line.partition(":")[0] for line in lines[1:]] == [
        str(folder.absolute() / name) for name in damaged
    ]
