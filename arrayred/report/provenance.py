"""Where everything comes from: masters and what they serve, inputs and products, the command."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import PurePath

from arrayred.io.ledger import ALGORITHM
from arrayred.report.account import Served, TargetLine
from arrayred.report.gather import Finished
from arrayred.report.html import Markup, anchor, joined, path_below, tag
from arrayred.report.texts import bullets, counted, setting, table

_MOST_OPEN = 24
"""A list of more lines is folded."""


def calibrations(finished: Finished) -> Markup:
    """Return which masters serve which targets, how far apart in time and temperature."""
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


def section(finished: Finished) -> Markup:
    """Return inputs, products, settings, versions, and the command to make it again."""
    account = finished.account
    versions = [f"{name} {version}" for name, version in account.versions.items()]
    versions += [f"algorithm {ALGORITHM}"]
    told = [
        tag("h3", "To make it again"),
        tag("pre", tag("code", account.command or "The command was not noted.")),
        tag("p.muted", f"NIGHT holds the inputs below. {', '.join(versions)}."),
        tag("h3", "Settings"),
        _settings(account.settings),
    ]
    return joined(told, _inputs(finished), _products(finished))


def _settings(settings: Mapping[str, object]) -> Markup:
    """Return the settings that are not the default ones."""
    if not settings:
        return tag("p", "All as they are by default.")
    return bullets([f"{name} = {setting(value)}" for name, value in settings.items()])


def _inputs(finished: Finished) -> Markup:
    """Return each input, what it went into, and its sha256."""
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
    """Return each product with its sha256."""
    sums: dict[str, str] = {}
    for entry in finished.entries.values():
        sums |= entry.products
    rows = [
        tag("tr", tag("th", [_link(name)], attributes={"scope": "row"}), _sum(sums[name]))
        for name in sorted(sums)
    ]
    return _folded("Products", "product", rows, ("file", "SHA-256"))


def _link(name: str) -> Markup:
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
