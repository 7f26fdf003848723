"""How far dask is with what it computes, told to whoever watches: `told`."""

from __future__ import annotations

from collections.abc import Mapping, Sized
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any

from arrayred.model import COUNTS
from arrayred.watching import is_watched, progressed

if TYPE_CHECKING:
    import xarray as xr

_STATES = ("finished", "running", "ready", "waiting")


def told(cube: xr.Dataset) -> AbstractContextManager[object]:
    """Return what lets dask tell of its tasks while it computes something of a cube.

    Nothing where the cube is eager or nobody watches; a cluster's tasks are not heard of.
    """
    if cube[COUNTS].chunks is None or not is_watched():
        return nullcontext()
    from dask.callbacks import Callback

    within: AbstractContextManager[object] = Callback(posttask=_heard)
    return within


def _heard(_key: Any, _result: Any, _dsk: Any, state: Mapping[str, Sized], _worker: Any) -> None:
    """Hear that a task is done."""
    progressed(len(state["finished"]), sum(len(state[name]) for name in _STATES))
