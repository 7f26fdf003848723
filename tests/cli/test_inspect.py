"""``arrayred inspect``: what the headers say, for people and for programs, and nothing written."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from astropy.io import fits

from arrayred.cli.commands import inspect
from tests.cli import forked
from tests.cli.conftest import Call, Told, contents
from tests.cli.test_prompts import Terminal
from tests.conftest import Run

Row = dict[str, Any]
FORMATS = ["table", "csv", "json"]
TYPES = {"Light Frame": "light", "Dark Frame": "dark"}


def tiny(path: Path, *cards: str) -> None:
    """Write a frame of 3 x 2 pixels with these very cards."""
    layout = ["SIMPLE  = T", "BITPIX  = 16", "NAXIS   = 2", "NAXIS1  = 3", "NAXIS2  = 2"]
    header = "".join(f"{card:80}" for card in [*layout, *cards, "END"]).encode("latin-1")
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(header.ljust(2880) + bytes(2880))


def many(folder: Path, n: int) -> None:
    for i in range(n):
        kind = "Dark Frame" if i % 2 else "Light Frame"
        tiny(folder / f"frame-{i:03}.fit", f"IMAGETYP= '{kind}'", f"EXPTIME = {i}.5")


def expected(night: Path) -> list[Row]:
    """Return what astropy reads."""
    return [
        {
            "file": path.relative_to(night).as_posix(),
            "type_found": header["IMAGETYP"],
            "type": TYPES[header["IMAGETYP"]],
            "exptime": header["EXPTIME"],
            "object": header["OBJECT"],
            "size": f"{header['NAXIS1']} x {header['NAXIS2']}",
            "date": header["DATE-OBS"].partition(".")[0],
            "temperature": header["CCD-TEMP"],
            "calstat": header.get("CALSTAT", ""),
        }
        for path in sorted(night.rglob("*.fit"))
        for header in [fits.getheader(path)]
    ]


def from_json(told: Told) -> list[Row]:
    rows: list[Row] = json.loads(told.out)["frames"]
    return rows


def from_csv(told: Told) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(told.out, newline="")))


def problems(told: Told) -> list[str]:
    """Return the problems and remarks that a table names."""
    return re.findall(r"^(?:problem|check|note): (.*)$", told.out, re.M)


# What is listed


def test_the_table_says_what_the_headers_say(night: Path, arrayred: Call) -> None:
    fits.setval(night / "light-002.fit", "CALSTAT", value="BD")
    told = arrayred("inspect", night)
    assert (told.code, told.err) == (4, "")  # no raw frame has that CALSTAT
    for row in expected(night):
        date = row["date"][:16].replace("T", " ")
        shown = row["object"] if row["type"] == "light" else ""
        words = [row["file"], row["type"], f"{row['exptime']:g}", date,
                 f"{row['temperature']:.1f}", shown, row["calstat"]]  # fmt: skip
        line = re.escape("|".join(filter(None, words))).replace(r"\|", r"\s+")
        assert re.search(rf"^ {line}$", told.out, re.M), line
    assert f"{night}: 8 frames (5 dark, 3 light), all 120 x 160 pixels" in told.out


def test_json_says_what_astropy_reads(night: Path, arrayred: Call) -> None:
    told = arrayred("inspect", night, "--format", "json")
    assert (told.code, told.err) == (0, "")
    assert json.loads(told.out) == {"frames": expected(night), "problems": []}


def test_csv_says_what_astropy_reads(night: Path, arrayred: Call) -> None:
    told = arrayred("inspect", night, "--format", "csv")
    assert (told.code, told.err) == (0, "")
    assert from_csv(told) == [{k: str(v) for k, v in row.items()} for row in expected(night)]
    assert told.out.splitlines()[0] == ",".join(expected(night)[0])


def test_frames_are_listed_in_order_of_time(night: Path, arrayred: Call) -> None:
    fits.setval(night / "light-003.fit", "DATE-OBS", value="2024-03-09T12:00:00")
    fits.delval(night / "dark-001.fit", "DATE-OBS")
    rows = from_json(arrayred("inspect", night, "--format", "json"))
    assert rows[0]["file"] == "light-003.fit"
    assert (rows[-1]["file"], rows[-1]["date"]) == ("dark-001.fit", None)
    assert [row["date"] for row in rows[:-1]] == sorted(row["date"] for row in rows[:-1])


def test_what_no_card_says_is_null_and_blank(night: Path, arrayred: Call) -> None:
    for frame in night.iterdir():
        frame.unlink()
    tiny(night / "bare.fit", "IMAGETYP= 'Bias'")
    (row,) = from_json(arrayred("inspect", night, "--format", "json"))
    assert [k for k, v in row.items() if v is None] == ["exptime", "date", "temperature"]
    (line,) = from_csv(arrayred("inspect", night, "--format", "csv"))
    assert [v for v in line.values() if v] == ["bare.fit", "Bias", "bias", "3 x 2"]
    assert re.search(r"^ bare\.fit +bias$", arrayred("inspect", night).out, re.M)


def test_subfolders_are_named_with_slashes(night: Path, arrayred: Call) -> None:
    (night / "darks" / "long").mkdir(parents=True)
    for path in night.glob("dark*.fit"):
        path.rename(night / "darks" / "long" / path.name)
    rows = from_json(arrayred("inspect", night, "--format", "json"))
    assert [row["file"] for row in rows[:5]] == [f"darks/long/dark-00{i}.fit" for i in range(1, 6)]


def test_frames_names_the_lights_to_take_and_says_which_it_leaves_out(
    night: Path, arrayred: Call
) -> None:
    told = arrayred("inspect", night, "--frames", "*-00[23].fit")
    assert "7 frames (5 dark, 2 light)" in told.out
    (left_out,) = problems(told)
    assert re.match(r"light-001: .*'\*-00\[23\]\.fit'; not used$", left_out)


@pytest.mark.parametrize("where", ["mine.toml", "generic", "barber20"])
def test_an_instrument_file_says_what_headers_mean(night: Path, arrayred: Call, where: str) -> None:
    Path("mine.toml").write_text(
        '[types]\nlight = ["quux"]\n[keywords]\nexptime = ["SECONDS", "EXPTIME"]\n'
    )
    fits.setval(night / "light-001.fit", "IMAGETYP", value="Quux")
    fits.setval(night / "light-001.fit", "SECONDS", value=7.0)
    rows = from_json(arrayred("inspect", night, "--format", "json", "--instrument", where))
    (row,) = [row for row in rows if row["file"] == "light-001.fit"]
    meant = ("light", 7.0) if where == "mine.toml" else (None, 600.0)
    assert (row["type_found"], row["type"], row["exptime"]) == ("Quux", *meant)


# Problems


def unknown_type(night: Path) -> None:
    fits.setval(night / "light-002.fit", "IMAGETYP", value="Quux")


def no_type(night: Path) -> None:
    for keyword in ("IMAGETYP", "OBJECT"):
        fits.delval(night / "light-002.fit", keyword)
    (night / "light-002.fit").rename(night / "odd-002.fit")


def no_exposure(night: Path) -> None:
    fits.delval(night / "light-002.fit", "EXPTIME")


def odd_exposure(night: Path) -> None:
    fits.setval(night / "light-002.fit", "EXPTIME", value="600,0")


def exposure_as_text(night: Path) -> None:
    fits.setval(night / "light-002.fit", "EXPTIME", value="600.0")


def unexposed(night: Path) -> None:
    fits.setval(night / "light-002.fit", "EXPTIME", value=0.0)


def cut_short(night: Path) -> None:
    os.truncate(night / "light-002.fit", 30000)


def emptied(night: Path) -> None:
    os.truncate(night / "light-002.fit", 0)


def no_fits(night: Path) -> None:
    (night / "light-002.fit").write_text("clouds after midnight")


def product(night: Path) -> None:
    fits.setval(night / "light-002.fit", "ARVERSN", value="0.1")


PROBLEMS: list[tuple[Callable[[Path], None], bool, str]] = [
    (
        unknown_type,
        True,
        r"light-002: the frame type 'Quux' is unknown; set it in a night file \(\[types\] TYPE =",
    ),
    (
        no_type,
        True,
        r".*odd-002\.fit: Frame type unknown: no IMAGETYP in the header\. Add IMAGETYP",
    ),
    (no_exposure, True, r".*light-002\.fit: The header has no exposure time\. Correct EXPTIME"),
    (odd_exposure, True, r".*light-002\.fit: EXPTIME is '600,0'.*\. Correct EXPTIME"),
    (exposure_as_text, True, r"light-002: EXPTIME is the string '600\.0', read as a number$"),
    (unexposed, True, r".*light-002\.fit: A light of 0 s is impossible\. Set its exposure"),
    (cut_short, False, r".*light-002\.fit: The file has 30000 bytes, .*\. It is truncated"),
    (emptied, False, r".*light-002\.fit: The file is empty\. Copy it again"),
    (no_fits, False, r".*light-002\.fit: This is not a FITS file; not used$"),
    (product, False, r"light-002: a combined image, not a raw frame; not used$"),
]


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize(
    ("spoil", "listed", "message"), PROBLEMS, ids=[spoil.__name__ for spoil, *_ in PROBLEMS]
)
def test_what_is_wrong_is_named_beside_all_other_frames(
    night: Path,
    arrayred: Call,
    form: str,
    spoil: Callable[[Path], None],
    listed: bool,
    message: str,
) -> None:
    spoil(night)
    told = arrayred("inspect", night, "--format", form)
    assert told.code == arrayred("reduce", night, "-o", "out", "--no-figures", "-q").code
    named = {
        "table": lambda: problems(told),
        "csv": lambda: re.findall(r"^arrayred: (?:problem|check|note): (.*)$", told.err, re.M),
        "json": lambda: json.loads(told.out)["problems"],
    }[form]()
    assert [bool(re.match(message, line)) for line in named] == [True]
    listing = re.split("problem|note: ", told.out)[0]
    assert len(re.findall(r"(?:dark|light|odd)-00\d\.fit", listing)) == 7 + listed


def test_frames_of_no_known_type_are_counted_as_unknown(night: Path, arrayred: Call) -> None:
    no_type(night)
    fits.setval(night / "light-003.fit", "IMAGETYP", value="Quux")
    assert "8 frames (5 dark, 1 light, 2 unknown)" in arrayred("inspect", night).out
    rows = from_json(arrayred("inspect", night, "--format", "json"))
    found = [(row["type_found"], row["type"]) for row in rows[-2:]]
    assert found == [("", None), ("Quux", None)]


def test_a_name_that_betrays_a_lamp_does_not_go_before_the_pixels_of_a_star(
    night: Path, arrayred: Call
) -> None:
    (night / "light-002.fit").rename(night / "arc-002.fit")
    told = arrayred("inspect", night)
    assert "8 frames (5 dark, 3 light)" in told.out
    assert re.match("arc-002: its name contains 'arc', but the pixels show a star", *problems(told))
    rows = from_json(arrayred("inspect", night, "--format", "json"))
    (row,) = [row for row in rows if row["file"] == "arc-002.fit"]
    assert (row["type_found"], row["type"]) == ("Light Frame", "light")


WRONG: list[tuple[list[str], int, str]] = [
    (["nowhere"], 4, r"arrayred: error: nowhere: No such folder\. [A-Z].*"),
    (["empty"], 4, r"arrayred: error: empty: No FITS files found\. [A-Z].*"),
    (["night/light-001.fit"], 4, r"arrayred: error: night/light-001\.fit: .*\. [A-Z].*"),
    (["night", "--instrument", "barber2"], 2, r"arrayred: error: .*Did you mean 'barber20'\?"),
    (["night", "--instrument", "no.toml"], 2, r"arrayred: error: no\.toml: .*\. [A-Z].*"),
    (["night", "--format", "xml"], 2, r"Error: .*'xml' is not one of .*"),
    (["night", "more"], 2, r"arrayred: error: 2 nights given. Name one night\."),
    ([], 2, r"Error: Missing argument 'NIGHT'\."),
]


@pytest.mark.parametrize(
    ("args", "code", "message"), WRONG, ids=[" ".join(args) for args, *_ in WRONG]
)
def test_a_wrong_command_is_told_in_one_line(
    night: Path, arrayred: Call, args: list[str], code: int, message: str
) -> None:
    Path("empty").mkdir()
    told = arrayred("inspect", *args)
    assert (told.code, told.out) == (code, "")
    (line,) = [line for line in told.err.splitlines() if "rror: " in line]
    assert re.fullmatch(message, line)


# Odd characters


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("character", ["\x1b", "\x07", "\x9b", "\r"])
@pytest.mark.parametrize("keyword", ["OBJECT", "IMAGETYP"])
def test_control_characters_of_a_header_are_escaped(
    night: Path, arrayred: Call, form: str, character: str, keyword: str
) -> None:
    tiny(night / "odd.fit", "EXPTIME = 600.0", f"{keyword:8}= 'A{character}[31MB'")
    told = arrayred("inspect", night, "--format", form)
    assert told.code == (3 if keyword == "OBJECT" else 0)
    assert character not in told.out + told.err
    assert re.search(r"A\\(r|x..|u00..)\[31MB", told.out)


def test_control_characters_of_a_header_never_reach_a_terminal(night: Path) -> None:
    tiny(night / "odd.fit", "EXPTIME = 600.0", "OBJECT  = 'a\x1b[31mb'", "IMAGETYP= 'c\x1b[31md'")
    for form in FORMATS:
        with Terminal("inspect", "night", "--format", form, cwd=night.parent) as terminal:
            assert terminal.ended() == 0
        assert not re.search(r"[ac]\x1b\[31m", terminal.raw)
        assert "odd.fit" in terminal.raw


@pytest.mark.skipif(os.name == "nt", reason="such names cannot be")
@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("name", [b"a\x1b[31mb", b"a\xffb", b"a\nb", "a\u202eb".encode()])
def test_odd_characters_of_a_name_are_escaped(
    night: Path, fork: Run, form: str, name: bytes
) -> None:
    folder = night / os.fsdecode(name)
    folder.mkdir()
    (night / "light-001.fit").rename(folder / os.fsdecode(name + b"-light.fit"))
    emptied(night)
    (night / "light-002.fit").rename(folder / os.fsdecode(name + b"-empty.fit"))
    told = fork("inspect", folder, "--format", form)
    assert (told.returncode, "Traceback" in told.stderr) == (4, False), told.stderr
    assert not re.search("\x1b|\u202e|a\nb", told.stdout + told.stderr)
    assert re.search(r"a\\.*b-light\.fit", told.stdout)


@pytest.mark.parametrize("text", ["[red]x[/red]", "[/]", ":star:", "[link=file:///x]y", "a  b"])
def test_what_looks_like_markup_in_a_header_is_text(night: Path, arrayred: Call, text: str) -> None:
    tiny(night / "odd.fit", "IMAGETYP= 'Light'", f"OBJECT  = '{text}'")
    told = arrayred("inspect", night)
    assert told.code == 3
    assert re.search(rf"^ *odd\.fit .* {re.escape(text)}( |$)", told.out, re.M)


@pytest.mark.parametrize("name", ["[raw] night", ":star:", "[link=x]y", "night [", "night[/raw]"])
def test_what_looks_like_markup_in_a_name_is_text(night: Path, arrayred: Call, name: str) -> None:
    shutil.copytree(night, name)
    Path(name, "light-001.fit").rename(Path(name, "[red]light.fit"))
    told = arrayred("inspect", name)
    assert told.code == 0
    assert told.out.startswith(f"{name}: 8 frames ")
    assert "[red]light.fit" in told.out


@pytest.mark.parametrize("text", ['a,"b"', "a;b", "=1+1", "Barnard''s star", "  led"])
def test_what_csv_must_quote_comes_back(night: Path, arrayred: Call, text: str) -> None:
    tiny(night / "odd.fit", "IMAGETYP= 'Light'", f"OBJECT  = '{text}'")
    told = arrayred("inspect", night, "--format", "csv")
    (row,) = [row for row in from_csv(told) if row["file"] == "odd.fit"]
    assert row["object"] == text.replace("''", "'").strip()


# The plan


def braced(text: str) -> list[str]:
    """Return what a text with alternatives in braces stands for."""
    match = re.fullmatch(r"(.*)\{(.*)\}", text)
    return [match[1] + end for end in match[2].split(",")] if match else [text]


def section(told: Told, title: str) -> list[str]:
    """Return the lines below a title of the plan."""
    found = re.search(rf"^{title}\b(.*\n(?:  .*\n)*)", told.out, re.M)
    lines = found[1].splitlines() if found else []
    return [re.sub(" {2,}", " | ", line.strip()) for line in lines if line.strip()]


def test_the_plan_names_what_reduce_then_writes_and_writes_nothing(
    night: Path, arrayred: Call, tmp_path: Path
) -> None:
    told = arrayred("inspect", night, "--plan", "-v")
    assert (told.code, told.err) == (0, "")
    assert list(tmp_path.iterdir()) == [night]
    arrayred("reduce", night, "-o", "out", "-q")
    written = set(contents(Path("out")))
    assert {name for line in section(told, "Products") for name in braced(line)} == written


def test_the_plan_tells_masters_targets_and_what_is_read(night: Path, arrayred: Call) -> None:
    shutil.copy(night / "dark-001.fit", night / "dark-006.fit")
    fits.setval(night / "dark-006.fit", "EXPTIME", value=5.0)
    unknown_type(night)
    told = arrayred("inspect", night, "--plan", "-v")
    (master,) = section(told, "Calibration")
    assert re.match(r"master dark 600s \| 5 frames, CCD -\d+\.\d °C$", master)
    target, dark = section(told, "Targets")
    assert re.match(r"Simulated_star \| 2 x 600 s, CCD -\d+\.\d °C$", target)
    assert re.match(r"dark 600s \| taken 0\.\d d apart, \d\.\d °C (colder|warmer)$", dark)
    assert section(told, "Passes")[0] == "headers: 9 files, no pixels"
    n_bytes = 5 * 120 * 160 * 2
    assert f"bands of 600s: {n_bytes / 1e6:.1f} MB in 1 band" in section(told, "Passes")[1]
    assert section(told, "Memory") == [f"at most {n_bytes / 1e6:.1f} MB of pixels at a time"]
    assert "dark-006: a dark that no light frame needs" in section(told, "Not used")
    (note,) = section(told, "Notes")
    assert note.startswith("note | light-002: the frame type 'Quux' is unknown; set it in a night")
    assert "Passes" not in arrayred("inspect", night, "--plan").out


def test_a_plan_that_cannot_be_carried_out_ends_as_reduce_does(night: Path, arrayred: Call) -> None:
    for path in night.glob("dark*"):
        path.unlink()
    cut_short(night)
    told = arrayred("inspect", night, "--plan")
    reduced = arrayred("reduce", night, "-o", "out")
    assert told.code == reduced.code == 4
    errors = [line.removeprefix("arrayred: error: ") for line in reduced.err.splitlines()]
    assert section(told, "Problems") == errors
    assert len(errors) == 2


def test_control_characters_never_reach_the_plan(night: Path, arrayred: Call) -> None:
    tiny(night / "odd.fit", "EXPTIME = 600.0", "IMAGETYP= 'A\x1b[31mB'")
    told = arrayred("inspect", night, "--plan")
    assert "\x1b" not in told.out + told.err
    assert r"A\x1b[31mB" in told.out


# Pipes and terminals


def test_a_pipe_gets_no_colours_and_no_cut_cells(night: Path, fork: Run) -> None:
    long = "a star with a name as long as a header card can hold, which is a lot"
    fits.setval(night / "light-001.fit", "OBJECT", value=long)
    told = fork("inspect", night.name)
    assert (told.returncode, told.stderr) == (0, "")
    assert "\x1b" not in told.stdout
    assert long in told.stdout


DROPPED = ("size", "found", "CALSTAT", "start (UTC)", "object", "CCD (°C)")


@pytest.mark.parametrize(("columns", "n_gone"), [(140, 0), (95, 1), (80, 3), (60, 4), (36, 6)])
def test_a_narrow_terminal_drops_columns_and_breaks_no_word(
    night: Path, columns: int, n_gone: int
) -> None:
    tiny(night / "other.fit", "IMAGETYP= 'Quux'", "EXPTIME = 600.0", "CALSTAT = 'BD'")
    with Terminal("inspect", "night", cwd=night.parent, columns=columns) as terminal:
        assert terminal.ended() == 0
    lines = [line.rstrip() for line in terminal.screen.splitlines()]
    assert max(map(len, lines)) <= columns
    (heading,) = [line for line in lines if line.startswith(" file")]
    assert [name for name in DROPPED if name not in heading] == [*DROPPED[:n_gone]]
    assert sum(bool(re.match(r" dark-00\d\.fit +dark +600( |$)", line)) for line in lines) == 5
    assert sum(bool(re.match(r" light-00\d\.fit +light +600( |$)", line)) for line in lines) == 3
    assert "\x1b[31m" not in terminal.raw


def test_a_name_too_long_for_a_terminal_has_a_line_of_its_own(night: Path) -> None:
    name = f"{'a-long-name-' * 4}.fit"
    (night / "light-001.fit").rename(night / name)
    with Terminal("inspect", "night", cwd=night.parent, columns=60) as terminal:
        assert terminal.ended() == 0
    assert re.search(rf"^ {name}\r?\n +light +600\r?$", terminal.screen, re.M)


def test_of_many_frames_the_groups_are_listed_unless_all_are_asked_for(
    tmp_path: Path, arrayred: Call
) -> None:
    many(tmp_path / "night", 41)
    told = arrayred("inspect", "night")
    assert "frame-001.fit" not in told.out
    assert told.out.startswith("night: 41 frames (21 light, 20 dark), all 3 x 2 pixels\n")
    assert "arrayred inspect night --all" in told.out
    every = arrayred("inspect", "night", "--all").out
    assert len(re.findall(r"^ frame-\d\d\d\.fit ", every, re.M)) == 41


@pytest.mark.parametrize(("variable", "is_red"), [("", True), ("1", False)])
def test_a_problem_is_red_on_a_terminal_unless_no_colour_is_wanted(
    night: Path, variable: str, is_red: bool
) -> None:
    emptied(night)
    with Terminal("inspect", "night", cwd=night.parent, NO_COLOR=variable) as terminal:
        assert terminal.ended() in (3, 4)
    assert ("\x1b[31mproblem\x1b[0m: " in terminal.raw) == is_red
    assert "problem: " in terminal.screen


def test_csv_into_a_file_is_clean_on_a_terminal(tmp_path: Path) -> None:
    many(tmp_path / "night", 300)
    command = ("inspect", "night", "--format", "csv")
    with (
        (tmp_path / "list.csv").open("wb") as file,
        Terminal(*command, cwd=tmp_path, stdout=file) as terminal,
    ):
        assert terminal.ended() == 0
    with (tmp_path / "list.csv").open(newline="") as file:
        assert [row["exptime"] for row in csv.DictReader(file)] == [f"{i}.5" for i in range(300)]


def test_no_progress_is_shown_where_there_is_little_to_read(tmp_path: Path) -> None:
    many(tmp_path / "night", 20)
    with Terminal("inspect", "night", cwd=tmp_path) as terminal:
        assert terminal.ended() == 0
    assert "reading headers" not in terminal.screen
    assert "20 frames (" in terminal.screen


def test_hundreds_of_frames_are_listed_in_a_pipe_without_progress(
    tmp_path: Path, fork: Run
) -> None:
    many(tmp_path / "night", 300)
    told = fork("inspect", "night", "--format", "json")
    assert (told.returncode, told.stderr) == (0, "")
    rows = json.loads(told.stdout)["frames"]
    assert [row["file"] for row in rows] == [f"frame-{i:03}.fit" for i in range(300)]
    assert [row["exptime"] for row in rows] == [i + 0.5 for i in range(300)]


@pytest.mark.skipif(os.name == "nt", reason="closed pipes end otherwise")
@pytest.mark.parametrize("form", FORMATS)
def test_a_reader_that_has_seen_enough_is_no_bug(night: Path, form: str) -> None:
    ours, theirs = os.pipe()
    os.close(ours)
    with open(os.devnull, "rb") as nothing, tempfile.TemporaryFile("w+") as err:
        streams = [nothing.fileno(), theirs, err.fileno()]
        command = ["inspect", str(night), "--format", form]
        process = forked.start(command, streams, night.parent, os.environ)
        os.close(theirs)
        process.join(60)
        assert process.exitcode is not None
        err.seek(0)
        assert not re.search("Traceback|bug|Exception", err.read())


def test_every_option_is_tried_in_this_folder() -> None:
    text = "".join(path.read_text() for path in Path(__file__).parent.glob("test_*.py"))
    options = [name for option in inspect.params for name in option.opts if name.startswith("-")]
    assert [name for name in options if f'"{name}"' not in text] == []


def test_frames_named_instead_of_their_folder_are_told_the_folder(
    night: Path, arrayred: Call
) -> None:
    told = arrayred("inspect", *sorted(night.iterdir()))
    assert (told.code, told.out) == (2, "")
    assert f"Name the folder, {night}." in told.err
    told = arrayred("inspect", night, night)
    assert (told.code, "Name one night" in told.err) == (2, True)
