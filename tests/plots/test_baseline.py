"""Figures look as they did when somebody last looked at them.

Letters and the room they take differ from one version of matplotlib to the next; so they are left
out, as is the scale of greys, and the axes stand on whole dots where the grid puts them. What
remains is compared at 40 dots an inch after a blur over 4 dots; the image is one without noise,
which is resampled differently. Each fault below differs by more than the tolerance allows.
``python -m tests.plots.test_baseline FOLDER`` draws new ones, to be looked at.
"""

from __future__ import annotations

import io
import sys
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.image import imread
from matplotlib.text import Text
from matplotlib.transforms import Bbox
from numpy.typing import NDArray

import arrayred as ar
from arrayred.io import write_frames
from arrayred.plots import figures, panels
from arrayred.simulate import Detector, Star

BASELINE = Path(__file__).with_name("baseline")
TOLERANCE = 0.005
NAMES = ("image", "profile", "spectrum", "noise", "trace", "frames", "rows", "night", "compare")


class Drawn:
    """A faint star's night, drawn as each figure is, or with a fault in what is drawn."""

    def __init__(self, folder: Path) -> None:
        star = Star(row=85.0, flux=4.0, lines=((40.0, 0.6, 3.0),))
        night = ar.SimulatedNight(Detector(shape=(160, 240)), star, seed=11)
        write_frames(night.frames(), folder)
        recipe = ar.Recipe(rows=(78, 92), sky_offset=20, per_frame=True, cosmic_rays="off")
        target = ar.reduce_night(folder, recipe)["targets/Simulated_star"]
        self.night = ar.open_night(folder)
        self.image, self.spectrum, self.frames = (
            target[name].to_dataset() for name in ("combined", "spectrum", "frames")
        )
        y = self.image.y.values[:, np.newaxis]
        light = 20.0 + 0.2 * y + 900.0 * np.exp(-0.5 * ((y - 85.0) / 4.0) ** 2)
        self.smooth = self.image.assign(counts=self.image.counts.copy(data=light.repeat(240, 1)))

    def figure(self, name: str) -> Figure:
        given = {
            "image": (self.smooth, self.spectrum),
            "profile": (self.image, self.spectrum),
            "trace": (self.image, self.spectrum),
            "rows": (ar.row_statistics(self.image),),
            "frames": (self.frames,),
            "night": (self.night,),
            "compare": ({"a": self.spectrum, "b": 1.2 * self.spectrum[["flux"]]},),
        }
        figure: Figure = getattr(ar.plots, name)(*given.get(name, (self.spectrum,)), title=name)
        return figure


def picture(content: bytes) -> NDArray[np.float64]:
    """Return red, green and blue of a PNG from 0 to 1."""
    return np.asarray(imread(io.BytesIO(content)), np.float64)[..., :3]


def blurred(colours: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the means over 4 x 4 dots about each dot."""
    sums = np.cumsum(np.cumsum(np.pad(colours, ((1, 0), (1, 0), (0, 0))), axis=0), axis=1)
    return (sums[4:, 4:] - sums[:-4, 4:] - sums[4:, :-4] + sums[:-4, :-4]) / 16


def bare(figure: Figure) -> bytes:
    """Return a figure without letters as PNG bytes."""
    figure.set_layout_engine("none")
    for text in figure.findobj(Text):
        text.set_visible(False)
    dots = 40 * figure.get_size_inches()
    for axes in figure.axes:
        corners = np.round(axes.get_position().get_points() * dots) / dots
        axes.set_position(Bbox(corners))
        axes.set_visible(axes.get_label() != "<colorbar>")
        if (legend := axes.get_legend()) is not None:
            legend.set_visible(False)
    return ar.plots.png(figure, dpi=40)


def distance(figure: Figure, name: str) -> float:
    """Return how unlike the picture of a name a figure is: rms over all dots and colours."""
    drawn = picture(bare(figure))
    expected = picture((BASELINE / f"{name}.png").read_bytes())
    if drawn.shape != expected.shape:
        return 1.0
    return float(np.sqrt(np.mean((blurred(drawn) - blurred(expected)) ** 2)))


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Drawn:
    return Drawn(tmp_path_factory.mktemp("faint"))


@pytest.mark.parametrize("name", NAMES)
def test_a_figure_looks_as_it_did(drawn: Drawn, name: str) -> None:
    assert distance(drawn.figure(name), name) < TOLERANCE


def moved_sky(drawn: Drawn, _: pytest.MonkeyPatch) -> Figure:
    first, last = drawn.spectrum.attrs["sky_above"]
    wrong = drawn.spectrum.assign_attrs(sky_above=(first + 8, last + 8))
    return ar.plots.image(drawn.smooth, wrong, title="image")


def missing_aperture(drawn: Drawn, _: pytest.MonkeyPatch) -> Figure:
    return ar.plots.image(drawn.smooth, title="image")


def swapped_colours(drawn: Drawn, patch: pytest.MonkeyPatch) -> Figure:
    patch.setitem(panels.COLOURS, "sky", "#D55E00")
    patch.setitem(panels.COLOURS, "aperture", "#56B4E9")
    return drawn.figure("image")


def upside_down(drawn: Drawn, _: pytest.MonkeyPatch) -> Figure:
    counts = drawn.smooth.counts.copy(data=drawn.smooth.counts.values[::-1])
    return ar.plots.image(drawn.smooth.assign(counts=counts), drawn.spectrum, title="image")


def missing_noise(drawn: Drawn, _: pytest.MonkeyPatch) -> Figure:
    return ar.plots.spectrum(drawn.spectrum.drop_vars("variance"), title="spectrum")


def half_the_noise(drawn: Drawn, patch: pytest.MonkeyPatch) -> Figure:
    patch.setattr(figures, "SIGMAS", 1.5)
    return drawn.figure("spectrum")


def moved_threshold(drawn: Drawn, _: pytest.MonkeyPatch) -> Figure:
    level = 1.5 * drawn.spectrum.attrs["threshold"]
    return ar.plots.profile(drawn.image, drawn.spectrum, threshold=level, title="profile")


def moved_trace(drawn: Drawn, _: pytest.MonkeyPatch) -> Figure:
    wrong = drawn.spectrum.assign(trace=drawn.spectrum["trace"] + 1.0)
    return ar.plots.trace(drawn.image, wrong, title="trace")


def lost_frame(drawn: Drawn, _: pytest.MonkeyPatch) -> Figure:
    return ar.plots.frames(drawn.frames.isel(frame=[0, 1]), title="frames")


FAULTS: dict[Callable[[Drawn, pytest.MonkeyPatch], Figure], str] = {
    moved_sky: "image", missing_aperture: "image", swapped_colours: "image", upside_down: "image",
    missing_noise: "spectrum", half_the_noise: "spectrum", moved_threshold: "profile",
    moved_trace: "trace", lost_frame: "frames",
}  # fmt: skip


@pytest.mark.parametrize("fault", list(FAULTS), ids=lambda fault: fault.__name__)
def test_a_fault_in_a_figure_would_be_seen(
    drawn: Drawn,
    fault: Callable[[Drawn, pytest.MonkeyPatch], Figure],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    figure = fault(drawn, monkeypatch)
    assert distance(figure, FAULTS[fault]) > 1.3 * TOLERANCE


def main(folder: Path) -> None:
    """Draw all figures anew."""
    with TemporaryDirectory() as night:
        drawn = Drawn(Path(night))
        for name in NAMES:
            (folder / f"{name}.png").write_bytes(bare(drawn.figure(name)))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
