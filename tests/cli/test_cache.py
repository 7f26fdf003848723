"""``arrayred cache``, and what the other commands make of a cache: the same as of the frames."""

from __future__ import annotations

import gzip
import shutil
from pathlib import Path

import pytest

from tests.cli.conftest import Call, as_a_process, contents, without_seconds

TAIL = ("--no-figures", "-q")
BARE = (*TAIL, "--no-dark")


@pytest.fixture(scope="module")
def _stored(_two_stars: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    from arrayred.night.night import cache_night, open_night

    folder = tmp_path_factory.mktemp("stored")
    with as_a_process(folder):
        return cache_night(open_night(_two_stars), folder / "night.zarr")


@pytest.fixture
def stored(_stored: Path, tmp_path: Path) -> Path:
    """Return a cache of the two stars, beside their frames, to be changed at will."""
    return Path(shutil.copytree(_stored, tmp_path / "night.zarr"))


@pytest.fixture
def lights(stars: Path) -> Path:
    """Return a night of the two lights of Vega alone: what is made of it takes half the time."""
    for path in stars.glob("[!v]*"):
        path.unlink()
    return stars


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
        arrayred("reduce", place, "-o", out, "--no-figures", "--save-calibrated")
        for place, out in ((stars, "one"), ("night.zarr", "two"))
    ]
    assert products("one") == products("two") != {}
    assert told[0].code == told[1].code == 0
    said = told[1].out.replace("night.zarr", str(stars)).replace("two/", "one/")
    assert without_seconds(said) == without_seconds(told[0].out)
    assert told[1].err.replace("night.zarr", str(stars)) == told[0].err


@pytest.mark.usefixtures("bands_alone", "stored")
@pytest.mark.parametrize(
    "options",  # each of one target; one dropped by the cache would change the products
    [
        ("--frames", "v-*", "--exclude", "dark-00[12]*", "--electrons", "--memory", "12M",
         "--combine", "median"),
        ("--target", "Vega", "--no-dark", "--rows", "80:90", "--unsigned", "as-declared",
         "--no-wavelength"),
    ],
)  # fmt: skip
def test_options_mean_the_same_for_a_cache(
    options: tuple[str, ...], stars: Path, arrayred: Call
) -> None:
    places = ((stars, "1"), ("night.zarr", "2"))
    codes = [arrayred("reduce", p, "-o", o, *TAIL, *options).code for p, o in places]
    assert codes == [0, 0]
    assert products("1") == products("2") != {}


@pytest.mark.usefixtures("stored")
def test_inspect_tells_the_same_of_a_cache(stars: Path, arrayred: Call) -> None:
    for form in (("--format", "csv"), ("--format", "json"), ("--plan",)):
        told = [arrayred("inspect", place, *form).out for place in (stars, "night.zarr")]
        assert told[0] == told[1] != "", form


@pytest.mark.usefixtures("stored")
def test_frames_of_a_cache_combine_to_the_same_bytes(stars: Path, arrayred: Call) -> None:
    names = sorted(path.name for path in stars.glob("dark*.fit"))
    for out, place in (("1", stars), ("2", Path("night.zarr"))):
        Path(out).mkdir()
        told = arrayred("combine", *(place / name for name in names), "-o", f"{out}/image.fits")
        assert (told.code, told.err) == (0, "")
    assert Path("1/image.fits").read_bytes() == Path("2/image.fits").read_bytes()


@pytest.mark.usefixtures("stored")
def test_darks_may_come_from_a_cache(stars: Path, arrayred: Call, plain: dict[str, bytes]) -> None:
    for path in stars.glob("dark*"):
        path.unlink()
    told = arrayred("reduce", stars, "-o", "two", *TAIL, "--calibrations", "night.zarr")
    assert told.code == 0, told.err
    assert products("two") == plain


def test_a_compressed_night_is_unpacked_once_and_without_a_cache_gives_the_same(
    lights: Path, arrayred: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    from arrayred.io import decoding

    zipped(lights)
    arrayred("reduce", lights, "-o", "one", "--no-cache", *BARE)
    assert not library().exists()
    first = arrayred("reduce", lights, "-o", "two", *BARE)
    assert (first.code, first.err) == (0, "")
    assert len(list(library().iterdir())) == 1
    monkeypatch.setattr(decoding, "decode_into", None)
    second = arrayred("reduce", lights, "-o", "three", *BARE)
    assert (second.code, second.err) == (0, "")
    assert products("one") == products("two") == products("three") != {}


def test_a_plain_night_leaves_no_cache_unless_asked_and_a_damaged_one_is_built_again(
    lights: Path, arrayred: Call
) -> None:
    arrayred("reduce", lights, "-o", "one", *BARE)
    assert not library().exists()
    assert arrayred("reduce", lights, "-o", "two", "--cache", *BARE).code == 0
    (place,) = library().iterdir()
    whole = contents(place)
    assert arrayred("reduce", lights, "-o", "three", "--cache", *BARE).code == 0
    assert contents(place) == whole
    (shard, *_) = place.glob("raw/light/*/counts/c/0/0/0")
    shard.write_bytes(bytes(shard.stat().st_size))
    told = arrayred("reduce", lights, "-o", "four", "--no-figures", "--no-dark", "--cache")
    assert (told.code, "built again" in told.err) == (0, True)
    assert [*library().iterdir()] == [place]
    assert {k: v[0] for k, v in contents(place).items()} == {k: v[0] for k, v in whole.items()}
    assert products("one") == products("two") == products("three") == products("four") != {}


def test_a_damaged_store_is_an_error_with_its_file(stored: Path, arrayred: Call) -> None:
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


def test_info_lists_and_clear_removes(lights: Path, arrayred: Call) -> None:
    assert "0 caches" in arrayred("cache", "--info").out
    assert arrayred("cache", lights).code == 0
    assert "1 caches" in arrayred("cache", "--info").out
    (place,) = library().iterdir()
    assert "all files unchanged" in arrayred("cache", place, "--info").out
    assert "removed 1 caches" in arrayred("cache", "--clear").out
    assert list(library().iterdir()) == []


@pytest.mark.usefixtures("stored")
def test_info_of_a_damaged_cache_is_an_error(arrayred: Call) -> None:
    (shard, *_) = Path("night.zarr").glob("raw/light/*/counts/c/0/0/0")
    shard.write_bytes(shard.read_bytes()[:-1] + b"x")
    assert arrayred("cache", "night.zarr", "--info").code == 4


@pytest.mark.parametrize(
    ("arguments", "said"),
    [((), "No night given"), (("night", "--to", "night/x.zarr"), "inside the night")],
)
def test_what_cannot_be_is_said(
    arguments: tuple[str, ...], said: str, stars: Path, arrayred: Call
) -> None:
    told = arrayred("cache", *arguments)
    assert (told.code, said in told.err) == (2, True)


def test_a_store_is_replaced_only_on_request(lights: Path, stored: Path, arrayred: Call) -> None:
    before = contents(stored)
    assert arrayred("cache", lights, "--to", "night.zarr").code == 2
    assert contents(stored) == before
    assert arrayred("cache", lights, "--to", "night.zarr", "--overwrite").code == 0
    assert contents(stored).keys() < before.keys()


def test_a_night_with_a_broken_frame_is_not_cached(stars: Path, arrayred: Call) -> None:
    path = stars / "dark-001.fit"
    path.write_bytes(path.read_bytes()[:9000])
    told = arrayred("cache", stars, "--to", "night.zarr")
    assert (told.code, "dark-001.fit" in told.err) == (4, True)
    assert not Path("night.zarr").exists()


def test_caches_stay_below_the_size_that_is_given(lights: Path, arrayred: Call) -> None:
    size = ("--cache", "--cache-size", "1K")
    for out, options in (("one", ()), ("two", ("--unsigned", "as-declared"))):
        assert arrayred("reduce", lights, "-o", out, *options, *size, *BARE).code == 0
        assert len(list(library().iterdir())) == 1
    assert arrayred("inspect", lights, *size).code == 0


@pytest.mark.usefixtures("stored")
def test_a_cache_is_compared_whole_when_that_is_asked_for_and_by_verify(arrayred: Call) -> None:
    tail = ("-o", "out", "--no-figures", "--target", "Vega")
    assert arrayred("reduce", "night.zarr", *tail, "--verify").code == 0
    assert arrayred("verify", "out").code == 0
    (shard, *_) = Path("night.zarr").glob("raw/light/*/counts/c/0/0/0")
    raw = shard.read_bytes()
    shard.write_bytes(raw[:-1] + bytes([raw[-1] ^ 1]))
    damaged = arrayred("verify", "out")
    assert (damaged.code, "night.zarr" in damaged.out + damaged.err) == (3, True)
    assert arrayred("reduce", "night.zarr", *tail).code == 0
    told = arrayred("reduce", "night.zarr", *tail, "--verify")
    assert told.code in (3, 4)
    assert str(shard) in told.err
