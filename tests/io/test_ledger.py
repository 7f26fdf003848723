"""Work is done if it is of the same inputs and settings, and its products are intact."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from arrayred.errors import UsageError
from arrayred.io import (
    HASHES_FILE,
    MANIFEST,
    STATE_FOLDER,
    Entry,
    Hashes,
    Ledger,
    fingerprint,
    products_of,
    verify_outputs,
)
from arrayred.io.publish import publish

NAME, KEY = "targets/star", "k" * 64


def write(out: Path, content: bytes = b"flux") -> Path:
    product = out / NAME / "star_spectrum.txt"
    products = products_of(out, {product: content})
    entry = Entry(NAME, KEY, {"light": "abc"}, products, {"rows": np.int64(7)})
    publish({product: content}, overwrite=True)
    Ledger(out).finish(entry)
    return product


def finished(out: Path) -> Entry | None:
    ledger = Ledger(out)
    entry = ledger.read(NAME)
    return None if entry is None or ledger.damaged(entry) else entry


def make_old(path: Path) -> None:
    """Set a file's times back, so that what was hashed since is not racy."""
    os.utime(path, ns=(1, 1))


def test_what_was_published_is_finished(tmp_path: Path) -> None:
    write(tmp_path)
    entry = finished(tmp_path)
    sha256 = hashlib.sha256(b"flux").hexdigest()
    products = {f"{NAME}/star_spectrum.txt": sha256}
    assert entry == Entry(NAME, KEY, {"light": "abc"}, products, {"rows": 7})
    assert list(Ledger(tmp_path).entries()) == [entry]


def test_a_product_that_is_gone_is_named(tmp_path: Path) -> None:
    write(tmp_path).unlink()
    ledger = Ledger(tmp_path)
    entry = ledger.read(NAME)
    assert entry is not None
    assert ledger.damaged(entry) == {f"{NAME}/star_spectrum.txt": "missing"}


def test_a_product_of_other_content_is_not_intact(tmp_path: Path) -> None:
    product = write(tmp_path)
    product.write_bytes(b"flax")
    assert finished(tmp_path) is None


def manifest_of(out: Path) -> Path:
    return out / STATE_FOLDER / MANIFEST


DAMAGES = [b"", b"{", b"[]", b"null", b'{"schema": "2"}', b'{"schema": 2}', b"\xff"]


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_manifest_holds_nothing_and_verify_names_it(
    tmp_path: Path, damage: bytes
) -> None:
    write(tmp_path)
    manifest_of(tmp_path).write_bytes(damage)
    assert finished(tmp_path) is None
    assert list(Ledger(tmp_path).entries()) == []
    (found,) = verify_outputs(tmp_path)
    assert (found.unreadable, found.is_intact) == ((manifest_of(tmp_path),), False)
    write(tmp_path)
    assert finished(tmp_path) is not None


def test_an_entry_may_not_lead_out_of_its_folder(tmp_path: Path) -> None:
    write(tmp_path)
    path = manifest_of(tmp_path)
    path.write_text(path.read_text().replace('"targets/star/', '"../targets/star/'))
    assert Ledger(tmp_path).read(NAME) is None
    assert Ledger(tmp_path).is_damaged


def of_entries_apart(out: Path) -> None:
    """Leave a record as it was when each entry was a file."""
    (out / STATE_FOLDER / "done" / "targets").mkdir(parents=True)


def of_the_future(out: Path) -> None:
    write(out)
    path = manifest_of(out)
    path.write_text(path.read_text().replace('"schema": 2', '"schema": 3'))


@pytest.mark.parametrize("record", [of_entries_apart, of_the_future])
def test_a_record_of_another_version_is_refused_by_name(
    tmp_path: Path, record: Callable[[Path], None]
) -> None:
    record(tmp_path)
    for read in (Ledger, lambda out: list(verify_outputs(out))):
        with pytest.raises(UsageError, match=r"another version of arrayred.*--overwrite") as told:
            read(tmp_path)
        assert told.value.path == str(tmp_path)


def test_a_change_by_another_ledger_is_kept(tmp_path: Path) -> None:
    one, other = Ledger(tmp_path), Ledger(tmp_path)
    one.finish(Entry("targets/a", KEY))
    other.finish(Entry("targets/b", KEY))
    one.close_run({"frames": []}, {})
    other.forget("targets/a")
    ledger = Ledger(tmp_path)
    assert [entry.name for entry in ledger.entries()] == ["targets/b"]
    assert ledger.account == {"frames": []}


def test_what_is_forgotten_is_not_finished(tmp_path: Path) -> None:
    write(tmp_path)
    Ledger(tmp_path).forget(NAME)
    assert finished(tmp_path) is None


@given(st.dictionaries(st.text(), st.lists(st.text())), st.dictionaries(st.text(), st.integers()))
def test_a_key_tells_all_work_apart(inputs: dict[str, list[str]], settings: dict[str, int]) -> None:
    key = fingerprint(inputs, settings)
    assert key == fingerprint(dict(reversed(inputs.items())), settings)
    assert key != fingerprint({**inputs, "another": []}, settings) or "another" in inputs
    assert key != fingerprint(inputs, {**settings, "another": 1}) or "another" in settings


@pytest.fixture
def known(tmp_path: Path) -> tuple[Path, Hashes]:
    """Return a file that was hashed long after its last change, and what was kept of it."""
    path = tmp_path / "frame.fit"
    path.write_bytes(b"pixels")
    hashes = Hashes(tmp_path / STATE_FOLDER)
    hashes.of(path)
    entry = hashes.stamps[str(path)]
    entry[-2] = time.time_ns() + 10**10
    hashes.save()
    return path, Hashes(tmp_path / STATE_FOLDER)


def test_an_unchanged_file_is_not_read(known: tuple[Path, Hashes]) -> None:
    path, hashes = known
    assert hashes.known(path) == hashlib.sha256(b"pixels").hexdigest() == hashes.of(path)


def test_without_trust_every_file_is_read(known: tuple[Path, Hashes], tmp_path: Path) -> None:
    assert Hashes(tmp_path / STATE_FOLDER, trust=False).known(known[0]) is None


def test_a_change_that_keeps_size_and_time_is_seen(known: tuple[Path, Hashes]) -> None:
    path, hashes = known
    before = path.stat()
    time.sleep(0.02)
    path.write_bytes(b"pIxels")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert path.stat().st_mtime_ns == before.st_mtime_ns
    assert hashes.known(path) is None
    assert hashes.of(path) == hashlib.sha256(b"pIxels").hexdigest()


def test_a_file_hashed_just_after_its_change_is_hashed_again(tmp_path: Path) -> None:
    path = tmp_path / "frame.fit"
    path.write_bytes(b"pixels")
    hashes = Hashes(tmp_path / STATE_FOLDER)
    hashes.of(path)
    assert hashes.known(path) is None


@pytest.mark.parametrize("damage", [b"", b"[1]", b'{"/x": 1}', b"\x00"])
def test_damaged_hints_are_none(known: tuple[Path, Hashes], tmp_path: Path, damage: bytes) -> None:
    path, _ = known
    text = damage.replace(b"/x", str(path).encode())
    (tmp_path / STATE_FOLDER / HASHES_FILE).write_bytes(text)
    assert Hashes(tmp_path / STATE_FOLDER).of(path) == hashlib.sha256(b"pixels").hexdigest()


def test_a_missing_file_has_no_hash(known: tuple[Path, Hashes]) -> None:
    path, hashes = known
    path.unlink()
    assert hashes.known(path) is None
    with pytest.raises(FileNotFoundError):
        hashes.of(path)
