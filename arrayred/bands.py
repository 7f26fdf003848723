"""Apply a kernel to a stack of frames, band by band: in a loop (`visit`) or by dask (`map_frames`).

A *band* is all frames x some rows. Both functions pass whole bands to a kernel, so each raw byte is
read once per pass, memory use follows from the height of a band, and no result depends on where one
band ends and the next begins.

`visit` needs only numpy: it owns the threads and gives each a buffer that it reuses. `map_frames`
builds one task per band (`map_blocks`); on an array that is already one band it is a plain call.
`apply_ufunc(dask="parallelized")` would copy every band and take twice as long.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from threading import Event, Lock, Thread
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from arrayred.errors import MismatchError
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
