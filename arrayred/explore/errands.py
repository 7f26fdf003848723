"""What is to be made while people go on clicking: `Errands`.

Each is run in a thread, so that the page stays awake: frames can be looked through while others are
combined. One that is wanted again while it runs is run once more afterwards, for what is looked at
by then: a slider that is dragged over a thousand frames shows those that there is time for, and
always the last one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from functools import partial
from threading import Thread
from typing import Any, NamedTuple

import panel as pn
from bokeh.document import without_document_lock

from arrayred.errors import ArrayredError
from arrayred.explore.look import Look


class Errand(NamedTuple):
    """How something is made, and what becomes of it.

    Parameters
    ----------
    announce : is called before it is made.
    make : makes it, in a thread.
    put : puts it in its place on the page; an error of ours comes in the place of what failed.
    """

    announce: Callable[[Look], None]
    make: Callable[[Look], Any]
    put: Callable[[Look, Any], None]


class Errands:
    """The errands of one page.

    Parameters
    ----------
    known : by name.
    look : tells what is looked at now.
    """

    def __init__(self, known: Mapping[str, Errand], look: Callable[[], Look]) -> None:
        self._known, self._look = known, look
        self._wanted: set[str] = set()
        self._running: set[str] = set()

    def want(self, *names: str) -> None:
        """Note errands; each begins when it does not run already."""
        document = pn.state.curdoc
        for name in names if document is not None else ():
            self._wanted.add(name)
            if name not in self._running:
                self._running.add(name)
                run = partial(self._run, name, document)
                document.add_next_tick_callback(without_document_lock(run))

    async def _run(self, name: str, document: Any) -> None:
        errand = self._known[name]
        try:
            while name in self._wanted:
                self._wanted.discard(name)
                look = self._look()
                await _in_place(document, partial(errand.announce, look))
                made = await _in_thread(partial(errand.make, look))
                await _in_place(document, partial(errand.put, look, made))
        finally:
            self._running.discard(name)


async def _in_thread(make: Callable[[], Any]) -> Any:
    """Return what is made in a thread, or an error of ours.

    The thread is one that does not keep the process alive: whoever ends it need not wait until two
    thousand frames are combined.
    """
    loop = asyncio.get_running_loop()
    done = loop.create_future()

    def work() -> None:
        try:
            made = make()
        except ArrayredError as error:
            made = error
        except Exception as bug:
            loop.call_soon_threadsafe(done.set_exception, bug)
            return
        loop.call_soon_threadsafe(done.set_result, made)

    Thread(target=work, daemon=True).start()
    return await done


async def _in_place(document: Any, act: Callable[[], None]) -> None:
    """Let something change a page, and wait until it has."""
    done = asyncio.get_running_loop().create_future()

    def change() -> None:
        try:
            with pn.io.hold(document):  # all of it in one message: the page is laid out once
                act()
        finally:
            done.set_result(None)

    document.add_next_tick_callback(change)
    await done
