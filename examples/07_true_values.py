# %% [markdown]
# # Compare with true values
#
# The true values of a simulated night are known. Reduce it and compare flux and uncertainty
# with them, then add effects of real nights and compare again. `arrayred simulate` writes such
# nights, with the true values beside the frames.

# %%
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np

import arrayred as ar
from arrayred.simulate import Detector, Sky, Star

folder = Path(tempfile.mkdtemp())
plain = ar.SimulatedNight(
    Detector(shape=(160, 240)),
    Star("Vega", lines=((90.0, 0.6, 3.0),)),
    n_flats=3,
    n_biases=3,
    seed=11,
)

# %% [markdown]
# ## The true values
#
# A noiseless light frame, in ADU: the star's flux in each column, the part of it that the
# detector records, the sky, and the images of star, sky and dark.

# %%
truth = plain.truth()
print(truth)

# %% [markdown]
# ## Flux and uncertainty
#
# A *pull* is (measured flux - true flux) / uncertainty. If the uncertainty is right, pulls have
# a mean of 0 and a standard deviation of 1; a larger standard deviation means that the
# uncertainty is too small.


# %%
def compare(name: str, night: ar.SimulatedNight) -> float:
    """Reduce a night, compare it with the true flux, and return the scatter of the pulls."""
    ar.write_frames(night.frames(), folder / name)
    spectrum = ar.reduce_night(folder / name)["targets/Vega/spectrum"]
    true = night.truth().flux.values
    pull = (spectrum.flux.values - true) / np.sqrt(spectrum.variance.values)
    found = float(spectrum.flux.sum()) / true.sum()
    print(f"{name:26} {found:7.2%} of the true flux, pulls {pull.mean():+.2f} +- {pull.std():.2f}")
    return float(pull.std())


assert compare("no such effect", plain) < 1.2

# %% [markdown]
# ## Effects of real nights
#
# With cosmic rays, a sky that brightens along the slit and has tilted lines, a tilted trace or
# a moving star, the spectrum agrees with the true one within its uncertainty.

# %%
effects = {
    "1500 cosmic rays an hour": replace(plain, cosmic_rays=1500.0),
    "sky gradient, tilted lines": replace(
        plain, sky=Sky(level=0.5, lines=((150.0, 2.0, 1.5),), gradient=0.2, tilt=3.0)
    ),
    "tilted trace": replace(plain, star=replace(plain.star, tilt=8.0)),
    "moving star": replace(plain, trace_drift=0.4, flux_scatter=0.0),
}
for name, night in effects.items():
    assert compare(name, night) < 1.3

# %% [markdown]
# ## Flats
#
# The sensitivity of pixels differs, here by 3%. Without flats this is noise that the
# uncertainty does not include. (A flat cannot correct the variation along the dispersion,
# because the spectrum of its lamp is unknown: use a standard star.)

# %%
uneven = replace(plain, detector=replace(plain.detector, response_scatter=0.03))
with_flats = compare("uneven pixels, flats", uneven)
without = compare("uneven pixels, no flats", replace(uneven, n_flats=0))
assert with_flats < 1.5 < 2 < without
