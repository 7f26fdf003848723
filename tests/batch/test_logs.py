"""The log of nights: each target, each warning, what failed, and how it ended."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy.io import fits

from arrayred.batch import reduce_one
from arrayred.io import LOG_FILE
from tests.batch.disturbed import job_of, write_night


def events(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (out / LOG_FILE).read_text("ascii").splitlines()]


def of_kind(out: Path, event: str) -> list[dict[str, Any]]:
    return [told for told in events(out) if told["event"] == event]


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
    (end,) = of_kind(out, "end")
    assert (end["status"], end["failed"]) == ("done", 0)


def test_what_fails_and_what_is_odd_is_logged(night: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    for path in night.glob("light*"):
        flat = np.full_like(fits.getdata(path), 1000)
        fits.writeto(path, flat, fits.getheader(path), overwrite=True)
        fits.setval(path, "CCD-TEMP", value=fits.getheader(path)["CCD-TEMP"] + 2)
    assert reduce_one(job_of(night, out)).exit_code == 4
    (target,) = of_kind(out, "target")
    assert (target["status"], target["exit_code"]) == ("failed", 4)
    assert "shows no light" in target["error"]
    assert any("deg C" in told["text"] for told in of_kind(out, "warning"))
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
    assert (end["status"], end["error"]) == ("broken off", "KeyboardInterrupt")
