# %% [markdown]
# # From a lamp to an archive
#
# A night with a neon lamp before and after the star is reduced: the lamps are identified, and the
# spectrum has wavelengths. Then the spectrum is written as the archive of Be stars (BeSS) takes it,
# and its lamp is handed to specreduce.

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
# They are beside the pixels, in air, in the order of the pixels; the flux is untouched. Beyond the
# outermost lines they are extrapolated, and marked so.

# %%
products = folder / "out" / "targets" / "Simulated_star"
spectrum = ar.open_product(products / "Simulated_star_spectrum.fits")
true = night.truth()["wavelength"]
covered = ~spectrum["extrapolated"]
off = (spectrum["wavelength"] - true).where(covered) / night.lamps.dispersion
print(f"at most {float(np.abs(off).max()):.3f} pixel from the truth")
assert np.abs(off).max() < 0.1

# %% [markdown]
# ## The archive
#
# A linear scale, counts conserved, and the cards that the archive demands. What is missing is an
# error that lists all of it; the last command checks a file of any program.

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
# Its centroids and wavelengths are all that specreduce needs to fit a solution of its own, which
# agrees with ours.

# %%
lines = read_lines(products / "Simulated_star_lines.ecsv")
lamp = read_arc(products / "Simulated_star_arc.ecsv").isel(lamp=0)
mine = lines.isel(line=lines["used"].values & (lines["lamp"].values == str(lamp["lamp"].values)))
print(f"{mine.sizes['line']} lines of {lamp['lamp'].item()}, {lamp.sizes['x']} pixels")
if find_spec("specreduce") is None:
    print("specreduce is not installed: passed over")
else:
    from specreduce.wavecal1d import WavelengthCalibration1D

    tool = WavelengthCalibration1D(ref_pixel=192, pix_bounds=(0, 384))
    x = mine["x"].values - 1  # specreduce counts pixels from 0
    theirs = tool.fit_lines(x, mine["wavelength"].values, degree=3, refine_fit=False)
    at = np.flatnonzero(covered)
    apart = (theirs.pix_to_wav(at) - spectrum["wavelength"].values[at]) / night.lamps.dispersion
    print(f"specreduce differs by at most {np.abs(apart).max():.2f} pixel")
    assert np.abs(apart).max() < 0.5  # one lamp alone, before the star: the lines have moved
