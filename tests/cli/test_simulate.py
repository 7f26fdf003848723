"""``arrayred simulate``: every option reaches the frames, and the truth beside them is true."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy.io import fits
from astropy.table import Table
from numpy.typing import NDArray

from arrayred.cli.commands import simulate
from arrayred.simulate import Detector, SimulatedNight, Sky, Star
from tests.cli import forked
from tests.cli.conftest import Call, contents
from tests.cli.test_prompts import Terminal

SMALL = ("--shape", "24x30")
DIALECTS = ["maxim", "nina", "observatory"]


def images(folder: str | Path) -> Iterator[tuple[str, fits.Header, NDArray[Any]]]:
    """Yield name, header and pixels of each frame of a folder, as astropy reads them."""
    for path in sorted(Path(folder).rglob("*.fit*")):
        pixels, header = fits.getdata(path, header=True)
        yield path.relative_to(folder).as_posix(), header, pixels


def facts(folder: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(Path(folder, "truth.json").read_text())
    return found


# What the options do


OPTIONS: list[tuple[str, str, str, str, Any]] = [
    ("--lights", "2", "night", "n_lights", 2),
    ("--darks", "0", "night", "n_darks", 0),
    ("--biases", "2", "night", "n_biases", 2),
    ("--flats", "2", "night", "n_flats", 2),
    ("--arcs", "1", "night", "n_arcs", 1),
    ("--exptime", "12.5", "night", "exptime", 12.5),
    ("--dialect", "observatory", "night", "dialect", "observatory"),
    ("--prefix", "cam-1_", "night", "prefix", "cam-1_"),
    ("--seed", "123456789012", "night", "seed", 123456789012),
    ("--cosmic-rays", "60", "night", "cosmic_rays", 60.0),
    ("--flux-scatter", "0.3", "night", "flux_scatter", 0.3),
    ("--trace-drift", "-1.5", "night", "trace_drift", -1.5),
    ("--shape", "20x31", "detector", "shape", (20, 31)),
    ("--dtype", "int32", "detector", "dtype", "int32"),
    ("--gain", "0.7", "detector", "gain", 0.7),
    ("--read-noise", "0", "detector", "read_noise", 0.0),
    ("--bias-level", "0", "detector", "bias_level", 0.0),
    ("--bias-drift", "-20", "detector", "bias_drift", -20.0),
    ("--response-scatter", "0.1", "detector", "response_scatter", 0.1),
    ("--vignetting", "1", "detector", "vignetting", 1.0),
    ("--full-well", "3000", "detector", "full_well", 3000.0),
    ("--name", "59 Cyg", "star", "name", "59 Cyg"),
    ("--flux", "0", "star", "flux", 0.0),
    ("--row", "5.5", "star", "row", 5.5),
    ("--tilt", "-4", "star", "tilt", -4.0),
    ("--seeing", "2.5", "star", "seeing", 2.5),
    ("--profile", "moffat", "star", "profile", "moffat"),
    ("--stated-gain", "1.6", "detector", "stated_gain", 1.6),
    ("--sky", "0.4", "sky", "level", 0.4),
    ("--sky-gradient", "-0.9", "sky", "gradient", -0.9),
    ("--sky-tilt", "-500", "sky", "tilt", -500.0),
]


@pytest.mark.parametrize(
    ("option", "text", "part", "field", "value"), OPTIONS, ids=[option for option, *_ in OPTIONS]
)
def test_an_option_makes_the_night_that_it_describes(
    arrayred: Call, option: str, text: str, part: str, field: str, value: Any
) -> None:
    parts: dict[str, dict[str, Any]] = {"detector": {"shape": (24, 30)}}
    parts |= {"star": {}, "sky": {}, "night": {}}
    usual = SimulatedNight(Detector(**parts["detector"]))
    parts[part][field] = value
    detector, star, sky = Detector(**parts["detector"]), Star(**parts["star"]), Sky(**parts["sky"])
    night = SimulatedNight(detector, star, sky=sky, **parts["night"])
    assert arrayred("simulate", "made", *SMALL, option, text).code == 0
    made = {name: (header, pixels) for name, header, pixels in images("made")}
    assert set(made) == {frame.name for frame in night.frames()}
    for frame in night.frames():
        header, pixels = made[frame.name]
        assert np.array_equal(pixels, frame.pixels)
        assert {keyword: header[keyword] for keyword in frame.cards} == frame.cards
    assert [(f.name, f.cards, f.pixels.tobytes()) for f in night.frames()] != [
        (f.name, f.cards, f.pixels.tobytes()) for f in usual.frames()
    ]
    told = facts("made") if part == "night" else facts("made")[part]
    assert told[field] == (list(value) if isinstance(value, tuple) else value)


def test_every_option_is_tried_in_this_file() -> None:
    text = Path(__file__).read_text()
    options = [option.opts for option in simulate.params if option.opts[0].startswith("-")]
    assert [names for names in options if not any(f'"{name}"' in text for name in names)] == []


@pytest.mark.parametrize("dtype", ["uint8", "int16", "uint16", "int32", "uint32", "float32"])
def test_frames_have_the_dtype_asked_for(arrayred: Call, dtype: str) -> None:
    assert arrayred("simulate", "made", *SMALL, "--dtype", dtype, "--bias-level", "90").code == 0
    for _, _, pixels in images("made"):
        assert pixels.dtype.newbyteorder("=") == dtype
        assert 70 < np.median(pixels) < 200


@pytest.mark.parametrize("shape", ["1x1", "3x2", "2X3"])
def test_tiny_frames_are_made_too(arrayred: Call, shape: str) -> None:
    assert arrayred("simulate", "made", "--shape", shape, "--flats", 1, "--arcs", 1).code == 0
    rows, columns = map(int, shape.lower().split("x"))
    assert {pixels.shape for _, _, pixels in images("made")} == {(rows, columns)}


@pytest.mark.parametrize("scatter", ["0.3", "0.5", "1"])
def test_a_pixel_may_be_blind(arrayred: Call, scatter: str) -> None:
    options = (*SMALL, "--response-scatter", scatter, "--flats", "1", "--read-noise", "0")
    assert arrayred("simulate", "made", *options).code == 0
    (flat,) = [pixels for name, _, pixels in images("made") if "flat" in name]
    assert flat.min() >= 1000


def test_it_says_how_many_frames_and_where_the_truth_is(arrayred: Call) -> None:
    told = arrayred("simulate", "a night", *SMALL)
    assert (told.code, told.err) == (0, "")
    assert re.fullmatch(r"8 frames in a night; .*truth\.ecsv.*truth\.json\n", told.out)


# The truth beside the frames


def test_astropy_reads_the_truth_and_it_is_the_stars_light(arrayred: Call) -> None:
    options = ("--flux", "50", "--gain", "2", "--exptime", "100", "--row", "30", "--lights", "9")
    arrayred("simulate", "made", "--shape", "60x120", *options, "--read-noise", "0")
    truth = Table.read("made/truth.ecsv", format="ascii.ecsv")
    x = np.arange(1, 121)
    line = 1 - 0.6 * np.exp(-0.5 * ((x - 90) / 3) ** 2)
    assert truth["x"].tolist() == x.tolist()
    assert np.allclose(truth["flux"], 50 * 100 / 2 * (1 - 0.3 * x / 120) * line)
    assert np.allclose(truth["sky"], 0.05 * 100 / 2)
    assert {str(truth[name].unit) for name in ("flux", "sky")} == {"adu"}
    light, dark = (
        np.mean([p for name, _, p in images("made") if kind in name], axis=0).sum(axis=0)
        for kind in ("light", "dark")
    )
    noise = np.sqrt(light - dark).mean() / 3
    excess = light - dark - 60 * truth["sky"] - truth["flux"]
    assert np.sqrt(np.mean(excess**2)) < 2 * noise


def test_cosmic_rays_are_where_the_truth_says(arrayred: Call) -> None:
    options = (*SMALL, "--exptime", "60", "--flux", "0", "--read-noise", "5", "--gain", "2")
    arrayred("simulate", "without", *options)
    arrayred("simulate", "with", *options, "--cosmic-rays", "3000")
    rays = facts("with")["cosmic_ray_hits"]
    assert list(rays) == [name for name, _, _ in images("with")]
    for (name, _, hit), (_, _, spared) in zip(images("with"), images("without"), strict=True):
        excess = np.zeros(hit.shape)
        for row, column, electrons in rays[name]:
            excess[row - 1, column - 1] += electrons / 2
        found, both = hit.astype(float) - spared, hit.astype(float) + spared - 2 * 1000
        assert 30 < np.count_nonzero(excess) < 600
        assert np.all(abs(found - excess) < 6 * np.sqrt(np.maximum(both, 0) / 2 + 2 * 2.5**2 + 1))
        assert excess[excess > 0].min() > 50


def test_without_cosmic_rays_the_truth_names_none(arrayred: Call) -> None:
    arrayred("simulate", "made", *SMALL)
    assert facts("made")["cosmic_ray_hits"] == {name: [] for name, _, _ in images("made")}


# The same command, and another


def test_the_same_command_gives_the_same_bytes_anywhere(arrayred: Call, tmp_path: Path) -> None:
    options = (*SMALL, "--cosmic-rays", "300", "--flats", "1", "--dialect", "nina")
    assert arrayred("simulate", "one", *options).code == 0
    (tmp_path / "deep").mkdir()
    done = forked.run("simulate", "x/y/two", *options, cwd=tmp_path / "deep")
    assert done.returncode == 0
    one, two = contents(Path("one")), contents(Path("deep/x/y/two"))
    assert {n: c for n, (c, _) in one.items()} == {n: c for n, (c, _) in two.items()}
    assert {"truth.ecsv", "truth.json", "LIGHT/0003.fits"} < set(one)


def test_a_second_run_changes_nothing(arrayred: Call) -> None:
    first = arrayred("simulate", "made", *SMALL)
    before = contents(Path("made"))
    assert arrayred("simulate", "made", *SMALL) == first
    assert contents(Path("made")) == before


OTHERS = [("--seed", "1"), ("--flux", "90"), ("--lights", "4"), ("--darks", "6"), ("--tilt", "0")]


@pytest.mark.parametrize("other", OTHERS, ids=" ".join)
def test_another_night_is_refused_and_leaves_all_as_it_was(
    arrayred: Call, other: tuple[str, str]
) -> None:
    arrayred("simulate", "made", *SMALL)
    before = contents(Path("made"))
    told = arrayred("simulate", "made", *SMALL, *other)
    assert told.code == 2
    assert re.match(r"arrayred: error: made/\S+: .*already exist.*\. Use --overwrite", told.err)
    assert contents(Path("made")) == before


@pytest.mark.parametrize("other", OTHERS, ids=" ".join)
def test_overwrite_makes_the_other_night(arrayred: Call, other: tuple[str, str]) -> None:
    arrayred("simulate", "made", *SMALL)
    arrayred("simulate", "fresh", *SMALL, *other)
    assert arrayred("simulate", "made", *SMALL, *other, "--overwrite").code == 0
    made, fresh = contents(Path("made")), contents(Path("fresh"))
    assert {n: c for n, (c, _) in made.items()} == {n: c for n, (c, _) in fresh.items()}


# Mistakes


NUMBERS = [option for option, text, *_ in OPTIONS if re.fullmatch(r"-?[\d.]+", text)]
WHOLE = ["--lights", "--darks", "--biases", "--flats", "--arcs", "--seed"]
BELOW = {"--row", "--tilt", "--trace-drift", "--bias-level", "--bias-drift"}
BELOW |= {"--sky-gradient", "--sky-tilt"}
BAD: list[tuple[str, str]] = [
    *((option, "x") for option in NUMBERS),
    *((option, "nan") for option in NUMBERS),
    *((option, "inf") for option in NUMBERS),
    *((option, "-1") for option in NUMBERS if option not in BELOW),
    *((option, "1.5") for option in WHOLE),
    *(("--shape", text) for text in ("10", "10x", "x10", "0x5", "5x0", "-3x4", "1.5x2", "3x3x3")),
    *((option, "0") for option in ("--exptime", "--gain", "--seeing")),
    *((option, "1e30") for option in ("--exptime", "--flux", "--cosmic-rays")),
    *(("--name", text) for text in ("Mitä", "a\nEND", "a\x1b[31mb")),
    *(("--prefix", text) for text in ("../", "{elsewhere}/", "a/../../b", "a\0b")),
    ("--vignetting", "1.01"),
    ("--dtype", "float16"),
    ("--dialect", "iraf"),
    ("--profile", "lorentz"),
    ("--light", "3"),
]


@pytest.mark.parametrize(("option", "text"), BAD, ids=[" ".join(map(repr, bad)) for bad in BAD])
def test_a_bad_value_is_told_in_one_line_and_nothing_is_written(
    arrayred: Call, tmp_path: Path, option: str, text: str
) -> None:
    text = text.replace("{elsewhere}", str(tmp_path / "elsewhere"))
    told = arrayred("simulate", "sub/made", *SMALL, "--darks", "1", option, text)
    assert (told.code, told.out) == (2, ""), told.err
    assert len([line for line in told.err.splitlines() if "rror: " in line]) == 1
    assert list(tmp_path.rglob("*")) == []


def test_a_file_in_the_way_is_named(arrayred: Call) -> None:
    Path("taken").write_text("here first")
    told = arrayred("simulate", "taken", *SMALL)
    assert told.code == 5
    assert re.match(r"arrayred: error: taken\S*: .*\. [A-Z].*\n$", told.err)
    assert Path("taken").read_text() == "here first"


def test_frames_taken_by_a_camera_are_not_replaced(arrayred: Call) -> None:
    Path("raw").mkdir()
    Path("raw/light-002.fit").write_bytes(b"a night's work")
    told = arrayred("simulate", "raw", *SMALL)
    assert (told.code, "raw/light-002.fit" in told.err) == (2, True)
    assert Path("raw/light-002.fit").read_bytes() == b"a night's work"


# Dialects


@pytest.mark.parametrize("dialect", DIALECTS)
def test_inspect_knows_every_frame_of_a_dialect(arrayred: Call, dialect: str) -> None:
    counts = {"bias": 2, "dark": 3, "flat": 4, "arc": 1, "light": 5}
    options = ("--biases", "2", "--darks", "3", "--flats", "4", "--arcs", "1", "--lights", "5")
    arrayred("simulate", "made", *SMALL, *options, "--dialect", dialect, "--name", "59 Cyg")
    told = json.loads(arrayred("inspect", "made", "--format", "json").out)
    types = [row["type"] for row in told["frames"]]
    assert types == [kind for kind, n in counts.items() for _ in range(n)]
    assert [row["exptime"] for row in told["frames"]] == [0.0] * 2 + [600.0] * 3 + [10.0] * 5 + [
        600.0
    ] * 5
    assert {row["object"] for row in told["frames"][-5:]} == {"59 Cyg"}
    assert told["problems"] == []


def test_every_dialect_holds_the_same_pixels_and_reduces_to_the_same_spectrum(
    arrayred: Call,
) -> None:
    pixels, tables = [], []
    for dialect in DIALECTS:
        options = ("--shape", "160x120", "--flats", "1", "--biases", "1", "--dialect", dialect)
        arrayred("simulate", dialect, *options)
        told = arrayred("reduce", dialect, "-o", f"{dialect}-out", "--no-figures", "-q")
        assert (told.code, told.err) == (0, "")
        pixels.append(sorted(image.tobytes() for _, _, image in images(dialect)))
        (table,) = Path(f"{dialect}-out").rglob("*_skysubtracted.txt")
        tables.append((table.name, table.read_bytes()))
    assert pixels == [pixels[0]] * 3
    assert tables == [tables[0]] * 3
    assert len(tables[0][1].splitlines()) == 121


# The terminal, and start-up


@pytest.mark.parametrize(("shape", "delay"), [("400x600", 0.02), ("2x3", 10.0)])
def test_progress_is_shown_on_a_terminal_where_there_is_much_to_write(
    tmp_path: Path, shape: str, delay: float
) -> None:
    patience = {"arrayred.cli.layout._BAR_DELAY_S": delay}
    command = ("simulate", "made", "--shape", shape)
    with Terminal(*command, cwd=tmp_path, patches=patience) as terminal:
        assert terminal.ended() == 0
    assert ("writing frames" in terminal.screen) is (delay < 1)
    assert "true values in truth.ecsv and truth.json" in terminal.screen
