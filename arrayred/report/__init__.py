"""The report of a night, and the index of many: pages to look at, without network or script.

A reduction leaves an account of the night (`account`) beside the ledger. From these, the products
and the raw frames, as far as they are there, `pages` builds ``OUT/report.html``, and ``index.html``
of a folder of many nights. Each is one file that needs no other, no network and (the index apart,
which sorts and filters by a few lines of its own) no script.

*Why no matplotlib*: its figures are white by night, their letters shrink with the screen, and four
of them take a second and 400 kB a target. Here a picture is a small PNG, and what is drawn over it
or beside it is SVG between labels of HTML (`charts`): 30 ms and 60 kB a target, in the page's own
colours, by day or night, at any width. What is drawn (aperture, bands, greys) is decided by
`arrayred.plots`, so that page and figures agree.

*Why no template engine*: texts come from headers that others wrote, so there must be one place that
escapes. `html.tag` is that place, in forty lines; a template would be a second language with its
own ways around it.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)

VERSION = 1
"""Raised by hand whenever a page of the same night changes: pages of another one are made anew."""
