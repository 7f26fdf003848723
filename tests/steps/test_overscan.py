"""Overscans are subtracted and frames trimmed, as lazily as they come, rows keeping their names."""

from __future__ import annotations

import ccdproc
import numpy as np
import pytest
import xarray as xr
from astropy.nddata import CCDData

from arrayred.errors import MismatchError
from arrayred.model import Section
from arrayred.steps import subtract_overscan, trim
from tests.steps import cube_of

BESIDE = Section((1, 12), (1, 40))
ABOVE = Section((1, 30), (33, 40))


@pytest.fixture
def cube() -> xr.Dataset:
    rng = np.random.default_rng(0)
    return cube_of(rng.integers(900, 1100, (3, 40, 30)).astype(np.uint16))


@pytest.mark.parametrize(("section", "by_row", "axis"), [(BESIDE, True, 1), (ABOVE, False, 0)])
def test_medians_equal_ccdprocs_to_the_bit(
    cube: xr.Dataset, section: Section, by_row: bool, axis: int
) -> None:
    ours = subtract_overscan(cube, section, by_row=by_row, method="median").counts.values
    for frame, found in zip(cube.counts.values, ours, strict=True):
        theirs = ccdproc.subtract_overscan(
            CCDData(frame.astype("f8"), unit="adu"), fits_section=str(section), median=True,
            overscan_axis=axis,
        )  # fmt: skip
        assert np.array_equal(found, theirs.data)


@pytest.mark.parametrize("chunks", [{"y": 3}, {"frame": 1, "y": 7, "x": 5}, {"y": 40}])
@pytest.mark.parametrize(("section", "by_row"), [(BESIDE, True), (ABOVE, False)])
def test_a_lazy_cube_stays_lazy_and_gives_the_same_bits(
    cube: xr.Dataset, chunks: dict[str, int], section: Section, by_row: bool
) -> None:
    lazy = subtract_overscan(cube.chunk(chunks), section, by_row=by_row)
    assert lazy.counts.chunks is not None
    assert lazy.counts.dtype == np.float64
    assert lazy.compute().identical(subtract_overscan(cube, section, by_row=by_row))


@pytest.mark.parametrize(("section", "by_row"), [(BESIDE, True), (ABOVE, False)])
def test_what_drifts_with_the_overscan_is_gone(section: Section, by_row: bool) -> None:
    drift = np.random.default_rng(1).integers(0, 500, (2, 40 if by_row else 30))
    pixels = np.full((2, 40, 30), 1000) + (drift[..., None] if by_row else drift[:, None])
    assert not subtract_overscan(cube_of(pixels), section, by_row=by_row).counts.any()


def test_a_trimmed_cube_keeps_the_numbers_of_its_pixels(cube: xr.Dataset) -> None:
    kept = trim(cube, Section((13, 30), (5, 32)))
    assert (kept.y[0], kept.y[-1], kept.x[0], kept.x[-1]) == (5, 32, 13, 30)
    assert np.array_equal(kept.counts, cube.counts[:, 4:32, 12:30])


def test_trimming_first_changes_no_number(cube: xr.Dataset) -> None:
    rows, image = Section((1, 30), (11, 32)), Section((13, 30), (11, 32))
    one = trim(subtract_overscan(cube, BESIDE), image)
    other = trim(subtract_overscan(trim(cube, rows), Section((1, 12), (11, 32))), image)
    assert np.array_equal(one.counts, other.counts)


def test_sections_are_numbers_of_the_file_not_positions(cube: xr.Dataset) -> None:
    part = cube.sel(x=slice(4, 30))
    beside = subtract_overscan(part, Section((4, 12), (1, 40)), method="median").counts.values
    level = np.median(cube.counts.values[..., 3:12], axis=-1)
    assert np.array_equal(beside, part.counts.values - level[..., np.newaxis])


def test_the_history_tells_both(cube: xr.Dataset) -> None:
    done = trim(subtract_overscan(cube, BESIDE), Section((13, 30), (1, 40)))
    assert done.attrs["history"][1:] == [
        "overscan of columns 1 to 12 subtracted (mean of each row)",
        "trimmed to [13:30,1:40]",
    ]


@pytest.mark.parametrize("section", [Section((25, 31), (1, 40)), Section((1, 5), (1, 41))])
def test_a_section_off_the_frames_is_refused(cube: xr.Dataset, section: Section) -> None:
    for step in (subtract_overscan, trim):
        with pytest.raises(MismatchError, match=r"\[1:30,1:40\]"):
            step(cube, section)
