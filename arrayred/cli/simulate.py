"""``arrayred simulate DIR`` and ``arrayred demo``: nights with known true values."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import click

from arrayred.cli.options import Options, Sectioned, option, options_of
from arrayred.cli.progress import countdown, shown_stages
from arrayred.progress import stage

if TYPE_CHECKING:
    import xarray as xr

    from arrayred.simulate import SimulatedNight

_DETECTOR_OPTIONS = (
    *("shape", "gain", "stated_gain", "read_noise", "bias_level", "bias_drift", "dtype"),
    *("response_scatter", "vignetting", "full_well"),
)
_STAR_OPTIONS = ("flux", "row", "tilt", "seeing", "profile", "name")
_SKY_OPTIONS = {"sky": "level", "sky_gradient": "gradient", "sky_tilt": "tilt"}


_LARGEST_NUMBER = 1e9


class FiniteRange(click.FloatRange):
    """A number from a range, not NaN and not above 1e9."""

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """Return the number."""
        number = super().convert(value, param, ctx)
        if not abs(number) <= _LARGEST_NUMBER:
            self.fail(f"{value!r} is not a number up to {_LARGEST_NUMBER:g}.", param, ctx)
        return number


class Number(click.ParamType[float]):
    """A number of either sign, not NaN and not above 1e9."""

    name = "NUMBER"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """Return the number."""
        return FiniteRange().convert(value, param, ctx)


NUMBER = Number()


class Shape(click.ParamType[tuple[int, int]]):
    """``ROWSxCOLUMNS``."""

    name = "ROWSxCOLUMNS"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[int, int]:
        """Return (rows, columns)."""
        rows, cross, columns = str(value).lower().partition("x")
        if cross and rows.isdecimal() and columns.isdecimal() and int(rows) and int(columns):
            return int(rows), int(columns)
        return self.fail(f"{value!r} is not ROWSxCOLUMNS, such as 1024x1536.", param, ctx)


class _Simulate(Sectioned):
    """The command with its headings: frames, detector, star and sky."""

    headings: ClassVar[Mapping[str, str]] = {
        "Frames": (
            "n_lights n_darks n_biases n_flats n_arcs exptime shape dtype dialect prefix seed "
            "cosmic_rays flux_scatter trace_drift"
        ),
        "Detector": " ".join(name for name in _DETECTOR_OPTIONS if name not in ("shape", "dtype")),
        "Star": " ".join(_STAR_OPTIONS),
        "Sky": " ".join(_SKY_OPTIONS),
    }


@click.command(cls=_Simulate)
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path))
@option(
    "--lights",
    "n_lights",
    metavar="N",
    type=click.IntRange(min=0),
    help="Light frames. [default: 3]",
)
@option(
    "--darks", "n_darks", metavar="N", type=click.IntRange(min=0), help="Dark frames. [default: 5]"
)
@option(
    "--biases",
    "n_biases",
    metavar="N",
    type=click.IntRange(min=0),
    help="Bias frames. [default: 0]",
)
@option(
    "--flats", "n_flats", metavar="N", type=click.IntRange(min=0), help="Flat frames. [default: 0]"
)
@option(
    "--arcs", "n_arcs", metavar="N", type=click.IntRange(min=0), help="Arc frames. [default: 0]"
)
@option(
    "--exptime",
    metavar="X",
    type=FiniteRange(0, 1e6, min_open=True),
    help="Exposure, s. [default: 600]",
)
@option(
    "--dialect",
    type=click.Choice(["maxim", "nina", "observatory"]),
    help="Whose names and headers. [default: maxim]",
)
@option("--prefix", help="Begins every file's name.")
@option(
    "--seed",
    metavar="N",
    type=click.IntRange(min=0),
    help="Another seed, another night. [default: 0]",
)
@option("--cosmic-rays", metavar="X", type=FiniteRange(min=0), help="Hits on a frame of an hour.")
@option(
    "--flux-scatter", metavar="X", type=FiniteRange(min=0), help="Variation of the star's light."
)
@option(
    "--trace-drift",
    metavar="X",
    type=NUMBER,
    help="Rows by which the trace moves from light to light.",
)
@option("--shape", type=Shape(), help="Of the frames. [default: 256x384]")
@option(
    "--dtype",
    type=click.Choice(["uint8", "int16", "uint16", "int32", "uint32", "float32"]),
    help="Of the pixels.",
)
@option("--gain", metavar="X", type=FiniteRange(min=0, min_open=True), help="Electrons per adu.")
@option(
    "--stated-gain",
    metavar="X",
    type=FiniteRange(min=0, min_open=True),
    help="What headers say instead.",
)
@option("--read-noise", metavar="X", type=FiniteRange(min=0), help="Of a pixel, electrons.")
@option("--bias-level", metavar="X", type=NUMBER, help="Level of the bias, adu.")
@option("--bias-drift", metavar="X", type=NUMBER, help="Its rise, adu per hour.")
@option(
    "--response-scatter",
    metavar="X",
    type=FiniteRange(min=0),
    help="Scatter of the pixels' response.",
)
@option("--vignetting", metavar="X", type=FiniteRange(0, 1), help="Light lost in the corners.")
@option("--full-well", metavar="X", type=FiniteRange(min=0), help="Electrons a pixel holds.")
@option("--name", help="The star's OBJECT.")
@option("--flux", metavar="X", type=FiniteRange(min=0), help="Electrons per second and column.")
@option("--row", metavar="X", type=NUMBER, help="Row of the trace in the middle column.")
@option("--tilt", metavar="X", type=NUMBER, help="Rows by which the trace rises.")
@option(
    "--seeing",
    metavar="X",
    type=FiniteRange(min=0, min_open=True),
    help="Full width at half maximum, rows.",
)
@option(
    "--profile", type=click.Choice(["gaussian", "moffat"]), help="Of the star across the trace."
)
@option(
    "--sky", metavar="X", type=FiniteRange(min=0), help="Its light, electrons per second and pixel."
)
@option(
    "--sky-gradient",
    metavar="X",
    type=FiniteRange(-2, 2),
    help="Part by which it brightens along the rows.",
)
@option("--sky-tilt", metavar="X", type=NUMBER, help="Columns by which its lines lean.")
@option("--overwrite", is_flag=True, help="Replace files that have other content.")
@click.pass_context
def simulate(ctx: click.Context, folder: Path) -> None:
    """Write simulated frames into DIR, and what they are made of: truth.ecsv and truth.json.

    \b
    arrayred simulate night
    arrayred simulate night --shape 1024x1536 --flats 5 --arcs 2 --cosmic-rays 300
    arrayred simulate stack --shape 2048x2048 --lights 400 --darks 25
    """
    from arrayred.io.products import write_frames, write_truth

    options = options_of(ctx)
    _require_names(options)
    night, overwrite = simulated_night(options), options.get("overwrite", False)
    left = len(night.exposures())
    truth = write_truth(night.truth(), night.facts(), folder, overwrite=overwrite)
    with shown_stages(), stage("writing frames"):
        advance = countdown()

        def written() -> None:
            nonlocal left
            left -= 1
            if advance is not None:
                advance(left)

        paths = write_frames(night.frames(), folder, overwrite=overwrite, written=written)
    click.echo(
        f"{len(paths)} frames in {folder}; the truth is in {truth[0].name} and {truth[1].name}"
    )


def _require_names(options: Options) -> None:
    """Raise UsageError if the name of the star or the prefix of the files is invalid."""
    from arrayred.errors import UsageError
    from arrayred.io.products import checked_cards

    checked_cards({"OBJECT": options.get("name", "")})
    prefix = options.get("prefix", "")
    if not prefix.isprintable() or "/" in prefix or "\\" in prefix:
        raise UsageError(f"{prefix!r} cannot begin a file's name", hint="Take letters and digits.")


def simulated_night(options: Options) -> SimulatedNight:
    """Return the night described by the options."""
    from arrayred.simulate import Detector, SimulatedNight, Sky, Star

    detector = {name: options[name] for name in _DETECTOR_OPTIONS if name in options}
    star = {name: options[name] for name in _STAR_OPTIONS if name in options}
    sky = {field: options[name] for name, field in _SKY_OPTIONS.items() if name in options}
    parts = {*_DETECTOR_OPTIONS, *_STAR_OPTIONS, *_SKY_OPTIONS, "overwrite"}
    others = {name: value for name, value in options.items() if name not in parts}
    return SimulatedNight(Detector(**detector), Star(**star), sky=Sky(**sky), **others)


# ``arrayred demo``: a simulated night, start to finish.


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
    from arrayred.cli.reduce import reduce_one_night
    from arrayred.io.products import write_frames
    from arrayred.simulate import SimulatedNight

    night = SimulatedNight(n_biases=3, n_arcs=2)
    with shown_stages(), stage("writing frames"):
        paths = write_frames(night.frames(), out / "night", overwrite=True)
    click.echo(f"Simulated {len(paths)} frames in {out / 'night'}\n")
    options = {"force": True, "overwrite": True, "no_figures": no_figures}
    (outcome,) = reduce_one_night(out / "night", out / "reduced", options)
    if outcome.error is not None or outcome.spectrum is None:
        raise outcome.error or RuntimeError("a target without error has no spectrum")
    _print_comparison(outcome.spectrum, night.truth())
    click.echo("\nLook at:")
    for path in outcome.files:
        if path.name.endswith(("_skysubtracted.txt", "_spectrum.fits", ".png")):
            click.echo(f"  {path}")


def _print_comparison(spectrum: xr.Dataset, truth: xr.Dataset) -> None:
    """Print measured and true wavelength, Angstrom, and flux, adu, at some columns."""
    found, true = spectrum["flux"].values, truth["flux"].values
    wave, true_wave = (one["wavelength"].values for one in (spectrum, truth))
    sigma = spectrum["variance"].values ** 0.5
    click.echo("\ncolumn   wavelength, A      true   flux, adu   true flux   sigma")
    for i in range(len(found) // 16, len(found), len(found) // 8):
        click.echo(
            f"{i + 1:6}   {wave[i]:13.2f}   {true_wave[i]:7.2f}   {found[i]:9.0f}   {true[i]:9.0f}"
            f"   {sigma[i]:5.0f}"
        )
    click.echo(
        f"   all                             {found.sum():9.0f}   {true.sum():9.0f}"
        f"   {found.sum() / true.sum():.1%} found"
    )
