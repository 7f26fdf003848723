"""Files that lie: headers and pixels changed at random, read beside astropy.

A file is refused by an `ArrayredError`, or read as astropy reads it: another value is a fault, and
so are any other exception, a death, more than ten seconds of processor time, and more memory than
is allowed.
"""

from __future__ import annotations

import json
import random
import re
import resource
import select
import signal
import subprocess
import sys
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from astropy.io import fits

from arrayred.errors import ArrayredError
from tests.hunt.findings import Hunt

SHAPE = (24, 40)
_SECONDS = 10
"""Of processor time for a file: on a busy machine a clock tells nothing."""
_SECONDS_OF_ASTROPY = 3.0
"""The same for astropy alone, which counts up to the NAXIS of a header without pixels."""
_MOST_SECONDS = 300.0
"""By the clock, for what waits instead of computing."""
_MEGABYTES = 1500
"""Of address space, libraries included: about 1 GB without a file."""
_NUMBERS = (
    *("0", "1", "-1", "2", "7", "999", "1000", "65536", "2147483647", "4294967296"),
    *(str(2**62), str(2**63 - 1), str(2**64), "1E400", "NaN", "1.5", "T", "F", "''", ""),
)
_KEYWORDS = (
    *("BITPIX", "NAXIS", "NAXIS1", "NAXIS2", "BZERO", "BSCALE", "BLANK", "PCOUNT", "GCOUNT"),
    *("TFIELDS", "TFORM1", "ZNAXIS1", "ZNAXIS2", "ZTILE1", "ZTILE2", "ZBITPIX", "ZCMPTYPE"),
    *("ZVAL1", "ZVAL2", "EXPTIME", "IMAGETYP", "DATE-OBS", "END", "SIMPLE", "XTENSION"),
)


def originals() -> list[bytes]:
    """Return whole files of every kind that is read, none with checksums."""
    import io

    rng = np.random.default_rng(7)
    counts = rng.normal(300, 20, SHAPE).astype(np.int16)
    cards = {"IMAGETYP": "Light", "EXPTIME": 600.0, "OBJECT": "Vega", "DATE-OBS": "2024-03-01"}
    header = fits.Header(cards)
    hdus: list[list[Any]] = [
        [fits.PrimaryHDU(counts, header)],
        [fits.PrimaryHDU(counts.astype(np.uint16), header)],
        [fits.PrimaryHDU(counts.astype(np.float32), header)],
        [fits.PrimaryHDU(counts.astype(np.int32), header)],
        [fits.PrimaryHDU(header=header), fits.ImageHDU(counts)],
        *(
            [fits.PrimaryHDU(), fits.CompImageHDU(counts, header, compression_type=kind)]
            for kind in ("RICE_1", "GZIP_1", "GZIP_2")
        ),
    ]
    made = []
    for one in hdus:
        file = io.BytesIO()
        fits.HDUList(one).writeto(file)
        made.append(file.getvalue())
    return made


def changed(raw: bytes, rng: random.Random) -> tuple[bytes, str]:
    """Return a file with one to three changes, and what they were."""
    done = []
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        change = rng.choice(_CHANGES if raw else [_longer])
        raw = change(raw, rng)
        done.append(change.__name__.strip("_"))
    return raw, " and ".join(done)


def _flipped_bit(raw: bytes, rng: random.Random) -> bytes:
    at = rng.randrange(len(raw))
    return raw[:at] + bytes([raw[at] ^ (1 << rng.randrange(8))]) + raw[at + 1 :]


def _flipped_bit_of_header(raw: bytes, rng: random.Random) -> bytes:
    at = rng.randrange(min(len(raw), 2880))
    return raw[:at] + bytes([raw[at] ^ (1 << rng.randrange(8))]) + raw[at + 1 :]


def _other_value(raw: bytes, rng: random.Random) -> bytes:
    """Give a card another value."""
    there = [match.start() for match in re.finditer(rb"(?=[A-Z0-9-]{1,8} *= )", raw[: 2880 * 4])]
    there = [at for at in there if at % 80 == 0]
    if not there:
        return raw
    at = rng.choice(there)
    return raw[: at + 10] + rng.choice(_NUMBERS).rjust(20).encode() + raw[at + 30 :]


def _further_card(raw: bytes, rng: random.Random) -> bytes:
    """Put a card in the place of END, with END behind it."""
    ends = [
        at for at in range(0, min(len(raw), 2880 * 4), 80) if raw[at : at + 80].strip() == b"END"
    ]
    if not ends:
        return raw
    at = rng.choice(ends)
    card = f"{rng.choice(_KEYWORDS):8}= {rng.choice(_NUMBERS):>20}".encode().ljust(80)
    if (at + 80) % 2880 == 0:
        return raw
    return raw[:at] + card + b"END".ljust(80) + raw[at + 160 :]


def _cut(raw: bytes, rng: random.Random) -> bytes:
    return raw[: rng.randrange(len(raw))]


def _longer(raw: bytes, rng: random.Random) -> bytes:
    return raw + rng.randbytes(rng.choice((1, 80, 2880, 5000)))


def _noise(raw: bytes, rng: random.Random) -> bytes:
    """Overwrite a stretch with random bytes."""
    at, size = rng.randrange(len(raw)), rng.choice((2, 8, 80, 400))
    return (raw[:at] + rng.randbytes(size) + raw[at + size :])[: len(raw)]


def _zeros(raw: bytes, rng: random.Random) -> bytes:
    at, size = rng.randrange(len(raw)), rng.choice((80, 512, 2880))
    return (raw[:at] + bytes(size) + raw[at + size :])[: len(raw)]


def _swapped_blocks(raw: bytes, rng: random.Random) -> bytes:
    blocks = [raw[at : at + 2880] for at in range(0, len(raw), 2880)]
    one, other = rng.randrange(len(blocks)), rng.randrange(len(blocks))
    blocks[one], blocks[other] = blocks[other], blocks[one]
    return b"".join(blocks)


_CHANGES: Sequence[Callable[[bytes, random.Random], bytes]] = (
    _flipped_bit,
    _flipped_bit_of_header,
    _other_value,
    _other_value,
    _further_card,
    _further_card,
    _cut,
    _longer,
    _noise,
    _zeros,
    _swapped_blocks,
)


def hunt_lies(hunt: Hunt) -> None:
    """Change files at random, and read them in a process that may die."""
    rng = random.Random(hunt.seed)
    whole = originals()
    reader = _Reader()
    path = hunt.folder / "camera" / "night" / "x.fits"  # for darks, folders beside it are looked at
    path.parent.mkdir(parents=True)
    for number in hunt.trials():
        raw, what = changed(rng.choice(whole), rng)
        path.write_bytes(raw)
        answer = reader.ask(path)
        faults = [] if answer["fault"] is None else [answer["fault"]]
        hunt.report("files", answer["outcome"], faults, {"number": number, "changes": what}, path)
    reader.close()


class _Reader:
    """A process that reads files, replaced when it dies or takes too long."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[str] | None = None

    def ask(self, path: Path) -> dict[str, Any]:
        """Return how the reading of a file ended, and what was wrong."""
        if self._process is None:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.hunt.fuzz"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                text=True,
                cwd=Path(__file__).parents[2],
            )
            self._line(120.0)
        assert self._process.stdin is not None
        self._process.stdin.write(f"{path}\n")
        self._process.stdin.flush()
        line = self._line(_MOST_SECONDS)
        if line:
            answer: dict[str, Any] = json.loads(line)
            return answer
        self._process.kill()
        code = self._process.wait()
        self._process = None
        is_slow = -code in (signal.SIGKILL, signal.SIGXCPU)
        ended = "takes too long" if is_slow else f"kills its reader ({code})"
        return {"outcome": ended, "fault": ended}

    def _line(self, seconds: float) -> str:
        assert self._process is not None
        assert self._process.stdout is not None
        ready, _, _ = select.select([self._process.stdout], [], [], seconds)
        return self._process.stdout.readline() if ready else ""

    def close(self) -> None:
        """End the process."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()


def read_beside_astropy(path: Path) -> dict[str, Any]:
    """Return how the reading of a file ended, and what was wrong, or None."""
    import arrayred as ar

    try:
        cube = ar.open_frames([path])
        ours = np.asarray(cube["counts"].values[0], np.float64)
    except ArrayredError as error:
        named = path.name in str(error)
        return {"outcome": "refused", "fault": None if named else f"unnamed: {error}"}
    except Exception as error:
        return {"outcome": "crash", "fault": f"{type(error).__name__}: {error}"}
    signal.signal(signal.SIGVTALRM, _give_up)
    signal.setitimer(signal.ITIMER_VIRTUAL, _SECONDS_OF_ASTROPY)
    try:
        with fits.open(path) as hdus:
            theirs = next(np.asarray(hdu.data, np.float64) for hdu in hdus if _is_image(hdu))
    except Exception:
        return {"outcome": "read by us alone", "fault": None}
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
    if ours.shape == theirs.shape and (_is_same(ours, theirs) or _is_wrapped(ours, theirs)):
        return {"outcome": "read as by astropy", "fault": None}
    return {"outcome": "other pixels", "fault": "other pixels than astropy's"}


def _give_up(*_: object) -> None:
    raise TimeoutError


def _is_image(hdu: Any) -> bool:
    return bool(hdu.is_image) and hdu.data is not None and hdu.data.size > 0


def _is_same(ours: Any, theirs: Any) -> bool:
    """Return whether pixels are the same; astropy scales real ones in single precision."""
    with np.errstate(over="ignore"):
        ours, theirs = ours.astype(np.float32), theirs.astype(np.float32)
    finite = np.abs(theirs[np.isfinite(theirs)], dtype=np.float64)
    atol = 1e-6 * float(finite.max(initial=0.0))
    return bool(np.allclose(ours, theirs, rtol=1e-6, atol=atol, equal_nan=True))


def _is_wrapped(ours: Any, theirs: Any) -> bool:
    """Return whether negative counts were taken for large ones, as the pixel checks do."""
    return bool(np.array_equal(ours, np.where(theirs < 0, theirs + 65536, theirs), equal_nan=True))


def main() -> None:
    """Read the files that are named on stdin, one a line, and answer each with a line."""
    warnings.simplefilter("ignore")
    import arrayred as ar

    del ar
    resource.setrlimit(resource.RLIMIT_AS, (_MEGABYTES << 20, _MEGABYTES << 20))
    print("ready", flush=True)
    for line in sys.stdin:
        used = resource.getrusage(resource.RUSAGE_SELF)
        most = int(used.ru_utime + used.ru_stime) + 1 + _SECONDS
        resource.setrlimit(resource.RLIMIT_CPU, (most, resource.RLIM_INFINITY))
        print(json.dumps(read_beside_astropy(Path(line.rstrip("\n")))), flush=True)


if __name__ == "__main__":
    main()
