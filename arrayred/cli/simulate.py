"""``arrayred simulate DIR``: a night with known truth, to try things on."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from arrayred.cli.progress import counting, showing
from arrayred.cli.wishes import Wishes, wish, wishes_of
from arrayred.watching import stage

if TYPE_CHECKING:
    from arrayred.simulate import SimulatedNight

_OF_THE_DETECTOR = (
    *("shape", "gain", "stated_gain", "read_noise", "bias_level", "bias_drift", "dtype"),
    *("response_scatter", "vignetting", "full_well"),
)
_OF_THE_STAR = ("flux", "row", "tilt", "seeing", "profile", "name")
_OF_THE_SKY = {"sky": "level", "sky_gradient": "gradient", "sky_tilt": "tilt"}


_LARGEST = 1e9


class Finite(click.FloatRange):
    """A number from a range that is no nan and not so large that physics ends."""

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """Return the number."""
        number = super().convert(value, param, ctx)
        if not abs(number) <= _LARGEST:
            self.fail(f"{value!r} is not a number up to {_LARGEST:g}.", param, ctx)
        return number


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


@click.command()
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path))
@wish("--lights", "n_lights", type=click.IntRange(min=0), help="Light frames. [default: 3]")
@wish("--darks", "n_darks", type=click.IntRange(min=0), help="Dark frames. [default: 5]")
@wish("--biases", "n_biases", type=click.IntRange(min=0), help="Bias frames. [default: 0]")
@wish("--flats", "n_flats", type=click.IntRange(min=0), help="Flat frames. [default: 0]")
@wish("--arcs", "n_arcs", type=click.IntRange(min=0), help="Arc frames. [default: 0]")
@wish("--exptime", type=Finite(0, 1e6, min_open=True), help="Exposure, s. [default: 600]")
@wish("--dialect", type=click.Choice(["maxim", "nina", "observatory"]), help="Names and headers.")
@wish("--prefix", help="Begins every file's name.")
@wish("--seed", type=click.IntRange(min=0), help="Another seed, another night. [default: 0]")
@wish("--cosmic-rays", type=Finite(min=0), help="Hits on a frame of an hour.")
@wish("--flux-scatter", type=Finite(min=0), help="Variation of the star's light.")
@wish("--trace-drift", type=Finite(), help="Rows by which the trace moves from light to light.")
@wish("--shape", type=Shape(), help="Of the frames. [default: 256x384]")
@wish("--dtype", type=click.Choice(["uint8", "int16", "uint16", "int32", "uint32", "float32"]))
@wish("--gain", type=Finite(min=0, min_open=True), help="Electrons per adu.")
@wish("--stated-gain", type=Finite(min=0, min_open=True), help="What headers say instead.")
@wish("--read-noise", type=Finite(min=0), help="Electrons.")
@wish("--bias-level", type=Finite(), help="adu.")
@wish("--bias-drift", type=Finite(), help="adu per hour.")
@wish("--response-scatter", type=Finite(min=0), help="Scatter of the pixels' response.")
@wish("--vignetting", type=Finite(0, 1), help="Light lost in the corners.")
@wish("--full-well", type=Finite(min=0), help="Electrons a pixel holds.")
@wish("--name", help="The star's OBJECT.")
@wish("--flux", type=Finite(min=0), help="Electrons per second and column.")
@wish("--row", type=Finite(), help="Row of the trace in the middle column.")
@wish("--tilt", type=Finite(), help="Rows by which the trace rises.")
@wish("--seeing", type=Finite(min=0, min_open=True), help="FWHM, rows.")
@wish("--profile", type=click.Choice(["gaussian", "moffat"]), help="Across the trace.")
@wish("--sky", type=Finite(min=0), help="Electrons per second and pixel.")
@wish("--sky-gradient", type=Finite(-2, 2), help="Part by which it brightens along the rows.")
@wish("--sky-tilt", type=Finite(), help="Columns by which its lines lean.")
@wish("--overwrite", is_flag=True, help="Replace files that have other content.")
@click.pass_context
def simulate(ctx: click.Context, folder: Path) -> None:
    """Write simulated frames into DIR, and what they are made of: truth.ecsv and truth.json.

    \b
    arrayred simulate night
    arrayred simulate night --shape 1024x1536 --flats 5 --arcs 2 --cosmic-rays 300
    arrayred simulate stack --shape 2048x2048 --lights 400 --darks 25
    """
    from arrayred.io.raw import write_frames, write_truth

    wishes = wishes_of(ctx)
    _require_names(wishes)
    night, overwrite = night_of(wishes), wishes.get("overwrite", False)
    left = len(night.exposures())
    truth = write_truth(night.truth(), night.facts(), folder, overwrite=overwrite)
    with showing(), stage("writing frames"):
        advance = counting()

        def written() -> None:
            nonlocal left
            left -= 1
            if advance is not None:
                advance(left)

        paths = write_frames(night.frames(), folder, overwrite=overwrite, written=written)
    click.echo(
        f"{len(paths)} frames in {folder}; the truth is in {truth[0].name} and {truth[1].name}"
    )


def _require_names(wishes: Wishes) -> None:
    """Raise UsageError if the star's or the files' names cannot be."""
    from arrayred.errors import UsageError
    from arrayred.io.product_header import checked_cards

    checked_cards({"OBJECT": wishes.get("name", "")})
    prefix = wishes.get("prefix", "")
    if not prefix.isprintable() or "/" in prefix or "\\" in prefix:
        raise UsageError(f"{prefix!r} cannot begin a file's name", hint="Take letters and digits.")


def night_of(wishes: Wishes) -> SimulatedNight:
    """Return the night that the options describe."""
    from arrayred.simulate import Detector, SimulatedNight, Sky, Star

    detector = {name: wishes[name] for name in _OF_THE_DETECTOR if name in wishes}
    star = {name: wishes[name] for name in _OF_THE_STAR if name in wishes}
    sky = {field: wishes[name] for name, field in _OF_THE_SKY.items() if name in wishes}
    parts = {*_OF_THE_DETECTOR, *_OF_THE_STAR, *_OF_THE_SKY, "overwrite"}
    others = {name: value for name, value in wishes.items() if name not in parts}
    return SimulatedNight(Detector(**detector), Star(**star), sky=Sky(**sky), **others)
