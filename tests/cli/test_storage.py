"""Disks that are full: told before the work where it can be known, and without harm where not."""

from __future__ import annotations

import gzip
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from arrayred.io import open_cache
from tests.batch.disturbed import products, temporaries
from tests.cli.conftest import Call
from tests.cli.forked import start

AS_ROOT = pytest.mark.skipif(
    sys.platform != "linux" or os.geteuid() != 0, reason="takes root to mount"
)
PLAINLY = ("--no-figures", "--allow-missing")
LIMITED = """
import resource, sys
from arrayred.cli import main
sys.dont_write_bytecode = True  # it would be cut, and used by later tests
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[1]),) * 2)
sys.argv[1:] = sys.argv[2:]
main()
"""


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """Return a disk of its own of a megabyte."""
    place = tmp_path / "disk"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "none", str(place)]
    if subprocess.run(mount, check=False, capture_output=True).returncode:
        pytest.skip("mounting is not allowed here")
    yield place
    subprocess.run(["umount", str(place)], check=True)


@AS_ROOT
def test_a_small_disk_is_told_before_anything_is_computed(
    night: Path, disk: Path, arrayred: Call
) -> None:
    (disk / "other").write_bytes(bytes(900_000))
    told = arrayred("reduce", night, "-o", disk / "out", "--save-calibrated", *PLAINLY)
    assert (told.code, told.out) == (5, "")
    assert "bytes free, but the products need" in told.err
    assert [path.name for path in disk.iterdir()] == ["other"]


@AS_ROOT
@pytest.mark.parametrize("left_kb", [0, 40, 80, 120])
def test_a_disk_that_fills_up_meanwhile_leaves_whole_products(
    left_kb: int,
    night: Path,
    disk: Path,
    arrayred: Call,
    undisturbed: dict[str, bytes],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What room there is cannot be known for certain: others write too."""
    assert undisturbed
    monkeypatch.setattr("arrayred.batch.run.require_room", lambda *_: None)
    (disk / "other").write_bytes(bytes((1024 - left_kb) * 1024))
    out = disk / "out"
    told = arrayred("reduce", night, "-o", out, *PLAINLY)
    assert (told.code, "No space left" in told.err) == (5, True), told.err
    assert products(out).items() <= products(Path("undisturbed")).items()
    assert not temporaries(disk)
    (disk / "other").unlink()
    assert arrayred("reduce", night, "-o", out, *PLAINLY).code == 0
    assert products(out) == products(Path("undisturbed"))


@AS_ROOT
@pytest.mark.parametrize("left_kb", [8, 60, 120])
def test_a_disk_that_fills_up_leaves_no_cache(
    left_kb: int, night: Path, disk: Path, arrayred: Call
) -> None:
    (disk / "other").write_bytes(bytes((1024 - left_kb) * 1024))
    told = arrayred("cache", night, "--to", disk / "night.zarr")
    assert (told.code, str(disk) in told.err) == (5, True)
    assert [path.name for path in disk.iterdir()] == ["other"]
    (disk / "other").unlink()
    with_room = arrayred("cache", night, "--to", Path.cwd() / "night.zarr")
    assert with_room.code == 0


@pytest.mark.parametrize("most", [2000, 40_000])
def test_a_limit_of_the_system_leaves_whole_products(
    night: Path, tmp_path: Path, most: int
) -> None:
    command = [sys.executable, "-c", LIMITED, str(most), "reduce", str(night), "-o", "out"]
    told = subprocess.run(
        [*command, *PLAINLY], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert (told.returncode, "File too large" in told.stderr) == (5, True), told.stderr
    assert not temporaries(tmp_path / "out")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no such device")
def test_output_that_cannot_be_written_is_a_failure_where_nothing_else_was_asked_for(
    night: Path,
) -> None:
    call = [sys.executable, "-m", "arrayred", "inspect", str(night)]
    with Path("/dev/full").open("w") as full:
        said = subprocess.run(call, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert (said.returncode, said.stderr) == (
        5,
        "arrayred: error: The output cannot be written (No space left on device). Free some disk "
        "space.\n",
    )


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no such device")
@pytest.mark.parametrize("streams", [">&- 2>&- <&-", "2>&-", ">/dev/full 2>/dev/full", "| true"])
def test_a_run_to_which_nobody_listens_makes_the_same(
    streams: str, night: Path, tmp_path: Path, arrayred: Call
) -> None:
    assert arrayred("reduce", night, "-o", "quiet", *PLAINLY).code == 0
    command = f"{sys.executable} -m arrayred reduce {night} -o out {' '.join(PLAINLY)} {streams}"
    ended = f"set -o pipefail; {command.replace('-q', '')}"
    assert subprocess.run(["bash", "-c", ended], cwd=tmp_path, check=False).returncode == 0
    quiet, out = (
        {p.name: p.read_bytes() for p in (tmp_path / name / "targets").rglob("*") if p.is_file()}
        for name in ("quiet", "out")
    )
    assert out == quiet


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no such device")
def test_a_device_is_no_place_for_products(night: Path, arrayred: Call) -> None:
    told = arrayred("reduce", night, "-o", "/dev/full", *PLAINLY)
    assert (told.code, "/dev/full: The output is not a folder" in told.err) == (5, True)


def test_two_runs_with_one_cache_are_both_right(
    night: Path, tmp_path: Path, arrayred: Call
) -> None:
    for path in list(night.iterdir()):
        (night / f"{path.name}.gz").write_bytes(gzip.compress(path.read_bytes(), mtime=0))
        path.unlink()
    assert arrayred("reduce", night, "-o", "alone", "-q", "--no-cache", *PLAINLY).code == 0
    library = tmp_path / "library"
    command = ["reduce", str(night), *PLAINLY, "--cache-dir", str(library)]
    outs = ("one", "two", "three")
    with Path(os.devnull).open("r+b") as nothing, Path("said").open("w+b") as said:
        streams = [nothing.fileno(), nothing.fileno(), said.fileno()]
        runs = [start([*command, "-o", out], streams, tmp_path, os.environ) for out in outs]
        for process in runs:
            process.join(300)
    assert [process.exitcode for process in runs] == [0, 0, 0], Path("said").read_text()
    truth = products(tmp_path / "alone")
    assert truth
    assert all(products(tmp_path / out) == truth for out in outs)
    (place,) = library.iterdir()
    assert len(open_cache(place, wholly=True).images) == 8
    assert arrayred(*command, "-o", "four").code == 0
    assert products(tmp_path / "four") == truth
