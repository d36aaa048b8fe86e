"""manifest.json: what was run, on what, with which versions, and proof of what was shared."""

import json
import os
import platform
import subprocess
from datetime import datetime, timezone
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from alignctl.errors import CheckpointError
from alignctl.runs.atomic import write_text

SCHEMA_VERSION = 2
_READABLE = (1, 2)  # 1 had no placement, no digests of checkpoints and data
Status = Literal["running", "finished", "interrupted", "failed", "adopted"]
"""adopted: trained by another program, whose checkpoints are measured where they lie."""
_PACKAGES = ("alignctl", "torch", "torchvision", "numpy", "pandas", "safetensors", "pillow", "timm")


class Manifest(BaseModel):
    """What a run says about itself; frozen, replaced as a whole.

    Of an adopted run it says what was found when it was adopted, and nothing of its training:
    unknown numbers are None, and num_processes is 0.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    schema_version: int = SCHEMA_VERSION
    name: str
    status: Status = "running"
    error: str | None = None
    started_at: str
    updated_at: str
    seed: int | None
    versions: dict[str, str]
    machine: dict[str, str]
    git_commit: str | None
    placement: str = "objectives"
    num_processes: int
    threads_per_process: int
    num_train_images: int | None
    num_classes: int | None
    training_data: str | None = None
    """SHA-256 of training images, labels and ids (of images that are not in memory: of their
    file names or sizes); missing in version 1."""
    initial_weights: dict[str, str]
    """SHA-256 of encoder and projector before the first step, by objective."""
    encoder_weights: str | None = None
    """SHA-256 of the file that `encoder.weights` names, where it names one."""
    batches: dict[int, str] = {}
    """SHA-256 over the sample ids and augmented pixels that each epoch trained on, by epoch."""
    checkpoints: dict[int, dict[str, str]] = {}
    """SHA-256 of the files of weights, by epoch and objective."""
    finished_epochs: int = 0
    training_s: float = 0.0

    @property
    def used_a_gpu(self) -> bool:
        """Whether views were computed and models trained on one."""
        return self.machine.get("device", "cpu") != "cpu"

    def updated(self, **changes: object) -> "Manifest":
        """A copy with these fields changed and the clock moved on."""
        return self.model_copy(
            update={"schema_version": SCHEMA_VERSION, **changes, "updated_at": now()}
        )

    def write(self, path: Path) -> None:
        """Replace the file atomically."""
        write_text(path, self.model_dump_json(indent=2) + "\n")

    @classmethod
    def read(cls, path: Path) -> "Manifest":
        """The manifest in a file; CheckpointError where it is missing, damaged or too new."""
        try:
            values = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise CheckpointError(f"{path}: cannot be read: {error}") from error
        found = values.get("schema_version") if isinstance(values, dict) else None
        if found not in _READABLE:
            raise CheckpointError(
                f"{path}: schema version {found}; this alignctl reads up to {SCHEMA_VERSION}"
            )
        try:
            return cls.model_validate(values)
        except ValidationError as error:
            detail = error.errors()[0]
            where = ".".join(str(part) for part in detail["loc"])
            raise CheckpointError(f"{path}: {where}: {detail['msg']}") from error


def shortened(digest: str) -> str:
    """The first digits of a digest, enough to tell it from others."""
    return digest[:12]


def now() -> str:
    """The time in UTC, to the second, as ISO 8601."""
    return datetime.now(timezone.utc).isoformat(timespec="seconds")


def package_versions(*others: str) -> dict[str, str]:
    """Versions of Python, of the packages that numbers depend on, and of others."""
    found = {"python": platform.python_version()}
    for name in (*_PACKAGES, *others):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "not installed"
    return found


def machine(device: str) -> dict[str, str]:
    """The hardware that a result came from."""
    return {
        "system": f"{platform.system()} {platform.machine()}",
        "processor": _processor(),
        "cores": str(os.cpu_count()),
        "device": device,
    }


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    if info.is_file():
        for line in info.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or "unknown"


def git_commit(folder: Path) -> str | None:
    """The commit checked out in a folder, with `-dirty` where files differ; None outside git."""
    describe = ["describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]  # no tag's name
    command = ["git", "-C", str(folder), *describe]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() or None
