# %% [markdown]
# # From an arc lamp to an archive
#
# A night with neon lamp frames before and after the star is reduced, with wavelengths from the
# lamp. The spectrum is then exported for BeSS, the archive of Be stars, and the lamp lines are
# used in specreduce.

# %%
import subprocess
import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path

import numpy as np

import arrayred as ar
from arrayred.io.products import read_arc, read_lines

folder = Path(tempfile.mkdtemp())
night = ar.SimulatedNight(n_biases=3, n_arcs=2, seed=4)
ar.write_frames(night.frames(), folder / "night")


def arrayred(*words: str) -> None:
    """Run a command in the folder."""
    subprocess.run([sys.executable, "-m", "arrayred", *words], cwd=folder, check=True)


arrayred("reduce", "night", "-o", "out", "--object", "28 Tau", "--no-figures")

# %% [markdown]
# ## Wavelengths
#
# Wavelengths are given for each pixel, in air; the flux is not resampled. Beyond the outermost
# lines they are extrapolated, and flagged.

# %%
products = folder / "out" / "targets" / "Simulated_star"
spectrum = ar.open_product(products / "Simulated_star_spectrum.fits")
true = night.truth()["wavelength"]
covered = ~spectrum["extrapolated"]
off = (spectrum["wavelength"] - true).where(covered) / night.lamps.dispersion
print(f"at most {float(np.abs(off).max()):.3f} pixel from the true wavelength")
assert np.abs(off).max() < 0.1

# %% [markdown]
# ## The archive
#
# The exported spectrum has a linear wavelength scale, conserves counts, and has the header
# keywords that the archive requires. Missing information is an error that lists all of it. The
# last command checks a file of any program.

# %%
(folder / "observer.toml").write_text(
    'observer = ["A. Miller"]\nsite = "Home"\nlongitude = -89.892\nlatitude = 40.117\n'
    'elevation = 230\ninstrument = "20 cm f/5, Alpy 600, ATIK 414"\n'
)
arrayred("export", "out", "--to", "bess", "--observer", "observer.toml")
arrayred("export", "--check", "out/bess/Simulated_star_bess.fits")

# %% [markdown]
# ## The lamp in specreduce
#
# specreduce can fit its own solution to the centroids and wavelengths of the lines; it agrees
# with ours.

# %%
lines = read_lines(products / "Simulated_star_lines.ecsv")
lamp = read_arc(products / "Simulated_star_arc.ecsv").isel(lamp=0)
mine = lines.isel(line=lines["used"].values & (lines["lamp"].values == str(lamp["lamp"].values)))
print(f"{mine.sizes['line']} lines of {lamp['lamp'].item()}, {lamp.sizes['x']} pixels")
if find_spec("specreduce") is None:
    print("specreduce is not installed: skipped")
else:
    from specreduce.wavecal1d import WavelengthCalibration1D

    tool = WavelengthCalibration1D(ref_pixel=192, pix_bounds=(0, 384))
    x = mine["x"].values - 1  # specreduce counts pixels from 0
    theirs = tool.fit_lines(x, mine["wavelength"].values, degree=3, refine_fit=False)
    at = np.flatnonzero(covered)
    apart = (theirs.pix_to_wav(at) - spectrum["wavelength"].values[at]) / night.lamps.dispersion
    print(f"specreduce differs by at most {np.abs(apart).max():.2f} pixel")
    assert np.abs(apart).max() < 0.5  # one lamp alone, before the star: the lines have moved
