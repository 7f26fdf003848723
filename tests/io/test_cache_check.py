"""A damaged or hostile cache is refused: never other pixels, nothing allocated, nothing run."""

from __future__ import annotations

import errno
import json
import os
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import arrayred as ar
from arrayred.errors import FrameError
from arrayred.io import open_cache
from tests.io.conftest import Edit, forget, sign

COUNTS = "raw/dark/600s/counts"
SHARD = f"{COUNTS}/c/0/0/0"


def delete(path: Path) -> None:
    path.unlink()


def truncate(path: Path) -> None:
    os.truncate(path, path.stat().st_size - 1)


def empty(path: Path) -> None:
    os.truncate(path, 0)


def zero(path: Path) -> None:
    path.write_bytes(bytes(path.stat().st_size))


def flip(path: Path) -> None:
    raw = bytearray(path.read_bytes())
    raw[len(raw) // 2] ^= 16
    path.write_bytes(raw)


DAMAGES = [delete, truncate, empty, zero, flip]


def pixels_of(store: Path) -> dict[str, Any]:
    night = ar.open_night(store)
    return {name: night[name].counts.values for name in night}


@pytest.mark.parametrize("damage", DAMAGES)
def test_damage_to_any_file_is_found(damage: Callable[[Path], None], store: Path) -> None:
    files = [path for path in store.rglob("*") if path.is_file()]
    assert len(files) > 30
    for path in files:
        whole = path.read_bytes()
        damage(path)
        forget()
        with pytest.raises(FrameError) as caught:
            open_cache(store, wholly=True)
        assert str(path.parent) in str(caught.value)
        path.write_bytes(whole)
    assert open_cache(store, wholly=True).images


def test_a_file_that_cannot_be_read_is_named(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(real: Any, broken: Path) -> Any:
        def call(path: Path, *args: Any, **options: Any) -> Any:
            if path == broken:
                raise OSError(errno.EIO, "Input/output error", str(path))
            return real(path, *args, **options)

        return call

    for path in (path for path in store.rglob("*") if path.is_file()):
        forget()
        with monkeypatch.context() as patch:
            for name in ("open", "read_bytes"):
                patch.setattr(Path, name, failing(getattr(Path, name), path))
            with pytest.raises(FrameError, match="cannot be read") as caught:
                open_cache(store, wholly=True)
        assert str(path) in str(caught.value)


@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_pixels_are_an_error_never_other_pixels(
    damage: Callable[[Path], None], store: Path
) -> None:
    for path in store.glob("raw/*/*/counts/c/*/*/0"):
        whole = path.read_bytes()
        damage(path)
        forget()
        with pytest.raises(FrameError):
            pixels_of(store)
        path.write_bytes(whole)


def test_a_bit_flipped_anywhere_in_a_shard_is_an_error_or_in_no_pixel(store: Path) -> None:
    truth, path = pixels_of(store), store / SHARD
    whole = path.read_bytes()
    for position in range(0, len(whole), 97):
        path.write_bytes(whole[:position] + bytes([whole[position] ^ 4]) + whole[position + 1 :])
        forget()
        with pytest.raises(FrameError, match="damaged"):
            pixels_of(store)
    path.write_bytes(whole)
    forget()
    assert all(np.array_equal(truth[name], found) for name, found in pixels_of(store).items())


def test_a_shard_whose_chunks_are_marked_absent_is_no_zeros(store: Path) -> None:
    from google_crc32c import value as crc32c

    path = store / SHARD
    raw = path.read_bytes()
    table = b"\xff" * 16
    path.write_bytes(raw[: -len(table) - 4] + table + crc32c(table).to_bytes(4, "little"))
    sign(store)
    with pytest.raises(FrameError, match="a chunk is missing"):
        pixels_of(store)


def test_a_chunk_that_promises_gigabytes_is_refused_unallocated(store: Path) -> None:
    from google_crc32c import value as crc32c

    path = store / SHARD
    raw = bytearray(path.read_bytes())
    offset, size = np.frombuffer(raw[-4 - 16 :], "<u8", 2)
    chunk = raw[offset : offset + size - 4]
    chunk[4:8] = (2**31 - 1).to_bytes(4, "little")
    raw[offset : offset + size] = chunk + crc32c(bytes(chunk)).to_bytes(4, "little")
    path.write_bytes(raw)
    sign(store)
    tracemalloc.start()
    with pytest.raises(FrameError, match="has the wrong size"):
        pixels_of(store)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 64 << 20


def huge(told: Any) -> None:
    told["shape"] = [10**6] * 3


def huge_and_consistent(told: Any) -> None:
    told["shape"] = [10**6] * 3
    told["chunk_grid"]["configuration"]["chunk_shape"] = [10**6] * 3
    told["codecs"][0]["configuration"]["chunk_shape"] = [1, 10**6, 10**6]


def of_objects(told: Any) -> None:
    told["data_type"] = "object"


def pickled(told: Any) -> None:
    told["codecs"][0]["configuration"]["codecs"].append({"name": "numcodecs.pickle"})


def pickled_outside(told: Any) -> None:
    told["codecs"].append({"name": "numcodecs.pickle", "configuration": {}})


def negative(told: Any) -> None:
    told["shape"][0] = -1


def of_text(told: Any) -> None:
    told["shape"] = ["2", "100", "40"]


def of_another_format(told: Any) -> None:
    told["zarr_format"] = 2


def transformed(told: Any) -> None:
    told["storage_transformers"] = [{"name": "x"}]


def nothing(told: Any) -> None:
    told.clear()


HOSTILE = [
    huge, huge_and_consistent, of_objects, pickled, pickled_outside, negative, of_text,
    of_another_format, transformed, nothing,
]  # fmt: skip


@pytest.mark.parametrize("change", HOSTILE)
def test_hostile_metadata_are_refused(
    change: Callable[[Any], None], store: Path, forge: Edit
) -> None:
    forge(f"{COUNTS}/zarr.json", change)
    tracemalloc.start()
    with pytest.raises(FrameError) as caught:
        pixels_of(store)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert str(caught.value).startswith(str(store))
    assert peak < 16 << 20


@pytest.mark.parametrize("change", [of_objects, pickled_outside, transformed, nothing])
def test_hostile_labels_are_refused_though_nobody_reads_them(
    change: Callable[[Any], None], store: Path, forge: Edit
) -> None:
    forge("raw/dark/600s/header/zarr.json", change)
    with pytest.raises(FrameError):
        open_cache(store)


@pytest.mark.parametrize("name", ["../evil/counts", "raw/../../evil", "a//b", "raw/\n/counts"])
def test_consolidated_nodes_of_strange_names_are_refused(
    name: str, store: Path, forge: Edit
) -> None:
    def add(told: Any) -> None:
        nodes = told["consolidated_metadata"]["metadata"]
        nodes[name] = next(iter(nodes.values()))

    forge("zarr.json", add)
    with pytest.raises(FrameError, match="lists the name"):
        open_cache(store)


@pytest.mark.parametrize(
    "name", ["../x.fit", "/etc/x.fit", "a/../../x.fit", "a\0.fit", "x.txt", "./x.fit", "", 7]
)
def test_frames_of_strange_names_are_refused(name: object, store: Path, forge: Edit) -> None:
    forge("records", lambda told: told["frames"][0].update(name=name))
    with pytest.raises(FrameError, match="invalid"):
        open_cache(store)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("array", "../../elsewhere"), ("array", 3), ("index", -1), ("index", 2), ("index", True),
        ("shape", [100, 41]), ("shape", [100]), ("pixels", [17, 0, 1, None, False]),
        ("pixels", None), ("coding", [16, "x", 1, None, False]), ("packing", "pickle"),
        ("cards", 5), ("stamp", [1]), ("sha256", None), ("hdu", 0.5), ("offset", -5),
    ],
)  # fmt: skip
def test_records_that_make_no_sense_are_refused(
    key: str, value: object, store: Path, forge: Edit
) -> None:
    forge("records", lambda told: told["frames"][0].update({key: value}))
    with pytest.raises(FrameError):
        open_cache(store)


def as_a_link(path: Path) -> None:
    target = path.with_name("target")
    path.rename(target)
    path.symlink_to(target)


def as_a_pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def as_a_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


@pytest.mark.parametrize("change", [as_a_link, as_a_pipe, as_a_folder])
@pytest.mark.parametrize("name", [SHARD, f"{COUNTS}/zarr.json", "records/c/0"])
def test_what_is_no_regular_file_is_refused(
    change: Callable[[Path], None], name: str, store: Path
) -> None:
    change(store / name)
    forget()
    with pytest.raises(FrameError):
        open_cache(store)


def test_a_linked_folder_of_chunks_is_refused(store: Path) -> None:
    as_a_link(store / COUNTS / "c")
    with pytest.raises(FrameError, match="not a regular file"):
        open_cache(store)


def test_a_file_that_is_not_listed_is_refused(store: Path) -> None:
    (store / "extra.fit").write_bytes(b"SIMPLE")
    with pytest.raises(FrameError, match="not listed"):
        open_cache(store)


MARKS = ['{"schema": 3}', '{"schema": 3, "key": "", "files": 3}']


@pytest.mark.parametrize(
    "told", ["", "[]", "{", *(f'{{"attributes": {{"arrayred": {mark}}}}}' for mark in MARKS)]
)
def test_a_mark_that_makes_no_sense_is_refused(told: str, store: Path) -> None:
    (store / "zarr.json").write_text(told)
    forget()
    with pytest.raises(FrameError, match=r"zarr\.json"):
        open_cache(store)


def test_a_mark_or_metadata_that_were_changed_are_refused(store: Path) -> None:
    path = store / "zarr.json"
    raw = path.read_bytes()
    for old, new in ((b'"key": "', b'"key": "0'), (b'"units": "adu"', b'"units": "ADU"')):
        path.write_bytes(raw.replace(old, new, 1))
        forget()
        with pytest.raises(FrameError, match="checksum"):
            open_cache(store)


def test_the_cache_of_another_version_is_refused(store: Path, forge: Edit) -> None:
    forge("zarr.json", lambda told: told["attributes"]["arrayred"].update(schema=99))
    with pytest.raises(FrameError, match="another version"):
        open_cache(store)


@pytest.mark.parametrize("how", ["gone", "unmarked"])
def test_a_cache_without_its_mark_holds_no_frames(how: str, store: Path) -> None:
    root = store / "zarr.json"
    told = json.loads(root.read_bytes())
    root.unlink()
    if how == "unmarked":
        root.write_text(json.dumps(told | {"attributes": {}}))
    with pytest.raises(ar.InputError, match="No FITS files"):
        ar.open_night(store)
