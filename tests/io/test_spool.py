"""Compressed frames: decoded once, never wrongly, never further than promised, and cleaned up."""

from __future__ import annotations

import gzip
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy.io import fits
from numpy.typing import NDArray

from arrayred.errors import FrameError
from arrayred.io import FrameStack, all_plain_pixels, decoding, plain_pixels
from arrayred.io import pixels as spool
from arrayred.io.scan import scan

RNG = np.random.default_rng(5)
PIXELS = RNG.integers(0, 2**16, (60, 80), np.uint16)
PACKINGS = ("gzip", "tiles")


def packed(path: Path, packing: str, pixels: NDArray[Any] = PIXELS) -> Path:
    tiles = fits.CompImageHDU(pixels, compression_type="GZIP_1")
    file = BytesIO()
    (tiles if packing == "tiles" else fits.PrimaryHDU(pixels)).writeto(file)
    raw = file.getvalue()
    path.write_bytes(raw if packing == "tiles" else gzip.compress(raw))
    return path


def read(path: Path) -> NDArray[Any]:
    return FrameStack([plain_pixels(scan(path))])[:, :, :][0]


def count_calls(monkeypatch: pytest.MonkeyPatch, name: str) -> list[object]:
    calls, decode = [], getattr(decoding, name)

    def counted(*args: object) -> object:
        calls.append(args)
        return decode(*args)

    monkeypatch.setattr(decoding, name, counted)
    return calls


@pytest.mark.parametrize("packing", PACKINGS)
def test_one_content_is_decoded_once(
    packing: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = count_calls(monkeypatch, {"gzip": "inflate", "tiles": "decode_in_child"}[packing])
    path = packed(tmp_path / "x.fits", packing)
    with ThreadPoolExecutor(4) as pool:
        images = list(pool.map(read, [path] * 8))
    assert len(calls) == 1
    assert all(np.array_equal(image, PIXELS) for image in images)


@pytest.mark.parametrize("packing", PACKINGS)
def test_other_content_is_decoded_again(
    packing: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = count_calls(monkeypatch, {"gzip": "inflate", "tiles": "decode_in_child"}[packing])
    path = tmp_path / "x.fits"
    for pixels in (PIXELS, PIXELS[::-1]):
        assert np.array_equal(read(packed(path, packing, pixels)), pixels)
    assert len(calls) == 2


@pytest.mark.parametrize("packing", PACKINGS)
def test_a_large_frame_is_decoded_whole(packing: str, tmp_path: Path) -> None:
    pixels = np.tile(PIXELS, (30, 20))
    assert np.array_equal(read(packed(tmp_path / "x.fits", packing, pixels)), pixels)


def test_a_plain_frame_is_read_where_it_is(tmp_path: Path) -> None:
    fits.PrimaryHDU(PIXELS).writeto(tmp_path / "x.fits")
    found = scan(tmp_path / "x.fits")
    assert plain_pixels(found) is found.source


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_several_files_are_decoded_at_once_in_order(threads: int, tmp_path: Path) -> None:
    kinds = ["gzip", "tiles", "gzip", "tiles", "gzip"]
    images = [PIXELS + np.uint16(i) for i in range(5)]
    paths = [
        packed(tmp_path / f"{i}.fits", kind, image)
        for i, (kind, image) in enumerate(zip(kinds, images, strict=True))
    ]
    stack = FrameStack(all_plain_pixels([scan(path) for path in paths], threads))
    assert np.array_equal(stack[:, :, :], np.stack(images))


def test_threads_that_come_at_once_share_one_spool(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make = tempfile.mkdtemp

    def slow(**options: str) -> str:
        time.sleep(0.05)
        return make(**options)

    spool._spool_folder.cache_clear()
    spool._spooled_pixels.cache_clear()  # files of other tests, which are gone with the folder
    monkeypatch.setattr(tempfile, "mkdtemp", slow)
    images = [scan(packed(tmp_path / f"{i}.fits", "gzip")) for i in range(4)]
    sources = all_plain_pixels(images, 4)
    assert len({source.path.parent for source in sources}) == 1
    assert all(source.path.exists() for source in sources)


def test_a_damaged_file_among_many_is_named(tmp_path: Path) -> None:
    paths = [packed(tmp_path / f"{i}.fits", "gzip") for i in range(6)]
    images = [scan(path) for path in paths]
    damaged = packed(tmp_path / "bad.fits", "gzip")
    damaged.write_bytes(damaged.read_bytes()[:-3000])
    with pytest.raises(FrameError) as caught:
        all_plain_pixels([*images[:3], scan(damaged), *images[3:]], 3)
    assert caught.value.path == str(damaged)


def cut(raw: bytes) -> bytes:
    return raw[: len(raw) * 2 // 3]


def without_checksum(raw: bytes) -> bytes:
    return raw[:-8]


def flipped_in_the_checksum(raw: bytes) -> bytes:
    return raw[:-6] + bytes([raw[-6] ^ 1]) + raw[-5:]


def flipped_pixel_of_stored_blocks(raw: bytes) -> bytes:
    """Return the content stored without compression, where a flipped bit is one wrong pixel."""
    stored = bytearray(gzip.compress(gzip.decompress(raw), compresslevel=0))
    stored[5000] ^= 4
    return bytes(stored)


def two_thirds_of_the_pixels(raw: bytes) -> bytes:
    return gzip.compress(cut(gzip.decompress(raw)))


def text_behind(raw: bytes) -> bytes:
    return raw + b"not a gzip member"


@pytest.mark.parametrize(
    "damage",
    [
        cut,
        without_checksum,
        flipped_in_the_checksum,
        flipped_pixel_of_stored_blocks,
        two_thirds_of_the_pixels,
        text_behind,
    ],
)
def test_damaged_gzip_is_an_error_not_wrong_pixels(
    damage: Callable[[bytes], bytes], tmp_path: Path
) -> None:
    path = packed(tmp_path / "x.fits.gz", "gzip")
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(FrameError) as caught:
        read(path)
    assert str(caught.value).startswith(f"{path}: ")


@pytest.mark.parametrize("byte", range(600, 9000, 1400))
def test_a_flipped_bit_anywhere_in_gzip_never_gives_wrong_pixels(byte: int, tmp_path: Path) -> None:
    path = packed(tmp_path / "x.fits.gz", "gzip")
    raw = bytearray(path.read_bytes())
    raw[byte] ^= 8
    path.write_bytes(raw)
    with pytest.raises(FrameError, match="damaged"):
        read(path)


@pytest.mark.filterwarnings("ignore::astropy.utils.exceptions.AstropyUserWarning")
@pytest.mark.parametrize("part", [0.3, 0.6, 0.9])
def test_a_cut_tile_compressed_frame_is_an_error(part: float, tmp_path: Path) -> None:
    path = packed(tmp_path / "x.fits.fz", "tiles")
    raw = path.read_bytes()
    path.write_bytes(raw[: int(len(raw) * part)])
    with pytest.raises(FrameError) as caught:
        read(path)
    assert str(caught.value).startswith(f"{path}: ")


def test_after_a_failure_the_mended_file_is_read(tmp_path: Path) -> None:
    path = packed(tmp_path / "x.fits.gz", "gzip")
    whole = path.read_bytes()
    path.write_bytes(cut(whole))
    with pytest.raises(FrameError):
        read(path)
    path.write_bytes(whole)
    assert np.array_equal(read(path), PIXELS)


def remove(path: Path) -> None:
    path.unlink()


def replace_by_another(path: Path) -> None:
    packed(path, "tiles" if path.suffix == ".fz" else "gzip", PIXELS[::-1])


@pytest.mark.parametrize("change", [remove, replace_by_another])
@pytest.mark.parametrize(("packing", "suffix"), [("gzip", ".gz"), ("tiles", ".fz")])
def test_a_compressed_file_that_changes_after_the_scan_is_an_error_with_its_name(
    packing: str, suffix: str, change: Callable[[Path], None], tmp_path: Path
) -> None:
    path = packed(tmp_path / f"x.fits{suffix}", packing)
    found = scan(path)
    change(path)
    with pytest.raises(FrameError) as caught:
        FrameStack([plain_pixels(found)])[:, :, :]
    assert str(caught.value).startswith(f"{path}: ")


def test_far_more_data_than_the_header_promises_is_refused(tmp_path: Path) -> None:
    path = packed(tmp_path / "x.fits.gz", "gzip")
    with path.open("ab") as file:
        file.write(gzip.compress(bytes(1 << 20)) * 300)
    with pytest.raises(FrameError, match="much larger") as caught:
        read(path)
    assert caught.value.path == str(path)


def test_a_huge_promise_writes_no_more_than_the_file_holds(tmp_path: Path) -> None:
    header = fits.Header([("SIMPLE", True), ("BITPIX", 16), ("NAXIS", 2)])
    header.update({"NAXIS1": 60000, "NAXIS2": 60000})
    path = tmp_path / "x.fits.gz"
    path.write_bytes(gzip.compress(header.tostring().encode() + PIXELS.tobytes()))
    with pytest.raises(FrameError, match="truncated"):
        read(path)


KINDS = ("RICE_1", "GZIP_1", "HCOMPRESS_1")


def tiled(path: Path, kind: str) -> Path:
    pixels = PIXELS.astype(np.int32)
    fits.CompImageHDU(pixels, compression_type=kind).writeto(path)
    return path


def test_tiles_are_decoded_in_one_process_of_their_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    decoding._end_children()
    started = count_calls(monkeypatch, "_Child")
    in_this_process = count_calls(monkeypatch, "decode_tiles")
    for kind in KINDS * 2:
        path = tmp_path / f"{kind}.fits.fz"
        assert np.array_equal(read(path if path.exists() else tiled(path, kind)), PIXELS)
    assert (len(started), len(in_this_process)) == (1, 0)


@pytest.mark.parametrize("kind", ["RICE_1", "GZIP_1"])
def test_a_flipped_bit_is_seen_by_the_sum_of_the_pixels(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "x.fits"
    noise = np.random.default_rng(3).integers(0, 9999, PIXELS.shape).astype(np.int16)
    fits.PrimaryHDU(noise).writeto(path, checksum=True)
    with fits.open(path) as hdus:
        packed = fits.CompImageHDU(hdus[0].data, hdus[0].header, compression_type=kind)
        packed.writeto(tmp_path / "x.fits.fz")
    good = (tmp_path / "x.fits.fz").read_bytes()
    assert b"ZDATASUM" in good
    assert np.array_equal(read(tmp_path / "x.fits.fz"), noise)
    seen = set()
    for at in range(good.index(b"ZDATASUM") + 2880, len(good), 233):
        (tmp_path / "y.fits.fz").write_bytes(good[:at] + bytes([good[at] ^ 16]) + good[at + 1 :])
        try:
            assert np.array_equal(read(tmp_path / "y.fits.fz"), noise)
            seen.add("unharmed")
        except FrameError as error:
            seen.add(error.keyword or "damaged")
        (tmp_path / "y.fits.fz").unlink()
    assert ("ZDATASUM" if kind == "RICE_1" else "damaged") in seen


def test_a_decoder_that_does_not_end_or_dies_is_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tiled(tmp_path / "x.fits.fz", "RICE_1")
    decoding._end_children()
    monkeypatch.setattr(decoding, "_CHILD_SECONDS", 0.01)
    with pytest.raises(FrameError, match="does not end") as caught:
        read(path)
    assert str(caught.value).startswith(f"{path}: ")
    monkeypatch.undo()
    assert np.array_equal(read(path), PIXELS)
    decoding._idle[0]._process.kill()
    with pytest.raises(FrameError, match=r"does not end|failed"):
        read(tiled(tmp_path / "y.fits.fz", "RICE_1"))
    assert np.array_equal(read(tiled(tmp_path / "z.fits.fz", "RICE_1")), PIXELS)


def test_a_cut_hcompress_frame_is_an_error_with_its_name(tmp_path: Path) -> None:
    path = tiled(tmp_path / "x.fits.fz", "HCOMPRESS_1")
    path.write_bytes(path.read_bytes()[:9000])
    with pytest.raises(FrameError) as caught:
        read(path)
    assert str(caught.value).startswith(f"{path}: ")


def test_a_decoder_that_crashes_is_an_error_with_the_frames_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, crash = tiled(tmp_path / "x.fits.fz", "HCOMPRESS_1"), tmp_path / "crash"
    crash.write_text("#!/bin/sh\nkill -SEGV $$\n")
    crash.chmod(0o755)
    decoding._end_children()
    monkeypatch.setattr(sys, "executable", str(crash))
    with pytest.raises(FrameError) as caught:
        read(path)
    assert str(caught.value).startswith(f"{path}: ")


def spooled_by(code: str, path: Path) -> subprocess.CompletedProcess[str]:
    script = f"""
import os, sys
from pathlib import Path
from arrayred.io.scan import scan
from arrayred.io.pixels import plain_pixels
source = plain_pixels(scan(Path(sys.argv[1])))
assert source.path.exists()
print(source.path, flush=True)
{code}
"""
    command = [sys.executable, "-c", script, str(path)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


@pytest.mark.parametrize(
    ("code", "status"), [("", 0), ("sys.exit(3)", 3), ("raise RuntimeError", 1)]
)
def test_the_spool_goes_when_the_process_ends(code: str, status: int, tmp_path: Path) -> None:
    result = spooled_by(code, packed(tmp_path / "x.fits.gz", "gzip"))
    assert result.returncode == status, result.stderr
    path = Path(result.stdout.strip())
    assert path.suffix == ".pixels"
    assert not path.parent.exists()


def test_a_forked_child_leaves_its_parents_spool_alone(tmp_path: Path) -> None:
    code = """
if os.fork() == 0:
    assert plain_pixels(scan(Path(sys.argv[1]))).path.parent != source.path.parent
    sys.exit(0)
assert os.wait()[1] == 0
assert source.path.exists()
"""
    result = spooled_by(code, packed(tmp_path / "x.fits.gz", "gzip"))
    assert result.returncode == 0, result.stderr


def test_a_failed_decoding_leaves_nothing_in_the_spool(tmp_path: Path) -> None:
    folder = plain_pixels(scan(packed(tmp_path / "good.fits.gz", "gzip"))).path.parent
    before = set(folder.iterdir())
    path = packed(tmp_path / "bad.fits.gz", "gzip")
    path.write_bytes(without_checksum(path.read_bytes()))
    with pytest.raises(FrameError):
        read(path)
    assert set(folder.iterdir()) == before
