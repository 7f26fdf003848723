"""The golden run: it notices every difference but those that it lists, and finds none."""

from __future__ import annotations

import hashlib
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits

from benchmarks.golden import EXCLUDED, compare, default_base, has_commit, main

TEXT = "out/targets/Vega/Vega_raw_extraction.txt"
IMAGE = "out/targets/Vega/Vega_combined.fits"
PICTURE = "out/targets/Vega/Vega.png"
MANIFEST = "out/.arrayred/manifest.json"
FILES = {
    TEXT: b"1 20.5\n2 21.5\n",
    PICTURE: bytes(range(200)),
    MANIFEST: b'{"made": {"key": "%s", "products": {"Vega.png": "12"}}, '
    b'"stamps": {\n"/a/dark.fit": [10, 1, 2, 3, 4, "%s"]}}\n' % (b"a" * 64, b"b" * 64),
    "out/.arrayred/lock": b'{"pid": 1}',
    "out/arrayred.log": b'{"time": "now"}\n',
    "summary.ecsv": b"# %ECSV 1.0\nnight,status,seconds,reason\na,kept,0.5,\n",
    "said-1.txt": b"night  seconds\na      0.25\n1 reduced\n",
}


@pytest.fixture
def sides(tmp_path: Path) -> tuple[Path, Path]:
    """Return two folders of the same files."""
    base, head = tmp_path / "base", tmp_path / "head"
    for name, content in FILES.items():
        path = base / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    fits.writeto(base / IMAGE, np.arange(12.0).reshape(3, 4), checksum=True)
    shutil.copytree(base, head)
    return base, head


def change(path: Path, old: bytes, new: bytes) -> None:
    content = path.read_bytes()
    assert content.count(old) == 1
    path.write_bytes(content.replace(old, new))


def test_equal_folders_are_equal(sides: tuple[Path, Path]) -> None:
    found = compare(*sides)
    assert (found.n_files, found.reports, found.excused) == (len(FILES) + 1, [], {})


@pytest.mark.parametrize("name", [*FILES, IMAGE])
@pytest.mark.parametrize("by", ["base", "head"])
def test_a_file_that_only_one_side_has_is_a_difference(
    sides: tuple[Path, Path], name: str, by: str
) -> None:
    sides[by == "base"].joinpath(name).unlink()
    (report,) = compare(*sides).reports
    assert report == f"{name}: only made by {'BASE' if by == 'base' else 'this tree'}"


@pytest.mark.parametrize(
    ("name", "old", "new", "told"),
    [
        (TEXT, b"21.5", b"21.6", r"-2 21\.5\n +\+2 21\.6"),
        (PICTURE, b"\x64", b"\x65", "first difference at byte 100, of 200 and 200"),
        (MANIFEST, b'"12"', b'"13"', '"Vega.png": "13"'),
        (MANIFEST, b"[10", b"[11", r"\[11, "),
        ("summary.ecsv", b"kept", b"failed", r"\+a,failed,"),
        ("said-1.txt", b"1 reduced", b"1 kept", r"\+1 kept"),
    ],
)
def test_one_changed_byte_is_a_difference_and_is_shown(
    sides: tuple[Path, Path], name: str, old: bytes, new: bytes, told: str
) -> None:
    change(sides[1] / name, old, new)
    (report,) = compare(*sides).reports
    assert report.startswith(f"{name}: differs")
    assert re.search(told, report)


def test_of_a_long_line_the_part_that_differs_is_shown(sides: tuple[Path, Path]) -> None:
    for side, middle in zip(sides, (b"old", b"new"), strict=True):
        (side / TEXT).write_bytes(b"<p>" * 999 + middle + b"<p>" * 999)
    (report,) = compare(*sides).reports
    assert re.search(r"-(<|p|>)+old.*\n +\+(<|p|>)+new", report)
    assert max(map(len, report.splitlines())) < 200


def test_one_changed_byte_of_an_image_is_told_by_pixel_or_card(sides: tuple[Path, Path]) -> None:
    path = sides[1] / IMAGE
    content = bytearray(path.read_bytes())
    content[2880 + 8 * 5 + 7] ^= 1
    path.write_bytes(content)
    (report,) = compare(*sides).reports
    assert "Data differs at [2, 2]" in report
    assert "first difference at byte 2927" in report
    path.write_bytes(b"no FITS")
    assert "cannot be compared as FITS" in compare(*sides).reports[0]


def write_image(path: Path, header: fits.Header, when: str) -> None:
    hdu = fits.PrimaryHDU(np.arange(12.0).reshape(3, 4), header)
    hdu.add_datasum(when="of the data")
    hdu.add_checksum(when=when, override_datasum=True)
    hdu.writeto(path, overwrite=True)


def rewritten(sides: tuple[Path, Path], change: Callable[[fits.Header], None]) -> None:
    """Write both sides' images with the same cards, but for a change and the checksum."""
    header = fits.Header([("OBJECT", "Vega", "what it shows"), ("EXPTIME", 1.5)])
    header.add_history("by hand")
    write_image(sides[0] / IMAGE, header, "of BASE")
    change(header)
    write_image(sides[1] / IMAGE, header, "of this tree")


def moved(header: fits.Header) -> None:
    header.remove("OBJECT")
    header["OBJECT"] = ("Vega", "what it shows")


def test_the_place_of_a_card_and_the_checksum_may_differ(sides: tuple[Path, Path]) -> None:
    rewritten(sides, moved)
    found = compare(*sides)
    assert found.reports == []
    assert list(found.excused.values()) == [1]


def test_the_sha256_of_an_image_that_may_differ_may_differ_elsewhere(
    sides: tuple[Path, Path],
) -> None:
    rewritten(sides, moved)
    for side in sides:
        digest = hashlib.sha256((side / IMAGE).read_bytes()).hexdigest()
        (side / MANIFEST).write_text(f'{{"key": "{"a" * 64}", "image": "{digest}"}}')
        (side / "said-1.txt").write_text(f"product  {digest[:12]}  {IMAGE}")
    found = compare(*sides)
    assert found.reports == []
    assert sum(found.excused.values()) == 3
    (sides[1] / TEXT).write_bytes(b"1 20.5\n")
    (sides[1] / MANIFEST).write_text(f'{{"key": "{"a" * 64}", "image": "{"b" * 64}"}}')
    assert [report.partition(":")[0] for report in compare(*sides).reports] == [MANIFEST, TEXT]


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda header: header.set("OBJECT", "vega"), "OBJECT"),
        (lambda header: header.set("OBJECT", "Vega", "other"), "OBJECT"),
        (lambda header: header.add_history("more"), "HISTORY"),
        (lambda header: header.add_comment("more"), "COMMENT"),
        (lambda header: header.remove("OBJECT"), "OBJECT"),
    ],
)
def test_a_changed_card_of_an_image_is_a_difference(
    sides: tuple[Path, Path], change: Callable[[fits.Header], None], told: str
) -> None:
    rewritten(sides, change)
    (report,) = compare(*sides).reports
    assert told in report


def test_a_wrong_checksum_is_a_difference(sides: tuple[Path, Path]) -> None:
    rewritten(sides, moved)
    content = (sides[1] / IMAGE).read_bytes()
    with fits.open(sides[1] / IMAGE) as hdus:
        told = hdus[0].header["CHECKSUM"].encode()
    (sides[1] / IMAGE).write_bytes(content.replace(told, told[::-1]))
    (report,) = compare(*sides).reports
    assert "CHECKSUM is wrong in PRIMARY" in report


def test_what_is_listed_may_differ_and_is_counted(sides: tuple[Path, Path]) -> None:
    changes = (
        (MANIFEST, b"a" * 64, b"c" * 64),
        (MANIFEST, b"1, 2, 3, 4", b"5, 6, 7, 8"),
        ("out/.arrayred/lock", b"1", b"2"),
        ("out/arrayred.log", b"now", b"then"),
        ("said-1.txt", b"0.25", b"12.50"),
    )
    for name, old, new in changes:
        change(sides[1] / name, old, new)
    found = compare(*sides)
    assert found.reports == []
    assert sum(found.excused.values()) == len({name for name, _, _ in changes})
    assert all(rule.what and rule.why for rule in EXCLUDED)


def test_the_base_is_named_in_full_and_one_that_is_not_there_is_said(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert re.fullmatch("[0-9a-f]{40}", default_base())
    assert main(["0" * 40]) == 2
    assert "not in this clone" in capsys.readouterr().err


@pytest.mark.slow
def test_the_products_are_those_of_the_base(capsys: pytest.CaptureFixture[str]) -> None:
    if not has_commit(default_base()):
        pytest.skip(f"commit {default_base()[:12]} is not in this clone, or git is missing")
    assert main([]) == 0, "".join(capsys.readouterr())
