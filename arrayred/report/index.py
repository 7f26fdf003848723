"""The page of many nights: `index_page`, a line for each target, what failed first.

Whatever the last run said of a night stands in ``summary.ecsv``; what its own page shows, in the
ledger of its folder. Nights of earlier runs are shown as long as their pages are there.
"""

from __future__ import annotations

import csv
import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from arrayred.errors import UsageError
from arrayred.io.ledger import DONE, PAGE, PAGE_ENTRY, SUMMARY
from arrayred.io.publish import STATE
from arrayred.report import charts
from arrayred.report.html import Markup, anchor, joined, page, path_below, tag
from arrayred.report.texts import counted, is_number, number, seconds

_RANK = {"failed": 0, "interrupted": 0, "attention": 1, "good": 2}
_NAMES = {"failed": "failed", "interrupted": "interrupted", "attention": "needs a look",
          "good": "good"}  # fmt: skip
_OF_MANY = {**_NAMES, "attention": "need a look"}
_COLUMNS = (
    ("state", "text"), ("night", "text"), ("target", "text"), ("spectrum", ""),
    ("S/N", "number"), ("rows", "number"), ("frames", "number"), ("exposure", "number"),
    ("saturated", "number"), ("what to know", "text"),
)  # fmt: skip
_SCRIPT = "index.js"


@dataclass(frozen=True)
class Row:
    """One line of the index.

    Parameters
    ----------
    label : the night's folder.
    name : what the night is called.
    target : its name, or "" where the night failed as a whole.
    state : failed, interrupted, attention, good.
    told : what is to be known of it: why it failed, remarks.
    has_page : whether the night has a page.
    facts : what its own page tells of it.
    """

    label: str
    name: str
    target: str
    state: str
    told: str
    has_page: bool
    facts: Mapping[str, Any]

    @property
    def order(self) -> tuple[int, str, str]:
        """What is wrong comes first, then the nights by name."""
        return _RANK.get(self.state, 1), self.label, self.target


def index_page(out: Path) -> bytes:
    """Return the index of the nights in a folder.

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
            "No night was reduced here", path=out, hint="Name an output folder of arrayred."
        )
    nights = {row.label for row in rows}
    counts = Counter(row.state for row in rows if row.target)
    n_failed = len({row.label for row in rows if not row.target})
    tiles = [
        (str(n), f"target {_NAMES[state]}" if n == 1 else f"targets {_OF_MANY[state]}")
        for state, n in sorted(counts.items(), key=lambda count: _RANK[count[0]])
    ]
    whole = "night without any target" if n_failed == 1 else "nights without any target"
    tiles += [(str(n_failed), whole)] if n_failed else []
    head = tag(
        "header.page",
        tag("p.kicker", "arrayred · nights"),
        tag("h1", counted(len(nights), "night")),
        tag("ul.tiles", [tag("li", tag("b", n), " ", tag("span", what)) for n, what in tiles]),
    )
    body = tag("div.wide", head, tag("main", _filter(), _table(rows)), tag("footer", _FOOT))
    return page("arrayred: nights", body, script=_SCRIPT)


_FOOT = "Made by arrayred. What is wrong comes first; a heading sorts; the page needs no network."


def _filter() -> Markup:
    """Return the field to look for nights and targets; hidden where no script can run."""
    field = tag("input", attributes={"id": "filter", "type": "search", "autocomplete": "off",
                                     "placeholder": "night, target, reason …"})  # fmt: skip
    return tag(
        "p.filter",
        tag("label", "Show only ", [field], attributes={"for": "filter"}),
        tag("output", "", attributes={"id": "shown", "for": "filter"}),
        attributes={"hidden": ""},
    )


def _table(rows: Iterable[Row]) -> Markup:
    heads = [
        tag("th" + ".n" * (kind == "number"), name,
            attributes={"scope": "col", **({"data-sort": kind} if kind else {})})
        for name, kind in _COLUMNS
    ]  # fmt: skip
    return tag(
        "table.nights",
        tag("caption", "Each target of each night"),
        tag("thead", tag("tr", heads)),
        tag("tbody", [_row(row) for row in rows]),
        attributes={"id": "nights"},
    )


def _row(row: Row) -> Markup:
    facts = row.facts
    night = _link(row.label, row.label, "") if row.has_page else joined(row.label)
    has_section = row.has_page and row.target
    target = _link(row.target, row.label, row.target) if has_section else joined(row.target)
    shown, rows = facts.get("spark", ""), facts.get("rows")
    spark = [charts.spark(shown, "")] if shown else []
    is_told = _RANK.get(row.state, 1) and is_number(facts.get("exptime"))
    exposure = seconds(facts["exptime"]) if is_told else ""
    return tag(
        f"tr.{row.state}",
        tag("td", tag(f"span.state.{row.state}", _NAMES.get(row.state, row.state))),
        tag("th", night, attributes={"scope": "row"}),
        tag("td", target),
        tag("td", spark),
        tag("td.n", number(facts["snr"]) if is_number(facts.get("snr")) else ""),
        tag("td.n", f"{rows[0]}:{rows[1]}" if rows else ""),
        tag("td.n", str(facts["frames"]) if is_told else ""),
        tag("td.n", exposure),
        tag("td.n", str(facts.get("saturated") or "")),
        tag("td.told", row.told),
    )


def _link(text: str, label: str, target: str) -> Markup:
    place = path_below(label, PAGE) + (anchor(f"target-{target}") if target else "")
    return tag("a", text, attributes={"href": place})


def _rows(out: Path) -> Iterator[Row]:
    """Yield the lines of all nights that the last run names, and of all that have a page."""
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
    told = {"snr": float(line["snr"]) if line["snr"] else None, "rows": rows if all(rows) else []}
    has_page = facts is not None
    return Row(label, "", line["target"], state, line["reason"], has_page, told)


def _of_page(label: str, facts: Mapping[str, Any]) -> Iterator[Row]:
    for told in facts["targets"]:
        note = told["error"] or "; ".join(told["remarks"])
        yield Row(label, facts["night"], told["name"], told["state"], note, True, told)


def _summary(path: Path) -> dict[str, list[dict[str, str]]]:
    """Return the lines of the last run's summary by night; none where there is none."""
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
        place = folder / STATE / DONE / f"{PAGE_ENTRY}.json"
        with suppress(OSError, ValueError, KeyError, TypeError):
            facts = json.loads(place.read_bytes())["facts"]
            if (folder / PAGE).is_file() and isinstance(facts["targets"], list):
                yield folder.name, facts
