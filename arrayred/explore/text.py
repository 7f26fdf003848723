"""What the page says in words, safe to show: headers and file names may hold anything.

Every text from a file goes through `html.escape` here; the page shows no other HTML.
"""

from __future__ import annotations

import html
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import panel as pn

from arrayred.errors import printable
from arrayred.io.frames import Frame

if TYPE_CHECKING:
    from collections.abc import Hashable

COPIED = "copied"
_GREY = "color: #555; font-size: 12px;"


def safe(text: str) -> str:
    """Return a text as HTML that shows it, whatever is in it.

    Examples
    --------
    >>> safe("<b>59 Cyg")
    '&lt;b&gt;59 Cyg'
    """
    return html.escape(printable(text))


def block(title: str) -> Any:
    """Return the heading of a block of widgets."""
    style = "font-weight: 600; border-top: 1px solid #ddd; padding-top: 8px;"
    return pn.pane.HTML(f"<div style='{style}'>{safe(title)}</div>", sizing_mode="stretch_width")


def heading(title: str) -> str:
    """Return the title of the page."""
    return f"<div style='font-size: 18px; font-weight: 600'>{safe(title)}</div>"


def facts_of(frame: Frame) -> str:
    """Return what a header says of a frame, as a small table."""
    time = "" if frame.time is None else f"{frame.time:%Y-%m-%d %H:%M:%S}"
    degrees = "" if frame.ccd_temp is None else f"{frame.ccd_temp:.1f} deg C"
    exposure = "" if frame.exptime is None else f"{frame.exptime:g} s"
    told = {
        "file": frame.label,
        "object": frame.target,
        "type": frame.frame_type or "unknown",
        "exposure": exposure,
        "begun": time,
        "detector": degrees,
    }
    rows = (
        f"<tr><td style='{_GREY} padding-right: 8px'>{name}</td>"
        f"<td style='font-size: 12px; overflow-wrap: anywhere'>{safe(value)}</td></tr>"
        for name, value in told.items()
        if value
    )
    return f"<table>{''.join(rows)}</table>"


def about_rows(facts: Mapping[Hashable, Any]) -> str:
    """Return in a line what a spectrum is made of.

    Parameters
    ----------
    facts : the attributes of a spectrum.

    Examples
    --------
    >>> about_rows({"first_row": 484, "last_row": 518, "sky_below": (334, 433), "snr": 387.2})
    'rows 484:518, sky 334:433, signal to noise 387'
    """
    words = [f"rows {facts['first_row']}:{facts['last_row']}"]
    sides = sky_of(facts)
    if sides:
        words.append("sky " + " and ".join(f"{first}:{last}" for first, last in sides))
    if facts.get("snr", 0) > 0:
        words.append(f"signal to noise {facts['snr']:.0f}")
    if facts.get("enclosed_fraction", 0) > 0:
        words.append(f"{facts['enclosed_fraction'] * 100:.1f} % of the light enclosed")
    return ", ".join(words)


def sky_of(facts: Mapping[Hashable, Any]) -> tuple[tuple[int, int], ...]:
    """Return the bands of rows from which the sky of a spectrum comes."""
    sides = tuple(facts[name] for name in ("sky_below", "sky_above") if name in facts)
    if not sides and "sky_first_row" in facts:
        sides = ((facts["sky_first_row"], facts["sky_last_row"]),)
    return tuple((int(first), int(last)) for first, last in sides)


def told(text: str, *, is_error: bool = False) -> str:
    """Return a line of the page."""
    colour = "#b42318" if is_error else "#333"
    return f"<div style='color: {colour}; font-size: 13px'>{safe(text)}</div>"


def pixel_text(
    column: int, row: int, value: float, unit: str, between: tuple[float, float] | None
) -> str:
    """Return where a pixel is, FITS numbers, and what it holds, as HTML.

    Parameters
    ----------
    column, row, value, unit : of the pixel.
    between : the values that are shown darkest and brightest.
    """
    lines = [f"column {column}, row {row}", f"<b>{value:.7g} {safe(unit)}</b>"]
    if between is not None:
        lines.append(f"<span style='{_GREY}'>shown {between[0]:.4g} to {between[1]:.4g}</span>")
    return f"<div style='font-size: 13px; padding-left: 12px'>{'<br>'.join(lines)}</div>"
