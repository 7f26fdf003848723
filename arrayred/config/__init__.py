"""Read settings: recipes, instrument files and night files.

All are frozen dataclasses read from TOML; an unknown key is an error that names the nearest valid
one. Rows are FITS row numbers, both ends included, everywhere in settings.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
