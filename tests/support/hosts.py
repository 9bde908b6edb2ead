"""A static host of a folder, as an exported page needs."""

from __future__ import annotations

import functools
import http.server
import os
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

__all__ = ["hosted", "put"]


@contextmanager
def hosted(folder: Path, sent: list[str] | None = None) -> Iterator[str]:
    """The address of a static host of this folder. `sent` gets what it sends whole."""

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *told: object) -> None:
            pass

        def log_request(self, code: object = "-", size: object = "-") -> None:
            if sent is not None and code == 200:
                sent.append(self.path)

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(folder)))
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def put(folder: Path, files: Mapping[str, bytes], *, later: int = 0) -> None:
    """Write files into a folder, so many seconds `later`: a host compares whole ones."""
    for name, data in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
        os.utime(folder / name, (time.time() + later,) * 2)
