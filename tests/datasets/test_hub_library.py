import hashlib
import json
import logging
import os
import socket
import subprocess
import sys
import threading
import types
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from urllib.parse import parse_qs

import datasets
import huggingface_hub
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from alignctl.config.dataset_configs import HubConfig
from alignctl.datasets.hub_library import load_splits, place_of
from alignctl.errors import ConfigError, DataError


def table(reds: list[int]) -> bytes:
    """A parquet file of images of these reds, with labels 0, 1, 0, ..."""
    cells = []
    for red in reds:
        file = BytesIO()
        Image.new("RGB", (8, 8), (red, 0, 0)).save(file, "PNG")
        cells.append(file.getvalue())
    file = BytesIO()
    labels = [index % 2 for index in range(len(reds))]
    pq.write_table(pa.table({"image": cells, "label": labels}), file)
    return file.getvalue()


@pytest.fixture
def folder(tmp_path):
    """A small copy of a repository."""
    (tmp_path / "copy").mkdir()
    for split in ("train", "test"):
        (tmp_path / "copy" / f"{split}.parquet").write_bytes(table(list(range(8))))
    return tmp_path / "copy"


@pytest.fixture
def connections(tmp_path, monkeypatch):
    """An empty cache, and what is asked of the network, all in vain."""
    asked = []

    def refuse(*arguments, **options):
        asked.append(arguments)
        raise OSError("no network")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    return asked


@pytest.mark.parametrize(
    ("options", "name"),
    [
        ({"name": "tiny_imagenet"}, "zh-plus/tiny-imagenet"),
        ({"name": "mini_imagenet"}, "timm/mini-imagenet"),
        ({"name": "full_imagenet"}, "ILSVRC/imagenet-1k"),
        ({"name": "mini_imagenet", "path": "me/mine"}, "me/mine"),
        ({"name": "huggingface", "path": "me/mine"}, "me/mine"),
    ],
)
def test_nothing_is_fetched_unasked(tmp_path, connections, options, name):
    config = HubConfig(**options)
    assert place_of(config) == name
    is_no_folder = "is no folder and " if "path" in options else ""
    with pytest.raises(ConfigError) as error:
        load_splits(config)
    assert str(error.value) == (
        f"dataset.path: {name} {is_no_folder}is not in the cache of the Hugging Face library "
        f"({tmp_path}/cache); pass dataset.download=true, or dataset.path=DIR for a folder that "
        f"holds its files (https://huggingface.co/datasets/{name})"
    )
    assert connections == []


def test_a_revision_that_is_not_there_is_named(connections):
    message = r"timm/mini-imagenet at revision 'v1' is not in the cache"
    with pytest.raises(ConfigError, match=message):
        load_splits(HubConfig(name="mini_imagenet", revision="v1"))
    assert connections == []


def test_an_unreachable_hub_is_one_line(connections, capfd):
    with pytest.raises(DataError) as error:
        load_splits(HubConfig(name="full_imagenet", download=True))
    reason = str(error.value)
    page = "https://huggingface.co/datasets/ILSVRC/imagenet-1k"
    beginning = f"dataset.download: ILSVRC/imagenet-1k cannot be fetched from {page}: "
    assert reason.startswith(beginning)
    assert reason.endswith(
        "; get its files in another way and pass dataset.path=DIR for their folder"
    )
    assert "\n" not in reason
    assert 0 < len(connections) < 5  # fewer than the library's own tries, which take half a minute
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("path", ["parquet", "imagefolder", "a/b/c", "a b/c"])
def test_other_names_are_not_looked_up(connections, monkeypatch, tmp_path, path):
    """The library would read all that lies in the current folder as parquet files."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "train.parquet").write_bytes(table([1, 2]))
    with pytest.raises(ConfigError, match=r"' is neither a folder nor OWNER/NAME on the hub$"):
        load_splits(HubConfig(name="huggingface", path=path))


def settings():
    return (
        datasets.config.HF_HUB_OFFLINE,
        huggingface_hub.constants.HF_HUB_OFFLINE,
        datasets.utils.are_progress_bars_disabled(),
        huggingface_hub.utils.are_progress_bars_disabled(),
        datasets.utils.logging.get_verbosity(),
        huggingface_hub.utils.logging.get_verbosity(),
    )


@pytest.mark.parametrize("path", ["copy", "missing/repository"])
def test_the_libraries_are_left_as_they_were(connections, folder, monkeypatch, capfd, path):
    before = settings()
    assert before[2:4] == (False, False)
    assert logging.CRITICAL not in before
    monkeypatch.chdir(folder.parent)
    try:
        load_splits(HubConfig(name="huggingface", path=path))
    except ConfigError:
        assert path != "copy"
    assert settings() == before
    assert capfd.readouterr() == ("", "")
    assert connections == []


def test_a_folder_has_no_revisions(folder):
    with pytest.raises(ConfigError, match=r"^dataset.revision: '.*copy' is a folder, which has no"):
        load_splits(HubConfig(name="huggingface", path=str(folder), revision="v1"))


def test_folders_without_a_dataset_are_config_errors(connections, tmp_path):
    config = HubConfig(name="huggingface", path=str(tmp_path / "folder"))
    with pytest.raises(ConfigError, match=r"^dataset.path: there is no folder '.*/folder'; pass "):
        load_splits(config)
    (tmp_path / "folder").mkdir()
    with pytest.raises(ConfigError, match=r"^dataset.path: '.*/folder' holds no files of a datas"):
        load_splits(config)
    (tmp_path / "folder" / "note.xyz").write_text("no dataset")
    with pytest.raises(ConfigError, match=r"^dataset.path: '.*/folder' holds no files of a datas"):
        load_splits(config)


def test_a_damaged_file_is_one_line(connections, folder, capfd):
    (folder / "train.parquet").write_bytes(b"no parquet\n" * 10)
    with pytest.raises(DataError, match=rf"^{folder}: cannot be read: Parquet magic .*") as error:
        load_splits(HubConfig(name="huggingface", path=str(folder)))
    assert "\n" not in str(error.value)
    assert capfd.readouterr() == ("", "")


def test_a_damaged_file_without_a_name_for_it_is_a_data_error(connections, folder):
    for file in folder.iterdir():
        file.unlink()
    (folder / "train.tar").write_bytes(b"no archive" * 1000)
    with pytest.raises(DataError, match=rf"^{folder}: cannot be read: invalid header"):
        load_splits(HubConfig(name="huggingface", path=str(folder)))


def test_an_incomplete_copy_is_refused(connections, folder):
    splits = "\n".join(f"  - name: {name}\n    num_examples: 9" for name in ("train", "test"))
    (folder / "README.md").write_text(f"---\ndataset_info:\n  splits:\n{splits}\n---\n")
    with pytest.raises(DataError, match=rf"^{folder}: cannot be read: .*num_examples=9"):
        load_splits(HubConfig(name="huggingface", path=str(folder)))


@pytest.mark.parametrize("found", [None, types.ModuleType("datasets")])
def test_without_the_library_one_is_told_to_install_it(monkeypatch, folder, found):
    """Nor is a folder of the user's own taken for it."""
    monkeypatch.setitem(sys.modules, "datasets", found)
    with pytest.raises(ConfigError) as error:
        load_splits(HubConfig(name="huggingface", path=str(folder)))
    assert str(error.value) == (
        "dataset: the library datasets is not installed; pip install 'alignctl[hf]'"
    )


def test_the_library_is_not_loaded_before_it_is_needed():
    program = "import alignctl.datasets, sys; assert not {'datasets', 'torch'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", program], check=True)


MAIN, OLD, LOST = "a" * 40, "b" * 40, "c" * 40
FILES = {
    MAIN: {"data/train-0.parquet": table([1, 2]), "data/test-0.parquet": table([3, 4])},
    OLD: {"data/train-0.parquet": table([5, 6]), "data/test-0.parquet": table([7, 8])},
    LOST: {},
}


class _Hub(BaseHTTPRequestHandler):
    """What of the hub the library asks; owner/gated and owner/missing are what they are called."""

    def do_GET(self):
        self.server.asked.append(self.path)
        path = self.path.partition("?")[0].strip("/").split("/")
        if path[:2] == ["api", "datasets"]:
            self._api("/".join(path[2:4]), path[4:])
        elif path[0] == "datasets" and path[3] == "resolve":
            self._file("/".join(path[1:3]), path[4], "/".join(path[5:]))
        else:
            self._answer(404)

    do_HEAD = do_GET  # noqa: N815

    def do_POST(self):
        """Of some paths, which are files and which folders; asked by older versions alone."""
        body = self.rfile.read(int(self.headers["Content-Length"])).decode()
        files = FILES[self.path.rpartition("/")[2]]
        found = [
            {"type": "file" if path in files else "directory", "path": path, "size": 0, "oid": ""}
            for path in parse_qs(body)["paths"]
            if path in {"data", *files}
        ]
        self._answer(200, json.dumps(found).encode())

    def _api(self, name, rest):
        if name == "owner/missing":
            self._answer(401, error="RepoNotFound")
        elif rest[:1] == ["tree"]:
            inside = "/".join(rest[2:])
            files = FILES[rest[1]].items()
            found = [
                {"type": "file", "path": path, "size": len(data), "oid": "c" * 40}
                for path, data in files
                if path.startswith(inside)
            ]
            if inside:
                self._answer(200, json.dumps(found).encode())
            else:
                top = [{"type": "directory", "path": "data", "size": 0, "oid": "c" * 40}]
                self._answer(200, json.dumps(top).encode())
        elif (commit := self._commit(rest[1] if rest else "main")) is None:
            self._answer(404, error="RevisionNotFound")
        else:
            siblings = [{"rfilename": path} for path in FILES[commit]]
            about = {"id": name, "_id": "1", "sha": commit, "private": False, "tags": []}
            self._answer(200, json.dumps({**about, "siblings": siblings}).encode())

    def _file(self, name, revision, path):
        commit = self._commit(revision)
        if name == "owner/gated":
            self._answer(401, error="GatedRepo")
        elif commit == LOST:
            self._answer(401, error="RepoNotFound")
        elif commit is None:
            self._answer(404, error="RevisionNotFound")
        elif path in FILES[commit]:
            self._answer(200, FILES[commit][path], commit=commit)
        else:
            self._answer(404, error="EntryNotFound", commit=commit)

    def _commit(self, revision):
        commit = {"main": MAIN, "old": OLD, "lost": LOST}.get(revision, revision)
        return commit if commit in FILES else None

    def _answer(self, status, body=b"{}", *, error=None, commit=None):
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.send_header("ETag", f'"{hashlib.sha1(body).hexdigest()}"')
        if error is not None:
            self.send_header("X-Error-Code", error)
        if commit is not None:
            self.send_header("X-Repo-Commit", commit)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, *arguments):
        pass


@pytest.fixture(scope="module")
def hub():
    """A hub of our own on this machine; `asked` are the paths it was asked for."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Hub)
    server.asked = []
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="module")
def answers(hub, tmp_path_factory):
    """A function of configs: what becomes of each in one new process, and what it asked the hub."""
    home = tmp_path_factory.mktemp("home")
    program = (
        "import json, sys\n"
        "from alignctl.config.dataset_configs import HubConfig\n"
        "from alignctl.datasets import load_images\n"
        "from alignctl.errors import AlignctlError\n"
        "for line in sys.stdin:\n"
        "    try:\n"
        "        images = load_images(HubConfig(**json.loads(line)), 'train').images\n"
        "        print(json.dumps(images[:, 0, 0, 0].tolist()), flush=True)\n"
        "    except AlignctlError as error:\n"
        "        print(json.dumps(f'{type(error).__name__}: {error}'), flush=True)\n"
    )
    environment = {
        **{key: value for key, value in os.environ.items() if not key.startswith("HF_")},
        "HF_HOME": str(home),
        "HF_ENDPOINT": f"http://127.0.0.1:{hub.server_port}",
    }

    def ask(*configs):
        process = subprocess.Popen(
            [sys.executable, "-W", "error", "-c", program],
            env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        found = []
        for config in configs:
            hub.asked.clear()
            process.stdin.write(json.dumps({"name": "huggingface", **config}) + "\n")
            process.stdin.flush()
            found.append((json.loads(process.stdout.readline()), bool(hub.asked)))
        _, errors = process.communicate()
        assert errors == ""
        return found

    return ask


def test_what_is_fetched_once_is_read_from_the_cache(answers):
    good, fetch = {"path": "owner/good"}, {"path": "owner/good", "download": True}
    (refusal, asked), fetched = answers(good, fetch)
    assert refusal.startswith("ConfigError: dataset.path: owner/good is no folder and is not in")
    assert not asked
    assert fetched == ([1, 2], True)
    for cached in answers(good, fetch, {**good, "revision": "main"}, {**good, "revision": MAIN}):
        assert cached == ([1, 2], False)


def test_a_revision_is_never_replaced_by_another_in_the_cache(answers):
    some = {"path": "owner/versioned"}
    fetch, old = {**some, "download": True}, {**some, "revision": "old"}
    first, missing, fetched, cached, newest, commit, newest_again, lost = answers(
        fetch, old, {**old, "download": True}, old, some, {**some, "revision": OLD}, fetch,
        {**fetch, "revision": "lost"},
    )  # fmt: skip
    assert first == ([1, 2], True)
    name = "ConfigError: dataset.path: owner/versioned at revision 'old' is no folder and is not in"
    assert missing[0].startswith(name)
    assert missing[0].endswith(f", or dataset.revision={MAIN}, which is there")
    assert not missing[1]
    assert fetched == ([5, 6], True)
    assert cached == commit == ([5, 6], False)
    name = "ConfigError: dataset.path: the newest owner/versioned is no folder and is not in"
    assert newest[0].startswith(name)
    assert newest[0].endswith(f", or dataset.revision={OLD}, which is there")
    assert newest_again == ([1, 2], True)
    assert lost[0].startswith("DataError: dataset.download: owner/versioned cannot be fetched from")
    assert f": commit {LOST} did not come; " in lost[0]


def test_what_cannot_be_had_from_the_hub_is_one_line(answers, hub):
    page = f"http://127.0.0.1:{hub.server_port}/datasets/owner"
    gated, missing, revision = answers(
        {"path": "owner/gated", "download": True},
        {"path": "owner/missing", "download": True},
        {"path": "owner/other", "download": True, "revision": "v9"},
    )
    by_hand = "get its files in another way and pass dataset.path=DIR for their folder"
    beginning = f"DataError: dataset.download: owner/gated cannot be fetched from {page}/gated: "
    assert gated[0].startswith(beginning)
    assert "gated" in gated[0].removeprefix(beginning)
    log_in = "accept its terms there and log in with 'hf auth login', or "
    assert gated[0].endswith(f"; {log_in}{by_hand}")
    assert missing[0].startswith("DataError: dataset.download: owner/missing cannot be fetched")
    assert revision[0].startswith("DataError: dataset.download: owner/other cannot be fetched")
    for reason, asked in (gated, missing, revision):
        assert "\n" not in reason
        assert reason.endswith(by_hand)
        assert asked
