"""A product's story is that of its own header, and of nobody else's."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
from astropy.io import fits

from arrayred.batch import reduce_one
from arrayred.errors import ForeignFileError, FrameError, UsageError
from arrayred.io import explain
from tests.batch.disturbed import job_of, write_night


@pytest.fixture(scope="module")
def star(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a star's products."""
    folder = tmp_path_factory.mktemp("explained")
    night = write_night(folder / "night")
    assert reduce_one(job_of(night, folder / "out")).exit_code == 0
    return folder / "out" / "targets" / "Vega"


def test_every_input_is_told_with_its_sha256(star: Path) -> None:
    provenance = explain(star / "Vega_spectrum.fits")
    frames = sorted((star.parents[2] / "night").iterdir())
    assert len(frames) == 4
    for path in frames:
        assert f"  {hashlib.sha256(path.read_bytes()).hexdigest()}  {path.name}" in provenance


def test_cards_are_told_as_the_header_has_them(star: Path) -> None:
    header = fits.getheader(star / "Vega_spectrum.fits")
    provenance = explain(star / "Vega_spectrum.fits").splitlines()
    for keyword in ("OBJECT", "NCOMBINE", "SPFIRST", "ARDARK"):
        told = [line.split() for line in provenance if line.startswith(f"  {keyword:8}")]
        assert [words[1] for words in told] == [str(header[keyword]).split()[0]]


@pytest.mark.parametrize("name", ["Vega_skysubtracted.txt", "Vega_spectrum.ecsv"])
def test_a_table_is_told_by_the_spectrum_beside_it(star: Path, name: str) -> None:
    own = explain(star / "Vega_spectrum.fits").splitlines()[1:]
    assert explain(star / name).splitlines() == [str(star / name), *own]


def test_what_nobody_tells_of_is_refused(star: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="No such file"):
        explain(tmp_path / "notes.txt")
    with pytest.raises(ForeignFileError):
        explain(star.parents[2] / "night" / "light-001.fit")
    (tmp_path / "odd.fits").write_bytes(b"SIMPLE")
    with pytest.raises(FrameError):
        explain(tmp_path / "odd.fits")
