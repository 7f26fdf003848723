"""Each figure takes what the package returns, and says what else it was given."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr

import arrayred as ar
from tests.cli.conftest import reduced_once
from tests.plots.conftest import NAME

Products = tuple[xr.Dataset, xr.Dataset]


@pytest.fixture
def given(target: xr.DataTree, folder: Path) -> dict[str, Any]:
    """Return one of each thing that a figure is drawn of."""
    return {
        "image": target["combined"].to_dataset(),
        "spectrum": target["spectrum"].to_dataset(),
        "spectra": target["frames"].to_dataset(),
        "cube": ar.open_frames(folder),
        "statistics": ar.row_statistics(target["combined"].to_dataset()),
    }


WANTED = {
    "image": "image", "frame": "image", "profile": "image",
    "cube": "cube", "spectrum": "spectrum", "noise": "spectrum",
    "frames": "spectra", "rows": "statistics",
}  # fmt: skip
OURS = {
    "image": "an image (y, x)", "cube": "a cube (frame, y, x)", "spectrum": "a spectrum (x)",
    "spectra": "spectra of frames (frame, x)", "statistics": "statistics of rows",
}  # fmt: skip


@pytest.mark.parametrize("what", list(OURS))
@pytest.mark.parametrize("function", list(WANTED))
def test_a_figure_is_drawn_of_its_own_kind_alone(
    given: dict[str, Any], function: str, what: str
) -> None:
    draw = getattr(ar.plots, function)
    if WANTED[function] == what:
        draw(given[what])
    elif function == "rows":
        with pytest.raises(ar.UsageError, match="row_statistics"):
            draw(given[what])
    else:
        with pytest.raises(ar.UsageError) as error:
            draw(given[what])
        assert f"but this is {OURS[what]}" in str(error.value)


def test_a_cube_given_for_an_image_names_the_function_for_cubes(given: dict[str, Any]) -> None:
    with pytest.raises(ar.UsageError, match=r"Use plots\.cube, or select a frame\."):
        ar.plots.image(given["cube"])


def test_nodes_of_the_tree_do_as_well_as_their_datasets(
    target: xr.DataTree, products: Products
) -> None:
    of_nodes = ar.plots.image(target["combined"], target["spectrum"])
    assert ar.plots.png(of_nodes) == ar.plots.png(ar.plots.image(*products))


def test_a_node_without_pixels_names_those_that_have_some(target: xr.DataTree) -> None:
    with pytest.raises(ar.UsageError, match=f"{NAME}.* has no pixels itself, but 'combined'"):
        ar.plots.image(target)


def test_a_frame_of_a_lazy_cube_is_drawn_as_one_in_memory(folder: Path) -> None:
    lazy, eager = ar.open_frames(folder, chunks=16), ar.open_frames(folder)
    one, other = (ar.plots.frame(cube.isel(frame=[2])) for cube in (lazy, eager))
    assert ar.plots.png(one) == ar.plots.png(other)


def test_pixels_without_numbers_are_counted_from_one() -> None:
    figure = ar.plots.image(xr.DataArray(np.eye(4, 6), dims=("y", "x")))
    assert (figure.axes[0].get_xlim(), figure.axes[0].get_ylim()) == ((0.5, 6.5), (0.5, 4.5))


@pytest.mark.parametrize("shape", [(0, 5), (5, 0)])
def test_an_image_of_no_pixels_is_refused(shape: tuple[int, int]) -> None:
    with pytest.raises(ar.UsageError, match="Nothing to draw"):
        ar.plots.image(xr.DataArray(np.zeros(shape), dims=("y", "x")))


def test_an_image_of_words_is_refused() -> None:
    with pytest.raises(ar.UsageError, match="Nothing to draw"):
        ar.plots.image(xr.DataArray(np.full((2, 2), "a"), dims=("y", "x")))


def test_an_array_without_dims_is_refused_by_its_shape() -> None:
    with pytest.raises(ar.UsageError, match=r"not ndarray of shape \(3, 4\)"):
        ar.plots.image(np.zeros((3, 4)))  # type: ignore[arg-type]


def test_products_read_back_are_drawn_as_those_in_memory(folder: Path, tmp_path: Path) -> None:
    place = reduced_once(folder, tmp_path) / "targets" / NAME
    image, spectrum = (
        ar.open_product(place / f"{NAME}_{w}.fits") for w in ("combined", "spectrum")
    )
    tree = ar.reduce_night(folder)[f"targets/{NAME}"]
    drawn = ar.plots.svg(ar.plots.spectrum(spectrum))
    assert drawn == ar.plots.svg(ar.plots.spectrum(tree["spectrum"]))
    assert len(ar.plots.image(image, spectrum).axes[0].lines) >= 2
    assert len(ar.plots.trace(image, spectrum).axes) == 2
