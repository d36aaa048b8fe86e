"""The run directory: every path in it, its manifest, checkpoints and tables."""

from alignctl.runs.directory import RunDirectory
from alignctl.runs.manifest import Manifest, Status

__all__ = ["Manifest", "RunDirectory", "Status"]
