"""Wrong input of the public steps is refused by our errors, with a remedy, or aligned exactly."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache
from typing import Any, NamedTuple

import numpy as np
import pytest
import xarray as xr

import arrayred as ar
from arrayred.simulate import Detector, SimulatedNight

SHAPE = (80, 200)
SECTION = ar.Section((1, 50), (1, 80))


class Scene(NamedTuple):
    """A star, reduced step by step."""

    cube: xr.Dataset
    dark: xr.Dataset
    image: xr.Dataset
    peak: xr.Dataset
    flat: xr.Dataset
    rows: ar.Rows
    trace: xr.Dataset
    half: Any
    sky: xr.Dataset
    spectrum: xr.Dataset


@cache
def scene() -> Scene:
    night = SimulatedNight(Detector(shape=SHAPE), n_darks=0, n_lights=3)
    pixels = np.stack([frame.pixels for frame in night.frames()]).astype("u2")
    labels = {"y": np.arange(1, SHAPE[0] + 1), "x": np.arange(1, SHAPE[1] + 1)}
    units = {"units": "adu"}
    coords = {**labels, "gain": 1.5, "frame": ["a", "b", "c"]}
    cube = xr.Dataset({"counts": (("frame", "y", "x"), pixels, units)}, coords)
    dark = xr.Dataset({"counts": (("y", "x"), np.full(SHAPE, 1000.0), units)}, labels)
    lamp = np.random.default_rng(0).normal(20_000, 100, pixels.shape)
    flat = ar.make_flat(cube.assign(counts=(cube.counts.dims, lamp, units)), dark)
    image = ar.compute(ar.combine(cube, minus=dark))
    rows = ar.find_rows(image)
    trace = ar.fit_trace(image, rows)
    half = ar.half_height_of(rows, trace)
    sky = ar.fit_sky(image, trace, rows, half_height=half)
    peak = ar.compute(ar.combine_with_peak(cube, minus=dark))
    return Scene(cube, dark, image, peak, flat, rows, trace, half, sky, ar.extract(image, rows))


def wrong_ones(right: xr.Dataset) -> Iterator[tuple[str, Any]]:
    """Yield what a user might give instead of a cube or an image."""
    yield "an array", right.counts.values
    yield "a DataArray", right.counts
    yield "nothing", None
    yield "a name", "folder"
    yield "objects", right.astype(object)
    yield "complex numbers", right.astype(complex)
    yield "text", right.assign(counts=(right.counts.dims, np.full(right.counts.shape, "x")))
    yield "another variable", right.rename(counts="flux")
    yield "no rows", right.isel(y=slice(0))
    yield "no columns", right.isel(x=slice(0))
    yield "a pixel number twice", right.isel(x=[0, 1, 1])
    yield "another order of dims", right.transpose(*reversed(right.counts.dims))


CUBES: dict[str, Callable[[Any], Any]] = {
    "subtract_dark": lambda c: ar.subtract_dark(c, scene().dark),
    "divide_flat": lambda c: ar.divide_flat(c, scene().flat),
    "subtract_overscan": lambda c: ar.subtract_overscan(c, SECTION),
    "trim": lambda c: ar.trim(c, SECTION),
    "combine": ar.combine,
    "combine_with_peak": ar.combine_with_peak,
    "add_clean": lambda c: ar.add_clean(scene().image, c, ar.Cleaning("median")),
    "flag_cosmic_rays": lambda c: ar.flag_cosmic_rays(scene().image, c),
    "estimate_noise": lambda c: ar.estimate_noise(scene().image, c),
    "measure_noise": lambda c: ar.measure_noise(scene().image, c),
    "flag": lambda c: ar.flag(scene().peak, c),
    "make_flat": ar.make_flat,
    "compute": ar.compute,
    "row_statistics": ar.row_statistics,
    "headers": ar.headers,
    "reduce_target": lambda c: ar.reduce_target(c, scene().dark, ar.Recipe()),
}
IMAGES: dict[str, Callable[[Any], Any]] = {
    "subtract_dark": lambda d: ar.subtract_dark(scene().cube, d),
    "divide_flat": lambda d: ar.divide_flat(scene().cube, d),
    "add_clean": lambda i: ar.add_clean(i, scene().cube, ar.Cleaning("median")),
    "flag_cosmic_rays": lambda i: ar.flag_cosmic_rays(i, scene().cube),
    "estimate_noise": lambda i: ar.estimate_noise(i, scene().cube),
    "measure_noise": lambda i: ar.measure_noise(i, scene().cube),
    "flag": lambda i: ar.flag(i, scene().cube),
    "to_ccddata": ar.to_ccddata,
    "from_ccddata": ar.from_ccddata,
    "to_spectrum": ar.to_spectrum,
    "find_rows": ar.find_rows,
    "detect_rows": ar.detect_rows,
    "fit_trace": lambda i: ar.fit_trace(i, scene().rows),
    "fit_sky": lambda i: ar.fit_sky(i, scene().trace, scene().rows, half_height=3.0),
    "its trace": lambda t: ar.fit_sky(scene().image, t, scene().rows, half_height=3.0),
    "subtract_sky": lambda i: ar.subtract_sky(scene().spectrum, i, scene().rows),
    "extract": lambda i: ar.extract(i, scene().rows),
    "extract_along": lambda i: ar.extract_along(i, scene().trace, half_height=3.0),
    "along it": lambda t: ar.extract_along(scene().image, t, half_height=3.0),
}


@pytest.mark.parametrize("step", CUBES)
def test_what_is_no_cube_is_refused(step: str) -> None:
    wrong = [*wrong_ones(scene().cube), ("no frames", scene().cube.isel(frame=slice(0)))]
    for name, value in wrong:
        with pytest.raises(ar.ArrayredError) as caught:
            CUBES[step](value)
        assert caught.value.hint, name


@pytest.mark.parametrize("step", IMAGES)
def test_what_is_no_image_is_refused(step: str) -> None:
    for name, value in wrong_ones(scene().image):
        with pytest.raises(ar.ArrayredError) as caught:
            IMAGES[step](value)
        assert caught.value.hint, name


SETTINGS: dict[str, Callable[[], Any]] = {
    "a section as text": lambda: ar.trim(scene().cube, "[1:5,1:5]"),  # type: ignore[arg-type]
    "no section": lambda: ar.subtract_overscan(scene().cube, None),  # type: ignore[arg-type]
    "a level": lambda: ar.subtract_overscan(scene().cube, SECTION, method="mode"),  # type: ignore[arg-type]
    "sigma": lambda: ar.combine(scene().cube, "clip", n_sigma="3"),  # type: ignore[arg-type]
    "no sigma": lambda: ar.combine(scene().cube, "clip", n_sigma=np.nan),
    "rounds": lambda: ar.combine(scene().cube, "clip", iterations=1.5),  # type: ignore[arg-type]
    "half a value": lambda: ar.combine(scene().cube, "minmax", low=0.5),  # type: ignore[arg-type]
    "a method": lambda: ar.add_clean(scene().image, scene().cube, "median"),  # type: ignore[arg-type]
    "no peak": lambda: ar.flag(scene().image, scene().cube),
}


@pytest.mark.parametrize("name", SETTINGS)
def test_settings_of_the_wrong_kind_are_refused(name: str) -> None:
    with pytest.raises(ar.ArrayredError) as caught:
        SETTINGS[name]()
    assert caught.value.hint


def test_a_spectrum_is_extracted_along_the_columns_that_a_trace_has() -> None:
    known = scene()
    part = {"x": slice(20, 180)}

    def flux(image: xr.Dataset, trace: xr.Dataset, sky: xr.Dataset) -> Any:
        return ar.extract_along(image, trace, sky, half_height=known.half, weights="sum").flux

    whole = flux(known.image, known.trace, known.sky)
    cut = flux(known.image.isel(part), known.trace, known.sky)
    assert np.allclose(cut, whole.isel(part), rtol=1e-9)
    for trace, sky in (
        (known.trace.isel(part), known.sky),
        (known.trace.assign_coords(x=known.trace.x + 50), known.sky),
        (known.trace, known.sky.assign_coords(x=known.sky.x + 50)),
    ):
        with pytest.raises(ar.InputError, match=r"x runs over 1:200 .* in the image and over"):
            flux(known.image, trace, sky)
