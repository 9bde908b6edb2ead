"""Seconds of one core and megabytes that the worst pictures take which are still accepted.

usage: decoding.py [CASE ...]

For each case, the largest picture that `fieldmark.data.limits` lets pass is built, and decoded in a process of its own.
MB are the peak of that process over what it holds before it decodes (Linux only, /proc/self/status).
"""

import argparse
import io
import math
import struct
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

from fieldmark.data import limits
from fieldmark.data.formats import opened

SHORT_SIDE = 336
CHILD = """
import sys, time
from pathlib import Path
from fieldmark.data.decode import decode

def held():
    status = Path("/proc/self/status").read_text().split()
    return int(status[status.index("VmHWM:") + 1]) / 1024

before, begun = held(), time.process_time()
decode(Path(sys.argv[1]), short_side=int(sys.argv[2]))
print(time.process_time() - begun, held() - before)
"""


def plain(mode, format, **options):
    """A smooth picture of a Pillow mode."""

    def build(side):
        ramp = np.linspace(0, 255, side).astype(np.uint8)
        grey = Image.fromarray(np.broadcast_to(ramp, (side, side)))
        if mode == "F":
            image = Image.fromarray(np.broadcast_to(np.linspace(0, 1, side, dtype=np.float32), (side, side)))
        elif mode == "I;16":
            image = Image.fromarray(np.broadcast_to(np.linspace(0, 65535, side).astype(np.uint16), (side, side)))
        else:
            image = grey.convert(mode)
        file = io.BytesIO()
        image.save(file, format, **options)
        return file.getvalue()

    return build


def huge_frame(side):
    """A GIF whose header says 1 × 1; the frame is larger."""
    data = bytearray(plain("P", "GIF")(side))
    data[6:10] = struct.pack("<HH", 1, 1)
    return bytes(data)


def in_python(header, sample):
    def build(side):
        return header % (side, side) + sample * (side * side)

    return build


def run_lengths(side):
    rows = (b"\1\7" * side + b"\0\0") * side + b"\0\1"
    palette = b"".join(bytes((v, v, v, 0)) for v in range(256))
    start = 14 + 40 + len(palette)
    head = struct.pack("<IHHI", start + len(rows), 0, 0, start)
    head += struct.pack("<IiiHHIIiiII", 40, side, side, 1, 8, 1, len(rows), 0, 0, 256, 0)
    return b"BM" + head + palette + rows


CASES = {
    "jpeg": plain("RGB", "JPEG"),
    "jpeg-progressive": plain("RGB", "JPEG", progressive=True, subsampling=0),
    "jpeg-cmyk-progressive": plain("CMYK", "JPEG", progressive=True),
    "png": plain("RGB", "PNG", compress_level=1),
    "png-alpha": plain("RGBA", "PNG", compress_level=1),
    "png-grey-alpha": plain("LA", "PNG", compress_level=1),
    "png-palette": plain("P", "PNG", compress_level=1),
    "png-grey": plain("L", "PNG", compress_level=1),
    "png-16-bit": plain("I;16", "PNG", compress_level=1),
    "webp": plain("RGB", "WEBP", quality=10, method=0),
    "webp-alpha": plain("RGBA", "WEBP", lossless=True, quality=0, method=0),
    "avif": plain("RGB", "AVIF", speed=10, quality=10),
    "avif-444": plain("RGB", "AVIF", speed=10, quality=10, subsampling="4:4:4"),
    "tiff": plain("RGB", "TIFF"),
    "tiff-float": plain("F", "TIFF", compression="tiff_deflate"),
    "tiff-strip": plain("RGB", "TIFF", compression="tiff_lzw", strip_size=2**30),
    "tiff-cmyk": plain("CMYK", "TIFF", compression="packbits"),
    "tiff-jpeg": plain("RGB", "TIFF", compression="jpeg"),
    "gif": plain("P", "GIF"),
    "gif-huge-frame": huge_frame,
    "bmp": plain("RGB", "BMP"),
    "ppm": plain("RGB", "PPM"),
    "ppm-plain": in_python(b"P3 %d %d 255\n", b"255 255 255 "),
    "ppm-254": in_python(b"P6 %d %d 254\n", b"abc"),
    "pgm-4095": in_python(b"P5 %d %d 4095\n", b"ab"),
    "bmp-run-length": run_lengths,
}


def largest(build):
    """The side of about the largest picture that is accepted, from what a small one would take."""
    small = build(1024)
    with opened(io.BytesIO(small), "sample").image as image:
        slow = any(tile[0] in Image.DECODERS for tile in image.tile)
        image.draft(None, (1, 1))  # JPEGs are decoded at a reduced scale
        taken = len(small) + limits._needed(image, small, (1, 1)) - limits._BAND_BYTES
    fits = math.isqrt(1024**2 * (limits.MAX_MEMORY - limits._BAND_BYTES) // taken)
    return math.isqrt(limits.MAX_SLOW_PIXELS) if slow else min(fits, 16383, math.isqrt(limits.MAX_PIXELS))


def measured(file):
    """(seconds, MB) of one decode; None where the picture is refused."""
    ran = subprocess.run([sys.executable, "-c", CHILD, file, str(SHORT_SIDE)], capture_output=True, text=True)
    if "too large" in ran.stderr:
        return None
    assert ran.returncode == 0, ran.stderr
    return tuple(float(number) for number in ran.stdout.split())


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cases", nargs="*", metavar="CASE", help=", ".join(CASES))
    print("| case | side | file, MB | seconds | MB |\n|---|---|---|---|---|")
    for name in parser.parse_args().cases or CASES:
        side, found = round(largest(CASES[name]) / 0.97), None
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder, "picture")
            while found is None:
                side = int(0.97 * side)
                file.write_bytes(CASES[name](side))
                found = measured(file)
            size = file.stat().st_size / 2**20
        print(f"| {name} | {side:,} | {size:.1f} | {found[0]:.2f} | {found[1]:.0f} |", flush=True)


if __name__ == "__main__":
    main()
