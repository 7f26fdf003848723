"""What ``arrayred reduce`` says of the spectrum itself, and its products frame by frame."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from astropy.table import Table

import arrayred as ar
from arrayred.cli.reduce import spectrum_lines
from arrayred.io import header_of_product, read_notes
from benchmarks.truth.independent import Camera, Exposure, IndependentNight, Source
from tests.cli.conftest import Call, reduced_once

STAR = Path("out/targets/Simulated_star/Simulated_star")
QUIET = ("--no-figures", "-q")


def lines_after(out: str, mark: str) -> list[str]:
    """Return the lines of one target that follow a mark."""
    return [line.strip() for line in out[out.index(mark) :].splitlines()][1:]


def test_the_spectrum_is_told_in_lines_with_labels_and_in_the_header(
    night: Path, arrayred: Call
) -> None:
    told = arrayred("reduce", night, "-o", "out", "--no-figures").out
    _, threshold, trace, sky, _, extraction, snr, *_ = lines_after(told, "dark-subtracted")
    assert re.fullmatch(r"= background \d+\.\d\d \+ 4 x \d+\.\d\d", threshold)
    assert re.fullmatch(r"Trace +order 1, rms 0\.\d\d rows, rises 1\.\d rows", trace)
    assert re.fullmatch(r"Sky +rows \d+:\d+ and \d+:\d+, linear fit per column", sky)
    assert re.fullmatch(
        r"Extraction +optimal, [\d.]+ rows along the trace, FWHM [45]\.\d rows, "
        r"\d+\.\d% of flux in aperture",
        extraction,
    )
    assert re.fullmatch(r"S/N +\d+ per pixel \(median, central half\)", snr)
    header = fits.getheader(f"{STAR}_spectrum.fits")
    assert f"rises {header['TRTILT']:.1f} rows" in told
    assert f"{header['ENCLOSED']:.1%}" in told
    below, above = ((header[f"SKY{side}1"], header[f"SKY{side}2"]) for side in ("BEL", "ABV"))
    assert f"rows {below[0]}:{below[1]} and {above[0]}:{above[1]}" in told
    assert header["SPRULE"] == "threshold"


def test_the_reference_tells_what_it_told_ever(night: Path, arrayred: Call) -> None:
    told = arrayred("reduce", night, "-o", "out", "--no-figures", "--reference").out
    assert not re.search("Detection|Sky  |S/N", told)
    assert "Number of spectrum rows selected: " in told
    assert "TRTILT" not in fits.getheader(f"{STAR}_spectrum.fits")


def test_only_what_is_known_is_told() -> None:
    facts = {"extraction": "sum", "trace": "straight", "snr": float("nan"), "fwhm": float("nan")}
    assert spectrum_lines(facts) == [("Trace", "straight"), ("Extraction", "sum")]
    assert spectrum_lines({"first_row": 3}) == []


@pytest.mark.parametrize("model", ["mean", "median", "linear"])
def test_the_model_of_the_sky_is_an_option(night: Path, arrayred: Call, model: str) -> None:
    assert arrayred("reduce", night, "-o", "out", *QUIET, "--sky-model", model).code == 0
    assert fits.getheader(f"{STAR}_spectrum.fits")["SKYMODEL"] == model


def test_given_sky_rows_are_those_of_the_spectrum_too(night: Path, arrayred: Call) -> None:
    assert arrayred("reduce", night, "-o", "out", *QUIET, "--sky-rows", "110:140").code == 0
    header = fits.getheader(f"{STAR}_spectrum.fits")
    assert (header["SKYABV1"], header["SKYABV2"], header["SKYMODEL"]) == (110, 140, "mean")
    assert "SKYBEL1" not in header


def test_a_product_opened_again_knows_trace_and_sky(
    night: Path, undisturbed: dict[str, bytes]
) -> None:
    assert undisturbed
    made = ar.reduce_night(night)["targets/Simulated_star/spectrum"].to_dataset()
    read = ar.open_product("undisturbed/targets/Simulated_star/Simulated_star_spectrum.fits")
    names = ("trace", "tilt", "half_height", "extraction", "enclosed_fraction", "snr", "rule")
    names += ("sky_model", "sky_below", "sky_above", "sky_rows_used", "fwhm")
    assert {name: read.attrs[name] for name in names} == {name: made.attrs[name] for name in names}
    assert np.array_equal(read["trace"], made["trace"])


@pytest.fixture(scope="module")
def framed(_written_night: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a star that was extracted frame by frame, too."""
    out = reduced_once(_written_night, tmp_path_factory.mktemp("framed"), "--per-frame")
    return out / "targets" / "Simulated_star"


def of(star: Path, name: str) -> Path:
    return star / f"{star.name}_{name}.fits"


def test_frames_are_a_table_of_spectra_beside_the_combined_one(framed: Path) -> None:
    table, spectrum = (Table.read(of(framed, name)) for name in ("frames", "spectrum"))
    assert table["flux"].shape == (3, 120)
    assert list(table["frame"]) == ["light-001", "light-002", "light-003"]
    assert np.all(np.diff(table["mjd_mid"]) > 0)
    excess = table["flux"].mean(axis=0) - spectrum["flux"]
    assert np.abs(excess / spectrum["uncertainty"]).mean() < 0.3
    ratio = np.median(table["uncertainty"], axis=0) / spectrum["uncertainty"]
    assert 1.3 < np.median(ratio) < 1.75
    assert np.abs(table["offset"]).max() < 0.1


def test_the_tree_of_a_night_has_the_frames_too(night: Path, framed: Path) -> None:
    frames = ar.reduce_night(night, ar.Recipe(per_frame=True))["targets/Simulated_star/frames"]
    assert frames["flux"].dims == ("frame", "x")
    assert np.array_equal(frames["flux"], Table.read(of(framed, "frames"))["flux"])
    assert frames["time_mid"].dims == ("frame",)
    straight = ar.Recipe(per_frame=True, trace="straight")
    still = ar.reduce_night(night, straight)["targets/Simulated_star/frames"]
    assert not still["offset"].values.any()


def test_chunks_do_not_matter_to_the_frames(night: Path) -> None:
    recipe = ar.Recipe(per_frame=True)
    whole, cut = (
        ar.reduce_night(night, recipe, chunks=rows)["targets/Simulated_star/frames"].to_dataset()
        for rows in (None, 33)
    )
    assert np.array_equal(whole["flux"], cut["flux"])
    assert np.array_equal(whole["variance"], cut["variance"])


def test_the_frames_table_tells_the_story_of_all_frames_and_its_own(framed: Path) -> None:
    story, own = (
        read_notes(header_of_product(of(framed, name)), "HISTORY")
        for name in ("frames", "spectrum")
    )
    assert story[:-1] == [f"of all frames: {line}" for line in own]
    assert story[-1].startswith("each frame extracted along the common trace")


def test_an_unknown_gain_is_said_beside_every_signal_to_noise(
    tmp_path: Path, arrayred: Call
) -> None:
    cards = {"EGAIN": None, "RDNOISE": None, "GAIN": 120}
    star, camera = Source(60.0, 12_000.0), Camera((120, 200))
    once = IndependentNight((star,), camera, exposures=(Exposure(),), cards=cards)
    told = arrayred("reduce", once.write(tmp_path / "raw"), "-o", "out").out
    note = "gain unknown, read noise only"
    assert re.search(rf"S/N +\d+ per pixel \(median, .*; {note}\)", told)
    assert re.search("Check +S/N: gain unknown", told)
    assert "Set gain under [detector]" in told
    header = header_of_product(Path("out/targets/Star/Star_spectrum.fits"))
    assert header["SNRNOTE"] == note
    assert any(note in line for line in read_notes(header, "COMMENT"))
    assert note in Path("out/report.html").read_text("utf-8")
    arrayred("reduce", tmp_path / "raw", once.write(tmp_path / "raw2"), "-o", "many", *QUIET)
    assert list(Table.read("many/summary.ecsv")["snr_note"]) == [note, note]


def test_a_gain_that_the_pixels_contradict_is_replaced_and_told(
    tmp_path: Path, arrayred: Call
) -> None:
    night = IndependentNight((Source(60.0, 12_000.0),), Camera((120, 200)), cards={"EGAIN": 24.0})
    raw = night.write(tmp_path / "raw")
    told = arrayred("reduce", raw, "-o", "out", "--no-figures").out
    assert re.search(
        r"Check +the gain is 24 electron/adu by the header, but 1\.[3-7]\d* \+- 0\.\d+, "
        r"measured from 3 light frames; the measured gain is used\. Set gain under \[detector\]",
        told,
    )
    header = fits.getheader("out/targets/Star/Star_spectrum.fits")
    assert header["EGAIN"] == pytest.approx(1.5, rel=0.1)
    assert header["GAINEFF"] == pytest.approx(4.5, rel=0.1)
    Path("camera.toml").write_text("[detector]\ngain = 1.5\n")
    told = arrayred("reduce", raw, "-o", "own", "--no-figures", "--instrument", "camera.toml").out
    assert "the gain is" not in told
    assert fits.getheader("own/targets/Star/Star_spectrum.fits")["EGAIN"] == 1.5
