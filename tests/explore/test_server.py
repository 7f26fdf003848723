"""The page is for whoever started it: on the loopback, under an address nobody can guess."""

from __future__ import annotations

import http.client
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.explore.conftest import served

SOCKET = {
    "Connection": "Upgrade",
    "Upgrade": "websocket",
    "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
}


@pytest.fixture(scope="module")
def address(hostile: Path) -> Iterator[str]:
    with served(hostile) as (url, _):
        yield url


def answer(url: str, path: str, headers: dict[str, str] | None = None) -> int:
    """Return the status of an answer."""
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=20)
    connection.request("GET", path, headers=headers or {})
    status = connection.getresponse().status
    connection.close()
    return status


def test_the_address_is_of_the_loopback_and_hard_to_guess(address: str) -> None:
    parts = urlsplit(address)
    assert parts.hostname == "127.0.0.1"
    assert len(parts.path) > 20


def test_only_the_whole_address_is_answered(address: str) -> None:
    path = urlsplit(address).path
    assert answer(address, path) == 200
    assert [answer(address, other) for other in ("/", path[:-1], "/page", "/ws")] == [404] * 4


def raw_status(address: str, path: str, *lines: str) -> int:
    """Return the status that is answered to a request of exactly these header lines."""
    parts = urlsplit(address)
    with socket.create_connection((parts.hostname or "", parts.port or 0), timeout=20) as there:
        there.sendall("\r\n".join([f"GET {path} HTTP/1.1", *lines, "", ""]).encode())
        return int(there.makefile("rb").readline().split()[1])


def test_pages_from_elsewhere_cannot_open_the_socket(address: str) -> None:
    parts = urlsplit(address)
    own, elsewhere = f"http://{parts.netloc}", "http://evil.example"
    lines = [f"Host: {parts.netloc}", *(f"{name}: {value}" for name, value in SOCKET.items())]
    for origins in (
        *([elsewhere], [f"http://localhost:{parts.port}"], ["http://127.0.0.1:1"], ["null"]),
        *([], [own, elsewhere], [elsewhere, own], [f"https://{parts.netloc}"], [own + ".evil"]),
    ):
        told = [f"Origin: {origin}" for origin in origins]
        assert raw_status(address, f"{parts.path}/ws", *lines, *told) == 403, origins
    assert raw_status(address, f"{parts.path}/ws", *lines, "Sec-WebSocket-Origin: x") == 403
    assert raw_status(address, f"{parts.path}/ws", *lines, f"Origin: {own}") == 101


def test_another_host_is_refused_whatever_leads_here(address: str) -> None:
    """A name whose address is changed to the loopback makes a page elsewhere the page's own."""
    parts = urlsplit(address)
    assert raw_status(address, parts.path, f"Host: {parts.netloc}") == 200
    for host in ("evil.example", f"evil.example:{parts.port}", "127.0.0.1", "127.0.0.1:1", ""):
        for path in (parts.path, f"{parts.path}/ws", "/static/js/bokeh.min.js"):
            assert raw_status(address, path, f"Host: {host}") in (400, 403), (host, path)
    twice = (f"Host: {parts.netloc}", "Host: evil.example")
    assert raw_status(address, parts.path, *twice) in (400, 403)
    assert raw_status(address, parts.path) in (400, 403)
    forwarded = ("Host: evil.example", f"X-Forwarded-Host: {parts.netloc}")
    assert raw_status(address, parts.path, *forwarded) == 403


def test_nobody_listens_beyond_the_loopback(address: str) -> None:
    port = urlsplit(address).port
    listening = Path("/proc/net/tcp")
    if not listening.exists():
        pytest.skip("there is no /proc/net/tcp")
    sockets = (line.split()[1:4] for line in listening.read_text().splitlines()[1:])
    bound = [local for local, _, state in sockets if state == "0A" and local[-4:] == f"{port:04X}"]
    assert bound == [f"0100007F:{port:04X}"]


def test_an_interrupt_ends_it_without_a_word(hostile: Path) -> None:
    with served(hostile) as (_, process):
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=20)
    assert (process.returncode, err) == (0, "")
    assert "Traceback" not in out


def test_a_port_that_is_taken_is_said(hostile: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = str(other.getsockname()[1])
        command = [sys.executable, "-m", "arrayred", "explore", hostile, "--no-browser", "--port"]
        done = subprocess.run([*command, port], capture_output=True, text=True, check=False)
    assert done.returncode == 7
    assert f"Port {port}" in done.stderr


def test_without_panel_the_extra_is_named(hostile: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from arrayred.cli import cli
    from arrayred.errors import UsageError

    monkeypatch.setitem(sys.modules, "panel", None)
    monkeypatch.delitem(sys.modules, "arrayred.explore.app", raising=False)
    with pytest.raises(UsageError, match=r"arrayred\[explore\]"):
        cli.main(["explore", str(hostile), "--no-browser"], standalone_mode=False)


def test_the_browser_is_led_there_by_a_file_that_nobody_else_reads(
    hostile: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from arrayred.cli import cli

    address, opened = "http://127.0.0.1:1/secret", list[str]()

    def told(door: str) -> None:
        path = Path(door.removeprefix("file://"))
        assert address in path.read_text()
        assert path.parent.stat().st_mode & 0o077 == 0
        opened.append(door)

    monkeypatch.setattr("webbrowser.open", told)
    serve = "arrayred.explore.app.serve_page"
    monkeypatch.setattr(serve, lambda *_, announce: announce(address))
    cli.main(["explore", str(hostile)], standalone_mode=False)
    assert len(opened) == 1
    assert "secret" not in opened[0]


@pytest.mark.parametrize("named", [False, True])
def test_the_page_reduces_with_the_options_it_was_started_with(
    named: bool, hostile: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from arrayred.cli import cli
    from arrayred.explore import ExplorerModel

    shown: list[ExplorerModel] = []
    monkeypatch.setattr(
        "arrayred.explore.app.serve_page", lambda model, *_, **__: shown.append(model)
    )
    file = tmp_path / "mine.toml"
    file.write_text("[recipe]\nn_sigma = 3.0\n")
    given = ["--night-file", str(file)] if named else []
    options = ["--exclude", "*-003*", "--no-sky", "--memory", "1G", "--depth", "2"]
    words = ["explore", hostile, "-o", tmp_path / "out", *given, *options, "--port", "5006"]
    cli.main([*map(str, words)], standalone_mode=False)
    assert shown[0].choices is not None
    command = shown[0].choices.command.words(hostile, "Vega")
    assert command[:4] == ["reduce", str(hostile), "-o", str(tmp_path / "out")]
    assert command[-2:] == ["--target", "Vega"]
    rest = command[4:-2]
    told = ["--exclude", "*-003*", "--no-sky", "--memory", str(1 << 30), "--depth", "2"]
    assert sorted(rest) == sorted([*told, *given])
