"""What was finished is hashed anew, each file once, in one folder or in many."""

from __future__ import annotations

from pathlib import Path

import pytest

from arrayred.errors import UsageError
from arrayred.io import MANIFEST, STATE_FOLDER, Entry, Ledger, products_of, verify_outputs
from arrayred.io import ledger as module
from arrayred.io.publish import publish
from tests.batch.disturbed import changed_manifest


def finish(out: Path, name: str, source: Path) -> Path:
    """Publish a product, made of one input, with its entry."""
    product = out / name / "product.txt"
    made = products_of(out, {product: b"flux"})
    sha256 = products_of(source.parent, {source: source.read_bytes()})[source.name]
    entry = Entry(name, "key", {str(source): sha256}, made)
    publish({product: b"flux"})
    Ledger(out).finish(entry)
    return product


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "raw" / "light.fit"
    path.parent.mkdir()
    path.write_bytes(b"pixels")
    return path


def test_every_output_folder_below_is_verified(tmp_path: Path, source: Path) -> None:
    for night in ("b/deep", "a"):
        finish(tmp_path / "out" / night, "targets/star", source)
    found = list(verify_outputs(tmp_path / "out"))
    assert [one.out for one in found] == [tmp_path / "out/a", tmp_path / "out/b/deep"]
    assert all(one.is_intact for one in found)


def test_each_file_is_hashed_once(
    tmp_path: Path, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hashed: list[Path] = []
    original = module.sha256_of
    monkeypatch.setattr(module, "sha256_of", lambda path: (hashed.append(path), original(path))[1])
    made = [finish(tmp_path / "out", f"targets/{name}", source) for name in "ab"]
    (one,) = verify_outputs(tmp_path / "out")
    assert one.is_intact
    assert sorted(hashed) == sorted([source, *made])


def test_a_change_that_no_stamp_tells_is_seen(tmp_path: Path, source: Path) -> None:
    product = finish(tmp_path / "out", "targets/star", source)
    Ledger(tmp_path / "out").hashes.of(product)
    product.write_bytes(b"flax")
    source.unlink()
    (one,) = verify_outputs(tmp_path / "out")
    (verdict,) = one.verdicts
    assert verdict.products == {"targets/star/product.txt": "changed"}
    assert verdict.inputs == {str(source): "missing"}
    assert not one.is_intact


def test_a_folder_in_a_products_place_is_no_product(tmp_path: Path, source: Path) -> None:
    product = finish(tmp_path / "out", "masters/dark", source)
    product.unlink()
    product.mkdir()
    (one,) = verify_outputs(tmp_path / "out")
    assert one.verdicts[0].products == {"masters/dark/product.txt": "it is not a regular file"}


def test_an_entry_that_makes_no_sense_is_told_and_the_others_are_verified(
    tmp_path: Path, source: Path
) -> None:
    out = tmp_path / "out"
    for name in ("targets/star", "targets/other"):
        finish(out, name, source)
    with changed_manifest(out) as whole:
        whole["made"]["targets/star"]["products"] = {"../star.txt": "12"}
    (found,) = verify_outputs(out)
    assert (found.unreadable, found.is_intact) == ((out / STATE_FOLDER / MANIFEST,), False)
    assert [check.entry.name for check in found.verdicts] == ["targets/other"]


def test_one_product_is_verified_by_the_entry_that_knows_it(tmp_path: Path, source: Path) -> None:
    product = finish(tmp_path / "out", "targets/star", source)
    finish(tmp_path / "out", "targets/other", source).unlink()
    (one,) = verify_outputs(product)
    assert one.is_intact
    for nowhere in (source, tmp_path / "raw", tmp_path / "none"):
        with pytest.raises(UsageError):
            list(verify_outputs(nowhere))
