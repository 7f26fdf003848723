"""The report of a night, and the index of many nights: pages without network or script.

A run writes an account of the night (`run`) beside the ledger. From these, the products and the raw
frames, as far as they exist, `pages` builds ``OUT/report.html``, and ``index.html`` of a folder of
many nights. Each is one file that needs no other, no network and (except the index, which sorts and
filters with a few lines of its own) no script. The HTML is written by the templates, which `render`
fills; every text of a header or a file name is escaped there.

*Why no matplotlib*: its figures are white on a dark page, their letters shrink with the screen, and
four of them take a second and 400 kB a target. Here an image is a small PNG, and the lines over it
or beside it are SVG between labels of HTML (`render`): 30 ms and 60 kB a target, in the page's own
colours, light or dark, at any width. The content (aperture, sky bands, grey levels) is decided by
`arrayred.plots`, so that page and figures agree.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)

VERSION = 3
"""Increased by hand whenever the page of a night changes: pages of another version are remade."""
