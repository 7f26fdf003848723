"""The options about caches, and what they amount to."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import click

from arrayred.cli.wishes import Size, Wishes, wish

if TYPE_CHECKING:
    from arrayred.io.caching import Library
    from arrayred.night import Night
    from arrayred.night.night import Caching

FOLDER = wish(
    "--cache-dir",
    type=click.Path(path_type=Path),
    metavar="DIR",
    envvar="ARRAYRED_CACHE_DIR",
    help="Where caches lie. [default: ~/.cache/arrayred]",
)
SIZE = wish(
    "--cache-size",
    type=Size(),
    envvar="ARRAYRED_CACHE_SIZE",
    help="What all caches may take; the least used go first. [default: 20G]",
)
ABOUT_CACHES = (
    wish("--cache", is_flag=True, help="Read pixels from a cache, made now if there is none. "
         "[default: for compressed frames]"),
    wish("--no-cache", is_flag=True, help="Neither use nor make a cache."),
    FOLDER,
    SIZE,
)  # fmt: skip


def library_of(wishes: Wishes) -> Library:
    """Return the library of caches that is wished for."""
    from arrayred.io.caching import MOST_BYTES, Library, default_folder

    return Library(
        wishes.get("cache_dir") or default_folder(), wishes.get("cache_size", MOST_BYTES)
    )


def caching_of(wishes: Wishes) -> Caching | None:
    """Return when caches are used, or None where they are not."""
    from arrayred.errors import UsageError

    always = wishes.get("cache", False)
    if always and wishes.get("no_cache"):
        raise UsageError("--cache and --no-cache exclude each other", hint="Give one of them.")
    if wishes.get("no_cache") or (not always and find_spec("zarr") is None):
        return None
    if always:
        from arrayred.io.caching import require_zarr

        require_zarr()
    from arrayred.night.night import Caching, say_nothing

    quiet = wishes.get("quiet", False)
    return Caching(library_of(wishes), always, say_nothing if quiet else warn)


def keep(night: Night, wishes: Wishes) -> None:
    """Leave a cache of a night that was reduced from its files, where one is wanted."""
    from arrayred.batch import cache_quietly

    caching = caching_of(wishes)
    if caching is not None and caching.is_for(night.scanned) and not is_remote(night.folder):
        cache_quietly(night, caching)


def near(night: Night, wishes: Wishes) -> Night:
    """Return a night whose pixels are at hand: one behind a URL goes into a cache first."""
    caching = caching_of(wishes)
    if caching is None or not is_remote(night.folder):
        return night
    from arrayred.night.night import brought_near

    return brought_near(night, caching)


def is_remote(folder: Path) -> bool:
    """Tell whether a folder lies behind a URL."""
    from arrayred.io.remote import Address

    return isinstance(folder, Address)


def warn(text: str) -> None:
    """Print a warning."""
    from arrayred.errors import printable

    click.echo(f"arrayred: warning: {printable(text)}", err=True)
