"""Images decoded ahead of time by processes beside this one, into memory that they share.

Not torch's DataLoader: pixels are written where the batch will be read, so nothing is sent, joined
or put under /dev/shm, which is small in containers; a damaged image is the error that it would be
in this process; a process that dies is an error where its images are awaited, not in the midst of
another line; and no random state is touched.
"""

import contextlib
import gc
import math
import mmap
import multiprocessing
import os
import signal
import warnings
from collections import defaultdict
from collections.abc import Callable, Generator, Sequence
from multiprocessing.connection import Connection, wait
from types import TracebackType
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from alignctl.errors import AlignctlError, LaunchError

T = TypeVar("T")
Decode = Callable[[NDArray[np.int64], NDArray[np.uint8]], None]
"""Writes the pixels of images (m,), by their ids, into an array (m, ...)."""

_NUM_SLOTS = 2  # batches in memory: so many are decoded ahead
_IMAGES_PER_PIECE = 16
_MOST_PIECES = 64  # of a batch: so few numbers fit into the smallest pipe, where no write blocks
_PIECE_BYTES = 8
_MOST_DEFAULT_PROCESSES = 16
_GONE_WITHIN_S = 5.0
_NAME = "processes that decode images (dataset.workers)"
# A scheduler or a terminal sends them to every process: whoever started these decides.
_IGNORED = {signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1}


def num_decoding_processes(configured: int | None, *, threads: int, on_gpu: bool) -> int:
    """How many processes decode for one that has so many threads, unless it is configured."""
    if configured is not None:
        return configured
    # without a GPU the networks need the cores
    return min(threads, _MOST_DEFAULT_PROCESSES) if on_gpu else 1


def decoded_ahead(
    batches: Sequence[NDArray[np.int64]],
    decode: Decode,
    *,
    shape: tuple[int, ...],
    take: Callable[[NDArray[np.int64], NDArray[np.uint8]], T],
    num_processes: int,
    received: Callable[[], None] = lambda: None,
) -> Generator[T, None, None]:
    """What `take` makes of the pixels of each batch, in order.

    batches: ids (n,), n may differ. decode: called for parts of batches in processes forked from
    this one, or here where there are to be none. shape: of one image's pixels. take: given the ids
    and pixels (n, *shape), which are overwritten once it returns. received: called whenever some
    images have come.

    The processes end with this generator, which is to be closed, or with this process.
    Raises the error of the first image that cannot be decoded when its batch is due; LaunchError
    where a process dies.
    """
    if num_processes == 0:
        for ids in batches:
            pixels = np.empty((len(ids), *shape), dtype=np.uint8)
            for rows in _pieces(len(ids), 1):
                decode(ids[rows], pixels[rows])
                received()
            yield take(ids, pixels)
        return
    with _Decoders(batches, decode, shape, num_processes) as decoders:
        for number, ids in enumerate(batches):
            taken = take(ids, decoders.await_batch(number, received))
            decoders.ask_for_batch(number + _NUM_SLOTS)
            yield taken


class _Decoders:
    """Processes that decode batches piece by piece into slots; gone when this closes.

    They know all batches, for they are forked; what they are told is the numbers of the pieces
    that may be decoded, through a pipe that all read. To the system a read or write of a few bytes
    is one step, so whoever is killed leaves neither half a number nor a lock behind; and where this
    process is gone, the pipe ends.
    """

    def __init__(
        self,
        batches: Sequence[NDArray[np.int64]],
        decode: Decode,
        shape: tuple[int, ...],
        num_processes: int,
    ) -> None:
        self._batches, self._decode = batches, decode
        rows = [_pieces(len(ids), num_processes) for ids in batches]
        self._pieces = [(number, part) for number, parts in enumerate(rows) for part in parts]
        self._first = np.cumsum([0, *map(len, rows)])
        self._missing = [len(parts) for parts in rows]
        self._errors: dict[int, dict[int, Exception]] = defaultdict(dict)
        longest = max(map(len, batches), default=0)
        size = _NUM_SLOTS * longest * math.prod(shape)
        memory = mmap.mmap(-1, max(size, 1))  # anonymous: forked processes share it
        pixels = np.frombuffer(memory, dtype=np.uint8, count=size)
        self._slots = pixels.reshape(_NUM_SLOTS, longest, *shape)
        self._num_processes = min(num_processes, len(self._pieces))
        self._processes: dict[Connection, multiprocessing.process.BaseProcess] = {}

    def __enter__(self) -> "_Decoders":
        self._asked, self._asks = os.pipe()
        for number in range(_NUM_SLOTS):
            self.ask_for_batch(number)
        try:
            self._start()
        except BaseException as error:
            self.__exit__(None, None, None)
            if isinstance(error, OSError):
                raise LaunchError(f"{_NAME} cannot be started: {error.strerror}") from error
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for process in self._processes.values():
            process.kill()  # they hold nothing that could be lost
        for answers, process in self._processes.items():
            process.join(_GONE_WITHIN_S)
            answers.close()
        os.close(self._asked)
        os.close(self._asks)

    def ask_for_batch(self, number: int) -> None:
        """Let a batch be decoded, if there is one of this number; its slot is free from now on."""
        if number < len(self._batches):
            pieces = range(self._first[number], self._first[number + 1])
            os.write(self._asks, b"".join(piece.to_bytes(_PIECE_BYTES, "big") for piece in pieces))

    def await_batch(self, number: int, received: Callable[[], None]) -> NDArray[np.uint8]:
        """The pixels of a batch, once all have come."""
        while self._missing[number]:
            for answers in wait(list(self._processes)):
                piece, error = self._receive(answers)  # type: ignore[arg-type]
                batch, _ = self._pieces[piece]
                self._missing[batch] -= 1
                if error is not None:
                    self._errors[batch][piece] = error
                received()
        errors = self._errors[number]
        if errors:
            raise errors[min(errors)]
        return self._slot(number)

    def _slot(self, number: int) -> NDArray[np.uint8]:
        return self._slots[number % _NUM_SLOTS, : len(self._batches[number])]

    def _receive(self, answers: Connection) -> tuple[int, Exception | None]:
        try:
            answer: tuple[int, Exception | None] = answers.recv()
        except (EOFError, OSError):
            raise LaunchError(_died(self._processes[answers])) from None
        return answer

    def _start(self) -> None:
        context = multiprocessing.get_context("fork")
        # held until it is ignored there: a new process would have this one's handlers
        before = signal.pthread_sigmask(signal.SIG_BLOCK, _IGNORED)
        try:
            with warnings.catch_warnings():
                # Python 3.12: other threads may hold locks; what runs there takes none of theirs
                warnings.simplefilter("ignore", DeprecationWarning)
                for _ in range(self._num_processes):
                    answers, answer = context.Pipe(duplex=False)
                    process = context.Process(target=self._work, args=(answer,), daemon=True)
                    process.start()
                    answer.close()
                    self._processes[answers] = process
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)

    def _work(self, answer: Connection) -> None:
        """What each process does, until the one that started it is gone."""
        for number in _IGNORED:
            signal.signal(number, signal.SIG_IGN)
        os.close(self._asks)
        gc.freeze()  # what was there before is not collected a second time
        with contextlib.suppress(BrokenPipeError):
            while asked := os.read(self._asked, _PIECE_BYTES):
                piece = int.from_bytes(asked, "big")
                answer.send((piece, self._decode_piece(piece)))

    def _decode_piece(self, piece: int) -> Exception | None:
        """Why it could not be decoded, if so."""
        number, rows = self._pieces[piece]
        try:
            self._decode(self._batches[number][rows], self._slot(number)[rows])
        except AlignctlError as error:
            return error
        except Exception as error:  # of a library: some do not pickle
            return RuntimeError(f"{type(error).__name__}: {error}")
        return None


def _pieces(num_images: int, num_processes: int) -> list[slice]:
    """The rows of a batch in parts, at least one for each process where there are enough."""
    share = -(-num_images // num_processes)
    size = max(1, min(_IMAGES_PER_PIECE, share), -(-num_images // _MOST_PIECES))
    return [slice(start, min(start + size, num_images)) for start in range(0, num_images, size)]


def _died(process: multiprocessing.process.BaseProcess) -> str:
    process.join(_GONE_WITHIN_S)
    code = process.exitcode
    if code is None or code >= 0:
        return f"one of the {_NAME} died with code {code}"
    return (
        f"one of the {_NAME} died with signal {-code} ({signal.Signals(-code).name}); "
        "fewer of them need less memory"
    )
