"""The page of a night behind its reduction: `report_on`.

By then all products are published. What keeps a page from being made is said and no failure of the
reduction, unless it is the disk, which would keep the next product away as well. A bug of ours is
said as a warning of Python's, which is an error wherever we test.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable

from arrayred.batch.desk import Outcome
from arrayred.batch.orders import Order
from arrayred.config import Recipe
from arrayred.errors import ArrayredError, StorageError
from arrayred.night import Night, Plan


def report_on(
    night: Night, plan: Plan, recipe: Recipe, order: Order, outcomes: Iterable[Outcome]
) -> tuple[str, ...]:
    """Keep an account of a night and make its page, unless it is there.

    Parameters
    ----------
    night, plan, recipe, order : as they were carried out; without figures there is no page.
    outcomes : what became of the targets.

    Returns
    -------
    warnings : why there is no page.

    Raises
    ------
    StorageError
        The disk is full or refuses.
    """
    from arrayred.report.telling import account_of
    from arrayred.report.write import forget_report, write_account

    errors = {outcome.name: outcome.error for outcome in outcomes if outcome.error is not None}
    replaced = order.overwrite or order.force
    try:
        write_account(order.out, account_of(night, plan, recipe, errors, order.command))
        if order.figures:
            from arrayred.report.write import write_report

            write_report(order.out, overwrite=replaced, verify=order.verify)
        elif replaced:
            forget_report(order.out)
    except StorageError:
        raise
    except ArrayredError as error:
        return (f"no report was made: {error}",)
    except Exception as error:  # its products are published, and a page is not worth their run
        warnings.warn(f"a bug of arrayred kept the report away: {error!r}", stacklevel=2)
    return ()
