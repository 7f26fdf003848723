"""Read files behind URLs: addresses, listings, byte ranges and copies.

Everything that fsspec opens is supported: object stores, servers, its memory. Three rules apply to
all: a folder is listed once; of a file only the bytes needed are transferred; and a file is
compared with the listing (size, time, ETag) before any of its content is used.

Names, parents, labels and globs of a night are the same for a local folder and a URL, so a URL is
a path whose text has two slashes. `exists` of such a path is False, since there is no local file;
`stamp_of` and `list_remote` query the store.

The credentials before an ``@`` in a URL, and what follows the ``?`` of an http address (a
signature), are secret: an address never shows them in products, logs or errors. They are pickled
with the address.
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

from arrayred.errors import ArrayredError, FrameError, InputError, UsageError

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

if TYPE_CHECKING:
    _Base = Path
else:
    _Base = type(Path())

_READ = ("", ".gz", ".fz", ".bz2", ".xz", ".zip")
_NAMED = (".z", ".zst", ".lz4", ".7z", ".rar")
"""Compressions that are not read: their files are told instead of passed over."""
FITS_SUFFIXES = tuple(
    f"{suffix}{packed}" for packed in (*_READ, *_NAMED) for suffix in (".fit", ".fits", ".fts")
)
_URL = re.compile(r"([a-z][a-z0-9+.-]+):/{1,2}(?=[^/])")
_LOCAL = re.compile(r"(?:file|local):/{1,3}(?=[^/])")
_CREDENTIALS = re.compile(r"([a-z][a-z0-9+.-]+:/{1,2})([^/]*@)")
_SIGNED = re.compile(r"(https?:/{1,2}[^?]+)(\?.+)")
_LOGIN = re.compile(r"([a-z][a-z0-9+.-]+:/{1,2})[^/\s'\"]*@")
_SIGNATURE = re.compile(r"(https?://[^\s?'\"]+)\?[^\s'\")]*")
_secrets: dict[str, str] = {}
"""Credentials by scheme and host, signatures by address."""


def is_fits_name(name: str) -> bool:
    """Return whether a file name has a FITS suffix, in upper or lower case."""
    return name.lower().endswith(FITS_SUFFIXES)


class Address(_Base):
    """A URL as a path, with parents, names and globs as for paths.

    Examples
    --------
    >>> star = remote_address("s3://bucket/night/star.fit")
    >>> str(star), str(star.parent), star.name
    ('s3://bucket/night/star.fit', 's3://bucket/night', 'star.fit')
    """

    def __str__(self) -> str:
        """Return the URL without secrets; of a part of a URL, that part."""
        text = super().__str__()
        match = _URL.match(text)
        return f"{match[1]}://{text[match.end() :]}" if match else text

    def __repr__(self) -> str:
        """Return the URL as an expression."""
        return f"Address({str(self)!r})"

    def __reduce__(self) -> tuple[Callable[[str], Path], tuple[str]]:
        """Return constructor and URL for pickling, credentials included."""
        return remote_address, (self.whole,)

    @property
    def whole(self) -> str:
        """Return the URL with its secrets, for the store only, never to be shown."""
        start, rest = _split_url(str(self))
        secret = _secrets.get(_scheme_and_host(self), "")
        return start + secret + rest + _secrets.get(str(self), "")

    def absolute(self) -> Self:
        """Return the address itself, which is always absolute."""
        return self

    def resolve(self, strict: bool = False) -> Self:
        """Return the address itself: links are resolved by the store."""
        del strict
        return self

    def is_dir(self, *, follow_symlinks: bool = True) -> bool:
        """Return whether it is meant as a folder: its name is not that of a FITS file."""
        return not self.is_file(follow_symlinks=follow_symlinks)

    def is_file(self, *, follow_symlinks: bool = True) -> bool:
        """Return whether it is meant as a FITS file, by its name; the store is not queried."""
        del follow_symlinks
        return is_fits_name(self.name)

    def exists(self, *, follow_symlinks: bool = True) -> bool:
        """Return False: there is no such local file."""
        del follow_symlinks
        return False


def _split_url(url: str) -> tuple[str, str]:
    start, _, rest = url.partition("://")
    return f"{start}://", rest


def _scheme_and_host(address: Path) -> str:
    """Return scheme and host of an address."""
    return "/".join(address.parts[:2])


def remote_address(url: str) -> Address:
    """Return a URL as a path; its credentials and signature are stored and not shown."""
    signed = _SIGNED.fullmatch(url)
    url = signed[1] if signed else url
    secret = _CREDENTIALS.match(url)
    address = Address(_CREDENTIALS.sub(r"\1", url, count=1) if secret else url)
    if secret:
        _secrets[_scheme_and_host(address)] = secret[2]
    if signed:
        _secrets[str(address)] = signed[2]
    return address


def path_or_address(path: str | os.PathLike[str]) -> Path:
    """Return a path, or an address if its text is a URL, also one with the slashes folded.

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
    """Return text, such as a store's own error or a command line, without secrets of addresses."""
    for secret in _secrets.values():
        text = text.replace(secret, "").replace(secret.rstrip("@"), "...")
    return _SIGNATURE.sub(r"\1", _LOGIN.sub(r"\1", text))  # of addresses that are not known yet


# Remote files, read in parts or copied: `RangedFile`, `copy_remote`, `sha256_of_remote`.
#
# A header is read by requesting five blocks, enough for nearly every camera; a file that is needed
# whole is copied to a folder that is removed when this process ends, eight megabytes at a time,
# hashed on the way, and must then be unchanged since it was listed.

_HEAD_BYTES = 5 * 2880
_COPIED_PIECE = 8 << 20


class LocalCopy(NamedTuple):
    """A local copy of a remote file, and the SHA-256 of its content."""

    path: Path
    sha256: str


class RangedFile(io.RawIOBase):
    """A remote file of which only the bytes read are transferred.

    Parameters
    ----------
    address : of the file.
    size : of the file, bytes.
    """

    def __init__(self, address: Address, size: int) -> None:
        self._address, self._size, self._position = address, size, 0

    def readable(self) -> bool:
        """Return True: it can be read."""
        return True

    def seekable(self) -> bool:
        """Return True: it can be read from any position."""
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Set the position of the next read."""
        starts = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._size}
        self._position = starts[whence] + offset
        return self._position

    def readinto(self, buffer: WriteableBuffer) -> int:
        """Read as many bytes as fit into the buffer and remain in the file."""
        target = memoryview(buffer).cast("B")
        stop = min(self._position + len(target), self._size)
        raw = read_range(self._address, self._position, stop) if stop > self._position else b""
        target[: len(raw)] = raw
        self._position += len(raw)
        return len(raw)


def open_remote(address: Address) -> tuple[IO[bytes], Stamp]:
    """Open a remote file for reading in parts, and return it with its stamp.

    Raises
    ------
    FrameError
        There is no such file, or the store does not return it.
    """
    stamp = stamp_of(address)
    return io.BufferedReader(RangedFile(address, stamp.size), _HEAD_BYTES), stamp


def copy_remote(address: Address, stamp: Stamp, place: Path) -> LocalCopy:
    """Copy a remote file that still has the given stamp.

    Raises
    ------
    FrameError
        The store does not return it, or it has changed since it was listed.
    OSError
        The copy cannot be written.
    """
    with place.open("wb") as target:
        return LocalCopy(place, _stream_file(address, stamp, target.write))


def sha256_of_remote(address: Address) -> str:
    """Return the SHA-256 of a remote file, reading all of it; raises as `copy_remote`."""
    return _stream_file(address, stamp_of(address, anew=True), lambda _: 0)


def _stream_file(address: Address, stamp: Stamp, take: Callable[[bytes], int]) -> str:
    """Read a remote file to its end, pass each piece to `take`, and return its SHA-256."""
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


# Requests to a store: `list_remote`, `stamp_of`, `read_range`, `read_ranges`.
#
# A file is identified by size, time and, where the store gives one, ETag; they come with the
# listing of its folder, so that a night needs one request. Transient failures (a broken connection,
# a time-out, a busy server) are tried three times; permanent ones (a missing bucket, a refused key)
# are reported at once.

REMOTE_RETRY_DELAYS_S = (0.2, 1.0)
"""Delays before the second and the third try, s."""
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
    """Identity of a file's content, by which changes are detected: size, mtime in ns, inode."""

    size: int
    mtime_ns: int
    inode: int

    @classmethod
    def of(cls, status: os.stat_result) -> Stamp:
        """Return the stamp of a file's status."""
        return cls(status.st_size, status.st_mtime_ns, status.st_ino)


class ByteRange(NamedTuple):
    """Bytes first..stop (half-open) of a remote file."""

    address: Address
    first: int
    stop: int


def file_system_of(address: Address) -> tuple[Any, str]:
    """Return the file system of an address, and the path in it.

    Raises
    ------
    UsageError
        Such URLs cannot be opened.
    """
    system = _open_file_system(address.whole, address)
    return system, str(system._strip_protocol(address.whole)).rstrip("/")


def _open_file_system(whole: str, address: Address) -> Any:
    import fsspec

    try:
        return fsspec.core.url_to_fs(whole)[0]
    except (ImportError, ValueError) as error:
        raise UsageError(
            f"URLs of this kind cannot be opened ({store_message(error)})",
            path=address,
            hint="s3:// needs pip install 'arrayred[s3]', https:// 'arrayred[remote]'.",
        ) from error


def list_remote(folder: Address, depth: int) -> dict[Address, Stamp]:
    """Return the files of a remote folder and its subfolders, each with its stamp.

    Parameters
    ----------
    folder : the folder; names that begin with a dot are skipped.
    depth : number of folder levels, the folder itself being the first.

    Raises
    ------
    InputError
        The store cannot be reached, refuses, or has nothing there.
    """
    root = file_system_of(folder)[1]
    try:
        found = _asked_anew(folder, "find", maxdepth=depth, detail=True)
    except FrameError as error:
        raise InputError(error.args[0], path=folder, hint=error.hint) from error
    inside = {name[len(root) :].strip("/"): facts for name, facts in found.items()
              if name.startswith(f"{root}/")}  # fmt: skip
    if not inside:
        raise InputError("Nothing found at this address", path=folder, hint="Check the address.")
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
    """Return whether a file was listed, or queried by itself, before."""
    return address in _stamps


def remote_folders_in(folder: Address) -> list[Address]:
    """Return the folders in a remote folder, sorted; none where the store lists none."""
    system, root = file_system_of(folder)
    found = retry_remote(lambda: system.ls(root or "/", detail=True), folder)
    names = (str(facts["name"]).rstrip("/") for facts in found if facts["type"] == "directory")
    return sorted(folder / name.rpartition("/")[2] for name in names)


def stamp_of(address: Address, *, anew: bool = False) -> Stamp:
    """Return the stamp of a remote file, as listed or (`anew`) queried now.

    Raises
    ------
    FrameError
        There is no such file, or the store does not give its size.
    """
    if anew or address not in _stamps:
        stamp = _stamp_from_store(_asked_anew(address, "info"))
        if stamp.size < 0:
            raise FrameError("The server does not report the size of the file", path=address)
        _stamps[address] = stamp
    return _stamps[address]


def is_there(address: Address) -> bool:
    """Return whether there is such a remote file, queried now."""
    return bool(_asked_anew(address, "exists"))


def _asked_anew(address: Address, question: str, **options: Any) -> Any:
    """Return the answer of a method of a file system, not one of its own cache."""
    system, path = file_system_of(address)

    def look() -> Any:
        system.invalidate_cache()
        return getattr(system, question)(path, **options)

    return retry_remote(look, address)


def is_identified(stamp: Stamp) -> bool:
    """Return whether a stamp changes with the file's content: the store gives a time or a tag."""
    return bool(stamp.inode or stamp.mtime_ns)


def _stamp_from_store(facts: Any) -> Stamp:
    """Return a store's description of a file as a stamp; the size is -1 where none is given."""
    size = facts.get("size")
    tag = next((facts[name] for name in _TAGS if facts.get(name)), None)
    moment = _parsed_time(next((facts[name] for name in _TIMES if facts.get(name)), None))
    told = tag if tag is not None else moment if isinstance(moment, str) else None
    known = str(told).strip('"').encode()
    number = 0 if told is None else int(hashlib.sha256(known).hexdigest()[:15], 16)
    changed = 0 if tag is not None else _nanoseconds(moment)  # coarser in a query of one file
    return Stamp(-1 if size is None else int(size), changed, number)


def _parsed_time(told: Any) -> Any:
    """Return a time as given, with text (as file systems give in listings) parsed if possible."""
    if isinstance(told, str):
        with suppress(ValueError):
            return datetime.fromisoformat(told)
    return told


def _nanoseconds(moment: Any) -> int:
    if isinstance(moment, datetime):
        return round(moment.timestamp() * 1e6) * 1000
    return round(moment * 1e6) * 1000 if isinstance(moment, int | float) else 0


def read_range(address: Address, first: int = 0, stop: int | None = None) -> bytes:
    """Return the bytes first..stop of a remote file, fewer where it ends before.

    Raises
    ------
    FrameError
        They cannot be read.
    """
    return read_ranges([ByteRange(address, first, stop or stamp_of(address).size)])[0]


def read_ranges(parts: Sequence[ByteRange]) -> list[bytes]:
    """Return parts of remote files, in order, requested together; raises as `read_range`."""
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
    """Return parts of files of one store; transient failures are requested again."""
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
    """Return the requested bytes, also if the server sent the whole file instead."""
    return raw[part.first : part.stop] if len(raw) > part.stop - part.first else raw


def retry_remote(look: Any, address: Address) -> Any:
    """Return the result of a request, tried up to three times.

    Raises
    ------
    FrameError
        The store does not answer, or refuses.
    """
    for delay in (*REMOTE_RETRY_DELAYS_S, None):
        try:
            return look()
        except ArrayredError:
            raise
        except Exception as error:  # each of fsspec's file systems has errors of its own
            if delay is None or not is_transient(error):
                raise unreachable_error(address, error) from error
            time.sleep(delay)
    raise AssertionError


def is_transient(error: BaseException) -> bool:
    """Return whether an error may be gone when the request is repeated."""
    if isinstance(error, FileNotFoundError | PermissionError | NotImplementedError):
        return False
    if isinstance(error, TimeoutError | ConnectionError):
        return True
    kind = type(error)
    if kind.__module__.partition(".")[0] in _NETWORK:
        return not any(word in kind.__name__ for word in _LASTING_ERRORS)
    return isinstance(error, OSError) and error.errno in _TRANSIENT_ERRNOS


def unreachable_error(address: Address, error: BaseException) -> FrameError:
    """Return the error for a file or folder that a store does not return."""
    absent = isinstance(error, FileNotFoundError)
    return FrameError(
        "No such file"
        if absent
        else f"The object store refused the request ({store_message(error)})",
        path=address,
        hint="Check the address."
        if absent
        else "Check the address, your permissions and the network.",
    )


def store_message(error: BaseException) -> str:
    """Return a store's error message in one line, without credentials."""
    text = " ".join(str(error).split()) or type(error).__name__
    return without_secrets(text)[:300]
