"""Whether an output folder is one night's or many nights': `require_of_one`, `require_of_many`.

One night's products lie in its folder itself, those of many in a folder each. Mixed in one folder
they would look like one night's, and a summary that knows half of them like the whole.
"""

from __future__ import annotations

from pathlib import Path

from arrayred.errors import UsageError, printable
from arrayred.io.ledger import DONE
from arrayred.io.lock import STATE

SUMMARY = "summary.ecsv"
"""What became of many nights, beside their folders."""
PAGE, PAGE_ENTRY = "report.html", "report/night"
"""The page of a night, in its folder, and the name under which the ledger keeps it."""
INDEX, INDEX_ENTRY = "index.html", "report/index"
"""The page of many nights, beside their folders, and its name in the ledger."""
_OF_ONE = ("masters", "targets", f"{PAGE_ENTRY}.json")
"""What the ledger of one night has; that of many nights knows their index."""


def require_of_one(out: Path) -> None:
    """Raise UsageError if a folder holds the products of many nights."""
    if is_of_many(out) and not is_of_one(out):
        raise UsageError(
            "This folder holds the products of many nights, each in a folder of its own",
            path=out,
            hint=f"Name one of those folders, such as {_first_in(out)}, or another one.",
        )


def require_of_many(out: Path) -> None:
    """Raise UsageError if a folder holds the products of one night."""
    if is_of_one(out) and not is_of_many(out):
        raise UsageError(
            "This folder holds the products of a single night",
            path=out,
            hint="Choose another folder for many nights: each gets a folder of its own there.",
        )


def is_of_one(out: Path) -> bool:
    """Tell whether something of a single night was finished in a folder."""
    return any((out / STATE / DONE / name).exists() for name in _OF_ONE)


def is_of_many(out: Path) -> bool:
    """Tell whether many nights were reduced to a folder."""
    return (out / STATE).is_dir() and (out / SUMMARY).is_file()


def _first_in(out: Path) -> str:
    """Return the first folder of a night, or what one is called."""
    nights = sorted(path for path in out.iterdir() if is_of_one(path))
    return printable(str(nights[0] if nights else out / "NIGHT"))
