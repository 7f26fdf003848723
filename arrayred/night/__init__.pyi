"""The names that `arrayred.night` hands on, each from the module it lies in."""

from .groups import Group as Group
from .groups import is_named as is_named
from .groups import require_named as require_named
from .groups import select_by_any as select_by_any
from .groups import select_frames as select_frames
from .groups import slug as slug
from .groups import stem_and_number as stem_and_number
from .match import Flat as Flat
from .match import Lamp as Lamp
from .match import SyntheticDark as SyntheticDark
from .night import CachePolicy as CachePolicy
from .night import Night as Night
from .night import cache_night as cache_night
from .night import cube_at as cube_at
from .night import open_night as open_night
from .night import summarise_night as summarise_night
from .night import with_local_pixels as with_local_pixels
from .plan import Plan as Plan
from .plan import Target as Target
from .plan import make_plan as make_plan
from .plan import night_file_text as night_file_text
from .plan import plan_sections as plan_sections
from .plan import problems_of as problems_of
from .plan import warnings_of as warnings_of
