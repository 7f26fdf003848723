"""Run the command line; the module of a command is imported only when it is run.

An `ArrayredError` is printed as one line on stderr and gives an exit code (see `arrayred.errors`);
any other exception is a bug of arrayred and is printed as such with a traceback. Only this package
exits.
"""

from __future__ import annotations

import os
import signal
import sys
from contextlib import suppress
from importlib import import_module
from types import FrameType
from typing import NoReturn

import click

from arrayred._version import __version__
from arrayred.errors import DISK_FULL_ERRNOS, ArrayredError, StorageError
from arrayred.process import make_process_own

INTERRUPTED, TERMINATED = 130, 143
COMMANDS = {
    "inspect": "Show what the headers of a night say.",
    "explore": "Look through a night in the browser.",
    "reduce": "Reduce a night to spectra.",
    "combine": "Combine frames into one image.",
    "cache": "Store a night's pixels and headers as zarr.",
    "report": "Make the pages of what was reduced.",
    "verify": "Prove that products and their inputs are as they were.",
    "simulate": "Write a night with known truth.",
    "demo": "Simulate a night and reduce it.",
    "completion": "Print what makes a shell complete commands.",
}
_MODULES = {"demo": "simulate", "completion": "options"} | dict.fromkeys(
    ("report", "verify", "cache", "explore"), "products"
)
"""Modules of the commands whose module does not have their name."""


class _Commands(click.Group):
    """A group of commands that are imported when they are run, but not to be listed."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the commands' names."""
        del ctx
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Return a command by its name."""
        del ctx
        if cmd_name not in COMMANDS:
            return None
        module = import_module(f"arrayred.cli.{_MODULES.get(cmd_name, cmd_name)}")
        command: click.Command = getattr(module, cmd_name)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Return the command that is named first; the error for an unknown one suggests a name."""
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError as error:
            from difflib import get_close_matches  # takes 3 ms

            near = get_close_matches(args[0], COMMANDS, 1)
            if not near:
                raise
            raise click.UsageError(f"{error.message} Did you mean '{near[0]}'?", ctx) from error

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the list of commands with their descriptions."""
        del ctx
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


@click.group(
    cls=_Commands,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(__version__, prog_name="arrayred")
def cli() -> None:
    """Turn the frames of a spectrograph's night into spectra.

    \b
    arrayred demo                       a simulated night, start to finish
    arrayred inspect NIGHT              what is in a folder
    arrayred explore NIGHT              its images and spectra, in the browser
    arrayred reduce NIGHT -o OUT        spectra from it
    arrayred combine FILES -o OUT       one image from many frames
    arrayred cache NIGHT                pixels and headers as zarr, for later
    arrayred report OUT                 its pages to look at
    arrayred verify OUT                 whether products are as they were
    arrayred simulate DIR               frames with known truth
    """


def main() -> None:
    """Run the command line and exit with its code."""
    make_process_own()
    signal.signal(signal.SIGTERM, _terminate)
    try:
        sys.exit(cli.main(standalone_mode=False) or 0)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except click.exceptions.Abort:
        click.echo("arrayred: interrupted", err=True)
        sys.exit(INTERRUPTED)
    except SystemExit as end:
        if end.code == TERMINATED:
            click.echo("arrayred: terminated", err=True)
        raise
    except ArrayredError as error:
        for line in str(error).splitlines():
            click.echo(f"arrayred: error: {line}", err=True)
        sys.exit(error.exit_code)
    except OSError as error:
        if error.filename is not None or error.errno not in DISK_FULL_ERRNOS:
            _exit_with_traceback()
        _exit_output_full(error)
    except Exception:
        _exit_with_traceback()


def _exit_output_full(error: OSError) -> NoReturn:
    """Print that the output cannot be written (disk full), and exit without further output."""
    click.echo(f"arrayred: error: What is told cannot be written ({error.strerror})", err=True)
    with suppress(OSError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    sys.exit(StorageError.exit_code)


def _exit_with_traceback() -> NoReturn:
    """Print the traceback of a bug, and exit."""
    import traceback  # takes 5 ms, and only a bug needs it

    traceback.print_exc()
    click.echo(
        f"arrayred: this is a bug of arrayred {__version__}; please report the lines above "
        "and the command that led to them",
        err=True,
    )
    sys.exit(1)


def _terminate(_number: int, _frame: FrameType | None) -> None:
    sys.exit(TERMINATED)
