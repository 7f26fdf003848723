# %% [markdown]
# # Slice a cube
#
# A month of darks as one labelled, lazy cube: which pixels are hot, and does the bias level
# drift? Pixels are read when they are needed, and only the rows that are needed.

# %%
import tempfile
from pathlib import Path

import numpy as np
import xarray as xr

import arrayred as ar
from arrayred.simulate import Detector

detector = Detector(shape=(200, 300), bias_drift=2.0)
month = ar.SimulatedNight(detector, n_darks=24, n_lights=0, seed=3)
folder = Path(tempfile.mkdtemp()) / "darks"
ar.write_frames(month.frames(), folder)

# %% [markdown]
# ## Open
#
# `open_frames` and xarray's own function give the same pixels. `y` and `x` are pixel numbers as
# in image viewers, starting at 1.

# %%
cube = ar.open_frames(folder, chunks=50)
assert np.array_equal(cube.counts, xr.open_dataset(folder, engine="arrayred").counts)
print(cube.counts)

# %% [markdown]
# ## One pixel through the month, and one row of one frame

# %%
print(cube.counts.sel(y=100, x=150).values)
print(cube.counts.sel(y=100, x=slice(1, 5)).isel(frame=0).values)

# %% [markdown]
# ## Row statistics
#
# Mean, standard deviation and median of each row of each frame, computed lazily: three numbers
# instead of 300 pixels.

# %%
statistics = ar.row_statistics(cube).compute()
level = statistics["median"].median("y")
drift = np.polyfit((cube.time - cube.time[0]) / np.timedelta64(1, "h"), level, 1)[0]
print(f"the level drifts by {drift:.2f} ADU per hour")

# %% [markdown]
# ## Hot pixels
#
# Pixels of the median dark that are far above the others, and the history of the hottest one.

# %%
dark = ar.settle(ar.combine(cube, "median")).counts
limit = float(dark.median() + 50)
hot = dark.where(dark > limit).stack(pixel=("y", "x")).dropna("pixel")
y, x = hot.pixel[int(hot.values.argmax())].item()
print(f"{hot.size} pixels above {limit:.0f} ADU; the hottest is row {y}, column {x}")
print(cube.counts.sel(y=y, x=x).values)
figure = ar.plots.pixel_history(cube, int(y), int(x), title="The hottest pixel")
(folder.parent / "hottest.png").write_bytes(ar.plots.png(figure))
