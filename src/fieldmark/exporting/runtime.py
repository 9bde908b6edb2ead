"""ONNX Runtime for browsers: one file of the npm package, whose checksum is known.

It is 33 MB, of which a page needs 14. `npm` fetches it once into the cache; without npm, or without a network, the
user names the file.
"""

from __future__ import annotations

import hashlib
import io
import shutil
import subprocess
import tarfile
import tempfile
from pathlib import Path

from fieldmark.core.errors import RunError
from fieldmark.core.reading import read_regular, reason
from fieldmark.core.storage import cache_folder, sha256_of, write_bytes

__all__ = ["LICENSE", "PACKAGE", "runtime_files"]

VERSION = "1.30.0"
PACKAGE = f"onnxruntime-web-{VERSION}.tgz"
_SHA256 = "d2228df7e4616bc3348bf504ee888f3bec43789a273f0a63f3e68d203ce3bf71"
_FILES = ("ort.wasm.min.js", "ort-wasm-simd-threaded.mjs", "ort-wasm-simd-threaded.wasm")
_PATIENCE = 600
LICENSE = """ONNX Runtime Web, in this folder, is under the MIT License.

Copyright (c) Microsoft Corporation

Permission is hereby granted, free of charge, to any person obtaining a copy of this software and associated
documentation files (the "Software"), to deal in the Software without restriction, including without limitation the
rights to use, copy, modify, merge, publish, distribute, sublicense, and/or sell copies of the Software, and to permit
persons to whom the Software is furnished to do so, subject to the following conditions:

The above copyright notice and this permission notice shall be included in all copies or substantial portions of the
Software.

THE SOFTWARE IS PROVIDED "AS IS", WITHOUT WARRANTY OF ANY KIND, EXPRESS OR IMPLIED, INCLUDING BUT NOT LIMITED TO THE
WARRANTIES OF MERCHANTABILITY, FITNESS FOR A PARTICULAR PURPOSE AND NONINFRINGEMENT. IN NO EVENT SHALL THE AUTHORS OR
COPYRIGHT HOLDERS BE LIABLE FOR ANY CLAIM, DAMAGES OR OTHER LIABILITY, WHETHER IN AN ACTION OF CONTRACT, TORT OR
OTHERWISE, ARISING FROM, OUT OF OR IN CONNECTION WITH THE SOFTWARE OR THE USE OR OTHER DEALINGS IN THE SOFTWARE.
"""


def runtime_files(package: Path | None = None) -> dict[str, bytes]:
    """What a page needs of the package, by file name. Raises RunError if there is no package, or it is another one."""
    place = package or _cached()
    try:
        data = read_regular(place)
    except (OSError, ValueError) as error:
        raise RunError(f"{place} cannot be read: {reason(error)}", _HOW) from None
    if hashlib.sha256(data).hexdigest() != _SHA256:
        raise RunError(f"{place} is not {PACKAGE}: its SHA-256 is another", _HOW)
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        members = {name: archive.extractfile(f"package/dist/{name}") for name in _FILES}
        return {name: member.read() for name, member in members.items() if member is not None}


_HOW = f"Fetch it with: npm pack onnxruntime-web@{VERSION}. Then name the file: --runtime {PACKAGE}."


def _cached() -> Path:
    """The package in the cache; npm brings it if it is not there."""
    place = cache_folder() / PACKAGE
    if place.is_file() and sha256_of(place) == _SHA256:  # a damaged one is fetched again
        return place
    npm = shutil.which("npm")
    if npm is None:
        raise RunError("A page needs ONNX Runtime for browsers, and there is no npm to fetch it with", _HOW)
    with tempfile.TemporaryDirectory() as folder:
        try:
            done = subprocess.run(
                [npm, "pack", "--silent", f"onnxruntime-web@{VERSION}"],
                cwd=folder,
                capture_output=True,
                text=True,
                timeout=_PATIENCE,
                check=False,
            )
            problem = (done.stderr.strip().splitlines() or ["it says nothing"])[-1] if done.returncode else ""
        except (OSError, subprocess.TimeoutExpired) as error:
            problem = str(error)
        fetched = Path(folder) / PACKAGE
        if problem or not fetched.is_file():
            raise RunError(f"npm could not fetch ONNX Runtime for browsers: {problem or 'no file came'}", _HOW)
        write_bytes(place, fetched.read_bytes())
    return place
