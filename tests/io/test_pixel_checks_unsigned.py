"""Counts that wrapped: unwrapped where the camera's darks or biases prove it, else asked about."""

from __future__ import annotations

import gzip
import re
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import xarray as xr
from astropy.io import fits
from numpy.typing import NDArray

import arrayred as ar
from arrayred.config import NightFile

SHAPE = (48, 64)
LEVEL, NOISE = 1000.0, 12.0


def counts(level: float, noise: float = NOISE, seed: int = 0) -> NDArray[np.float64]:
    values = np.random.default_rng(seed).normal(level, noise, SHAPE)
    return np.asarray(np.rint(values))


def write(path: Path, pixels: NDArray[Any], kind: str, **cards: Any) -> Path:
    header = fits.Header({"IMAGETYP": kind, "EXPTIME": 600.0} | cards)
    fits.PrimaryHDU(pixels, header).writeto(path)
    return path


def bright() -> NDArray[np.uint16]:
    """Return a light whose star and hot pixels exceed 32767."""
    values = counts(LEVEL, seed=9)
    values[20:24], values[5, 7], values[6, 8], values[7, 9] = 45000, 65535, 32768, 32767
    return values.astype(np.uint16)


def wrapped_night(
    folder: Path, level: float = LEVEL, noise: float = NOISE, kind: str = "Dark Frame"
) -> Path:
    """Write three judges and a light as a careless camera program does: as signed 16-bit."""
    for i in range(3):
        judge = counts(level, noise, seed=i).astype(np.uint16)
        write(folder / f"dark-{i}.fit", judge.view(np.int16), kind)
    return write(folder / "light.fit", bright().view(np.int16), "Light Frame")


def light_of(cube: Any) -> NDArray[Any]:
    return np.asarray(cube.counts.sel(frame="light").values)


@pytest.mark.parametrize("kind", ["Dark Frame", "Bias Frame", "zero"])
@pytest.mark.parametrize("chunks", [None, 10])
def test_wrapped_counts_are_unwrapped(kind: str, chunks: int | None, tmp_path: Path) -> None:
    wrapped_night(tmp_path, kind=kind)
    cube = ar.open_frames(tmp_path, chunks)
    assert cube.counts.dtype == np.uint16
    assert np.array_equal(light_of(cube), bright())
    assert cube.attrs["unsigned_unwrapped"] == 1


def test_as_declared_takes_every_file_by_its_word(tmp_path: Path) -> None:
    light = wrapped_night(tmp_path)
    cube = ar.open_frames(tmp_path, unsigned="as-declared")
    assert np.array_equal(light_of(cube), fits.getdata(light))
    assert int(cube.counts.min()) < 0
    assert cube.attrs["unsigned_unwrapped"] == 0
    opened = xr.open_dataset(tmp_path, engine="arrayred", unsigned="as-declared")
    assert np.array_equal(opened.counts, cube.counts)
    assert opened.attrs == cube.attrs


@pytest.mark.parametrize(
    ("level", "noise"), [(0.0, 12.0), (-3.0, 12.0), (100.0, 12.0), (-500.0, 12.0), (900.0, 200.0)]
)
def test_counts_near_zero_stay_signed(level: float, noise: float, tmp_path: Path) -> None:
    for i in range(3):
        judge = counts(level, noise, seed=i).astype(np.int16)
        write(tmp_path / f"dark-{i}.fit", judge, "Dark Frame")
    light = counts(level, noise, seed=9).astype(np.int16)
    write(tmp_path / "light.fit", light, "Light Frame")
    cube = ar.open_frames(tmp_path)
    assert cube.counts.dtype == np.int16
    assert np.array_equal(light_of(cube), light)


def test_judges_that_contradict_each_other_decide_nothing(tmp_path: Path) -> None:
    wrapped_night(tmp_path)
    write(tmp_path / "bias.fit", counts(2.0).astype(np.int16), "Bias", **{"DATE-OBS": "2000-01-01"})
    with pytest.raises(
        ar.InputError, match=r"light\.fit: .*bias\.fit: level [123][.5]*,.*--unsigned"
    ):
        ar.open_frames(tmp_path)


@pytest.mark.parametrize("hot", [0.0, 0.05, 0.3])
def test_hot_pixels_of_the_darks_do_not_hide_their_level(hot: float, tmp_path: Path) -> None:
    wrapped_night(tmp_path)
    for path in tmp_path.glob("dark*"):
        with fits.open(path, mode="update") as hdus:
            hdus[0].data[np.random.default_rng(4).random(SHAPE) < hot] = -5000
    assert np.array_equal(light_of(ar.open_frames(tmp_path)), bright())


@pytest.mark.parametrize(
    "pixels",
    [
        np.full(SHAPE, -7.5, "f4"),
        np.full(SHAPE, 70000, "i4"),
        np.full(SHAPE, 40000, "u2"),
        np.full(SHAPE, -7, "i1"),
    ],
    ids=lambda pixels: pixels.dtype.name,
)
def test_frames_of_other_types_are_read_as_they_declare(
    pixels: NDArray[Any], tmp_path: Path
) -> None:
    wrapped_night(tmp_path).unlink()
    write(tmp_path / "light.fit", pixels, "Light Frame")
    cube = ar.open_frames(tmp_path)
    assert np.array_equal(light_of(cube), pixels)


@pytest.mark.parametrize(
    "cards", [{"CALSTAT": "D"}, {"CALSTAT": "bdf"}, {"BZERO": 10, "BSCALE": 1}]
)
def test_corrected_and_scaled_frames_are_read_as_they_declare(
    cards: dict[str, Any], tmp_path: Path
) -> None:
    wrapped_night(tmp_path).unlink()
    stored = counts(-3.0).astype(np.int16)
    path = write(tmp_path / "light.fit", stored, "Light Frame")
    with fits.open(path, mode="update", do_not_scale_image_data=True) as hdus:
        hdus[0].header.update(cards)
    assert np.array_equal(light_of(ar.open_frames(tmp_path)), stored + float(cards.get("BZERO", 0)))


@pytest.mark.parametrize("judge", ["Dark Frame", "Light Frame"])
def test_corrected_darks_and_lights_are_no_judges(judge: str, tmp_path: Path) -> None:
    wrapped_night(tmp_path, kind=judge)
    for path in tmp_path.glob("dark*"):
        fits.setval(path, "CALSTAT", value="B")
    with pytest.raises(ar.InputError, match=r"light\.fit: .*no raw dark or bias"):
        ar.open_frames(tmp_path)


def test_a_light_opened_alone_is_judged_by_the_darks_beside_it(tmp_path: Path) -> None:
    light = wrapped_night(tmp_path)
    for paths in (light, str(light), [light]):
        assert np.array_equal(light_of(ar.open_frames(paths)), bright())


def test_a_light_is_judged_by_compressed_darks_too(tmp_path: Path) -> None:
    light = wrapped_night(tmp_path)
    for path in list(tmp_path.glob("dark*")):
        (tmp_path / f"{path.name}.gz").write_bytes(gzip.compress(path.read_bytes()))
        path.unlink()
    assert np.array_equal(light_of(ar.open_frames(light)), bright())


@pytest.mark.parametrize("beside", ["nothing", "a broken dark", "darks in a subfolder"])
def test_without_darks_a_light_with_negative_pixels_is_refused(beside: str, tmp_path: Path) -> None:
    light = wrapped_night(tmp_path)
    (tmp_path / "older").mkdir()
    for path in list(tmp_path.glob("dark*")):
        path.rename(tmp_path / "older" / path.name)
    if beside != "darks in a subfolder":
        for path in (tmp_path / "older").iterdir():
            path.unlink()
    if beside == "a broken dark":
        (tmp_path / "dark.fit").write_bytes(b"broken")
    with pytest.raises(ar.InputError, match=r"light\.fit: .*which is unknown.*--unsigned wrapped"):
        ar.open_frames(light)
    assert np.array_equal(light_of(ar.open_frames(light, unsigned="wrapped")), bright())


def test_without_darks_a_light_without_negative_pixels_needs_no_verdict(tmp_path: Path) -> None:
    write(tmp_path / "light.fit", counts(LEVEL).astype(np.int16), "Light Frame")
    assert ar.open_frames(tmp_path).counts.dtype == np.int16


def test_a_single_negative_pixel_anywhere_is_found(tmp_path: Path) -> None:
    values = counts(LEVEL).astype(np.int16)
    values[31, 17] = -1
    write(tmp_path / "light.fit", values, "Light Frame")
    with pytest.raises(ar.InputError, match="which is unknown"):
        ar.open_frames(tmp_path)


def test_signed_noise_around_zero_needs_no_judge(tmp_path: Path) -> None:
    values = counts(1.0).astype(np.int16)
    write(tmp_path / "light.fit", values, "Light Frame")
    assert np.array_equal(light_of(ar.open_frames(tmp_path)), values)


def test_judges_that_lie_near_zero_but_not_around_it_decide_nothing(tmp_path: Path) -> None:
    wrapped_night(tmp_path, level=70.0)
    with pytest.raises(
        ar.InputError, match=r"light\.fit: .*dark-0\.fit: level (69|70|71)[.5]*, noise 1\d"
    ):
        ar.open_frames(tmp_path)


def test_a_dark_subtracted_light_among_wrapped_frames_stays_signed(tmp_path: Path) -> None:
    wrapped_night(tmp_path)
    values = counts(3.0).astype(np.int16)
    write(tmp_path / "other.fit", values, "Light Frame")
    cube = ar.open_frames(tmp_path)
    assert np.array_equal(cube.counts.sel(frame="other").values, values)
    assert np.array_equal(light_of(cube), bright())


def test_a_light_that_half_fills_the_gap_below_the_raw_level_is_refused(tmp_path: Path) -> None:
    light = wrapped_night(tmp_path)
    pixels, draw = bright().view(np.int16), np.random.default_rng(1)
    pixels[draw.random(SHAPE) < 0.4] = 500
    pixels[draw.random(SHAPE) < 0.05] = -20000
    fits.writeto(light, pixels, fits.getheader(light), overwrite=True)
    with pytest.raises(ar.InputError, match=r"light\.fit: .*\d\d% of the pixels are below"):
        ar.open_frames(tmp_path)


def test_counts_of_32_bits_are_unwrapped_too(tmp_path: Path) -> None:
    for i in range(3):
        write(tmp_path / f"dark-{i}.fit", counts(LEVEL, seed=i).astype(np.int32), "Dark Frame")
    values = bright().astype(np.uint32)
    values[5, 5], values[6, 6] = 4294950022, 2147483648
    write(tmp_path / "light.fit", values.view(np.int32), "Light Frame")
    cube = ar.open_frames(tmp_path)
    assert cube.counts.dtype == np.uint32
    assert np.array_equal(light_of(cube), values)


def test_each_camera_is_judged_by_its_own_darks(tmp_path: Path) -> None:
    for camera, level in (("A", LEVEL), ("B", 0.0)):
        for kind, seed in (("Dark Frame", 1), ("Light Frame", 2)):
            pixels = counts(level, seed=seed).astype(np.int16)
            pixels[3, 4] = -2000
            write(tmp_path / f"{camera}-{kind[:5].strip()}.fit", pixels, kind, INSTRUME=camera)
    cube = ar.open_frames(tmp_path)
    pixel = cube.counts.isel(y=3, x=4).astype(int)
    assert [int(pixel.sel(frame=f"{c}-Light")) for c in "AB"] == [63536, -2000]


def test_a_camera_without_darks_is_judged_by_all_of_its_bits(tmp_path: Path) -> None:
    light = wrapped_night(tmp_path)
    fits.setval(light, "INSTRUME", value="written by another program")
    assert np.array_equal(light_of(ar.open_frames(tmp_path)), bright())


@pytest.mark.parametrize("name", ["DARK", "BIAS", "darks", "dark 600s", "Zero"])
def test_a_folder_of_lights_is_judged_by_the_folder_of_darks_beside_it(
    name: str, tmp_path: Path
) -> None:
    light = wrapped_night(tmp_path)
    for folder in (name, "LIGHT"):
        (tmp_path / folder).mkdir()
    for path in tmp_path.glob("*.fit"):
        path.rename(tmp_path / (name if path != light else "LIGHT") / path.name)
    assert np.array_equal(light_of(ar.open_frames(tmp_path / "LIGHT")), bright())


def test_a_folder_of_another_name_beside_judges_nobody(tmp_path: Path) -> None:
    light = wrapped_night(tmp_path)
    for folder in ("trial", "LIGHT"):
        (tmp_path / folder).mkdir()
    for path in tmp_path.glob("*.fit"):
        path.rename(tmp_path / ("trial" if path != light else "LIGHT") / path.name)
    with pytest.raises(ar.InputError, match="no raw dark or bias"):
        ar.open_frames(tmp_path / "LIGHT")


def test_a_verdict_says_what_decided(tmp_path: Path) -> None:
    wrapped_night(tmp_path)
    night = ar.open_night(tmp_path)
    (verdict,) = {verdict for frame in night.frames for verdict in frame.verdicts}
    assert verdict.source == "probe"
    assert re.search(r"dark-0\.fit: level (999|100\d)[.5]*, noise 1\d", verdict.text)


def test_a_night_is_opened_as_its_file_or_its_caller_says(tmp_path: Path) -> None:
    wrapped_night(tmp_path)
    for path in tmp_path.glob("dark*"):
        path.unlink()
    told = NightFile.from_tables({"unsigned": "wrapped"})
    for night in (ar.open_night(tmp_path, told), ar.open_night(tmp_path, unsigned="wrapped")):
        (frame,) = night.frames
        assert (frame.image.source.pixels.wrapped, frame.refusals) == (True, ())
        assert frame.verdicts[0].source == "option"
    (frame,) = ar.open_night(tmp_path, told, unsigned="auto").frames
    assert len(frame.refusals) == 1


def test_a_camera_whose_noise_reaches_zero_in_any_dark_is_signed(tmp_path: Path) -> None:
    for i, level in enumerate((2.0, 30.0, 60.0)):
        write(tmp_path / f"dark-{i}.fit", counts(level).astype(np.int16), "Dark Frame")
    light = counts(40.0).astype(np.int16)
    light[3, 3] = -60
    write(tmp_path / "light.fit", light, "Light Frame")
    assert np.array_equal(light_of(ar.open_frames(tmp_path)), light)


@pytest.mark.parametrize("unsigned", ["auto", "as-declared"])
def test_a_night_without_wrapped_counts_is_the_same_either_way(
    unsigned: Literal["auto", "as-declared"], night: Path
) -> None:
    assert ar.open_frames(night, unsigned=unsigned).identical(ar.open_frames(night))
