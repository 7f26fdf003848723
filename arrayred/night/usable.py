"""Which frames of a night can be used, and what is wrong with the others."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping

from arrayred.errors import ArrayredError, HeaderError, InputError
from arrayred.io.frames import Frame
from arrayred.night.naming import listed
from arrayred.night.records import Night, unlike

_USED = ("arc", "bias", "dark", "flat", "light")


def sort_out(
    night: Night, duplicates: Mapping[str, str]
) -> tuple[dict[str, list[Frame]], list[tuple[str, str]], list[ArrayredError]]:
    """Return the usable frames by type, what is left out and why, and what is wrong.

    Parameters
    ----------
    night : the frames.
    duplicates : labels of frames that are not to be used, with the frame that they repeat.
    """
    usable: dict[str, list[Frame]] = defaultdict(list)
    left_out, problems = [*night.left_out, *night.foreign], list(night.problems)
    for frame in night.frames:
        wrong = problems_of(frame)
        if wrong:
            problems += wrong
        elif frame.label in duplicates:
            left_out.append((frame.label, f"the same frame as {duplicates[frame.label]}"))
        elif frame.frame_type in _USED and not _is_spoilt_dark(frame):
            usable[frame.frame_type].append(frame)
        else:
            left_out.append((frame.label, _why_left_out(frame)))
    return usable, left_out, problems


def problems_of(frame: Frame) -> list[ArrayredError]:
    """Return what keeps a frame from being used though it should be."""
    if frame.frame_type is None and not frame.type_found:
        return [_untyped(frame), *frame.problems]
    if any(isinstance(refusal, HeaderError) for refusal in frame.refusals):
        return list(frame.refusals)
    if frame.frame_type not in ("dark", "light"):
        return []
    if frame.exptime == 0:
        return [_unexposed(frame)]
    return [*frame.refusals, *(frame.problems if frame.exptime is None else ())]


def _is_spoilt_dark(frame: Frame) -> bool:
    """Tell whether a dark was subtracted from this dark: it serves nothing any more."""
    return frame.frame_type == "dark" and "D" in frame.calstat


def _why_left_out(frame: Frame) -> str:
    if frame.frame_type is None:
        return f"the frame type {frame.type_found!r} is unknown"
    if _is_spoilt_dark(frame):
        return f"a dark from which a dark was subtracted (CALSTAT={frame.calstat!r})"
    return f"of type {frame.frame_type}, not used"


def warnings_of(night: Night) -> tuple[str, ...]:
    """Return a line for everything that is odd about a night, but no obstacle.

    What many frames share is one line that names the first and the last.
    """
    odd: dict[str, list[str]] = defaultdict(list)
    for frame in night.frames:
        if frame.frame_type is None and frame.type_found:
            odd[f"the frame type {frame.type_found!r} is unknown"].append(frame.label)
        for warning in frame.warnings:
            odd[warning].append(frame.label)
    foreign = [f"{name}: {reason}; left out" for name, reason in night.foreign]
    return (*foreign, *(f"{listed(labels)}: {warning}" for warning, labels in odd.items()))


def too_large(night: Night, max_frame_mb: float) -> list[ArrayredError]:
    """Return an error for every frame of more megabytes."""
    return [
        InputError(
            f"The frame has {frame.image.source.n_bytes / 1e6:.0f} MB",
            path=frame.path,
            hint="If that is right, raise max_frame_mb in the recipe.",
        )
        for frame in night.frames
        if frame.image.source.n_bytes / 1e6 > max_frame_mb
    ]


def _unexposed(frame: Frame) -> InputError:
    return InputError(
        f"A {frame.frame_type} of 0 s cannot be",
        path=frame.path,
        keyword="EXPTIME",
        value=0.0,
        hint="Mend EXPTIME in the header, or exclude the frame.",
    )


def no_lights(night: Night, problems: Iterable[ArrayredError]) -> list[ArrayredError]:
    """Return the error of a night without lights; none if another tells where they are.

    Parameters
    ----------
    night : the frames.
    problems : what is wrong with it otherwise: what cannot be read may be a light.
    """
    if any(frame.frame_type == "light" for frame in night.frames):
        return []
    others = {str(frame.path) for frame in night.frames if frame.frame_type is not None}
    if any(problem.path is not None and problem.path not in others for problem in problems):
        return []
    if night.file.frames == "*":
        hint = "Check the frame types; spellings of your own go into an instrument file."
        return [InputError("There is no light frame", path=night.folder, hint=hint)]
    reason = unlike(night.file.frames)
    lights = [label for label, why in night.left_out if why == reason]
    there = f"The lights are {listed(lights)}" if lights else "There is no other light either"
    return [
        InputError(
            f"There is no light frame whose name matches {night.file.frames!r}",
            path=night.folder,
            hint=f"{there}; in a shell, quote what has an asterisk." if lights else f"{there}.",
        )
    ]


def _untyped(frame: Frame) -> InputError:
    return InputError(
        "No card says what kind of frame this is",
        path=frame.path,
        keyword="IMAGETYP",
        hint="Add IMAGETYP to the header, name its card in an instrument file, tell its type in a "
        "night file, or exclude it.",
    )
