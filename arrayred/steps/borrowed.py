"""What is borrowed from ccdproc, L.A.Cosmic and the mask of bad pixels: `ccdproc_for`.

It comes with an extra, since it brings scipy and scikit-image along and takes a second to import.
"""

from __future__ import annotations

from typing import Any

from arrayred.errors import UsageError


def ccdproc_for(what: str) -> Any:
    """Return the module ccdproc, imported now.

    Parameters
    ----------
    what : what needs it, as the beginning of a sentence.

    Raises
    ------
    UsageError
        It is not installed.
    """
    try:
        import ccdproc
    except ModuleNotFoundError as error:
        raise UsageError(
            f"{what} needs {error.name}, which is not installed",
            hint="pip install 'arrayred[ccdproc]', or do without.",
        ) from error
    return ccdproc
