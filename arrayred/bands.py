"""The two visitors of a stack of frames: a loop over bands of rows, and the same through dask.

A *band* is all frames x some rows. Both visitors hand whole bands to a kernel, so each raw byte is
read once per pass, memory follows from the height of a band, and nothing a kernel computes depends
on where one band ends and the next begins.

`visit` needs numpy alone: it owns the threads and gives each one a buffer that it reuses.
`over_frames` builds one task per band (`map_blocks`), on an array that is already one band it is a
plain call. `apply_ufunc(dask="parallelized")` would copy every band and take twice as long.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from queue import SimpleQueue
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from arrayred.errors import MismatchError

BAND_BYTES = 64 << 20


class Stack(Protocol):
    """Equal frames that can be read band by band."""

    @property
    def shape(self) -> tuple[int, int, int]:
        """Return (n_frames, n_rows, n_columns)."""

    @property
    def dtype(self) -> np.dtype[Any]:
        """Return the dtype of the pixels."""

    def read(self, first: int, stop: int, out: NDArray[Any]) -> None:
        """Read rows first..stop of every frame into out (frame, row, x)."""


def band_rows(shape: tuple[int, ...], dtype: np.dtype[Any], memory: int = BAND_BYTES) -> int:
    """Return how many rows of all frames fit into memory: at least one, at most all.

    Examples
    --------
    >>> band_rows((25, 2048, 4096), np.dtype("u2"))
    327
    """
    row = shape[0] * shape[2] * dtype.itemsize
    return int(min(max(memory // max(row, 1), 1), max(shape[1], 1)))


def edges(n_rows: int, rows: int) -> Iterator[tuple[int, int]]:
    """Yield the half-open row ranges of the bands.

    Examples
    --------
    >>> list(edges(5, 2))
    [(0, 2), (2, 4), (4, 5)]
    """
    for first in range(0, n_rows, rows):
        yield first, min(first + rows, n_rows)


def visit(
    stack: Stack,
    kernel: Callable[..., NDArray[Any]],
    *images: NDArray[Any],
    rows: int | None = None,
    threads: int = 1,
) -> NDArray[np.float64]:
    """Reduce a stack over its frames, band by band, without dask.

    Parameters
    ----------
    stack : equal frames.
    kernel : turns a band (frame, y, x), and the same rows of each image, into an image (y, x).
    images : further images (y, x) that the kernel takes, such as a master dark.
    rows : height of a band; by default what fits into 64 MB.
    threads : how many bands are worked on at once. The result does not depend on it.

    Returns
    -------
    image (y, x), float64.
    """
    n_frames, n_rows, n_columns = stack.shape
    rows = rows or band_rows(stack.shape, stack.dtype)
    result = np.empty((n_rows, n_columns), np.float64)
    buffers: SimpleQueue[NDArray[Any]] = SimpleQueue()
    for _ in range(threads):
        buffers.put(np.empty((n_frames, min(rows, n_rows), n_columns), stack.dtype))

    def one(first: int, stop: int) -> None:
        buffer = buffers.get()
        try:
            band = buffer[:, : stop - first]
            stack.read(first, stop, band)
            result[first:stop] = kernel(band, *(image[first:stop] for image in images))
        finally:
            buffers.put(buffer)

    if threads == 1:
        for first, stop in edges(n_rows, rows):
            one(first, stop)
    else:
        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(one, *zip(*edges(n_rows, rows), strict=True)))
    return result


def over_frames(
    frames: Any, kernel: Callable[..., NDArray[Any]], *images: Any, keeps_frames: bool = False
) -> Any:
    """Apply a kernel to frames (frame, y, x): at once if eager, one task a band if chunked.

    Parameters
    ----------
    frames : numpy or dask array (frame, y, x). Chunks across frames or columns are merged.
    kernel : turns a band, and the same rows of each image, into (y, x), or with `keeps_frames`
        into (frame, y, x).
    images : further images (y, x), numpy or dask.
    keeps_frames : the kernel's result still has the frame axis.

    Returns
    -------
    An array of the same kind, float64.
    """
    if any(tuple(image.shape) != tuple(frames.shape[1:]) for image in images):
        raise MismatchError(
            f"Frames of {frames.shape[1:]} pixels meet an image of {[i.shape for i in images]}",
            hint="Take images of the same shape and binning.",
        )
    if isinstance(frames, np.ndarray) and all(isinstance(image, np.ndarray) for image in images):
        return kernel(frames, *images)
    import dask.array as da

    bands = da.asarray(frames).rechunk({0: -1, 2: -1})
    in_bands = [da.asarray(image).rechunk({0: bands.chunks[1], 1: -1}) for image in images]
    drop = None if keeps_frames else 0
    return da.map_blocks(
        kernel,
        bands,
        *in_bands,
        drop_axis=drop,
        dtype=np.float64,
        meta=np.empty((0,) * (3 - (drop == 0))),
    )
