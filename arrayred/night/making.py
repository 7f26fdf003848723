"""Darks that are made of others: with a bias added or taken off, or of another exposure.

The state of a frame is whether its bias is gone, and whether its dark is. A dark serves lights in
the same state; where none does, one is made:

=============  ================  ==========================================
lights         darks             what is subtracted from the lights
=============  ================  ==========================================
raw            raw               the dark
raw            bias gone         dark + bias
bias gone      raw               dark - bias
bias gone      bias gone         the dark
raw            raw, longer       bias + (dark - bias) * t / T, on request
=============  ================  ==========================================

Scaling is for dark current alone: without the bias nothing is scaled. From a longer exposure it is
harmless; from a shorter one the noise grows with the factor, so that it must be asked for by name.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from arrayred.config import Recipe
from arrayred.errors import NoDarkError
from arrayred.io.frames import Frame
from arrayred.night.group import Group
from arrayred.night.matching import distance, match_dark, why_not

Calibrations = Mapping[str, Sequence[Group]]


@dataclass(frozen=True)
class Made(Group):
    """A master dark that is made of another one and a bias.

    Parameters
    ----------
    name, frames : of the darks it is made of, the name being its own.
    dark : the darks.
    bias : the biases; None: neither the darks nor the lights have one.
    wanted : the exposure that it is made for, s.
    keep_bias : the bias is in what it serves.
    """

    dark: Group
    bias: Group | None
    wanted: float
    keep_bias: bool

    def __repr__(self) -> str:
        """Return what it is, in a line."""
        return f"Made({self.name}: {self.dark!r}, {self.bias!r})"

    @property
    def is_master(self) -> bool:
        """It has to be made, even of masters."""
        return False

    @property
    def has_bias(self) -> bool:
        """Tell whether the darks that it is made of have their bias."""
        return "B" not in self.state

    @property
    def factor(self) -> float:
        """Return by what the dark current is multiplied."""
        same = self.wanted == self.dark.exptime
        return 1.0 if same else self.wanted / self.dark.exptime

    @property
    def remarks(self) -> tuple[str, ...]:
        """Return what a user should know of it: that it was scaled, and whether its noise grew."""
        if self.factor == 1.0:
            return ()
        grown = ", and its noise grew as much" if self.factor > 1 else ""
        return (f"the dark of {self.dark.exptime:g} s was scaled by {self.factor:.4g}{grown}",)

    @property
    def inputs(self) -> tuple[Frame, ...]:
        """Return the frames of the darks and of the biases."""
        return (*self.frames, *(self.bias.frames if self.bias else ()))

    @property
    def parts(self) -> tuple[Group, ...]:
        """Return the darks and, where they are needed, the biases."""
        return (self.dark,) if self.bias is None else (self.dark, self.bias)


def dark_for(lights: Group, calibrations: Calibrations, recipe: Recipe) -> Group:
    """Return the darks that serve frames as they are, or one made for them.

    Parameters
    ----------
    lights : the frames that need a dark.
    calibrations : the groups of biases and darks.
    recipe : its `dark_tolerance`, `temperature_tolerance` and `scale_dark` decide.

    Raises
    ------
    NoDarkError
        None fits; the error says of each why not.
    """
    degrees = recipe.temperature_tolerance
    try:
        return match_dark(lights, calibrations["dark"], recipe.dark_tolerance, degrees)
    except NoDarkError:
        made = _made(lights, calibrations, recipe)
        if made is None:
            raise
        return made


def _made(lights: Group, calibrations: Calibrations, recipe: Recipe) -> Made | None:
    """Return a dark made for lights, one that need not be scaled before one that must."""
    for tolerance in [recipe.dark_tolerance, *([None] if recipe.scale_dark != "no" else [])]:
        fitting = [
            dark
            for dark in calibrations["dark"]
            if not why_not(lights, dark, tolerance, recipe.temperature_tolerance, any_bias=True)
            and (tolerance is not None or _may_scale(dark, lights, recipe))
        ]
        nearest = sorted(
            fitting, key=lambda dark: (abs(dark.exptime - lights.exptime), distance(lights, dark))
        )
        for dark in nearest:
            made = _of(dark, lights, calibrations["bias"], scaled=tolerance is None)
            if made is not None:
                return made
    return None


def _may_scale(dark: Group, lights: Group, recipe: Recipe) -> bool:
    longer = dark.exptime >= lights.exptime
    return lights.exptime > 0 and dark.exptime > 0 and (longer or recipe.scale_dark == "both")


def _of(dark: Group, lights: Group, biases: Sequence[Group], *, scaled: bool) -> Made | None:
    """Return the dark made of one, with the nearest bias that fits it, where one is needed."""
    has_bias, keep_bias = "B" not in dark.state, "B" not in lights.state
    fitting = [
        bias
        for bias in biases
        if "B" not in bias.state and not why_not(lights, bias, None, float("inf"), any_bias=True)
    ]
    bias = min(fitting, key=lambda bias: distance(dark, bias), default=None)
    if bias is None and (has_bias or keep_bias):
        return None
    change = "" if has_bias == keep_bias else "_with_bias" if keep_bias else "_less_bias"
    name = f"{lights.exptime:g}s_from_{dark.name}" if scaled else dark.name
    wanted = lights.exptime if scaled else dark.exptime
    needed = bias if has_bias or keep_bias else None
    return Made(f"{name}{change}", dark.frames, dark, needed, wanted, keep_bias)
