# %% [markdown]
# # Hand over to the neighbours
#
# arrayred ends where others begin: a combined image becomes the CCDData that ccdproc and
# specreduce take, a spectrum one of specutils, and back. Noise, masks and headers go along. A
# neighbour that is not installed is passed over, and said.

# %%
import subprocess
import sys
import tempfile
import warnings
from importlib.util import find_spec
from pathlib import Path

import numpy as np

import arrayred as ar

folder = Path(tempfile.mkdtemp())
truth = ar.SimulatedNight(seed=2)
ar.write_frames(truth.frames(), folder / "night")
command = [sys.executable, "-m", "arrayred", "reduce", "night", "-o", "reduced", "--no-figures"]
subprocess.run(command, cwd=folder, check=True, stdout=subprocess.DEVNULL)


def there(name: str) -> bool:
    """Tell whether a neighbour is installed, and say so if it is not."""
    if find_spec(name) is None:
        print(f"{name} is not installed: passed over")
        return False
    return True


# %% [markdown]
# ## From the files
#
# Products open as what they were when they were written: labelled by FITS pixel, with variance
# and flags. The work goes on from there, today or next year.

# %%
products = folder / "reduced" / "targets" / "Simulated_star"
image = ar.open_product(products / "Simulated_star_combined.fits")
spectrum = ar.open_product(products / "Simulated_star_spectrum.fits")
print(image.counts.sel(y=128, x=[100, 200]).values.round(1))
print(f"rows {spectrum.attrs['first_row']} to {spectrum.attrs['last_row']}")

# %% [markdown]
# ## CCDData, there and back
#
# `to_ccddata` gives copies, so that a neighbour that writes into what it gets does no harm. What
# comes back is the same image, to the bit.

# %%
ccd = ar.to_ccddata(image)
print(ccd.unit, ccd.shape, type(ccd.uncertainty).__name__, ccd.header["OBJECT"])
assert np.array_equal(ar.from_ccddata(ccd).counts, image.get("clean", image.counts))

# %% [markdown]
# ## specutils
#
# `to_spectrum` from memory, or `Spectrum.read` on the file: flux, standard deviation, header.

# %%
if there("specutils"):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of specutils' own dependencies
        from specutils import Spectrum
        from specutils.analysis import equivalent_width, snr_derived

        theirs = ar.to_spectrum(spectrum)
        again = Spectrum.read(products / "Simulated_star_spectrum.fits")
        assert np.array_equal(theirs.flux, again.flux)
        print(f"S/N by specutils' own estimate: {float(snr_derived(theirs)):.0f}")
        width = equivalent_width(theirs, continuum=np.median(theirs.flux))
        print(f"equivalent width of all lines together: {width:.1f}")

# %% [markdown]
# ## specreduce
#
# The image is what specreduce wants: no bias, no dark, dispersion along axis 1. Its own trace,
# background and extraction then run on it. Its boxcar and our spectrum beside the truth:

# %%
if there("specreduce"):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from specreduce.background import Background
        from specreduce.extract import BoxcarExtract
        from specreduce.tracing import FitTrace

        trace = FitTrace(ccd, bins=16)
        below = Background.two_sided(ccd, trace, separation=40, width=30)
        boxcar = BoxcarExtract(below.sub_image(ccd), trace, width=15).spectrum

    star = truth.truth().flux.values
    for name, flux in (("specreduce, boxcar", boxcar.flux.value), ("arrayred", spectrum.flux)):
        print(f"{name:20} {np.mean(np.asarray(flux) / star - 1):+.2%} on average, ", end="")
        print(f"{np.std(np.asarray(flux) / star - 1):.2%} scatter")
