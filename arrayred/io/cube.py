"""Open frames as a labelled cube: `open_frames`."""

from __future__ import annotations

import glob
import os
import warnings
from collections.abc import Mapping, Sequence
from numbers import Integral
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from arrayred.bands import rows_of_chunks
from arrayred.config import Instrument
from arrayred.errors import InputError, MismatchError, NightError, UsageError
from arrayred.io.files import files_at, find_image
from arrayred.io.frames import Frame, read_frames, require_same_unit
from arrayred.io.header import parse_card
from arrayred.io.pixel_checks import read_alike, repeated_frames
from arrayred.io.pixels import FrameStack, PackedStack, PlaneStack, plain_pixels
from arrayred.io.remote import Address, is_fits_name, path_or_address
from arrayred.model import (
    COUNTS,
    DQ,
    FRAME,
    GUESSED_GAIN,
    INSTRUMENT_FILE,
    SETUP_COORDS,
    VARIANCE,
    Chunks,
    Unsigned,
    X,
    Y,
    add_remark,
    check_dataset,
    dq_attrs,
    string_coord,
)

if TYPE_CHECKING:
    import astropy.io.fits
    import xarray as xr

_DETECTOR_COORDS = ("gain", "read_noise", "saturation")
Paths = str | PathLike[str] | Sequence[str | PathLike[str]]


def open_frames(
    paths: Paths,
    chunks: Chunks = "auto",
    *,
    instrument: str = "generic",
    unsigned: Unsigned = "auto",
    depth: int = 3,
    memory: int | None = None,
    extension: str = "",
    cards: Sequence[str] = (),
    root: str | PathLike[str] | None = None,
) -> xr.Dataset:
    """Open frames as a labelled cube; pixels are read when they are needed.

    Parameters
    ----------
    paths : a folder, a file, a pattern such as ``"2020-11-*/darks"``, or several of these, also
        as URLs. All frames are of one shape and one unit.
    chunks : "auto" makes dask chunks of all frames x as many rows as are reduced fastest; a number,
        of that many rows; a mapping such as ``{"frame": 1, "y": 256}`` gives the lengths along
        dimensions (-1: all of it), those that it does not name being as in "auto"; None reads the
        pixels now.
    instrument : meaning of the header keywords: a name or the path of a TOML file.
    unsigned : "auto" recognises unsigned counts stored as signed (`unwrap_unsigned`); "wrapped"
        reads all raw frames with BZERO 0 as unsigned; "as-declared" follows each header.
    depth : number of folder levels that are searched.
    memory : bytes that the threads of dask may use together while the cube is combined; limits
        the rows of the bands of "auto".
    extension : number of the HDU (0 is the primary) or EXTNAME of the image of each file; "": the
        first, or the frame that all images of a file are parts of.
    cards : keywords of header cards that become coordinates (frame) of these names, such as
        ``["AIRMASS", "CCD-TEMP"]``: NaN, or an empty string, for frames without the card.
    root : the folder that labels are relative to; by default the one that was opened, or the common
        parent of several.

    Returns
    -------
    cube : `counts` (frame, y, x) in adu or electron, native dtype, with the coordinates of the data
        model, among them `night`, the evening date of each frame's night, and `gain`, a number or
        one of each frame; frames in canonical
        order (time, then name). Labels are file names relative to `root`, without suffix. `dq` and
        `variance` (frame, y, x) where any file has them beside its image (MASK, DQ, UNCERT and the
        like: `io.scan`). The attribute `remarks` lists duplicate frames, and frames whose
        pixels were transposed, scaled or masked.

    Warns
    -----
    UserWarning
        A frame is a duplicate.

    Raises
    ------
    InputError
        There is no frame, one cannot be read, or it is unknown whether its counts are unsigned.
    MismatchError
        Frames differ in shape or unit.
    UsageError
        The memory does not hold one row of all frames for every thread, or the chunks are not of
        the dimensions frame, y and x.

    Examples
    --------
    >>> from tempfile import TemporaryDirectory
    >>> from arrayred.io.products import write_frames
    >>> from arrayred.simulate import Detector, SimulatedNight
    >>> with TemporaryDirectory() as folder:
    ...     _ = write_frames(SimulatedNight(Detector(shape=(40, 60))).frames(), Path(folder))
    ...     cube = open_frames(folder)
    ...     pixels = cube.counts.sel(y=slice(10, 12), x=60).compute()
    >>> pixels.shape, cube.frame.values[0], cube.night.values[0]
    ((8, 3), 'dark-001', '2024-03-09')
    """
    frames = frames_at(paths, instrument, unsigned, depth, extension, root)
    cube = make_cube(frames, chunks, memory)
    gains = [frame.gain for frame in frames]
    if "gain" not in cube.coords and None not in gains:
        cube = cube.assign_coords(gain=(FRAME, _number_coord(gains)))
    return with_cards(with_remarks(cube, frames), frames, cards)


def with_remarks(cube: xr.Dataset, frames: Sequence[Frame]) -> xr.Dataset:
    """Return a cube with remarks on its frames, and warn of duplicates."""
    twice = [
        f"{one} is the same frame as {first}" for one, first in repeated_frames(frames).items()
    ]
    if twice:
        warnings.warn(f"Frames are there, and count, twice: {'; '.join(twice)}", stacklevel=3)
    for remark in twice:
        cube = add_remark(cube, remark)
    for told in dict.fromkeys(text for frame in frames for text in frame.pixel_warnings):
        labels = [frame.label for frame in frames if told in frame.pixel_warnings]
        cube = add_remark(cube, f"{', '.join(labels)}: {told}")
    return cube


def with_cards(cube: xr.Dataset, frames: Sequence[Frame], keywords: Sequence[str]) -> xr.Dataset:
    """Return a cube with header cards as coordinates (frame)."""
    names = [keywords] if isinstance(keywords, str) else keywords
    return cube.assign_coords({name: _card_coord(frames, name) for name in names})


def _card_coord(frames: Sequence[Frame], keyword: str) -> tuple[str, Any, dict[str, str]]:
    """Return the values of a card, as numbers if all frames that have it give one."""
    headers = [frame.image.header for frame in frames]
    found = [header.readable(keyword.upper()) for header in headers]
    known = [value for value in found if value is not None]
    cards = [
        header.card(keyword.upper())
        for header, value in zip(headers, found, strict=True)
        if value is not None
    ]
    comment = parse_card(cards[0])[1] if cards else ""
    attrs = {"long_name": comment} if comment else {}
    if all(isinstance(value, int | float) for value in known):
        return FRAME, _number_coord(found), attrs
    texts = ["" if value is None else str(value).rstrip() for value in found]
    return FRAME, string_coord(texts), attrs


def frames_at(
    paths: Paths,
    instrument: str,
    unsigned: Unsigned,
    depth: int = 3,
    extension: str = "",
    root: str | PathLike[str] | None = None,
) -> list[Frame]:
    """Return the raw frames of folders, files and patterns; see `open_frames`."""
    meaning = Instrument.load(instrument)
    places = resolve_paths(paths)
    found = [files_at(place, depth) for place in places]
    files = list({_absolute(file): file for some in found for file in some}.values())
    if not files:
        raise InputError(f"No frames found in {paths}", hint="Name a folder with FITS files.")
    tops = [_absolute(place if place.is_dir() else place.parent) for place in places]
    top = Path(os.path.commonpath(tops)) if root is None else Path(root).absolute()
    frames, failures = read_frames(files, meaning, top, extension=extension)
    if failures:
        raise NightError(tuple(failures))
    frames = [frame for frame in frames if not frame.is_product] or frames
    read = read_alike(frames, meaning, unsigned)
    undecided = [new.refusals[len(old.refusals) :] for old, new in zip(frames, read, strict=True)]
    if any(undecided):
        raise NightError(tuple(refusal for refusals in undecided for refusal in refusals))
    return read


def resolve_paths(paths: Paths) -> list[Path]:
    """Return the files and folders of paths and patterns, in order.

    A path that exists is taken literally, even if its name has brackets.
    """
    several = [paths] if isinstance(paths, str | PathLike) else paths
    return [place for path in several for place in _matching_paths(path)]


def _matching_paths(given: str | PathLike[str]) -> list[Path]:
    place, path = path_or_address(given), os.fspath(given)
    if isinstance(place, Address):
        return _matching_addresses(place)
    if place != Path(path):  # of file://
        return [place]
    if os.path.lexists(path) or not glob.has_magic(path):
        return [Path(path)]
    matches = sorted(glob.glob(path))  # noqa: PTH207, a pattern may be absolute
    places = [p for p in map(Path, matches) if p.is_dir() or is_fits_name(p.name)]
    if not places:
        raise InputError(
            f"No folder or FITS file matches {path!r}",
            path=path,
            hint="Check the pattern, and that its first folders exist.",
        )
    return places


def _matching_addresses(address: Address) -> list[Path]:
    if not glob.has_magic(str(address)):
        return [address]
    from arrayred.io.remote import matches

    found: list[Path] = list(matches(address))
    if not found:
        raise InputError("Nothing matches", path=address, hint="Check the pattern.")
    return found


def _absolute(path: Path) -> str:
    return os.path.normpath(path.absolute())


def make_cube(
    frames: Sequence[Frame], chunks: Chunks = None, memory: int | None = None
) -> xr.Dataset:
    """Return frames as a cube; see `open_frames`."""
    stack = make_stack(frames, lazy=chunks is not None)
    pixels = stack_pixels(stack, chunks, memory)
    cube = labelled_cube(stack, frames, pixels)
    same = None if chunks is None else dict(zip((FRAME, Y, X), pixels.chunksize, strict=True))
    planes = {name: stack_pixels(plane, same) for name, plane in plane_stacks(frames).items()}
    return with_planes(cube, planes)


def plane_stacks(frames: Sequence[Frame]) -> dict[str, PlaneStack]:
    """Return the stacks of flags and variance of frames, those that any of their files tells."""
    images = [frame.image for frame in frames]
    told = [name for name in (VARIANCE, DQ) if any(one.planes_of(name) for one in images)]
    return {name: PlaneStack(images, name) for name in told}


def with_planes(cube: xr.Dataset, planes: Mapping[str, Any]) -> xr.Dataset:
    """Return a cube with `variance` and `dq` (frame, y, x) from their pixels, where known."""
    unit = cube[COUNTS].attrs["units"]
    attrs = {
        VARIANCE: {"units": f"{unit}2", "long_name": "variance of a pixel"},
        DQ: dq_attrs("flags of a pixel"),
    }
    return cube.assign(
        {name: ((FRAME, Y, X), plane, attrs[name]) for name, plane in planes.items()}
    )


def make_stack(frames: Sequence[Frame], *, lazy: bool) -> FrameStack | PackedStack:
    """Return the frames' pixels as a stack; compressed ones are unpacked now or (lazy) when read.

    Raises
    ------
    MismatchError
        Frames differ in shape or unit.
    """
    require_same_unit(frames, "Stack frames of the same unit only.")
    if lazy and not all(frame.image.is_local for frame in frames):
        return PackedStack([frame.image for frame in frames])
    return FrameStack([plain_pixels(frame.image) for frame in frames])


def stack_pixels(
    stack: FrameStack | PackedStack | PlaneStack, chunks: Chunks, memory: int | None = None
) -> Any:
    """Return a stack's pixels: a numpy array, or a dask array, of whole bands by default."""
    if chunks is None:
        return stack[:, :, :]
    import dask.array as da

    return da.from_array(
        stack,
        chunks=_chunk_lengths(stack, chunks, memory),
        name=f"frames-{stack.token}",
        inline_array=True,
        meta=np.empty((0, 0, 0), stack.dtype),
    )


def _chunk_lengths(
    stack: FrameStack | PackedStack | PlaneStack, chunks: Any, memory: int | None
) -> tuple[int, int, int]:
    """Return the lengths of chunks along frame, y and x."""
    wanted = dict(chunks) if isinstance(chunks, Mapping) else {Y: chunks}
    is_length = [value == "auto" or isinstance(value, Integral) for value in wanted.values()]
    if not {*wanted} <= {FRAME, Y, X} or not all(is_length):
        raise UsageError(
            f"The chunks {chunks!r} are not lengths along {FRAME}, {Y} and {X}",
            keyword="chunks",
            value=chunks,
            hint='Use "auto", a number of rows, {"frame": 1, "y": 256}, or None for no chunks.',
        )
    n_frames, n_rows, n_columns = (
        size if wanted.get(dim) in (None, "auto", -1) else min(int(wanted[dim]), size)
        for dim, size in zip((FRAME, Y, X), stack.shape, strict=True)
    )
    if wanted.get(Y, "auto") == "auto":
        n_rows = rows_of_chunks((n_frames, n_rows, n_columns), stack.dtype, memory, stack.step)
    return n_frames, n_rows, n_columns


def labelled_cube(
    stack: FrameStack | PackedStack, frames: Sequence[Frame], pixels: Any
) -> xr.Dataset:
    """Return pixels (frame, y, x) as a Dataset with the coordinates from the frames' headers."""
    import xarray as xr

    _, n_rows, n_columns = stack.shape
    row, column = frames[0].first_pixel
    return xr.Dataset(
        {COUNTS: ((FRAME, Y, X), pixels, {"units": frames[0].unit, "long_name": "pixel values"})},
        coords={
            FRAME: string_coord([frame.label for frame in frames]),
            Y: np.arange(row, n_rows + row),
            X: np.arange(column, n_columns + column),
            "frame_type": (FRAME, string_coord([frame.frame_type or "" for frame in frames])),
            "exptime": (FRAME, _number_coord([frame.exptime for frame in frames]), {"units": "s"}),
            "time": (FRAME, _time_coord(frames)),
            "object": (FRAME, string_coord([frame.target for frame in frames])),
            "ccd_temp": (
                FRAME,
                _number_coord([frame.ccd_temp for frame in frames]),
                {"units": "deg_C"},
            ),
            "night": (FRAME, string_coord([frame.night for frame in frames])),
            "path": (FRAME, string_coord([str(frame.path) for frame in frames])),
            **_common_setup(frames),
        },
        attrs={
            "history": [],
            "unsigned_unwrapped": int(any(f.image.source.pixels.wrapped for f in frames)),
        },
    )


def _number_coord(values: Sequence[Any]) -> Any:
    return np.array([np.nan if value is None else value for value in values], np.float64)


def _time_coord(frames: Sequence[Frame]) -> Any:
    naive = [None if f.time is None else f.time.replace(tzinfo=None) for f in frames]
    precise = np.array(naive, "datetime64[us]")
    times = precise.astype("datetime64[ns]")
    return np.where(times.astype("datetime64[us]") == precise, times, np.datetime64("NaT", "ns"))


def gain_source(frame: Frame) -> str:
    """Return the source of a frame's gain, or "" if a card of its header states it."""
    return frame.gain_from if frame.gain_from in (INSTRUMENT_FILE, GUESSED_GAIN) else ""


def _common_setup(frames: Sequence[Frame]) -> dict[str, Any]:
    """Return the settings that all frames have in common, as scalar coordinates."""
    told = [(frame.gain, frame.read_noise, frame.saturation) for frame in frames]
    shared: dict[str, Any] = {
        name: values[0]
        for name, values in zip(_DETECTOR_COORDS, zip(*told, strict=True), strict=True)
        if values[0] is not None and all(value == values[0] for value in values)
    }
    if "gain" in shared and gain_source(frames[0]):
        shared["gain_from"] = string_coord(gain_source(frames[0]))
    setups = [dict(frame.setup) for frame in frames]
    if all(frame.dispersion_axis == 2 for frame in frames):
        shared["dispersion_axis"] = 2
    return shared | {
        name: string_coord(setups[0][name])
        for name in SETUP_COORDS
        if name in setups[0] and all(setup.get(name) == setups[0][name] for setup in setups)
    }


def headers(cube: xr.Dataset) -> dict[str, astropy.io.fits.Header]:
    """Return the full headers of a cube's frames, by label.

    Parameters
    ----------
    cube : from `open_frames`, or a selection of it.

    Raises
    ------
    UsageError, MismatchError
        It is not a Dataset, or does not name its files, or a label stands for two of them.
    """
    check_dataset(cube, "a cube")
    if not {FRAME, "path"} <= {*cube.coords}:
        raise MismatchError(
            "The cube has no coordinates frame and path, which name the files of its frames",
            keyword="path",
            hint="Use a cube from open_frames.",
        )
    from astropy.io import fits

    labels, paths = np.atleast_1d(cube[FRAME].values), np.atleast_1d(cube["path"].values)
    if len({*labels}) < len({*paths}):
        raise MismatchError(
            "Frames of the cube have the same labels",
            keyword=FRAME,
            hint="Open all folders at once, open_frames([one, other]), or give each the same root.",
        )
    return {
        str(label): fits.Header.fromstring(find_image(Path(path)).header.to_bytes())
        for label, path in zip(labels, paths, strict=True)
    }


def read_mask(path: str | PathLike[str]) -> NDArray[np.bool_]:
    """Return the bad-pixel mask (y, x) of a FITS image: True where it is not 0 (NaN is bad).

    Raises
    ------
    FrameError, HeaderError
        The file is missing, or holds no readable image.
    """
    image = find_image(Path(path))
    return np.asarray(FrameStack([plain_pixels(image)])[0, :, :] != 0)
