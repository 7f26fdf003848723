"""The page of a night says what was found, of what, and what went wrong."""

from __future__ import annotations

import re
import shlex
import shutil
from dataclasses import asdict
from pathlib import Path

import pytest

from arrayred.errors import UsageError
from arrayred.io import MANIFEST, PAGE, PAGE_ENTRY, Ledger, verify_outputs
from arrayred.report import FrameLine, read_account, write_report
from tests.batch.disturbed import changed_manifest, write_night
from tests.report.conftest import paged
from tests.report.pages import (
    all_of,
    policy_of,
    read,
    require_harmless,
    require_links_resolve,
    text_of,
)


def test_a_page_is_harmless_and_its_links_lead_somewhere(out: Path) -> None:
    tree = read(out / PAGE)
    require_harmless(tree)
    require_links_resolve(out / PAGE, tree)
    assert policy_of(tree) == "default-src 'none'; img-src data:; style-src 'unsafe-inline'"


def test_a_page_tells_the_numbers_of_the_ledger(out: Path) -> None:
    facts = Ledger(out).read("targets/Deneb").facts
    told = text_of(read(out / PAGE))
    assert f"S/N per pixel {facts['snr']:.0f} " in told
    assert f"Rows {facts['first_row']}:{facts['last_row']} (threshold)" in told
    assert f"Flux in aperture {facts['enclosed_fraction']:.1%}".replace("%", " %") in told
    assert f"Spatial FWHM {facts['fwhm']:.1f} rows Trace tilt {facts['tilt']:.1f} rows" in told


def test_failed_targets_come_first_with_their_error_and_what_was_searched(out: Path) -> None:
    tree = read(out / PAGE)
    articles = all_of(tree, "article")
    assert [a.attrib["id"] for a in articles] == ["target-Nothing", "target-Deneb"]
    assert "Failed. No row's mean exceeds" in " ".join("".join(articles[0].itertext()).split())
    assert len(all_of(articles[0], "img")) == 1
    assert all_of(articles[0], "path", "threshold")
    assert "1 of 2 targets reduced" in text_of(tree)
    assert "1 target failed" in text_of(tree)


def test_every_frame_has_a_line_and_says_what_became_of_it(two: Path) -> None:
    tree = read(two / "out" / PAGE)
    lines = {row[1].text: " ".join("".join(row.itertext()).split())
             for row in all_of(all_of(tree, "table", "frames")[0], "tr")[1:]}  # fmt: skip
    assert set(lines) == {path.stem for path in (two / "night").iterdir()}
    assert lines["dark-001"].endswith("master dark 600s")
    assert lines["n-arc-001"].endswith("not used: of type arc, not used")
    assert len(all_of(all_of(tree, "table", "frames")[0], "img")) == len(lines)


def test_every_input_and_product_stands_there_with_its_sha256(out: Path) -> None:
    told = text_of(read(out / PAGE))
    entries = [entry for entry in Ledger(out).entries() if entry.name != PAGE_ENTRY]
    sums = {s for e in entries for s in (*e.inputs.values(), *e.products.values())}
    assert len(sums) > 10
    assert all(sum_ in told for sum_ in sums)


def test_a_page_tells_which_master_served_which_target(out: Path) -> None:
    table = all_of(read(out / PAGE), "table", "calibrations")[0]
    rows = [" ".join(" ".join(row.itertext()).split()) for row in all_of(table, "tr")[1:]]
    assert rows[1] == "Deneb dark 600s master_dark_600s.fits 5 0.08 +0.0"


def test_a_page_is_known_to_verify_and_a_changed_one_is_found_out(out: Path) -> None:
    (intact,) = verify_outputs(out)
    assert intact.is_intact
    assert not intact.unknown or all(path.suffix != ".html" for path in intact.unknown)
    (out / PAGE).write_bytes(b"x")
    (found,) = verify_outputs(out)
    assert [dict(v.products) for v in found.verdicts if v.products] == [{PAGE: "changed"}]


def test_the_page_made_of_the_output_alone_is_the_page_of_the_run(out: Path) -> None:
    before = (out / PAGE).read_bytes()
    (out / PAGE).unlink()
    assert write_report(out).read_bytes() == before


def test_a_page_that_is_there_is_not_made_again(out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = (out / PAGE).stat()
    monkeypatch.setattr("arrayred.report.pages.night_page", None)
    write_report(out)
    assert ((out / PAGE).stat().st_ino, (out / PAGE).stat().st_mtime) == (
        before.st_ino,
        before.st_mtime,
    )


@pytest.mark.parametrize("change", ["version", "account", "page"])
def test_a_page_of_another_version_or_night_is_made_anew(
    out: Path, monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    key = Ledger(out).read(PAGE_ENTRY).key
    if change == "version":
        monkeypatch.setattr("arrayred.report.run.VERSION", 99)
    elif change == "account":
        with changed_manifest(out) as whole:
            whole["account"]["command"] = whole["account"]["command"].replace("reduce", "NACHT")
    else:
        (out / PAGE).write_bytes(b"<p>mine")
    write_report(out)
    assert (Ledger(out).read(PAGE_ENTRY).key != key) == (change != "page")
    assert ("NACHT" in (out / PAGE).read_text()) == (change == "account")


def test_the_same_night_gives_the_same_page_wherever_it_lies(tmp_path: Path) -> None:
    night = write_night(tmp_path / "night")
    other = Path(shutil.copytree(night, tmp_path / "elsewhere" / "a night"))
    one, two = paged(night, tmp_path / "one"), paged(other, tmp_path / "deep" / "two")
    first, second = ((out / PAGE).read_text() for out in (one, two))
    assert first.count(str(tmp_path)) == 2  # NIGHT and OUT of the command
    assert f"arrayred reduce {night} -o {one}<" in first
    for real, name in ((night, other), (one, two)):
        first = first.replace(str(real), shlex.quote(str(name)).replace("'", "&#39;"))
    assert first == second


def test_of_frames_that_are_gone_or_changed_the_page_says_so(tmp_path: Path) -> None:
    night = write_night(tmp_path / "night")
    out = paged(night, tmp_path / "out")
    assert len(re.findall("<td class=.thumb.><img", (out / PAGE).read_text())) == 4
    first, second, *_ = sorted(night.iterdir())
    first.unlink()
    second.write_bytes(second.read_bytes()[:-1] + b"x")
    told = text_of(read(write_report(out)))
    assert f"No thumbnail because the files were moved or deleted: {first.stem}." in told
    assert f"No thumbnail because the files have changed: {second.stem}." in told
    assert len(re.findall("<td class=.thumb.><img", (out / PAGE).read_text())) == 2


def test_a_damaged_product_is_said_and_the_page_is_made(out: Path) -> None:
    product = out / "targets" / "Deneb" / "Deneb_spectrum.fits"
    product.write_bytes(product.read_bytes()[:-3000])
    (out / PAGE).unlink()
    told = text_of(read(write_report(out)))
    assert "2 targets failed" in told
    assert "The data end after" in told


def test_a_page_without_an_account_says_so_and_shows_the_targets(out: Path) -> None:
    with changed_manifest(out) as whole:
        whole["account"] = {}
    told = text_of(read(write_report(out)))
    assert "The run recorded no frames" in told
    assert "Deneb" in told


def test_an_account_that_makes_no_sense_is_an_error_with_its_path(out: Path) -> None:
    with changed_manifest(out) as whole:
        whole["account"] = {"frames": 3}
    with pytest.raises(UsageError, match=r"manifest.json: The record .* is invalid"):
        write_report(out)


def test_a_file_of_somebody_else_is_not_replaced(out: Path) -> None:
    Ledger(out).forget(PAGE_ENTRY)
    (out / PAGE).write_bytes(b"mine")
    with pytest.raises(UsageError, match="This file already exists with different content"):
        write_report(out)
    assert (out / PAGE).read_bytes() == b"mine"
    assert write_report(out, overwrite=True).stat().st_size > 1000


def test_an_object_stands_below_the_name_of_its_target_unless_that_is_its_own(
    tmp_path: Path, two: Path
) -> None:
    assert not all_of(all_of(read(two / "out" / PAGE), "article")[1], "p", "object")
    night = write_night(tmp_path / "night")
    out = paged(night, tmp_path / "out", cards={"OBJECT": "59 <b>Cyg"})
    assert [p.text for p in all_of(read(out / PAGE), "p", "object")] == ["59 <b>Cyg"]


def test_what_is_private_in_headers_is_on_no_page(tmp_path: Path) -> None:
    night = write_night(tmp_path / "night")
    for path in night.iterdir():
        card = f"{'SWSERIAL= ' + repr('ABCDE-12345'):80}".encode()
        owner = f"{'SWOWNER = ' + repr('Jane Doe'):80}".encode()
        blank = path.read_bytes()
        end = blank.index(b"END" + b" " * 77)
        path.write_bytes(blank[:end] + card + owner + blank[end : -len(card + owner)])
    out = paged(night, tmp_path / "out")
    for file in (out / PAGE, out / ".arrayred" / MANIFEST):
        assert b"ABCDE" not in file.read_bytes()
        assert b"Jane" not in file.read_bytes()


def test_a_night_of_10000_frames_is_a_page_that_hides_nothing(out: Path) -> None:
    account = read_account(Ledger(out))
    assert account is not None
    many = [_numbered(account.frames[i % 11], i) for i in range(10_000)]
    with changed_manifest(out) as whole:
        whole["account"]["frames"] = [asdict(line) for line in many]
        inputs = {line.path: f"{i:064x}" for i, line in enumerate(many)}
        whole["made"]["targets/Deneb"]["inputs"] = inputs
    page = write_report(out).read_text("utf-8")
    assert len(page) < 5_000_000
    assert "10000 frames, one row per kind" in page
    assert "<b>not used: </b>of type arc, not used" in page
    assert all(f"{i:064x}" in page for i in range(0, 10_000, 100))


def _numbered(line: FrameLine, i: int) -> FrameLine:
    return FrameLine(f"{line.label}-{i}", f"{line.path}-{i}", *list(_fields(line))[2:])


def _fields(line: FrameLine) -> list[object]:
    return [getattr(line, name) for name in line.__dataclass_fields__]
