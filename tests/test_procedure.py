"""The reference recipe equals the published procedure, to the byte, on fifty simulated nights.

The nights differ in size, exposures, number of frames, pixel type, level, star, threshold and
method; the procedure runs on the pixels as astropy reads them from the same files.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from astropy.io import fits
from numpy.typing import NDArray

import arrayred as ar
from arrayred.errors import NoSpectrumError
from arrayred.io import text_table, write_frames
from arrayred.simulate import Detector, SimulatedFrame, SimulatedNight, Star
from tests.procedure import Tables, run_procedure

SEEDS = range(50)
FEW = range(25)
CASES = [pytest.param(seed, marks=() if seed in FEW else pytest.mark.slow) for seed in SEEDS]
DTYPES = ("uint16", "int16", "int32", "float32", "float64")


class Case(NamedTuple):
    """The frames of a night, and how they are to be reduced."""

    frames: list[SimulatedFrame]
    recipe: ar.Recipe
    chunks: Any


def case_of(seed: int) -> Case:
    """Return a random night whose star lies above the background sample.

    Its lights tell a quarter of a second more than the darks that serve them.
    """
    rng = np.random.default_rng((seed, 2020))
    detector = random_detector(rng)
    star, companion = (random_star(rng, *detector.shape) for _ in range(2))
    exptime = float(rng.choice([60.0, 300.0, 600.0]))
    frames: list[SimulatedFrame] = []
    for other in sorted({exptime, *rng.choice([1.5, 30.0, 61.0, 900.0], 2).tolist()}):
        night = SimulatedNight(
            detector,
            star,
            companions=(companion,) if rng.random() < 0.4 else (),
            n_darks=int(rng.integers(1, 7)),
            n_lights=int(rng.integers(1, 7)) if other == exptime else 0,
            exptime=other,
            prefix=f"{other:g}s-",
            seed=seed,
        )
        frames += map(scaled_if_float, night.frames())
    for frame in frames:
        if frame.cards["IMAGETYP"] == "Light Frame":
            frame.cards["EXPTIME"] = exptime + 0.25
    n_sigma, combine = float(rng.uniform(2, 8)), str(rng.choice(["average", "median"]))
    recipe = ar.Recipe.reference().replace(n_sigma=n_sigma, combine=combine)
    return Case(frames, recipe, [None, "auto", 7, 64][seed % 4])


def random_detector(rng: np.random.Generator) -> Detector:
    n_rows = rng.choice([rng.integers(60, 141), rng.integers(125, 141)])
    return Detector(
        shape=(int(n_rows), int(rng.integers(40, 161))),
        bias_level=float(rng.choice([0, 300, 1000])),
        hot_fraction=float(rng.choice([0, 0.002, 0.02])),
        dtype=str(rng.choice(DTYPES)),
    )


def random_star(rng: np.random.Generator, n_rows: int, n_columns: int) -> Star:
    highest = n_rows - 2 if rng.random() < 0.4 else min(n_rows - 2, 64)
    return Star(
        flux=float(10 ** rng.uniform(0, 2.5)),
        row=float(rng.uniform(54, highest)),
        seeing=float(rng.uniform(2, 8)),
        tilt=float(rng.uniform(-2, 2)),
        lines=((n_columns / 2, 0.6, 3.0),),
    )


def scaled_if_float(frame: SimulatedFrame) -> SimulatedFrame:
    """Return a frame of floats with values that are no whole numbers."""
    kind = frame.pixels.dtype
    return replace(frame, pixels=frame.pixels * kind.type(1.0371 if kind.kind == "f" else 1))


def tables_of(images: list[tuple[dict[str, Any], NDArray[Any]]], recipe: ar.Recipe) -> Tables:
    """Run the published procedure on headers and pixels in order of time."""
    darks, lights = defaultdict(list), []
    for header, pixels in sorted(images, key=lambda image: str(image[0]["DATE-OBS"])):
        image = pixels.astype(np.float64)
        if header["IMAGETYP"] == "Dark Frame":
            darks[float(header["EXPTIME"])].append(image)
        else:
            lights.append((float(header["EXPTIME"]), image))
    return run_procedure(darks, lights, combine=recipe.combine, x=recipe.n_sigma)


def read(path: Path) -> tuple[dict[str, Any], NDArray[Any]]:
    with fits.open(path) as hdus:
        return dict(hdus[0].header), np.array(hdus[0].data)


@pytest.mark.parametrize("seed", CASES)
def test_both_tables_are_those_of_the_procedure(seed: int, tmp_path: Path) -> None:
    frames, recipe, chunks = case_of(seed)
    paths = write_frames(frames, tmp_path)
    try:
        tables = tables_of([read(path) for path in paths], recipe)
    except ValueError:
        with pytest.raises(NoSpectrumError):
            ar.reduce_night(tmp_path, recipe, chunks=chunks)
        return
    spectrum = ar.reduce_night(tmp_path, recipe, chunks=chunks)["targets/Simulated_star/spectrum"]
    assert text_table(spectrum["counts_mean"].values).decode() == tables.raw_extraction
    net = text_table(spectrum["counts_mean_sky_subtracted"].values).decode()
    assert net == tables.skysubtracted


def test_most_nights_show_a_spectrum_and_every_kind_of_night_occurs() -> None:
    kinds: Counter[str] = Counter()
    for case in map(case_of, FEW):
        try:
            tables = tables_of([(f.cards, f.pixels) for f in case.frames], case.recipe)
        except ValueError:
            continue
        top, n_bright, height = tables.printed[4:]
        n_sky = min(max(len(tables.data) - top - 49, 0), height)
        band = "whole" if n_sky == height else "cut" if n_sky else "off the image"
        span = "unbroken" if n_bright == height else "with a gap"
        kinds.update([band, span, case.recipe.combine, case.frames[0].pixels.dtype.name, "found"])
    assert kinds["found"] >= 17
    assert set(kinds) >= {"whole", "cut", "off the image", "unbroken", "with a gap"}
    assert set(kinds) >= {"average", "median", *DTYPES}
