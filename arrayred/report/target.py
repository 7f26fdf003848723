"""What the page shows of one target: its image, its rows, its spectrum, its numbers: `section`."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from arrayred.errors import ArrayredError
from arrayred.io.products import header_of, open_product
from arrayred.model import COSMIC_RAY, DQ, N_REJECTED, SATURATED, turn
from arrayred.night.groups import slug
from arrayred.report.account import Served, TargetLine
from arrayred.report.drawn import pictures, searched
from arrayred.report.gather import Finished, stems_of
from arrayred.report.html import Markup, joined, path_below, tag
from arrayred.report.texts import (
    UNKNOWN,
    bullets,
    counted,
    facts,
    is_number,
    number,
    seconds,
    setting,
    share,
    span,
)

if TYPE_CHECKING:
    import xarray as xr

_STATES = {"good": "good", "attention": "needs a look", "failed": "failed"}


@dataclass(frozen=True)
class Found:
    """One spectrum of a target, read back.

    Parameters
    ----------
    stem : begins the names of its files.
    spectrum : flux (x).
    """

    stem: str
    spectrum: xr.Dataset

    @property
    def n_saturated(self) -> int:
        """How many of its columns hold a saturated pixel."""
        return flagged(self.spectrum, SATURATED)


@dataclass(frozen=True)
class Shown:
    """One target, its products read back.

    Parameters
    ----------
    target : what the run knew of it.
    folder : of its products, relative to the page.
    image : the combined image, upright as it was cut, or None.
    found : its spectra.
    damage : why a product could not be read, or "".
    """

    target: TargetLine
    folder: str
    image: xr.Dataset | None = None
    found: tuple[Found, ...] = ()
    damage: str = ""

    @property
    def id(self) -> str:
        """What it is called in links."""
        return f"target-{self.target.name}"

    @property
    def state(self) -> str:
        """Whether it is "failed", needs "attention", or is "good"."""
        if self.target.error or self.damage or not self.found:
            return "failed"
        odd = self.remarks or any(found.n_saturated for found in self.found)
        return "attention" if odd else "good"

    @property
    def remarks(self) -> list[str]:
        """What a user should know of it."""
        told = [line for one in self.found for line in one.spectrum.attrs.get("remarks", ())]
        return list(dict.fromkeys((*self.target.remarks, *map(str, told))))


def shown(finished: Finished, target: TargetLine) -> Shown:
    """Return a target with its products read back."""
    where = f"targets/{target.name}"
    place = finished.out / where / f"{target.name}_combined.fits"
    entry = None if target.error else finished.entry_of(target)
    image = None
    if entry is None:
        with suppress(ArrayredError):  # of a target without spectrum the image may be there
            image = turn(open_product(place))
        return Shown(target, where, image)
    try:
        image = turn(open_product(place))
        stems = stems_of(entry.products)
        found = [Found(s, open_product(place.with_name(f"{s}_spectrum.fits"))) for s in stems]
    except ArrayredError as error:
        return Shown(target, where, image, damage=str(error))
    return Shown(target, where, image, tuple(found))


def section(one: Shown) -> Markup:
    """Return what the page shows of a target."""
    target = one.target
    told = [counted(target.n_frames, "frame")] if target.n_frames else []
    told += [f"of {seconds(target.exptime)}"] if target.exptime is not None else []
    body: list[Markup] = []
    if one.state == "failed":
        why = target.error or one.damage or "No product of it is known."
        body.append(tag("p.callout.failed", tag("strong", "Failed. "), why))
    if one.remarks:
        body.append(tag("div.callout.attention", bullets(one.remarks)))
    if one.image is not None and not one.found:
        body.append(searched(one.image, target.threshold))
    for found in one.found:
        if one.image is not None:
            name = found.stem if len(one.found) > 1 else target.name
            body.append(pictures(one.image, found.spectrum, name))
        body.append(_about(one, found))
    heading = tag("h3", target.name, " ", tag(f"span.state.{one.state}", _STATES[one.state]))
    return tag(
        "article.target",
        tag("header", heading, _of_what(one), tag("p.muted", " ".join([*told, *_shows(one)]))),
        body,
        attributes={"id": one.id},
    )


def _of_what(one: Shown) -> Markup:
    """Return the object as the image's header calls it, where the target's name does not."""
    header = None if one.image is None else header_of(one.image.attrs)
    name = "" if header is None else str(header.get("OBJECT") or "").strip()
    return tag("p.object", name) if slug(name) != one.target.name and name else joined([])


def _shows(one: Shown) -> list[str]:
    """Return what the frames show and when they were taken, as the image's header tells it."""
    if one.image is None:
        return []
    told = one.image.coords
    when = [f"from {_moment(told['time'].values)} UTC"] if "time" in told else []
    several = one.target.n_frames > 1 and "method" in told
    how = [f"combined by {told['method'].item()}"] if several else []
    return [" · " * bool(when or how) + ", ".join([*when, *how])]


def _moment(value: Any) -> str:
    return UNKNOWN if np.isnat(value) else str(value.astype("datetime64[s]")).replace("T", " ")


def flagged(spectrum: xr.Dataset, bit: int) -> int:
    """Return how many columns of a spectrum have a flag."""
    return int(np.count_nonzero(spectrum[DQ].values & bit)) if DQ in spectrum else 0


def _about(one: Shown, found: Found) -> Markup:
    """Return the numbers of a spectrum, what was done, and where its files are."""
    spectrum, told = found.spectrum, found.spectrum.attrs
    sides = [span(told[name]) for name in ("sky_below", "sky_above") if name in told]
    rows = f"{told.get('first_row')} to {told.get('last_row')} ({told.get('rule', 'threshold')})"
    pairs = [
        ("Signal to noise", number(told.get("snr"))),
        ("Light enclosed", share(told.get("enclosed_fraction"))),
        ("Rows", rows),
        ("Seeing", number(told.get("fwhm"), 1, "rows")),
        ("Tilt", number(told.get("tilt"), 1, "rows") if "tilt" in told else ""),
        ("Extraction", str(told.get("extraction", "sum"))),
        ("Sky rows", " and ".join(sides)),
        ("Sky noise / predicted", _optional(told.get("sky_scatter"), 2)),
        ("Cosmic rays", _cosmic_rays(one, spectrum)),
        ("Saturated", counted(found.n_saturated, "column") if DQ in spectrum else ""),
        ("Gain", _gain(spectrum)),
        *((f"{m.kind.capitalize()}", _master(m)) for m in one.target.masters),
    ]
    steps = [str(line) for line in told.get("history", ())]
    own = one.target.settings
    done = tag("details", tag("summary", "What was done"), bullets(steps, "ol"))
    asked = [tag("p.muted", "Settings: ", _settings(own))] if own else []
    return joined(tag("div.numbers", facts(pairs)), asked, done, _files(one, found))


def _gain(spectrum: xr.Dataset) -> str:
    """Return the gain of the combination, where there is one to tell."""
    in_adu = spectrum["flux"].attrs.get("units", "adu") == "adu"
    told = spectrum.attrs.get("gain_effective")
    return _optional(told, 2, "electrons/adu, combined") if in_adu else ""


def _optional(value: Any, decimals: int, unit: str = "") -> str:
    return number(value, decimals, unit) if is_number(value) else ""


def _settings(settings: Mapping[str, Any]) -> Markup:
    return tag("code", "; ".join(f"{name} = {setting(v)}" for name, v in settings.items()))


def _cosmic_rays(one: Shown, spectrum: xr.Dataset) -> str:
    if DQ not in spectrum:
        return ""
    told = counted(flagged(spectrum, COSMIC_RAY), "column")
    if one.image is not None and N_REJECTED in one.image:
        n = int(np.count_nonzero(one.image[N_REJECTED].values))
        told += f"; {n} pixels of the image"
    return told


def _master(master: Served) -> str:
    age = "" if master.age is None else f", {master.age:.1f} d apart"
    warmer = "" if master.warmer is None else f", {master.warmer:+.1f} °C"
    return f"{counted(master.n_frames, 'frame')}{age}{warmer}"


def _files(one: Shown, found: Found) -> Markup:
    names = [f"{found.stem}_spectrum.fits", f"{found.stem}_spectrum.ecsv"]
    names += [f"{one.target.name}_combined.fits"]
    links = [
        tag("a", name, attributes={"href": path_below(*Path(one.folder).parts, name)})
        for name in names
    ]
    return tag("p.files", "Files: ", [joined(link, " ") for link in links])
