# %% [markdown]
# # Beside the truth
#
# A simulated night knows what it was made of. Reduce it, put the result beside the truth, and see
# whether flux and uncertainty can be believed; then spoil the night in ways that real ones are
# spoilt, and look again. `arrayred simulate` writes such nights, with the truth beside the
# frames.

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
# ## What the truth holds
#
# All that a perfect observer would find, of one light, in adu: the star's light in each column,
# what of it the detector answers to, the sky, and the images of star, sky and dark without any
# noise.

# %%
truth = plain.truth()
print(truth)

# %% [markdown]
# ## Flux and uncertainty
#
# A *pull* is (flux found - true flux) / uncertainty. Believable numbers have pulls with a mean of
# 0 and a scatter of 1: a larger scatter means that the uncertainty promises too much.


# %%
def beside_the_truth(name: str, night: ar.SimulatedNight) -> float:
    """Reduce a night, tell how it compares with its truth, and return the scatter of its pulls."""
    ar.write_frames(night.frames(), folder / name)
    spectrum = ar.reduce_night(folder / name)["targets/Vega/spectrum"]
    true = night.truth().flux.values
    pull = (spectrum.flux.values - true) / np.sqrt(spectrum.variance.values)
    light = float(spectrum.flux.sum()) / true.sum()
    print(f"{name:26} {light:7.2%} of the light, pulls {pull.mean():+.2f} +- {pull.std():.2f}")
    return float(pull.std())


assert beside_the_truth("as it should be", plain) < 1.2

# %% [markdown]
# ## What spoils a night
#
# Rays hit every frame, the sky brightens along the slit and its lines lean, the trace tilts, the
# star moves and varies: the spectrum stays within its uncertainty.

# %%
spoilt = {
    "1500 cosmic rays an hour": replace(plain, cosmic_rays=1500.0),
    "a sky that leans": replace(
        plain, sky=Sky(level=0.5, lines=((150.0, 2.0, 1.5),), gradient=0.2, tilt=3.0)
    ),
    "a trace that tilts": replace(plain, star=replace(plain.star, tilt=8.0)),
    "a star that moves": replace(plain, trace_drift=0.4, flux_scatter=0.0),
}
for name, night in spoilt.items():
    assert beside_the_truth(name, night) < 1.3

# %% [markdown]
# ## What flats are for
#
# No two pixels answer to light alike. Here they differ by 3 %: without flats that is noise which
# no uncertainty knows of. Flats take it out. (What they cannot tell is the colour of their lamp,
# so the spectrum's own slow slope along the columns stays the instrument's: that is for a
# standard star.)

# %%
uneven = replace(plain, detector=replace(plain.detector, response_scatter=0.03))
with_flats = beside_the_truth("uneven pixels, flats", uneven)
without = beside_the_truth("uneven pixels, no flats", replace(uneven, n_flats=0))
assert with_flats < 1.5 < 2 < without
