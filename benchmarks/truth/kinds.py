"""``python -m benchmarks.truth.kinds``: kinds of real nights, and whether their spectra are right.

Every kind is a night of `benchmarks.truth.independent`, which shares nothing with the program. It
is written as FITS, reduced as a user would, and set beside its truth: the star is found, the flux
is right, the pulls are as wide as the noise told, and no column is far off without a flag; or the
program refuses, or says in a remark what is the matter.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field, replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import arrayred as ar
from benchmarks.results import machine
from benchmarks.truth.independent import (
    Camera,
    Exposure,
    IndependentNight,
    Sky,
    Source,
    Values,
)

_MAD = 1.482602218505602
_FAR = 6.0
_REPAIRED = 16
"""The flag of a column that holds all its light, from pixels without their cosmic rays."""


@dataclass(frozen=True)
class Kind:
    """A kind of night, and what is asked of its spectrum.

    Parameters
    ----------
    make : the night of a seed.
    recipe : options of the reduction, where not the defaults.
    bias : largest offset of the flux, %.
    width : range of the width of the pulls; None: the noise is not known, and pulls tell nothing.
    told : words that a remark of the spectrum, or the error, must hold; "": none.
    refused : whether the program must refuse instead.
    columns : columns (start, stop) that are compared; None: all.
    flagged : the largest part of the columns that may have a flag.
    """

    make: Callable[[int], IndependentNight]
    recipe: dict[str, Any] = field(default_factory=dict)
    bias: float = 1.0
    width: tuple[float, float] | None = (0.9, 1.2)
    told: str = ""
    refused: bool = False
    columns: tuple[int, int] | None = None
    flagged: float = 1.0


class Outcome(NamedTuple):
    """What became of one night.

    Parameters
    ----------
    found : the star was found.
    error : the error's text; "" for none.
    remarks : of the spectrum.
    bias : of the flux, %, beside the part of the light it says it holds.
    pulls : (flux - truth) / sigma of the columns without a flag.
    flagged : the part of the columns with a flag.
    """

    found: bool
    error: str = ""
    remarks: tuple[str, ...] = ()
    bias: float = 0.0
    pulls: tuple[float, ...] = ()
    flagged: float = 0.0


def reduced(night: IndependentNight, recipe: dict[str, Any]) -> dict[str, Any]:
    """Return the products of a night's star by name, reduced from its files."""
    with tempfile.TemporaryDirectory() as folder:
        tree = ar.reduce_night(night.write(Path(folder)), ar.Recipe(**recipe))
        targets = tree["targets"].children
        (name,) = targets
        return {key: node.to_dataset() for key, node in targets[name].children.items()}


def outcome(kind: Kind, seed: int) -> Outcome:
    """Return what becomes of one night of a kind."""
    night = kind.make(seed)
    try:
        spectrum = reduced(night, kind.recipe)["spectrum"]
    except ar.ArrayredError as error:
        return Outcome(False, f"{type(error).__name__}: {error}")
    return compared(spectrum, night, kind.columns)


def compared(
    spectrum: Any, night: IndependentNight, columns: tuple[int, int] | None = None, which: int = 0
) -> Outcome:
    """Return a spectrum beside the truth of one of the sources."""
    span = slice(*(columns or (0, None)))
    center = float(np.median(night.center(which)))
    rows = spectrum.attrs["first_row"], spectrum.attrs["last_row"]
    enclosed: Any = spectrum.attrs.get("enclosed_fraction", 1.0)
    if "enclosed" in spectrum:
        enclosed = spectrum["enclosed"].values[span]
    flux: Values = spectrum["flux"].values[span]
    truth = night.true_flux(which)[span] * enclosed
    unit = spectrum["flux"].attrs.get("units", "adu")
    truth = truth * (night.camera.gain if unit == "electron" else 1.0)
    sigma = np.sqrt(spectrum["variance"].values[span])
    spoilt = spectrum["dq"].values[span] & ~np.uint8(_REPAIRED)
    good = (spoilt == 0) & np.isfinite(flux) & (sigma > 0)
    pulls = (flux - truth)[good] / sigma[good]
    told = tuple(map(str, spectrum.attrs.get("remarks", ())))
    total = float(truth[good].sum())
    bias = 100.0 * float((flux - truth)[good].sum()) / total if total else float("nan")
    moves = [one.rows for one in night.exposures]
    found = rows[0] - 1 <= center + max(moves) and center + min(moves) <= rows[1] + 1
    return Outcome(found, "", told, bias, tuple(map(float, pulls)), 1.0 - float(good.mean()))


def misses(kind: Kind, outcomes: Sequence[Outcome]) -> Iterator[str]:
    """Yield what is not as it should be, in words."""
    said = [" ".join((*one.remarks, one.error)) for one in outcomes]
    if kind.told and (n := sum(kind.told not in text for text in said)):
        yield f"{kind.told!r} is not said of {n} nights"
    if kind.refused:
        if n := sum(not one.error for one in outcomes):
            yield f"{n} nights are not refused"
        return
    if failed := [one.error for one in outcomes if one.error]:
        yield f"{len(failed)} fail: {failed[0]}"
    if n := sum(not one.found and not one.error for one in outcomes):
        yield f"{n} show something else"
    made = [one for one in outcomes if one.found]
    if not made:
        return
    pulls = np.concatenate([np.asarray(one.pulls) for one in made])
    biases = np.array([one.bias for one in made])
    error = float(biases.std(ddof=1)) / len(biases) ** 0.5 if len(biases) > 1 else 0.0
    if abs(biases.mean()) > kind.bias + 3 * error:
        yield f"flux off by {biases.mean():+.2f} %"
    if kind.width is None:
        return
    width = _MAD * float(np.median(np.abs(pulls - np.median(pulls))))
    slack = 3 * 1.17 / len(pulls) ** 0.5
    if not kind.width[0] - slack <= width <= kind.width[1] + slack:
        yield f"pulls {width:.2f} wide"
    if (flagged := float(np.mean([one.flagged for one in made]))) > kind.flagged:
        yield f"{flagged:.1%} of the columns flagged"
    if far := int(np.count_nonzero(np.abs(pulls) > _FAR)):
        yield f"{far} of {len(pulls)} columns off by more than {_FAR:g} sigma, unflagged"


def measured(outcomes: Sequence[Outcome]) -> str:
    """Return the numbers of a kind, in words."""
    made = [one for one in outcomes if one.found]
    if not made:
        return "no spectrum"
    pulls = np.concatenate([np.asarray(one.pulls) for one in made])
    width = _MAD * float(np.median(np.abs(pulls - np.median(pulls)))) if pulls.size else np.nan
    bias = float(np.mean([one.bias for one in made]))
    flagged = float(np.mean([one.flagged for one in made]))
    return f"bias {bias:+.2f} %, width {width:.2f}, flagged {flagged:.1%}"


def _plain(seed: int) -> IndependentNight:
    return IndependentNight((Source(101.3, 12_000.0, tilt=2.0),), seed=seed)


def _faint(seed: int) -> IndependentNight:
    return IndependentNight((Source(101.3, 900.0, tilt=2.0),), seed=seed)


_ALONG = np.linspace(-1.0, 1.0, 400)


def _changing_width(seed: int) -> IndependentNight:
    return IndependentNight(
        (Source(101.3, 12_000.0, fwhm=4.0 * (1 + 0.4 * _ALONG), tilt=2.0),), seed=seed
    )


def _focus_in_a_part(seed: int) -> IndependentNight:
    width = 3.0 + 5.0 * (_ALONG - 0.3) ** 2
    return IndependentNight((Source(101.3, 12_000.0, fwhm=width, tilt=2.0),), seed=seed)


def _wide_lines(seed: int) -> IndependentNight:
    lines = ((60.0, 40_000.0, 2.5), (200.0, 80_000.0, 2.5), (330.0, 30_000.0, 2.5))
    column = np.arange(1.0, 401)
    near = np.min([np.abs(column - middle) for middle, _, _ in lines], axis=0) < 10
    width = np.where(near, 9.0, 6.0)
    return IndependentNight((Source(101.3, 2_000.0, fwhm=width, tilt=2.0, lines=lines),), seed=seed)


def _wider_lines(factor: float, part: float) -> Callable[[int], IndependentNight]:
    """Return nights whose star has lines from a wider place, in parts of `_wide_lines`.

    The truth is that of its continuum: it says nothing of the columns of the lines.
    """

    def made(seed: int) -> IndependentNight:
        heights = ((60.0, 40_000.0), (200.0, 80_000.0), (330.0, 30_000.0))
        lines = tuple((column, part * height, 2.5) for column, height in heights)
        around = Source(101.3, 0.0, fwhm=6.0 * factor, tilt=2.0, lines=lines)
        return IndependentNight((Source(101.3, 2_000.0, 6.0, tilt=2.0), around), seed=seed)

    return made


_WIDE = {"bias": 2.0, "columns": (220, 310), "told": "wider along the slit than the continuum"}


def _hot(seed: int) -> IndependentNight:
    return IndependentNight((Source(60.6, 5_000.0),), Camera(hot=0.01), tracks=15, seed=seed)


def _flat(seed: int, lamp: Values, fringes: float = 0.0, trail: float = 0.0) -> IndependentNight:
    """Return a night with flats of a lamp, relative to its level; the star has the lamp's light.

    Pixels scatter by 2 %, and the columns have fringes of 30 columns. Behind the lit columns a
    charge trails in the flats.
    """
    n, rng = lamp.size, np.random.default_rng(seed + 1)
    column = np.arange(n)
    response = 1 + 0.02 * rng.standard_normal((200, n))
    response *= 1 + fringes * np.sin(2 * np.pi * column / 30)
    unlit = np.flatnonzero(lamp == 0)
    behind = np.exp(-(column[unlit] - column[unlit[:1]]) / 8.0)
    flat = 30_000.0 * lamp
    flat[unlit] = trail * behind
    camera = Camera((200, n), gain=1.0, response=response)
    sky = Sky(np.tile(30.0 * lamp, (200, 1)))
    source = Source(101.3, 12_000.0 * lamp, tilt=2.0)
    return IndependentNight((source,), camera, sky, n_flats=7, flat=flat, seed=seed)


def _saturated_line(seed: int, *lamps: float) -> IndependentNight:
    """Return a night with a line of the lamp that saturates in flats of twice the brightness.

    The slit is vignetted, and 1 in its middle as the reduction means it: at the median of its rows.
    The star has the continuum of the lamp.
    """
    bell = np.exp(-0.5 * ((np.arange(600) - 300) / 1.0) ** 2)
    slit = 1.075 - 0.3 * np.linspace(-1, 1, 200)[:, np.newaxis] ** 2
    night = _flat(seed, 1 + 1.5 * bell)
    camera = replace(night.camera, response=night.camera.response * slit)
    source = Source(40.3, 12_000.0, tilt=2.0)
    return replace(night, sources=(source,), sky=Sky(), camera=camera, lamp=lamps, n_flats=3)


def _leaning_flat(seed: int, lamp: Values, lean: float, *, row: float = 40.3) -> IndependentNight:
    """Return a night whose lamp's features move by columns from row to row, as the star's do."""
    night, column = _flat(seed, lamp), np.arange(lamp.size)
    row_of = np.arange(1, 201) - 100.5
    flat = [30_000.0 * np.interp(column - lean * away, column, lamp) for away in row_of]
    seen = np.interp(column - lean * (row - 100.5), column, lamp)
    source, sky = Source(row, 12_000.0 * seen), Sky(30.0 * np.asarray(flat) / 30_000.0)
    return replace(night, sources=(source,), sky=sky, flat=np.asarray(flat))


def _edge(width: float, low: float = 0.1, at: float = 0.4, n: int = 600) -> Values:
    """Return a lamp (x) with an edge over a part of the columns, of 10 to 90 % of its height."""
    along = np.arange(n) / n
    return np.asarray(low + (1 - low) / (1 + np.exp(-(along - at) / width * 4.4)))


def _lamp_lines(n: int = 600) -> Values:
    """Return a lamp (x) with emission lines on a continuum."""
    column = np.arange(n)
    lines = ((0.3, 1.0, 1.5), (0.55, 0.5, 2.5), (0.8, 0.25, 1.5))
    bells = [h * np.exp(-0.5 * ((column - at * n) / sigma) ** 2) for at, h, sigma in lines]
    return np.asarray((1 - 0.3 * (column / n - 0.5) ** 2) * (1 + sum(bells)))


def _arm_end(n: int = 600) -> Values:
    """Return a lamp (x) that ends 16 columns before the detector does."""
    return np.where(np.arange(n) < n - 16, 1.0, 0.0)


_LINES = ((60.3, 300.0), (118.7, 150.0), (171.2, 1500.0), (240.5, 60.0), (301.9, 600.0))
"""Columns of the sky's lines in the middle row, and their peaks: 2 to 50 times the sky."""


def _leaning(lean: float, width: float, flux: float = 12_000.0) -> Callable[[int], Any]:
    """Return nights whose sky lines lean, of a standard deviation of some columns."""

    def made(seed: int) -> IndependentNight:
        lines = tuple((column + 0.37 * seed, peak, width) for column, peak in _LINES)
        sky = Sky(30.0, lines, lean)
        return IndependentNight((Source(101.3, flux, tilt=2.0),), sky=sky, seed=seed)

    return made


def _pair(seed: int) -> IndependentNight:
    sources = Source(100.3, 12_000.0, tilt=2.0), Source(112.3, 12_000.0, tilt=2.0)
    return IndependentNight(sources, seed=seed)


def _close_pair(rows: float, ratio: float) -> Callable[[int], IndependentNight]:
    """Return nights with a star and another of a part of its flux, some rows above."""

    def made(seed: int) -> IndependentNight:
        second = Source(100.3 + rows, 12_000.0 * ratio, tilt=2.0)
        return IndependentNight((Source(100.3, 12_000.0, tilt=2.0), second), seed=seed)

    return made


def _fainter_neighbour(seed: int) -> IndependentNight:
    sources = Source(100.3, 12_000.0, tilt=6.0), Source(110.3, 3_600.0, tilt=6.0)
    return IndependentNight(sources, seed=seed)


def _beside_a_brighter(seed: int) -> IndependentNight:
    sources = Source(130.3, 3_000.0, tilt=2.0), Source(100.3, 30_000.0, tilt=2.0)
    return IndependentNight(sources, seed=seed)


def _glow(seed: int) -> IndependentNight:
    row, column = np.arange(200.0)[:, np.newaxis], np.arange(400.0)
    glow = 30.0 + 20_000.0 * np.exp(-np.hypot(row - 199.0, column - 399.0) / 20.0)
    return IndependentNight((Source(61.3, 1_500.0, tilt=2.0),), sky=Sky(glow), seed=seed)


def _glow_beside(seed: int) -> IndependentNight:
    row, column = np.arange(200.0)[:, np.newaxis], np.arange(400.0)
    glow = 30.0 + 1_000.0 * np.exp(-np.hypot(row - 115.0, column - 200.0) / 8.0)
    return IndependentNight((Source(101.3, 12_000.0, tilt=2.0),), sky=Sky(glow), seed=seed)


def _tracks(n_lights: int) -> Callable[[int], IndependentNight]:
    def made(seed: int) -> IndependentNight:
        lights = (Exposure(),) * n_lights
        return IndependentNight((Source(100.0),), exposures=lights, tracks=20, seed=seed)

    return made


_OTHER_LIGHT = "differs from that of rows farther away"


def _halo(level: float, fwhm: float, row: float = 101.3) -> Callable[[int], Any]:
    """Return nights with light that falls off along the slit, from the star or from elsewhere."""

    def made(seed: int) -> IndependentNight:
        y = np.arange(1.0, 201)[:, np.newaxis]
        light = level * np.exp(-4 * np.log(2) * ((y - row) / fwhm) ** 2) * np.ones(400)
        return IndependentNight((Source(101.3, 3_000.0),), sky=Sky(30.0 + light), seed=seed)

    return made


_NO_CARDS = {"EGAIN": None, "RDNOISE": None}
_STAR = (Source(101.3, 12_000.0, tilt=2.0),)
_RAMP = (Source(101.3, np.linspace(2_000, 30_000, 400), tilt=2.0),)
_CLOUDS = (Exposure(1.0), Exposure(0.8), Exposure(1.1))


def _no_gain(gain: float, n_flats: int = 0, tracks: int = 0) -> Callable[[int], IndependentNight]:
    return lambda seed: IndependentNight(
        _STAR, Camera(gain=gain), cards=_NO_CARDS, n_flats=n_flats, tracks=tracks, seed=seed
    )


def _card(**cards: Any) -> Callable[[int], IndependentNight]:
    return lambda seed: IndependentNight(_STAR, cards={"EGAIN": None, **cards}, seed=seed)


def _one_light(**cards: Any) -> Callable[[int], IndependentNight]:
    return lambda seed: IndependentNight(_STAR, exposures=_CLOUDS[:1], cards=cards, seed=seed)


def _full_well(n_lights: int, scatter: float) -> Callable[[int], IndependentNight]:
    return lambda seed: IndependentNight(
        _RAMP,
        Camera(full_well=3_000.0, well_scatter=scatter),
        exposures=_CLOUDS[:n_lights],
        seed=seed,
    )


def _lined(row: float = 60.6, flux: float = 12_000.0) -> Source:
    lines = tuple((15.0 + 24 * i, flux * (0.4 + 0.2 * (i % 3)), 1.6) for i in range(16))
    return Source(row, flux, tilt=2.0, lines=lines)


def _moved(*rows: float, star: Source | None = None, **more: Any) -> Any:
    exposures = tuple(Exposure(rows=row) for row in rows)
    return lambda seed: IndependentNight(
        (star or _lined(),), exposures=exposures, seed=seed, **more
    )


def _two_of_one_name(seed: int) -> IndependentNight:
    column = np.arange(1.0, 401)
    red = Source(100.6, 9_000.0 * (0.3 + 1.4 * column / 400))
    seen = [Exposure(shining=(which,)) for which in (0, 1, 0, 1, 0)]
    return IndependentNight((_lined(), red), exposures=seen, seed=seed)


def _drifted_along_columns(seed: int) -> IndependentNight:
    exposures = [Exposure(columns=0.3 * n) for n in range(3)]
    return IndependentNight((_lined(),), exposures=exposures, seed=seed)


def _unsteady(seed: int) -> IndependentNight:
    exposures = [
        Exposure(transparency, seeing, rows)
        for transparency, seeing, rows in zip(
            (1.0, 0.6, 0.9, 0.5, 0.8),
            (1.0, 1.3, 0.9, 1.2, 1.0),
            (-0.6, 0, 0.7, 0.3, -0.4),
            strict=True,
        )
    ]
    return IndependentNight((Source(101.3, 12_000.0, tilt=2.0),), exposures=exposures, seed=seed)


def _struck(n_lights: int, flux: float = 12_000.0) -> Any:
    return lambda seed: IndependentNight(
        (Source(101.3, flux, tilt=2.0),),
        exposures=(Exposure(),) * n_lights,
        tracks=10,
        on_star=5,
        seed=seed,
    )


def _coarse(
    flux: float, gain: float, slope: float, **camera: Any
) -> Callable[[int], IndependentNight]:
    """Return nights whose dark current rises by a tenth of `slope` electrons a row."""
    dark = slope * np.arange(200.0)[:, np.newaxis] / 10 * np.ones(400)
    kept = {"gain": gain, "dark": dark, **camera}
    return lambda seed: IndependentNight(
        (Source(101.3, flux, tilt=2.0),), Camera(**kept), exposures=(Exposure(),) * 5, seed=seed
    )


_NODS = 0.0, 20.0, 0.0, 20.0, 0.0
_LEANING = Sky(lines=((90.0, 300.0, 1.6), (250.0, 200.0, 1.6)), lean=0.027)


def _filled(seed: int) -> IndependentNight:
    level = np.full((200, 400), 5.0)
    level[20:180] = 300.0
    return IndependentNight((Source(100.0),), sky=Sky(level), seed=seed)


KINDS = {
    "plain": Kind(_plain),
    "faint": Kind(_faint),
    "hot pixels and cosmic rays": Kind(_hot),
    "flat, dichroic over 1 %": Kind(lambda seed: _flat(seed, _edge(0.01))),
    "flat, dichroic over 3 %": Kind(lambda seed: _flat(seed, _edge(0.03))),
    "flat, dichroic over 10 %": Kind(lambda seed: _flat(seed, _edge(0.1))),
    "flat, arm's end over 5 %": Kind(lambda seed: _flat(seed, _edge(0.05, 0.002, 0.08))),
    "flat, lamp lines": Kind(lambda seed: _flat(seed, _lamp_lines())),
    "flat, fringes": Kind(lambda seed: _flat(seed, np.ones(600), 0.05), columns=(10, 590)),
    "flat, fringes and dichroic": Kind(
        lambda seed: _flat(seed, _edge(0.03), 0.05), columns=(10, 590)
    ),
    "flat, a line saturates in one": Kind(lambda seed: _saturated_line(seed, 0.5, 0.5, 1.0)),
    "flat, a line saturates in all": Kind(lambda seed: _saturated_line(seed, 1.0)),
    "flat, leaning dichroic": Kind(lambda seed: _leaning_flat(seed, _edge(0.03), 0.03)),
    "flat, leaning lines": Kind(lambda seed: _leaning_flat(seed, _lamp_lines(), 0.03)),
    "flat, overscan and trails": Kind(
        lambda seed: _flat(seed, _arm_end(), trail=190.0), columns=(0, 584)
    ),
    **{
        f"sky lines {width} columns wide, lean {lean}": Kind(_leaning(lean, width))
        for width in (0.8, 1.5)
        for lean in (0.01, -0.03, 0.06, 0.1)
    },
    "a faint star under leaning sky lines": Kind(_leaning(0.06, 1.0, 900.0)),
    "a halo about the star, 60 rows": Kind(_halo(10.0, 60.0), told=_OTHER_LIGHT),
    "a halo about the star, 120 rows": Kind(_halo(60.0, 120.0), told=_OTHER_LIGHT),
    "a nebula in the upper sky": Kind(_halo(60.0, 40.0, 165.0)),
    "a narrow nebula in the upper sky": Kind(_halo(60.0, 15.0, 175.0)),
    "no gain, 1.5": Kind(_no_gain(1.5)),
    "no gain, 4": Kind(_no_gain(4.0)),
    "no gain, 10": Kind(_no_gain(10.0)),
    "no gain, flats": Kind(_no_gain(1.5, n_flats=5)),
    "no gain, cosmic rays": Kind(_no_gain(1.5, tracks=15)),
    "a camera's setting beside a read noise": Kind(_card(GAIN=120)),
    "a gain of 12 bits": Kind(_card(EGAIN=24.0), told="the measured gain is used"),
    "no gain, one light": Kind(
        _one_light(**_NO_CARDS), width=None, told="gain unknown, read noise only"
    ),
    "coarse converter": Kind(_coarse(2_000.0, 20.0, 1.0)),
    "coarse converter, dark in steps": Kind(_coarse(2_000.0, 20.0, 10.0)),
    "a converter of 12 bits in 16": Kind(_coarse(12_000.0, 0.5, 1.0, step=16)),
    "8 bits": Kind(_coarse(12_000.0, 20.0, 1.0, largest=255, bias=20.0)),
    "cut off below": Kind(
        lambda seed: IndependentNight(_STAR, Camera(bias=-100.0), seed=seed),
        bias=100.0,
        width=None,
        told="clipped at 0",
    ),
    "full wells": Kind(_full_well(3, 0.01), told="saturated"),
    "full wells that differ": Kind(_full_well(3, 0.03), told="saturated"),
    "full wells, two lights": Kind(_full_well(2, 0.01), told="saturated"),
    "full wells, one light": Kind(_full_well(1, 0.01), told="saturated"),
    "nod along the slit": Kind(_moved(*_NODS), told="drifts along the slit"),
    "nod in a leaning slit": Kind(
        _moved(0, 50, 0, 50, 0, sky=_LEANING), told="drifts along the slit"
    ),
    "nod with cosmic rays": Kind(
        _moved(*_NODS, tracks=10, on_star=4), told="drifts along the slit", flagged=0.1
    ),
    "nod of two lights": Kind(_moved(0, 15), told="drifts along the slit"),
    "nod of a faint star": Kind(
        _moved(*_NODS, star=Source(60.6, 900.0)), told="drifts along the slit"
    ),
    "drift along the slit": Kind(
        _moved(*(2.5 * n for n in range(9))), told="drifts along the slit"
    ),
    "drift by less than a FWHM, tracks": Kind(
        _moved(*(0.75 * n for n in range(-2, 3)), star=_lined(101.3), tracks=10, on_star=3),
        told="drifts along the slit",
    ),
    "tracks on a star with lines": Kind(
        _moved(0, 0, 0, 0, 0, star=_lined(101.3), tracks=10, on_star=3)
    ),
    "two stars of one name": Kind(_two_of_one_name, told="another star"),
    "drift along the dispersion": Kind(_drifted_along_columns, told="along the dispersion"),
    "clouds and seeing, mean": Kind(_unsteady),
    "clouds and seeing, median": Kind(
        _unsteady, {"combine": "median"}, bias=3.0, width=(0.4, 1.2), told="combine average"
    ),
    "clouds and seeing, minmax": Kind(
        _unsteady, {"combine": "minmax"}, bias=3.0, width=(0.4, 1.2), told="combine average"
    ),
    "clouds and seeing, clip": Kind(_unsteady, {"combine": "clip"}),
    "tracks on the star": Kind(_struck(5), flagged=0.1),
    "tracks on a faint star": Kind(_struck(5, 1_500.0), flagged=0.1),
    "tracks in fifteen lights": Kind(_struck(15), flagged=0.1),
    "tracks in two lights": Kind(_struck(2), flagged=0.1),
    "equal pair 12 rows apart": Kind(_pair, {"near_row": 101}, told="overlaps"),
    "equal pair 5 rows apart": Kind(
        _close_pair(5.0, 1.0), {"near_row": 97}, told="overlaps", flagged=0.1
    ),
    "half as bright 6 rows away": Kind(_close_pair(6.0, 0.5), told="overlaps", flagged=0.1),
    "a fifth as bright 4 rows away": Kind(_close_pair(4.0, 0.2), told="overlaps", flagged=0.1),
    "equal pair 3 rows apart": Kind(
        _close_pair(3.0, 1.0), bias=101.0, width=None, told="a second star"
    ),
    "fainter neighbour 10 rows away": Kind(_fainter_neighbour, told="overlaps"),
    "rows beside a brighter star": Kind(_beside_a_brighter, {"rows": (112, 145)}),
    "glow of a corner": Kind(_glow, told=_OTHER_LIGHT),
    "glow beside the star": Kind(_glow_beside, told="includes a glow", columns=(0, 140)),
    "blank with tracks, one light": Kind(_tracks(1), refused=True),
    "blank with tracks, two lights": Kind(_tracks(2), refused=True),
    "light fills the slit": Kind(_filled, told="Signal fills rows 21 to 180", refused=True),
    "width of the profile changes by 40 % to both ends": Kind(_changing_width),
    "width of the profile: focus in a part of the spectrum": Kind(_focus_in_a_part),
    "lines 1.5 times as wide as the continuum": Kind(_wider_lines(1.5, 0.2), **_WIDE),
    "lines twice as wide as the continuum": Kind(_wider_lines(2.0, 1.0), **_WIDE),
    "width of the profile differs in lines": Kind(_wide_lines, told="summed without weights"),
}
"""Every kind by name; a test or a command picks one by it."""


def _one(task: tuple[str, int]) -> Outcome:
    name, seed = task
    return outcome(KINDS[name], seed)


def main(arguments: list[str] | None = None) -> int:
    """Measure, print, and return the exit code: 1 if a kind is not as it should be."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.truth.kinds", description=__doc__)
    parser.add_argument("--only", default="", metavar="WORDS", help="kinds whose name holds this")
    parser.add_argument("--nights", type=int, default=6, help="nights of a kind")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--publish", action="store_true", help="write benchmarks/truth/kinds.md")
    options = parser.parse_args(arguments)
    names = [name for name in KINDS if options.only in name]
    rows = []
    with ProcessPoolExecutor(options.processes, get_context("spawn")) as pool:
        for name in names:
            found = list(pool.map(_one, [(name, seed) for seed in range(options.nights)]))
            missed = "; ".join(misses(KINDS[name], found)) or "ok"
            rows.append((name, measured(found), missed))
            print(": ".join(rows[-1]), flush=True)
    if options.publish:
        Path(__file__).with_name("kinds.md").write_text(page(rows, options.nights), "utf-8")
    return int(any(missed != "ok" for *_, missed in rows))


def page(rows: Sequence[tuple[str, str, str]], n_nights: int) -> str:
    """Return the page of all kinds: what was measured of each, and what is not as it should be."""
    right = sum(missed == "ok" for *_, missed in rows)
    lines = [" | ".join(("", name, *rest, "")).strip() for name, *rest in rows]
    return _PAGE.format(
        right=right, all=len(rows), nights=n_nights, rows="\n".join(lines), **machine()
    )


_PAGE = """\
# Kinds of real nights

    python -m benchmarks.truth.kinds --publish

Nights of a simulator that shares nothing with arrayred (`independent.py`), {nights} of each kind,
written as FITS and reduced as a user would. Asked of each: the star is found, its flux is right
within 1 %, pulls are 0.9 to 1.2 wide, and no column without a flag lies beyond 6 sigma; or a
remark, or the refusal, says what is the matter. {right} of {all} kinds hold what is asked of them.

Measured on {date}, {cpu}, Python {python}.

| kind | measured | what is missed |
| --- | --- | --- |
{rows}
"""


if __name__ == "__main__":
    sys.exit(main())
