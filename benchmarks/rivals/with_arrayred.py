"""arrayred in Python, without labels: a FrameStack, a kernel, `bands.visit` and two threads."""

import os
from functools import partial
from pathlib import Path

from plain import read_image, write_image
from script import run

from arrayred.bands import visit
from arrayred.io import FrameStack, scan_all
from arrayred.kernels import mean, median

THREADS = int(os.environ.get("THREADS", "2"))


def combine(files, method, master):
    frames = FrameStack([image.source for image in scan_all(map(Path, files))])
    images = [] if master is None else [read_image(master).astype("f8")]
    return visit(frames, kernel_of(method), *images, threads=THREADS)


def kernel_of(method):
    if method in ("median", "mean"):
        return {"median": median, "mean": mean}[method]
    from arrayred.kernels import clipped_mean

    passes = None if method == "clip-all" else 1
    return partial(clipped_mean, n_sigma=3.0, iterations=passes)


run(combine, write_image)
