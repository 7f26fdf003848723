"""A night file from what was understood of a night: `night_file_text`.

Read back unchanged it leads to the same plan; a comment stands where something may be added.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from datetime import timedelta
from pathlib import Path

from arrayred.config import Recipe
from arrayred.config.night_file import CARDS
from arrayred.config.toml import toml_text
from arrayred.errors import printable
from arrayred.night.plan import Plan, Target
from arrayred.night.records import Night

_NEAR = timedelta(hours=6)
_HEAD = """\
# What arrayred understood of this night. Edit it, then:
#   arrayred reduce NIGHT -o OUT --night-file THIS-FILE
# Frames are labels, file names, globs, or ranges such as hr8047-10..12. Everything may be left out.
"""
_SETTINGS = """\
# Any field of the recipe, for all targets; under a target, for that one.
[recipe]
# combine = "median"
# n_sigma = 3.0
# background_rows = [1, 50]
"""


def night_file_text(night: Night, plan: Plan, recipe: Recipe, path: Path) -> str:
    """Return a night file that says what arrayred understood by itself.

    Parameters
    ----------
    night : the frames.
    plan : what was made of them.
    recipe : what is to be done with all targets.
    path : where the file will lie; paths in it are relative to its folder.

    Returns
    -------
    text : TOML.
    """
    sections = [
        [_HEAD.rstrip(), *_top(night, path)],
        ["# Files that are not what their headers say.", "[types]", *_types(night)],
        _SETTINGS.rstrip().splitlines() + _pairs(_differences(recipe, Recipe()).items()),
        ["# Cards of all products.", "[cards]", *_pairs(night.file.cards.items())],
        *[[*_target(target, recipe, night)] for target in plan.targets],
    ]
    remarks = [f"# left out: {printable(line)}" for line in plan.left_out_lines()]
    remarks += [f"# {printable(name)} cannot be reduced: {error}" for name, error in plan.failed]
    return "\n\n".join("\n".join(lines) for lines in [*sections, remarks] if lines) + "\n"


def _top(night: Night, path: Path) -> Iterator[str]:
    file, folder = night.file, path.absolute().parent
    calibrations = [os.path.relpath(where, folder) for where in file.calibrations]
    own = file.instrument.endswith(".toml")
    instrument = os.path.relpath(file.instrument, folder) if own else file.instrument
    yield f"instrument = {toml_text(instrument)}"
    if file.frames != "*":
        yield f"frames = {toml_text(file.frames)}"
    yield f"exclude = {toml_text(list(file.exclude))}"
    more = "further folders of raw or master darks, biases"
    yield f"calibrations = {toml_text(calibrations)}  # {more}"
    if file.unsigned != "auto":
        yield f"unsigned = {toml_text(file.unsigned)}"
    if file.masters:
        yield "\n[masters]"
        yield from _pairs((kind, os.path.relpath(p, folder)) for kind, p in file.masters.items())


def _types(night: Night) -> Iterator[str]:
    """Yield the types that headers alone did not tell, those that a file told before included."""
    given = {name for names in night.file.types.values() for name in names}
    for kind in ("bias", "dark", "flat", "arc", "light"):
        known = list(night.file.types.get(kind, ()))
        found = [
            frame.label
            for frame in night.frames
            if frame.frame_type == kind
            and frame.label not in given
            and any(text.startswith("taken for") for text in frame.warnings)
        ]
        if known or found:
            yield f"{kind} = {toml_text([*known, *found])}"
    if not any(frame.frame_type == "arc" for frame in night.frames):
        yield '# arc = ["*neon*"]'


def _target(target: Target, recipe: Recipe, night: Night) -> Iterator[str]:
    lights = target.lights
    yield f"# {lights.size} of {lights.exptime:g} s"
    for remark in target.remarks:
        yield f"# note: {printable(remark)}"
    yield f"[targets.{toml_text(target.name)}]"
    yield f"frames = {toml_text([frame.label for frame in lights.frames])}"
    known = {**_cards_of(target), **target.cards}
    for key, card in CARDS.items():
        given = card in target.cards
        yield f"{'' if given else '# '}{key} = {toml_text(known.get(card, ''))}"
    if target.rows_from:
        yield f"rows_from = {toml_text(target.rows_from)}"
    elif target.recipe.rows is None:
        yield '# rows = [100, 120]  # or rows_from = "another target"'
    if target.lamps:
        yield f"lamps = {toml_text([frame.label for frame in target.lamps.frames])}"
    elif lamps := _lamps_near(target, night):
        yield f"# lamps = {toml_text(lamps)}"
    yield from _pairs(_differences(target.recipe, recipe).items())
    named = CARDS.values()
    others = {card: value for card, value in target.cards.items() if card not in named}
    if others:
        yield f"cards = {{ {', '.join(_pairs(others.items()))} }}"


def _differences(recipe: Recipe, from_other: Recipe) -> dict[str, object]:
    """Return the settings that differ from another recipe's."""
    return {name: v for name, v in vars(recipe).items() if v != vars(from_other)[name]}


def _lamps_near(target: Target, night: Night) -> list[str]:
    """Return the arcs of the same pixels and optics that were taken within hours of a target."""
    light = target.lights.frames[0]
    return [
        frame.label
        for frame in night.frames
        if frame.frame_type == "arc"
        and (frame.shape, frame.optics) == (light.shape, light.optics)
        and (frame.time is None or light.time is None or abs(frame.time - light.time) < _NEAR)
    ]


def _cards_of(target: Target) -> dict[str, object]:
    """Return what the first frame's header says of the cards that people most often mend."""
    header = target.lights.frames[0].image.header
    found = {card: header.readable(card) for card in CARDS.values()}
    return {card: value for card, value in found.items() if value is not None}


def _pairs(entries: Iterable[tuple[str, object]]) -> list[str]:
    return [f"{key} = {toml_text(value)}" for key, value in entries]
