"""The published night: the tables to the byte, however the work is cut and whoever does it."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

import numpy as np
import pytest

import arrayred as ar
from arrayred.io import LOG_FILE, STATE_FOLDER, open_frames, text_table
from tests.cli import forked
from tests.cli.conftest import reduced_once
from tests.conftest import Run

RAW_EXTRACTION = "a6d43e68d246871d17599c09866eeee3"
SKYSUBTRACTED = "fc769619291cf6fd518456ce406e02ad"
PRINTED = "16.347483170466884 46.27667705465625 62.624160225123134 484 518 35 35"


def md5(content: bytes) -> str:
    return hashlib.md5(content, usedforsecurity=False).hexdigest()


def tables_of(tree: object) -> tuple[str, str]:
    spectrum = tree["targets/201103hr8047-10-12/spectrum"]  # type: ignore[index]
    names = ("counts_mean", "counts_mean_sky_subtracted")
    raw, sky = (md5(text_table(spectrum[name].values)) for name in names)
    return raw, sky


# Bands of 37 rows cut the spectrum in two, and leave a last band of 25; None is an eager cube.
@pytest.mark.parametrize(
    ("recipe", "chunks"),
    [
        (ar.Recipe(), None),
        (ar.Recipe(), 37),
        (ar.Recipe.reference(), 64),
    ],
)
def test_tables_equal_the_published_in_any_bands(
    barber: Path, recipe: ar.Recipe, chunks: int | None
) -> None:
    assert tables_of(ar.reduce_night(barber, recipe, chunks=chunks)) == (
        RAW_EXTRACTION,
        SKYSUBTRACTED,
    )


def test_tables_do_not_depend_on_the_number_of_threads(barber: Path) -> None:
    import dask

    with dask.config.set(scheduler="threads", num_workers=3):  # elsewhere as many as processors
        tables = tables_of(ar.reduce_night(barber, chunks=256))
    assert tables == (RAW_EXTRACTION, SKYSUBTRACTED)


def test_tables_do_not_depend_on_the_order_of_the_files(barber: Path) -> None:
    files = sorted(barber.iterdir())
    rng = np.random.default_rng(1)
    cubes = [open_frames([files[i] for i in rng.permutation(len(files))]) for _ in range(3)]
    assert all(cube.identical(cubes[0]) for cube in cubes)


def test_reduce_writes_the_published_tables_and_prints_the_published_numbers(
    barber: Path, run: Run, tmp_path: Path
) -> None:
    result = run("reduce", barber, "-o", "out", "--reference", "--no-figures")
    assert result.returncode == 0, result.stderr
    lines = [
        line.split()[-1]
        for line in result.stdout.splitlines()
        if "spectrum" in line or " is " in line
    ]
    assert " ".join(lines) == PRINTED
    folder = tmp_path / "out" / "targets" / "201103hr8047-10-12"
    assert md5((folder / "201103hr8047-10-12_raw_extraction.txt").read_bytes()) == RAW_EXTRACTION
    assert md5((folder / "201103hr8047-10-12_skysubtracted.txt").read_bytes()) == SKYSUBTRACTED


def test_wrapped_pixels_are_unwrapped_and_recorded(barber: Path) -> None:
    cube = ar.open_frames(barber)
    assert cube.counts.dtype == np.uint16
    assert cube.attrs["unsigned_unwrapped"] == 1
    assert int(cube.counts.min()) > 500
    spots = cube.counts.sel(y=[88, 104, 105, 106, 595], x=[474, 467, 1393]).values
    assert (spots[:, 0, 0] == 65535).all()
    assert (spots[:, 4, 2] > 32768).all()


def test_images_equal_those_of_ccdproc_exactly(barber: Path) -> None:
    import ccdproc
    from astropy import units as u
    from astropy.nddata import CCDData

    def read(path: Path) -> CCDData:
        return CCDData(
            open_frames(path).counts.values[0].astype(float), unit="adu", meta={"exptime": 600.0}
        )

    recipe = ar.Recipe.reference().replace(calibrated=True)
    tree = ar.reduce_night(barber, recipe, chunks=400)
    target = tree["targets/201103hr8047-10-12"]
    dark = ccdproc.combine([read(p) for p in sorted(barber.glob("*dark*"))], method="median")
    lights = [
        ccdproc.subtract_dark(read(p), dark, exposure_time="exptime", exposure_unit=u.second)
        for p in sorted(barber.glob("*hr8047*"))
    ]
    combined = ccdproc.combine(lights, method="average")
    assert np.array_equal(tree["masters/dark/600s"].counts, dark.data)
    assert np.array_equal(target["calibrated"].counts, [light.data for light in lights])
    assert np.array_equal(target["combined"].counts, combined.data)


@pytest.fixture(scope="module")
def reduced(barber: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return what `reduce` makes of the night, without figures."""
    return reduced_once(barber, tmp_path_factory.mktemp("reduced"))


def test_a_second_run_changes_nothing_and_needs_no_overwrite(
    barber: Path, reduced: Path, tmp_path: Path
) -> None:
    before = {p: (p.read_bytes(), p.stat().st_mtime_ns) for p in products(reduced)}
    told = forked.run("reduce", barber, "-o", reduced, "--no-figures", "-q", cwd=tmp_path)
    assert told.returncode == 0
    assert before == {p: (p.read_bytes(), p.stat().st_mtime_ns) for p in products(reduced)}


def products(folder: Path) -> list[Path]:
    """Return the files of a folder but its state and log."""
    files = (path for path in sorted(folder.rglob("*.*")) if path.is_file())
    return [path for path in files if STATE_FOLDER not in path.parts and path.name != LOG_FILE]


def test_products_among_the_raw_frames_are_not_taken_for_them(
    barber: Path, reduced: Path, tmp_path: Path
) -> None:
    (tmp_path / "raw").mkdir()
    for path in barber.iterdir():
        (tmp_path / "raw" / path.name).symlink_to(path)
    shutil.copytree(reduced, tmp_path / "raw" / "products")
    told = forked.run("reduce", "raw", "-o", "two", "--no-figures", cwd=tmp_path)
    assert told.returncode == 0
    assert [p.read_bytes() for p in products(reduced)] == [
        p.read_bytes() for p in products(tmp_path / "two")
    ]
