"""Pages written to output folders: `write_report`, `write_index`, `write_account`.

A page is a product: it appears whole or not at all, the ledger knows its sha256, and one that is
there already for the same night, by the same version of this package, is not made again.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from arrayred.io.ledger import (
    INDEX,
    INDEX_ENTRY,
    PAGE,
    PAGE_ENTRY,
    Entry,
    Ledger,
    is_of_one,
    products_of,
)
from arrayred.io.publish import STATE, publish, remove
from arrayred.report.account import Account, as_json
from arrayred.report.gather import ACCOUNT, Finished, gathered


def write_account(out: Path, account: Account) -> None:
    """Keep what a run knew of its night, for the page of it now or later."""
    publish({out / STATE / ACCOUNT: as_json(account)}, overwrite=True, durable=False)


def forget_report(out: Path) -> None:
    """Remove the page of a night whose products were made anew without one."""
    ledger = Ledger(out)
    if ledger.read(PAGE_ENTRY) is not None:
        remove(out / PAGE)
        ledger.forget(PAGE_ENTRY)


def write_report(out: Path, *, overwrite: bool = False, verify: bool = False) -> Path:
    """Make the page of a finished night, unless it is there.

    Parameters
    ----------
    out : the output folder.
    overwrite : replace a file of the page's name that is not ours, and make the page in any case.
    verify : hash the page that is there, and raw frames, whatever their stamps say.

    Returns
    -------
    path : of the page.

    Raises
    ------
    UsageError
        Nothing was finished there, or a file of somebody else has the page's name.
    StorageError
        It cannot be written.
    """
    ledger = Ledger(out, verify=verify)
    finished = gathered(out, ledger)
    entry = ledger.read(PAGE_ENTRY)
    if overwrite or entry is None or entry.key != finished.key or ledger.damaged(entry):
        _write(finished, ledger, may_replace=overwrite or entry is not None)
    ledger.hashes.save()
    return out / PAGE


def _write(finished: Finished, ledger: Ledger, *, may_replace: bool) -> None:
    from arrayred.report.night import night_page  # 40 ms, and most reruns need none

    made = night_page(finished)
    entry = Entry(PAGE_ENTRY, finished.key, facts=made.facts)
    _publish(ledger, PAGE, made.content, entry, may_replace)


def _publish(ledger: Ledger, name: str, content: bytes, entry: Entry, may_replace: bool) -> None:
    """Publish a page, then its entry."""
    files: dict[Path, Any] = {ledger.out / name: content}
    publish(files, overwrite=may_replace)
    whole = Entry(entry.name, entry.key, {}, products_of(ledger.out, files), entry.facts)
    publish(ledger.file_of(whole), overwrite=True)


def write_index(out: Path, *, overwrite: bool = False) -> Path:
    """Make the index of the nights in a folder.

    Parameters
    ----------
    out : the folder of the nights' output folders.
    overwrite : replace a file of the index's name that is not ours.

    Returns
    -------
    path : of the index.

    Raises
    ------
    UsageError
        There is no night, or a file of somebody else has the index's name.
    StorageError
        It cannot be written.
    """
    from arrayred.report.index import index_page

    ledger = Ledger(out)
    may_replace = overwrite or ledger.read(INDEX_ENTRY) is not None
    _publish(ledger, INDEX, index_page(out), Entry(INDEX_ENTRY, ""), may_replace)
    return out / INDEX


def is_night(out: Path) -> bool:
    """Tell whether a folder is the output folder of a night, of which all may have failed."""
    return is_of_one(out) or (out / STATE / ACCOUNT).is_file()


def nights_in(out: Path) -> list[Path]:
    """Return the output folders of nights that lie in a folder, sorted."""
    return sorted(path for path in out.iterdir() if path.is_dir() and is_night(path))
