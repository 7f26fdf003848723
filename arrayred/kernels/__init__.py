"""Arithmetic on plain arrays: arrays in, arrays out, one thread, numpy alone.

Every number that reaches a product is computed here, so that it cannot depend on how the work is
cut into bands, on the number of threads, or on which optional accelerators of xarray are installed.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
