"""URLs as paths: `Address`, `located`.

Names, parents, labels and globs of a night mean the same whether it lies in a folder or behind a
URL, so a URL is a path whose text has two slashes. Whoever asks the system for such a file hears
that there is none; `io.remote.store` asks the store.

What stands before an ``@`` in a URL opens it and is nobody else's business: an address never shows
it, in products, logs or errors. It travels with the address when that is pickled.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Self
from urllib.parse import unquote

if TYPE_CHECKING:
    _Base = Path
else:
    _Base = type(Path())

FITS_SUFFIXES = (".fit", ".fits", ".fts", ".fit.gz", ".fits.gz", ".fts.gz", ".fits.fz", ".fit.fz")
_URL = re.compile(r"([a-z][a-z0-9+.-]+):/{1,2}(?=[^/])")
_LOCAL = re.compile(r"(?:file|local):/{1,3}(?=[^/])")
_WHO = re.compile(r"([a-z][a-z0-9+.-]+:/{1,2})([^/]*@)")
_secrets: dict[str, str] = {}


def is_fits_name(name: str) -> bool:
    """Tell whether a file's name ends as FITS files do, in any case."""
    return name.lower().endswith(FITS_SUFFIXES)


class Address(_Base):
    """A URL as a path: parents, names and globs mean what they do of paths.

    Examples
    --------
    >>> star = address_of("s3://bucket/night/star.fit")
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
        return address_of, (self.whole,)

    @property
    def whole(self) -> str:
        """Return the URL with what opens it: to be given to a store, never to be shown."""
        start, rest = _parted(str(self))
        return start + _secrets.get(_place(self), "") + rest

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


def _parted(url: str) -> tuple[str, str]:
    start, _, rest = url.partition("://")
    return f"{start}://", rest


def _place(address: Path) -> str:
    """Return scheme and host of an address."""
    return "/".join(address.parts[:2])


def address_of(url: str) -> Address:
    """Return a URL as a path; what opens it is remembered and not shown."""
    secret = _WHO.match(url)
    address = Address(_WHO.sub(r"\1", url, count=1) if secret else url)
    if secret:
        _secrets[_place(address)] = secret[2]
    return address


def located(path: str | os.PathLike[str]) -> Path:
    """Return a path, or the address that it spells, also with its slashes folded.

    Examples
    --------
    >>> located("s3://me:secret@bucket/night"), located("file:///data/night"), located("a/b")
    (Address('s3://bucket/night'), PosixPath('/data/night'), PosixPath('a/b'))
    >>> located(Path("s3://bucket/night"))
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
    return address_of(f"{match[1]}://{text[match.end() :]}")


def without_secrets(text: str) -> str:
    """Return text, such as a store's own error, without what opens any address."""
    for secret in _secrets.values():
        text = text.replace(secret, "").replace(secret.rstrip("@"), "...")
    return text
