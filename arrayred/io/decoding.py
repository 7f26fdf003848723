"""Decode compressed frames into files of plain pixels, no larger than their headers state.

Files compressed as a whole are inflated a megabyte at a time, and tiles of rows compressed by gzip,
as those of our own flags, tile by tile. Other tile-compressed images are decoded by astropy, some
rows of tiles at a time, in processes of their own: decoders can crash on a damaged stream, take all
memory, or never come to an end. Such a process decodes one image after the other; several work
where several threads ask.

Imported only where a frame is compressed: a night of plain frames does not need it.
"""

from __future__ import annotations

import atexit
import json
import os
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from threading import Timer
from typing import IO, Any

import numpy as np

from arrayred.errors import FrameError
from arrayred.io.header import gzip_tiles, is_in_gzip_tiles, ones_complement_sum
from arrayred.io.scan import (
    ImageHDU,
    damage_told,
    data_size,
    datasum_of,
    require_datasum,
    scan,
    stored_dtype,
    unpacked_stream,
)
from arrayred.process import interrupts_held

_INFLATED_PIECE = 1 << 20
_TILES_PIECE = 8 << 20
_DRAIN_LIMIT = 256 << 20
_CHILD_SECONDS = 300
_CHILD_BYTES = 4 << 30
"""Of address space: libraries take 1 GiB of it, an image of 8192 x 8192 0.5 GiB."""
_KILLED = 9
_ZEROED = {"MALLOC_PERTURB_": "255"}
"""glibc fills new memory with 0: the decoder of PLIO writes nothing where a stream is damaged."""


def decode_into(target: IO[bytes], image: ImageHDU) -> None:
    """Write the stored pixels of a compressed image, big-endian, into a new file.

    Raises
    ------
    FrameError
        The compressed data are damaged, or disagree with the header.
    """
    if image.packing == "tiles" and is_in_gzip_tiles(image.header) and _is_known_whole(image):
        _inflate_tiles(image, target)
    elif image.packing == "tiles":
        decode_in_child(image, os.fspath(target.name))
    else:
        inflate(image, target)


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
                    "The compressed file is truncated", path=path, hint="Copy it again."
                )
            target.write(piece)
            left -= len(piece)
        while piece := source.read(_INFLATED_PIECE):
            left -= len(piece)
            if left < -_DRAIN_LIMIT:
                raise FrameError(
                    "The file is much larger than its header states",
                    path=path,
                    hint="Decompress it yourself.",
                )


def _inflate_tiles(image: ImageHDU, target: IO[bytes]) -> None:
    """Write the stored pixels of an image in tiles of gzip, whose data are those of DATASUM."""
    path = image.source.path
    with path.open("rb") as file:
        file.seek(image.source.offset)
        raw = file.read(data_size(image.header))
    try:
        for tile in gzip_tiles(image.header, raw, stored_dtype(image.source.pixels).itemsize):
            target.write(tile)
    except ValueError as error:
        raise _damaged_file_error(path, error) from error


class _Child:
    """A process that decodes one tile-compressed image after the other.

    It ends with this process, whose end closes its stdin.
    """

    def __init__(self) -> None:
        command = [sys.executable, "-m", "arrayred.io.decoding"]
        environment = {**os.environ, **_ZEROED}
        pipe = subprocess.PIPE
        with interrupts_held():
            self._process = subprocess.Popen(
                command, stdin=pipe, stdout=pipe, env=environment, text=True
            )

    def decode(self, image: ImageHDU, target: str) -> None:
        """Decode an image into a file.

        Raises
        ------
        FrameError
            The data are damaged, or the process died of them or did not come to an end.
        """
        path = image.source.path
        found = self._answer([str(path.absolute()), str(image.hdu), target])
        if found is None:
            code = self.end()
            why = "does not end" if code == -_KILLED else f"failed ({code})"
            raise FrameError(
                f"The decoder of the compressed image {why}", path=path, hint="Copy it again."
            )
        _idle.append(self)
        if found:
            raise FrameError(**found, path=path)

    def _answer(self, order: list[str]) -> dict[str, Any] | None:
        """Return what the process says of an order; None if it died, or was killed as too slow."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        watchdog = Timer(_CHILD_SECONDS, self._process.kill)
        watchdog.start()
        try:
            self._process.stdin.write(json.dumps(order) + "\n")
            self._process.stdin.flush()
            line = self._process.stdout.readline()
        except OSError:
            line = ""
        finally:
            watchdog.cancel()
        answer: dict[str, Any] | None = json.loads(line) if line else None
        return answer

    def end(self) -> int:
        """End the process, and return its exit code."""
        with suppress(OSError):
            self._process.communicate()
        return self._process.wait()


_idle: list[_Child] = []
"""Processes that wait for an image: at most as many as decode at once."""


@atexit.register
def _end_children() -> None:
    while _idle:
        _idle.pop().end()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_idle.clear)


def decode_in_child(image: ImageHDU, target: str) -> None:
    """Decode tiles in a process of its own: a crafted stream can crash or exhaust only that."""
    try:
        child = _idle.pop()
    except IndexError:
        child = _Child()
    child.decode(image, target)


def _serve() -> None:
    """Decode the images that are named on stdin, one a line; answer each with what was wrong."""
    if sys.platform != "win32":
        import resource

        own = resource.getrlimit(resource.RLIMIT_AS)[1]  # it cannot be raised
        limit = _CHILD_BYTES if own == resource.RLIM_INFINITY else min(_CHILD_BYTES, own)
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    for line in sys.stdin:
        path, hdu, target = json.loads(line)
        wrong: dict[str, Any] = {}
        try:
            with Path(target).open("wb") as file:
                decode_tiles(scan(Path(path), hdu), file)
        except FrameError as error:
            wrong = {"message": str(error.args[0]), "keyword": error.keyword, "hint": error.hint}
        except OSError as error:
            wrong = {"message": f"The file cannot be decoded ({error.strerror})"}
        print(json.dumps(wrong), flush=True)


def decode_tiles(image: ImageHDU, target: IO[bytes]) -> None:
    """Write the stored pixels of a tile-compressed image, some rows of tiles at a time.

    Raises
    ------
    FrameError
        They cannot be decoded, or are not those of a checksum in the header.
    """
    from astropy.io import fits

    total = 0
    path, (n_rows, n_columns) = image.source.path, image.source.shape
    wanted = stored_dtype(image.source.pixels)
    tile_rows = image.header.get("ZTILE2", 1)
    tile_rows = tile_rows if isinstance(tile_rows, int) and tile_rows > 0 else 1
    step = max(_TILES_PIECE // (n_columns * wanted.itemsize * tile_rows), 1) * tile_rows
    try:
        with fits.open(path, do_not_scale_image_data=True, memmap=False) as hdus:
            if hdus[image.hdu].shape != (n_rows, n_columns):
                raise ValueError(f"{hdus[image.hdu].shape} pixels, unlike its header")
            for first in range(0, n_rows, step):
                stored: Any = np.asarray(hdus[image.hdu].section[first : first + step])
                if stored.dtype.kind != wanted.kind:
                    raise ValueError(f"it is {stored.dtype}, unlike its header")
                raw = stored.astype(wanted).tobytes()
                total = ones_complement_sum(raw + bytes(-len(raw) % 4), total)
                target.write(raw)
    except OSError as error:
        if error.errno is not None:
            raise
        raise _damaged_file_error(path, error) from error
    except Exception as error:
        raise _damaged_file_error(path, error) from error
    told = image.header.readable("ZDATASUM")
    if _is_known_whole(image) or told is None or not _is_exact(image):
        return
    if str(told) != str(total):
        raise FrameError(
            f"The checksum of the pixels is {total}, but ZDATASUM says {told}",
            path=path,
            keyword="ZDATASUM",
            value=told,
            hint="Copy it again; if the pixels were changed on purpose, remove ZDATASUM.",
        )


def _is_known_whole(image: ImageHDU) -> bool:
    """Return whether the compressed data are those of DATASUM; False where there is none.

    Then a ZDATASUM that differs is that of other pixels: astropy keeps it with an old header.

    Raises
    ------
    FrameError
        They are others.
    """
    told = datasum_of(image)
    with image.source.path.open("rb") as file:
        if told is None or not file.read(9).startswith(b"SIMPLE  ="):
            return False
        file.seek(image.source.offset)
        left, total = data_size(image.header), 0
        while left and (piece := file.read(min(_TILES_PIECE, left))):
            total = ones_complement_sum(piece + bytes(-len(piece) % 4), total)
            left -= len(piece)
    require_datasum(image.source.path, total, told)
    return True


def _is_exact(image: ImageHDU) -> bool:
    """Return whether compression lost nothing, so that a sum of the pixels before still holds."""
    is_integer = image.source.pixels.bitpix > 0
    return is_integer and image.header.readable("ZCMPTYPE") != "HCOMPRESS_1"


def _damaged_file_error(path: Path, error: Exception) -> FrameError:
    what = f"The compressed image is damaged ({error})"
    return FrameError(what, path=path, hint="Copy it again.")


if __name__ == "__main__":
    _serve()
