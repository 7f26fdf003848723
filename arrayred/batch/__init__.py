"""Reduce nights from disk to disk: open, reduce, write, each target independently of the others.

`run` reduces one night. Everything that headers can show is checked first (`check_night`), so that
a night that cannot be reduced reports all its problems before its frames are combined or a file is
written. Then its masters are made and its targets, one after the other (`reduce_to`); finished ones
are not made again (the fingerprints and `OutputFolder` in `run`). A line summarises each target
(`SummaryLine`), a report each night (`write_night_report`).

`nights` reduces many nights, each a `Job`, one by one or in processes (`in_processes`); a finished
night is not even opened (`load_finished_report`). On a dask cluster a night is one task
(`cluster`). `cluster` is not imported here, since most runs do not need it.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
