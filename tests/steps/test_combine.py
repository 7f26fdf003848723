"""Frames become one image: the bits of subtracting first, coordinates that sum the frames up."""

from __future__ import annotations

from typing import Any, Literal

import dask
import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

import arrayred as ar
from arrayred.errors import MismatchError, UsageError
from arrayred.kernels import clipped_mean, minmax_mean
from tests.steps import Array, cube_of, image_of

Method = Literal["average", "median", "clip", "minmax"]
METHODS: tuple[Method, ...] = ("average", "median", "clip", "minmax")


def frames_of(dtype: str, n: int) -> Array:
    rng = np.random.default_rng(n)
    return (rng.normal(1000, 300, (n, 7, 5)).clip(0) * 1.37).astype(dtype)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("dtype", ["u2", "i2", "u4", "f4", "f8"])
@pytest.mark.parametrize("step", [1.0, 0.1])
@pytest.mark.parametrize("n", [3, 4, 20])
def test_minus_equals_subtracting_first(method: Method, dtype: str, step: float, n: int) -> None:
    cube = cube_of(frames_of(dtype, n))
    dark = image_of(np.random.default_rng(1).integers(0, 20_000, (7, 5)) * step)
    inside = ar.combine(cube, method, minus=dark)
    assert inside.identical(ar.combine(ar.subtract_dark(cube, dark), method))


@pytest.mark.parametrize("n", [1, 2, 5, 10])
def test_average_and_median_are_those_of_numpy(n: int) -> None:
    frames = frames_of("f8", n)
    average = ar.combine(cube_of(frames)).counts
    median = ar.combine(cube_of(frames), "median").counts
    assert np.array_equal(average, np.mean(frames, axis=0))
    assert np.array_equal(median, np.median(frames, axis=0))


@pytest.mark.parametrize("method", METHODS)
@settings(deadline=None, max_examples=20)
@given(y=st.integers(1, 7), x=st.integers(1, 5), frame=st.integers(1, 6), lazy_dark=st.booleans())
def test_a_lazy_cube_stays_lazy_and_gives_the_same_bits(
    method: Method, y: int, x: int, frame: int, lazy_dark: bool
) -> None:
    cube, dark = cube_of(frames_of("u2", 6)), image_of(frames_of("f8", 1)[0])
    lazy = ar.combine(
        cube.chunk({"frame": frame, "y": y, "x": x}),
        method,
        minus=dark.chunk({"y": y}) if lazy_dark else dark,
    )
    assert dask.is_dask_collection(lazy.counts.data)
    assert lazy.compute(scheduler="sync").identical(ar.combine(cube, method, minus=dark))


@pytest.mark.parametrize("method", METHODS)
def test_the_order_of_bands_and_threads_does_not_matter(method: Method) -> None:
    cube = cube_of(frames_of("f8", 9))
    with dask.config.set(scheduler="threads", num_workers=2):
        lazy = ar.combine(cube.chunk({"y": 1}), method).compute()
    assert lazy.identical(ar.combine(cube, method))


def test_clipping_and_extremes_take_their_settings() -> None:
    frames = frames_of("f8", 20)
    cube = cube_of(frames)
    clipped = ar.combine(cube, "clip", n_sigma=1.5, iterations=None)
    assert np.array_equal(clipped.counts, clipped_mean(frames, n_sigma=1.5, iterations=None))
    rest = ar.combine(cube, "minmax", low=2, high=5)
    assert np.array_equal(rest.counts, minmax_mean(frames, low=2, high=5))


@pytest.mark.parametrize(
    ("method", "options", "line"),
    [
        ("clip", {}, "mean of 9 frames, clipped at 3 sigma once"),
        (
            "clip",
            {"n_sigma": 2.5, "iterations": 4},
            "mean of 9 frames, clipped at 2.5 sigma 4 times",
        ),
        (
            "clip",
            {"iterations": None},
            "mean of 9 frames, clipped at 3 sigma until convergence",
        ),
        (
            "minmax",
            {"high": 2},
            "mean of 9 frames without the 1 lowest and 2 highest of each pixel",
        ),
    ],
)
def test_the_history_tells_the_settings(method: Method, options: dict[str, Any], line: str) -> None:
    image = ar.combine(cube_of(frames_of("u2", 9)), method, **options)
    assert image.attrs["history"] == ["opened", line]
    assert image.method == method


@pytest.mark.parametrize(
    ("method", "options", "hint"),
    [
        ("mode", {}, "Use average, median, clip or minmax"),
        ("clip", {"n_sigma": 0.0}, "Use n_sigma above 0"),
        ("clip", {"iterations": 0}, "iterations of at least 1 or None"),
        ("minmax", {"low": 2, "high": 1}, "together at most 2"),
        ("minmax", {"low": -1}, "at least 0"),
    ],
)
def test_settings_that_leave_nothing_are_refused(
    method: Any, options: dict[str, Any], hint: str
) -> None:
    with pytest.raises(UsageError, match=hint):
        ar.combine(cube_of(frames_of("u2", 3)), method, **options)


def test_no_frames_cannot_be_combined() -> None:
    with pytest.raises(UsageError, match="0 along frame"):
        ar.combine(cube_of(frames_of("u2", 3)).isel(frame=slice(0)), "median")


def test_coordinates_of_frames_are_summed_up() -> None:
    times = np.array(["2024-03-09T21:00", "2024-03-09T20:00", "2024-03-09T22:00"], "M8[ns]")
    image = ar.combine(
        cube_of(
            frames_of("u2", 3),
            frame=["a", "b", "c"],
            exptime=("frame", [600.0, 600.0, 600.5]),
            ccd_temp=("frame", [-20.0, -20.5, -19.5]),
            time=("frame", times),
            path=("frame", ["a.fit", "b.fit", "c.fit"]),
            binning="1x1",
            gain=1.5,
        )
    )
    found = {name: coord.item() for name, coord in image.coords.items() if not coord.dims}
    assert found.pop("time") == times[1].astype(int)
    assert found == {
        "n_frames": 3,
        "exptime": 600.0,
        "exptime_total": 1800.5,
        "ccd_temp": -20.0,
        "binning": "1x1",
        "gain": 1.5,
        "method": "average",
    }
    assert set(image.dims) == {"y", "x"}


def test_what_frames_do_not_know_is_not_made_up() -> None:
    image = ar.combine(cube_of(frames_of("u2", 3)))
    assert set(image.coords) == {"y", "x", "n_frames", "method"}


def test_units_labels_and_history_are_kept() -> None:
    cube = cube_of(frames_of("u2", 3)).isel(y=slice(2, 6))
    dark = image_of(np.ones((7, 5))).isel(y=slice(2, 6))
    image = ar.combine(cube, "median", minus=dark)
    assert image.indexes["y"].equals(cube.indexes["y"])
    assert image.counts.attrs == {"units": "adu"}
    assert image.attrs["history"] == ["opened", "dark subtracted", "median of 3 frames"]
    assert cube.attrs["history"] == ["opened"]


def test_missing_values_are_left_out() -> None:
    frames = frames_of("f8", 3)
    frames[0, 2, 2] = np.nan
    image = ar.combine(cube_of(frames), "average")
    assert image.counts.values[2, 2] == (frames[1, 2, 2] + frames[2, 2, 2]) / 2
    assert not np.isnan(image.counts).any()


def test_a_dark_of_other_pixels_is_refused() -> None:
    dark = image_of(np.ones((7, 5)))
    for other in (dark.isel(y=slice(1, 7)), dark.assign_coords(y=dark.y + 1)):
        with pytest.raises(MismatchError, match="y runs over 1:7"):
            ar.combine(cube_of(frames_of("u2", 3)), minus=other)


def test_one_image_cannot_be_combined() -> None:
    with pytest.raises(MismatchError, match="cube"):
        ar.combine(image_of(np.ones((7, 5))))


@pytest.mark.parametrize("method", METHODS)
def test_optional_accelerators_of_xarray_change_nothing(method: Method) -> None:
    cube = cube_of(frames_of("f8", 7))
    images = []
    for use in (True, False):
        with xr.set_options(use_bottleneck=use, use_numbagg=use):
            images.append(ar.combine(cube, method))
    assert images[0].identical(images[1])


def with_errors(pixels: list[float], flags: list[int], variances: list[float]) -> xr.Dataset:
    """Return frames of one pixel, with flags and variances."""
    return xr.Dataset(
        {
            "counts": (("frame", "y", "x"), np.reshape(pixels, (-1, 1, 1))),
            "dq": (("frame", "y", "x"), np.reshape(flags, (-1, 1, 1)).astype(np.uint8)),
            "variance": (("frame", "y", "x"), np.reshape(variances, (-1, 1, 1))),
        },
        {"y": [1], "x": [1]},
    )


@pytest.mark.parametrize("chunks", [None, 1])
@pytest.mark.parametrize(
    ("method", "variance"),
    [("average", 1 / 3), ("median", 0.4487), ("clip", 1 / 3), ("minmax", 0.4487)],
)
def test_a_flagged_value_is_no_part_of_a_combination(
    method: Any, variance: float, chunks: int | None
) -> None:
    cube = with_errors([1.0, 2.0, 3.0, 1e5], [0, 0, 0, 4], [1.0, 1.0, 1.0, 1e9])
    cube = cube if chunks is None else cube.chunk(y=chunks)
    image = ar.combine(cube, method).compute()
    assert image.counts.item() == 2.0
    assert image.dq.item() == 0
    assert image.variance.item() == pytest.approx(variance, abs=1e-4)  # of three values


def test_of_two_values_a_median_is_the_mean_and_none_is_left_without_extremes() -> None:
    cube = with_errors([1.0, 2.0, 1e5], [0, 0, 4], [1.0, 1.0, 1e9])
    median, minmax = (ar.combine(cube, method) for method in ("median", "minmax"))
    assert (median.counts.item(), median.variance.item(), median.dq.item()) == (1.5, 0.5, 0)
    assert np.isnan([minmax.counts.item(), minmax.variance.item()]).all()
    assert minmax.dq.item() == 4


def test_flags_and_variance_are_those_of_ccdproc() -> None:
    import ccdproc

    rng = np.random.default_rng(3)
    counts, variance = rng.normal(100, 3, (5, 8, 9)), rng.uniform(4, 9, (5, 8, 9))
    flags = (rng.random((5, 8, 9)) < 0.2).astype(np.uint8)
    flags[:, 2, 3] = 4
    planes = {"counts": counts, "variance": variance, "dq": flags}
    cube = xr.Dataset(
        {name: (("frame", "y", "x"), plane) for name, plane in planes.items()},
        {"y": np.arange(1, 9), "x": np.arange(1, 10)},
    )
    image = ar.combine(cube)
    frames = [ar.to_ccddata(cube.isel(frame=i)) for i in range(5)]
    theirs = ccdproc.Combiner(frames).average_combine()
    assert np.array_equal(image.dq.values != 0, theirs.mask)
    known = ~theirs.mask
    np.testing.assert_allclose(image.counts.values[known], theirs.data[known], rtol=1e-12)
    number = (flags == 0).sum(axis=0)[known]
    of_mean = np.where(flags == 0, variance, 0.0).sum(axis=0)[known] / number**2
    np.testing.assert_allclose(image.variance.values[known], of_mean, rtol=1e-12)


def test_where_ccdproc_differs_by_definition() -> None:
    import ccdproc

    values, flags = [1.0, 2.0, 4.0, 9.0, 100.0], [0, 0, 0, 0, 4]
    cube = with_errors(values, flags, [1.0] * 5)
    frames = [ar.to_ccddata(cube.isel(frame=i)) for i in range(5)]
    theirs = ccdproc.Combiner(frames)
    theirs.clip_extrema(1, 1)
    average = theirs.average_combine()
    assert average.data.item() == 5.0
    assert average.uncertainty.array.item() == pytest.approx(np.std([2.0, 4.0, 9.0]) / 3**0.5)
    assert ar.combine(cube, "minmax").counts.item() == 3.0
    assert ar.combine(cube).variance.item() == 0.25


def test_what_is_subtracted_brings_its_noise_and_its_flags() -> None:
    cube = with_errors([10.0, 12.0], [0, 0], [4.0, 4.0])
    dark = with_errors([3.0], [1], [0.5]).isel(frame=0)
    for image in (ar.combine(cube, minus=dark), ar.combine(ar.subtract_dark(cube, dark))):
        assert image.dq.item() & 1
    assert ar.combine(cube, minus=dark).variance.item() == 2.5
    assert ar.subtract_dark(cube, dark).variance.values.ravel().tolist() == [4.5, 4.5]


@pytest.mark.parametrize("method", ["average", "median", "clip", "minmax"])
@pytest.mark.parametrize("value", [np.inf, -np.inf, 1e30])
def test_what_is_no_count_is_as_missing_as_nan(method: Any, value: float) -> None:
    counts = np.random.default_rng(1).normal(1000, 10, (5, 4, 6))
    dims = ("frame", "y", "x")
    numbers = {"y": np.arange(1, 5), "x": np.arange(1, 7)}

    def combined(odd: float) -> Any:
        counts[2, 1, 3] = odd
        cube = xr.Dataset({"counts": (dims, counts.copy())}, numbers)
        return ar.combine(cube, method).counts.values

    np.testing.assert_array_equal(combined(value), combined(np.nan))
