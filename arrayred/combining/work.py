"""From headers to a plan, from a plan to an image on disk: `prepare` and `carry_out`."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

from arrayred.bands import visit_into
from arrayred.combining.agreement import (
    Rules,
    calstat_after,
    remarks_on,
    require_fitting,
    require_same_exposure,
)
from arrayred.combining.how import How, Kernel
from arrayred.combining.inputs import frames_of
from arrayred.combining.share import Share, share_of
from arrayred.config.instrument import Instrument
from arrayred.errors import NightError, UsageError
from arrayred.io.files import find_image
from arrayred.io.frames import Frame, describe, require_same_unit
from arrayred.io.header import Value
from arrayred.io.ledger import datasum_of, examine, required
from arrayred.io.pixel_checks import take_off_pedestals, unwrap
from arrayred.io.pixels import FrameStack, Pass, PassImage, plain_all
from arrayred.io.products import ImageSink, Story, image_sink, product_header
from arrayred.io.publish import require_room
from arrayred.watching import stage

Sums = dict[Path, str]
_NO_SUM = "0" * 64


@dataclass(frozen=True)
class Combination:
    """Frames that go together, and what is to become of them.

    Parameters
    ----------
    frames : in canonical order.
    master : the image to be subtracted from each, or None.
    out : the product's path.
    how : the method and its limits.
    warnings : what the user should know before the work begins.
    """

    frames: tuple[Frame, ...]
    master: Frame | None
    out: Path
    how: How
    warnings: tuple[str, ...] = ()

    @property
    def shape(self) -> tuple[int, int]:
        """Return (n_rows, n_columns) of the image."""
        return self.frames[0].shape

    @property
    def inputs(self) -> tuple[Frame, ...]:
        """Return all that goes into the image: the frames and the master."""
        return self.frames if self.master is None else (*self.frames, self.master)

    def story(self) -> Story:
        """Return what the product's header tells; checksums are still blank."""
        master, method = self.master, self.how.method
        steps = [f"{master.path.name} subtracted"] if master else []
        facts: list[tuple[str, Value, str]] = [("ARMETHOD", method, "how frames were combined")]
        return Story(
            self.frames,
            [master] if master else [],
            steps=[*steps, f"{self.how} of {len(self.frames)} frames"],
            method=method,
            calstat=calstat_after(self.frames, master) if master else "",
            facts=facts,
            checksums={frame.path: _NO_SUM for frame in self.inputs if self.how.checksums},
        )


def prepare(
    files: Sequence[str],
    out: Path,
    how: How,
    *,
    minus: Path | None = None,
    rules: Rules | None = None,
) -> Combination:
    """Read headers, and return what is to be done if everything goes together.

    Parameters
    ----------
    files : paths of files and folders; ``@path`` is a text file with a path a line.
    out : the product's path.
    how : the method and its limits.
    minus : an image to be subtracted from every frame.
    rules : what is let through.

    Raises
    ------
    InputError
        A file cannot be read as a frame, or does not go together with the others.
    UsageError
        The product would replace one of its inputs.
    StorageError
        The product's folder cannot be written, or its disk is too small.
    """
    rules = rules or Rules()
    instrument = Instrument.load("generic")
    inputs = frames_of(files, instrument)
    found = [] if minus is None else [describe(minus.name, find_image(minus), instrument)]
    n_frames = len(inputs.frames)
    told = take_off_pedestals(unwrap([*inputs.frames, *found], instrument))
    if refused := [refusal for frame in told for refusal in frame.refusals]:
        raise NightError(tuple(refused))
    frames, master = tuple(told[:n_frames]), told[n_frames] if found else None
    how.require_enough(n_frames)
    FrameStack([frame.image.source for frame in frames])
    require_same_unit(told, "Combine frames of one unit only.")
    if not rules.any_exposure:
        require_same_exposure(frames)
    if master is not None:
        require_fitting(master, frames, rules)
    combination = Combination(frames, master, out, how, (*inputs.warnings, *remarks_on(frames)))
    _require_no_input(out, combination.inputs)
    n_rows, n_columns = combination.shape
    require_room(out.parent, n_rows * n_columns * int(how.dtype.removeprefix("float")) // 8)
    return combination


def _require_no_input(out: Path, inputs: Sequence[Frame]) -> None:
    """Raise UsageError if a product would replace a file that it is made from."""
    if not out.exists():
        return
    for frame in inputs:
        if frame.path.exists() and out.samefile(frame.path):
            raise UsageError(
                "The output is one of the inputs", path=out, hint="Choose another output."
            )


@stage("combine")
def carry_out(combination: Combination, *, overwrite: bool = False) -> None:
    """Combine the frames and write the image.

    Parameters
    ----------
    combination : what `prepare` returned.
    overwrite : replace a file that has other content.

    Raises
    ------
    FrameError
        A file has changed since its header was read, is damaged, or cannot be read.
    UsageError
        A file with other content is there and `overwrite` is not given.
    StorageError
        The disk is full or refuses.
    """
    how, story, out = combination.how, combination.story(), combination.out
    stack = FrameStack([frame.image.source for frame in combination.frames])
    share = share_of(combination.inputs, stack.shape, stack.dtype, how)
    header = product_header(story, out.name)
    with image_sink(out, header, combination.shape, how.dtype, overwrite=overwrite) as sink:
        sums = _read_once(_passes(combination, share.threads), sink, how.kernel, share)
        packed = [frame for frame in combination.inputs if frame.path not in sums]
        if how.checksums:
            sums |= required(examine(packed), packed)
        sink.finish(product_header(replace(story, checksums=sums), out.name))


def _read_once(passes: Sequence[Pass], sink: ImageSink, kernel: Kernel, share: Share) -> Sums:
    """Combine frames, the first pass, less images, the others; return the files' SHA-256."""

    def give_up() -> None:
        for each in passes:
            each.give_up()

    with ExitStack() as opened:
        frames, *images = [opened.enter_context(each) for each in passes]
        visit_into(
            sink,
            frames,
            kernel,
            *map(PassImage, images),
            rows=share.pixels,
            threads=share.threads,
            give_up=give_up,
        )
        return {path: total for each in passes for path, total in each.checksums().items()}


def _passes(combination: Combination, threads: int) -> list[Pass]:
    """Return the passes over the frames and over the master, if there is one."""
    groups = [combination.frames, *([(combination.master,)] if combination.master else [])]
    passes = []
    for group in groups:
        stack = FrameStack(plain_all([frame.image for frame in group], threads))
        plain = [f for f in group if f.image.packing == "plain" and f.image.source.shelf is None]
        known = {frame.path: datasum_of(frame.image) for frame in plain}
        summed = known if combination.how.checksums else {}
        passes.append(Pass(stack.sources, stack.dtype, summed))
    return passes
