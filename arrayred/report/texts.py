"""Numbers, times and counts as the page tells them."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any, TypeGuard

from arrayred.report.html import Markup, tag

UNKNOWN = "unknown"


def number(value: Any, decimals: int = 0, unit: str = "") -> str:
    """Return a number with so many decimals and its unit; "unknown" for none.

    Examples
    --------
    >>> number(387.4), number(-40.04, 1, "°C"), number(None)
    ('387', '-40.0 °C', 'unknown')
    """
    if not is_number(value):
        return UNKNOWN
    text = f"{value:.{decimals}f}"
    text = text.removeprefix("-") if float(text) == 0 else text
    return f"{text} {unit}" if unit else text


def is_number(value: Any) -> TypeGuard[float]:
    """Tell whether a value is a finite number."""
    return isinstance(value, int | float) and math.isfinite(value)


def share(value: Any) -> str:
    """Return a share in percent.

    Examples
    --------
    >>> share(0.9921)
    '99.2 %'
    """
    return f"{value:.1%}".replace("%", " %") if is_number(value) else UNKNOWN


def span(pair: Any) -> str:
    """Return first and last row.

    Examples
    --------
    >>> span((484, 518))
    '484 to 518'
    """
    return f"{pair[0]} to {pair[1]}"


def counted(n: int, what: str, many: str = "") -> str:
    """Return a number of things.

    Examples
    --------
    >>> counted(1, "frame"), counted(3, "frame"), counted(0, "bias", "biases")
    ('1 frame', '3 frames', '0 biases')
    """
    return f"{n} {what if n == 1 else many or what + 's'}"


def seconds(value: float | None) -> str:
    """Return an exposure."""
    return "unknown" if value is None else f"{value:g} s"


def setting(value: Any) -> str:
    """Return the value of a setting as a recipe would write it."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(setting, value)) + "]"
    return f'"{value}"' if isinstance(value, str) else str(value)


def facts(pairs: Iterable[tuple[str, str]]) -> Markup:
    """Return names and values as a list; those without a value are left out."""
    return tag(
        "dl.facts",
        [tag("div", tag("dt", name), tag("dd", value)) for name, value in pairs if value],
    )


def bullets(lines: Iterable[str], name: str = "ul") -> Markup:
    """Return lines as a list."""
    return tag(name, [tag("li", line) for line in lines])


def table(name: str, heads: Iterable[str], body: Iterable[Markup], caption: str) -> Markup:
    """Return a table that scrolls by itself where the screen is narrow.

    Parameters
    ----------
    name : of the element, with its classes.
    heads : of the columns; one that begins with "#" is of numbers.
    body : its rows.
    caption : what it tells.
    """
    cells = [
        tag(f"th{'.n' * head.startswith('#')}", head.removeprefix("#"), attributes={"scope": "col"})
        for head in heads
    ]
    return tag(
        "div.scroll",
        tag(
            name,
            tag("caption", caption),
            tag("thead", tag("tr", cells)),
            tag("tbody", body),
        ),
        attributes={"tabindex": "0", "role": "region", "aria-label": caption},
    )
