"""Small nights on disk."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.batch.disturbed import write_nights


@pytest.fixture(scope="session")
def _three_nights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("three") / "nights"
    write_nights(folder, 3)
    return folder


@pytest.fixture
def three(_three_nights: Path, tmp_path: Path) -> Path:
    """Return a folder of three nights, to be changed at will."""
    return Path(shutil.copytree(_three_nights, tmp_path / "nights"))
