"""Draw figures of frames, images, spectra and nights; each function returns a matplotlib `Figure`.

They take the results of `open_product`, `reduce_night`, `open_night` and the steps, draw them in
the style of a paper, and leave the state of matplotlib alone: no pyplot, settings of the user are
ignored, and the bytes of a figure depend on its numbers alone. `png` and `svg` return a figure as
the content of a file. Importing this package does not import matplotlib.

=============================  ==================================================================
`image`, `frame`, `cube`       pixels, with aperture, sky and flags where a spectrum is given
`profile`, `rows`              the spatial profile with the detection; statistics of the rows
`arc`                          the lamps of a target, their identified lines, and the residuals
`trace`                        the centres of the star along the columns, and the fit residuals
`spectrum`, `compare`          one spectrum with its noise, several beside each other
`noise`, `frames`              S/N per pixel; spectra frame by frame, and their light curve
`night`, `drift`               the frames of a night in time; quantities in time
`pixel_history`                one pixel through all frames
`quick_look`, `search_look`    a target on one sheet, with a spectrum, or with none found
`png`, `svg`                   a figure as the content of a file
=============================  ==================================================================
"""

from arrayred.plots import figures
from arrayred.plots.paper import drawn, png, svg

arc = drawn(figures.arc)
compare = drawn(figures.compare)
cube = drawn(figures.cube)
frame = drawn(figures.frame)
image = drawn(figures.image)
noise = drawn(figures.noise)
profile = drawn(figures.profile)
quick_look = drawn(figures.quick_look)
rows = drawn(figures.rows)
search_look = drawn(figures.search_look)
spectrum = drawn(figures.spectrum)
trace = drawn(figures.trace)
drift = drawn(figures.drift)
frames = drawn(figures.frames)
night = drawn(figures.night)
pixel_history = drawn(figures.pixel_history)

__all__ = [
    "arc",
    "compare",
    "cube",
    "drift",
    "frame",
    "frames",
    "image",
    "night",
    "noise",
    "pixel_history",
    "png",
    "profile",
    "quick_look",
    "rows",
    "search_look",
    "spectrum",
    "svg",
    "trace",
]
