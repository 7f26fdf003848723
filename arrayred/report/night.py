"""The page of one night: `night_page`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from arrayred.report import charts, frames, provenance
from arrayred.report.account import evening_of
from arrayred.report.gather import Finished
from arrayred.report.html import Markup, anchor, joined, page, tag
from arrayred.report.target import Shown, section, shown
from arrayred.report.texts import bullets, counted, is_number, number


class Page(NamedTuple):
    """A page, and what an index tells of it."""

    content: bytes
    facts: dict[str, Any]


def night_page(finished: Finished) -> Page:
    """Return the page of a finished night, and what an index tells of it.

    Parameters
    ----------
    finished : what `gathered` found.
    """
    targets = [shown(finished, target) for target in finished.targets]
    sparks = {one.target.name: _spark(one) for one in targets}
    verdict = _verdict(finished, targets)
    name = _name(finished)
    parts = {
        "Attention": _attention(finished, targets),
        "At a glance": _glance(targets, sparks),
        "Targets": joined([section(one) for one in targets]),
        "Calibration": provenance.calibrations(finished),
        "Frames": frames.section(finished),
        "Provenance": provenance.section(finished),
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
    """Return what the night is called: its evening. Its folder may be called anything."""
    return evening_of(finished.account.frames) or "a night without a date"


def _verdict(finished: Finished, targets: Sequence[Shown]) -> str:
    """Return the worst that is to be said of the night."""
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
    """Return the range of the spectra's signal to noise."""
    known = [f.spectrum.attrs.get("snr") for one in targets for f in one.found]
    found = [float(snr) for snr in known if is_number(snr)]
    ends = dict.fromkeys(number(f(found)) for f in (min, max)) if found else {}
    return [("–".join(ends), "signal to noise")] if ends else []


def _contents(titles: Sequence[str]) -> Markup:
    links = [tag("a", title, attributes={"href": anchor(_id(title))}) for title in titles]
    items = tag("ul", [tag("li", [link]) for link in links])
    return tag("nav", [items], attributes={"aria-label": "Contents"})


def _id(title: str) -> str:
    return title.lower().replace(" ", "-")


def _part(title: str, part: Markup) -> Markup:
    return tag("section", tag("h2", title), part, attributes={"id": _id(title)})


def _attention(finished: Finished, targets: Sequence[Shown]) -> Markup:
    """Return what went wrong, then what is odd; nothing where all is well."""
    failed = [one for one in targets if one.state == "failed"]
    told = [
        tag("li", _link(one), ": ", one.target.error or one.damage or "no product of it is known")
        for one in failed
    ]
    blocks = [tag("div.callout.failed", tag("strong", _failed(len(failed))), tag("ul", told))]
    warnings = finished.account.warnings
    notes = [tag("div.callout.attention", bullets(warnings))]
    return joined(blocks if failed else [], notes if warnings else [])


def _failed(n: int) -> str:
    return f"{counted(n, 'target')} failed"


def _link(one: Shown) -> Markup:
    return tag("a", one.target.name, attributes={"href": anchor(one.id)})


def _glance(targets: Sequence[Shown], sparks: dict[str, str]) -> Markup:
    """Return a card for each target, where there are several."""
    if len(targets) < 2:
        return joined()
    return tag("ul.cards", [tag("li", _card(one, sparks[one.target.name])) for one in targets])


def _card(one: Shown, path: str) -> Markup:
    snr = one.found[0].spectrum.attrs.get("snr") if one.found else None
    told = f"S/N {number(snr)}" if is_number(snr) else "failed" if one.state == "failed" else ""
    drawn = [charts.spark(path, f"Spectrum of {one.target.name}")] if path else []
    return tag(
        f"a.card.{one.state}",
        tag("b", one.target.name),
        tag("span", told),
        drawn,
        attributes={"href": anchor(one.id)},
    )


def _spark(one: Shown) -> str:
    """Return the shape of a target's first spectrum, "" where there is none."""
    return charts.spark_path(one.found[0].spectrum["flux"].values) if one.found else ""


def _told(one: Shown, path: str) -> dict[str, Any]:
    """Return what an index tells of a target."""
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
