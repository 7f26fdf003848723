"""Decode compressed frames into files of plain pixels, no larger than their headers state.

Files compressed as a whole are inflated a megabyte at a time. Tile-compressed images are decoded by
astropy, some rows of tiles at a time; HCOMPRESS, whose decoder is not thread-safe and can crash on
a damaged stream, in a process of its own. The other decoders are safe, so several files may be
decoded at once.

Imported only where a frame is compressed: a night of plain frames does not need it.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import IO, Any

import numpy as np

from arrayred.errors import FrameError
from arrayred.io.scan import ImageHDU, damage_told, scan, stored_dtype, unpacked_stream

_INFLATED_PIECE = 1 << 20
_TILES_PIECE = 8 << 20
_DRAIN_LIMIT = 256 << 20
_CHILD_SECONDS = 300


def decode_into(target: IO[bytes], image: ImageHDU) -> None:
    """Write the stored pixels of a compressed image, big-endian, into a new file.

    Raises
    ------
    FrameError
        The compressed data are damaged, or disagree with the header.
    """
    if image.packing != "tiles":
        inflate(image, target)
    elif image.header.get("ZCMPTYPE") == "HCOMPRESS_1":
        decode_in_child(image, os.fspath(target.name))
    else:
        decode_tiles(image, target)


def inflate(image: ImageHDU, target: IO[bytes]) -> None:
    """Copy the pixels of a compressed file, then read to its end to verify its checksum."""
    path = image.source.path
    with (
        damage_told(path),
        path.open("rb") as file,
        unpacked_stream(path, file, image.packing) as source,
    ):
        source.seek(image.source.offset)
        left = image.source.n_bytes
        while left:
            piece = source.read(min(_INFLATED_PIECE, left))
            if not piece:
                raise FrameError(
                    "The compressed file ends within its pixels", path=path, hint="Copy it again."
                )
            target.write(piece)
            left -= len(piece)
        while piece := source.read(_INFLATED_PIECE):
            left -= len(piece)
            if left < -_DRAIN_LIMIT:
                raise FrameError(
                    "Far more follows than the header promises",
                    path=path,
                    hint="Decompress it by hand.",
                )


def decode_in_child(image: ImageHDU, target: str) -> None:
    """Decode in a process of its own, so that a crafted stream can crash only that."""
    path = image.source.path
    where = [os.fspath(path), str(image.hdu), target]
    command = [sys.executable, "-m", "arrayred.io.decoding", *where]
    try:
        subprocess.run(command, check=True, capture_output=True, timeout=_CHILD_SECONDS)
    except subprocess.TimeoutExpired as error:
        raise FrameError("The decoder does not come to an end", path=path) from error
    except subprocess.CalledProcessError as error:
        last = error.stderr.decode(errors="replace").strip().splitlines()[-1:] or ["no message"]
        raise FrameError(
            f"The decoder of the compressed image failed ({error.returncode}: {last[0]})",
            path=path,
            hint="Copy it again.",
        ) from error


def decode_tiles(image: ImageHDU, target: IO[bytes]) -> None:
    """Write the stored pixels of a tile-compressed image, some rows of tiles at a time."""
    from astropy.io import fits

    path, (n_rows, n_columns) = image.source.path, image.source.shape
    wanted = stored_dtype(image.source.pixels)
    tile_rows = image.header.get("ZTILE2", 1)
    tile_rows = tile_rows if isinstance(tile_rows, int) and tile_rows > 0 else 1
    step = max(_TILES_PIECE // (n_columns * wanted.itemsize * tile_rows), 1) * tile_rows
    try:
        with fits.open(path, do_not_scale_image_data=True, memmap=False) as hdus:
            if hdus[image.hdu].shape != (n_rows, n_columns):
                raise ValueError(f"{hdus[image.hdu].shape} pixels, not as its header says")
            for first in range(0, n_rows, step):
                stored: Any = np.asarray(hdus[image.hdu].section[first : first + step])
                if stored.dtype.kind != wanted.kind:
                    raise ValueError(f"it is {stored.dtype}, not as its header says")
                target.write(stored.astype(wanted).data)
    except OSError as error:
        if error.errno is not None:
            raise
        raise _damaged_file_error(path, error) from error
    except Exception as error:
        raise _damaged_file_error(path, error) from error


def _damaged_file_error(path: Path, error: Exception) -> FrameError:
    what = f"The compressed image is damaged ({error})"
    return FrameError(what, path=path, hint="Copy it again.")


if __name__ == "__main__":
    with Path(sys.argv[3]).open("wb") as file:
        decode_tiles(scan(Path(sys.argv[1]), sys.argv[2]), file)
