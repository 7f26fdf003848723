"""The log: a JSON object a line, safe to be printed, bounded, and never in the way."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from arrayred.errors import StorageError
from arrayred.io import LOG_FILE, RunLog, last_lines
from arrayred.io import journal as module
from arrayred.progress import Stage, stage, watched


def lines(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (out / LOG_FILE).read_text("ascii").splitlines()]


def logged(out: Path, *texts: str) -> None:
    journal = RunLog(out)
    for text in texts:
        journal.note("warning", {"text": text})
    journal.finish({"status": "done"})


def test_each_run_adds_its_lines(tmp_path: Path) -> None:
    logged(tmp_path, "one")
    logged(tmp_path, "two")
    found = lines(tmp_path)
    assert [line["event"] for line in found] == ["run", "warning", "end"] * 2
    assert [line["text"] for line in found if "text" in line] == ["one", "two"]
    assert all(line["time"].endswith("+00:00") for line in found)


def test_the_secrets_of_a_url_on_the_command_line_are_not_logged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    places = ["https://me:hush@host/night", "https://host/star.fit?Signature=hush"]
    monkeypatch.setattr(sys, "argv", ["arrayred", "reduce", *places])
    logged(tmp_path)
    (run, _) = lines(tmp_path)
    assert run["command"].count("https://host/") == 2
    assert "hush" not in (tmp_path / LOG_FILE).read_text()


@pytest.mark.parametrize("text", ["a\x1b[31mb", "two\nlines", "\u202egnp", "caf\u00e9", "\udcff"])
def test_no_text_steers_a_terminal_or_breaks_a_line(tmp_path: Path, text: str) -> None:
    logged(tmp_path, text)
    raw = (tmp_path / LOG_FILE).read_bytes()
    assert all(0x20 <= byte < 0x7F or byte == 0x0A for byte in raw)
    assert lines(tmp_path)[1]["text"] == text


def test_the_oldest_lines_go_where_there_are_too_many(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAX_LOG_BYTES", 2000)
    for i in range(40):
        logged(tmp_path, f"warning {i}")
    assert 1500 < (tmp_path / LOG_FILE).stat().st_size <= 2000
    assert lines(tmp_path)[-2]["text"] == "warning 39"


@pytest.mark.parametrize("n", range(12))
def test_last_lines_are_whole(n: int) -> None:
    text = b"ab\ncd\n\nefg\n"
    kept = last_lines(text, n)
    assert text.endswith(kept)
    assert len(kept) <= n
    starts = [0, 3, 6, 7, 11]
    assert len(text) - len(kept) == min(start for start in starts if len(text) - start <= n)


def test_a_stage_is_told_with_what_it_read(tmp_path: Path) -> None:
    journal = RunLog(tmp_path)
    journal.ends(Stage("combine", ("Vega",), 0.25, 3_000_000))
    with watched(journal), stage("write"):
        pass
    journal.save()
    combine, write = lines(tmp_path)[1:]
    assert (combine["stage"], combine["seconds"], combine["mb_read"]) == ("Vega: combine", 0.25, 3)
    assert write["stage"] == "write"
    assert "mb_read" not in write


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
    assert (tmp_path / LOG_FILE).read_bytes().splitlines()[0] == b'{"half"'
    assert json.loads((tmp_path / LOG_FILE).read_bytes().splitlines()[1])["event"] == "run"


def test_a_folder_of_its_name_is_a_storage_error(tmp_path: Path) -> None:
    (tmp_path / LOG_FILE).mkdir()
    with pytest.raises(StorageError, match=LOG_FILE):
        logged(tmp_path)
