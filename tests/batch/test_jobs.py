"""A job means the same to a process that runs in another folder."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from arrayred.batch import Job, require_paths_visible, with_absolute_paths
from arrayred.config import NightFile, Recipe, TargetFile
from arrayred.io import path_or_address
from tests.batch.disturbed import job_of


def test_every_path_of_a_job_becomes_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    file = NightFile(
        instrument="mine.toml",
        calibrations=(Path("darks"),),
        masters={"bias": Path("bias.fits")},
        recipe={"bad_pixels": "mask.fits"},
        targets={"Vega": TargetFile(recipe={"bad_pixels": "own.fits", "rows": (1, 2)})},
    )
    job = job_of(Path("night"), Path("out"), file=file, recipe=Recipe(bad_pixels="mask.fits"))
    whole = with_absolute_paths(job)
    assert (whole.folder, whole.output.out) == (tmp_path / "night", tmp_path / "out")
    assert whole.file.instrument == str(tmp_path / "mine.toml")
    assert whole.file.calibrations == (tmp_path / "darks",)
    assert whole.file.masters == {"bias": tmp_path / "bias.fits"}
    masks = [whole.recipe.bad_pixels, whole.file.recipe["bad_pixels"]]
    assert masks == [str(tmp_path / "mask.fits")] * 2
    own = {"bad_pixels": str(tmp_path / "own.fits"), "rows": (1, 2)}
    assert whole.file.targets["Vega"].recipe == own


@pytest.mark.parametrize("mask", ["", "dark", "dark+flat"])
def test_what_is_no_path_stays(tmp_path: Path, mask: str) -> None:
    recipe = Recipe(bad_pixels=mask, n_sigma=3.5)
    job = job_of(tmp_path / "night", tmp_path / "out", recipe=recipe, allow_missing=True)
    assert with_absolute_paths(job) == job
    assert {f.name for f in dataclasses.fields(Job)} >= {"wait", "scheduler"}


def test_an_address_stays_and_is_not_looked_for_here() -> None:
    folder, darks = path_or_address("s3://bucket/night.zarr"), path_or_address("s3://bucket/darks")
    job = job_of(folder, Path("/out"), file=NightFile(calibrations=(darks,)))
    whole = with_absolute_paths(job)
    assert (whole.folder, whole.file.calibrations) == (folder, job.file.calibrations)
    require_paths_visible([whole.folder, *whole.file.calibrations])
