"""Make the page of a night and the index of many nights: `write_report`, `write_index`.

What a page shows is decided here, its HTML is written by the templates (`render`), its figures are
laid out by `render`. Each frame has a line, and a thumbnail where there are few (32). Of more than
300 frames those of the same type and use share a line, with a thumbnail of one of them; frames that
are not used are listed with the reason. So the page of 10,000 frames stays short, and states where
it shows only a part.
"""

from __future__ import annotations

import csv
import dataclasses
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from arrayred.errors import ArrayredError, FrameError, UsageError, counted
from arrayred.io.ledger import (
    ALGORITHM,
    INDEX,
    INDEX_ENTRY,
    PAGE,
    PAGE_ENTRY,
    SUMMARY,
    Entry,
    Ledger,
    holds_single_night,
    products_of,
)
from arrayred.io.pixel_checks import frames_to_probe, sample_frame
from arrayred.io.pixels import FrameStack, plain_pixels
from arrayred.io.products import LINES, header_of, open_product, read_arc, read_lines
from arrayred.io.publish import publish
from arrayred.model import (
    COSMIC_RAY,
    DQ,
    LAMP,
    N_REJECTED,
    REPAIRED,
    SATURATED,
    is_check,
    transpose_to_x,
    without_level,
)
from arrayred.night.groups import list_of_names, names_by_text, slug
from arrayred.plots.figures import Shift, arc, compare, detector, quick_look, search_look, shifts
from arrayred.plots.panels import SERIES
from arrayred.report import render
from arrayred.report.render import (
    UNKNOWN,
    ChartRow,
    difference,
    is_number,
    number,
    page,
    seconds,
    setting,
)
from arrayred.report.run import (
    MOST_ROWS,
    Finished,
    FrameLine,
    Served,
    TargetLine,
    evening_of,
    gathered,
    group_of,
    levelled,
    pictured,
    stems_of,
)
from arrayred.steps.solution import wavelength_texts

if TYPE_CHECKING:
    import xarray as xr

# The page of one night: `night_page`.

_MOST_OPEN = 24
"""Longest list of files that is shown open; a longer one is folded."""


class Page(NamedTuple):
    """A page, and the facts that the index shows of it."""

    content: bytes
    facts: dict[str, Any]


def night_page(finished: Finished) -> Page:
    """Return the page of a finished night, and the facts that the index shows of it.

    Parameters
    ----------
    finished : the night, from `gathered`.
    """
    account = finished.account
    targets = [shown(finished, target) for target in finished.targets]
    failed = [one for one in targets if one.state == "failed"]
    verdict = _verdict(targets)
    name = evening_of(account.frames) or "a night without a date"
    flexure = _flexure(targets)
    sections = {
        "Warnings": any(one.state != "good" for one in targets),
        "Overview": len(targets) > 1,
        "Targets": targets,
        "Wavelengths": flexure,
        "Calibration": True,
        "Frames": True,
        "Provenance": True,
    }
    content = page(
        "night.html",
        title=f"{name}: arrayred report",
        heading=f"Night of {name}" if name[:1].isdecimal() else name.capitalize(),
        verdict=verdict,
        verdict_name=verdict.capitalize(),
        tiles=_tiles(finished, targets),
        sections=[title for title, is_there in sections.items() if is_there],
        account=account,
        targets=targets,
        together=_together(targets),
        failed=failed,
        flexure=flexure,
        versions=", ".join(
            [*(f"{what} {version}" for what, version in account.versions.items()),
             f"algorithm {ALGORITHM}"]
        ),
        version=account.versions.get("arrayred", ""),
        inputs=_inputs(finished),
        products=sorted(
            {path: sha for one in finished.entries.values() for path, sha in one.products.items()}
            .items()
        ),
        most_open=_MOST_OPEN,
        **_calibrations(finished),
        **_frames(finished),
    )  # fmt: skip
    facts = {
        "night": name,
        "verdict": verdict,
        "frames": len(account.frames),
        "targets": [one.facts for one in targets],
    }
    return Page(content, facts)


def _verdict(targets: Sequence[Shown]) -> str:
    """Return the state of the night: "good", "check", or "failed" if all targets failed."""
    states = {one.state for one in targets}
    if states == {"failed"}:
        return "failed"
    return "good" if states == {"good"} else "check"


def _tiles(finished: Finished, targets: Sequence[Shown]) -> list[tuple[str, str]]:
    """Return the numbers at the top of the page, each with what it counts."""
    lines = finished.account.frames
    n_reduced = sum(one.state != "failed" for one in targets)
    n_used = sum(bool(line.use) for line in lines)
    tiles = [(str(n_reduced), f"of {counted(len(targets), 'target')} reduced")]
    if lines:
        tiles.append((str(n_used), f"of {counted(len(lines), 'frame')} used"))
        tiles.append((str(len(lines) - n_used), "frames not used"))
    known = [found.spectrum.attrs.get("snr") for one in targets for found in one.spectra]
    found = [float(snr) for snr in known if is_number(snr)]
    if found:
        ends = dict.fromkeys(number(end(found)) for end in (min, max))
        tiles.append(("–".join(ends), "S/N per pixel"))
    return tiles


def _calibrations(finished: Finished) -> dict[str, Any]:
    """Return the masters used for each target, and which targets have none."""
    served = [(target.name, master) for target in finished.targets for master in target.masters]
    without = [t.name for t in finished.targets if not t.masters and not t.error and t.n_frames]
    notes = [f"No calibration was applied to {', '.join(without)}."] if without else []
    if not served and not notes:
        notes = ["No calibration recorded."]
    return {"calibrations": served, "calibration_notes": notes}


def _together(targets: Sequence[Shown]) -> list[ChartRow]:
    """Return the figure of the targets' spectra over each other, if there are several to compare.

    More than have colours of their own could not be told apart.
    """
    spectra = {one.name: one.spectra[0].spectrum for one in targets if one.spectra}
    if not 1 < len(spectra) <= len(SERIES):
        return []
    return render.figure(compare(spectra, title="flux / median", normalised=True))


def _flexure(targets: Sequence[Shown]) -> list[ChartRow]:
    """Return the figure of the zero points and of the shifts of the lamps in time, if any."""
    found: list[Shift] = []
    moved: dict[str, Shift] = {}
    for one in (spectrum for target in targets for spectrum in target.spectra):
        facts, header = one.spectrum.attrs, header_of(one.spectrum.attrs)
        date = None if header is None else header.readable("DATE-AVG")
        for by in ("sky", "oxygen"):
            if f"zero_{by}" in facts and date:
                when = np.datetime64(str(date), "us")
                values = float(facts[f"zero_{by}"]), float(facts[f"zero_{by}_error"])
                found.append(Shift(f"zero point of {by}", when, *values))
        if one.lamps is not None:
            for name, shift in _lamp_shifts(*one.lamps).items():
                moved.setdefault(name, shift)
    sheet = shifts([*found, *moved.values()])
    return [] if sheet is None else render.figure(sheet)


def _lamp_shifts(arc: xr.Dataset, lines: xr.Dataset) -> dict[str, Shift]:
    """Return the shift of each lamp's lines from their mean over all lamps, pixels."""
    table = {
        str(name): dict(zip(own["wavelength"].values, own["x"].values, strict=True))
        for name in arc[LAMP].values
        for own in [lines.isel(line=lines["used"].values & (lines[LAMP].values == name))]
    }
    shared = sorted(set.intersection(*map(set, table.values())))
    if len(table) < 2 or not shared:
        return {}
    x = np.array([[places[wave] for wave in shared] for places in table.values()])
    middle = np.add.reduce(x, axis=0) / len(x)
    return {
        name: Shift("arc lines", when.astype("M8[us]"), float(np.median(own)), 0.0)
        for name, own, when in zip(table, x - middle, arc["time_mid"].values, strict=True)
        if not np.isnat(when)
    }


def _inputs(finished: Finished) -> list[tuple[str, str, str]]:
    """Return the name of each input, the products it was used for, and its SHA-256."""
    used: dict[str, list[str]] = defaultdict(list)
    for name, entry in finished.entries.items():
        for path in entry.inputs:
            used[path].append(name.rpartition("/")[2])
    labels = {line.path: line.label for line in finished.account.frames}
    sums = finished.inputs
    names = {path: labels.get(path) or PurePath(path).name for path in used}
    return [
        (names[path], _few(used[path]), sums[path]) for path in sorted(used, key=names.__getitem__)
    ]


def _few(names: Sequence[str]) -> str:
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(names[:3]) + more


# The section of the frames.


class FrameRow(NamedTuple):
    """A line of the table of frames: one frame, or frames of one type and use.

    Parameters
    ----------
    names, object : of the frames; OBJECT, of a single frame.
    kind, exptime : their type and exposure time, s.
    times, temperatures, levels : the first and the last start, UTC; the range of the temperatures
        of the detector, deg C, and of their median counts, adu.
    use, reason : what they were used for, or why they were not.
    remarks : on their pixels and headers.
    picture, pictured : a thumbnail, PNG, or None; the frame it shows.
    """

    names: str
    object: str
    kind: str
    exptime: float | None
    times: str
    temperatures: str
    levels: str
    use: str
    reason: str
    remarks: Sequence[str]
    picture: bytes | None
    pictured: str


_MOST_REMARKS = 5


def _frames(finished: Finished) -> dict[str, Any]:
    """Return the lines of the frames, notes on them, and the drift of the detector."""
    account = finished.account
    if not account.frames:
        note = "The run recorded no frames. Reduce the night again to list them."
        nothing: dict[str, Any] = {"frames": [], "drift": [], "foreign": []}
        return nothing | {"frame_notes": [note], "frames_caption": "", "frame_heads": []}
    lines, shared = _without_shared(account.frames)
    small, levels = _thumbnails(finished), _levels(finished)
    lines.sort(key=lambda line: not line.use)
    groups: dict[object, list[FrameLine]] = defaultdict(list)
    is_short = len(lines) <= MOST_ROWS
    for line in lines:
        groups[line.label if is_short else group_of(line)].append(line)
    drift = detector(account.frames, levels)
    many = "" if is_short else "s"
    notes = [*_notes(finished, small), *(f"{labels}: {remark}." for remark, labels in shared)]
    return {
        "frames": [_frame_row(group, small, levels) for group in groups.values()],
        "frame_notes": notes,
        "frames_caption": "Each frame" if is_short
        else f"{len(lines)} frames, one row per kind",
        "frame_heads": ("", f"frame{many}", "type", "#exposure", "start, UTC", "#°C",
                        "#median, ADU", "used for"),
        "foreign": _foreign(account.left_out),
        "drift": [] if drift is None else render.figure(drift),
    }  # fmt: skip


def _without_shared(lines: Sequence[FrameLine]) -> tuple[list[FrameLine], list[tuple[str, str]]]:
    """Return frames without the remarks that more than three share, and those with the frames."""
    whose: dict[str, list[str]] = defaultdict(list)
    for line in lines:
        for remark in line.remarks:
            whose[remark].append(line.label)
    shared = {remark: list_of_names(labels) for remark, labels in whose.items() if len(labels) > 3}
    own = [
        dataclasses.replace(line, remarks=tuple(r for r in line.remarks if r not in shared))
        for line in lines
    ]
    return own, list(shared.items())


def _thumbnails(finished: Finished) -> dict[str, bytes]:
    """Return thumbnails of the frames that have one, by label."""
    found: dict[str, bytes] = {}
    labels = [line.label for line in pictured(finished.account.frames)]
    for frame in frames_to_probe(
        [finished.frames[name] for name in labels if name in finished.frames]
    ):
        with suppress(FrameError):  # a frame that cannot be read has no thumbnail
            pixels = FrameStack([plain_pixels(frame.image)])[0, :, :]
            found[frame.label] = render.thumbnail(pixels)
    return found


def _levels(finished: Finished) -> dict[str, float]:
    """Return the median count of a few rows of each frame, adu, by label."""
    levels = {}
    for line in levelled(finished.account.frames):
        frame = finished.frames.get(line.label)
        sample = None if frame is None else sample_frame(frame)
        if sample is not None:
            levels[line.label] = sample.level
    return levels


def _notes(finished: Finished, small: Mapping[str, bytes]) -> list[str]:
    """Return notes on thumbnails and levels that are missing, with the reason."""
    lines = finished.account.frames
    chosen = pictured(lines)
    notes = []
    for state, reason in (("gone", "were moved or deleted"), ("changed", "have changed")):
        labels = [line.label for line in chosen if finished.raw.get(line.path) == state]
        if labels:
            notes.append(f"No thumbnail because the files {reason}: {list_of_names(labels)}.")
    if len(chosen) < len(lines):
        notes.append(
            f"Thumbnails are of {len(small)} of {len(lines)} frames, the first of each kind."
        )
    if len(lines) > MOST_ROWS:
        n = len(levelled(lines))
        notes.append(f"Median counts are of {counted(n, 'bias or dark', 'biases and darks')}.")
    return notes


def _frame_row(
    lines: Sequence[FrameLine], small: Mapping[str, bytes], levels: Mapping[str, float]
) -> FrameRow:
    """Return the line of a frame, or of frames of one type and use."""
    first = lines[0]
    seen = next((line for line in lines if line.label in small), first)
    times = sorted(line.time[:19].replace("T", " ") for line in lines if line.time)
    remarks = list(dict.fromkeys(remark for line in lines for remark in line.remarks))
    n_more = len(remarks) - _MOST_REMARKS
    if n_more > 0 and len(lines) > 1:
        remarks[_MOST_REMARKS:] = [f"and {n_more} more remarks"]
    return FrameRow(
        names=list_of_names([line.label for line in lines]),
        object=first.shows if len(lines) == 1 else "",
        kind=first.kind,
        exptime=first.exptime,
        times=" to ".join(dict.fromkeys((times[0], times[-1]))) if times else "",
        temperatures=_range([line.temperature for line in lines], 1),
        levels=_range([levels.get(line.label) for line in lines], 0),
        use=first.use,
        reason=first.out,
        remarks=remarks,
        picture=small.get(seen.label),
        pictured=seen.label,
    )


def _range(values: Sequence[float | None], decimals: int) -> str:
    """Return the lowest and the highest of the known values, or the only one."""
    known = [value for value in values if value is not None]
    ends = dict.fromkeys(number(end(known), decimals) for end in (min, max)) if known else {}
    return " to ".join(ends)


def _foreign(left_out: Sequence[tuple[str, str]]) -> list[str]:
    """Return the files that are not frames of the night, by reason."""
    named = names_by_text((name.rpartition("/")[2], reason) for name, reason in left_out)
    return [f"{files}: {reason}" for reason, files in named.items()]


# The section of one target: image, rows, spectrum and numbers: `Shown`.


@dataclass(frozen=True)
class Found:
    """One spectrum of a target, read back.

    Parameters
    ----------
    stem : first part of the names of its files.
    spectrum : flux (x).
    target : its target's line in the account.
    figure : of the image it was extracted from, its rows and the spectrum.
    n_rejected : pixels of that image from which a frame was rejected, if known.
    lamps : its lamps (lamp, x) and their lines (line), if they gave wavelengths.
    """

    stem: str
    spectrum: xr.Dataset
    target: TargetLine
    figure: list[ChartRow]
    n_rejected: int | None
    lamps: tuple[xr.Dataset, xr.Dataset] | None = None

    @property
    def n_saturated(self) -> int:
        """Number of columns with a saturated pixel."""
        return self._n_flagged(SATURATED)

    @cached_property
    def lamp_figure(self) -> list[ChartRow]:
        """The figure of its lamps and their lines; empty without wavelengths of a lamp."""
        if self.lamps is None:
            return []
        with suppress(UsageError):  # lines of a user that are all alike
            return render.figure(arc(*self.lamps, title=self.stem))
        return []

    @property
    def history(self) -> list[str]:
        """Its processing steps."""
        return [str(line) for line in self.spectrum.attrs.get("history", ())]

    @property
    def facts(self) -> list[tuple[str, str]]:
        """The names and values of its numbers that are known."""
        facts = self.spectrum.attrs
        rows = f"{facts.get('first_row')}:{facts.get('last_row')}"
        sides = [facts[name] for name in ("sky_below", "sky_above") if name in facts]
        enclosed = facts.get("enclosed_fraction")
        pairs = [
            ("S/N per pixel", self._snr()),
            ("Flux in aperture", f"{enclosed:.1%}".replace("%", " %") if is_number(enclosed)
             else UNKNOWN),
            ("Rows", f"{rows} ({facts.get('rule', 'threshold')})"),
            ("Aperture", self._aperture()),
            ("Spatial FWHM", number(facts.get("fwhm"), 1, "rows")),
            ("Trace tilt", number(facts["tilt"], 1, "rows") if "tilt" in facts else ""),
            ("Extraction", str(facts.get("extraction", "sum"))),
            ("Sky rows", " and ".join(f"{first}:{last}" for first, last in sides)),
            ("Sky noise, measured / predicted", _if_known(facts.get("sky_scatter"), 2)),
            ("Cosmic rays", self._cosmic_rays()),
            ("Saturated", counted(self.n_saturated, "column") if DQ in self.spectrum else ""),
            ("Effective gain", self._gain()),
            ("Wavelengths", self._wavelengths()),
            *((master.kind.capitalize(), _master(master)) for master in self.target.masters),
        ]  # fmt: skip
        return [(name, value) for name, value in pairs if value]

    def _n_flagged(self, bits: int) -> int:
        """Return the number of columns with any of the flags."""
        has_flags = DQ in self.spectrum
        return int(np.count_nonzero(self.spectrum[DQ].values & bits)) if has_flags else 0

    def _snr(self) -> str:
        """Return the S/N, and the noise that it lacks."""
        facts = self.spectrum.attrs
        note = f" ({facts['snr_note']})" if "snr_note" in facts else ""
        return f"{number(facts.get('snr'))}{note}"

    def _aperture(self) -> str:
        """Return the edges of the aperture in the middle column, "" if they are not known."""
        middle, half = (self.spectrum.attrs.get(name) for name in ("center_middle", "half_height"))
        if not is_number(middle) or not is_number(half):
            return ""
        return f"{middle - half:.1f} to {middle + half:.1f}"

    def _cosmic_rays(self) -> str:
        if DQ not in self.spectrum:
            return ""
        text = counted(self._n_flagged(COSMIC_RAY | REPAIRED), "column")
        if self.n_rejected is not None:
            text += f"; {counted(self.n_rejected, 'pixel')} of the image"
        return text

    def _wavelengths(self) -> str:
        """Return the range of the lamp's lines, the error of the solution, and the zero points."""
        return "; ".join(wavelength_texts(self.spectrum.attrs)).replace("Angstrom", "Å")

    def _gain(self) -> str:
        """Return the effective gain of a spectrum in adu; else ""."""
        in_adu = self.spectrum["flux"].attrs.get("units", "adu") == "adu"
        gain = self.spectrum.attrs.get("gain_effective")
        return _if_known(gain, 2, "electrons/ADU") if in_adu else ""


def _if_known(value: Any, decimals: int, unit: str = "") -> str:
    return number(value, decimals, unit) if is_number(value) else ""


def _master(master: Served) -> str:
    age = "" if master.age is None else f", {number(master.age, 1, 'd')} apart"
    warmer = "" if master.warmer is None else f", {difference(master.warmer)} °C"
    return f"{counted(master.n_frames, 'frame')}{age}{warmer}"


class Search(NamedTuple):
    """The figure of an image in which no spectrum was found."""

    title: str
    rows: list[ChartRow]


@dataclass(frozen=True)
class Shown:
    """One target, its products read back; pixels are drawn at once, since pages hold it for long.

    Parameters
    ----------
    line : its line in the account.
    image : attributes and coordinates of the combined image, or None.
    spectra : its spectra.
    damage : why a product could not be read, or "".
    search : the figure of its image if no spectrum was found.
    files : of its products, relative to the page.
    """

    line: TargetLine
    image: xr.Dataset | None = None
    spectra: tuple[Found, ...] = ()
    damage: str = ""
    search: Search | None = None
    files: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """Its name."""
        return self.line.name

    @property
    def id(self) -> str:
        """Id of its section, used in links."""
        return f"target-{self.name}"

    @property
    def folder(self) -> str:
        """Folder of its products, relative to the page."""
        return f"targets/{self.name}"

    @property
    def state(self) -> str:
        """State of the target: "failed", "check" or "good"."""
        if self.line.error or self.damage or not self.spectra:
            return "failed"
        return "check" if self.checks else "good"

    @property
    def failure(self) -> str:
        """Why it failed."""
        return self.line.error or self.damage or "No product recorded."

    @property
    def checks(self) -> list[str]:
        """What is to be checked of the target and its spectra, without duplicates."""
        return [without_level(remark) for remark in self._remarks if is_check(remark)]

    @property
    def notes(self) -> list[str]:
        """The other remarks on the target and its spectra, without duplicates."""
        return [remark for remark in self._remarks if not is_check(remark)]

    @property
    def _remarks(self) -> list[str]:
        own = [line for one in self.spectra for line in one.spectrum.attrs.get("remarks", ())]
        return list(dict.fromkeys((*self.line.remarks, *map(str, own))))

    @property
    def settings(self) -> str:
        """The settings of its recipe that are not the default ones."""
        return "; ".join(f"{name} = {setting(v)}" for name, v in self.line.settings.items())

    @property
    def object(self) -> str:
        """OBJECT of the image's header, where it differs from the target's name."""
        header = None if self.image is None else header_of(self.image.attrs)
        name = "" if header is None else str(header.get("OBJECT") or "").strip()
        return name if slug(name) != self.name else ""

    @property
    def summary(self) -> str:
        """The number of its frames, their exposure time and start, and the combination method."""
        line, coords = self.line, {} if self.image is None else self.image.coords
        frames = [counted(line.n_frames, "frame")] if line.n_frames else []
        frames += [f"of {seconds(line.exptime)}"] if line.exptime is not None else []
        made = [f"from {_moment(coords['time'].values)} UTC"] if "time" in coords else []
        if line.n_frames > 1 and "method" in coords:
            made.append(f"combined by {coords['method'].item()}")
        return " · ".join(filter(None, (" ".join(frames), ", ".join(made))))

    @property
    def snr(self) -> float | None:
        """S/N per pixel of its first spectrum, if that is known."""
        snr = self.spectra[0].spectrum.attrs.get("snr") if self.spectra else None
        return float(snr) if is_number(snr) else None

    @property
    def quality(self) -> str:
        """Its S/N in words, or that it failed."""
        if self.snr is not None:
            return f"S/N {number(self.snr)}"
        return "failed" if self.state == "failed" else ""

    @cached_property
    def spark(self) -> str:
        """The sparkline of its first spectrum, "" where there is none."""
        return render.spark(self.spectra[0].spectrum["flux"].values) if self.spectra else ""

    @property
    def facts(self) -> dict[str, Any]:
        """The facts that the index shows of it."""
        facts = self.spectra[0].spectrum.attrs if self.spectra else {}
        rows = [int(facts[name]) for name in ("first_row", "last_row") if name in facts]
        return {
            "name": self.name,
            "state": self.state,
            "error": self.line.error or self.damage,
            "checks": self.checks,
            "snr": self.snr,
            "rows": rows,
            "rule": str(facts.get("rule", "")),
            "saturated": sum(found.n_saturated for found in self.spectra),
            "frames": self.line.n_frames,
            "exptime": self.line.exptime,
            "spark": self.spark,
        }


def _moment(value: Any) -> str:
    return UNKNOWN if np.isnat(value) else str(value.astype("datetime64[s]")).replace("T", " ")


def spectra_of(finished: Finished, target: TargetLine) -> dict[str, xr.Dataset]:
    """Return the spectra of a finished target by the first part of the names of their files."""
    entry = None if target.error else finished.entry_of(target)
    folder = finished.out / "targets" / target.name
    stems = () if entry is None else stems_of(entry.products)
    return {stem: open_product(folder / f"{stem}_spectrum.fits") for stem in stems}


def shown(finished: Finished, target: TargetLine) -> Shown:
    """Return a target with its products read back."""
    place = finished.out / "targets" / target.name / f"{target.name}_combined.fits"
    entry = None if target.error else finished.entry_of(target)
    files = () if entry is None else tuple(sorted(entry.products))
    image = None
    try:
        image = transpose_to_x(open_product(place))
        if entry is None:  # of a target without spectrum the image may be there
            return _without_spectrum(target, image)
        spectra = spectra_of(finished, target)
        lamps = [
            (read_arc(place.with_name(f"{stem}_arc.ecsv")), read_lines(lines))
            if any(one.endswith(f"/{lines.name}") for one in entry.products)
            else None
            for stem in spectra
            for lines in [place.with_name(f"{stem}_{LINES}")]
        ]
    except ArrayredError as error:
        if entry is None:
            return Shown(target)
        return _without_spectrum(target, image, str(error), files)
    n_rejected = int(np.count_nonzero(image[N_REJECTED])) if N_REJECTED in image else None
    found = []
    for (stem, spectrum), own in zip(spectra.items(), lamps, strict=True):
        name = stem if len(spectra) > 1 else target.name
        figure = render.figure(quick_look(image, spectrum, name))
        found.append(Found(stem, spectrum, target, figure, n_rejected, own))
    if not found:
        return _without_spectrum(target, image, files=files)
    return Shown(target, image.drop_vars(image.data_vars), tuple(found), files=files)


def _without_spectrum(
    target: TargetLine, image: xr.Dataset | None, damage: str = "", files: tuple[str, ...] = ()
) -> Shown:
    """Return a target whose image alone can be shown, if it can be read."""
    if image is None:
        return Shown(target, damage=damage, files=files)
    sheet = search_look(image, target.name, threshold=target.threshold)
    figure = Search(sheet.title, render.figure(sheet))
    image = image.drop_vars(image.data_vars)
    return Shown(target, image, damage=damage, search=figure, files=files)


# The index of many nights: `index_page`, a line for each target, failed ones first.
#
# The results of the last run are read from ``summary.ecsv``; what the page of a night shows, from
# the ledger of its folder. Nights of earlier runs are shown as long as their pages exist.

_RANK = {"failed": 0, "interrupted": 0, "check": 1, "good": 2}
_COLUMNS = (
    ("state", "text"), ("night", "text"), ("target", "text"), ("spectrum", ""),
    ("S/N", "number"), ("rows", "number"), ("frames", "number"), ("exposure", "number"),
    ("saturated", "number"), ("checks", "number"), ("to check", "text"),
)  # fmt: skip
"""The columns of the index, and how each is sorted."""


@dataclass(frozen=True)
class Row:
    """One line of the index.

    Parameters
    ----------
    label : the night's folder.
    target : its name, or "" where the night failed as a whole.
    state : failed, interrupted, check, good.
    remark : reason of the failure, or what is to be checked.
    has_page : whether the night has a page.
    facts : values of the target on the night's page.
    """

    label: str
    target: str
    state: str
    remark: str
    has_page: bool
    facts: Mapping[str, Any]

    @property
    def order(self) -> tuple[int, str, str]:
        """Sort key: failed targets first, then nights by name."""
        return _RANK.get(self.state, 1), self.label, self.target

    @property
    def spark(self) -> str:
        """The sparkline of its spectrum, or ""."""
        return str(self.facts.get("spark", ""))

    @property
    def snr(self) -> str:
        """S/N per pixel."""
        return _if_known(self.facts.get("snr"), 0)

    @property
    def rows(self) -> str:
        """Rows of its spectrum."""
        rows = self.facts.get("rows")
        return f"{rows[0]}:{rows[1]}" if rows else ""

    @property
    def n_frames(self) -> str:
        """Number of its light frames, if the target was reduced."""
        return str(self.facts["frames"]) if self._has_frames else ""

    @property
    def exposure(self) -> str:
        """Their exposure time, if the target was reduced."""
        return seconds(self.facts["exptime"]) if self._has_frames else ""

    @property
    def saturated(self) -> str:
        """Number of saturated columns, if there are any."""
        return str(self.facts.get("saturated") or "")

    @property
    def n_checks(self) -> str:
        """Number of remarks to be checked, if there are any."""
        return str(len(self.facts.get("checks", ())) or "")

    @property
    def _has_frames(self) -> bool:
        return bool(_RANK.get(self.state, 1)) and is_number(self.facts.get("exptime"))


def index_page(out: Path) -> bytes:
    """Return the index page of the nights in a folder.

    Parameters
    ----------
    out : the folder of the nights' output folders.

    Raises
    ------
    UsageError
        There is no night.
    """
    rows = sorted(_rows(out), key=lambda row: row.order)
    if not rows:
        raise UsageError(
            "No reduced night found here", path=out, hint="Name an output folder of arrayred."
        )
    counts = Counter(row.state for row in rows if row.target)
    tiles = [
        (str(n), f"{'target' if n == 1 else 'targets'} {'to check' if state == 'check' else state}")
        for state, n in sorted(counts.items(), key=lambda count: _RANK[count[0]])
    ]
    n_failed = len({row.label for row in rows if not row.target})
    if n_failed:
        whole = "night without any target" if n_failed == 1 else "nights without any target"
        tiles.append((str(n_failed), whole))
    return page(
        "index.html",
        script="index.js",
        title="arrayred: nights",
        n_nights=len({row.label for row in rows}),
        tiles=tiles,
        columns=_COLUMNS,
        rows=rows,
        page_name=PAGE,
    )


def _rows(out: Path) -> Iterator[Row]:
    """Yield the lines of all nights in the summary of the last run, and of all that have a page."""
    summary = _summary(out / SUMMARY)
    pages = dict(_pages(out))
    for label in sorted({*summary, *pages}):
        facts = pages.get(label)
        for line in summary.get(label, ()):
            if facts is None or not line["target"]:
                yield _of_summary(label, line, facts)
        if facts is not None:
            yield from _of_page(label, facts)


def _of_summary(label: str, line: Mapping[str, str], facts: Mapping[str, Any] | None) -> Row:
    state = line["status"] if line["status"] in ("failed", "interrupted") else "good"
    rows = [line["first_row"], line["last_row"]]
    snr = float(line["snr"]) if line["snr"] else None
    facts_of_run = {"snr": snr, "rows": rows if all(rows) else []}
    has_page = facts is not None
    return Row(label, line["target"], state, line["reason"], has_page, facts_of_run)


def _of_page(label: str, facts: Mapping[str, Any]) -> Iterator[Row]:
    for target in facts["targets"]:
        remark = target["error"] or "; ".join(target["checks"])
        yield Row(label, target["name"], target["state"], remark, True, target)


def _summary(path: Path) -> dict[str, list[dict[str, str]]]:
    """Return the lines of the last run's summary by night; empty where there is no summary."""
    found: dict[str, list[dict[str, str]]] = defaultdict(list)
    try:
        text = path.read_text("utf-8")
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"The summary cannot be read ({error})", path=path) from error
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    for row in csv.DictReader(lines):
        found[row["night"]].append(row)
    return found


def _pages(out: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the folder and the facts of each night that has a page."""
    for folder in sorted(path for path in out.iterdir() if path.is_dir()):
        with suppress(OSError, KeyError, TypeError, UsageError):
            entry = Ledger(folder).read(PAGE_ENTRY) if (folder / PAGE).is_file() else None
            if entry is not None and isinstance(entry.facts["targets"], list):
                yield folder.name, dict(entry.facts)


# Pages written to output folders: `write_report`, `write_index`.
#
# A page is a product: it appears whole or not at all, the ledger holds its sha256, and a page that
# exists for the same night and the same version of the pages is not made again.


def write_report(out: Path, *, overwrite: bool = False, verify: bool = False) -> Path:
    """Write the page of a finished night, unless it is up to date.

    Parameters
    ----------
    out : the output folder.
    overwrite : replace a file of the page's name that is not ours, and make the page in any case.
    verify : hash the existing page and raw frames even if size and time are unchanged.

    Returns
    -------
    path : of the page.

    Raises
    ------
    UsageError
        No reduction was finished there, or a file not written by arrayred has the page's name.
    StorageError
        It cannot be written.
    """
    ledger = Ledger(out, verify=verify)
    finished = gathered(out, ledger)
    entry = ledger.read(PAGE_ENTRY)
    if overwrite or entry is None or entry.key != finished.key or ledger.damaged(entry):
        _write(finished, ledger, may_replace=overwrite or entry is not None)
    ledger.save()
    return out / PAGE


def _write(finished: Finished, ledger: Ledger, *, may_replace: bool) -> None:
    made = night_page(finished)
    entry = Entry(PAGE_ENTRY, finished.key, facts=made.facts)
    publish_page(ledger, PAGE, made.content, entry, may_replace)


def publish_page(
    ledger: Ledger, name: str, content: bytes, entry: Entry, may_replace: bool
) -> None:
    """Publish a page, then its entry."""
    files: dict[Path, Any] = {ledger.out / name: content}
    publish(files, overwrite=may_replace)
    whole = Entry(entry.name, entry.key, {}, products_of(ledger.out, files), entry.facts)
    ledger.finish(whole)


def write_index(out: Path, *, overwrite: bool = False) -> Path:
    """Write the index of the nights in a folder.

    Parameters
    ----------
    out : the folder of the nights' output folders.
    overwrite : replace a file of the index's name that is not ours.

    Returns
    -------
    path : of the index.

    Raises
    ------
    UsageError
        There is no night, or a file not written by arrayred has the index's name.
    StorageError
        It cannot be written.
    """
    ledger = Ledger(out)
    may_replace = overwrite or ledger.read(INDEX_ENTRY) is not None
    publish_page(ledger, INDEX, index_page(out), Entry(INDEX_ENTRY, ""), may_replace)
    return out / INDEX


def is_night(out: Path) -> bool:
    """Return whether a folder is the output folder of a night, even one that failed entirely."""
    ledger = Ledger(out)
    return bool(ledger.account) or ledger.is_damaged or holds_single_night(out)


def nights_in(out: Path) -> list[Path]:
    """Return the output folders of nights that lie in a folder, sorted."""
    return sorted(path for path in out.iterdir() if path.is_dir() and is_night(path))
