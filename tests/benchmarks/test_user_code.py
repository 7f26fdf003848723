"""The comparison with ccdproc and specreduce: its page, and what both scripts measure."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from arrayred.io import write_frames
from arrayred.simulate import Detector, SimulatedNight, Star
from benchmarks.publish import ROOT
from benchmarks.user_code import OURS, PAGE, SCRIPTS, THEIRS, code, lines_of, results, try_scripts


def test_the_page_shows_the_scripts_and_counts_their_lines() -> None:
    page = (ROOT / PAGE).read_text("utf-8")
    assert f"<!-- code:begin -->\n\n{code()}\n\n<!-- code:end -->" in page
    for name, script in SCRIPTS.items():
        assert f"| {name} | {lines_of(script.read_text())} |" in page


def test_lines_are_those_of_code() -> None:
    assert lines_of('"""What it does."""\n\nimport sys\n# Why\nprint(sys.argv)  # both\n') == 2


@pytest.mark.slow
def test_both_scripts_find_the_flux(tmp_path: Path) -> None:
    night = SimulatedNight(Detector(shape=(400, 200)), Star(row=200.0, lines=(), seeing=10.0))
    write_frames(night.frames(), tmp_path / "night")
    truth = night.truth()["flux"].values
    trials = try_scripts(tmp_path / "night", tmp_path, rounds=1)
    for name in (OURS, THEIRS):
        assert np.abs(trials[name].flux.sum() / truth.sum() - 1) < 0.005
        pull = (trials[name].flux - truth) / np.sqrt(trials[name].variance)
        assert 0.8 < pull.std() < 1.3
    table = results({"small": trials}, {"small": truth})
    assert table.count("| small | ") == 3
