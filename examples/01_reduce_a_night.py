# %% [markdown]
# # Reduce a night
#
# From a folder of frames to a spectrum, first in one call, then step by step. The night is a
# simulated one, so that the truth is known; put the path of your own folder instead.

# %%
import tempfile
from pathlib import Path

import numpy as np

import arrayred as ar

folder = Path(tempfile.mkdtemp())
truth, night = ar.SimulatedNight(seed=1), folder / "night"
ar.write_frames(truth.frames(), night)

# %% [markdown]
# ## What is there, and what will be done
#
# Headers are read, and a few rows of each frame. Printed, or as the last line of a notebook's
# cell, a night tells what it holds; the plan, what calibrates what and what is left out.

# %%
opened = ar.open_night(night)
print(opened)
print(ar.make_plan(opened))

# %% [markdown]
# ## In one call
#
# The result is a tree: masters, and for each target the combined image and the spectrum.

# %%
tree = ar.reduce_night(opened)
spectrum = tree["targets/Simulated_star/spectrum"]
print(f"rows {spectrum.attrs['first_row']} to {spectrum.attrs['last_row']}")

# %% [markdown]
# `ar.plots` draws what a paper would show: here the combined image with the aperture that follows
# the trace and the bands of sky. Each function returns a matplotlib figure; `png` makes a file of
# it.

# %%
image = tree["targets/Simulated_star/combined"]
figure = ar.plots.image(image, spectrum, title="A simulated star")
(folder / "image.png").write_bytes(ar.plots.png(figure))

# %% [markdown]
# How well does it agree with the truth, in units of its own uncertainty?

# %%
star = truth.truth()
pull = (spectrum.flux - star.flux) / np.sqrt(spectrum.variance)
light = float(spectrum.flux.sum() / star.flux.sum())
print(f"{light:.1%} of the light, scatter {float(pull.std()):.2f} sigma")

# %% [markdown]
# The flux is weighted along the star's trace. The procedure's own sums the rows above the
# threshold; what is missing lies in the rows beside them. The spectrum tells what it encloses.

# %%
procedure = ar.reduce_night(opened, ar.Recipe.reference())["targets/Simulated_star/spectrum"]
part = float(procedure.flux.sum() / star.flux.sum())
print(f"{part:.1%} of the light in {procedure.attrs['n_rows']} rows")
print(f"{spectrum.attrs['enclosed_fraction']:.1%} of it along the trace")

# %% [markdown]
# ## Step by step
#
# The procedure with the verbs themselves. Cubes may be lazy; `settle` computes.

# %%
cube = ar.open_frames(night, chunks=64)
darks = cube.sel(frame=cube.frame_type == "dark")
lights = cube.sel(frame=cube.frame_type == "light")

dark = ar.settle(ar.combine(darks, "median"))
image = ar.settle(ar.combine(lights, minus=dark))
rows = ar.detect_rows(image)
by_hand = ar.subtract_sky(ar.extract(image, rows), image, rows)

assert np.array_equal(by_hand.counts_mean, spectrum.counts_mean)
print(rows)
