"""Results where people read them: `publish` writes this folder's page and plots, and docs/speed.md.

What is measured by itself, `SECTIONS`, has a place of its own between markers at the end of the
page, with its own day and machine (`publish_section`); the page is written anew around it.
"""

from __future__ import annotations

from pathlib import Path

from benchmarks.plots import plots
from benchmarks.results import Report
from benchmarks.tables import machine_line, page, planes, section

BEGIN, END = "<!-- benchmarks:begin -->", "<!-- benchmarks:end -->"
ROOT = Path(__file__).parents[1]
PAGE = Path("docs/speed.md")
"""The page with the section between these markers."""
SECTIONS = ("planes", "nights")
_HEAD = """# Benchmarks

    python -m benchmarks --quick             # two minutes
    python -m benchmarks --publish           # everything, and writes this page
    python -m benchmarks --help

Programs that are not installed are listed and skipped; to install all of them:

    pip install . bottleneck reducers
    apt-get install gnuastro siril iraf iraf-noao gcc libcpl-dev

Every contender combines the same FITS files (uint16, BZERO 32768: bias level, dark current, hot
pixels, a spectrum, sky, cosmic rays) into one float32 file, in a process of its own. What it wrote
is compared with numpy's answer in float64 before its time is taken; then all run in turns, the page
cache warm. *Plain reads* are a dozen lines that read FITS without astropy, so that a rival's
kernels are seen at their best. *limit* reads every byte once, writes the result, and computes
nothing. A star marks numbers that differ from numpy's by definition; the last tables say how far.
"""


def publish(report: Report, root: Path = ROOT) -> list[Path]:
    """Write the page, the plots and the section of docs/speed.md, and return the paths written.

    Of a report on noise and flags alone, only their section of the page is written.

    Parameters
    ----------
    root : of the repository. A docs/speed.md there without the markers is not changed.
    """
    if {one.series for one in report.results} == {"planes"}:
        told = [machine_line(report.machine), *planes(report)]
        return [publish_section("planes", "\n\n".join([told[1], told[0], *told[2:]]), root)]
    folder = root / "benchmarks"
    folder.mkdir(exist_ok=True)
    kept = _marked(folder / "README.md")
    if any(one.series == "planes" for one in report.results):
        kept.pop("planes", None)
    drawn = plots(report)
    written = {folder / name: content for name, (_, content) in drawn.items()}
    captions = [(name, caption) for name, (caption, _) in drawn.items()]
    parts = [f"{_HEAD}\n{page(report, captions)}", *kept.values()]
    written[folder / "README.md"] = ("\n\n".join(parts) + "\n").encode()
    shown = root / PAGE
    if shown.exists():
        text = shown.read_text(encoding="utf-8")
        if BEGIN in text:
            written[shown] = between_markers(text, section(report)).encode()
    for path, content in written.items():
        path.write_bytes(content)
    return list(written)


def publish_section(mark: str, content: str, root: Path = ROOT) -> Path:
    """Write one section of the page, in its place or at the end, and return the page's path.

    Parameters
    ----------
    mark : one of `SECTIONS`.
    content : Markdown.
    root : of the repository.
    """
    path = root / "benchmarks" / "README.md"
    text = path.read_text(encoding="utf-8") if path.exists() else _HEAD
    if mark not in _marked(path):
        text = f"{text.rstrip()}\n\n<!-- {mark}:begin --><!-- {mark}:end -->\n"
    path.write_text(between_markers(text, content, mark), encoding="utf-8")
    return path


def _marked(path: Path) -> dict[str, str]:
    """Return the sections that a page has between markers, with these, by their marks."""
    text = path.read_text(encoding="utf-8") if path.exists() else ""
    found = {}
    for mark in SECTIONS:
        begin, end = f"<!-- {mark}:begin -->", f"<!-- {mark}:end -->"
        if begin in text and end in text:
            found[mark] = text[text.index(begin) : text.index(end) + len(end)]
    return found


def between_markers(text: str, content: str, mark: str = "benchmarks") -> str:
    """Replace what stands between the markers of a name.

    Raises
    ------
    ValueError
        The markers are not there once each, in order.

    Examples
    --------
    >>> between_markers(f"a {BEGIN}old{END} b", "new").split()
    ['a', '<!--', 'benchmarks:begin', '-->', 'new', '<!--', 'benchmarks:end', '-->', 'b']
    """
    begin, end = f"<!-- {mark}:begin -->", f"<!-- {mark}:end -->"
    if text.count(begin) != 1 or text.count(end) != 1 or text.index(begin) > text.index(end):
        raise ValueError(f"The text must hold {begin} and, behind it, {end}, once each.")
    before, _, rest = text.partition(begin)
    _, _, after = rest.partition(end)
    return f"{before}{begin}\n\n{content}\n\n{end}{after}"
