"""``arrayred cache``, and what the other commands make of a cache: the same as of the frames."""

from __future__ import annotations

import gzip
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.conftest import Call, contents


def products(out: str) -> dict[str, bytes]:
    return {name: raw for name, (raw, _) in contents(Path(out)).items()}


def zipped(night: Path) -> Path:
    for path in list(night.glob("*.fit")):
        (night / f"{path.name}.gz").write_bytes(gzip.compress(path.read_bytes()))
        path.unlink()
    return night


def library() -> Path:
    from arrayred.io import default_cache_folder

    return default_cache_folder()


def test_a_night_reduces_from_its_cache_to_the_same_bytes(stars: Path, arrayred: Call) -> None:
    (stars / "notes.fit").write_text("clouds")
    assert arrayred("cache", stars, "--to", "night.zarr").code == 0
    told = [
        arrayred("reduce", place, "-o", out, "--no-figures", "--allow-missing", "--save-calibrated")
        for place, out in ((stars, "one"), ("night.zarr", "two"))
    ]
    assert products("one") == products("two") != {}
    assert told[0].code == told[1].code == 0
    said = told[1].out.replace("night.zarr", str(stars)).replace("two/", "one/")
    assert said == told[0].out
    assert told[1].err.replace("night.zarr", str(stars)) == told[0].err


@pytest.mark.usefixtures("bands_alone")
@pytest.mark.parametrize(
    "options",
    [
        ("--exclude", "dark-00[12]*"), ("--frames", "v-*", "--electrons"), ("--no-dark",),
        ("--target", "Vega", "--rows", "80:90"), ("--unsigned", "as-declared"),
        ("--memory", "12M", "--combine", "median"),
    ],
)  # fmt: skip
def test_options_mean_the_same_for_a_cache(
    options: tuple[str, ...], stars: Path, arrayred: Call
) -> None:
    arrayred("cache", stars, "--to", "night.zarr", "-q")
    tail = ("--no-figures", "--allow-missing", "-q", *options)
    codes = [
        arrayred("reduce", p, "-o", o, *tail).code for p, o in ((stars, "1"), ("night.zarr", "2"))
    ]
    assert codes == [0, 0]
    assert products("1") == products("2") != {}


def test_inspect_tells_the_same_of_a_cache(stars: Path, arrayred: Call) -> None:
    arrayred("cache", stars, "--to", "night.zarr", "-q")
    for form in (("--format", "csv"), ("--format", "json"), ("--plan",)):
        told = [arrayred("inspect", place, *form).out for place in (stars, "night.zarr")]
        assert told[0] == told[1] != "", form


def test_frames_of_a_cache_combine_to_the_same_bytes(stars: Path, arrayred: Call) -> None:
    arrayred("cache", stars, "--to", "night.zarr", "-q")
    names = sorted(path.name for path in stars.glob("dark*.fit"))
    for out, place in (("1", stars), ("2", Path("night.zarr"))):
        Path(out).mkdir()
        told = arrayred("combine", *(place / name for name in names), "-o", f"{out}/image.fits")
        assert (told.code, told.err) == (0, "")
    assert Path("1/image.fits").read_bytes() == Path("2/image.fits").read_bytes()


def test_darks_may_come_from_a_cache(stars: Path, arrayred: Call, plain: dict[str, bytes]) -> None:
    arrayred("cache", stars, "--to", "night.zarr", "-q")
    for path in stars.glob("dark*"):
        path.unlink()
    told = arrayred(
        "reduce", stars, "-o", "two", "--no-figures", "-q", "--allow-missing",
        "--calibrations", "night.zarr",
    )  # fmt: skip
    assert told.code == 0, told.err
    assert products("two") == plain


def test_a_compressed_night_is_unpacked_once(
    stars: Path, arrayred: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    from arrayred.io import decoding

    zipped(stars)
    tail = ("--no-figures", "-q", "--allow-missing")
    first = arrayred("reduce", stars, "-o", "one", *tail)
    assert (first.code, first.err) == (0, "")
    assert len(list(library().iterdir())) == 1
    monkeypatch.setattr(decoding, "decode_into", None)
    second = arrayred("reduce", stars, "-o", "two", *tail)
    assert (second.code, second.err) == (0, "")
    assert products("one") == products("two")


def test_without_a_cache_a_compressed_night_gives_the_same(stars: Path, arrayred: Call) -> None:
    zipped(stars)
    tail = ("--no-figures", "-q", "--allow-missing")
    arrayred("reduce", stars, "-o", "one", "--no-cache", *tail)
    assert not library().exists()
    arrayred("reduce", stars, "-o", "two", *tail)
    assert products("one") == products("two")


def test_a_plain_night_leaves_no_cache_unless_asked(stars: Path, arrayred: Call) -> None:
    tail = ("--no-figures", "-q", "--allow-missing")
    arrayred("reduce", stars, "-o", "one", *tail)
    assert not library().exists()
    for out in ("two", "three"):
        assert arrayred("reduce", stars, "-o", out, "--cache", *tail).code == 0
        assert len(list(library().iterdir())) == 1
        assert products("one") == products(out)


def test_a_damaged_cache_is_built_again_with_a_warning(stars: Path, arrayred: Call) -> None:
    tail = ("--no-figures", "--cache", "--allow-missing")
    arrayred("reduce", stars, "-o", "one", "-q", *tail)
    (place,) = library().iterdir()
    whole = contents(place)
    (shard, *_) = place.glob("raw/light/*/counts/c/0/0/0")
    shard.write_bytes(bytes(shard.stat().st_size))
    told = arrayred("reduce", stars, "-o", "two", *tail)
    assert (told.code, "it is built again" in told.err) == (0, True)
    assert products("one") == products("two")
    assert {k: v[0] for k, v in contents(place).items()} == {k: v[0] for k, v in whole.items()}


def test_a_damaged_store_is_an_error_with_its_file(stars: Path, arrayred: Call) -> None:
    arrayred("cache", stars, "--to", "night.zarr", "-q")
    (shard, *_) = Path("night.zarr").glob("raw/light/*/counts/c/0/0/0")
    shard.unlink()
    told = arrayred("reduce", "night.zarr", "-o", "out")
    assert (told.code, str(shard) in told.err) == (4, True)
    assert not Path("out").exists()


def test_a_library_that_anybody_can_write_is_an_error(stars: Path, arrayred: Call) -> None:
    Path("open").mkdir()
    Path("open").chmod(0o777)
    told = arrayred("reduce", stars, "-o", "out", "--cache", "--cache-dir", "open")
    assert told.code == 2
    assert "--cache-dir" in told.err


def test_info_lists_and_clear_removes(stars: Path, arrayred: Call) -> None:
    assert "0 caches" in arrayred("cache", "--info").out
    assert arrayred("cache", stars).code == 0
    assert "1 caches" in arrayred("cache", "--info").out
    (place,) = library().iterdir()
    assert "every file is as it was written" in arrayred("cache", place, "--info").out
    assert "removed 1 caches" in arrayred("cache", "--clear").out
    assert list(library().iterdir()) == []


def test_info_of_a_damaged_cache_is_an_error(stars: Path, arrayred: Call) -> None:
    arrayred("cache", stars, "--to", "night.zarr", "-q")
    (shard, *_) = Path("night.zarr").glob("raw/light/*/counts/c/0/0/0")
    shard.write_bytes(shard.read_bytes()[:-1] + b"x")
    assert arrayred("cache", "night.zarr", "--info").code == 4


@pytest.mark.parametrize(
    ("arguments", "said"),
    [((), "No night is named"), (("night", "--to", "night/x.zarr"), "inside the night")],
)
def test_what_cannot_be_is_said(
    arguments: tuple[str, ...], said: str, stars: Path, arrayred: Call
) -> None:
    told = arrayred("cache", *arguments)
    assert (told.code, said in told.err) == (2, True)


def test_a_store_is_replaced_only_on_request(stars: Path, arrayred: Call) -> None:
    assert arrayred("cache", stars, "--to", "night.zarr").code == 0
    assert arrayred("cache", stars, "--to", "night.zarr").code == 2
    assert arrayred("cache", stars, "--to", "night.zarr", "--overwrite").code == 0


def test_a_night_with_a_broken_frame_is_not_cached(stars: Path, arrayred: Call) -> None:
    path = stars / "dark-001.fit"
    path.write_bytes(path.read_bytes()[:9000])
    told = arrayred("cache", stars, "--to", "night.zarr")
    assert (told.code, "dark-001.fit" in told.err) == (4, True)
    assert not Path("night.zarr").exists()


def test_a_plain_night_never_imports_zarr(night: Path, tmp_path: Path) -> None:
    code = """
import atexit, sys
atexit.register(lambda: print(*sorted({name.partition(".")[0] for name in sys.modules})))
from arrayred.cli import main
main()
"""
    command = [sys.executable, "-c", code, "reduce", str(night), "-o", str(tmp_path / "out"), "-q"]
    command.append("--no-figures")
    told = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
    assert not {"zarr", "numcodecs", "google_crc32c"} & set(told.stdout.split())


def test_caches_stay_below_the_size_that_is_given(stars: Path, arrayred: Call) -> None:
    tail = ("--cache", "--cache-size", "1K", "--no-figures", "-q", "--allow-missing")
    for out, options in (("one", ()), ("two", ("--unsigned", "as-declared"))):
        assert arrayred("reduce", stars, "-o", out, *options, *tail).code == 0
        assert len(list(library().iterdir())) == 1
    assert arrayred("inspect", stars, "--cache", "--cache-size", "1K").code == 0


def test_a_cache_is_compared_whole_when_that_is_asked_for(stars: Path, arrayred: Call) -> None:
    tail = ("-o", "out", "--no-figures", "--allow-missing")
    arrayred("cache", stars, "--to", "night.zarr", "-q")
    assert arrayred("reduce", "night.zarr", *tail, "--verify").code == 0
    (shard, *_) = Path("night.zarr").glob("raw/light/*/counts/c/0/0/0")
    raw = shard.read_bytes()
    shard.write_bytes(raw[:-1] + bytes([raw[-1] ^ 1]))
    assert arrayred("reduce", "night.zarr", *tail).code == 0
    told = arrayred("reduce", "night.zarr", *tail, "--verify")
    assert told.code in (3, 4)
    assert str(shard) in told.err


def test_what_was_made_from_a_cache_is_verified_by_it(stars: Path, arrayred: Call) -> None:
    assert arrayred("cache", stars, "--to", "night.zarr").code == 0
    assert (
        arrayred("reduce", "night.zarr", "-o", "out", "--no-figures", "--allow-missing").code == 0
    )
    assert arrayred("verify", "out").code == 0
    chunks = sorted(Path("night.zarr").glob("raw/light/**/c/**/*"))
    chunk = next(path for path in chunks if path.is_file())
    raw = chunk.read_bytes()
    chunk.write_bytes(raw[:-1] + bytes([raw[-1] ^ 1]))
    damaged = arrayred("verify", "out")
    assert damaged.code == 3
    assert "night.zarr" in damaged.out + damaged.err
