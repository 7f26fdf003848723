"""Questions of ``arrayred reduce``: asked where somebody can answer, once, and nowhere else."""

from __future__ import annotations

import contextlib
import os
import re
import select
import shutil
import signal
import struct
import time
import tomllib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import IO, Any, Self

import pytest
from astropy.io import fits

from tests.cli import forked
from tests.cli.conftest import contents

DEADLINE = 30.0
_ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


class Terminal:
    """A command that runs on a pseudo-terminal, and what stands on its screen."""

    def __init__(
        self,
        *args: str,
        cwd: Path,
        columns: int = 200,
        stdin: IO[bytes] | None = None,
        stdout: IO[bytes] | None = None,
        patches: Mapping[str, object] | None = None,
        **env: str,
    ) -> None:
        termios = pytest.importorskip("termios")
        fcntl, pty = pytest.importorskip("fcntl"), pytest.importorskip("pty")
        self._ours, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("4H", 50, columns, 0, 0))
        unwanted = {"CI", "COLUMNS", "LINES", "NO_COLOR", "FORCE_COLOR"}
        kept = {name: value for name, value in os.environ.items() if name not in unwanted}
        streams = [stdin.fileno() if stdin else theirs, stdout.fileno() if stdout else theirs]
        self.process = forked.start(
            args, [*streams, theirs], cwd, {**kept, "TERM": "xterm", **env}, patches or {}
        )
        os.close(theirs)
        self.raw = ""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.join()
        os.close(self._ours)

    @property
    def screen(self) -> str:
        """What was shown, without colours and movements of the cursor."""
        return _ESCAPES.sub("", self.raw)

    def until(self, text: str) -> Self:
        """Read until a text stands on the screen since the last answer."""
        ends = time.monotonic() + DEADLINE
        while text not in self.screen:
            if time.monotonic() > ends or not self._read(ends - time.monotonic()):
                pytest.fail(f"{text!r} did not appear:\n{self.screen}")
        return self

    def answer(self, line: str) -> Self:
        """Type a line, and forget what was on the screen."""
        self.raw = ""
        os.write(self._ours, f"{line}\n".encode())
        return self

    def interrupted(self) -> int:
        """Send interrupts until one is heard, since none is before the command reads."""
        for _ in range(10):
            os.kill(self.process.pid, signal.SIGINT)
            if self._read(2.0):
                break
        return self.ended()

    def ended(self) -> int:
        """Read to the end and return the exit code."""
        ends = time.monotonic() + DEADLINE
        while self._read(max(ends - time.monotonic(), 0.0)):
            pass
        self.process.join(10.0)
        return int(self.process.exitcode)

    def _read(self, seconds: float) -> bool:
        if not select.select([self._ours], [], [], seconds)[0]:
            return False
        with contextlib.suppress(OSError):
            piece = os.read(self._ours, 65536)
            self.raw += piece.decode()
            return bool(piece)
        return False


COMMAND = ("reduce", "night", "-o", "out", "--no-figures", "--instrument", "barber20")
OBJECT, GRATING, GRATANG = "(OBJECT): ", "(GRATING): ", "(GRATANG): "
QUESTION = re.compile(r"\((OBJECT|GRATING|GRATANG)\)")
Start = Callable[..., Terminal]


@pytest.fixture
def nameless(night: Path) -> Path:
    """Return a night that says nothing of its star and its grating."""
    for path in night.glob("light*"):
        fits.delval(path, "OBJECT")
    return night


@pytest.fixture
def start(nameless: Path, tmp_path: Path) -> Iterator[Start]:
    """Return a function that starts the command on a terminal."""
    with contextlib.ExitStack() as running:

        def on_a_terminal(*options: str, **settings: Any) -> Terminal:
            return running.enter_context(Terminal(*COMMAND, *options, cwd=tmp_path, **settings))

        yield on_a_terminal


def header(tmp_path: Path, suffix: str = "combined") -> fits.Header:
    (path,) = (tmp_path / "out").glob(f"targets/*/*_{suffix}.fits")
    return fits.getheader(path)


def write_answers(tmp_path: Path, text: str) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "cards.toml").write_text(text)


def answers(tmp_path: Path) -> dict[str, Any]:
    return tomllib.loads((tmp_path / "out" / "cards.toml").read_text("utf-8"))


def test_each_missing_card_is_asked_for_once_and_reaches_every_product(
    start: Start, tmp_path: Path
) -> None:
    terminal = start().until(OBJECT).answer("59 Cyg").until(GRATING).answer("1200")
    assert terminal.until(GRATANG).answer("26.0 degrees").ended() == 0, terminal.screen
    assert not QUESTION.search(terminal.screen)
    for suffix in ("combined", "spectrum"):
        cards = header(tmp_path, suffix)
        assert (cards["OBJECT"], cards["GRATING"], cards["GRATANG"]) == ("59 Cyg", "1200", 26.0)


def test_answers_are_kept_and_a_rerun_asks_nothing_and_changes_nothing(
    start: Start, tmp_path: Path
) -> None:
    terminal = start().until(OBJECT).answer("59 Cyg").until(GRATING).answer("1200")
    assert terminal.until(GRATANG).answer("26").ended() == 0
    assert answers(tmp_path) == {
        "cards": {"GRATING": "1200", "GRATANG": 26.0},
        "targets": {"light-001-003": {"OBJECT": "59 Cyg"}},
    }
    before = contents(tmp_path / "out")
    for options in ((), ("--no-input",)):
        again = start(*options)
        assert again.ended() == 0
        assert not QUESTION.search(again.screen)
    assert contents(tmp_path / "out") == before


def test_answers_can_be_edited_as_the_file_says(start: Start, tmp_path: Path) -> None:
    text = '[cards]\nGRATING = "600"\nOBJECT = "any"\n[targets.light-001-003]\nGRATANG = 12.5\n'
    write_answers(tmp_path, text)
    terminal = start()
    assert terminal.ended() == 0, terminal.screen
    cards = header(tmp_path)
    assert (cards["OBJECT"], cards["GRATING"], cards["GRATANG"]) == ("any", "600", 12.5)
    assert (tmp_path / "out" / "cards.toml").read_text() == text


def test_only_what_is_missing_is_asked_for(start: Start, nameless: Path, tmp_path: Path) -> None:
    for path in nameless.glob("light*"):
        fits.setval(path, "OBJECT", value="59 Cyg")
        fits.setval(path, "GRATING", value="1200")
    terminal = start().until(GRATANG)
    assert len(QUESTION.findall(terminal.screen)) == 1
    assert terminal.answer("26").ended() == 0
    assert answers(tmp_path) == {"cards": {"GRATANG": 26.0}}


@pytest.mark.parametrize(("typed", "taken"), [("", "Ada & Eve"), ("Bob", "Bob")])
def test_what_some_frames_say_is_offered_as_the_answer(
    start: Start, nameless: Path, tmp_path: Path, typed: str, taken: str
) -> None:
    fits.setval(nameless / "light-002.fit", "OBSERVER", value="Ada & Eve")
    (tmp_path / "mine.toml").write_text('required = ["OBSERVER"]')
    terminal = start("--instrument", "mine.toml").until("OBSERVER [Ada & Eve]: ").answer(typed)
    assert terminal.ended() == 0, terminal.screen
    assert header(tmp_path)["OBSERVER"] == answers(tmp_path)["cards"]["OBSERVER"] == taken


def test_an_answer_of_nothing_is_no_answer(start: Start) -> None:
    terminal = start().until(OBJECT)
    for nothing in ("", " ", "\t "):
        terminal.answer(nothing).until(OBJECT)
    terminal.answer("59 Cyg").until(GRATING)


def test_what_is_no_angle_is_refused_and_asked_again(start: Start, tmp_path: Path) -> None:
    terminal = start("--object", "59 Cyg", "--grating", "1200").until(GRATANG)
    for bad in ("steep", "26,5", "nan", "1e999", "26 degrees north", "6°"):
        terminal.answer(bad).until("Error: ").until("not an angle in degrees").until(GRATANG)
    assert terminal.answer(" 26.5 deg").ended() == 0, terminal.screen
    assert header(tmp_path)["GRATANG"] == 26.5


def test_what_no_header_can_hold_is_refused_and_asked_again(start: Start, tmp_path: Path) -> None:
    options, awkward = ("--grating", "1200", "--grating-angle", "26"), 'Barnard\'s "star" \\ 7'
    terminal = start(*options).until(OBJECT)
    for bad in ("Mitä", "59 Cyg \u2019", "a\x1bb"):
        terminal.answer(bad).until("Error: ").until("printable ASCII").until(OBJECT)
    assert terminal.answer(awkward).ended() == 0, terminal.screen
    assert header(tmp_path)["OBJECT"] == awkward
    assert start(*options).ended() == 0


def test_several_targets_are_asked_for_by_name_and_share_the_other_cards(
    start: Start, nameless: Path, tmp_path: Path
) -> None:
    for i in (1, 2, 3):
        shutil.copy(nameless / f"light-00{i}.fit", nameless / f"light-01{i}.fit")
        fits.setval(nameless / f"light-01{i}.fit", "DATE-OBS", value=f"2024-03-09T21:0{i}:00")
    terminal = (
        start().until(f"Object name of light-001-003 {OBJECT}").answer("59 Cyg").until(GRATING)
    )
    terminal.answer("1200").until(GRATANG).answer("26")
    assert terminal.until(f"Object name of light-011-013 {OBJECT}").answer("Vega").ended() == 0
    assert not QUESTION.search(terminal.screen)
    found = [fits.getheader(path) for path in sorted((tmp_path / "out").rglob("*_combined.fits"))]
    assert [cards["OBJECT"] for cards in found] == ["59 Cyg", "Vega"]
    assert [cards["GRATANG"] for cards in found] == [26.0, 26.0]
    assert start("--no-input").ended() == 0


@pytest.mark.parametrize(
    ("options", "env"), [(("--no-input",), {}), ((), {"CI": "1"}), ((), {"CI": "true"})]
)
def test_nothing_is_asked_where_that_is_not_wanted_and_all_is_listed_at_once(
    start: Start, tmp_path: Path, options: tuple[str, ...], env: dict[str, str]
) -> None:
    terminal = start(*options, **env)
    assert terminal.ended() == 2
    (line,) = [line for line in terminal.screen.splitlines() if "error: " in line]
    for word in ("OBJECT", "GRATING", "GRATANG", "--object", "--grating", "--grating-angle"):
        assert re.search(rf"{word}\b", line)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("missing", ["stdin", "stdout"])
def test_nothing_is_asked_without_a_terminal_at_both_ends(
    start: Start, tmp_path: Path, missing: str
) -> None:
    with open(os.devnull, "r+b") as nothing:
        terminal = start(**{missing: nothing})
        assert terminal.ended() == 2
    assert "--grating-angle" in terminal.screen
    assert not (tmp_path / "out").exists()


def test_an_option_goes_before_an_answer_and_leaves_it_as_it_is(
    start: Start, tmp_path: Path
) -> None:
    text = '[cards]\nGRATING = "600"\nOBJECT = "any"\nGRATANG = 12.5\n'
    write_answers(tmp_path, text)
    assert start("--grating", "1200").ended() == 0
    assert (header(tmp_path)["GRATING"], header(tmp_path)["GRATANG"]) == ("1200", 12.5)
    assert (tmp_path / "out" / "cards.toml").read_text() == text


@pytest.mark.parametrize("n_answered", [0, 1])
def test_an_interrupt_at_a_question_ends_with_130_and_leaves_no_products(
    start: Start, tmp_path: Path, n_answered: int
) -> None:
    terminal = start().until(OBJECT)
    if n_answered:
        terminal.answer("59 Cyg").until(GRATING)
    assert terminal.interrupted() == 130
    assert "arrayred: interrupted" in terminal.screen
    assert "Traceback" not in terminal.screen
    assert not [path for path in (tmp_path / "out").rglob("*") if path.suffix != ".toml"]


def test_the_end_of_the_input_at_a_question_is_an_interrupt(start: Start, tmp_path: Path) -> None:
    assert start().until(OBJECT).answer("\x04").ended() == 130
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("text", ["[cards", "[cards]\nNAXIS = 3\n"])
def test_damaged_answers_are_named_before_anything_is_asked_or_written(
    start: Start, tmp_path: Path, text: str
) -> None:
    write_answers(tmp_path, text)
    terminal = start()
    assert terminal.ended() == 2
    (line,) = terminal.screen.strip().splitlines()
    assert re.match(r"arrayred: error: out/cards\.toml: .*\. [A-Z]", line)
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["cards.toml"]


def test_what_cannot_be_reduced_is_told_before_anything_is_asked(
    start: Start, nameless: Path
) -> None:
    (nameless / "light-002.fit").write_bytes(b"")
    terminal = start()
    assert terminal.ended() == 4
    assert not QUESTION.search(terminal.screen)


def test_blanks_that_are_allowed_are_no_answers(start: Start, tmp_path: Path) -> None:
    assert start("--allow-missing", "--no-input").ended() == 0
    cards = header(tmp_path)
    assert (cards["OBJECT"], cards["GRATING"], cards["GRATANG"]) == ("", "", "")
    assert not (tmp_path / "out" / "cards.toml").exists()
