"""How often a night's bytes are touched: what was saved once is not lost unnoticed."""

from __future__ import annotations

import hashlib
import os
import tracemalloc
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

import arrayred as ar
from arrayred.batch import Job, OutputOptions, reduce_one
from arrayred.io import Header, image_bytes, planes_of, write_frames
from arrayred.io import pixels as reading
from arrayred.simulate import Detector, SimulatedNight, Star

SHAPE = (256, 384)


@pytest.fixture
def job(tmp_path: Path) -> Job:
    write_frames(SimulatedNight(Detector(SHAPE), Star(row=130.0)).frames(), tmp_path / "night")
    return Job("night", tmp_path / "night", OutputOptions(tmp_path / "out", {}, figures=False))


@pytest.mark.skipif(os.name != "posix", reason="counts by what a handle is of")
def test_pixels_are_read_once_and_those_of_lights_once_more_to_be_judged(
    job: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    read, plain = Counter[int](), reading._read_at

    def counted(handle: int, view: memoryview, offset: int) -> int:
        read[os.fstat(handle).st_ino] += len(view)
        return plain(handle, view, offset)

    monkeypatch.setattr(reading, "_read_at", counted)
    assert reduce_one(job).exit_code == 0
    for path in job.folder.iterdir():
        status = path.stat()
        # The first light is looked at once more for the axis of its dispersion.
        times = 1 + path.stem.startswith("light") + (path.stem == "light-001")
        assert read[status.st_ino] < status.st_size * times


def test_every_byte_of_inputs_and_products_is_hashed_once(
    job: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    hashed: list[int] = []
    file_digest, sha256 = hashlib.file_digest, hashlib.sha256

    def of_file(file: object, name: str) -> object:
        hashed.append(os.fstat(file.fileno()).st_size)  # type: ignore[attr-defined]
        return file_digest(file, name)  # type: ignore[arg-type]

    def of_bytes(content: bytes = b"") -> object:
        hashed.append(len(content))
        return sha256(content)

    monkeypatch.setattr(hashlib, "file_digest", of_file)
    monkeypatch.setattr(hashlib, "sha256", of_bytes)
    assert reduce_one(job).exit_code == 0
    products = [p for p in job.output.out.rglob("*") if p.is_file() and ".arrayred" not in p.parts]
    there = sum(path.stat().st_size for path in [*job.folder.iterdir(), *products])
    assert there <= sum(hashed) < there * 1.02


def test_an_image_with_all_planes_is_made_in_one_buffer_of_the_files_size() -> None:
    pixels, flags = np.ones((400, 600)), np.zeros((400, 600), np.uint8)
    planes = {"counts": pixels, "clean": pixels, "variance": pixels.astype("f4"), "dq": flags}
    image = xr.Dataset({name: (("y", "x"), plane) for name, plane in planes.items()})
    tracemalloc.start()
    size = len(image_bytes(Header(), pixels, "float32", planes_of(image, "float32")))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    of_sigma_and_mask = pixels.size * 5
    assert peak < (size + of_sigma_and_mask) * 1.05


def test_an_image_that_is_settled_is_not_copied() -> None:
    image = xr.Dataset({"counts": (("y", "x"), np.ones((30, 40)))})
    settled = ar.settle(image)
    assert settled is not image
    assert np.shares_memory(settled.counts.values, image.counts.values)
