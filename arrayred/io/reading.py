"""Reading runs of pixels: `read_frames` for a band, `Pass` for all bands of a stack, once each.

A piece of a frame is read into a scratch that stays in the processor's cache; there, in a pass, it
is added to the file's SHA-256, and decoded into the caller's band. Every read's count is checked
and the file's stamp compared with the scan's, so that a frame that was cut or rewritten in between
is an error, never wrong numbers.

A pass keeps its files open: opening them again for every band takes twice as long as reading them,
and makes the system forget that it was reading ahead. It is told that files are read in order,
which took a fifth of the time off 100 cold frames of 3 MB; asking for all of a file at once took
nothing off, nor is a thread needed that reads ahead, since one works while another reads.
"""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from threading import local
from types import TracebackType
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from arrayred.errors import FrameError
from arrayred.io.cards import BLOCK
from arrayred.io.encoding import decode, stored_dtype
from arrayred.io.file_sum import FileSum, require_datasum
from arrayred.io.patience import LASTING_HANDLE, patiently
from arrayred.io.sources import Chunks, PixelSource, RemoteChunks, Wanted, unreadable
from arrayred.watching import has_read

Pixels = NDArray[Any]
Told = Mapping[Path, int | None]
PIECE = 256 << 10
"""Bytes of one frame that are read at a time."""
FETCHED = 64 << 20
"""Bytes of plain pixels, of several frames, that are fetched at once of a cache behind a URL."""
_OPEN_FLAGS = os.O_RDONLY | getattr(os, "O_BINARY", 0) | getattr(os, "O_NONBLOCK", 0)
_SPARE_HANDLES = 64
_NO_HANDLE = -1


def read_frames(sources: Sequence[PixelSource], first: int, band: Pixels) -> None:
    """Fill a band with pixels of frames, opening one file at a time.

    Parameters
    ----------
    sources : where the pixels lie.
    first : the number of the first pixel in reading order, from 0.
    band : (frame, ...); as many pixels as it has are read of each frame.

    Raises
    ------
    FrameError
        A file has changed since the scan, has ended early, or cannot be read.
    """
    scratch = np.empty(PIECE, np.uint8)
    step = max(FETCHED // max(band[:1].nbytes, 1), 1) if len(band) else 1
    for start in range(0, len(sources), step):
        some = sources[start : start + step]
        near = _fetched(some, first, band[0].size)
        for source, target in zip(some, band[start : start + step], strict=True):
            chunks = near.get(_far_of(source))
            patiently(partial(_read, source, first, target, scratch, chunks), {errno.ESTALE})


def _read(
    source: PixelSource, first: int, target: Pixels, scratch: Pixels, near: Chunks | None
) -> None:
    """Fill target with pixels of one frame, whose file is open that long."""
    with _opened(source) as handle:
        _File(source, handle).fill(first, target, scratch, near)


def read_rows(source: PixelSource, rows: Sequence[int], out: Pixels) -> None:
    """Fill out (row, x) with single rows of a frame, from 0, its file being opened once.

    Raises
    ------
    FrameError
        As in `read_frames`.
    """
    n_columns = source.shape[1]
    scratch = np.empty(min(PIECE, n_columns * stored_dtype(source.pixels).itemsize), np.uint8)
    with _opened(source) as handle:
        file = _File(source, handle)
        for row, target in zip(rows, out, strict=True):
            first = row * n_columns
            near = _fetched([source], first, n_columns)
            file.fill(first, target, scratch, near.get(_far_of(source)))


def _fetched(
    sources: Sequence[PixelSource], first: int, n_pixels: int
) -> dict[RemoteChunks | None, Chunks]:
    """Return the chunks of caches behind URLs that hold some pixels of frames, by their cache."""
    wanted: dict[RemoteChunks, list[Wanted]] = {}
    for source in sources:
        if source.shelf is not None and source.shelf.far is not None:
            wanted.setdefault(source.shelf.far, []).extend(source.shelf.wanted(first, n_pixels))
    return {far: far.fetched(chunks) for far, chunks in wanted.items()}


def _far_of(source: PixelSource) -> RemoteChunks | None:
    return None if source.shelf is None else source.shelf.far


class Pass:
    """One pass over frames, as a stack (frame, pixel, 1) whose bands may end anywhere.

    Files stay open from entering to leaving, unless they are more than the system lets a process
    open.

    Parameters
    ----------
    sources : where the pixels of each frame lie, all of one shape.
    dtype : of the pixels handed out.
    summed : files whose SHA-256 is taken on the way, each with its DATASUM, to be compared, or
        None. Every band must then be read, each after the one before it was begun.
    """

    def __init__(
        self, sources: Sequence[PixelSource], dtype: np.dtype[Any], summed: Told | None = None
    ) -> None:
        n_rows, n_columns = sources[0].shape
        self.shape, self.dtype = (len(sources), n_rows * n_columns, 1), dtype
        self._sources = tuple(sources)
        self._told = summed or {}
        self._sums = [_sum_of(source, self._told) for source in sources]
        self._files: list[_File] = []
        self._kept = ExitStack()
        self._mine = local()

    def __enter__(self) -> Self:
        """Open the files, and sum what stands before their pixels."""
        pairs = list(zip(self._sources, self._sums, strict=True))
        with ExitStack() as kept:
            if len(pairs) <= _most_handles():
                self._files = [_File(s, kept.enter_context(_opened(s)), t) for s, t in pairs]
                for file in self._files:
                    _announce(file.handle)
            for file in self._each():
                file.sum_up_to(file.source.offset, self._scratch())
            self._kept = kept.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close the files; each must still be what it was."""
        self._kept.__exit__(kind, error, trace)

    def read(self, first: int, stop: int, out: Pixels) -> None:
        """Read pixels first..stop of every frame into out (frame, pixel, 1)."""
        scratch = self._scratch()
        for file, target in zip(self._each(), out, strict=True):
            file.fill(first, target[: stop - first], scratch)

    def give_up(self) -> None:
        """Let no thread wait any more: the band it waits for will not be read."""
        for total in self._sums:
            if total is not None:
                total.give_up()

    def checksums(self) -> dict[Path, str]:
        """Return the SHA-256 of the files that were summed; every band must have been read.

        Raises
        ------
        FrameError
            The data of a file do not add up to its DATASUM.
        """
        found = {}
        for file in self._each():
            file.sum_up_to(file.source.stamp.size, self._scratch())
            told = self._told.get(file.source.path)
            if file.sum is not None and told is not None:
                require_datasum(file.source.path, file.sum.data_sum, told)
            if file.sum is not None:
                found[file.source.path] = file.sum.hexdigest()
        return found

    def _each(self) -> Iterator[_File]:
        """Yield each frame's file, open until the next is asked for."""
        if self._files:
            yield from self._files
            return
        for source, total in zip(self._sources, self._sums, strict=True):
            with _opened(source) as handle:
                yield _File(source, handle, total)

    def _scratch(self) -> Pixels:
        """Return the scratch of this thread."""
        if not hasattr(self._mine, "scratch"):
            self._mine.scratch = np.empty(PIECE, np.uint8)
        scratch: Pixels = self._mine.scratch
        return scratch


class PassImage:
    """The only frame of a pass as an image (pixel, 1) that is read when it is sliced: float64.

    Parameters
    ----------
    frames : a pass over one frame.
    """

    def __init__(self, frames: Pass) -> None:
        self._frames = frames

    def __getitem__(self, pixels: slice) -> Pixels:
        """Return pixels first..stop."""
        values = np.empty((1, pixels.stop - pixels.start, 1), self._frames.dtype)
        self._frames.read(pixels.start, pixels.stop, values)
        image: Pixels = values[0].astype(np.float64, copy=False)
        return image


class _File(NamedTuple):
    """An open file: the frame in it, the handle, and the sum of what was read if it is taken."""

    source: PixelSource
    handle: int
    sum: FileSum | None = None

    def fill(self, first: int, target: Pixels, scratch: Pixels, near: Chunks | None = None) -> None:
        """Fill target with pixels from number first on, in reading order."""
        if self.source.shelf is not None:
            self.source.shelf.fill(target, first, self.source.pixels, near)
            return
        stored = stored_dtype(self.source.pixels)
        step = len(scratch) // stored.itemsize
        whole = (
            target.reshape(-1) if target.flags.c_contiguous else np.empty(target.size, target.dtype)
        )
        for start in range(0, whole.size, step):
            part = whole[start : start + step]
            raw = scratch[: part.size * stored.itemsize]
            self._read(raw, self.source.offset + (first + start) * stored.itemsize)
            decode(raw.view(stored), part, self.source.pixels)
        if not target.flags.c_contiguous:
            target[...] = whole.reshape(target.shape)

    def sum_up_to(self, offset: int, scratch: Pixels) -> None:
        """Add to the sum, if one is taken, what stands before an offset and is not in it."""
        while self.sum is not None and self.sum.position < offset:
            self._read(scratch[: offset - self.sum.position], self.sum.position)

    def _read(self, raw: Pixels, offset: int) -> None:
        """Fill raw from an offset, looping over short reads, and add it to the sum."""
        done, view = 0, raw.data
        while done < len(view):
            at = view[done:], offset + done
            count = patiently(partial(_read_at, self.handle, *at), LASTING_HANDLE)
            if count == 0:
                raise FrameError(
                    "The file ends within its pixels", path=self.source.path, hint="Copy it again."
                )
            done += count
        has_read(done)
        if self.sum is not None:
            self.sum.add(raw, offset)


def _sum_of(source: PixelSource, told: Told) -> FileSum | None:
    """Return the sum to be taken of a file, if one is, of its data too where DATASUM is told."""
    if source.path not in told:
        return None
    stop = source.offset + -(-source.n_bytes // BLOCK) * BLOCK
    return FileSum(None if told[source.path] is None else range(source.offset, stop))


@contextmanager
def _opened(source: PixelSource) -> Iterator[int]:
    """Open a frame's file; it must be, before and after, what it was at the scan."""
    if source.shelf is not None:  # reads from its cache by itself
        yield _NO_HANDLE
        return
    try:
        handle = patiently(partial(os.open, source.path, _OPEN_FLAGS), LASTING_HANDLE)
        try:
            source.require_unchanged(os.fstat(handle))
            yield handle
            source.require_unchanged(os.fstat(handle))
        finally:
            os.close(handle)
    except OSError as error:
        raise unreadable(source.path, error) from error


def _announce(handle: int) -> None:
    """Tell the system, where it listens, that a file will be read from start to end."""
    if handle != _NO_HANDLE and hasattr(os, "posix_fadvise"):
        os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_SEQUENTIAL)


def _read_at(handle: int, view: memoryview, offset: int) -> int:
    """Read into a buffer at an offset; where the system has no preadv, seek and read."""
    if sys.platform != "win32":
        return os.preadv(handle, [view], offset)
    os.lseek(handle, offset, os.SEEK_SET)
    piece = os.read(handle, len(view))
    view[: len(piece)] = piece
    return len(piece)


def _most_handles() -> int:
    """Return how many files one pass may hold open."""
    if sys.platform == "win32":
        return 512 - _SPARE_HANDLES
    from resource import RLIMIT_NOFILE, getrlimit

    return int(getrlimit(RLIMIT_NOFILE)[0]) - _SPARE_HANDLES
