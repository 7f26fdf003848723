"""Nights from disk to disk: open, reduce, write; one target's failure is not another's.

Everything the headers can tell is checked first (`orders`), so that a night that cannot be reduced
says so, completely, before a pixel is read or a file written (`desk`).
"""

from arrayred.batch.desk import Outcome, reduce_to
from arrayred.batch.keeping import cache_quietly
from arrayred.batch.orders import OPTIONS, Order, check_night, missing_of, require_cards

__all__ = [
    "OPTIONS",
    "Order",
    "Outcome",
    "cache_quietly",
    "check_night",
    "missing_of",
    "reduce_to",
    "require_cards",
]
