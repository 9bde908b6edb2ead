"""No picture takes more than 512 MB or keeps a processor busy for long; what would is refused by its header."""

from __future__ import annotations

import importlib.util
import io
import struct
import tracemalloc
import zlib
from pathlib import Path
from types import ModuleType

import pytest
from PIL import Image

from fieldmark.core.errors import ImageError
from fieldmark.data.decode import decode, decode_image
from fieldmark.data.limits import MAX_COMMENTS, MAX_MEMORY, MAX_PIXELS, MAX_SLOW_PIXELS, check_codec
from support.drawn import encode, picture


def benchmark() -> ModuleType:
    """benchmarks/decoding.py, which builds the worst pictures that are accepted."""
    path = Path(__file__).parents[2] / "benchmarks" / "decoding.py"
    spec = importlib.util.spec_from_file_location("decoding", path)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


pytestmark = pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
WORST = benchmark()
linux = pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="peak memory is read from /proc")


def takes(name: str, folder: Path) -> float:
    """MB that the largest accepted picture of a case takes."""
    side = WORST.largest(WORST.CASES[name])
    for smaller in (1.0, 0.95, 0.9):
        (folder / "picture").write_bytes(WORST.CASES[name](int(smaller * side)))
        if found := WORST.measured(folder / "picture"):
            return found[1]
    raise AssertionError(f"{name}: nothing near {side} is accepted")


@linux
@pytest.mark.parametrize("name", ["webp", "png-16-bit"])
def test_the_largest_pictures_stay_within_the_memory(name: str, tmp_path: Path) -> None:
    assert takes(name, tmp_path) < MAX_MEMORY >> 20


@linux
@pytest.mark.slow
@pytest.mark.parametrize("name", WORST.CASES)
def test_every_largest_picture_stays_within_the_memory(name: str, tmp_path: Path) -> None:
    assert takes(name, tmp_path) < MAX_MEMORY >> 20


def header_only(width: int, height: int, bits: int, colour: int) -> bytes:
    """A PNG without pixels: whoever refuses it has not looked for them."""
    parts = [(b"IHDR", struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0)), (b"IDAT", b""), (b"IEND", b"")]
    chunks = (
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data)) for name, data in parts
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


@pytest.mark.parametrize(
    ("bits", "colour", "fits", "too_large"),
    [(8, 0, 9_000, 9_300), (16, 0, 8_400, 8_600), (8, 2, 11_000, 11_300), (8, 6, 7_400, 7_600)],
    ids=["grey", "16-bit grey", "colour", "colour and transparency"],
)
def test_what_is_decoded_decides(bits: int, colour: int, fits: int, too_large: int) -> None:
    with pytest.raises(ImageError, match="MB of memory to decode it, but the limit is 512"):
        decode(header_only(too_large, too_large, bits, colour), short_side=300)
    with pytest.raises(ImageError, match="damaged"):  # as it has no pixels
        decode(header_only(fits, fits, bits, colour), short_side=300)


def test_a_reduced_jpeg_may_be_larger_than_a_whole_one() -> None:
    side = 9000
    data = bytearray(encode(picture(0, 64, 64), "JPEG")[:-2])  # without its end
    at = data.index(b"\xff\xc0")
    data[at + 5 : at + 9] = struct.pack(">HH", side, side)
    with pytest.raises(ImageError, match="MB of memory"):
        decode(bytes(data))
    with pytest.raises(ImageError, match="damaged"):  # it ends too early
        decode(bytes(data), short_side=300)
    at = data.index(b"\xff\xda")
    progressive = bytes(data[:at]).replace(b"\xff\xc0", b"\xff\xc2") + bytes(data[at:])
    with pytest.raises(ImageError, match="MB of memory"):  # it keeps 6 bytes for each pixel until its last scan
        decode(progressive.replace(struct.pack(">HH", side, side), struct.pack(">HH", 9500, 9500)), short_side=300)


@pytest.mark.parametrize("between", [b"\xff", b"\xff" * 1000, b"\xff\xd0", b"junk"])
def test_what_stands_before_a_marker_does_not_hide_a_large_jpeg(between: bytes) -> None:
    def large(data: bytes) -> bytes:
        at = data.index(b"\xff\xc2")
        data = data[: at + 5] + struct.pack(">HH", 12_000, 14_000) + data[at + 9 :]
        return data[:at] + between + data[at:]

    with pytest.raises(ImageError, match="MB of memory"):
        decode(large(encode(picture(0, 64, 64), "JPEG", progressive=True)), short_side=300)
    small = encode(picture(0, 64, 64), "JPEG", progressive=True)
    at = small.index(b"\xff\xc2")
    assert (decode(small[:at] + between + small[at:]).pixels == decode(small).pixels).all()


def scanned(num_scans: int, side: int, *, between: bytes = b"") -> bytes:
    """A progressive JPEG whose header says that it has so many scans of so many pixels."""
    data = encode(Image.fromarray(picture(0, 64, 64)).convert("L"), "JPEG", progressive=True)[:-2]
    at = data.index(b"\xff\xc2")
    data = data[: at + 5] + struct.pack(">HH", side, side) + data[at + 9 :]
    first = data.index(b"\xff\xda")
    second = data.index(b"\xff\xda", first + 2)
    return data[:first] + (data[first:second] + between) * num_scans + b"\xff\xd9"


def check_scans(data: bytes) -> None:
    with Image.open(io.BytesIO(data)) as image:
        check_codec(image, data, "it")


def test_scans_are_bounded_by_their_pixels() -> None:
    """What decides are bytes that are read, so nothing is decoded here."""
    for num_scans, side in ((10, 7_100), (10, 10_000), (11, 13_377), (256, 2_700)):
        check_scans(scanned(num_scans, side))
    for num_scans, side in ((21, 10_000), (256, 10_000), (12, 13_377), (257, 64)):
        with pytest.raises(ImageError, match=f"{num_scans:,} JPEG scans of {side**2:,} pixels, but the limit is"):
            check_scans(scanned(num_scans, side))


@pytest.mark.parametrize(
    "between",
    [
        b"\xff\xfe\0\6\xff\xd9\0\0",  # a comment
        b"\xff" * 3,  # fill
        b"\xff" * 50_000 + b"\0",  # coded data, which must not be gone through once for each byte
        b"\xff\xd0\xff\xd8\xff\x01",  # markers without a length
        b"\xff\xfe\0\0",  # a length that is none
        b"\xff\0\xda\xff\xff\0",  # coded data
    ],
)
def test_no_end_within_a_picture_hides_scans(between: bytes) -> None:
    with pytest.raises(ImageError, match="21 JPEG scans"):
        check_scans(scanned(21, 10_000, between=between))


def test_many_markers_are_not_gone_through() -> None:
    with pytest.raises(ImageError, match="JPEG scans"):
        check_scans(scanned(21, 10_000, between=b"\xff\xfe\0\2" * 20_000))


def test_what_follows_a_photograph_has_no_scans() -> None:
    """Telephones put a video behind it."""
    check_scans(scanned(10, 10_000) + b"\xff\xda" * 1000)


def test_a_gif_is_as_large_as_its_frame() -> None:
    data = bytearray(encode(picture(0, 30, 20), "GIF"))
    at = data.index(b",\0\0\0\0\x1e\0\x14\0")
    data[at + 5 : at + 9] = struct.pack("<HH", 11_000, 11_000)
    with pytest.raises(ImageError, match="MB of memory"):
        decode(bytes(data), short_side=300)


@pytest.mark.parametrize("name", ["ppm-plain", "ppm-254", "pgm-4095", "bmp-run-length"])
def test_interpreted_decoders_get_few_pixels(name: str) -> None:
    build = WORST.CASES[name]
    with pytest.raises(ImageError, match=r"1,050,625 pixels in a form of (PPM|BMP) that takes long.*Convert it to PNG"):
        decode(build(1025))
    assert MAX_SLOW_PIXELS < 1025**2
    assert decode(build(30)).size == (30, 30)


def test_comments_in_a_plain_ppm_are_counted() -> None:
    rows = [b"P2 100 10 255\n", *(b"#x\n7 " for _ in range(1000))]
    with pytest.raises(ImageError, match=f"1,000 comments, but the limit is {MAX_COMMENTS}"):
        decode(b"".join(rows))


@pytest.mark.filterwarnings("ignore:Tag data larger than file")
def test_tags_that_share_their_bytes_are_not_copied() -> None:
    """Which is Pillow's work: 2 MB of such a file took 2 GB before its release 13."""
    size, tags = 10**5, [(256, 4, 1, 9), (257, 4, 1, 9), (258, 3, 1, 8), (262, 3, 1, 1), (273, 4, 1, 8), (278, 4, 1, 9)]
    tags += [(279, 4, 1, 81), *((40_000 + n, 1, size, 8) for n in range(200))]
    data = b"".join(
        [
            struct.pack("<2sHI", b"II", 42, 8 + size),
            bytes(size),
            struct.pack("<H", len(tags)),
            *(struct.pack("<HHII", *tag) for tag in tags),
            bytes(4),
        ]
    )
    tracemalloc.start()
    try:
        assert decode(data).size == (9, 9)
        assert tracemalloc.get_traced_memory()[1] < 10 * size
    finally:
        tracemalloc.stop()


def test_images_in_memory_have_the_same_limits() -> None:
    side = 11_000
    grey = Image.new("L", (side, side))
    assert side**2 < MAX_PIXELS
    with pytest.raises(ImageError, match=r"a large one is too large: .* MB of memory"):
        decode_image(grey, "a large one", short_side=300)


def test_bands_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    from fieldmark.data import greys

    rgba = Image.fromarray(picture(0, 50, 40)).convert("RGBA")
    rgba.putalpha(Image.fromarray(picture(1, 50, 40)[..., 0]))
    kinds = [
        encode(rgba, "PNG"),
        encode(rgba.convert("P"), "PNG", transparency=3),
        encode(rgba.convert("CMYK"), "TIFF"),
    ]
    whole = [decode(data).pixels for data in kinds]
    monkeypatch.setattr(greys, "_BAND", 7 * 50)
    for data, expected in zip(kinds, whole, strict=True):
        assert (decode(data).pixels == expected).all()
