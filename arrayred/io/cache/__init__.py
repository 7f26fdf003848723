"""A night as a zarr store: labelled cubes for whoever reads zarr, plain frames for arrayred.

::

    CACHE.zarr/zarr.json                             the tree, consolidated
    CACHE.zarr/raw/<type>/<group>/counts, exptime, time, header, ...
    CACHE.zarr/masters/<type>/<group>/...            masters that came with the frames
    CACHE.zarr/left_out/<number>/...                 frames of no group: duplicates, products
    CACHE.zarr/records.json                          each frame's file, SHA-256, cards, encoding
    CACHE.zarr/COMPLETE.json                         every file above with its size and SHA-256

`layout` says how an array is cut, `build` writes a store (through zarr), `check` decides whether
one is whole and harmless, `records` and `contents` make frames of it again, `shelf` reads pixels,
`library` keeps the caches of many nights below a size.

A cache is disposable, never a source of truth. It is worth its room where pixels cost something to
get at: compressed frames, slow disks. Plain frames on a local disk are read as fast as they can be.
"""
