"""Figures of frames, images, spectra and nights: each function gives a matplotlib `Figure`.

They take what `open_product`, `reduce_night`, `open_night` and the steps give, draw it as a paper
would, and leave the state of matplotlib alone: no pyplot, whatever a user has set does not count,
and the bytes of a figure depend on its numbers alone. `png` and `svg` make files of them;
`thumbnail` and `sparkline` are so small and fast that an index shows thousands of them, and need no
matplotlib. Importing this package does not import it either.

=============================  ==================================================================
`image`, `frame`, `cube`       pixels, with aperture, sky and flags where a spectrum is given
`profile`, `rows`              the means of the rows, and what was found among them
`trace`                        the row of the star's light, and what the fit leaves
`spectrum`, `compare`          one spectrum with its noise, several beside each other
`noise`, `frames`              signal to noise; spectra frame by frame, and their light curve
`night`, `drift`               the frames of a night in time; quantities in time
`pixel_history`                one pixel through all frames
`quick_look`, `search_look`    the picture of a target, in which a spectrum was found, or none
`png`, `svg`                   a figure as bytes, or as text for a page
`thumbnail`, `sparkline`       tiny ones, as PNG bytes and SVG text
=============================  ==================================================================
"""

from arrayred.plots import figures, nights
from arrayred.plots.images import sparkline, svg, thumbnail
from arrayred.plots.paper import drawn, png

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
drift = drawn(nights.drift)
frames = drawn(nights.frames)
night = drawn(nights.night)
pixel_history = drawn(nights.pixel_history)

__all__ = [
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
    "sparkline",
    "spectrum",
    "svg",
    "thumbnail",
    "trace",
]
