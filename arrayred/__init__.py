"""Reduce nights of long-slit spectra, from raw CCD frames to spectra, and slice their pixels.

Importing this package imports nothing else: each public name is looked up when it is first used, in
the stub beside this file, which is their only list.

Examples
--------
>>> import arrayred as ar
>>> ar.Recipe(combine="median").n_sigma
4.0
"""

import lazy_loader

from arrayred._version import __version__ as __version__

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
