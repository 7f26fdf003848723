"""What xarray's users are used to works on frames and spectra; the page tells what it gives.

``python -m tests.test_xarray_habits`` writes the table of habits into the documentation anew.
"""

from __future__ import annotations

import os
import re
import warnings
from datetime import datetime
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest
import xarray as xr

import arrayred as ar
from arrayred.io import Provenance, spectrum_files, write_frames
from arrayred.simulate import Detector, SimulatedNight

PAGE = Path(__file__).parents[1] / "docs" / "python.md"
REFRESH = "python -m tests.test_xarray_habits"
TABLE = re.compile(r"(?<=<!-- habits -->\n).*?(?=<!-- end of habits -->)", re.DOTALL)
HABITS = {
    "open a night: nothing is read yet": 'ar.open_frames("NIGHT").counts',
    "read it now": 'ar.open_frames("NIGHT", chunks=None).counts',
    "chunks by dimension": 'ar.open_frames("NIGHT", {"frame": 1, "y": 40}).counts.data.chunksize',
    "xarray's own function": 'xr.open_dataset("NIGHT", engine="arrayred", chunks={}).counts',
    "a single file": 'xr.open_dataset("NIGHT/light-001.fit", engine="arrayred").counts',
    "many files": 'xr.open_mfdataset("NIGHT/*.fit", engine="arrayred").counts',
    "files of several nights": 'xr.open_mfdataset("NIGHT*/*.fit", engine="arrayred").counts',
    "folders of several nights": 'xr.open_mfdataset(["NIGHT", "NIGHT2"], engine="arrayred").counts',
    "join nights, labels unique": 'xr.concat([ar.open_frames(night, root=".") '
    'for night in ("NIGHT", "NIGHT2")], "frame").counts',
    "a spectrum of arrayred": 'xr.open_dataset("star_spectrum.fits", engine="arrayred")'
    "[['flux', 'uncertainty', 'sky', 'dq']]",
    "header cards as coordinates": 'ar.open_frames("NIGHT", cards=["CCD-TEMP"])["CCD-TEMP"]',
    "select by label and pixel": 'cube.counts.sel(frame="light-001", y=slice(10, 20), x=78)',
    "the nearest row": 'cube.counts.sel(y=84.4, method="nearest")',
    "select by a coordinate": 'cube.sel(frame=cube.frame_type == "dark").counts',
    "query": 'cube.query(frame="exptime > 100 and ccd_temp < -19").counts',
    "a coordinate as index": 'cube.set_xindex("frame_type").sel(frame_type="light").counts',
    "where": "cube.counts.where(cube.counts < 60000)",
    "groupby": 'cube.counts.groupby("frame_type").median()',
    "groupby a number": 'cube.counts.groupby("exptime").mean()',
    "groupby, opened by xarray": 'xr.open_mfdataset("NIGHT*/*.fit", engine="arrayred")'
    '.counts.groupby(["night", "frame_type"]).median()',
    "resample in time": 'cube.counts.resample(time="1h").mean()',
    "time as dimension": 'cube.swap_dims(frame="time").sel(time="2024-03-09").counts',
    "median over frames: the bits of combine": 'bool((cube.counts.median("frame") == '
    'ar.combine(cube, "median").counts).all())',
    "standard deviation": 'cube.counts.std("frame")',
    "quantile": 'cube.counts.quantile([0.1, 0.9], "frame")',
    "coarsen": "cube.counts.coarsen(y=4, x=4).mean()",
    "rolling": "cube.counts.rolling(x=5, center=True).mean()",
    "subtract an image": 'cube.counts - ar.combine(cube, "median").counts',
    "scale by a coordinate": "cube.counts / cube.exptime",
    "apply_ufunc": 'xr.apply_ufunc(np.ptp, cube.counts, input_core_dims=[["frame"]], '
    'kwargs={"axis": -1}, dask="parallelized", output_dtypes=["u2"])',
    "map_blocks": 'xr.map_blocks(lambda part: part.counts.mean("x"), cube)',
    "other chunks": 'ar.combine(cube.chunk(frame=1), "median").counts',
    "to_zarr": 'cube.to_zarr("cube.zarr", consolidated=False) and '
    'xr.open_zarr("cube.zarr", consolidated=False).counts',
    "to_dataframe": 'cube.counts.mean(("y", "x")).to_dataframe().shape',
    "plot": 'type(cube.counts.sel(frame="light-001").plot.imshow(robust=True)).__name__',
    "a night as a tree": 'ar.open_night("NIGHT").tree["raw/dark/600s"].counts',
}


def write_nights(folder: Path) -> None:
    """Write two nights and a spectrum into a folder."""
    for name, day in (("NIGHT", 9), ("NIGHT2", 10)):
        start = datetime(2024, 3, day, 20)
        night = SimulatedNight(Detector(shape=(160, 120)), n_darks=3, seed=day, start=start)
        write_frames(night.frames(), folder / name)
    tree = ar.reduce_night(folder / "NIGHT", ar.Recipe(rows=(74, 87)))
    spectrum = tree["targets/Simulated_star/spectrum"].to_dataset()
    lights = ar.make_plan(ar.open_night(folder / "NIGHT")).targets[0].lights.frames
    story = Provenance(lights, checksums={frame.path: "0" for frame in lights})
    for name, content in spectrum_files(spectrum, story, "star").items():
        (folder / name).write_bytes(content)


@cache
def results() -> dict[str, str]:
    """Return what each habit gives, in a folder of its own, or the error that it ends with."""
    home, found = Path.cwd(), {}
    with TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("error")
        write_nights(Path(folder))
        os.chdir(folder)
        try:
            names = {"ar": ar, "xr": xr, "np": np, "cube": ar.open_frames("NIGHT")}
            for habit, code in HABITS.items():
                try:
                    found[habit] = told(eval(code, dict(names)))
                except Exception as error:
                    found[habit] = f"{type(error).__name__}: {error}"
        finally:
            os.chdir(home)
    return found


def told(result: Any) -> str:
    """Return the sizes of a result, after computing it, and whether it was lazy; or its value."""
    if not isinstance(result, xr.Dataset | xr.DataArray):
        return f"`{result}`"
    lazy = ", lazy" if result.chunks else ""
    loaded = result.compute()
    sizes = ", ".join(f"{dim} {size}" for dim, size in loaded.sizes.items())
    units = {str(part.attrs.get("units", "")) for part in _parts(loaded)} - {""}
    index = loaded.indexes.get("frame")
    assert index is None or index.is_unique, "labels that stand twice"
    return f"{sizes}{lazy}" + (f"; {', '.join(sorted(units))}" if units else "")


def _parts(result: xr.Dataset | xr.DataArray) -> list[xr.DataArray]:
    return list(result.data_vars.values()) if isinstance(result, xr.Dataset) else [result]


def table() -> str:
    """Return the table of habits."""
    rows = [f"| {habit} | `{HABITS[habit]}` | {gives} |" for habit, gives in results().items()]
    return "\n".join(["| habit | code | gives |", "| --- | --- | --- |", *rows, ""])


@pytest.mark.parametrize("habit", HABITS)
def test_a_habit_works_without_a_warning(habit: str) -> None:
    assert not re.match(r"\w*(Error|Warning|Exception): ", results()[habit]), results()[habit]
    assert "|" not in HABITS[habit]


def test_the_table_of_habits_in_the_documentation_is_what_they_give() -> None:
    found = TABLE.search(PAGE.read_text("utf-8"))
    assert found is not None
    assert found[0] == table(), f"{PAGE.name} is out of date. Refresh it: {REFRESH}"


if __name__ == "__main__":
    PAGE.write_text(TABLE.sub(lambda _: table(), PAGE.read_text("utf-8")), "utf-8")
