"""Record what was made in an output folder, of what and how: `Ledger`, `verify_outputs`.

All that is recorded of a night is one file, its manifest: what each master and target was made of
(`Entry`), what the run found and did (the account of the report), how to recognise that nothing is
left to do, and the stamps of files whose sha256 is known. Resuming, verifying, the report and the
summary read that file and no other.

The manifest is published again when a master or target is finished, after its products: a product
without its entry does not count. An entry holds the key of the work (of its inputs' content, its
settings, and the version of the algorithm) and each product's sha256; work is up to date if its key
is the same and its products are intact. So a run that was killed anywhere resumes where it stopped,
and repeating a complete run does nothing.

It is one file and not one an entry: a rerun that finds a night finished reads one instead of five,
and no reader finds half of a run. Writing it whole takes 0.1 ms for a night of 8 frames, 10 ms for
one of 393, and its sync 6 ms, as that of any file.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import astuple, dataclass, field, replace
from functools import partial
from pathlib import Path, PurePosixPath
from threading import Event
from typing import IO, Any

from arrayred.config.toml import open_plain_file, toml_lines, toml_text
from arrayred.errors import ArrayredError, FrameError, UsageError, printable
from arrayred.io.frames import Frame
from arrayred.io.header import Value, ones_complement_sum
from arrayred.io.pixels import copied_file
from arrayred.io.products import checked_cards
from arrayred.io.publish import STATE_FOLDER, Content, publish
from arrayred.io.remote import Address, Stamp, path_or_address, sha256_of_remote
from arrayred.io.scan import (
    CachedPixels,
    ImageHDU,
    data_size,
    datasum_of,
    require_datasum,
    retry,
    unreadable,
)
from arrayred.progress import progressed, stage

ALGORITHM = 6
"""Version of the algorithm, raised by hand whenever the numbers of any product can change."""
LOG_FILE = "arrayred.log"
"""The log of what was run, beside the products."""
MANIFEST = "manifest.json"
"""The record of a night, in the state folder."""
_SCHEMA = 2
_SECTIONS = ("made", "account", "finished", "stamps")


@dataclass(frozen=True)
class Entry:
    """One finished master or target.

    Parameters
    ----------
    name : folder of its products, as ``masters/dark_600s`` or ``targets/hr8047``.
    key : hash of inputs, settings and algorithm; see `fingerprint`.
    inputs : sha256 of each input, by path.
    products : sha256 of each product, by path relative to the output folder.
    facts : further values, to be reported again without reading a product.
    """

    name: str
    key: str
    inputs: Mapping[str, str] = field(default_factory=dict)
    products: Mapping[str, str] = field(default_factory=dict)
    facts: Mapping[str, Any] = field(default_factory=dict)


_ENTRY_VALUES = ("key", "inputs", "products", "facts")


def products_of(out: Path, files: Mapping[Path, Content]) -> dict[str, str]:
    """Return the sha256 of files to be published, by path relative to the output folder."""
    return {
        path.relative_to(out).as_posix(): hashlib.sha256(content).hexdigest()
        for path, content in files.items()
    }


def fingerprint(inputs: Mapping[str, list[str]], settings: Mapping[str, Any]) -> str:
    """Return the key of a master or target, which changes with inputs, settings and algorithm.

    Parameters
    ----------
    inputs : sha256 of the files in each role.
    settings : everything else that the products depend on; numbers, strings, lists, mappings.
    """
    work = {"algorithm": ALGORITHM, "inputs": inputs, "settings": settings}
    text = json.dumps(work, sort_keys=True, default=str, separators=(",", ":"))
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


class Ledger:
    """The manifest of an output folder.

    It is read when the ledger is made, and again before each change, so that no other change is
    lost.

    Parameters
    ----------
    out : the output folder.
    verify : hash each product before it counts as intact, even if its stamp is unchanged.

    Attributes
    ----------
    hashes : the sha256 of files that have not changed; written with the next entry, or by `save`.
    is_damaged : the manifest, or an entry of it, cannot be read; it counts as if it were not there.

    Raises
    ------
    UsageError
        The folder has the record of another version of arrayred.
    """

    def __init__(self, out: Path, *, verify: bool = False) -> None:
        self.out = out
        self._sections: dict[str, Mapping[str, Any]]
        self._sections, self.is_damaged = _read_manifest(out)
        self.hashes = Hashes(known=self._sections["stamps"], trust=not verify)

    def read(self, name: str) -> Entry | None:
        """Return the entry of a name; None if missing or unreadable."""
        return _entry_of(name, self._sections["made"].get(name))

    def entries(self) -> Iterator[Entry]:
        """Yield every entry, in the order of their names."""
        for name in sorted(self._sections["made"]):
            entry = self.read(name)
            if entry is not None:
                yield entry

    @property
    def account(self) -> Mapping[str, Any]:
        """Return what the last run found and did, for the report; empty if there was none."""
        return self._sections["account"]

    @property
    def finished(self) -> Mapping[str, Any]:
        """Return the state in which every target of the night was finished; empty if none was."""
        return self._sections["finished"]

    def damaged(self, entry: Entry) -> dict[str, str]:
        """Return the products of an entry that are missing or changed, each with its state."""
        found = {}
        for name, sha256 in entry.products.items():
            try:
                if self.hashes.of(self.out / name) != sha256:
                    found[name] = "changed"
            except OSError as error:
                found[name] = "missing" if isinstance(error, FileNotFoundError) else str(error)
        return found

    def finish(self, entry: Entry) -> None:
        """Write an entry, after its products."""
        values = {name: getattr(entry, name) for name in _ENTRY_VALUES}
        self._write(made={**self._reread()["made"], entry.name: values})

    def forget(self, name: str) -> None:
        """Remove the entry of a name, so that its products are made again."""
        made = dict(self._reread()["made"])
        if made.pop(name, None) is not None:
            self._write(made=made)

    def close_run(self, account: Mapping[str, Any], finished: Mapping[str, Any]) -> None:
        """Write what a run found and did, and, if every target is finished, how to know that."""
        self._reread()
        self._write(account=account, finished=finished)

    def save(self) -> None:
        """Write the known sha256, if any are new."""
        if self.hashes.is_new:
            self._reread()
            self._write()

    def _reread(self) -> dict[str, Mapping[str, Any]]:
        self._sections, self.is_damaged = _read_manifest(self.out)
        return self._sections

    def _write(self, **sections: Mapping[str, Any]) -> None:
        """Publish the manifest with these sections, and the known sha256."""
        self.hashes.is_new = False
        stamps = {**self._sections["stamps"], **self.hashes.stamps}
        self._sections = {**self._sections, **sections, "stamps": stamps}
        publish({_manifest_path(self.out): _manifest_text(self._sections)}, overwrite=True)


def _manifest_path(out: Path) -> Path:
    return out / STATE_FOLDER / MANIFEST


def has_manifest(out: Path) -> bool:
    """Return whether anything was recorded in an output folder, by any version of arrayred."""
    return _manifest_path(out).is_file() or _has_old_record(out)


def _has_old_record(out: Path) -> bool:
    return (out / STATE_FOLDER / "done").is_dir()


def _read_manifest(out: Path) -> tuple[dict[str, Mapping[str, Any]], bool]:
    """Return the sections of the manifest of a folder, empty ones if there is none.

    Returns
    -------
    sections, is_damaged : whether the file, or an entry of it, is unreadable.
    """
    path = _manifest_path(out)
    try:
        whole = json.loads(path.read_bytes())
    except (FileNotFoundError, NotADirectoryError):
        if _has_old_record(out):
            raise _other_version_error(out) from None
        return {name: {} for name in _SECTIONS}, False
    except (OSError, ValueError):
        whole = None
    if isinstance(whole, dict) and isinstance(whole.get("schema"), int):
        if whole["schema"] != _SCHEMA:
            raise _other_version_error(out)
    else:
        whole = {"schema": None}
    sections = {name: whole.get(name) for name in _SECTIONS}
    whole_ones = {name: part for name, part in sections.items() if isinstance(part, dict)}
    made = whole_ones.get("made", {})
    is_damaged = len(whole_ones) < len(sections) or any(
        _entry_of(name, values) is None for name, values in made.items()
    )
    return {name: whole_ones.get(name, {}) for name in _SECTIONS}, is_damaged


def _other_version_error(out: Path) -> UsageError:
    return UsageError(
        "The products here were written by another version of arrayred",
        path=out,
        hint="Use that version, choose another output folder, or remove "
        f"{printable(str(out / STATE_FOLDER))} and use --overwrite to make all products again.",
    )


def _entry_of(name: str, values: Any) -> Entry | None:
    with suppress(ValueError, KeyError, TypeError, AttributeError):
        products = {_safe_product_name(path): sha for path, sha in values["products"].items()}
        return Entry(name, values["key"], dict(values["inputs"]), products, dict(values["facts"]))
    return None


def _safe_product_name(name: str) -> str:
    """Return a product's name; raise ValueError for one that leads out of its folder."""
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts:
        raise ValueError(name)
    return name


def _manifest_text(sections: Mapping[str, Mapping[str, Any]]) -> bytes:
    """Return a manifest as JSON, with an item of a section a line."""
    texts = [f'"schema": {_SCHEMA}']
    for name in _SECTIONS:
        section = sections[name]
        lines = (f"{json.dumps(key)}: {_json_text(section[key])}" for key in sorted(section))
        texts.append(f'"{name}": {{\n' + ",\n".join(lines) + "\n}")
    return ("{" + ",\n".join(texts) + "}\n").encode("ascii")


def _json_text(value: Any) -> str:
    return json.dumps(value, sort_keys=True, default=_plain_value)


def _plain_value(value: Any) -> Any:
    """Return a number of numpy as Python's, and anything else, such as a path, as text."""
    return value.item() if hasattr(value, "item") else str(value)


# Saved sha256 of files that have not changed since they were hashed: `Hashes`.
#
# A file counts as unchanged by its stamp: size, times of change, inode. This includes the change
# time of the inode, which cannot be set back: a copy that preserves the times, or ``touch -r``, is
# detected. And a file is only trusted if it was hashed more than two seconds after its last change
# (git's rule for racily clean files): clocks tick coarsely, and a second change within one tick
# would leave the same stamp. Where no sha256 is saved, or on request, files are hashed.

HASHES_FILE = "hashes.json"
"""Saved sha256 in a folder of caches; those of an output folder are in its manifest."""
_COARSE_NS = 2_000_000_000


class Hashes:
    """The known sha256 of files.

    Parameters
    ----------
    folder : where they are saved; read at once if it exists. None: they are not saved here.
    known : stamps and sha256 by path that are known before.
    trust : use the saved values of unchanged files; else every file is hashed once more.

    Attributes
    ----------
    stamps : the stamp, the time of the note, ns, and the sha256 of each file, by path.
    is_new : whether any was added.
    """

    def __init__(
        self,
        folder: Path | None = None,
        *,
        known: Mapping[str, list[Any]] | None = None,
        trust: bool = True,
    ) -> None:
        self._folder = folder
        self.stamps = dict(known or {})
        self.is_new = False
        self.trust = trust
        if folder is not None:
            with suppress(OSError, ValueError):
                read = json.loads((folder / HASHES_FILE).read_bytes())
                if isinstance(read, dict):
                    self.stamps = read

    def known(self, path: Path) -> str | None:
        """Return the sha256 of an unchanged file, or None."""
        path = path_or_address(path)
        entry = self.stamps.get(str(path.absolute())) if self.trust else None
        if entry is None:
            return None
        if isinstance(path, Address):
            return str(entry[-1]) if entry[:-1] == _remote_stamp(path) else None
        with suppress(OSError, ValueError, TypeError):
            *stamp, noted, sha256 = entry
            if stamp == _stamp_values(os.stat(path)) and noted - max(stamp[1:3]) > _COARSE_NS:
                return str(sha256)
        return None

    def note(self, path: Path, sha256: str, status: os.stat_result | None = None) -> None:
        """Record the sha256 of a file.

        Parameters
        ----------
        path : the file.
        sha256 : of its content.
        status : of the file, from before it was read; None for a file behind a URL, which is
            identified by its store: without a time or tag from there it is not recorded.
        """
        if isinstance(path, Address):
            self._note_remote(path, sha256)
            return
        if status is None:
            return
        self.stamps[str(path.absolute())] = [*_stamp_values(status), time.time_ns(), sha256]
        self.is_new = True

    def _note_remote(self, address: Address, sha256: str) -> None:
        from arrayred.io.remote import is_listed

        stamp = _remote_stamp(address) if is_listed(address) else []  # not of a frame in a cache
        if stamp and self.stamps.get(str(address)) != [*stamp, sha256]:
            self.stamps[str(address)] = [*stamp, sha256]
            self.is_new = True

    def of(self, path: Path) -> str:
        """Return the sha256 of a file, known or else computed and recorded.

        Raises
        ------
        OSError
            The file cannot be read.
        FrameError
            The file is behind a URL, and its store does not return it.
        """
        path = path_or_address(path)
        known = self.known(path)
        if known is not None:
            return known
        if isinstance(path, Address):
            from arrayred.io.remote import sha256_of_remote

            sha256 = sha256_of_remote(path)
            self._note_remote(path, sha256)
            return sha256
        sha256, status = retry(partial(sha256_of, path))
        self.note(path, sha256, status)
        return sha256

    def save(self) -> None:
        """Write the known sha256 into the folder, if any are new."""
        if self.is_new and self._folder is not None:
            content = (json.dumps(self.stamps, indent=0, sort_keys=True) + "\n").encode()
            publish({self._folder / HASHES_FILE: content}, overwrite=True, durable=False)
            self.is_new = False


def sha256_of(path: Path) -> tuple[str, os.stat_result]:
    """Return the sha256 of a file, and its status from before it was read.

    Raises
    ------
    OSError
        It cannot be read, or is not a regular file.
    """
    with open_plain_file(path) as file:
        status = os.fstat(file.fileno())
        return hashlib.file_digest(file, "sha256").hexdigest(), status


def _remote_stamp(address: Address) -> list[Any]:
    """Return the stamp of a file behind a URL; [] where its store gives neither time nor tag."""
    from arrayred.io.remote import is_identified, stamp_of

    stamp = stamp_of(address)
    return [*astuple(stamp)] if is_identified(stamp) else []


def _stamp_values(status: os.stat_result) -> list[int]:
    return [status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino]


# SHA-256 of every input, with its DATASUM (if any) verified in the same read: `examine`.
#
# Every product names its inputs' sha256, so each file is read whole anyway, beside the reduction.
# The 32-bit sum of the image's data (FITS Standard 4.0, 4.4.2.7) is computed on the way: a flipped
# bit is then an error with the file's name. For a tile-compressed image it is the sum of the
# compressed table; the content of a gzip file is protected by gzip's own checksum.
#
# CHECKSUM, the sum of header and data, is not compared: correcting a card with an editor leaves it
# wrong, and such a frame is as good as before.

Examined = Mapping[Path, str | ArrayredError]
"""The sha256 of files by path, or the error why a file must not be used."""

_HASHED_PIECE = 1 << 18


def examine(
    frames: Iterable[Frame], hashes: Hashes | None = None, stop: Event | None = None
) -> Examined:
    """Return the sha256 of every frame's file, or the error where its data are damaged.

    Parameters
    ----------
    frames : whose files are read.
    hashes : known sha256 of unchanged files, which are not read. Without `trust` a cache is not
        trusted either: all of it is compared with its checksums.
    stop : once it is set, the remaining frames are skipped.
    """
    images = {frame.path: frame.image for frame in frames}
    is_trusted = hashes is None or hashes.trust
    damaged = {} if is_trusted else _damaged_caches(images.values())
    return {
        path: damaged.get(image.source.cached) or _sha256_or_error(image, hashes)
        for path, image in images.items()
        if stop is None or not stop.is_set()
    }


def _damaged_caches(images: Iterable[ImageHDU]) -> dict[CachedPixels | None, ArrayredError]:
    """Return the errors of frames in damaged caches, by the frame's reader."""
    from arrayred.io.cache import cached_checksums

    caches: dict[Path, list[CachedPixels]] = {}
    for cached in (image.source.cached for image in images):
        if cached is not None:
            caches.setdefault(cached.array.cache, []).append(cached)
    found: dict[CachedPixels | None, ArrayredError] = {}
    for cache, frames in caches.items():
        try:
            cached_checksums(cache)
        except ArrayredError as error:
            found |= dict.fromkeys(frames, error)
    return found


def required_checksums(examined: Examined, frames: Iterable[Frame]) -> dict[Path, str]:
    """Return the sha256 of some frames' files.

    Raises
    ------
    FrameError
        The data of one are damaged, or it could not be read.
    """
    sums = {}
    for frame in frames:
        found = examined[frame.path]
        if isinstance(found, ArrayredError):
            raise found
        sums[frame.path] = found
    return sums


def _sha256_or_error(image: ImageHDU, hashes: Hashes | None) -> str | ArrayredError:
    path = image.source.path
    if image.source.cached is not None:
        if hashes is not None and isinstance(path, Address):
            hashes.note(path, image.source.cached.sha256)
        return image.source.cached.sha256
    try:
        known = None if hashes is None else hashes.known(path)
        if isinstance(path, Address):
            return known or _sha256_of_copy(image, hashes)
        if known is not None:
            image.source.require_unchanged(path.stat())
            return known
        return retry(partial(_verified_sha256, image, hashes))
    except ArrayredError as error:
        return error
    except OSError as error:
        return unreadable(path, error)


def _sha256_of_copy(image: ImageHDU, hashes: Hashes | None) -> str:
    """Return the sha256 of a file behind a URL, after comparing its copy with DATASUM."""
    path, sha256 = copied_file(image)
    near = replace(image.source, path=path, stamp=Stamp.of(path.stat()))
    try:
        _verified_sha256(replace(image, source=near), None)
    except ArrayredError as error:
        error.path = str(image.source.path)
        raise
    if hashes is not None:
        hashes.note(image.source.path, sha256)
    return sha256


def _verified_sha256(image: ImageHDU, hashes: Hashes | None) -> str:
    """Return the sha256 of a file; raise FrameError if its data do not agree with DATASUM."""
    told, path, first = datasum_of(image), image.source.path, image.source.offset
    with path.open("rb") as file:
        status = os.fstat(file.fileno())
        image.source.require_unchanged(status)
        if told is None:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        else:
            digest, total = _hash_and_datasum(file, first, first + data_size(image.header))
            require_datasum(path, total, told)
    if hashes is not None:
        hashes.note(path, digest, status)
    return digest


def _hash_and_datasum(file: IO[bytes], first: int, stop: int) -> tuple[str, int]:
    """Return the sha256 of a file, and the 32-bit sum of its bytes first..stop (missing ones 0)."""
    digest, total, position = hashlib.sha256(), 0, 0
    while piece := file.read(_HASHED_PIECE):
        digest.update(piece)
        inside = piece[max(first - position, 0) : max(stop - position, 0)]
        total = ones_complement_sum(inside + bytes(-len(inside) % 4), total)
        position += len(piece)
    return digest.hexdigest(), total


# Verification of the products and inputs of an output folder: `verify_outputs`.
#
# Every entry of the ledger has the sha256 of its inputs and of its products. Here each of those
# files is hashed again, regardless of its stamp, each once even if many entries name it. Nothing is
# written.

_OUTPUT_BRANCHES = ("masters", "targets")


@dataclass(frozen=True)
class EntryCheck:
    """Verification of one finished master or target.

    Parameters
    ----------
    entry : its ledger entry.
    products, inputs : files that are not unchanged, each with its state: "missing", "changed", or
        the reason why it cannot be read.
    """

    entry: Entry
    products: Mapping[str, str]
    inputs: Mapping[str, str]


@dataclass(frozen=True)
class Verification:
    """Verification of one output folder.

    Parameters
    ----------
    out : the folder.
    verdicts : the check of each entry, in the order of their names.
    unreadable : the manifest, if it or an entry of it is damaged.
    unknown : files among the products that are in no entry.
    """

    out: Path
    verdicts: tuple[EntryCheck, ...]
    unreadable: tuple[Path, ...] = ()
    unknown: tuple[Path, ...] = ()

    @property
    def is_intact(self) -> bool:
        """Return whether every input and product is unchanged."""
        return not self.unreadable and not any(v.products or v.inputs for v in self.verdicts)


def verify_outputs(path: Path) -> Iterator[Verification]:
    """Hash all products and inputs of a folder, or those of one product's entry.

    Parameters
    ----------
    path : an output folder, of one or many nights, or a product.

    Yields
    ------
    verification : of each output folder; for a product, of its entry only.

    Raises
    ------
    UsageError
        There is no such file or folder, nothing was finished there, or the product is in no entry.
    """
    if path.is_dir():
        folders = list(output_folders(path))
        if not folders:
            raise UsageError(
                "No finished products found here",
                path=path,
                hint="Name an output folder of arrayred.",
            )
        for out in folders:
            yield _verify_folder(out)
    elif os.path.lexists(path):
        yield _verify_product(path)
    else:
        raise UsageError(
            "No such file or folder", path=path, hint="Name an output folder or a product."
        )


def output_folders(folder: Path) -> Iterator[Path]:
    """Yield the output folders of nights, from one down: those that have a ledger."""
    for where, below, _ in os.walk(folder):
        if STATE_FOLDER in below and has_manifest(Path(where)):
            yield Path(where)
        below[:] = sorted(name for name in below if name != STATE_FOLDER)


def _verify_folder(out: Path) -> Verification:
    ledger = Ledger(out)
    entries = list(ledger.entries())
    unreadable = (_manifest_path(out),) if ledger.is_damaged else ()
    known = {name for entry in entries for name in entry.products}
    there = (path for branch in _OUTPUT_BRANCHES for path in _files_below(out / branch))
    unknown = [path for path in there if path.relative_to(out).as_posix() not in known]
    return Verification(out, _check_entries(entries, out), unreadable, tuple(sorted(unknown)))


def _verify_product(path: Path) -> Verification:
    where = path.absolute()
    if path.name == LOG_FILE:
        raise UsageError(
            "This is the log of the runs, which changes with every run",
            path=path,
            hint="Name a product or an output folder.",
        )
    for out in where.parents:
        if has_manifest(out):
            name = where.relative_to(out).as_posix()
            found = [entry for entry in Ledger(out).entries() if name in entry.products]
            if found:
                return Verification(out, _check_entries(found, out))
            break
    raise UsageError(
        "This is not a finished product of arrayred",
        path=path,
        hint="Name a product or an output folder; --explain shows the history of a product.",
    )


def _files_below(folder: Path) -> Iterator[Path]:
    for where, _, names in os.walk(folder):
        yield from (Path(where, name) for name in names)


def _check_entries(entries: list[Entry], out: Path) -> tuple[EntryCheck, ...]:
    hashed: dict[Path, str] = {}
    verdicts = []
    with stage("hashing"):
        for done, entry in enumerate(entries, 1):
            verdicts.append(_check_entry(entry, out, hashed))
            progressed(done, len(entries))
    return tuple(verdicts)


def _check_entry(entry: Entry, out: Path, hashed: dict[Path, str]) -> EntryCheck:
    products = {
        name: _state_of_file(out / name, told, hashed) for name, told in entry.products.items()
    }
    inputs = {
        name: _state_of_file(path_or_address(name), told, hashed)
        for name, told in entry.inputs.items()
    }
    return EntryCheck(
        entry,
        {name: state for name, state in products.items() if state},
        {name: state for name, state in inputs.items() if state},
    )


def _checksums_at(path: Path) -> dict[Path, str]:
    """Return the sha256 of a file by path; for a frame in a cache, those of all its frames.

    Raises
    ------
    FileNotFoundError
        There is neither such a file nor such a frame.
    FrameError
        The cache is damaged.
    """
    from arrayred.io.cache import cached_checksums, enclosing_cache

    cache = enclosing_cache(path)
    if cache is None:
        return {path: sha256_of_remote(path) if isinstance(path, Address) else sha256_of(path)[0]}
    known = cached_checksums(cache)
    if path not in known:
        raise FileNotFoundError(path)
    return known


def _state_of_file(path: Path, sha256: str, hashed: dict[Path, str]) -> str:
    """Return the state of a file: "missing", "changed" or an error; "" if unchanged."""
    try:
        if path not in hashed:
            hashed |= _checksums_at(path)
    except FileNotFoundError:
        return "missing"
    except FrameError as error:
        return str(error)
    except OSError as error:
        return error.strerror or str(error)
    return "" if hashed[path] == sha256 else "changed"


# Output folders of one night or of many: `require_single_night`, `require_many_nights`.
#
# One night's products lie in its folder itself, those of many in a folder each. Mixed in one
# folder they would look like one night's, and a summary of half of them like a complete one.

SUMMARY = "summary.ecsv"
"""The summary of many nights, beside their folders."""
PAGE, PAGE_ENTRY = "report.html", "report/night"
"""The report of a night, in its folder, and the name of its ledger entry."""
INDEX, INDEX_ENTRY = "index.html", "report/index"
"""The report of many nights, beside their folders, and the name of its ledger entry."""


def require_single_night(out: Path) -> None:
    """Raise UsageError if a folder holds the products of many nights."""
    if holds_many_nights(out) and not holds_single_night(out):
        raise UsageError(
            "This folder contains many nights, each in a folder of its own",
            path=out,
            hint=f"Name one of those folders, such as {_first_night_folder(out)}, or another one.",
        )


def require_many_nights(out: Path) -> None:
    """Raise UsageError if a folder holds the products of one night."""
    if holds_single_night(out) and not holds_many_nights(out):
        raise UsageError(
            "This folder contains the products of a single night",
            path=out,
            hint="Choose another folder for many nights; each gets a subfolder.",
        )


def holds_single_night(out: Path) -> bool:
    """Return whether products of a single night were finished in a folder."""
    return any(entry.name != INDEX_ENTRY for entry in Ledger(out).entries())


def holds_many_nights(out: Path) -> bool:
    """Return whether many nights were reduced to a folder."""
    return (out / STATE_FOLDER).is_dir() and (out / SUMMARY).is_file()


def _first_night_folder(out: Path) -> str:
    """Return the first folder of a night, or a placeholder, for the hint of an error."""
    nights = sorted(path for path in out.iterdir() if holds_single_night(path))
    return printable(str(nights[0] if nights else out / "NIGHT"))


# Header cards given at a prompt, saved beside the products so that a rerun does not ask again.
#
# ``OUT/cards.toml`` is meant to be read and edited: ``[cards]`` for all targets,
# ``[targets.NAME]`` for one.

CARDS_FILE = "cards.toml"
_CARDS_FILE_HEAD = (
    "# Cards that nobody else gives. Edit them, or delete this file to be asked again.\n"
)
_PER_TARGET = ("OBJECT",)


@dataclass(frozen=True)
class SavedCards:
    """Saved cards for all targets, and further ones by target."""

    cards: Mapping[str, Value] = field(default_factory=dict)
    targets: Mapping[str, Mapping[str, Value]] = field(default_factory=dict)

    def cards_of(self, target: str) -> dict[str, Value]:
        """Return the cards for one target."""
        return {**self.cards, **self.targets.get(target, {})}

    def with_cards(self, target: str, keyword: str, value: Value) -> SavedCards:
        """Return the cards with one more: an OBJECT for its target, other cards for all."""
        if keyword in _PER_TARGET:
            own = {**self.targets.get(target, {}), keyword: value}
            return SavedCards(self.cards, {**self.targets, target: own})
        return SavedCards({**self.cards, keyword: value}, self.targets)


def load_saved_cards(out: Path) -> SavedCards:
    """Return the saved cards of an output folder; none if there is no file.

    Raises
    ------
    UsageError
        The file is invalid.
    """
    path = out / CARDS_FILE
    if not path.is_file():
        return SavedCards()
    try:
        tables = tomllib.loads(path.read_text("utf-8"))
        if unknown := sorted(set(tables) - {"cards", "targets"}):
            raise ValueError(f"{unknown[0]!r} is neither 'cards' nor 'targets'")
        named = {name: checked_cards(cards) for name, cards in tables.get("targets", {}).items()}
        return SavedCards(checked_cards(tables.get("cards", {})), named)
    except UsageError as error:
        error.path, error.hint = str(path), error.hint or "Correct or delete it."
        raise
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise UsageError(
            f"The file is not a table of cards ({error})", path=path, hint="Correct or delete it."
        ) from error


def write_saved_cards(out: Path, answers: SavedCards) -> None:
    """Write the cards beside the products."""
    lines = [_CARDS_FILE_HEAD, "[cards]", *toml_lines(answers.cards.items())]
    for name, cards in answers.targets.items():
        lines += ["", f"[targets.{toml_text(name)}]", *toml_lines(cards.items())]
    publish({out / CARDS_FILE: "\n".join([*lines, ""]).encode()}, overwrite=True)
