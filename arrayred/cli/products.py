"""``arrayred report``, ``verify``, ``wavelength``, ``export``, ``cache``, ``explore``."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import click

from arrayred.cli.layout import message
from arrayred.cli.options import (
    BESIDE,
    Options,
    OwnOptions,
    Sectioned,
    cache_folder_of,
    is_remote,
    night_file_of,
    night_options,
    open_with_progress,
    option,
    options_of,
    recipe_options,
    settle_settings,
    wavelength_options,
    words_of,
)
from arrayred.cli.progress import shown_stages
from arrayred.errors import MissingCardsError, UsageError, printable
from arrayred.export import FORMATS, OBSERVER_FILE, Format, Observer, check_bess_file, export_file
from arrayred.io.publish import publish
from arrayred.progress import stage

if TYPE_CHECKING:
    from arrayred.io.ledger import EntryCheck, Verification


@click.command()
@click.argument("out", metavar="OUT", type=click.Path(path_type=Path))
@click.option("--overwrite", is_flag=True, help="Overwrite the report, whatever it contains.")
@click.option(
    "--interactive",
    is_flag=True,
    help="Also write interactive pages with zoom and hover (needs bokeh).",
)
@click.option("-q", "--quiet", is_flag=True, help="Print only errors.")
def report(out: Path, overwrite: bool, interactive: bool, quiet: bool) -> None:
    """Make the page of the night in the folder OUT, or those of many nights and their index.

    Reports are built from the products and, where they have not been moved, the raw frames. Each
    report is a single file that works offline in any browser. `reduce` writes them too.

    \b
    arrayred report reduced
    arrayred report reduced --interactive
    """
    from arrayred.io.publish import output_lock

    _require_products(out)
    with output_lock(out):
        for page in _write_pages(out, overwrite=overwrite, interactive=interactive):
            if not quiet:
                click.echo(printable(str(page)))


def _require_products(out: Path) -> None:
    """Raise UsageError for a folder that is no output, before anything is written into it."""
    from arrayred.report.pages import is_night, nights_in

    hint = "Name an output folder of `arrayred reduce`."
    if not out.is_dir():
        raise UsageError("No such folder", path=out, hint=hint)
    if not is_night(out) and not nights_in(out):
        raise UsageError("No finished products found here", path=out, hint=hint)


def _write_pages(out: Path, *, overwrite: bool, interactive: bool) -> Iterator[Path]:
    """Yield each page as it is made: those of the nights, then their index."""
    from arrayred.io.publish import output_lock
    from arrayred.report.pages import is_night, nights_in, write_index, write_report

    nights = nights_in(out)
    if is_night(out) or not nights:
        yield write_report(out, overwrite=overwrite)
        if interactive:
            yield _write_interactive(out, overwrite=overwrite)
    for night in nights:
        with output_lock(night):
            yield write_report(night, overwrite=overwrite)
            if interactive:
                yield _write_interactive(night, overwrite=overwrite)
    if nights:
        yield write_index(out, overwrite=overwrite)


def _write_interactive(out: Path, *, overwrite: bool) -> Path:
    with explorer_needed():
        from arrayred.explore.interactive import write_interactive
    return write_interactive(out, overwrite=overwrite)


@contextmanager
def explorer_needed() -> Iterator[None]:
    """Raise UsageError where the extra that draws interactive pages is not installed."""
    try:
        yield
    except ImportError as error:
        raise UsageError(
            f"The explorer needs panel and bokeh ({error})",
            hint="Install them: pip install 'arrayred[explore]'.",
        ) from error


# ``arrayred wavelength OUT``: identify the lamps of reduced targets anew.


@click.command()
@click.argument("out", metavar="OUT", type=click.Path(path_type=Path))
@click.argument("targets", metavar="[TARGET...]", nargs=-1)
@click.option(
    "--lines",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Identified lines: x and wavelength (air, Angstrom), one per row.",
)
@click.option(
    "--zero-point-of",
    metavar="TARGET",
    help="Apply the zero point that was measured in another target of the night, such as a star "
    "of known velocity.",
)
@wavelength_options
@click.option("-q", "--quiet", is_flag=True, help="Print only errors.")
@click.pass_context
def wavelength(
    ctx: click.Context,
    out: Path,
    targets: tuple[str, ...],
    lines: Path | None,
    zero_point_of: str | None,
    quiet: bool,
) -> None:
    """Identify the arc lines of targets in OUT again, and update the wavelengths of their spectra.

    Nothing is reduced again: the arc spectra are stored with the targets. Without TARGET, all
    targets with arc spectra are updated. If a lamp is not identified, the spectrum is not changed.
    --solution also accepts the name of another target.

    \b
    arrayred wavelength reduced
    arrayred wavelength reduced Vega --lamp Ne+Ar --dispersion 0.57 --center 6600
    arrayred wavelength reduced Deneb --solution Vega
    arrayred wavelength reduced Deneb --zero-point-of Vega
    """
    from arrayred.batch.wavelengths import redo
    from arrayred.config import Recipe
    from arrayred.io.publish import output_lock
    from arrayred.steps.solution import wavelength_texts

    recipe = Recipe().replace(**options_of(ctx))
    if lines is not None and recipe.lamp_solution:
        raise UsageError(
            "--lines and --solution cannot be used together", hint="Remove one of the two."
        )
    if zero_point_of is not None and recipe.zero_point != "none":
        raise UsageError(
            "--zero-point and --zero-point-of cannot be used together",
            hint="Remove one of the two.",
        )
    _require_products(out)
    failed = None
    with output_lock(out):
        for one in redo(out, targets, recipe, lines, zero_point_of):
            if one.solved is None:
                failed = one.error
                message("error", printable(f"{one.name}: {one.error}"))
            elif not quiet:
                for text in wavelength_texts(one.facts):
                    click.echo(printable(f"{one.name}: {text}"))
                for line in one.solved.told:
                    click.echo(printable(f"  Note: {line}"))
        if (out / "report.html").exists():
            for _ in _write_pages(out, overwrite=True, interactive=False):
                pass
    if failed is not None:
        sys.exit(failed.exit_code)


# ``arrayred verify OUT...``: check that products and inputs are unchanged, and show provenance.

EXIT_CHANGED = 3
_SHORT_HASH = 12


@click.command()
@click.argument(
    "places", nargs=-1, required=True, metavar="OUT...", type=click.Path(path_type=Path)
)
@click.option("--explain", is_flag=True, help="Print the processing history of a product.")
@click.option("-q", "--quiet", is_flag=True, help="Print only differences.")
def verify(places: tuple[Path, ...], explain: bool, quiet: bool) -> None:
    """Check that the inputs and products of the output folders OUT are unchanged (SHA-256).

    Folders are searched for nights; a product is verified with its own inputs. The exit code is 0
    if everything is unchanged, else 3.

    \b
    arrayred verify reduced
    arrayred verify reduced/targets/Vega/Vega_spectrum.fits
    arrayred verify reduced/targets/Vega/Vega_spectrum.fits --explain
    """
    from arrayred.io.ledger import verify_outputs as verified

    if explain:
        for place in places:
            _print_provenance(place)
        return
    is_intact = True
    for place in places:
        with shown_stages(quiet=quiet):
            for verification in verified(place):
                is_intact &= verification.is_intact
                for line in _verification_lines(verification, quiet=quiet):
                    click.echo(printable(line))
    sys.exit(0 if is_intact else EXIT_CHANGED)


def _print_provenance(place: Path) -> None:
    from arrayred.io.products import explain

    if place.is_dir():
        raise UsageError(
            "--explain needs a product file, not a folder",
            path=place,
            hint="Name a product in this folder.",
        )
    click.echo(explain(place))


def _verification_lines(verification: Verification, *, quiet: bool) -> Iterator[str]:
    """Yield the report of an output folder, line by line."""
    if not quiet:
        yield f"{verification.out}"
    for verdict in verification.verdicts:
        if not quiet:
            yield from _entry_lines(verdict)
        for name, state in verdict.products.items():
            yield f"  {verification.out / name}: {state}"
        for name, state in verdict.inputs.items():
            yield f"  {name}: {state}; it is an input of {verdict.entry.name}"
    for path in verification.unreadable:
        yield f"  {path}: unreadable; the products it lists may be incomplete"
    if not quiet:
        for path in verification.unknown:
            yield f"  {path}: unknown file, not a finished product"
        yield f"  {_verification_summary(verification)}"


def _entry_lines(verdict: EntryCheck) -> Iterator[str]:
    """Yield the products of a ledger entry, and the inputs that they were made of."""
    entry = verdict.entry
    yield f"  {entry.name}"
    for kind, files in (("product", entry.products), ("from", entry.inputs)):
        for name, sha256 in files.items():
            yield f"    {kind:7}  {sha256[:_SHORT_HASH]}  {name}"


def _verification_summary(verification: Verification) -> str:
    verdicts = verification.verdicts
    products = sum(len(verdict.entry.products) for verdict in verdicts)
    inputs = {name for verdict in verdicts for name in verdict.entry.inputs}
    wrong = {name for verdict in verdicts for name in (*verdict.products, *verdict.inputs)}
    state = "all unchanged" if verification.is_intact else f"{len(wrong)} changed or missing"
    made = "1 product" if products == 1 else f"{products} products"
    given = "1 input" if len(inputs) == 1 else f"{len(inputs)} inputs"
    return f"{made} of {given}: {state}"


# ``arrayred export OUT --to bess|iraf``: spectra for archives and other programs.


@click.command()
@click.argument("places", nargs=-1, metavar="[OUT...]", type=click.Path(path_type=Path))
@click.option(
    "--to", type=click.Choice(FORMATS), help="Format: bess (archive of Be stars) or iraf."
)
@click.option(
    "-o",
    "--output",
    metavar="FOLDER",
    type=click.Path(path_type=Path),
    help="Output folder. [default: OUT/bess or OUT/iraf]",
)
@click.option(
    "--observer",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="Observer file: observer, site, instrument. [default: observer.toml in OUT or in your "
    "settings]",
)
@click.option("--step", metavar="A", type=float, help="Bin width. [default: width of a pixel]")
@click.option(
    "--spoilt",
    type=click.Choice(("interpolate", "refuse")),
    default="interpolate",
    show_default=True,
    help="Interpolate flagged columns, or refuse the spectrum.",
)
@click.option(
    "--check",
    metavar="FILE",
    multiple=True,
    type=click.Path(path_type=Path),
    help="Check a file of any program for BeSS; write nothing.",
)
@click.option("--overwrite", is_flag=True, help="Overwrite existing files.")
@click.option("-q", "--quiet", is_flag=True, help="Print only errors.")
def export(
    places: tuple[Path, ...],
    to: Format | None,
    check: tuple[Path, ...],
    quiet: bool,
    **options: Any,
) -> None:
    """Write wavelength-calibrated spectra as one-dimensional FITS with a linear scale.

    OUT is an output folder of `reduce`, of one or many nights, or one TARGET_spectrum.fits. Only
    what the lamp's lines cover is written; counts are conserved, wavelengths are in air and as
    observed.

    \b
    arrayred export reduced --to bess
    arrayred export reduced/targets/Vega/Vega_spectrum.fits --to iraf -o for-iraf
    arrayred export --check Vega_bess.fits
    """
    if check:
        sys.exit(EXIT_CHANGED if _print_checks(check, quiet=quiet) else 0)
    if not places or to is None:
        raise UsageError(
            "No spectrum given" if not places else "No format given",
            hint="Name an output folder and --to bess or --to iraf.",
        )
    failed = 0
    nights = [(place, out, spectra) for place in places for out, spectra in _spectra_in(place)]
    n_spectra = sum(len(spectra) for _, _, spectra in nights)
    for place, out, spectra in nights:
        # Targets of two nights may have one name: under -o each night has a folder of its own.
        below = out.relative_to(place) if place.is_dir() else Path()
        folder = options["output"] / below if options["output"] else out / to
        observer = _observer_of(options["observer"], out, place)
        for path in spectra:
            try:
                content = export_file(
                    path, to, observer=observer, step=options["step"], spoilt=options["spoilt"]
                )
            except MissingCardsError:
                raise  # what one lacks, all lack
            except UsageError as error:
                if n_spectra == 1:
                    raise
                failed += 1
                click.echo(f"Error: {error}", err=True)
                continue
            name = path.name.removesuffix("_spectrum.fits")
            product = folder / f"{name}_{to}.fits"
            publish({product: content}, overwrite=options["overwrite"])
            if not quiet:
                click.echo(printable(str(product)))
    sys.exit(EXIT_CHANGED if failed else 0)


def _spectra_in(place: Path) -> list[tuple[Path, list[Path]]]:
    """Return the nights of an output folder, each with its finished spectra, or those of a file."""
    from arrayred.io.ledger import Ledger, output_folders

    if not place.is_dir():
        return [(place.parent, [place])]
    nights = []
    for out in output_folders(place):
        made = (name for entry in Ledger(out).entries() for name in entry.products)
        nights.append((out, [out / name for name in made if name.endswith("_spectrum.fits")]))
    if not nights:
        raise UsageError(
            "No finished products found here",
            path=place,
            hint="Name an output folder of `arrayred reduce`.",
        )
    if not any(spectra for _, spectra in nights):
        raise UsageError("No spectrum found here", path=place, hint="Reduce the night first.")
    return nights


def _observer_of(file: Path | None, out: Path, place: Path) -> Observer | None:
    """Return what the file of the observer says, or the one of the night, of OUT or the user."""
    from platformdirs import user_config_path

    folders = [out, place, user_config_path("arrayred")]
    places = [file] if file else [folder / OBSERVER_FILE for folder in folders]
    found = next((place for place in places if file or place.is_file()), None)
    return None if found is None else Observer.load(found)


def _print_checks(files: tuple[Path, ...], *, quiet: bool) -> int:
    """Print what is wrong with files for the archive; return the number of problems."""
    n = 0
    for file in files:
        problems = check_bess_file(file)
        n += len(problems)
        for problem in problems:
            click.echo(printable(f"{file}: {problem}"))
        if not problems and not quiet:
            click.echo(printable(f"{file}: meets the BeSS requirements"))
    return n


# ``arrayred cache NIGHT``: a night's pixels and headers as a zarr store.


@click.command(cls=Sectioned)
@click.argument("night", required=False, type=click.Path(path_type=Path))
@option("--to", metavar="PATH|URL", help="Folder or URL of the cache. [default: in --cache-dir]")
@option("--info", is_flag=True, help="List the caches, or describe the cache NIGHT.")
@option("--clear", is_flag=True, help="Remove all caches.")
@option("--overwrite", is_flag=True, help="Overwrite an existing cache.")
@option("-q", "--quiet", is_flag=True, help="Print only errors.")
@night_options
@click.pass_context
def cache(ctx: click.Context, night: Path | None) -> None:
    """Store the frames of the folder NIGHT as Zarr: pixels, headers, labels.

    Any command accepts a cache instead of the raw folder, with the same results, and xarray opens
    it with open_datatree(PATH, engine="zarr").

    \b
    arrayred cache raw                      for later runs
    arrayred cache raw --to night.zarr      in a place of your own
    arrayred cache raw --to s3://bucket/night.zarr
    arrayred cache s3://bucket/raw          for later runs on remote frames
    arrayred reduce night.zarr -o reduced
    arrayred cache --info
    arrayred cache --clear
    """
    options = options_of(ctx)
    if options.get("clear"):
        _clear_caches(options)
    elif options.get("info"):
        _print_cache(night, options)
    else:
        _build_cache(night, options)


def _build_cache(night: Path | None, options: Options) -> None:
    from arrayred.errors import UsageError, printable
    from arrayred.io.cache import open_cache
    from arrayred.night.night import cache_night

    if night is None:
        raise UsageError("No night given", hint="Name a folder of frames, --info or --clear.")
    started = time.perf_counter()
    with shown_stages(quiet=options.get("quiet", False)):
        there = open_with_progress(night, night_file_of(options), {**options, "no_cache": True})
    target = options["to"] if "to" in options else cache_folder_of(options)
    with shown_stages(quiet=options.get("quiet", False)):
        place = cache_night(there, target, overwrite=options.get("overwrite", False))
    if not options.get("quiet"):
        seconds = time.perf_counter() - started
        click.echo(f"{printable(str(place))}: {_cache_size_text(place)}, {seconds:.1f} s")
        rows = open_cache(place).band_rows
        chunks = f'{{"frame": -1, "y": {rows}}}'
        click.echo(f'xarray.open_datatree({str(place)!r}, engine="zarr", chunks={chunks})')


def _print_cache(cache: Path | None, options: Options) -> None:
    from arrayred.errors import printable
    from arrayred.io.cache import open_cache
    from arrayred.io.remote import path_or_address

    if cache is not None:
        cache = path_or_address(cache)
        with shown_stages(), stage("hashing the cache"):
            open_cache(cache, wholly=True)
        click.echo(f"{printable(str(cache))}: {_cache_size_text(cache)}; all files unchanged")
        return
    library = cache_folder_of(options)
    entries = library.entries()
    for entry in entries:
        used = time.strftime("%Y-%m-%d %H:%M", time.localtime(entry.used))
        click.echo(f"{entry.place.name}  {entry.n_bytes / 1e6:9.1f} MB  used {used}")
    total = sum(entry.n_bytes for entry in entries)
    most = library.most_bytes / 1e6
    where = printable(str(library.folder))
    click.echo(f"{where}: {len(entries)} caches, {total / 1e6:.1f} of {most:.0f} MB")


def _clear_caches(options: Options) -> None:
    from arrayred.errors import printable

    library = cache_folder_of(options)
    gone = library.clear()
    freed = sum(entry.n_bytes for entry in gone) / 1e6
    click.echo(f"{printable(str(library.folder))}: removed {len(gone)} caches, {freed:.1f} MB")


def _cache_size_text(place: Path) -> str:
    """Return number of frames and size of a cache, as text."""
    from arrayred.io.cache import open_cache

    contents = open_cache(place)
    images, packed = contents.images.values(), contents.n_bytes
    plain = sum(image.source.n_bytes for image in images)
    n_frames = len(images)
    frames = "1 frame" if n_frames == 1 else f"{n_frames} frames"
    return f"{frames}, {packed / 1e6:.1f} MB for {plain / 1e6:.1f} MB of pixels"


# ``arrayred explore NIGHT``: view a night in the browser.


@click.command(cls=OwnOptions)
@click.argument("night", type=click.Path(path_type=Path))
@click.option(
    "-o",
    "--out",
    type=click.Path(path_type=Path),
    metavar="OUT",
    help="Output folder of Reduce, where night.toml is read and saved. [default: NIGHT-reduced]",
)
@click.option(
    "--port",
    type=click.IntRange(1, 65535),
    metavar="N",
    help="Port to listen on (localhost only). [default: a free port]",
)
@click.option("--no-browser", is_flag=True, help="Print the address only; do not open a browser.")
@night_options
@recipe_options
@click.pass_context
def explore(
    ctx: click.Context, night: Path, out: Path | None, port: int | None, no_browser: bool
) -> None:
    """Browse NIGHT in a web browser, choose aperture and sky rows, save them and reduce.

    NIGHT is a folder of raw frames, a cache, or an output folder of `reduce`. The page is served
    to this machine only, under an unguessable address. Press Ctrl-C to stop.

    \b
    arrayred explore 2020-11-03/raw -o reduced
    arrayred explore reduced
    arrayred explore raw --no-browser --port 5006
    """
    with explorer_needed():
        from arrayred.explore.app import serve_page
    from arrayred.batch import require_outside
    from arrayred.explore.data import ExplorerModel, ReduceCommand
    from arrayred.io.remote import path_or_address

    options, there = options_of(ctx), path_or_address(night).resolve()
    if out is None:
        out = (Path() if is_remote(there) else there.parent) / f"{there.name}-reduced"
    require_outside(there, out)
    recipe, file = settle_settings(options, night_file_of(options, out))
    command = ReduceCommand(
        out,
        options.get("night_file", out / BESIDE),
        partial(settle_settings, options),
        tuple(words_of(options, without={"night_file"})),
    )
    opened = open_with_progress(night, file, options)
    model = ExplorerModel(opened, recipe, options.get("memory"), command)
    with TemporaryDirectory(prefix="arrayred-") as folder:

        def announce(address: str) -> None:
            click.echo(f"{printable(str(night))}: {address}\nPress Ctrl-C to stop.")
            if not no_browser:
                _open_browser(address, Path(folder))

        serve_page(model, port or 0, announce=announce)


def _open_browser(address: str, folder: Path) -> None:
    """Open a browser with a file in a private folder that redirects to an address.

    The address itself would be visible to other users of the machine in its list of processes.
    """
    import webbrowser

    door = folder / "arrayred.html"
    door.write_text(f'<meta http-equiv="refresh" content="0; url={address}">')
    webbrowser.open(door.as_uri())
