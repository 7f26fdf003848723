"""How masters came to be, as their headers tell it: `story_of_master`, `story_of_flat`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from arrayred.config import Method
from arrayred.io.header import Value
from arrayred.io.products import Story
from arrayred.night import Flat, Group, Made


def story_of_master(group: Group, method: Method, checksums: Mapping[Path, str]) -> Story:
    """Return the story of a master dark or bias.

    Parameters
    ----------
    group : its frames, or what it was made of.
    method : how they became one image.
    checksums : sha256 of every input.
    """
    others = group.inputs[len(group.frames) :]
    facts = _changed(group) if isinstance(group, Made) else []
    return Story(group.frames, others, method=method, checksums=checksums, facts=facts)


def _changed(group: Made) -> list[tuple[str, Value, str]]:
    """Return the cards in which a dark that was made of others differs from their headers."""
    exposure = "[s] exposure" if group.factor == 1 else f"[s] scaled from {group.dark.exptime:g} s"
    state = "" if group.keep_bias else "B"
    return [("EXPTIME", group.wanted, exposure), ("CALSTAT", state, "corrections applied")]


def story_of_flat(flat: Flat, checksums: Mapping[Path, str]) -> Story:
    """Return the story of a master flat: a relative response, which has no unit."""
    return Story(
        flat.frames.frames,
        flat.inputs[len(flat.frames.frames) :],
        method="median",
        calstat=flat.calstat,
        checksums=checksums,
        facts=[("BUNIT", "", "response relative to the middle of the slit")],
    )
