"""Wavelengths of a night with lamps: what products say, against the truth of the simulation."""

from __future__ import annotations

import dataclasses
import re
import shutil
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy.io import fits
from astropy.table import Table

import arrayred as ar
from arrayred.io.products import read_arc, read_lines
from arrayred.simulate import Detector, Lamps, Star
from tests.cli.conftest import Call, reduced_once
from tests.cli.two_stars import product, taken

SHAPE = (60, 900)
TILT, ROW = 1.5, 22.0
DRIFT = 0.4
"""Pixels by which the lines move from the lamp before to the lamp after."""
NEON = {
    5852.4878: 1000, 5881.8950: 500, 5944.8340: 250, 5975.5343: 300, 6029.9968: 500,
    6074.3376: 500, 6096.1630: 150, 6143.0627: 500, 6163.5937: 500, 6217.2812: 500,
    6266.4952: 500, 6304.7893: 50, 6334.4276: 500, 6382.9914: 500, 6402.2480: 1000,
    6506.5277: 500, 6532.8824: 50, 6598.9528: 500, 6678.2766: 250, 6717.0430: 35,
}  # fmt: skip
"""Lines and rough strengths (NIST)."""


def wavelength_of(x: Any) -> Any:
    """Return the true wavelength in the middle row, without drift."""
    return 5800.0 + 1.1 * x - 5e-5 * x**2


def columns_of(wave: Any) -> Any:
    x = np.linspace(1, SHAPE[1], 100_001)
    return np.interp(wave, wavelength_of(x), x)


def neon(shift: float, tilt: float = TILT, *, reverse: bool = False) -> Lamps:
    columns = {wave: float(columns_of(wave)) for wave in NEON}
    if reverse:
        columns = {wave: SHAPE[1] + 1 - column for wave, column in columns.items()}
    lines = tuple((columns[w] + shift, 2.0 * s, 1.3) for w, s in NEON.items())
    return Lamps(arc_lines=lines, arc_tilt=tilt, exptime=5.0)


@pytest.fixture(scope="module")
def night(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write five darks, a lamp, three lights and another lamp."""
    folder = tmp_path_factory.mktemp("neon") / "night"
    parts: dict[str, Any] = {"detector": Detector(shape=SHAPE)}
    taken(folder, "", 18, n_darks=5, n_biases=3, **parts)
    taken(folder, "a-", 20, n_arcs=1, lamps=neon(-DRIFT / 2), **parts)
    taken(folder, "v-", 21, n_lights=3, star=Star("Vega", row=ROW), **parts)
    taken(folder, "b-", 22, n_arcs=1, lamps=neon(DRIFT / 2), **parts)
    for path in folder.glob("v-*"):
        with fits.open(path, mode="update") as file:
            file[0].header.update(
                RA="18:36:56.3", DEC="+38:47:01", LATITUDE=28.76, LONGITUD=-17.88, HEIGHT=2344.0
            )
    return folder


@pytest.fixture(scope="module")
def out(night: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return reduced_once(night, tmp_path_factory.mktemp("reduced"))


def made(out: Path, name: str) -> Path:
    return out / "targets" / "Vega" / f"Vega_{name}"


def test_wavelengths_are_those_of_the_stars_own_rows_at_mid_exposure(out: Path) -> None:
    table = Table.read(made(out, "spectrum.fits"), hdu=1)
    lean = TILT * ((table["trace"] - 1) / (SHAPE[0] - 1) - 0.5)
    header = fits.getheader(made(out, "spectrum.fits"))
    arc = Table.read(made(out, "arc.ecsv"), format="ascii.ecsv")
    before, after = (np.datetime64(lamp["date_mid"]) for lamp in arc.meta["lamps"])
    middle = np.datetime64(header["DATE-AVG"])
    drift = DRIFT * ((middle - before) / (after - before) - 0.5)
    truth = wavelength_of(table["x"] - lean - drift)
    off = (table["wavelength"] - truth) / 1.05
    assert np.abs(off[~table["extrapolated"]]).max() < 0.05


@pytest.mark.parametrize(("per_row", "reverse"), [(0.03, False), (-0.03, True)])
def test_an_aperture_two_rows_away_has_the_wavelengths_of_its_own_rows(
    per_row: float, reverse: bool, tmp_path: Path
) -> None:
    tilt, drift, parts = per_row * (SHAPE[0] - 1), 0.3, {"detector": Detector(shape=SHAPE)}
    offs = []
    for row in (ROW, ROW + 2):
        folder = tmp_path / f"row-{row:.0f}" / "night"
        taken(folder, "", 18, n_darks=5, n_biases=3, **parts)
        for prefix, hour, shift in (("a-", 20, -drift / 2), ("b-", 22, drift / 2)):
            taken(folder, prefix, hour, n_arcs=1, lamps=neon(shift, tilt, reverse=reverse), **parts)
        taken(folder, "v-", 21, n_lights=3, star=Star("Vega", row=row), **parts)
        out = reduced_once(folder, folder.parent)
        table = Table.read(made(out, "spectrum.fits"), hdu=1)
        arc = Table.read(made(out, "arc.ecsv"), format="ascii.ecsv")
        before, after = (np.datetime64(lamp["date_mid"]) for lamp in arc.meta["lamps"])
        middle = np.datetime64(fits.getheader(made(out, "spectrum.fits"))["DATE-AVG"])
        lean = tilt * ((table["trace"] - 1) / (SHAPE[0] - 1) - 0.5)
        place = table["x"] - lean - drift * ((middle - before) / (after - before) - 0.5)
        truth = wavelength_of(SHAPE[1] + 1 - place if reverse else place)
        off = np.where(table["extrapolated"], np.nan, (table["wavelength"] - truth) / 1.05)
        assert np.nanmax(np.abs(off)) < 0.05
        offs.append(off)
    assert np.nanmax(np.abs(offs[1] - offs[0])) < 0.02


def test_columns_of_a_spectrum_with_wavelengths(out: Path) -> None:
    table = Table.read(made(out, "spectrum.fits"), hdu=1)
    assert table.colnames[:4] == ["x", "wavelength", "flux", "uncertainty"]
    assert str(table["wavelength"].unit) == "Angstrom"
    text = Table.read(made(out, "spectrum.ecsv"), format="ascii.ecsv")
    assert text.colnames == table.colnames
    for name in ("wavelength", "extrapolated", "flux"):
        assert np.array_equal(text[name], table[name])
    lines = Table.read(made(out, "lines.ecsv"), format="ascii.ecsv")
    used = lines["x"][lines["used"]]
    low, high = used.min(), used.max()
    beyond = (table["x"] < low - 0.5) | (table["x"] > high + 0.5)
    within = (table["x"] > low + 0.5) & (table["x"] < high - 0.5)
    assert table["extrapolated"][beyond].all()
    assert not table["extrapolated"][within].any()


def test_the_flux_is_untouched_and_the_text_tables_are_the_same(
    out: Path, night: Path, tmp_path: Path
) -> None:
    plain = reduced_once(night, tmp_path, "--no-wavelength")
    assert made(out, "raw_extraction.txt").read_bytes() == (
        made(plain, "raw_extraction.txt").read_bytes()
    )
    one, other = (Table.read(made(where, "spectrum.fits"), hdu=1) for where in (out, plain))
    assert {*one.colnames} - {*other.colnames} == {"wavelength", "extrapolated"}
    assert all(np.array_equal(one[name], other[name], equal_nan=True) for name in other.colnames)
    assert not list(plain.rglob("*_arc.ecsv"))


def test_a_spectrum_comes_back_with_its_coordinate(out: Path) -> None:
    spectrum = ar.open_product(made(out, "spectrum.fits"))
    wave = spectrum.coords["wavelength"]
    assert wave.dims == ("x",)
    assert wave.attrs["units"] == "Angstrom"
    assert wave.attrs["standard_name"] == "radiation_wavelength"
    assert (wave.attrs["medium"], wave.attrs["frame"]) == ("air", "topocentric")
    assert spectrum["extrapolated"].dtype == bool
    table = Table.read(made(out, "spectrum.fits"), hdu=1)
    assert np.array_equal(spectrum["extrapolated"], table["extrapolated"])
    assert spectrum.attrs["wavelength_lamp"] == "Ne"


def test_specutils_reads_the_wavelengths(out: Path) -> None:
    specutils = pytest.importorskip("specutils")
    table = Table.read(made(out, "spectrum.fits"), hdu=1)
    for name, form in (("spectrum.fits", "tabular-fits"), ("spectrum.ecsv", "ECSV")):
        found = specutils.Spectrum.read(made(out, name), format=form)
        assert np.allclose(found.spectral_axis.to_value("Angstrom"), table["wavelength"])
        assert np.array_equal(found.flux.value, table["flux"])


def test_cards_tell_the_solution_and_the_motion_of_the_earth(out: Path) -> None:
    header = fits.getheader(made(out, "spectrum.fits"))
    lines = Table.read(made(out, "lines.ecsv"), format="ascii.ecsv")
    used = lines[lines["used"]]
    assert (header["WLMEDIUM"], header["SPECSYS"], header["WLLAMP"]) == ("air", "TOPOCENT", "Ne")
    assert header["WLZERO"] == 0
    assert header["WLFIRST"] == pytest.approx(used["wavelength"].min(), abs=1.0)
    assert header["WLLAST"] == pytest.approx(used["wavelength"].max(), abs=1.0)
    assert 0 < header["WLRMSPX"] < 0.1
    assert header["WLRMS"] == pytest.approx(header["WLRMSPX"] * 1.05, rel=0.1)
    assert header["WLNFA"] < -2
    assert -60 < header["WLGAP"] < 60
    assert header["SPE_RPOW"] == pytest.approx(6200 / (1.3 * 2.355 * 1.05), rel=0.1)
    assert "VHELIO" not in header
    assert -30 < header["BARYCORR"] < 30
    assert header["BJD_TDB"] == pytest.approx(header["MJD-AVG"] + 2400000.5, abs=0.007)


def test_the_solution_is_used_again_and_costs_no_search(
    out: Path, night: Path, tmp_path: Path, arrayred: Call
) -> None:
    solution = made(out, "solution.toml")
    told = tomllib.loads(solution.read_text())
    assert told["solution"]["lamp"] == "Ne"
    assert len(told["lines"]["x"]) == len(told["lines"]["wavelength"])
    again = arrayred("reduce", night, "-o", "again", "--no-figures", "--solution", solution)
    assert again.code == 0, again.err
    one, other = (Table.read(made(where, "spectrum.fits"), hdu=1) for where in (out, Path("again")))
    assert np.allclose(one["wavelength"], other["wavelength"], atol=0.02)


def test_a_lamp_that_is_not_identified_is_a_note_and_no_failure(
    night: Path, arrayred: Call
) -> None:
    told = arrayred("reduce", night, "-o", "out", "--no-figures", "--lamp", "Xe")
    assert told.code == 0, told.err
    header = fits.getheader(product("Vega", "spectrum.fits"))
    assert "WLLAMP" not in header
    assert "no wavelengths: a-arc-001: " in "".join(header["COMMENT"])
    assert product("Vega", "arc.ecsv").is_file()
    assert not product("Vega", "solution.toml").exists()


def test_the_lamps_are_drawn_with_their_lines_named(
    night: Path, tmp_path: Path, arrayred: Call
) -> None:
    assert arrayred("reduce", night, "-o", tmp_path).code == 0
    assert made(tmp_path, "arc.png").read_bytes()[1:4] == b"PNG"
    page = (tmp_path / "report.html").read_text("utf-8")
    assert "NeI 6506.53" in page
    assert ">arc lines<" in page  # their shift in time
    lines = read_lines(made(tmp_path, "lines.ecsv"))
    figure = ar.plots.arc(read_arc(made(tmp_path, "arc.ecsv")), lines)
    above, below = figure.axes
    names = [text.get_text() for text in above.texts if text.get_text()]
    assert len(names) > 12
    assert all(name.startswith("NeI ") for name in names)
    waves = np.array([float(name.removeprefix("NeI ")) for name in names])
    nearest = np.abs(waves[:, np.newaxis] - np.array(list(NEON))).min(axis=1)
    assert nearest.max() < 0.2  # a name is of all lines that are not resolved
    assert below.get_ylabel() == "residual (pixel)"
    assert np.abs(below.get_ylim()).max() < 0.5


# ``arrayred wavelength``


@pytest.fixture
def reduced(out: Path, tmp_path: Path) -> Path:
    """Return a copy of the products, in the current folder, to be changed."""
    return Path(shutil.copytree(out, tmp_path / "out"))


def test_wavelengths_are_made_anew_without_the_night(reduced: Path, arrayred: Call) -> None:
    before = Table.read(made(reduced, "spectrum.fits"), hdu=1)
    told = arrayred("wavelength", reduced, "Vega", "--order", "3")
    assert told.code == 0, told.err
    assert told.out.startswith("Vega: 58")
    assert "lines of Ne, order 3, rms 0.0" in told.out
    after = Table.read(made(reduced, "spectrum.fits"), hdu=1)
    assert after.colnames == before.colnames
    assert np.abs(after["wavelength"] - before["wavelength"])[~before["extrapolated"]].max() < 0.05
    for name in {*after.colnames} - {"wavelength", "extrapolated"}:
        assert np.array_equal(after[name], before[name], equal_nan=True)
    header = fits.getheader(made(reduced, "spectrum.fits"))
    assert header["WLORDER"] == 3
    assert str(header["HISTORY"]).replace("\n", "").count("wavelengths: ") == 1
    text = Table.read(made(reduced, "spectrum.ecsv"), format="ascii.ecsv")
    assert np.array_equal(text["wavelength"], after["wavelength"])
    assert text.meta["WLORDER"] == 3
    assert arrayred("verify", reduced).code == 0


def test_what_cannot_be_corrected_is_said_and_costs_no_wavelengths(
    night: Path, reduced: Path, tmp_path: Path, arrayred: Call
) -> None:
    zero = ("--zero-point", "star", "--star-velocity", "-13.5", "--heliocentric")
    told = arrayred("reduce", night, "-o", tmp_path / "other", "--no-figures", *zero)
    assert told.code == 0, told.err
    assert "wavelength zero point not corrected: No symmetric absorption" in told.out
    assert re.search("^  Wavelengths +5", told.out, re.M)
    told = arrayred("wavelength", reduced, "--zero-point", "sky")
    assert (told.code, "No sky line" in told.err) == (4, True)


def test_a_rough_dispersion_narrows_the_search(reduced: Path, arrayred: Call) -> None:
    before = Table.read(made(reduced, "spectrum.fits"), hdu=1)
    hint = ("--lamp", "Ne", "--dispersion", "1.05", "--center", "6270")
    assert arrayred("wavelength", reduced, *hint).code == 0
    after = Table.read(made(reduced, "spectrum.fits"), hdu=1)
    inside = ~(before["extrapolated"] | after["extrapolated"])
    assert np.abs(after["wavelength"] - before["wavelength"])[inside].max() < 0.05
    told = arrayred("wavelength", reduced, "--dispersion", "0.3", "--center", "5000")
    assert (told.code, "Vega: " in told.err) == (4, True)


def test_the_velocity_of_the_earth_is_taken_out_when_asked_for(
    reduced: Path, arrayred: Call
) -> None:
    assert arrayred("wavelength", reduced).code == 0
    before = Table.read(made(reduced, "spectrum.fits"), hdu=1)
    assert arrayred("wavelength", reduced, "--heliocentric").code == 0
    after, header = (Table.read(made(reduced, "spectrum.fits"), hdu=1),
                     fits.getheader(made(reduced, "spectrum.fits")))  # fmt: skip
    assert header["SPECSYS"] == "BARYCENT"
    velocity = 299792.458 * (after["wavelength"] / before["wavelength"] - 1)
    assert np.abs(velocity - header["BARYCORR"]).max() < 1e-3
    told = arrayred("export", reduced, "--to", "bess")
    assert (told.code, "--heliocentric" in told.err) == (2, True)


def test_spectra_are_exported_and_checked(reduced: Path, tmp_path: Path, arrayred: Call) -> None:
    who = tmp_path / "me.toml"
    who.write_text('observer = "A. B."\nsite = "Home"\ninstrument = "Alpy"\n')
    told = arrayred("export", reduced, "--to", "bess")
    assert (told.code, "observer.toml" in told.err) == (2, True)
    for to, code in (("bess", 0), ("iraf", 3)):
        told = arrayred("export", reduced, "--to", to, "--observer", who, "-o", tmp_path / to)
        assert told.code == 0, told.err
        file = tmp_path / to / f"Vega_{to}.fits"
        assert arrayred("export", "--check", file).code == code
    linear, table = fits.getheader(file), Table.read(made(reduced, "spectrum.fits"), hdu=1)
    covered = table["wavelength"][~table["extrapolated"]]
    assert linear["CRVAL1"] == pytest.approx(covered.min(), abs=0.5)
    again = arrayred("export", reduced, "--to", "iraf", "-o", tmp_path / "iraf", "--step", "5")
    assert (again.code, "--overwrite" in again.err) == (2, True)
    more = ("--step", "5", "--overwrite", "--spoilt", "refuse", "-q")
    assert arrayred("export", reduced, "--to", "iraf", "-o", tmp_path / "iraf", *more).out == ""
    assert arrayred("export", made(reduced, "spectrum.fits"), "--to", "iraf").code == 0
    assert arrayred("export", reduced).code == 2
    assert arrayred("export", tmp_path / "bess", "--to", "iraf").code == 2


def test_spectra_of_many_nights_are_exported_each_to_its_own_folder(
    out: Path, tmp_path: Path, arrayred: Call
) -> None:
    nights = [tmp_path / "out" / name for name in ("2020-01-01", "2020-01-02")]
    for night in nights:
        shutil.copytree(out, night)
    (tmp_path / "out" / "observer.toml").write_text(
        'observer = "A. B."\nsite = "Home"\ninstrument = "Alpy"\n'
    )
    told = arrayred("export", tmp_path / "out", "--to", "bess")
    assert told.code == 0, told.err
    assert all((night / "bess" / "Vega_bess.fits").is_file() for night in nights)
    told = arrayred("export", tmp_path / "out", "--to", "iraf", "-o", tmp_path / "iraf")
    assert told.code == 0, told.err
    made_ones = sorted(path.relative_to(tmp_path) for path in (tmp_path / "iraf").rglob("*.fits"))
    assert [str(path.parent.name) for path in made_ones] == ["2020-01-01", "2020-01-02"]
    told = arrayred("wavelength", tmp_path / "out")
    assert (told.code, "These are 2 nights" in told.err) == (2, True)
    assert "2020-01-01" in told.err


def test_the_same_wavelengths_made_anew_are_the_same(reduced: Path, arrayred: Call) -> None:
    arrayred("wavelength", reduced)
    once = made(reduced, "spectrum.fits").read_bytes()
    assert arrayred("wavelength", reduced, "Vega").code == 0
    assert made(reduced, "spectrum.fits").read_bytes() == once


def test_reduce_leaves_what_was_made_anew(reduced: Path, night: Path, arrayred: Call) -> None:
    arrayred("wavelength", reduced, "--order", "4")
    once = made(reduced, "spectrum.fits").read_bytes()
    assert arrayred("reduce", night, "-o", reduced, "--no-figures").code == 0
    assert made(reduced, "spectrum.fits").read_bytes() == once


def test_a_target_may_have_the_solution_of_another(reduced: Path, arrayred: Call) -> None:
    told = arrayred("wavelength", reduced, "Vega", "--solution", "Vega")
    assert told.code == 0, told.err
    told = arrayred("wavelength", reduced, "Vega", "--solution", "Deneb")
    assert told.code != 0
    assert "Deneb is neither a file nor a target with a solution" in told.err


def test_a_lamp_that_is_not_identified_leaves_the_spectrum_as_it_is(
    reduced: Path, arrayred: Call
) -> None:
    once = {path: path.read_bytes() for path in reduced.rglob("Vega_*")}
    told = arrayred("wavelength", reduced, "--lamp", "Xe")
    assert told.code != 0
    assert "arrayred: error: Vega: a-arc-001: " in told.err
    assert {path: path.read_bytes() for path in reduced.rglob("Vega_*")} == once


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["Vegaa"], "Did you mean 'Vega'?"),
        (["--lamp", "Unobtainium"], "'Unobtainium' is not one of 'auto', 'Ne'"),
        (["--lines", "x.txt", "--solution", "Vega"], "cannot be used together"),
    ],
)
def test_wrong_options_are_refused(
    reduced: Path, arrayred: Call, options: list[str], said: str
) -> None:
    told = arrayred("wavelength", reduced, *options)
    assert told.code != 0
    assert said in told.err


@pytest.mark.parametrize("n_lines", [2, 6])
def test_lines_that_the_user_names_suffice(reduced: Path, arrayred: Call, n_lines: int) -> None:
    chosen = list(NEON)[1::3][:n_lines]
    text = "".join(f"{columns_of(wave) + 0.4:.1f} {wave} NeI\n" for wave in chosen)
    Path("lines.txt").write_text(f"# x wavelength\n{text}")
    told = arrayred(
        "wavelength", reduced, "--lines", "lines.txt", "--order", str(min(n_lines - 1, 2))
    )
    assert told.code == 0, told.err
    assert ("no residuals" in told.out) == (n_lines == 2)
    table = Table.read(made(reduced, "spectrum.fits"), hdu=1)
    truth = wavelength_of(table["x"])
    covered = ~table["extrapolated"]
    assert np.abs(table["wavelength"] - truth)[covered].max() < (2.0 if n_lines == 6 else 12.0)


def test_a_night_file_tells_the_wavelengths_and_a_target_its_own(
    night: Path, arrayred: Call
) -> None:
    Path("night.toml").write_text(
        '[wavelength]\nlamp = "Ne"\ndispersion = 1.05\ncenter = 6260\norder = 2\n'
        "[targets.Vega.wavelength]\norder = 3\n"
    )
    options = ("--night-file", "night.toml", "--no-figures")
    told = arrayred("reduce", night, "-o", "out", *options)
    assert told.code == 0, told.err
    assert fits.getval(product("Vega", "spectrum.fits"), "WLORDER") == 3
    told = arrayred("reduce", night, "-o", "out", *options, "--order", "4", "--overwrite")
    assert fits.getval(product("Vega", "spectrum.fits"), "WLORDER") == 4
    Path("night.toml").write_text('[wavelength]\nlampe = "Ne"\n')
    told = arrayred("reduce", night, "-o", "out", *options)
    assert told.code == 2
    assert "Did you mean 'lamp'?" in told.err


def test_each_frame_has_the_wavelengths_of_the_middle_of_its_own_exposure(
    night: Path, tmp_path: Path, arrayred: Call
) -> None:
    out = reduced_once(night, tmp_path, "--per-frame")
    frames = Table.read(made(out, "frames.fits"), hdu=1)
    assert str(frames["wavelength"].unit) == "Angstrom"
    arc = Table.read(made(out, "arc.ecsv"), format="ascii.ecsv")
    before, after = (np.datetime64(lamp["date_mid"]) for lamp in arc.meta["lamps"])
    spectrum = ar.open_product(made(out, "spectrum.fits"))
    covered, x = ~spectrum["extrapolated"].values, spectrum["x"].values
    lean = TILT * ((spectrum["trace"].values - 1) / (SHAPE[0] - 1) - 0.5)
    for own in frames:
        middle = np.datetime64(str(own["date_mid"]))
        drift = DRIFT * ((middle - before) / (after - before) - 0.5)
        truth = wavelength_of(x - lean - drift)
        assert np.abs((own["wavelength"] - truth) / 1.05)[covered].max() < 0.05
    first, second = frames["wavelength"][:2]
    assert np.allclose(second, spectrum["wavelength"].values, rtol=0, atol=0.01)
    assert not np.allclose(first, second, rtol=0, atol=0.01)
    # And those of a solution that is made anew; all else stays as it is, to the byte.
    once = made(out, "frames.fits").read_bytes()
    assert arrayred("wavelength", out, "--order", "4").code == 0
    again = Table.read(made(out, "frames.fits"), hdu=1)
    assert again.colnames == frames.colnames
    assert np.abs(again["wavelength"] - frames["wavelength"])[:, covered].max() < 0.05
    assert not np.array_equal(again["wavelength"], frames["wavelength"])
    for name in {*again.colnames} - {"wavelength"}:
        assert again[name].tobytes() == frames[name].tobytes()
    spectrum = Table.read(made(out, "spectrum.fits"), hdu=1)
    assert np.allclose(again["wavelength"][1], spectrum["wavelength"], rtol=0, atol=0.01)
    assert arrayred("wavelength", out, "--solution", made(out, "solution.toml")).code == 0
    assert len(made(out, "frames.fits").read_bytes()) == len(once)


def test_the_figures_of_a_target_get_its_new_wavelengths(
    night: Path, tmp_path: Path, arrayred: Call
) -> None:
    assert arrayred("reduce", night, "-o", tmp_path, "--no-wavelength").code == 0
    picture = tmp_path / "targets" / "Vega" / "Vega.png"
    assert arrayred("reduce", night, "-o", tmp_path / "lamp").code == 0
    told = tmp_path / "lamp" / "targets" / "Vega" / "Vega.png"
    assert picture.read_bytes() != told.read_bytes()
    once = told.read_bytes()
    lines = tmp_path / "lines.txt"
    lines.write_text("100 5900\n500 5800\n800 5700\n")
    assert arrayred("wavelength", tmp_path / "lamp", "--lines", lines, "--order", "1").code == 0
    assert told.read_bytes() != once


def test_the_zero_point_of_a_star_is_carried_to_the_other_targets(
    tmp_path: Path, arrayred: Call
) -> None:
    folder, out, shift = tmp_path / "night", tmp_path / "two", 2.0
    parts: dict[str, Any] = {"detector": Detector(shape=SHAPE)}
    lean = TILT * ((ROW - 1) / (SHAPE[0] - 1) - 0.5)
    halpha = (float(columns_of(6562.81)) + lean + shift, 0.5, 4.0)
    taken(folder, "", 18, n_darks=5, n_biases=3, **parts)
    taken(folder, "a-", 20, n_arcs=1, lamps=neon(0.0), **parts)
    star = Star("Vega", row=ROW, tilt=0.0, flux=400.0, lines=(halpha,))
    taken(folder, "v-", 20, n_lights=3, star=star, **parts)
    taken(folder, "w-", 21, n_lights=3, star=Star("Deneb", row=ROW, tilt=0.0), **parts)
    assert arrayred("reduce", folder, "-o", out, "--no-figures").code == 0
    deneb = out / "targets" / "Deneb" / "Deneb_spectrum.fits"
    before = Table.read(deneb, hdu=1)
    none = arrayred("wavelength", out, "Deneb", "--zero-point-of", "Vega")
    assert (none.code, "No zero point was measured in Vega" in none.err) == (2, True)
    star_of = ("--zero-point", "star", "--star-velocity", "0")
    told = arrayred("wavelength", out, "Vega", *star_of)
    assert told.code == 0, told.err
    measured = fits.getval(made(out, "spectrum.fits"), "WLZERO")
    assert measured == pytest.approx(shift, abs=0.2)
    told = arrayred("wavelength", out, "--zero-point-of", "Vega")
    assert told.code == 0, told.err
    assert "Vega: " not in told.out  # its own stays
    after, header = Table.read(deneb, hdu=1), fits.getheader(deneb)
    assert header["WLZERO"] == measured
    assert "zero point of star in Vega applied" in str(header["HISTORY"]).replace("\n", "")
    moved = (before["wavelength"] - after["wavelength"]) / np.gradient(before["wavelength"])
    assert np.abs(moved - measured)[~before["extrapolated"]].max() < 0.02
    both = arrayred("wavelength", out, "--zero-point-of", "Vega", *star_of)
    assert (both.code, "cannot be used together" in both.err) == (2, True)
    assert arrayred("wavelength", out, "--zero-point-of", "Sirius").code == 2


# Bad input: what is wrong is said with a remedy that works, and no star loses its spectrum.

AMBIGUOUS = (
    (53.6, 28), (59.5, 117), (176.0, 225), (250.1, 830), (284.4, 24), (345.0, 1500), (371.3, 26),
    (433.3, 37), (544.2, 55), (615.3, 56), (863.4, 995), (893.5, 794),
)  # fmt: skip
"""Columns and light of lines of argon and mercury that fit two solutions nearly as well."""


@pytest.fixture(scope="module")
def doubtful(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the products of stars whose lamps cannot be used, each with a grating of its own."""
    folder = tmp_path_factory.mktemp("doubtful") / "night"
    detector: dict[str, Any] = {"detector": Detector(shape=SHAPE)}
    taken(folder, "", 18, n_darks=5, n_biases=3, **detector)
    lines = neon(0.0).arc_lines or ()
    lamps = {
        "Neon": lines,
        "Few": lines[::4],
        "Bright": [(x, 1e4 * light, sigma) for x, light, sigma in lines],
        "Alike": [(x, light, 1.46) for x, light in AMBIGUOUS],
    }
    fields = dataclasses.replace(neon(0.0), arc_lines=())
    frames: dict[str, dict[str, Any]] = {
        name: {"n_arcs": 1, "lamps": dataclasses.replace(fields, arc_lines=tuple(own))}
        for name, own in lamps.items()
    }
    frames["Dome"] = {"n_flats": 1, "lamps": fields}
    frames["Stellar"] = {"n_lights": 1, "star": Star("lamp", row=ROW, flux=500.0)}
    frames["Other"] = {}
    for seed, (name, own) in enumerate(frames.items()):
        taken(folder, f"{name.lower()}-lamp-", 20, **detector, **own)
        star = Star(name, row=ROW)
        taken(folder, f"{name.lower()}-", 21, n_lights=2, star=star, **detector | {"seed": seed})
        for path in folder.glob(f"{name.lower()}-*"):
            fits.setval(path, "GRATING", value=name)
            if "-lamp-" in path.name:
                fits.setval(path, "IMAGETYP", value="Arc Frame")
    return reduced_once(folder, folder.parent)


def identified(*columns: float, wave: Any = wavelength_of) -> str:
    """Return a list of lines of the true wavelengths of columns."""
    return "".join(f"{column} {wave(column):.2f}\n" for column in columns)


RIGHT = identified(100, 300, 500, 700)
BAD_LAMPS = {
    "Few": ("few-lamp-arc-001: 5 lines can be used, and at least 8", ["--lines", RIGHT]),
    "Bright": ("% of the pixels are saturated. Use a shorter exposure", ["--lines", RIGHT]),
    "Dome": (
        "dome-lamp-flat-001: .*as in a flat or a star",
        ["--lines", RIGHT],
    ),
    "Stellar": (
        "stellar-lamp-light-001: .*as in a flat or a star",
        ["--lines", RIGHT],
    ),
    "Alike": (
        "Two solutions explain the lines almost equally well: Ar .*identify lines yourself",
        ["--lines", "250.1 7067.22\n345.0 6965.43\n863.4 6416.31\n893.5 6384.72\n"],
    ),
}


@pytest.mark.parametrize("target", BAD_LAMPS)
def test_a_bad_lamp_is_told_with_a_remedy_and_costs_no_spectrum(
    doubtful: Path, target: str, tmp_path: Path, arrayred: Call
) -> None:
    said, remedy = BAD_LAMPS[target]
    out = Path(shutil.copytree(doubtful, tmp_path / "out"))
    spectrum = out / "targets" / target / f"{target}_spectrum.fits"
    once = spectrum.read_bytes()
    assert "wavelength" not in Table.read(spectrum, hdu=1).colnames
    assert re.search(f"no wavelengths: .*{said}".replace(" ", ""), remarks_of(spectrum))
    told = arrayred("wavelength", out, target)
    assert told.code == 4
    assert re.search(f"error: {target}: .*{said}", told.err)
    assert spectrum.read_bytes() == once
    told = arrayred("wavelength", out, target, *written(remedy))
    assert told.code == 0, told.err
    assert "wavelength" in Table.read(spectrum, hdu=1).colnames


def remarks_of(spectrum: Path) -> str:
    """Return the remarks in a header without blanks, which are lost where a card ends."""
    return "".join(fits.getheader(spectrum)["COMMENT"]).replace(" ", "")


def written(options: list[str]) -> list[str]:
    """Return options with the content of a file in place of its name."""
    if options[0] != "--lines":
        return options
    Path("lines.txt").write_text(options[1])
    return [options[0], "lines.txt", *options[2:]]


def test_lamps_of_another_setup_are_named(doubtful: Path, arrayred: Call) -> None:
    spectrum = doubtful / "targets" / "Other" / "Other_spectrum.fits"
    said = "no arc frame of its setup: .*: different grating or angle"
    assert re.search(said.replace(" ", ""), remarks_of(spectrum))
    told = arrayred("wavelength", doubtful, "Other")
    assert (told.code, "No target here has arc spectra" in told.err) == (2, True)


NOT_STEADY = identified(100, 300) + "500 6000\n" + identified(700)
IN_VACUUM = "".join(f"{float(columns_of(w)):.1f} {w} Ne\n" for w in (5852.49, 5881.90, 5946.48))
WRONG = {
    "wrong gas": (["--lamp", "Xe"], 4, "neon-lamp-arc-001: No lamp explains .*Try another --lamp"),
    "no gas": (["--lamp", "Neon"], 2, "'Neon' is not one of 'auto', 'Ne'"),
    "another's lamp": (["--solution", "OTHER"], 4, "lines of the known solution were found"),
    "not monotonic": (["--lines", NOT_STEADY], 2, "lines.txt: .*not from line 2 .* to line 3"),
    "off": (["--lines", RIGHT + "950 6800\n"], 2, "lines.txt: Line 5: x 950 lies off .*1 to 900"),
    "nanometres": (
        ["--lines", identified(100, 300, wave=lambda x: wavelength_of(x) / 10)], 2,
        "lines.txt: The wavelengths, 590.* seem to be nanometres. Use Angstrom",
    ),
    "vacuum": (["--lines", IN_VACUUM], 2, r"lines.txt: .* in vacuum \(line 3\). Use air"),
    "not a line": (["--lines", RIGHT + "x 6500\n"], 2, "lines.txt: Line 5: 'x 6500' is not two"),
    "too few": (["--lines", identified(100)], 4, "lines.txt: 1 line can be used, and .* needs 2"),
    "no file": (["--lines", RIGHT, "--solution", "nope"], 2, "cannot be used together"),
}  # fmt: skip


@pytest.mark.parametrize("what", WRONG)
def test_wrong_lines_and_options_leave_the_wavelengths_as_they_are(
    doubtful: Path, what: str, tmp_path: Path, arrayred: Call
) -> None:
    options, code, said = WRONG[what]
    out = Path(shutil.copytree(doubtful, tmp_path / "out"))
    once = {path: path.read_bytes() for path in out.rglob("Neon_*")}
    if "OTHER" in options:
        assert arrayred("wavelength", out, "Alike", *written(BAD_LAMPS["Alike"][1])).code == 0
        options = ["--solution", "Alike"]
    told = arrayred("wavelength", out, "Neon", *written(options))
    assert told.code == code
    assert re.search(said, told.err)
    assert {path: path.read_bytes() for path in out.rglob("Neon_*")} == once


@pytest.mark.parametrize("lines", [RIGHT, NOT_STEADY.replace("500 6000", "500 6337.5")])
def test_the_same_lines_put_right_are_taken(
    doubtful: Path, lines: str, tmp_path: Path, arrayred: Call
) -> None:
    out = Path(shutil.copytree(doubtful, tmp_path / "out"))
    told = arrayred("wavelength", out, "Neon", *written(["--lines", lines]))
    assert told.code == 0, told.err
