"""A pass reads every byte once, in whatever bands and threads, and sums files on the way."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path
from threading import Thread
from typing import Any

import numpy as np
import pytest
from astropy.io import fits
from numpy.typing import NDArray

from arrayred.errors import FrameError
from arrayred.io import FrameStack, Pass, PassImage, PixelSource, read_band
from arrayred.io import pixels as reading
from arrayred.io.scan import scan

Array = NDArray[Any]


@pytest.fixture(params=["u2", "i4", "f4"])
def cube(request: pytest.FixtureRequest) -> Array:
    return np.random.default_rng(4).integers(0, 60000, (5, 6, 7)).astype(request.param)


@pytest.fixture
def sources(cube: Array, tmp_path: Path) -> list[PixelSource]:
    """Write frames with something before and behind the pixels."""
    for i, pixels in enumerate(cube):
        hdus = [fits.PrimaryHDU(np.arange(9)), fits.ImageHDU(np.arange(40.0))]
        hdus[0] = fits.PrimaryHDU(pixels)
        fits.HDUList(hdus).writeto(tmp_path / f"{i}.fits")
    return [scan(tmp_path / f"{i}.fits").source for i in range(len(cube))]


def edges(step: int, n: int) -> Iterator[tuple[int, int]]:
    return ((first, min(first + step, n)) for first in range(0, n, step))


def read_all(frames: Pass, step: int) -> Array:
    n_frames, n_pixels, _ = frames.shape
    out = np.empty((n_frames, n_pixels, 1), frames.dtype)
    for first, stop in edges(step, n_pixels):
        frames.read(first, stop, out[:, first:stop])
    return out


def told(sources: list[PixelSource]) -> dict[Path, int | None]:
    """Return DATASUM of every file as astropy computes it, of the last file none."""
    found: dict[Path, int | None] = {}
    for source in sources:
        with fits.open(source.path, do_not_scale_image_data=True) as hdus:
            found[source.path] = int(hdus[0]._calculate_datasum())
    return found | {sources[-1].path: None}


def sums(sources: list[PixelSource]) -> dict[Path, str]:
    return {s.path: hashlib.sha256(s.path.read_bytes()).hexdigest() for s in sources}


@pytest.mark.parametrize("piece", [64, reading.READ_PIECE])
@pytest.mark.parametrize("step", [1, 5, 42, 100])
@pytest.mark.parametrize("most", [0, 100])
def test_bands_of_any_size_give_the_pixels_and_the_sums(
    step: int, piece: int, most: int, cube: Array, sources: list[PixelSource],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr(reading, "READ_PIECE", piece)
    monkeypatch.setattr(reading, "_most_handles", lambda: most)
    with Pass(sources, FrameStack(sources).dtype, told(sources)) as frames:
        pixels = read_all(frames, step)
        assert frames.checksums() == sums(sources)
    assert np.array_equal(pixels.reshape(cube.shape), cube)


def test_a_file_that_is_not_summed_is_not_read_beyond_its_pixels(
    sources: list[PixelSource], monkeypatch: pytest.MonkeyPatch
) -> None:
    read_at, counts = reading._read_at, []
    monkeypatch.setattr(
        reading, "_read_at", lambda *args: counts.append(read_at(*args)) or counts[-1]
    )
    with Pass(sources, FrameStack(sources).dtype) as frames:
        read_all(frames, 11)
        assert frames.checksums() == {}
    assert sum(counts) == sum(source.n_bytes for source in sources)


@pytest.mark.parametrize("step", [1, 7, 42])
def test_a_flipped_bit_is_found_by_datasum(step: int, sources: list[PixelSource]) -> None:
    found, path = told(sources), sources[1].path
    content = bytearray(path.read_bytes())
    content[sources[1].offset + 17] ^= 8
    path.write_bytes(content)
    sources[1] = scan(path).source
    with Pass(sources, FrameStack(sources).dtype, found) as frames:
        read_all(frames, step)
        with pytest.raises(FrameError, match="DATASUM says") as caught:
            frames.checksums()
    assert caught.value.path == str(path)


def test_threads_that_come_out_of_order_wait_for_their_turn(sources: list[PixelSource]) -> None:
    with Pass(sources, FrameStack(sources).dtype, told(sources)) as frames:
        out = np.empty(frames.shape, frames.dtype)
        bands = [(28, 42), (14, 28), (0, 14)]
        threads = [Thread(target=frames.read, args=(a, b, out[:, a:b])) for a, b in bands]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(10)
        assert frames.checksums() == sums(sources)


def test_giving_up_ends_the_waiting(sources: list[PixelSource]) -> None:
    with Pass(sources, FrameStack(sources).dtype, told(sources)) as frames:
        band = np.empty((5, 10, 1), frames.dtype)
        waiting = Thread(target=frames.read, args=(10, 20, band))
        waiting.start()
        waiting.join(0.05)
        assert waiting.is_alive()
        frames.give_up()
        waiting.join(10)
        assert not waiting.is_alive()


def test_a_file_that_changes_during_a_pass_is_an_error_with_its_name(
    sources: list[PixelSource],
) -> None:
    frames = Pass(sources, FrameStack(sources).dtype).__enter__()
    read_all(frames, 20)
    os.utime(sources[3].path, (1e9, 1e9))
    with pytest.raises(FrameError, match="changed") as caught:
        frames.__exit__(None, None, None)
    assert caught.value.path == str(sources[3].path)


def test_a_file_that_went_is_an_error_with_its_name(sources: list[PixelSource]) -> None:
    sources[2].path.unlink()
    with pytest.raises(FrameError, match="cannot be read") as caught:
        Pass(sources, FrameStack(sources).dtype).__enter__()
    assert caught.value.path == str(sources[2].path)


def test_a_file_that_was_cut_is_an_error_not_garbage(sources: list[PixelSource]) -> None:
    with Pass(sources, FrameStack(sources).dtype) as frames:
        os.truncate(sources[1].path, sources[1].offset + 8)
        with pytest.raises(FrameError, match="truncated") as caught:
            read_all(frames, 42)
        os.utime(sources[1].path, ns=(0, sources[1].stamp.mtime_ns))
        os.truncate(sources[1].path, sources[1].stamp.size)
        os.utime(sources[1].path, ns=(0, sources[1].stamp.mtime_ns))
    assert caught.value.path == str(sources[1].path)


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="open files are not listed")
@pytest.mark.parametrize("fails", [False, True])
def test_no_file_stays_open(fails: bool, sources: list[PixelSource]) -> None:
    before = len(os.listdir("/proc/self/fd"))
    if fails:
        sources[4].path.unlink()
        with pytest.raises(FrameError):
            Pass(sources, FrameStack(sources).dtype).__enter__()
    else:
        with Pass(sources, FrameStack(sources).dtype) as frames:
            assert len(os.listdir("/proc/self/fd")) == before + 5
            read_all(frames, 42)
    assert len(os.listdir("/proc/self/fd")) == before


def test_an_image_is_read_when_it_is_sliced(cube: Array, sources: list[PixelSource]) -> None:
    with Pass(sources[2:3], FrameStack(sources).dtype) as frames:
        rows = PassImage(frames)[5:30]
    assert rows.dtype == np.float64
    assert np.array_equal(rows.ravel(), cube[2].ravel()[5:30])


def test_a_target_that_is_not_contiguous_is_filled(cube: Array, sources: list[PixelSource]) -> None:
    out = np.zeros((5, 6, 14), cube.dtype)[:, :, ::2]
    read_band(sources, 0, out)
    assert np.array_equal(out, cube)
