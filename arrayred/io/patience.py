"""Reads that a network folder fails for a moment are tried again: `patiently`.

Which errors pass by themselves is a short list: a server that restarts (EIO, ETIMEDOUT, ENETDOWN),
a file that was moved to another one (ESTALE), a lease that another machine gives back (EAGAIN). All
others last, and are raised at once: waiting for a file that is not there helps nobody.

Waiting happens here, where a file is read, and not where a night is: what was done of the night
already is then not done again.
"""

from __future__ import annotations

import errno
import time
from collections.abc import Callable, Collection
from typing import TypeVar

from arrayred.errors import ArrayredError

Result = TypeVar("Result")
TRANSIENT = frozenset({errno.EIO, errno.ESTALE, errno.ETIMEDOUT, errno.EAGAIN, errno.ENETDOWN})
"""What may be gone a moment later."""
LASTING_HANDLE = TRANSIENT - {errno.ESTALE}
"""The same, of a file that is open: a stale handle stays stale, and the file is opened again."""
WAITS_S = (0.2, 1.0, 5.0)


def patiently(call: Callable[[], Result], errnos: Collection[int] = TRANSIENT) -> Result:
    """Call until it succeeds, a few times at most, as long as what it meets may pass by itself.

    Parameters
    ----------
    call : reads something; it may be called again after it failed.
    errnos : of the system's errors after which it is; an error of ours counts as its cause.

    Raises
    ------
    OSError, ArrayredError
        What the call met at last, or at once if that does not pass.

    Examples
    --------
    >>> patiently(lambda: 7)
    7
    """
    for seconds in WAITS_S:
        try:
            return call()
        except (OSError, ArrayredError) as error:
            cause = error.__cause__ if isinstance(error, ArrayredError) else error
            if not isinstance(cause, OSError) or cause.errno not in errnos:
                raise
        time.sleep(seconds)
    return call()
