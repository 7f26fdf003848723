"""The index of many nights: what failed first, every target, links that lead somewhere."""

from __future__ import annotations

import base64
import hashlib
from pathlib import Path

import pytest

from arrayred.batch import SummaryLine, as_ecsv
from arrayred.errors import UsageError
from arrayred.io import INDEX, MANIFEST, PAGE, PAGE_ENTRY, STATE_FOLDER, Ledger, verify_outputs
from arrayred.report import index_page, write_index
from arrayred.report import read as read_file
from tests.batch.disturbed import changed_manifest
from tests.report.pages import (
    all_of,
    policy_of,
    read,
    require_harmless,
    require_links_resolve,
    text_of,
)


@pytest.fixture
def many(two: Path) -> Path:
    """Return the folder of two nights, one of which failed as a whole."""
    folder = two / "many"
    folder.mkdir()
    (two / "out").rename(folder / "night-b")
    lines = [
        SummaryLine("night-a", "", "failed", {}, 0.1, "no <b>dark</b>"),
        SummaryLine("night-b", "Deneb", "reduced", {}, 0.5),
        SummaryLine("night-b", "Nothing", "failed", {}, 0.5, "No row's mean exceeds"),
        SummaryLine("night-c", "Vega", "reduced", {"snr": 5.0, "first_row": 3, "last_row": 4}, 0.5),
        SummaryLine("night-d", "", "interrupted", {}, 0.0),
    ]
    (folder / "summary.ecsv").write_bytes(as_ecsv(lines))
    return folder


def rows(page: Path) -> list[list[str]]:
    """Return the texts of the index's lines."""
    lines = all_of(all_of(read(page), "table", "nights")[0], "tr")[1:]
    return [[" ".join("".join(cell.itertext()).split()) for cell in line] for line in lines]


def test_what_is_wrong_comes_first_and_every_target_is_there(many: Path) -> None:
    shown = [line[:3] for line in rows(write_index(many))]
    assert shown == [
        ["failed", "night-a", ""],
        ["failed", "night-b", "Nothing"],
        ["interrupted", "night-d", ""],
        ["check", "night-b", "Deneb"],  # its lamp has another shape
        ["good", "night-c", "Vega"],
    ]


def test_targets_to_check_are_counted(many: Path) -> None:
    for n_seen, said in ((1, "1 target to check"), (2, "2 targets to check")):
        with changed_manifest(many / "night-b") as whole:
            for i, target in enumerate(whole["made"][PAGE_ENTRY]["facts"]["targets"]):
                target["state"] = "check" if i < n_seen else "good"
        assert said in text_of(read(write_index(many)))


def test_an_index_is_harmless_and_its_links_lead_somewhere(many: Path) -> None:
    page = write_index(many)
    tree = read(page)
    require_harmless(tree, script=True)
    require_links_resolve(page, tree)
    assert "night-b/report.html#target-Deneb" in page.read_text()
    assert "no <b>dark</b>" in text_of(tree)


def test_only_the_script_of_the_page_may_run(many: Path) -> None:
    tree = read(write_index(many))
    (script,) = all_of(tree, "script")
    assert script.text == read_file("index.js")
    digest = base64.b64encode(hashlib.sha256(str(script.text).encode()).digest()).decode()
    assert policy_of(tree).endswith(f"; script-src 'sha256-{digest}'")
    assert policy_of(tree).startswith("default-src 'none'; ")


def test_each_spectrum_has_its_shape_and_its_numbers(many: Path) -> None:
    page = write_index(many)
    line = next(line for line in rows(page) if line[2] == "Deneb")
    facts = Ledger(many / "night-b").read("targets/Deneb").facts
    assert line[4:6] == [f"{facts['snr']:.0f}", f"{facts['first_row']}:{facts['last_row']}"]
    assert line[6:8] == ["3", "600 s"]
    assert len(all_of(read(page), "svg", "spark")) == 1


def test_nights_of_earlier_runs_stay_in_the_index(many: Path) -> None:
    (many / "summary.ecsv").write_bytes(
        as_ecsv([SummaryLine("night-a", "", "failed", {}, 0.1, "x")])
    )
    assert [line[1] for line in rows(write_index(many))] == ["night-a", "night-b", "night-b"]


def test_an_index_without_summary_shows_the_pages_there_are(many: Path) -> None:
    (many / "summary.ecsv").unlink()
    assert [line[2] for line in rows(write_index(many))] == ["Nothing", "Deneb"]


def test_a_folder_without_nights_has_no_index(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="No reduced night found here"):
        write_index(tmp_path)


def test_the_same_nights_give_the_same_index(many: Path) -> None:
    before = index_page(many)
    head, *lines = (many / "summary.ecsv").read_text().split("\nnight-")
    (many / "summary.ecsv").write_text("\nnight-".join([head, *lines[::-1]]))
    assert index_page(many) == before


def test_an_index_is_known_to_verify_and_one_of_somebody_else_stays(many: Path) -> None:
    (many / INDEX).write_bytes(b"mine")
    with pytest.raises(UsageError, match="already exists"):
        write_index(many)
    assert (many / INDEX).read_bytes() == b"mine"
    write_index(many, overwrite=True)
    assert all(found.is_intact for found in verify_outputs(many))


def test_a_line_of_the_index_takes_less_than_a_kilobyte(many: Path) -> None:
    told = (many / "night-b" / STATE_FOLDER / MANIFEST).read_bytes()
    for i in range(500):
        place = many / f"n{i:04d}" / STATE_FOLDER / MANIFEST
        place.parent.mkdir(parents=True)
        place.write_bytes(told)
        (many / f"n{i:04d}" / PAGE).touch()
    assert len(index_page(many)) < 2 * 500 * 1000  # two targets a night
