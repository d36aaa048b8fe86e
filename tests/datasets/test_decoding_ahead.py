import gc
import multiprocessing
import os
import random
import signal
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from alignctl.config.dataset_configs import ImageFolderConfig
from alignctl.datasets import load_images, open_images
from alignctl.datasets.decoding_ahead import decoded_ahead, num_decoding_processes
from alignctl.datasets.streamed import decode_centres
from alignctl.errors import DataError, LaunchError

SHAPE = (2, 3)
BATCHES = [np.arange(70), np.arange(200, 205), np.empty(0, np.int64), np.arange(90)[::-1],
           np.arange(40, 2200)]  # fmt: skip
BY_ALL = [0, 1, 3]


def number_of(ids, out):
    """Every pixel of an image is its id, modulo 256."""
    out[:] = (ids % 256)[:, None, None]


def read(batches, decode, num_processes, **options):
    arguments = {"shape": SHAPE, "take": lambda ids, pixels: (ids, pixels.copy()), **options}
    return decoded_ahead(batches, decode, num_processes=num_processes, **arguments)


def children():
    return {process.pid for process in multiprocessing.active_children()}


@pytest.mark.parametrize("num_processes", BY_ALL)
def test_batches_come_whole_and_in_order(num_processes):
    found = list(read(BATCHES, number_of, num_processes))
    assert len(found) == len(BATCHES)
    for (ids, pixels), expected in zip(found, BATCHES, strict=True):
        np.testing.assert_array_equal(ids, expected)
        assert pixels.shape == (len(expected), *SHAPE)
        assert (pixels == (expected % 256)[:, None, None]).all()
    assert not children()


@pytest.mark.parametrize("num_processes", BY_ALL)
def test_no_batches_start_nothing(num_processes):
    assert list(read([], number_of, num_processes)) == []
    ((_, pixels),) = read([np.empty(0, np.int64)], number_of, num_processes)
    assert pixels.shape == (0, *SHAPE)


@pytest.mark.parametrize("num_processes", [1, 3])
def test_two_batches_are_decoded_while_one_is_worked_on_and_no_more(num_processes, tmp_path):
    def note(ids, out):
        (tmp_path / str(ids[0])).touch()

    batches = [np.full(2, number) for number in range(6)]
    with closing(read(batches, note, num_processes)) as found:
        for number in range(3):
            next(found)
            deadline = time.monotonic() + 60
            while not (tmp_path / str(number + 2)).exists():
                assert time.monotonic() < deadline
                time.sleep(0.01)
            time.sleep(0.1)
            assert not (tmp_path / str(number + 3)).exists()


def test_the_first_batch_is_shared_by_all_processes(tmp_path):
    def wait_for_the_others(ids, out):
        (tmp_path / str(os.getpid())).touch()
        while len(list(tmp_path.iterdir())) < 3:
            time.sleep(0.01)

    ((_, pixels),) = read([np.arange(9)], wait_for_the_others, 3)
    assert len(pixels) == 9


@pytest.mark.parametrize("num_processes", BY_ALL)
def test_it_is_told_that_images_have_come(num_processes):
    times = []
    list(read([np.arange(100)] * 3, number_of, num_processes, received=lambda: times.append(1)))
    assert len(times) == 3 * 7


@pytest.mark.parametrize("num_processes", BY_ALL)
def test_the_first_error_is_raised_as_itself_when_its_batch_is_due(num_processes):
    def fail(ids, out):
        number_of(ids, out)
        for bad in ids[np.isin(ids, (140, 155, 290))]:
            raise DataError(f"image {bad}: größer als erlaubt\n(zwei Zeilen)")

    batches = [np.arange(100), np.arange(100, 200), np.arange(200, 300)]
    with closing(read(batches, fail, num_processes)) as found:
        next(found)
        with pytest.raises(DataError) as error:
            next(found)
    assert str(error.value) == "image 140: größer als erlaubt\n(zwei Zeilen)"
    assert not children()


def test_an_error_of_a_library_arrives_with_its_class_and_message():
    class UnpicklableError(Exception):
        def __init__(self, lock):
            super().__init__("cannot")
            self.lock = lock

    def fail(ids, out):
        raise UnpicklableError(sys.stdout)

    with pytest.raises(RuntimeError, match=r"^UnpicklableError: cannot$"):
        list(read([np.arange(3)], fail, 1))


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV])
def test_a_process_that_dies_is_one_line_and_takes_the_others_with_it(number):
    def work(ids, out):
        if ids[0] == 40:
            signal.signal(signal.SIGSEGV, signal.SIG_DFL)
            os.kill(os.getpid(), number)
        number_of(ids, out)

    batches = [np.arange(20), np.arange(20, 40), np.arange(40, 60)]
    with closing(read(batches, work, 2)) as found:
        next(found)
        next(found)
        with pytest.raises(LaunchError) as error:
            next(found)
    assert str(error.value) == (
        "one of the processes that decode images (dataset.workers) died with signal "
        f"{number.value} ({number.name}); fewer of them need less memory"
    )
    assert not children()


def test_a_process_that_ends_by_itself_is_one_line():
    with pytest.raises(LaunchError, match=r"\(dataset.workers\) died with code 3$"):
        list(read([np.arange(3)], lambda ids, out: os._exit(3), 1))


def test_processes_that_cannot_be_started_are_one_line(monkeypatch):
    def refuse():
        raise OSError(12, "Cannot allocate memory")

    monkeypatch.setattr(os, "fork", refuse)
    message = r"\(dataset.workers\) cannot be started: Cannot allocate memory$"
    with pytest.raises(LaunchError, match=message):
        list(read([np.arange(3)], number_of, 1))


def test_signals_to_a_whole_job_do_not_end_the_processes():
    def work(ids, out):
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGHUP):
            os.kill(os.getpid(), number)
        number_of(ids, out)

    assert len(list(read([np.arange(40)] * 3, work, 2))) == 3


def open_files():
    """How many this process has, where the system tells."""
    folder = Path("/proc/self/fd")
    return len(list(folder.iterdir())) if folder.is_dir() else None


def test_leaving_early_ends_the_processes_and_frees_what_they_had():
    gc.collect()  # of other tests, which may have left files to it
    before = open_files()
    with closing(read([np.arange(20)] * 50, number_of, 2)) as found:
        next(found)
        assert len(children()) == 2
    assert not children()
    assert open_files() == before


def test_what_takes_the_pixels_may_fail():
    def fail(ids, pixels):
        raise ValueError("not these")

    with pytest.raises(ValueError, match="not these"):
        list(read(BATCHES, number_of, 2, take=fail))
    assert not children()


ORPHANS = """
import os, signal, sys
from pathlib import Path
import numpy as np
from alignctl.datasets.decoding_ahead import decoded_ahead

def work(ids, out):
    (Path(sys.argv[1]) / str(os.getpid())).touch()

stream = decoded_ahead([np.arange(32)] * 9, work, shape=(1,), take=lambda *_: None, num_processes=2)
next(stream)
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_the_processes_end_when_their_parent_is_killed(tmp_path):
    command = [sys.executable, "-c", ORPHANS, str(tmp_path)]
    done = subprocess.run(command, check=False, stdout=subprocess.PIPE, timeout=60)
    # all have closed the pipe: nobody is left
    assert done.returncode == -signal.SIGKILL
    assert list(tmp_path.iterdir())


def test_no_random_state_is_read_or_changed():
    random.seed(1)
    np.random.seed(1)
    before = random.getstate(), np.random.get_state()[1].copy()
    list(read(BATCHES, number_of, 2))
    assert random.getstate() == before[0]
    assert (np.random.get_state()[1] == before[1]).all()


def test_the_number_of_processes_follows_cores_on_a_gpu_alone():
    assert num_decoding_processes(None, threads=6, on_gpu=True) == 6
    assert num_decoding_processes(None, threads=64, on_gpu=True) == 16
    assert num_decoding_processes(None, threads=64, on_gpu=False) == 1
    for configured in (0, 1, 40):
        assert num_decoding_processes(configured, threads=6, on_gpu=True) == configured


@pytest.mark.parametrize("num_processes", BY_ALL)
@pytest.mark.parametrize("resize", [None, 24])
def test_images_without_augmentation_are_those_in_memory(photo_folder, num_processes, resize):
    config = ImageFolderConfig(
        path=photo_folder, image_size=20, resize=resize, in_memory=False, workers=num_processes
    )
    images, expected = open_images(config, "train"), load_images(config, "train")
    passes = [images.ids[:30], images.ids[30:]]
    found = read(passes, decode_centres(images), num_processes, shape=(20, 20, 3))
    np.testing.assert_array_equal(np.concatenate([p for _, p in found]), expected.images)


@pytest.mark.parametrize("num_processes", BY_ALL)
def test_a_damaged_image_is_named(tmp_path, num_processes):
    for split in ("train", "test"):
        for name in ("ant", "bee"):
            (tmp_path / split / name).mkdir(parents=True)
            Image.new("RGB", (8, 8)).save(tmp_path / split / name / "1.png")
    (tmp_path / "train/bee/1.png").write_bytes(b"\x89PNG\r\n\x1a\n cut off")
    config = ImageFolderConfig(path=tmp_path, image_size=4, in_memory=False)
    images = open_images(config, "train")
    with pytest.raises(DataError, match=r"train/bee/1.png: not a readable image: no known format$"):
        list(read([images.ids], decode_centres(images), num_processes, shape=(4, 4, 3)))


PRINTS_AND_DECODES = """
import sys
from contextlib import closing
import numpy as np
from alignctl.datasets.decoding_ahead import decoded_ahead

other = open(1, "w", closefd=False)  # as of a library, and buffered as well
def decode(ids, out):
    out[:] = 0
for number in range(2):
    print("line", number)
    other.write(f"other line {number}\\n")
    batches = [np.arange(20), np.arange(20)]
    options = {"shape": (2,), "take": lambda ids, pixels: len(ids), "num_processes": 2}
    with closing(decoded_ahead(batches, decode, **options)) as found:
        assert list(found) == [20, 20] if number else next(found) == 20
"""


def test_what_is_not_written_yet_is_written_once_whoever_is_forked(tmp_path):
    """Both ways in which the processes end: when all is decoded, and before."""
    with (tmp_path / "log").open("w") as log:
        done = subprocess.run(
            [sys.executable, "-c", PRINTS_AND_DECODES],
            check=False,
            stdout=log,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        )
    assert (done.returncode, done.stderr) == (0, "")
    lines = sorted((tmp_path / "log").read_text().splitlines())
    assert lines == ["line 0", "line 1", "other line 0", "other line 1"]
