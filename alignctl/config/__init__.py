"""Study configs: frozen models, YAML, overrides, JSON Schema. Imports no torch."""

from alignctl.config.study import StudyConfig

__all__ = ["StudyConfig"]
