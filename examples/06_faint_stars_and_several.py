# %% [markdown]
# # Faint stars, and several in one slit
#
# The published procedure detects rows whose mean exceeds the background by four standard
# deviations of single pixels. A faint star, whose flux is spread over many columns, may not
# reach that in any row, although it is significant. And sometimes there is a second star in the
# slit.

# %%
import tempfile
from pathlib import Path

import numpy as np
import xarray as xr

import arrayred as ar
from arrayred.simulate import Detector, Star

folder = Path(tempfile.mkdtemp())
detector = Detector(shape=(200, 384))


def taken(name: str, *stars: Star, n_lights: int = 3, n_darks: int = 5) -> ar.SimulatedNight:
    """Write a night with some stars in the slit, and return the simulation."""
    night = ar.SimulatedNight(
        detector, stars[0], stars[1:], n_lights=n_lights, n_darks=n_darks, seed=4
    )
    ar.write_frames(night.frames(), folder / name)
    return night


def said(spectrum: xr.Dataset) -> str:
    """Return the aperture rows of a spectrum, and the method of their detection."""
    facts = spectrum.attrs
    return f"rows {facts['first_row']} to {facts['last_row']}, method: {facts['rule']}"


# %% [markdown]
# ## A star below the threshold
#
# The mean of its brightest row is three standard deviations above the sky, not four. With the
# threshold alone this is an error that gives the numbers; by default the robust method is tried
# next.

# %%
night = taken("faint", Star("Faint star", flux=0.6, row=80.0, lines=()))
try:
    ar.reduce_night(folder / "faint", ar.Recipe(detect="threshold"))
except ar.ArrayredError as error:
    print(error)

tree = ar.reduce_night(folder / "faint")["targets/Faint_star"]
faint = tree["spectrum"]
print(said(faint))
figure = ar.plots.profile(tree["combined"], faint, title="A faint star, detected")
(folder / "profile.png").write_bytes(ar.plots.png(figure))

# %% [markdown]
# Is the uncertainty right? The flux of a single column is noisy, but the sum over all columns
# is well measured.

# %%
truth = night.truth().flux
pull = (faint.flux - truth) / np.sqrt(faint.variance)
print(f"S/N per pixel {float((truth / np.sqrt(faint.variance)).median()):.1f}, ", end="")
print(f"scatter about the true flux {float(pull.std()):.2f} sigma, ", end="")
print(f"{float(faint.flux.sum() / truth.sum()):.1%} of the true flux")
assert 0.8 < float(pull.std()) < 1.2

# %% [markdown]
# ## More frames, weighted by their noise
#
# The noise of a faint star is that of the sky: `weights="noise"` weights each light frame by
# the inverse variance of its sky. Four times as many light frames halve the noise only with
# four times as many darks, because the noise of the master dark is the same in all of them and
# does not average out.


# %%
def gained(**numbers: int) -> float:
    """Return by how much the uncertainty shrinks with other numbers of frames."""
    name = "-".join(f"{n}" for n in numbers.values())
    taken(name, Star("Faint star", flux=0.6, row=80.0, lines=()), **numbers)
    tree = ar.reduce_night(folder / name, ar.Recipe(weights="noise"))
    variance = tree["targets/Faint_star/spectrum"].variance
    return float(np.sqrt(faint.variance / variance).median())


many_lights, many_of_both = gained(n_lights=12), gained(n_lights=12, n_darks=20)
print(f"12 light frames: {many_lights:.1f} times better; with 20 darks: {many_of_both:.1f} times")
assert many_lights < 1.6 < 1.8 < many_of_both

# %% [markdown]
# ## Two stars in the slit
#
# The brighter one is extracted, and the other one reported with its rows. `near_row` selects a
# star, and `all_spectra` extracts both.

# %%
pair = (Star("Albireo", flux=60.0, row=120.0, lines=()), Star("", flux=20.0, row=60.0, lines=()))
taken("pair", *pair)
bright = ar.reduce_night(folder / "pair")["targets/Albireo/spectrum"]
print(said(bright), "- other spectra:", [run[:2] for run in bright.attrs["other_rows"]])

second = ar.reduce_night(folder / "pair", ar.Recipe(near_row=60))["targets/Albireo/spectrum"]
print(said(second))

both = ar.reduce_night(folder / "pair", ar.Recipe(all_spectra=True))["targets/Albireo"]
for name in (name for name in both.children if name.startswith("spectrum")):
    print(name, said(both[name].to_dataset()), f"{float(both[name].flux.sum()):.3g} ADU")

figure = ar.plots.compare({"Albireo A": both["spectrum"], "Albireo B": both["spectrum_2"]})
(folder / "both.png").write_bytes(ar.plots.png(figure))

# %% [markdown]
# ## Too faint to be detected
#
# If a companion is not detected, give its rows. The sky is fitted beside them as usual, and
# excludes the bright star.

# %%
taken("hidden", Star("Albireo", flux=60.0, row=120.0, lines=()), Star("", flux=0.15, row=60.0))
found = ar.reduce_night(folder / "hidden")["targets/Albireo/spectrum"]
assert not found.attrs.get("other_rows")

told = ar.Recipe(rows=(54, 66), extraction="sum", trace="straight")
hidden = ar.reduce_night(folder / "hidden", told)["targets/Albireo/spectrum"]
total = float(hidden.flux.sum())
sigma = float(np.sqrt(hidden.variance.sum()))
print(f"{total:.0f} ADU in rows 54 to 66, {total / sigma:.0f} times its uncertainty")
assert total > 5 * sigma
