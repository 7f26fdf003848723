"""Publishing: whatever call to the disk fails, every file is the old one or the new one, whole."""

from __future__ import annotations

import errno
import io
import itertools
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from arrayred.errors import StorageError, UsageError
from arrayred.io import publish as module
from arrayred.io import remove_temporaries, require_room
from arrayred.io.publish import publish

OLD = {"a.fits": b"old" * 100, "b.txt": b"", "deep/er/c.png": None}
NEW = {"a.fits": b"new!" * 70, "b.txt": b"x y\n1.0 2.0\n", "deep/er/c.png": bytes(range(256))}
FAULTS = [errno.ENOSPC, errno.EIO]
INTERRUPT = -1
OPERATIONS = ("open", "write", "fsync", "replace")


class Faults:
    """The nth call of some operations on the disk fails, and if asked for, all after it."""

    def __init__(
        self,
        patch: pytest.MonkeyPatch,
        fault: int,
        nth: int,
        *,
        lasting: bool = False,
        operations: tuple[str, ...] = (*OPERATIONS, "mkdir"),
    ) -> None:
        self.fault, self.nth, self.lasting, self.calls = fault, nth, lasting, 0
        for name in set(operations) - {"write"}:
            patch.setattr(os, name, self.watched(getattr(os, name)))
        if "write" in operations:
            patch.setattr(module, "open", self.file, raising=False)

    def count(self, *names: str) -> None:
        self.calls += 1
        if self.calls == self.nth or (self.lasting and self.calls > self.nth):
            if self.fault == INTERRUPT:
                raise KeyboardInterrupt
            raise OSError(self.fault, os.strerror(self.fault), *names)

    def watched(self, call: Callable[..., Any]) -> Callable[..., Any]:
        def watching(*args: Any, **options: Any) -> Any:
            self.count(*(os.fspath(arg) for arg in args[:1] if isinstance(arg, Path)))
            return call(*args, **options)

        return watching

    def file(self, handle: int, mode: str, **_options: Any) -> io.FileIO:
        """Return a file that writes at most 64 bytes a call, as a file may."""
        count = self.count

        class Reluctant(io.FileIO):
            def write(self, content: Any) -> int:
                count()
                return super().write(memoryview(content)[:64])

        return Reluctant(handle, mode)


def put(folder: Path, files: dict[str, bytes | None]) -> None:
    for name, content in files.items():
        if content is not None:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(content)


def found(folder: Path) -> dict[str, bytes]:
    """Return all files of a folder, hidden ones too."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def wanted(folder: Path) -> dict[Path, bytes]:
    return {folder / name: content for name, content in NEW.items()}


@pytest.mark.parametrize("fault", [*FAULTS, INTERRUPT])
@pytest.mark.parametrize("lasting", [False, True])
def test_whatever_call_fails_every_file_is_whole_and_no_temporary_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: int, lasting: bool
) -> None:
    for nth in itertools.count(1):
        folder = tmp_path / str(nth)
        put(folder, OLD)
        with monkeypatch.context() as patch:
            faults = Faults(patch, fault, nth, lasting=lasting)
            is_whole = not fails_to_publish(folder)
        assert not is_whole or found(folder) == NEW
        if faults.calls < nth:
            break
        left = found(folder)
        assert all(left.get(name) in (OLD[name], NEW[name]) for name in NEW)
        assert set(left) <= set(NEW)
        publish(wanted(folder), overwrite=True)
        assert found(folder) == NEW
    assert is_whole
    assert nth > 15


def fails_to_publish(folder: Path) -> bool:
    try:
        publish(wanted(folder), overwrite=True)
    except (StorageError, KeyboardInterrupt):
        return True
    return False


def test_a_signal_while_a_temporary_is_made_leaves_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.open

    def interrupted(path: Any, flags: int, *mode: int) -> int:
        handle = real(path, flags, *mode)
        if flags & os.O_CREAT:
            os.close(handle)
            raise SystemExit(143)
        return handle

    monkeypatch.setattr(os, "open", interrupted)
    with pytest.raises(SystemExit):
        publish({tmp_path / "x.txt": b"1"}, overwrite=False)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_file_that_cannot_be_read_is_not_taken_for_other_content(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, overwrite: bool
) -> None:
    path = tmp_path / "x.txt"
    path.write_bytes(b"same")

    def broken(_path: Path) -> bytes:
        raise OSError(errno.EIO, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "read_bytes", broken)
        if overwrite:
            publish({path: b"same"}, overwrite=True)
        else:
            with pytest.raises(StorageError, match=r"x\.txt: .*Input/output error"):
                publish({path: b"same"})
    assert path.read_bytes() == b"same"
    assert [one.name for one in tmp_path.iterdir()] == ["x.txt"]


@pytest.mark.parametrize("operation", ["open", "write"])
def test_before_the_first_rename_every_old_file_is_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, operation: str
) -> None:
    put(tmp_path, OLD)
    Faults(monkeypatch, FAULTS[0], 3, operations=(operation,))
    with pytest.raises(StorageError):
        publish(wanted(tmp_path), overwrite=True)
    assert found(tmp_path) == {
        name: content for name, content in OLD.items() if content is not None
    }


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("operation", OPERATIONS)
def test_the_error_names_the_product_the_reason_and_a_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: int, operation: str
) -> None:
    files = {tmp_path / "first.fits": b"1", tmp_path / "second.fits": b"2"}
    with monkeypatch.context() as patch:
        Faults(patch, fault, 2, operations=(operation,))
        with pytest.raises(StorageError, match=r"choose another output folder") as caught:
            publish(files)
    assert caught.value.path == str(tmp_path / "second.fits")
    assert os.strerror(fault) in str(caught.value)
    assert caught.value.exit_code == 5


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"here first")
    with pytest.raises(StorageError) as caught:
        publish({tmp_path / "file" / "sub" / "a.fits": b"1"})
    assert str(caught.value.path).startswith(str(tmp_path / "file"))
    assert found(tmp_path) == {"file": b"here first"}


def test_files_are_made_with_their_folders(tmp_path: Path) -> None:
    publish({**wanted(tmp_path), tmp_path / "e.fits": bytearray(b"mutable")})
    assert found(tmp_path) == {**NEW, "e.fits": b"mutable"}


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_file_of_the_same_content_is_left_alone(tmp_path: Path, overwrite: bool) -> None:
    put(tmp_path, {"a.fits": NEW["a.fits"]})
    os.utime(tmp_path / "a.fits", (1e9, 1e9))
    before = (tmp_path / "a.fits").stat()
    publish(wanted(tmp_path), overwrite=overwrite)
    after = (tmp_path / "a.fits").stat()
    assert (after.st_mtime_ns, after.st_ino) == (before.st_mtime_ns, before.st_ino)
    assert found(tmp_path) == NEW


@pytest.mark.parametrize("old", [b"other content", b"", NEW["b.txt"][::-1]])
def test_a_file_of_other_content_is_not_replaced_and_nothing_is_written(
    tmp_path: Path, old: bytes
) -> None:
    put(tmp_path, {"b.txt": old})
    with pytest.raises(UsageError, match="--overwrite") as caught:
        publish(wanted(tmp_path))
    assert caught.value.path == str(tmp_path / "b.txt")
    assert found(tmp_path) == {"b.txt": old}
    assert [path.name for path in tmp_path.iterdir()] == ["b.txt"]


def test_files_of_other_content_are_replaced_when_that_is_asked_for(tmp_path: Path) -> None:
    put(tmp_path, OLD)
    publish(wanted(tmp_path), overwrite=True)
    assert found(tmp_path) == NEW


@pytest.mark.parametrize("victim", [b"precious", NEW["a.fits"], None])
def test_a_link_in_the_way_is_replaced_and_its_victim_untouched(
    tmp_path: Path, victim: bytes | None
) -> None:
    put(tmp_path, {"victim": victim})
    (tmp_path / "out").mkdir()
    link = tmp_path / "out" / "a.fits"
    link.symlink_to(tmp_path / "victim")
    with pytest.raises(UsageError):
        publish(wanted(tmp_path / "out"))
    assert link.is_symlink()
    publish(wanted(tmp_path / "out"), overwrite=True)
    assert not link.is_symlink()
    assert found(tmp_path / "out") == NEW
    assert found(tmp_path).get("victim") == victim


def test_a_folder_in_the_way_stays_as_it_is(tmp_path: Path) -> None:
    put(tmp_path, {"a.fits/inside": b"precious"})
    with pytest.raises(StorageError):
        publish(wanted(tmp_path), overwrite=True)
    assert found(tmp_path) == {"a.fits/inside": b"precious"}


def test_a_file_size_limit_of_the_system_spares_the_old_files(tmp_path: Path) -> None:
    pytest.importorskip("resource")
    put(tmp_path, {"small.txt": b"old", "large.fits": b"old"})
    code = (
        "import resource, sys; from pathlib import Path\n"
        "from arrayred.errors import StorageError; from arrayred.io.publish import publish\n"
        "sys.dont_write_bytecode = True\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))\n"
        "files = {Path('small.txt'): b'new', Path('large.fits'): bytes(8000)}\n"
        "try: publish(files, overwrite=True)\n"
        "except StorageError as error: print(error); sys.exit(error.exit_code)"
    )
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=tmp_path, check=False, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (5, "")
    assert done.stdout.startswith("large.fits: ")
    assert found(tmp_path) == {"small.txt": b"old", "large.fits": b"old"}


def test_room_is_found_under_a_folder_yet_to_be_made(tmp_path: Path) -> None:
    require_room(tmp_path / "not" / "yet" / "there", 1000)
    assert not (tmp_path / "not").exists()


def test_a_file_is_no_place_for_products(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StorageError, match="Choose another output folder") as caught:
        require_room(tmp_path / "file" / "sub", 1)
    assert caught.value.path == str(tmp_path / "file")


def test_a_disk_too_small_is_known_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match=r"\d+ bytes free.*need 1100000000000000000") as caught:
        require_room(tmp_path, 10**18)
    assert caught.value.path == str(tmp_path)


@pytest.mark.skipif(os.name != "posix", reason="processes are asked by their number")
@pytest.mark.parametrize("ends_in", [0.0, 0.2, 60.0])
def test_what_a_process_left_is_swept_once_it_has_ended_if_nobody_waits_for_it_too(
    tmp_path: Path, ends_in: float
) -> None:
    with subprocess.Popen(["sleep", str(ends_in)]) as writer:
        left = tmp_path / f".a.fits.{writer.pid}.0123abcd.tmp"
        left.touch()
        remove_temporaries([tmp_path])
        assert left.exists() == (ends_in == 60.0)
        writer.kill()
