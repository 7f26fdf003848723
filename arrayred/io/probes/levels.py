"""Does a frame's level agree with what its header says was subtracted? `compare_levels`.

The dark current and light only ever add, so no raw frame lies below a raw dark or bias of the same
or a shorter exposure. With D the level and s the noise of those raw frames (D > 10 s, else levels
tell nothing), and comparing where the lowest 5 % of the pixels end, which a star does not move:

- Without letters, but below D by more than 10 s: a dark has been subtracted though no card says so,
  if the frame lies under D / 2 (at Stony Brook such frames lie at 0.06 to 0.37 D); else refused.
- CALSTAT with B or D, yet from 3 s below D to 10 s above, where raw frames of a dark sky lie: the
  letters are wrong, refused. Subtracting or not would both be a guess.
- CALSTAT with D but not B, below D but not below a raw bias: the dark that was subtracted had lost
  its bias, and the frame still has its own. It keeps it until a bias is subtracted. With both
  letters there it is refused. A frame that tells of a PEDESTAL may lie anywhere.
- A dark below D has lost its bias, so has one whose noise straddles zero where no other raw frame
  lies far from it: it gets the letter B, and serves only lights that have lost it too.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import islice

from arrayred.errors import MismatchError
from arrayred.io.frames import Frame
from arrayred.io.probes.sample import Sample, affordable, sample_of

_PROBED_FRAMES = 3
_SAME_EXPOSURE = 0.5  # s
_SAME_TEMPERATURE = 3.0  # deg C: dark current doubles in 6
_FAR, _WITHIN = 10.0, 3.0  # times the noise

Camera = tuple[object, ...]


@dataclass(frozen=True)
class _Judge:
    """A raw dark or bias far from zero."""

    frame: Frame
    sample: Sample

    @property
    def exptime(self) -> float:
        """Return its exposure, s."""
        return self.frame.exptime or 0.0

    @property
    def told(self) -> str:
        """Return name, exposure, level and noise as text."""
        return f"{self.frame.path.name} of {self.exptime:g} s ({self.sample})"


def compare_levels(frames: Sequence[Frame]) -> list[Frame]:
    """Return the frames, with the letters that their pixels prove, or refused by name.

    Parameters
    ----------
    frames : of a night, wrapped counts unwrapped. Lights, flats and darks are compared with the raw
        darks and biases among them of the same shape, setup and temperature.
    """
    probed = list(affordable(f for f in frames if f.frame_type in _COMPARED and _is_known(f)))
    calibrations: dict[Camera, list[Frame]] = defaultdict(list)
    for frame in probed:
        if frame.frame_type in ("bias", "dark") and not set(frame.calstat) & set("BD"):
            calibrations[_camera_of(frame)].append(frame)
    judges = {camera: _judges_among(members) for camera, members in calibrations.items()}
    straddling = {
        camera: not judges[camera] and all(map(_straddles_zero, islice(members, _PROBED_FRAMES)))
        for camera, members in calibrations.items()
    }
    labels = {frame.label for frame in probed if not frame.refusals}
    compared = []
    for frame in frames:
        camera = _camera_of(frame)
        if frame.label in labels and straddling.get(camera, False):
            compared.append(_bias_gone_with_the_darks(frame))
        elif frame.label in labels:
            compared.append(_compared(frame, judges.get(camera, [])))
        else:
            compared.append(frame)
    return compared


_COMPARED = ("bias", "dark", "flat", "light")


def _is_known(frame: Frame) -> bool:
    """Tell whether a frame is a raw one, or a master of raw ones."""
    return frame.is_master or not frame.is_product


def _camera_of(frame: Frame) -> Camera:
    return frame.shape, frame.setup


def _judges_among(calibrations: Sequence[Frame]) -> list[_Judge]:
    """Return the raw frames far from zero, with some noise, up to three of each exposure."""
    by_exposure: dict[tuple[str | None, float], list[_Judge]] = defaultdict(list)
    for frame in calibrations:
        found = by_exposure[frame.frame_type, frame.exptime or 0.0]
        sample = sample_of(frame) if len(found) < _PROBED_FRAMES else None
        if sample is not None and sample.noise > 0 and sample.is_far_from_zero:
            found.append(_Judge(frame, sample))
    return _not_below_the_biases([judge for judges in by_exposure.values() for judge in judges])


def _not_below_the_biases(judges: Sequence[_Judge]) -> list[_Judge]:
    """Return the judges without darks that lie below the biases: those have lost theirs."""
    biases = _biases_among(judges)
    if not biases:
        return list(judges)
    bias = _middle(biases, biases[0].exptime).sample
    lowest = bias.low - _FAR * bias.noise
    return [j for j in judges if j.frame.frame_type == "bias" or j.sample.low >= lowest]


def _biases_among(judges: Sequence[_Judge]) -> list[_Judge]:
    return [judge for judge in judges if judge.frame.frame_type == "bias"]


def _straddles_zero(frame: Frame) -> bool:
    """Tell whether noise reaches below zero: a raw frame's never does."""
    sample = sample_of(frame)
    return sample is not None and sample.straddles_zero and sample.low < 0


def _floor_of(frame: Frame, judges: Sequence[_Judge]) -> _Judge | None:
    """Return the raw frame of the longest exposure that is not longer than this frame's.

    Of several of that exposure it is the one in the middle. Where all are longer, it is one of the
    shortest, if no dark current shows in exposures of twice that.
    """
    as_warm = [judge for judge in judges if _is_as_warm(judge.frame, frame)]
    if not as_warm:
        return None
    fitting = [j for j in as_warm if j.exptime <= (frame.exptime or 0.0) + _SAME_EXPOSURE]
    if fitting:
        return _middle(fitting, max(judge.exptime for judge in fitting))
    shortest = _middle(as_warm, min(judge.exptime for judge in as_warm))
    longest = _middle(as_warm, max(judge.exptime for judge in as_warm))
    grown = longest.sample.level - shortest.sample.level
    is_dark_free = grown <= _WITHIN * shortest.sample.noise
    return shortest if longest.exptime >= 2 * shortest.exptime and is_dark_free else None


def _middle(judges: Sequence[_Judge], exptime: float) -> _Judge:
    """Return of the judges of an exposure the one whose level lies in the middle."""
    alike = [judge for judge in judges if judge.exptime == exptime]
    return sorted(alike, key=lambda judge: judge.sample.low)[(len(alike) - 1) // 2]


def _is_as_warm(one: Frame, other: Frame) -> bool:
    if one.ccd_temp is None or other.ccd_temp is None:
        return True
    return abs(one.ccd_temp - other.ccd_temp) <= _SAME_TEMPERATURE


def _compared(frame: Frame, judges: Sequence[_Judge]) -> Frame:
    """Return a frame with the letter its level proves, or refused; else as it is."""
    floor = _floor_of(frame, judges)
    sample = sample_of(frame) if floor is not None else None
    if floor is None or sample is None:
        return frame
    noise = max(floor.sample.noise, sample.noise if floor.frame.is_master else 0.0)
    below = floor.sample.low - sample.low
    if set(frame.calstat) & set("BD"):
        at_raw_level = -_FAR * noise <= below <= _WITHIN * noise
        if at_raw_level:
            return _refused(frame, sample, floor, _DARK_IS_THERE if "D" in frame.calstat else _RAW)
        is_below_the_darks = "D" in frame.calstat and below > 0
        return _with_its_bias(frame, sample, judges) if is_below_the_darks else frame
    if below <= _FAR * noise:
        return frame
    if abs(sample.low) >= floor.sample.level / 2:
        return _refused(frame, sample, floor, _TOO_LOW)
    letter = "B" if frame.frame_type in ("bias", "dark") else "D"
    why = f"its lowest 5 % end at {sample.low:g}, but at {floor.sample.low:g} in {floor.told}"
    return _with_letter(frame, letter, why)


_DARK_IS_THERE = "says that a dark was subtracted, but the pixels are those of a raw frame"
_RAW = "says that the bias was subtracted, but the pixels are those of a raw frame"
_BIAS_IS_THERE = "says that the bias was subtracted, but the pixels do not lie below its level"
_TOO_LOW = "says nothing, but the pixels lie below those of any raw frame"


def _with_its_bias(frame: Frame, sample: Sample, judges: Sequence[_Judge]) -> Frame:
    """Return a frame that lost its dark as one that has its bias, or refused, where it is there."""
    biases = _biases_among(judges)
    if not biases or frame.image.header.readable("PEDESTAL"):
        return frame
    bias = _middle(biases, biases[0].exptime)
    noise = max(bias.sample.noise, sample.noise if bias.frame.is_master else 0.0)
    if sample.low < bias.sample.low - _WITHIN * noise:
        return frame
    if "B" in frame.calstat:
        return _refused(frame, sample, bias, _BIAS_IS_THERE)
    told = (
        f"a dark has been subtracted, but not the bias: its lowest 5 % end at {sample.low:g}, "
        f"and at {bias.sample.low:g} in {bias.told}"
    )
    return replace(frame, keeps_bias=True, warnings=(*frame.warnings, told))


def _refused(frame: Frame, sample: Sample, floor: _Judge, finding: str) -> Frame:
    error = MismatchError(
        f"CALSTAT {frame.calstat!r} {finding}: the lowest 5 % end at {sample.low:g}, "
        f"and at {floor.sample.low:g} in {floor.told}",
        path=frame.path,
        keyword="CALSTAT",
        value=frame.calstat,
        hint="Mend CALSTAT in the header, or exclude the frame.",
    )
    return replace(frame, refusals=(*frame.refusals, error))


def _with_letter(frame: Frame, letter: str, why: str) -> Frame:
    lost = {"D": "a dark has been subtracted", "B": "the bias has been subtracted"}[letter]
    told = f"{lost}, though no card says so: {why}"
    letters = "".join(known for known in "BDFM" if known in frame.calstat + letter)
    return replace(frame, calstat=letters, warnings=(*frame.warnings, told))


def _bias_gone_with_the_darks(frame: Frame) -> Frame:
    """Return a frame of a camera whose darks have lost their bias, with B if it has lost it too."""
    if set(frame.calstat) & set("BD"):
        return frame
    sample = sample_of(frame)
    if sample is None or sample.low > _FAR * sample.noise:
        return frame
    return _with_letter(frame, "B", f"{sample}, and the darks' noise straddles zero")
