"""The steps of the reduction: a Dataset in, a new Dataset out, one step a file.

A step takes plain values, never a Recipe, and knows nothing of files. Steps on cubes are lazy where
the cube is; steps on images need computed ones.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
