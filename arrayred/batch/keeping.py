"""A cache left behind by a reduction: `cache_quietly`."""

from __future__ import annotations

from arrayred.errors import ArrayredError
from arrayred.night import Night
from arrayred.night.night import Caching, cache_night


def cache_quietly(night: Night, caching: Caching) -> None:
    """Put a night into the library; what keeps it out is said, but the products are there.

    Parameters
    ----------
    night : opened from its files.
    caching : with the library, and whom to tell.
    """
    try:
        cache_night(night, caching.library)
    except ArrayredError as error:
        caching.say(f"no cache was made: {error}")
