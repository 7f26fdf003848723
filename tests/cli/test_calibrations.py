"""Darks, biases, masters and lamps through the command line: what is subtracted, and what is said.

Truth is plain numpy on what astropy reads.
"""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy.io import fits
from astropy.table import Table

from tests.cli.conftest import Call
from tests.cli.two_stars import (
    LAMPS,
    QUIET,
    contents_of,
    less,
    made,
    noted,
    pixels,
    product,
    reduced,
    taken,
)

WITH_LAMPS = ("--target", "Vega")
# To tell what gas shines where no dark was subtracted from a lamp takes ten times the rest.
VEGA = (*WITH_LAMPS, "--no-wavelength")
NAMED_LAMPS = '[targets.Vega]\nlamps = ["arc-*"]\n'


# Darks and biases from elsewhere


def moved(night: Path, pattern: str, folder: str = "library") -> Path:
    """Move frames of a night to another folder."""
    Path(folder).mkdir()
    for path in night.glob(pattern):
        path.rename(Path(folder) / path.name)
    return Path(folder)


def same_but_names(one: str, other: str) -> bool:
    """Tell whether all products but headers, which name the inputs, are the same."""
    tables = [path.relative_to(one) for path in Path(one).rglob("*.txt")]
    images = [path.relative_to(one) for path in Path(one).glob("targets/*/*_combined.fits")]
    assert tables
    assert images
    return all(
        (Path(one) / p).read_bytes() == (Path(other) / p).read_bytes() for p in tables
    ) and all(
        np.array_equal(fits.getdata(Path(one) / p), fits.getdata(Path(other) / p)) for p in images
    )


@pytest.mark.parametrize("by", ["option", "file"])
def test_darks_of_another_folder_serve_as_if_they_were_here(
    stars: Path, arrayred: Call, plain: dict[str, bytes], by: str
) -> None:
    library = moved(stars, "dark*")
    note = noted('calibrations = ["../library"]\n', "notes/n.toml")
    reduced(arrayred, *(note if by == "file" else ("--calibrations", library)))
    assert contents_of("out") == plain


def test_lights_in_a_folder_of_calibrations_are_no_targets(stars: Path, arrayred: Call) -> None:
    library = moved(stars, "v-*")
    told = arrayred("inspect", stars, "--plan", "--calibrations", library)
    assert "v-light-001, ../library/v-light-002: in a calibrations folder" in told.out
    reduced(arrayred, "--calibrations", library)
    assert made() == {"Deneb"}


@pytest.mark.parametrize("spelt", ["./night/../night", "link", "{}"])
def test_a_folder_of_calibrations_may_be_the_night_itself(
    stars: Path, arrayred: Call, plain: dict[str, bytes], spelt: str
) -> None:
    Path("link").symlink_to(stars)
    reduced(arrayred, "--calibrations", spelt.format(stars))
    assert contents_of("out") == plain


@pytest.mark.parametrize("form", ["table", "csv", "json"])
def test_inspect_lists_frames_from_elsewhere(stars: Path, arrayred: Call, form: str) -> None:
    library = moved(stars, "dark*")
    told = arrayred("inspect", stars, "--format", form, "--calibrations", library)
    assert (told.code, told.err) == (0, "")
    assert all(f"../library/dark-00{i}.fit" in told.out for i in range(1, 6))


@pytest.mark.parametrize(
    ("spelt", "number"), [("night", 3), ("./night/../night", 1), ("link", 3), ("{}", 1)]
)
def test_a_raw_dark_that_is_named_is_the_only_one(
    stars: Path, arrayred: Call, spelt: str, number: int
) -> None:
    Path("link").symlink_to(stars)
    name = f"dark-00{number}.fit"
    reduced(arrayred, *VEGA, "--master-dark", f"{spelt.format(stars)}/{name}")
    expected = less(pixels(stars, "v-*"), *pixels(stars, name))
    assert np.array_equal(fits.getdata(product("Vega")), expected)


def test_what_is_excluded_serves_from_nowhere(stars: Path, arrayred: Call) -> None:
    library = moved(stars, "dark*")
    reduced(arrayred, *VEGA, "--calibrations", library, "--exclude", "dark-002..005")
    expected = less(pixels(stars, "v-*"), *pixels(library, "dark-001.fit"))
    assert np.array_equal(fits.getdata(product("Vega")), expected)


@pytest.mark.parametrize("by", ["--calibrations", "--master-dark", "file"])
def test_a_master_of_an_earlier_run_serves_as_its_darks_did(
    stars: Path, arrayred: Call, plain: dict[str, bytes], by: str
) -> None:
    assert plain
    moved(stars, "dark*")
    note = noted('[masters]\ndark = "plain/masters/master_dark_600s.fits"\n')
    given: dict[str, tuple[str, ...]] = {
        "--calibrations": (by, "plain/masters"),
        "--master-dark": (by, "plain/masters/master_dark_600s.fits"),
        "file": note,
    }
    reduced(arrayred, *given[by])
    assert same_but_names("plain", "out")
    assert fits.getheader(product("Vega"))["CALSTAT"] == "BD"
    assert not Path("out/masters").exists()


MASTERS: dict[str, tuple[str, dict[str, Any]]] = {
    "typed": ("d600.fit", {"IMAGETYP": "Master Dark"}),
    "lettered": ("d600.fit", {"IMAGETYP": "Dark Frame", "CALSTAT": "M"}),
    "counted": ("d600.fit", {"IMAGETYP": "DARK", "NCOMBINE": 5}),
    "named": ("masterDark_600s.fit", {"IMAGETYP": "DARK"}),
    "a product": ("d600.fit", {"IMAGETYP": "DARK", "COMBINED": True}),
}


@pytest.mark.parametrize(
    ("case", "n_raw"),
    [("typed", 0), ("lettered", 3), ("counted", 0), ("named", 3), ("a product", 3)],
)
def test_a_master_of_another_program_is_one(
    stars: Path, arrayred: Call, case: str, n_raw: int
) -> None:
    name, cards = MASTERS[case]
    dark = np.median(pixels(stars, "dark*"), axis=0) + 0.25
    library = moved(stars, "dark*", "away")
    for path in sorted(library.iterdir())[n_raw:]:
        path.unlink()
    Path("library").mkdir()
    header = fits.Header({"EXPTIME": 600.0, **cards})
    fits.writeto(f"library/{name}", dark.astype(np.float32), header)
    reduced(arrayred, *VEGA, "--master-dark", f"library/{name}", "--calibrations", library)
    expected = less(pixels(stars, "v-*"), dark)
    assert np.array_equal(fits.getdata(product("Vega")), expected)
    assert fits.getheader(product("Vega"))["ARDARK"] == name


def test_a_master_that_is_not_there_is_said(stars: Path, arrayred: Call) -> None:
    for option in ("--master-dark", "--master-bias"):
        told = arrayred("reduce", stars, "-o", "out", *QUIET, option, "gone.fits")
        assert told.code == 2
        assert told.err == "arrayred: error: gone.fits: No such master file. Name a FITS file.\n"


def test_a_folder_of_calibrations_that_is_not_there_is_said(stars: Path, arrayred: Call) -> None:
    told = arrayred("reduce", stars, "-o", "out", *QUIET, "--calibrations", "gone")
    assert told.code == 4
    assert told.err.startswith("arrayred: error: gone: No such folder")


@pytest.mark.parametrize(
    ("shape", "cards", "why"),
    [
        ((160, 110), {}, "master x 600 s of 110 x 160 pixels (different shape)"),
        (
            (160, 120),
            {"EXPTIME": 300.0},
            "master x 300 s of 120 x 160 pixels (different exposure time)",
        ),
        ((160, 120), {"XBINNING": 2, "YBINNING": 2}, "different binning"),
        ((160, 120), {"CCD-TEMP": -10.0}, "deg C"),
        ((160, 120), {"CALSTAT": "BM"}, "bias subtracted from one of them only"),
    ],
)
def test_a_master_dark_that_does_not_fit_is_refused_though_raw_darks_would(
    stars: Path, arrayred: Call, shape: tuple[int, int], cards: dict[str, Any], why: str
) -> None:
    header = fits.Header({"IMAGETYP": "Master Dark", "EXPTIME": 600.0, **cards})
    fits.writeto("master.fit", np.full(shape, 1000.0, np.float32), header)
    told = arrayred("reduce", stars, "-o", "out", *QUIET, "--master-dark", "master.fit")
    assert told.code == 4
    deneb, vega = told.err.splitlines()
    assert "fits Deneb" in deneb
    assert "fits Vega" in vega
    assert why in deneb
    assert not Path("out").exists()


def test_a_master_is_of_the_type_that_the_option_says(stars: Path, arrayred: Call) -> None:
    header = fits.Header({"IMAGETYP": "Light Frame", "EXPTIME": 600.0})
    fits.writeto("mine.fit", np.full((160, 120), 990.0, np.float32), header)
    reduced(arrayred, *VEGA, "--master-dark", "mine.fit")
    expected = less(pixels(stars, "v-*"), 990.0)
    assert np.array_equal(fits.getdata(product("Vega")), expected)


def test_a_master_whose_bias_is_gone_serves_lights_whose_bias_is_gone(
    stars: Path, arrayred: Call
) -> None:
    for path in stars.glob("*light*"):
        fits.setval(path, "CALSTAT", value="B")
    header = fits.Header({"IMAGETYP": "Master Dark", "EXPTIME": 600.0, "CALSTAT": "BM"})
    fits.writeto("mine.fit", np.full((160, 120), 20.5, np.float32), header)
    reduced(arrayred, "--calibrations", ".", "--exclude", "dark-*", *VEGA)
    assert np.array_equal(fits.getdata(product("Vega")), less(pixels(stars, "v-*"), 20.5))
    assert fits.getheader(product("Vega"))["CALSTAT"] == "BD"


# Where there is no dark


def remarks(name: Path) -> str:
    """Return what COMMENT says of a product, without the blanks at which lines were broken."""
    return "".join("".join(fits.getheader(name)["COMMENT"]).split())


@pytest.fixture
def biased(stars: Path) -> Path:
    """Return the night with biases in place of darks."""
    for path in stars.glob("dark*"):
        path.unlink()
    taken(stars, "", 17, n_biases=5)
    return stars


@pytest.mark.parametrize("reference", [(), ("--reference",)])
def test_without_a_dark_the_bias_alone_is_subtracted_and_said(
    biased: Path, arrayred: Call, reference: tuple[str, ...]
) -> None:
    told = arrayred("reduce", biased, "-o", "out", "--no-figures", *VEGA, *reference)
    assert told.code == 0
    assert "arrayred: note: Vega: no dark frames: only the bias was subtracted" in told.err
    assert "master bias          median of 5 frames" in told.out
    assert "Vega                   2 x 600 s, bias-subtracted" in told.out
    header, image = fits.getheader(product("Vega")), fits.getdata(product("Vega"))
    expected = less(pixels(biased, "v-*"), np.median(pixels(biased, "bias*"), axis=0))
    assert np.array_equal(image.astype(np.float32), expected)
    assert (header["CALSTAT"], header["ARBIAS"]) == ("B", "master_bias.fits")
    assert "nodarkframes:onlythebiaswassubtracted" in remarks(product("Vega"))


def test_no_dark_takes_the_bias_though_there_are_darks(stars: Path, arrayred: Call) -> None:
    taken(stars, "", 17, n_biases=3)
    reduced(arrayred, *VEGA, "--no-dark")
    expected = less(pixels(stars, "v-*"), np.median(pixels(stars, "bias*"), axis=0))
    assert np.array_equal(fits.getdata(product("Vega")), expected)
    assert "ARDARK" not in fits.getheader(product("Vega"))
    assert "nodarkwassubtracted,asrequested:onlythebias" in remarks(product("Vega"))


def test_a_dark_goes_before_a_bias(stars: Path, arrayred: Call) -> None:
    taken(stars, "", 17, n_biases=3)
    reduced(arrayred, *VEGA)
    expected = less(pixels(stars, "v-*"), np.median(pixels(stars, "dark*"), axis=0))
    assert np.array_equal(fits.getdata(product("Vega")), expected)
    assert {path.name for path in Path("out/masters").iterdir()} == {"master_dark_600s.fits"}


@pytest.mark.parametrize("option", [(), ("--no-dark",)])
def test_a_master_bias_is_subtracted(stars: Path, arrayred: Call, option: tuple[str, ...]) -> None:
    moved(stars, "dark*")
    fits.writeto("mine.fit", np.full((160, 120), 1000.25), fits.Header({"IMAGETYP": "Bias"}))
    reduced(arrayred, *VEGA, "--master-bias", "mine.fit", *option)
    expected = less(pixels(stars, "v-*"), 1000.25)
    assert np.array_equal(fits.getdata(product("Vega")), expected)
    assert fits.getheader(product("Vega"))["ARBIAS"] == "mine.fit"
    assert not Path("out/masters").exists()
    assert "singleframe" not in remarks(product("Vega"))


def test_one_single_dark_is_remarked_on(stars: Path, arrayred: Call) -> None:
    few = ("--exclude", "dark-002..005", *VEGA)
    told = arrayred("reduce", stars, "-o", "out", "--no-figures", *few)
    assert "arrayred: note: Vega: the master dark is a single frame, whose noise" in told.err
    assert "asingleframe,whosenoiseremainsineverylightframe" in remarks(product("Vega"))
    told = arrayred("inspect", stars, "--plan", "--exclude", "dark-002..005")
    assert "single frame" in told.out


def test_neither_dark_nor_bias_is_refused_unless_that_was_asked(
    stars: Path, arrayred: Call
) -> None:
    moved(stars, "dark*")
    told = arrayred("reduce", stars, "-o", "out", *QUIET)
    assert told.code == 4
    assert "No dark frames found" in told.err
    assert "--no-dark" in told.err
    reduced(arrayred, *VEGA, "--no-dark")
    header, image = fits.getheader(product("Vega")), fits.getdata(product("Vega"))
    assert np.array_equal(image, less(pixels(stars, "v-*"), 0.0))
    assert "CALSTAT" not in header
    assert "nodarkorbiaswassubtracted,asrequested" in remarks(product("Vega"))


# Lamps


def arc_of(target: str, out: str = "out") -> dict[str, Any]:
    """Return the lamps of a target, rows of x, counts, uncertainty and dq by the lamp's name."""
    table = Table.read(product(target, "arc.ecsv", out), format="ascii.ecsv")
    return {str(name): table[table["lamp"] == name] for name in dict.fromkeys(table["lamp"])}


def test_every_lamp_is_extracted_with_the_aperture_of_the_star(stars: Path, arrayred: Call) -> None:
    summed = '[recipe]\ntrace = "straight"\nextraction = "sum"\n'
    reduced(arrayred, *noted(f"{summed}[targets.Vega]\nrows = [20, 40]\n"))
    dark = np.median(pixels(stars, "dark*"), axis=0)
    for target in ("Deneb", "Vega"):
        header = fits.getheader(product(target, "spectrum.fits"))
        rows = slice(header["SPFIRST"] - 1, header["SPLAST"])
        arcs = arc_of(target)
        assert list(arcs) == ["arc-001", "arc-002"]
        for name, arc in arcs.items():
            expected = (pixels(stars, f"{name}*")[0] - dark)[rows].sum(axis=0)
            assert np.allclose(arc["counts"], expected)
            assert np.array_equal(arc["x"], np.arange(1, expected.size + 1))
            assert (arc["uncertainty"] > 0).all()


def test_a_line_of_a_tilted_lamp_lies_where_it_does_at_the_stars_rows(
    stars: Path, arrayred: Call
) -> None:
    reduced(arrayred, *noted("[targets.Vega]\nrows = [11, 31]\n"))
    for target in ("Deneb", "Vega"):
        table = fits.getdata(product(target, "spectrum.fits"))
        truth = 60.0 + LAMPS.arc_tilt * ((table["trace"][59] - 1) / 159 - 0.5)
        for arc in arc_of(target).values():
            near = slice(45, 75)
            light = arc["counts"][near] - np.median(arc["counts"])
            found = np.average(arc["x"][near], weights=light)
            assert abs(found - truth) < 0.05, (target, found, truth)


def test_saturated_columns_of_a_lamp_are_flagged(stars: Path, arrayred: Call) -> None:
    reduced(arrayred, *WITH_LAMPS)
    star = slice(75, 85)
    for name, arc in arc_of("Vega").items():
        full = (pixels(stars, f"{name}*")[0][star] == 65535).mean(axis=0)
        flagged = arc["dq"] & 2 != 0
        assert flagged.any()
        assert flagged[full > 0.5].all()
        assert not flagged[full == 0].any()


def test_a_lamp_that_cannot_be_read_costs_no_star_its_spectrum(stars: Path, arrayred: Call) -> None:
    for path in stars.glob("arc-002*"):
        with fits.open(path, mode="update") as file:
            file[0].data[:] = 1000
    told = arrayred("reduce", stars, "-o", "out", *QUIET)
    assert told.code == 0
    assert list(arc_of("Vega")) == ["arc-001"]
    assert "thearcframearc-002wasnotextracted" in remarks(product("Vega", "spectrum.fits"))


@pytest.mark.parametrize(
    ("darks", "said"),
    [
        ("dark*", "nomatchingdark:thatof600swassubtracted"),
        ("none", "nomatchingdarkorbias:itsownbackgroundlevelwassubtracted"),
    ],
)
def test_lamps_without_a_dark_take_the_nearest_or_their_own_floor_and_that_is_said(
    stars: Path, arrayred: Call, darks: str, said: str
) -> None:
    for path in stars.glob("arc*"):
        fits.setval(path, "EXPTIME", value=10.0)
    if darks == "none":
        moved(stars, "dark*")
    reduced(arrayred, *VEGA, *noted(NAMED_LAMPS), *([] if darks == "dark*" else ["--no-dark"]))
    assert said in remarks(product("Vega", "spectrum.fits"))
    for arc in arc_of("Vega").values():
        assert abs(np.median(arc["counts"])) < 0.1 * np.max(arc["counts"])


def test_a_dark_is_not_subtracted_twice_from_a_lamp(stars: Path, arrayred: Call) -> None:
    dark = np.median(pixels(stars, "dark*"), axis=0)
    reduced(arrayred, *WITH_LAMPS, out="plain")
    for path in stars.glob("arc*"):
        with fits.open(path, mode="update") as file:
            file[0].data = (file[0].data - dark).astype(np.float32)
            file[0].header["CALSTAT"] = "BD"
    reduced(arrayred, *WITH_LAMPS)
    for name, arc in arc_of("Vega").items():
        raw = arc_of("Vega", "plain")[name]
        unsaturated = np.abs(raw["x"] - 60) > 8
        assert np.allclose(arc["counts"][unsaturated], raw["counts"][unsaturated], atol=0.5)


def test_lamps_may_be_a_glob_of_frames_typed_as_lights(stars: Path, arrayred: Call) -> None:
    for path in stars.glob("arc*"):
        fits.setval(path, "IMAGETYP", value="Light Frame")
        path.rename(path.with_name(path.name.replace("arc", "x")))
    reduced(arrayred, *noted('[targets.Vega]\nlamps = ["x-*"]\n'))
    assert made() == {"Deneb", "Vega"}
    assert list(arc_of("Vega")) == ["x-001", "x-002"]


def test_a_lamp_of_another_shape_is_refused_where_it_is_named_and_else_not_used(
    stars: Path, arrayred: Call
) -> None:
    fits.writeto(stars / "odd.fit", np.zeros((160, 110), np.int16),
                 fits.Header({"IMAGETYP": "Arc", "EXPTIME": 600.0}))  # fmt: skip
    told = arrayred(
        "reduce", stars, "-o", "out", *QUIET, *noted('[targets.Vega]\nlamps = ["odd"]\n')
    )
    assert told.code == 2
    assert "mine.toml: The lamp odd has a different shape from Vega" in told.err
    reduced(arrayred, *WITH_LAMPS)
    assert "odd" not in arc_of("Vega")


# What the products say of all that


def test_headers_name_every_dark_and_lamp_with_its_checksum(stars: Path, arrayred: Call) -> None:
    library = moved(stars, "dark*")
    note = noted(f'calibrations = ["library"]\n{NAMED_LAMPS}')
    reduced(arrayred, *VEGA, *note)
    files = [*library.iterdir(), *stars.glob("arc*"), *stars.glob("v-*")]
    expected = {path.name: sha256(path.read_bytes()).hexdigest() for path in files}
    for name in ("combined.fits", "spectrum.fits"):
        header = fits.getheader(product("Vega", name))
        named = zip(header["ARIN*"].values(), header["ARSH*"].values(), strict=True)
        assert dict(named) == expected
        assert header["ARDARK"] == "master_dark_600s.fits"


def test_headers_name_every_bias_with_its_checksum(biased: Path, arrayred: Call) -> None:
    reduced(arrayred, *VEGA, *noted(NAMED_LAMPS))
    files = [*biased.glob("bias*"), *biased.glob("arc*"), *biased.glob("v-*")]
    header = fits.getheader(product("Vega"))
    named = zip(header["ARIN*"].values(), header["ARSH*"].values(), strict=True)
    assert dict(named) == {path.name: sha256(path.read_bytes()).hexdigest() for path in files}
    master = fits.getheader("out/masters/master_bias.fits")
    assert (master["NCOMBINE"], master["COMBINED"]) == (5, True)
