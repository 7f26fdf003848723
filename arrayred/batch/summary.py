"""What became of many nights, a line for each target: `Line`, `as_ecsv`, `facts_of`.

The file holds what is true of the nights and their products, not of the run that wrote it: whether
a target was reduced now or kept from an earlier run, and the seconds it took, are in the logs and
on the terminal. So the same nights give the same bytes, however often they are reduced.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from arrayred.errors import printable
from arrayred.model import COSMIC_RAY, DQ, SATURATED, VARIANCE
from arrayred.night import Target
from arrayred.night.match import age_in_days
from arrayred.pipeline import median_snr

if TYPE_CHECKING:
    import xarray as xr

Status = Literal["reduced", "kept", "failed", "interrupted"]
_COLUMNS = {
    "night": ("string", "", "label of the night"),
    "target": ("string", "", "blank where the night failed as a whole"),
    "status": ("string", "", "done, failed, or interrupted: not reached before the run ended"),
    "first_row": ("int64", "", "first row of the spectrum"),
    "last_row": ("int64", "", "last row of the spectrum"),
    "rule": ("string", "", "what found the rows"),
    "snr": ("float64", "", "median over the central half of flux / sigma"),
    "n_saturated": ("int64", "", "columns with saturated pixels"),
    "n_cosmic_rays": ("int64", "", "columns with pixels hit by cosmic rays"),
    "dark_age": ("float64", "d", "days between the lights and their dark"),
    "reason": ("string", "", "why it failed"),
}
_DONE = {"reduced": "done", "kept": "done"}


@dataclass(frozen=True)
class Line:
    """What became of one target; None is unknown.

    Parameters
    ----------
    night, target : where and what.
    status : "reduced", "kept" from an earlier run, "failed", or "interrupted" before it was done.
    facts : of `facts_of`.
    seconds : the time it took.
    reason : why it failed, or "".
    """

    night: str
    target: str
    status: Status
    facts: Mapping[str, Any]
    seconds: float
    reason: str = ""

    def cells(self) -> dict[str, Any]:
        """Return what is known of the target by name: the columns of the summary, and seconds."""
        own = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "facts"}
        return {**{name: self.facts.get(name) for name in _COLUMNS}, **own}


def facts_of(spectrum: xr.Dataset, target: Target) -> dict[str, Any]:
    """Return what is to be told of a spectrum again, without reading it.

    Parameters
    ----------
    spectrum : flux, and variance and dq where known (x).
    target : whose it is.

    Returns
    -------
    facts : its attributes but for its history, and `snr`, `n_saturated`, `n_cosmic_rays`,
        `dark_age` (days) where known; plain numbers and texts.
    """
    facts = {name: value for name, value in spectrum.attrs.items() if name != "history"}
    if VARIANCE in spectrum:
        facts.setdefault("snr", median_snr(spectrum))
    if DQ in spectrum:
        for name, bit in (("n_saturated", SATURATED), ("n_cosmic_rays", COSMIC_RAY)):
            facts[name] = int(np.count_nonzero(spectrum[DQ].values & bit))
    if target.master is not None:
        facts["dark_age"] = age_in_days(target.lights, target.master)
    return {str(name): _plain(value) for name, value in facts.items()}


_FURTHER = "further"


def with_further(told: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the facts of a target's first spectrum, those of each other one within."""
    if len(told) < 2:
        return {name: value for facts in told for name, value in facts.items()}
    return {**told[0], _FURTHER: [dict(facts) for facts in told[1:]]}


def each_of(facts: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Return the facts of each spectrum of a target, from those of `with_further`.

    Examples
    --------
    >>> each_of(with_further([{"first_row": 3}, {"first_row": 9}]))
    [{'first_row': 3}, {'first_row': 9}]
    """
    own = {name: value for name, value in facts.items() if name != _FURTHER}
    return [own, *facts.get(_FURTHER, [])] if facts else []


def _plain(value: Any) -> Any:
    """Return a value as JSON can hold it, other than NaN."""
    plain = value.item() if isinstance(value, np.generic) else value
    if isinstance(plain, float) and plain != plain:
        return None
    return list(plain) if isinstance(plain, tuple) else plain


def as_ecsv(lines: Iterable[Line]) -> bytes:
    """Return a summary as ECSV 1.0; what is unknown is an empty cell.

    Examples
    --------
    >>> text = as_ecsv([Line("2020-11-03", "hr8047", "failed", {}, 0.5, "no dark")]).decode()
    >>> print(text.splitlines()[-1])
    2020-11-03,hr8047,failed,,,,,,,,no dark
    """
    head = ["%ECSV 1.0", "---", "delimiter: ','", "datatype:"]
    for name, (datatype, unit, description) in _COLUMNS.items():
        told = {"name": name, "unit": unit, "datatype": datatype, "description": description}
        pairs = ", ".join(f"{key}: {json.dumps(value)}" for key, value in told.items() if value)
        head.append(f"- {{{pairs}}}")
    head.append("schema: astropy-2.0")
    body = io.StringIO()
    writer = csv.writer(body, lineterminator="\n")
    writer.writerow(_COLUMNS)
    for line in lines:
        known = line.cells()
        known["status"] = _DONE.get(line.status, line.status)
        writer.writerow(_cell(known[name]) for name in _COLUMNS)
    return "".join([*(f"# {text}\n" for text in head), body.getvalue()]).encode()


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.6g}"
    return printable(str(value))
