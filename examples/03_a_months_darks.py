# %% [markdown]
# # A month of darks
#
# Darks show the state of a camera: does the bias level drift, which rows are noisy, which
# pixels became hot, and when? Here six nights of a month are one labelled cube. Pixels are read
# when they are needed, and only the rows that are needed, so the same code works for six nights
# or six hundred.
#
# The nights are simulated, with four pixels that become hot during the month; use a pattern of
# your own folders instead.

# %%
import tempfile
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np

import arrayred as ar
from arrayred.simulate import Detector

month = Path(tempfile.mkdtemp()) / "2024-03"
turned_hot = {(150, 40): 2, (33, 250): 3, (90, 91): 4, (180, 280): 4}  # row, column: since night
for number, day in enumerate((1, 4, 9, 16, 22, 29)):
    detector = Detector(shape=(200, 300), bias_level=1000.0 + 1.5 * day, bias_drift=0.5)
    start = datetime(2024, 3, day, 20) + timedelta(minutes=7 * number)
    night = ar.SimulatedNight(detector, n_darks=5, n_lights=0, exptime=300.0, start=start, seed=3)
    frames = list(night.frames())
    for row, column in (pixel for pixel, since in turned_hot.items() if number >= since):
        for frame in frames:
            frame.pixels[row - 1, column - 1] += 4000
    ar.write_frames(frames, month / f"2024-03-{day:02}")

# %% [markdown]
# ## One night
#
# `open_night` reads headers only. Print a night for a summary of its groups of frames;
# `night[name]` is the cube of one group.

# %%
night = ar.open_night(month / "2024-03-09")
print(night)
print(night["dark/300s"].counts)

# %% [markdown]
# ## All nights in one cube
#
# A pattern, or a list of folders, opens as one cube. Frames are labelled by folder and file, in
# order of time, each with the evening of its night. `chunks="auto"` leaves the pixels on disk:
# a chunk is a band of rows of all frames.

# %%
cube = ar.open_frames(f"{month}/2024-*", chunks="auto")
print(cube)

# %% [markdown]
# ## Select by FITS pixel
#
# `y` and `x` are pixel numbers as in image viewers: they start at 1, and both ends of a slice
# are included. Only the rows of the slice are read. One pixel through the month:

# %%
history = cube.counts.sel(y=150, x=40)
for evening in np.unique(cube.night):
    print(evening, history.sel(frame=cube.night == evening).values)

# %% [markdown]
# ## The level of each night
#
# `row_statistics` gives mean, standard deviation and median of each row of each frame, computed
# in bands. The results are small and in memory.

# %%
rows = ar.row_statistics(cube).compute()
level = rows["median"].median("y").groupby("night").mean()
days = (cube.time.groupby("night").min() - cube.time.min()) / np.timedelta64(1, "D")
slope = float(np.polyfit(days, level, 1)[0])
for evening, value in zip(level.night.values, level.values, strict=True):
    print(f"{evening}  {value:7.1f} ADU")
print(f"the level drifts by {slope:.2f} ADU per day")
assert abs(slope - 1.5) < 0.1

first_frames = cube.time.groupby("night").min().values
figure = ar.plots.drift(first_frames, {"dark level (ADU)": level.values}, title="March 2024")
(month / "drift.png").write_bytes(ar.plots.png(figure))

# %% [markdown]
# A row is noisy if its standard deviation is high in all frames: one hot pixel is enough.

# %%
spread = rows["std"].median("frame")
noisy = spread.y.values[spread > 3 * spread.median()]
print(f"{noisy.size} rows contain a pixel that is hot in most frames, such as {noisy[:5]}")

# %% [markdown]
# ## When pixels became hot
#
# The median of a night's darks has little noise and no cosmic rays. Subtract the first night
# from the others, and look for new hot pixels.

# %%
evenings = [str(evening) for evening in np.unique(cube.night)]
masters = {
    evening: ar.settle(ar.combine(cube.sel(frame=cube.night == evening), "median")).counts
    for evening in evenings
}
first = masters[evenings[0]]
since: dict[tuple[int, int], str] = {}
for evening in evenings[1:]:
    warmer = masters[evening] - first - float((masters[evening] - first).median())
    hot = warmer.where(warmer > 1000).stack(pixel=("y", "x")).dropna("pixel")
    for y, x in hot.pixel.values:
        since.setdefault((int(y), int(x)), evening)
for (y, x), evening in sorted(since.items()):
    print(f"row {y:3}, column {x:3} hot since {evening}")
assert since == {pixel: evenings[number] for pixel, number in turned_hot.items()}

# %% [markdown]
# ## Headers
#
# The label of a frame gives access to its full header.

# %%
label = str(cube.frame.values[-1])
print(label, ar.headers(cube.sel(frame=label))[label]["DATE-OBS"])
