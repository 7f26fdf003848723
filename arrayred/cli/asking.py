"""Ask for required cards that nobody gave, on a terminal and nowhere else."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from arrayred.io.header import Value
    from arrayred.io.ledger import Answers

QUESTIONS = {
    "OBJECT": "What does {target} show (OBJECT)",
    "GRATING": "Which grating was used (GRATING)",
    "GRATANG": "At which angle, in degrees (GRATANG)",
}


def may_ask(*, no_input: bool) -> bool:
    """Tell whether somebody is there to answer: a terminal, and neither CI nor --no-input."""
    return not no_input and not os.environ.get("CI") and sys.stdin.isatty() and sys.stdout.isatty()


def ask(missing: dict[str, dict[str, Value]], answers: Answers, out: Path) -> Answers:
    """Ask for each missing card once and save what was answered.

    Parameters
    ----------
    missing : for each target the keywords, each with what some of its frames say, or None.
    answers : what was answered before.
    out : the output folder.
    """
    from arrayred.io.ledger import save_answers

    for target, keywords in missing.items():
        for keyword, default in keywords.items():
            if keyword not in answers.cards_of(target):
                question = QUESTIONS.get(keyword, f"{{target}}: {keyword}").format(target=target)
                answers = answers.adding(target, keyword, _answer(keyword, question, default))
    save_answers(out, answers)
    return answers


def _answer(keyword: str, question: str, default: Value) -> Value:
    from arrayred.errors import ArrayredError
    from arrayred.io.products import checked_cards

    def checked(text: str) -> Value:
        if not text.strip():
            raise click.BadParameter("An answer is needed.")
        try:
            return checked_cards({keyword: text.strip()})[keyword]
        except ArrayredError as error:
            raise click.BadParameter(str(error)) from error

    shown = None if default in (None, "") else str(default)
    answer: Value = click.prompt(question, default=shown, value_proc=checked)
    return answer
