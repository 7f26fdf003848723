"""``arrayred demo``: a simulated night, start to finish."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from arrayred.cli.progress import showing
from arrayred.watching import stage

if TYPE_CHECKING:
    import xarray as xr


@click.command()
@click.option(
    "-o",
    "--out",
    type=click.Path(path_type=Path),
    default=Path("arrayred-demo"),
    show_default=True,
    help="Where to put the night and its products.",
)
@click.option("--no-figures", is_flag=True, help="Draw no pictures.")
def demo(out: Path, no_figures: bool) -> None:
    """Simulate a night with a known star, reduce it, and compare what came out with the truth."""
    from arrayred.cli.reduce import run
    from arrayred.io.products import write_frames
    from arrayred.simulate import SimulatedNight

    night = SimulatedNight()
    with showing(), stage("writing frames"):
        paths = write_frames(night.frames(), out / "night", overwrite=True)
    click.echo(f"Simulated {len(paths)} frames in {out / 'night'}\n")
    wishes = {"force": True, "overwrite": True, "no_figures": no_figures}
    with showing():
        (outcome,) = run(out / "night", out / "reduced", wishes)
    if outcome.error is not None or outcome.spectrum is None:
        raise outcome.error or RuntimeError("a target without error has no spectrum")
    _compare(outcome.spectrum, night.truth())
    click.echo("\nLook at:")
    for path in outcome.files:
        if path.name.endswith(("_skysubtracted.txt", "_spectrum.fits", ".png")):
            click.echo(f"  {path}")


def _compare(spectrum: xr.Dataset, truth: xr.Dataset) -> None:
    """Print the flux found beside the true one, at some columns and altogether."""
    found, true = spectrum["flux"].values, truth["flux"].values
    sigma = spectrum["variance"].values ** 0.5
    click.echo("\ncolumn   flux found, adu   true flux   sigma")
    for i in range(len(found) // 16, len(found), len(found) // 8):
        click.echo(f"{i + 1:6}   {found[i]:15.0f}   {true[i]:9.0f}   {sigma[i]:5.0f}")
    click.echo(
        f"   all   {found.sum():15.0f}   {true.sum():9.0f}   {found.sum() / true.sum():.1%} found"
    )
