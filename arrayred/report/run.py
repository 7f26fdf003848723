"""Collect the content of a report: the account of a run, the ledger and the products.

Products record what they were made of, but not which frames were not used and why, which targets
failed, and which settings were requested. An account holds that as JSON: without the time of the
run, so that the same night gives the same bytes, and of the headers only the values named here, so
that no licence and no owner's name gets into it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from arrayred._version import __version__
from arrayred.config import Instrument, Recipe
from arrayred.errors import ArrayredError, NoSpectrumError, UsageError
from arrayred.io.frames import Frame, read_frames
from arrayred.io.ledger import MANIFEST, PAGE, PAGE_ENTRY, Entry, Ledger
from arrayred.io.publish import STATE_FOLDER, remove
from arrayred.night import Flat, Group, Night, Plan, Target, problems_of
from arrayred.night.match import age_in_days, warmer
from arrayred.report import VERSION


@dataclass(frozen=True)
class FrameLine:
    """One frame of the night.

    Parameters
    ----------
    label : its name.
    path : of its file, absolute.
    kind : bias, dark, flat, arc, light, or the type as in its header where that is unknown.
    exptime : s, or None.
    time : start of the exposure, UTC, ISO 8601, or "".
    evening : the night it belongs to, or "".
    temperature : of the detector, deg C, or None.
    shows : OBJECT.
    shape : n_rows, n_columns.
    use : the target or master it was used for, or "".
    out : why it was not used, or "".
    remarks : decisions about its pixels, and warnings.
    wrapped : whether its unsigned integers were stored as signed.
    """

    label: str
    path: str
    kind: str
    exptime: float | None
    time: str
    evening: str
    temperature: float | None
    shows: str
    shape: tuple[int, int]
    use: str = ""
    out: str = ""
    remarks: tuple[str, ...] = ()
    wrapped: bool = False


@dataclass(frozen=True)
class Served:
    """A master that was used for a target.

    Parameters
    ----------
    kind, title, file : bias, dark or flat; its name; the file of its image.
    n_frames : number of frames it is made of.
    age : days between it and the light frames, or None.
    warmer : deg C by which it was warmer than the light frames, or None.
    """

    kind: str
    title: str
    file: str
    n_frames: int
    age: float | None
    warmer: float | None


@dataclass(frozen=True)
class TargetLine:
    """One target of the night.

    Parameters
    ----------
    name : of the target.
    n_frames, exptime : number of its light frames, and their exposure time, s.
    masters : those used for it.
    remarks : remarks of the plan.
    error : why it failed, or "".
    threshold : detection threshold that no row mean exceeded, if it failed for that; else None.
    settings : those of its recipe that are not the default ones.
    """

    name: str
    n_frames: int = 0
    exptime: float | None = None
    masters: tuple[Served, ...] = ()
    remarks: tuple[str, ...] = ()
    error: str = ""
    threshold: float | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Account:
    """Account of a run: frames, targets and settings of its night.

    Parameters
    ----------
    frames : all that were read.
    targets : all that were to be reduced, failed ones included.
    left_out : files that are not frames of the night, each with the reason.
    command : command that repeats the reduction.
    settings : those of the recipe that are not the default ones.
    versions : of the programs, by name.
    """

    frames: tuple[FrameLine, ...]
    targets: tuple[TargetLine, ...]
    left_out: tuple[tuple[str, str], ...] = ()
    command: str = ""
    settings: Mapping[str, Any] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)


def read_account(ledger: Ledger) -> Account | None:
    """Return the account of the last run of a folder; None if there is none.

    Raises
    ------
    UsageError
        It is damaged.
    """
    try:
        if ledger.is_damaged:
            raise ValueError("the manifest is damaged")
        return _account(ledger.account) if ledger.account else None
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UsageError(
            "The record of the night is invalid",
            path=ledger.out / STATE_FOLDER / MANIFEST,
            hint="Reduce the night again to renew it.",
        ) from error


def _account(whole: Mapping[str, Any]) -> Account:
    told = dict(whole)
    frames = (FrameLine(**_tupled(line, "shape", "remarks")) for line in told.pop("frames"))
    targets = (_target_line(line) for line in told.pop("targets"))
    left_out = tuple((str(who), str(why)) for who, why in told.pop("left_out"))
    return Account(
        **told,
        frames=tuple(frames),
        targets=tuple(targets),
        left_out=left_out,
    )


def _target_line(line: Mapping[str, Any]) -> TargetLine:
    masters = tuple(Served(**master) for master in line["masters"])
    name = line["name"]
    if "/" in name or name.startswith(".") or not (name.isascii() and name.isprintable()):
        raise ValueError(name)  # it is the name of a folder
    return TargetLine(**{**_tupled(line, "remarks"), "masters": masters})


def _tupled(line: Mapping[str, Any], *names: str) -> dict[str, Any]:
    """Return a mapping with the lists of some names as tuples, which JSON does not have."""
    return {**line, **{name: tuple(line[name]) for name in names}}


def evening_of(lines: Iterable[FrameLine]) -> str:
    """Return the night of the light frames used, else of all frames; first and last of several.

    Examples
    --------
    >>> evening_of([])
    ''
    """
    there = list(lines)
    lights = [line for line in there if line.kind == "light" and line.use]
    evenings = sorted({line.evening for line in lights or there if line.evening})
    return " to ".join(dict.fromkeys((evenings[0], evenings[-1]))) if evenings else ""


def account_of(
    night: Night,
    plan: Plan,
    recipe: Recipe,
    errors: Mapping[str, ArrayredError],
    command: str = "",
) -> Account:
    """Return the account of a run.

    Parameters
    ----------
    night, plan, recipe : the night, its plan and the settings.
    errors : the errors of failed targets, by target name.
    command : command that repeats the reduction.
    """
    uses, out = _uses(plan), dict(plan.left_out)
    frames = night.scanned or night.frames
    labels = {frame.label for frame in frames}
    planned = {target.name: _target(target, errors) for target in plan.targets}
    failed = [TargetLine(name, error=str(error)) for name, error in plan.failed]
    return Account(
        frames=tuple(_frame(frame, uses, out) for frame in frames),
        targets=(*failed, *planned.values()),
        left_out=tuple((who, why) for who, why in plan.left_out if who not in labels),
        command=command,
        settings=recipe.changed(),
        versions={"arrayred": __version__, "numpy": np.__version__},
    )


def _uses(plan: Plan) -> dict[str, str]:
    """Return the target or master that each frame is used for, by label."""
    masters: list[Group | Flat] = [*plan.masters_to_make, *plan.flats.values()]
    uses = {
        frame.label: f"master {_title(master)}"
        for master in reversed(masters)
        for frame in master.inputs
    }
    for flat in plan.flats.values():
        uses |= {frame.label: f"master {flat.frames.title}" for frame in flat.frames.frames}
    for target in plan.targets:
        uses |= {lamp.name: f"lamps of {target.name}" for lamp in target.lamps}
    for target in plan.targets:
        uses |= {frame.label: target.name for frame in target.lights.frames}
    return uses


def _title(master: Group | Flat) -> str:
    return master.frames.title if isinstance(master, Flat) else master.title


def _frame(frame: Frame, uses: Mapping[str, str], out: Mapping[str, str]) -> FrameLine:
    use = uses.get(frame.label, "")
    wrong = [str(problem.args[0]) for problem in problems_of(frame)]
    reason = "" if use else out.get(frame.label) or out.get(frame.path.name) or "; ".join(wrong)
    decided = (verdict.text for verdict in frame.verdicts)
    return FrameLine(
        label=frame.label,
        path=str(frame.path.absolute()),
        kind=frame.frame_type or frame.type_found or "unknown",
        exptime=frame.exptime,
        time="" if frame.time is None else frame.time.replace(tzinfo=None).isoformat(),
        evening=frame.night,
        temperature=frame.ccd_temp,
        shows=frame.target,
        shape=frame.shape,
        use=use,
        out=reason if use or reason else "not needed",
        remarks=tuple(dict.fromkeys((*decided, *frame.warnings))),
        wrapped=frame.image.source.pixels.wrapped,
    )


def _target(target: Target, errors: Mapping[str, ArrayredError]) -> TargetLine:
    error = errors.get(target.name)
    masters: list[Group | Flat] = [target.master] if target.master else []
    masters += [target.flat] if target.flat else []
    return TargetLine(
        name=target.name,
        n_frames=len(target.lights.frames),
        exptime=target.lights.frames[0].exptime,
        masters=tuple(_served(target.lights, master) for master in masters),
        remarks=target.remarks,
        error="" if error is None else str(error),
        threshold=_threshold(error),
        settings=target.recipe.changed(),
    )


def _threshold(error: ArrayredError | None) -> float | None:
    """Return the detection threshold, if no row mean exceeded it."""
    found = error.value if isinstance(error, NoSpectrumError) else None
    return found if isinstance(found, float) and np.isfinite(found) else None


def _served(lights: Group, master: Group | Flat) -> Served:
    frames = master.frames if isinstance(master, Flat) else master
    return Served(
        kind=frames.kind,
        title=frames.title,
        file=master.master_name,
        n_frames=len(frames.frames),
        age=age_in_days(lights, frames),
        warmer=warmer(lights, frames),
    )


def forget_report(out: Path) -> None:
    """Remove the page of a night whose products were remade without a report."""
    ledger = Ledger(out)
    if ledger.read(PAGE_ENTRY) is not None:
        remove(out / PAGE)
        ledger.forget(PAGE_ENTRY)


# A finished night, read from its output folder: `Finished`, `gathered`.
#
# Only the output folder is read: its account, its ledger, its products; and the raw frames, if
# they are still in their place. So the page that a reduction writes and one made a year later are
# the same as long as the raw frames exist; if they do not, the later page says so.

MOST_ROWS = 300
"""Maximum number of frames listed one by one; more are listed by groups."""
MOST_PICTURES = 32
_MOST_LEVELS = 200


@dataclass(frozen=True)
class Finished:
    """A finished night.

    Parameters
    ----------
    out : its output folder.
    account : the account of its run.
    entries : of its masters and targets in the ledger, by name.
    raw : state of the raw frames that are read again, by path: "there", "gone", "changed".
    """

    out: Path
    account: Account
    entries: Mapping[str, Entry]
    raw: Mapping[str, str]

    @cached_property
    def targets(self) -> tuple[TargetLine, ...]:
        """All targets: failed ones first, then in the order of the plan, then of earlier runs."""
        told = {target.name: target for target in self.account.targets}
        names = [name.removeprefix("targets/") for name in self.entries if "targets/" in name]
        earlier = [TargetLine(name) for name in names if name not in told]
        every = (*told.values(), *earlier)
        return (*(t for t in every if t.error), *(t for t in every if not t.error))

    @cached_property
    def inputs(self) -> dict[str, str]:
        """The sha256 of every input, by path."""
        return {path: sha for entry in self.entries.values() for path, sha in entry.inputs.items()}

    @cached_property
    def frames(self) -> dict[str, Frame]:
        """The raw frames that can be read again, by label, their counts read as the run did."""
        lines = {path: line for path, line in _looked_at(self.account.frames).items()
                 if self.raw.get(path) == "there"}  # fmt: skip
        if not lines:
            return {}
        found, _ = read_frames([Path(path) for path in lines], Instrument.load("generic"))
        return {
            lines[str(frame.path)].label: _as_understood(frame, lines[str(frame.path)])
            for frame in found
        }

    def entry_of(self, target: TargetLine) -> Entry | None:
        """Return the ledger entry of a target; None if it failed."""
        return self.entries.get(f"targets/{target.name}")

    @cached_property
    def key(self) -> str:
        """Hash of everything that the page depends on: if it is the same, so is the page."""
        told = {
            "version": VERSION,
            "account": hashlib.sha256(repr(self.account).encode("utf-8", "replace")).hexdigest(),
            "entries": {n: [e.key, dict(e.products)] for n, e in self.entries.items()},
            "raw": dict(self.raw),
        }
        text = json.dumps(told, sort_keys=True)
        return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def nothing_finished_error(place: Path) -> UsageError:
    """Return the error of a folder that is no output folder."""
    hint = "Name an output folder of `arrayred reduce`."
    return UsageError("No finished products found here", path=place, hint=hint)


def gathered(out: Path, ledger: Ledger) -> Finished:
    """Return the finished night of an output folder.

    Parameters
    ----------
    out, ledger : the folder, and its ledger.

    Raises
    ------
    UsageError
        No reduction was finished there, or its account is unreadable.
    """
    entries = {entry.name: entry for entry in ledger.entries() if entry.name != PAGE_ENTRY}
    account = read_account(ledger)
    if account is None and not entries:
        raise nothing_finished_error(out)
    account = account or Account((), ())
    inputs = {path: sha for entry in entries.values() for path, sha in entry.inputs.items()}
    raw = {path: _state(path, inputs, ledger) for path in _looked_at(account.frames)}
    return Finished(out, account, entries, raw)


def _looked_at(lines: Sequence[FrameLine]) -> dict[str, FrameLine]:
    """Return the frames that have a thumbnail or a median level on the page, by path."""
    chosen = [*pictured(lines), *levelled(lines)]
    return {line.path: line for line in chosen}


def pictured(lines: Sequence[FrameLine]) -> list[FrameLine]:
    """Return the frames that have a thumbnail: all of a few, of many the first of each group.

    Frames that were not used come last, since they are less likely to be searched for.
    """
    if len(lines) <= MOST_PICTURES:
        return list(lines)
    first: dict[object, FrameLine] = {}
    for line in sorted(lines, key=lambda line: not line.use):
        first.setdefault(group_of(line), line)
    return list(first.values())[:MOST_PICTURES]


def group_of(line: FrameLine) -> tuple[str, str, str, float | None]:
    """Return type, use, reason and exposure time, the same for frames listed together."""
    return line.kind, line.use, line.out, line.exptime


def levelled(lines: Sequence[FrameLine]) -> list[FrameLine]:
    """Return the frames with a median level: all of a few, of many an even choice of biases, darks.

    Of more than 300 frames every n-th bias or dark is chosen, at most 200 of them.
    """
    if len(lines) <= MOST_ROWS:
        return list(lines)
    dark = [line for line in lines if line.kind in ("bias", "dark") and line.time]
    step = -(-len(dark) // _MOST_LEVELS) or 1
    return dark[::step]


def _state(path: str, inputs: Mapping[str, str], ledger: Ledger) -> str:
    """Return the state of a raw frame since the reduction: "there", "gone" or "changed"."""
    with suppress(OSError, ValueError):
        file = Path(path)
        if not file.is_file():
            return "there" if _is_in_cache(file) else "gone"
        told = inputs.get(path)
        return "there" if told is None or ledger.hashes.of(file) == told else "changed"
    return "gone"


def _is_in_cache(path: Path) -> bool:
    from arrayred.io.cache import cached_image

    try:
        return cached_image(path) is not None
    except ArrayredError:
        return False


def _as_understood(frame: Frame, line: FrameLine) -> Frame:
    """Return a frame whose counts are read as in the run (unsigned or signed)."""
    image = frame.image.decoded_with(wrapped=line.wrapped)
    return replace(frame, label=line.label, image=image)


def stems_of(products: Iterable[str]) -> list[str]:
    """Return the stems of a target's spectra, the first one first.

    Examples
    --------
    >>> stems_of(["targets/Vega/Vega_2_spectrum.fits", "targets/Vega/Vega_spectrum.fits"])
    ['Vega', 'Vega_2']
    """
    names = [Path(name).name for name in products if name.endswith("_spectrum.fits")]
    stems = [name.removesuffix("_spectrum.fits") for name in names]
    return sorted(stems, key=lambda stem: (len(stem), stem))
