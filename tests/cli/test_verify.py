"""``arrayred verify``: what is as it was, what is not, and of what each product was made."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from arrayred.io import MANIFEST, STATE_FOLDER
from tests.cli.conftest import Call

STAR = Path("out/targets/Simulated_star")


@pytest.fixture
def out(night: Path, arrayred: Call) -> Path:
    """Return an output folder with one finished target."""
    assert arrayred("reduce", night, "-o", "out", "--no-figures", "-q").code == 0
    return Path("out")


@pytest.mark.usefixtures("out")
def test_what_is_as_it_was_is_said_with_its_inputs(arrayred: Call) -> None:
    told = arrayred("verify", "out")
    assert told.code == 0
    assert "6 products of 8 inputs: all unchanged" in told.out
    of_target = told.out.partition("targets/Simulated_star\n")[2]
    assert re.search(r"product  [0-9a-f]{12}  targets/Simulated_star/.*_spectrum\.fits", of_target)
    assert len(re.findall(r"from     [0-9a-f]{12}  /.*\.fit", of_target)) == 8
    assert arrayred("verify", "-q", "out") == (0, "", "")


@pytest.mark.usefixtures("out")
@pytest.mark.parametrize("state", ["missing", "changed"])
def test_a_product_that_is_not_as_it_was_is_named(arrayred: Call, state: str) -> None:
    product = STAR / "Simulated_star_combined.fits"
    content = bytearray(product.read_bytes())
    content[-1] ^= 1
    product.unlink() if state == "missing" else product.write_bytes(content)
    told = arrayred("verify", "out", "--quiet")
    assert (told.code, told.out.strip()) == (3, f"{product}: {state}")


@pytest.mark.usefixtures("out")
def test_an_input_that_is_not_as_it_was_is_named_with_what_was_made_of_it(
    night: Path, arrayred: Call
) -> None:
    dark, light = night / "dark-001.fit", night / "light-001.fit"
    dark.unlink()
    light.write_bytes(light.read_bytes() + bytes(2880))
    told = arrayred("verify", "-q", "out")
    assert told.code == 3
    assert told.out.count(f"{dark}: missing; it is an input of ") == 2
    assert f"{light}: changed; it is an input of targets/Simulated_star" in told.out


def test_what_no_entry_knows_and_what_makes_no_sense_is_named(out: Path, arrayred: Call) -> None:
    (STAR / "notes.txt").write_text("mine")
    assert arrayred("verify", "out").code == 0
    assert (
        f"{STAR / 'notes.txt'}: unknown file, not a finished product"
        in arrayred("verify", "out").out
    )
    manifest = out / STATE_FOLDER / MANIFEST
    manifest.write_text("{")
    told = arrayred("verify", "out")
    assert (told.code, f"{manifest}: unreadable" in told.out) == (3, True)


@pytest.mark.usefixtures("out")
def test_a_product_is_verified_with_its_own_inputs(arrayred: Call) -> None:
    (STAR / "Simulated_star.txt").write_text("mine")
    master, combined = (
        Path("out/masters/master_dark_600s.fits"),
        STAR / "Simulated_star_combined.fits",
    )
    combined.write_bytes(b"")
    assert arrayred("verify", master).code == 0
    assert arrayred("verify", combined).code == 3
    assert arrayred("verify", STAR / "Simulated_star.txt").code == 2


def test_where_nothing_was_finished_that_is_said(night: Path, arrayred: Call) -> None:
    for place in (night, night / "light-001.fit", "nowhere"):
        told = arrayred("verify", place)
        assert (told.code, len(told.err.splitlines())) == (2, 1)
    for options in ((), ("--explain",)):
        assert "nowhere: No such file" in arrayred("verify", "nowhere", *options).err


@pytest.mark.usefixtures("out")
@pytest.mark.parametrize("name", ["_spectrum.fits", "_combined.fits", "_skysubtracted.txt"])
def test_a_product_tells_its_story(arrayred: Call, name: str) -> None:
    told = arrayred("verify", "--explain", STAR / f"Simulated_star{name}")
    assert told.code == 0
    for line in ("  dark subtracted", "  average of 3 frames", "  ARDARK   master_dark_600s.fits"):
        assert line in told.out
    assert len(re.findall(r"^  [0-9a-f]{64}  (dark|light)-00\d\.fit$", told.out, re.M)) == 8


def test_a_raw_frame_and_a_folder_have_no_story(night: Path, arrayred: Call) -> None:
    assert arrayred("verify", "--explain", night / "light-001.fit").code == 4
    assert arrayred("verify", "--explain", night).code == 2
