"""A night of one star becomes a table of flux and variance per pixel: ``NIGHT TABLE``."""

import sys
import warnings

import numpy as np
from astropy import units as u
from astropy.modeling.models import Polynomial1D
from astropy.nddata import CCDData
from astropy.stats import mad_std
from astropy.table import Table
from ccdproc import (
    Combiner,
    ImageFileCollection,
    combine,
    cosmicray_lacosmic,
    create_deviation,
    subtract_dark,
)
from specreduce.background import Background
from specreduce.extract import BoxcarExtract
from specreduce.tracing import FitTrace

warnings.simplefilter("ignore")  # headers that are not quite FITS
night, table = sys.argv[1:]
files = ImageFileCollection(night)


def read(kind):
    paths = files.files_filtered(imagetyp=kind, include_path=True)
    return [CCDData.read(path, unit="adu") for path in paths]


darks, lights = read("Dark Frame"), read("Light Frame")
gain = lights[0].header["EGAIN"] * u.electron / u.adu
difference = np.subtract(darks[0].data, darks[1].data, dtype=float)
noise = gain * mad_std(difference) / np.sqrt(2) * u.adu  # read noise and dark current

# Dark, cosmic rays, mean
master = combine(darks, method="median")
clean = []
for light in lights:
    light = subtract_dark(light, master, exposure_time="EXPTIME", exposure_unit=u.s)
    clean.append(cosmicray_lacosmic(light, gain=gain, readnoise=noise))
image = Combiner(clean).average_combine()
n = len(clean)
image = create_deviation(
    image,
    gain=n * u.dimensionless_unscaled,
    readnoise=np.sqrt(n) * noise,
    disregard_nan=True,
)

# Trace, sky, flux; the numbers of rows were chosen by looking at the image
row = int(np.nanargmax(np.nanmedian(image.data, axis=1)))
trace = FitTrace(
    image,
    bins=32,
    guess=row,
    window=30,
    peak_method="gaussian",
    trace_model=Polynomial1D(2),
)
sky = Background.two_sided(image, trace, separation=130, width=80)
star = BoxcarExtract(sky.sub_image(image), trace, width=36)()
flux = star.flux / gain
variance = (star.uncertainty.array / gain.value) ** 2
x = np.arange(1, len(flux) + 1)
Table({"x": x, "flux": flux.value, "variance": variance}).write(
    table, format="ascii.csv", overwrite=True
)
