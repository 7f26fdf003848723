"""The page, served on the loopback to whoever knows its address: `serve`.

Other users of the machine can reach the loopback too, so that the page lies under a path nobody can
guess, and nothing lists it; a page from elsewhere in the same browser cannot open its socket, whose
origin must be this host and port. Everything comes from here: it works without a network.
"""

from __future__ import annotations

import secrets
import socket
from collections.abc import Callable
from typing import Any

import panel as pn
from panel.io.server import get_server

from arrayred.errors import ArrayredError, ResourceError
from arrayred.explore.page import Page
from arrayred.explore.study import Study
from arrayred.explore.text import told

HOST = "127.0.0.1"
_TRIES = 5


def serve(study: Study, port: int = 0, *, announce: Callable[[str], None]) -> None:
    """Serve the page until it is interrupted.

    Parameters
    ----------
    study : what is looked at.
    port : on which; 0: any that is free.
    announce : is called with the address of the page once it can be opened.

    Raises
    ------
    ResourceError
        The port is taken.
    """
    token = secrets.token_urlsafe(18)
    server = _server(study, port, token)
    server.start()
    try:
        announce(f"http://{HOST}:{server.port}/{token}")
        server.io_loop.start()
    finally:
        server.stop()


def _server(study: Study, port: int, token: str) -> Any:
    """Return a server on a port; where any will do, one that is free."""
    for left in reversed(range(_TRIES)):
        try:
            return _bound(study, port or _free_port(), token)
        except OSError as error:
            if port or not left:
                raise ResourceError(
                    f"Port {port} of {HOST} cannot be used ({error.strerror})",
                    keyword="port",
                    value=port,
                    hint="Give another with --port, or none.",
                ) from error
    raise AssertionError("unreachable")


def _bound(study: Study, port: int, token: str) -> Any:
    title = f"{study.title} - arrayred"

    def app() -> Any:
        try:
            page = Page(study)
        except ArrayredError as error:
            return pn.pane.HTML(told(str(error), is_error=True))
        pn.state.onload(page.begin)
        return page.layout()

    return get_server(
        {f"/{token}": app},
        port=port,
        address=HOST,
        websocket_origin=f"{HOST}:{port}",
        title={f"/{token}": title},
        use_index=False,
        redirect_root=False,
        location=False,
    )


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])
