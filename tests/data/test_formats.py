"""What phones and cameras write beside JPEG: HEIC by an extra, camera raw by its preview, the rest by its name."""

from __future__ import annotations

import base64
import importlib.util
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fieldmark.core.errors import ImageError
from fieldmark.data import limits
from fieldmark.data.decode import can_read, decode, measure, orientation
from fieldmark.data.formats import RAW_EXTENSIONS
from fieldmark.data.limits import MAX_SCANS
from support.drawn import encode, picture

needs_heic = pytest.mark.skipif(importlib.util.find_spec("pi_heif") is None, reason="pi-heif is not installed")

QUADRANTS = base64.b85decode(
    "0000SW^{RQXk}?*00000ZE0pPXk}?*ZE0a<00054ZDn*}000000000XXk=`10000000000aA{+7000000000000000000004sdC7"
    "Z2$lO00062000naWMOmw00000KmafR001~?Y;R)$0000)KmY;&0RR9100001(EtGe00000006ZB0ssL3000000003100000000O8"
    "001~?X>Mi!000000ssI26=`l}WdZ;I0RRC20BCk&F#rGn02OI&W@Q2Z00002003ulX=DHZ007u&aB^?}006dWaAR)(004Gqc4I>U"
    "18@KU000000000U@BsY%`1k+-4+9_o0RR|40Sp2E{{wIU00RJ!0009300RIXx&lBU0096hLID8-"
    "Z~y=U0FVFx0{{R603M(qfd!W8<fgf}5D+jR00093AOHXZ03jj(0RRR>0l{;?i2wiq6lrsCWdHyG00000KmY&$KmY&$6lrsCWdHyG"
    "00000KmY&$FaQ7m5O8UDX#fBK00RgJ2mk;88fkECVE_OC000000ssL5fdT*m0t18q000_ka%E-"
    "!00000000hTX>Df!0ssL30RR91y=`P+bN~PVu_ytr3E(3&E&uCZ|M=YU9yOUAJG=EL|Gj;?$hQC9UA6b<?@j;2DDTd>zum=}s1j3"
    "k|LMyvnn6c_05hWNuJj4)k3!^z^{vAk#ykMf03or@-"
    "wnbefT;j3<zo}z<vH|>ipK+9%CZVK1Jya!q^pZQ7prE_w_kCa3&ilk7=t)*{pD7$4ToEQBuYs%)r78JKP^O@Edih0PdNBz6~2l8t"
    "$UV~G(f6OP+hGFV)O"
)
"""A HEIC of 64 × 48 pixels: red and green above, blue and grey below."""


def photograph(width: int = 640, height: int = 480, orientation: int | None = None) -> bytes:
    exif = Image.Exif()
    if orientation:
        exif[0x0112] = orientation
    return encode(picture(1, width, height), "JPEG", quality=90, exif=exif.tobytes() if orientation else b"")


def raw(*inside: bytes, magic: bytes = b"II*\0", orientation: int = 1, tags: dict[int, int] | None = None) -> bytes:
    """A camera raw file: a first directory of a thumbnail, and `inside` behind it between sensor data."""
    order = "<" if magic.startswith(b"II") else ">"
    entries = {254: 1, 256: 160, 257: 120, 274: orientation, 330: 200} if tags is None else tags
    directory = struct.pack(f"{order}H", len(entries))
    for tag, value in sorted(entries.items()):
        directory += struct.pack(f"{order}HHI", tag, 4, 1) + struct.pack(f"{order}I", value)
    noise = np.random.default_rng(0).integers(0, 255, 5000, dtype=np.uint8).tobytes()  # 0xFF marks nothing in it
    body = magic + struct.pack(f"{order}I", 8) + directory + bytes(4)
    return body + noise + noise.join(inside) + noise


# HEIC


@needs_heic
def test_heic_is_read(tmp_path: Path) -> None:
    pixels, size = decode(QUADRANTS)
    assert size == (64, 48)
    corners = pixels[[5, 5, -5, -5], [5, -5, 5, -5]].astype(int)
    assert np.abs(corners - [(200, 40, 40), (40, 200, 40), (40, 40, 200), (200, 200, 200)]).max() < 8
    (tmp_path / "IMG_1.HEIC").write_bytes(QUADRANTS)
    assert measure(tmp_path / "IMG_1.HEIC") == (64, 48)
    assert orientation(tmp_path / "IMG_1.HEIC") == 1
    assert can_read("heic")


@needs_heic
@pytest.mark.parametrize("cut", [40, 200, 640])
def test_a_heic_that_is_cut_short_is_damaged(cut: int) -> None:
    with pytest.raises(ImageError, match="is damaged"):
        decode(QUADRANTS[:cut], name="1.heic")


def test_without_the_extra_the_message_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pi_heif", None)
    with pytest.raises(ImageError, match=r"1\.heic is a HEIC picture.*pip install 'fieldmark\[heic\]'"):
        decode(QUADRANTS, name="1.heic")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert not can_read("heic")


def test_what_reads_heic_is_not_imported_for_other_pictures() -> None:
    code = (
        "import sys; from fieldmark.data.decode import decode, can_read; can_read('heic'); "
        f"decode({photograph(64, 48)!r}); print('pi_heif' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"


# Camera raw


@pytest.mark.parametrize("magic", [b"II*\0", b"MM\0*", b"IIRO", b"IIRS", b"MMOR", b"IIU\0"])
@pytest.mark.parametrize("turned", [1, 6])
def test_the_largest_preview_is_shown_upright(magic: bytes, turned: int) -> None:
    data = raw(photograph(160, 120), photograph(), photograph(320, 240), magic=magic, orientation=turned)
    pixels, size = decode(data)
    expected = np.rot90(picture(1, 640, 480), -1) if turned == 6 else picture(1, 640, 480)
    assert size == (expected.shape[1], expected.shape[0])
    assert np.abs(pixels.astype(int) - expected).mean() < 3


def test_the_orientation_of_the_preview_counts_more_than_the_files() -> None:
    assert decode(raw(photograph(orientation=1), orientation=6)).size == (640, 480)
    assert decode(raw(photograph(orientation=6), orientation=1)).size == (480, 640)


def test_fujifilm_and_canon(tmp_path: Path) -> None:
    assert decode(b"FUJIFILMCCD-RAW 0201" + bytes(100) + photograph(orientation=6)).size == (480, 640)
    directory = raw(tags={274: 6})[:30]
    cr3 = b"\0\0\0\x18ftypcrx " + bytes(60) + b"CMT1" + directory + bytes(200) + photograph(160, 120) + photograph()
    assert decode(cr3).size == (480, 640)
    cr2 = raw(photograph(), tags={274: 6})
    (tmp_path / "1.cr2").write_bytes(cr2[:8] + b"CR" + cr2[8:])  # its first directory no longer makes sense
    with pytest.raises(ImageError):
        decode(tmp_path / "1.cr2")


def test_measuring_a_raw_file_measures_its_preview(tmp_path: Path) -> None:
    (tmp_path / "1.nef").write_bytes(raw(photograph(), orientation=6))
    assert measure(tmp_path / "1.nef") == (640, 480)
    assert orientation(tmp_path / "1.nef") == 6


@pytest.mark.parametrize(
    "tags",
    [{50706: 1}, {262: 32803}, {262: 34892}, {259: 65535}, {254: 1, 330: 500}],
    ids=["DNG", "a mosaic", "linear sensor data", "Pentax", "a thumbnail with directories below it"],
)
def test_what_makes_a_tiff_a_raw_file(tags: dict[int, int]) -> None:
    assert decode(raw(photograph(), tags=tags)).size == (640, 480)


def test_pictures_in_tiff_files_are_no_raw_files() -> None:
    for tags in ({254: 1}, {254: 0, 330: 0}):  # a page that calls itself a thumbnail, a picture with more below it
        tiff = encode(picture(), "TIFF", tiffinfo=tags)
        np.testing.assert_array_equal(decode(tiff).pixels, picture())


def test_a_raw_file_without_a_good_preview_is_named() -> None:
    with pytest.raises(ImageError, match=r"1\.dng is a camera raw file with no preview in it.*Convert it to JPEG"):
        decode(raw(), name="1.dng")
    with pytest.raises(ImageError, match=r"only a preview of 160 × 120 pixels"):
        decode(raw(photograph(160, 120)), name="1.dng")
    lossless = photograph().replace(b"\xff\xc0", b"\xff\xc3", 1)  # sensor data
    with pytest.raises(ImageError, match="no preview"):
        decode(raw(lossless))


def test_what_is_counted_is_the_preview_not_the_sensor_data() -> None:
    sensor = np.random.default_rng(0).integers(0, 256, 20_000_000, dtype=np.uint8).tobytes()
    assert sensor.count(b"\xff\xda") > MAX_SCANS
    assert decode(b"FUJIFILMCCD-RAW" + photograph(1600, 1200) + sensor).size == (1600, 1200)


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_a_preview_has_the_limits_of_a_picture(monkeypatch: pytest.MonkeyPatch) -> None:
    progressive = encode(picture(0, 64, 64), "JPEG", progressive=True)
    at = progressive.index(b"\xff\xc2")
    large = progressive[: at + 5] + struct.pack(">HH", 12_000, 14_000) + progressive[at + 9 :]
    with pytest.raises(ImageError, match="MB of memory"):
        decode(b"FUJIFILMCCD-RAW" + large, short_side=300)
    monkeypatch.setattr(limits, "MAX_MEMORY", 64 << 20)
    with pytest.raises(ImageError, match="MB of memory"):  # the file and the preview are held at once
        decode(b"FUJIFILMCCD-RAW" + photograph() + bytes(40 << 20))


def test_a_preview_that_is_cut_short_is_damaged() -> None:
    with pytest.raises(ImageError, match="is damaged"):
        decode(raw(photograph())[: -5000 - 4000], name="1.dng")


def test_a_raw_file_of_false_starts_ends_soon() -> None:
    with pytest.raises(ImageError, match="no preview"):
        decode(raw() + b"\xff\xd8\xff" * 2**22, name="1.dng")  # looking at each of them would take minutes


# The rest


@pytest.mark.parametrize(
    ("start", "what"),
    [
        (b"8BPS\0\1", "Photoshop file"),
        (b"FOVb", "raw file of a Sigma camera"),
        (b"\0\0\0\x0cjP  \r\n", "JPEG 2000 picture"),
        (b"\0\0\0\x0cJXL \r\n", "JPEG XL picture"),
    ],
)
def test_other_formats_are_named(start: bytes, what: str) -> None:
    with pytest.raises(ImageError, match=f"^1.x is a {what}, which Fieldmark does not read. Convert it"):
        decode(start + bytes(100), name="1.x")


def test_what_can_be_read() -> None:
    assert all(can_read(extension) for extension in ("jpg", ".JPG", "tif", "png", *RAW_EXTENSIONS))
    assert not any(can_read(extension) for extension in ("", "psd", "jxl", "jp2", "x3f", "txt", "eps"))
