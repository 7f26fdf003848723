"""``arrayred simulate DIR`` and ``arrayred demo``: nights with known true values."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import click

from arrayred.cli.layout import countdown, shown_stages
from arrayred.cli.options import Options, Sectioned, option, options_of
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
    help="Number of light frames. [default: 3]",
)
@option(
    "--darks",
    "n_darks",
    metavar="N",
    type=click.IntRange(min=0),
    help="Number of dark frames. [default: 5]",
)
@option(
    "--biases",
    "n_biases",
    metavar="N",
    type=click.IntRange(min=0),
    help="Number of bias frames. [default: 0]",
)
@option(
    "--flats",
    "n_flats",
    metavar="N",
    type=click.IntRange(min=0),
    help="Number of flat frames. [default: 0]",
)
@option(
    "--arcs",
    "n_arcs",
    metavar="N",
    type=click.IntRange(min=0),
    help="Number of arc frames. [default: 0]",
)
@option(
    "--exptime",
    metavar="X",
    type=FiniteRange(0, 1e6, min_open=True),
    help="Exposure time, s. [default: 600]",
)
@option(
    "--dialect",
    type=click.Choice(["maxim", "nina", "observatory"]),
    help="Camera program whose file names and headers are imitated. [default: maxim]",
)
@option("--prefix", help="Prefix of the file names.")
@option(
    "--seed",
    metavar="N",
    type=click.IntRange(min=0),
    help="Random seed. [default: 0]",
)
@option(
    "--cosmic-rays",
    metavar="X",
    type=FiniteRange(min=0),
    help="Cosmic-ray hits per frame and hour.",
)
@option(
    "--flux-scatter",
    metavar="X",
    type=FiniteRange(min=0),
    help="Relative variation of the star's flux between frames.",
)
@option(
    "--trace-drift",
    metavar="X",
    type=NUMBER,
    help="Drift of the trace between light frames, rows.",
)
@option("--shape", type=Shape(), help="Size of the frames. [default: 256x384]")
@option(
    "--dtype",
    type=click.Choice(["uint8", "int16", "uint16", "int32", "uint32", "float32"]),
    help="Data type of the pixels.",
)
@option("--gain", metavar="X", type=FiniteRange(min=0, min_open=True), help="Gain, electron/ADU.")
@option(
    "--stated-gain",
    metavar="X",
    type=FiniteRange(min=0, min_open=True),
    help="Gain stated in the headers, if different.",
)
@option("--read-noise", metavar="X", type=FiniteRange(min=0), help="Read noise, electrons.")
@option("--bias-level", metavar="X", type=NUMBER, help="Bias level, ADU.")
@option("--bias-drift", metavar="X", type=NUMBER, help="Rise of the bias, ADU per hour.")
@option(
    "--response-scatter",
    metavar="X",
    type=FiniteRange(min=0),
    help="Relative scatter of the pixel response.",
)
@option(
    "--vignetting",
    metavar="X",
    type=FiniteRange(0, 1),
    help="Vignetting: fraction of the light lost in the corners.",
)
@option("--full-well", metavar="X", type=FiniteRange(min=0), help="Full-well capacity, electrons.")
@option("--name", help="OBJECT of the star.")
@option(
    "--flux", metavar="X", type=FiniteRange(min=0), help="Flux, electrons per second and column."
)
@option("--row", metavar="X", type=NUMBER, help="Row of the trace in the middle column.")
@option(
    "--tilt", metavar="X", type=NUMBER, help="Trace tilt, rows from the first to the last column."
)
@option(
    "--seeing",
    metavar="X",
    type=FiniteRange(min=0, min_open=True),
    help="Seeing (FWHM), rows.",
)
@option("--profile", type=click.Choice(["gaussian", "moffat"]), help="Spatial profile of the star.")
@option(
    "--sky", metavar="X", type=FiniteRange(min=0), help="Sky level, electrons per second and pixel."
)
@option(
    "--sky-gradient",
    metavar="X",
    type=FiniteRange(-2, 2),
    help="Relative sky brightening along the slit.",
)
@option("--sky-tilt", metavar="X", type=NUMBER, help="Tilt of the sky lines, columns.")
@option("--overwrite", is_flag=True, help="Overwrite existing files.")
@click.pass_context
def simulate(ctx: click.Context, folder: Path) -> None:
    """Write simulated frames to DIR, with their true values in truth.ecsv and truth.json.

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
        f"{len(paths)} frames in {folder}; true values in {truth[0].name} and {truth[1].name}"
    )


def _require_names(options: Options) -> None:
    """Raise UsageError if the name of the star or the prefix of the files is invalid."""
    from arrayred.errors import UsageError
    from arrayred.io.products import checked_cards

    checked_cards({"OBJECT": options.get("name", "")})
    prefix = options.get("prefix", "")
    if not prefix.isprintable() or "/" in prefix or "\\" in prefix:
        raise UsageError(
            f"{prefix!r} cannot be the start of a file name", hint="Use letters and digits."
        )


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
    help="Folder for the night and its products.",
)
@click.option("--no-figures", is_flag=True, help="Do not write figures.")
def demo(out: Path, no_figures: bool) -> None:
    """Simulate a night, reduce it, and compare the spectrum with the true one."""
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
