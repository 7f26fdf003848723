"""Read frames and write products; all FITS input and output is here.

FITS keywords appear here and in instrument files only.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
