"""``arrayred explore NIGHT``: a page in the browser on which one looks through a night."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

import click

from arrayred.cli.choosing import (
    about_the_night,
    about_the_recipe,
    night_file_of,
    opened,
    settle_settings,
)
from arrayred.cli.wishes import wishes_of


@click.command()
@click.argument("night", type=click.Path(path_type=Path))
@click.option(
    "--port", type=click.IntRange(1, 65535), metavar="N", help="Of 127.0.0.1. [default: a free one]"
)
@click.option("--no-browser", is_flag=True, help="Print the address, and open no browser.")
@about_the_night
@about_the_recipe
@click.pass_context
def explore(ctx: click.Context, night: Path, port: int | None, no_browser: bool) -> None:
    """Look through the frames of NIGHT in a browser, and settle rows and sky.

    NIGHT is a folder of frames, a cache of one, or the output of `reduce`. The page is for this
    machine alone: its address, which is printed, is one that nobody can guess. Ctrl-C ends it.

    \b
    arrayred explore 2020-11-03/raw
    arrayred explore reduced
    arrayred explore raw --no-browser --port 5006
    """
    from arrayred.errors import UsageError, printable

    try:
        from arrayred.explore.app import serve
    except ImportError as error:
        raise UsageError(
            f"The page needs panel and bokeh ({error})",
            hint="Install them: pip install 'arrayred[explore]'.",
        ) from error
    from arrayred.explore.data import Study

    wishes = wishes_of(ctx)
    recipe, file = settle_settings(wishes, night_file_of(wishes))
    study = Study(opened(night, file, wishes), recipe, wishes.get("memory"))
    with TemporaryDirectory(prefix="arrayred-") as folder:

        def announce(address: str) -> None:
            click.echo(f"{printable(str(night))}: {address}\nCtrl-C ends it.")
            if not no_browser:
                _open(address, Path(folder))

        serve(study, port or 0, announce=announce)


def _open(address: str, folder: Path) -> None:
    """Open a browser by a file in the user's own folder that leads it to an address.

    Whoever lists the processes of this machine would see the address itself.
    """
    import webbrowser

    door = folder / "arrayred.html"
    door.write_text(f'<meta http-equiv="refresh" content="0; url={address}">')
    webbrowser.open(door.as_uri())
