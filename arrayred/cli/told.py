"""A command told again: `command_of`, which a report shows so that a night can be made again."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from typing import Any

import click

from arrayred.cli.wishes import Card, RowRange, Wishes

_ABOUT_THE_RUN = frozenset(
    {"allow_missing", "break_lock", "cache", "cache_dir", "cache_size", "force", "jobs", "memory",
     "no_cache", "no_figures", "no_input", "overwrite", "quiet", "scheduler", "verbose", "verify"}
)  # fmt: skip
"""Options that change how a run goes and no number of it."""
_SECRET = re.compile(r"(?<=://)[^/\s]*@|(?<=\w)\?\S*")


def command_of(wishes: Wishes) -> str:
    """Return the command that reduces a night NIGHT to a folder OUT as wished; "" outside of one.

    The folders' own names are nobody's business, and the same night gives the same page anywhere.
    """
    context = click.get_current_context(silent=True)
    if context is None:
        return ""
    words = ["arrayred", "reduce", "NIGHT", "-o", "OUT"]
    for option in context.command.params:
        if option.name in wishes and option.name not in _ABOUT_THE_RUN:
            words += _words(option, wishes[option.name])
    return " ".join(map(shlex.quote, words))


def _words(option: click.Parameter, value: Any) -> Iterator[str]:
    """Yield an option and its value, as often as it was given."""
    for one in value if option.multiple else [value]:
        yield max(option.opts, key=len)
        if not (isinstance(option, click.Option) and option.is_flag):
            yield _public(_text(option, one))


def _text(option: click.Parameter, value: Any) -> str:
    if isinstance(option.type, RowRange):
        return f"{value[0]}:{value[1]}"
    if isinstance(option.type, Card):
        keyword, found = value
        is_text = isinstance(found, str) and found.replace(".", "").lstrip("+-").isdecimal()
        return f"{keyword}='{found}'" if is_text else f"{keyword}={found}"
    return str(value)


def _public(text: str) -> str:
    """Return a text without the user, password and signature that a URL may hold."""
    return _SECRET.sub("", text) if "://" in text else text
