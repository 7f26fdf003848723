"""Nights from disk to disk: open, reduce, write; one target's failure is not another's.

Everything the headers can tell is checked first (`orders`), so that a night that cannot be reduced
says so, completely, before a pixel is read or a file written. Then its masters are made (`masters`)
and its targets, one after the other (`desk`); what is finished is not done again (`keys`, `shelf`).
Many nights are so many `jobs`, done one by one or in processes (`nights`, `crew`); one that is
finished is not even opened (`recall`); `summary` tells of each target in a line, and `reports` of
the night on a page. On a cluster of dask a night is one task: `cluster` and `connecting`, which are
not imported here, since most runs need neither.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
