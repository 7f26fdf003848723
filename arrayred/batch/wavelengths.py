"""Give the spectra of an output folder new wavelengths, without reducing them again: `redo`.

The lamps of a target lie beside its spectrum as they were extracted (TARGET_arc.ecsv), so nothing
else is read. What `reduce` finds afterwards is still up to date: its settings are those of the
reduction.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from arrayred.config.toml import require_known
from arrayred.errors import ArrayredError, UsageError
from arrayred.io.ledger import Ledger, products_of
from arrayred.io.products import (
    SOLUTION,
    WAVELENGTH_CARDS,
    header_of_product,
    open_product,
    read_arc,
    solution_files,
    solution_of,
    with_new_wavelengths,
)
from arrayred.io.publish import Content, publish
from arrayred.steps.solution import Corrections, Solved, solve_given, solve_lamps, with_wavelengths
from arrayred.steps.wavelength import find_lamp_lines, identify, merge_lines, read_line_list

if TYPE_CHECKING:
    import xarray as xr

_ARC = "_arc.ecsv"


@dataclass(frozen=True)
class WavelengthOptions:
    """How the lamps of targets are identified.

    Parameters
    ----------
    lamp : its elements, such as "Ne+Ar", or "auto".
    dispersion, center : Angstrom per pixel, and wavelength in the middle, Angstrom, if known.
    lines : a file of lines that the user identified, or None.
    solution : a file of a known solution, or the name of a target, or "".
    order : of the polynomial; None: chosen.
    zero_point, star_velocity, heliocentric : as in a recipe.
    """

    lamp: str = "auto"
    dispersion: float | None = None
    center: float | None = None
    lines: Path | None = None
    solution: str = ""
    order: int | None = None
    zero_point: Literal["none", "sky", "oxygen", "star"] = "none"
    star_velocity: float | None = None
    heliocentric: bool = False


@dataclass(frozen=True)
class Redone:
    """The new wavelengths of one spectrum, with its attributes, or why there are none."""

    name: str
    solved: Solved | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)
    error: ArrayredError | None = None


def redo(out: Path, targets: Sequence[str], options: WavelengthOptions) -> Iterator[Redone]:
    """Yield each spectrum of the targets (all that have lamps by default) as it is written anew.

    Raises
    ------
    UsageError
        The folder has no target of a name, or none with lamps.
    """
    ledger = Ledger(out)
    entries = {entry.name.removeprefix("targets/"): entry for entry in ledger.entries()}
    entries = {name: e for name, e in entries.items() if e.name.startswith("targets/")}
    for name in targets:
        require_known(name, set(entries), "target of this folder")
    chosen = list(targets or entries)
    arcs = [
        (name, out / product)
        for name in chosen
        for product in sorted(entries[name].products)
        if product.endswith(_ARC)
    ]
    if not arcs:
        raise UsageError(
            "No target here has lamps",
            path=out,
            hint="Reduce the night with its arc frames; `arrayred inspect --plan` names them.",
        )
    for name, path in arcs:
        stem = path.name.removesuffix(_ARC)
        try:
            files, solved, facts = _files_of(out, path, stem, options)
        except ArrayredError as error:
            yield Redone(stem, error=error)
            continue
        where = {path.parent / file: content for file, content in files.items()}
        publish(where, overwrite=True)
        entry = entries[name]
        products = {**entry.products, **products_of(out, where)}
        # Facts are those of the first spectrum; those of others lie in a list of their own.
        told = entry.facts if stem != name else _with_facts(entry.facts, facts)
        entries[name] = replace(entry, products=products, facts=told)
        ledger.finish(entries[name])
        yield Redone(stem, solved, facts)


def _with_facts(facts: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, Any]:
    """Return the facts of a spectrum with those of its new wavelengths."""
    kept = {name: value for name, value in facts.items() if name not in WAVELENGTH_CARDS}
    return kept | dict(new)


def _files_of(
    out: Path, path: Path, stem: str, options: WavelengthOptions
) -> tuple[dict[str, Content], Solved, dict[str, Any]]:
    """Return the new files of one spectrum, its solution, and the facts that tell it."""
    arc = read_arc(path)
    place = path.with_name(f"{stem}_spectrum.fits")
    spectrum, header = open_product(place), header_of_product(place)
    date = header.readable("DATE-AVG")
    middle = np.datetime64(str(date), "ns") if date else None
    if options.lines is not None:
        given = read_line_list(options.lines, int(arc.sizes["x"]))
        solved = solve_given(arc, given, order=options.order)
    else:
        solved = solve_lamps(arc, _identifier(out, arc, options), middle, order=options.order)
    old = [name for name in ("wavelength", "extrapolated") if name in spectrum.variables]
    attrs = {name: v for name, v in spectrum.attrs.items() if name not in WAVELENGTH_CARDS}
    bare = spectrum.drop_vars(old).drop_attrs(deep=False).assign_attrs(attrs)
    wanted = Corrections(options.zero_point, options.star_velocity, options.heliocentric)
    found = with_wavelengths(bare, solved, header.values(), middle, wanted)
    lamps = {name: arc.attrs["checksums"].get(name, "") for name in solved.lamps}
    lines = solved.lines.assign_attrs(solution=solved.dispersion.to_dict(), lamps=lamps)
    files = with_new_wavelengths(place, found) | solution_files(lines, header, stem)
    facts = {name: found.attrs[name] for name in WAVELENGTH_CARDS if name in found.attrs}
    return files, solved, facts


def _identifier(
    out: Path, arc: xr.Dataset, options: WavelengthOptions
) -> Callable[[tuple[str, ...]], xr.Dataset]:
    """Return the function that returns the identified lines of lamps of a target."""
    if options.solution:
        place = Path(options.solution)
        if not place.is_file():
            name = options.solution
            place = out / "targets" / name / f"{name}_{SOLUTION}"
        if not place.is_file():
            raise UsageError(
                f"{options.solution} is neither a file nor a target with a solution",
                path=out,
                hint=f"Name a file TARGET_{SOLUTION}, or a target of this folder that has one.",
            )
        known = solution_of(place)
        return lambda _: known

    def identified(names: tuple[str, ...]) -> xr.Dataset:
        lines = merge_lines(*(find_lamp_lines(arc.sel(lamp=name)) for name in names))
        return identify(lines, options.lamp, dispersion=options.dispersion, center=options.center)

    return identified
