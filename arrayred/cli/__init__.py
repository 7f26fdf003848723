"""Run the command line; the module of a command is imported only when it is run.

An `ArrayredError` is printed as one line on stderr and gives an exit code (see `arrayred.errors`);
any other exception is an internal error and is printed as such with a traceback. Only this package
exits.
"""

from __future__ import annotations

import io
import os
import select
import signal
import sys
import threading
from contextlib import suppress
from importlib import import_module
from types import FrameType
from typing import Any, NoReturn, TextIO

import click

from arrayred._version import __version__
from arrayred.cli.layout import message
from arrayred.errors import ArrayredError, StorageError
from arrayred.process import end_from_handler, make_process_own

_ENDS = {signal.SIGINT: (130, "interrupted"), signal.SIGTERM: (143, "terminated")}
"""Exit codes of signals, and what is said."""
_ENDS_WITHIN_S = 3.5
"""Time that a signal leaves for what is half written to be taken away."""
COMMANDS = {
    "inspect": "List the frames of a night, or show the reduction plan.",
    "explore": "Browse images and spectra interactively in a web browser.",
    "reduce": "Reduce one or more nights to extracted spectra.",
    "wavelength": "Identify arc lines again and update the wavelengths.",
    "combine": "Combine FITS frames into a single image.",
    "cache": "Store a night as Zarr for faster or remote access.",
    "report": "Rebuild the HTML report of reduced nights.",
    "export": "Write spectra for the BeSS archive or IRAF.",
    "verify": "Check that inputs and products are unchanged.",
    "simulate": "Write simulated frames with known true values.",
    "demo": "Simulate a night, reduce it and compare with the true spectrum.",
    "completion": "Print the shell completion script.",
}
_MODULES = {"reduce": "reduce", "combine": "combine", "completion": "options"}
"""Modules of the commands that are not in `commands`."""
_PRINTING = frozenset({"inspect", "verify", "completion"})
"""Commands of which nothing is left but what they print."""


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
        module = import_module(f"arrayred.cli.{_MODULES.get(cmd_name, 'commands')}")
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
    """Reduce nights of long-slit spectra: from raw FITS frames to spectra.

    NIGHT is a folder of raw frames, OUT an output folder. To begin:

    \b
    arrayred demo
    arrayred inspect NIGHT
    arrayred reduce NIGHT -o OUT
    """


def main() -> None:
    """Run the command line and exit with its code."""
    make_process_own()
    _guard_streams()
    for number in _ENDS:
        if signal.getsignal(number) is not signal.SIG_IGN:  # as nohup leaves them
            signal.signal(number, _end_soon)
    try:
        code = cli.main(standalone_mode=False) or 0
        if not code and _PRINTING.intersection(sys.argv[1:2]):
            _require_printed()
        sys.exit(code)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except click.exceptions.Abort:  # an answer that ends
        click.echo("arrayred: interrupted", err=True)
        sys.exit(_ENDS[signal.SIGINT][0])
    except _SignalledExit as end:
        _end_process(end.number)
    except ArrayredError as error:
        for line in str(error).splitlines():
            message("error", line)
        sys.exit(error.exit_code)
    except Exception:
        _exit_with_traceback()


def _exit_with_traceback() -> NoReturn:
    """Print the traceback of a bug, and exit."""
    import traceback  # takes 5 ms, and only a bug needs it

    traceback.print_exc()
    click.echo(
        f"arrayred: internal error in arrayred {__version__}; please report it with the lines "
        "above and the command",
        err=True,
    )
    sys.exit(1)


class _SignalledExit(SystemExit):
    """The end that a signal demands; not a KeyboardInterrupt, of which libraries print more."""

    def __init__(self, number: signal.Signals) -> None:
        super().__init__(_ENDS[number][0])
        self.number = number


def _end_soon(number: int, _frame: FrameType | None) -> None:
    """End the run: at the latest in some seconds, and a second signal breaks nothing off."""
    for each in _ENDS:
        signal.signal(each, signal.SIG_IGN)
    last = threading.Timer(_ENDS_WITHIN_S, _end_process, [signal.Signals(number)])
    last.daemon = True
    last.start()
    end_from_handler(number, _SignalledExit(signal.Signals(number)))


def _end_process(number: signal.Signals) -> NoReturn:
    """Say which signal ended the run, and end this process; all that it started ends with it.

    The interpreter's own end would wait for threads, and for ten seconds for a cluster to close,
    whose losses of connections are printed. What it would remove is removed here: the spool, and
    the semaphores of a cluster.
    """
    code, what = _ENDS[number]
    if sys.argv[1:2] == ["reduce"]:
        what += "; finished products are kept, repeat the command to continue"
    with suppress(OSError):
        sys.stdout.flush()
        os.write(2, f"arrayred: {what}\n".encode())
    if pixels := sys.modules.get("arrayred.io.pixels"):
        pixels.remove_spool()
    if "multiprocessing.util" in sys.modules:
        from multiprocessing import active_children, util

        util._run_finalizers(0)  # type: ignore[attr-defined]
        for child in active_children():  # one that starts would not yet see that its parent ended
            child.kill()
    os._exit(code)


# Output for as long as somebody reads it. What a run makes is on the disk: that a terminal was
# closed, a reader has gone, or the disk that takes the output is full, is no reason to end it. Only
# where the output is all that was asked for is its loss a failure.


class _Printed(io.RawIOBase):
    """A descriptor that takes bytes until the first error, and drops all after it."""

    def __init__(self, descriptor: int) -> None:
        super().__init__()
        self._descriptor = descriptor
        self.error: OSError | None = None

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._descriptor

    def isatty(self) -> bool:
        return os.isatty(self._descriptor)

    def write(self, data: Any) -> int:
        view = memoryview(data)
        while self.error is None:
            try:
                return os.write(self._descriptor, view)
            except BlockingIOError:  # a slow terminal
                select.select([], [self._descriptor], [])
            except OSError as error:
                self.error = error
        return view.nbytes


def _guard_streams() -> None:
    """Make stdout and stderr writable whatever becomes of those who read them.

    Closed descriptors are opened on the null device first: the next file to be opened would take
    their numbers, and what is printed would be written into a product.
    """
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
    for name, descriptor in (("stdout", 1), ("stderr", 2)):
        if getattr(sys, name) is getattr(sys, f"__{name}__"):
            setattr(sys, name, _guarded(getattr(sys, name), descriptor))


def _guarded(stream: TextIO | None, descriptor: int) -> TextIO:
    """Return a stream like another one that never fails."""
    raw = _Printed(descriptor)
    is_unbuffered = getattr(stream, "write_through", False)  # python -u
    buffer: Any = raw if is_unbuffered else io.BufferedWriter(raw)
    return io.TextIOWrapper(
        buffer,
        encoding="utf-8" if stream is None else stream.encoding,
        errors="backslashreplace" if stream is None else stream.errors,
        line_buffering=descriptor == 2 or raw.isatty(),
        write_through=is_unbuffered,
    )


def _require_printed() -> None:
    """Raise StorageError unless stdout took all that was printed.

    A reader that has gone, such as ``head``, has seen what it wanted.
    """
    sys.stdout.flush()
    buffer = getattr(sys.stdout, "buffer", None)
    raw = getattr(buffer, "raw", buffer)
    error = raw.error if isinstance(raw, _Printed) else None
    if error is not None and not isinstance(error, BrokenPipeError):
        raise StorageError(
            f"The output cannot be written ({error.strerror})", hint="Free some disk space."
        )
