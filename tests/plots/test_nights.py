"""A night is drawn with a bar for each exposure, where and as long as it was."""

from __future__ import annotations

import dataclasses
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest
from matplotlib.axes import Axes

import arrayred as ar


def bars(axes: Axes) -> list[tuple[float, float]]:
    """Return first and last moment of each bar, days since 1970."""
    boxes = [path.get_extents() for bar in axes.collections for path in bar.get_paths()]
    return [(box.x0, box.x1) for box in boxes]


def test_bars_are_the_exposures_of_each_group(folder: Path) -> None:
    night = ar.open_night(folder)
    axes = ar.plots.night(night, levels=False).axes[0]
    assert [text.get_text() for text in axes.get_yticklabels()] == list(night.groups)
    frames = [frame for group in night.groups.values() for frame in group.frames]
    for (first, last), frame in zip(bars(axes), frames, strict=True):
        assert frame.time is not None
        assert frame.exptime is not None
        assert first == pytest.approx(frame.time.timestamp() / 86400, abs=1e-8)
        assert (last - first) * 86400 == pytest.approx(frame.exptime, abs=0.01)


def test_temperature_and_level_are_those_of_the_frames(folder: Path) -> None:
    night = ar.open_night(folder)
    _, temperature, level = ar.plots.night(night).axes
    shown = [value for line in temperature.lines for value in line.get_ydata()]
    assert sorted(shown) == sorted(f.ccd_temp for f in night.frames if f.ccd_temp is not None)
    cube = ar.open_frames(folder)
    medians = np.median(cube.counts.values, axis=(1, 2))
    levels = [value for line in level.lines for value in line.get_ydata()]
    assert np.allclose(np.sort(levels), np.sort(medians), atol=3.0)


def moved(night: ar.Night, days: int) -> ar.Night:
    """Return a night whose lights were taken some days later."""
    frames = tuple(
        dataclasses.replace(frame, time=frame.time + timedelta(days=days))
        if frame.frame_type == "light" and frame.time is not None
        else frame
        for frame in night.frames
    )
    return dataclasses.replace(night, frames=frames)


@pytest.mark.parametrize("days", [1, 30])
def test_long_pauses_are_cut_out(folder: Path, days: int) -> None:
    night = moved(ar.open_night(folder), days)
    first, second = ar.plots.night(night, levels=False).axes[:2]
    assert (len(bars(first)), len(bars(second))) == (5, 3)
    assert np.ptp(first.get_xlim()) + np.ptp(second.get_xlim()) < 0.2
    assert first.get_ylim() == second.get_ylim()


def test_frames_without_a_time_are_left_out_and_without_any_it_is_said(folder: Path) -> None:
    night = ar.open_night(folder)
    timeless = [dataclasses.replace(frame, time=None) for frame in night.frames]
    some = dataclasses.replace(night, frames=(timeless[0], *night.frames[1:]))
    assert len(bars(ar.plots.night(some, levels=False).axes[0])) == 7
    with pytest.raises(ar.UsageError, match="no frame with a time"):
        ar.plots.night(dataclasses.replace(night, frames=tuple(timeless)))


def test_what_is_no_night_is_refused(folder: Path) -> None:
    with pytest.raises(ar.UsageError, match="not PosixPath"):
        ar.plots.night(folder)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "name", ["barber-2020-11-03/raw", "stonybrook-2017-10", "toronto-2019-10", "formats/isis"]
)
def test_real_nights_are_drawn(nights: Path, name: str) -> None:
    figure = ar.plots.night(ar.open_night(nights / name), title=name)
    assert ar.plots.png(figure).startswith(b"\x89PNG")
    assert len(ar.plots.svg(figure)) < 100_000
