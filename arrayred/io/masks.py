"""Bad pixels from a file: `read_mask`."""

from __future__ import annotations

from os import PathLike
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from arrayred.io.folders import find_image
from arrayred.io.spool import plain
from arrayred.io.stack import FrameStack


def read_mask(path: str | PathLike[str]) -> NDArray[np.bool_]:
    """Return which pixels (y, x) of a FITS image are not 0; NaN counts as bad.

    Raises
    ------
    FrameError, HeaderError
        The file is not there, or holds no image that can be read.
    """
    image = find_image(Path(path))
    return np.asarray(FrameStack([plain(image)])[0, :, :] != 0)
