"""Results where people read them: `publish` writes this folder's page and plots and the README."""

from __future__ import annotations

from pathlib import Path

from benchmarks.plots import plots
from benchmarks.results import Report
from benchmarks.tables import page, section

BEGIN, END = "<!-- benchmarks:begin -->", "<!-- benchmarks:end -->"
ROOT = Path(__file__).parents[1]
_HEAD = """# Benchmarks

    python -m benchmarks --quick             # two minutes
    python -m benchmarks --publish           # everything, and writes this page
    python -m benchmarks --help

Rivals that are not installed are named and left out; these bring them all:

    pip install '.[ccdproc]' bottleneck reducers
    apt-get install gnuastro siril iraf iraf-noao gcc libcpl-dev

Every contender combines the same FITS files (uint16, BZERO 32768: bias level, dark current, hot
pixels, a spectrum, sky, cosmic rays) into one float32 file, in a process of its own. What it wrote
is compared with numpy's answer in float64 before its time is taken; then all run in turns, the page
cache warm. *Plain reads* are a dozen lines that read FITS without astropy, so that a rival's
kernels are seen at their best. *limit* reads every byte once, writes the result, and computes
nothing. A star marks numbers that differ from numpy's by definition; the last tables say how far.
"""


def publish(report: Report, root: Path = ROOT) -> list[Path]:
    """Write the page, the plots and the README's section, and return the paths written.

    Parameters
    ----------
    root : of the repository. A README.md there without the markers is left alone.
    """
    folder = root / "benchmarks"
    folder.mkdir(exist_ok=True)
    drawn = plots(report)
    written = {folder / name: content for name, (_, content) in drawn.items()}
    captions = [(name, caption) for name, (caption, _) in drawn.items()]
    written[folder / "README.md"] = f"{_HEAD}\n{page(report, captions)}\n".encode()
    readme = root / "README.md"
    if readme.exists():
        text = readme.read_text(encoding="utf-8")
        if BEGIN in text:
            written[readme] = between_markers(text, section(report)).encode()
    for path, content in written.items():
        path.write_bytes(content)
    return list(written)


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
