"""What the library `datasets` is asked for, and what to tell the user when it cannot give it."""

import logging
import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from alignctl.config.dataset_configs import HubConfig
from alignctl.datasets.shards import numbered_sets, refuse_gaps
from alignctl.datasets.source import data_folder
from alignctl.errors import ConfigError, DataError
from alignctl.stand_ins import stand_in

_REPOSITORIES = {
    "tiny_imagenet": "zh-plus/tiny-imagenet",
    "mini_imagenet": "timm/mini-imagenet",
    "full_imagenet": "ILSVRC/imagenet-1k",
}
_FIRST_ANSWER_S = 10.0
_TABLES = ".arrow", ".csv", ".json", ".jsonl", ".parquet", ".tar", ".zip"


def place_of(config: HubConfig) -> str:
    """A folder's absolute path, or a name on the hub."""
    return config.path or _REPOSITORIES[config.name]


def load_splits(config: HubConfig) -> dict[str, Any]:
    """The splits by name, each a `datasets.Dataset` in files that are mapped into memory.

    What the library has not seen before it converts to such files, in its cache.
    Raises ConfigError for what is not there, DataError for what cannot be fetched or read.
    """
    load = _load_dataset()
    place = place_of(config)
    if Path(place).is_absolute():
        return _read_folder(load, config, Path(place))
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", place):  # other names are those of file formats
        raise ConfigError(f"dataset.path: '{place}' is neither a folder nor OWNER/NAME on the hub")
    cached = _read_cache(load, config, place)
    commit = _commit_seen_last(place, config.revision)
    if cached is not None and (commit is None or _commit_of(cached).startswith(commit)):
        return cached
    if config.download:
        return _fetch(load, config, place)
    raise ConfigError(_not_in_cache(config, place, _commit_of(cached) if cached else None))


def _load_dataset() -> Callable[..., Any]:
    try:
        from datasets import load_dataset
    except ImportError as error:
        raise ConfigError(
            "dataset: the library datasets is not installed; pip install 'alignctl[hf]'"
        ) from error
    return load_dataset  # type: ignore[no-any-return]


def _read_folder(load: Callable[..., Any], config: HubConfig, folder: Path) -> dict[str, Any]:
    refuse_incomplete_folder(folder)
    if config.revision is not None:
        raise ConfigError(f"dataset.revision: '{folder}' is a folder, which has no revisions")
    try:
        with _quiet(), _offline():
            return dict(load(str(folder), keep_in_memory=False))
    except FileNotFoundError as error:
        raise ConfigError(f"dataset.path: '{folder}' holds no files of a dataset") from error
    except Exception as error:  # its readers of many formats raise nearly anything
        raise DataError(_unreadable(folder, _reason(error))) from error


def refuse_incomplete_folder(path: str | Path) -> None:
    """ConfigError unless the folder is there, and all numbered files of a split in it.

    The library takes what there is.
    """
    folder = data_folder(Path(path))
    # no deeper: below are folders of classes, which may hold a million images
    found = (file for depth in ("", "*/") for file in folder.glob(f"{depth}*-of-*.*"))
    for files in numbered_sets(sorted(found)):
        refuse_gaps(files)


def _unreadable(folder: Path, reason: str) -> str:
    """What to say of a folder that cannot be read: the file at fault, where it can be told."""
    for file in sorted(folder.rglob("*")):
        if file.suffix in _TABLES and (instead := stand_in(file)):
            return f"{file}: {instead}"
    return f"{folder}: cannot be read: {reason}"


def _read_cache(load: Callable[..., Any], config: HubConfig, name: str) -> dict[str, Any] | None:
    """What the last load of it left, of whatever revision; None where there was none."""
    try:
        with _quiet(), _offline():
            return dict(load(name, revision=config.revision, keep_in_memory=False))
    except (ConnectionError, FileNotFoundError):  # all that it says when it looks in vain
        return None
    except Exception as error:
        raise DataError(f"{name}: cannot be read from '{_cache()}': {_reason(error)}") from error


def _fetch(load: Callable[..., Any], config: HubConfig, name: str) -> dict[str, Any]:
    from huggingface_hub import HfApi

    try:
        with _quiet():
            # answers at once where the loader would try again and again
            info = HfApi(endpoint=_endpoint()).dataset_info(
                name, revision=config.revision, timeout=_FIRST_ANSWER_S
            )
            splits = dict(load(name, revision=config.revision, keep_in_memory=False))
    except Exception as error:  # of the network, of the hub, of the readers
        raise DataError(_not_fetched(name, _reason(error))) from error
    if _commit_of(splits) != info.sha:  # the hub was lost, and the library took what it had
        raise DataError(_not_fetched(name, f"commit {info.sha} did not come"))
    return splits


def _commit_of(splits: dict[str, Any]) -> str:
    """The commit that splits from the hub are of: the library names its folder so."""
    return Path(next(iter(splits.values())).cache_files[0]["filename"]).parent.name


def _commit_seen_last(name: str, revision: str | None) -> str | None:
    """What a branch or tag was when the hub was last asked; what is neither is a commit itself.

    None where the newest commit is wanted and the hub was never asked from here.
    """
    from huggingface_hub.constants import HF_HUB_CACHE
    from huggingface_hub.file_download import repo_folder_name

    references = Path(HF_HUB_CACHE) / repo_folder_name(repo_id=name, repo_type="dataset") / "refs"
    file = references / (revision or "main")
    return file.read_text().strip() if file.is_file() else revision


def _not_in_cache(config: HubConfig, name: str, found: str | None) -> str:
    if config.revision is not None:
        which = f"{name} at revision '{config.revision}'"
    else:
        which = name if found is None else f"the newest {name}"
    is_no_folder = "" if config.path is None else "is no folder and "
    other = "" if found is None else f", or dataset.revision={found}, which is there"
    return (
        f"dataset.path: {which} {is_no_folder}is not in the cache of the Hugging Face library "
        f"({_cache()}); pass dataset.download=true, or dataset.path=DIR for a folder that holds "
        f"its files ({_page(name)}){other}"
    )


def _not_fetched(name: str, reason: str) -> str:
    log_in = "accept its terms there and log in with 'hf auth login', or "
    return (
        f"dataset.download: {name} cannot be fetched from {_page(name)}: {reason}; "
        f"{log_in if 'gated' in reason else ''}"
        "get its files in another way and pass dataset.path=DIR for their folder"
    )


def _cache() -> Path:
    from datasets import config

    return Path(config.HF_DATASETS_CACHE)


def _endpoint() -> str:
    from datasets import config

    return str(config.HF_ENDPOINT)


def _page(name: str) -> str:
    return f"{_endpoint()}/datasets/{name}"


def _reason(error: BaseException) -> str:
    """What went wrong first, in one line: the library says of many errors only when they came."""
    from datasets.exceptions import DatasetBuildError

    while isinstance(error, DatasetBuildError) and error.__cause__ is not None:
        error = error.__cause__
    return (str(error).strip() or type(error).__name__).splitlines()[0]


@contextmanager
def _offline() -> Iterator[None]:
    """While open, both libraries refuse to open any connection."""
    from datasets import config
    from huggingface_hub import constants, utils

    # below version 1, sessions are kept and remember whether they may connect
    forget_sessions = getattr(utils, "reset_sessions", lambda: None)
    before = config.HF_HUB_OFFLINE, constants.HF_HUB_OFFLINE
    config.HF_HUB_OFFLINE = constants.HF_HUB_OFFLINE = True
    forget_sessions()
    try:
        yield
    finally:
        config.HF_HUB_OFFLINE, constants.HF_HUB_OFFLINE = before
        forget_sessions()


@contextmanager
def _quiet() -> Iterator[None]:
    """While open, neither library draws progress bars or logs: the terminal is not theirs."""
    import datasets.utils
    import huggingface_hub.utils

    with ExitStack() as afterwards:
        for library in (datasets.utils, huggingface_hub.utils):
            afterwards.callback(library.logging.set_verbosity, library.logging.get_verbosity())
            library.logging.set_verbosity(logging.CRITICAL)
            if not library.are_progress_bars_disabled():
                afterwards.callback(library.enable_progress_bars)
                library.disable_progress_bars()
        yield
