"""Read files behind URLs: addresses, listings, byte ranges and copies.

Whatever fsspec opens is meant: object stores, servers, its memory. Three rules hold for all of it.
What is there is asked once, by listing the folder; of a file only the bytes that are wanted travel;
and a file is held against what the listing said of it before anything in it is believed.

Names, parents, labels and globs of a night mean the same whether it lies in a folder or behind a
URL, so a URL is a path whose text has two slashes. Whoever asks the system for such a file hears
that there is none; `io.remote.store` asks the store.

What stands before an ``@`` in a URL opens it and is nobody else's business: an address never shows
it, in products, logs or errors. It travels with the address when that is pickled.
"""

from __future__ import annotations

import errno
import hashlib
import io
import os
import re
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, NamedTuple, Self
from urllib.parse import unquote

from arrayred.errors import FrameError, InputError, UsageError

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

if TYPE_CHECKING:
    _Base = Path
else:
    _Base = type(Path())

FITS_SUFFIXES = (".fit", ".fits", ".fts", ".fit.gz", ".fits.gz", ".fts.gz", ".fits.fz", ".fit.fz")
_URL = re.compile(r"([a-z][a-z0-9+.-]+):/{1,2}(?=[^/])")
_LOCAL = re.compile(r"(?:file|local):/{1,3}(?=[^/])")
_CREDENTIALS = re.compile(r"([a-z][a-z0-9+.-]+:/{1,2})([^/]*@)")
_secrets: dict[str, str] = {}


def is_fits_name(name: str) -> bool:
    """Tell whether a file's name ends as FITS files do, in any case."""
    return name.lower().endswith(FITS_SUFFIXES)


class Address(_Base):
    """A URL as a path: parents, names and globs mean what they do of paths.

    Examples
    --------
    >>> star = remote_address("s3://bucket/night/star.fit")
    >>> str(star), str(star.parent), star.name
    ('s3://bucket/night/star.fit', 's3://bucket/night', 'star.fit')
    """

    def __str__(self) -> str:
        """Return the URL, without what opens it; of a part of one, that part."""
        text = super().__str__()
        match = _URL.match(text)
        return f"{match[1]}://{text[match.end() :]}" if match else text

    def __repr__(self) -> str:
        """Return the URL as an expression."""
        return f"Address({str(self)!r})"

    def __reduce__(self) -> tuple[Callable[[str], Path], tuple[str]]:
        """Return how it is made again elsewhere, what opens it included."""
        return remote_address, (self.whole,)

    @property
    def whole(self) -> str:
        """Return the URL with what opens it: to be given to a store, never to be shown."""
        start, rest = _split_url(str(self))
        return start + _secrets.get(_scheme_and_host(self), "") + rest

    def absolute(self) -> Self:
        """Return the address, which is absolute."""
        return self

    def resolve(self, strict: bool = False) -> Self:
        """Return the address: links are the store's business."""
        del strict
        return self

    def is_dir(self, *, follow_symlinks: bool = True) -> bool:
        """Tell whether it is meant as a folder: its name is none of a frame."""
        return not self.is_file(follow_symlinks=follow_symlinks)

    def is_file(self, *, follow_symlinks: bool = True) -> bool:
        """Tell whether it is meant as a frame, by its name; its store tells whether it is there."""
        del follow_symlinks
        return is_fits_name(self.name)

    def exists(self, *, follow_symlinks: bool = True) -> bool:
        """Tell that the system knows no such file."""
        del follow_symlinks
        return False


def _split_url(url: str) -> tuple[str, str]:
    start, _, rest = url.partition("://")
    return f"{start}://", rest


def _scheme_and_host(address: Path) -> str:
    """Return scheme and host of an address."""
    return "/".join(address.parts[:2])


def remote_address(url: str) -> Address:
    """Return a URL as a path; what opens it is remembered and not shown."""
    secret = _CREDENTIALS.match(url)
    address = Address(_CREDENTIALS.sub(r"\1", url, count=1) if secret else url)
    if secret:
        _secrets[_scheme_and_host(address)] = secret[2]
    return address


def path_or_address(path: str | os.PathLike[str]) -> Path:
    """Return a path, or the address that it spells, also with its slashes folded.

    Examples
    --------
    >>> path_or_address("s3://me:secret@bucket/night"), path_or_address("file:///data/night")
    (Address('s3://bucket/night'), PosixPath('/data/night'))
    >>> path_or_address("a/b")
    PosixPath('a/b')
    >>> path_or_address(Path("s3://bucket/night"))
    Address('s3://bucket/night')
    """
    if isinstance(path, Address):
        return path
    text = os.fspath(path)
    if os.path.lexists(text):
        return Path(path)
    if local := _LOCAL.match(text):
        return Path("/" + unquote(text[local.end() :]))
    match = _URL.match(text)
    if match is None:
        return Path(path)
    return remote_address(f"{match[1]}://{text[match.end() :]}")


def without_secrets(text: str) -> str:
    """Return text, such as a store's own error, without what opens any address."""
    for secret in _secrets.values():
        text = text.replace(secret, "").replace(secret.rstrip("@"), "...")
    return text


# Files behind addresses, read in parts or copied: `RangedFile`, `copy_remote`, `sha256_of_remote`.
#
# A header is read by asking for five blocks of it, which hold nearly every camera's; a file that
# is needed whole is copied to a folder of this process that goes when it ends, eight megabytes at
# a time, hashed on the way, and must then be what it was when it was listed.

_HEAD_BYTES = 5 * 2880
_COPIED_PIECE = 8 << 20


class LocalCopy(NamedTuple):
    """A copy on this machine, and the SHA-256 of its content."""

    path: Path
    sha256: str


class RangedFile(io.RawIOBase):
    """A file of which only what is read travels.

    Parameters
    ----------
    address : where it is.
    size : its bytes.
    """

    def __init__(self, address: Address, size: int) -> None:
        self._address, self._size, self._position = address, size, 0

    def readable(self) -> bool:
        """Tell that it can be read."""
        return True

    def seekable(self) -> bool:
        """Tell that it can be read from anywhere."""
        return True

    def tell(self) -> int:
        """Return where the next read begins."""
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Let the next read begin elsewhere."""
        starts = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._size}
        self._position = starts[whence] + offset
        return self._position

    def readinto(self, buffer: WriteableBuffer) -> int:
        """Read as many bytes as fit and are there."""
        target = memoryview(buffer).cast("B")
        stop = min(self._position + len(target), self._size)
        raw = read_range(self._address, self._position, stop) if stop > self._position else b""
        target[: len(raw)] = raw
        self._position += len(raw)
        return len(raw)


def open_remote(address: Address) -> tuple[IO[bytes], Stamp]:
    """Open a file to be read in parts, and return what it is known by.

    Raises
    ------
    FrameError
        There is no such file, or the store does not give it.
    """
    stamp = stamp_of(address)
    return io.BufferedReader(RangedFile(address, stamp.size), _HEAD_BYTES), stamp


def copy_remote(address: Address, stamp: Stamp, place: Path) -> LocalCopy:
    """Copy a file that is still what it is known by.

    Raises
    ------
    FrameError
        The store does not give it, or it has changed since it was listed.
    OSError
        The copy cannot be written.
    """
    with place.open("wb") as target:
        return LocalCopy(place, _stream_file(address, stamp, target.write))


def sha256_of_remote(address: Address) -> str:
    """Return the SHA-256 of a file, every byte of it read; as `copy_remote`."""
    return _stream_file(address, stamp_of(address, anew=True), lambda _: 0)


def _stream_file(address: Address, stamp: Stamp, take: Callable[[bytes], int]) -> str:
    """Read a file to its end, hand over its pieces, and return its SHA-256."""
    digest, done = hashlib.sha256(), 0
    while done < stamp.size:
        piece = read_range(address, done, min(done + _COPIED_PIECE, stamp.size))
        if not piece:
            raise _changed_error(address)
        digest.update(piece)
        take(piece)
        done += len(piece)
    _require_same(address, stamp)
    return digest.hexdigest()


def _require_same(address: Address, stamp: Stamp) -> None:
    if stamp_of(address, anew=True) != stamp:
        raise _changed_error(address)


def _changed_error(address: Address) -> FrameError:
    return FrameError(
        "The file has changed since its header was read", path=address, hint="Run again."
    )


# What is behind an address: `list_remote`, `stamp_of`, `read_range`, `read_ranges`.
#
# A file is known by size, time and, where the store tells one, ETag; they come with the listing of
# its folder, so that a night costs one question. What may pass, a broken connection, a time-out, a
# busy server, is tried three times; what will not, an absent bucket, a refused key, is said at
# once.

REMOTE_RETRY_DELAYS_S = (0.2, 1.0)
"""What is waited before the second and the third try."""
_TRANSIENT_ERRNOS = (errno.EIO, errno.ESTALE, errno.ETIMEDOUT, errno.EAGAIN, errno.ENETDOWN,
            errno.ENETUNREACH, errno.EBUSY)  # fmt: skip
_NETWORK = ("aiohttp", "botocore", "requests", "urllib3", "gcsfs")
_LASTING_ERRORS = (
    "Credential",
    "NoSuch",
    "Forbidden",
    "Unauthorized",
    "InvalidURL",
    "ParamValidation",
)
_TAGS = ("ETag", "etag", "md5Hash", "checksum", "content_md5", "Content-MD5", "version_id")
_TIMES = ("LastModified", "last_modified", "Last-Modified", "mtime", "updated", "created")
_stamps: dict[Address, Stamp] = {}


@dataclass(frozen=True, slots=True)
class Stamp:
    """What tells that a file has changed: size, time of change in ns, inode."""

    size: int
    mtime_ns: int
    inode: int

    @classmethod
    def of(cls, status: os.stat_result) -> Stamp:
        """Return the stamp of a file's status."""
        return cls(status.st_size, status.st_mtime_ns, status.st_ino)


class ByteRange(NamedTuple):
    """Some bytes of a file: first..stop, half-open."""

    address: Address
    first: int
    stop: int


def file_system_of(address: Address) -> tuple[Any, str]:
    """Return the file system of an address, and the path in it.

    Raises
    ------
    UsageError
        Nothing opens such URLs.
    """
    system = _open_file_system(address.whole, address)
    return system, str(system._strip_protocol(address.whole)).rstrip("/")


def _open_file_system(whole: str, address: Address) -> Any:
    import fsspec

    try:
        return fsspec.core.url_to_fs(whole)[0]
    except (ImportError, ValueError) as error:
        raise UsageError(
            f"Nothing opens such URLs ({store_message(error)})",
            path=address,
            hint="Nights behind s3:// and https:// need pip install 'arrayred[s3]'.",
        ) from error


def list_remote(folder: Address, depth: int) -> dict[Address, Stamp]:
    """Return the files of a folder and of those below it, and what each is known by.

    Parameters
    ----------
    folder : where to look; names that begin with a dot are passed by.
    depth : how many folders deep, the folder itself being the first.

    Raises
    ------
    InputError
        The store cannot be reached, refuses, or has nothing there.
    """
    system, root = file_system_of(folder)

    def look() -> Any:
        system.invalidate_cache()
        return system.find(root, maxdepth=depth, detail=True)

    try:
        found = retry_remote(look, folder)
    except FrameError as error:
        raise InputError(error.args[0], path=folder, hint=error.hint) from error
    inside = {name[len(root) :].strip("/"): facts for name, facts in found.items()
              if name.startswith(f"{root}/")}  # fmt: skip
    if not inside:
        raise InputError("There is nothing here", path=folder, hint="Look after the address.")
    files = {
        folder / name: _stamp_from_store(facts)
        for name, facts in inside.items()
        if not any(part.startswith(".") for part in name.split("/"))
    }
    _stamps.update({address: stamp for address, stamp in files.items() if stamp.size >= 0})
    return files


def matches(pattern: Address) -> list[Address]:
    """Return the addresses that a pattern matches, sorted."""
    system, path = file_system_of(pattern)
    start = len(path) - len(path.lstrip("/"))
    top = str(pattern).removesuffix(path[start:])
    found = map(str, retry_remote(lambda: system.glob(path), pattern))
    whole = (name if "://" in name else top + name.lstrip("/") for name in found)
    return sorted(map(remote_address, whole))


def is_listed(address: Address) -> bool:
    """Tell whether a file was listed, or asked for by itself, before."""
    return address in _stamps


def remote_folders_in(folder: Address) -> list[Address]:
    """Return the folders in a folder, sorted; none where the store tells of none."""
    system, root = file_system_of(folder)
    found = retry_remote(lambda: system.ls(root or "/", detail=True), folder)
    names = (str(facts["name"]).rstrip("/") for facts in found if facts["type"] == "directory")
    return sorted(folder / name.rpartition("/")[2] for name in names)


def stamp_of(address: Address, *, anew: bool = False) -> Stamp:
    """Return what a file is known by: as listed, or asked now.

    Raises
    ------
    FrameError
        There is no such file, or the store does not tell its size.
    """
    if anew or address not in _stamps:
        system, path = file_system_of(address)

        def look() -> Any:
            system.invalidate_cache()
            return system.info(path)

        stamp = _stamp_from_store(retry_remote(look, address))
        if stamp.size < 0:
            raise FrameError("The server does not tell the file's size", path=address)
        _stamps[address] = stamp
    return _stamps[address]


def is_there(address: Address) -> bool:
    """Tell whether there is such a file, asked now."""
    system, path = file_system_of(address)

    def look() -> Any:
        system.invalidate_cache()
        return system.exists(path)

    return bool(retry_remote(look, address))


def is_identified(stamp: Stamp) -> bool:
    """Tell whether a stamp changes with the file's content: the store tells a time or a tag."""
    return bool(stamp.inode or stamp.mtime_ns)


def _stamp_from_store(facts: Any) -> Stamp:
    """Return what a store tells of a file as a stamp; the size is -1 where it tells none."""
    size = facts.get("size")
    tag = next((facts[name] for name in _TAGS if facts.get(name)), None)
    moment = _parsed_time(next((facts[name] for name in _TIMES if facts.get(name)), None))
    told = tag if tag is not None else moment if isinstance(moment, str) else None
    known = str(told).strip('"').encode()
    number = 0 if told is None else int(hashlib.sha256(known).hexdigest()[:15], 16)
    changed = 0 if tag is not None else _nanoseconds(moment)  # coarser when asked singly
    return Stamp(-1 if size is None else int(size), changed, number)


def _parsed_time(told: Any) -> Any:
    """Return a time as it is told; of one told in text, as file systems do in listings, itself."""
    if isinstance(told, str):
        with suppress(ValueError):
            return datetime.fromisoformat(told)
    return told


def _nanoseconds(moment: Any) -> int:
    if isinstance(moment, datetime):
        return round(moment.timestamp() * 1e6) * 1000
    return round(moment * 1e6) * 1000 if isinstance(moment, int | float) else 0


def read_range(address: Address, first: int = 0, stop: int | None = None) -> bytes:
    """Return the bytes first..stop of a file, fewer where it ends before.

    Raises
    ------
    FrameError
        They cannot be had.
    """
    return read_ranges([ByteRange(address, first, stop or stamp_of(address).size)])[0]


def read_ranges(parts: Sequence[ByteRange]) -> list[bytes]:
    """Return parts of files, all asked for at once; as `read_range`, in their order."""
    found: list[bytes] = [b""] * len(parts)
    by_place: dict[str, list[int]] = {}
    for i, part in enumerate(parts):
        if part.stop > part.first:
            by_place.setdefault(part.address.parts[0] + part.address.parts[1], []).append(i)
    for numbers in by_place.values():
        wanted = [parts[i] for i in numbers]
        for i, raw in zip(numbers, _fetched_ranges(wanted), strict=True):
            found[i] = raw
    return found


def _fetched_ranges(parts: Sequence[ByteRange]) -> list[bytes]:
    """Return parts of files of one store; those that fail in passing are asked for again."""
    system, _ = file_system_of(parts[0].address)
    paths = [file_system_of(part.address)[1] for part in parts]
    found: list[Any] = [None] * len(parts)
    left = list(range(len(parts)))
    for delay in (*REMOTE_RETRY_DELAYS_S, None):
        answers = system.cat_ranges(
            [paths[i] for i in left],
            [parts[i].first for i in left],
            [parts[i].stop for i in left],
            on_error="return",
        )
        for i, answer in zip(left, answers, strict=True):
            found[i] = answer
        left = [i for i in left if isinstance(found[i], Exception)]
        for i in left:
            if delay is None or not is_transient(found[i]):
                raise unreachable_error(parts[i].address, found[i])
        if not left or delay is None:
            break
        time.sleep(delay)
    return [_cut_to_range(raw, part) for raw, part in zip(found, parts, strict=True)]


def _cut_to_range(raw: bytes, part: ByteRange) -> bytes:
    """Return what was asked for, also of a server that sends all of a file whatever is asked."""
    return raw[part.first : part.stop] if len(raw) > part.stop - part.first else raw


def retry_remote(look: Any, address: Address) -> Any:
    """Return what a question is answered, asked up to three times.

    Raises
    ------
    FrameError
        The store does not answer, or refuses.
    """
    for delay in (*REMOTE_RETRY_DELAYS_S, None):
        try:
            return look()
        except Exception as error:  # each of fsspec's file systems has errors of its own
            if delay is None or not is_transient(error):
                raise unreachable_error(address, error) from error
            time.sleep(delay)
    raise AssertionError


def is_transient(error: BaseException) -> bool:
    """Tell whether an error may be gone when the same is asked again."""
    if isinstance(error, FileNotFoundError | PermissionError | NotImplementedError):
        return False
    if isinstance(error, TimeoutError | ConnectionError):
        return True
    kind = type(error)
    if kind.__module__.partition(".")[0] in _NETWORK:
        return not any(word in kind.__name__ for word in _LASTING_ERRORS)
    return isinstance(error, OSError) and error.errno in _TRANSIENT_ERRNOS


def unreachable_error(address: Address, error: BaseException) -> FrameError:
    """Return the error of a file or folder that a store does not give."""
    absent = isinstance(error, FileNotFoundError)
    return FrameError(
        "There is no such file"
        if absent
        else f"The store does not give it ({store_message(error)})",
        path=address,
        hint="Look after the address." if absent else "Look after address, rights and network.",
    )


def store_message(error: BaseException) -> str:
    """Return what a store says is wrong, in a line, without what opens it."""
    text = " ".join(str(error).split()) or type(error).__name__
    return without_secrets(text)[:300]
