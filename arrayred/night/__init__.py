"""A night: its frames, which of them belong together, and which dark serves which lights.

Headers decide here, nothing is computed. `records` reads a folder's headers, `groups` says which
frames are of one kind and what they are called, `planning` what will be done with them.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
