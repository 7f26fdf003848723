"""From frames to spectra, without a file being written: the reduction and its parts.

`reduction` is the page to read first.
"""

from arrayred.pipeline.extraction import median_snr
from arrayred.pipeline.images import (
    bad_pixels,
    calibrate,
    cleaning,
    combine_frames,
    combine_target,
    in_units,
)
from arrayred.pipeline.masters import make_flat, make_master
from arrayred.pipeline.reading import Reading, settle
from arrayred.pipeline.reduction import reduce_night, reduce_target
from arrayred.pipeline.spectra import (
    cut_arc,
    extract_each,
    extract_spectrum,
    numbered,
    recipe_for,
    rows_of,
    rows_to_extract,
)

__all__ = [
    "Reading",
    "bad_pixels",
    "calibrate",
    "cleaning",
    "combine_frames",
    "combine_target",
    "cut_arc",
    "extract_each",
    "extract_spectrum",
    "in_units",
    "make_flat",
    "make_master",
    "median_snr",
    "numbered",
    "recipe_for",
    "reduce_night",
    "reduce_target",
    "rows_of",
    "rows_to_extract",
    "settle",
]
