"""A night: its frames, which of them belong together, and which dark serves which lights.

Headers decide here, nothing is computed. `records` reads a folder's headers, `groups` says which
frames are of one kind and what they are called, `planning` what will be done with them.
"""

from arrayred.night.groups import Group
from arrayred.night.match import Flat, SyntheticDark
from arrayred.night.night import Night, open_night
from arrayred.night.plan import (
    Plan,
    Target,
    explain_plan,
    make_plan,
    night_file_text,
    problems_of,
    warnings_of,
)

__all__ = [
    "Flat",
    "Group",
    "Night",
    "Plan",
    "SyntheticDark",
    "Target",
    "explain_plan",
    "make_plan",
    "night_file_text",
    "open_night",
    "problems_of",
    "warnings_of",
]
