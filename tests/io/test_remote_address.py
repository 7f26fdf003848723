"""A URL is a path whose text has two slashes; what opens it is never seen."""

from __future__ import annotations

import os
import pickle
from pathlib import Path

import pytest

from arrayred.io import Address, path_or_address, remote_address, without_secrets

NIGHT = "s3://bucket/2024/night"


def test_parents_names_and_globs_are_those_of_a_path() -> None:
    star = remote_address(f"{NIGHT}/raw/star.fit")
    assert str(star.parent.parent) == os.fspath(remote_address(NIGHT)) == NIGHT
    assert (star.name, star.suffix, star.match("raw/*.fit")) == ("star.fit", ".fit", True)
    assert str(star.relative_to(NIGHT.replace("//", "/"))) == "raw/star.fit"
    assert os.path.relpath(star, remote_address(NIGHT)) == "raw/star.fit"


@pytest.mark.parametrize("spelt", [NIGHT, Path(NIGHT), f"{NIGHT}/", remote_address(NIGHT)])
def test_one_address_is_spelt_in_several_ways(spelt: str | Path) -> None:
    assert path_or_address(spelt) == remote_address(NIGHT)
    assert hash(path_or_address(spelt)) == hash(remote_address(NIGHT))
    assert isinstance(path_or_address(spelt), Address)


@pytest.mark.parametrize("spelt", ["night", "/data/night", "./a:b", "C:/x", "a b://c"])
def test_what_is_no_url_is_a_path(spelt: str) -> None:
    assert path_or_address(spelt) == Path(spelt)
    assert not isinstance(path_or_address(spelt), Address)


def test_a_folder_that_looks_like_a_url_is_a_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("s3:/bucket").mkdir(parents=True)
    assert path_or_address("s3:/bucket") == Path("s3:/bucket")
    assert not isinstance(path_or_address("s3:/bucket"), Address)


def test_a_url_of_a_local_file_is_its_path(tmp_path: Path) -> None:
    assert path_or_address((tmp_path / "a b").as_uri()) == tmp_path / "a b"


def test_an_address_stays_where_it_is() -> None:
    night = remote_address(NIGHT)
    assert night.absolute() is night
    assert night.resolve() is night
    assert (night.exists(), night.is_dir(), (night / "x.fit.gz").is_file()) == (False, True, True)


def test_what_opens_an_address_travels_unseen() -> None:
    night = remote_address("sftp://me:hush@host/night")
    star = pickle.loads(pickle.dumps(night / "star.fit"))
    assert star.whole == "sftp://me:hush@host/night/star.fit"
    assert "hush" not in f"{star} {star!r} {star.parts} {os.fspath(star)}"
    assert "hush" not in without_secrets("no route to sftp://me:hush@host/night for me:hush")
    assert remote_address("sftp://other/night").whole == "sftp://other/night"


def test_the_signature_of_an_address_travels_unseen() -> None:
    url = "https://host/night/star.fit?X-Amz-Signature=hush%2Fhush&X-Amz-Expires=60"
    star = pickle.loads(pickle.dumps(path_or_address(url)))
    assert star.whole == url
    assert star.is_file()
    assert "hush" not in f"{star} {star!r} {star.parts} {os.fspath(star)}"
    for spelt in (url, url.replace("%2F", "/"), "https://me:hush@host/other?sig=hush"):
        assert "hush" not in without_secrets(f"403, message='', url=URL('{spelt}')")
    assert (star.parent / "dark.fit").whole == "https://host/night/dark.fit"
