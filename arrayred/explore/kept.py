"""What was made and may be wanted again: `Kept`."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable
from threading import RLock
from typing import Generic, TypeVar

T = TypeVar("T")


class Kept(Generic[T]):
    """Things of one kind by key, each made once, the ones used last being kept.

    Whoever wants one while another thread makes it waits for that.

    Parameters
    ----------
    most : how many are kept; None: all.

    Examples
    --------
    >>> kept = Kept[str](most=1)
    >>> kept.get("a", lambda: "made"), kept.get("a", lambda: "made again"), "a" in kept
    ('made', 'made', True)
    >>> kept.get("b", lambda: "other"), "a" in kept
    ('other', False)
    """

    def __init__(self, most: int | None = None) -> None:
        self._most = most
        self._things: OrderedDict[Hashable, T] = OrderedDict()
        self._lock = RLock()

    def __contains__(self, key: Hashable) -> bool:
        """Tell whether something is kept under a key."""
        return key in self._things

    def get(self, key: Hashable, make: Callable[[], T]) -> T:
        """Return what is kept under a key; it is made if nothing is."""
        with self._lock:
            if key not in self._things:
                self._things[key] = make()
                while self._most is not None and len(self._things) > self._most:
                    self._things.popitem(last=False)
            self._things.move_to_end(key)
            return self._things[key]
