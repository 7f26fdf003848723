"""The README and the pages of docs/ that are written by hand, as blocks that a test can run.

A block is what stands between two fences. Its language says what becomes of it: ``sh`` is run,
``python`` too, ``toml NAME`` and ``csv NAME`` are written to a file of that name, and ``text`` is
what the block before it prints, where a line ``...`` stands for any number of lines. A comment in
the line above, ``<!-- not run: WHY -->``, spares a block.
"""

from __future__ import annotations

import itertools
import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGES = [
    ROOT / "README.md",
    *sorted(path for path in (ROOT / "docs").glob("*.md") if path.stem not in ("index", "api")),
]

_FENCE = re.compile(
    r"(?:^<!-- not run: (?P<why>[^\n]*) -->\n)?"
    r"^```(?P<language>\w*) *(?P<name>[^\n]*)\n(?P<text>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)


@dataclass(frozen=True)
class Block:
    """A block of a page: where it stands, what it is, and why it is not run, if it is not."""

    line: int
    language: str
    name: str
    text: str
    why_not: str

    @property
    def commands(self) -> list[list[str]]:
        """Return the words of each command, without what explains it; ``&&`` parts commands."""
        joined = self.text.replace("\\\n", " ")
        return [words for line in joined.splitlines() for words in _commands(line) if words]


def blocks_of(text: str) -> list[Block]:
    """Return the blocks of a page's text in their order."""
    return [
        Block(
            text.count("\n", 0, found.start("language")) + 1,
            *(found[part] for part in ("language", "name", "text")),
            found["why"] or "",
        )
        for found in _FENCE.finditer(text)
    ]


def expanded(words: list[str]) -> list[str]:
    """Return words as a shell hands them on: globs as the files they match, quotes dropped."""
    return list(_expanded(words))


def missing_from(shown: str, printed: str) -> str | None:
    """Return the first line that a page shows and that was not printed where it should be.

    Lines follow each other as they are shown, but for those that ``...`` leaves out.
    """
    lines = iter([line.rstrip() for line in printed.splitlines() if line.strip()])
    may_skip = True
    for line in (line.rstrip() for line in shown.splitlines() if line.strip()):
        if line.strip() == "...":
            may_skip = True
            continue
        found = next((other for other in lines if not may_skip or other == line), None)
        if found != line:
            return line
        may_skip = False
    return None


def _commands(line: str) -> Iterator[list[str]]:
    """Yield the words of each command of a line."""
    for is_join, words in itertools.groupby(_words(line), "&&".__eq__):
        if not is_join:
            yield list(words)


def _words(line: str) -> list[str]:
    """Return the words of a line with their quotes; what follows a ``#`` explains."""
    lexer = shlex.shlex(line, posix=False, punctuation_chars="")
    lexer.whitespace_split, lexer.commenters = True, "#"
    return list(lexer)


def _expanded(words: list[str]) -> Iterator[str]:
    for word in words:
        plain = "".join(shlex.split(word))
        matched = sorted(map(str, Path().glob(plain))) if plain == word else []
        yield from matched if set(word) & set("*?[") and matched else [plain]
