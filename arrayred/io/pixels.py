"""Read bands of rows from any number of frames of one shape: `FrameStack`.

Frames are uncompressed images (`plain_pixels` decodes others first). No file handle stays open: a
stack pickles as paths and offsets. A `Pass` keeps files open for the length of one pass.
"""

from __future__ import annotations

import errno
import hashlib
import os
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from functools import cache, partial
from pathlib import Path
from threading import Condition, Lock, local
from types import TracebackType
from typing import TYPE_CHECKING, Any, NamedTuple, Self
from weakref import finalize

import numpy as np
from numpy.typing import NDArray

from arrayred.bands import run_in_threads
from arrayred.config.toml import READ_FLAGS
from arrayred.errors import DISK_FULL_ERRNOS, ArrayredError, FrameError, MismatchError, StorageError
from arrayred.io.header import BLOCK, ones_complement_sum
from arrayred.io.remote import Address, Stamp, remote_address
from arrayred.io.scan import (
    TRANSIENT_OPEN_FILE,
    ImageHDU,
    Kind,
    PixelArray,
    PixelSource,
    decode,
    dtype_of,
    pixels_of_planes,
    put_together,
    require_datasum,
    retry,
    stored_dtype,
    unreadable,
)
from arrayred.progress import count_read

if TYPE_CHECKING:
    from arrayred.io.remote import LocalCopy

Pixels = NDArray[Any]
Index = int | slice | NDArray[np.integer]


class FrameStack:
    """Frames of one shape, read by bands of rows.

    Parameters
    ----------
    sources : position and encoding of the pixels of each frame, all of one shape.

    Raises
    ------
    MismatchError
        Frames differ in shape.
    """

    ndim = 3

    def __init__(self, sources: Sequence[PixelSource]) -> None:
        first = sources[0]
        for source in sources:
            if source.shape != first.shape:
                raise MismatchError(
                    f"The frame has {source.shape} pixels, but {first.path.name} has {first.shape}",
                    path=source.path,
                    keyword="NAXIS",
                    value=source.shape,
                    hint="Stack frames of the same shape only.",
                )
        self.sources = tuple(sources)
        self.shape = (len(sources), *first.shape)
        self.dtype = np.result_type(*{dtype_of(source.pixels) for source in sources})
        self.step = max(source.step for source in sources)

    def __repr__(self) -> str:
        """Return shape, dtype and the first file's name."""
        return f"FrameStack({self.shape}, {self.dtype}, {self.sources[0].path.name} ...)"

    def __getitem__(self, key: tuple[Index, Index, Index]) -> Pixels:
        """Return pixels as numpy would; all rows from the first to the last requested are read.

        Parameters
        ----------
        key : for frames, rows and columns each a number, a slice, or (for one of them) an array.
        """
        frames, rows, columns = key
        picked, wanted = np.arange(self.shape[0])[frames], np.arange(self.shape[1])[rows]
        first, stop = (int(wanted.min()), int(wanted.max()) + 1) if wanted.size else (0, 0)
        sources = [self.sources[i] for i in np.atleast_1d(picked)]
        band = np.empty((len(sources), stop - first, self.shape[2]), self.dtype)
        read_band(sources, first * self.shape[2], band)
        if isinstance(rows, slice) and wanted.size:
            rows_of_band: Index = slice(int(wanted[0]) - first, None, rows.step)
        else:
            rows_of_band = wanted - first
        return (band if picked.ndim else band[0])[..., rows_of_band, :][..., columns]

    def read(self, first: int, stop: int, out: Pixels) -> None:
        """Read rows first..stop (from 0, half-open) of every frame into out (frame, row, x).

        Raises
        ------
        FrameError
            A file has changed since the scan, has ended early, or cannot be read.
        """
        read_band(self.sources, first * self.shape[2], out[:, : stop - first])

    def rows(self, frame: int, wanted: Sequence[int]) -> Pixels:
        """Return single rows (row, x) of a frame, in any order; rows between them are not read."""
        out = np.empty((len(wanted), self.shape[2]), self.dtype)
        read_rows(self.sources[frame], wanted, out)
        return out

    @property
    def token(self) -> str:
        """Return a hash of paths, stamps, offsets and encodings, which changes when a file does."""
        text = repr(
            [(str(i.path), i.stamp, i.offset, i.shape, i.pixels, i.cached) for i in self.sources]
        )
        return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()

    def __dask_tokenize__(self) -> str:
        """Return the token, for dask's deterministic names."""
        return self.token


# Reading runs of pixels: `read_band` for a band, `Pass` for all bands of a stack, once each.
#
# A piece of a frame is read into a scratch buffer that stays in the processor's cache; there, in a
# pass, it is added to the file's SHA-256, and decoded into the caller's band. The byte count of
# every read is checked and the file's stamp compared with the scan's, so that a frame that was
# truncated or rewritten in between is an error, never wrong numbers.
#
# A pass keeps its files open: opening them again for every band takes twice as long as reading
# them, and loses the system's read-ahead. The system is advised that files are read in order,
# which took a fifth of the time off 100 cold frames of 3 MB; advising that all of a file will be
# needed gained nothing, nor is a read-ahead thread needed, since one thread computes while another
# reads.

DatasumByPath = Mapping[Path, int | None]
READ_PIECE = 256 << 10
"""Bytes of one frame read at a time."""
ARRAY_BYTES = 8 << 20
"""Bytes of pixels, of several frames, read at once from a cache."""
_SPARE_HANDLES = 64
_CHUNK_FRAMES = 3  # of a cache
_NO_HANDLE = -1


def read_band(sources: Sequence[PixelSource], first: int, band: Pixels) -> None:
    """Fill a band with pixels of frames, opening one file at a time.

    Parameters
    ----------
    sources : position and encoding of the pixels of each frame.
    first : the number of the first pixel in reading order, from 0.
    band : (frame, ...); filled entirely.

    Raises
    ------
    FrameError
        A file has changed since the scan, has ended early, or cannot be read.
    """
    read_cached(sources, first, band)
    scratch = np.empty(READ_PIECE, np.uint8)
    for source, target in zip(sources, band, strict=True):
        if source.cached is None:
            retry(partial(_read_frame, source, first, target, scratch), {errno.ESTALE})


def read_cached(sources: Sequence[PixelSource], first: int, band: Pixels) -> None:
    """Fill those frames of a band that lie in caches; parameters as in `read_band`.

    Frames of one array are read together, some megabytes at a time: chunks hold several frames.
    """
    numbers: dict[PixelArray, list[int]] = {}
    for i, source in enumerate(sources):
        if source.cached is not None:
            numbers.setdefault(source.cached.array, []).append(i)
    for array, all_of_it in numbers.items():
        step = max(ARRAY_BYTES // max(band[0].nbytes, 1) // _CHUNK_FRAMES, 1) * _CHUNK_FRAMES
        for start in range(0, len(all_of_it), step):
            part = [(i, sources[i], cached) for i in all_of_it[start : start + step]
                    if (cached := sources[i].cached) is not None]  # fmt: skip
            found = array.read([cached.index for _, _, cached in part], first, band[0].size)
            for values, (i, source, cached) in zip(found, part, strict=True):
                cached.decode(values.reshape(band[i].shape), band[i], source.pixels)


def _read_frame(source: PixelSource, first: int, target: Pixels, scratch: Pixels) -> None:
    """Fill target with pixels of one frame, opening and closing its file."""
    with _opened_source(source) as handle:
        _OpenFile(source, handle).fill(first, target, scratch)


def read_rows(source: PixelSource, rows: Sequence[int], out: Pixels) -> None:
    """Fill out (row, x) with single rows of a frame, numbered from 0; its file is opened once.

    From a cache all rows between the first and the last one are read, in as few chunks.

    Raises
    ------
    FrameError
        As in `read_band`.
    """
    n_columns = source.shape[1]
    if source.cached is not None:
        top = min(rows)
        band = np.empty((1, max(rows) + 1 - top, n_columns), out.dtype)
        read_cached([source], top * n_columns, band)
        out[...] = band[0, [row - top for row in rows]]
        return
    scratch = np.empty(min(READ_PIECE, n_columns * stored_dtype(source.pixels).itemsize), np.uint8)
    with _opened_source(source) as handle:
        file = _OpenFile(source, handle)
        for row, target in zip(rows, out, strict=True):
            file.fill(row * n_columns, target, scratch)


class Pass:
    """One pass over frames, as a stack (frame, pixel, 1) whose bands may end anywhere.

    Files stay open from entering to leaving, unless they exceed the number of files that a process
    may open.

    Parameters
    ----------
    sources : position and encoding of the pixels of each frame, all of one shape.
    dtype : of the returned pixels.
    summed : files whose SHA-256 is computed on the way, each with the DATASUM to be compared, or
        None. Every band must then be read, each after the previous one was begun.
    """

    def __init__(
        self,
        sources: Sequence[PixelSource],
        dtype: np.dtype[Any],
        summed: DatasumByPath | None = None,
    ) -> None:
        n_rows, n_columns = sources[0].shape
        self.shape, self.dtype = (len(sources), n_rows * n_columns, 1), dtype
        self._sources = tuple(sources)
        self._told = summed or {}
        self._sums = [_running_checksum(source, self._told) for source in sources]
        self._files: list[_OpenFile] = []
        self._kept = ExitStack()
        self._mine = local()

    def __enter__(self) -> Self:
        """Open the files, and add the bytes before their pixels to the checksums."""
        pairs = list(zip(self._sources, self._sums, strict=True))
        with ExitStack() as kept:
            if len(pairs) <= _most_handles():
                self._files = [
                    _OpenFile(s, kept.enter_context(_opened_source(s)), t) for s, t in pairs
                ]
                for file in self._files:
                    _advise_sequential(file.handle)
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
        """Close the files; each must be unchanged since the scan."""
        self._kept.__exit__(kind, error, trace)

    def read(self, first: int, stop: int, out: Pixels) -> None:
        """Read pixels first..stop of every frame into out (frame, pixel, 1)."""
        scratch = self._scratch()
        read_cached(self._sources, first, out[:, : stop - first])
        for file, target in zip(self._each(), out, strict=True):
            if file.source.cached is None:
                file.fill(first, target[: stop - first], scratch)

    def give_up(self) -> None:
        """Release waiting threads: the band they wait for will not be read."""
        for total in self._sums:
            if total is not None:
                total.give_up()

    def checksums(self) -> dict[Path, str]:
        """Return the SHA-256 of the summed files by path; every band must have been read.

        Raises
        ------
        FrameError
            The data of a file do not agree with its DATASUM.
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

    def _each(self) -> Iterator[_OpenFile]:
        """Yield each frame's file, open until the next is requested."""
        if self._files:
            yield from self._files
            return
        for source, total in zip(self._sources, self._sums, strict=True):
            with _opened_source(source) as handle:
                yield _OpenFile(source, handle, total)

    def _scratch(self) -> Pixels:
        """Return this thread's scratch buffer."""
        if not hasattr(self._mine, "scratch"):
            self._mine.scratch = np.empty(READ_PIECE, np.uint8)
        scratch: Pixels = self._mine.scratch
        return scratch


class PassImage:
    """The only frame of a pass as a float64 image (pixel, 1) that is read when it is sliced.

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


class _OpenFile(NamedTuple):
    """An open file: its frame, the handle, and the checksum of the bytes read, if computed."""

    source: PixelSource
    handle: int
    sum: RunningChecksum | None = None

    def fill(self, first: int, target: Pixels, scratch: Pixels) -> None:
        """Fill target with pixels from number first on, in reading order."""
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
        """Add the bytes up to an offset to the checksum, if one is computed."""
        while self.sum is not None and self.sum.position < offset:
            self._read(scratch[: offset - self.sum.position], self.sum.position)

    def _read(self, raw: Pixels, offset: int) -> None:
        """Fill raw from an offset, repeating short reads, and add it to the checksum."""
        done, view = 0, raw.data
        while done < len(view):
            at = view[done:], offset + done
            count = retry(partial(_read_at, self.handle, *at), TRANSIENT_OPEN_FILE)
            if count == 0:
                raise FrameError(
                    "The file is truncated: pixels are missing",
                    path=self.source.path,
                    hint="Copy it again.",
                )
            done += count
        count_read(done)
        if self.sum is not None:
            self.sum.add(raw, offset)


def _running_checksum(source: PixelSource, told: DatasumByPath) -> RunningChecksum | None:
    """Return the checksum to compute for a file, with a data sum if DATASUM is given; or None."""
    if source.path not in told:
        return None
    stop = source.offset + -(-source.n_bytes // BLOCK) * BLOCK
    return RunningChecksum(None if told[source.path] is None else range(source.offset, stop))


@contextmanager
def _opened_source(source: PixelSource) -> Iterator[int]:
    """Open a frame's file; before and after, it must be unchanged since the scan."""
    if source.cached is not None:  # no file is read
        yield _NO_HANDLE
        return
    try:
        handle = retry(partial(os.open, source.path, READ_FLAGS), TRANSIENT_OPEN_FILE)
        try:
            source.require_unchanged(os.fstat(handle))
            yield handle
            source.require_unchanged(os.fstat(handle))
        finally:
            os.close(handle)
    except OSError as error:
        raise unreadable(source.path, error) from error


def _advise_sequential(handle: int) -> None:
    """Advise the system, where supported, that a file will be read from start to end."""
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
    """Return the number of files that one pass may keep open."""
    if sys.platform == "win32":
        return 512 - _SPARE_HANDLES
    from resource import RLIMIT_NOFILE, getrlimit

    return int(getrlimit(RLIMIT_NOFILE)[0]) - _SPARE_HANDLES


# Compressed frames as a lazy stack: `PackedStack`.
#
# A night of compressed frames is opened, viewed and sliced like any other; a frame is unpacked
# (`plain_pixels`) when one of its pixels is first needed, in the process that needs it.


class PackedStack:
    """Frames of one shape, some of them compressed, unpacked when first read.

    Parameters
    ----------
    images : the frames' images, all of one shape.

    Raises
    ------
    MismatchError
        Frames differ in shape.
    """

    ndim = 3

    def __init__(self, images: Sequence[ImageHDU]) -> None:
        self.images = tuple(images)
        packed = FrameStack([image.source for image in images])
        self.shape, self.dtype, self.step = packed.shape, packed.dtype, packed.step
        parts = [len(image.parts) for image in images]
        self.token = hashlib.sha256(f"{packed.token} {parts}".encode()).hexdigest()

    def __repr__(self) -> str:
        """Return shape, dtype and the first file's name."""
        return f"PackedStack({self.shape}, {self.dtype}, {self.images[0].source.path.name} ...)"

    def __getitem__(self, key: tuple[Index, Index, Index]) -> Pixels:
        """Return pixels as numpy would, unpacking the requested frames.

        Parameters
        ----------
        key : as for `FrameStack`.
        """
        frames, rows, columns = key
        picked = np.arange(self.shape[0])[frames]
        if not picked.size:
            return np.empty(self.shape, self.dtype)[:0][:, rows][..., columns]
        stack = FrameStack([plain_pixels(self.images[i]) for i in np.atleast_1d(picked)])
        pixels = stack[:, rows, columns].astype(self.dtype, copy=False)
        return pixels if picked.ndim else pixels[0]

    def __dask_tokenize__(self) -> str:
        """Return the token, for dask's deterministic names."""
        return self.token


# Flags and variance of frames, from the extensions beside their images: `PlaneStack`.


def read_plane(image: ImageHDU, variable: str, first: int, n_pixels: int) -> Pixels:
    """Return `dq` or `variance` of a frame, as its file tells them (`io.scan`).

    Parameters
    ----------
    image : the frame, with its planes.
    variable : which of the two.
    first, n_pixels : the run of pixels, in reading order.
    """
    stored: dict[Kind, Pixels] = {}
    for plane in image.planes_of(variable):
        source = plain_pixels(plane)
        band = np.empty((1, n_pixels), dtype_of(source.pixels))
        read_band([source], first, band)
        if plane.kind is not None:
            stored[plane.kind] = band[0]
    return pixels_of_planes(variable, stored, (n_pixels,))


class PlaneStack:
    """Flags or variance of frames of one shape, read like the frames.

    Parameters
    ----------
    images : the frames' images. One without planes has no flags, and an unknown variance.
    variable : `dq` or `variance`.
    """

    ndim = 3

    def __init__(self, images: Sequence[ImageHDU], variable: str) -> None:
        self.images, self.variable = tuple(images), variable
        self.shape = (len(self.images), *self.images[0].source.shape)
        self.dtype = pixels_of_planes(variable, {}, (0,)).dtype
        self.step = 1
        planes = [PackedStack([p]).token for one in images for p in one.planes_of(variable)]
        self.token = hashlib.sha256(f"{variable} {self.shape} {planes}".encode()).hexdigest()

    def __getitem__(self, key: tuple[Index, Index, Index]) -> Pixels:
        """Return flags or variance as numpy would; see `FrameStack`."""
        frames, rows, columns = key
        picked, wanted = np.arange(self.shape[0])[frames], np.arange(self.shape[1])[rows]
        first, stop = (int(wanted.min()), int(wanted.max()) + 1) if wanted.size else (0, 0)
        n_columns = self.shape[2]
        band = np.empty((picked.size, stop - first, n_columns), self.dtype)
        for i, target in zip(np.atleast_1d(picked), band, strict=True):
            run = read_plane(self.images[i], self.variable, first * n_columns, target.size)
            target[...] = run.reshape(target.shape)
        return (band if picked.ndim else band[0])[..., wanted - first, :][..., columns]

    def __dask_tokenize__(self) -> str:
        """Return the token, for dask's deterministic names."""
        return self.token


# Spool: compressed and remote frames are decoded or copied once into local files of raw pixels.
#
# Reading a band of a gzip file inflates all of it, every time; so a frame that is not plain is
# decoded once to the spool, a folder that is removed when this process ends, and from then on is
# read like any other. A frame behind a URL is copied there first. The bytes written are limited to
# the size that the header states: a crafted file cannot fill the disk. Several files are decoded at
# once, since zlib works without the interpreter's lock.

MOST_PROBED = 256 << 20
"""Largest frame, bytes, that is unpacked only to sample a few of its rows."""
_COPIED_AT_ONCE = 8
_copy_locks: dict[_SpoolKey, Lock] = {}
_locks_lock = Lock()
_copies: dict[_SpoolKey, LocalCopy] = {}


class _SpoolFolder:
    """A temporary folder, removed when the process that made it ends."""

    def __init__(self) -> None:
        import tempfile  # takes longer to import than all of a plain frame's reading

        self.path = Path(tempfile.mkdtemp(prefix="arrayred-"))
        self._close = finalize(self, _remove_own, self.path, os.getpid())


def remove_spool() -> None:
    """Remove the folder of copies before this process ends otherwise than by the interpreter."""
    if _spool_folder.cache_info().currsize:
        _spool_folder(os.getpid())._close()


def _remove_own(path: Path, pid: int) -> None:
    if os.getpid() == pid:
        import shutil

        shutil.rmtree(path, ignore_errors=True)


@cache
def _spool_folder(_pid: int) -> _SpoolFolder:
    return _SpoolFolder()


@dataclass(frozen=True)
class _SpoolKey:
    """An image or its file, identified by stamp and process, so that it is decoded once."""

    image: ImageHDU = field(compare=False)
    path: Path
    stamp: Stamp
    pid: int
    which: tuple[object, ...] = ()

    @classmethod
    def of_file(cls, image: ImageHDU) -> Self:
        """Return the key of the copy of an image's whole file."""
        return cls(image, image.source.path, image.source.stamp, os.getpid())

    @classmethod
    def of_pixels(cls, image: ImageHDU) -> Self:
        """Return the key of an image's plain pixels."""
        which = image.packing, image.hdu, len(image.parts)
        return replace(cls.of_file(image), which=which)


def plain_pixels(image: ImageHDU) -> PixelSource:
    """Return the source of an image's uncompressed pixels: its own file, a cache, or the spool.

    For a file behind a URL the source is a local copy.

    Raises
    ------
    FrameError
        The compressed data are damaged, or of an unsupported type.
    """
    source = image.source
    if image.is_local:
        return source
    if not image.parts:
        if isinstance(source.path, Address):
            return _plain_pixels_of_copy(image, source.path)
        _require_unchanged(source)
    key = _SpoolKey.of_pixels(image)
    with _locks_lock:
        decoding = _copy_locks.setdefault(key, Lock())
    with decoding:
        path = _spooled_pixels(key)
    return replace(source, path=path, offset=0, stamp=Stamp.of(path.stat()))


def copied_file(image: ImageHDU) -> LocalCopy:
    """Return the local copy of an image's remote file, made once in a process.

    Raises
    ------
    FrameError
        The file has changed since its header was read, or cannot be fetched.
    StorageError
        There is not enough disk space for it.
    """
    key = _SpoolKey.of_file(image)
    with _locks_lock:
        copying = _copy_locks.setdefault(key, Lock())
    with copying:
        if key not in _copies:
            _copies[key] = _copy_in_spool(key)
        return _copies[key]


def release_copies(images: Iterable[ImageHDU]) -> None:
    """Remove the copies of images' remote files, which are no longer needed."""
    for image in images:
        key = _SpoolKey.of_file(image)
        if copy := _copies.pop(key, None):
            copy.path.unlink(missing_ok=True)


def local_file_of(image: ImageHDU) -> Path:
    """Return the file of an image, or the local copy of a remote one; see `copied_file`."""
    return copied_file(image).path if image.is_remote else image.source.path


def _plain_pixels_of_copy(image: ImageHDU, address: Address) -> PixelSource:
    """Return the source of a remote image's uncompressed pixels: its copy, or decoded from it."""
    path = copied_file(image).path
    near = replace(image.source, path=path, stamp=Stamp.of(path.stat()))
    try:
        return plain_pixels(replace(image, source=near))
    except ArrayredError as error:
        error.path = str(address)
        raise


def all_plain_pixels(images: Sequence[ImageHDU], threads: int = 1) -> list[PixelSource]:
    """Return the sources of the uncompressed pixels of images, decoding several files at once.

    Parameters
    ----------
    images : of any packing.
    threads : number of files decoded at once; each takes some megabytes.

    Raises
    ------
    FrameError
        The compressed data of one are damaged, or of an unsupported type.
    """
    packed = [image for image in images if not image.is_local]
    left = iter(packed)
    taking = Lock()

    def work() -> None:
        while True:
            with taking:
                image = next(left, None)
            if image is None:
                return
            plain_pixels(image)

    def fail() -> None:
        with taking:
            for _ in left:
                pass

    if packed:
        many = _COPIED_AT_ONCE if packed[0].is_remote else threads
        run_in_threads(work, min(many, len(packed)), fail)
    return [plain_pixels(image) for image in images]


def _require_unchanged(source: PixelSource) -> None:
    try:
        status = source.path.stat()
    except OSError as error:
        raise unreadable(source.path, error) from error
    source.require_unchanged(status)


@cache
def _spooled_pixels(key: _SpoolKey) -> Path:
    image = key.image
    with _new_spool_file(key, "unpacked") as path:
        with path.open("wb") as target:
            if image.parts:
                sources = (plain_pixels(part.image) for part in image.parts)
                put_together(
                    target,
                    image,
                    sources,
                    lambda one: FrameStack([one])[0, slice(None), slice(None)],
                )
            else:
                from arrayred.io.decoding import decode_into

                decode_into(target, image)
        return path


def _copy_in_spool(key: _SpoolKey) -> LocalCopy:
    from arrayred.io.remote import copy_remote

    with _new_spool_file(key, "fetched") as path:
        return copy_remote(remote_address(str(key.path)), key.stamp, path)


@contextmanager
def _new_spool_file(key: _SpoolKey, done: str) -> Iterator[Path]:
    """Make an empty file in the spool; it is removed if it cannot be filled."""
    import tempfile

    with _locks_lock:  # a second folder would be dropped by the cache, and removed
        folder = _spool_folder(key.pid)
    handle, name = tempfile.mkstemp(suffix=".pixels", dir=folder.path)
    os.close(handle)
    try:
        yield Path(name)
    except BaseException as error:
        os.unlink(name)
        if isinstance(error, OSError) and error.errno in DISK_FULL_ERRNOS:
            raise StorageError(
                f"The frame cannot be {done} ({error.strerror})",
                path=key.path,
                hint="Free some space in the folder for temporary files, or set TMPDIR.",
            ) from error
        raise


# SHA-256 and DATASUM of a file whose pieces are read by several threads: `RunningChecksum`.
#
# A hash needs the bytes in order, so a thread that holds a later piece waits for the one that
# reads the piece before. In a pass over bands that one is ahead, and the wait short. The
# alternative, reading every file a second time, doubles the time of a stack that does not fit into
# the page cache.


class RunningChecksum:
    """The SHA-256 of the bytes added so far, and the 32-bit sum of those that are data.

    Parameters
    ----------
    data : range of bytes whose 32-bit sum is computed as for DATASUM; None: no sum.

    Examples
    --------
    >>> import numpy as np
    >>> total = RunningChecksum()
    >>> total.add(np.frombuffer(b"abc", np.uint8), 0)
    >>> total.position, total.hexdigest()[:8]
    (3, 'ba7816bf')
    """

    def __init__(self, data: range | None = None) -> None:
        self.position, self.data_sum = 0, 0
        self._data = data
        self._hash = hashlib.sha256()
        self._turn = Condition()
        self._given_up = False

    def add(self, raw: NDArray[Any], offset: int) -> None:
        """Add the bytes at an offset, waiting until all bytes before it were added."""
        if self.position != offset:
            with self._turn:
                self._turn.wait_for(lambda: self.position == offset or self._given_up)
        if self._given_up:
            return
        self._hash.update(raw.data)  # only the thread whose turn it is comes here
        if self._data is not None:
            self.data_sum = _sum_within(self._data, raw, offset, self.data_sum)
        with self._turn:
            self.position = offset + raw.nbytes
            self._turn.notify_all()

    def give_up(self) -> None:
        """Release waiting threads, since the missing bytes will not be read."""
        with self._turn:
            self._given_up = True
            self._turn.notify_all()

    def hexdigest(self) -> str:
        """Return the SHA-256 in hexadecimal digits."""
        return self._hash.hexdigest()


def _sum_within(data: range, raw: NDArray[Any], offset: int, start: int) -> int:
    """Return a 32-bit sum with a piece's data bytes added at their positions within words."""
    inside = raw[max(data.start - offset, 0) : max(data.stop - offset, 0)]
    before = max(offset - data.start, 0) % 4
    after = -(before + inside.nbytes) % 4
    if not before and not after:
        return ones_complement_sum(inside.data, start)
    return ones_complement_sum(bytes(before) + inside.tobytes() + bytes(after), start)
