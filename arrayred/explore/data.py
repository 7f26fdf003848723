"""Compute the images and spectra that the explorer shows of a night.

A page may be open in several windows, so what takes long is cached here and made once: the plan,
the masters, and the last combined images. All of it is made when it is first requested: to open a
page of 2,000 frames reads one of them, while their plan, which reads rows of each, takes half a
minute.
"""

from __future__ import annotations

import math
import os
import shlex
import signal
import subprocess
import sys
from collections import OrderedDict, defaultdict
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from threading import RLock
from typing import Any, Literal, NamedTuple, Self, TypeVar

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from arrayred import pipeline
from arrayred.config import NightFile, Recipe
from arrayred.config.night_file import with_rows_of
from arrayred.config.recipe import RowRange
from arrayred.config.toml import errors_name, read_text_file, toml_tables
from arrayred.errors import ForeignFileError, InputError, LampError, UsageError
from arrayred.io.cube import make_stack
from arrayred.io.frames import Frame
from arrayred.io.pixels import FrameStack, read_band
from arrayred.io.products import open_product
from arrayred.io.publish import publish
from arrayred.io.remote import Address, without_secrets
from arrayred.model import COUNTS, FRAME, LAMP, X, Y
from arrayred.night import Group, Night, Plan, Target, make_plan
from arrayred.night.groups import slug
from arrayred.pipeline import (
    Masters,
    ReadOptions,
    calibrate,
    compute,
    extract_spectrum,
    in_wanted_units,
    row_range_of,
)
from arrayred.plots.panels import USUAL, Extent, Scale
from arrayred.steps.solution import Solved, solve_given
from arrayred.steps.wavelength import (
    LAMPS,
    ListedLine,
    find_lamp_lines,
    line_list_text,
    listed_lines,
    parse_line_list,
    read_line_list,
)

_MOST_CACHED = 512 << 20
"""Bytes of images that are cached, for all windows together."""


class ShownImage(NamedTuple):
    """An image as it is shown: pixels (y, x), the FITS numbers of the first one, their unit."""

    pixels: NDArray[Any]
    first: tuple[int, int]
    unit: str

    @property
    def shape(self) -> tuple[int, int]:
        """Return (n_rows, n_columns)."""
        return self.pixels.shape[0], self.pixels.shape[1]

    @property
    def nbytes(self) -> int:
        """Return the bytes of its pixels."""
        return self.pixels.nbytes

    @property
    def extent(self) -> Extent:
        """Return the edges of the outer pixels, FITS numbers: left, right, bottom, top."""
        (y, x), (n_rows, n_columns) = self.first, self.shape
        return x - 0.5, x + n_columns - 0.5, y - 0.5, y + n_rows - 0.5

    def value(self, row: int, column: int) -> float | None:
        """Return the value of a pixel by its FITS numbers; None off the image."""
        y, x = row - self.first[0], column - self.first[1]
        inside = 0 <= y < self.shape[0] and 0 <= x < self.shape[1]
        return float(self.pixels[y, x]) if inside else None


T = TypeVar("T")


class ExplorerModel:
    """A night as the explorer shows it: plan, masters, images and spectra, cached.

    Parameters
    ----------
    night : its frames.
    recipe : settings of the reduction; None: the default ones.
    memory : most memory for combining frames, bytes; None: no limit.
    command : reduces the night, and says where choices are saved; None: neither can be done.
    """

    def __init__(
        self,
        night: Night,
        recipe: Recipe | None = None,
        memory: int | None = None,
        command: ReduceCommand | None = None,
    ) -> None:
        self.night, self.recipe = night, recipe or Recipe()
        self.choices = None if command is None else Choices(night, command)
        self.groups: Mapping[str, Group] = groups_by_path(night)
        if not self.groups:
            raise InputError(
                "No frames or products found", path=night.folder, hint="Name a folder of frames."
            )
        self._reading = ReadOptions("auto", memory, self.recipe.overscan)
        self._cache = RecentCache(_MOST_CACHED)
        self._plan: Plan | None = None
        self._planning = RLock()
        self._masters = Masters(self.recipe.dark_method, self._reading)

    @property
    def title(self) -> str:
        """Return the title of the night: the last two parts of its folder's path."""
        return "/".join(self.night.folder.resolve().parts[-2:])

    def target(self, view: View) -> Target | None:
        """Return the target whose light frames are in view; None for frames of another type.

        Raises
        ------
        ArrayredError
            The target cannot be reduced.
        """
        if not self._is_light(view):
            return None
        plan = self.plan()
        name = self.name(view)
        found = next((target for target in plan.targets if target.name == name), None)
        if found is None:
            causes = dict(plan.failed)
            raise (
                causes.get(name)
                or next(iter(plan.problems), None)
                or InputError(
                    f"{name} is not a target of the plan", hint="See `arrayred inspect --plan`."
                )
            )
        return found

    def plan(self) -> Plan:
        """Return the plan of the night, made when it is first needed."""
        with self._planning:
            if self._plan is None:
                self._plan = make_plan(self.night, self.recipe)
            return self._plan

    def stages(self, view: View) -> tuple[CalibrationStage, ...]:
        """Return the calibration stages that can be shown of the group in view."""
        group = self.groups[view.group]
        if self._is_light(view):
            return "raw", "calibrated", "combined"
        kind = view.group.partition("/")[0]
        return ("raw", "combined") if kind in ("bias", "dark") and not group.is_master else ("raw",)

    def corrected(self, view: View) -> str:
        """Return the calibration of the image in view in words; for darks and biases the number."""
        target = self.target(view)
        if target is None or view.stage == "raw":
            return "as in the file" if view.stage == "raw" else self.groups[view.group].size
        less = [] if target.master is None else [f"{target.master.title} subtracted"]
        less += [] if target.flat is None else [f"divided by {target.flat.frames.title}"]
        return ", ".join(less) or "uncalibrated"

    def frame(self, view: View) -> Frame:
        """Return the frame in view, with its header values."""
        return self.groups[view.group].frames[view.frame]

    def image(self, view: View) -> ShownImage:
        """Return the image in view.

        Raises
        ------
        ArrayredError
            It cannot be read or made.
        """
        if view.stage == "combined":
            return _as_image(self.combined(view))
        if view.stage == "calibrated":
            self._calibrations(view)  # before the lock: a raw frame does not wait for masters
        key = view.stage, view.group, view.frame
        return self._cache.get(key, lambda: self._one_frame(view))

    def through_frames(self, view: View, row: int, column: int) -> NDArray[np.float64]:
        """Return the raw values (frame) of one pixel in all frames of the group."""
        return self._reader(view).through(row, column).astype(np.float64)

    def combined(self, view: View) -> xr.Dataset:
        """Return all frames of the group as one image (y, x), as `reduce` combines them."""
        return self._cache.get(("combined", view.group), lambda: self._combine(view))

    def can_combine(self, view: View) -> bool:
        """Return whether a spectrum can be extracted from the group in view."""
        return self._is_light(view) or self._combined_product(view).image is not None

    def is_combined(self, view: View) -> bool:
        """Return whether the combined image is cached."""
        return ("combined", view.group) in self._cache

    def spectrum(self, view: View) -> xr.Dataset:
        """Return the spectrum of the combined image, extracted with the rows of the view.

        Rows that are not given are found, and sky rows are chosen: the spectrum is the one that
        `reduce` writes with these rows.

        Raises
        ------
        NoSpectrumError, SkyBandError
            No spectrum is found, or there is no room for its sky.
        """
        return in_wanted_units(self._extracted(view), self._recipe(view))

    def _extracted(self, view: View) -> xr.Dataset:
        """Return the same, in adu."""
        key = "extracted", view.group, view.rows, view.sky_rows
        return self._cache.get(
            key, lambda: extract_spectrum(self.combined(view), self._recipe(view))
        )

    def lamp_lines(self, view: View, lamp: str = "") -> LampLines:
        """Return the lines of a lamp of the target in view, through the aperture of its spectrum.

        Parameters
        ----------
        view : its target and rows.
        lamp : the name of its arc frame; "", or another target's: the first.

        Returns
        -------
        lines : named as the file of lines says that was saved, or else as they are identified.

        Raises
        ------
        ArrayredError
            The target has no arc frame, or none could be extracted.
        """
        target = self.target(view)
        if target is None or not target.lamps:
            raise InputError(
                f"No arc frame was found for {self.name(view)}",
                hint="Name one in the night file: lamps = [...] of the target.",
            )
        one = replace(target, recipe=self._recipe(view))
        key = view.group, view.rows, view.sky_rows
        arc = self._cache.get(("arc", *key), lambda: self._arc(view, one))
        names = list(map(str, arc[LAMP].values))
        lamp = lamp if lamp in names else names[0]
        path = None if self.choices is None else self.choices.command.out / f"{one.name}_lines.txt"
        named, gas = None, ""
        if path is not None and path.is_file():
            named = read_line_list(path, int(arc.sizes[X]))
        else:
            told = self._cache.get(("lines", *key), lambda: self._identified(view, one, arc))
            named = told if told.sizes["line"] else None
            gas = str(told.attrs["lamp"])
        found = find_lamp_lines(arc.sel({LAMP: lamp}))
        wanted = (gas, one.recipe.lamp, "Ne")
        gas = next(name for name in wanted if name in LAMPS)
        lines = LampLines(one.name, arc, lamp, found, gas, named, one.recipe.wavelength_order, path)
        return lines.as_saved()

    def _arc(self, view: View, one: Target) -> xr.Dataset:
        """Return the lamps of a target (lamp, x), extracted as `reduce` does."""
        arc, why = pipeline.extract_lamps(one, self._masters, self._reading, self._extracted(view))
        if arc is None:
            raise LampError(why[0], hint="See `arrayred inspect --plan`.")
        return arc

    def _identified(self, view: View, one: Target, arc: xr.Dataset) -> xr.Dataset:
        """Return the lines of the lamp of a target with most lines identified; or no lines."""
        _, lines, solved = pipeline.calibrate_wavelengths(
            one, self._masters, self._extracted(view), arc
        )
        if lines is None or solved is None:
            return xr.Dataset(coords={"line": []}, attrs={"lamp": ""})
        used = lines.isel(line=lines["used"].values)
        whose = used[LAMP].values.astype(str)
        names, counts = np.unique(whose, return_counts=True)
        own = used.isel(line=whose == names[counts.argmax()])
        return own.assign_attrs(lamp=solved.dispersion.lamp)

    def name(self, view: View) -> str:
        """Return the name of the group as used in a night file."""
        return self.groups[view.group].name

    def is_turned(self, view: View) -> bool:
        """Return whether the rows of the spectrum are columns of the file."""
        return self.frame(view).dispersion_axis == 2

    def _is_light(self, view: View) -> bool:
        return view.group.startswith("light/")

    def _recipe(self, view: View) -> Recipe:
        target = self.target(view)
        recipe = self.recipe if target is None else target.recipe
        rows = view.rows or self._rows_from_elsewhere(view, target)
        if rows is not None:
            recipe = recipe.replace(rows=rows, near_row=None, all_spectra=False, whole_span=False)
        return recipe if view.sky_rows is None else recipe.replace(sky_rows=view.sky_rows)

    def _rows_from_elsewhere(self, view: View, target: Target | None) -> RowRange | None:
        """Return the rows set by the night file or by a product's spectrum, or None."""
        if target is not None and target.rows_from:
            return row_range_of(self.spectrum(View(f"light/{target.rows_from}")))
        return None if target is not None else self._combined_product(view).rows

    def _reader(self, view: View) -> GroupReader:
        group = view.group
        return self._cache.get(("reader", group), lambda: GroupReader(self.groups[group]))

    def _one_frame(self, view: View) -> ShownImage:
        if view.stage == "raw":
            roll = self._reader(view)
            return ShownImage(roll.frame(view.frame), roll.first_pixel, self.frame(view).unit)
        alone = Group(self.name(view), (self.frame(view),))
        cube = calibrate(self._reading.open(alone), *self._calibrations(view))
        return _as_image(compute(cube.isel({FRAME: 0})))

    def _calibrations(self, view: View) -> tuple[xr.Dataset | None, xr.Dataset | None]:
        """Return the master dark or bias of the frames in view, and their master flat."""
        target = self.target(view)
        if target is None:
            return None, None
        return self._masters.of(target.master), self._masters.of(target.flat)

    def _combine(self, view: View) -> xr.Dataset:
        target, product = self.target(view), self._combined_product(view).image
        if target is not None:
            _, combined = next(pipeline.target(target, self._masters, self._reading))
            return combined
        return self._masters[self.groups[view.group]] if product is None else product

    def _combined_product(self, view: View) -> CombinedProduct:
        """Return the combined image of a group that is a product; empty for other groups."""
        path: Path = self.frame(view).path
        return self._cache.get(("product", path), lambda: read_combined_product(path))


def _as_image(image: xr.Dataset) -> ShownImage:
    first = int(image[Y].values[0]), int(image[X].values[0])
    return ShownImage(image[COUNTS].values, first, str(image[COUNTS].attrs.get("units", "adu")))


# Groups that can be shown, of raw frames or of products: `groups_by_path`.
#
# Of a folder without raw frames the products are shown: masters, combined images, calibrated
# frames. They are FITS images like any other and read in the same way.

_COMBINED, _SPECTRUM, _CALIBRATED = "_combined", "_spectrum.fits", "calibrated"


class CombinedProduct(NamedTuple):
    """A combined image read from a product, and the rows of its spectrum; None if missing."""

    image: xr.Dataset | None = None
    rows: RowRange | None = None

    @property
    def nbytes(self) -> int:
        """Return the bytes of the image."""
        return 0 if self.image is None else self.image.nbytes


def groups_by_path(night: Night) -> dict[str, Group]:
    """Return the groups of a night, or of a folder of products, by ``<type>/<name>``."""
    if night.groups:
        lights_first = sorted(night.groups, key=lambda name: not name.startswith("light/"))
        return {name: night.groups[name] for name in lights_first}
    found: dict[str, list[Frame]] = defaultdict(list)
    for frame in night.scanned:
        if frame.is_own:
            found[_product_group(frame)].append(frame)
    in_order = sorted(found, key=lambda name: (not name.startswith("combined/"), name))
    return {name: Group(name.partition("/")[2], tuple(found[name])) for name in in_order}


def read_combined_product(path: Path) -> CombinedProduct:
    """Return a combined image with the rows of its spectrum; empty for any other file."""
    name = path.stem
    if not name.endswith(_COMBINED):
        return CombinedProduct()
    try:
        image = open_product(path)
    except ForeignFileError:
        return CombinedProduct()
    beside = path.with_name(name.removesuffix(_COMBINED) + _SPECTRUM)
    if not beside.is_file():
        return CombinedProduct(image)
    facts = open_product(beside).attrs
    return CombinedProduct(image, (facts["first_row"], facts["last_row"]))


def _product_group(frame: Frame) -> str:
    """Return the group of a product: calibrated frames share one, any other has its own."""
    folder, name = frame.path.parent, frame.path.stem
    if folder.name == _CALIBRATED:
        return f"calibrated/{folder.parent.name}"
    if name.endswith(_COMBINED):
        return f"combined/{name.removesuffix(_COMBINED)}"
    return f"{frame.frame_type or 'product'}/{name}"


class RecentCache:
    """Cache of the values used last, each made once, until they take too many bytes.

    The first part of a key is the kind of its value. A thread that requests a value while another
    makes one of its kind waits for that; so raw frames do not wait until others are combined.

    Parameters
    ----------
    most_bytes : of all values together; the one used last is cached whatever its size.

    Examples
    --------
    >>> cached = RecentCache(most_bytes=100)
    >>> first = cached.get(("image", 1), lambda: np.zeros(10))
    >>> cached.get(("image", 1), lambda: np.ones(10)) is first
    True
    >>> _ = cached.get(("image", 2), lambda: np.zeros(10))
    >>> ("image", 1) in cached, ("image", 2) in cached
    (False, True)
    """

    def __init__(self, most_bytes: int) -> None:
        self._most = most_bytes
        self._values: OrderedDict[tuple[Hashable, ...], Any] = OrderedDict()
        self._making: defaultdict[Hashable, RLock] = defaultdict(RLock)
        self._changing = RLock()

    def __contains__(self, key: tuple[Hashable, ...]) -> bool:
        """Return whether a value is cached under a key."""
        return key in self._values

    def get(self, key: tuple[Hashable, ...], make: Callable[[], T]) -> T:
        """Return the value cached under a key, made first if there is none."""
        with self._changing:
            making = self._making[key[0]]
        with making:
            with self._changing:
                if key in self._values:
                    self._values.move_to_end(key)
                    found: T = self._values[key]
                    return found
            made = make()
            with self._changing:
                self._values[key] = made
                self._drop_oldest()
            return made

    def _drop_oldest(self) -> None:
        sizes = {key: int(value.nbytes) for key, value in self._values.items()}
        taken = sum(sizes.values())
        for key in list(sizes)[:-1]:
            if taken <= self._most:
                return
            taken -= sizes[key]
            del self._values[key]


# The current view: `View`; rows as typed: `parse_rows`, `format_rows`.

CalibrationStage = Literal["raw", "calibrated", "combined"]
BlockStatistic = Literal["mean", "peak"]


@dataclass(frozen=True)
class View:
    """The image in view and its display settings.

    Parameters
    ----------
    group : the group of frames, ``<type>/<name>``.
    frame : the number of the frame in its group, from 0.
    stage : the frame as it is in the file, the calibrated frame, or all frames combined.
    row, column : the position of the cuts, FITS numbers; None: the middle.
    low, high : the percentiles of the pixels that are shown darkest and brightest.
    stretch : scale of brightness against pixel values in between.
    blocks : statistic shown of pixels that share a dot on the screen.
    rows : the rows of the spectrum; None: they are found.
    sky_rows : the rows of the sky; None: they are chosen.

    Examples
    --------
    >>> View("light/Vega", frame=2).on("light/Deneb").frame
    0
    """

    group: str
    frame: int = 0
    stage: CalibrationStage = "raw"
    row: int | None = None
    column: int | None = None
    low: float = USUAL[0]
    high: float = USUAL[1]
    stretch: Scale = "asinh"
    blocks: BlockStatistic = "mean"
    rows: RowRange | None = None
    sky_rows: RowRange | None = None

    def on(self, group: str) -> Self:
        """Return the view of another group: its first frame, raw, rows not given."""
        return replace(self, group=group, frame=0, stage="raw", rows=None, sky_rows=None)

    def at(self, row: int, column: int, shape: tuple[int, int], first: tuple[int, int]) -> Self:
        """Return the view with its cuts at a pixel, or at the nearest one that exists.

        Parameters
        ----------
        row, column : FITS numbers.
        shape : (n_rows, n_columns) of the image.
        first : row and column of its first pixel.
        """
        nearest = (
            min(max(wanted, start), start + n - 1)
            for wanted, start, n in zip((row, column), first, shape, strict=True)
        )
        row, column = nearest
        return replace(self, row=row, column=column)


def parse_rows(text: str) -> RowRange | None:
    """Return the rows (first, last) given as "A:B"; None for an empty text.

    Raises
    ------
    UsageError
        The text is not A:B with 1 <= A <= B.

    Examples
    --------
    >>> parse_rows(" 484:518 "), parse_rows("")
    ((484, 518), None)
    """
    if not text.strip():
        return None
    first, colon, last = (part.strip() for part in text.partition(":"))
    if colon and first.isdecimal() and last.isdecimal() and 1 <= int(first) <= int(last):
        return int(first), int(last)
    raise UsageError(f"{text!r} is not a row range A:B with 1 <= A <= B", hint="Example: 484:518.")


def format_rows(rows: RowRange | None) -> str:
    """Return rows as "A:B", the format of `parse_rows`.

    Examples
    --------
    >>> format_rows((484, 518)), format_rows(None)
    ('484:518', '')
    """
    return "" if rows is None else f"{rows[0]}:{rows[1]}"


# What is chosen, saved and reduced: `Choices`.
#
# The page reduces nothing itself. It writes the chosen rows into the night file, and runs the
# command `arrayred reduce` in a process of its own: the products are those of the command because
# it is the command that makes them, and the page stays responsive meanwhile.


@dataclass(frozen=True)
class ReduceCommand:
    """How `arrayred reduce` is called for the night in view.

    Parameters
    ----------
    out : its output folder.
    night_file : the file that it reads the choices from.
    settled : returns the recipe, and the night file without what the options override.
    options : further words of its command line.
    """

    out: Path
    night_file: Path
    settled: Callable[[NightFile], tuple[Recipe, NightFile]]
    options: tuple[str, ...] = ()

    def words(self, night: Path, target: str | None, *, overwrite: bool = False) -> list[str]:
        """Return the command for one target, or for all."""
        words = ["reduce", night.whole if isinstance(night, Address) else str(night)]
        words += ["-o", str(self.out), *self.options]
        if self.night_file.parent != self.out and os.path.lexists(self.night_file):
            words += ["--night-file", str(self.night_file)]
        words += [] if target is None else ["--target", target]
        return [*words, "--overwrite"] if overwrite else words


class Choices:
    """The rows that were chosen of the targets of a night: saved, and reduced with.

    Parameters
    ----------
    night : its frames.
    command : how it is reduced.
    """

    def __init__(self, night: Night, command: ReduceCommand) -> None:
        self._night, self.command = night, command
        self._chosen: dict[str, tuple[RowRange | None, RowRange | None]] = {}
        self._first = self._last = self._text_now()
        self._process: subprocess.Popen[str] | None = None
        self._saving = RLock()

    def save(self, view: View) -> Path:
        """Write the rows of a view into the night file, and return its path.

        What is not chosen is as it was when the page was started. Of other entries and comments no
        byte is changed.

        Raises
        ------
        UsageError
            No spectrum is extracted of the group in view; the night file is a log, was changed
            since the page was started, or cannot be edited; or the options override what it says.
        StorageError
            It cannot be written.
        """
        kind, _, group = view.group.partition("/")
        path = self.command.night_file
        if not self._night.groups:
            raise UsageError(
                "Choices are saved for raw frames, and these are products",
                path=self._night.folder,
                hint="Open the folder of raw frames: arrayred explore NIGHT -o OUT.",
            )
        if kind != "light":
            raise UsageError(f"A {kind} has no rows to save", hint="Choose light frames.")
        if path.suffix.lower() != ".toml":
            raise UsageError(
                "The night file is an observing log, which is not edited here",
                path=path,
                hint="Copy the entry, or add columns rows and sky_rows to the log.",
            )
        with self._saving:
            if self._text_now() != self._last:
                raise UsageError(
                    "The night file was changed since this page was started",
                    path=path,
                    hint="Start the page again to use the new version.",
                )
            chosen = {**self._chosen, group: (view.rows, view.sky_rows)}
            with errors_name(path):
                text = self._text_with(chosen)
                self._require_used(text, view)
            # through a link, which stays one
            publish({path.resolve(): text.encode()}, overwrite=True)
            self._chosen, self._last = chosen, text
        return path

    def reduce(
        self,
        view: View,
        tell: Callable[[str], None],
        *,
        all_targets: bool = False,
        overwrite: bool = False,
    ) -> tuple[int, str]:
        """Save the rows of a view and run `arrayred reduce`; return its exit code and its end.

        Parameters
        ----------
        view : its target is reduced.
        tell : called with the command, and with each line that it prints.
        all_targets : reduce the other targets of the night too.
        overwrite : replace products made with other settings.
        """
        self.save(view)
        target = None if all_targets else view.group.partition("/")[2]
        words = self.command.words(self._night.folder, target, overwrite=overwrite)
        tell(f"$ {without_secrets(shlex.join(['arrayred', *words]))}")
        environment = os.environ | {"PYTHONUNBUFFERED": "1"}
        with subprocess.Popen(
            [sys.executable, "-m", "arrayred", *words, "--no-input", "--verbose"],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            text=True, encoding="utf-8", errors="replace", env=environment,
        ) as self._process:  # fmt: skip
            assert self._process.stdout is not None
            end: list[str] = []  # the summary: what is not indented, after the last blank line
            for line in map(str.rstrip, self._process.stdout):
                tell(line)
                if not line:
                    end = []
                elif not line.startswith(" "):
                    end.append(line)
        return self._process.returncode, " ".join(f"{line.rstrip('.')}." for line in end)

    def stop(self) -> None:
        """Stop the command, as Ctrl-C does; finished products stay."""
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(signal.SIGINT)

    def _text_now(self) -> str:
        path = self.command.night_file
        there = path.suffix.lower() == ".toml" and os.path.lexists(path)
        return read_text_file(path, "The night file") if there else ""

    def _text_with(self, chosen: Mapping[str, tuple[RowRange | None, RowRange | None]]) -> str:
        """Return the text as it was at first, with the rows chosen since."""
        text = self._first
        for target, (rows, sky_rows) in chosen.items():
            text = with_rows_of(text, _key_of(target, text), rows, sky_rows)
        return text

    def _require_used(self, text: str, view: View) -> None:
        """Raise UsageError unless `arrayred reduce` takes the rows of a view from a night file."""
        group = view.group.partition("/")[2]
        file = NightFile.from_tables(toml_tables(text), self.command.night_file)
        recipe, file = self.command.settled(file)
        own = recipe.replace(**file.targets[_key_of(group, text)].recipe)
        for name in ("rows", "sky_rows"):
            wanted, found = getattr(view, name), getattr(own, name)
            if wanted is not None and wanted != found:
                raise UsageError(
                    f"The options of this page override {name} of the night file",
                    keyword=name,
                    hint="Start the page without --rows, --sky-rows and --reference.",
                )


def _key_of(target: str, text: str) -> str:
    """Return the key of a target in a night file, where it may have its name as in the headers."""
    keys = toml_tables(text).get("targets", {})
    return next((key for key in keys if slug(key) == target), target)


# The lines of a lamp, and their names: `LampLines`.
#
# Lines are kept as the file of lines has them, and read by the function that reads it: what is
# refused there is refused here, and the solution is the one of `arrayred wavelength --lines`.

_NEAR = 3.0
"""FWHM within which a line is picked."""
_SAME_LINE = 0.005
"""Angstrom within which a typed wavelength is that of a listed line."""


@dataclass(frozen=True)
class LampLines:
    """The lines of a lamp: found, and named.

    Parameters
    ----------
    target : name of the target.
    arc : (lamp, x), its lamps through its aperture.
    lamp : the one in view.
    found : (line), of `find_lamp_lines`.
    gas : the elements whose lines are listed, such as "Ne+Ar".
    named : (line), `x`, `wavelength` and `element`; None: none is named.
    order : of the solution; None: chosen.
    path : of the file that they are saved to; None: they cannot be saved.
    """

    target: str
    arc: xr.Dataset
    lamp: str
    found: xr.Dataset
    gas: str
    named: xr.Dataset | None = None
    order: int | None = None
    path: Path | None = None

    @property
    def lamps(self) -> list[str]:
        """Return the names of the lamps."""
        return [str(name) for name in self.arc[LAMP].values]

    def nearest(self, x: float) -> float | None:
        """Return the pixel of the line nearest to a pixel, named or not; None if none is near."""
        named = [] if self.named is None else self.named["x"].values.tolist()
        places = [*named, *self.found["x"].values.round(3).tolist()]
        best = min(places, key=lambda place: abs(place - x), default=math.inf)
        return best if abs(best - x) <= _NEAR * float(self.found.attrs["fwhm"]) else None

    def name_of(self, x: float) -> tuple[float, str] | None:
        """Return wavelength and element of the named line at a pixel, or None."""
        return next(((wave, name) for at, wave, name in self._rows() if self._is_at(at, x)), None)

    def listed(self, x: float, solved: Solved | None) -> tuple[list[ListedLine], ListedLine]:
        """Return the listed lines that one at a pixel may be, and the likeliest of them.

        Parameters
        ----------
        x : of the line.
        solved : the solution of the named lines: only the lines near its wavelength are returned,
            and the likeliest is the brightest within the width of the line, else the nearest;
            without a solution it is the one it has been named, else the first.
        """
        named = self.name_of(x)
        expected = None if solved is None else float(solved.dispersion.wavelength(x))
        lines = listed_lines(self.gas, expected)
        wanted = expected if named is None else named[0]
        if wanted is None:
            return lines, lines[0]
        if named is None and solved is not None:
            step = abs(float(solved.dispersion.dispersion(x)))
            reach = float(self.found.attrs["fwhm"]) * step / 2
            if within := [line for line in lines if abs(line.wave - wanted) < reach]:
                return lines, max(within, key=lambda line: line.strength)
        return lines, min(lines, key=lambda line: abs(line.wave - wanted))

    def with_name(self, x: float, text: str) -> Self:
        """Return the lines with one named by a wavelength in air, Angstrom.

        Raises
        ------
        UsageError
            The text is no wavelength, or one that a file of lines may not have.
        """
        try:
            wave = float(text)
        except ValueError:
            raise UsageError(
                f"{text!r} is not a wavelength in Angstrom", hint="Example: 5852.49."
            ) from None
        (known,) = listed_lines(self.gas, wave, 1)
        ion = known.ion if abs(known.wave - wave) < _SAME_LINE else ""
        rest = [row for row in self._rows() if not self._is_at(row[0], x)]
        return self._with_rows([*rest, (x, wave, ion)])

    def without_name(self, x: float) -> Self:
        """Return the lines without the name of the one at a pixel."""
        return self._with_rows([row for row in self._rows() if not self._is_at(row[0], x)])

    def as_saved(self) -> Self:
        """Return the lines with those named as a file of lines keeps them."""
        return self._with_rows(self._rows())

    def solved(self) -> Solved:
        """Return the solution of the named lines.

        Raises
        ------
        LampError
            They do not suffice, or make no solution.
        """
        if self.named is None:
            raise LampError("No line is named", hint="Click a line and name it.")
        return solve_given(self.arc, self.named, order=self.order)

    def save(self) -> Path:
        """Write the named lines as the file of lines of the target, and return its path.

        Raises
        ------
        UsageError
            No line is named, or the file was edited by hand.
        StorageError
            It cannot be written.
        """
        if self.named is None or self.path is None:
            raise UsageError("No line is named", hint="Click a line and name it.")
        if os.path.lexists(self.path):
            there = read_text_file(self.path, "The list of lines")
            if line_list_text(parse_line_list(there, self.path)) != there:
                raise UsageError(
                    "The list of lines was edited by hand and is not replaced",
                    path=self.path,
                    hint="Move or rename it.",
                )
        publish({self.path: line_list_text(self.named).encode()}, overwrite=True)
        return self.path

    def _is_at(self, one: float, other: float) -> bool:
        return abs(one - other) < float(self.found.attrs["fwhm"])

    def _rows(self) -> list[tuple[float, float, str]]:
        if self.named is None:
            return []
        columns = (self.named[name].values.tolist() for name in ("x", "wavelength", "element"))
        return list(zip(*columns, strict=True))

    def _with_rows(self, rows: list[tuple[float, float, str]]) -> Self:
        """Return the lines with these named, as they are once they are saved and read."""
        if not rows:
            return replace(self, named=None)
        names = ("x", "wavelength", "element")
        columns = zip(names, zip(*rows, strict=True), strict=True)
        text = line_list_text(xr.Dataset({name: ("line", list(own)) for name, own in columns}))
        path = self.path or Path(f"{self.target}_lines.txt")
        return replace(self, named=parse_line_list(text, path, int(self.arc.sizes[X])))


# Reader of the pixels that a view needs: `GroupReader`.
#
# One frame costs its own bytes, read from start to end; one pixel through all frames costs the
# bytes of that pixel in each, not a row of every frame: of 2,000 frames of 1024 x 1536 that is
# 4 kB instead of 6 MB. From a cache whole chunks are inflated, compressed frames are unpacked once.

Pixels = NDArray[Any]


class GroupReader:
    """Reader of the frames of a group, one by one or one pixel through all.

    Parameters
    ----------
    group : frames of one shape and unit.

    Raises
    ------
    MismatchError
        Their shapes or units differ.
    """

    def __init__(self, group: Group) -> None:
        self.frames = group.frames
        self.first_pixel = group.frames[0].first_pixel
        self._stack = make_stack(group.frames, lazy=True)

    @property
    def shape(self) -> tuple[int, int]:
        """Return (n_rows, n_columns) of a frame."""
        return self._stack.shape[1], self._stack.shape[2]

    @property
    def nbytes(self) -> int:
        """Return the bytes of a frame, for which it counts in a cache."""
        return self.shape[0] * self.shape[1] * self._stack.dtype.itemsize

    def frame(self, i: int) -> Pixels:
        """Return the pixels (y, x) of the i-th frame, from 0, as they are on disk.

        Raises
        ------
        FrameError
            The file has changed since the scan, or cannot be read.
        """
        return self._stack[i, :, :]

    def through(self, row: int, column: int) -> Pixels:
        """Return the values (frame) of one pixel in all frames.

        Parameters
        ----------
        row, column : FITS numbers, within the frames.
        """
        y, x = row - self.first_pixel[0], column - self.first_pixel[1]
        if not isinstance(self._stack, FrameStack):
            return self._stack[:, slice(y, y + 1), slice(x, x + 1)][:, 0, 0]
        values = np.empty((len(self.frames), 1), self._stack.dtype)
        read_band(self._stack.sources, y * self.shape[1] + x, values)
        return values[:, 0]
