"""A finished night is known without being opened, and no other is taken for one."""

from __future__ import annotations

import dataclasses
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from arrayred.batch import Job, SummaryLine, nights, reduce_one
from arrayred.config import NightFile, Recipe, TargetFile
from arrayred.io import MANIFEST, STATE_FOLDER, Ledger, SavedCards, write_saved_cards
from tests.batch.disturbed import changed_manifest, inodes, job_of, products


@pytest.fixture(scope="module")
def _out(_three_nights: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    job = job_of(_three_nights / "night-0", tmp_path_factory.mktemp("done") / "out")
    assert reduce_one(job).exit_code == 0
    return job.output.out


@pytest.fixture
def done(_out: Path, _three_nights: Path, tmp_path: Path) -> Job:
    """Return the job of a night that is finished; its frames are read only."""
    out = shutil.copytree(_out, tmp_path / "out", copy_function=shutil.copy2)
    return job_of(_three_nights / "night-0", Path(out))


@pytest.fixture
def own(three: Path, tmp_path: Path) -> Job:
    """Return the job of a night that is finished, whose frames may be changed."""
    job = job_of(three / "night-0", tmp_path / "out")
    assert reduce_one(job).exit_code == 0
    return job


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Return the nights that are opened."""
    folders: list[Path] = []
    original = nights.open_night

    def watched(folder: Path, *args: object, **options: object) -> object:
        folders.append(folder)
        return original(folder, *args, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(nights, "open_night", watched)
    return folders


@pytest.mark.parametrize("verify", [False, True])
def test_a_finished_night_is_not_opened_and_tells_the_same(
    three: Path, tmp_path: Path, opened: list[Path], verify: bool
) -> None:
    job = job_of(three / "night-0", tmp_path / "out", verify=verify)
    first, again = reduce_one(job), reduce_one(job)
    assert opened == [job.folder]
    kept = [dataclasses.replace(line, status="kept", seconds=0.0) for line in first.lines]
    assert [list(map(str, as_cells(line))) for line in kept] == [
        list(map(str, as_cells(line))) for line in again.lines
    ]
    assert (first.warnings, first.lends, again.exit_code) == (again.warnings, again.lends, 0)


def as_cells(line: SummaryLine) -> list[object]:
    return list(line.cells().values())


CHANGES: dict[str, dict[str, Any]] = {
    "recipe": {"recipe": Recipe(n_sigma=5.0)},
    "cards": {"cards": {"NOTE": "x"}},
    "figures": {"figures": True},
    "targets": {"targets": ("Vega",)},
    "depth": {"depth": 2},
    "exclude": {"file": NightFile(exclude=("light-002*",))},
    "instrument": {"file": NightFile(instrument="barber20"), "allow_missing": True},
    "target": {"file": NightFile(targets={"Vega": TargetFile(cards={"NOTE": "x"})})},
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_night_of_which_something_else_is_asked_is_opened_and_is_as_if_new(
    done: Job, tmp_path: Path, opened: list[Path], change: str
) -> None:
    again = job_of(done.folder, done.output.out, overwrite=True, **CHANGES[change])
    fresh = job_of(done.folder, tmp_path / "fresh", **CHANGES[change])
    assert [reduce_one(job).exit_code for job in (again, fresh)] == [0, 0]
    assert opened == [done.folder] * 2
    assert products(again.output.out) == products(fresh.output.out)


def test_a_night_with_other_answers_is_opened(done: Job, opened: list[Path]) -> None:
    write_saved_cards(done.output.out, SavedCards({"NOTE": "x"}))
    reduce_one(done)
    assert opened == [done.folder]


def edited(path: Path) -> None:
    """Change one pixel; size and time of change are as before."""
    status, content = path.stat(), bytearray(path.read_bytes())
    content[-2881] ^= 1
    time.sleep(0.02)
    path.write_bytes(content)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def exchanged(path: Path) -> None:
    """Put another file in its place, with its times, as ``cp -p`` does."""
    other = path.with_suffix(".other")
    shutil.copy2(path, other)
    edited(other)
    other.replace(path)


FRAME_CHANGES: dict[str, Callable[[Path], object]] = {
    "edited": edited,
    "exchanged": exchanged,
    "gone": Path.unlink,
    "added": lambda path: shutil.copy2(path, path.with_name("light-009.fit")),
    "a pipe": lambda path: (path.unlink(), os.mkfifo(path)),
}


@pytest.mark.parametrize("change", FRAME_CHANGES)
def test_a_night_with_other_frames_is_reduced_anew(
    own: Job, tmp_path: Path, opened: list[Path], change: str
) -> None:
    age(own)
    FRAME_CHANGES[change](own.folder / "light-001.fit")
    order = dataclasses.replace(own.output, overwrite=True)
    report = reduce_one(dataclasses.replace(own, output=order))
    assert opened == [own.folder]
    fresh = job_of(own.folder, tmp_path / "fresh")
    assert reduce_one(fresh).exit_code == report.exit_code == 0
    assert products(own.output.out) == products(fresh.output.out)


def age(job: Job) -> None:
    """Let it be long ago that files were hashed, so that only their stamps count."""
    with changed_manifest(job.output.out) as whole:
        for stamp in whole["stamps"].values():
            stamp[-2] += 10**10


def test_a_changed_frame_is_seen_even_where_the_stamp_lies(own: Job, opened: list[Path]) -> None:
    age(own)
    path = own.folder / "light-001.fit"
    edited(path)
    status = path.stat()
    with changed_manifest(own.output.out) as whole:
        stamp = whole["stamps"][str(path)]
        stamp[:4] = [status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino]
    order = dataclasses.replace(own.output, verify=True, overwrite=True)
    assert reduce_one(dataclasses.replace(own, output=order)).lines[0].status == "reduced"
    assert opened == [own.folder]


@pytest.mark.parametrize("name", ["masters/master_dark_600s", "targets/Vega"])
def test_a_night_without_an_entry_is_completed(done: Job, opened: list[Path], name: str) -> None:
    whole = products(done.output.out)
    before = inodes(done.output.out, whole)
    Ledger(done.output.out).forget(name)
    assert reduce_one(done).exit_code == 0
    assert opened == [done.folder]
    assert inodes(done.output.out, whole) == before
    assert reduce_one(done).lines[0].status == "kept"
    assert opened == [done.folder]


@pytest.mark.parametrize("damage", [{}, {"key": 1}, {"key": 0, "files": 3}, [], None])
def test_a_damaged_state_is_none(done: Job, opened: list[Path], damage: object) -> None:
    with changed_manifest(done.output.out) as whole:
        key = whole["finished"]["key"]
        whole["finished"] = damage
        if isinstance(damage, dict) and "key" in damage:
            damage["key"] = key
    assert reduce_one(done).lines[0].status == "kept"
    assert opened == [done.folder]


@pytest.mark.parametrize("damage", [b"", b"{", b"\xff"])
def test_a_night_with_a_damaged_manifest_is_made_again_to_the_byte(
    done: Job, opened: list[Path], damage: bytes
) -> None:
    whole = products(done.output.out)
    before = inodes(done.output.out, whole)
    (done.output.out / STATE_FOLDER / MANIFEST).write_bytes(damage)
    assert [reduce_one(done).lines[0].status for _ in range(2)] == ["reduced", "kept"]
    assert inodes(done.output.out, whole) == before
    assert opened == [done.folder]


def test_a_night_recorded_by_another_version_is_refused_by_name(done: Job) -> None:
    with changed_manifest(done.output.out) as whole:
        whole["schema"] = 1
    report = reduce_one(done)
    assert report.exit_code == 2
    reason = report.lines[0].reason
    assert f"{done.output.out}: The products here were written by another version" in reason


def test_a_night_with_a_failed_target_is_opened_again(
    three: Path, tmp_path: Path, opened: list[Path]
) -> None:
    job = job_of(
        three / "night-0", tmp_path / "out", recipe=Recipe(n_sigma=1e9, detect="threshold")
    )
    codes = [reduce_one(job).exit_code for _ in range(2)]
    assert codes == [4, 4]
    assert opened == [job.folder] * 2
