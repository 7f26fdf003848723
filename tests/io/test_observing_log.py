"""An observing log, in CSV or ECSV, read as a night file."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from astropy.table import MaskedColumn, Table

from arrayred.config import NightFile, TargetFile, read_night_file
from arrayred.errors import UsageError


def read(folder: Path, text: str | bytes, name: str = "log.csv") -> NightFile:
    path = folder / name
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return read_night_file(path)


def of_one_row(folder: Path, heading: str, value: str) -> TargetFile:
    (target,) = read(folder, f"frames,{heading}\nhr-1,{value}\n").targets.values()
    return target


def test_a_row_of_lights_is_a_target(tmp_path: Path) -> None:
    text = "frames,object,grating,grating angle,rows\nhr-10..12,59 Cyg,1200,26.0 deg,484:518\n"
    cards = {"OBJECT": "59 Cyg", "GRATING": "1200", "GRATANG": "26.0 deg"}
    target = TargetFile(("hr-10..12",), cards=cards, recipe={"rows": [484, 518]})
    assert read(tmp_path, text) == NightFile(targets={"59 Cyg": target}, path=tmp_path / "log.csv")


@pytest.mark.parametrize(
    "heading",
    ["frames", "Frame", "FILES", "file", " Filename ", "range", "Exposures", "Files (numbers)"],
)
def test_frames_have_many_headings(tmp_path: Path, heading: str) -> None:
    (target,) = read(tmp_path, f"{heading},star\nhr-1,Vega\n").targets.values()
    assert target.frames == ("hr-1",)


@pytest.mark.parametrize(
    ("heading", "value", "cards"),
    [
        ("Object", "59 Cyg", {"OBJECT": "59 Cyg"}),
        ("target", "59 Cyg", {"OBJECT": "59 Cyg"}),
        ("Star", "59", {"OBJECT": "59"}),
        ("source", "M 31", {"OBJECT": "M 31"}),
        ("grating", "1200", {"GRATING": "1200"}),
        ("Grism", "0600", {"GRATING": "0600"}),
        ("grating_angle", "26.0", {"GRATANG": "26.0"}),
        ("Grating Angle [deg]", "26.0", {"GRATANG": "26.0"}),
        ("GRATANG", "26", {"GRATANG": "26"}),
        ("angle (deg)", "26", {"GRATANG": "26"}),
    ],
)
def test_cards_have_many_headings_and_stay_text(
    tmp_path: Path, heading: str, value: str, cards: dict[str, str]
) -> None:
    assert of_one_row(tmp_path, heading, value).cards == cards


@pytest.mark.parametrize(
    ("heading", "value", "recipe"),
    [
        ("rows", "484:518", {"rows": [484, 518]}),
        ("rows", "484-518", {"rows": [484, 518]}),
        ("rows", '"484, 518"', {"rows": [484, 518]}),
        ("Sky rows", "484 : 518", {"sky_rows": [484, 518]}),
        ("background_rows", "1:50", {"background_rows": [1, 50]}),
        ("n_sigma", "3", {"n_sigma": 3}),
        ("N sigma", "3.5", {"n_sigma": 3.5}),
        ("combine", "median", {"combine": "median"}),
        ("sky", "no", {"sky": False}),
        ("sky", "TRUE", {"sky": True}),
        ("sky_offset", "12", {"sky_offset": 12}),
    ],
)
def test_a_column_may_be_a_setting(
    tmp_path: Path, heading: str, value: str, recipe: dict[str, object]
) -> None:
    assert of_one_row(tmp_path, heading, value).recipe == recipe


@pytest.mark.parametrize(
    "heading", ["notes", "Comment", "UT", "Exptime (s)", "airmass", "Seeing [arcsec]", ""]
)
def test_a_column_that_nobody_needs_is_passed_over(tmp_path: Path, heading: str) -> None:
    assert of_one_row(tmp_path, heading, "whatever") == TargetFile(("hr-1",))


@pytest.mark.parametrize("form", ["csv", "ecsv"])
def test_missing_values_are_as_if_not_there(tmp_path: Path, form: str) -> None:
    if form == "csv":
        file = read(tmp_path, "frames,object,rows,grating\na-1,Vega,,\nb-1,,3:9,600\n")
    else:
        columns = {
            "frames": ["a-1", "b-1"],
            "object": MaskedColumn(["Vega", ""], mask=[False, True]),
            "rows": MaskedColumn(["", "3:9"], mask=[True, False]),
            "grating": MaskedColumn([0, 600], mask=[True, False]),
        }
        Table(columns).write(tmp_path / "log.ecsv")
        file = read_night_file(tmp_path / "log.ecsv")
    assert file.targets["Vega"] == TargetFile(("a-1",), cards={"OBJECT": "Vega"})
    assert file.targets["b-1"] == TargetFile(
        ("b-1",), cards={"GRATING": "600"}, recipe={"rows": [3, 9]}
    )


@pytest.mark.parametrize("mark", [";", "\t"])
def test_what_spreadsheets_write_instead_of_commas_parts_values(tmp_path: Path, mark: str) -> None:
    log = tmp_path / "log.csv"
    log.write_text(f"frames{mark}object{mark}grating\nvega-1{mark}Vega{mark}1200\n")
    assert read_night_file(log).targets["Vega"].cards == {"OBJECT": "Vega", "GRATING": "1200"}


def test_an_ecsv_says_what_the_csv_does(tmp_path: Path) -> None:
    text = "frames,object,grating,grating_angle,n_sigma\nhr-1..3,59 Cyg,1200,26.5,3.5\n"
    table = Table.read(text.splitlines(), format="ascii.csv")
    table["grating_angle"].unit = "deg"
    table.write(tmp_path / "log.ecsv")
    assert read_night_file(tmp_path / "log.ecsv").targets == read(tmp_path, text, "log.CSV").targets


def test_several_ranges_of_one_row_are_parted_by_semicolons(tmp_path: Path) -> None:
    (target,) = read(tmp_path, "files,star\nhr-1..3; hr-7;,Vega\n").targets.values()
    assert target.frames == ("hr-1..3", "hr-7")


def test_rows_alike_are_one_target(tmp_path: Path) -> None:
    file = read(tmp_path, "files,star,UT\nhr-1,Vega,20:10\nd-1,Deneb,20:20\nhr-2,Vega,20:30\n")
    assert {n: t.frames for n, t in file.targets.items()} == {
        "Vega": ("hr-1", "hr-2"),
        "Deneb": ("d-1",),
    }


def test_rows_of_one_star_that_differ_are_two_targets(tmp_path: Path) -> None:
    file = read(tmp_path, "files,star,grating\nhr-1,Vega,600\nhr-2,Vega,1200\n")
    assert [(t.frames, t.cards["GRATING"]) for t in file.targets.values()] == [
        (("hr-1",), "600"),
        (("hr-2",), "1200"),
    ]
    assert all(t.cards["OBJECT"] == "Vega" for t in file.targets.values())


def test_a_name_goes_before_the_object(tmp_path: Path) -> None:
    file = read(tmp_path, "files,star,name\nhr-1,Vega,red\nhr-2,Vega,blue\nhr-3,Vega,\n")
    assert list(file.targets) == ["red", "blue", "Vega"]


def test_rows_of_other_types_tell_types(tmp_path: Path) -> None:
    text = "frames,type,object\nneon-*,Comparison,\nd1..5,Dark Frame,\nz1,zero,\nhr-1,Light,Vega\n"
    file = read(tmp_path, text + "d6,dark,\n")
    assert file.types == {"arc": ("neon-*",), "dark": ("d1..5", "d6"), "bias": ("z1",)}
    assert list(file.targets) == ["Vega"]


def test_rows_from_names_another_target(tmp_path: Path) -> None:
    file = read(tmp_path, "frames,object,rows from\na,Vega,\nb,1200,Vega\n")
    assert file.targets["1200"].rows_from == "Vega"


@pytest.mark.parametrize("mark", [b"\xef\xbb\xbf", b""])
@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"])
def test_the_bytes_of_a_spreadsheet_are_no_obstacle(
    tmp_path: Path, mark: bytes, end: bytes
) -> None:
    lines = [b"# my log", b'"frames", "star" ,,', b"", b'"hr-1" , "\xce\xb1 Lyr, A",,']
    (target,) = read(tmp_path, mark + end.join(lines)).targets.values()
    assert (target.frames, target.cards) == (("hr-1",), {"OBJECT": "α Lyr, A"})


@pytest.mark.parametrize("text", ["", "# nothing\n", "frames,object\n"])
def test_a_log_without_rows_says_nothing(tmp_path: Path, text: str) -> None:
    assert read(tmp_path, text) == NightFile(path=tmp_path / "log.csv")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("frames,gratting\na,600\n", "'gratting' is not a known heading.*Did you mean 'grating'"),
        ("object\nVega\n", r"No column names the frames \(found: object\).*Name a column 'frames'"),
        ("frames,object\n,Vega\n", "A row names no frames: , Vega"),
        ("frames,object\na,Vega,x\n", "different number of values than the heading"),
        ("frames,object\na\n", "different number of values than the heading"),
        ("frames,type\na,darrk\n", "'darrk' is not a known frame type. Did you mean 'dark'"),
        ("frames,combine\na,mean\n", "combine must be one of"),
        ("frames,rows\na,9:3\n", "rows must be two rows"),
        ("frames,dark_method\na,median\n", "would affect other targets"),
        (b"frames,object\na,\xe9\n", "The log cannot be read"),
    ],
)
def test_what_means_nothing_is_told_with_the_path(
    tmp_path: Path, text: str | bytes, words: str
) -> None:
    with pytest.raises(UsageError) as caught:
        read(tmp_path, text)
    assert caught.value.path == str(tmp_path / "log.csv")
    assert re.search(words, str(caught.value))


@pytest.mark.parametrize("name", ["gone.csv", "gone.ecsv", "gone.toml"])
def test_a_log_that_is_not_there_is_said(tmp_path: Path, name: str) -> None:
    with pytest.raises(UsageError, match="cannot be read") as caught:
        read_night_file(tmp_path / name)
    assert caught.value.path == str(tmp_path / name)


def test_what_is_no_ecsv_is_said(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="This is not valid ECSV") as caught:
        read(tmp_path, "frames,object\na,Vega\n", "log.ecsv")
    assert caught.value.path == str(tmp_path / "log.ecsv")
