"""Instrument files and night files: `Instrument`, `NightFile`, from TOML or an observing log.

An instrument file has header keywords, the detector and required cards; a night file has what is
missing from the headers of a night.

A log has one row for each range of frames. A row of light frames becomes a target; a row of another
type gives the type of its frames. Columns are found by their usual headings; a column may also have
the name of a field of the recipe.
"""

from __future__ import annotations

import csv
import dataclasses
import re
import tomllib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, cached_property
from pathlib import Path
from typing import Any, Literal, Self, cast, get_args

from arrayred.config.recipe import (
    IN_WAVELENGTH,
    PER_NIGHT,
    SETTINGS,
    Recipe,
    RowRange,
    paths_beside,
)
from arrayred.config.toml import (
    errors_name,
    read_text_file,
    read_toml,
    require_known,
    require_table,
    require_texts,
    toml_tables,
    toml_text,
)
from arrayred.errors import UsageError
from arrayred.model import FRAME_TYPES, UNITS, Section, Unit, Unsigned


@dataclass(frozen=True)
class Instrument:
    """The meaning of header keywords, the detector, and the cards that a product must have.

    Parameters
    ----------
    name : the instrument file's name.
    keywords : for each header value (frame_type, exptime, time, ...) the keywords that may hold it,
        in order.
    types : for each frame type the spellings that mean it, lower case.
    words : for each frame type the words in a file's name or OBJECT that indicate it.
    units : for each unit of pixels the spellings that mean it, lower case.
    elements : symbols of lamps' elements, which suggest an arc if the pixels agree.
    gases : names of lamps' gases, which suggest an arc if the pixels agree, or if the exposure is
        short.
    cards : cards that every product gets.
    required : cards that every product must have, from the frames or from the user.
    detector : values missing from the headers: gain (electron/adu), read_noise (electron),
        saturation (the raw count from which pixels are saturated, adu).
    sections : `overscan` and `trim` of the detector, such as ``[1:50,1:4200]``, from the same table
        of the instrument file.
    dispersion_axis : 1 along the rows, 2 along the columns, from the same table; None: not given.
    in_seconds : the keywords of exposures that the instrument file itself names: they are in
        seconds unless their comments say milliseconds.
    """

    name: str
    keywords: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    types: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    words: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    units: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    elements: tuple[str, ...] = ()
    gases: tuple[str, ...] = ()
    cards: Mapping[str, str | int | float] = field(default_factory=dict)
    required: tuple[str, ...] = ()
    detector: Mapping[str, float] = field(default_factory=dict)
    sections: Mapping[str, str] = field(default_factory=dict)
    dispersion_axis: int | None = None
    in_seconds: tuple[str, ...] = ()

    def frame_type_of(self, spelling: str) -> str | None:
        """Return the frame type that a spelling means, or None.

        Examples
        --------
        >>> Instrument.load("generic").frame_type_of("Light Frame")
        'light'
        """
        return self._by_spelling.get(_normalised_spelling(spelling))

    def unit_of(self, spelling: str) -> Unit | None:
        """Return the unit that a spelling means, or None.

        Examples
        --------
        >>> Instrument.load("generic").unit_of("ADU"), Instrument.load("generic").unit_of("e-")
        ('adu', 'electron')
        """
        wanted = _normalised_spelling(spelling)
        return next(
            (u for u in UNITS if wanted in map(_normalised_spelling, self.units.get(u, ()))), None
        )

    @cached_property
    def _by_spelling(self) -> dict[str, str]:
        """Return the frame types by their normalised spellings."""
        return {
            _normalised_spelling(word): frame_type
            for frame_type, words in reversed(tuple(self.types.items()))
            for word in words
        }

    @classmethod
    def load(cls, name: str | Path) -> Self:
        """Return a built-in instrument by name, or one from a TOML file.

        The file's entries come before those of `generic`, which stay unless the file gives a
        spelling another meaning or replaces `elements` or `gases`.

        Raises
        ------
        UsageError
            There is no such instrument, or the file has an unknown key.
        """
        path = Path(name)
        if path.suffix == ".toml":
            settings = read_toml(path)
            with errors_name(path):
                return cls._from_settings(path.stem, settings)
        return cls._from_settings(str(name), _builtin(str(name)))

    @classmethod
    def _from_settings(cls, name: str, settings: Mapping[str, Any]) -> Self:
        for key in settings:
            require_known(
                key,
                {*_INSTRUMENT_TABLES, *_INSTRUMENT_LISTS, "detector"},
                "key of an instrument file",
            )
        generic = _builtin("generic")
        for key in _INSTRUMENT_TABLES:
            require_table(key, settings.get(key, {}), of_lists=key not in ("cards", "detector"))
        for key in _INSTRUMENT_LISTS:
            require_texts(key, settings.get(key, []))
        for frame_type in (*settings.get("types", {}), *settings.get("words", {})):
            require_known(frame_type, set(FRAME_TYPES), "frame type")
        for unit in settings.get("units", {}):
            require_known(unit, set(UNITS), "unit of pixels")
        for fact in settings.get("keywords", {}):
            require_known(fact, set(generic["keywords"]), "fact")
        _require_detector(settings.get("detector", {}))
        detector = settings.get("detector", {})
        return cls(
            name=name,
            keywords=_merged(settings.get("keywords", {}), generic["keywords"]),
            types=_with_own_spellings(settings.get("types", {}), generic["types"]),
            words=_merged(settings.get("words", {}), generic["words"]),
            units=_with_own_spellings(settings.get("units", {}), generic["units"]),
            elements=tuple(settings.get("elements", generic["elements"])),
            gases=tuple(settings.get("gases", generic["gases"])),
            cards=settings.get("cards", {}),
            required=tuple(settings.get("required", ())),
            detector={name: float(v) for name, v in detector.items() if name in _DETECTOR_KEYS},
            sections={name: str(v) for name, v in detector.items() if name in _SECTIONS},
            dispersion_axis=DISPERSION_AXES.get(detector.get(_AXIS)),
            in_seconds=tuple(
                () if settings is generic else settings.get("keywords", {}).get("exptime", ())
            ),
        )


_FOLDER = Path(__file__).parents[1] / "instruments"
_INSTRUMENT_TABLES = ("keywords", "types", "words", "units", "cards", "detector")
_INSTRUMENT_LISTS = {"required", "elements", "gases"}
_DETECTOR_KEYS = {"gain", "read_noise", "saturation"}
_SECTIONS = {"overscan", "trim"}
_AXIS = "dispersion_axis"
DISPERSION_AXES: Mapping[object, int] = {"x": 1, "y": 2, 1: 1, 2: 2}
"""The axis (as DISPAXIS counts: 1 along the rows, 2 along the columns) of each way to say it."""


def _require_detector(table: object) -> None:
    """Raise UsageError unless a value is a valid table of detector values."""
    require_table("detector", table, of_lists=False)
    for name, value in cast(Mapping[str, object], table).items():
        require_known(name, {*_DETECTOR_KEYS, *_SECTIONS, _AXIS}, "fact of a detector")
        if name == _AXIS:
            require_axis(value)
            continue
        if name in _SECTIONS:
            _require_section(name, value)
            continue
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        if not is_number or not 0 < float(str(value)) < float("inf"):
            raise UsageError(
                f"{name} of the detector must be a number above 0, not {value!r}",
                keyword=name,
                value=value,
            )


def require_axis(value: object) -> None:
    """Raise UsageError unless a value is a dispersion axis: x or 1, y or 2."""
    if type(value) not in (str, int) or value not in DISPERSION_AXES:
        raise UsageError(
            f'dispersion_axis must be "x" (along the rows) or "y" (along the columns), '
            f"not {value!r}",
            keyword=_AXIS,
            value=value,
        )


def _require_section(name: str, value: object) -> None:
    """Raise UsageError unless a value is a section of a detector."""
    if Section.parse(str(value)) is None:
        raise UsageError(
            f"{name} of the detector must be a section such as '[1:50,1:4200]', not {value!r}",
            keyword=name,
            value=value,
        )


def builtin_instruments() -> list[str]:
    """Return the names of the instrument files that come with arrayred."""
    return sorted(path.stem for path in _FOLDER.glob("*.toml"))


@cache
def _builtin(name: str) -> dict[str, Any]:
    known = builtin_instruments()
    require_known(name, set(known), "instrument (a file's name ends in .toml)")
    return tomllib.loads((_FOLDER / f"{name}.toml").read_text("utf-8"))


def _normalised_spelling(text: str) -> str:
    """Return a spelling in lower case, with single blanks for underscores, commas and blanks."""
    return " ".join(text.lower().replace("_", " ").replace(",", " ").split())


def _with_own_spellings(
    own: Mapping[str, Any], generic: Mapping[str, Any]
) -> dict[str, tuple[str, ...]]:
    """Return spellings by meaning; an instrument's own spelling loses its generic meaning."""
    claimed = {_normalised_spelling(word) for words in own.values() for word in words}
    others = {
        meaning: [word for word in words if _normalised_spelling(word) not in claimed]
        for meaning, words in generic.items()
    }
    return _merged(own, others)


def _merged(own: Mapping[str, Any], generic: Mapping[str, Any]) -> dict[str, tuple[str, ...]]:
    """Return lists by name, an instrument's own entries before the generic ones."""
    return {key: tuple(dict.fromkeys((*own.get(key, ()), *generic[key]))) for key in generic}


_LOG_HEADINGS = {
    "frames": ("frames", "frame", "files", "file", "filename", "range", "exposures"),
    "object": ("object", "target", "star", "source"),
    "name": ("name",),
    "type": ("type", "imagetyp", "frame type", "obstype"),
    "grating": ("grating", "grism"),
    "grating_angle": ("grating angle", "angle", "gratang"),
    "rows_from": ("rows from",),
    "exptime": ("exptime", "exposure", "exposure time", "exp time", "itime"),
    "": ("", "notes", "note", "comment", "comments", "remarks", "time", "ut", "utc", "date",
         "airmass", "seeing", "weather", "observer", "filter", "slit", "n",
         "number"),
}  # fmt: skip
_SECONDS = re.compile(r"(\d+(?:\.\d*)?|\.\d+)\s*(?:s|sec|seconds?)?$", re.IGNORECASE)
_ROW_RANGE = re.compile(r"(\d+)\s*[:,-]\s*(\d+)$")
LogRow = Mapping[str, str]


def read_night_file(path: Path) -> NightFile:
    """Read a night file: TOML, or an observing log in CSV or ECSV.

    Raises
    ------
    UsageError
        It cannot be read, or a key, heading or value is invalid; the error names the nearest.
    """
    if path.suffix.lower() not in (".csv", ".ecsv"):
        return NightFile.from_toml(path)
    with errors_name(path):
        tables, exposures = _log_as_tables(_log_rows(path))
        return dataclasses.replace(
            NightFile.from_tables(tables), path=path, logged_exptime=exposures
        )


def _log_rows(path: Path) -> list[LogRow]:
    """Return the rows of a log, all values as strings."""
    text = read_text_file(path, "The log")
    if path.suffix.lower() == ".ecsv":
        return _ecsv_rows(text)
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
    rows = list[LogRow](csv.DictReader(lines, skipinitialspace=True, delimiter=_delimiter(lines)))
    if any(None in row or None in row.values() for row in rows):
        raise UsageError(
            "A row has a different number of values than the heading", hint="Correct it."
        )
    return rows


def _delimiter(lines: Sequence[str]) -> str:
    """Return the delimiter of the headings: comma, or semicolon or tab as spreadsheets write."""
    return next((mark for mark in (",", ";", "\t") if lines and mark in lines[0]), ",")


def _ecsv_rows(text: str) -> list[LogRow]:
    from astropy.io import ascii as tables

    try:
        table = tables.read(text.splitlines(), format="ecsv")
    except Exception as error:
        raise UsageError(
            f"This is not valid ECSV: {error}", hint="Correct it, or write CSV."
        ) from error
    return [
        {name: "" if str(row[name]) == "--" else str(row[name]) for name in table.colnames}
        for row in table
    ]


def _log_as_tables(rows: Sequence[LogRow]) -> tuple[dict[str, Any], dict[str, float]]:
    """Return a log as the tables of a night file, and the exposures of its frames, s."""
    headings = {heading: _column_meaning(heading) for heading in (rows[0] if rows else ())}
    if rows and "frames" not in headings.values():
        raise UsageError(
            f"No column names the frames (found: {', '.join(headings)})",
            keyword="frames",
            hint="Name a column 'frames'.",
        )
    types: dict[str, list[str]] = {}
    targets: dict[str, dict[str, Any]] = {}
    exposures: dict[str, float] = {}
    for row in rows:
        known = {m: row[h].strip() for h, m in headings.items() if m and row[h].strip()}
        frames = [part.strip() for part in known.pop("frames", "").split(";") if part.strip()]
        kind = _logged_frame_type(known.pop("type", ""))
        seconds = _SECONDS.match(known.pop("exptime", ""))
        exposures |= {name: float(seconds[1]) for name in frames} if seconds else {}
        if not frames:
            raise UsageError(f"A row names no frames: {', '.join(row.values())}", keyword="frames")
        if kind != "light":
            types.setdefault(kind, []).extend(frames)
            continue
        name = known.pop("name", known.get("object", frames[0]))
        _add_row(
            targets, name, {"frames": frames, **{k: _parsed_cell(k, v) for k, v in known.items()}}
        )
    return {"types": types, "targets": targets}, exposures


def _add_row(targets: dict[str, dict[str, Any]], name: str, target: dict[str, Any]) -> None:
    """Add a row to the targets; rows that differ only in their frames become one target."""
    other = targets.get(name)
    if other is not None and other | {"frames": []} == target | {"frames": []}:
        other["frames"] += target["frames"]
        return
    unique = name if other is None else f"{name} {len(targets) + 1}"
    targets[unique] = target


def _column_meaning(heading: str) -> str:
    """Return the meaning of a column; "" for one that is not used."""
    plain = " ".join(re.sub(r"[(\[].*", "", heading).lower().replace("_", " ").split())
    for meaning, spellings in _LOG_HEADINGS.items():
        if plain in spellings:
            return meaning
    field = plain.replace(" ", "_")
    known = {*SETTINGS} | {
        spelling for spellings in _LOG_HEADINGS.values() for spelling in spellings
    }
    require_known(field, known, "heading of an observing log")
    return field


def _logged_frame_type(text: str) -> str:
    """Return the frame type of a word in a log; light if it is empty."""
    generic = Instrument.load("generic")
    found = generic.frame_type_of(text) if text else "light"
    if found is None:
        require_known(text.lower(), set(generic.types), "frame type")
    return found or "light"


def _parsed_cell(key: str, text: str) -> Any:
    """Return a value as its key needs it: cards as strings, rows as a pair, numbers as numbers."""
    if key in CARDS or key == "rows_from":
        return text
    if match := _ROW_RANGE.match(text):
        return [int(match[1]), int(match[2])]
    if text.lower() in ("true", "yes", "false", "no"):
        return text.lower() in ("true", "yes")
    try:
        return float(text) if not text.isdecimal() else int(text)
    except ValueError:
        return text


# The night file: `NightFile`.
#
# A night file gives information missing from the headers: which frames belong to which target, the
# type of a lamp typed as a light, the folders of the darks, and how the settings of one target
# differ from the others. All entries are optional; they override the headers, and the options of a
# command override them.

CARDS = {"object": "OBJECT", "grating": "GRATING", "grating_angle": "GRATANG"}
"""Keys for cards of the products."""
MASTERS = ("bias", "dark", "flat")

CardValue = str | int | float
DispersionAxis = Literal["auto", "x", "y"]


@dataclass(frozen=True)
class TargetFile:
    """The settings of one target in a night file.

    Parameters
    ----------
    frames : its lights: labels, file names, globs, or ranges such as ``hr8047-10..12``; if empty,
        those that arrayred groups under this name.
    lamps : its arc (comparison lamp) frames, extracted with its rows.
    rows_from : the target whose rows are used for this one, or "".
    cards : cards of its products.
    recipe : its differences from the recipe of the night.
    """

    frames: tuple[str, ...] = ()
    lamps: tuple[str, ...] = ()
    rows_from: str = ""
    cards: Mapping[str, CardValue] = field(default_factory=dict)
    recipe: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class NightFile:
    """The settings of one night.

    Parameters
    ----------
    instrument : the name or the path (TOML) of its instrument file.
    frames : a glob that the names of lights must match.
    exclude : names, globs or ranges of files that are not used.
    calibrations : further folders, of raw or master biases, darks and flats.
    masters : by frame type, the one master to use.
    unsigned : "auto", or for cameras that no dark decides on: "wrapped", the counts of raw frames
        with BZERO 0 are unsigned; "as-declared", they are as the headers declare.
    extension : number (0 is the primary) or EXTNAME of the image that is read from each file; "":
        the first, or the frame that all of its images are parts of.
    types : for each frame type the names, globs or ranges of its files, which override the headers.
    exptime : exposures in s, by the names, globs or ranges of files, which override the headers.
    dispersion_axis : "x", along the rows, or "y", along the columns; "auto": from the headers, else
        from the pixels.
    recipe : settings for all targets, which override those of the recipe.
    cards : cards of all products.
    targets : settings of single targets, by name.
    path : the file that it was read from; paths in it are relative to that file's folder.
    logged_exptime : exposures in s of an observing log, used where the header gives none.

    Examples
    --------
    >>> NightFile(exclude=("*-07*",)).instrument
    'generic'
    """

    instrument: str = "generic"
    frames: str = "*"
    exclude: tuple[str, ...] = ()
    calibrations: tuple[Path, ...] = ()
    masters: Mapping[str, Path] = field(default_factory=dict)
    unsigned: Unsigned = "auto"
    extension: str = ""
    types: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    exptime: Mapping[str, float] = field(default_factory=dict)
    dispersion_axis: DispersionAxis = "auto"
    recipe: Mapping[str, Any] = field(default_factory=dict)
    cards: Mapping[str, CardValue] = field(default_factory=dict)
    targets: Mapping[str, TargetFile] = field(default_factory=dict)
    path: Path | None = None
    logged_exptime: Mapping[str, float] = field(default_factory=dict)

    @classmethod
    def from_toml(cls, path: Path) -> Self:
        """Read a night file.

        Raises
        ------
        UsageError
            It cannot be read, or a key or value is invalid; the error names the nearest key.
        """
        tables = read_toml(path)
        with errors_name(path):
            return cls.from_tables(tables, path)

    @classmethod
    def from_tables(cls, tables: Mapping[str, Any], path: Path | None = None) -> Self:
        """Return the night file described by tables, as read from TOML."""
        for key in tables:
            known = {f.name for f in dataclasses.fields(cls)} - _NO_KEYS | {"wavelength"}
            require_known(key, known, "key")
        for key in ("masters", "recipe", "wavelength", "cards", "types", "exptime", "targets"):
            _require_a_table(key, tables.get(key, {}))
        for key in ("instrument", "frames", "unsigned"):
            _require_a_text(key, tables.get(key, ""))
        extension = tables.get("extension", "")
        _require_a_text("extension", str(extension) if type(extension) is int else extension)
        require_known(tables.get("unsigned", "auto"), set(get_args(Unsigned)), "way to read counts")
        axis = _axis_name(tables.get("dispersion_axis", "auto"))
        for name, seconds in tables.get("exptime", {}).items():
            _require_seconds(name, seconds)
        for key in ("exclude", "calibrations"):
            require_texts(key, tables.get(key, []))
        for key in tables.get("types", {}):
            require_known(key, set(FRAME_TYPES), "frame type")
        for key, value in tables.get("masters", {}).items():
            require_known(key, set(MASTERS), "frame type of a master")
            _require_a_text(key, value)
        require_table("types", tables.get("types", {}), of_lists=True)
        require_table("cards", tables.get("cards", {}), of_lists=False)
        recipe = tables.get("recipe", {}) | _wavelength_settings(tables.get("wavelength", {}))
        Recipe().replace(**recipe)
        return cls(
            instrument=_instrument_or_path(path, tables.get("instrument", "generic")),
            frames=tables.get("frames", "*"),
            exclude=tuple(tables.get("exclude", ())),
            calibrations=tuple(_path_beside(path, name) for name in tables.get("calibrations", ())),
            masters={k: _path_beside(path, name) for k, name in tables.get("masters", {}).items()},
            unsigned=tables.get("unsigned", "auto"),
            extension=str(extension),
            types={key: tuple(names) for key, names in tables.get("types", {}).items()},
            exptime={name: float(seconds) for name, seconds in tables.get("exptime", {}).items()},
            dispersion_axis=axis,
            recipe=paths_beside(path, recipe),
            cards=tables.get("cards", {}),
            targets={
                n: _target_from_table(n, t, path) for n, t in tables.get("targets", {}).items()
            },
            path=path,
        )

    def without(self, settings: Collection[str]) -> Self:
        """Return the file without some settings of the recipe, which are decided elsewhere."""

        def rest(recipe: Mapping[str, Any]) -> dict[str, Any]:
            return {key: value for key, value in recipe.items() if key not in settings}

        targets = {
            name: dataclasses.replace(target, recipe=rest(target.recipe))
            for name, target in self.targets.items()
        }
        return dataclasses.replace(self, recipe=rest(self.recipe), targets=targets)


_NO_KEYS = {"path", "logged_exptime"}
_MOST_SECONDS = 1e7


def _axis_name(value: object) -> DispersionAxis:
    """Return the dispersion axis of a night file, where DISPAXIS' numbers are allowed too."""
    if value == "auto":
        return "auto"
    require_axis(value)
    return "x" if DISPERSION_AXES[value] == 1 else "y"


def _require_seconds(name: str, value: object) -> None:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if not is_number or not 0 <= float(str(value)) < _MOST_SECONDS:
        raise UsageError(
            f"exptime of {name!r} must be an exposure time in seconds, not {value!r}",
            keyword="exptime",
            value=value,
        )


def _wavelength_settings(table: Mapping[str, Any]) -> dict[str, Any]:
    """Return a table [wavelength] as fields of the recipe."""
    for key in table:
        require_known(key, set(IN_WAVELENGTH), "key of [wavelength]")
    return {IN_WAVELENGTH[key]: value for key, value in table.items()}


def _target_from_table(name: str, table: object, path: Path | None) -> TargetFile:
    """Return the settings of one target from its table."""
    _require_a_table(f"targets.{name}", table)
    keys: dict[str, Any] = dict(table)  # type: ignore[call-overload]
    if isinstance(waves := keys.get("wavelength"), dict):
        keys = {k: v for k, v in keys.items() if k != "wavelength"} | _wavelength_settings(waves)
    own = {"frames", "lamps", "rows_from", "cards", *CARDS}
    for key in keys:
        require_known(key, own | set(SETTINGS), f"key of target {name!r}")
        if key in PER_NIGHT:
            raise UsageError(
                f"{key} of target {name!r} would affect other targets too",
                keyword=key,
                hint="Move it to [recipe].",
            )
    for key in ("frames", "lamps"):
        require_texts(key, keys.get(key, []))
    _require_a_table("cards", keys.get("cards", {}))
    _require_a_text("rows_from", keys.get("rows_from", ""))
    cards = {CARDS[key]: keys[key] for key in CARDS if key in keys}
    require_table("cards", {**keys.get("cards", {}), **cards}, of_lists=False)
    settings = {key: value for key, value in keys.items() if key in SETTINGS}
    recipe = paths_beside(path, settings)
    Recipe().replace(**recipe)
    if "rows_from" in keys and "rows" in keys:
        raise UsageError(
            f"Target {name!r} has both rows and rows_from",
            keyword="rows_from",
            hint="Remove one of them.",
        )
    return TargetFile(
        tuple(keys.get("frames", ())),
        tuple(keys.get("lamps", ())),
        keys.get("rows_from", ""),
        {**keys.get("cards", {}), **cards},
        recipe,
    )


def _instrument_or_path(path: Path | None, name: str) -> str:
    """Return an instrument's name, or the path of its file resolved against the night file."""
    return str(_path_beside(path, name)) if name.endswith(".toml") else name


def _path_beside(path: Path | None, name: str) -> Path:
    """Return a path written in a file, resolved against that file's folder."""
    return Path(name).expanduser() if path is None else path.parent / Path(name).expanduser()


def _require_a_table(name: str, value: object) -> None:
    if not isinstance(value, dict):
        raise UsageError(f"{name} must be a table, not {value!r}", keyword=name, value=value)


def _require_a_text(name: str, value: object) -> None:
    if not isinstance(value, str):
        raise UsageError(f"{name} must be a string, not {value!r}", keyword=name, value=value)


# Rows of a target in the text of a night file: `entry_text`, `with_rows_of`.
#
# A TOML library that keeps comments would be one more dependency for two keys. Lines are edited as
# a person would, and what they then mean is compared with what they should: a form of writing that
# is not foreseen here is refused, and nothing is lost.


def entry_text(name: str, rows: RowRange | None, sky_rows: RowRange | None) -> str:
    r"""Return the section of a night file that sets the rows of a target.

    Parameters
    ----------
    name : name of the target.
    rows, sky_rows : chosen rows (first, last); None: arrayred chooses, and a comment says so.

    Examples
    --------
    >>> print(entry_text("59_Cyg", (484, 518), None))
    [targets."59_Cyg"]
    rows = [484, 518]
    # sky_rows: automatic
    <BLANKLINE>
    """
    lines = [f"[targets.{toml_text(name)}]"]
    lines += ["# rows: automatic" if rows is None else f"rows = {toml_text(rows)}"]
    lines += ["# sky_rows: automatic" if sky_rows is None else f"sky_rows = {toml_text(sky_rows)}"]
    return "\n".join(lines) + "\n"


def with_rows_of(text: str, name: str, rows: RowRange | None, sky_rows: RowRange | None) -> str:
    r"""Return the text of a night file with the rows of a target; all else stays, comments too.

    Parameters
    ----------
    text : TOML.
    name : of the target, as the text spells it if it has the target.
    rows, sky_rows : chosen rows (first, last); None: as the text has them. Rows take the place of
        `rows_from`, which becomes a comment.

    Raises
    ------
    UsageError
        The text is not TOML, or has the target in a form that cannot be edited line by line, such
        as an inline table.

    Examples
    --------
    >>> print(with_rows_of("[targets.Vega]  # 3 frames\ngrating = '1200'\n", "Vega", (4, 9), None))
    [targets.Vega]  # 3 frames
    rows = [4, 9]
    grating = '1200'
    <BLANKLINE>
    """
    wanted = toml_tables(text)
    chosen = {k: v for k, v in (("rows", rows), ("sky_rows", sky_rows)) if v is not None}
    targets = wanted.setdefault("targets", {})
    own = targets.setdefault(name, {})
    own |= {key: list(value) for key, value in chosen.items()}
    if rows is not None:
        own.pop("rows_from", None)
    lines = text.splitlines(keepends=True)
    end = "\r\n" if text.endswith("\r\n") else "\n"
    heads = [i for i, line in enumerate(lines) if _table_named(line) is not None]
    first = next((i for i in heads if _table_named(lines[i]) == {"targets": {name: {}}}), None)
    if first is None:
        gap = end if text else ""
        gap = end + gap if text and not text.endswith("\n") else gap
        edited = text + gap + entry_text(name, rows, sky_rows).replace("\n", end)
    else:
        stop = next((i for i in heads if i > first), len(lines))
        head, section = "".join(lines[: first + 1]), "".join(lines[first + 1 : stop])
        head = head if head.endswith("\n") else head + end
        if rows is not None:
            section = re.sub(r"^(?=[ \t]*rows_from[ \t]*=)", "# ", section, flags=re.MULTILINE)
        for key, value in reversed(chosen.items()):
            there = rf"^[ \t]*(?:{key}[ \t]*=[ \t]*\[[^]#]*\]|# {key}: automatic)"
            line = f"{key} = {toml_text(value)}"
            section, n = re.subn(there, line, section, count=1, flags=re.MULTILINE)
            section = section if n else line + end + section
        edited = head + section + "".join(lines[stop:])
    if _tables_or_none(edited) != wanted:
        raise UsageError(
            f"Target {name!r} is written in a form that cannot be edited line by line",
            keyword=name,
            hint=f"Write it as a table of its own, [targets.{toml_text(name)}].",
        )
    return edited


def _table_named(line: str) -> dict[str, Any] | None:
    """Return the table that a line begins, empty and within its parents; None for other lines."""
    return _tables_or_none(line) if line.lstrip().startswith("[") else None


def _tables_or_none(text: str) -> dict[str, Any] | None:
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        return None
