"""What a finished night is made of, read from its output folder: `Finished`, `gathered`.

Only an output folder is asked: its account, its ledger, its products; and the raw frames, where
they lie as they lay. So the page that a reduction leaves and the one made of it a year later are
the same as long as the frames are there, and the second says so if they are not.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from arrayred.config import Instrument
from arrayred.errors import ArrayredError, UsageError
from arrayred.io.frames import Frame, read_frames
from arrayred.io.ledger import PAGE_ENTRY, Entry, Ledger
from arrayred.io.publish import STATE
from arrayred.report import VERSION
from arrayred.report.account import Account, FrameLine, TargetLine, read_account

ACCOUNT = "account.json"
"""The account of a night, in the folder of its state."""
MOST_ROWS = 300
"""Frames that are listed one by one; more are listed by groups."""
MOST_PICTURES = 32
_MOST_LEVELS = 200


@dataclass(frozen=True)
class Finished:
    """A finished night.

    Parameters
    ----------
    out : its output folder.
    account : what the run knew of it.
    entries : of its masters and targets in the ledger, by name.
    raw : what has become of the frames to be looked at again, by path: "there", "gone", "changed".
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
        """The raw frames that are there to be looked at, by label, as the run understood them."""
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
        """Return what the ledger knows of a target; None of one that failed."""
        return self.entries.get(f"targets/{target.name}")

    @cached_property
    def key(self) -> str:
        """What the page depends on: if it is the same, so is the page."""
        told = {
            "version": VERSION,
            "account": hashlib.sha256(repr(self.account).encode("utf-8", "replace")).hexdigest(),
            "entries": {n: [e.key, dict(e.products)] for n, e in self.entries.items()},
            "raw": dict(self.raw),
        }
        text = json.dumps(told, sort_keys=True)
        return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def gathered(out: Path, ledger: Ledger) -> Finished:
    """Return the finished night of an output folder.

    Parameters
    ----------
    out, ledger : the folder, and its ledger.

    Raises
    ------
    UsageError
        Nothing was finished there, or what was noted of it makes no sense.
    """
    entries = {entry.name: entry for entry in ledger.entries() if entry.name != PAGE_ENTRY}
    account = read_account(out / STATE / ACCOUNT)
    if account is None and not entries:
        raise UsageError(
            "Nothing was finished here", path=out, hint="Name an output folder of arrayred."
        )
    account = account or Account((), ())
    inputs = {path: sha for entry in entries.values() for path, sha in entry.inputs.items()}
    raw = {path: _state(path, inputs, ledger) for path in _looked_at(account.frames)}
    return Finished(out, account, entries, raw)


def _looked_at(lines: Sequence[FrameLine]) -> dict[str, FrameLine]:
    """Return the frames whose pixels the page shows or whose level it tells, by path."""
    chosen = [*pictured(lines), *levelled(lines)]
    return {line.path: line for line in chosen}


def pictured(lines: Sequence[FrameLine]) -> list[FrameLine]:
    """Return the frames that are shown as pictures: all of a few, of many the first of each kind.

    Frames that took no part come last, since they are less likely to be looked for.
    """
    if len(lines) <= MOST_PICTURES:
        return list(lines)
    first: dict[object, FrameLine] = {}
    for line in sorted(lines, key=lambda line: not line.use):
        first.setdefault(group_of(line), line)
    return list(first.values())[:MOST_PICTURES]


def group_of(line: FrameLine) -> tuple[str, str, str, float | None]:
    """Return what frames that are listed together have in common."""
    return line.kind, line.use, line.out, line.exptime


def levelled(lines: Sequence[FrameLine]) -> list[FrameLine]:
    """Return the frames whose level is told: all of a few, of many evenly chosen biases, darks."""
    if len(lines) <= MOST_ROWS:
        return list(lines)
    dark = [line for line in lines if line.kind in ("bias", "dark") and line.time]
    step = -(-len(dark) // _MOST_LEVELS) or 1
    return dark[::step]


def _state(path: str, inputs: Mapping[str, str], ledger: Ledger) -> str:
    """Return what has become of a raw frame since the night was reduced."""
    with suppress(OSError, ValueError):
        file = Path(path)
        if not file.is_file():
            return "there" if _is_in_cache(file) else "gone"
        told = inputs.get(path)
        return "there" if told is None or ledger.hashes.of(file) == told else "changed"
    return "gone"


def _is_in_cache(path: Path) -> bool:
    from arrayred.io.cache import image_at

    try:
        return image_at(path) is not None
    except ArrayredError:
        return False


def _as_understood(frame: Frame, line: FrameLine) -> Frame:
    """Return a frame whose counts are read as the run read them."""
    source = frame.image.source
    pixels = replace(source.pixels, wrapped=line.wrapped)
    image = replace(frame.image, source=replace(source, pixels=pixels))
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
