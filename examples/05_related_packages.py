# %% [markdown]
# # Related packages
#
# A combined image converts to the CCDData that ccdproc and specreduce use, and a spectrum to
# one of specutils, with noise, masks and headers. Packages that are not installed are skipped.

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


def is_installed(name: str) -> bool:
    """Return whether a package is installed; print a note if it is not."""
    if find_spec(name) is None:
        print(f"{name} is not installed: skipped")
        return False
    return True


# %% [markdown]
# ## Open products
#
# Products open with their labels (FITS pixels), variance and flags, so that the processing can
# continue from there.

# %%
products = folder / "reduced" / "targets" / "Simulated_star"
image = ar.open_product(products / "Simulated_star_combined.fits")
spectrum = ar.open_product(products / "Simulated_star_spectrum.fits")
print(image.counts.sel(y=128, x=[100, 200]).values.round(1))
print(f"rows {spectrum.attrs['first_row']} to {spectrum.attrs['last_row']}")

# %% [markdown]
# ## CCDData
#
# `to_ccddata` returns copies, because some packages modify their input. Converting back gives
# the same image, bit for bit.

# %%
ccd = ar.to_ccddata(image)
print(ccd.unit, ccd.shape, type(ccd.uncertainty).__name__, ccd.header["OBJECT"])
assert np.array_equal(ar.from_ccddata(ccd).counts, image.get("clean", image.counts))

# %% [markdown]
# ## specutils
#
# `to_spectrum` from memory, or `Spectrum.read` on the file: flux, standard deviation, header.

# %%
if is_installed("specutils"):
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
# specreduce needs an image without bias and dark, dispersed along axis 1. Here it traces,
# subtracts the background and extracts, and its boxcar spectrum and ours are compared with the
# true flux:

# %%
if is_installed("specreduce"):
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
