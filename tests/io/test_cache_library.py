"""Caches by their key: another input, version or option is a miss; the least used go first."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

import arrayred as ar
from arrayred.config import Instrument, NightFile
from arrayred.errors import FrameError, UsageError
from arrayred.io import CacheFolder, cache_key, default_cache_folder
from arrayred.io import caching as module
from arrayred.night import CachePolicy, cache_night

FILES = [("a.fit", "0" * 64), ("b.fit", "1" * 64)]


@pytest.fixture
def library(tmp_path: Path, frames: Path) -> CacheFolder:
    """Return a library with the cache of one night."""
    library = CacheFolder(tmp_path / "library")
    cache_night(ar.open_night(frames), library)
    return library


def key(library: CacheFolder) -> str:
    return library.entries()[0].place.stem


def test_the_key_changes_with_everything_that_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    keys = {cache_key(FILES, "x"), cache_key(FILES, "y"), cache_key(FILES[:1], "x")}
    keys |= {cache_key([("a.fit", "0" * 64), ("c.fit", "1" * 64)], "x")}
    keys |= {cache_key([("a.fit", "0" * 64), ("b.fit", "2" * 64)], "x")}
    for name, other in (("__version__", "9.9"), ("SCHEMA", 99), ("CHUNK_BYTES", 32)):
        monkeypatch.setattr(module, name, other)
        keys.add(cache_key(FILES, "x"))
    assert len(keys) == 8


def test_the_key_does_not_depend_on_the_order_of_files() -> None:
    assert cache_key(FILES, "x") == cache_key(FILES[::-1], "x")


def shelved(library: CacheFolder, folder: Path, file: NightFile | None = None) -> bool:
    """Tell whether a night is read from its cache."""
    caching = CachePolicy(library, always=True)
    night = ar.open_night(folder, file or NightFile(), caching=caching)
    return all(frame.image.source.cached is not None for frame in night.frames)


def test_the_same_frames_are_a_hit(library: CacheFolder, frames: Path) -> None:
    assert shelved(library, frames)


@pytest.mark.parametrize(
    "file",
    [
        NightFile(unsigned="wrapped"),
        NightFile(types={"arc": ("light-001",)}),
        NightFile(exclude=("light-001",)),
    ],
)
def test_other_options_are_a_miss(file: NightFile, library: CacheFolder, frames: Path) -> None:
    assert not shelved(library, frames, file)


def test_a_frame_changed_behind_its_date_is_a_miss(
    library: CacheFolder, frames: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "copy"
    folder.mkdir()
    for path in frames.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    assert shelved(library, folder)
    path = folder / "dark-001.fit"
    raw, status = bytearray(path.read_bytes()), path.stat()
    raw[3000] ^= 1
    path.write_bytes(raw)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert not shelved(library, folder)


def test_a_damaged_cache_is_dropped_and_said(library: CacheFolder, frames: Path) -> None:
    (shard,) = library.place_of(key(library)).glob("raw/dark/*/counts/c/0/0/0")
    raw = bytearray(shard.read_bytes())
    raw[50] ^= 1
    shard.write_bytes(raw)
    said: list[str] = []
    night = ar.open_night(frames, caching=CachePolicy(library, True, said.append))
    assert all(frame.image.source.cached is None for frame in night.frames)
    assert "damaged" in said[0]
    assert library.entries() == []


def test_a_cache_under_anothers_key_is_an_error(library: CacheFolder) -> None:
    (place,) = (entry.place for entry in library.entries())
    place.rename(library.place_of("f" * 64))
    with pytest.raises(FrameError, match="other frames"):
        library.find("f" * 64)


def test_a_library_that_anybody_can_write_is_refused(library: CacheFolder) -> None:
    library.folder.chmod(0o777)
    for use in (library.entries, lambda: library.find(next(library.folder.iterdir()).stem)):
        with pytest.raises(UsageError, match="anybody"):
            use()


@pytest.mark.skipif(os.name == "nt" or os.geteuid() != 0, reason="takes root to give away")
def test_a_library_of_somebody_else_is_refused(library: CacheFolder, frames: Path) -> None:
    os.chown(library.folder, 12345, 12345)
    with pytest.raises(UsageError, match="another user"):
        library.find(next(library.folder.iterdir()).stem)
    with pytest.raises(UsageError, match="another user"):
        cache_night(ar.open_night(frames), library)


def test_a_link_to_a_library_is_refused(library: CacheFolder) -> None:
    link = library.folder.with_name("link")
    link.symlink_to(library.folder)
    with pytest.raises(UsageError, match="link"):
        CacheFolder(link).entries()


def test_a_new_library_is_its_owners_alone(library: CacheFolder) -> None:
    assert library.folder.stat().st_mode & 0o777 == 0o700


def test_the_least_used_goes_first(tmp_path: Path, frames: Path, night: Path) -> None:
    library = CacheFolder(tmp_path / "library")
    first = cache_night(ar.open_night(frames), library)
    os.utime(first, (1, 1))
    second = cache_night(ar.open_night(night), library)
    assert {entry.place for entry in library.entries()} == {first, second}
    third = cache_night(
        ar.open_night(night, unsigned="as-declared"), CacheFolder(library.folder, most_bytes=1)
    )
    assert [entry.place for entry in library.entries()] == [third]


def test_use_makes_a_cache_young(library: CacheFolder, frames: Path) -> None:
    os.utime(library.entries()[0].place, (1, 1))
    assert shelved(library, frames)
    assert library.entries()[0].used > 1e9


def test_what_killed_runs_left_is_swept_when_it_is_old(library: CacheFolder, frames: Path) -> None:
    old, young = (library.folder / f".{name}.partial" for name in ("old", "young"))
    old.mkdir()
    young.mkdir()
    os.utime(old, (1, 1))
    library.drop(key(library))
    cache_night(ar.open_night(frames), library)
    assert (old.exists(), young.exists()) == (False, True)
    library.clear()
    assert list(library.folder.iterdir()) == []


def test_the_folder_follows_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", "/x/y")
    assert default_cache_folder() == Path("/x/y/arrayred")
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    assert default_cache_folder() == Path.home() / ".cache" / "arrayred"


def test_plain_frames_are_read_from_their_files_unless_asked(
    library: CacheFolder, frames: Path
) -> None:
    night = ar.open_night(frames, caching=CachePolicy(library))
    assert all(frame.image.source.cached is None for frame in night.frames)
    assert Instrument.load("generic") == night.instrument
