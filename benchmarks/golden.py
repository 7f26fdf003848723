"""``python -m benchmarks.golden [BASE]``: whether the products are those of an earlier commit.

The package as it was at BASE and as it is in this working tree reduce the same frames, in the same
Python environment, one after the other in a folder of the same name. Every file that they leave,
what is hidden and what they print included, must then be equal byte for byte; `EXCLUDED` is the
whole list of what may differ, and why.

BASE stands in the file ``golden-base`` beside this one: the commit whose products the current code
must equal. Whoever changes a product on purpose moves it in the commit that follows, and says there
which products changed and why.

The frames are simulated once, by BASE. Its version number is replaced by ours, since products name
it. Each command of BASE must end as its case says, so that no case compares two failures.
"""

from __future__ import annotations

import argparse
import difflib
import hashlib
import io
import os
import re
import shlex
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import islice, zip_longest
from pathlib import Path, PurePosixPath

import numpy as np
from astropy.io import fits

ROOT = Path(__file__).parents[1]
BASE_FILE = Path(__file__).with_name("golden-base")
NIGHTS = Path(os.environ.get("ARRAYRED_NIGHTS", ROOT.parent / "shared" / "nights"))
_LIMIT_S = 300
_AT_ONCE = 2
_MOST_LINES, _WIDTH = 12, 160
_TEXTS = (".ecsv", ".html", ".json", ".log", ".toml", ".txt")


class GoldenError(Exception):
    """The two cannot be compared: no such commit, or BASE does not do what a case says."""


@dataclass(frozen=True)
class Case:
    """Commands whose products are compared.

    Parameters
    ----------
    name : of the case and its folder.
    commands : arguments of ``arrayred``; {inputs} and {nights} are folders, globs are expanded.
        One that begins with "!" must fail.
    needs : a folder of {nights} without which the case is skipped.
    """

    name: str
    commands: tuple[str, ...]
    needs: str = ""


_BARBER = "barber-2020-11-03/raw"
_SEASON = " ".join(f"{{inputs}}/season/night-{i}" for i in range(3))
CASES = (
    Case(
        "reference-night",
        (
            f"reduce {{nights}}/{_BARBER} -o default",
            f"reduce {{nights}}/{_BARBER} -o reference --reference --no-figures",
        ),
        needs=_BARBER,
    ),
    Case("demo", ("demo -o demo", "verify demo/reduced")),
    Case(
        "flats-and-overscan",
        (
            "reduce {inputs}/flats -o out --night-file {inputs}/flats.toml",
            "reduce {inputs}/flats -o other --bad-pixels dark+flat --scale-dark --no-figures",
            "report other",
            "verify --explain out/targets/Vega/Vega_spectrum.fits",
        ),
    ),
    Case(
        "per-frame",
        (
            "reduce {inputs}/two -o out --per-frame --save-calibrated --combine clip --electrons"
            " --all-spectra",
            "reduce {inputs}/two -o other --per-frame --cosmic-rays lacosmic --extraction sum"
            " --sky-model median --scale flux --weights noise --no-figures",
        ),
    ),
    Case(
        "many-nights",
        (f"reduce {_SEASON} -o out", f"reduce {_SEASON} -o out", "verify out"),
    ),
    Case(
        "combine",
        (
            "combine {inputs}/flats/dark-*.fit -o median.fits",
            "combine {inputs}/flats/flat-*.fit -o average.fits --method average --dtype float64",
            "combine {inputs}/flats/light-*.fit -o clip.fits --minus median.fits --method clip"
            " --n-sigma 2.5 --iterations 3",
            "combine {inputs}/flats/light-*.fit -o minmax.fits --method minmax",
        ),
    ),
    Case(
        "inspect",
        (
            "inspect {inputs}/flats",
            "inspect {inputs}/two --format json",
            "inspect {inputs}/flats --plan --memory 1G --night-file {inputs}/flats.toml",
            "inspect {inputs}/flats --write night.toml",
            "! reduce {inputs}/season/night-2 -o refused",
        ),
    ),
)

_SMALL = "--shape 120x100 --darks 3 --lights 2 --row 70"
SIMULATED = {
    "flats": "--shape 200x240 --biases 4 --darks 4 --flats 4 --arcs 1 --lights 4 --row 110"
    " --name Vega --cosmic-rays 200 --response-scatter 0.01 --vignetting 0.1 --flux-scatter 0.1",
    "two": "--shape 220x200 --darks 3 --lights 4 --row 70 --cosmic-rays 100 --trace-drift 0.3"
    " --sky-tilt 1",
    "season/night-0": _SMALL,
    "season/night-1": f"{_SMALL} --seed 1 --dialect nina",
    "season/night-2": _SMALL.replace("--darks 3", "--darks 0") + " --seed 2",
}
"""The nights by folder, and what ``arrayred simulate`` is told."""
_NIGHT_FILE = '[targets.Vega]\nframes = ["light-*"]\nlamps = ["arc-001"]\n'
_OVERSCAN = 16


@dataclass(frozen=True)
class Excluded:
    """What may differ in some files.

    Parameters
    ----------
    files : their paths end like this; a glob.
    what, why : what is left out of the comparison, and for what reason.
    without : returns the content less that.
    """

    files: str
    what: str
    why: str
    without: Callable[[bytes], bytes]


def _less(pattern: bytes, left: bytes) -> Callable[[bytes], bytes]:
    """Return what puts something else in the place of each match."""
    return lambda content: re.sub(pattern, left, content)


def without_seconds(content: bytes) -> bytes:
    r"""Return what a run printed less the seconds of each night.

    Examples
    --------
    >>> without_seconds(b"[1/2] a: 1 reduced, 0.31 s")
    b'[1/2] a: 1 reduced, - s'
    >>> without_seconds(b"night  seconds  reason\na      0.31     none\n1 failed").splitlines()
    [b'night  seconds  reason', b'a      -        none', b'1 failed']
    >>> without_seconds(b"1 target reduced, 0 failed, 0 frames unused, 3.0 s")
    b'1 target reduced, 0 failed, 0 frames unused, - s'
    """
    ends = rb"(?m)^(\[\d+/\d+\] .*, |\d+ targets? reduced, .*, )\d+\.\d+ s$"
    lines = re.sub(ends, rb"\1- s", content).split(b"\n")
    start = None
    for i, line in enumerate(lines):
        if b"  seconds" in line:
            start = line.index(b"seconds")
        elif start is not None and re.match(rb"\d+\.\d\d", line[start:]):
            stop = start + len("seconds")
            lines[i] = (line[:start] + b"-".ljust(stop - start) + line[stop:]).rstrip()
    return b"\n".join(lines)


_KEY = _less(rb'"key": "[0-9a-f]{64}"', b'"key": ""')
_STAMPS = _less(rb'(?m)": \[(\d+), [\d, ]+, ("[0-9a-f]{64}")\]', rb'": [\1, \2]')
EXCLUDED = (
    Excluded("arrayred.log", "all", "times, seconds, process, command line", lambda _: b""),
    Excluded(".arrayred/lock", "all", "process and time of the last run", lambda _: b""),
    Excluded(
        ".arrayred/manifest.json",
        "keys; times and inode of each file, time of its note",
        "hash the number of the algorithm; of the disk: path, size and sha256 are compared",
        lambda content: _KEY(_STAMPS(content)),
    ),
    Excluded("said-*.txt", "seconds of each night", "times of the run", without_seconds),
)
"""All that may differ. Files that are excluded as a whole must still be there."""


@dataclass
class Found:
    """What a comparison found: how many files, how many differ in what is excluded, and reports."""

    n_files: int = 0
    excused: Counter[str] = field(default_factory=Counter)
    reports: list[str] = field(default_factory=list)


def compare(base: Path, head: Path) -> Found:
    """Compare all files of two folders, hidden ones included.

    FITS files come first, then pages: where one differs only in what may differ, its SHA-256 of
    BASE is replaced by that of this tree wherever else it stands.
    """
    theirs, ours = _files(base), _files(head)
    found = Found(len(theirs.keys() & ours.keys()))
    for name in sorted(theirs.keys() ^ ours.keys()):
        found.reports.append(f"{name}: only made by {'BASE' if name in theirs else 'this tree'}")
    digests: dict[bytes, bytes] = {}
    for name in sorted(theirs.keys() & ours.keys(), key=_fits_and_pages_first):
        old, new = theirs[name].read_bytes(), ours[name].read_bytes()
        if old == new:
            continue
        pair = _digest(old), _digest(new)
        if (less := _with_digests(old, digests)) != old:
            old = less
            found.excused["SHA-256 of files that are equal but for what is told here"] += old == new
        for rule in (r for r in EXCLUDED if PurePosixPath(name).match(r.files)):
            if old == new:
                break
            old, new = rule.without(old), rule.without(new)
            if old == new:
                found.excused[f"{rule.files} ({rule.what})"] += 1
        if old != new and name.endswith(".fits") and _differences_of_fits(old, new) is None:
            found.excused["*.fits (CHECKSUM, place of cards, comments of those of the layout)"] += 1
            old = new
        if old == new:
            digests[pair[0][:_SHORT]] = pair[1]
        else:
            report = _report(ours[name], old, new)
            found.reports.append("\n".join([f"{name}: differs", *(f"    {r}" for r in report)]))
    return found


_SHORT = 12
"""Digits of a SHA-256 that `verify` prints."""


def _fits_and_pages_first(name: str) -> tuple[bool, bool, str]:
    return not name.endswith(".fits"), not name.endswith(".html"), name


def _digest(content: bytes) -> bytes:
    return hashlib.sha256(content).hexdigest().encode()


def _with_digests(content: bytes, digests: Mapping[bytes, bytes]) -> bytes:
    """Return a content with each SHA-256, whole or short, replaced that has a successor."""

    def successor(found: re.Match[bytes]) -> bytes:
        return digests.get(found[0][:_SHORT], found[0])[: len(found[0])]

    return re.sub(rb"\b[0-9a-f]{%d}(?:[0-9a-f]{52})?\b" % _SHORT, successor, content)


def _files(folder: Path) -> dict[str, Path]:
    return {p.relative_to(folder).as_posix(): p for p in folder.rglob("*") if not p.is_dir()}


def _differences_of_fits(old: bytes, new: bytes) -> str | None:
    """Return what astropy reports of two FITS files whose bytes differ; None if nothing.

    No value has a tolerance. The order of cards counts for HISTORY and COMMENT alone, blanks count
    everywhere, and DATASUM makes sure of each bit, NaN included.
    """
    layout = ["XTENSION", "BITPIX", "NAXIS*", "PCOUNT", "GCOUNT", "TFIELDS", "EXTNAME"]
    try:
        with fits.open(io.BytesIO(old)) as theirs, fits.open(io.BytesIO(new)) as ours:
            difference = fits.FITSDiff(
                theirs, ours, ignore_keywords=["CHECKSUM"], ignore_comments=layout,
                ignore_blanks=False, ignore_blank_cards=False, numdiffs=3,
            )  # fmt: skip
            if not difference.identical:
                return str(difference.report())
        with fits.open(io.BytesIO(new), disable_image_compression=True) as stored:
            wrong = [hdu.name for hdu in stored if hdu.verify_checksum() != 1]
        return f"CHECKSUM is wrong in {', '.join(wrong)}" if wrong else None
    except OSError as error:
        return f"cannot be compared as FITS ({error})"


def _report(head: Path, old: bytes, new: bytes) -> list[str]:
    """Return some lines that tell how two files differ."""
    if head.suffix == ".fits":
        told = _differences_of_fits(old, new) or ""
        lines = [line for line in told.splitlines() if line.strip()]
        start = next((i for i, line in enumerate(lines) if "HDU" in line), 0)
        return [*(line[:_WIDTH] for line in lines[start : start + 36]), _first_byte(old, new)]
    if head.suffix in _TEXTS:
        before, after = (content.decode("utf-8", "replace").splitlines() for content in (old, new))
        diff = difflib.unified_diff(before, after, "BASE", "this tree", lineterm="", n=0)
        return list(_around_differences(list(islice(diff, _MOST_LINES))))
    return [_first_byte(old, new)]


def _around_differences(diff: Sequence[str]) -> Iterator[str]:
    """Yield the lines of a diff; of a long one that was changed, the part about the change."""
    start = 0
    for line, following in zip_longest(diff, diff[1:], fillvalue=""):
        if line.startswith("-") and following.startswith("+"):
            start = max(_parting(line[1:], following[1:]) - _WIDTH // 2, 0)
        elif not line.startswith("+"):
            start = 0
        yield line[0] + line[1:][start : start + _WIDTH]


def _parting(old: Sequence[object], new: Sequence[object]) -> int:
    """Return the place of the first difference."""
    pairs = enumerate(zip(old, new, strict=False))
    return next((i for i, (a, b) in pairs if a != b), min(len(old), len(new)))


def _first_byte(old: bytes, new: bytes) -> str:
    """Return where two contents part.

    Examples
    --------
    >>> _first_byte(b"abc", b"abd!")
    'first difference at byte 2, of 3 and 4'
    """
    return f"first difference at byte {_parting(old, new)}, of {len(old)} and {len(new)}"


@dataclass(frozen=True)
class Side:
    """A package that is run.

    Parameters
    ----------
    name : "base" or "head".
    tree : the folder that holds the package ``arrayred``.
    folder : of all that is made here.
    """

    name: str
    tree: Path
    folder: Path

    def run(self, arguments: Sequence[str], cwd: Path) -> subprocess.CompletedProcess[str]:
        """Run Python with this side's package."""
        changed = {
            "PYTHONPATH": str(self.tree),
            "PYTHONHASHSEED": "0",
            "XDG_CACHE_HOME": str(self.folder / f"caches-{self.name}"),
            "MPLCONFIGDIR": str(self.folder / "matplotlib"),  # its list of fonts takes seconds
            "CI": "1",
        }
        kept = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
        return subprocess.run(
            [sys.executable, *arguments], cwd=cwd, env=kept | changed, check=False,
            capture_output=True, text=True, timeout=_LIMIT_S, stdin=subprocess.DEVNULL,
        )  # fmt: skip

    def require_own(self) -> str:
        """Return the version of the package that this side runs; raise unless it is its own."""
        told = self.run(
            ["-c", "import arrayred as a; print(a.__file__, a.__version__, sep='\\n')"], self.folder
        )
        place, _, version = told.stdout.strip().partition("\n")
        if Path(place or os.devnull).resolve().parents[1:2] != (self.tree.resolve(),):
            raise GoldenError(f"{self.name} runs {place or told.stderr}, not that of {self.tree}")
        return version


def made(side: Side, cases: Sequence[Case], inputs: Path) -> Path:
    """Run all cases, two at a time, and return the folder of what they left."""
    work = side.folder / "work"  # the same for both, so that no path differs
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        list(pool.map(lambda case: _run_case(side, case, work / case.name, inputs), cases))
    return work.rename(side.folder / side.name)


def _run_case(side: Side, case: Case, folder: Path, inputs: Path) -> None:
    folder.mkdir(parents=True)
    places = {"inputs": os.path.relpath(inputs, folder), "nights": str(NIGHTS)}
    for i, command in enumerate(case.commands, 1):
        must_fail = command.startswith("!")
        words = [w.format(**places) for w in shlex.split(command.removeprefix("!"))]
        done = side.run(["-m", "arrayred", *_expanded(words, folder)], folder)
        if side.name == "base" and (done.returncode != 0) != must_fail:
            raise GoldenError(f"BASE: {command}: exit code {done.returncode}: {done.stderr[-500:]}")
        text = f"$ arrayred {command}\nexit code {done.returncode}\n{done.stdout}--\n{done.stderr}"
        (folder / f"said-{i}.txt").write_text(text, "utf-8")


def _expanded(words: Sequence[str], folder: Path) -> Iterator[str]:
    """Yield words, globs as the paths that they match."""
    for word in words:
        if "*" not in word:
            yield word
            continue
        path = Path(word)
        matching = sorted((folder / path.parent).glob(path.name))
        yield from (str(path.parent / found.name) for found in matching)


def simulated(base: Side) -> Path:
    """Let BASE write the frames, and add what its simulator does not know; return their folder."""
    inputs = base.folder / "inputs"
    inputs.mkdir()

    def simulate(name: str) -> None:
        options = shlex.split(SIMULATED[name])
        done = base.run(["-m", "arrayred", "simulate", name, *options], inputs)
        if done.returncode:
            raise GoldenError(f"BASE: simulate {name}: {done.stderr[-500:]}")
        for path in (inputs / name).glob("truth.*"):
            path.unlink()

    with ThreadPoolExecutor(_AT_ONCE) as pool:
        list(pool.map(simulate, SIMULATED))
    _add_overscan(inputs / "flats")
    _add_second_star(inputs / "two")
    (inputs / "flats.toml").write_text(_NIGHT_FILE)
    return inputs


def _add_overscan(folder: Path) -> None:
    """Put an overscan before the image of every frame, and let the bias drift from row to row."""
    rng = np.random.default_rng(5)
    for path in sorted(folder.iterdir()):
        pixels = fits.getdata(path).astype(float)
        n_rows, n_columns = pixels.shape
        strip = rng.normal(1000.0, 8.0, (n_rows, _OVERSCAN))
        whole = np.hstack([strip, pixels]) + rng.integers(0, 30, (n_rows, 1))
        image = f"[{_OVERSCAN + 1}:{_OVERSCAN + n_columns},1:{n_rows}]"
        cards = {"BIASSEC": f"[1:{_OVERSCAN},1:{n_rows}]", "TRIMSEC": image}
        _rewrite(path, whole, cards)


def _add_second_star(folder: Path) -> None:
    """Add to every light its own star once more, 70 rows higher and half as bright."""
    for path in sorted(folder.glob("light-*")):
        pixels = fits.getdata(path).astype(float)
        star = np.zeros_like(pixels)
        star[120:160] = (pixels - np.median(pixels, axis=0))[50:90] / 2
        _rewrite(path, pixels + star, {})


def _rewrite(path: Path, pixels: np.ndarray, cards: Mapping[str, str]) -> None:
    """Write a frame of uint16 anew, with further cards."""
    header = fits.getheader(path)
    for card in ("CHECKSUM", "DATASUM"):
        header.remove(card, ignore_missing=True)
    header.update(cards)
    fits.writeto(path, np.rint(pixels).clip(0, 65535).astype(np.uint16), header, overwrite=True)


def has_commit(commit: str) -> bool:
    """Tell whether this is a clone that holds a commit, and there is git to read it."""
    if shutil.which("git") is None:
        return False
    asked = ["git", "-C", str(ROOT), "cat-file", "-e", f"{commit}^{{commit}}"]
    return subprocess.run(asked, check=False, capture_output=True).returncode == 0


def default_base() -> str:
    """Return the commit whose products the current code must equal."""
    return BASE_FILE.read_text("ascii").strip()


def _sides(commit: str, folder: Path) -> tuple[Side, Side]:
    """Return the package of a commit, as written to a folder, and that of the working tree."""
    base, head = Side("base", folder / "code", folder), Side("head", ROOT, folder)
    archive = ["git", "-C", str(ROOT), "archive", "--format=tar", commit, "arrayred"]
    packed = subprocess.run(archive, check=True, capture_output=True).stdout
    with tarfile.open(fileobj=io.BytesIO(packed)) as tar:
        tar.extractall(base.tree, filter="data")
    version = head.require_own()
    (base.tree / "arrayred" / "_version.py").write_text(f'__version__ = "{version}"\n')
    if base.require_own() != version:
        raise GoldenError("BASE cannot be given the version number of this tree")
    return base, head


def run(commit: str, cases: Sequence[Case], folder: Path) -> int:
    """Run both sides, print what differs, and return the number of differences."""
    base, head = _sides(commit, folder)
    present = [case for case in cases if not case.needs or (NIGHTS / case.needs).is_dir()]
    inputs = simulated(base)
    before, after = (made(side, present, inputs) for side in (base, head))
    excused: Counter[str] = Counter()
    n_files = n_reports = 0
    for case in cases:
        if case not in present:
            print(f"{case.name:20} skipped: {NIGHTS / case.needs} is not there")
            continue
        found = compare(before / case.name, after / case.name)
        n_files, n_reports = n_files + found.n_files, n_reports + len(found.reports)
        excused += found.excused
        state = f"{len(found.reports)} differ" if found.reports else "equal"
        print(f"{case.name:20} {found.n_files:4} files, {state}")
        for report in found.reports:
            print(f"  {report}")
    for what, n in sorted(excused.items()):
        print(f"  excluded: {what}: {n} files")
    print(f"{'total':20} {n_files:4} files, {n_reports or 'none'} differ from {commit[:12]}")
    return n_reports


def main(arguments: Sequence[str] | None = None) -> int:
    """Compare, and return the exit code: 1 if a product differs, 2 if nothing can be compared."""
    options = _parser().parse_args(arguments)
    started = time.perf_counter()
    commit = options.base or default_base()
    if not has_commit(commit):
        print(f"The commit {commit} is not in this clone, or git is missing", file=sys.stderr)
        return 2
    cases = [case for case in CASES if not options.only or case.name in options.only]
    try:
        with tempfile.TemporaryDirectory(prefix="arrayred-golden-") as temporary:
            folder = (options.keep or Path(temporary)).absolute()
            folder.mkdir(parents=True, exist_ok=True)
            if any(folder.iterdir()):
                raise GoldenError(f"{folder} is not empty")
            n_reports = run(commit, cases, folder)
    except GoldenError as error:
        print(error, file=sys.stderr)
        return 2
    print(f"{'':20} {time.perf_counter() - started:.0f} s")
    return int(n_reports > 0)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.golden", description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    add = parser.add_argument
    add("base", nargs="?", metavar="BASE", help="a commit [that of golden-base]")
    add("--only", action="append", choices=[case.name for case in CASES], help="one case; repeat")
    add("--keep", type=Path, metavar="DIR", help="an empty folder: leave frames and products there")
    return parser


if __name__ == "__main__":
    sys.exit(main())
