"""How frames become one image: method, limits, and the kernel that does it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, get_args

from numpy.typing import NDArray

from arrayred.errors import UsageError
from arrayred.kernels.combine import mean, median, minmax_mean
from arrayred.kernels.reject import clipped_mean

Method = Literal["median", "average", "clip", "minmax"]
METHODS: tuple[Method, ...] = get_args(Method)
Kernel = Callable[..., NDArray[Any]]


@dataclass(frozen=True)
class How:
    """How frames become one image.

    Parameters
    ----------
    method : "median"; "average"; "clip", the mean of what lies near the mean; "minmax", the mean
        without the lowest and the highest value.
    n_sigma : how far from the mean "clip" keeps values, in standard deviations.
    iterations : how often "clip" looks again.
    dtype : in which the image is written, "float32" or "float64".
    memory : bytes that may be held at once.
    threads : how many bands are worked on at once; None: as many as the process has cores.
    checksums : name the SHA-256 of every input in the header; it takes a third of the time.

    Examples
    --------
    >>> str(How("clip", n_sigma=2.5))
    'clipped mean (2.5 sigma, 1 iteration)'
    """

    method: Method = "median"
    n_sigma: float = 3.0
    iterations: int = 1
    dtype: str = "float32"
    memory: int = 512 << 20
    threads: int | None = None
    checksums: bool = True

    def __str__(self) -> str:
        """Return the method in words."""
        times = "1 iteration" if self.iterations == 1 else f"{self.iterations} iterations"
        return {
            "clip": f"clipped mean ({self.n_sigma:g} sigma, {times})",
            "minmax": "mean without the lowest and the highest value",
        }.get(self.method, self.method)

    @property
    def kernel(self) -> Kernel:
        """Return what turns a band into rows of the image."""
        clip = partial(clipped_mean, n_sigma=self.n_sigma, iterations=self.iterations)
        kernels: dict[Method, Kernel] = {
            "median": median,
            "average": mean,
            "clip": clip,
            "minmax": minmax_mean,
        }
        return kernels[self.method]

    @property
    def is_widening(self) -> bool:
        """Tell whether the kernel holds values in float64."""
        return self.method == "clip"

    def require_enough(self, n_frames: int) -> None:
        """Raise UsageError if the method leaves nothing of so few frames."""
        if self.method == "minmax" and n_frames < 3:
            raise UsageError(
                f"minmax leaves out two values of each pixel, but there are {n_frames} frames",
                value=n_frames,
                hint="Take at least 3 frames, or another method.",
            )
