import subprocess
import sys

import pytest
import yaml

from alignctl.config import dialects
from alignctl.config.dialects import dialect_of
from alignctl.config.load import find_config, load_study, parse_yaml
from alignctl.errors import ConfigError


class Shouted:
    """A program whose configs have all their keys in capitals."""

    @staticmethod
    def recognises(values):
        return all(key.isupper() for key in values)

    @staticmethod
    def translate(values, source):
        return type("Translation", (), {
            "values": {key.lower(): value for key, value in values.items()},
            "notice": f"{source}: translated",
        })  # fmt: skip

    @staticmethod
    def refuse_its_keys(overrides, source):
        if any(text.isupper() for text in overrides):
            raise ConfigError(f"{source}: capitals")


@pytest.fixture
def shouted(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "shouted", Shouted)
    monkeypatch.setattr(dialects, "DIALECTS", (*dialects.DIALECTS, "shouted"))
    path = tmp_path / "loud.yaml"
    shipped = find_config("digits").read_text(encoding="utf-8")
    values = {key.upper(): value for key, value in parse_yaml(shipped, "digits").items()}
    path.write_text(yaml.safe_dump({**values, "NAME": "loud", "OBJECTIVES": ["cl"]}))
    return str(path)


def test_a_dialect_takes_one_module_and_one_line(shouted):
    told = []
    study = load_study(shouted, ["seed=3"], notify=told.append)
    assert (study.name, study.objective_names, study.seed) == ("loud", ("cl",), 3)
    assert told == ["loud.yaml: translated"]


def test_a_dialect_refuses_overrides_in_its_own_words(shouted):
    with pytest.raises(ConfigError, match=r"loud\.yaml: capitals"):
        load_study(shouted, ["SEED=3"])


def test_a_study_of_ours_is_no_dialect():
    assert dialect_of({"name": "a", "objectives": ["cl"]}) is None


def test_every_dialect_is_there_and_imports_no_torch():
    code = (
        "import sys; from importlib import import_module; from alignctl.config import dialects\n"
        "for name in dialects.DIALECTS:\n"
        "    found = import_module(name)\n"
        "    assert found.recognises and found.translate and found.refuse_its_keys\n"
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
