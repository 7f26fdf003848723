"""Instrument files: header keywords, detector, required cards: `Instrument`."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache, cached_property
from pathlib import Path
from typing import Any, Self, cast

from arrayred.config.toml import (
    errors_name,
    read_toml,
    require_known,
    require_table,
    require_texts,
)
from arrayred.errors import UsageError
from arrayred.model import FRAME_TYPES, UNITS, Section, Unit


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
