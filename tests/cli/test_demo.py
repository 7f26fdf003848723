"""``arrayred demo``: runs anywhere, any number of times, and finds what it put in."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from matplotlib.image import imread

from arrayred.simulate import SimulatedNight
from tests.cli.conftest import Call, contents, without_seconds
from tests.cli.pages import ROOT


@pytest.fixture
def night(tmp_path: Path) -> Path:
    """Stand in for the folder that other commands must not touch."""
    (tmp_path / "night").mkdir()
    return tmp_path / "night"


def test_the_demo_finds_the_light_says_where_everything_is_and_draws_the_picture_of_the_readme(
    night: Path, arrayred: Call
) -> None:
    told = arrayred("demo", "-o", "try it")
    assert (told.code, told.err) == (0, "")
    found, true = map(float, re.findall(r"   all +(\d+) +(\d+)", told.out)[0])
    assert true == pytest.approx(float(SimulatedNight().truth()["flux"].sum()), rel=1e-3)
    assert found == pytest.approx(true, rel=0.01)
    printed = {
        Path(line.strip()).suffix for line in told.out.splitlines() if Path(line.strip()).is_file()
    }
    assert {".txt", ".fits", ".png"} <= printed
    (drawn,) = Path("try it").glob("reduced/targets/*/Simulated_star.png")
    now, shown = imread(drawn), imread(ROOT / "examples" / "quick_look.png")
    assert now.shape == shown.shape
    assert np.abs(now - shown).mean() < 0.01


def test_the_light_it_prints_is_that_of_the_file_and_a_second_demo_mends_what_was_changed(
    night: Path, arrayred: Call
) -> None:
    told = arrayred("demo", "--no-figures")
    (path,) = Path("arrayred-demo").rglob("*_spectrum.fits")
    flux = fits.getdata(path)["flux"]
    truth = SimulatedNight().truth()["flux"].values
    assert re.search(rf"   all +{flux.sum():.0f} ", told.out)
    assert np.median(np.abs(flux / truth - 1)) < 0.02
    before = contents(Path("arrayred-demo"))
    changed = {name for i, name in enumerate(sorted(before)) if i % 2}
    for name in changed:
        Path("arrayred-demo", name).write_bytes(b"by hand")
    again = arrayred("demo", "--no-figures")
    first, second = (without_seconds(one.out) for one in (told, again))
    assert (again.code, again.err, second) == (0, "", first)
    after = contents(Path("arrayred-demo"))
    assert {name: raw for name, (raw, _) in after.items()} == {
        name: raw for name, (raw, _) in before.items()
    }
    assert all(after[name] == before[name] for name in before.keys() - changed)


def test_a_file_in_the_way_is_named(night: Path, arrayred: Call) -> None:
    Path("taken").write_text("here first")
    told = arrayred("demo", "-o", "taken", "--no-figures")
    assert told.code == 5
    assert re.match(r"arrayred: error: taken\S*: .*\. [A-Z].*\n$", told.err)
    assert Path("taken").read_text() == "here first"
