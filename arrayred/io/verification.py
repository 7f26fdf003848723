"""Whether what lies in an output folder is what was finished there, and of what: `verify`.

Every entry of the ledger names the sha256 of its inputs and of its products. Here each of those
files is hashed anew, whatever its stamp says, each once even if many entries name it. Nothing is
written.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from arrayred.errors import FrameError, UsageError
from arrayred.io.cache.contents import cache_around, sums_of
from arrayred.io.hashes import sha256_of
from arrayred.io.ledger import DONE, Entry, Ledger
from arrayred.io.lock import STATE
from arrayred.io.remote.address import Address, located
from arrayred.io.remote.files import sum_of

_BRANCHES = ("masters", "targets")


@dataclass(frozen=True)
class Verdict:
    """What became of one finished master or target.

    Parameters
    ----------
    entry : what was noted when it was finished.
    products, inputs : those that are not as they were, each with what they are: "missing",
        "changed", or why they cannot be read.
    """

    entry: Entry
    products: Mapping[str, str]
    inputs: Mapping[str, str]


@dataclass(frozen=True)
class Verification:
    """What is known of one output folder.

    Parameters
    ----------
    out : the folder.
    verdicts : of each entry, in the order of their names.
    unreadable : files of the ledger that make no sense.
    unknown : files among the products that no entry knows.
    """

    out: Path
    verdicts: tuple[Verdict, ...]
    unreadable: tuple[Path, ...] = ()
    unknown: tuple[Path, ...] = ()

    @property
    def is_intact(self) -> bool:
        """Whether every input and product is as it was."""
        return not self.unreadable and not any(v.products or v.inputs for v in self.verdicts)


def verify(path: Path) -> Iterator[Verification]:
    """Hash everything that was finished in a folder, or what belongs to one product.

    Parameters
    ----------
    path : an output folder, one of many nights', or a product.

    Yields
    ------
    verification : of each output folder; of a product, of the entry that knows it alone.

    Raises
    ------
    UsageError
        There is no such file or folder, nothing was finished there, or no entry knows the product.
    """
    if path.is_dir():
        folders = list(_outputs(path))
        if not folders:
            raise UsageError(
                "Nothing was finished here", path=path, hint="Name an output folder of arrayred."
            )
        for out in folders:
            yield _of_folder(out)
    elif os.path.lexists(path):
        yield _of_product(path)
    else:
        raise UsageError(
            "There is no such file or folder", path=path, hint="Name an output folder or a product."
        )


def _outputs(folder: Path) -> Iterator[Path]:
    """Yield the folders, from one down, that have a ledger."""
    for where, below, _ in os.walk(folder):
        if STATE in below and (Path(where) / STATE / DONE).is_dir():
            yield Path(where)
        below[:] = sorted(name for name in below if name != STATE)


def _of_folder(out: Path) -> Verification:
    ledger = Ledger(out)
    entries, unreadable = [], []
    for path in ledger.files():
        entry = ledger.read(path.relative_to(out / STATE / DONE).with_suffix("").as_posix())
        if entry is None or ledger.path_of(entry) != path:
            unreadable.append(path)
        else:
            entries.append(entry)
    known = {name for entry in entries for name in entry.products}
    there = (path for branch in _BRANCHES for path in _files(out / branch))
    unknown = [path for path in there if path.relative_to(out).as_posix() not in known]
    return Verification(out, _verdicts(entries, out), tuple(unreadable), tuple(sorted(unknown)))


def _of_product(path: Path) -> Verification:
    where = path.absolute()
    for out in where.parents:
        if (out / STATE / DONE).is_dir():
            name = where.relative_to(out).as_posix()
            found = [entry for entry in Ledger(out).entries() if name in entry.products]
            if found:
                return Verification(out, _verdicts(found, out))
            break
    raise UsageError(
        "This is no product that is known to have been finished",
        path=path,
        hint="Name a product or an output folder; --explain tells a product's own story.",
    )


def _files(folder: Path) -> Iterator[Path]:
    for where, _, names in os.walk(folder):
        yield from (Path(where, name) for name in names)


def _verdicts(entries: list[Entry], out: Path) -> tuple[Verdict, ...]:
    hashed: dict[Path, str] = {}
    return tuple(_verdict(entry, out, hashed) for entry in entries)


def _verdict(entry: Entry, out: Path, hashed: dict[Path, str]) -> Verdict:
    products = {name: _state(out / name, told, hashed) for name, told in entry.products.items()}
    inputs = {name: _state(located(name), told, hashed) for name, told in entry.inputs.items()}
    return Verdict(
        entry,
        {name: state for name, state in products.items() if state},
        {name: state for name, state in inputs.items() if state},
    )


def _sums(path: Path) -> dict[Path, str]:
    """Return the sha256 of a file; of a frame in a cache, what the whole cache vouches for.

    Raises
    ------
    FileNotFoundError
        There is neither such a file nor such a frame.
    FrameError
        The cache is damaged.
    """
    cache = cache_around(path)
    if cache is None:
        return {path: sum_of(path) if isinstance(path, Address) else sha256_of(path)[0]}
    known = sums_of(cache)
    if path not in known:
        raise FileNotFoundError(path)
    return known


def _state(path: Path, sha256: str, hashed: dict[Path, str]) -> str:
    """Return what has happened to a file, or ""."""
    try:
        if path not in hashed:
            hashed |= _sums(path)
    except FileNotFoundError:
        return "missing"
    except FrameError as error:
        return str(error)
    except OSError as error:
        return error.strerror or str(error)
    return "" if hashed[path] == sha256 else "changed"
