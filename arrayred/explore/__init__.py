"""A page in the browser for viewing the frames of a night and choosing the rows of its spectra.

What is computed does not depend on a browser: `data` holds the current view (a frozen `View`),
reads the bytes that it needs (`GroupReader`), and makes its image and spectrum (`ExplorerModel`);
it saves the chosen rows and reduces with them (`Choices`), and names the lines of a lamp
(`LampLines`). `figures` draws them, and reduces an image to the brightness levels of its visible
part, and the page of a finished night (`write_interactive`); `app` is the page with its controls,
and the server on the loopback. Panel and Bokeh are imported by `app` and `figures` alone.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
