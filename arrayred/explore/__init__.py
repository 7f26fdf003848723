"""A page in the browser on which one looks through a night and settles its rows.

What is computed knows no browser: what is looked at is a frozen `Look`, which bytes that needs is
`rolls`, which image and which spectrum `study`, which colours `display`, and what of it goes into
a night file `entry`. `page` and what it is made of (`figures`, `controls`) put that on a page, and
`server` serves the page on the loopback. Panel and Bokeh are imported by these alone.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
