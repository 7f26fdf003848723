"""Settings: what I want done, what headers mean, and what is known of one night.

All are frozen dataclasses read from TOML; an unknown key is an error that names the nearest valid
one. Rows are FITS row numbers, both ends included, everywhere in settings.
"""

from arrayred.config.instrument import Instrument, builtin_instruments
from arrayred.config.night_file import NightFile, TargetFile
from arrayred.config.recipe import (
    BETRAYED_BY,
    OF_MASTERS,
    Combination,
    Method,
    Overscan,
    Recipe,
    RowRange,
)

__all__ = [
    "BETRAYED_BY",
    "OF_MASTERS",
    "Combination",
    "Instrument",
    "Method",
    "NightFile",
    "Overscan",
    "Recipe",
    "RowRange",
    "TargetFile",
    "builtin_instruments",
]
