"""Write the interactive page of a reduced night: one file for any browser, without network.

The figures are those of `arrayred.plots`, drawn by Bokeh (`figures`), whose script is part of the
file. The page has a policy of its own: only that script runs, nothing is loaded or sent. It may
evaluate code, since the boxes that mask flagged columns are code that Bokeh compiles; the page of
`arrayred.report` has no script and stays as it is. No text of a header is put in a figure.
"""

from __future__ import annotations

import re
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from bokeh.embed import components
from bokeh.layouts import column
from bokeh.models import CheckboxGroup, CustomJS, HoverTool, Range1d
from bokeh.resources import Resources
from numpy.typing import NDArray

from arrayred.errors import ArrayredError, UsageError
from arrayred.explore.figures import PanelView
from arrayred.io.ledger import Entry, Ledger
from arrayred.model import DQ, DQ_MEANINGS, FLUX, VARIANCE, X
from arrayred.plots.figures import compare
from arrayred.plots.figures import spectrum as spectrum_sheet
from arrayred.plots.panels import Axis, Curve, Panel
from arrayred.report.pages import publish_page, spectra_of
from arrayred.report.render import page
from arrayred.report.run import evening_of, gathered

INTERACTIVE = "interactive.html"
"""The file of the page, in the output folder."""
INTERACTIVE_ENTRY = "report/interactive"
_TOOLS = "pan,wheel_zoom,box_zoom,reset,save"
_HEIGHT, _LOWER_HEIGHT = 300, 130


def write_interactive(out: Path, *, overwrite: bool = False) -> Path:
    """Write the interactive page of a finished night.

    Parameters
    ----------
    out : the output folder.
    overwrite : replace a file of the page's name that is not ours.

    Returns
    -------
    path : of the page.

    Raises
    ------
    UsageError
        No spectrum was finished there, or a file not written by arrayred has the page's name.
    StorageError
        It cannot be written.
    """
    ledger = Ledger(out)
    finished = gathered(out, ledger)
    spectra: dict[str, xr.Dataset] = {}
    for target in finished.targets:
        with suppress(ArrayredError):  # of damaged products the report tells
            spectra |= spectra_of(finished, target)
    if not spectra:
        raise UsageError(
            "No spectrum was finished here", path=out, hint="Name an output folder with spectra."
        )
    figures = {stem: _spectrum_figure(spectrum) for stem, spectrum in spectra.items()}
    together = _overlay(spectra) if len(spectra) > 1 else None
    whole = [*([] if together is None else [together]), *figures.values()]
    script, roots = _with_fixed_ids(*components(whole, wrap_script=False, wrap_plot_info=False))
    name = evening_of(finished.account.frames) or "a night without a date"
    names = [*([] if together is None else ["All spectra, each divided by its median"]), *figures]
    content = page(
        "interactive.html",
        code="\n".join(
            [*Resources("inline", components=["bokeh", "bokeh-widgets"]).js_raw, script]
        ),
        title=f"{name}: interactive spectra",
        heading=f"Night of {name}" if name[:1].isdecimal() else name.capitalize(),
        sections=list(zip(names, roots, strict=True)),
    )
    may_replace = overwrite or ledger.read(INTERACTIVE_ENTRY) is not None
    publish_page(ledger, INTERACTIVE, content, Entry(INTERACTIVE_ENTRY, finished.key), may_replace)
    return out / INTERACTIVE


_ID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}|(?<=\")p[0-9]{4,}(?=\")")


def _with_fixed_ids(script: str, roots: Any) -> tuple[str, list[tuple[str, str]]]:
    """Return a script of Bokeh and the ids of its figures, numbered: else no run gives the same."""
    found = {text: f"p{i}" for i, text in enumerate(dict.fromkeys(_ID.findall(script)), 1)}
    named = [(found[root.elementid], found[root.id]) for root in roots]
    return _ID.sub(lambda match: found[match[0]], script), named


def _overlay(spectra: dict[str, xr.Dataset]) -> Any:
    """Return all spectra over each other; a click on the legend hides one."""
    sheet = compare(spectra, normalised=True)
    view = PanelView(_HEIGHT, tools=_TOOLS)
    view.show(sheet.rows[0][0])
    view.figure.legend.update(orientation="vertical", location="top_left")
    return view.figure


def _spectrum_figure(spectrum: xr.Dataset) -> Any:
    """Return the flux, its S/N and the sky of a spectrum, zoomed together, with boxes for flags."""
    panels, values = [row[0] for row in spectrum_sheet(spectrum).rows], _columns(spectrum)
    axis = panels[0].x
    if VARIANCE in spectrum:
        panels.insert(1, _snr_panel(values["snr"], axis, panels[0]))
    shared = Range1d(axis.low, axis.high, reset_start=axis.low, reset_end=axis.high)
    views = [
        PanelView(_LOWER_HEIGHT if i else _HEIGHT, x=shared, tools=_TOOLS)
        for i in range(len(panels))
    ]
    for view, panel in zip(views, panels, strict=True):
        view.show(panel)
    flux = next(drawn for drawn in views[0].drawn if drawn.kind == (Curve, "flux"))
    flux.source.data = {**flux.source.data, **values}
    views[0].figure.add_tools(
        HoverTool(
            renderers=flux.glyphs,
            mode="vline",
            tooltips=[
                (axis.label, "@x{0.00}"),
                ("column", "@column{0}"),
                ("flux", "@y{0.00} ± @sigma{0.00}"),
                ("S/N", "@snr{0.0}"),
                ("flags", "@flags"),
            ],
        )
    )
    boxes = _flag_boxes(flux.source, spectrum)
    figures = [view.figure for view in views]
    return column(*figures, *boxes, sizing_mode="stretch_width")


def _snr_panel(snr: NDArray[np.float64], axis: Axis, above: Panel) -> Panel:
    curve = next(mark for mark in above.marks if isinstance(mark, Curve))
    top = float(np.nanmax(snr, initial=1.0))
    return Panel(axis, Axis("S/N per pixel", 0.0, 1.05 * top), (Curve(curve.x, snr, "means"),))


def _columns(spectrum: xr.Dataset) -> dict[str, Any]:
    """Return the values of each column that the page shows or masks by."""
    flux = spectrum[FLUX].values.astype(np.float64)
    sigma = np.full(flux.shape, np.nan)
    if VARIANCE in spectrum:
        sigma = np.sqrt(spectrum[VARIANCE].values.astype(np.float64))
    flags = spectrum[DQ].values if DQ in spectrum else np.zeros(flux.shape, np.uint8)
    with np.errstate(divide="ignore", invalid="ignore"):
        snr = np.where(sigma > 0, flux / sigma, np.nan)
    told = [
        ", ".join(name.replace("_", " ") for bit, name in DQ_MEANINGS.items() if bit & flag)
        or "none"
        for flag in map(int, flags)
    ]
    numbers = {"column": spectrum[X].values, "dq": flags.astype(np.int32), "whole": flux}
    return {**numbers, "sigma": sigma, "snr": snr, "flags": told}


_MASK = """
const masked = box.active.map(i => bits[i]).reduce((all, bit) => all | bit, 0);
const {whole, dq, y} = source.data;
for (let i = 0; i < y.length; i++) y[i] = (dq[i] & masked) ? NaN : whole[i];
source.change.emit();
"""


def _flag_boxes(source: Any, spectrum: xr.Dataset) -> list[Any]:
    """Return boxes that mask the columns of a flag, for the flags that there are."""
    flags = int(np.bitwise_or.reduce(spectrum[DQ].values, initial=0)) if DQ in spectrum else 0
    bits = [bit for bit in DQ_MEANINGS if bit & flags]
    if not bits:
        return []
    names = [f"mask {DQ_MEANINGS[bit].replace('_', ' ')}" for bit in bits]
    box = CheckboxGroup(labels=names, active=[], inline=True)
    box.js_on_change(
        "active", CustomJS(args={"source": source, "box": box, "bits": bits}, code=_MASK)
    )
    return [box]
