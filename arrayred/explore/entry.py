"""What was settled on the page, as a night file takes it: `entry_text`."""

from __future__ import annotations

from arrayred.config.recipe import RowRange
from arrayred.config.toml import toml_text


def entry_text(name: str, rows: RowRange | None, sky_rows: RowRange | None) -> str:
    r"""Return the part of a night file that gives a target its rows.

    Parameters
    ----------
    name : the target's.
    rows, sky_rows : what was settled; None: it is left to arrayred, and only a comment.

    Examples
    --------
    >>> print(entry_text("59_Cyg", (484, 518), None))
    [targets."59_Cyg"]
    rows = [484, 518]
    # sky_rows are chosen
    <BLANKLINE>
    """
    lines = [f"[targets.{toml_text(name)}]"]
    lines += ["# rows are found" if rows is None else f"rows = {toml_text(rows)}"]
    lines += ["# sky_rows are chosen" if sky_rows is None else f"sky_rows = {toml_text(sky_rows)}"]
    return "\n".join(lines) + "\n"
