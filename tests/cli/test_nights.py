"""Many nights in one command: each in its folder, one failing alone, all of it told at the end."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from astropy.io import ascii as astropy_ascii
from astropy.table import Table

from arrayred.cli.reduce import night_folders
from arrayred.errors import UsageError
from arrayred.io import LOG_FILE, STATE_FOLDER, output_lock, publish
from tests.batch.disturbed import inodes, products, write_night, write_nights
from tests.cli import forked
from tests.cli.conftest import Call, Told
from tests.cli.test_fresh import in_a_new_interpreter
from tests.cli.test_prompts import Terminal

NIGHTS = [f"nights/night-{i}" for i in range(3)]


@pytest.fixture(scope="module")
def _three(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("three") / "nights"
    write_nights(folder, 3)
    return folder


@pytest.fixture
def three(_three: Path, tmp_path: Path) -> Path:
    """Return a folder of three nights, whose frames are links: to be removed at will."""
    for path in _three.rglob("*.fit"):
        link = tmp_path / "nights" / path.relative_to(_three)
        link.parent.mkdir(parents=True, exist_ok=True)
        os.link(path, link)
    return tmp_path / "nights"


@pytest.fixture(scope="module")
def _finished(_three: Path) -> tuple[Path, Told]:
    done = forked.run("reduce", *NIGHTS, "-o", "out", "--no-figures", cwd=_three.parent)
    return _three.parent, Told(done.returncode, done.stdout, done.stderr)


@pytest.fixture
def finished(_finished: tuple[Path, Told], monkeypatch: pytest.MonkeyPatch) -> Told:
    """Return what was said of three nights, all finished; they and `out` are here, to be read."""
    monkeypatch.chdir(_finished[0])
    return _finished[1]


def reduced(arrayred: Call, *options: object, code: int = 0) -> Told:
    told = arrayred("reduce", *NIGHTS, "-o", "out", "--no-figures", *options)
    assert told.code == code, told.err
    return told


def test_frames_named_instead_of_their_folder_are_told_the_folder(
    three: Path, arrayred: Call
) -> None:
    told = arrayred("reduce", *sorted((three / "night-0").iterdir()), "-o", "out")
    assert (told.code, told.out) == (2, "")
    assert re.search(rf"files given, .* Name the folder, {three / 'night-0'}\.", told.err)


@pytest.mark.usefixtures("three")
def test_one_night_and_many_do_not_share_a_folder(arrayred: Call) -> None:
    reduced(arrayred)
    before = products(Path("out"))
    told = arrayred("reduce", NIGHTS[0], "-o", "out")
    assert (told.code, told.out) == (2, "")
    assert re.search("many nights.* such as out/night-0, or", told.err)
    assert arrayred("reduce", NIGHTS[0], "-o", "out/night-0", "--no-figures").code == 0
    told = arrayred("reduce", *NIGHTS, "-o", "out/night-0")
    assert (told.code, told.out) == (2, "")
    assert "a single night" in told.err
    assert products(Path("out")) == before


@pytest.mark.usefixtures("finished")
def test_many_nights_have_a_log_and_each_its_own() -> None:
    lines = [json.loads(line) for line in Path("out", LOG_FILE).read_text("ascii").splitlines()]
    told = [(line["night"], line["reduced"]) for line in lines if line["event"] == "night"]
    assert sorted(told) == [(f"night-{i}", 1) for i in range(3)]
    assert lines[-1]["status"] == "done"
    assert all(Path("out", f"night-{i}", LOG_FILE).is_file() for i in range(3))


def summary() -> Table:
    return astropy_ascii.read("out/summary.ecsv")


def test_each_night_goes_to_its_folder_as_if_it_were_alone(
    arrayred: Call, finished: Told, tmp_path: Path
) -> None:
    assert finished.code == 0
    for name in NIGHTS[::2]:
        alone = tmp_path / Path(name).name
        assert arrayred("reduce", name, "-o", alone, "--no-figures").code == 0
        assert products(Path("out", alone.name)) == products(alone)


@pytest.mark.usefixtures("three")
def test_a_second_night_into_the_folder_of_another_is_refused(arrayred: Call) -> None:
    assert arrayred("reduce", NIGHTS[0], "-o", "alone", "--no-figures").code == 0
    before = products(Path("alone"))
    for more in ((), ("--overwrite",)):
        told = arrayred("reduce", NIGHTS[1], "-o", "alone", "--no-figures", *more)
        assert told.code == 2
        assert re.search(r"another night \(\S+/night-0\).*Choose another with -o", told.err, re.S)
    assert products(Path("alone")) == before
    Path(NIGHTS[0]).rename("nights/moved")
    assert arrayred("reduce", "nights/moved", "-o", "alone", "--no-figures").code == 0


def test_a_pipe_gets_a_line_a_night_and_one_a_target(finished: Told) -> None:
    assert re.findall(r"^\[(\d)/3\] (\S+): 1 reduced, ", finished.err, re.M) == [
        (str(i + 1), f"night-{i}") for i in range(3)
    ]
    head, *lines, last = finished.out.splitlines()
    assert head.split()[:4] == ["night", "target", "status", "rows"]
    assert [line.split()[:3] for line in lines] == [
        [f"night-{i}", "Vega", "reduced"] for i in range(3)
    ]
    assert last == "3 reduced; details in out/summary.ecsv"


@pytest.mark.usefixtures("finished")
def test_the_summary_tells_what_the_products_tell() -> None:
    for row in summary():
        header = astropy_ascii.read(f"out/{row['night']}/targets/Vega/Vega_spectrum.ecsv").meta
        assert (row["target"], row["status"]) == ("Vega", "done")
        assert (row["first_row"], row["last_row"]) == (header["SPFIRST"], header["SPLAST"])
        assert row["snr"] > 20
        assert 0 < row["dark_age"] < 0.1


@pytest.mark.usefixtures("three")
def test_what_is_finished_is_kept_and_what_was_lost_or_changed_is_made_anew(arrayred: Call) -> None:
    assert reduced(arrayred, "-q") == (0, "", "")
    before = products(Path("out"))
    names = inodes(Path("out"), before)
    for verified in ((), ("--verify",)):
        assert "3 kept; details in" in reduced(arrayred, *verified).out
        assert inodes(Path("out"), before) == names
    product = Path("out/night-1/targets/Vega/Vega_raw_extraction.txt")
    for state, spoil in {"missing": Path.unlink, "changed": lambda p: p.write_bytes(b"x")}.items():
        spoil(product)
        told = reduced(arrayred)
        assert f"night-1: targets/Vega/{product.name} was {state} after it was written" in told.err
        assert "2 kept, 1 reduced" in told.out
        assert products(Path("out")) == before
    assert "3 reduced;" in reduced(arrayred, "--force").out
    assert products(Path("out")) == before


def everything(out: Path) -> dict[str, bytes]:
    """Return the bytes of all files, hidden ones too.

    Without what says when and by which process: the logs, the locks, the files' stamps.
    """
    excluded = (LOG_FILE, f"{STATE_FOLDER}/lock")
    return {
        path.relative_to(out).as_posix(): path.read_bytes().partition(b'"stamps": ')[0]
        for path in sorted(out.rglob("*"))
        if path.is_file() and not path.as_posix().endswith(excluded)
    }


def test_neither_a_second_run_nor_processes_change_a_byte_of_any_file(
    three: Path, arrayred: Call
) -> None:
    for path in (three / "night-1").glob("dark*"):
        path.unlink()  # it takes those of the other, which may be another process's
    command = ("reduce", *NIGHTS[:2], "-o", "out", "-q")
    assert arrayred(*command).code == 0
    first = everything(Path("out"))
    assert {"summary.ecsv", "index.html", "night-0/report.html"} <= first.keys()
    for options in ((), ("--verify",)):
        assert arrayred(*command, *options).code == 0
        assert everything(Path("out")) == first
    processes = [*command, "--jobs", "2", "--force", "--memory", "400M"]
    imported = in_a_new_interpreter([processes], Path.cwd())  # and uses no network
    assert everything(Path("out")) == first
    assert not {"zarr", "numcodecs", "google_crc32c"} & imported
    lines = [json.loads(line) for line in Path("out", LOG_FILE).read_text("ascii").splitlines()]
    nights = [line for line in lines if line["event"] == "night"]
    assert list(summary()["night"]) == ["night-0", "night-1"]
    assert all(line["reduced"] == 1 for line in nights[-2:])
    assert ["kept" in line for line in nights] == [False] * 2 + [True] * 4 + [False] * 2
    assert all(line["seconds"] > 0 for line in nights)


def test_one_night_fails_alone_and_by_name(three: Path, arrayred: Call) -> None:
    reduced(arrayred)
    light = three / "night-1/light-001.fit"
    content = light.read_bytes()
    light.unlink()
    light.write_bytes(content[:-6000])
    told = reduced(arrayred, "--overwrite", code=3)
    assert re.search(r"^arrayred: error: night-1: .*light-001\.fit: ", told.err, re.M)
    assert list(summary()["status"]) == ["done", "failed", "done"]
    assert "light-001.fit: " in summary()["reason"][1]


def test_where_no_night_can_be_reduced_the_code_is_that_of_the_first(arrayred: Call) -> None:
    told = arrayred("reduce", "none-1", "none-2", "-o", "out")
    assert told.code == 4
    assert [f"error: none-{i}: No such folder" in told.err for i in (1, 2)] == [True] * 2


def test_a_night_without_darks_takes_those_of_the_others(three: Path, arrayred: Call) -> None:
    for path in (three / "night-1").glob("dark*"):
        path.unlink()
    told = reduced(arrayred)
    before = products(Path("out"))
    assert any(name.startswith("night-1/targets/Vega") for name in before)
    assert "3 reduced" in told.out
    options = [o for i in (0, 2) for o in ("--calibrations", f"nights/night-{i}")]
    assert arrayred("reduce", NIGHTS[1], "-o", "alone", "--no-figures", *options).code == 0
    assert products(Path("out/night-1")) == products(Path("alone"))
    assert "3 kept" in reduced(arrayred).out
    assert products(Path("out")) == before


@pytest.mark.usefixtures("three")
def test_a_night_file_beside_the_products_counts_for_its_night(arrayred: Call) -> None:
    Path("out/night-2").mkdir(parents=True)
    Path("out/night-2/night.toml").write_text('exclude = ["light-001*"]\n')
    reduced(arrayred)
    n_frames = {path: path.read_text().count("ARIN0") for path in Path("out").rglob("*.ecsv")}
    told = [n for path, n in sorted(n_frames.items()) if path.name == "Vega_spectrum.ecsv"]
    assert told[0] == told[1] > told[2]


@pytest.mark.usefixtures("three")
def test_another_run_in_the_same_folder_is_named(arrayred: Call) -> None:
    with output_lock(Path("out")):
        told = reduced(arrayred, code=6)
        assert f"Another run writes to this folder: process {os.getpid()} on " in told.err
        assert not products(Path("out"))
        reduced(arrayred, "--break-lock")


@pytest.mark.usefixtures("three")
def test_where_nothing_can_be_locked_that_is_said(
    arrayred: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(publish, "fcntl", None)
    told = reduced(arrayred)
    assert told.err.startswith("arrayred: warning: out: this file system has no locks")
    one = arrayred("reduce", NIGHTS[0], "-o", "one", "--no-figures")
    assert (one.code, "one: this file system has no locks" in one.err) == (0, True)


@pytest.mark.usefixtures("three")
def test_a_night_that_another_run_writes_fails_alone(arrayred: Call) -> None:
    with output_lock(Path("out/night-1")):
        assert "night-1: Another" in reduced(arrayred, code=3).err.replace("out/night-1: ", "")
    assert reduced(arrayred)


@pytest.mark.usefixtures("three")
def test_what_a_killed_run_left_is_swept(arrayred: Call) -> None:
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    left = [
        Path(f"out/night-1/{place}.x.{pid}.0123abcd.tmp")
        for place in ("masters/", "targets/Vega/", f"{STATE_FOLDER}/", "targets/Vega/calibrated/")
        for pid in (gone.pid, os.getpid())
    ]
    for path in left:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"torn")
    with output_lock(Path("out/night-1")):
        assert [path for path in left if path.exists()] == left[1::2]
    for path in left[1::2]:
        path.unlink()


def test_the_output_may_lie_in_no_night(three: Path, arrayred: Call) -> None:
    told = arrayred("reduce", *NIGHTS, "-o", "nights/night-1/out")
    assert (told.code, "inside the night nights/night-1" in told.err) == (2, True)
    assert not (three / "night-1/out").exists()


def test_folders_globs_and_lists_name_nights_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("a/raw", "b/raw", "c [x]/raw"):
        Path(name).mkdir(parents=True)
    Path("list").write_text("# mine\nb/raw\n\n c [x]/raw\n*/raw\n")
    Path("afile").touch()
    there = [Path("a/raw"), Path("b/raw"), Path("c [x]/raw")]
    assert night_folders(["*/raw"]) == night_folders([str(tmp_path / "*" / "raw")])[:0] + there
    assert night_folders([str(tmp_path / "?/raw")]) == [tmp_path / "a/raw", tmp_path / "b/raw"]
    assert night_folders(["@list"]) == [there[1], there[2], there[0]]
    assert night_folders(["a/raw", "a/../a/raw", "nowhere"]) == [there[0], Path("nowhere")]
    for wrong in ("@none", "@afile", "x*"):
        with pytest.raises(UsageError):
            night_folders([wrong])


@pytest.mark.usefixtures("three")
def test_nobody_is_asked_and_a_terminal_gets_a_bar_and_a_table(tmp_path: Path) -> None:
    command = ("reduce", *NIGHTS, "-o", "out", "--no-figures", "--instrument", "barber20")
    with Terminal(*command, "--allow-missing", cwd=tmp_path, columns=120) as terminal:
        assert terminal.ended() == 0, terminal.screen
    said = terminal.screen
    assert "3/3" in said
    assert "Which" not in said
    assert re.search(r"night-2 +Vega +reduced +\d+:\d+", said)
    assert "─" in said


def test_one_night_of_a_list_is_one_night(tmp_path: Path, arrayred: Call) -> None:
    write_night(tmp_path / "only")
    Path("list").write_text("only\n")
    assert arrayred("reduce", "@list", "-o", "out", "--no-figures").code == 0
    assert Path("out/targets/Vega/Vega_spectrum.fits").exists()
    assert not Path("out/summary.ecsv").exists()
