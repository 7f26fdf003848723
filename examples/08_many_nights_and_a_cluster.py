# %% [markdown]
# # Many nights and a cluster
#
# A season of nights goes to one command, whether it works alone, in some processes, or on a cluster
# of dask. Every night is one task with a folder of its own, so whoever does it, the bytes are the
# same; what is finished is not done again, whatever happened in between.
#
# The nights are simulated; put a pattern of your own folders instead.

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
# `--jobs` starts processes and opens no port. `--workers` begins a cluster of dask for this run: it
# listens on 127.0.0.1 only, and its certificate, which nobody else has, keeps other users of the
# machine out.

# %%
print(arrayred("reduce", *nights, "-o", "reduced", "--no-figures", "--workers", 2))

# %% [markdown]
# Run it again, on whatever: what is finished is known by what it was made of, and is kept. So a run
# that was killed, or whose cluster went away, is simply begun again.

# %%
again = arrayred("reduce", *nights, "-o", "reduced", "--no-figures", "--jobs", 2)
print(again.splitlines()[-1])
assert again.splitlines()[-1].startswith("4 kept")

# %% [markdown]
# ## What became of all
#
# `summary.ecsv` has a line for each target, with the reason where one failed.

# %%
summary = Table.read(season / "reduced" / "summary.ecsv")
print(summary["night", "target", "status", "snr"])

# %% [markdown]
# Products open as labelled data again, here the spectrum of each night.

# %%
spectra = [
    ar.open_product(season / "reduced" / night.name / "targets/Vega/Vega_spectrum.fits")
    for night in nights
]
flux = [float(spectrum.flux.median()) for spectrum in spectra]
print([f"{value:.0f}" for value in flux])
assert max(flux) < 1.1 * min(flux)

# %% [markdown]
# ## On a cluster that is there
#
# Its workers see the same folders by the same names, and have the same version of arrayred. Give
# the address, or the file that the scheduler wrote:
#
# ```
# dask scheduler --scheduler-file ~/scheduler.json       # on the head node
# dask worker --scheduler-file ~/scheduler.json          # on every other
# arrayred reduce 2024-*/raw -o reduced --scheduler ~/scheduler.json
# ```
#
# Whoever can reach a scheduler can run code as its owner, so give it keys (`tls://`, see dask's
# documentation) where others share the network. From Python, with any cluster that dask knows:
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
# ## Without dask
#
# A night is a folder in and a folder out, so an array of jobs needs no scheduler but the queue's:
#
# ```
# #!/bin/bash
# #SBATCH --array=1-365 --mem=2G --time=00:10:00
# night=$(sed -n "${SLURM_ARRAY_TASK_ID}p" nights.txt)
# arrayred reduce "$night" -o "reduced/$(basename "$night")" --no-input
# ```
#
# However it was made, `verify` proves that the products of a night, and the frames that they were
# made of, are what they were.

# %%
print(arrayred("verify", Path("reduced") / nights[0].name))
