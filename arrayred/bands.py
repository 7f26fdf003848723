"""Apply a kernel to a stack of frames, band by band: in a loop (`visit`) or by dask (`map_frames`).

A *band* is all frames x some rows. Both functions pass whole bands to a kernel, so each raw byte is
read once per pass, memory use follows from the height of a band, and no result depends on where one
band ends and the next begins.

`visit` needs only numpy: it owns the threads and gives each a buffer that it reuses. `map_frames`
builds one task per band (`map_blocks`); on an array that is already one band it is a plain call.
`apply_ufunc(dask="parallelized")` would copy every band and take twice as long.

Memory is bounded by the sizes of arrays: of bands (`rows_within`) and of images (`TARGET`). A limit
is shared out in this order: what does not shrink with the bands (headers, images, what is being
read and decoded), then the bands, each with the copies that a kernel makes of it. Where not even
the lowest bands have room, the limit is refused with what is needed, rather than exceeded.

The sizes are those of the arrays, by dtype: a plane that is added to an image is counted by adding
it here to `IMAGE`. They were compared with the memory of real processes: 400 frames of 2048 x 2048
peak at 462 MiB of 512, and at 1658 when the limit was only that of the bands.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from threading import Event, Lock, Thread
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from arrayred.errors import MismatchError, ResourceError, UsageError
from arrayred.kernels.combine import LANE_BYTES, STRIP_BYTES
from arrayred.model import CLEAN, COUNTS, DQ, N_REJECTED, VARIANCE
from arrayred.progress import progressed

BAND_BYTES = 64 << 20


class Stack(Protocol):
    """Frames of equal shape and dtype that can be read band by band."""

    @property
    def shape(self) -> tuple[int, int, int]:
        """Return (n_frames, n_rows, n_columns)."""

    @property
    def dtype(self) -> np.dtype[Any]:
        """Return the dtype of the pixels."""

    def read(self, first: int, stop: int, out: NDArray[Any]) -> None:
        """Read rows first..stop of every frame into out (frame, row, x)."""


class RowSink(Protocol):
    """Accepts rows of a result in any order, from any thread."""

    def __setitem__(self, rows: slice, values: NDArray[Any]) -> None:
        """Store rows first..stop."""


class SlicedImage(Protocol):
    """An image (y, x) that returns rows when sliced: an array, or one read on demand."""

    def __getitem__(self, rows: slice) -> NDArray[Any]:
        """Return rows first..stop."""


def band_rows(shape: tuple[int, ...], dtype: np.dtype[Any], memory: int = BAND_BYTES) -> int:
    """Return the number of rows of all frames that fit into memory: at least one, at most all.

    Examples
    --------
    >>> band_rows((25, 2048, 4096), np.dtype("u2"))
    327
    """
    row = shape[0] * shape[2] * dtype.itemsize
    return int(min(max(memory // max(row, 1), 1), max(shape[1], 1)))


def band_edges(n_rows: int, rows: int) -> Iterator[tuple[int, int]]:
    """Yield the half-open row ranges of the bands.

    Examples
    --------
    >>> list(band_edges(5, 2))
    [(0, 2), (2, 4), (4, 5)]
    """
    for first in range(0, n_rows, rows):
        yield first, min(first + rows, n_rows)


def visit(
    stack: Stack,
    kernel: Callable[..., NDArray[Any]],
    *images: SlicedImage,
    rows: int | None = None,
    threads: int = 1,
) -> NDArray[np.float64]:
    """Reduce a stack over its frames, band by band, without dask.

    Parameters
    ----------
    stack : frames of equal shape and dtype.
    kernel : turns a band (frame, y, x), and the same rows of each image, into an image (y, x).
    images : further images (y, x) that the kernel takes, such as a master dark.
    rows : height of a band; by default as many as fit into 64 MB.
    threads : number of bands processed at once. The result does not depend on it.

    Returns
    -------
    image (y, x), float64.
    """
    result = np.empty(stack.shape[1:], np.float64)
    visit_into(result, stack, kernel, *images, rows=rows, threads=threads)
    return result


def visit_into(
    target: RowSink,
    stack: Stack,
    kernel: Callable[..., NDArray[Any]],
    *images: SlicedImage,
    rows: int | None = None,
    threads: int = 1,
    give_up: Callable[[], None] | None = None,
) -> None:
    """Reduce a stack over its frames, band by band, and store each band's result in a target.

    Parameters
    ----------
    target : an array, or a file being written: ``target[first:stop] = rows``.
    stack, kernel, images, rows, threads : as in `visit`.
    give_up : called when a band fails, so that no other thread waits for it.
    """
    n_frames, n_rows, n_columns = stack.shape
    rows = min(rows or band_rows(stack.shape, stack.dtype), n_rows)
    left = band_edges(n_rows, rows)
    taking, failed = Lock(), Event()

    def work() -> None:
        buffer = np.empty((n_frames, rows, n_columns), stack.dtype)
        while not failed.is_set():
            with taking:
                first, stop = next(left, (n_rows, n_rows))
            if first == stop:
                return
            band = buffer[:, : stop - first]
            stack.read(first, stop, band)
            target[first:stop] = kernel(band, *(image[first:stop] for image in images))
            progressed(stop, n_rows)

    def fail() -> None:
        failed.set()
        if give_up is not None:
            give_up()

    run_in_threads(work, min(threads, -(-n_rows // rows)), fail)


def run_in_threads(work: Callable[[], None], n_threads: int, fail: Callable[[], None]) -> None:
    """Call work in this thread and others at once; on an error call fail, wait, and raise it."""
    errors: list[BaseException] = []

    def guarded(call: Callable[[], None]) -> None:
        try:
            call()
        except BaseException as error:
            errors.append(error)
            fail()

    others = [Thread(target=guarded, args=(work,)) for _ in range(n_threads - 1)]

    def take_part() -> None:
        for other in others:
            other.start()
        work()
        for other in others:
            other.join()

    guarded(take_part)
    for other in others:
        if other.is_alive():
            other.join()
    if errors:
        raise errors[0]


def map_frames(
    frames: Any,
    kernel: Callable[..., NDArray[Any]],
    *images: Any,
    keeps_frames: bool = False,
    n_planes: int | None = None,
    dtype: np.dtype[Any] | None = None,
) -> Any:
    """Apply a kernel to frames (frame, y, x): at once if eager, one task a band if chunked.

    Parameters
    ----------
    frames : numpy or dask array (frame, y, x). Chunks across frames or columns are merged.
    kernel : turns a band, and the same rows of each image, into (y, x), or with `keeps_frames`
        into (frame, y, x).
    images : further images (y, x), numpy or dask.
    keeps_frames : the kernel's result still has the frame axis.
    n_planes : the kernel returns this many planes (plane, y, x). Each plane of a band is
        contiguous, which the fields of a structured block are not.
    dtype : of the result; float64 by default.

    Returns
    -------
    An array of the same type, numpy or dask.
    """
    if any(tuple(image.shape) != tuple(frames.shape[1:]) for image in images):
        raise MismatchError(
            f"Frames of {frames.shape[1:]} pixels meet an image of {[i.shape for i in images]}",
            hint="Use images of the same shape and binning.",
        )
    if isinstance(frames, np.ndarray) and all(isinstance(image, np.ndarray) for image in images):
        return kernel(frames, *images)
    import dask.array as da

    bands = da.asarray(frames).rechunk({0: -1, 2: -1})
    in_bands = [da.asarray(image).rechunk({0: bands.chunks[1], 1: -1}) for image in images]
    if n_planes is not None:
        chunks = ((n_planes,), *bands.chunks[1:])
        meta = np.empty((0, 0, 0))
        return da.map_blocks(kernel, bands, *in_bands, chunks=chunks, dtype=np.float64, meta=meta)
    drop = None if keeps_frames else 0
    return da.map_blocks(
        kernel,
        bands,
        *in_bands,
        drop_axis=drop,
        dtype=dtype or np.float64,
        meta=np.empty((0,) * (3 - (drop == 0)), dtype or np.float64),
    )


MIB = 1 << 20
_PROGRAM, _PLOTTING = 160 * MIB, 48 * MIB
"""The program with its libraries, and with matplotlib more: alone not sizes of arrays."""
COMBINING = 44 * MIB
"""The program of `arrayred combine`, of libraries numpy alone: 40 MiB with three tiny frames."""
_OF_A_FRAME = 72 << 10
"""The record of a frame, with the cards of its header and its sample, 18 kB, and its part in the
tasks of all bands: 400 frames of 256 x 256 went 10 MiB beyond a bound of 24 kB each, 2 of 56."""


def bytes_per_pixel(n_frames: int, dtype: np.dtype[Any], *, widened: bool = False) -> int:
    """Return the bytes per pixel of a band a few strips high, while a kernel works on it.

    They are the values of all frames, the kernel's copies of them (one of integers, which have no
    missing values; five of floats), and eight images of float64.

    Parameters
    ----------
    widened : the kernel holds the values three times in float64, as clipping does.
    """
    copied = dtype.itemsize * (5 if dtype.kind == "f" else 1)
    return n_frames * (dtype.itemsize + max(copied, 24 if widened else 0)) + 64


def rows_within(
    shape: tuple[int, ...],
    dtype: np.dtype[Any],
    memory: int,
    *,
    threads: int = 1,
    widened: bool = False,
    enough: int | None = None,
) -> int:
    """Return the largest height of a band, rows, for all threads to fit in memory; 0 if none does.

    Parameters
    ----------
    shape, dtype : of the stack (frame, y, x).
    memory : bytes that all threads may hold together.
    threads : number of bands processed at once.
    widened : as in `bytes_per_pixel`.
    enough : bytes beyond which a larger band gains nothing; by default one strip, which is
        processed while it is in the processor's cache.

    Examples
    --------
    >>> rows_within((25, 2048, 4096), np.dtype("u2"), 4 << 20, threads=2)
    3
    >>> rows_within((400, 2048, 4096), np.dtype("u2"), 4 << 20)
    0
    """
    of_a_row = shape[2] * bytes_per_pixel(shape[0], dtype, widened=widened)
    most = min(STRIP_BYTES, shape[0] * LANE_BYTES) if enough is None else enough
    return min(band_rows(shape, dtype, most), memory // max(of_a_row * threads, 1))


def rows_of_bands(
    shape: tuple[int, int, int],
    dtype: np.dtype[Any],
    memory: int | None = None,
    step: int = 1,
    *,
    widened: bool = True,
) -> int:
    """Return the number of rows of a stack's bands: 64 MB, or fewer if `memory` is limited.

    It is a multiple of `step`, the rows that are read at the cost of one, where it is larger.

    Raises
    ------
    UsageError
        The memory does not hold one row of all frames for every thread.
    """
    if memory is None:
        rows = band_rows(shape, dtype)
        return rows - rows % min(step, rows)
    threads = os.cpu_count() or 1
    rows = rows_within(shape, dtype, memory, threads=threads, widened=widened, enough=BAND_BYTES)
    if rows == 0:
        needed = bytes_of_a_row(shape, dtype, widened=widened)
        raise UsageError(
            f"{memory} bytes of memory are not enough for one row of {shape[0]} frames per thread",
            keyword="memory",
            value=memory,
            hint=f"Use {needed} or more, or fewer Dask threads.",
        )
    return rows - rows % min(step, rows)


_CHUNK_VALUES = 4 << 20
"""32 MB of float64: the C library maps larger arrays anew for each chunk, and the pages of the
float64 copies that reductions make then cost more than the sums. Of 60 frames of 1024 x 1536 the
mean took 4 times as long in chunks of 64 MB as in those of 8, the standard deviation 3 times. In
chunks of 32 rows xarray's mean of them takes 1.3 times numpy's over the same bands, the median 1.05
times, in chunks of 16 rows 1.4 to 1.7 and 1.1 times; the standard deviation takes 1.8 and 1.6 times
and more, since dask holds two float64 copies of a chunk for it: no height suits all three."""
_READ_AT_LEAST = 128 << 10
"""Bytes of a frame below which opening its file costs more than reading."""


def rows_of_chunks(
    shape: tuple[int, int, int], dtype: np.dtype[Any], memory: int | None = None, step: int = 1
) -> int:
    """Return the number of rows of a lazy cube's chunks, on which xarray and dask compute.

    A power of two, or a multiple of `step`, so that the chunks that are usually asked for hold
    whole ones.

    Parameters
    ----------
    shape, dtype, memory, step : as in `rows_of_bands`.

    Raises
    ------
    UsageError
        As `rows_of_bands`.

    Examples
    --------
    >>> rows_of_chunks((60, 1024, 1536), np.dtype("u2")), rows_of_chunks((3, 9, 9), np.dtype("u2"))
    (32, 9)
    """
    most = rows_of_bands(shape, dtype, memory, step)
    n_frames, _, n_columns = shape
    rows = max(
        _CHUNK_VALUES // (n_frames * n_columns), _READ_AT_LEAST // (n_columns * dtype.itemsize), 1
    )
    return min(-(-(1 << rows.bit_length() - 1) // step) * step, most)


def bytes_of_a_row(
    shape: tuple[int, int, int], dtype: np.dtype[Any], *, widened: bool = True
) -> int:
    """Return the memory for one row of all frames per dask thread, bytes."""
    threads = os.cpu_count() or 1
    return threads * shape[2] * bytes_per_pixel(shape[0], dtype, widened=widened)


class BandLayout(NamedTuple):
    """The number of pixels of a band, and the number of threads."""

    pixels: int
    threads: int


def band_layout(
    shape: tuple[int, int],
    dtype: np.dtype[Any],
    memory: int,
    *,
    fixed: int,
    reading: int,
    decoding: int,
    fewest: int,
    threads: int,
    widened: bool,
) -> BandLayout:
    """Return the pixels of a band, which may be shorter than a row, and the number of threads.

    The number of threads is reduced before a limit is refused. Decoding comes before combining, so
    only the larger of the two counts.

    Parameters
    ----------
    shape, dtype : of the stack (frame, pixel).
    memory : bytes that the process may hold.
    fixed : bytes held in any case, the program included.
    reading, decoding : bytes that each thread takes to read a piece, and to decode a file.
    fewest : pixels of the shortest band.
    threads : the most.
    widened : as in `bytes_per_pixel`.

    Raises
    ------
    UsageError
        The limit is too small for one short band.
    """
    fewest = min(fewest, shape[1])
    for n_threads in range(threads, 0, -1):
        left = memory - fixed - n_threads * reading
        pixels = rows_within((*shape, 1), dtype, left, threads=n_threads, widened=widened)
        if pixels >= fewest and n_threads * decoding <= memory - fixed:
            return BandLayout(pixels, n_threads)
    band = fewest * bytes_per_pixel(shape[0], dtype, widened=widened)
    needed = fixed + max(reading + band, decoding)
    raise UsageError(
        f"{memory} bytes of memory are not enough for {shape[0]} frames",
        value=memory,
        hint=f"Use --memory {_in_mib(needed)}M or more.",
    )


# The images of a night, bytes per pixel: of their planes, their files, and the steps' copies.

_FLOAT64, _FLOAT32, _FLAG = (np.dtype(kind).itemsize for kind in ("f8", "f4", "u1"))
IMAGE = {COUNTS: _FLOAT64, VARIANCE: _FLOAT32, DQ: _FLAG}
"""The planes of an image in memory."""
BEST = {CLEAN: _FLOAT64, N_REJECTED: _FLAG}
"""The further planes of one whose best estimate is made separately."""
MASTER = IMAGE[COUNTS]
FLAT = 2 * sum(IMAGE.values())
"""A flat, and the same as it is adapted to a target."""
COMPARED = sum(IMAGE.values()) + _FLOAT64 + 2 * _FLOAT32
"""An image while its bands are read for the last time: with the mean and the median of its frames,
and the places of hits. While they are combined it is less: the largest value at each pixel."""
VALUES_OF_A_HIT = 16
"""One byte per this many values of a target's frames, for the list of outliers, which grows while
its bands are read: 40 bytes for each of the 0.15 % of values that cosmic rays hit in 600 s."""
_WORKING = 3 * _FLOAT64
"""The copies that a step makes of an image: what it subtracts, the difference, its noise."""
_FILE = 2 * _FLOAT32 + 2 * _FLAG
"""Counts, sigma, mask and flags of an image, as they are written."""
TARGET = sum(IMAGE.values()) + _FLOAT32 + _FILE + _WORKING
"""An image, the largest value of its frames at each pixel, its file, and a step at work, when no
band is held any more."""
FURTHER = {
    "best": sum(BEST.values()) + _FLOAT32 + _FLAG + _FLOAT64 + 2 * _FLAG,
    "calibrated": sum(IMAGE.values()) + _FILE + _WORKING + 2 * _FLOAT64,
    "divided": 2 * _FLOAT64 + _FLOAT32,
    "electrons": 2 * _FLOAT64 + _FLOAT32,
    "float64": 4 * (_FLOAT64 - _FLOAT32),
    "drawn": 6 * _FLOAT64 + 6 * _FLAG,
}
"""What a target takes beyond that: a best estimate made separately, single frames to be written, a
flat, a unit of electrons, files in float64 (counts, sigma twice, the best estimate), and what
matplotlib makes of it: scaled, masked and as colours."""


def program_bytes(n_frames: int, *, figures: bool) -> int:
    """Return the memory of the program and of the records of frames."""
    return _PROGRAM + figures * _PLOTTING + n_frames * _OF_A_FRAME


def left_for_bands(limit: int, beside: int, least: int) -> int:
    """Return what a limit leaves for bands, bytes.

    Parameters
    ----------
    limit : bytes that the process may take.
    beside : bytes that it takes beside bands.
    least : bytes of the lowest bands, or by which more is taken when none is held.

    Raises
    ------
    ResourceError
        The limit is too small.
    """
    if beside + least > limit:
        needed = _in_mib(beside + least)
        raise ResourceError(
            "The program, the images of a target and low bands of its frames need "
            f"{needed} MiB, but --memory allows {limit / MIB:.0f} MiB",
            keyword="memory",
            value=limit,
            hint=f"Use --memory {needed}M or more.",
        )
    return limit - beside


def _in_mib(n_bytes: int) -> int:
    return -(-n_bytes // MIB)
