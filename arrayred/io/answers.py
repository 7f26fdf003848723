"""Cards that were given at a prompt, kept beside the products so that a rerun asks nothing.

``OUT/cards.toml`` is meant to be read and edited: ``[cards]`` for all targets, ``[targets.NAME]``
for one.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from arrayred.config.toml import toml_text
from arrayred.errors import UsageError
from arrayred.io.card import Value
from arrayred.io.product_header import checked_cards
from arrayred.io.publish import publish

FILE = "cards.toml"
_HEAD = "# Cards that nobody else gives. Edit them, or delete this file to be asked again.\n"
_PER_TARGET = ("OBJECT",)


@dataclass(frozen=True)
class Answers:
    """Cards for all targets, and further ones by target."""

    cards: Mapping[str, Value] = field(default_factory=dict)
    targets: Mapping[str, Mapping[str, Value]] = field(default_factory=dict)

    def cards_of(self, target: str) -> dict[str, Value]:
        """Return the cards for one target."""
        return {**self.cards, **self.targets.get(target, {})}

    def adding(self, target: str, keyword: str, value: Value) -> Answers:
        """Return the answers with one more: an OBJECT for its target, other cards for all."""
        if keyword in _PER_TARGET:
            own = {**self.targets.get(target, {}), keyword: value}
            return Answers(self.cards, {**self.targets, target: own})
        return Answers({**self.cards, keyword: value}, self.targets)


def load_answers(out: Path) -> Answers:
    """Return what was answered before, or nothing.

    Raises
    ------
    UsageError
        The file cannot be understood.
    """
    path = out / FILE
    if not path.is_file():
        return Answers()
    try:
        tables = tomllib.loads(path.read_text("utf-8"))
        if unknown := sorted(set(tables) - {"cards", "targets"}):
            raise ValueError(f"{unknown[0]!r} is neither 'cards' nor 'targets'")
        named = {name: checked_cards(cards) for name, cards in tables.get("targets", {}).items()}
        return Answers(checked_cards(tables.get("cards", {})), named)
    except UsageError as error:
        error.path, error.hint = str(path), error.hint or "Mend or delete it."
        raise
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise UsageError(
            f"The file is no table of cards ({error})", path=path, hint="Mend or delete it."
        ) from error


def save_answers(out: Path, answers: Answers) -> None:
    """Write the answers beside the products."""
    lines = [_HEAD, "[cards]", *_pairs(answers.cards)]
    for name, cards in answers.targets.items():
        lines += ["", f"[targets.{toml_text(name)}]", *_pairs(cards)]
    publish({out / FILE: "\n".join([*lines, ""]).encode()}, overwrite=True)


def _pairs(cards: Mapping[str, Value]) -> list[str]:
    return [f"{keyword} = {toml_text(value)}" for keyword, value in cards.items()]
