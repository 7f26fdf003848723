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
from dataclasses import dataclass, field
from multiprocessing import get_context
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import arrayred as ar
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
    width : range of the width of the pulls.
    told : words that a remark of the spectrum, or the error, must hold; "": none.
    refused : whether the program must refuse instead.
    columns : columns (start, stop) that are compared; None: all.
    flagged : the largest part of the columns that may have a flag.
    """

    make: Callable[[int], IndependentNight]
    recipe: dict[str, Any] = field(default_factory=dict)
    bias: float = 1.0
    width: tuple[float, float] = (0.9, 1.2)
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


def _hot(seed: int) -> IndependentNight:
    return IndependentNight((Source(60.6, 5_000.0),), Camera(hot=0.01), tracks=15, seed=seed)


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


_NODS = 0.0, 20.0, 0.0, 20.0, 0.0
_LEANING = Sky(lines=((90.0, 300.0, 1.6), (250.0, 200.0, 1.6)), lean=0.027)

KINDS = {
    "plain": Kind(_plain),
    "faint": Kind(_faint),
    "hot pixels and cosmic rays": Kind(_hot),
    "nod along the slit": Kind(_moved(*_NODS), told="moves along the slit"),
    "nod in a leaning slit": Kind(
        _moved(0, 50, 0, 50, 0, sky=_LEANING), width=(0.9, 1.35), told="moves along the slit"
    ),
    "nod with cosmic rays": Kind(
        _moved(*_NODS, tracks=10, on_star=4), told="moves along the slit", flagged=0.1
    ),
    "nod of two lights": Kind(_moved(0, 15), told="moves along the slit"),
    "nod of a faint star": Kind(
        _moved(*_NODS, star=Source(60.6, 900.0)), told="moves along the slit"
    ),
    "drift along the slit": Kind(_moved(*(2.5 * n for n in range(9))), told="moves along the slit"),
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
    options = parser.parse_args(arguments)
    names = [name for name in KINDS if options.only in name]
    n_missed = 0
    with ProcessPoolExecutor(options.processes, get_context("spawn")) as pool:
        for name in names:
            found = list(pool.map(_one, [(name, seed) for seed in range(options.nights)]))
            missed = "; ".join(misses(KINDS[name], found))
            n_missed += bool(missed)
            print(f"{name}: {measured(found)}: {missed or 'ok'}", flush=True)
    return int(n_missed > 0)


if __name__ == "__main__":
    sys.exit(main())
