"""The log beside the products: a JSON object a line, safe to be printed, bounded, never lost."""

from __future__ import annotations

import errno
import io
import json
import sys
from collections.abc import Generator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy.io import fits

from arrayred.batch import Report, logged_reports, nights, reduce_nights, reduce_one
from arrayred.errors import StorageError
from arrayred.io import LOG_FILE
from arrayred.progress import note
from tests.batch.disturbed import job_of, products, write_night


def events(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (out / LOG_FILE).read_text("ascii").splitlines()]


def of_kind(out: Path, event: str) -> list[dict[str, Any]]:
    return [told for told in events(out) if told["event"] == event]


def logged(out: Path, *texts: str) -> None:
    """Write the log of a run of no nights, with warnings."""

    def reports() -> Generator[tuple[Report, bool], None, None]:
        for text in texts:
            note("warning", {"text": text})
        yield from ()

    assert not list(logged_reports(reports(), out))


def test_the_secrets_of_urls_are_not_logged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    places = ["https://me:hush@host/night", "https://host/star.fit?Signature=hush"]
    monkeypatch.setattr(sys, "argv", ["arrayred", "reduce", *places])
    logged(tmp_path, f"{places[0]} cannot be read")
    (run,) = of_kind(tmp_path, "run")
    assert run["command"].count("https://host/") == 2
    assert of_kind(tmp_path, "warning")[0]["text"] == "https://host/night cannot be read"
    assert "hush" not in (tmp_path / LOG_FILE).read_text()


@pytest.fixture
def night(tmp_path: Path) -> Path:
    return write_night(tmp_path / "night")


def test_a_night_logs_its_stages_and_targets(night: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert reduce_one(job_of(night, out)).exit_code == 0
    (target,) = of_kind(out, "target")
    assert (target["target"], target["status"], target["files"]) == ("Vega", "reduced", 5)
    stages = {told["stage"]: told["seconds"] for told in of_kind(out, "stage")}
    assert {"reading headers", "plan", "Vega: combine", "Vega: write"} <= stages.keys()
    assert 0 < stages["Vega: combine"] < stages["Vega"]
    (read,) = (told for told in of_kind(out, "stage") if told["stage"] == "Vega: read")
    assert read["mb_read"] > 0
    (end,) = of_kind(out, "end")
    assert (end["status"], end["failed"]) == ("done", 0)
    assert [told["event"] for told in events(out)][:: len(events(out)) - 1] == ["run", "end"]


def test_the_log_of_many_nights_has_none_of_their_stages(night: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    jobs = [job_of(night, out / "a")]
    assert len(list(logged_reports(reduce_nights(jobs), out))) == 1
    assert [told["event"] for told in events(out)] == ["run", "night", "end"]
    assert len(of_kind(out / "a", "stage")) > 5


def test_what_fails_and_what_is_odd_is_logged(night: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    for path in night.glob("light*"):
        flat = np.full_like(fits.getdata(path), 1000)
        fits.writeto(path, flat, fits.getheader(path), overwrite=True)
        fits.setval(path, "CCD-TEMP", value=fits.getheader(path)["CCD-TEMP"] + 2)
    assert reduce_one(job_of(night, out)).exit_code == 4
    (target,) = of_kind(out, "target")
    assert (target["status"], target["exit_code"]) == ("failed", 4)
    assert "has no signal" in target["error"]
    assert any("deg C" in told["text"] for told in of_kind(out, "check"))
    assert of_kind(out, "end")[0]["failed"] == 1


def test_a_night_that_is_refused_leaves_no_log(night: Path, tmp_path: Path) -> None:
    for path in night.glob("dark*"):
        path.unlink()
    assert reduce_one(job_of(night, tmp_path / "out")).exit_code == 4
    assert not (tmp_path / "out").exists()


def test_a_run_that_is_broken_off_says_so(
    night: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("arrayred.batch.run._NightRun.make_products", stop)
    with pytest.raises(KeyboardInterrupt):
        reduce_one(job_of(night, tmp_path / "out"))
    (end,) = of_kind(tmp_path / "out", "end")
    assert (end["status"], end["error"]) == ("interrupted", "KeyboardInterrupt")


def test_each_run_adds_its_lines(tmp_path: Path) -> None:
    logged(tmp_path, "one")
    logged(tmp_path, "two")
    found = events(tmp_path)
    assert [line["event"] for line in found] == ["run", "warning", "end"] * 2
    assert [line["text"] for line in found if "text" in line] == ["one", "two"]
    assert all(line["time"].endswith("+00:00") for line in found)


@pytest.mark.parametrize("text", ["a\x1b[31mb", "two\nlines", "\u202egnp", "caf\u00e9", "\udcff"])
def test_no_text_steers_a_terminal_or_breaks_a_line(tmp_path: Path, text: str) -> None:
    logged(tmp_path, text)
    raw = (tmp_path / LOG_FILE).read_bytes()
    assert all(0x20 <= byte < 0x7F or byte == 0x0A for byte in raw)
    assert events(tmp_path)[1]["text"] == text


def test_the_oldest_lines_go_where_there_are_too_many(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(nights, "_MAX_LOG_BYTES", 2000)
    for i in range(40):
        logged(tmp_path, f"warning {i}")
    assert 1500 < (tmp_path / LOG_FILE).stat().st_size < 3000
    assert events(tmp_path)[-2]["text"] == "warning 39"


def test_a_link_is_replaced_and_neither_followed_nor_read(tmp_path: Path) -> None:
    (tmp_path / "victim").write_text("secret\n")
    (tmp_path / LOG_FILE).symlink_to(tmp_path / "victim")
    logged(tmp_path)
    assert (tmp_path / "victim").read_text() == "secret\n"
    assert b"secret" not in (tmp_path / LOG_FILE).read_bytes()
    assert not (tmp_path / LOG_FILE).is_symlink()


def test_a_line_cut_by_others_is_kept_apart(tmp_path: Path) -> None:
    (tmp_path / LOG_FILE).write_bytes(b'{"half"')
    logged(tmp_path)
    lines = (tmp_path / LOG_FILE).read_bytes().splitlines()
    assert (lines[0], json.loads(lines[1])["event"]) == (b'{"half"', "run")


def test_a_folder_of_its_name_is_a_storage_error(tmp_path: Path) -> None:
    (tmp_path / LOG_FILE).mkdir()
    with pytest.raises(StorageError, match=LOG_FILE):
        logged(tmp_path)


def test_a_disk_that_is_full_of_the_log_is_exit_code_5_and_costs_no_product(
    night: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    assert reduce_one(job_of(night, tmp_path / "truth")).exit_code == 0

    class Full(io.FileIO):
        def write(self, content: Any) -> int:
            if b"Vega" in bytes(content):
                raise OSError(errno.ENOSPC, "No space left on device")
            return super().write(content)

    monkeypatch.setattr(nights.io, "FileIO", Full)
    report = reduce_one(job_of(night, out))
    assert report.exit_code == StorageError.exit_code == 5
    assert f"{out / LOG_FILE}: The product cannot be written" in report.lines[0].reason
    assert products(out) == products(tmp_path / "truth")
    assert {told["event"] for told in events(out)} >= {"run", "night"}
