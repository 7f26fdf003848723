"""A reduced night, read only, and a way to have one of one's own."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from arrayred.batch import Job, OutputOptions, reduce_one
from arrayred.config import Recipe
from arrayred.simulate import Detector, Star
from tests.cli.two_stars import DENEB, taken


def reduced(night: Path, out: Path, *, recipe: Recipe | None = None, **order: Any) -> Path:
    """Reduce a night with its page; whatever keeps the page away is an error here."""
    wanted = OutputOptions(
        out, order.pop("cards", {}), command="arrayred reduce NIGHT -o OUT", **order
    )
    report = reduce_one(Job(night.name, night, wanted, recipe=recipe or Recipe()))
    assert not report.bug, report.bug
    assert not any("no report" in warning for warning in report.warnings), report.warnings
    return out


@pytest.fixture(scope="session")
def _two(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a night of two stars, one of them without light, and its output."""
    folder = tmp_path_factory.mktemp("two-pages")
    taken(folder / "night", "", 18, n_darks=5)
    taken(folder / "night", "d-", 20, star=DENEB, n_lights=3)
    taken(folder / "night", "v-", 22, star=Star("Nothing", flux=0.0), n_lights=2)
    # A lamp of another binning, which is of no use to them.
    taken(folder / "night", "n-", 21, n_arcs=1, detector=Detector(shape=(80, 60)))
    reduced(folder / "night", folder / "out")
    return folder


@pytest.fixture
def two(_two: Path, tmp_path: Path) -> Path:
    """Return a folder with a night and its output, to be changed at will."""
    return Path(shutil.copytree(_two, tmp_path / "copy", copy_function=shutil.copy2))


@pytest.fixture
def out(two: Path) -> Path:
    """Return the output of a night whose frames are elsewhere now."""
    return two / "out"
