"""Convert to astropy's containers and back: `to_ccddata`, `from_ccddata`, `to_spectrum`.

Each returns copies in plain numpy, with a mask and a standard deviation only where they are known:
related packages write into their input, lose the mask of a DataArray, and take an uncertainty of
zero for a perfect pixel.

One image becomes one CCDData. A cube is refused rather than turned into a list: a list would hold
every frame of a lazy cube in memory, which is what the bands avoid, and ``[to_ccddata(cube.isel(
frame=i)) for i in ...]`` does the same where that is wanted.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from arrayred.config import Instrument
from arrayred.errors import MismatchError, UsageError
from arrayred.io.files import find_image
from arrayred.io.header import Header, is_structural
from arrayred.io.products import (
    attrs_of,
    complete_header,
    coords_of,
    header_of,
    labelled_planes,
    pixel_numbers_of,
    sigma_of,
    spectrum_cards,
)
from arrayred.io.scan import UNCERTAINTIES, flags_of
from arrayred.model import (
    CLEAN,
    COUNTS,
    DQ,
    DQ_MEANINGS,
    FRAME,
    SPOILT,
    UNITS,
    VARIANCE,
    X,
    Y,
    check_dataset,
    check_pixels,
)

if TYPE_CHECKING:
    import astropy.io.fits
    import xarray as xr
    from astropy.nddata import CCDData
    from specutils import Spectrum


def to_ccddata(image: xr.Dataset, header: astropy.io.fits.Header | None = None) -> CCDData:
    """Return an image as a CCDData, as used by ccdproc and specreduce.

    Parameters
    ----------
    image : counts (y, x) in adu or electron; `variance` and `dq` where known.
    header : the cards to begin with; by default those in the image's attributes, or those of the
        file that it was read from.

    Returns
    -------
    ccd : counts unchanged, integers as float64, since differences of unsigned integers wrap; of a
        combined image its best estimate `clean`, to which variance and flags belong;
        the standard deviation from `variance`; a mask where `dq` says that a value may not be used,
        and the bits as flags; the header as meta, completed by the scalar coordinates and the
        history. All are copies.

    Raises
    ------
    MismatchError
        It is a cube, or its pixels are not adjacent in their file.
    FrameError
        The file that its header would come from is missing.

    Examples
    --------
    >>> import xarray as xr
    >>> counts = ("y", "x"), np.array([[1.0, 2.0]]), {"units": "adu"}
    >>> image = xr.Dataset({"counts": counts, "variance": (("y", "x"), np.array([[4.0, 9.0]]))})
    >>> ccd = to_ccddata(image.assign_coords(y=[1], x=[1, 2], exptime=600.0))
    >>> print(ccd.unit, ccd.uncertainty.array, ccd.header["EXPTIME"])
    adu [[2. 3.]] 600.0
    """
    from astropy.nddata import CCDData, StdDevUncertainty

    check_dataset(image, "an image")
    _refuse_cube(image)
    check_pixels(image, (Y, X))
    counts = image[CLEAN if CLEAN in image else COUNTS].values
    flags = image[DQ].values.copy() if DQ in image else None
    variance = image[VARIANCE].values if VARIANCE in image else None
    cards = _header_for(image, header)
    return CCDData(
        counts.astype(np.float64 if counts.dtype.kind in "iu" else counts.dtype),
        unit=image[COUNTS].attrs.get("units", "adu"),
        uncertainty=None if variance is None else StdDevUncertainty(sigma_of(variance)),
        mask=None if flags is None else flags & SPOILT != 0,
        flags=flags,
        meta=to_astropy(cards),
    )


def _refuse_cube(image: xr.Dataset) -> None:
    if COUNTS in image and FRAME in image[COUNTS].dims:
        raise MismatchError(
            f"This cube has {image.sizes[FRAME]} frames, but a CCDData holds one image",
            hint="Convert single frames, to_ccddata(cube.isel(frame=0)), or combine them.",
        )


def _header_for(image: xr.Dataset, header: astropy.io.fits.Header | None) -> Header:
    """Return the given cards, or those of the image or its file, completed."""
    cards = header_of(image.attrs) if header is None else from_astropy(header)
    cards = _header_of_file(image) if cards is None else cards
    complete_header(cards, image)
    return cards


def _header_of_file(image: xr.Dataset) -> Header:
    """Return the header of a frame's file; an empty one if the image is not a frame of a file."""
    if "path" not in image.coords or image["path"].dims:
        return Header()
    cards = find_image(Path(image["path"].item())).header.copy()
    cards.drop([keyword for keyword in cards if is_structural(keyword)])
    return cards


def from_ccddata(ccd: CCDData) -> xr.Dataset:
    """Return a CCDData as an image.

    Parameters
    ----------
    ccd : in adu or electron; its uncertainty of any type that can be converted to a variance, its
        flags the bits of `dq` (uint8) or none.

    Returns
    -------
    image : `counts` (y, x) unchanged; `variance` and `dq` (y, x) where there are an uncertainty
        and a mask. A pixel that is masked without a flag is a bad_pixel; one that is not masked
        has no flag. Header values become scalar coordinates and history; the header itself and a
        world coordinate system's cards are kept in the attribute `header`. A PSF is dropped.

    Raises
    ------
    MismatchError
        Its unit, shape, uncertainty or flags are not possible for an image.
    UsageError
        It is not a CCDData.

    Examples
    --------
    >>> from astropy.nddata import CCDData
    >>> image = from_ccddata(CCDData([[1.0, 2.0]], unit="adu", mask=[[False, True]]))
    >>> image.counts.sel(x=2).item(), image.dq.values.tolist()
    (2.0, [[0, 1]])
    """
    import xarray as xr

    if not hasattr(ccd, "uncertainty"):
        raise UsageError(
            f"This is {type(ccd).__module__}.{type(ccd).__name__}, not a CCDData",
            value=type(ccd).__name__,
            hint="Use an astropy.nddata.CCDData, or open the file with open_frames.",
        )
    unit = str(ccd.unit)
    counts = np.array(ccd.data, dtype=np.asarray(ccd.data).dtype.newbyteorder("="))
    if unit not in UNITS or counts.ndim != 2:
        raise MismatchError(
            f"This CCDData has {counts.ndim} axes and the unit {unit!r}",
            keyword="unit",
            value=unit,
            hint=f"An image has two, and one of {', '.join(UNITS)}: slice it, or set ccd.unit.",
        )
    header = from_astropy(ccd.meta)
    for card in [] if ccd.wcs is None else ccd.wcs.to_header(relax=True).cards:
        if card.keyword not in header:
            header.set(card.keyword, card.value, card.comment)
    told = header.copy()
    told.set("BUNIT", unit)
    return xr.Dataset(
        labelled_planes(counts, unit, _sigma_of_ccd(ccd), _flags_of_ccd(ccd, counts.shape)),
        coords={
            **pixel_numbers_of(header, counts.shape),
            **coords_of(told, Instrument.load("generic")),
        },
        attrs=attrs_of(header),
    )


def _sigma_of_ccd(ccd: CCDData) -> NDArray[Any] | None:
    """Return the standard deviation of a CCDData, or None."""
    from astropy.nddata import StdDevUncertainty

    found = ccd.uncertainty
    if found is None:
        return None
    kind = found.uncertainty_type
    powers = dict(UNCERTAINTIES.values())
    if kind not in powers or found.unit != ccd.unit ** powers[kind]:
        raise MismatchError(
            f"The uncertainty is of the kind {kind!r} in {found.unit}, the image in {ccd.unit}",
            keyword="uncertainty",
            value=kind,
            hint="Use a StdDevUncertainty in the unit of the image.",
        )
    return np.asarray(found.represent_as(StdDevUncertainty).array)


def _flags_of_ccd(ccd: CCDData, shape: tuple[int, ...]) -> NDArray[np.uint8] | None:
    """Return the bits of `dq`: flags where present, bad_pixel where only a mask is, or None."""
    flags, mask = ccd.flags, ccd.mask
    if flags is None and mask is None:
        return None
    bits = np.zeros(shape, np.uint8) if flags is None else np.array(flags)
    if bits.dtype != np.uint8:
        raise MismatchError(
            f"The flags are {bits.dtype}, but those of an image are uint8",
            keyword="flags",
            hint=f"Use the bits {DQ_MEANINGS}, or set ccd.flags = None.",
        )
    return flags_of(None if mask is None else np.broadcast_to(mask, shape), bits)


def to_spectrum(spectrum: xr.Dataset) -> Spectrum:
    """Return a spectrum as a specutils `Spectrum`.

    Parameters
    ----------
    spectrum : flux (x) in adu or electron; `variance` and `dq` (x) where known.

    Returns
    -------
    spectrum : flux, standard deviation and mask as copies; the spectral axis is x, the columns of
        the image in pixels; the header is ``meta["header"]``. `Spectrum.read` of
        TARGET_spectrum.fits gives the same, except for the mask.

    Raises
    ------
    MismatchError
        There is no flux (x), or it is chunked.
    UsageError
        specutils is not installed.

    Examples
    --------
    >>> import xarray as xr
    >>> flux = ("x", np.array([5.0, 7.0]), {"units": "adu"})
    >>> to_spectrum(xr.Dataset({"flux": flux}, coords={"x": [1, 2]})).flux
    <Quantity [5., 7.] adu>
    """
    container: type[Spectrum] = _specutils_container()
    from astropy import units
    from astropy.nddata import StdDevUncertainty

    check_dataset(spectrum, "a spectrum")
    flux = spectrum.get("flux")
    if flux is None or flux.dims != (X,) or flux.chunks is not None:
        found = {name: variable.dims for name, variable in spectrum.data_vars.items()}
        raise MismatchError(
            f"A spectrum has the variable 'flux' with dims ('x',) in memory, but this has {found}",
            hint="Use the result of extract or subtract_sky; call .load() first if it is chunked.",
        )
    variance = spectrum.get(VARIANCE)
    header = header_of(spectrum.attrs) or Header()
    complete_header(header, spectrum)
    for keyword, value, comment in spectrum_cards(spectrum):
        if header.readable(keyword) != value:
            header.set(keyword, value, comment)
    return container(
        flux=units.Quantity(flux.values, flux.attrs.get("units", "adu"), copy=True),
        spectral_axis=units.Quantity(spectrum[X].values.astype(np.float64), units.pix),
        uncertainty=None if variance is None else StdDevUncertainty(sigma_of(variance.values)),
        mask=spectrum[DQ].values & SPOILT != 0 if DQ in spectrum else None,
        meta={"header": to_astropy(header)},
    )


def _specutils_container() -> Any:
    try:
        from specutils import Spectrum
    except ImportError as error:
        raise UsageError(
            "specutils is not installed", hint="Install it: pip install specutils."
        ) from error
    return Spectrum


# Headers to and from astropy, card by card, to the byte: `to_astropy`, `from_astropy`.


def to_astropy(header: Header) -> astropy.io.fits.Header:
    """Return a header as an astropy Header."""
    from astropy.io import fits

    return fits.Header.fromstring(header.to_bytes())


def from_astropy(meta: Any) -> Header:
    """Return the meta of a CCDData, an astropy Header or a mapping, as a header.

    Raises
    ------
    MismatchError
        A key or value of a mapping is not allowed in a header.

    Examples
    --------
    >>> from_astropy({"object": "Vega"})["OBJECT"]
    'Vega'
    """
    from astropy.io import fits

    if not isinstance(meta, fits.Header):
        plain, meta = meta, fits.Header()
        for key, value in plain.items():
            try:
                meta[key if len(key) <= 8 else f"HIERARCH {key}"] = value
            except ValueError as error:
                raise MismatchError(
                    f"The header's {key!r} is {value!r}, which FITS headers do not allow",
                    keyword=key,
                    value=value,
                    hint="Remove it from ccd.meta.",
                ) from error
    return Header.from_bytes(meta.tostring().encode("latin-1"))
