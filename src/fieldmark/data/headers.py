"""`check_header`: no picture is opened whose header is in more pieces than any photograph's.

Pillow reads headers piece by piece, in Python, and keeps what it finds: eight million empty segments of a JPEG fit in
32 MB and take 1 GB and ten seconds. So the pieces are counted first, each where Pillow would find it. Headers of other
formats are read by libraries that do not mind.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import IO, Final

from fieldmark.core.errors import TooLargeError

__all__ = ["MAX_PIECES", "check_chunks", "check_header"]

MAX_PIECES: Final = 2**14
"""A photograph has some hundreds at most, the largest depth maps and profiles included: a segment holds 64 KB."""

_TAKEN_APART = 2**8
"""What a piece counts that Pillow takes apart, decompresses or adds to an earlier one. A photograph has a few."""
_ONE = 2**12
"""What a piece counts of which there is one."""
_SMALL = 2**10
"""In bytes. Encoders divide the pixels of a PNG into larger chunks, so that there may be any number of these."""

_SCAN, _QUANTIZATION, _EXIF_OR_XMP, _PHOTOSHOP = 0xDA, 0xDB, 0xE1, 0xED
_FRAMES = {*range(0xC0, 0xD0), 0xDE} - {0xC4, 0xC8, 0xCC}
_WITHOUT_LENGTH = {0x00, 0xC8, *range(0xD0, 0xDA), *range(0xF0, 0xFE)}
"""What Pillow takes for a marker and nothing more."""
_COMMENT = b"\xfe"


def check_header(file: IO[bytes], name: str) -> None:
    """Raise TooLargeError if the header of a picture has too many pieces. The file is left at its start."""
    file.seek(0)
    start = file.read(8)
    for known, pieces in _PIECES:
        if start.startswith(known):
            _check(pieces(file), name)
    file.seek(0)


def check_chunks(data: bytes, name: str) -> None:
    """The same for all chunks of a PNG: those behind its header are read while it is decoded."""
    _check(_chunks(io.BytesIO(data), only_header=False), name)


def _check(pieces: Iterable[int], name: str) -> None:
    count = 0
    for one in pieces:
        count += one
        if count > MAX_PIECES:
            raise TooLargeError(
                f"{name} is made of more pieces than any photograph", "Save it anew with another program."
            )


def _segments(file: IO[bytes]) -> Iterator[int]:
    """Of a JPEG, up to its first scan; a byte that belongs to none is one, too."""
    file.seek(2)
    while byte := file.read(1):
        yield 1
        if byte != b"\xff":
            continue
        while (marker := file.read(1)) == b"\xff":
            yield 1
        kind = ord(marker or b"\0")
        if kind in _WITHOUT_LENGTH:
            continue
        if kind == _SCAN or kind < min(_FRAMES):  # what Pillow refuses
            return
        length = max(0, int.from_bytes(file.read(2)) - 2)
        start = file.read(min(4, length))
        if kind in _FRAMES:
            yield _ONE
        elif kind in (_QUANTIZATION, _PHOTOSHOP) or (kind == _EXIF_OR_XMP and start == b"Exif"):
            yield _TAKEN_APART
        file.seek(length - len(start), io.SEEK_CUR)


def _chunks(file: IO[bytes], *, only_header: bool = True) -> Iterator[int]:
    """Of a PNG."""
    file.seek(8)
    while len(start := file.read(8)) == 8:
        length, kind = int.from_bytes(start[:4]), start[4:]
        if kind == b"IEND" or (only_header and kind == b"IDAT"):
            return
        if kind in (b"iCCP", b"zTXt", b"iTXt"):
            yield _TAKEN_APART
        elif kind not in (b"IDAT", b"fdAT") or length < _SMALL:
            yield 1
        file.seek(length + 4, io.SEEK_CUR)  # with the checksum


def _blocks(file: IO[bytes]) -> Iterator[int]:
    """Of the extensions of a GIF, up to its first frame; a byte that belongs to none is one, too."""
    start = file.read(5)  # behind what tells it from other formats
    if len(start) == 5 and start[2] & 0x80:  # all have the same colours
        file.seek(3 << (start[2] & 7) + 1, io.SEEK_CUR)
    while (byte := file.read(1)) not in (b"", b";", b","):
        yield 1
        if byte != b"!":
            continue
        kind, block = file.read(1), _block(file)
        if kind == b"\xff" and block.startswith(b"NETSCAPE2.0"):
            block = _block(file)
        if kind != _COMMENT:  # Pillow reads on even if there was none
            block = _block(file)
        while block:
            yield 1
            block = _block(file)


def _block(file: IO[bytes]) -> bytes:
    size = file.read(1)
    return file.read(size[0]) if size else b""


def _bytes(file: IO[bytes]) -> Iterator[int]:
    """Of the header of a PPM, which has comments of any length."""
    file.seek(0)
    left = 3 if file.read(2) in (b"P1", b"P4") else 4  # its kind, its sides and the largest value
    in_word, in_comment = True, False
    while left and (byte := file.read(1)):
        yield 1
        if in_comment:
            in_comment = byte not in b"\r\n"
        elif byte == b"#":
            in_comment = True
        elif byte.isspace():
            left, in_word = left - in_word, False
        else:
            in_word = True


_PIECES: Sequence[tuple[bytes | tuple[bytes, ...], Callable[[IO[bytes]], Iterator[int]]]] = (
    (b"\xff\xd8\xff", _segments),
    (b"\x89PNG\r\n\x1a\n", _chunks),
    ((b"GIF87a", b"GIF89a"), _blocks),
    (tuple(b"P%c" % kind for kind in b"0123456fy"), _bytes),
)
"""By how their files start."""
