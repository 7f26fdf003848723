"""``arrayred demo``: a simulated night, start to finish."""

from __future__ import annotations

from pathlib import Path

import click


@click.command(short_help="Simulate a night and reduce it.")
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
    from arrayred.io.raw import write_frames
    from arrayred.simulate import SimulatedNight

    night = SimulatedNight()
    paths = write_frames(night.frames(), out / "night", overwrite=True)
    click.echo(f"Simulated {len(paths)} frames in {out / 'night'}\n")
    (outcome,) = run(out / "night", out / "reduced", {"overwrite": True, "no_figures": no_figures})
    if outcome.error is not None:
        raise outcome.error
    if outcome.spectrum is not None:
        found = float(outcome.spectrum["flux"].values.sum())
        true = float(night.truth()["flux"].values.sum())
        click.echo(
            f"\nThe star's light: {found:.4g} adu found, {true:.4g} adu true ({found / true:.1%})"
        )
    for path in outcome.files:
        if path.name.endswith(("_skysubtracted.txt", "_spectrum.fits", ".png")):
            click.echo(f"  {path}")
