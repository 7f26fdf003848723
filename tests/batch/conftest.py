"""Small nights on disk."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from arrayred.batch import local_cluster
from tests.batch.disturbed import write_nights

if TYPE_CHECKING:
    from distributed import Client


@pytest.fixture(scope="session")
def _three_nights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("three") / "nights"
    write_nights(folder, 3)
    return folder


@pytest.fixture
def three(_three_nights: Path, tmp_path: Path) -> Path:
    """Return a folder of three nights, to be changed at will."""
    return Path(shutil.copytree(_three_nights, tmp_path / "nights"))


@pytest.fixture(scope="module")
def _cluster() -> Iterator[Client]:
    with local_cluster(2) as client:
        yield client


@pytest.fixture
def client(_cluster: Client) -> Client:
    """Return the client of two workers that are alive."""
    _cluster.wait_for_workers(2, timeout=60)
    return _cluster
