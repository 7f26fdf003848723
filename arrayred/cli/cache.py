"""``arrayred cache NIGHT``: a night's pixels and headers as a zarr store."""

from __future__ import annotations

import time
from pathlib import Path

import click

from arrayred.cli.choosing import about_the_night, night_file_of, opened
from arrayred.cli.keeping import is_remote, library_of
from arrayred.cli.progress import showing
from arrayred.cli.sections import Sectioned
from arrayred.cli.wishes import Wishes, wish, wishes_of
from arrayred.watching import stage


@click.command(cls=Sectioned)
@click.argument("night", required=False, type=click.Path(path_type=Path))
@wish("--to", metavar="PATH|URL", help="Write the cache here, for others too.")
@wish("--info", is_flag=True, help="List the caches, or tell about NIGHT if it is one.")
@wish("--clear", is_flag=True, help="Remove all caches.")
@wish("--overwrite", is_flag=True, help="Replace what is there.")
@wish("-q", "--quiet", is_flag=True, help="Print errors only.")
@about_the_night
@click.pass_context
def cache(ctx: click.Context, night: Path | None) -> None:
    """Store the frames of the folder NIGHT as zarr: pixels, headers, labels.

    Any command takes such a store in place of the night, with the same results; so does
    xarray.open_datatree(PATH, engine="zarr").

    \b
    arrayred cache raw                      for later runs on the same frames
    arrayred cache raw --to night.zarr      a store of your own
    arrayred cache raw --to s3://bucket/night.zarr
    arrayred cache s3://bucket/raw          for later runs on frames that lie far away
    arrayred reduce night.zarr -o reduced
    arrayred cache --info
    arrayred cache --clear
    """
    wishes = wishes_of(ctx)
    if wishes.get("clear"):
        _clear(wishes)
    elif wishes.get("info"):
        _tell(night, wishes)
    else:
        _build(night, wishes)


def _build(night: Path | None, wishes: Wishes) -> None:
    from arrayred.errors import UsageError, printable
    from arrayred.io.caching import require_zarr
    from arrayred.night.night import cache_night

    if night is None:
        raise UsageError("No night is named", hint="Name a folder of frames, --info or --clear.")
    require_zarr()
    started = time.perf_counter()
    with showing(quiet=wishes.get("quiet", False)):
        there = opened(night, night_file_of(wishes), {**wishes, "no_cache": True})
    target = wishes["to"] if "to" in wishes else library_of(wishes)
    with showing(quiet=wishes.get("quiet", False)):
        place = cache_night(there, target, overwrite=wishes.get("overwrite", False))
    if not wishes.get("quiet"):
        seconds = time.perf_counter() - started
        size = f"{len(there.scanned)} frames" if is_remote(place) else _size(place)
        click.echo(f"{printable(str(place))}: {size}, {seconds:.1f} s")


def _tell(cache: Path | None, wishes: Wishes) -> None:
    from arrayred.errors import printable
    from arrayred.io.cache import contents_of
    from arrayred.io.remote import located

    if cache is not None:
        cache = located(cache)
        with showing(), stage("hashing the cache"):
            contents_of(cache, wholly=True)
        click.echo(f"{printable(str(cache))}: {_size(cache)}; every file is as it was written")
        return
    library = library_of(wishes)
    entries = library.entries()
    for entry in entries:
        used = time.strftime("%Y-%m-%d %H:%M", time.localtime(entry.used))
        click.echo(f"{entry.place.name}  {entry.n_bytes / 1e6:9.1f} MB  used {used}")
    total = sum(entry.n_bytes for entry in entries)
    most = library.most_bytes / 1e6
    where = printable(str(library.folder))
    click.echo(f"{where}: {len(entries)} caches, {total / 1e6:.1f} of {most:.0f} MB")


def _clear(wishes: Wishes) -> None:
    from arrayred.errors import printable

    library = library_of(wishes)
    gone = library.clear()
    freed = sum(entry.n_bytes for entry in gone) / 1e6
    click.echo(f"{printable(str(library.folder))}: removed {len(gone)} caches, {freed:.1f} MB")


def _size(place: Path) -> str:
    """Return what a cache holds, in words."""
    from arrayred.io.cache import contents_of

    contents = contents_of(place)
    images, packed = contents.images.values(), contents.n_bytes
    plain = sum(image.source.n_bytes for image in images)
    n_frames = len(images)
    frames = "1 frame" if n_frames == 1 else f"{n_frames} frames"
    return f"{frames}, {packed / 1e6:.1f} MB for {plain / 1e6:.1f} MB of pixels"
