"""Define the options of the commands, check their combinations, and turn them into settings.

A command with twenty options would have a function with twenty parameters; here each option stores
its value, if it was given, in the context's `Options`, and the function reads them by name.
"""

from __future__ import annotations

import dataclasses
import os
import re
import shlex
import sys
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, cast

import click
from click.shell_completion import CompletionItem, shell_complete

from arrayred.cli.layout import countdown, message
from arrayred.config.recipe import IN_WAVELENGTH, SETTINGS, default_of, type_of, value_name
from arrayred.errors import UsageError, printable

if TYPE_CHECKING:
    from distributed import Client

    from arrayred.batch import OutputOptions
    from arrayred.batch.nights import Executor
    from arrayred.config import NightFile, Recipe
    from arrayred.io.caching import CacheFolder
    from arrayred.io.header import Value
    from arrayred.io.ledger import SavedCards
    from arrayred.night import Night, Plan
    from arrayred.night.night import CachePolicy

Options = dict[str, Any]
_SIZE = re.compile(r"(\d+)\s*([KMGT]?)(?:i?B)?", re.IGNORECASE)
_POWER = {"": 0, "K": 10, "M": 20, "G": 30, "T": 40}
_NUMBER = re.compile(r"[+-]?(0|[1-9]\d*)(\.\d*)?([eE][+-]?\d{1,2})?")


def _remember(ctx: click.Context, param: click.Parameter, value: Any) -> None:
    if value is not None and value is not False and value != () and param.name is not None:
        ctx.ensure_object(dict)[param.name] = value


option: Callable[..., Callable[[Any], Any]] = partial(
    click.option, expose_value=False, callback=_remember
)
"""A `click.option` whose value is stored in the `Options`, if it was given."""


def options_of(ctx: click.Context) -> Options:
    """Return the values of the options that were given, by name."""
    return cast(Options, ctx.ensure_object(dict))


def with_options(
    command: Callable[..., Any], options: Sequence[Callable[[Any], Any]]
) -> Callable[..., Any]:
    """Add options to a command."""
    for decorate in reversed(options):
        command = decorate(command)
    return command


class RowRangeParam(click.ParamType[tuple[int, int]]):
    """``A:B``, FITS rows, both included."""

    name = "A:B"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[int, int]:
        """Return (A, B)."""
        first, colon, last = str(value).partition(":")
        if colon and first.isdecimal() and last.isdecimal() and 1 <= int(first) <= int(last):
            return int(first), int(last)
        return self.fail(f"{value!r} is not a row range A:B with 1 <= A <= B.", param, ctx)


class SizeParam(click.ParamType[int]):
    """A number of bytes, such as 512M or 2G; a kilobyte is 1024 bytes."""

    name = "SIZE"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Return the number of bytes."""
        match = _SIZE.fullmatch(str(value).strip())
        if match is None:
            self.fail(f"{value!r} is not a valid size; examples: 512M, 2G.", param, ctx)
        return int(match[1]) << _POWER[match[2].upper()]


class CardParam(click.ParamType[tuple[str, str | int | float]]):
    """``KEY=VALUE``; numbers become numbers unless quoted."""

    name = "KEY=VALUE"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, str | int | float]:
        """Return (keyword, value)."""
        keyword, equals, text = str(value).partition("=")
        if not equals:
            self.fail(f"{value!r} is not KEY=VALUE.", param, ctx)
        return keyword.strip().upper(), _value(text.strip())


def _value(text: str) -> str | int | float:
    if len(text) > 1 and text[0] == text[-1] == "'":
        return text[1:-1]
    if not _NUMBER.fullmatch(text):
        return text
    return int(text) if text.lstrip("+-").isdecimal() else float(text)


# Options that exclude each other: `require_compatible`.
#
# One of two contradicting options would be ignored silently, and an option without effect looks as
# if it had one. Both are mistakes of the user, reported before a header is read.


def require_compatible(options: Options, recipe: Recipe, file: NightFile) -> None:
    """Raise UsageError if options exclude each other, or one has no effect.

    Parameters
    ----------
    options : the options.
    recipe, file : the settings they result in; a target of the night file may have its own.
    """
    for name, setting in SETTINGS.items():
        for other in setting.excludes:
            require_one_of(options, name, other)
    for name, known in SETTINGS.items():
        if name in options and known.only_with is not None:
            field, value = known.only_with
            found = getattr(recipe, field)
            if value not in (found, *(t.recipe.get(field) for t in file.targets.values())):
                raise UsageError(
                    f"{spelled(name)} is for {spelled(field)} {value}, but {field} is {found}",
                    value=options[name],
                    hint=f"Add {spelled(field)} {value}, or remove it.",
                )


def require_one_of(options: Options, *names: str) -> None:
    """Raise UsageError if several of these options are given."""
    given = [spelled(name) for name in names if name in options]
    if len(given) > 1:
        raise UsageError(f"{' and '.join(given)} cannot be used together", hint="Use one of them.")


def spelled(name: str) -> str:
    """Return an option as typed on the command line.

    Examples
    --------
    >>> spelled("sky_rows"), spelled("sky"), spelled("master_dark")
    ('--sky-rows', '--no-sky', '--master-dark')
    """
    return SETTINGS[name].option if name in SETTINGS else f"--{name.replace('_', '-')}"


# Options of the executor: threads, processes, a cluster.

_ADDRESS = "DASK_SCHEDULER_ADDRESS"
_DASK = ("threads", "synchronous", "processes")
_PATIENCE_S = 60.0


class Scheduler(click.ParamType[str]):
    """A local scheduler of dask, the address of a cluster's scheduler, or its file."""

    name = "HOW"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Return the value, if it is one of these."""
        text = str(value)
        host, colon, port = text.partition("://")[-1].rpartition(":")
        if "://" not in text:
            host, colon, port = text.rpartition(":")
        if text in _DASK or text.endswith(".json") or (host and colon and port.isdecimal()):
            return text
        return self.fail(
            f"{text!r} is not one of {', '.join(_DASK)}, HOST:PORT or FILE.json", param, ctx
        )


_CLUSTER_OPTIONS = (
    option("--jobs", type=click.IntRange(1, 256), metavar="N",
           help="Number of nights to reduce at the same time. [default: 1]"),
    option("--workers", type=click.IntRange(1, 1024), metavar="N",
           help="Start a local Dask cluster with N workers for this run."),
    option("--dashboard", is_flag=True, help="With --workers: serve the Dask dashboard on "
    "localhost."),
    option("--scheduler", type=Scheduler(),
           metavar="threads|synchronous|processes|ADDRESS|FILE.json",
         help=f"Dask scheduler, or the address of a cluster. [default: {_ADDRESS} if set, else "
         "threads]"),
    option("--worker-timeout", type=click.FloatRange(min=1), metavar="SECONDS",
           help="Longest wait for workers of a cluster. [default: 60]"),
)  # fmt: skip


cluster_options = partial(with_options, options=_CLUSTER_OPTIONS)
"""Add the options of the executor to a command."""


def dask_way(options: Options) -> str:
    """Return the local scheduler of dask, "" for its default."""
    scheduler: str = options.get("scheduler", "")
    return scheduler if scheduler in _DASK else ""


@contextmanager
def cluster_client(options: Options) -> Iterator[Client | None]:
    """Yield a client of the requested cluster, local or remote; None if none is requested.

    Raises
    ------
    UsageError
        The options exclude each other, or something is not installed.
    ResourceError
        The cluster does not start, or does not answer.
    """
    where, quiet = _cluster_of(options), options.get("quiet", False)
    if "workers" in options:
        from arrayred.batch.cluster import local_cluster

        dashboard = options.get("dashboard", False)
        with local_cluster(options["workers"], dashboard=dashboard) as client:
            if dashboard and not quiet:
                click.echo(f"dashboard: {client.dashboard_link}", err=True)
            yield client
    elif where:
        from arrayred.batch.cluster import connect_client, is_open_to_others, scheduler_address

        address = scheduler_address(where)
        if is_open_to_others(address) and not quiet:
            warn(f"{address} is not tls://: anyone who can reach it can run code as you")
        with connect_client(where) as client:
            yield client
    else:
        yield None


def _cluster_of(options: Options) -> str:
    """Return the address of the requested cluster, or ""."""
    scheduler: str = options.get("scheduler", "")
    is_address = scheduler not in ("", *_DASK)
    require_one_of(options, "jobs", "workers", *(["scheduler"] if is_address else []))
    require_one_of(options, "workers", "scheduler")
    if "dashboard" in options and "workers" not in options:
        raise UsageError("--dashboard needs --workers", hint="Add --workers N.")
    if scheduler or "jobs" in options or "workers" in options:
        return scheduler if is_address else ""
    return os.environ.get(_ADDRESS, "")


def executor_of(client: Client | None, options: Options) -> Executor:
    """Return the executor of many nights: serial, processes or a cluster."""
    from arrayred.batch import process_executor, serial_executor

    if client is not None:
        from arrayred.batch.cluster import cluster_executor

        return cluster_executor(client, no_workers_limit=options.get("worker_timeout", _PATIENCE_S))
    n_jobs = options.get("jobs", 1)
    return serial_executor if n_jobs == 1 else process_executor(n_jobs)


_CACHE_DIR = option(
    "--cache-dir",
    type=click.Path(path_type=Path),
    metavar="DIR",
    envvar="ARRAYRED_CACHE_DIR",
    help="Folder of the caches. [default: ~/.cache/arrayred]",
)
_CACHE_SIZE = option(
    "--cache-size",
    type=SizeParam(),
    envvar="ARRAYRED_CACHE_SIZE",
    help="Maximum size of all caches; the least recently used are removed. [default: 20G]",
)
_CACHE_OPTIONS = (
    option("--cache", is_flag=True, help="Read pixels from a cache, written if missing. [default: "
    "for compressed frames]"),
    option("--no-cache", is_flag=True, help="Do not use or write a cache."),
    _CACHE_DIR,
    _CACHE_SIZE,
)  # fmt: skip


def cache_folder_of(options: Options) -> CacheFolder:
    """Return the cache folder chosen by the options."""
    from arrayred.io.caching import DEFAULT_CACHE_BYTES, CacheFolder, default_cache_folder

    return CacheFolder(
        options.get("cache_dir") or default_cache_folder(),
        options.get("cache_size", DEFAULT_CACHE_BYTES),
    )


def cache_policy_of(options: Options) -> CachePolicy | None:
    """Return the cache policy chosen by the options, or None if no cache is used."""
    require_one_of(options, "cache", "no_cache")
    always = options.get("cache", False)
    if options.get("no_cache"):
        return None
    from arrayred.night.night import CachePolicy, ignore_warning

    quiet = options.get("quiet", False)
    return CachePolicy(cache_folder_of(options), always, ignore_warning if quiet else warn)


def cache_if_wanted(night: Night, options: Options) -> None:
    """Write a cache of a night that was reduced from local files, if the options ask for one."""
    from arrayred.batch import cache_quietly

    caching = cache_policy_of(options)
    if caching is not None and caching.is_for(night.scanned) and not is_remote(night.folder):
        cache_quietly(night, caching)


def with_pixels_at_hand(night: Night, options: Options) -> Night:
    """Return a night with local pixels: a remote one is cached first, if caches are used."""
    caching = cache_policy_of(options)
    if caching is None or not is_remote(night.folder):
        return night
    from arrayred.night.night import with_local_pixels

    return with_local_pixels(night, caching)


def is_remote(folder: Path) -> bool:
    """Return whether a folder is a URL."""
    from arrayred.io.remote import Address

    return isinstance(folder, Address)


def warn(text: str) -> None:
    """Print a warning."""
    message("warning", printable(text))


# Help pages with options under headings: `Sectioned`.
#
# Nobody reads sixty options in one list. Settings of the recipe have their heading where they are
# declared, other options here, for all commands; an option without heading is under "Running".

REST = "Running"
_OTHERS = {
    "Frames": (
        "night_file instrument frames exclude targets depth unsigned extension calibrations "
        "master_dark master_bias master_flat"
    ),
    "Calibration": "",
    "Combination and cosmic rays": "",
    "Detection": "",
    "Extraction and sky": "",
    "Wavelengths": "",
    "Settings files": "recipe reference",
    "Products": (
        "out object grating grating_angle cards allow_missing no_figures form show_plan write to"
    ),
    "Caches": "cache no_cache cache_dir cache_size info clear",
    "Parallel and cluster": "jobs workers dashboard scheduler worker_timeout",
}
"""Headings in their order, each with the options that are not settings of the recipe."""
SECTIONS = {
    title: " ".join(
        [others, *(n for n, known in SETTINGS.items() if known.option and known.section == title)]
    )
    for title, others in _OTHERS.items()
}
"""Headings, each with the names of its options."""


class Sectioned(click.Command):
    """A command whose help lists its options under headings.

    `headings` gives the names of the options of each: by default those of nights.
    """

    headings: ClassVar[Mapping[str, str]] = SECTIONS

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the options under their headings."""
        heading_of = {
            name: title for title, names in self.headings.items() for name in names.split()
        }
        sections: dict[str, list[tuple[str, str]]] = {}
        sections |= {title: [] for title in (*self.headings, REST)}
        for param in self.get_params(ctx):
            record = param.get_help_record(ctx)
            if record is not None and isinstance(param, click.Option):
                sections[heading_of.get(param.name or "", REST)].append(record)
        for title, records in sections.items():
            if records:
                with formatter.section(title):
                    formatter.write_dl(records)


class OwnOptions(click.Command):
    """A command whose help lists only its own options, not those it shares with `reduce`.

    A shared option keeps its value in the `Options`, and is no parameter of the command's function.
    """

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the command's own options, and where the others are explained."""
        own: list[click.Parameter | None] = [p for p in self.get_params(ctx) if p.expose_value]
        own.append(self.get_help_option(ctx))
        records = [p.get_help_record(ctx) for p in own if isinstance(p, click.Option)]
        with formatter.section("Options"):
            formatter.write_dl([record for record in records if record is not None])
        formatter.write_paragraph()
        formatter.write_text(
            "All options of `reduce` that choose frames and settings are accepted: see "
            "arrayred reduce --help."
        )


# ``arrayred completion SHELL``: shell completion of commands, options and choices.
#
# The script calls `arrayred` itself on each tab, so it completes the options of the version that is
# installed; an answer takes 0.1 s, since no command imports numpy before it runs.

_SHELLS = ("bash", "zsh", "fish")
_VARIABLE = "_ARRAYRED_COMPLETE"


@click.command()
@click.argument("shell", type=click.Choice(_SHELLS))
def completion(shell: str) -> None:
    """Print the script that completes commands and options in a shell.

    Save it where your shell looks for completions:

    \b
    bash   ~/.local/share/bash-completion/completions/arrayred
    zsh    ~/.zfunc/_arrayred (or another folder of your $fpath)
    fish   ~/.config/fish/completions/arrayred.fish

    \b
    arrayred completion bash > FILE
    eval "$(arrayred completion bash)"         (for this shell only)
    """
    from arrayred.cli import cli

    shell_complete(cli, {}, "arrayred", _VARIABLE, f"{shell}_source")


def folders(_ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Return a request to the shell to complete folders."""
    return [CompletionItem(incomplete, type="dir")]


def files(_ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Return a request to the shell to complete files."""
    return [CompletionItem(incomplete, type="file")]


def target_names(
    ctx: click.Context, _param: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Return the names of the night's targets; none if no night, or several, stand before."""
    from arrayred.errors import ArrayredError
    from arrayred.night import make_plan, open_night

    # Where the value of an option is incomplete, click has not yet told arguments from the rest.
    nights: list[str] = [*(ctx.params.get("nights") or ctx.args)]
    options = options_of(ctx)
    if len(nights) != 1:
        return []
    try:
        recipe, file = settle_settings(options, night_file_of(options))
        plan = make_plan(open_night(Path(nights[0]), file, depth=options.get("depth", 3)), recipe)
    except ArrayredError:
        return []
    names = [*(target.name for target in plan.targets), *(name for name, _ in plan.failed)]
    return [CompletionItem(name) for name in names if name.lower().startswith(incomplete.lower())]


def instruments(
    ctx: click.Context, param: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Return the matching names of instruments; if there are none, complete files."""
    from arrayred.config.night_file import builtin_instruments

    names = [name for name in builtin_instruments() if name.startswith(incomplete)]
    return [CompletionItem(name) for name in names] or files(ctx, param, incomplete)


# Options of the night, shared by `inspect` and `reduce`. An option has precedence over the night
# file, and the night file over the headers.

BESIDE = "night.toml"
_PATH = click.Path(path_type=Path)
EXTENSION = option(
    "--extension",
    metavar="N|NAME",
    help="Image to read from each file: HDU number (0 is the primary) or EXTNAME. [default: all, "
    "joined according to DETSEC; else the first]",
)
_NIGHT_OPTIONS = (
    option("--night-file", type=_PATH, metavar="FILE", help="Night file (TOML) or observing log "
    "(CSV, ECSV). [default: night.toml in the output folder]"),
    option("--instrument", metavar="NAME|FILE.toml", shell_complete=instruments,
           help="Instrument profile: header keywords, detector, required cards. "
           "[default: generic]"),
    option("--frames", metavar="GLOB",
           help="Use only light frames whose file name matches, such as '*vega*'."),
    option("--exclude", metavar="GLOB", multiple=True, help="Exclude files whose name matches."),
    option("--unsigned", type=click.Choice(["auto", "wrapped", "as-declared"]),
         help="How to read integers with BZERO=0: unsigned data wrapped into signed, or as "
         "declared. [default: auto, from the pixels]"),
    EXTENSION,
    option("--dispersion-axis", type=click.Choice(["x", "y"]),
         help="Dispersion axis: x along rows, y along columns. [default: from DISPAXIS or the "
         "pixels]"),
    option("--depth", type=click.IntRange(min=1), metavar="N",
           help="Folder levels to search for frames. [default: 3]"),
    option("--calibrations", type=_PATH, metavar="DIR", multiple=True,
           help="Folder of darks, biases and flats to use if the night has none."),
    option("--master-dark", type=_PATH, metavar="FILE",
           help="Master dark to use."),
    option("--master-bias", type=_PATH, metavar="FILE",
           help="Master bias to use."),
    option("--master-flat", type=_PATH, metavar="FILE",
           help="Master flat to use."),
    *_CACHE_OPTIONS,
)  # fmt: skip


def _option_of(name: str) -> Callable[[Any], Any]:
    """Return the option of a field of the recipe, as described by its `Setting`."""
    known, (kind, choices) = SETTINGS[name], type_of(name)
    if known.sets is not None:

        def remember(ctx: click.Context, _param: click.Parameter, is_given: bool) -> None:
            if is_given:
                options_of(ctx)[name] = known.sets

        shown = known.option_help or known.help
        return option(known.option, name, is_flag=True, callback=remember, help=shown)
    default = known.default_help or _text_of(default_of(name))
    types: dict[type, click.ParamType[Any]] = {
        str: click.STRING,
        int: click.IntRange(min=int(known.at_least)),
        float: click.FloatRange(min=known.at_least),
    }
    return option(
        known.option,
        name,
        type=click.Choice(choices) if choices else types.get(kind, RowRangeParam()),
        metavar=known.metavar or (None if choices else value_name(name)),
        help=known.help + (f" [default: {default}]" if default else ""),
    )


def _text_of(value: Any) -> str:
    """Return a default as shown in the help; "" for None."""
    if isinstance(value, tuple):
        return ":".join(map(str, value))
    return "" if value is None else f"{value:g}" if isinstance(value, float) else str(value)


_RECIPE_OPTIONS = (
    *(_option_of(name) for name, known in SETTINGS.items() if known.option),
    option("--memory", type=SizeParam(),
         help="Memory limit, e.g. 512M."),
    option("--recipe", metavar="FILE.toml", type=_PATH,
           help="Settings file (TOML): any fields of arrayred.Recipe."),
    option("--reference", is_flag=True, help="Reproduce the published procedure exactly."),
)  # fmt: skip


wavelength_options = partial(
    with_options, options=[_option_of(name) for name in IN_WAVELENGTH.values()]
)
"""Add the options of the wavelengths to a command."""


night_options = partial(with_options, options=_NIGHT_OPTIONS)
"""Add the options of the night to a command."""


recipe_options = partial(with_options, options=_RECIPE_OPTIONS)
"""Add the options of the recipe to a command."""


def night_file_of(options: Options, out: Path | None = None) -> NightFile:
    """Return the night file, with the values that the options override.

    Parameters
    ----------
    options : the options.
    out : the output folder; its night.toml is used if no other file is named.
    """
    from arrayred.config import NightFile
    from arrayred.config.night_file import read_night_file

    beside = None if out is None else out / BESIDE
    file = NightFile()
    if "night_file" in options:
        file = read_night_file(options["night_file"])
    elif beside is not None and os.path.lexists(beside):
        file = read_night_file(beside)
    masters = {kind: options[f"master_{kind}"] for kind in ("bias", "dark", "flat")
               if f"master_{kind}" in options}  # fmt: skip
    return dataclasses.replace(
        file,
        instrument=options.get("instrument", file.instrument),
        frames=options.get("frames", file.frames),
        exclude=(*file.exclude, *options.get("exclude", ())),
        calibrations=(*file.calibrations, *options.get("calibrations", ())),
        masters={**file.masters, **masters},
        unsigned=options.get("unsigned", file.unsigned),
        extension=options.get("extension", file.extension),
        dispersion_axis=options.get("dispersion_axis", file.dispersion_axis),
        cards={**file.cards, **_exposure_of(options)},
    )


def _exposure_of(options: Options) -> dict[str, Any]:
    """Return the card EXPTIME if it is given: frames without an exposure have this one."""
    return {key: value for key, value in options.get("cards", ()) if key == "EXPTIME"}


def settle_settings(options: Options, file: NightFile) -> tuple[Recipe, NightFile]:
    """Return the recipe, and the night file without the settings that the options override."""
    from arrayred.config import Recipe

    require_one_of(options, "recipe", "reference")
    require_one_of(options, "quiet", "verbose")
    recipe = Recipe.from_toml(options["recipe"]) if "recipe" in options else Recipe()
    decided = {name: options[name] for name in SETTINGS if name in options}
    if options.get("reference"):
        given = {*file.recipe, *(name for t in file.targets.values() for name in t.recipe)}
        if ignored := sorted(given - decided.keys()):
            whose = file.path or "the night file"
            warn(f"{whose}: not used with --reference: {', '.join(ignored)}")
        recipe, file = Recipe.reference(), file.without(dataclasses.asdict(recipe))
    else:
        file = file.without(decided)
        recipe = recipe.replace(**file.recipe)
    recipe = recipe.replace(**decided)
    require_compatible(options, recipe, file)
    return recipe, file


def given_cards(options: Options) -> dict[str, Any]:
    """Return the header cards given by options, checked."""
    from arrayred.config.night_file import CARDS
    from arrayred.io.products import checked_cards

    named = {keyword: options[name] for name, keyword in CARDS.items() if name in options}
    return checked_cards({**named, **dict(options.get("cards", ()))})


def output_options_of(options: Options, out: Path) -> OutputOptions:
    """Return the output options for a folder; its saved cards are not read here."""
    from arrayred.batch import OutputOptions

    return OutputOptions(
        out,
        given_cards(options),
        overwrite=options.get("overwrite", False),
        figures=not options.get("no_figures", False),
        targets=tuple(options.get("targets", ())),
        limit=options.get("memory"),
        force=options.get("force", False),
        verify=options.get("verify", False),
    )


EXIT_PARTIAL = 3
"""Exit code where some targets failed and the others did not."""


def exit_code_of(plan: Plan) -> int:
    """Return the code with which `reduce` ends that can do no more than a plan says."""
    from arrayred.errors import NightError

    return NightError.exit_code if plan.problems else EXIT_PARTIAL if plan.failed else 0


def open_with_progress(folder: Path, file: NightFile, options: Options) -> Night:
    """Open a night, with a progress bar on a terminal."""
    from arrayred.night import open_night

    depth, caching = options.get("depth", 3), cache_policy_of(options)
    return open_night(folder, file, depth=depth, advance=countdown(), caching=caching)


def one_of(nights: Sequence[Path]) -> Path:
    """Return the only night; raise UsageError for several, or for frames instead of a folder."""
    require_folders(nights)
    if len(nights) > 1:
        raise UsageError(f"{len(nights)} nights given", hint="Name one night.")
    return nights[0]


def require_folders(nights: Sequence[Path]) -> None:
    """Raise UsageError if frames are named, for example by a glob, instead of their folder."""
    if len(nights) > 1 and all(path.is_file() for path in nights):
        raise UsageError(
            f"{len(nights)} files given, but a night is a folder of frames",
            path=nights[0],
            hint=f"Name the folder, {printable(str(nights[0].parent))}.",
        )


_OF_THE_RUN = frozenset(
    {"allow_missing", "break_lock", "cache", "cache_dir", "cache_size", "force", "jobs", "memory",
     "no_cache", "no_figures", "no_input", "overwrite", "quiet", "scheduler", "verbose", "verify"}
)  # fmt: skip
"""Options that change how a run proceeds, but none of its numbers."""
_SECRET = re.compile(r"(?<=://)[^/\s]*@|(?<=\w)\?\S*")


def command_of(options: Options) -> str:
    """Return the command that reduces NIGHT to OUT with these options; "" outside of a command.

    The report shows it with the real folders, so that the reduction can be repeated.
    """
    if click.get_current_context(silent=True) is None:
        return ""
    words = map(_public, words_of(options, without=_OF_THE_RUN))
    return shlex.join(["arrayred", "reduce", "NIGHT", "-o", "OUT", *words])


def words_of(options: Options, *, without: Collection[str]) -> list[str]:
    """Return these options as words of a command line, except those of some names."""
    words: list[str] = []
    for param in click.get_current_context().command.params:
        if param.name in options and param.name not in without:
            words += _words(param, options[param.name])
    return words


def _words(param: click.Parameter, value: Any) -> Iterator[str]:
    """Yield an option and its value, as often as it was given."""
    for one in value if param.multiple else [value]:
        yield max(param.opts, key=len)
        if not (isinstance(param, click.Option) and param.is_flag):
            yield _text(param, one)


def _text(param: click.Parameter, value: Any) -> str:
    if isinstance(param.type, RowRangeParam):
        return f"{value[0]}:{value[1]}"
    if isinstance(param.type, CardParam):
        keyword, found = value
        is_text = isinstance(found, str) and found.replace(".", "").lstrip("+-").isdecimal()
        return f"{keyword}='{found}'" if is_text else f"{keyword}={found}"
    return str(value)


def _public(text: str) -> str:
    """Return a text without the user, password and signature that a URL may contain."""
    return _SECRET.sub("", text) if "://" in text else text


# Prompts for missing required cards, on a terminal only.

QUESTIONS = {
    "OBJECT": "Object name of {target} (OBJECT)",
    "GRATING": "Grating (GRATING)",
    "GRATANG": "Grating angle in degrees (GRATANG)",
}


def may_ask(*, no_input: bool) -> bool:
    """Return whether prompts are allowed: on a terminal, and neither in CI nor with --no-input."""
    return not no_input and not os.environ.get("CI") and sys.stdin.isatty() and sys.stdout.isatty()


def ask(missing: dict[str, dict[str, Value]], saved_cards: SavedCards, out: Path) -> SavedCards:
    """Ask for each missing card once and save the answers.

    Parameters
    ----------
    missing : for each target the keywords, each with the value in some of its frames, or None.
    saved_cards : cards saved from earlier answers.
    out : the output folder.
    """
    from arrayred.io.ledger import write_saved_cards

    for target, keywords in missing.items():
        for keyword, default in keywords.items():
            if keyword not in saved_cards.cards_of(target):
                question = QUESTIONS.get(keyword, f"{{target}}: {keyword}").format(target=target)
                saved_cards = saved_cards.with_cards(
                    target, keyword, _prompt_for_card(keyword, question, default)
                )
    write_saved_cards(out, saved_cards)
    return saved_cards


def _prompt_for_card(keyword: str, question: str, default: Value) -> Value:
    from arrayred.errors import ArrayredError
    from arrayred.io.products import checked_cards

    def checked(text: str) -> Value:
        if not text.strip():
            raise click.BadParameter("Please enter a value.")
        try:
            return checked_cards({keyword: text.strip()})[keyword]
        except ArrayredError as error:
            raise click.BadParameter(str(error)) from error

    shown = None if default in (None, "") else str(default)
    answer: Value = click.prompt(question, default=shown, value_proc=checked)
    return answer
