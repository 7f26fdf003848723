"""The output folder of a night: what is put there, and what is finished: `Shelf`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import Future
from pathlib import Path
from typing import Any

from arrayred.batch.orders import Order
from arrayred.io.ledger import Entry, Examined, Ledger, products_of
from arrayred.io.publish import Content, publish, remove
from arrayred.watching import stage


class Shelf:
    """Where products are put.

    Parameters
    ----------
    order : the folder, and whether products of other content are replaced.
    ledger : its ledger.
    checksums : the sha256 of all inputs, on their way.

    Products of one name, such as ``targets/star``, are put one after the other and become finished
    together. Those that were finished and are damaged since are replaced without asking.
    """

    def __init__(self, order: Order, ledger: Ledger, checksums: Future[Examined]) -> None:
        self._order, self._ledger, self._checksums = order, ledger, checksums
        self._put: dict[str, str] = {}
        self._damaged: dict[str, dict[str, str]] = {}

    @property
    def examined(self) -> Examined:
        """Return the sha256 of all inputs, when they are there."""
        return self._checksums.result()

    def finished(self, name: str, key: Callable[[], str]) -> Entry | None:
        """Return the entry of what is finished and intact.

        Parameters
        ----------
        name : of the master or target.
        key : tells its key; asked only if there is an entry, since it waits for the checksums.
        """
        entry = None if self._order.force else self._ledger.read(name)
        if entry is None or entry.key != key():
            return None
        self._damaged[name] = self._ledger.damaged(entry)
        return None if self._damaged[name] else entry

    def damage(self, name: str) -> Mapping[str, str]:
        """Return the products that were finished, and what has happened to them since."""
        return self._damaged.get(name, {})

    @stage("write")
    def put(self, folder: str, files: Mapping[str, Content]) -> list[Path]:
        """Publish files in a folder; they count when their name is finished."""
        where = self._order.out / folder
        paths = {where / name: content for name, content in files.items()}
        may_replace = self._order.overwrite or self._order.force or self._is_ours(paths)
        publish(paths, overwrite=may_replace)
        self._put |= products_of(self._order.out, paths)
        return list(paths)

    def _is_ours(self, paths: Mapping[Path, Content]) -> bool:
        """Tell whether files are put again that were damaged since they were finished."""
        names = {path.relative_to(self._order.out).as_posix() for path in paths}
        return any(names & found.keys() for found in self._damaged.values())

    def finish(
        self,
        name: str,
        key: str,
        inputs: Mapping[Path, str],
        facts: Mapping[str, Any] | None = None,
    ) -> None:
        """Write the entry of what was put since the last one."""
        told = {str(path.absolute()): sha256 for path, sha256 in inputs.items()}
        entry = Entry(name, key, told, self._put, facts or {})
        publish(self._ledger.file_of(entry), overwrite=True)
        self._put = {}

    def drop(self) -> None:
        """Forget what was put and will not be finished."""
        self._put = {}

    def remove(self, folder: str, name: str) -> None:
        """Remove a product of an earlier run."""
        remove(self._order.out / folder / name)
