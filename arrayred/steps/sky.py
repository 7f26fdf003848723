"""Take the sky out of a spectrum: `subtract_sky`.

The band is the procedure's: as many rows as the spectrum has, beginning `offset` rows above its
last row. Off the image the procedure would subtract half a sky, or none, and say nothing; here the
band below is taken instead, or nothing is subtracted and an error says why (`why_no_band` tells it
beforehand). The sky under the spectrum itself is the matter of `steps.background`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from arrayred.errors import SkyBandError
from arrayred.kernels.rows import sum_of_rows
from arrayred.model import (
    COUNTS,
    DQ,
    VARIANCE,
    Rows,
    X,
    Y,
    check_image,
    dq_attrs,
    note_history,
    remark,
)
from arrayred.steps.extract import Span, with_errors

if TYPE_CHECKING:
    import xarray as xr

Side = Literal["auto", "above", "below", "clipped"]


def subtract_sky(
    spectrum: xr.Dataset,
    image: xr.Dataset,
    rows: Rows,
    *,
    offset: int = 50,
    side: Side = "auto",
    per_bright_row: bool = False,
    band: tuple[int, int] | None = None,
) -> xr.Dataset:
    """Subtract the sum of an equally high band of sky.

    Parameters
    ----------
    spectrum : what `extract` made of the image.
    image : counts (y, x) in adu or electron, settled.
    rows : the rows of the spectrum.
    offset : rows from the spectrum's last row to the band's first (or, below, the other way
        round).
    side : "above"; "below"; "auto": above, or below where above is off the image; "clipped":
        above, cut at the image's edge.
    per_bright_row : divide by the number of bright rows, not by the number of rows summed.
    band : the first and last row of the band, where it is not to be chosen; its sum counts as if
        it were as high as the spectrum, whose own rows are left out of it.

    Returns
    -------
    spectrum : `flux` less the sky, `sky` (x) the sum subtracted, `counts_mean_sky_subtracted` (x)
        the procedure's mean of a row; the band as attributes sky_first_row and sky_last_row. Where
        the image has them, `variance` (x) is that of the difference, and `sky_dq` (x) joins the
        flags of the band.

    Raises
    ------
    SkyBandError
        The band lies off the image, or a given one wholly on the spectrum.
    """
    check_image(image)
    first, last = sky_band(image, rows, offset, side) if band is None else _given(band, image)
    span = slice(first, last) if band is None else _beside(band, image, rows)
    pixels = image[COUNTS].sel({Y: span}).values
    weight = 1.0 if band is None else rows.n_rows / len(pixels)
    sky = sum_of_rows(pixels) * weight
    units = spectrum["flux"].attrs["units"]
    net = spectrum["flux"].values - sky
    divisor = rows.n_bright if per_bright_row and rows.rule == "threshold" else rows.n_rows
    spectrum = spectrum.assign(
        flux=(X, net, {**spectrum["flux"].attrs, "long_name": "sum over the rows less the sky"}),
        sky=(X, sky, {"units": units, "long_name": "sum over the sky band"}),
        counts_mean_sky_subtracted=(
            X,
            net / divisor,
            {"units": units, "long_name": "mean of a row less the sky"},
        ),
    ).assign_attrs(sky_first_row=first, sky_last_row=last)
    spectrum = spectrum.assign(_errors(spectrum, image, span, weight))
    if not isinstance(span, slice):
        own = f"{rows.first} to {rows.last}"
        spectrum = remark(spectrum, f"the sky rows hold the spectrum: its rows {own} are left out")
    if band is None and side == "auto" and last < rows.first:
        why = "above it is off the image or bright"
        spectrum = remark(spectrum, f"the text table's sky lies below the spectrum: {why}")
    for bright_first, bright_last in _bright_in((first, last), rows, own=band is None):
        spectrum = remark(
            spectrum, f"the sky band lies on bright rows {bright_first} to {bright_last}"
        )
    if band is None and last - first + 1 < rows.n_rows:
        spectrum = remark(
            spectrum, f"the sky band is cut: {max(last - first + 1, 0)} of {rows.n_rows} rows"
        )
    return note_history(spectrum, f"sky of rows {first} to {last} subtracted")


def _given(band: tuple[int, int], image: xr.Dataset) -> tuple[int, int]:
    """Return a band of rows that was given; raise SkyBandError if it is not on the image."""
    low, high = int(image[Y][0]), int(image[Y][-1])
    if low <= band[0] <= band[1] <= high:
        return band
    raise SkyBandError(
        f"The sky rows {band[0]}:{band[1]} are off the image (it has rows {low}:{high})",
        value=band,
        hint="Give rows that exist, both ends included.",
    )


def _beside(band: tuple[int, int], image: xr.Dataset, rows: Rows) -> Span:
    """Return a given band's rows but for those of the spectrum; raise if none are left."""
    numbers = image[Y].values
    inside = numbers[(numbers >= band[0]) & (numbers <= band[1])]
    kept = inside[(inside < rows.first) | (inside > rows.last)]
    if kept.size == 0:
        raise within_spectrum(band, (rows.first, rows.last))
    return slice(*band) if kept.size == inside.size else kept


def within_spectrum(band: tuple[int, int], own: tuple[int, int]) -> SkyBandError:
    """Return the error of a given band of sky that lies on the spectrum, whose rows are its own."""
    return SkyBandError(
        f"The sky rows {band[0]}:{band[1]} lie on the spectrum itself, rows {own[0]}:{own[1]}",
        keyword="sky_rows",
        value=band,
        hint="Give rows beside it, or leave --sky-rows out: rows on both sides are then chosen.",
    )


def _errors(spectrum: xr.Dataset, image: xr.Dataset, span: Span, weight: float) -> dict[str, Any]:
    """Return the variance of flux less sky, and the flags of the sky band, where known."""
    of_sky = with_errors(image, span, "")
    found: dict[str, Any] = {}
    if VARIANCE in of_sky and VARIANCE in spectrum:
        own = spectrum[VARIANCE]
        found[VARIANCE] = own.copy(data=own.values + weight**2 * of_sky[VARIANCE][1])
    if DQ in of_sky:
        found["sky_dq"] = (X, of_sky[DQ][1], dq_attrs("flags of the pixels of the sky band"))
    return found


def sky_band(image: xr.Dataset, rows: Rows, offset: int, side: Side) -> tuple[int, int]:
    """Return first and last row of the sky band, FITS numbers; see `subtract_sky`.

    Raises
    ------
    SkyBandError
        The band lies off the image, or, where the side is free, on something bright.
    """
    found = _band_or_error(image, rows, offset, side)
    if isinstance(found, SkyBandError):
        raise found
    return found


def why_no_band(
    image: xr.Dataset, rows: Rows, *, offset: int = 50, side: Side = "auto"
) -> SkyBandError | None:
    """Return what `subtract_sky` would raise where it chooses its band, or None.

    The procedure's band is one of many that a sky can be taken from: what cannot be subtracted its
    way may still be a spectrum.

    Parameters
    ----------
    image : counts (y, x), settled.
    rows : the rows of the spectrum.
    offset, side : as for `subtract_sky`.
    """
    found = _band_or_error(image, rows, offset, side)
    return found if isinstance(found, SkyBandError) else None


def _band_or_error(
    image: xr.Dataset, rows: Rows, offset: int, side: Side
) -> tuple[int, int] | SkyBandError:
    low, high = int(image[Y][0]), int(image[Y][-1])
    above = (rows.last + offset, rows.last + offset + rows.n_rows - 1)
    below = (rows.first - offset - rows.n_rows + 1, rows.first - offset)
    if side == "clipped":
        return above[0], min(above[1], high)
    asked = {"above": [above], "below": [below], "auto": [above, below]}[side]
    on_image = [band for band in asked if low <= band[0] and band[1] <= high]
    dark = [band for band in on_image if not _bright_in(band, rows)]
    if on_image and (dark or side != "auto"):
        return (dark or on_image)[0]
    where = "on another spectrum" if on_image else "off the image"
    return SkyBandError(
        f"The sky band {' or '.join(f'{a}:{b}' for a, b in asked)} for a spectrum of rows "
        f"{rows.first}:{rows.last} lies {where} (the image has rows {low}:{high})",
        value=side,
        hint="Choose another sky_offset or sky_side in the recipe, or --no-sky.",
    )


def _bright_in(band: tuple[int, int], rows: Rows, *, own: bool = True) -> list[tuple[int, int]]:
    """Return the bright rows that a band lies on: the spectrum's `own`, or those of another run."""
    runs = [(rows.first, rows.last)] if own else []
    runs += [(run.first, run.last) for run in rows.others]
    return [(first, last) for first, last in runs if first <= band[1] and band[0] <= last]
