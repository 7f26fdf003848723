"""``arrayred report``, and the pages that ``reduce`` leaves."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from arrayred.batch import Job, OutputOptions, reduce_one
from arrayred.errors import StorageError
from arrayred.io import INDEX, PAGE
from arrayred.io.ledger import Ledger
from tests.batch.disturbed import write_night, write_nights
from tests.cli.conftest import Call
from tests.report.pages import read, require_harmless, require_links_resolve, text_of


@pytest.fixture
def small(tmp_path: Path) -> Path:
    return write_night(tmp_path / "night")


def test_reduce_leaves_a_page_which_a_rerun_leaves_alone_and_report_makes_again(
    small: Path, arrayred: Call
) -> None:
    assert arrayred("reduce", small, "-o", "out", "-q").err == ""
    page = Path("out", PAGE)
    content, before = page.read_bytes(), page.stat()
    arrayred("reduce", small, "-o", "out", "-q")
    assert page.stat().st_ino == before.st_ino
    page.unlink()
    arrayred("reduce", small, "-o", "out", "-q")
    assert page.read_bytes() == content
    page.unlink()
    assert arrayred("report", "out") == (0, f"{page}\n", "")
    assert page.read_bytes() == content
    arrayred("reduce", small, "-o", "out", "-q", "--no-figures", "--force")
    assert not page.exists()
    assert arrayred("verify", "out", "-q").code == 0


@pytest.mark.usefixtures("unpainted")
def test_a_page_tells_the_command_that_makes_it_again(small: Path, arrayred: Call) -> None:
    options = ["--sigma", "5.0", "--card", "OBSERVER=Jo Ann", "--card", "GRATING='12'", "--no-sky"]
    arrayred("reduce", small, "-o", "out", "--jobs", "2", "-q", "--rows", "60:80", *options)
    told = text_of(read(Path("out", PAGE)))
    wanted = (
        f"arrayred reduce {small.absolute()} -o {Path('out').absolute()} "
        "--card 'OBSERVER=Jo Ann' --card 'GRATING='\"'\"'12'\"'\"'' "
        "--sigma 5.0 --rows 60:80 --no-sky"
    )
    assert wanted in told
    assert "n_sigma = 5.0" in told


def test_a_url_is_told_without_user_and_signature() -> None:
    from arrayred.cli.options import _public

    assert _public("https://me:secret@host/a.fits?X-Sig=abc") == "https://host/a.fits"
    assert _public("what?") == "what?"


def test_without_figures_there_is_no_page_until_it_is_asked_for(
    small: Path, arrayred: Call
) -> None:
    arrayred("reduce", small, "-o", "out", "-q", "--no-figures")
    assert not Path("out", PAGE).exists()
    arrayred("report", "out", "-q")
    assert "master dark 600s" in text_of(read(Path("out", PAGE)))


@pytest.mark.usefixtures("unpainted")
def test_many_nights_have_an_index_whose_links_lead_to_pages_that_a_rerun_keeps(
    tmp_path: Path, arrayred: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    nights = write_nights(tmp_path / "nights", 2)
    (empty := tmp_path / "nights" / "night-9").mkdir()
    shutil.copy(nights[0] / sorted(nights[0].iterdir())[0].name, empty)
    assert arrayred("reduce", *nights, empty, "-o", "out", "-q").code == 3
    tree = read(Path("out", INDEX))
    require_harmless(tree, script=True)
    require_links_resolve(Path("out", INDEX), tree)
    assert "3 nights" in text_of(tree)
    assert "1 night without any target" in text_of(tree)
    before = Path("out", INDEX).read_bytes()
    told = arrayred("report", "out")
    assert [Path(line).name for line in told.out.split()] == [PAGE, PAGE, INDEX]
    assert Path("out", INDEX).read_bytes() == before
    assert arrayred("verify", "out", "-q").code == 0
    page = Path("out", "night-0", PAGE)
    inode = page.stat().st_ino
    with monkeypatch.context() as patch:  # nights that are finished are not opened
        patch.setattr("arrayred.batch.nights.open_night", None)
        assert arrayred("reduce", *nights, "-o", "out", "-q").code == 0
    assert page.stat().st_ino == inode
    page.unlink()
    arrayred("reduce", *nights, "-o", "out", "-q")
    assert page.is_file()


@pytest.mark.usefixtures("unpainted")
def test_a_page_that_cannot_be_made_is_said_and_fails_nothing(small: Path, arrayred: Call) -> None:
    Path("out").mkdir()
    Path("out", PAGE).write_bytes(b"mine")
    told = arrayred("reduce", small, "-o", "out", "-q")
    assert told.code == 0
    start = "arrayred: warning: no report was written: out/report.html: This file already exists "
    assert told.err.startswith(start)
    assert Path("out", PAGE).read_bytes() == b"mine"


@pytest.mark.usefixtures("unpainted")
def test_a_record_that_cannot_be_written_is_an_error_even_when_quiet(
    tmp_path: Path, arrayred: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise StorageError("The product cannot be written", path=Path("manifest.json"))

    nights = write_nights(tmp_path, 2)
    monkeypatch.setattr(Ledger, "close_run", full)
    told = arrayred("reduce", *nights, "-o", "out", "-q")
    assert told.code == 3
    for night in nights:
        start = f"arrayred: error: {night.name}: no report was written: manifest.json: The product"
        assert start in told.err


@pytest.mark.usefixtures("unpainted")
def test_a_bug_of_the_page_is_a_warning_of_python_and_fails_nothing(
    small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("arrayred.report.pages.night_page", lambda _: 1 / 0)
    with pytest.warns(UserWarning, match="a bug of arrayred kept the report away: ZeroDivision"):
        report = reduce_one(Job("night", small, OutputOptions(tmp_path / "out", {})))
    assert report.exit_code == 0
    assert report.lines[0].status == "reduced"


@pytest.mark.parametrize("name", ["nowhere", "night", "."])
def test_a_folder_of_which_nothing_was_reduced_has_no_page(
    small: Path, arrayred: Call, name: str
) -> None:
    told = arrayred("report", name)
    assert told.code == 2
    assert told.err.startswith("arrayred: error: ")
    assert not Path(name, PAGE).exists()
