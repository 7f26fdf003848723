"""Paths that are URLs of caches: `url_of`, `fetched`."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from arrayred.io.cache.library import Library

_URL = re.compile(r"([a-z][a-z0-9+.-]+):/{1,2}(?=[^/])")


def url_of(path: str | os.PathLike[str]) -> str | None:
    """Return a URL, also one whose slashes were folded as those of a path; None for a path.

    Examples
    --------
    >>> url_of("s3://bucket/night.zarr"), url_of(Path("s3:/bucket/night.zarr")), url_of("a/b")
    ('s3://bucket/night.zarr', 's3://bucket/night.zarr', None)
    """
    text = os.fspath(path)
    match = _URL.match(text)
    return f"{match[1]}://{text[match.end() :]}" if match and not os.path.lexists(text) else None


def fetched(path: str | os.PathLike[str], library: Library | None = None) -> Path:
    """Return a path as it is; of a URL, the copy of its cache in the library, made if need be.

    Raises
    ------
    InputError
        There is no cache at the URL, or it cannot be read.
    FrameError
        It is damaged, or not what arrayred writes.
    UsageError
        Nothing opens such URLs, or the library is not the user's own.
    """
    url = url_of(path)
    if url is None:
        return Path(path)
    from arrayred.io.cache.remote import fetch

    return fetch(url, library)
