# %% [markdown]
# # A new camera
#
# Most cameras need no settings. This one does: its program has its own names for the cards, its
# headers know no gain, the level of its rows wanders from frame to frame, and its first 20
# columns are overscan, which no card says. arrayred tells what it misses; the answers become an
# instrument file, line by line. (Here the camera is simulated: a night whose truth is known,
# spelt oddly.)

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
# A night opens whatever its headers say, and tells every problem with the file's name and what
# would help. It is not reduced before each of them is settled.


# %%
def opened() -> ar.Night:
    """Open the night with the instrument file as it is now."""
    return ar.open_night(night, ar.NightFile(instrument=str(instrument)))


instrument.write_text("")
print(opened())

# %% [markdown]
# `[keywords]` says which cards to look at, `[types]` which words mean which type. What an
# instrument file says comes before what arrayred knows already; nothing of that is lost.

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
# A mistyped key is an error that names the nearest one, never a setting that does nothing.

# %%
typo = folder / "typo.toml"
typo.write_text('[keyword]\nexptime = ["EXPOS"]\n')
try:
    ar.Instrument.load(typo)
except ar.UsageError as error:
    print(error)

# %% [markdown]
# ## What no header says
#
# The night can be reduced now, but 20 of its columns are no sky, and the wandering rows are
# noise. `[detector]` says where the overscan lies, and the gain and read noise from the camera's
# manual; `[cards]` are those that every product gets.

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
# Columns keep the numbers they have in the file: the spectrum begins at 21. It scatters about the
# truth by what its uncertainty says; without the overscan it is off by several times as much.

# %%
after = ar.reduce_night(opened())["targets/59_Cyg/spectrum"]
star = made.truth().flux.values
pull = (after.flux.values - star) / np.sqrt(after.variance.values)
print(f"columns {int(after.x[0])} to {int(after.x[-1])}, scatter {pull.std():.2f} sigma")
for name, flux in (("without", before.flux.values[20:]), ("with", after.flux.values)):
    print(f"{name} the overscan: off by {np.median(np.abs(flux / star - 1)):.2%}")
assert 0.7 < pull.std() < 1.4
assert int(after.x[0]) == 21

# %% [markdown]
# The command line takes the same file: `arrayred reduce NIGHT -o OUT --instrument oldcam.toml`.
