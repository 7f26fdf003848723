"""What a store tells is believed once, what passes is asked again, what does not is said."""

from __future__ import annotations

import datetime
import errno
import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
from astropy.io import fits

import arrayred as ar
from arrayred.errors import FrameError, InputError, StorageError
from arrayred.io import (
    ByteRange,
    Hashes,
    RangedFile,
    find_image,
    is_identified,
    list_remote,
    open_remote,
    pixels,
    read_range,
    read_ranges,
    remote_address,
    sha256_of_remote,
    stamp_of,
)
from arrayred.io import remote as module
from tests.io.remote_store import Store

NIGHT = "memory://bucket/night"


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "REMOTE_RETRY_DELAYS_S", (0.0, 0.0))


@pytest.fixture
def there(night: Path, bucket: Store) -> Store:
    """Return a bucket with the frames of the simulated night."""
    bucket.put(night, "night")
    return bucket


class Failing:
    """Fails some times when a file is read, then no more."""

    def __init__(self, error: Exception, n_times: int) -> None:
        self.error, self.left, self.n_tries = error, n_times, 0

    def __call__(self, path: str) -> None:
        self.n_tries += 1
        self.left -= 1
        if self.left >= 0:
            raise self.error


def test_a_night_is_listed_by_one_question(there: Store, night: Path) -> None:
    there.write("night/.hidden.fit", b"x")
    there.write("night/a/b/c/deep.fit", b"x")
    found = list_remote(remote_address(NIGHT), 3)
    assert [path.name for path in sorted(found)] == sorted(p.name for p in night.iterdir())
    assert {path.name: stamp.size for path, stamp in found.items()} == {
        path.name: path.stat().st_size for path in night.iterdir()
    }


def test_folders_too_deep_are_said(there: Store) -> None:
    there.write("night/a/b/c/deep.fit", b"x")
    assert (f"{NIGHT}/a/b/c", "lies deeper than 3 folders") in ar.open_night(NIGHT).foreign


@pytest.mark.parametrize("error", [TimeoutError(), ConnectionResetError(), OSError(errno.EIO, "")])
def test_what_may_pass_is_tried_three_times(error: Exception, there: Store) -> None:
    name = remote_address(f"{NIGHT}/dark-001.fit")
    there.fail = Failing(error, 2)
    assert read_range(name, 0, 6) == b"SIMPLE"
    there.fail = failing = Failing(error, 3)
    with pytest.raises(FrameError, match=r"memory://bucket/night/dark-001\.fit"):
        read_range(name, 0, 6)
    assert failing.n_tries == 3


@pytest.mark.parametrize(
    "error", [PermissionError("denied"), FileNotFoundError("x"), OSError(22, "")]
)
def test_what_will_not_pass_is_said_at_once(error: Exception, there: Store) -> None:
    there.fail = failing = Failing(error, 9)
    with pytest.raises(FrameError):
        read_range(remote_address(f"{NIGHT}/dark-001.fit"), 0, 6)
    assert failing.n_tries == 1


def test_parts_come_in_the_order_in_which_they_were_asked_for(bucket: Store) -> None:
    bucket.write("a", bytes(range(100)))
    bucket.write("b", bytes(range(100, 200)))
    a, b = (remote_address(f"memory://bucket/{name}") for name in "ab")
    found = read_ranges(
        [ByteRange(b, 3, 5), ByteRange(a, 98, 120), ByteRange(a, 7, 7), ByteRange(b, 0, 1)]
    )
    assert found == [bytes([103, 104]), bytes([98, 99]), b"", bytes([100])]


def test_a_server_that_sends_all_of_a_file_is_understood(
    bucket: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    bucket.write("a", bytes(range(100)))
    whole = bytes(range(100))
    monkeypatch.setattr(type(bucket.system), "cat_file", lambda *_, **__: whole)
    assert read_range(remote_address("memory://bucket/a"), 40, 43) == bytes([40, 41, 42])


def test_a_header_costs_one_read_of_five_blocks(there: Store) -> None:
    name = f"{NIGHT}/dark-001.fit"
    list_remote(remote_address(NIGHT), 1)
    image = find_image(Path(name))
    assert [(first, n) for _, first, n in there.asked] == [(0, 14400)]
    assert image.source.stamp == stamp_of(remote_address(name))


@pytest.mark.parametrize("n_cards", [10, 600])
def test_images_behind_long_headers_and_in_extensions_are_found(
    n_cards: int, bucket: Store, tmp_path: Path
) -> None:
    header = fits.Header([(f"K{i}", i) for i in range(n_cards)])
    image = fits.ImageHDU(np.arange(6, dtype=np.int16).reshape(2, 3), header)
    fits.HDUList([fits.PrimaryHDU(), image]).writeto(tmp_path / "x.fits")
    list_remote(remote_address(bucket.put(tmp_path, "night")), 1)
    here, there = find_image(tmp_path / "x.fits"), find_image(Path(f"{NIGHT}/x.fits"))
    assert (here.hdu, here.source.offset) == (there.hdu, there.source.offset)
    assert here.header.images() == there.header.images()


def test_a_frame_cut_short_is_found_from_its_listing(there: Store) -> None:
    there.write("night/dark-001.fit", there.content("night/dark-001.fit")[:-5000])
    night = ar.open_night(NIGHT)
    assert "its header states" in str(night.problems[0])
    assert str(night.problems[0]).startswith(f"{NIGHT}/dark-001.fit")


def test_a_frame_replaced_after_the_scan_is_an_error(there: Store) -> None:
    cube = ar.open_frames(NIGHT, chunks="auto")
    raw = bytearray(there.content("night/dark-001.fit"))
    raw[-3000] ^= 1
    there.write("night/dark-001.fit", bytes(raw))
    with pytest.raises(FrameError, match="has changed"):
        cube.counts.compute()


def test_a_copy_for_which_there_is_no_room_is_said(
    there: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    cube = ar.open_frames(NIGHT, chunks="auto")
    monkeypatch.setattr("arrayred.io.remote.copy_remote", full)
    with pytest.raises(StorageError, match=r"fetched.*No space left"):
        cube.counts.compute()
    monkeypatch.undo()
    assert cube.counts.compute().shape[0] == 8


def test_copies_are_made_once_and_removed_when_released(there: Store) -> None:
    list_remote(remote_address(NIGHT), 1)
    image = find_image(Path(f"{NIGHT}/dark-001.fit"))
    there.asked.clear()
    one, two = pixels.copied_file(image), pixels.copied_file(image)
    assert one == two
    assert there.n_bytes == image.source.stamp.size
    assert one.sha256 == hashlib.sha256(there.content("night/dark-001.fit")).hexdigest()
    pixels.release_copies([image])
    assert not one.path.exists()


def test_a_wrong_datasum_names_the_url(there: Store, tmp_path: Path) -> None:
    from arrayred.io import examine

    raw = bytearray(there.content("night/dark-001.fit"))
    raw[-3000] ^= 1
    there.write("night/dark-001.fit", bytes(raw))
    found = examine(ar.open_night(NIGHT).frames)
    (error,) = (value for value in found.values() if not isinstance(value, str))
    assert str(error).startswith(f"{NIGHT}/dark-001.fit: ")
    assert "DATASUM" in str(error)


def test_the_sum_of_a_file_is_kept_as_long_as_the_store_tells_the_same(
    there: Store, tmp_path: Path
) -> None:
    name, hashes = remote_address(f"{NIGHT}/dark-001.fit"), Hashes(tmp_path)
    truth = sha256_of_remote(name)
    assert hashes.of(name) == truth
    hashes.save()
    there.asked.clear()
    assert Hashes(tmp_path).of(name) == truth
    assert there.asked == []
    there.write("night/dark-001.fit", there.content("night/dark-001.fit") + bytes(2880))
    list_remote(remote_address(NIGHT), 1)
    assert Hashes(tmp_path).of(name) == sha256_of_remote(name) != truth


@pytest.mark.parametrize(
    ("facts", "is_known"),
    [
        ({"size": 5}, False), ({"size": 5, "ETag": '"abc"'}, True),
        ({"size": 5, "mtime": 7.5}, True),
        ({"size": 5, "created": datetime.datetime(2024, 3, 1)}, True),
        ({"size": 5, "Last-Modified": "Sun, 22 Nov 2026"}, True),
    ],
)  # fmt: skip
def test_a_store_that_tells_neither_time_nor_tag_is_not_believed(
    facts: dict[str, Any], is_known: bool
) -> None:
    assert is_identified(module._stamp_from_store(facts)) == is_known


def test_sums_of_files_that_their_store_does_not_identify_are_not_kept(
    bucket: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bucket.write("a", b"abc")
    name, hashes = remote_address("memory://bucket/a"), Hashes(tmp_path)
    told = {"name": "/bucket/a", "size": 3, "type": "file"}
    monkeypatch.setattr(type(bucket.system), "info", lambda *_, **__: told)
    assert stamp_of(name, anew=True).size == 3
    assert hashes.of(name) == hashlib.sha256(b"abc").hexdigest()
    assert hashes.known(name) is None


def test_what_a_store_says_tells_no_secret() -> None:
    place = remote_address("https://me:hush@host/night")
    error = module.unreachable_error(place, OSError(f"{place.whole}: gone; me:hush was refused"))
    assert "hush" not in str(error)
    assert "https://host/night: gone" in str(error)


def test_xarray_opens_a_frame_behind_a_url(there: Store, night: Path) -> None:
    frame = xr.open_dataset(f"{NIGHT}/dark-001.fit", engine="arrayred")
    assert frame.counts.dims == ("frame", "y", "x")
    assert frame.frame.item() == f"{NIGHT}/dark-001.fit"
    assert np.array_equal(frame.counts[0], fits.getdata(night / "dark-001.fit"))


def test_a_tag_counts_for_more_than_a_time() -> None:
    one, two = ({"size": 5, "ETag": tag, "mtime": t} for tag, t in (('"a"', 1.0), ("a", 2.0)))
    assert module._stamp_from_store(one) == module._stamp_from_store(two)
    assert module._stamp_from_store(one) != module._stamp_from_store(one | {"ETag": '"b"'})


def test_a_file_is_read_from_anywhere(bucket: Store) -> None:
    bucket.write("long", bytes(range(100)))
    file = RangedFile(remote_address("memory://bucket/long"), 100)
    assert (file.seek(-10, 2), file.read(20)) == (90, bytes(range(90, 100)))
    assert (file.seek(5), file.read(2), file.seek(1, 1), file.read(1)) == (5, b"\5\6", 8, b"\10")
    stream, stamp = open_remote(remote_address("memory://bucket/long"))
    assert (stream.read(), stamp.size) == (bytes(range(100)), 100)


def test_an_unreachable_folder_is_an_error_of_the_inputs(
    bucket: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    def find(*_: object, **__: object) -> None:
        raise ConnectionError("no route to host")

    monkeypatch.setattr(type(bucket.system), "find", find)
    with pytest.raises(InputError, match=r"memory://bucket/night: .*no route"):
        ar.open_night(NIGHT)


def test_patterns_and_single_frames_may_be_urls(there: Store, night: Path) -> None:
    darks = ar.open_frames(f"{NIGHT}/dark-*.fit")
    assert list(darks.frame.values) == [f"dark-00{i}" for i in range(1, 6)]
    assert np.array_equal(darks.counts[0], fits.getdata(night / "dark-001.fit"))
    with pytest.raises(InputError, match="Nothing matches"):
        ar.open_frames(f"{NIGHT}/none-*")


def test_a_cache_among_the_frames_is_passed_by(there: Store) -> None:
    there.write("night/half.zarr/zarr.json", b"{}")
    assert len(ar.open_night(NIGHT).frames) == 8


def test_darks_beside_a_folder_judge_it_behind_a_url_too(bucket: Store, tmp_path: Path) -> None:
    low = (np.arange(1600) % 7 + 1000).astype(np.uint16).reshape(40, 40)
    for kind, name, values in (("Dark", "dark/d", low), ("Light", "star/s", low + 40000)):
        header = fits.Header([("IMAGETYP", kind), ("EXPTIME", 60.0)])
        (tmp_path / name).parent.mkdir()
        fits.PrimaryHDU(values.view(np.int16), header).writeto(tmp_path / f"{name}.fits")
    bucket.put(tmp_path, "2024")
    here, there = (ar.open_frames(f"{top}/star") for top in (tmp_path, "memory://bucket/2024"))
    assert here.counts.dtype == there.counts.dtype == np.uint16
