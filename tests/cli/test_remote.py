"""Nights behind URLs: headers by ranges, pixels through a cache, the bytes of a local night."""

from __future__ import annotations

import gzip
import pickle
from pathlib import Path

import pytest

from tests.cli.conftest import Call, contents, without_seconds
from tests.io.remote_store import Store

PLAINLY = ("--no-figures", "--allow-missing")


def products(out: str) -> dict[str, bytes]:
    return {name: raw for name, (raw, _) in contents(Path(out)).items()}


def library() -> list[Path]:
    from arrayred.io import default_cache_folder

    return sorted(default_cache_folder().glob("*.zarr"))


def test_a_night_reduces_from_its_url_to_the_same_bytes(
    stars: Path, bucket: Store, arrayred: Call
) -> None:
    (stars / "notes.fit").write_text("clouds")
    url = bucket.put(stars, "night")
    here = arrayred("reduce", stars, "-o", "one", "--save-calibrated", *PLAINLY)
    there = arrayred("reduce", url, "-o", "two", "--save-calibrated", *PLAINLY)
    assert (here.code, there.code) == (0, 0)
    assert products("one") == products("two") != {}
    said = there.out.replace(url, str(stars)).replace("two/", "one/")
    assert without_seconds(said) == without_seconds(here.out)
    assert there.err.replace(url, str(stars)) == here.err


def test_frames_behind_urls_are_combined_to_the_same_bytes(
    stars: Path, bucket: Store, arrayred: Call
) -> None:
    url = bucket.put(stars, "night")
    names = [f"dark-00{i}.fit" for i in (1, 2, 3)]
    for place, out in ((str(stars), "one"), (url, "two")):
        Path(out).mkdir()
        given = [f"{place}/{name}" for name in names]
        assert arrayred("combine", *given, "-o", f"{out}/dark.fits").code == 0
    assert products("one") == products("two") != {}


def test_a_second_run_fetches_headers_and_rows_alone(
    stars: Path, bucket: Store, arrayred: Call
) -> None:
    url = bucket.put(stars, "night")
    arrayred("reduce", url, "-o", "one", "-q", *PLAINLY)
    assert len(library()) == 1
    fetched, bucket.asked[:] = bucket.n_bytes, []
    arrayred("reduce", url, "-o", "two", "-q", *PLAINLY)
    assert products("one") == products("two")
    assert bucket.n_bytes < fetched / 3
    assert len(library()) == 1


def test_inspect_never_fetches_a_whole_frame(stars: Path, bucket: Store, arrayred: Call) -> None:
    url = bucket.put(stars, "night")
    here, there = (arrayred("inspect", night, "--format", "csv") for night in (stars, url))
    assert here == there
    frames = {name: len(bucket.content(name)) for name in bucket.names()}
    for name, size in frames.items():
        assert 0 < sum(n for path, _, n in bucket.asked if path.endswith(name)) < size
    assert not library()


def test_a_job_behind_a_url_travels_to_another_process(
    stars: Path, bucket: Store, tmp_path: Path
) -> None:
    from arrayred.cli.reduce import _jobs_for, night_folders

    folders = night_folders([bucket.put(stars, "a"), bucket.put(stars, "b")])
    jobs = _jobs_for(folders, tmp_path / "out", {})
    assert pickle.loads(pickle.dumps(jobs)) == jobs
    assert [(job.label, str(job.folder)) for job in jobs] == [
        ("a", "memory://bucket/a"), ("b", "memory://bucket/b")
    ]  # fmt: skip


@pytest.mark.parametrize("n_jobs", [(), ("--jobs", "1")])
def test_many_nights_may_lie_behind_urls(
    n_jobs: tuple[str, ...],
    stars: Path,
    bucket: Store,
    arrayred: Call,
    plain: dict[str, bytes],
) -> None:
    bucket.put(stars, "2024-03-01")
    bucket.put(stars, "2024-03-02")
    told = arrayred("reduce", "memory://bucket/2024-*", "-o", "many", *n_jobs, *PLAINLY)
    assert told.code == 0, told.err
    for name in ("2024-03-01", "2024-03-02"):
        assert products(f"many/{name}") == plain
    bucket.asked.clear()
    again = arrayred("reduce", "memory://bucket/2024-*", "-o", "many", *n_jobs, *PLAINLY)
    assert "kept" in again.out
    assert bucket.asked == []


def test_a_compressed_night_is_the_same_behind_its_url(
    stars: Path, bucket: Store, arrayred: Call
) -> None:
    for path in list(stars.glob("*.fit")):
        (stars / f"{path.name}.gz").write_bytes(gzip.compress(path.read_bytes(), mtime=0))
        path.unlink()
    url = bucket.put(stars, "night")
    for place, out in ((stars, "one"), (url, "two")):
        assert arrayred("reduce", place, "-o", out, "--no-cache", "-q", *PLAINLY).code == 0
    assert products("one") == products("two") != {}


def test_a_cache_behind_a_url_reduces_to_the_same_bytes(
    stars: Path, bucket: Store, arrayred: Call, plain: dict[str, bytes]
) -> None:
    url = "memory://bucket/night.zarr"
    assert arrayred("cache", stars, "--to", url).code == 0
    for out, options in (("two", ()), ("three", ("--no-cache",))):
        told = arrayred("reduce", url, "-o", out, *options, *PLAINLY)
        assert (told.code, url in told.out) == (0, True), told.err
        assert products(out) == plain
    assert len(library()) == 1


def test_a_remote_night_becomes_a_cache_of_ones_own(
    stars: Path, bucket: Store, arrayred: Call, plain: dict[str, bytes]
) -> None:
    url = bucket.put(stars, "night")
    assert arrayred("cache", url, "--to", "night.zarr").code == 0
    arrayred("reduce", "night.zarr", "-o", "two", "-q", *PLAINLY)
    assert products("two") == plain


def test_inputs_behind_a_url_are_verified_there(stars: Path, bucket: Store, arrayred: Call) -> None:
    url = bucket.put(stars, "night")
    arrayred("reduce", url, "-o", "out", "-q", *PLAINLY)
    assert arrayred("verify", "out").code == 0
    name = "night/dark-001.fit"
    raw = bytearray(bucket.content(name))
    raw[-3000] ^= 1
    bucket.write(name, bytes(raw))
    told = arrayred("verify", "out")
    assert (told.code, f"memory://bucket/{name}: changed" in told.out) == (3, True)


@pytest.mark.parametrize("command", [("inspect",), ("reduce", "-o", "out"), ("cache",)])
def test_an_absent_bucket_is_an_error_that_names_it(
    command: tuple[str, ...], stars: Path, bucket: Store, arrayred: Call
) -> None:
    told = arrayred(command[0], "memory://nowhere/night", *command[1:])
    assert (told.code, "memory://nowhere/night" in told.err) == (4, True)
    assert not Path("out").exists()


def test_a_frame_that_the_store_does_not_give_fails_the_night(
    stars: Path, bucket: Store, arrayred: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    from arrayred.io import remote

    monkeypatch.setattr(remote, "REMOTE_RETRY_DELAYS_S", (0.0, 0.0))
    url = bucket.put(stars, "night")

    def fail(path: str) -> None:
        if path.endswith("dark-001.fit"):
            raise TimeoutError("read timed out")

    bucket.fail = fail
    told = arrayred("reduce", url, "-o", "out", *PLAINLY)
    assert (told.code, f"{url}/dark-001.fit" in told.err, "timed out" in told.err) == (
        4,
        True,
        True,
    )


def test_what_opens_a_url_is_never_shown(stars: Path, bucket: Store, arrayred: Call) -> None:
    bucket.put(stars, "night")
    secret = "memory://me:hush@bucket/night"
    told = arrayred("reduce", secret, "-o", "out", "-v", *PLAINLY)
    failed = arrayred("inspect", "quux://me:hush@bucket/night")
    said = "".join((told.out, told.err, failed.out, failed.err))
    written = b"".join(path.read_bytes() for path in Path("out").rglob("*") if path.is_file())
    kept = b"".join(path.read_bytes() for place in library() for path in place.rglob("*.json"))
    assert "hush" not in said
    assert b"hush" not in written + kept


def test_products_are_not_written_to_a_url(stars: Path, arrayred: Call) -> None:
    told = arrayred("reduce", stars, "-o", "memory://bucket/out")
    assert (told.code, "local folder" in told.err) == (2, True)
