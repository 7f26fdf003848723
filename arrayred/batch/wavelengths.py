"""Give the spectra of an output folder new wavelengths, without reducing them again: `redo`.

The lamps of a target lie beside its spectrum as they were extracted (TARGET_arc.ecsv), so the night
is not read. The spectrum, those of its frames, and the figures get the new wavelengths. What
`reduce` finds afterwards is still up to date: its settings are those of the reduction.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from arrayred.batch.run import arc_figure, quick_look_png
from arrayred.config import Recipe
from arrayred.config.toml import require_known
from arrayred.errors import ArrayredError, LampError, UsageError
from arrayred.io.ledger import Ledger, output_folders, products_of
from arrayred.io.products import (
    SOLUTION,
    WAVELENGTH_CARDS,
    header_of_product,
    open_product,
    read_arc,
    read_frames,
    solution_files,
    solution_of,
    with_new_frame_wavelengths,
    with_new_wavelengths,
)
from arrayred.io.publish import Content, publish
from arrayred.model import X
from arrayred.steps.solution import (
    Corrections,
    Solved,
    frames_with_wavelengths,
    solve_given,
    solve_lamps,
    with_wavelengths,
)
from arrayred.steps.wavelength import find_lamp_lines, identify, merge_lines, read_line_list
from arrayred.steps.zero_point import ZeroPoint

if TYPE_CHECKING:
    import xarray as xr

_ARC = "_arc.ecsv"
_SAME_DISPERSION = 0.01


@dataclass(frozen=True)
class Redone:
    """The new wavelengths of one spectrum, with its attributes, or why there are none."""

    name: str
    solved: Solved | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)
    error: ArrayredError | None = None


def redo(
    out: Path,
    targets: Sequence[str],
    recipe: Recipe,
    lines: Path | None = None,
    zero_point_of: str | None = None,
) -> Iterator[Redone]:
    """Yield each spectrum of the targets (all that have lamps by default) as it is written anew.

    Parameters
    ----------
    out, targets : the output folder, and names of its targets.
    recipe : how lamps are identified; `lamp_solution` may be the name of a target.
    lines : a file of lines that the user identified, or None.
    zero_point_of : a target whose zero point is applied to those of others, or None.

    Raises
    ------
    UsageError
        The folder has no target of a name, or none with lamps; or that target has no zero point.
    """
    ledger = Ledger(out)
    entries = {entry.name.removeprefix("targets/"): entry for entry in ledger.entries()}
    entries = {name: e for name, e in entries.items() if e.name.startswith("targets/")}
    for name in targets:
        require_known(name, set(entries), "target of this folder")
    chosen = list(targets or entries)
    reference: xr.Dataset | None = None
    if zero_point_of is not None:
        require_known(zero_point_of, set(entries), "target of this folder")
        reference = open_product(
            out / "targets" / zero_point_of / f"{zero_point_of}_spectrum.fits"
        ).assign_attrs(target=zero_point_of)
        carried_zero_point(reference)
        chosen = [name for name in chosen if name != zero_point_of]
    arcs = [
        (name, out / product)
        for name in chosen
        for product in sorted(entries[name].products)
        if product.endswith(_ARC)
    ]
    if not arcs and not entries and (nights := list(output_folders(out))):
        raise UsageError(
            f"These are {len(nights)} nights, and wavelengths are made anew for one",
            path=out,
            hint=f"Name one of them, such as {nights[0]}.",
        )
    if not arcs:
        raise UsageError(
            "No target here has arc spectra",
            path=out,
            hint="Reduce the night with its arc frames; `arrayred inspect --plan` names them.",
        )
    for name, path in arcs:
        stem = path.name.removesuffix(_ARC)
        try:
            files, solved, facts = _files_of(out, path, recipe, lines, reference)
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


def carried_zero_point(reference: xr.Dataset) -> tuple[str, ZeroPoint]:
    """Return the name of a target, and the zero point that was applied to its spectrum.

    Raises
    ------
    UsageError
        None was.
    """
    facts, name = reference.attrs, str(reference.attrs["target"])
    shift = float(facts.get("wavelength_zero", 0.0))
    for by in ("star", "oxygen", "sky"):
        if shift and facts.get(f"zero_{by}") == shift:
            return name, ZeroPoint(shift, float(facts[f"zero_{by}_error"]), by, ())
    raise UsageError(
        f"No zero point was measured in {name} and applied to it",
        hint=f"Do so first: arrayred wavelength OUT {name} --zero-point star --star-velocity KM/S.",
    )


def _require_same_setting(reference: xr.Dataset, wavelength: NDArray[np.float64]) -> None:
    """Raise LampError where pixels of wavelengths (x) are not those of a spectrum."""
    one, other = map(_pixel_width, (reference["wavelength"].values, wavelength))
    if reference.sizes["x"] != wavelength.size or abs(one / other - 1) > _SAME_DISPERSION:
        raise LampError(
            f"{reference.attrs['target']} has {reference.sizes['x']} pixels of {one:.3f} Angstrom, "
            f"and this spectrum {wavelength.size} of {other:.3f}",
            hint="Take the zero point of a target of the same setting.",
        )


def _pixel_width(wavelength: NDArray[np.float64]) -> float:
    """Return the median step of wavelengths (x), Angstrom; below 0 where they fall."""
    return float(np.median(np.diff(wavelength)))


def _files_of(
    out: Path, path: Path, recipe: Recipe, given: Path | None, reference: xr.Dataset | None
) -> tuple[dict[str, Content], Solved, dict[str, Any]]:
    """Return the new files of one spectrum, its solution, and the facts that tell it."""
    arc, stem = read_arc(path), path.name.removesuffix(_ARC)
    place = path.with_name(f"{stem}_spectrum.fits")
    spectrum, header = open_product(place), header_of_product(place)
    date = header.readable("DATE-AVG")
    middle = np.datetime64(str(date), "ns") if date else None
    order = recipe.wavelength_order
    if given is not None:
        listed = read_line_list(given, int(arc.sizes["x"]))
        try:
            solved = solve_given(arc, listed, order=order)
        except LampError as error:
            raise LampError(str(error.args[0]), path=given, hint=error.hint) from error
    else:
        solved = solve_lamps(arc, _identifier(out, arc, recipe), middle, order=order)
    old = [name for name in ("wavelength", "extrapolated") if name in spectrum.variables]
    attrs = {name: v for name, v in spectrum.attrs.items() if name not in WAVELENGTH_CARDS}
    bare = spectrum.drop_vars(old).drop_attrs(deep=False).assign_attrs(attrs)
    wanted = Corrections(recipe.zero_point, recipe.star_velocity, recipe.heliocentric)
    if reference is not None:
        _require_same_setting(reference, solved.dispersion.wavelength(spectrum[X].values))
        wanted = wanted._replace(carried=carried_zero_point(reference))
    found = with_wavelengths(bare, solved, header.values(), middle, wanted)
    lamps = {name: arc.attrs["checksums"].get(name, "") for name in solved.lamps}
    lines = solved.lines.assign_attrs(solution=solved.dispersion.to_dict(), lamps=lamps)
    files = with_new_wavelengths(place, found) | solution_files(lines, header, stem)
    if (frames := path.with_name(f"{stem}_frames.fits")).is_file():
        own = frames_with_wavelengths(read_frames(frames), solved, found, header.values())
        files |= with_new_frame_wavelengths(frames, own)
    if path.with_name(f"{stem}_arc.png").is_file():
        files |= arc_figure(arc, lines, stem)
    image = path.with_name(f"{path.parent.name}_combined.fits")
    if path.with_name(f"{stem}.png").is_file() and image.is_file():
        files[f"{stem}.png"] = quick_look_png(open_product(image), found, stem)
    facts = {name: found.attrs[name] for name in WAVELENGTH_CARDS if name in found.attrs}
    return files, solved, facts


def _identifier(
    out: Path, arc: xr.Dataset, recipe: Recipe
) -> Callable[[tuple[str, ...]], xr.Dataset]:
    """Return the function that returns the identified lines of lamps of a target."""
    if recipe.lamp_solution:
        place, name = Path(recipe.lamp_solution), recipe.lamp_solution
        if not place.is_file():
            place = out / "targets" / name / f"{name}_{SOLUTION}"
        if not place.is_file():
            raise UsageError(
                f"{name} is neither a file nor a target with a solution",
                path=out,
                hint=f"Use a file TARGET_{SOLUTION}, or a target of this folder that has one.",
            )
        known = solution_of(place)
        return lambda _: known

    def identified(names: tuple[str, ...]) -> xr.Dataset:
        lines = merge_lines(*(find_lamp_lines(arc.sel(lamp=name)) for name in names))
        return identify(
            lines, recipe.lamp, dispersion=recipe.lamp_dispersion, center=recipe.lamp_center
        )

    return identified
