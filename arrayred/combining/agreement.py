"""Whether frames, and the image to be subtracted from them, go together; what CALSTAT then says.

Refused by name is what makes a wrong image: other exposures, a correction made twice. What may be
meant is a warning.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from arrayred.config import Recipe
from arrayred.errors import HeaderError, MismatchError
from arrayred.io.frames import Frame, exposure_tolerance

_SLACK = 1e-9  # decimals such as 60.06 are not exact


@dataclass(frozen=True)
class Rules:
    """What is let through.

    Parameters
    ----------
    any_exposure : frames, and the image to be subtracted, may be of different exposures.
    """

    any_exposure: bool = False


def require_same_exposure(frames: Sequence[Frame]) -> None:
    """Raise unless all frames are of one exposure, within 0.01 s or 0.1 %.

    Raises
    ------
    HeaderError
        A frame's exposure is not known.
    MismatchError
        A frame's exposure is another.
    """
    first = _exposure(frames[0])
    tolerance = exposure_tolerance(first) + _SLACK
    for frame in frames[1:]:
        if abs(_exposure(frame) - first) > tolerance:
            raise MismatchError(
                f"The frame was exposed for {frame.exptime:g} s, but {frames[0].path.name} for "
                f"{first:g} s",
                path=frame.path,
                keyword="EXPTIME",
                value=frame.exptime,
                hint="Combine frames of one exposure, or give --any-exposure.",
            )


def _exposure(frame: Frame) -> float:
    """Return a frame's exposure in s; raise HeaderError if it is not known."""
    if frame.exptime is not None:
        return frame.exptime
    known = [problem for problem in frame.problems if isinstance(problem, HeaderError)]
    raise (
        known[0]
        if known
        else HeaderError(
            "No card gives the exposure", path=frame.path, hint="Give --any-exposure to go on."
        )
    )


def remarks_on(frames: Sequence[Frame]) -> list[str]:
    """Return a warning for everything in which frames differ, though that may be meant."""
    facets = {
        "types": [frame.frame_type or repr(frame.type_found) for frame in frames],
        "corrections (CALSTAT)": [frame.state or "none" for frame in frames],
        "settings": [" ".join("=".join(pair) for pair in frame.setup) for frame in frames],
    }
    return [
        f"the frames are of different {what}: {_counted(values)}"
        for what, values in facets.items()
        if len(set(values)) > 1
    ]


def _counted(values: Sequence[str]) -> str:
    return ", ".join(f"{n} x {value or 'unknown'}" for value, n in Counter(values).most_common())


def require_fitting(master: Frame, frames: Sequence[Frame], rules: Rules) -> None:
    """Raise MismatchError unless an image can be subtracted from every frame.

    Parameters
    ----------
    master : the image to be subtracted.
    frames : in canonical order.
    rules : what is let through.
    """
    for frame in frames:
        if frame.image.source.stamp == master.image.source.stamp:
            raise MismatchError(
                "The image to be subtracted is one of the frames",
                path=frame.path,
                hint="Leave it out of the frames, or leave out --minus.",
            )
        if frame.shape != master.shape:
            raise _misfit(frame, master, "NAXIS", f"{frame.shape} pixels", f"{master.shape}")
        ours, theirs = dict(frame.setup), dict(master.setup)
        for name in ours.keys() & theirs.keys():
            if ours[name] != theirs[name]:
                raise _misfit(frame, master, name, f"{name} {ours[name]}", theirs[name])
        _require_correctable(frame, master)
    if not rules.any_exposure and master.frame_type != "bias":
        exposure = _exposure(master)
        for frame in frames:
            if abs(_exposure(frame) - exposure) > Recipe.dark_tolerance + _SLACK:
                raise _misfit(
                    frame, master, "EXPTIME", f"{frame.exptime:g} s", f"{exposure:g} s",
                    "Take a master of their exposure, or give --any-exposure.",
                )  # fmt: skip


def _require_correctable(frame: Frame, master: Frame) -> None:
    """Raise MismatchError unless what the master takes away is in the frame as it is in it."""
    taken, found = _taken_by(master), ""
    again = [what for letter, what in _PARTS if letter in frame.state and letter in taken]
    if again:
        found = f"The {again[0]} is subtracted already, and {master.path.name} takes it away again"
    elif master.frame_type == "dark" and "D" in master.state:
        found = f"{master.path.name} is a dark from which a dark was subtracted"
    elif taken and "F" in frame.state:
        found = f"The frame was divided by a flat, which {master.path.name} was not"
    elif taken == "D" and "B" not in frame.state:
        found = f"The bias is still in the frame, but not in {master.path.name}"
    if found:
        raise MismatchError(
            f"{found} (CALSTAT {frame.calstat!r}, and {master.calstat!r} there)",
            path=frame.path,
            keyword="CALSTAT",
            value=frame.calstat,
            hint="Take raw frames and a raw master, or subtract from each a bias before.",
        )


_PARTS = (("D", "dark"), ("B", "bias"))


def _misfit(
    frame: Frame, master: Frame, keyword: str, ours: str, theirs: str, hint: str = ""
) -> MismatchError:
    return MismatchError(
        f"The frame has {ours}, but {master.path.name}, to be subtracted, has {theirs}",
        path=frame.path,
        keyword=keyword,
        value=ours,
        hint=hint or "Take a master made from frames like these.",
    )


def _taken_by(master: Frame) -> str:
    """Return the letters of what an image takes away: a raw dark holds the bias as well."""
    if master.frame_type == "bias":
        return "B"
    if master.frame_type == "dark":
        return "D" if "B" in master.state else "BD"
    return ""


def calstat_after(frames: Sequence[Frame], master: Frame) -> str:
    """Return CALSTAT once an image is subtracted from frames: "" where nothing certain is known.

    Parameters
    ----------
    frames : agreeing in CALSTAT; where they do not, only what all have lost counts.
    master : the image subtracted.
    """
    before = set.intersection(*({*frame.state} for frame in frames))
    done = before | set(_taken_by(master))
    return "".join(letter for letter in "BDF" if letter in done)
