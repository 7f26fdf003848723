"""Where spectra of real nights are to be seen, read off the images before any rule found them.

By threshold where the procedure's finds them; the others by eye, on the mean and the median of
each row: where the light of the slit begins and ends.
"""

EXPECTED_ROWS = {
    "stonybrook-2017-10/L2-sci-hg-240": (45, 97),
    "stonybrook-2017-10/L2-sci-neon-1200": (30, 97),
    "toronto-2019-10/EnifSpec": (378, 420),
    "toronto-2019-10/NaviSpec": (234, 268),
    "toronto-2019-10/ScheatSpec": (350, 385),
    "toronto-2019-10/Vega": (214, 259),
}
"""First and last row of each target, FITS numbers; within 3 rows of these it counts as found."""
