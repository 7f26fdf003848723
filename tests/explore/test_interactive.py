"""The interactive page of a night: one file, offline, with a policy and figures of its own."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy.io import fits

from arrayred.batch import Job, OutputOptions, reduce_one
from arrayred.explore.figures import INTERACTIVE, write_interactive
from arrayred.io import verify_outputs
from arrayred.simulate import Star
from tests.cli.two_stars import DENEB, taken


@pytest.fixture(scope="module")
def reduced(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the output of a night of two stars, one with a column that is flagged."""
    folder = tmp_path_factory.mktemp("interactive")
    taken(folder / "night", "", 18, n_darks=5)
    taken(folder / "night", "d-", 20, star=DENEB, n_lights=2)
    taken(folder / "night", "v-", 22, star=Star("Vega", flux=1e6), n_lights=2)
    output = OutputOptions(folder / "out", {}, figures=False)
    assert reduce_one(Job("night", folder / "night", output)).exit_code == 0
    return folder / "out"


def damaged(out: Path) -> list[str]:
    """Return the products that are not as they were written."""
    (found,) = verify_outputs(out)
    return [name for verdict in found.verdicts for name in verdict.products]


def test_a_page_is_one_file_of_the_same_bytes_that_verify_knows(reduced: Path) -> None:
    path = write_interactive(reduced)
    first = path.read_bytes()
    assert path == reduced / INTERACTIVE
    assert write_interactive(reduced).read_bytes() == first
    policy = re.search(rb'Security-Policy" content="([^"]*)"', first)
    assert policy is not None
    assert policy[1].startswith(b"default-src &#39;none&#39;; ")
    assert b"unsafe-inline&#39;; script-src &#39;sha256-" in policy[1]
    assert damaged(reduced) == []
    path.write_bytes(b"mine")
    assert damaged(reduced) == [INTERACTIVE]
    assert write_interactive(reduced).read_bytes() == first


def test_a_browser_draws_it_offline_zooms_together_and_masks_flags(
    reduced: Path, browser: Any
) -> None:
    path = write_interactive(reduced)
    flags = [fits.getdata(path)["dq"] for path in reduced.glob("targets/*/*_spectrum.fits")]
    n_flagged = sum(np.count_nonzero(own) for own in flags)
    assert n_flagged > 0
    context = browser.new_context(offline=True, viewport={"width": 400, "height": 900})
    page, said = context.new_page(), list[str]()
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("request", lambda request: said.append(request.url) if ":" in request.url[5:] else None)
    page.goto(path.as_uri())
    page.wait_for_function("window.Bokeh && Bokeh.documents.length && Bokeh.documents[0].is_idle")
    assert said == []
    assert page.evaluate("document.documentElement.scrollWidth") == 400
    page.evaluate("""() => {
      window.models = [...Bokeh.documents[0]._all_models.values()];
      const sources = models.filter(model => model.data && model.data.sigma);
      window.count = () => sources.flatMap(s => [...s.data.y]).filter(Number.isFinite).length;
    }""")
    shared = """() => models.filter(model => model.type == 'Column')
      .map(column => column.children.filter(child => child.x_range))
      .map(plots => plots.filter(plot => plot.x_range === plots[0].x_range).length)"""
    assert page.evaluate(shared) == [3, 3]
    whole = page.evaluate("count()")
    page.evaluate("""() => models.filter(model => model.type == 'CheckboxGroup')
      .forEach(box => { box.active = box.labels.map((_, i) => i); })""")
    page.wait_for_function(f"count() == {whole - n_flagged}")
    assert said == []
    context.close()
