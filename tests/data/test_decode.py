"""`decode`: right pixels for everything that is right, one ImageError for everything that is not."""

from __future__ import annotations

import os
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageCms

from fieldmark.core.errors import ImageError
from fieldmark.data.decode import FORMATS, MAX_BYTES, MAX_PIXELS, decode, measure, orientation
from fieldmark.data.greys import measure_depth
from support.drawn import HEIGHT, WIDTH, encode, picture, swapped_profile


def png(header: bytes, rows: bytes, *chunks: tuple[bytes, bytes]) -> bytes:
    """A PNG written by hand, for what Pillow does not write."""
    parts = [(b"IHDR", header), *chunks, (b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    body = b"".join(
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data)) for name, data in parts
    )
    return b"\x89PNG\r\n\x1a\n" + body


# Right answers


@pytest.mark.parametrize(
    ("format", "options"),
    [
        ("PNG", {}),
        ("BMP", {}),
        ("TIFF", {}),
        ("TIFF", {"compression": "tiff_lzw"}),
        ("WEBP", {"lossless": True}),
        ("PPM", {}),
    ],
)
def test_lossless_formats_come_back_exactly(format: str, options: dict[str, object]) -> None:
    pixels, size = decode(encode(picture(), format, **options))
    np.testing.assert_array_equal(pixels, picture())
    assert pixels.dtype == np.uint8
    assert pixels.flags.writeable
    assert size == (WIDTH, HEIGHT)


@pytest.mark.parametrize(("format", "tolerance"), [("JPEG", 5), ("MPO", 5), ("WEBP", 5), ("AVIF", 5)])
def test_lossy_formats_come_back_nearly(format: str, tolerance: float) -> None:
    if format == "AVIF" and format not in FORMATS:
        pytest.skip(f"this Pillow does not read {format}")
    extra = {"append_images": [Image.fromarray(picture(1))], "save_all": True} if format == "MPO" else {}
    pixels = decode(encode(picture(), format, quality=95, **extra)).pixels
    assert np.abs(pixels.astype(int) - picture()).mean() < tolerance


def test_a_path_and_its_bytes_give_the_same(tmp_path: Path) -> None:
    file = tmp_path / "vögel 1.jpg"
    file.write_bytes(encode(picture(), "JPEG"))
    np.testing.assert_array_equal(decode(file).pixels, decode(file.read_bytes()).pixels)


@pytest.mark.parametrize("format", ["GIF", "PNG", "WEBP", "TIFF"])
def test_the_first_frame_counts(format: str) -> None:
    frames = [Image.new("RGB", (9, 5), colour) for colour in ("red", "blue")]
    options = {"lossless": True} if format == "WEBP" else {}
    data = encode(frames[0], format, save_all=True, append_images=frames[1:], **options)
    np.testing.assert_array_equal(decode(data).pixels, np.full((5, 9, 3), (255, 0, 0)))


@pytest.mark.parametrize("format", ["PNG", "TIFF", "BMP"])
def test_one_bit(format: str) -> None:
    bits = np.random.default_rng(0).random((HEIGHT, WIDTH)) > 0.5
    pixels = decode(encode(Image.fromarray(bits), format)).pixels
    np.testing.assert_array_equal(pixels, np.repeat(255 * bits[..., None], 3, -1))


@pytest.mark.parametrize("format", ["PNG", "TIFF", "BMP", "PPM", "GIF"])
def test_greyscale(format: str) -> None:
    grey = picture()[..., 0]
    np.testing.assert_array_equal(decode(encode(grey, format)).pixels, np.repeat(grey[..., None], 3, -1))


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
@pytest.mark.parametrize("format", ["PNG", "TIFF", "WEBP"])
def test_transparency_is_laid_on_white(mode: str, format: str) -> None:
    bands = len(mode)
    alpha = np.random.default_rng(1).integers(0, 256, (HEIGHT, WIDTH, 1), dtype=np.uint8)
    image = Image.fromarray(np.concatenate([picture()[..., : bands - 1], alpha], -1), mode)
    options = {"lossless": True, "exact": True} if format == "WEBP" else {}
    share = alpha / 255
    expected = picture()[..., : bands - 1] * share + 255 * (1 - share)
    np.testing.assert_allclose(decode(encode(image, format, **options)).pixels, expected + np.zeros(3), atol=1.01)


@pytest.mark.parametrize("format", ["PNG", "GIF"])
@pytest.mark.parametrize("transparent", [False, True])
def test_palette(format: str, transparent: bool) -> None:
    colours = np.random.default_rng(2).integers(0, 256, (16, 3), dtype=np.uint8)
    places = np.random.default_rng(3).integers(0, 16, (HEIGHT, WIDTH), dtype=np.uint8)
    image = Image.fromarray(places, "P")
    image.putpalette(colours.tobytes())
    expected = colours[places]
    if transparent:
        expected[places == 5] = 255
    pixels = decode(encode(image, format, **({"transparency": 5} if transparent else {}))).pixels
    np.testing.assert_array_equal(pixels, expected)


def test_palette_with_partial_transparency() -> None:
    image = Image.fromarray(np.array([[0, 1, 2]], np.uint8), "P")
    image.putpalette([0, 0, 0, 200, 100, 0, 9, 9, 9])
    pixels = decode(encode(image, "PNG", transparency=bytes([0, 128, 255]))).pixels
    np.testing.assert_allclose(pixels[0], [[255, 255, 255], [227, 177, 127], [9, 9, 9]], atol=1)


@pytest.mark.parametrize("mode", ["L", "RGB", "1"])
def test_a_colour_declared_transparent(mode: str) -> None:
    image = Image.new(mode, (2, 1), 0)
    image.putpixel((1, 0), {"L": 90, "RGB": (90, 90, 90), "1": 1}[mode])
    pixels = decode(encode(image, "PNG", transparency=(0, 0, 0) if mode == "RGB" else 0)).pixels
    np.testing.assert_array_equal(pixels[0], [[255] * 3, [255 if mode == "1" else 90] * 3])


@pytest.mark.parametrize(("format", "mode"), [("PNG", "I;16"), ("TIFF", "I;16"), ("TIFF", "I;16B"), ("PPM", "I;16")])
def test_sixteen_bit_greyscale_keeps_its_levels(format: str, mode: str) -> None:
    values = np.linspace(0, 65535, WIDTH * HEIGHT).round().reshape(HEIGHT, WIDTH)
    image = Image.frombytes(mode, (WIDTH, HEIGHT), values.astype(">u2" if mode.endswith("B") else "<u2").tobytes())
    pixels = decode(encode(image, format)).pixels
    np.testing.assert_array_equal(pixels, np.repeat((values / 257).round()[..., None], 3, -1))
    assert len(np.unique(pixels)) == 256


def test_dark_sixteen_bit_pictures_are_not_brightened() -> None:
    for format in ("PNG", "TIFF", "PPM"):
        image = Image.fromarray(np.array([[0, 250, 5140]], np.uint16))
        np.testing.assert_array_equal(decode(encode(image, format), grey_bits=16).pixels[0, :, 0], [0, 1, 20])


def test_sixteen_bit_greyscale_with_a_transparent_value() -> None:
    header = struct.pack(">IIBBBBB", 2, 1, 16, 0, 0, 0, 0)
    data = png(header, b"\0" + struct.pack(">HH", 1000, 257 * 40), (b"tRNS", struct.pack(">H", 1000)))
    np.testing.assert_array_equal(decode(data, grey_bits=16).pixels[0, :, 0], [255, 40])


def test_sixteen_bits_per_colour() -> None:
    header = struct.pack(">IIBBBBB", 1, 2, 16, 2, 0, 0, 0)
    rows = b"".join(b"\0" + struct.pack(">HHH", *colour) for colour in ((0, 257 * 7, 65535), (300, 51400, 12850)))
    np.testing.assert_array_equal(decode(png(header, rows)).pixels[:, 0], [[0, 7, 255], [1, 200, 50]])


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([0.0, 0.2, 1.0], [0, 51, 255]),
        ([0.0, 51.0, 255.0], [0, 51, 255]),
        ([0.0, 257.0, 60000.0], [0, 1, 233]),
        ([-1.0, 0.0, 1.0], [0, 128, 255]),
        ([0.0, 1e6, 4e6], [0, 64, 255]),
        ([0.0, float("nan"), 1.0], [0, 0, 255]),
        ([0.0, float("inf"), 1.0], [0, 0, 255]),
        ([-3.0, -3.0, -3.0], [0, 0, 0]),
    ],
)
def test_floats_follow_the_rule(values: list[float], expected: list[int]) -> None:
    image = Image.fromarray(np.array([values], np.float32))
    np.testing.assert_array_equal(decode(encode(image, "TIFF")).pixels[0, :, 0], expected)


def test_thirty_two_bit_integers_follow_the_rule() -> None:
    image = Image.fromarray(np.array([[0, 257, 65535]], np.int32))
    np.testing.assert_array_equal(decode(encode(image, "TIFF")).pixels[0, :, 0], [0, 1, 255])


def test_cmyk() -> None:
    inks = np.zeros((16, 16, 4), np.uint8)
    inks[:, 8:] = (0, 255, 255, 0)  # magenta and yellow: red
    image = Image.fromarray(inks, "CMYK")
    for format, options in (("TIFF", {}), ("JPEG", {"quality": 100})):  # Pillow writes Adobe's inverted JPEGs
        pixels = decode(encode(image, format, **options)).pixels.astype(int)
        assert np.abs(pixels[:, :6] - 255).max() < 6, format
        assert np.abs(pixels[:, 10:] - (255, 0, 0)).max() < 6, format


def test_lab() -> None:
    image = Image.fromarray(np.full((4, 4, 3), (128, 0, 0), np.uint8), "LAB")  # L* = 50: grey 119 in sRGB
    assert np.abs(decode(encode(image, "TIFF")).pixels.astype(int) - 119).max() <= 2


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "P"])
def test_a_colour_profile_is_applied(mode: str) -> None:
    image = Image.new("RGB", (4, 4), (255, 0, 0)).convert(mode)
    pixels = decode(encode(image, "PNG", icc_profile=swapped_profile())).pixels.astype(int)
    assert np.abs(pixels - (0, 255, 0)).max() <= 2


@pytest.mark.parametrize("profile", [b"", b"no profile", swapped_profile()[:200], None])
@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
def test_a_useless_colour_profile_changes_nothing(profile: bytes | None, mode: str) -> None:
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes() if profile is None else profile
    image = Image.fromarray(picture()).convert(mode)
    with_it, without = (decode(encode(image, "JPEG", **extra)) for extra in ({"icc_profile": profile}, {}))
    np.testing.assert_array_equal(with_it.pixels, without.pixels)


TURNS = {  # what undoes each orientation, in numpy's terms
    1: lambda p: p,
    2: lambda p: p[:, ::-1],
    3: lambda p: p[::-1, ::-1],
    4: lambda p: p[::-1],
    5: lambda p: p.swapaxes(0, 1),
    6: lambda p: np.rot90(p, -1),
    7: lambda p: np.rot90(p, 2).swapaxes(0, 1),
    8: lambda p: np.rot90(p, 1),
    9: lambda p: p,
}


@pytest.mark.parametrize("format", ["PNG", "TIFF", "WEBP"])
@pytest.mark.parametrize("orientation", TURNS)
def test_orientation_is_applied(format: str, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"lossless": True} if format == "WEBP" else {}
    pixels, size = decode(encode(picture(), format, exif=exif.tobytes(), **options))
    np.testing.assert_array_equal(pixels, TURNS[orientation](picture()))
    assert size == (pixels.shape[1], pixels.shape[0])


def test_orientation_with_a_bound() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    pixels, size = decode(encode(picture(0, 400, 300), "JPEG", exif=exif.tobytes()), short_side=60)
    assert pixels.shape == (80, 60, 3)
    assert size == (300, 400)
    assert np.abs(pixels.astype(int) - np.rot90(picture(0, 80, 60), -1)).mean() < 6


@pytest.mark.filterwarnings("ignore:Corrupt EXIF")
def test_damaged_exif_does_not_matter() -> None:
    data = encode(picture(), "JPEG", exif=b"Exif\0\0II*\0\xff\xff\xff\x7fgarbage")
    assert decode(data).pixels.shape == (HEIGHT, WIDTH, 3)


@given(st.integers(1, 60), st.integers(1, 60), st.integers(1, 70), st.integers(0, 3))
@settings(max_examples=60, deadline=None)
def test_the_bound_on_the_short_side(width: int, height: int, bound: int, seed: int) -> None:
    source = picture(seed, width, height)
    pixels, size = decode(encode(source, "PNG"), short_side=bound)
    assert size == (width, height)
    if min(width, height) <= bound:
        np.testing.assert_array_equal(pixels, source)
    else:
        assert min(pixels.shape[:2]) == bound
        assert abs(max(pixels.shape[:2]) - max(width, height) * bound / min(width, height)) <= 0.5


def test_large_jpegs_shrink_as_other_formats_do() -> None:
    source = picture(4, 1200, 900)
    fast, exact = (decode(encode(source, format), short_side=100).pixels for format in ("JPEG", "PNG"))
    assert fast.shape == exact.shape == (100, 133, 3)
    assert np.abs(fast.astype(int) - exact).mean() < 1.5
    np.testing.assert_array_equal(fast, decode(encode(source, "JPEG"), short_side=100).pixels)


# Refusals


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", r"empty \(0 bytes\)"),
        (b"hello, world", "not an image of a known format"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "not an image of a known format"),
        (
            b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n",
            "Convert it to one of the formats that Fieldmark reads: JPEG, PNG, WEBP",
        ),
        (encode(picture(), "PNG")[:-60], "damaged: .*; *|damaged: "),
        (encode(picture(), "JPEG")[:-60], "damaged: image file is truncated"),
        (encode(picture(), "EPS"), "not an image of a known format"),
        (encode(picture(), "PDF"), "not an image of a known format"),
        (encode(picture(), "ICO"), "not an image of a known format"),
        (png(struct.pack(">IIBBBBB", 20000, 20000, 8, 2, 0, 0, 0), b""), "too large: over 178 million pixels"),
        (png(struct.pack(">IIBBBBB", 10**9, 10**9, 8, 2, 0, 0, 0), b""), "too large: over 178 million pixels"),
        (png(struct.pack(">IIBBBBB", 0, 5, 8, 2, 0, 0, 0), b""), "damaged|not an image"),
        (b"P6 0 4 255 ", "damaged|not an image"),
    ],
)
def test_refusals_say_why(data: bytes, message: str) -> None:
    with pytest.raises(ImageError, match=message) as caught:
        decode(data, name="birds/1.jpg")
    assert str(caught.value).startswith("birds/1.jpg ")
    assert "\n" not in str(caught.value)


def test_refusals_name_the_file(tmp_path: Path) -> None:
    missing = tmp_path / "gone.jpg"
    with pytest.raises(ImageError, match="does not exist") as caught:
        decode(missing)
    assert str(missing) in str(caught.value)
    with pytest.raises(ImageError, match="is not a file"):
        decode(tmp_path)
    with pytest.raises(ImageError, match=r"does not exist|cannot be read"):
        decode(Path("nul\0l.jpg"))
    (tmp_path / "text.jpg").write_text("no image")
    with pytest.raises(ImageError, match=r"text\.jpg is not an image"):
        decode(tmp_path / "text.jpg")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes on this system")
def test_a_pipe_does_not_hang(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.jpg")
    with pytest.raises(ImageError, match="is not a file"):
        decode(tmp_path / "pipe.jpg")


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="the superuser may read everything")
def test_a_file_that_may_not_be_read(tmp_path: Path) -> None:
    file = tmp_path / "secret.png"
    file.write_bytes(encode(picture(), "PNG"))
    file.chmod(0)
    with pytest.raises(ImageError, match="cannot be read: Permission denied"):
        decode(file)


def test_a_huge_file_is_not_even_read(tmp_path: Path) -> None:
    with (tmp_path / "huge.tif").open("wb") as file:
        file.truncate(MAX_BYTES + 2**20)  # sparse
    with pytest.raises(ImageError, match="too large: 385 MB, but the limit is 384"):
        decode(tmp_path / "huge.tif")


def test_a_huge_file_is_not_measured_either(tmp_path: Path) -> None:
    directory = struct.pack("<4sIHHHIII", b"II*\0", 8, 1, 50706, 4, 1, 1, 0)  # a DNG: the whole of it would be searched
    exif = Image.Exif()
    exif[0x0112] = 6
    file = tmp_path / "huge.tif"
    file.write_bytes(directory + encode(picture(0, 400, 400), "JPEG", exif=exif.tobytes()))
    assert (orientation(file), measure(file)) == (6, (400, 400))
    os.truncate(file, MAX_BYTES + 2**20)  # sparse
    assert (orientation(file), measure(file), measure_depth([file])) == (1, None, None)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no such pipes")
def test_measuring_a_pipe_does_not_hang(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.tif")
    pipe = tmp_path / "pipe.tif"
    assert (orientation(pipe), measure(pipe), measure_depth([pipe])) == (1, None, None)


def test_a_jpeg_of_many_scans_is_refused() -> None:
    data = encode(picture(0, 400, 400), "JPEG", progressive=True)
    start = data.rindex(b"\xff\xda")
    bomb = data[:start] + 300 * data[start:-2] + data[-2:]
    with pytest.raises(ImageError, match=r"JPEG scans of .* pixels, but the limit is 256"):
        decode(bomb)


def test_the_largest_picture_is_within_pillows_own_bounds() -> None:
    assert Image.MAX_IMAGE_PIXELS is not None
    assert 2 * Image.MAX_IMAGE_PIXELS == MAX_PIXELS
