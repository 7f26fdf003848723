"""Combine many files into one image, from disk to disk, without xarray: `arrayred combine`.

`prepare_combination` reads headers and refuses frames that do not fit together, `write_combination`
reads each pixel once, band by band, and writes each band of the result when it is done. No labels
are built: xarray takes half a second to import, three times the work of combining 25 frames.

Combinations that give a wrong image are refused with the reason: different exposures, a correction
applied twice. Differences that may be intended give a warning.
"""

from __future__ import annotations

import math
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from arrayred.bands import COMBINING, BandLayout, band_layout, visit_into
from arrayred.config import Combination, Recipe
from arrayred.config.night_file import Instrument
from arrayred.errors import (
    ArrayredError,
    ForeignFileError,
    HeaderError,
    InputError,
    MismatchError,
    NightError,
    UsageError,
)
from arrayred.io.files import files_at, find_image, list_files, paths_in
from arrayred.io.frames import (
    ROUNDING_SLACK,
    Frame,
    exposure_tolerance,
    frame_from_header,
    read_frames,
    require_same_unit,
)
from arrayred.io.header import Value
from arrayred.io.ledger import examine, required_checksums
from arrayred.io.pixel_checks import read_alike, repeated_frames
from arrayred.io.pixels import (
    ARRAY_BYTES,
    READ_PIECE,
    DatasumByPath,
    FrameStack,
    Pass,
    PassImage,
    all_plain_pixels,
    read_plane,
)
from arrayred.io.products import ImageWriter, Provenance, open_image_writer, product_header
from arrayred.io.publish import require_room
from arrayred.io.remote import Stamp, path_or_address
from arrayred.io.scan import ImageHDU, PixelSource, datasum_of, dtype_of
from arrayred.kernels.combine import mean, median, minmax_mean, without_impossible
from arrayred.kernels.reject import clipped_mean
from arrayred.model import DQ, SPOILT
from arrayred.progress import stage


@dataclass(frozen=True)
class CombineChecks:
    """Checks that may be relaxed.

    Parameters
    ----------
    any_exposure : frames, and the image to be subtracted, may be of different exposures.
    """

    any_exposure: bool = False


def require_same_exposure(frames: Sequence[Frame]) -> None:
    """Raise unless all frames have the same exposure, within 0.01 s or 0.1 %.

    Raises
    ------
    HeaderError
        A frame's exposure is not known.
    MismatchError
        A frame's exposure differs from that of the first.
    """
    first = _known_exposure(frames[0])
    tolerance = exposure_tolerance(first) + ROUNDING_SLACK
    for frame in frames[1:]:
        if abs(_known_exposure(frame) - first) > tolerance:
            raise MismatchError(
                f"The exposure time is {frame.exptime:g} s, but {frames[0].path.name} for "
                f"{first:g} s",
                path=frame.path,
                keyword="EXPTIME",
                value=frame.exptime,
                hint="Combine frames of one exposure time, or use --any-exposure.",
            )


def _known_exposure(frame: Frame) -> float:
    """Return a frame's exposure in s; raise HeaderError if it is not known."""
    if frame.exptime is not None:
        return frame.exptime
    known = [problem for problem in frame.problems if isinstance(problem, HeaderError)]
    raise (
        known[0]
        if known
        else HeaderError(
            "The header has no exposure time",
            path=frame.path,
            hint="Use --any-exposure to ignore this.",
        )
    )


def difference_warnings(frames: Sequence[Frame]) -> list[str]:
    """Return the warnings about differences between frames that may be intended."""
    facets = {
        "types": [frame.frame_type or repr(frame.type_found) for frame in frames],
        "corrections (CALSTAT)": [frame.state or "none" for frame in frames],
        "settings": [" ".join("=".join(pair) for pair in frame.setup) for frame in frames],
    }
    return [
        f"the frames are of different {what}: {_value_counts(values)}"
        for what, values in facets.items()
        if len(set(values)) > 1
    ]


def _value_counts(values: Sequence[str]) -> str:
    return ", ".join(f"{n} x {value or 'unknown'}" for value, n in Counter(values).most_common())


def require_fitting_master(master: Frame, frames: Sequence[Frame], rules: CombineChecks) -> None:
    """Raise MismatchError unless an image can be subtracted from every frame.

    Parameters
    ----------
    master : the image to be subtracted.
    frames : in canonical order.
    rules : the relaxed checks.
    """
    from arrayred.night.match import misfit  # with a night's planning: 30 ms that few need

    any_exposure = rules.any_exposure or master.frame_type == "bias"
    for frame in frames:
        if frame.image.source.stamp == master.image.source.stamp:
            raise MismatchError(
                "The image to subtract is one of the frames",
                path=frame.path,
                hint="Exclude it from the frames, or remove --minus.",
            )
        for one in () if any_exposure else (master, frame):
            _known_exposure(one)
        found = misfit(frame, master, None if any_exposure else Recipe.dark_tolerance, whole=True)
        if found is not None:
            raise MismatchError(
                f"{master.path.name} cannot be subtracted: {found.reason} "
                f"(the frame has {found.ours}, {master.path.name} {found.theirs})",
                path=frame.path,
                keyword=found.keyword,
                value=found.ours,
                hint=_REMEDIES.get(found.keyword, "Use a master made from frames like these."),
            )


_REMEDIES = {
    "EXPTIME": "Use a master of the same exposure time, or --any-exposure.",
    "CALSTAT": "Use raw frames and a raw master, or subtract the bias from both first.",
}


def calstat_after(frames: Sequence[Frame], master: Frame) -> str:
    """Return the CALSTAT of frames after an image is subtracted; "" if nothing is certain.

    Parameters
    ----------
    frames : with the same CALSTAT; if they differ, only the letters common to all count.
    master : the image subtracted.
    """
    from arrayred.night.match import letters_taken_by

    before = set.intersection(*({*frame.state} for frame in frames))
    done = before | set(letters_taken_by(master))
    return "".join(letter for letter in "BDF" if letter in done)


# The method of combination, its limits and its kernel: `CombineOptions`.

METHODS: tuple[Combination, ...] = get_args(Combination)
Kernel = Callable[..., NDArray[Any]]


@dataclass(frozen=True)
class CombineOptions:
    """The method of combining frames, and its limits.

    Parameters
    ----------
    method : "median"; "average"; "clip", the mean of the values near the mean; "minmax", the mean
        without the lowest and the highest value.
    n_sigma : rejection threshold of "clip", in standard deviations from the mean.
    iterations : number of iterations of "clip".
    dtype : of the image that is written, "float32" or "float64"; "": float32, or float64 for
        integers of more than 16 bits, whose digits it may not hold.
    memory : bytes that the process may hold, its program included.
    threads : number of bands processed at once; None: the number of usable cores, at most 8.
    checksums : write the SHA-256 of every input to the header; it takes a third of the time.

    Examples
    --------
    >>> str(CombineOptions("clip", n_sigma=2.5))
    'clipped mean (2.5 sigma, 1 iteration)'
    """

    method: Combination = "median"
    n_sigma: float = 3.0
    iterations: int = 1
    dtype: Literal["", "float32", "float64"] = ""
    memory: int = 512 << 20
    threads: int | None = None
    checksums: bool = True

    def __str__(self) -> str:
        """Return the method in words."""
        times = "1 iteration" if self.iterations == 1 else f"{self.iterations} iterations"
        return {
            "clip": f"clipped mean ({self.n_sigma:g} sigma, {times})",
            "minmax": "mean without the lowest and the highest value",
        }.get(self.method, self.method)

    @property
    def kernel(self) -> Kernel:
        """Return the kernel that combines a band into rows of the image."""
        clip = partial(clipped_mean, n_sigma=self.n_sigma, iterations=self.iterations)
        kernels: dict[Combination, Kernel] = {
            "median": median,
            "average": mean,
            "clip": clip,
            "minmax": minmax_mean,
        }
        return kernels[self.method]

    @property
    def is_widening(self) -> bool:
        """Return whether the kernel holds values in float64."""
        return self.method == "clip"

    def require_enough(self, n_frames: int) -> None:
        """Raise UsageError if the method needs more frames."""
        if self.method == "minmax" and n_frames < 3:
            raise UsageError(
                f"minmax rejects two values of each pixel, but there are only {n_frames} frames",
                value=n_frames,
                hint="Use at least 3 frames, or another method.",
            )


# The frames in files, folders and lists of files: `input_frames`.


@dataclass(frozen=True)
class InputFrames:
    """The frames to be combined, and warnings.

    Parameters
    ----------
    frames : in canonical order (time, then name), each file once.
    warnings : the files that are not used, with the reasons.
    """

    frames: tuple[Frame, ...]
    warnings: tuple[str, ...] = ()


def input_frames(
    arguments: Sequence[str], instrument: Instrument, extension: str = ""
) -> InputFrames:
    """Return the frames that files, folders and ``@lists`` name.

    A file that is named must be a frame. A file in a named folder is skipped, with a warning, if it
    is not a frame or was made from frames.

    Parameters
    ----------
    arguments : paths of files and folders; ``@path`` is a text file with one path per line.
    instrument : the meaning of headers.
    extension : number or EXTNAME of the image of each file; see `find_image`.

    Raises
    ------
    InputError
        There is no frame, or one cannot be read.
    UsageError
        A list cannot be read.
    """
    named: dict[Path, bool] = {}
    for path in _expanded_paths(arguments):
        if path.is_dir():
            for file in list_files(path):
                named.setdefault(file, False)
        else:
            named |= dict.fromkeys(files_at(path), True)
    if not named:
        raise InputError(
            f"No frames found in {' '.join(arguments)}", hint="Name files or their folder."
        )
    frames, failures = read_frames(list(named), instrument, extension=extension)
    foreign = [e for e in failures if isinstance(e, ForeignFileError) and not _was_named(e, named)]
    if grave := [error for error in failures if error not in foreign]:
        raise NightError(tuple(grave)) if len(grave) > 1 else grave[0]
    raw = [f for f in frames if named[f.path] or not f.is_product] or frames
    once = _without_repeats(raw)
    if not once:
        raise InputError(
            "None of the files is a frame", path=foreign[0].path, hint="Name raw FITS frames."
        )
    warnings = [f"{error.path}: {error.args[0].rstrip('.')}; not used" for error in foreign]
    warnings += [
        f"{f.path}: a combined image, not a raw frame; not used" for f in frames if f not in raw
    ]
    warnings += [f"{f.path}: named twice, used once" for f in raw if f not in once]
    repeated = repeated_frames([frame for frame in once if not frame.is_product])
    warnings += [
        f"{label}: the same frame as {first}; used once" for label, first in repeated.items()
    ]
    used = tuple(frame for frame in once if frame.label not in repeated)
    return InputFrames(used, tuple(warnings))


def _expanded_paths(arguments: Iterable[str]) -> Iterator[Path]:
    """Yield the paths that arguments name, those in lists included."""
    for argument in arguments:
        if argument.startswith("@"):
            yield from map(path_or_address, paths_in(Path(argument[1:])))
        else:
            yield path_or_address(argument)


def _was_named(error: ArrayredError, named: dict[Path, bool]) -> bool:
    return error.path is None or named.get(path_or_address(error.path), True)


def _without_repeats(frames: Sequence[Frame]) -> list[Frame]:
    """Return the frames without other names of the same file, links included."""
    by_file: dict[Stamp, Frame] = {}
    for frame in frames:
        by_file.setdefault(frame.image.source.stamp, frame)
    return list(by_file.values())


# What a combination holds beside its bands: `layout_of`.
#
# Everything is counted: the program, headers, the pieces being read, what decoding a file takes.

_FEWEST_PIXELS = 1024
_MOST_THREADS = 8
_BYTES_OF_A_CARD = 320
_BYTES_OF_A_FRAME = 8 << 10
_BYTES_AT_LEAST = 4 << 20
_BYTES_OF_INFLATING = 4 << 20
_BYTES_OF_XZ = 72 << 20
"""The largest dictionary of its presets is 64 MB."""
_BYTES_OF_TILES = 48 << 20
_CHUNKS_AT_ONCE = 10


def layout_of(
    frames: Sequence[Frame], shape: tuple[int, ...], dtype: np.dtype[Any], how: CombineOptions
) -> BandLayout:
    """Return the pixels of a band and the number of threads within the memory of a combination.

    Parameters
    ----------
    frames : their headers are held.
    shape, dtype : of the stack (frame, y, x).
    how : gives the limit, and optionally the number of threads.

    Raises
    ------
    UsageError
        The limit is too small for one short band.
    """
    headers = (_BYTES_OF_A_FRAME + _BYTES_OF_A_CARD * len(frame.image.header) for frame in frames)
    return band_layout(
        (shape[0], shape[1] * shape[2]),
        dtype,
        how.memory,
        fixed=COMBINING + _BYTES_AT_LEAST + sum(headers),
        reading=max(2 * READ_PIECE, _bytes_to_decompress(frames)),
        decoding=_bytes_to_decode(frames),
        fewest=_FEWEST_PIXELS,
        threads=how.threads or min(_usable_cores(), _MOST_THREADS),
        widened=how.is_widening,
    )


def _bytes_to_decode(frames: Sequence[Frame]) -> int:
    """Return the largest memory for decoding one file, bytes."""
    return max((_bytes_to_decode_one(frame.image) for frame in frames), default=0)


def _bytes_to_decode_one(image: ImageHDU) -> int:
    if image.packing == "tiles":
        return _BYTES_OF_TILES + image.source.n_bytes
    if image.packing == "parts":  # the largest part is held twice in float64, and sorted overscan
        decoding = max(_bytes_to_decode_one(part.image) for part in image.parts)
        held = [math.prod(part.image.source.shape) for part in image.parts]
        return decoding + 3 * 8 * max(held)
    takes = {"gzip": _BYTES_OF_INFLATING, "bzip2": _BYTES_OF_INFLATING, "xz": _BYTES_OF_XZ}
    return takes.get(image.packing, 0 if image.packing == "plain" else _BYTES_OF_INFLATING)


def _bytes_to_decompress(frames: Sequence[Frame]) -> int:
    """Return the memory of a thread for reading cached frames, bytes; 0 if there are none.

    That is what is read at once, and the ten chunks that zarr decompresses meanwhile.
    """
    cached = (frame.image.source.cached for frame in frames)
    chunks = [one.array.chunk_bytes for one in cached if one is not None]
    return ARRAY_BYTES + _CHUNKS_AT_ONCE * max(chunks) if chunks else 0


def _usable_cores() -> int:
    """Return the number of cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


# From headers to a job, from a job to an image on disk: `prepare_combination`, `write_combination`.

FileChecksums = dict[Path, str]
_NO_CHECKSUM = "0" * 64


@dataclass(frozen=True)
class CombineJob:
    """Frames that fit together, and how to combine them.

    Parameters
    ----------
    frames : in canonical order.
    master : the image to be subtracted from each, or None.
    out : the product's path.
    how : the method and its limits.
    warnings : for the user, before the work begins.
    """

    frames: tuple[Frame, ...]
    master: Frame | None
    out: Path
    how: CombineOptions
    warnings: tuple[str, ...] = ()

    @property
    def shape(self) -> tuple[int, int]:
        """Return (n_rows, n_columns) of the image."""
        return self.frames[0].shape

    @property
    def inputs(self) -> tuple[Frame, ...]:
        """Return all inputs of the image: the frames and the master."""
        return self.frames if self.master is None else (*self.frames, self.master)

    def provenance(self) -> Provenance:
        """Return the provenance for the product's header; checksums are still blank."""
        master, method = self.master, self.how.method
        steps = [f"{master.path.name} subtracted"] if master else []
        if any(frame.image.planes_of(DQ) for frame in self.inputs):
            steps.append("pixels flagged in the masks of the files excluded")
        facts: list[tuple[str, Value, str]] = [("ARMETHOD", method, "how frames were combined")]
        return Provenance(
            self.frames,
            [master] if master else [],
            steps=[*steps, f"{self.how} of {len(self.frames)} frames"],
            method=method,
            calstat=calstat_after(self.frames, master) if master else "",
            facts=facts,
            checksums={frame.path: _NO_CHECKSUM for frame in self.inputs if self.how.checksums},
        )


def prepare_combination(
    files: Sequence[str],
    out: Path,
    how: CombineOptions,
    *,
    minus: Path | None = None,
    rules: CombineChecks | None = None,
    extension: str = "",
) -> CombineJob:
    """Read headers, and return the job if all frames fit together.

    Parameters
    ----------
    files : paths of files and folders; ``@path`` is a text file with one path per line.
    out : the product's path.
    how : the method and its limits.
    minus : an image to be subtracted from every frame.
    rules : the relaxed checks.
    extension : number or EXTNAME of the image of each file; see `find_image`.

    Raises
    ------
    InputError
        A file cannot be read as a frame, or does not fit the others.
    UsageError
        The product would replace one of its inputs.
    StorageError
        The product's folder cannot be written, or its disk is too small.
    """
    rules = rules or CombineChecks()
    instrument = Instrument.load("generic")
    inputs = input_frames(files, instrument, extension)
    found = (
        []
        if minus is None
        else [frame_from_header(minus.name, find_image(minus, extension), instrument)]
    )
    n_frames = len(inputs.frames)
    told = read_alike([*inputs.frames, *found], instrument)
    if refused := [refusal for frame in told for refusal in frame.refusals]:
        raise NightError(tuple(refused))
    frames, master = tuple(told[:n_frames]), told[n_frames] if found else None
    how.require_enough(n_frames)
    FrameStack([frame.image.source for frame in frames])
    require_same_unit(told, "Combine frames of the same unit.")
    if not rules.any_exposure:
        require_same_exposure(frames)
    if master is not None:
        require_fitting_master(master, frames, rules)
    how = replace(how, dtype=how.dtype or _dtype_that_holds(frames))
    warnings = [*inputs.warnings, *_pixel_warnings(told)]
    warnings += difference_warnings(frames)
    combination = CombineJob(frames, master, out, how, tuple(warnings))
    _require_no_input(out, combination.inputs)
    n_rows, n_columns = combination.shape
    require_room(out.parent, n_rows * n_columns * int(how.dtype.removeprefix("float")) // 8)
    return combination


def _dtype_that_holds(frames: Sequence[Frame]) -> Literal["float32", "float64"]:
    """Return the dtype that holds the counts of frames: float32 has 24 bits for their digits."""
    kinds = [dtype_of(frame.image.source.pixels) for frame in frames]
    return "float64" if any(k.kind in "iu" and k.itemsize > 2 for k in kinds) else "float32"


def _pixel_warnings(frames: Sequence[Frame]) -> list[str]:
    """Return the warnings about how the pixels of frames are read, each with its frames."""
    odd: dict[str, list[str]] = {}
    for frame in frames:
        for warning in frame.pixel_warnings:
            odd.setdefault(warning, []).append(frame.label)
    if not odd:
        return []
    from arrayred.night.groups import list_of_names

    return [f"{list_of_names(labels)}: {warning}" for warning, labels in odd.items()]


def _require_no_input(out: Path, inputs: Sequence[Frame]) -> None:
    """Raise UsageError if the product would replace one of its inputs."""
    if not out.exists():
        return
    for frame in inputs:
        if frame.path.exists() and out.samefile(frame.path):
            raise UsageError(
                "The output is one of the inputs", path=out, hint="Choose another output file."
            )


@stage("combine")
def write_combination(combination: CombineJob, *, overwrite: bool = False) -> None:
    """Combine the frames and write the image.

    Parameters
    ----------
    combination : of `prepare_combination`.
    overwrite : replace a file that has other content.

    Raises
    ------
    FrameError
        A file has changed since its header was read, is damaged, or cannot be read.
    UsageError
        A file with other content exists and `overwrite` is not given.
    StorageError
        The disk is full or not writable.
    """
    how, provenance, out = combination.how, combination.provenance(), combination.out
    stack = FrameStack([frame.image.source for frame in combination.frames])
    dtype = _dtype_with_missing(stack.dtype, combination.frames)
    share = layout_of(combination.inputs, stack.shape, dtype, how)
    header = product_header(provenance, out.name)
    with open_image_writer(out, header, combination.shape, how.dtype, overwrite=overwrite) as sink:
        kernel = how.kernel if dtype.kind != "f" else partial(_without_missing, how.kernel)
        sums = _read_once(_read_passes(combination, share.threads), sink, kernel, share)
        packed = [frame for frame in combination.inputs if frame.path not in sums]
        if how.checksums:
            sums |= required_checksums(examine(packed), packed)
        sink.finish(product_header(replace(provenance, checksums=sums), out.name))


def _without_missing(kernel: Kernel, band: NDArray[Any], *images: NDArray[Any]) -> NDArray[Any]:
    """Combine a band whose infinite and impossible values count as missing."""
    return kernel(without_impossible(band), *images)


def _read_once(
    passes: Sequence[_MaskedPass], sink: ImageWriter, kernel: Kernel, share: BandLayout
) -> FileChecksums:
    """Combine the frames of the first pass minus the master of the second; return SHA-256 sums."""

    def give_up() -> None:
        for each in passes:
            each.give_up()

    with ExitStack() as opened:
        frames, *images = [opened.enter_context(each) for each in passes]
        visit_into(
            sink,
            frames,
            kernel,
            *map(PassImage, images),
            rows=share.pixels,
            threads=share.threads,
            give_up=give_up,
        )
        return {path: total for each in passes for path, total in each.checksums().items()}


class _MaskedPass(Pass):
    """A pass over frames whose flagged pixels are missing, NaN.

    Parameters
    ----------
    frames : whose masks count.
    sources, dtype, summed : as of `Pass`.
    """

    def __init__(
        self,
        frames: Sequence[Frame],
        sources: Sequence[PixelSource],
        dtype: np.dtype[Any],
        summed: DatasumByPath,
    ) -> None:
        super().__init__(sources, _dtype_with_missing(dtype, frames), summed)
        images = [frame.image for frame in frames]
        self._masked = {i: one for i, one in enumerate(images) if one.planes_of(DQ)}

    def read(self, first: int, stop: int, out: NDArray[Any]) -> None:
        """Read pixels first..stop of every frame into out (frame, pixel, 1)."""
        super().read(first, stop, out)
        for i, image in self._masked.items():
            spoilt = read_plane(image, DQ, first, stop - first) & SPOILT != 0
            out[i, : stop - first, 0][spoilt] = np.nan


def _dtype_with_missing(dtype: np.dtype[Any], frames: Sequence[Frame]) -> np.dtype[Any]:
    """Return the dtype that holds the values of frames, and NaN if any of them has a mask."""
    if dtype.kind == "f" or not any(frame.image.planes_of(DQ) for frame in frames):
        return dtype
    return np.result_type(dtype, np.float32)


def _read_passes(combination: CombineJob, threads: int) -> list[_MaskedPass]:
    """Return the passes over the frames and over the master, if there is one."""
    groups = [combination.frames, *([(combination.master,)] if combination.master else [])]
    passes = []
    for group in groups:
        stack = FrameStack(all_plain_pixels([frame.image for frame in group], threads))
        plain = [f for f in group if f.image.packing == "plain" and f.image.source.cached is None]
        known = {frame.path: datasum_of(frame.image) for frame in plain}
        summed = known if combination.how.checksums else {}
        passes.append(_MaskedPass(group, stack.sources, stack.dtype, summed))
    return passes
