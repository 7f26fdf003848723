"""`scan`: where the image lies, from headers alone; what is no frame is an error with its name."""

from __future__ import annotations

import gzip
import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy.io import fits
from numpy.typing import NDArray

from arrayred.errors import ArrayredError, ForeignFileError, FrameError, HeaderError
from arrayred.io import PixelFormat, scan_all
from arrayred.io.scan import scan

COUNTERS = Path("/proc/self/io")
PIXELS = np.arange(40 * 50, dtype=np.int16).reshape(40, 50)


def bytes_read() -> int:
    return int(COUNTERS.read_text().split()[1])


def image(**cards: Any) -> fits.PrimaryHDU:
    return fits.PrimaryHDU(PIXELS, fits.Header({"OBJECT": "HR 8047"} | cards))


def raw_image(**cards: Any) -> bytes:
    """Return the bytes of an image whose structural cards may lie."""
    structure = {"SIMPLE": True, "BITPIX": 16, "NAXIS": 2, "NAXIS1": 50, "NAXIS2": 40} | cards
    header = fits.Header([(k, v) for k, v in structure.items() if v is not None])
    pixels = PIXELS.astype(">i2").tobytes()
    return header.tostring().encode() + pixels.ljust(-(-len(pixels) // 2880) * 2880, b"\0")


def table() -> fits.BinTableHDU:
    column = fits.Column("x", "PJ()", array=[np.arange(5), np.arange(900)])
    return fits.BinTableHDU.from_columns([column])


def pixels_at(path: Path, offset: int, shape: tuple[int, int]) -> NDArray[np.int16]:
    raw = path.read_bytes()
    plain = gzip.decompress(raw) if raw[:2] == b"\x1f\x8b" else raw
    return np.frombuffer(plain, ">i2", shape[0] * shape[1], offset).reshape(shape)


LAYOUTS = {
    "primary": ([image()], 0),
    "many cards": ([image(**{f"KEY{i}": "x" * 60 for i in range(200)})], 0),
    "extension": ([fits.PrimaryHDU(), fits.ImageHDU(PIXELS)], 1),
    "after a table": ([fits.PrimaryHDU(), table(), table(), fits.ImageHDU(PIXELS)], 3),
    "before others": ([image(), fits.ImageHDU(PIXELS * 2), table()], 0),
    "after empty": ([fits.PrimaryHDU(), fits.ImageHDU(), fits.ImageHDU(PIXELS)], 2),
    "third axis of 1": ([fits.PrimaryHDU(PIXELS[np.newaxis])], 0),
}


@pytest.mark.parametrize("name", ["x.fits", "x.FIT", "x.fits.gz", "renamed.fit"])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_first_image_is_found_where_astropy_finds_it(
    layout: str, name: str, tmp_path: Path
) -> None:
    hdus, number = LAYOUTS[layout]
    fits.HDUList([hdu.copy() for hdu in hdus]).writeto(tmp_path / "x.fits")
    content = (tmp_path / "x.fits").read_bytes()
    zipped = name.endswith("gz") or name.startswith("renamed")
    (tmp_path / name).write_bytes(gzip.compress(content) if zipped else content)
    found = scan(tmp_path / name)
    with fits.open(tmp_path / "x.fits") as opened:
        assert found.source.offset == opened[number].fileinfo()["datLoc"]
    assert (found.hdu, found.packing) == (number, "gzip" if zipped else "plain")
    assert np.array_equal(pixels_at(tmp_path / name, found.source.offset, (40, 50)), PIXELS)
    assert (found.source.shape, found.source.n_bytes) == ((40, 50), PIXELS.nbytes)


@pytest.mark.parametrize(
    ("pixels", "bitpix"), [(PIXELS, 16), (PIXELS.astype("i4"), 32), (PIXELS.astype("f4"), -32)]
)
def test_a_tile_compressed_image_has_the_shape_and_type_of_what_it_holds(
    pixels: NDArray[Any], bitpix: int, tmp_path: Path
) -> None:
    fits.CompImageHDU(pixels, compression_type="GZIP_1").writeto(tmp_path / "x.fits.fz")
    found = scan(tmp_path / "x.fits.fz")
    assert (found.hdu, found.packing, found.source.shape) == (1, "tiles", (40, 50))
    assert found.source.pixels.bitpix == bitpix


def test_the_cards_of_the_primary_header_stand_behind_the_images_own(tmp_path: Path) -> None:
    primary, extension = fits.PrimaryHDU(), fits.ImageHDU(PIXELS)
    primary.header.update({"EXPTIME": 600.0, "OBJECT": "primary", "BZERO": 5, "NOTE": "n" * 100})
    extension.header.update({"OBJECT": "extension", "DARKTIME": 601.0})
    fits.HDUList([primary, table(), extension]).writeto(tmp_path / "x.fits")
    found = scan(tmp_path / "x.fits")
    wanted = {"EXPTIME": 600.0, "OBJECT": "extension", "DARKTIME": 601.0, "NOTE": "n" * 100}
    assert {keyword: found.header[keyword] for keyword in wanted} == wanted
    assert "TFIELDS" not in found.header
    assert found.source.pixels == PixelFormat(16)


@pytest.mark.parametrize(
    ("cards", "pixels"),
    [
        ({"BZERO": 32768, "BSCALE": 1}, PixelFormat(16, 32768.0)),
        ({"BZERO": 0.5, "BSCALE": 2.5}, PixelFormat(16, 0.5, 2.5)),
        ({"BLANK": -1}, PixelFormat(16, blank=-1)),
        ({"BITPIX": 8, "BZERO": -128}, PixelFormat(8, -128.0)),
        ({"BITPIX": -32, "BLANK": 3, "NAXIS2": 20}, PixelFormat(-32)),
    ],
)
def test_the_encoding_is_as_the_cards_say(
    cards: dict[str, float], pixels: PixelFormat, tmp_path: Path
) -> None:
    (tmp_path / "x.fit").write_bytes(raw_image(**cards))
    assert scan(tmp_path / "x.fit").source.pixels == pixels


BAD_CARDS = {
    "one axis": ({"NAXIS": 1}, "two"),
    "a cube": ({"NAXIS": 3, "NAXIS3": 2, "NAXIS2": 20}, "two"),
    "too many axes": ({"NAXIS": 1000}, "NAXIS"),
    "negative width": ({"NAXIS1": -5}, "NAXIS1"),
    "negative axes": ({"NAXIS": -2}, "NAXIS"),
    "width of text": ({"NAXIS1": "50"}, "NAXIS1"),
    "width of T": ({"NAXIS1": True}, "NAXIS1"),
    "fractional width": ({"NAXIS1": 50.5}, "NAXIS1"),
    "absurd width": ({"NAXIS1": 2**62}, "NAXIS1"),
    "absurd area": ({"NAXIS1": 2**30, "NAXIS2": 2**30}, "axes"),
    "no height": ({"NAXIS2": None}, "NAXIS2"),
    "no NAXIS": ({"NAXIS": None}, "NAXIS"),
    "unknown type": ({"BITPIX": 17}, "BITPIX"),
    "type of T": ({"BITPIX": True}, "BITPIX"),
    "no type": ({"BITPIX": None}, "BITPIX"),
    "scale of text": ({"BSCALE": "1"}, "BSCALE"),
    "zero of T": ({"BZERO": True}, "BZERO"),
}


@pytest.mark.parametrize("bad", BAD_CARDS)
def test_cards_that_describe_no_frame_are_named(bad: str, tmp_path: Path) -> None:
    cards, named = BAD_CARDS[bad]
    path = tmp_path / "x.fit"
    path.write_bytes(raw_image(**cards))
    with pytest.raises(HeaderError, match=named) as caught:
        scan(path)
    assert str(path) in str(caught.value)
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)


@pytest.mark.parametrize(
    "card", ["NAXIS1  = fifty", "ZIMAGE  = maybe", "BZERO   = '3", "BLANK   = x"]
)
def test_an_illegible_card_of_the_layout_is_an_error_with_the_files_name(
    card: str, tmp_path: Path
) -> None:
    path = tmp_path / "x.fit"
    raw = raw_image(**{card[:8].rstrip(): 1})
    start = raw.index(f"{card[:8]}=".encode())
    path.write_bytes(raw[:start] + card.ljust(80).encode() + raw[start + 80 :])
    with pytest.raises(HeaderError, match=card[:8].rstrip()) as caught:
        scan(path)
    assert str(path) in str(caught.value)


def directory(path: Path) -> None:
    path.mkdir()


def without_end(path: Path) -> None:
    path.write_bytes(raw_image().replace(b"END ", b"FIN ", 1) + bytes(2880 * 1100))


def only_a_table(path: Path) -> None:
    fits.HDUList([fits.PrimaryHDU(), table()]).writeto(path)


def cut_gzip(path: Path) -> None:
    path.write_bytes(gzip.compress(raw_image())[:100])


def huge_claim(path: Path) -> None:
    path.write_bytes(raw_image(NAXIS1=60000, NAXIS2=60000))


FOREIGN: dict[str, Callable[[Path], object]] = {
    "absent": lambda path: None,
    "dangling link": lambda path: path.symlink_to("nowhere.fit"),
    "circular link": lambda path: path.symlink_to(path),
    "a pipe": lambda path: os.mkfifo(path),
    "a folder": directory,
    "text": lambda path: path.write_text("SIMPLE spectra of stars\n" * 300),
    "short text": lambda path: path.write_text("x"),
    "a device": lambda path: path.symlink_to("/dev/zero"),
    "no image": lambda path: path.write_bytes(raw_image(NAXIS=0)[:2880]),
    "only a table": only_a_table,
    "no columns": lambda path: path.write_bytes(raw_image(NAXIS1=0)[:2880]),
    "gzipped text": lambda path: path.write_bytes(gzip.compress(b"text" * 1000)),
}
DAMAGED: dict[str, Callable[[Path], object]] = {
    "empty": Path.touch,
    "empty gzip": lambda path: path.write_bytes(gzip.compress(b"")),
    "cut in the first card": lambda path: path.write_bytes(raw_image()[:20]),
    "cut in the header": lambda path: path.write_bytes(raw_image()[:2000]),
    "cut after the header": lambda path: path.write_bytes(raw_image()[:2880]),
    "cut in the pixels": lambda path: path.write_bytes(raw_image()[:6000]),
    "cut at the last pixel": lambda path: path.write_bytes(raw_image()[: 2880 + 3999]),
    "no END": without_end,
    "no END and no pixels": lambda path: path.write_bytes(
        raw_image()[:2880].replace(b"END", b"FIN")
    ),
    "cut gzip": cut_gzip,
    "60000 x 60000": huge_claim,
}


@pytest.mark.parametrize("kind", FOREIGN)
def test_what_is_no_frame_is_foreign_and_named(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "x.fit"
    FOREIGN[kind](path)
    with pytest.raises(ForeignFileError) as caught:
        scan(path)
    assert str(caught.value).startswith(f"{path}: ")


@pytest.mark.parametrize("kind", DAMAGED)
def test_a_damaged_frame_is_an_error_with_its_name(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "x.fit"
    DAMAGED[kind](path)
    with pytest.raises(FrameError) as caught:
        scan(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert not isinstance(caught.value, ForeignFileError)


TILES_THAT_LIE = {
    "columns without number": ("TFIELDS", 2**63 - 1, "TFIELDS is 9223372036854775807"),
    "more columns than FITS knows": ("TFIELDS", 1000, "TFIELDS is 1000"),
    "tiles of no pixels": ("ZTILE1", 0, "ZTILE1 is 0"),
    "one tile for all": ("ZTILE2", 40, "1 tiles, but its table 40 rows"),
    "pixels without number": ("ZNAXIS2", 2**30, "1073741824 tiles, but its table 40 rows"),
}


@pytest.mark.parametrize("lie", TILES_THAT_LIE)
def test_tiles_that_the_table_cannot_hold_are_refused_before_they_are_decoded(
    lie: str, tmp_path: Path
) -> None:
    keyword, value, said = TILES_THAT_LIE[lie]
    path = tmp_path / "x.fits.fz"
    fits.CompImageHDU(PIXELS, compression_type="RICE_1").writeto(path)
    raw = path.read_bytes()
    start = raw.index(f"{keyword:8}=".encode())
    path.write_bytes(
        raw[:start] + f"{keyword:8}= {value:20}".ljust(80).encode() + raw[start + 80 :]
    )
    with pytest.raises(HeaderError, match=said) as caught:
        scan(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("behind", [0, 1])
def test_a_cut_tile_compressed_image_is_found_from_its_headers(behind: int, tmp_path: Path) -> None:
    path = tmp_path / "x.fits.fz"
    noise = np.random.default_rng(1).integers(0, 30000, (40, 50), dtype=np.int16)
    more = [fits.ImageHDU(PIXELS) for _ in range(behind)]
    fits.HDUList([fits.PrimaryHDU(), fits.CompImageHDU(noise), *more]).writeto(path)
    os.truncate(path, path.stat().st_size - 2880 * (1 + 3 * behind))
    with pytest.raises(FrameError, match="but its header states"):
        scan(path)


@pytest.mark.parametrize("lie", [{"PCOUNT": 2**40 - 1, "GCOUNT": 2**40 - 1}, {"NAXIS2": 2**40 - 1}])
def test_a_table_larger_than_any_file_is_a_damaged_file(
    lie: dict[str, int], tmp_path: Path
) -> None:
    path = tmp_path / "x.fit"
    only_a_table(path)
    raw = path.read_bytes()
    for keyword, value in lie.items():
        start = raw.index(f"{keyword:8}=".encode(), 2880)
        card = f"{keyword:8}= {value:20}".ljust(80).encode()
        raw = raw[:start] + card + raw[start + 80 :]
    path.write_bytes(raw)
    with pytest.raises(FrameError, match=f"has {len(raw)} bytes, but its header states"):
        scan(path)


@pytest.mark.parametrize(
    ("keyword", "first", "second"),
    [
        ("BZERO", 32768, 0),
        ("BSCALE", 1.0, 2.0),
        ("BLANK", -1, -32768),
        ("NAXIS1", 50, 25),
        ("PCOUNT", 0, 4),
    ],
)
def test_two_cards_that_describe_the_pixels_differently_are_refused(
    keyword: str, first: float, second: float, tmp_path: Path
) -> None:
    path = tmp_path / "x.fit"
    raw = raw_image(**({} if keyword == "NAXIS1" else {keyword: first}))
    end = raw.index(b"END".ljust(80))
    for value, is_same in ((first, True), (second, False)):
        card = f"{keyword:8}= {value:20}".ljust(80).encode()
        path.write_bytes(raw[:end] + card + b"END".ljust(80) + raw[end + 160 :])
        if is_same:
            scan(path)
        else:
            with pytest.raises(HeaderError, match=f"{keyword} is {first} and {second}"):
                scan(path)


def test_both_sizes_of_a_cut_file_are_told(tmp_path: Path) -> None:
    (tmp_path / "x.fit").write_bytes(raw_image()[:6000])
    with pytest.raises(FrameError, match=r"6000 bytes.* 6880"):
        scan(tmp_path / "x.fit")


@pytest.mark.parametrize("size", [2880 + 4000, 2880 + 4001, 2880 + 5759])
def test_a_file_cut_within_its_padding_is_whole(size: int, tmp_path: Path) -> None:
    (tmp_path / "x.fit").write_bytes(raw_image()[:size])
    assert scan(tmp_path / "x.fit").source.shape == (40, 50)


@pytest.mark.parametrize("behind", [b"trailing", b"\0" * 2880, b"x" * 3000])
def test_what_follows_an_image_is_left_alone(behind: bytes, tmp_path: Path) -> None:
    (tmp_path / "x.fit").write_bytes(raw_image() + behind)
    assert scan(tmp_path / "x.fit").source.offset == 2880


@pytest.mark.skipif(not COUNTERS.exists(), reason="the system does not count bytes read")
@pytest.mark.parametrize("behind_a_table", [False, True])
def test_a_scan_reads_no_pixels(behind_a_table: bool, tmp_path: Path) -> None:
    large = np.zeros((5000, 5000), np.int16)
    hdus = [fits.PrimaryHDU(), fits.BinTableHDU(np.zeros(10**6, [("x", "f8")]))]
    hdus = [*hdus, fits.ImageHDU(large)] if behind_a_table else [fits.PrimaryHDU(large)]
    fits.HDUList(hdus).writeto(tmp_path / "x.fit")
    read_before = bytes_read()
    assert scan(tmp_path / "x.fit").source.n_bytes == 50_000_000
    assert bytes_read() - read_before < 1_000_000


def test_many_files_keep_their_order_with_the_errors_in_place(tmp_path: Path) -> None:
    paths = [tmp_path / f"{(7 * i) % 40:02}.fit" for i in range(40)]
    for i, path in enumerate(paths):
        path.write_bytes(b"" if i % 9 == 0 else raw_image(NAXIS1=50 - i, OBJECT=path.name))
    found = list(scan_all(paths))
    for i, (path, one) in enumerate(zip(paths, found, strict=True)):
        if i % 9 == 0:
            assert isinstance(one, ArrayredError)
            assert str(path) in str(one)
        else:
            assert not isinstance(one, ArrayredError)
            assert (one.source.path, one.source.shape[1]) == (path, 50 - i)
            assert one.header["OBJECT"] == path.name


@pytest.mark.parametrize("count", [0, 1, 31, 32])
def test_any_number_of_files_is_scanned(count: int, tmp_path: Path) -> None:
    (tmp_path / "x.fit").write_bytes(raw_image())
    assert len(list(scan_all([tmp_path / "x.fit"] * count))) == count
