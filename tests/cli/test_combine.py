"""``arrayred combine`` from the command line: options, errors, exit codes, and what it imports."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import click
import numpy as np
import pytest
from astropy.io import fits
from numpy.typing import NDArray

from arrayred.bands import COMBINING
from arrayred.cli import COMMANDS
from arrayred.cli.combine import combine
from arrayred.cli.options import SizeParam
from arrayred.combine_files import METHODS
from tests.cli.conftest import Call
from tests.cli.test_catalogue_pixels import rewrite

Array = NDArray[Any]


def darks(night: Path) -> list[Path]:
    return [path for path in sorted(night.iterdir()) if "dark" in path.name.lower()]


def cube(paths: list[Path]) -> Array:
    return np.stack([fits.getdata(path).astype(float) for path in paths])


def test_frames_become_one_image(arrayred: Call, night: Path, tmp_path: Path) -> None:
    told = arrayred("combine", *darks(night), "-o", "master.fits")
    assert (told.code, told.err) == (0, "")
    assert told.out == "master.fits: median of 5 frames, 120 x 160\n"
    expected = np.median(cube(darks(night)), axis=0).astype("f4")
    assert np.array_equal(fits.getdata(tmp_path / "master.fits"), expected)


def test_a_master_is_subtracted(arrayred: Call, night: Path, tmp_path: Path) -> None:
    lights = [path for path in sorted(night.iterdir()) if path not in darks(night)]
    lights = [path for path in lights if path.suffix.startswith(".fit")]
    arrayred("combine", *darks(night), "-o", "master.fits", "--dtype", "float64")
    told = arrayred("combine", *lights, "-o", "deep/light.fits", "--minus", "master.fits",
                    "--method", "average", "--dtype", "float64")  # fmt: skip
    assert told.code == 0, told.err
    expected = (cube(lights) - np.median(cube(darks(night)), axis=0)).mean(axis=0)
    assert np.allclose(fits.getdata(tmp_path / "deep" / "light.fits"), expected, rtol=1e-12)
    assert fits.getval(tmp_path / "deep" / "light.fits", "CALSTAT") == "BD"


def test_quiet_says_nothing(arrayred: Call, night: Path) -> None:
    assert arrayred("combine", *darks(night), "-o", "m.fits", "-q") == (0, "", "")


def test_a_mixed_folder_is_refused_or_warned_of(arrayred: Call, night: Path) -> None:
    told = arrayred("combine", night, "-o", "all.fits")
    assert told.code in (0, 4)
    assert "different types" in told.err or "was exposed for" in told.err
    told = arrayred("combine", night, "-o", "all.fits", "--any-exposure", "--overwrite")
    assert told.code == 0
    assert "warning: the frames are of different types: 5 x dark, 3 x light" in told.err


@pytest.mark.parametrize("method", METHODS)
def test_every_method_runs_in_little_memory_and_several_threads(
    method: str, arrayred: Call, night: Path, tmp_path: Path
) -> None:
    arrayred("combine", *darks(night), "-o", "a.fits", "--method", method)
    limits = ("--memory", f"{COMBINING + (6 << 20)}", "--threads", "3")
    assert arrayred("combine", *darks(night), "-o", "b.fits", "--method", method, *limits).code == 0
    a, b = (fits.getdata(tmp_path / name) for name in ("a.fits", "b.fits"))
    assert np.array_equal(a, b, equal_nan=True)


def test_clipping_takes_sigma_and_iterations(arrayred: Call, night: Path, tmp_path: Path) -> None:
    told = arrayred("combine", *darks(night), "-o", "c.fits", "--method", "clip",
                    "--n-sigma", "1.2", "--iterations", "3", "--no-checksums")  # fmt: skip
    assert "clipped mean (1.2 sigma, 3 iterations) of 5 frames" in told.out
    assert "clipped mean (1.2 sigma, 3 iterations)" in str(
        fits.getheader(tmp_path / "c.fits")["HISTORY"]
    )


@pytest.mark.parametrize(
    ("options", "code", "said"),
    [
        (["--n-sigma", "3"], 2, "--n-sigma is for --method clip"),
        (["--iterations", "2", "--method", "minmax"], 2, "--iterations is for --method clip"),
        (["--memory", "1M"], 2, "Use --memory"),
        (["--memory", "many"], 2, "is not a valid size"),
        (["--method", "mode"], 2, "mode"),
        (["--threads", "0"], 2, "threads"),
        (["--minus", "gone.fits"], 4, "gone.fits: No such file"),
    ],
)
def test_what_cannot_be_is_said(
    options: list[str], code: int, said: str, arrayred: Call, night: Path, tmp_path: Path
) -> None:
    told = arrayred("combine", *darks(night), "-o", "x.fits", *options)
    assert told.code == code
    assert said in told.err
    assert not (tmp_path / "x.fits").exists()


def test_another_output_needs_overwrite(arrayred: Call, night: Path, tmp_path: Path) -> None:
    (tmp_path / "m.fits").write_bytes(b"precious")
    told = arrayred("combine", *darks(night), "-o", "m.fits")
    assert told.code == 2
    assert "--overwrite" in told.err
    assert (tmp_path / "m.fits").read_bytes() == b"precious"
    assert arrayred("combine", *darks(night), "-o", "m.fits", "--overwrite").code == 0
    assert arrayred("combine", *darks(night), "-o", "m.fits").code == 0


@pytest.mark.parametrize(
    ("text", "size"),
    [("512M", 512 << 20), ("2g", 2 << 30), ("64MiB", 64 << 20), ("10kB", 10240), ("4096", 4096)],
)
def test_sizes_are_read_in_any_unit(text: str, size: int) -> None:
    assert SizeParam().convert(text, None, None) == size


@pytest.mark.parametrize("text", ["", "M", "-3M", "1.5G", "3X"])
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(click.BadParameter):
        SizeParam().convert(text, None, None)


def test_an_extension_that_is_not_there_is_refused(arrayred: Call, night: Path) -> None:
    told = arrayred("combine", *darks(night), "-o", "x.fits", "--extension", "7")
    assert told.code in (2, 4)
    assert "extension" in told.err.lower()
    assert arrayred("combine", *darks(night), "-o", "x.fits", "--extension", "0").code == 0


def test_every_option_is_tried_here() -> None:
    text = Path(__file__).read_text("utf-8")
    for option in combine.params:
        if option.opts[0].startswith("-"):
            assert any(f'"{name}"' in text for name in option.opts), option.opts


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_is_what_the_list_says(name: str, arrayred: Call, night: Path) -> None:
    told = arrayred(name, "--help")
    assert told.code == 0
    assert told.out.startswith("Usage:")


STOPPED = """
import os, signal, time
from arrayred.cli import main
from arrayred.combine_files import CombineOptions

def stop(block):
    os.kill(os.getpid(), signal.SIGNAL)
    time.sleep(0.01)
    return block[0] * 1.0

CombineOptions.kernel = property(lambda self: stop)
main()
"""


@pytest.mark.parametrize(("name", "code"), [("SIGTERM", 143), ("SIGINT", 130)])
@pytest.mark.parametrize("threads", ["1", "2"])
def test_a_combination_that_is_stopped_leaves_nothing(
    name: str, code: int, threads: str, night: Path, tmp_path: Path
) -> None:
    options = ["-o", "x.fits", "--memory", f"{COMBINING + (6 << 20)}", "--threads", threads]
    script = STOPPED.replace("SIGNAL", name)
    command = [sys.executable, "-c", script, "combine", *map(str, darks(night)), *options]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert done.returncode == code, done.stderr
    assert ("interrupted" if code == 130 else "arrayred: terminated") in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["night"]


def test_integers_of_32_bits_keep_their_digits(arrayred: Call, night: Path) -> None:
    counts = np.array([[2**24 + 1, 2**32 - 3, 7]], np.int64)
    for n, path in enumerate(darks(night)):
        rewrite(path, lambda _, shift=n - 2: (counts + shift).astype(np.uint32))
    assert arrayred("combine", *darks(night), "-o", "m.fits").code == 0
    assert np.array_equal(fits.getdata("m.fits"), np.array([[2**24 + 1, 2**32 - 3, 7]]))
    assert arrayred("combine", *darks(night), "-o", "s.fits", "--dtype", "float32").code == 0
    assert fits.getval("s.fits", "BITPIX") == -32


@pytest.mark.parametrize("method", METHODS)
def test_infinite_values_are_missing(arrayred: Call, night: Path, method: str) -> None:
    for path in darks(night):
        rewrite(path, lambda pixels: pixels.astype("f4"))
    assert arrayred("combine", *darks(night), "-o", "a.fits", "--method", method).code == 0

    def with_infinities(pixels: Array) -> Array:
        pixels[3, 4], pixels[5, 6] = np.inf, -np.inf
        return pixels

    rewrite(darks(night)[0], with_infinities)
    told = arrayred("combine", *darks(night), "-o", "b.fits", "--method", method)
    assert (told.code, told.err) == (0, "")
    whole, rest = fits.getdata("a.fits"), fits.getdata("b.fits")
    assert np.isfinite(rest).all()
    changed = whole != rest
    changed[3, 4] = changed[5, 6] = False
    assert not changed.any()


def test_a_copy_under_another_name_is_used_once_and_said(arrayred: Call, night: Path) -> None:
    first = darks(night)[0]
    (night / "dark-copy.fit").write_bytes(first.read_bytes())
    told = arrayred("combine", *darks(night), "-o", "m.fits")
    assert told.err == "arrayred: warning: dark-copy: the same frame as dark-001; used once\n"
    assert fits.getval("m.fits", "NCOMBINE") == 5
