"""From the converter's units to electrons: `to_electrons`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from arrayred.errors import UnknownGainError
from arrayred.model import note_history

if TYPE_CHECKING:
    import xarray as xr

_FACTS = ("background_mean", "background_std", "threshold", "noise_level")


def to_electrons(ds: xr.Dataset) -> xr.Dataset:
    """Return an image, a cube or a spectrum in electrons instead of adu.

    Parameters
    ----------
    ds : variables in adu or adu2, and the scalar coordinate `gain`, electrons per adu. What is in
        electrons already, or has no such unit, stays.

    Returns
    -------
    The same, multiplied by the gain, variances by its square; its `gain` is 1.

    Raises
    ------
    UnknownGainError
        Something is in adu, and the gain is unknown.

    Examples
    --------
    >>> import xarray as xr
    >>> flux = xr.Dataset({"flux": ("x", [10.0, 20.0], {"units": "adu"})}, {"gain": 1.5})
    >>> to_electrons(flux).flux.values.tolist()
    [15.0, 30.0]
    """
    powers = {"adu": 1, "adu2": 2}
    found = {name: powers.get(v.attrs.get("units", ""), 0) for name, v in ds.data_vars.items()}
    if not any(found.values()):
        return ds
    if "gain" not in ds.coords:
        raise UnknownGainError.of()
    gain = float(ds["gain"].item())
    changed = {
        name: (ds[name] * gain**power).assign_attrs(
            {**ds[name].attrs, "units": "electron" if power == 1 else "electron2"}
        )
        for name, power in found.items()
        if power
    }
    facts = {name: ds.attrs[name] * gain for name in _FACTS if name in ds.attrs}
    if "gain_effective" in ds.attrs:
        facts["gain_effective"] = ds.attrs["gain_effective"] / gain
    converted = ds.assign(changed).assign_attrs(facts).assign_coords(gain=1.0)
    return note_history(converted, f"multiplied by {gain:g} electrons per adu")
