"""Checksums of inputs: sha256 as hashlib has it, DATASUM as astropy writes it."""

from __future__ import annotations

import gzip
import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from threading import Event

import numpy as np
import pytest
from astropy.io import fits

from arrayred.config import Instrument
from arrayred.errors import ArrayredError, FrameError
from arrayred.io import Frame, Hashes, examine, read_frames, required_checksums

PIXELS = np.random.default_rng(5).integers(0, 65536, (301, 701)).astype(np.uint16)


def primary(path: Path) -> Path:
    fits.PrimaryHDU(PIXELS).writeto(path, checksum=True)
    return path


def extension(path: Path) -> Path:
    fits.HDUList([fits.PrimaryHDU(), fits.ImageHDU(PIXELS)]).writeto(path, checksum=True)
    return path


def between(path: Path) -> Path:
    """Write an image that another one follows."""
    images = [fits.ImageHDU(PIXELS), fits.ImageHDU(np.ones((40, 40)))]
    fits.HDUList([fits.PrimaryHDU(), *images]).writeto(path, checksum=True)
    return path


def tiles(path: Path) -> Path:
    image = fits.CompImageHDU(PIXELS, compression_type="RICE_1")
    fits.HDUList([fits.PrimaryHDU(), image]).writeto(path, checksum=True)
    return path


FORMS: list[Callable[[Path], Path]] = [primary, extension, between, tiles]


def frame_at(path: Path) -> Frame:
    (frame,), _ = read_frames([path], Instrument.load("generic"))
    return frame


def found_for(path: Path) -> str | ArrayredError:
    return examine([frame_at(path)])[path]


def flip(path: Path, position: int) -> None:
    raw = bytearray(path.read_bytes())
    raw[position] ^= 1
    path.write_bytes(raw)


@pytest.mark.parametrize("form", FORMS)
def test_a_whole_file_has_the_sha256_of_hashlib(
    form: Callable[[Path], Path], tmp_path: Path
) -> None:
    path = form(tmp_path / "frame.fits")
    assert found_for(path) == hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.mark.parametrize("where", [0.0, 0.4, 1.0])
@pytest.mark.parametrize("form", FORMS)
def test_a_flipped_bit_anywhere_in_the_data_is_found(
    form: Callable[[Path], Path], where: float, tmp_path: Path
) -> None:
    path = form(tmp_path / "frame.fits")
    with fits.open(path, disable_image_compression=True) as hdus:
        info = hdus[0 if form is primary else 1].fileinfo()
        first, last = info["datLoc"], info["datLoc"] + info["datSpan"] - 1
    flip(path, int(first + where * (last - first)))
    error = found_for(path)
    assert isinstance(error, FrameError)
    assert (error.path, error.keyword) == (str(path), "DATASUM")


def test_a_changed_header_is_no_damage_of_the_data(tmp_path: Path) -> None:
    path = primary(tmp_path / "frame.fits")
    raw = path.read_bytes()
    path.write_bytes(raw.replace(b"checksum updated", b"Checksum updated"))
    assert isinstance(found_for(path), str)


@pytest.mark.parametrize("value", ["", "unknown", 1.5, True, -3])
def test_a_datasum_that_says_nothing_is_not_compared(value: object, tmp_path: Path) -> None:
    path = tmp_path / "frame.fits"
    fits.PrimaryHDU(PIXELS, fits.Header({"DATASUM": value})).writeto(path)
    assert isinstance(found_for(path), str)


def test_the_primary_headers_datasum_is_not_that_of_the_extension(tmp_path: Path) -> None:
    path = tmp_path / "frame.fits"
    first = fits.PrimaryHDU()
    first.add_datasum()
    fits.HDUList([first, fits.ImageHDU(PIXELS)]).writeto(path)
    assert isinstance(found_for(path), str)


def test_a_gzip_file_is_left_to_its_own_checksum(tmp_path: Path) -> None:
    path = tmp_path / "frame.fits.gz"
    path.write_bytes(gzip.compress(primary(tmp_path / "frame.fits").read_bytes()))
    assert found_for(path) == hashlib.sha256(path.read_bytes()).hexdigest()


def test_padding_that_was_cut_off_counts_as_zeros(tmp_path: Path) -> None:
    path = primary(tmp_path / "frame.fits")
    os.truncate(path, path.stat().st_size - 998)
    assert isinstance(found_for(path), str)


def test_a_file_that_changed_since_its_scan_is_an_error(tmp_path: Path) -> None:
    frame = frame_at(primary(tmp_path / "frame.fits"))
    flip(frame.path, -1)
    error = examine([frame])[frame.path]
    assert isinstance(error, FrameError)
    assert "has changed" in str(error)


def test_a_file_that_vanished_is_an_error_of_its_own_only(tmp_path: Path) -> None:
    gone, there = (frame_at(primary(tmp_path / name)) for name in ("a.fits", "b.fits"))
    gone.path.unlink()
    examined = examine([gone, there])
    assert list(required_checksums(examined, [there])) == [there.path]
    with pytest.raises(FrameError, match=r"a\.fits: The file cannot be read"):
        required_checksums(examined, [there, gone])


def test_frames_of_an_observatory_are_whole(nights: Path) -> None:
    for path in (nights / "formats" / "floyds").iterdir():
        assert frame_at(path).image.header["DATASUM"]
        assert isinstance(found_for(path), str)


def test_a_known_file_is_not_read_and_one_that_was_told_to_stop_reads_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    frames = [frame_at(primary(tmp_path / "a.fits"))]
    hashes, stop = Hashes(tmp_path), Event()
    told = examine(frames, hashes, stop)
    assert told == {frames[0].path: hashlib.sha256(frames[0].path.read_bytes()).hexdigest()}
    monkeypatch.setattr(hashes, "known", lambda path: told[path])
    monkeypatch.setattr(Path, "open", None)
    assert examine(frames, hashes) == told
    stop.set()
    assert examine(frames, None, stop) == {}
