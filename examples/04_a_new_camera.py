# %% [markdown]
# # A new camera
#
# Most cameras need no instrument file. This one does: its program uses unusual keywords, the
# headers lack the gain, the level of the rows varies from frame to frame, and the first 20
# columns are overscan, which no keyword records. arrayred reports what is missing, and the
# instrument file is written step by step. (The camera is simulated, so the true flux is known.)

# %%
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np

import arrayred as ar
from arrayred.simulate import Detector, SimulatedFrame, Star

made = ar.SimulatedNight(
    Detector(shape=(160, 240), gain=1.57, read_noise=15.0), Star("59 Cyg", flux=15.0), seed=5
)
folder = Path(tempfile.mkdtemp())
night, instrument = folder / "night", folder / "oldcam.toml"


def as_oldcam() -> Iterator[SimulatedFrame]:
    """Yield the night's frames as this camera would write them."""
    rng = np.random.default_rng(1)
    for number, frame in enumerate(made.frames(), 1):
        dark = frame.name.startswith("dark")
        cards = {
            "SHUTMODE": "Shut" if dark else "Open",
            "EXPOS": frame.cards["EXPTIME"],
            "DATE-OBS": frame.cards["DATE-OBS"],
            "STAR": "" if dark else "59 Cyg",
        }
        wander = rng.normal(0.0, 40.0, (160, 1))
        overscan = 1000.0 + rng.normal(0.0, 15.0 / 1.57, (160, 20))
        pixels = np.hstack([overscan, frame.pixels]) + wander
        yield replace(
            frame, name=f"f{number:04}.fit", cards=cards, pixels=pixels.round().astype("uint16")
        )


ar.write_frames(as_oldcam(), night)

# %% [markdown]
# ## What is missing
#
# A night can always be opened: each problem is reported with the file and the remedy. It is
# reduced only when all are solved.


# %%
def opened() -> ar.Night:
    """Open the night with the instrument file as it is now."""
    return ar.open_night(night, ar.NightFile(instrument=str(instrument)))


instrument.write_text("")
print(opened())

# %% [markdown]
# `[keywords]` names the header keywords, and `[types]` the spellings of each frame type. They
# take precedence over the built-in ones, which remain valid.

# %%
instrument.write_text("""
[keywords]
frame_type = ["SHUTMODE"]
exptime = ["EXPOS"]
object = ["STAR"]

[types]
dark = ["shut"]
light = ["open"]
""")
print(opened())

# %% [markdown]
# A misspelled key is an error that names the nearest valid one.

# %%
typo = folder / "typo.toml"
typo.write_text('[keyword]\nexptime = ["EXPOS"]\n')
try:
    ar.Instrument.load(typo)
except ar.UsageError as error:
    print(error)

# %% [markdown]
# ## What the headers do not state
#
# The night can be reduced now, but 20 of its columns are overscan, and the varying level of the
# rows adds noise. `[detector]` gives the overscan, and the gain and read noise from the
# camera's manual; `[cards]` are added to every product.

# %%
before = ar.reduce_night(opened())["targets/59_Cyg/spectrum"]
instrument.write_text(
    instrument.read_text()
    + """
[detector]
gain = 1.57                # electron/adu
read_noise = 15.0          # electron
overscan = "[1:20,1:160]"  # columns, rows
trim = "[21:260,1:160]"

[cards]
TELESCOP = "Barber20"
"""
)
print(ar.make_plan(opened()))

# %% [markdown]
# Columns keep their numbers in the file: the spectrum begins at column 21. Its scatter about
# the true flux agrees with its uncertainty; without the overscan correction the error is
# several times larger.

# %%
after = ar.reduce_night(opened())["targets/59_Cyg/spectrum"]
star = made.truth().flux.values
pull = (after.flux.values - star) / np.sqrt(after.variance.values)
print(f"columns {int(after.x[0])} to {int(after.x[-1])}, scatter {pull.std():.2f} sigma")
for name, flux in (("without", before.flux.values[20:]), ("with", after.flux.values)):
    print(f"{name} overscan correction: median error {np.median(np.abs(flux / star - 1)):.2%}")
assert 0.7 < pull.std() < 1.4
assert int(after.x[0]) == 21

# %% [markdown]
# The command line uses the same file: `arrayred reduce NIGHT -o OUT --instrument oldcam.toml`.
