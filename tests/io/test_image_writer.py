"""A sink writes the bytes that publishing at once writes, and no fault leaves a torn file."""

from __future__ import annotations

import errno
import itertools
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy.io import fits
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from arrayred.errors import StorageError, UsageError
from arrayred.io import Header, image_bytes, open_image_writer

Array = NDArray[Any]
PIXELS = np.random.default_rng(2).normal(1000, 300, (9, 14))
HEADER = Header(["OBJECT  = 'a star  '"])


def write(
    path: Path, cuts: tuple[int, ...] = (), dtype: str = "float32", overwrite: bool = False
) -> Path:
    """Write the pixels in runs that end at the cuts, the last run first."""
    edges = [0, *sorted(cuts), PIXELS.size]
    with open_image_writer(path, HEADER, (9, 14), dtype, overwrite=overwrite) as sink:
        for first, stop in reversed(list(itertools.pairwise(edges))):
            sink[first:stop] = PIXELS.reshape(-1, 1)[first:stop]
        sink.finish(HEADER)
    return path


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@settings(deadline=None, max_examples=30)
@given(cuts=st.lists(st.integers(0, PIXELS.size), max_size=6))
def test_the_bytes_are_those_of_an_image_published_at_once(
    dtype: str, cuts: list[int], tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = write(tmp_path_factory.mktemp("sink") / "a.fits", tuple(cuts), dtype)
    assert path.read_bytes() == image_bytes(HEADER, PIXELS, dtype)


def test_astropy_accepts_the_checksums(tmp_path: Path) -> None:
    with fits.open(write(tmp_path / "deep" / "a.fits", (5, 77)), checksum=True) as hdus:
        assert np.array_equal(hdus[0].data, PIXELS.astype("f4"))
        assert hdus[0].verify_checksum() == hdus[0].verify_datasum() == 1


def test_nothing_is_there_before_the_end_nor_if_it_is_not_finished(tmp_path: Path) -> None:
    path = tmp_path / "a.fits"
    with open_image_writer(path, HEADER, (9, 14), "float32") as sink:
        sink[0:126] = PIXELS
        assert not path.exists()
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(KeyError), open_image_writer(path, HEADER, (9, 14), "float32") as sink:
        raise KeyError
    assert list(tmp_path.iterdir()) == []


def test_a_header_that_grew_is_refused(tmp_path: Path) -> None:
    longer = Header([f"KEY{i:5}= 1" for i in range(40)])
    with (
        pytest.raises(ValueError, match="grew from 2880 to 5760"),
        open_image_writer(tmp_path / "a.fits", HEADER, (9, 14), "float32") as sink,
    ):
        sink.finish(longer)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("old", [b"", b"other", image_bytes(Header(), PIXELS + 1, "float32")])
def test_a_file_of_other_content_needs_overwrite(old: bytes, tmp_path: Path) -> None:
    path = tmp_path / "a.fits"
    path.write_bytes(old)
    with pytest.raises(UsageError, match="--overwrite") as caught:
        write(path)
    assert (caught.value.path, path.read_bytes()) == (str(path), old)
    write(path, overwrite=True)
    assert path.read_bytes() == image_bytes(HEADER, PIXELS, "float32")


def test_other_pixels_under_the_same_head_need_overwrite(tmp_path: Path) -> None:
    path = tmp_path / "a.fits"
    path.write_bytes(image_bytes(HEADER, PIXELS + 1, "float32"))
    with pytest.raises(UsageError, match="--overwrite"):
        write(path)
    assert path.read_bytes() == image_bytes(HEADER, PIXELS + 1, "float32")


@pytest.mark.parametrize("overwrite", [False, True])
def test_the_same_content_is_left_alone(overwrite: bool, tmp_path: Path) -> None:
    before = write(tmp_path / "a.fits").stat()
    after = write(tmp_path / "a.fits", (3, 50), overwrite=overwrite).stat()
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
    assert len(list(tmp_path.iterdir())) == 1


def test_a_link_in_the_way_is_replaced_and_its_victim_untouched(tmp_path: Path) -> None:
    victim, path = tmp_path / "victim", tmp_path / "a.fits"
    victim.write_bytes(b"precious")
    path.symlink_to(victim)
    with pytest.raises(UsageError):
        write(path)
    write(path, overwrite=True)
    assert victim.read_bytes() == b"precious"
    assert not path.is_symlink()


CALLS = ("open", "pwrite", "ftruncate", "fsync", "replace")


def failing(nth: int, fault: int) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Return a wrapper of calls of which the nth, counted over all, fails."""
    count = itertools.count(1)

    def wrapper(call: Callable[..., Any]) -> Callable[..., Any]:
        def watching(*args: Any, **options: Any) -> Any:
            if next(count) == nth:
                raise OSError(fault, os.strerror(fault))
            return call(*args, **options)

        return watching

    return wrapper


def fails(path: Path) -> StorageError | None:
    """Write over an old file and return the error, if there is one."""
    try:
        write(path, (40, 80), overwrite=True)
    except StorageError as error:
        return error
    return None


@pytest.mark.parametrize("fault", [errno.ENOSPC, errno.EIO])
def test_whatever_call_fails_the_old_file_or_the_new_one_is_whole(
    fault: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    new = image_bytes(HEADER, PIXELS, "float32")
    for nth in itertools.count(1):
        path = tmp_path / str(nth) / "a.fits"
        path.parent.mkdir()
        path.write_bytes(b"old")
        with monkeypatch.context() as patch:
            wrapper = failing(nth, fault)
            for name in CALLS:
                patch.setattr(os, name, wrapper(getattr(os, name)))
            error = fails(path)
        assert path.read_bytes() in (b"old", new)
        assert [left.name for left in path.parent.iterdir()] == ["a.fits"]
        if error is None:
            break
        assert (error.path, error.exit_code) == (str(path), 5)
        assert os.strerror(fault) in str(error)
    assert path.read_bytes() == new
    assert nth == 11  # open, make room, 3 runs, head, sync, rename, open and sync the folder


def test_short_writes_are_continued(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pwrite = os.pwrite
    monkeypatch.setattr(os, "pwrite", lambda h, view, at: pwrite(h, view[:100], at))
    assert write(tmp_path / "a.fits").read_bytes() == image_bytes(HEADER, PIXELS, "float32")
