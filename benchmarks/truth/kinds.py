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
from benchmarks.truth.independent import Camera, IndependentNight, Source, Values

_MAD = 1.482602218505602
_FAR = 6.0


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
    """

    make: Callable[[int], IndependentNight]
    recipe: dict[str, Any] = field(default_factory=dict)
    bias: float = 1.0
    width: tuple[float, float] = (0.9, 1.2)
    told: str = ""
    refused: bool = False
    columns: tuple[int, int] | None = None


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
    good = (spectrum["dq"].values[span] == 0) & np.isfinite(flux) & (sigma > 0)
    pulls = (flux - truth)[good] / sigma[good]
    told = tuple(map(str, spectrum.attrs.get("remarks", ())))
    total = float(truth[good].sum())
    bias = 100.0 * float((flux - truth)[good].sum()) / total if total else float("nan")
    found = rows[0] - 1 <= center <= rows[1] + 1
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


def _hot(seed: int) -> IndependentNight:
    return IndependentNight((Source(60.6, 5_000.0),), Camera(hot=0.01), tracks=15, seed=seed)


KINDS = {
    "plain": Kind(_plain),
    "faint": Kind(_faint),
    "hot pixels and cosmic rays": Kind(_hot),
    "width of the profile changes by 40 % to both ends": Kind(_changing_width),
    "width of the profile: focus in a part of the spectrum": Kind(_focus_in_a_part),
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
