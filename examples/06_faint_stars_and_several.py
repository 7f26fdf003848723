# %% [markdown]
# # Faint stars, and several in one slit
#
# The published procedure asks each row's mean to exceed the background by four standard
# deviations of single pixels. A bright star does; a faint one, whose light is spread over many
# columns, stays far below in every row, and is there all the same. And sometimes a neighbour
# shares the slit.

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
    """Write a night with some stars in the slit, and return what it is made of."""
    night = ar.SimulatedNight(
        detector, stars[0], stars[1:], n_lights=n_lights, n_darks=n_darks, seed=4
    )
    ar.write_frames(night.frames(), folder / name)
    return night


def said(spectrum: xr.Dataset) -> str:
    """Return which rows a spectrum was taken from, and by which rule they were found."""
    facts = spectrum.attrs
    return f"rows {facts['first_row']} to {facts['last_row']}, rule: {facts['rule']}"


# %% [markdown]
# ## A star that the threshold misses
#
# Its brightest row is three noises of a pixel above the sky, not four. The threshold alone ends
# with an error that names the numbers; by default the rule for weak and emission spectra is tried
# then.

# %%
night = taken("faint", Star("Faint star", flux=0.6, row=80.0, lines=()))
try:
    ar.reduce_night(folder / "faint", ar.Recipe(detect="threshold"))
except ar.ArrayredError as error:
    print(error)

tree = ar.reduce_night(folder / "faint")["targets/Faint_star"]
faint = tree["spectrum"]
print(said(faint))
figure = ar.plots.profile(tree["combined"], faint, title="Faint, and found")
(folder / "profile.png").write_bytes(ar.plots.png(figure))

# %% [markdown]
# Is it worth its uncertainty? Column by column it is noisy, and the sum tells how much light
# there was.

# %%
truth = night.truth().flux
pull = (faint.flux - truth) / np.sqrt(faint.variance)
print(f"S/N per pixel {float((truth / np.sqrt(faint.variance)).median()):.1f}, ", end="")
print(f"scatter about the truth {float(pull.std()):.2f} sigma, ", end="")
print(f"{float(faint.flux.sum() / truth.sum()):.1%} of the light")
assert 0.8 < float(pull.std()) < 1.2

# %% [markdown]
# ## More frames, weighed by their noise
#
# For faint stars the sky's noise decides: `weights="noise"` weighs each light by the inverse
# variance of its sky. Four times the lights halve the noise, but only with four times the darks:
# the noise of the master dark is the same in every light, and no number of them averages it away.


# %%
def gained(**numbers: int) -> float:
    """Return by how much the uncertainty shrinks with other numbers of frames."""
    name = "-".join(f"{n}" for n in numbers.values())
    taken(name, Star("Faint star", flux=0.6, row=80.0, lines=()), **numbers)
    tree = ar.reduce_night(folder / name, ar.Recipe(weights="noise"))
    variance = tree["targets/Faint_star/spectrum"].variance
    return float(np.sqrt(faint.variance / variance).median())


many_lights, many_of_both = gained(n_lights=12), gained(n_lights=12, n_darks=20)
print(f"12 lights, 5 darks: {many_lights:.1f} times better; 20 darks: {many_of_both:.1f} times")
assert many_lights < 1.6 < 1.8 < many_of_both

# %% [markdown]
# ## Two stars in the slit
#
# The brighter one is taken, the other one named with its rows. `near_row` takes the one you mean,
# `all_spectra` takes both.

# %%
pair = (Star("Albireo", flux=60.0, row=120.0, lines=()), Star("", flux=20.0, row=60.0, lines=()))
taken("pair", *pair)
bright = ar.reduce_night(folder / "pair")["targets/Albireo/spectrum"]
print(said(bright), "- beside it:", [run[:2] for run in bright.attrs["other_rows"]])

second = ar.reduce_night(folder / "pair", ar.Recipe(near_row=60))["targets/Albireo/spectrum"]
print(said(second))

both = ar.reduce_night(folder / "pair", ar.Recipe(all_spectra=True))["targets/Albireo"]
for name in (name for name in both.children if name.startswith("spectrum")):
    print(name, said(both[name].to_dataset()), f"{float(both[name].flux.sum()):.3g} adu")

figure = ar.plots.compare({"Albireo A": both["spectrum"], "Albireo B": both["spectrum_2"]})
(folder / "both.png").write_bytes(ar.plots.png(figure))

# %% [markdown]
# ## Too faint to be found at all
#
# A companion that no rule finds lies where you know it to be: tell its rows. The sky is taken
# beside it as ever, without the bright star's light.

# %%
taken("hidden", Star("Albireo", flux=60.0, row=120.0, lines=()), Star("", flux=0.15, row=60.0))
found = ar.reduce_night(folder / "hidden")["targets/Albireo/spectrum"]
assert not found.attrs.get("other_rows")

told = ar.Recipe(rows=(54, 66), extraction="sum", trace="straight")
hidden = ar.reduce_night(folder / "hidden", told)["targets/Albireo/spectrum"]
total = float(hidden.flux.sum())
sigma = float(np.sqrt(hidden.variance.sum()))
print(f"{total:.0f} adu in rows 54 to 66, {total / sigma:.0f} times its uncertainty")
assert total > 5 * sigma
