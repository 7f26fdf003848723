"""The names that `arrayred.config` hands on, each from the module it lies in."""

from .night_file import Instrument as Instrument
from .night_file import NightFile as NightFile
from .night_file import TargetFile as TargetFile
from .night_file import builtin_instruments as builtin_instruments
from .night_file import read_night_file as read_night_file
from .recipe import BETRAYED_BY as BETRAYED_BY
from .recipe import OF_MASTERS as OF_MASTERS
from .recipe import PER_NIGHT as PER_NIGHT
from .recipe import SETTINGS as SETTINGS
from .recipe import Combination as Combination
from .recipe import Method as Method
from .recipe import Overscan as Overscan
from .recipe import Recipe as Recipe
from .recipe import RowRange as RowRange
from .recipe import check_value as check_value
from .recipe import default_of as default_of
from .toml import toml_text as toml_text
