"""What a cache knows of each frame beside its pixels, as JSON: `Record`.

The cards stand there as they came, byte for byte (Latin-1), so that a frame from a cache is
described by the same code as one from a file, under any instrument and with any option.
"""

from __future__ import annotations

import json
from base64 import b64decode, b64encode
from collections.abc import Iterable, Sequence
from dataclasses import astuple, dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Self, get_args

from arrayred.errors import UsageError
from arrayred.io.card import CARD
from arrayred.io.cards import Header
from arrayred.io.remote.address import is_fits_name
from arrayred.io.remote.store import Stamp
from arrayred.io.sources import ImageHDU, Packing, PixelFormat, PixelSource

Foreign = tuple[tuple[str, str], ...]
_MOST_FRAMES = 10**6
_MOST_SAMPLED = 1 << 20


@dataclass(frozen=True)
class Record:
    """One frame of a cache.

    Parameters
    ----------
    name : of its file, relative to the night's folder.
    sha256 : of its file.
    image : where its pixels lay in that file, and its cards.
    array : the array that holds its pixels, relative to the cache.
    index : its number in that array, from 0.
    coding : the encoding by which stored bits became the array's values; None: it holds the bits.
    proof : what other frames, not in the cache, showed about its sign; "" where none were needed.
    sample : the stored pixels by which it is judged (`io.probes.sample`), little-endian.
    """

    name: str
    sha256: str
    image: ImageHDU
    array: str
    index: int
    coding: PixelFormat | None
    proof: str = ""
    sample: bytes = b""

    def to_json(self) -> dict[str, Any]:
        """Return the record, JSON-ready."""
        source = self.image.source
        return {
            "name": self.name,
            "sha256": self.sha256,
            "array": self.array,
            "index": self.index,
            "coding": None if self.coding is None else astuple(self.coding),
            "proof": self.proof,
            "sample": b64encode(self.sample).decode("ascii"),
            "offset": source.offset,
            "shape": source.shape,
            "pixels": astuple(source.pixels),
            "stamp": astuple(source.stamp),
            "hdu": self.image.hdu,
            "packing": self.image.packing,
            "cards": "".join(self.image.header.images()),
        }

    @classmethod
    def from_json(cls, entry: Any) -> Self:
        """Return a record; raise ValueError, KeyError or TypeError if it is none."""
        cards = _text(entry["cards"])
        header = Header(cards[i : i + CARD] for i in range(0, len(cards), CARD))
        n_rows, n_columns = map(_whole, entry["shape"])
        source = PixelSource(
            Path(entry["name"]),
            _whole(entry["offset"]),
            (n_rows, n_columns),
            _format(entry["pixels"]),
            Stamp(*map(_whole, entry["stamp"])),
        )
        if entry["packing"] not in get_args(Packing):
            raise ValueError(entry["packing"])
        return cls(
            _safe_name(entry["name"]),
            _text(entry["sha256"]),
            ImageHDU(source, header, _whole(entry["hdu"]), entry["packing"]),
            _text(entry["array"]),
            _whole(entry["index"]),
            None if entry["coding"] is None else _format(entry["coding"]),
            _text(entry["proof"]),
            _sample(entry["sample"], source.pixels.bitpix),
        )


def as_text(records: Iterable[Record], foreign: Foreign) -> bytes:
    """Return the records of a cache, and the files that are no frames, as a file."""
    table = {"frames": [r.to_json() for r in records], "foreign": foreign}
    return json.dumps(table, indent=0, sort_keys=True).encode("ascii")


def from_text(raw: bytes) -> tuple[list[Record], Foreign]:
    """Return the records in a file, and the files that are no frames.

    Raises
    ------
    UsageError
        They are not what arrayred writes.
    """
    try:
        table = json.loads(raw)
        entries: Sequence[Any] = table["frames"]
        if not 0 < len(entries) <= _MOST_FRAMES:
            raise ValueError(len(entries))
        records = [Record.from_json(entry) for entry in entries]
        if len({record.name for record in records}) < len(records):
            raise ValueError("a name stands twice")
        return records, tuple((_text(name), _text(why)) for name, why in table["foreign"])
    except (KeyError, RecursionError, TypeError, ValueError) as error:
        raise UsageError(f"The records of its frames make no sense ({error!r})") from error


def _format(entry: Any) -> PixelFormat:
    bitpix, bzero, bscale, blank, wrapped = entry
    told = PixelFormat(bitpix, float(bzero), float(bscale), blank, wrapped)
    known = bitpix in (8, 16, 32, 64, -32, -64) and isinstance(wrapped, bool)
    if not known or not (blank is None or isinstance(blank, int)):
        raise ValueError(entry)
    return told


def _whole(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise ValueError(value)
    return value


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(value)
    return value


def _sample(value: Any, bitpix: int) -> bytes:
    raw = b64decode(_text(value), validate=True)
    if len(raw) > _MOST_SAMPLED or len(raw) % (abs(bitpix) // 8):
        raise ValueError(len(raw))
    return raw


def _safe_name(value: Any) -> str:
    """Return a file's name if it stays below the folder and has the suffix of a frame."""
    path = PurePosixPath(_text(value))
    if path.is_absolute() or ".." in path.parts or "\0" in value or str(path) != value:
        raise ValueError(value)
    if not is_fits_name(value):
        raise ValueError(value)
    return str(value)
