"""The catalogue of bad nights: each bad file is told by its name, with a remedy, before any harm.

What the camera program spelt oddly, and what only looks like a frame, hurts nobody.
"""

from __future__ import annotations

import bz2
import errno
import gzip
import io
import json
import lzma
import os
import re
import shutil
import signal
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from itertools import count
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from astropy.io import fits

from arrayred import batch, open_frames
from arrayred.cli import main
from arrayred.io import decoding
from tests.cli.conftest import Call, contents, whole
from tests.cli.forked import Interrupting, run
from tests.conftest import Run

STAR = Path("out/targets/Simulated_star")
TABLES = ("raw_extraction", "skysubtracted")
MASTER, COMBINED = "master_dark_600s.fits", "Simulated_star_combined.fits"
QUIET = ("--no-figures", "-q")
REDUCE = ("reduce", "night", "-o", "out", *QUIET)
EITHER = pytest.mark.parametrize("frame", ["light-002.fit", "dark-003.fit"])
Spoil = Callable[[Path], object]


def assert_each_is_named(said: str, findings: Mapping[str, str]) -> None:
    """Check that stderr names each file once, with what was found and a sentence of remedy."""
    named = []
    for line in said.splitlines():
        assert re.search(r"^arrayred: error: .*\. [A-Z]([^.]|\.(?=\S))*\.$", line), line
        of_line = [n for n in findings if re.search(rf"[ /]{re.escape(n)}(, |: )", line)]
        assert of_line, line
        assert all(re.search(findings[name], line) for name in of_line), line
        named += of_line
    assert sorted(named) == sorted(findings), said


def tables(out: str = "out") -> list[bytes]:
    folder = Path(out) / "targets" / "Simulated_star"
    return [(folder / f"Simulated_star_{name}.txt").read_bytes() for name in TABLES]


def combined_counts() -> dict[str, int]:
    """Return NCOMBINE of the master and of the combined image."""
    paths = [*Path("out").glob("masters/*.fits"), *Path("out").glob("targets/*/*_combined.fits")]
    return {path.name: fits.getval(path, "NCOMBINE") for path in paths}


# Frames that cannot be read as such


def write_card(card: str, instead_of: str = "") -> Spoil:
    """Return a function that overwrites a card, to the byte."""
    keyword = (instead_of or card[:8]).ljust(8)

    def spoil(path: Path) -> None:
        raw = path.read_bytes()
        start = raw.index(f"{keyword}=".encode())
        path.write_bytes(raw[:start] + card.ljust(80).encode() + raw[start + 80 :])

    return spoil


def cut_to(size: int) -> Spoil:
    return lambda path: os.truncate(path, size if size >= 0 else path.stat().st_size + size)


def reshaped(*shape: int) -> Spoil:
    def spoil(path: Path) -> None:
        pixels = np.zeros(shape, np.int16) if shape else None
        fits.writeto(path, pixels, fits.getheader(path), overwrite=True)

    return spoil


def sixty_thousand_squared(path: Path) -> None:
    for axis in (1, 2):
        write_card(f"NAXIS{axis}  =                60000")(path)


def without_end(path: Path) -> None:
    raw = path.read_bytes()
    path.write_bytes(raw[: raw.index(b"END".ljust(80))] + b"COMMENT ".ljust(80) * 36 * 1100)


BAD_FRAMES: dict[str, tuple[Spoil, str]] = {
    "1 cut at half": (cut_to(21600), "The file has 21600 bytes, but its header states 41280"),
    "2 cut by a block": (cut_to(-2880), "The file has 40320 bytes, but its header states 41280"),
    "4 cut in the header": (cut_to(1000), "the header is incomplete"),
    "5 empty": (cut_to(0), "is empty"),
    "13 60000 x 60000": (sixty_thousand_squared, "43200 bytes, but its header states 7200002880"),
    "15 NAXIS 0": (reshaped(), "NAXIS"),
    "15 NAXIS 1": (reshaped(120), r"axes \[120\]"),
    "15 NAXIS 3": (reshaped(2, 80, 120), r"axes \[120, 80, 2\]"),
    "15 NAXIS1 0": (write_card("NAXIS1  =                    0"), "NAXIS"),
    "15 NAXIS1 -5": (write_card("NAXIS1  =                   -5"), "NAXIS1 is -5"),
    "15 NAXIS1 2^31": (
        write_card(f"NAXIS1  = {2**31:20}"),
        f"43200 bytes, .* states {2880 + 2**31 * 160 * 2}",
    ),
    "15 NAXIS1 2^62": (write_card(f"NAXIS1  = {2**62:20}"), f"NAXIS1 is {2**62}"),
    "15 BITPIX 17": (write_card("BITPIX  =                   17"), "BITPIX is 17"),
    "16 no END": (without_end, "No END card"),
    "22 no IMAGETYP": (write_card("", "IMAGETYP"), "Frame type unknown.*IMAGETYP"),
    "25 no exposure": (write_card("", "EXPTIME"), "The header has no exposure time"),
    "25 EXPOSURE in ms": (write_card("EXPOSURE= 600000 / [ms]", "EXPTIME"), "EXPOSURE is 600000"),
    "25 EXPOSURE, no unit": (write_card("EXPOSURE= 600.0", "EXPTIME"), "EXPOSURE is 600.0"),
    "25 EXPTIME in ms": (write_card("EXPTIME = 600000 / [ms]"), "EXPTIME is 600000"),
    "26 EXPTIME '600,0'": (write_card("EXPTIME = '600,0'"), "EXPTIME is '600,0'"),
    "26 EXPTIME T": (write_card("EXPTIME =                    T"), "EXPTIME is True"),
    "26 EXPTIME NaN": (write_card("EXPTIME =                  NaN"), "EXPTIME = .*NaN"),
    "26 EXPTIME 1e308": (write_card("EXPTIME =              1.0E308"), r"EXPTIME is 1e\+308"),
    "26 EXPTIME abc": (write_card("EXPTIME = 'abc'"), "EXPTIME is 'abc'"),
    "26 EXPTIME nan, text": (write_card("EXPTIME = 'nan'"), "EXPTIME is 'nan'"),
    "27 EXPTIME 0": (write_card("EXPTIME =                  0.0"), "of 0 s is impossible"),
    "27 EXPTIME -600": (write_card("EXPTIME =               -600.0"), "EXPTIME is -600.0"),
}


HARMLESS_IN_DARKS = ("22 no IMAGETYP", "27 EXPTIME 0")


@pytest.mark.parametrize(
    ("case", "frame"),
    [
        *((case, "light-002.fit") for case in BAD_FRAMES),
        *((case, "dark-003.fit") for case in BAD_FRAMES if case not in HARMLESS_IN_DARKS),
    ],
)
def test_a_bad_frame_is_refused_by_name_and_nothing_is_written(
    night: Path, arrayred: Call, case: str, frame: str
) -> None:
    spoil, finding = BAD_FRAMES[case]
    spoil(night / frame)
    told = arrayred(*REDUCE)
    assert (told.code, told.out) == (4, ""), told.err
    assert_each_is_named(told.err, {frame: finding})
    assert not Path("out").exists()


def test_all_bad_frames_of_a_night_are_told_in_one_run(night: Path, arrayred: Call) -> None:
    findings = {}
    for number, (spoil, finding) in enumerate(BAD_FRAMES.values(), 101):
        path = night / f"light-{number}.fit"
        shutil.copy(night / "light-001.fit", path)
        spoil(path)
        findings[path.name] = finding
    told = arrayred(*REDUCE)
    assert (told.code, told.out) == (4, "")
    assert_each_is_named(told.err, findings)
    assert not Path("out").exists()


def test_a_frame_cut_within_its_padding_is_whole(
    night: Path, arrayred: Call, undisturbed: dict[str, bytes]
) -> None:
    cut_to(-1000)(night / "light-002.fit")
    assert arrayred(*REDUCE).code == 0
    assert tables() == tables("undisturbed")
    name = "targets/Simulated_star/Simulated_star_combined.fits"
    assert fits.FITSDiff(
        f"out/{name}", f"undisturbed/{name}", ignore_keywords=["ARSH*", "CHECKSUM"]
    ).identical


# What only looks like a frame


FOREIGN: dict[str, tuple[Spoil, str]] = {
    "6 text": (lambda path: path.write_text("clouds after midnight"), "not a FITS"),
    "6 long text": (lambda path: path.write_text("clouds after midnight\n" * 1000), "not a FITS"),
    "8 a link to itself": (lambda path: path.symlink_to(path), ""),
    "8 a dangling link": (lambda path: path.symlink_to("nowhere.fit"), "No such file"),
    "8 a link to a folder": (lambda path: path.symlink_to("."), "not a regular file"),
}


def test_what_is_no_frame_is_left_out_with_one_warning(
    night: Path, arrayred: Call, undisturbed: dict[str, bytes]
) -> None:
    for case, (make, _) in FOREIGN.items():
        make(night / f"{case}.fit")
    told = arrayred("reduce", night, "-o", "out", "--no-figures")
    assert told.code == 0
    assert len(told.err.splitlines()) == len(FOREIGN)
    for case, (_, reason) in FOREIGN.items():
        assert re.search(rf"^arrayred: note: .*{case}\.fit: .*{reason}.*not used", told.err, re.M)
    assert whole("out") == undisturbed


def test_a_text_file_in_place_of_a_frame_is_said_to_be_none(night: Path, arrayred: Call) -> None:
    (night / "light-002.fit").write_text("clouds after midnight")
    told = arrayred("reduce", night, "-o", "out", "--no-figures")
    assert told.code == 0
    (line,) = told.err.splitlines()
    assert re.search(r"^arrayred: note: .*light-002\.fit: .*not a FITS.*not used", line)
    assert combined_counts() == {MASTER: 5, COMBINED: 2}


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="the system has no named pipes")
def test_a_pipe_is_left_out_without_waiting_for_it(
    night: Path, fork: Run, undisturbed: dict[str, bytes]
) -> None:
    for name in ("dark-000.fit", "pipe.fits.gz"):
        os.mkfifo(night / name)
    done = fork("reduce", "night", "-o", "out", "--no-figures", timeout=60)
    assert done.returncode == 0
    for name, line in zip(("dark-000.fit", "pipe.fits.gz"), done.stderr.splitlines(), strict=True):
        assert re.search(rf"^arrayred: note: .*{name}: .*not a regular file.*not used", line)
    assert whole("out") == undisturbed


def test_a_folder_named_as_a_frame_is_a_folder(
    night: Path, arrayred: Call, undisturbed: dict[str, bytes]
) -> None:
    (night / "x.fit").mkdir()
    told = arrayred("reduce", night, "-o", "out", "--no-figures")
    assert (told.code, told.err) == (0, "")
    assert whole("out") == undisturbed
    (night / "light-002.fit").rename(night / "x.fit" / "light-002.fit")
    assert arrayred("reduce", night, "-o", "again", *QUIET).code == 0
    assert tables("again") == tables()


# Permissions


@pytest.fixture
def unprivileged(tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Return a function that runs the command line subject to permissions, even for root."""
    prefix: list[str] = []
    if os.geteuid() == 0:
        setpriv = shutil.which("setpriv") or pytest.skip("root without setpriv may do anything")
        prefix = [setpriv, "--bounding-set=-dac_override,-dac_read_search"]

    def call(*args: object) -> subprocess.CompletedProcess[str]:
        command = [*prefix, sys.executable, "-m", "arrayred", *map(str, args)]
        return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)

    return call


def test_frames_that_may_not_be_read_are_refused_by_name_and_a_folder_before_them(
    night: Path, unprivileged: Run
) -> None:
    before = contents(night)
    closed = [night / name for name in ("light-002.fit", "dark-003.fit")]
    for path in closed:
        path.chmod(0)
    done = unprivileged(*REDUCE)
    assert (done.returncode, done.stdout) == (4, "")
    assert_each_is_named(done.stderr, {path.name: "Permission denied" for path in closed})
    (night / "more").mkdir(0)
    done = unprivileged(*REDUCE)
    assert (done.returncode, done.stdout) == (4, "")
    assert_each_is_named(done.stderr, {"more": "Permission denied"})
    for path in closed:
        path.chmod(0o644)
    assert not (night.parent / "out").exists()
    assert contents(night) == before


UNWRITABLE = {
    "": "out: The output cannot be written",
    "targets/Simulated_star": "out/targets/.*: The product cannot be written .*Permission denied",
}


@pytest.mark.parametrize("closed", UNWRITABLE)
def test_an_output_that_may_not_be_written_is_named_and_holds_nothing_partial(
    night: Path, unprivileged: Run, undisturbed: dict[str, bytes], closed: str
) -> None:
    out, before = night.parent / "out", contents(night)
    (out / closed).mkdir(parents=True)
    (out / closed).chmod(0o555)
    done = unprivileged(*REDUCE)
    (out / closed).chmod(0o755)
    assert done.returncode == 5
    (line,) = done.stderr.splitlines()
    assert re.search(rf"^arrayred: error: .*{UNWRITABLE[closed]}.*\. [A-Z].*\.$", line)
    assert whole(out).items() <= undisturbed.items()
    assert contents(night) == before


# The forms of a file


def packed(path: Path) -> None:
    path.with_suffix(".fit.gz").write_bytes(gzip.compress(path.read_bytes()))
    path.unlink()


def packed_under_its_own_name(path: Path) -> None:
    path.write_bytes(gzip.compress(path.read_bytes()))


def in_the_first_extension(path: Path) -> None:
    image, header = fits.getdata(path, header=True)
    fits.HDUList([fits.PrimaryHDU(), fits.ImageHDU(image, header)]).writeto(path, overwrite=True)


def header_in_the_primary(path: Path) -> None:
    image, header = fits.getdata(path, header=True)
    primary = fits.PrimaryHDU(header=header)
    fits.HDUList([primary, fits.ImageHDU(image)]).writeto(path, overwrite=True)


def tiled(kind: str, dtype: str = "int32") -> Spoil:
    def rewrite(path: Path) -> None:
        image, header = fits.getdata(path, header=True)
        for keyword in ("CHECKSUM", "DATASUM"):  # of the pixels in their old type
            header.remove(keyword, ignore_missing=True)
        hdu = fits.CompImageHDU(image.astype(dtype), header, compression_type=kind)
        hdu.writeto(path.with_suffix(".fits.fz"))
        path.unlink()

    return rewrite


FORMS: dict[str, Spoil] = {
    **{
        f"10 {suffix}": lambda path, suffix=suffix: path.rename(path.with_suffix(suffix))
        for suffix in (".FIT", ".fts", ".fits", ".Fits")
    },
    "10 .fit.gz": packed,
    "10 gzip in .fit": packed_under_its_own_name,
    "10 .fits.fz": tiled("RICE_1", "uint16"),
    "17 extension": in_the_first_extension,
    "17 extension, header before it": header_in_the_primary,
    **{f"18 {kind}": tiled(kind) for kind in ("RICE_1", "GZIP_1", "GZIP_2", "PLIO_1")},
    "18 HCOMPRESS_1": tiled("HCOMPRESS_1"),
}


@pytest.mark.parametrize("forms", [slice(8), slice(-8, None)], ids=["first", "last"])
def test_the_form_of_a_file_changes_no_table(
    night: Path, arrayred: Call, undisturbed: dict[str, bytes], forms: slice
) -> None:
    frames = dict(zip(list(FORMS)[forms], sorted(night.iterdir()), strict=True))
    pixels = open_frames(night, chunks=None).counts.astype(float)  # at once: files change below
    for form, path in frames.items():
        FORMS[form](path)
    read = open_frames(night, chunks=None).counts.astype(float)
    equal = {
        form: np.array_equal(read.sel(frame=path.stem), pixels.sel(frame=path.stem))
        for form, path in frames.items()
    }
    assert equal == dict.fromkeys(frames, True)
    told = arrayred(*REDUCE)
    assert (told.code, told.err) == (0, "")
    assert tables() == tables("undisturbed")
    assert sorted(combined_counts().values()) == [3, 5]


# Compressed frames that are damaged or malicious


def cut_gzip(path: Path) -> None:
    path.with_suffix(".fit.gz").write_bytes(gzip.compress(path.read_bytes())[:-9000])
    path.unlink()


def broken_stream(path: Path) -> None:
    """Compress a frame by HCOMPRESS and overwrite the beginning of each tile."""
    tiled("HCOMPRESS_1")(path)
    packed_path = path.with_suffix(".fits.fz")
    raw = packed_path.read_bytes()
    assert raw.count(b"\xdd\x99") > 1
    packed_path.write_bytes(raw.replace(b"\xdd\x99", b"\0\0"))


DAMAGED: dict[str, tuple[Spoil, str, str]] = {
    "11 cut gzip": (cut_gzip, ".fit.gz", "damaged"),
    "19 broken HCOMPRESS": (broken_stream, ".fits.fz", "damaged|decoder .*failed"),
}


@pytest.mark.parametrize(
    ("case", "frame"),
    [
        ("11 cut gzip", "light-002.fit"),
        ("11 cut gzip", "dark-003.fit"),
        ("19 broken HCOMPRESS", "dark-003.fit"),
    ],
)
def test_a_damaged_compressed_frame_is_named_and_its_target_not_published(
    night: Path, arrayred: Call, undisturbed: dict[str, bytes], case: str, frame: str
) -> None:
    spoil, suffix, finding = DAMAGED[case]
    spoil(night / frame)
    told = arrayred(*REDUCE)
    assert (told.code, told.out) == (4, "")
    assert_each_is_named(told.err, {str(Path(frame).with_suffix(suffix)): finding})
    assert not Path("out/targets").exists()
    assert whole("out").items() <= undisturbed.items()


def test_a_decoder_that_crashes_takes_nobody_with_it(
    night: Path, arrayred: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    tiled("HCOMPRESS_1")(night / "light-002.fit")
    crash = Path("crash").absolute()
    crash.write_text("#!/bin/sh\nkill -SEGV $$\n")
    crash.chmod(0o755)
    decoding._end_children()
    monkeypatch.setattr(sys, "executable", str(crash))
    told = arrayred(*REDUCE)
    assert told.code == 4
    assert_each_is_named(told.err, {"light-002.fits.fz": "decoder .*failed"})


def wrapped(path: Path) -> None:
    """Rewrite a frame as a program does that takes its unsigned counts for signed ones."""
    image, header = fits.getdata(path, header=True)
    for keyword in ("DATASUM", "CHECKSUM"):
        header.remove(keyword, ignore_missing=True)
    fits.writeto(path, image.view(np.int16), header, overwrite=True)


def add_what_may_be_a_lamp(night: Path) -> None:
    shutil.copy(night / "light-002.fit", night / "neon-002.fit")
    write_card("OBJECT  = ''")(night / "neon-002.fit")


@pytest.mark.parametrize("probed", ["dark-002.fit", "neon-002.fit"])
def test_a_damaged_frame_whose_pixels_are_probed_hides_no_other_problem(
    night: Path, arrayred: Call, probed: str
) -> None:
    add_what_may_be_a_lamp(night)
    for path in night.iterdir():
        wrapped(path)
    cut_gzip(night / probed)
    write_card("", "IMAGETYP")(night / "light-002.fit")
    told = arrayred(*REDUCE)
    assert told.code == 4
    assert "light-002.fit: Frame type unknown" in told.err


def test_a_damaged_dark_that_nobody_needs_changes_no_table(night: Path, arrayred: Call) -> None:
    for path in night.glob("light*"):
        image, header = fits.getdata(path, header=True)
        image[84] += 40000
        del header["DATASUM"], header["CHECKSUM"]
        fits.writeto(path, image, header, overwrite=True)
    assert arrayred("reduce", night, "-o", "undisturbed", *QUIET).code == 0
    shutil.copy(night / "dark-001.fit", night / "short-000.fit")
    fits.setval(night / "short-000.fit", "EXPTIME", value=5.0)
    for path in night.iterdir():
        wrapped(path)
    cut_gzip(night / "short-000.fit")
    told = arrayred(*REDUCE)
    assert (told.code, "short-000.fit.gz: The compressed file is damaged" in told.err) == (3, True)
    assert tables() == tables("undisturbed")


LIMITED = """
import resource, sys
from pathlib import Path
from arrayred.cli import main
for limit, most in (("FSIZE", 10**8), ("AS", 4 * 10**9), ("CPU", 15)):
    resource.setrlimit(getattr(resource, f"RLIMIT_{limit}"), (most, most))
try:
    main()
finally:
    status = Path("/proc/self/status").read_text()
    print(status.partition("VmHWM:")[2].split()[0])
"""
"""Runs the command line, then prints its peak memory in kB.

The resident peak of `getrusage` would begin with that of the process that started this one.
"""


@cache
def zeros(n_members: int) -> bytes:
    """Return gzip members of 64 MiB of zeros each."""
    return gzip.compress(bytes(1 << 26), 1) * n_members


def much_behind_a_frame(path: Path) -> None:
    path.write_bytes(gzip.compress(path.read_bytes()) + zeros(8))


def huge_and_packed(path: Path) -> None:
    sixty_thousand_squared(path)
    write_card("BZERO   =                    0")(path)
    path.write_bytes(gzip.compress(path.read_bytes()[:2880]) + zeros(112))


def huge_and_sparse(path: Path) -> None:
    sixty_thousand_squared(path)
    write_card("BZERO   =                    0")(path)
    os.truncate(path, 2880 * (1 + 7_200_000_000 // 2880))


def huge_and_tiled(path: Path) -> None:
    """Compress a frame by tiles, and promise far more of them."""
    image, header = fits.getdata(path, header=True)
    tiles = fits.CompImageHDU(image.astype(np.int16), header, compression_type="RICE_1")
    tiles.writeto(path, overwrite=True)
    for axis in (1, 2):
        write_card(f"ZNAXIS{axis} =                60000")(path)


def behind_a_huge_table(path: Path) -> None:
    """Pack a frame as an extension behind a table of 22.5 GiB, which is 360 times 64 MiB."""
    image, header = fits.getdata(path, header=True)
    fits.ImageHDU(image, header).writeto(path, overwrite=True)
    primary, extension = path.read_bytes()[:2880], path.read_bytes()[2880:]
    table = fits.BinTableHDU(np.zeros(1, [("x", "f8")])).header
    table["NAXIS2"] = 360 * (1 << 26) // 8
    before = primary + table.tostring().encode()
    path.write_bytes(gzip.compress(before) + zeros(360) + gzip.compress(extension))


BOMBS: dict[str, tuple[Spoil, str]] = {
    "12 more than promised": (much_behind_a_frame, "larger than its header states"),
    "12 promised 7 GB": (huge_and_packed, "7200 MB.*max_frame_mb"),
    "12 behind a table": (behind_a_huge_table, ""),
    "13 tiles promise 7 GB": (huge_and_tiled, "tiles, but its table"),
    "14 sparse": (huge_and_sparse, "7200 MB.*max_frame_mb"),
}


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a process its peak memory")
@pytest.mark.parametrize(
    ("case", "name"),
    [
        *((case, "light-002.fit") for case in BOMBS),
        ("12 more than promised", "dark-003.fit"),
        *((case, "neon-002.fit") for case in ("12 promised 7 GB", "13 tiles promise 7 GB")),
    ],
)
def test_a_bomb_is_refused_with_little_memory_time_and_disk(
    night: Path, tmp_path: Path, case: str, name: str
) -> None:
    if name.startswith("neon"):
        add_what_may_be_a_lamp(night)
    spoil, finding = BOMBS[case]
    spoil(night / name)
    before = {path: (path.stat().st_size, path.stat().st_mtime_ns) for path in night.iterdir()}
    command = [sys.executable, "-c", LIMITED, *REDUCE]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    alone = name.startswith("neon")  # of no target: the star is published
    assert done.returncode == (3 if alone else 4), done.stderr
    assert_each_is_named(done.stderr, {name: finding})
    assert int(done.stdout) < 400_000
    assert (tmp_path / "out" / "targets").exists() == alone
    assert {path: (path.stat().st_size, path.stat().st_mtime_ns) for path in before} == before


@pytest.mark.parametrize(("megabytes", "code"), [(0.038, 4), (0.0384, 0), (1, 0)])
def test_a_recipe_sets_how_large_a_frame_may_be(
    night: Path, arrayred: Call, megabytes: float, code: int
) -> None:
    Path("mine.toml").write_text(f"max_frame_mb = {megabytes}\n")
    told = arrayred(*REDUCE, "--recipe", "mine.toml")
    assert told.code == code
    too_large = [path.name for path in night.iterdir()] if code else []
    assert_each_is_named(told.err, dict.fromkeys(too_large, "max_frame_mb"))
    assert Path("out").exists() == (code == 0)


# Files that change under way


def touched(path: Path) -> None:
    os.utime(path)


def grown(path: Path) -> None:
    with path.open("ab") as file:
        file.write(bytes(2880))


def replaced(path: Path) -> None:
    shutil.copy2(path, path.with_suffix(".new"))
    path.with_suffix(".new").replace(path)


CHANGES: dict[str, tuple[Spoil, str]] = {
    "touched": (touched, "has changed"),
    "grown": (grown, "has changed"),
    "cut": (cut_to(-10000), "has changed"),
    "replaced by its twin": (replaced, "has changed"),
    "removed": (Path.unlink, "No such file"),
}


@pytest.mark.parametrize(
    ("form", "frame"),
    [("plain", "light-002.fit"), ("plain", "dark-003.fit"), ("packed", "light-002.fit")],
)
@pytest.mark.parametrize("change", CHANGES)
def test_a_frame_that_changes_after_its_header_was_read_is_refused(
    night: Path, arrayred: Call, monkeypatch: pytest.MonkeyPatch, change: str, form: str, frame: str
) -> None:
    path, (meddle, finding) = night / frame, CHANGES[change]
    if form == "packed":
        packed_under_its_own_name(path)
    content, time, reduce_to = path.read_bytes(), path.stat().st_mtime_ns, batch.reduce_to

    def meddled(*args: Any, **options: Any) -> Iterator[batch.Outcome]:
        meddle(path)
        yield from reduce_to(*args, **options)
        path.write_bytes(content)
        os.utime(path, ns=(time, time))

    monkeypatch.setattr(batch, "reduce_to", meddled)
    told = arrayred(*REDUCE)
    assert (told.code, told.out) == (4, "")
    assert_each_is_named(told.err, {frame: finding})
    assert not Path("out/targets").exists()


# Types and exposures, as they are spelt


def test_darks_are_darks_however_they_are_spelt(
    night: Path, arrayred: Call, undisturbed: dict[str, bytes]
) -> None:
    spellings = ["DARK", "dark frame", "Dark", "dark   ", "DARK_FRAME"]
    for path, spelling in zip(sorted(night.glob("dark*")), spellings, strict=True):
        write_card(f"IMAGETYP= '{spelling}'")(path)
    told = arrayred("reduce", night, "-o", "out", "--no-figures")
    assert (told.code, told.err) == (0, "")
    assert combined_counts() == {MASTER: 5, COMBINED: 3}
    assert tables() == tables("undisturbed")


def test_a_frame_without_a_type_is_known_by_its_name_and_said_so(
    night: Path, arrayred: Call, undisturbed: dict[str, bytes]
) -> None:
    write_card("", "IMAGETYP")(night / "dark-003.fit")
    told = arrayred("reduce", night, "-o", "out", "--no-figures")
    assert told.code == 0
    (line,) = told.err.splitlines()
    assert re.search(r"^arrayred: note: dark-003: used as dark: its name contains 'dark'", line)
    assert tables() == tables("undisturbed")


def test_a_flat_field_is_a_flat_and_said_to_be_left_out(night: Path, arrayred: Call) -> None:
    write_card("IMAGETYP= 'Flat Field'")(night / "light-002.fit")
    told = arrayred("reduce", night, "-o", "out", "--no-figures")
    assert (told.code, told.err) == (0, "")
    assert re.search(r"not used +light-002: of type flat", told.out)
    assert combined_counts() == {MASTER: 5, COMBINED: 2}


@EITHER
def test_a_type_nobody_knows_is_a_warning_with_its_name(
    night: Path, arrayred: Call, frame: str
) -> None:
    write_card("IMAGETYP= 'Quux'")(night / frame)
    told = arrayred("reduce", night, "-o", "out", "--no-figures")
    assert told.code == 0
    (line,) = told.err.splitlines()
    assert re.search(rf"^arrayred: note: {Path(frame).stem}: .*'Quux'", line)
    assert re.search(rf"not used +{Path(frame).stem}: .*'Quux'", told.out)
    assert sum(combined_counts().values()) == 7


EXPOSURES = [
    "EXPOSURE= 600.0 / [s] exposure",
    "EXPOSURE= 600 / exposure in seconds",
    "EXPOSURE= '600' / sec",
    "EXP_TIME= 600.0",
]


@pytest.mark.parametrize("cards", [EXPOSURES, EXPOSURES[::-1]], ids=["forth", "back"])
def test_another_card_may_give_the_exposure_in_seconds(
    night: Path, arrayred: Call, undisturbed: dict[str, bytes], cards: list[str]
) -> None:
    frames = [
        night / name for name in ("light-001.fit", "light-003.fit", "dark-002.fit", "dark-004.fit")
    ]
    for path, card in zip(frames, cards, strict=True):
        write_card(card, "EXPTIME")(path)
    told = json.loads(arrayred("inspect", night, "--format", "json").out)["frames"]
    assert {row["file"]: row["exptime"] for row in told} == {
        path.name: 600.0 for path in night.iterdir()
    }
    assert arrayred(*REDUCE).code == 0
    assert combined_counts() == {MASTER: 5, COMBINED: 3}
    assert tables() == tables("undisturbed")


@EITHER
def test_an_exposure_written_as_text_counts_with_a_warning(
    night: Path, arrayred: Call, undisturbed: dict[str, bytes], frame: str
) -> None:
    write_card("EXPTIME = '600.0'")(night / frame)
    told = arrayred("reduce", night, "-o", "out", "--no-figures")
    assert told.code == 0
    (line,) = told.err.splitlines()
    assert re.search(rf"^arrayred: note: {Path(frame).stem}: EXPTIME .*'600.0'", line)
    assert tables() == tables("undisturbed")


@pytest.mark.parametrize(
    ("keyword", "exposure", "comment", "is_odd"),
    [
        ("EXPOSURE", 300.0, "[s]", True),
        ("EXPOSURE", 600.0, "[s]", False),
        ("EXPOSURE", 600000, "[ms]", False),
        ("EXPOSURE", 300.0, "", False),
        ("ITIME", 300.0, "", True),
        ("EXP_TIME", 600.0, "", False),
    ],
)
def test_a_second_exposure_in_seconds_that_differs_is_a_warning(
    night: Path, arrayred: Call, keyword: str, exposure: float, comment: str, is_odd: bool
) -> None:
    fits.setval(night / "light-002.fit", keyword, value=exposure, comment=comment)
    told = arrayred("reduce", night, "-o", "out", "--no-figures")
    assert told.code == 0
    warning = f"arrayred: check: Simulated_star: light-002: EXPTIME is 600, but {keyword} is 300\n"
    assert told.err == (warning if is_odd else "")


@pytest.mark.parametrize(
    ("frame", "exptime"),
    [
        ("dark-001.fit", 600.3),
        ("dark-003.fit", 599.7),
        ("light-001.fit", 599.7),
        ("light-003.fit", 600.001),
    ],
)
def test_exposures_that_hardly_differ_are_one_group(
    night: Path, arrayred: Call, undisturbed: dict[str, bytes], frame: str, exptime: float
) -> None:
    fits.setval(night / frame, "EXPTIME", value=exptime)
    assert arrayred(*REDUCE).code == 0
    assert sorted(combined_counts().values()) == [3, 5]
    assert tables() == tables("undisturbed")


@pytest.mark.parametrize(
    ("exptime", "tolerance", "code"),
    [
        (600.5, 0.5, 0),
        (599.5, 0.5, 0),
        (600.51, 0.5, 4),
        (600.51, 0.6, 0),
        (600.4, 0.3, 4),
        (300, 0.5, 4),
        (300, 299, 4),
        (300, 300, 0),
    ],
)
def test_a_dark_serves_lights_within_the_tolerance_of_the_recipe(
    night: Path, arrayred: Call, exptime: float, tolerance: float, code: int
) -> None:
    for path in night.glob("light*"):
        fits.setval(path, "EXPTIME", value=float(exptime))
    Path("mine.toml").write_text(f"dark_tolerance = {tolerance}\n")
    told = arrayred(*REDUCE, "--recipe", "mine.toml")
    assert told.code == code
    offered = "dark_tolerance = " if exptime > 500 else "--scale-dark"
    finding = f"No dark within {tolerance:g} s .*{exptime:g} s.*5 x 600 s.*{offered}"
    assert_each_is_named(told.err, {"light-001.fit": finding} if code else {})
    assert Path("out").exists() == (code == 0)


# Shapes, rows and sky


def resized(path: Path, shape: tuple[int, int]) -> None:
    image, header = fits.getdata(path, header=True)
    fits.writeto(path, np.resize(image, shape), header, overwrite=True)


@pytest.mark.parametrize(
    ("shape", "frame"), [((100, 120), "dark-001.fit"), ((160, 140), "dark-005.fit")]
)
def test_a_dark_of_another_shape_is_left_out_and_said(
    night: Path, arrayred: Call, shape: tuple[int, int], frame: str
) -> None:
    resized(night / frame, shape)
    told = arrayred("reduce", night, "-o", "out", "--no-figures")
    assert told.code == 0
    assert re.search(rf"not used +{Path(frame).stem}: a dark that no light frame needs", told.out)
    (master,) = Path("out/masters").iterdir()
    assert (fits.getval(master, "NCOMBINE"), fits.getdata(master).shape) == (4, (160, 120))


NO_SKY = [
    ('sky_side = "above"', "140:150", "200:210"),
    ('sky_side = "below"', "5:15", "-55:-45"),
    ("sky_offset = 200", "80:90", "290:300 or -130:-120"),
    ('sky_side = "auto"', "40:120", "170:250 or -90:-10"),
]
SKY_TABLE, RAW_TABLE = (
    f"Simulated_star_{name}.txt" for name in ("skysubtracted", "raw_extraction")
)


@pytest.mark.parametrize(("setting", "rows", "band"), NO_SKY)
def test_a_procedures_band_off_the_image_costs_its_table_alone_and_is_said(
    night: Path, arrayred: Call, undisturbed: dict[str, bytes], setting: str, rows: str, band: str
) -> None:
    Path("mine.toml").write_text(f"{setting}\n")
    options = ("--no-figures", "--recipe", "mine.toml", "--rows", rows)
    told = arrayred("reduce", night, "-o", "out", *options)
    note = f"Note +no sky-subtracted text table: .*{band} .*rows {rows} .*1:160"
    assert (told.code, told.err, len(re.findall(note, told.out))) == (0, "", 1)
    assert SKY_TABLE not in {path.name for path in STAR.iterdir()}
    assert {RAW_TABLE, "Simulated_star_spectrum.fits"} <= {path.name for path in STAR.iterdir()}
    header = fits.getheader(STAR / "Simulated_star_spectrum.fits")
    assert re.search(f"no sky-subtracted.*{band}", "".join(header["COMMENT"]))
    names = fits.getdata(STAR / "Simulated_star_spectrum.fits").names
    assert "sky" in names
    assert "counts_mean_sky_subtracted" not in names


def test_without_the_procedures_band_an_older_table_goes(night: Path, arrayred: Call) -> None:
    assert arrayred(*REDUCE, "--rows", "80:90").code == 0
    assert (STAR / SKY_TABLE).exists()
    Path("mine.toml").write_text("sky_offset = 200\n")
    again = arrayred(*REDUCE, "--recipe", "mine.toml", "--rows", "80:90", "--overwrite")
    assert again.code == 0
    assert not (STAR / SKY_TABLE).exists()


@pytest.mark.parametrize(
    ("settings", "rows", "finding"),
    [
        ("", "2:159", "No room for sky rows .*1:160.*--no-sky"),
        ('sky_model = "band"\nsky_side = "above"', "140:150", "200:210 .*1:160"),
    ],
)
def test_without_any_sky_a_target_fails_and_leaves_its_combined_image(
    night: Path,
    arrayred: Call,
    undisturbed: dict[str, bytes],
    settings: str,
    rows: str,
    finding: str,
) -> None:
    Path("mine.toml").write_text(settings)
    told = arrayred(*REDUCE, "--recipe", "mine.toml", "--rows", rows)
    assert (told.code, told.out) == (4, "")
    assert_each_is_named(told.err, {"Simulated_star": finding})
    assert [path.name for path in STAR.iterdir()] == [COMBINED]
    assert whole("out").items() <= undisturbed.items()


def test_the_reference_cuts_its_band_at_the_edge_as_ever(night: Path, arrayred: Call) -> None:
    told = arrayred(
        "reduce", night, "-o", "out", "--no-figures", "--reference", "--rows", "100:110"
    )
    assert re.search("Check +the sky rows are cut off: 1 of 11 rows", told.out)
    assert (STAR / SKY_TABLE).exists()


@pytest.mark.parametrize(("rows", "sky"), [("118:128", (58, 68)), ("3:8", (58, 63))])
def test_a_sky_band_off_the_image_on_one_side_is_taken_on_the_other(
    night: Path, arrayred: Call, rows: str, sky: tuple[int, int]
) -> None:
    assert arrayred(*REDUCE, "--rows", rows).code == 0
    header = fits.getheader(STAR / "Simulated_star_spectrum.fits")
    assert (header["SKYFIRST"], header["SKYLAST"]) == sky


# Storage


@pytest.mark.parametrize(("free", "code"), [(4 * 160 * 120 * 4, 5), (5 * 160 * 120 * 4, 0)])
def test_a_disk_too_small_for_all_images_is_told_before_anything_is_written(
    night: Path, arrayred: Call, monkeypatch: pytest.MonkeyPatch, free: int, code: int
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=free))
    told = arrayred(*REDUCE)
    assert (told.code, told.out) == (code, "")
    finding = f"{free} bytes free, but the products need"
    assert_each_is_named(told.err, {str(Path.cwd()): finding} if code else {})
    assert Path("out").exists() == (code == 0)


@EITHER
def test_no_room_to_unpack_a_frame_is_told_with_its_name(
    night: Path, arrayred: Call, monkeypatch: pytest.MonkeyPatch, frame: str
) -> None:
    def full(*_args: object, **_options: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    packed_under_its_own_name(night / frame)
    monkeypatch.setattr(decoding, "inflate", full)
    told = arrayred(*REDUCE)
    assert (told.code, told.out) == (5, "")
    assert_each_is_named(told.err, {frame: "No space left"})


def test_an_output_that_leads_into_the_night_by_a_link_is_refused(
    night: Path, arrayred: Call
) -> None:
    Path("out").symlink_to("night", target_is_directory=True)
    for out in ("out", "out/sub", "out/../out/sub"):
        told = arrayred("reduce", night, "-o", out, *QUIET)
        assert told.code == 2
        assert_each_is_named(told.err, {out: "The output lies inside the night"})


# Bugs and interruptions


def boom(*_args: object, **_options: object) -> None:
    raise RuntimeError("boom")


@pytest.mark.parametrize(
    "where",
    [
        "batch.check_night",
        "pipeline.make_master",
        "pipeline.extract_spectrum",
        "batch.run.publish",
    ],
)
def test_a_bug_shows_where_and_asks_for_a_report(
    night: Path,
    arrayred: Call,
    undisturbed: dict[str, bytes],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    where: str,
) -> None:
    with monkeypatch.context() as broken:
        broken.setattr(f"arrayred.{where}", boom)
        broken.setattr(sys, "argv", ["arrayred", *REDUCE])
        with pytest.raises(SystemExit) as exited:
            main()
    said = capsys.readouterr().err
    assert exited.value.code == 1
    told = r"^Traceback .*^RuntimeError: boom\narrayred: internal error .*please report"
    assert re.search(told, said, re.M | re.S)
    assert whole("out").items() <= undisturbed.items()
    assert arrayred(*REDUCE).code == 0
    assert whole("out") == undisturbed


INTERRUPTIONS = [(signal.SIGINT, 130), (signal.SIGTERM, 143)]


@pytest.mark.parametrize("step", ["fsync", "preadv"])
def test_a_run_interrupted_anywhere_leaves_whole_files_and_the_next_completes_it(
    night: Path, arrayred: Call, undisturbed: dict[str, bytes], step: str
) -> None:
    for moment in count(1, 3):  # the hunt of tests/test_hunt.py strikes anywhere
        number, code = INTERRUPTIONS[moment % 2]
        struck = {f"os.{step}": Interrupting(step, moment, number)}
        out = f"out-{moment}"
        first = run("reduce", night, "-o", out, *QUIET, cwd=night.parent, patches=struck)
        if first.returncode == 0:
            break
        assert (first.returncode, "Traceback" in first.stderr) == (code, False), first.stderr
        assert not list(night.parent.rglob("*.tmp"))
        assert whole(out).items() <= undisturbed.items()
        assert arrayred("reduce", night, "-o", out, *QUIET).code == 0
        assert whole(out) == undisturbed
    assert moment > 6


WAITING = """
import os, sys
from arrayred.cli import main
def wait_in_the_middle(*paths):
    print("here", flush=True)
    sys.stdin.read()
os.replace = wait_in_the_middle
main()
"""


@pytest.mark.parametrize(("number", "code"), INTERRUPTIONS)
def test_a_process_that_is_told_to_stop_leaves_neither_temporaries_nor_a_spool(
    night: Path,
    tmp_path: Path,
    arrayred: Call,
    undisturbed: dict[str, bytes],
    number: signal.Signals,
    code: int,
) -> None:
    packed_under_its_own_name(night / "dark-003.fit")
    (tmp_path / "spool").mkdir()
    pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
    env = os.environ | {"TMPDIR": str(tmp_path / "spool")}
    command = [sys.executable, "-c", WAITING, *REDUCE]
    with subprocess.Popen(command, cwd=tmp_path, env=env, text=True, **pipes) as process:
        assert process.stdout.readline() == "here\n"
        assert list(tmp_path.rglob("*.tmp"))
        assert list((tmp_path / "spool").rglob("*.pixels"))
        process.send_signal(number)
        said = process.communicate()[1]
    assert (process.returncode, "Traceback" in said) == (code, False)
    assert not [*tmp_path.rglob("*.tmp"), *(tmp_path / "spool").iterdir()]
    assert whole("out") == {}
    assert arrayred(*REDUCE).code == 0
    assert tables() == tables("undisturbed")


# Frames that are compressed


def _as_zip(raw: bytes) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("light.fit", raw)
    return packed.getvalue()


PACKED: dict[str, Callable[[bytes], bytes]] = {
    ".bz2": bz2.compress,
    ".xz": lzma.compress,
    ".ZIP": _as_zip,
    ".GZ": gzip.compress,
}


def packed_as(path: Path, suffix: str, pack: Callable[[bytes], bytes]) -> None:
    path.with_name(f"{path.name}{suffix}").write_bytes(pack(path.read_bytes()))
    path.unlink()


def test_a_packed_frame_is_read_whatever_packed_it(
    night: Path, arrayred: Call, undisturbed: dict[str, bytes]
) -> None:
    packed_as(night / "dark-003.fit", ".GZ", PACKED[".GZ"])
    for path, suffix in zip(sorted(night.glob("light-*")), (".bz2", ".xz", ".ZIP"), strict=True):
        packed_as(path, suffix, PACKED[suffix])
    told = arrayred("reduce", "night", "-o", "out", "--no-figures")
    assert (told.code, told.err) == (0, "")
    assert combined_counts() == {MASTER: 5, COMBINED: 3}
    assert tables() == tables("undisturbed")
    told = arrayred("combine", *sorted(night.glob("light-*")), "-o", "m.fits", "-q")
    assert (told.code, fits.getval("m.fits", "NCOMBINE")) == (0, 3)


@pytest.mark.parametrize("suffix", [".bz2", ".xz", ".ZIP"])
def test_a_packed_frame_that_is_damaged_is_named(night: Path, arrayred: Call, suffix: str) -> None:
    packed_as(night / "light-002.fit", suffix, lambda raw: PACKED[suffix](raw)[:-9000])
    assert_each_is_named(
        arrayred(*REDUCE).err, {f"light-002.fit{suffix}": "The compressed file is damaged"}
    )


@pytest.mark.parametrize(
    ("suffix", "magic", "name"),
    [
        (".Z", b"\x1f\x9d\x90", r"compress \(\.Z\)"),
        (".zst", b"\x28\xb5\x2f\xfd", r"zstd \(\.zst\)"),
        (".7z", b"7z\xbc\xaf\x27\x1c", r"7-Zip \(\.7z\)"),
        (".lz4", b"\x04\x22\x4d\x18", r"lz4 \(\.lz4\)"),
        (".rar", b"Rar!\x1a\x07", r"RAR \(\.rar\)"),
    ],
)
def test_a_frame_packed_in_a_way_that_cannot_be_read_is_told(
    night: Path, arrayred: Call, suffix: str, magic: bytes, name: str
) -> None:
    packed_as(night / "light-002.fit", suffix, lambda raw: magic + raw[6:])
    told = arrayred("reduce", "night", "-o", "out", "--no-figures")
    line = rf"arrayred: note: \S*light-002\.fit{suffix}: It is compressed by {name}, .*"
    assert re.fullmatch(rf"{line}which is not supported; not used\n", told.err), told.err
    told = arrayred("combine", night / f"light-002.fit{suffix}", "-o", "m.fits")
    assert told.code > 1
    assert "which is not supported" in told.err
