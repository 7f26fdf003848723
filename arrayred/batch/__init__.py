"""Nights from disk to disk: open, reduce, write; one target's failure is not another's.

Everything the headers can tell is checked first (`orders`), so that a night that cannot be reduced
says so, completely, before a pixel is read or a file written. Then its masters are made (`masters`)
and its targets, one after the other (`desk`); what is finished is not done again (`keys`, `shelf`).
Many nights are so many `jobs`, done one by one or in processes (`nights`, `crew`); one that is
finished is not even opened (`recall`); `summary` tells of each target in a line, and `reports` of
the night on a page. On a cluster of dask a night is one task: `cluster` and `connecting`, which are
not imported here, since most runs need neither.
"""

from arrayred.batch.nights import (
    Job,
    Report,
    dask_scheduler,
    logged_reports,
    night_labels,
    night_log,
    process_executor,
    reduce_nights,
    serial_executor,
)
from arrayred.batch.run import (
    OPTIONS,
    Outcome,
    OutputOptions,
    SummaryLine,
    as_ecsv,
    band_memory,
    cache_quietly,
    check_night,
    each_spectrum,
    missing_target_cards,
    reduce_to,
    require_cards,
    write_night_report,
)

__all__ = [
    "OPTIONS",
    "Job",
    "Outcome",
    "OutputOptions",
    "Report",
    "SummaryLine",
    "as_ecsv",
    "band_memory",
    "cache_quietly",
    "check_night",
    "dask_scheduler",
    "each_spectrum",
    "logged_reports",
    "missing_target_cards",
    "night_labels",
    "night_log",
    "process_executor",
    "reduce_nights",
    "reduce_to",
    "require_cards",
    "serial_executor",
    "write_night_report",
]
