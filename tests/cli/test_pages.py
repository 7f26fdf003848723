"""Every command, program and settings file on the README and in docs/ works as it is printed."""

from __future__ import annotations

import contextlib
import functools
import io
import re
import tomllib
from dataclasses import replace
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import click
import pytest

from arrayred.cli import COMMANDS, cli
from arrayred.io import write_frames
from arrayred.simulate import Detector, SimulatedNight
from tests.cli.conftest import Call
from tests.cli.pages import PAGES, ROOT, Block, blocks_of, expanded, missing_from

BLOCKS = {page: blocks_of(page.read_text("utf-8")) for page in PAGES}
LANGUAGES = {"sh", "python", "toml", "csv", "text"}
EACH_PAGE = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
ELSEWHERE = {"pip", "pytest", "python", "ruff", "mypy", "sphinx-build"}
"""Programs that pages name and that are none of ours."""
SPARED = {
    "README.md": ["no frame here is that bad", "it waits for a browser"],
    "accuracy.md": ["it takes minutes"],
    "comparison.md": ["it takes minutes", "it is a script", "it is a script"],
    "development.md": ["it takes minutes", "it is a drawing"],
    "explorer.md": ["it waits for a browser"] * 2,
    "many-nights.md": ["an example does it", "it needs an object store"],
    "promises.md": ["it takes minutes"],
    "speed.md": ["it takes minutes"],
    "reducing.md": ["the simulated star shines through no air"],
}
"""The blocks that are not run, and why: a page spares no other."""
INSTALLED = ["pip", "install", "."]
"""The one command within a block that is not run: the tests have done it."""


@EACH_PAGE
@pytest.mark.usefixtures("unpainted")
def test_a_page_works_as_it_is_printed(
    page: Path, arrayred: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    said, names = "", {"__name__": page.stem}
    for block in (block for block in BLOCKS[page] if not block.why_not):
        if block.language == "text":
            wrong = missing_from(block.text, said)
            assert wrong is None, f"{page.name}:{block.line} shows {wrong!r}, not in:\n{said}"
        else:
            said = ran(block, arrayred, names, f"{page.name}:{block.line}")
    made = {path.name for path in tmp_path.iterdir()}
    assert made <= ignored(made), "a page leaves files in a clone that .gitignore does not name"


def ignored(names: set[str]) -> set[str]:
    """Return those of some names that git ignores at the top of a clone."""
    lines = (ROOT / ".gitignore").read_text("utf-8").splitlines()
    patterns = [line.strip("/") for line in lines if line and not line.startswith("#")]
    return {name for name in names if any(fnmatch(name, pattern) for pattern in patterns)}


def ran(block: Block, arrayred: Call, names: dict[str, Any], where: str) -> str:
    """Run a block, and return what it printed."""
    if block.language in ("toml", "csv"):
        Path(block.name).write_text(block.text)
        return ""
    if block.language == "python":
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            exec(compile(block.text, where, "exec"), names)
        return printed.getvalue()
    commands = [words for words in block.commands if words != INSTALLED]
    told = [arrayred(*expanded(words)[1:]) for words in commands]
    assert all(t.code in (0, 4) for t in told), f"{where}: {told}"
    assert all((t.code == 4) == ("arrayred: error:" in t.err) for t in told)
    return "".join(t.out + t.err for t in told)


@pytest.mark.slow
def test_the_readme_works_on_a_real_night(barber: Path, arrayred: Call, tmp_path: Path) -> None:
    (tmp_path / "NIGHT").symlink_to(barber)
    for block in BLOCKS[ROOT / "README.md"]:
        if block.language == "sh" and "night.toml" in block.text:
            ran(block, arrayred, {}, f"README.md:{block.line}")
    (spectrum,) = Path("OUT/targets").glob("*/*_raw_extraction.txt")
    assert len(spectrum.read_text().splitlines()) == 1537


@EACH_PAGE
def test_every_block_says_what_it_is(page: Path) -> None:
    assert BLOCKS[page], f"{page.name} has no block"
    for block in BLOCKS[page]:
        assert block.language in LANGUAGES, f"{page.name}:{block.line}"
        assert bool(block.name) == (block.language in ("toml", "csv")), f"{page.name}:{block.line}"
    assert not re.search("^(    |\t)arrayred ", page.read_text("utf-8"), re.MULTILINE)


def test_no_block_is_spared_but_those_we_know_of() -> None:
    spared = {p.name: [b.why_not for b in blocks if b.why_not] for p, blocks in BLOCKS.items()}
    assert {name: reasons for name, reasons in spared.items() if reasons} == SPARED


def test_blocks_that_are_run_are_commands_of_ours() -> None:
    for page, blocks in BLOCKS.items():
        for block in (block for block in blocks if block.language == "sh"):
            programs = {words[0] for words in block.commands if words != INSTALLED}
            allowed = {"arrayred"} | (ELSEWHERE if block.why_not else set())
            assert programs <= allowed, f"{page.name}:{block.line}"


@EACH_PAGE
def test_every_option_on_a_page_exists(page: Path) -> None:
    known = {
        name
        for command in map(functools.partial(cli.get_command, click.Context(cli)), COMMANDS)
        for option in getattr(command, "params", ())
        if isinstance(option, click.Option)
        for name in (*option.opts, *option.secondary_opts)
    }
    prose = re.sub(r"(python -m|ruff|pip|sphinx-build) .*|<!--.*?-->", "", page.read_text("utf-8"))
    options = set(re.findall(r"(?<![\w|-])--[a-z][a-z-]+", prose))
    assert options <= known | {"--help", "--version", "--publish"}, options - known


@EACH_PAGE
def test_every_link_within_the_project_leads_somewhere(page: Path) -> None:
    links = re.findall(r"\]\(([^)#\s]*)#?([^)\s]*)\)", page.read_text("utf-8"))
    for place, heading in (link for link in links if "://" not in link[0]):
        there = page.parent / place if place else page
        assert there.exists(), f"{page.name}: {place}"
        assert not heading or heading in headings_of(there), f"{page.name}: #{heading}"


def headings_of(page: Path) -> set[str]:
    """Return the names by which a page's headings are linked to."""
    titles = re.findall(r"^#+ (.+)$", page.read_text("utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles}


def test_every_example_and_every_page_is_linked_from_the_readme() -> None:
    readme = (ROOT / "README.md").read_text("utf-8")
    for path in [*(ROOT / "examples").glob("[0-9]*.py"), *PAGES[1:]]:
        assert f"({path.relative_to(ROOT)}" in readme


def test_the_bad_night_of_the_readme_is_told_as_it_says(arrayred: Call) -> None:
    (shown,) = [block for block in BLOCKS[ROOT / "README.md"] if "bad" in block.why_not]
    (bad,) = SimulatedNight(Detector(shape=(40, 60)), n_darks=0, n_lights=1).frames()
    bad = replace(bad, name="hr-12.fit", cards={**bad.cards, "EXPTIME": "600,0"})
    write_frames([bad], Path("NIGHT"))
    told = arrayred("reduce", "NIGHT", "-o", "OUT")
    assert (told.code, told.err) == (4, shown.text)


def test_the_page_of_instruments_has_all_that_a_file_may_say() -> None:
    page = (ROOT / "docs" / "instruments.md").read_text("utf-8")
    generic = (ROOT / "arrayred" / "instruments" / "generic.toml").read_text("utf-8")
    tables = tomllib.loads(generic)
    for name in ("keywords", "types", "units"):
        assert all(f"`{key}`" in page for key in tables[name]), name


def test_the_readme_is_read_in_one_sitting() -> None:
    assert len((ROOT / "README.md").read_text("utf-8").splitlines()) <= 175


# The reader of pages itself


@pytest.mark.parametrize(
    ("shown", "missing"),
    [
        ("one\ntwo\n", None),
        ("two\nthree\n", None),
        ("one\n...\nthree\n", None),
        ("one\nthree\n", "three"),
        ("two\none\n", "one"),
        ("four\n", "four"),
    ],
)
def test_what_a_page_shows_must_be_printed_in_its_order(shown: str, missing: str | None) -> None:
    assert missing_from(shown, "one  \n\ntwo\nthree\n") == missing


def test_blocks_are_told_by_their_fences() -> None:
    text = "a\n<!-- not run: rain -->\n```sh\nls -l  # all\n```\nb\n```toml x.toml\na = 1\n```\n"
    first, second = blocks_of(text)
    assert (first.line, first.language, first.why_not) == (3, "sh", "rain")
    assert first.commands == [["ls", "-l"]]
    assert (second.language, second.name, second.text) == ("toml", "x.toml", "a = 1\n")


def test_words_are_expanded_as_a_shell_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("a-1.fit", "a-2.fit"):
        Path(name).touch()
    (block,) = blocks_of('```sh\nx a-*.fit "a-*.fit" b-* --object "59 Cyg" \\\n  y\n```\n')
    words = ["x", "a-1.fit", "a-2.fit", "a-*.fit", "b-*", "--object", "59 Cyg", "y"]
    assert expanded(block.commands[0]) == words
