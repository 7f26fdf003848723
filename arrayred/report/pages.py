"""Write the page of a night and the index of many nights: `write_report`, `write_index`.

Each frame has a line, and a thumbnail where there are few (32). Of more than 300 frames those of
the same type and use share a line, with a thumbnail of one of them; frames that are not used are
listed with the reason. So the page of 10,000 frames stays short, and states where it shows only a
part.
"""

from __future__ import annotations

import csv
import dataclasses
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from arrayred.errors import ArrayredError, FrameError, UsageError
from arrayred.io.frames import Frame
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
from arrayred.io.products import header_of, open_product
from arrayred.io.publish import publish
from arrayred.model import COSMIC_RAY, DQ, N_REJECTED, REPAIRED, SATURATED, transpose_to_x
from arrayred.night.groups import list_of_names, slug
from arrayred.plots.figures import quick_look, search_look
from arrayred.plots.nights import detector
from arrayred.report import charts
from arrayred.report.charts import (
    UNKNOWN,
    Markup,
    anchor,
    bullets,
    counted,
    facts,
    is_number,
    joined,
    number,
    page,
    path_below,
    picture,
    seconds,
    setting,
    share,
    span,
    table,
    tag,
    thumbnail,
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

if TYPE_CHECKING:
    import xarray as xr

_HEADS = ("", "frame", "type", "#exposure", "start, UTC", "#°C", "#level, adu", "used for")
_GROUP_HEADS = (
    "",
    "frames",
    "type",
    "#exposure",
    "from, to, UTC",
    "#°C",
    "#level, adu",
    "used for",
)


def frames_section(finished: Finished) -> Markup:
    """Return the section of the frames."""
    lines: Sequence[FrameLine] = finished.account.frames
    if not lines:
        told = "The run left no account of its frames: reduce the night once more to have one."
        return tag("p.muted", told)
    lines, shared = _without_shared(lines)
    small, levels = _thumbnails(finished), _levels(finished)
    drift = detector(lines, levels)
    one_by_one = len(lines) <= MOST_ROWS
    rows = (
        [_line(line, small, levels) for line in _in_order(lines)]
        if one_by_one
        else [_group(group, small, levels) for group in _groups(lines)]
    )
    heads = _HEADS if one_by_one else _GROUP_HEADS
    caption = "Each frame" if one_by_one else f"{len(lines)} frames, a line for those of one kind"
    return joined(
        _notes(finished, small),
        [tag("p.muted", f"{who}: {what}.") for what, who in shared.items()],
        table("table.frames", heads, rows, caption),
        _foreign(finished.account.left_out),
        [] if drift is None else charts.figure(drift),
    )


def _without_shared(lines: Sequence[FrameLine]) -> tuple[list[FrameLine], dict[str, str]]:
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
    return own, shared


def _thumbnails(finished: Finished) -> dict[str, bytes]:
    """Return thumbnails of the frames that have one, by label."""
    found: dict[str, bytes] = {}
    shown = [line.label for line in pictured(finished.account.frames)]
    for frame in frames_to_probe(
        [finished.frames[name] for name in shown if name in finished.frames]
    ):
        with suppress(FrameError):  # a frame that cannot be read has no thumbnail
            found[frame.label] = _small(frame)
    return found


def _small(frame: Frame) -> bytes:
    return thumbnail(FrameStack([plain_pixels(frame.image)])[0, :, :])


def _levels(finished: Finished) -> dict[str, float]:
    """Return the median count of a few rows of each frame, adu, by label."""
    levels = {}
    for line in levelled(finished.account.frames):
        frame = finished.frames.get(line.label)
        sample = None if frame is None else sample_frame(frame)
        if sample is not None:
            levels[line.label] = sample.level
    return levels


def _notes(finished: Finished, small: Mapping[str, bytes]) -> Markup:
    """Return notes on thumbnails and levels that are missing, with the reason."""
    lines = finished.account.frames
    notes = []
    gone = [line.label for line in pictured(lines) if finished.raw.get(line.path) == "gone"]
    changed = [line.label for line in pictured(lines) if finished.raw.get(line.path) == "changed"]
    if gone:
        notes.append(f"No longer where they were, and so without a picture: {list_of_names(gone)}.")
    if changed:
        notes.append(f"Changed since, and so without a picture: {list_of_names(changed)}.")
    if len(pictured(lines)) < len(lines):
        notes.append(f"Pictures are of {len(small)} of {len(lines)} frames, the first of a kind.")
    if len(lines) > MOST_ROWS:
        n = len(levelled(lines))
        notes.append(f"Levels are of {counted(n, 'bias or dark', 'biases and darks')} among them.")
    return joined([tag("p.muted", note) for note in notes])


def _in_order(lines: Sequence[FrameLine]) -> list[FrameLine]:
    """Return frames in their order, those that were not used last."""
    return sorted(lines, key=lambda line: not line.use)


def _line(line: FrameLine, small: Mapping[str, bytes], levels: Mapping[str, float]) -> Markup:
    return tag(
        "tr" if line.use else "tr.out",
        tag("td.thumb", _picture(line, small)),
        tag("th", line.label, _frame_shows(line), attributes={"scope": "row"}),
        tag("td", line.kind),
        tag("td.n", seconds(line.exptime)),
        tag("td.time", _clock(line.time)),
        tag("td.n", _maybe(line.temperature, 1)),
        tag("td.n", _maybe(levels.get(line.label), 0)),
        tag("td", _use(line), [tag("small", remark) for remark in line.remarks]),
    )


def _frame_shows(line: FrameLine) -> list[Markup]:
    return [tag("small", line.shows)] if line.shows else []


def _picture(line: FrameLine, small: Mapping[str, bytes]) -> list[Markup]:
    shown = small.get(line.label)
    return [] if shown is None else [picture(shown, f"{line.kind} frame {line.label}")]


def _use(line: FrameLine) -> Markup:
    if line.use:
        return joined(line.use)
    return joined(tag("b", "left out: "), line.out or "not needed")


def _clock(time: str) -> str:
    return time[:19].replace("T", " ")


def _maybe(value: float | None, decimals: int) -> str:
    return "" if value is None else number(value, decimals)


def _groups(lines: Sequence[FrameLine]) -> list[list[FrameLine]]:
    groups: dict[object, list[FrameLine]] = defaultdict(list)
    for line in _in_order(lines):
        groups[group_of(line)].append(line)
    return list(groups.values())


def _group(
    lines: Sequence[FrameLine], small: Mapping[str, bytes], levels: Mapping[str, float]
) -> Markup:
    first = lines[0]
    shown = next((line for line in lines if line.label in small), first)
    known = sorted(line.time for line in lines if line.time)
    ends = dict.fromkeys(_clock(time) for time in (known[0], known[-1])) if known else {}
    remarks = dict.fromkeys(remark for line in lines for remark in line.remarks)
    return tag(
        "tr" if first.use else "tr.out",
        tag("td.thumb", _picture(shown, small)),
        tag("th", list_of_names([line.label for line in lines]), attributes={"scope": "row"}),
        tag("td", first.kind),
        tag("td.n", seconds(first.exptime)),
        tag("td.time", " to ".join(ends)),
        tag("td.n", _range([line.temperature for line in lines], 1)),
        tag("td.n", _range([levels.get(line.label) for line in lines], 0)),
        tag("td", _use(first), [tag("small", remark) for remark in list(remarks)[:5]],
            [tag("small", f"and {len(remarks) - 5} more remarks")] if len(remarks) > 5 else []),
    )  # fmt: skip


def _range(values: Sequence[float | None], decimals: int) -> str:
    known = [value for value in values if value is not None]
    ends = dict.fromkeys(number(f(known), decimals) for f in (min, max)) if known else {}
    return " to ".join(ends)


def _foreign(left_out: Sequence[tuple[str, str]]) -> Markup:
    """Return the list of files that are not frames of the night, by reason."""
    if not left_out:
        return joined()
    names: dict[str, list[str]] = defaultdict(list)
    for name, reason in left_out:
        names[reason].append(name.rpartition("/")[2])
    items = [tag("li", f"{list_of_names(who)}: {why}") for why, who in names.items()]
    return joined(tag("h3", "Not frames of this night"), tag("ul", items))


# The index of many nights: `index_page`, a line for each target, failed ones first.
#
# The results of the last run are read from ``summary.ecsv``; what the page of a night shows, from
# the ledger of its folder. Nights of earlier runs are shown as long as their pages exist.

_RANK = {"failed": 0, "interrupted": 0, "attention": 1, "good": 2}
_NAMES = {"failed": "failed", "interrupted": "interrupted", "attention": "needs a look",
          "good": "good"}  # fmt: skip
_OF_MANY = {**_NAMES, "attention": "need a look"}
_COLUMNS = (
    ("state", "text"), ("night", "text"), ("target", "text"), ("spectrum", ""),
    ("S/N per column", "number"), ("rows", "number"), ("frames", "number"), ("exposure", "number"),
    ("saturated", "number"), ("what to know", "text"),
)  # fmt: skip
_SCRIPT = "index.js"


@dataclass(frozen=True)
class Row:
    """One line of the index.

    Parameters
    ----------
    label : the night's folder.
    name : name of the night, its evening, or "" where it has no page.
    target : its name, or "" where the night failed as a whole.
    state : failed, interrupted, attention, good.
    told : reason of the failure, or remarks.
    has_page : whether the night has a page.
    facts : values of the target on the night's page.
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
        """Sort key: failed targets first, then nights by name."""
        return _RANK.get(self.state, 1), self.label, self.target


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
    """Return the field to search nights and targets; hidden where no script can run."""
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
    night = _night_link(row.label, row.label, "") if row.has_page else joined(row.label)
    has_section = row.has_page and row.target
    target = _night_link(row.target, row.label, row.target) if has_section else joined(row.target)
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


def _night_link(text: str, label: str, target: str) -> Markup:
    place = path_below(label, PAGE) + (anchor(f"target-{target}") if target else "")
    return tag("a", text, attributes={"href": place})


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
    told = {"snr": float(line["snr"]) if line["snr"] else None, "rows": rows if all(rows) else []}
    has_page = facts is not None
    return Row(label, "", line["target"], state, line["reason"], has_page, told)


def _of_page(label: str, facts: Mapping[str, Any]) -> Iterator[Row]:
    for told in facts["targets"]:
        note = told["error"] or "; ".join(told["remarks"])
        yield Row(label, facts["night"], told["name"], told["state"], note, True, told)


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


# The page of one night: `night_page`.


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
    targets = [shown(finished, target) for target in finished.targets]
    sparks = {one.target.name: _spark(one) for one in targets}
    verdict = _verdict(finished, targets)
    name = _name(finished)
    parts = {
        "Attention": _attention(finished, targets),
        "At a glance": _glance(targets, sparks),
        "Targets": joined([target_section(one) for one in targets]),
        "Calibration": calibrations(finished),
        "Frames": frames_section(finished),
        "Provenance": provenance_section(finished),
    }
    shown_parts = {title: part for title, part in parts.items() if part}
    body = joined(
        _head(name, verdict, finished, targets),
        _contents(list(shown_parts)),
        tag("main", [_part(title, part) for title, part in shown_parts.items()]),
        _foot(finished),
    )
    facts = {
        "night": name,
        "verdict": verdict,
        "frames": len(finished.account.frames),
        "targets": [_told(one, sparks[one.target.name]) for one in targets],
    }
    return Page(page(f"{name}: arrayred report", body), facts)


def _name(finished: Finished) -> str:
    """Return the name of the night: its evening, since its folder may be called anything."""
    return evening_of(finished.account.frames) or "a night without a date"


def _verdict(finished: Finished, targets: Sequence[Shown]) -> str:
    """Return the state of the night: "good", "attention", or "failed" if all targets failed."""
    states = {one.state for one in targets}
    if states == {"failed"}:
        return "failed"
    return "attention" if states != {"good"} or finished.account.warnings else "good"


_VERDICTS = {"good": "Good", "attention": "Needs a look", "failed": "Failed"}


def _head(name: str, verdict: str, finished: Finished, targets: Sequence[Shown]) -> Markup:
    lines = finished.account.frames
    n_failed = sum(one.state == "failed" for one in targets)
    n_used = sum(bool(line.use) for line in lines)
    tiles = [
        (str(len(targets) - n_failed), f"of {counted(len(targets), 'target')} reduced"),
        (str(n_used), f"of {counted(len(lines), 'frame')} used"),
        (str(len(lines) - n_used), "frames left out"),
        *_best(targets),
    ]
    known = tiles if lines else [tiles[0], *tiles[3:]]
    return tag(
        "header.page",
        tag("p.kicker", "arrayred · night report"),
        tag("h1", _titled(name), " ", tag(f"span.state.{verdict}", _VERDICTS[verdict])),
        tag("ul.tiles", [tag("li", tag("b", value), " ", tag("span", what))
                         for value, what in known]),
    )  # fmt: skip


def _titled(name: str) -> str:
    """Return the heading of a night."""
    return f"Night of {name}" if name[:1].isdecimal() else name.capitalize()


def _best(targets: Sequence[Shown]) -> list[tuple[str, str]]:
    """Return the range of the S/N of the spectra, as a tile."""
    known = [f.spectrum.attrs.get("snr") for one in targets for f in one.found]
    found = [float(snr) for snr in known if is_number(snr)]
    ends = dict.fromkeys(number(f(found)) for f in (min, max)) if found else {}
    return [("–".join(ends), "S/N per column")] if ends else []


def _contents(titles: Sequence[str]) -> Markup:
    links = [tag("a", title, attributes={"href": anchor(_id(title))}) for title in titles]
    items = tag("ul", [tag("li", [link]) for link in links])
    return tag("nav", [items], attributes={"aria-label": "Contents"})


def _id(title: str) -> str:
    return title.lower().replace(" ", "-")


def _part(title: str, part: Markup) -> Markup:
    return tag("section", tag("h2", title), part, attributes={"id": _id(title)})


def _attention(finished: Finished, targets: Sequence[Shown]) -> Markup:
    """Return failed targets with the reasons, then warnings; empty where there are none."""
    failed = [one for one in targets if one.state == "failed"]
    told = [
        tag(
            "li",
            _target_link(one),
            ": ",
            one.target.error or one.damage or "no product of it is known",
        )
        for one in failed
    ]
    blocks = [tag("div.callout.failed", tag("strong", _failed(len(failed))), tag("ul", told))]
    warnings = finished.account.warnings
    notes = [tag("div.callout.attention", bullets(warnings))]
    return joined(blocks if failed else [], notes if warnings else [])


def _failed(n: int) -> str:
    return f"{counted(n, 'target')} failed"


def _target_link(one: Shown) -> Markup:
    return tag("a", one.target.name, attributes={"href": anchor(one.id)})


def _glance(targets: Sequence[Shown], sparks: dict[str, str]) -> Markup:
    """Return a summary box for each target, where there are several."""
    if len(targets) < 2:
        return joined()
    return tag("ul.cards", [tag("li", _card(one, sparks[one.target.name])) for one in targets])


def _card(one: Shown, path: str) -> Markup:
    snr = one.found[0].spectrum.attrs.get("snr") if one.found else None
    known = f"S/N {number(snr)} per column" if is_number(snr) else ""
    told = known or ("failed" if one.state == "failed" else "")
    drawn = [charts.spark(path, f"Spectrum of {one.target.name}")] if path else []
    return tag(
        f"a.card.{one.state}",
        tag("b", one.target.name),
        tag("span", told),
        drawn,
        attributes={"href": anchor(one.id)},
    )


def _spark(one: Shown) -> str:
    """Return the sparkline path of a target's first spectrum, "" where there is none."""
    return charts.spark_path(one.found[0].spectrum["flux"].values) if one.found else ""


def _told(one: Shown, path: str) -> dict[str, Any]:
    """Return the facts that the index shows of a target."""
    told = one.found[0].spectrum.attrs if one.found else {}
    rows = [told[name] for name in ("first_row", "last_row") if name in told]
    snr = told.get("snr")
    return {
        "name": one.target.name,
        "state": one.state,
        "error": one.target.error or one.damage,
        "remarks": one.remarks,
        "snr": float(snr) if is_number(snr) else None,
        "rows": [int(row) for row in rows],
        "rule": str(told.get("rule", "")),
        "saturated": sum(found.n_saturated for found in one.found),
        "frames": one.target.n_frames,
        "exptime": one.target.exptime,
        "spark": path,
    }


def _foot(finished: Finished) -> Markup:
    version = finished.account.versions.get("arrayred", "")
    told = f"Made by arrayred {version} from what it wrote; it needs no network."
    return tag("footer", told)


# Sections of the page: calibration and provenance (inputs, products, the command).

_MOST_OPEN = 24
"""Longest list that is shown open; a longer one is folded."""


def calibrations(finished: Finished) -> Markup:
    """Return the masters used for each target, with differences in time and temperature."""
    rows = [_served(target, master) for target in finished.targets for master in target.masters]
    without = [t.name for t in finished.targets if not t.masters and not t.error and t.n_frames]
    bare = [tag("p.muted", f"Nothing was subtracted from {', '.join(without)}.")] if without else []
    if not rows:
        return joined(bare or [tag("p.muted", "No calibration is known.")])
    heads = ("target", "master", "#frames", "#days apart", "#master warmer, °C")
    return joined(
        table("table.calibrations", heads, rows, "What calibrates what"),
        bare,
    )


def _served(target: TargetLine, master: Served) -> Markup:
    link = tag("a", target.name, attributes={"href": anchor(f"target-{target.name}")})
    return tag(
        "tr",
        tag("th", [link], attributes={"scope": "row"}),
        tag("td", master.title, tag("small", master.file)),
        tag("td.n", str(master.n_frames)),
        tag("td.n", "unknown" if master.age is None else f"{master.age:.2f}"),
        tag("td.n", "unknown" if master.warmer is None else f"{master.warmer:+.1f}"),
    )


def provenance_section(finished: Finished) -> Markup:
    """Return the command to repeat the reduction, versions, settings, inputs and products."""
    account = finished.account
    versions = [f"{name} {version}" for name, version in account.versions.items()]
    versions += [f"algorithm {ALGORITHM}"]
    told = [
        tag("h3", "To make it again"),
        tag("pre", tag("code", account.command or "The command was not noted.")),
        tag("p.muted", f"NIGHT holds the inputs below. {', '.join(versions)}."),
        tag("h3", "Settings"),
        _settings_list(account.settings),
    ]
    return joined(told, _inputs(finished), _products(finished))


def _settings_list(settings: Mapping[str, object]) -> Markup:
    """Return the settings that differ from the default ones, as a list."""
    if not settings:
        return tag("p", "All as they are by default.")
    return bullets([f"{name} = {setting(value)}" for name, value in settings.items()])


def _inputs(finished: Finished) -> Markup:
    """Return each input, the products made of it, and its SHA-256."""
    used: dict[str, list[str]] = defaultdict(list)
    for name, entry in finished.entries.items():
        for path in entry.inputs:
            used[path].append(name.rpartition("/")[2])
    labels = {line.path: line.label for line in finished.account.frames}
    sums = finished.inputs
    names = {path: labels.get(path) or PurePath(path).name for path in used}
    rows = [
        tag("tr", tag("th", names[path], attributes={"scope": "row"}),
            tag("td", _few(used[path])), _sum(sums[path]))
        for path in sorted(used, key=names.__getitem__)
    ]  # fmt: skip
    return _folded("Inputs", "input", rows, ("file", "went into", "SHA-256"))


def _few(names: Sequence[str]) -> str:
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(names[:3]) + more


def _products(finished: Finished) -> Markup:
    """Return each product with its SHA-256."""
    sums: dict[str, str] = {}
    for entry in finished.entries.values():
        sums |= entry.products
    rows = [
        tag("tr", tag("th", [_product_link(name)], attributes={"scope": "row"}), _sum(sums[name]))
        for name in sorted(sums)
    ]
    return _folded("Products", "product", rows, ("file", "SHA-256"))


def _product_link(name: str) -> Markup:
    parts = name.split("/")
    return tag("a", parts[-1], attributes={"href": path_below(*parts)})


def _sum(sha256: str) -> Markup:
    return tag("td.sum", sha256)


def _folded(title: str, what: str, rows: Sequence[Markup], heads: Iterable[str]) -> Markup:
    """Return a table under its title; a long one is folded."""
    told = f"{title} ({counted(len(rows), 'file')}, each with its SHA-256)"
    name = tag("h3", title)
    listed = table(f"table.sums.{what}s", heads, rows, f"Each {what} and its SHA-256")
    attributes = {"open": ""} if len(rows) <= _MOST_OPEN else {}
    return joined(name, tag("details", tag("summary", told), listed, attributes=attributes))


# The section of one target: image, rows, spectrum and numbers: `target_section`.

_STATES = {"good": "good", "attention": "needs a look", "failed": "failed"}


@dataclass(frozen=True)
class Found:
    """One spectrum of a target, read back.

    Parameters
    ----------
    stem : first part of the names of its files.
    spectrum : flux (x).
    """

    stem: str
    spectrum: xr.Dataset

    @property
    def n_saturated(self) -> int:
        """Number of columns with a saturated pixel."""
        return flagged(self.spectrum, SATURATED)


@dataclass(frozen=True)
class Shown:
    """One target, its products read back.

    Parameters
    ----------
    target : its line in the account.
    folder : of its products, relative to the page.
    image : the combined image, dispersion along x as it was extracted, or None.
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
        """Id of its section, used in links."""
        return f"target-{self.target.name}"

    @property
    def state(self) -> str:
        """State of the target: "failed", "attention" or "good"."""
        if self.target.error or self.damage or not self.found:
            return "failed"
        odd = self.remarks or any(found.n_saturated for found in self.found)
        return "attention" if odd else "good"

    @property
    def remarks(self) -> list[str]:
        """Remarks on the target and its spectra, without duplicates."""
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
            image = transpose_to_x(open_product(place))
        return Shown(target, where, image)
    try:
        image = transpose_to_x(open_product(place))
        stems = stems_of(entry.products)
        found = [Found(s, open_product(place.with_name(f"{s}_spectrum.fits"))) for s in stems]
    except ArrayredError as error:
        return Shown(target, where, image, damage=str(error))
    return Shown(target, where, image, tuple(found))


def target_section(one: Shown) -> Markup:
    """Return the section of a target."""
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
        searched = search_look(one.image, target.name, threshold=target.threshold)
        body += [tag("p", tag("strong", searched.title)), charts.figure(searched)]
    for found in one.found:
        if one.image is not None:
            name = found.stem if len(one.found) > 1 else target.name
            body += [tag("p", tag("strong", name))] if len(one.found) > 1 else []
            body.append(charts.figure(quick_look(one.image, found.spectrum, name)))
        body.append(_about(one, found))
    heading = tag("h3", target.name, " ", tag(f"span.state.{one.state}", _STATES[one.state]))
    return tag(
        "article.target",
        tag(
            "header", heading, _of_what(one), tag("p.muted", " ".join([*told, *_target_shows(one)]))
        ),
        body,
        attributes={"id": one.id},
    )


def _of_what(one: Shown) -> Markup:
    """Return OBJECT of the image's header, where it differs from the target's name."""
    header = None if one.image is None else header_of(one.image.attrs)
    name = "" if header is None else str(header.get("OBJECT") or "").strip()
    return tag("p.object", name) if slug(name) != one.target.name and name else joined([])


def _target_shows(one: Shown) -> list[str]:
    """Return the start time and the method of combination, from the combined image."""
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
    """Return the number of columns of a spectrum with a flag."""
    return int(np.count_nonzero(spectrum[DQ].values & bit)) if DQ in spectrum else 0


def _about(one: Shown, found: Found) -> Markup:
    """Return the numbers of a spectrum, its settings, its processing steps and its files."""
    spectrum, told = found.spectrum, found.spectrum.attrs
    sides = [span(told[name]) for name in ("sky_below", "sky_above") if name in told]
    rows = f"{told.get('first_row')} to {told.get('last_row')} ({told.get('rule', 'threshold')})"
    pairs = [
        ("S/N per column", _snr(told)),
        ("Light enclosed", share(told.get("enclosed_fraction"))),
        ("Rows", rows),
        ("Aperture", _aperture(told)),
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
    asked = [tag("p.muted", "Settings: ", _settings_line(own))] if own else []
    return joined(tag("div.numbers", facts(pairs)), asked, done, _files(one, found))


def _snr(told: Mapping[Any, Any]) -> str:
    """Return the S/N of a spectrum, and the noise that it lacks."""
    note = f" ({told['snr_note']})" if "snr_note" in told else ""
    return f"{number(told.get('snr'))}{note}"


def _aperture(told: Mapping[str, Any]) -> str:
    """Return the rows of the aperture in the middle column, "" if they are not known."""
    middle, half = told.get("center_middle"), told.get("half_height")
    if not is_number(middle) or not is_number(half):
        return ""
    return f"{middle - half:.1f} to {middle + half:.1f}"


def _gain(spectrum: xr.Dataset) -> str:
    """Return the effective gain, electrons/adu, of a spectrum in adu; else ""."""
    in_adu = spectrum["flux"].attrs.get("units", "adu") == "adu"
    told = spectrum.attrs.get("gain_effective")
    return _optional(told, 2, "electrons/adu, combined") if in_adu else ""


def _optional(value: Any, decimals: int, unit: str = "") -> str:
    return number(value, decimals, unit) if is_number(value) else ""


def _settings_line(settings: Mapping[str, Any]) -> Markup:
    return tag("code", "; ".join(f"{name} = {setting(v)}" for name, v in settings.items()))


def _cosmic_rays(one: Shown, spectrum: xr.Dataset) -> str:
    if DQ not in spectrum:
        return ""
    told = counted(flagged(spectrum, COSMIC_RAY | REPAIRED), "column")
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
    _publish(ledger, PAGE, made.content, entry, may_replace)


def _publish(ledger: Ledger, name: str, content: bytes, entry: Entry, may_replace: bool) -> None:
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
    _publish(ledger, INDEX, index_page(out), Entry(INDEX_ENTRY, ""), may_replace)
    return out / INDEX


def is_night(out: Path) -> bool:
    """Return whether a folder is the output folder of a night, even one that failed entirely."""
    ledger = Ledger(out)
    return bool(ledger.account) or ledger.is_damaged or holds_single_night(out)


def nights_in(out: Path) -> list[Path]:
    """Return the output folders of nights that lie in a folder, sorted."""
    return sorted(path for path in out.iterdir() if path.is_dir() and is_night(path))
