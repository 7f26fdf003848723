"""Both ways to the middle values find what sorting finds."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from arrayred.kernels import combine, middle_values

Array = NDArray[Any]
WAYS = {"network": combine._by_network, "sorting": combine._by_sorting}
DTYPES = ["?", "u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8", "f2", "f4", "f8"]


@pytest.fixture(params=[1, 1 << 18], autouse=True)
def piece(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Sort in pieces of 8 pixels as well: the frames here are small."""
    monkeypatch.setattr(combine, "_PIECE_BYTES", request.param)


def values_of(dtype: str, n: int) -> Array:
    """Return values (n, 3, 70) that use the whole range, with ties in half of the pixels."""
    values = np.random.default_rng(n).integers(0, 255, (n, 3, 70), np.uint8, endpoint=True)
    values[:, :, :35] //= 100
    kind = np.dtype(dtype)
    low, high = (np.iinfo(kind).min, np.iinfo(kind).max) if kind.kind in "iu" else (-1, 1)
    spread = np.linspace(float(low), float(high), 256).clip(low, np.nextafter(high, low))
    return np.asarray(spread.astype(kind)[values])


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_the_middle_is_that_of_the_sorted_values(way: str, dtype: str) -> None:
    for n in (1, 2, 3, 8, 33, 100, 101):
        values = values_of(dtype, n)
        in_order = np.sort(values, axis=0)
        low, high = WAYS[way](values)
        assert low.dtype == values.dtype
        assert np.array_equal(low, in_order[(n - 1) // 2])
        assert np.array_equal(high, in_order[n // 2])
        assert (low is high) == (n % 2 == 1)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("n", [2, 9, 64, 130])
def test_one_nan_spoils_its_pixel_alone(way: str, n: int) -> None:
    values = values_of("f8", n)
    where = np.random.default_rng(n).integers(0, n, (3, 70))
    hit = np.arange(70) % 3 == 0
    np.put_along_axis(values[:, :, hit], where[np.newaxis][:, :, hit], np.nan, axis=0)
    for x in np.flatnonzero(hit):
        values[where[:, x], range(3), x] = np.nan
    for side in WAYS[way](values):
        assert np.array_equal(np.isnan(side), np.broadcast_to(hit, (3, 70)))


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("pixel_by_pixel", [False, True])
def test_frames_are_not_changed(way: str, pixel_by_pixel: bool) -> None:
    values = values_of("u2", 12)
    if pixel_by_pixel:  # in memory the values of a pixel follow each other
        values = np.moveaxis(np.moveaxis(values, 0, -1).copy(), -1, 0)
    values.setflags(write=False)
    before = values.copy()
    WAYS[way](values)
    assert np.array_equal(values, before)


@pytest.mark.parametrize(("dtype", "n"), [("f8", 48), ("f4", 96), ("u2", 1024)])
def test_many_frames_are_sorted(dtype: str, n: int, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    monkeypatch.setattr(combine, "_by_sorting", lambda frames: calls.append(len(frames)))
    middle_values(values_of(dtype, n))
    middle_values(values_of(dtype, n - 1))
    assert calls == [n]
