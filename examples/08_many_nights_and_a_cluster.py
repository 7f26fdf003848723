# %% [markdown]
# # Many nights and a cluster
#
# One command reduces many nights: in one process, in several, or on a Dask cluster. Each night
# is a task with an output folder of its own, so the products are the same bytes however it is
# run, and finished nights are not reduced again.
#
# The nights are simulated; use a pattern of your own folders instead.

# %%
import subprocess
import sys
import tempfile
from datetime import datetime, timedelta
from pathlib import Path

from astropy.table import Table

import arrayred as ar
from arrayred.io import write_frames
from arrayred.simulate import Detector, Star

season = Path(tempfile.mkdtemp())
for number in range(4):
    star = Star("Vega", row=70.0)
    start = datetime(2024, 3, 1, 20) + timedelta(days=number)
    night = ar.SimulatedNight(
        Detector(shape=(120, 90)), star, n_darks=3, n_lights=2, start=start, seed=number
    )
    write_frames(night.frames(), season / "raw" / f"2024-03-{number + 1:02}")
nights = sorted((season / "raw").iterdir())


def arrayred(*arguments: object) -> str:
    """Run the command line and return what it prints."""
    command = [sys.executable, "-m", "arrayred", *map(str, arguments)]
    return subprocess.run(command, check=True, capture_output=True, text=True, cwd=season).stdout


# %% [markdown]
# ## On this machine
#
# `--jobs` starts processes and opens no port. `--workers` starts a Dask cluster for this run:
# it listens on 127.0.0.1 only, with a certificate of its own, so that other users of the
# machine have no access.

# %%
print(arrayred("reduce", *nights, "-o", "reduced", "--no-figures", "--workers", 2))

# %% [markdown]
# Run it again, in any way: finished nights are recognised by their inputs and settings, and
# kept. So if a run was killed, or lost its cluster, repeat it.

# %%
again = arrayred("reduce", *nights, "-o", "reduced", "--no-figures", "--jobs", 2)
print(again.splitlines()[-1])
assert again.splitlines()[-1].startswith("4 kept")

# %% [markdown]
# ## The summary
#
# `summary.ecsv` has a row for each target, with the reason if it failed.

# %%
summary = Table.read(season / "reduced" / "summary.ecsv")
print(summary["night", "target", "status", "snr"])

# %% [markdown]
# Products open as labelled data, here the spectrum of each night.

# %%
spectra = [
    ar.open_product(season / "reduced" / night.name / "targets/Vega/Vega_spectrum.fits")
    for night in nights
]
flux = [float(spectrum.flux.median()) for spectrum in spectra]
print([f"{value:.0f}" for value in flux])
assert max(flux) < 1.1 * min(flux)

# %% [markdown]
# ## On an existing cluster
#
# Its workers must see the same folders under the same names, and have the same version of arrayred.
# Give the address of the scheduler, or the file that it wrote:
#
# ```
# dask scheduler --scheduler-file ~/scheduler.json       # on the head node
# dask worker --scheduler-file ~/scheduler.json          # on every other
# arrayred reduce 2024-*/raw -o reduced --scheduler ~/scheduler.json
# ```
#
# Anyone who can reach a scheduler can run code as its owner: use keys (`tls://`, see Dask's
# documentation) on a shared network. In Python, with any kind of Dask cluster:
#
# ```python
# from dask_jobqueue import SLURMCluster                 # or KubeCluster, coiled.Cluster, ...
# from distributed import Client
# from arrayred.batch import Job, OutputOptions, reduce_nights
# from arrayred.batch.cluster import cluster_executor
#
# cluster = SLURMCluster(cores=1, memory="4 GB", walltime="02:00:00")
# cluster.adapt(maximum_jobs=100)
# jobs = [Job(night.name, night, OutputOptions(out / night.name, cards={})) for night in nights]
# with Client(cluster) as client:
#     for report, is_final in reduce_nights(jobs, cluster_executor(client, patience=3600)):
#         print(report.label, report.exit_code)
# ```
#
# ## Without Dask
#
# Each night is reduced from one folder to another, so an array job of the queue is enough:
#
# ```
# #!/bin/bash
# #SBATCH --array=1-365 --mem=2G --time=00:10:00
# night=$(sed -n "${SLURM_ARRAY_TASK_ID}p" nights.txt)
# arrayred reduce "$night" -o "reduced/$(basename "$night")" --no-input
# ```
#
# `verify` checks that the products of a night, and the frames that they were made from, are
# unchanged.

# %%
print(arrayred("verify", Path("reduced") / nights[0].name))
