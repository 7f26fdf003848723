"""What people do on the page, done in a browser."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from arrayred.cli import cli
from arrayred.config.night_file import entry_text
from arrayred.explore import ExplorerModel, View
from arrayred.night import open_night
from tests.explore.conftest import NAME, served

pytestmark = pytest.mark.slow
DATA = "name => Array.from(Bokeh.documents[0].get_model_by_name(name).data.y)"
IS_THERE = "name => Bokeh.documents[0].get_model_by_name(name) !== null"
IS_MARKED = """() => {
    const of = name => Bokeh.documents[0].get_model_by_name(name);
    return of("sky-subtracted sum")?.data.y.length > 0 && of("rows")?.visible;
}"""
LESS_SKY = "sky-subtracted sum"
LAMP_FRAME = """() => {
    const arc = Bokeh.documents[0].get_model_by_name("arc");
    const all = Bokeh.documents[0]._all_models.values();
    const draws = model => [].concat(model.renderers).some(one => one?.data_source === arc);
    const figure = [...all].find(model => model.type === "Figure" && draws(model));
    const view = Bokeh.index.find_one(figure);
    const box = view.el.getBoundingClientRect(), frame = view.frame.bbox;
    return {left: box.left + frame.left, top: box.top + frame.top, width: frame.width};
}"""


class Watched:
    """A page and what it did beside showing itself."""

    def __init__(self, page: Any) -> None:
        self.page = page
        self.errors: list[str] = []
        self.requests: list[str] = []
        page.on("pageerror", lambda error: self.errors.append(str(error)))
        page.on("console", self._hear)
        page.on("request", lambda request: self.requests.append(request.url))
        page.on("dialog", lambda dialog: self.errors.append(f"a dialog: {dialog.message}"))

    def _hear(self, told: Any) -> None:
        if told.type == "error":
            self.errors.append(told.text)

    def shows(self, text: str) -> None:
        """Wait until the page shows a text."""
        self.page.get_by_text(text).first.wait_for(timeout=60_000)

    def type(self, label: str, text: str) -> None:
        """Type a text into the input of a label."""
        box = self.page.get_by_label(label, exact=True)
        box.fill(text)
        box.press("Enter")

    def value(self, label: str) -> str:
        """Return what stands in the input of a label."""
        found: str = self.page.get_by_label(label, exact=True).input_value()
        return found

    def data(self, name: str) -> np.ndarray:
        """Return the values of a line, once it is there."""
        self.page.wait_for_function(IS_THERE, arg=name, timeout=60_000)
        return np.array(self.page.evaluate(DATA, name), float)


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the output folder of the page."""
    return tmp_path_factory.mktemp("reduced") / "out"


@pytest.fixture(scope="module")
def address(hostile: Path, out: Path) -> Iterator[str]:
    with served(hostile, "-o", out) as (url, _):
        yield url


@pytest.fixture(scope="module")
def opened(address: str, browser: Any) -> Iterator[Watched]:
    context = browser.new_context(viewport={"width": 1440, "height": 1000})
    context.grant_permissions(["clipboard-read", "clipboard-write"])
    watched = Watched(context.new_page())
    watched.page.goto(address)
    yield watched
    context.close()


@pytest.fixture
def seen(opened: Watched) -> Iterator[Watched]:
    """Return the page as it was opened: its first frame, with the rows that are found."""
    for label in ("Aperture rows", "Sky rows"):
        opened.type(label, "")
    opened.type("Frame of 3", "1")
    opened.shows("rows 79:91")
    opened.page.wait_for_function(IS_MARKED, timeout=60_000)
    yield opened
    assert opened.errors == []


@pytest.fixture(scope="module")
def model(hostile: Path) -> ExplorerModel:
    return ExplorerModel(open_night(hostile))


@pytest.fixture(scope="module")
def view(model: ExplorerModel) -> View:
    return View(next(iter(model.groups)))


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_page_begins_with_the_spectrum_and_chooses_no_rows_by_itself(
    address: str, browser: Any, scheme: Any
) -> None:
    context = browser.new_context(viewport={"width": 400, "height": 900}, color_scheme=scheme)
    watched = Watched(context.new_page())
    watched.page.goto(address)
    watched.shows("rows 79:91")
    assert np.isfinite(watched.data(LESS_SKY)).all()
    watched.page.wait_for_timeout(1500)
    assert [watched.value(f"{what} rows") for what in ("Aperture", "Sky")] == ["", ""]
    assert watched.page.evaluate("document.documentElement.scrollWidth") == 400
    turned = watched.page.evaluate("getComputedStyle(document.body).filter")
    assert (turned == "none") == (scheme == "light")
    assert watched.errors == []
    context.close()


def test_nothing_is_fetched_from_elsewhere(seen: Watched) -> None:
    own = ("http://127.0.0.1:", "data:", "blob:http://127.0.0.1:")
    foreign = [url for url in seen.requests if not url.startswith(own)]
    assert len(seen.requests) > 5
    assert foreign == []


def test_markup_in_a_header_is_shown_as_text(seen: Watched) -> None:
    seen.shows(NAME)
    assert seen.page.locator("img").count() == 0


def test_the_slider_goes_through_the_frames(seen: Watched) -> None:
    seen.shows("light-001")
    seen.page.locator("input[type=range]").focus()
    seen.page.keyboard.press("ArrowRight")
    seen.shows("light-002")
    seen.type("Frame of 3", "3")
    seen.shows("light-003")


def test_typed_rows_give_the_spectrum_that_reduce_writes(
    seen: Watched, model: ExplorerModel, view: View
) -> None:
    found = seen.data(LESS_SKY)
    seen.type("Aperture rows", "80:90")
    seen.type("Sky rows", "110:130")
    seen.shows("rows 80:90, sky 110:130")
    spectrum = model.spectrum(replace(view, rows=(80, 90), sky_rows=(110, 130)))
    expected = spectrum.counts_mean_sky_subtracted.values * 11
    seen.page.wait_for_timeout(1000)
    np.testing.assert_allclose(seen.data(LESS_SKY), expected, rtol=1e-12)
    assert not np.allclose(found, expected)


def test_rows_that_are_none_are_refused_in_words(seen: Watched) -> None:
    seen.type("Aperture rows", "90:80")
    seen.shows("'90:80' is not a row range A:B")


def test_a_click_moves_the_cuts(seen: Watched) -> None:
    image = seen.page.locator(".bk-Figure").first.bounding_box()
    seen.page.mouse.click(image["x"] + image["width"] / 2, image["y"] + image["height"] / 4)
    seen.page.wait_for_timeout(1500)
    assert 50 < int(seen.value("Column")) < 75
    assert 110 < int(seen.value("Row")) < 130


def test_a_band_is_dragged_to_other_rows(seen: Watched) -> None:
    image = seen.page.locator(".bk-Figure").first.bounding_box()
    x, per_row = image["x"] + image["width"] / 2, 400 / 160
    y = image["y"] + 6 + (160.5 - 85) * per_row
    seen.page.mouse.move(x, y)
    seen.page.mouse.down()
    seen.page.mouse.move(x, y + 20 * per_row, steps=8)
    seen.page.mouse.up()
    middle, until = 0.0, time.monotonic() + 20
    while not abs(middle - 65) < 1:
        assert time.monotonic() < until, middle
        seen.page.wait_for_timeout(100)
        middle = sum(map(int, (seen.value("Aperture rows") or "0").split(":"))) / 2


def test_the_entry_is_copied(seen: Watched, model: ExplorerModel, view: View) -> None:
    seen.type("Aperture rows", "80:90")
    seen.shows("rows 80:90")
    seen.page.get_by_role("button", name="Copy").click()
    seen.shows("copied")
    copied = seen.page.evaluate("navigator.clipboard.readText()")
    assert copied == entry_text(model.name(view), (80, 90), None)


def test_chosen_rows_are_saved_and_reduced_with(
    seen: Watched, hostile: Path, out: Path, tmp_path: Path, model: ExplorerModel, view: View
) -> None:
    seen.type("Aperture rows", "80:90")
    seen.type("Sky rows", "110:130")
    seen.shows("rows 80:90, sky 110:130")
    seen.page.get_by_role("button", name="Save to night.toml").click()
    seen.shows(f"Saved in {out / 'night.toml'}")
    assert (out / "night.toml").read_text() == entry_text(model.name(view), (80, 90), (110, 130))
    seen.page.get_by_role("button", name="Reduce").click()
    seen.shows("Reducing")
    seen.type("Frame of 3", "2")
    seen.shows("light-002")  # while it reduces
    seen.shows(f"Reduced into {out}: 1 target reduced, 0 failed")
    words = ["reduce", hostile, "-o", tmp_path / "command", "--night-file", out / "night.toml"]
    cli.main([*map(str, words), "-q"], standalone_mode=False)
    for path in (out / "targets").rglob("*.*"):
        made = tmp_path / "command" / path.relative_to(out)
        assert path.read_bytes() == made.read_bytes(), path
    seen.type("Aperture rows", "81:89")
    seen.shows("rows 81:89")
    seen.page.get_by_role("button", name="Reduce").click()
    seen.shows("Exit code 2.")
    seen.shows("Use --overwrite to replace")
    seen.page.get_by_text("Overwrite", exact=True).click()
    seen.page.get_by_role("button", name="Reduce").click()
    seen.shows(f"Reduced into {out}")
    seen.page.get_by_text("Overwrite", exact=True).click()
    seen.page.get_by_role("button", name="Reduce").click()
    seen.page.get_by_role("button", name="Stop").click()
    seen.shows("Stopped. Finished products are kept.")


def test_a_pixel_is_shown_through_the_frames(
    seen: Watched, model: ExplorerModel, view: View
) -> None:
    seen.page.get_by_text("Pixel vs. frame").click()
    seen.type("Row", "85")
    expected = model.through_frames(view, 85, int(seen.value("Column")))
    until = time.monotonic() + 20
    while not np.array_equal(seen.data("series-0"), expected):
        assert time.monotonic() < until
        seen.page.wait_for_timeout(100)


def test_a_line_of_the_lamp_is_picked_named_and_saved(
    lamp_night: Path, browser: Any, tmp_path: Path
) -> None:
    page = browser.new_page(viewport={"width": 1440, "height": 1300})
    watched = Watched(page)
    with served(lamp_night, "-o", tmp_path) as (url, _):
        page.goto(url)
        page.get_by_text("Lamp lines", exact=True).click()
        watched.shows("named, order")
        model = ExplorerModel(open_night(lamp_night))
        lines = model.lamp_lines(View(next(iter(model.groups))))
        assert lines.named is not None
        n, x = lines.named.sizes["line"], float(lines.named.x.values[-1])
        watched.shows(f"{n} lines named")
        place = page.evaluate(LAMP_FRAME)
        click = place["left"] + (x - 1) / 383 * place["width"], place["top"] + 100
        page.mouse.click(*click)
        watched.shows(
            f"Line at column {x:.2f}: {lines.named.wavelength.values[-1]:.4f} Angstrom NeI"
        )
        page.get_by_role("button", name="Remove name").click()
        watched.shows(f"{n - 1} lines named")
        watched.shows(f"Line at column {x:.2f}: without a name; the solution gives 69")
        watched.type("Wavelength (Angstrom, air)", "6929.4671")
        page.get_by_role("button", name="Name line").click()
        watched.shows(f"{n} lines named")
        assert len(watched.data("series-0")) == n
        page.get_by_role("button", name="Save lines").click()
        path = tmp_path / "Simulated_star_lines.txt"
        watched.shows(f"Saved in {path}. After the reduction: arrayred wavelength {tmp_path}")
        assert path.read_text().endswith(f"{x:.3f}  6929.4671  NeI\n")
    assert watched.errors == []
    page.close()


def test_calibrated_and_combined_images_say_what_is_subtracted(seen: Watched) -> None:
    seen.page.get_by_text("calibrated", exact=True).click()
    seen.shows("dark 600s subtracted")
