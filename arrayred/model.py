"""Define the vocabulary: dimensions, coordinates and variables, and the checks of a cube.

Glossary (the term we use: the synonyms we avoid)

- frame: exposure, file, sub. One image of the detector.
- frame type: IMAGETYP, kind. One of bias, dark, flat, arc, light.
- cube: stack, datacube. A Dataset whose `counts` are (frame, y, x).
- image: a Dataset whose `counts` are (y, x): a master or a combined image.
- master dark: superdark. The combination of the darks of one exposure.
- calibrated: reduced, processed. Corrected for bias, dark, flat.
- combined: stacked, coadded. One image from the calibrated frames of a target.
- light: science frame, object frame. A frame of a target.
- clean: rejected, filtered. The best estimate of a combined image, from which spectra are made;
  `counts` is the procedure's, from which its text tables are made.
- rows: aperture. The rows of the image that hold the spectrum (`Rows`).
- background: the sample of rows that sets the detection threshold.
- sky: the band(s) of rows subtracted from the spectrum.
- target: object, source. What the lights of one group show.
- night: dataset, run. The frames of one folder; as a coordinate, the evening they belong to.
- variance: error map, uncertainty. The square of a value's standard deviation, in its unit squared.
- dq: mask, flags. Bits that say what is wrong with a pixel, 0 for nothing.
- trace: the row of a star's spectrum as a function of the column.
- profile: the distribution of a column's flux over its rows, never a file of settings.
- lamp: an arc frame that belongs to a target; as a dimension, its label.
- computed: settled, loaded. Held as one C-contiguous float64 block.

`y` and `x` are FITS pixel numbers of the file, from 1: `.sel` takes the numbers of image viewers,
`.isel` those of numpy. This module imports xarray only for its annotations: commands that need no
labels must not pay 0.8 s for it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from html import escape
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from arrayred.errors import MismatchError, UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping

    import xarray as xr

FRAME, LAMP, Y, X = "frame", "lamp", "y", "x"
COUNTS, VARIANCE, DQ, PEAK = "counts", "variance", "dq", "peak"
FLUX, WAVELENGTH = "flux", "wavelength"
WAVELENGTH_ATTRS = {
    "units": "Angstrom",
    "standard_name": "radiation_wavelength",
    "long_name": "wavelength in air, topocentric",
    "medium": "air",
    "frame": "topocentric",
}
"""Attributes of the coordinate `wavelength` (x) of a spectrum."""
CLEAN, N_REJECTED = "clean", "n_rejected"
"""Variables of a combined image (y, x): the best estimate for the spectrum, if it differs from the
procedure's `counts`, and the number of frames that it rejects at a pixel."""
METHOD, CLEAN_METHOD = "method", "clean_method"
"""Coordinates of a combined image and of its spectra: the methods by which `counts` and `clean`
were combined from the frames."""
FrameType = Literal["bias", "dark", "flat", "arc", "light"]
FRAME_TYPES: tuple[FrameType, ...] = get_args(FrameType)
Rule = Literal["threshold", "robust", "given"]
"""How the rows of a spectrum were found."""
Unit = Literal["adu", "electron"]
UNITS: tuple[Unit, ...] = get_args(Unit)
Chunks = int | Literal["auto"] | Mapping[str, int | Literal["auto"]] | None
"""Rows of a dask chunk, or its length along each dimension; "auto": chosen by size; None: no dask,
everything at once."""
Unsigned = Literal["auto", "wrapped", "as-declared"]
"""How to read raw counts of signed type with BZERO 0: "auto" decides from the pixels, "wrapped"
reads them as unsigned, "as-declared" as signed."""
BAD_PIXEL, SATURATED, COSMIC_RAY, NO_DATA, REPAIRED = 1, 2, 4, 8, 16
"""The bits of `dq`, the flags of a pixel. A repaired one was hit by a cosmic ray and holds the
value of the other frames, or of the spatial profile: it may be used. The others may not."""
DOUBTFUL_FLAT = 32
"""The bit of `dq` where the flat tells the response along the slit, but not that of the column."""
SPOILT = BAD_PIXEL | SATURATED | COSMIC_RAY | NO_DATA | DOUBTFUL_FLAT
"""The bits of values that may not be used."""
DQ_MEANINGS = {
    BAD_PIXEL: "bad_pixel",
    SATURATED: "saturated",
    COSMIC_RAY: "cosmic_ray",
    NO_DATA: "no_data",
    REPAIRED: "repaired",
    DOUBTFUL_FLAT: "doubtful_flat",
}
GUESSED_GAIN = "GAIN, whose unit is not stated"
INSTRUMENT_FILE = "the instrument file"
"""Sources of a gain, in the coordinate `gain_from`; without it a card of the header stated it."""
SETUP_COORDS = ("binning", "origin", "readout", "gain_setting")
"""Scalar coordinates that must agree if two images hold the same pixels of a detector."""
DETECTOR_COORDS = ("gain", "gain_from", "read_noise", "saturation", "dispersion_axis")
"""Scalar coordinates of an image, from those that all of its frames have in common."""
BAD = "bad"
"""The coordinate (y, x) of an image that is True where a flat could not correct the pixel."""
_IRAF_SECTION = re.compile(r"\s*\[\s*(\d+)\s*:\s*(\d+)\s*,\s*(\d+)\s*:\s*(\d+)\s*\]\s*")


def section_numbers(text: str) -> tuple[int, int, int, int] | None:
    """Return the numbers of a section ``[x0:x1,y0:y1]``, in any order; None if there are none.

    Examples
    --------
    >>> section_numbers("[1024:1,1:4096]")
    (1024, 1, 1, 4096)
    """
    found = _IRAF_SECTION.fullmatch(text)
    if found is None:
        return None
    x0, x1, y0, y1 = map(int, found.groups())
    return x0, x1, y0, y1


@dataclass(frozen=True, slots=True)
class Section:
    """A section of a detector, as IRAF writes it: FITS columns and rows, both ends included.

    Examples
    --------
    >>> Section.parse("[1:50,1:4200]")
    Section(columns=(1, 50), rows=(1, 4200))
    >>> print(Section.parse(" [1:50, 1:4200] "))
    [1:50,1:4200]
    """

    columns: tuple[int, int]
    rows: tuple[int, int]

    @classmethod
    def parse(cls, text: str) -> Section | None:
        """Return the section that a text describes; None if it is not a valid section."""
        found = section_numbers(text)
        if found is None:
            return None
        x0, x1, y0, y1 = found
        return cls((x0, x1), (y0, y1)) if 1 <= x0 <= x1 and 1 <= y0 <= y1 else None

    def __str__(self) -> str:
        """Return the section as IRAF writes it."""
        (x0, x1), (y0, y1) = self.columns, self.rows
        return f"[{x0}:{x1},{y0}:{y1}]"

    @property
    def window(self) -> tuple[int, int, int, int]:
        """Return first row, first column, n_rows, n_columns."""
        (x0, x1), (y0, y1) = self.columns, self.rows
        return y0, x0, y1 - y0 + 1, x1 - x0 + 1

    def lies_in(self, shape: tuple[int, int]) -> bool:
        """Return whether a frame of a shape (n_rows, n_columns) contains all of it."""
        return self.rows[1] <= shape[0] and self.columns[1] <= shape[1]


@dataclass(frozen=True, slots=True)
class Sections:
    """The overscan section of a frame and the section to which it is trimmed.

    Parameters
    ----------
    overscan : pixels that record only the bias level of the electronics, or None.
    trim : the section that is kept, or None: all.
    by_row : the overscan lies beside the rows of the image, so each row has its level; else it
        lies above or below the columns, so each column has one.
    """

    overscan: Section | None = None
    trim: Section | None = None
    by_row: bool = True

    def upside_down(self, n_rows: int) -> Sections:
        """Return the sections of a frame whose rows are in the opposite order."""

        def turned(part: Section | None) -> Section | None:
            if part is None:
                return None
            first, last = part.rows
            return Section(part.columns, (n_rows + 1 - last, n_rows + 1 - first))

        return Sections(turned(self.overscan), turned(self.trim), self.by_row)


def consistent_sections(
    overscan: Section | None, trim: Section | None, shape: tuple[int, int]
) -> tuple[Sections | None, str]:
    """Return sections if they are consistent on a frame, or None and the reason.

    They must lie on the frame and apart from each other, and the overscan must run along the whole
    image that is kept.

    Parameters
    ----------
    overscan, trim : the sections; None: not given, or not understood.
    shape : (n_rows, n_columns) of the frame.

    Examples
    --------
    >>> level, kept = Section((1, 50), (1, 100)), Section((51, 900), (1, 100))
    >>> consistent_sections(level, kept, (100, 900))[0].by_row
    True
    >>> consistent_sections(level, kept, (100, 800))
    (None, 'the frame has 800 columns and 100 rows')
    """
    n_rows, n_columns = shape
    if overscan is None and trim is None:
        return None, "neither can be understood"
    if any(part is not None and not part.lies_in(shape) for part in (overscan, trim)):
        return None, f"the frame has {n_columns} columns and {n_rows} rows"
    if overscan is None:
        return Sections(None, trim), ""
    kept = trim or Section((1, n_columns), (1, n_rows))
    beside = trim is None or not _spans_meet(overscan.columns, kept.columns)
    if beside and _span_covers(overscan.rows, kept.rows):
        return Sections(overscan, trim, by_row=True), ""
    above = trim is None or not _spans_meet(overscan.rows, kept.rows)
    if above and _span_covers(overscan.columns, kept.columns):
        return Sections(overscan, trim, by_row=False), ""
    return None, "the overscan does not run along the whole image beside it"


def _spans_meet(one: tuple[int, int], other: tuple[int, int]) -> bool:
    return one[0] <= other[1] and other[0] <= one[1]


def _span_covers(one: tuple[int, int], other: tuple[int, int]) -> bool:
    return one[0] <= other[0] and other[1] <= one[1]


@dataclass(frozen=True, slots=True)
class Run:
    """A run of neighbouring rows above the background.

    Parameters
    ----------
    first, last : the lowest and the highest row, FITS numbers, both included.
    snr : height of the brightest row's mean above the background, in standard deviations, if known.
    state : "left": not extracted; "taken": extracted as a spectrum of its own; "sharp": sharper
        than any star, as hot rows and cosmic rays are, or "patch": bright in few columns only, as a
        glow or a reflection is, and so not a spectrum.
    row : its brightest row, in the middle column where the spectrum is tilted, if known.
    second : if its flux is that of two blended stars: the rows from the brighter to the fainter
        one, and the fainter one's fraction of the flux.

    Examples
    --------
    >>> print(Run(311, 334, 55.2))
    another spectrum in rows 311:334 (S/N 55) was not extracted
    """

    first: int
    last: int
    snr: float | None = None
    state: Literal["left", "taken", "sharp", "patch"] = "left"
    row: float | None = None
    second: tuple[float, float] | None = None

    def __str__(self) -> str:
        """Return the run as a sentence for the user."""
        single = self.first == self.last
        where = f"row {self.first}" if single else f"rows {self.first}:{self.last}"
        where += "" if self.snr is None else f" (S/N {self.snr:.0f})"
        return {
            "left": f"another spectrum in {where} was not extracted",
            "taken": f"another spectrum in {where} was extracted separately",
            "sharp": f"signal in {where} is too narrow for a star (hot pixels or cosmic rays) and "
            "was not extracted",
            "patch": f"signal in {where} is in few columns only (a glow or a reflection) and was "
            "not extracted",
        }[self.state]

    @property
    def remark(self) -> str:
        """Return the sentence as a remark: a spectrum that is not extracted is to be checked."""
        return to_check(str(self)) if self.state == "left" else str(self)


@dataclass(frozen=True, slots=True)
class Rows:
    """The rows that hold a spectrum, and the numbers of their detection.

    Parameters
    ----------
    first, last : the spectrum's lowest and highest row, FITS numbers, both included.
    n_bright : number of rows between them that are above the threshold.
    background_mean, background_std : of the pixels of the background sample, adu.
    n_sigma : the factor of the threshold.
    threshold : background_mean + n_sigma * background_std: what a row's mean must exceed, adu.
    others : the other runs of bright rows.
    rule : how they were found: by the procedure's threshold, the robust rule, or the user.
    snr : height of the brightest row's mean above the background, in standard deviations, if known.
    remarks : notes for the user about the detection.
    procedure : first and last row of the procedure's text tables, where they are not the
        spectrum's: its run of bright rows may hold two stars.
    """

    first: int
    last: int
    n_bright: int
    background_mean: float
    background_std: float
    n_sigma: float
    threshold: float
    others: tuple[Run, ...] = ()
    rule: Rule = "threshold"
    snr: float | None = None
    remarks: tuple[str, ...] = ()
    procedure: tuple[int, int] | None = None

    def __repr__(self) -> str:
        """Return the rows and how they were found, in a line.

        Examples
        --------
        >>> Rows(484, 518, 35, 16.349, 11.57, 4.0, 62.629, rule="threshold", snr=812.3)
        Rows(484:518, 35 above 62.63 by the threshold, S/N 812)
        """
        how = {
            "given": "as given",
            "robust": "by robust detection",
            "threshold": "by the threshold",
        }
        snr = "" if self.snr is None else f", S/N {self.snr:.0f}"
        others = f", {len(self.others)} other{'s' * (len(self.others) > 1)}" if self.others else ""
        bright = f"{self.n_bright} above {self.threshold:.2f} {how[self.rule]}"
        return f"Rows({self.first}:{self.last}, {bright}{snr}{others})"

    def _repr_html_(self) -> str:
        """Return the rows and the numbers of their detection as a table, for notebooks."""
        level, scatter = f"{self.background_mean:.2f}", f"{self.background_std:.2f}"
        cells = {
            "rows": f"{self.first}:{self.last} ({self.n_rows})",
            "detection": self.rule,
            "background": f"{level} ± {scatter} adu",
            "threshold": f"{self.threshold:.2f} adu = {level} + {self.n_sigma:g} x {scatter}",
            "rows above it": str(self.n_bright),
            "S/N of the brightest row": "" if self.snr is None else f"{self.snr:.0f}",
            "other rows": "; ".join(map(str, self.others)),
            "remarks": "; ".join(self.remarks),
        }
        rows = (
            f"<tr><th>{name}</th><td>{escape(text)}</td></tr>"
            for name, text in cells.items()
            if text
        )
        return f"<table><tbody>{''.join(rows)}</tbody></table>"

    @property
    def n_rows(self) -> int:
        """Return the number of rows of the spectrum."""
        return self.last - self.first + 1

    @property
    def of_procedure(self) -> Rows:
        """Return the same with the rows of the procedure's text tables."""
        if self.procedure is None:
            return self
        first, last = self.procedure
        return replace(self, first=first, last=last, procedure=None)

    @property
    def span(self) -> slice:
        """Return the rows as a slice of labels, for ``.sel(y=rows.span)``."""
        return slice(self.first, self.last)


def check_cube(cube: xr.Dataset) -> None:
    """Raise unless `counts` is a cube of numbers (frame, y, x); see `check_pixels`."""
    check_pixels(cube, _CUBE)


def check_image(image: xr.Dataset) -> None:
    """Raise unless `counts` is an image of numbers (y, x) in memory; see `check_pixels`."""
    check_pixels(image, _IMAGE)
    if image.variables[COUNTS].chunks is not None:
        raise MismatchError(
            "The image is chunked; the last bits of the result would depend on the chunks",
            hint="Call compute() first.",
        )


def check_dataset(ds: xr.Dataset, what: str) -> None:
    """Raise UsageError unless something, named as it should be, is a Dataset."""
    if not hasattr(ds, "data_vars"):
        raise UsageError(
            f"{what[0].upper()}{what[1:]} is an xarray.Dataset, but this is "
            f"{type(ds).__module__}.{type(ds).__name__}",
            value=type(ds).__name__,
            hint="Use the result of open_frames or of a step.",
        )


_CUBE, _IMAGE = (FRAME, Y, X), (Y, X)
_NAMES = {_CUBE: "a cube", _IMAGE: "an image"}


def check_pixels(ds: xr.Dataset, *dims: tuple[str, ...]) -> None:
    """Raise unless `counts` are numbers of a cube (frame, y, x) or of an image (y, x).

    Parameters
    ----------
    ds : the Dataset.
    dims : those that are allowed; by default either.

    Raises
    ------
    UsageError
        It is not a Dataset, or has no pixels.
    MismatchError
        Its dims or its dtype are wrong, or a pixel number is duplicated.
    """
    allowed = dims or (_IMAGE, _CUBE)
    what = " or ".join(_NAMES[one] for one in allowed)
    check_dataset(ds, what)
    found = ds.variables[COUNTS].dims if COUNTS in ds else tuple(ds.data_vars)
    if found not in allowed:
        wanted = " or ".join(map(str, allowed))
        raise MismatchError(
            f"{what[0].upper()}{what[1:]} has the variable 'counts' with dims {wanted}, but this "
            f"has {found}",
            hint="Select or transpose first.",
        )
    counts = ds.variables[COUNTS]
    if counts.dtype.kind not in "iuf":
        raise MismatchError(
            f"The counts are of the dtype {counts.dtype}, not numbers",
            keyword="dtype",
            value=str(counts.dtype),
            hint="Convert them, cube.assign(counts=cube.counts.astype(float)).",
        )
    if 0 in counts.shape:
        sizes = ", ".join(f"{n} along {dim}" for dim, n in counts.sizes.items())
        raise UsageError(f"No pixels: {sizes}", hint="Select at least one.")
    indexes = ds.indexes
    for dim in (Y, X):
        if dim in indexes:
            _pixel_numbers(indexes, dim)


def _pixel_numbers(indexes: Mapping[Any, Any], dim: str) -> Any:
    """Return the pixel numbers along a dim, each of which must be there once.

    Parameters
    ----------
    indexes : of a Dataset, which makes them anew whenever it is asked for them.
    dim : y or x.
    """
    if dim not in indexes:
        raise MismatchError(
            f"The pixels have no numbers {dim}",
            keyword=dim,
            hint=f"Add them as in the file: .assign_coords({dim}=range(1, n + 1)).",
        )
    numbers = indexes[dim]
    if not numbers.is_unique:
        raise MismatchError(
            f"The pixel number {numbers[numbers.duplicated()][0]} occurs twice along {dim}",
            keyword=dim,
            hint="Number the pixels as in the file.",
        )
    return numbers


def with_pixels_of(
    image: xr.Dataset, other: xr.Dataset, dims: tuple[str, ...] = _IMAGE
) -> xr.Dataset:
    """Return another image or cube at the pixels of an image, found by their numbers.

    A dark of the whole detector is cut to a trimmed light, exactly; pixels are never matched by
    their positions, filled in or left out. Labels alone do not distinguish two subframes, so
    binning, origin, readout mode and gain setting must agree where both have them; so must the
    units.

    Parameters
    ----------
    image : counts (..., y, x).
    other : counts (y, x), such as a master dark, or of other dims; it has all pixels of the image.
    dims : those of the other.

    Raises
    ------
    MismatchError
        The other lacks some of the pixels, or was made with another setting or unit.
    UsageError, MismatchError
        As `check_pixels` for either.
    """
    check_pixels(image)
    check_pixels(other, dims)
    where, here, theirs = {}, image.indexes, other.indexes
    for dim in (Y, X):
        wanted, there = _pixel_numbers(here, dim), _pixel_numbers(theirs, dim)
        if wanted.equals(there):
            continue
        at = there.get_indexer(wanted)
        if not at.size or (at < 0).any():
            raise MismatchError(
                f"{dim} runs over {_pixel_range(image, dim)} here and over "
                f"{_pixel_range(other, dim)} there",
                keyword=dim,
                hint=_way_to_common_pixels(image, other, dim),
            )
        adjacent = bool((at[1:] - at[:-1] == 1).all())
        where[dim] = slice(int(at[0]), int(at[-1]) + 1) if adjacent else at
    _require_same_setup(image, other)
    return other.isel(where) if where else other


def _way_to_common_pixels(image: xr.Dataset, other: xr.Dataset, dim: str) -> str:
    """Return how the pixels that both have are selected, or that there are none."""
    common = image.indexes[dim].intersection(other.indexes[dim])
    if not common.size:
        return "Use a calibration of the same part of the detector."
    both = f"{dim}=slice({common.min()}, {common.max()})"
    return (
        f"Trim the first to the pixels of both, .sel({both}), or use one that has all its pixels."
    )


def string_coord(values: str | Sequence[str]) -> NDArray[np.object_]:
    """Return strings as objects: the type of strings that Zarr's format 3 specifies."""
    return np.array(values, dtype=object)


def common_value(ds: xr.Dataset, name: str) -> Any:
    """Return the value of a coordinate that all frames have in common; None where there is none.

    A coordinate of each frame is what concatenation makes of the frames of single files.

    Examples
    --------
    >>> import xarray as xr
    >>> cube = xr.Dataset(coords={"binning": ("frame", ["1x1", "1x1"]), "gain": 1.5})
    >>> common_value(cube, "binning"), common_value(cube, "gain"), common_value(cube, "origin")
    ('1x1', 1.5, None)
    """
    if name not in ds.coords:
        return None
    first, *others = ds.variables[name].values.ravel().tolist() or [None]
    is_known = first == first and first != ""  # not NaN
    return first if is_known and all(other == first for other in others) else None


def is_upright(ds: xr.Dataset) -> bool:
    """Return whether spectra are dispersed along y."""
    return bool(common_value(ds, "dispersion_axis") == 2)


def _require_same_setup(one: xr.Dataset, other: xr.Dataset) -> None:
    """Raise MismatchError unless units and settings agree where both are known."""
    _require_same_units(one, other)
    for name in SETUP_COORDS:
        ours, theirs = common_value(one, name), common_value(other, name)
        if None not in (ours, theirs) and ours != theirs:
            raise MismatchError(
                f"{name} is {ours!r} here and {theirs!r} there",
                keyword=name,
                value=theirs,
                hint="Use calibration frames with the same setup.",
            )


def _require_same_units(one: xr.Dataset, other: xr.Dataset) -> None:
    ours, theirs = (ds.variables[COUNTS].attrs.get("units") for ds in (one, other))
    if None not in (ours, theirs) and ours != theirs:
        raise MismatchError(
            f"The pixels are in {ours} here and in {theirs} there",
            keyword="BUNIT",
            value=theirs,
            hint="Use frames of the same unit only.",
        )


def _pixel_range(ds: xr.Dataset, dim: str) -> str:
    numbers = ds[dim].values
    return f"{numbers[0]}:{numbers[-1]} ({numbers.size})" if numbers.size else "nothing"


def with_columns_of(image: xr.Dataset, curve: xr.Dataset, what: str, *names: str) -> xr.Dataset:
    """Return curves along the columns (x) of an image, found by their numbers.

    Parameters
    ----------
    image : counts (y, x).
    curve : such as a trace, which has all columns of the image.
    what : its name for errors, such as "a trace".
    names : variables (x) that it must have.

    Raises
    ------
    UsageError
        It is not a Dataset.
    MismatchError
        It lacks a variable or a column.
    """
    check_dataset(curve, what)
    lacking = [name for name in names if name not in curve or curve[name].dims != (X,)]
    if lacking:
        raise MismatchError(
            f"{what[0].upper()}{what[1:]} has the variables {', '.join(names)} (x), but this has "
            f"{', '.join(f'{n} {v.dims}' for n, v in curve.data_vars.items()) or 'none'}",
            hint="Use the result of fit_trace or fit_sky.",
        )
    n_columns = image.sizes[X]
    at = list(range(n_columns))
    if X in image.indexes and X in curve.indexes:
        at = curve.indexes[X].get_indexer(image.indexes[X]).tolist()
    if min(at, default=0) < 0 or max(at, default=0) >= curve.sizes[X]:
        raise MismatchError(
            f"x runs over {_pixel_range(image, X)} in the image and over {_pixel_range(curve, X)} "
            f"in {what}",
            keyword=X,
            hint="Use one of the same image, or select the columns of both.",
        )
    return curve if at == list(range(curve.sizes[X])) else curve.isel({X: at})


def transpose_to_x(image: xr.Dataset) -> xr.Dataset:
    """Return an image with its dispersion along x, transposed if it is dispersed along y.

    Parameters
    ----------
    image : counts (y, x), computed; its coordinate `dispersion_axis`, if there, is 1 or 2.

    Returns
    -------
    image : counts (y, x), and `clean` if there, C-contiguous. In a transposed image the rows are
        the file's columns, with the file's numbers.
    """
    if not is_upright(image):
        return image
    turned = image.rename({X: Y, Y: X}).transpose(Y, X).assign_coords(dispersion_axis=1)
    for name in (COUNTS, CLEAN):
        if name in turned:
            turned[name] = turned[name].copy(data=turned[name].values.copy(order="C"))
    return add_remark(turned, "rows are the file's columns: the dispersion runs along its columns")


def dq_attrs(what: str) -> dict[str, object]:
    """Return the attributes of a flag variable by the CF conventions (3.5).

    Examples
    --------
    >>> dq_attrs("flags of a pixel")["flag_meanings"]
    'bad_pixel saturated cosmic_ray no_data repaired doubtful_flat'
    """
    return {
        "units": "",
        "long_name": what,
        "flag_masks": list(DQ_MEANINGS),
        "flag_meanings": " ".join(DQ_MEANINGS.values()),
    }


# Levels of remarks: "check" where a flux, an uncertainty or a wavelength of a spectrum may be wrong
# and a person should look, else information. The level is part of the text, so that it goes with it
# into headers, reports, summaries and logs; it is decided where the remark is made.

_CHECK = "check: "


def to_check(text: str) -> str:
    """Return a remark of level "check".

    Examples
    --------
    >>> remark_about("Vega", to_check("5 columns hold saturated pixels"))
    'check: Vega: 5 columns hold saturated pixels'
    >>> without_level(to_check("5 columns hold saturated pixels"))
    '5 columns hold saturated pixels'
    """
    return f"{_CHECK}{text}"


def is_check(remark: str) -> bool:
    """Return whether a remark is of level "check"."""
    return remark.startswith(_CHECK)


def without_level(remark: str) -> str:
    """Return the text of a remark, which by itself is information."""
    return remark.removeprefix(_CHECK)


def level_of(remark: str) -> tuple[Literal["check", "note"], str]:
    """Return the level of a remark, and its text.

    Examples
    --------
    >>> level_of(to_check("two stars")), level_of("trimmed")
    (('check', 'two stars'), ('note', 'trimmed'))
    """
    return "check" if is_check(remark) else "note", without_level(remark)


def remark_about(subject: str, remark: str) -> str:
    """Return a remark with what it is about before its text; its level is unchanged."""
    about = f"{subject}: {without_level(remark)}"
    return to_check(about) if is_check(remark) else about


def add_check(ds: xr.Dataset, text: str) -> xr.Dataset:
    """Return the Dataset with one more remark of level "check"."""
    return add_remark(ds, to_check(text))


def add_remark(ds: xr.Dataset, text: str) -> xr.Dataset:
    """Return the Dataset with one more remark for the user."""
    return ds.assign_attrs(remarks=[*ds.attrs.get("remarks", []), text])


def add_history(ds: xr.Dataset, line: str) -> xr.Dataset:
    """Return the Dataset with one line added to its history."""
    return ds.assign_attrs(history=[*ds.attrs.get("history", []), line])
