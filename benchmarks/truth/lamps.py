"""``python -m benchmarks.truth.lamps``: whether lamps are told right, and what is refused.

Lamps are simulated with the lines of `arrayred/lamps`, of which the identification uses the
strongest only. The population: each of `LAMPS` alike often; 765 to 4096 pixels; R 300 to 8000 at a
FWHM of 2 to 4 pixels, both directions, the grating equation with a detector that spans 1.7 to 7
degrees at diffraction angles up to 45 degrees; strengths scattered by a factor of 2 for each line
and of 3 for each ion, a detector that fades towards both ends; one line in twenty missing, one in
fifteen of no element; the brightest line 2,000 to 60,000 electrons high, one lamp in seven
overexposed (saturated lines flagged).

What must be refused: other gases than the one that is named; real lamps with the gaps between
their lines shuffled, which no gas has; lines at random; and flat lamps with fringes.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Callable, Iterator
from functools import partial
from importlib.metadata import version
from pathlib import Path
from time import process_time
from typing import Any, NamedTuple

import numpy as np
import xarray as xr
from numpy.typing import NDArray

import arrayred as ar
from arrayred.errors import ArrayredError
from arrayred.model import SATURATED
from arrayred.steps.wavelength import LAMPS, _atlas_of
from benchmarks.tables import table

Values = NDArray[np.float64]
LEAST_LINES = 12
N_PIXELS = (765, 1024, 1530, 2048, 3326, 4096)
FULL_WELL = 60_000.0
HINTED = 4
NONE = {
    "wrong": "another gas named",
    "shuffled": "gaps shuffled",
    "random": "lines at random",
    "flat": "flat lamps",
}
HEADING = """# Lamps

    python -m benchmarks.truth.lamps --first 9000 --number 1000 --json FILE  # may be stopped
    python -m benchmarks.truth.lamps --number 0 --json FILE --publish        # writes this page

Lamps are simulated, and what is told of them is set beside the truth; the population is described
in [lamps.py](lamps.py)."""

BESIDE = """All get the same lamps (`--rivals`). The others get the pixels of all lines that
`find_lamp_lines` finds without a problem, in the order of rising wavelengths, and of the right
gases the short lists by which arrayred identifies. Beyond these they get what they ask for, and
without which they find nothing: specreduce the true wavelength in the middle within 50 Angstrom and
the dispersion there within 3 %; RASCAL the true wavelengths of both ends within 100 Angstrom. All
else is as they have it by default: who adapts their settings to each lamp may do better. Neither
says that it does not know: a solution counts as accepted unless the program stops with an error.
Wrong is told as above; for them between the outermost lines that they get, which are some more."""


class Lamp(NamedTuple):
    """A simulated lamp: its arc, its name, and the true wavelength of each pixel (x)."""

    arc: xr.Dataset
    name: str
    wavelength: Values

    @property
    def dispersion(self) -> float:
        """Return the true dispersion in the middle, Angstrom per pixel."""
        middle = self.wavelength.size // 2
        return float(abs(self.wavelength[middle + 1] - self.wavelength[middle]))


def grating(rng: np.random.Generator, n: int, fwhm: float) -> Callable[[Values], Values]:
    """Return the wavelength (Angstrom) of places from -1 to 1 on a random spectrograph."""
    while True:
        resolving = 10 ** rng.uniform(math.log10(300), math.log10(8000))
        center = rng.uniform(3800, 9200)
        step = center / (resolving * fwhm)
        angle, half = rng.uniform(-0.17, 0.79), rng.uniform(0.015, 0.06)
        sign = rng.choice([-1.0, 1.0])
        scale = sign * step * n / 2 / (math.cos(angle) * math.tan(half))

        place = partial(_wavelength, center, scale, angle, half)
        ends = np.sort(place(np.array([-1.0, 1.0])))
        if ends[0] > 3250 and ends[1] < 10700:
            return place


def _wavelength(center: float, scale: float, angle: float, half: float, u: Values) -> Values:
    """Return the wavelengths that a grating throws on places from -1 to 1 of a detector."""
    beta = angle + np.arctan(u * math.tan(half))
    return np.asarray(center + scale * (np.sin(beta) - math.sin(angle)))


def lines_of(rng: np.random.Generator, name: str) -> tuple[Values, Values]:
    """Return wavelengths and strengths of a lamp of a gas, as no two lamps are alike."""
    atlas = _atlas_of(LAMPS[name])
    strength = atlas.strength * rng.lognormal(0, 0.7, atlas.wave.size)
    hollow = name.startswith(("Cu", "Fe"))
    for ion in np.unique(atlas.ion):
        weak = 0.0 if ion == "ArII" and not hollow and rng.random() < 0.7 else 1.0
        strength[atlas.ion == ion] *= weak * rng.lognormal(0, 1.1)
    strength[rng.random(strength.size) < 0.05] = 0
    return atlas.wave, strength


def arc_of(rng: np.random.Generator, n: int, x: Values, light: Values, fwhm: float) -> xr.Dataset:
    """Return the arc of lines at x (FITS pixel) of a relative light, with noise."""
    from scipy.special import ndtr

    pixel = np.arange(1.0, n + 1)
    slope = rng.uniform(-0.12, 0.12)
    signal = np.zeros(n)
    for at, height in zip(x, light, strict=True):
        sigma = fwhm / 2.3548 * (1 + slope * (2 * at / n - 1))
        first = max(int(at - 6 * sigma) - 2, 0)
        own = pixel[first : int(at + 6 * sigma) + 2]
        signal[first : first + own.size] += height * (
            ndtr((own + 0.5 - at) / sigma) - ndtr((own - 0.5 - at) / sigma)
        )
    peak = 10 ** rng.uniform(3.3, math.log10(FULL_WELL))
    over = rng.uniform(1.5, 4) if rng.random() < 1 / 7 else 1.0
    signal *= (FULL_WELL * over if over > 1 else peak) / max(signal.max(), 1e-9)
    signal += rng.uniform(0, 0.02) * peak + 50
    read = rng.uniform(5, 30)
    counts = rng.poisson(signal) + rng.normal(0, read, n)
    saturated = counts > FULL_WELL
    counts = np.minimum(counts, FULL_WELL)
    return xr.Dataset(
        {
            "flux": ("x", counts, {"units": "electron"}),
            "variance": ("x", np.maximum(counts, 50.0) + read**2),
            "dq": ("x", np.where(saturated, SATURATED, 0).astype(np.uint8)),
        },
        {"x": np.arange(1, n + 1)},
    )


def simulate(seed: int, kind: str = "lamp") -> Lamp:
    """Return a lamp; "shuffled" and "random" have lines that no gas has, "flat" none."""
    rng = np.random.default_rng([seed, {"lamp": 0, "shuffled": 1, "random": 2, "flat": 3}[kind]])
    name = list(LAMPS)[seed % len(LAMPS)]
    n = int(rng.choice(N_PIXELS))
    fwhm = rng.uniform(2, 4)
    wavelength = grating(rng, n, fwhm)
    fine = np.linspace(-1.02, 1.02, 20001)
    grid = wavelength(fine)
    wave, strength = lines_of(rng, name)
    if kind == "shuffled":
        gaps = rng.permutation(np.diff(wave))
        wave = wave[0] + np.concatenate(([0.0], np.cumsum(gaps)))
    order = np.argsort(grid)
    place = np.interp(wave, grid[order], fine[order], left=np.nan, right=np.nan)
    strength = strength * np.exp(
        -0.5 * ((wave - rng.normal(6000, 600)) / rng.uniform(1300, 2600)) ** 2
    )
    kept = np.isfinite(place) & (np.abs(place) < 1) & (strength > 0)
    place, strength = place[kept], strength[kept]
    if kind == "random":
        place = rng.uniform(-1, 1, max(place.size, 20))
        strength = rng.lognormal(0, 1.5, place.size)
    n_false = rng.poisson(min(place.size, 40) / 15)
    if n_false and place.size:
        place = np.append(place, rng.uniform(-1, 1, n_false))
        strength = np.append(strength, rng.choice(strength, n_false) * 0.5)
    x = (n + 1) / 2 + place * n / 2
    arc = arc_of(rng, n, x, strength, fwhm)
    if kind == "flat":
        u = np.linspace(-1, 1, n)
        level = (
            2e4 * (1 - 0.6 * u**2) * (1 + rng.uniform(0, 0.1) * np.sin(rng.uniform(20, 200) * u))
        )
        noise = rng.normal(0, 1, n) * np.sqrt(level + 100)
        arc = arc.assign(flux=("x", level + noise), variance=("x", level + 100))
        arc = arc.assign(dq=("x", np.zeros(n, np.uint8)))
    u = (np.arange(1.0, n + 1) - (n + 1) / 2) * 2 / n
    return Lamp(arc, name, wavelength(u))


def n_usable(lines: xr.Dataset) -> int:
    """Return how many lines of a lamp can be identified."""
    return int(np.count_nonzero(~np.isin(lines.problem.values, ("edge", "sharp"))))


def judge(lamp: Lamp, asked: str = "auto", *, with_hint: bool = False) -> dict[str, Any]:
    """Return what becomes of a lamp: accepted, the largest error in the range covered, pixel."""
    began = process_time()
    found: dict[str, Any] = {"name": lamp.name, "asked": asked}
    lines = ar.find_lamp_lines(lamp.arc)
    found["lines"] = n_usable(lines)
    dispersion = center = None
    if with_hint:
        dispersion, center = lamp.dispersion * 1.02, float(lamp.wavelength[[0, -1]].mean())
    try:
        known = ar.identify(lines, asked, dispersion=dispersion, center=center)
        solution = ar.fit_dispersion(known)
    except ArrayredError as error:
        return found | {"accepted": False, "why": str(error)[:160], "s": process_time() - began}
    found["s"] = process_time() - began
    x = lamp.arc.x.values
    covered = ~solution.is_extrapolated(x)
    slope = np.abs(np.gradient(lamp.wavelength))
    off = np.abs(solution.wavelength(x) - lamp.wavelength) / slope
    keep = ("lamp", "log10_nfa", "flux_explained", "list_seen", "margin")
    found |= {name: known.attrs[name] for name in keep}
    return found | {
        "accepted": True,
        "off": float(off[covered].max()),
        "order": solution.order,
        "used": solution.n_lines,
        "chi2": solution.chi2,
        "covered": float(covered.mean()),
    }


class Guess(NamedTuple):
    """What other programs are given of a lamp, in the order of rising wavelengths.

    Parameters
    ----------
    x : (line), pixel, of all lines without a problem.
    listed : (line), Angstrom, of the short lists of its gases.
    wavelength : (x), true, of which each program gets what it asks for.
    """

    x: Values
    listed: Values
    wavelength: Values


def judge_rival(solve: Callable[[Guess], Callable[[Values], Values]], lamp: Lamp) -> dict[str, Any]:
    """Return what another program makes of a lamp, given what it asks for."""
    import warnings

    lines = ar.find_lamp_lines(lamp.arc)
    found: dict[str, Any] = {"name": lamp.name, "lines": n_usable(lines), "accepted": False}
    if found["lines"] < LEAST_LINES:
        return found
    atlas = _atlas_of(LAMPS[lamp.name])
    x, wavelength = lines.x.values[lines.problem.values == ""], lamp.wavelength
    if wavelength[0] > wavelength[-1]:
        x, wavelength = np.sort(wavelength.size + 1 - x), wavelength[::-1]
    began = process_time()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            solution = solve(Guess(x, atlas.wave[atlas.is_short], wavelength))
        except Exception as error:  # of any kind: it is what the program says
            return found | {"why": repr(error)[:160], "s": process_time() - began}
    pixel = lamp.arc.x.values.astype(np.float64)
    covered = (pixel >= x.min()) & (pixel <= x.max())
    off = np.abs(solution(pixel) - wavelength) / np.gradient(wavelength)
    return found | {
        "accepted": True,
        "off": float(off[covered].max()),
        "s": process_time() - began,
    }


def with_specreduce(guess: Guess) -> Callable[[Values], Values]:
    """Return the solution of specreduce, told the middle +- 50 Angstrom and its step +- 3 %."""
    import astropy.units as u
    from specreduce.wavecal1d import WavelengthCalibration1D

    n = guess.wavelength.size
    middle, step = guess.wavelength[n // 2], np.gradient(guess.wavelength)[n // 2]
    tool = WavelengthCalibration1D(
        obs_lines=guess.x,
        line_lists=[guess.listed],
        unit=u.AA,
        ref_pixel=n // 2 + 1,
        pix_bounds=(1, n),
    )
    solution = tool.fit_dispersion((middle - 50, middle + 50), (0.97 * step, 1.03 * step))
    return lambda pixel: np.asarray(solution.p2w(pixel))


def with_rascal(guess: Guess) -> Callable[[Values], Values]:
    """Return the solution of RASCAL, told both ends +- 100 Angstrom."""
    from rascal.atlas import Atlas  # type: ignore[import-not-found]
    from rascal.calibrator import Calibrator  # type: ignore[import-not-found]

    low, high = guess.wavelength[[0, -1]]
    tool = Calibrator(guess.x)
    tool.set_calibrator_properties(num_pix=guess.wavelength.size, seed=0, log_level="error")
    tool.set_hough_properties(min_wavelength=low, max_wavelength=high, range_tolerance=100)
    atlas = Atlas(min_atlas_wavelength=low - 100, max_atlas_wavelength=high + 100)
    atlas.add_user_atlas(["lamp"] * guess.listed.size, guess.listed)
    tool.set_atlas(atlas)
    tool.do_hough_transform()
    coefficients = tool.fit(progress=False)[0]
    return lambda pixel: np.asarray(tool.polyval(pixel, coefficients))


RIVALS = {"specreduce": with_specreduce, "rascal": with_rascal}


def cases(first: int, n: int, rivals: bool) -> Iterator[tuple[str, int]]:
    """Yield kinds and seeds of lamps to be told, and of what must be refused."""
    for seed in range(first, first + n):
        yield "lamp", seed
        yield ("wrong", "shuffled", "random", "flat")[seed % 4], seed
        if rivals and seed % HINTED == 0:
            yield from ((name, seed) for name in RIVALS)


def run_case(kind: str, seed: int) -> dict[str, Any]:
    """Return what becomes of a case."""
    if kind == "wrong":
        lamp = simulate(seed)
        others = [n for n, e in LAMPS.items() if not set(e) & set(LAMPS[lamp.name])]
        asked = others[seed // 4 % len(others)]
        return judge(lamp, asked) | {"kind": kind, "seed": seed}
    if kind in RIVALS:
        found = judge_rival(RIVALS[kind], simulate(seed)) | {"version": version(kind)}
        return found | {"kind": kind, "seed": seed}
    found = judge(simulate(seed, kind)) | {"kind": kind, "seed": seed}
    if kind == "lamp" and seed % HINTED == 0:
        hinted = judge(simulate(seed, kind), with_hint=True)
        found["hinted"] = {k: hinted[k] for k in ("accepted", "off", "s") if k in hinted}
    return found


def main(arguments: list[str] | None = None) -> int:
    """Run the cases that a file does not hold yet, and tell the figures."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.truth.lamps", description=__doc__)
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--number", type=int, default=60, help="of lamps, and of what is none")
    parser.add_argument("--json", type=Path, default=Path("lamps.jsonl"), help="results, kept")
    parser.add_argument(
        "--rivals", action="store_true", help=f"{', '.join(RIVALS)} too, on one lamp in {HINTED}"
    )
    parser.add_argument("--publish", action="store_true", help="write benchmarks/truth/lamps.md")
    options = parser.parse_args(arguments)
    rows = []
    if options.json.exists():
        rows = [json.loads(line) for line in options.json.read_text("utf-8").splitlines()]
    done = {(row["kind"], row["seed"]) for row in rows}
    with open(options.json, "a", encoding="utf-8") as file:
        for kind, seed in cases(options.first, options.number, options.rivals):
            if (kind, seed) not in done:
                rows.append(run_case(kind, seed))
                file.write(json.dumps(rows[-1]) + "\n")
                file.flush()
    print(summary(rows))
    if options.publish:
        Path(__file__).with_suffix(".md").write_text(summary(rows), encoding="utf-8")
    return 0


def summary(rows: list[dict[str, Any]]) -> str:
    """Return the figures as a page of Markdown."""
    lamps = [r for r in rows if r["kind"] == "lamp" and r["lines"] >= LEAST_LINES]
    few = [r for r in rows if r["kind"] == "lamp" and r["lines"] < LEAST_LINES]
    hinted = [r["hinted"] for r in lamps if "hinted" in r]
    body = [
        _row(f"{LEAST_LINES} lines or more, nothing told", lamps),
        _row("the same, middle and dispersion told", hinted),
        _row(f"fewer than {LEAST_LINES} lines", few),
    ]
    for kind, words in NONE.items():
        body.append(_row(f"none: {words}", [r for r in rows if r["kind"] == kind]))
    solved = [r for r in lamps if r["accepted"]]
    missed = [f"- {r['name']}, {r['lines']} lines: {r['why']}" for r in lamps if not r["accepted"]]
    ours = [r for r in rows if r["kind"] not in RIVALS]
    ours += [r | r["hinted"] for r in rows if "hinted" in r]
    wrong = [f"- {r}" for r in ours if r["accepted"] and not r.get("off", np.inf) <= 1]
    head = ["lamps", "n", "accepted", "wrong", "s: median", "s: most"]
    seeds = sorted({r["seed"] for r in rows})
    parts = [
        HEADING + f" {len(seeds)} seeds from {seeds[0]} to {seeds[-1]}." if seeds else HEADING,
        table(head, body),
        "Wrong: a pixel between the outermost lines used is off by more than a pixel; any lamp "
        "that is none and was accepted. Seconds are of one processor, shared with other work.",
        _chi_squares(solved),
        *_beside_others(rows, head),
        "## Wrong or false\n\n" + ("\n".join(wrong) or "None."),
        "## Refused, with 12 lines or more\n\n" + ("\n".join(missed) or "None."),
    ]
    return "\n\n".join(parts) + "\n"


def _beside_others(rows: list[dict[str, Any]], head: list[str]) -> list[str]:
    """Return what other programs make of lamps, beside ours of the same ones."""
    theirs = {name: {r["seed"]: r for r in rows if r["kind"] == name} for name in RIVALS}
    common = set.intersection(*(set(found) for found in theirs.values()))
    ours = [
        r for r in rows if r["kind"] == "lamp" and r["lines"] >= LEAST_LINES and r["seed"] in common
    ]
    if not ours:
        return []
    body = [
        _row("arrayred, nothing told", ours),
        _row("arrayred, middle and dispersion told", [r["hinted"] for r in ours]),
    ]
    for name, found in theirs.items():
        same = [found[r["seed"]] for r in ours]
        body.append(_row(f"{name} {same[0]['version']}, gas and more told", same))
    return ["## Beside other programs", BESIDE, table(head, body)]


def _chi_squares(solved: list[dict[str, Any]]) -> str:
    """Return what the residuals of the solutions say of the errors of the lines."""
    from scipy.stats import chi2  # type: ignore[import-untyped]

    if not solved:
        return "No lamp was solved."
    found = np.array([r["chi2"] for r in solved])
    dof = np.array([r["used"] - r["order"] - 1 for r in solved])
    low, high = float(np.mean(chi2.cdf(0.8 * dof, dof))), float(np.mean(chi2.sf(1.5 * dof, dof)))
    return (
        f"chi-square per degree of freedom of the solutions: median {np.median(found):.2f}, "
        f"10 % below {np.quantile(found, 0.1):.2f} and 10 % above {np.quantile(found, 0.9):.2f}; "
        f"of all together {np.sum(found * dof) / np.sum(dof):.2f}; "
        f"{np.mean((found > 0.8) & (found < 1.5)):.0%} between 0.8 and 1.5, where lines with exact "
        f"errors would have {1 - low - high:.0%}, because lines are few. Below are "
        f"{np.mean(found <= 0.8):.0%} (exact errors: {low:.0%}), above {np.mean(found >= 1.5):.0%} "
        f"({high:.0%}): there, lines are several of the list in one, of which the strengths are "
        "known to a factor of two only, or those of a faint gas that the simplest lamp leaves out. "
        "Beside the true wavelengths instead of the polynomial the share above is the same."
    )


def _row(words: str, rows: list[dict[str, Any]]) -> list[str]:
    """Return a line of the table."""
    accepted = [r for r in rows if r["accepted"]]
    wrong = sum(not r["off"] <= 1 for r in accepted)
    if words.startswith("none"):
        wrong = len(accepted)
    times = [r["s"] for r in rows if "s" in r] or [math.nan]
    share = f"{len(accepted)} ({len(accepted) / max(len(rows), 1):.0%})"
    median, most = f"{np.median(times):.2f}", f"{max(times):.2f}"
    return [words, str(len(rows)), share, str(wrong), median, most]


if __name__ == "__main__":
    sys.exit(main())
