"""Organise a night: its frames, their groups, and the calibration frames of each target.

Decisions are made from headers, and where these are silent or wrong from samples of pixels; no
image is computed. `night` reads the headers of a folder, `groups` groups and names the frames,
`match` chooses the biases, darks and flats that calibrate them, `plan` decides what will be done.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
