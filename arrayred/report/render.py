"""Fill the templates of pages: the one place where texts of headers and files become HTML.

jinja2 escapes every text that a template shows, and control characters are made visible first. No
template turns escaping off; links and pictures are written by filters of this module, so that no
name of a target, however it is spelt, can become an element, an attribute, a script or a request to
another host. jinja2 is imported when the first page is made (40 ms).
"""

from __future__ import annotations

import base64
import hashlib
import math
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeGuard
from urllib.parse import quote

from arrayred.errors import counted, printable

if TYPE_CHECKING:
    from jinja2 import Environment

TEMPLATES = Path(__file__).with_name("templates")
UNKNOWN = "unknown"
_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"


def render(template: str, **values: Any) -> str:
    """Return a template filled with values, every text escaped.

    Parameters
    ----------
    template : its file in the folder of templates.
    values : by the names that the template gives them.
    """
    return _environment().get_template(template).render(values)


def fragment(template: str, macro: str, *values: Any, **named: Any) -> str:
    """Return what a macro of a template makes of values, every text escaped."""
    return str(getattr(_environment().get_template(template).module, macro)(*values, **named))


def page(template: str, *, script: str = "", code: str = "", **values: Any) -> bytes:
    """Return a whole page, in UTF-8: one file that needs no other and no network.

    Parameters
    ----------
    template : its file in the folder of templates.
    script : file of the only script that is allowed to run, or "".
    code : that script itself, if it is no file; it may evaluate code, as Bokeh does.
    values : by the names that the template gives them.
    """
    from markupsafe import Markup

    may_evaluate = " 'unsafe-eval'" if code else ""
    code = code or (read(script) if script else "")
    policy = f"{_POLICY}; script-src '{_hash_of(code)}'{may_evaluate}" if code else _POLICY
    whole = render(
        template, policy=policy, style=Markup(read("style.css")), script=Markup(code), **values
    )
    return f"{whole}\n".encode()


@cache
def read(name: str) -> str:
    """Return the text of a file beside the templates: the style sheet or the script."""
    return (TEMPLATES / name).read_text("utf-8")


def _hash_of(code: str) -> str:
    digest = hashlib.sha256(code.encode()).digest()
    return f"sha256-{base64.b64encode(digest).decode('ascii')}"


@cache
def _environment() -> Environment:
    import jinja2

    made = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=True,
        finalize=_visible,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
    )
    made.filters |= {
        "anchor": anchor, "below": below, "png": png_source, "number": number,
        "difference": difference, "seconds": seconds, "counted": counted, "setting": setting,
    }  # fmt: skip
    return made


def _visible(value: Any) -> Any:
    """Return a value with its control characters made visible, if it is a text and not markup."""
    is_plain = not isinstance(value, str) or hasattr(value, "__html__") or value.isprintable()
    return value if is_plain else printable(value)


# Links and pictures.


def anchor(name: str) -> str:
    """Return a link to the element with an id on the same page.

    Examples
    --------
    >>> anchor("target-59_Cyg")
    '#target-59_Cyg'
    """
    return f"#{quote(name, safe='', errors='replace')}"


def below(path: str) -> str:
    """Return a link to a file below the folder of the page, its path with slashes.

    Examples
    --------
    >>> below("2020-11-03/report.html"), below("javascript:alert(1)")
    ('2020-11-03/report.html', 'javascript%3Aalert%281%29')
    """
    parts = (quote(name, safe="+", errors="replace") for name in path.split("/"))
    return "/".join(part for part in parts if part not in ("", ".", ".."))


def png_source(content: bytes) -> str:
    """Return the bytes of a PNG as the source of a picture that is part of the page."""
    return f"data:image/png;base64,{base64.b64encode(content).decode('ascii')}"


# Numbers, times and counts as text.


def number(value: Any, decimals: int = 0, unit: str = "") -> str:
    """Return a number with its decimals and unit; "unknown" if it is not a finite number.

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


def difference(value: float | None) -> str:
    """Return a difference with its sign and one decimal; "unknown" if it is None.

    Examples
    --------
    >>> difference(1.25), difference(-0.04)
    ('+1.2', '+0.0')
    """
    return UNKNOWN if value is None else f"{round(value, 1) + 0.0:+.1f}"


def is_number(value: Any) -> TypeGuard[float]:
    """Return whether a value is a finite number."""
    return isinstance(value, int | float) and math.isfinite(value)


def seconds(value: float | None) -> str:
    """Return an exposure time, s, as text; "unknown" if it is None."""
    return UNKNOWN if value is None else f"{value:g} s"


def setting(value: Any) -> str:
    """Return the value of a setting as written in a recipe."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(setting, value)) + "]"
    return f'"{value}"' if isinstance(value, str) else str(value)
