"""What a run knew of its night and no product tells: `Account`, kept beside the ledger.

Products tell what they were made of; nothing else tells which frames were left out and why, which
targets failed, and what was asked for. An account holds that as JSON: no time of the run, so that
the same night gives the same bytes, and of the headers only what is named here, so that no licence
and no owner's name gets into it.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from arrayred.errors import UsageError
from arrayred.io.publish import Content

_SCHEMA = 1


@dataclass(frozen=True)
class FrameLine:
    """One frame of the night.

    Parameters
    ----------
    label : its name.
    path : where it lay, absolute.
    kind : bias, dark, flat, arc, light, or what its header says where that is unknown.
    exptime : s, or None.
    time : start of the exposure, UTC, ISO 8601, or "".
    evening : the night it belongs to, or "".
    temperature : of the detector, deg C, or None.
    shows : OBJECT.
    shape : n_rows, n_columns.
    use : what it became part of, or "".
    out : why it took no part, or "".
    remarks : what was decided about its pixels, and what is odd.
    wrapped : its unsigned counts were written as signed.
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
    """A master that served a target.

    Parameters
    ----------
    kind, title, file : bias, dark or flat; what it is called; the file of its image.
    n_frames : how many frames it is made of.
    age : days between it and the lights, or None.
    warmer : deg C by which it was warmer than the lights, or None.
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
    name : the target's.
    n_frames, exptime : its lights, and their exposure, s.
    masters : that served it.
    remarks : what is not ideal.
    error : why it failed, or "".
    threshold : what no row's mean exceeded, if that is why.
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
    """What a run knew of its night.

    Parameters
    ----------
    frames : all that were read.
    targets : all that were to be reduced, failed ones included.
    left_out : files that are no frames of it, each with the reason.
    warnings : what is odd.
    command : what makes it again.
    settings : those of the recipe that are not the default ones.
    versions : of the programs.
    """

    frames: tuple[FrameLine, ...]
    targets: tuple[TargetLine, ...]
    left_out: tuple[tuple[str, str], ...] = ()
    warnings: tuple[str, ...] = ()
    command: str = ""
    settings: Mapping[str, Any] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)


def as_json(account: Account) -> Content:
    """Return an account as the bytes of its file."""
    whole = {"schema": _SCHEMA, **dataclasses.asdict(account)}
    text = json.dumps(whole, sort_keys=True, separators=(",", ":"), default=str)
    return (text + "\n").encode("utf-8", "backslashreplace")


def read_account(path: Path) -> Account | None:
    """Read an account; None where there is none, or of another version.

    Raises
    ------
    UsageError
        It is damaged.
    """
    with suppress(FileNotFoundError, NotADirectoryError):
        try:
            whole = json.loads(path.read_bytes())
            return _account(whole) if whole["schema"] == _SCHEMA else None
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise UsageError(
                "What was noted of the night makes no sense",
                path=path,
                hint="Reduce the night once more, which notes it anew.",
            ) from error
    return None


def _account(whole: Mapping[str, Any]) -> Account:
    told = {name: value for name, value in whole.items() if name != "schema"}
    frames = (FrameLine(**_tupled(line, "shape", "remarks")) for line in told.pop("frames"))
    targets = (_target_line(line) for line in told.pop("targets"))
    left_out = tuple((str(who), str(why)) for who, why in told.pop("left_out"))
    return Account(
        **_tupled(told, "warnings"),
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
    """Return a mapping with the lists of some names as tuples, which JSON does not know."""
    return {**line, **{name: tuple(line[name]) for name in names}}


def evening_of(lines: Iterable[FrameLine]) -> str:
    """Return the night of the lights that took part, or of all frames; the first and last of many.

    Examples
    --------
    >>> evening_of([])
    ''
    """
    there = list(lines)
    lights = [line for line in there if line.kind == "light" and line.use]
    evenings = sorted({line.evening for line in lights or there if line.evening})
    return " to ".join(dict.fromkeys((evenings[0], evenings[-1]))) if evenings else ""
