"""A real browser for pages: headless Chromium, driven by the DevTools protocol over two pipes.

Without Chromium on the machine, tests that use the fixture `browser` are skipped.
"""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

__all__ = ["Browser"]

_NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
_CODES = {"Enter": ("Enter", 13, "\r"), "Tab": ("Tab", 9, ""), "Escape": ("Escape", 27, ""), " ": ("Space", 32, " ")}
_CODES |= {f"Arrow{way}": (f"Arrow{way}", code, "") for code, way in enumerate(("Left", "Up", "Right", "Down"), 37)}


class Browser:
    """One page of a browser with a profile of its own, and the folder of its downloads."""

    def __init__(self, program: str, folder: Path) -> None:
        self.downloads = folder / "downloads"
        self.downloads.mkdir(parents=True)
        ours, theirs = os.pipe(), os.pipe()
        command = [
            program,
            "--headless=new",
            "--no-sandbox",
            "--disable-gpu",
            "--no-first-run",
            "--disable-dev-shm-usage",
            "--remote-debugging-pipe",
            f"--user-data-dir={folder / 'profile'}",
            "about:blank",
        ]
        self._process = subprocess.Popen(
            ["bash", "-c", f'exec "$@" 3<&{ours[0]} 4>&{theirs[1]}', "bash", *command],
            pass_fds=(ours[0], theirs[1]),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(ours[0])
        os.close(theirs[1])
        self._out, self._in = os.fdopen(ours[1], "wb"), os.fdopen(theirs[0], "rb")
        self._number, self._rest, self._session = 0, b"", ""
        target = next(one for one in self._ask("Target.getTargets")["targetInfos"] if one["type"] == "page")
        found = self._ask("Target.attachToTarget", targetId=target["targetId"], flatten=True)
        self._ask("Browser.setDownloadBehavior", behavior="allow", downloadPath=str(self.downloads))
        self._session = found["sessionId"]
        self._ask("Page.enable")

    def close(self) -> None:
        """End the browser."""
        self._session = ""
        self._send("Browser.close")
        self._process.wait(10)
        self._out.close()
        self._in.close()

    def open(self, page: Path | str, *, width: int = 1200, height: int = 900, dark: bool = False) -> None:
        """Load a page, a file or an address, at this size, and wait until it is there."""
        self._ask(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 500
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self._ask("Emulation.setEmulatedMedia", features=[scheme])
        self._ask("Page.navigate", url=page if isinstance(page, str) else page.as_uri())
        while self.run("document.readyState") != "complete" or self.run("location.href") == "about:blank":
            time.sleep(0.02)

    def press(self, *keys: str) -> None:
        """Press keys, one after the other, as a keyboard does."""
        for key in keys:
            code, number, text = _CODES[key] if key in _CODES else (f"Key{key.upper()}", ord(key.upper()), key)
            event = {"key": key, "code": code, "windowsVirtualKeyCode": number}
            typed = {"type": "keyDown", "text": text} if text else {"type": "rawKeyDown"}
            self._ask("Input.dispatchKeyEvent", **event, **typed)
            self._ask("Input.dispatchKeyEvent", **event, type="keyUp")

    def write(self, text: str) -> None:
        """Type text into the field that has the focus."""
        self._ask("Input.insertText", text=text)

    def choose(self, selector: str, *files: Path) -> None:
        """Give files to a field that asks for some."""
        found = self._ask("Runtime.evaluate", expression=f"document.querySelector({json.dumps(selector)})")
        self._ask("DOM.setFileInputFiles", objectId=found["result"]["objectId"], files=[str(one) for one in files])

    def until(self, script: str, *, seconds: float = 30) -> Any:
        """The value of an expression on the page, once it is true."""
        until = time.monotonic() + seconds
        while not (found := self.run(script)):
            assert time.monotonic() < until, f"{script} was never true"
            time.sleep(0.05)
        return found

    def run(self, script: str) -> Any:
        """The value of an expression on the page."""
        found = self._ask("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in found, found["exceptionDetails"]
        return found["result"].get("value")

    def text(self, selector: str) -> str:
        """The visible text of an element."""
        return str(self.run(f"document.querySelector({json.dumps(selector)}).innerText"))

    def downloaded(self, name: str) -> Path:
        """A file, once it is there as a whole."""
        until = time.monotonic() + 10
        while not (self.downloads / name).is_file():
            assert time.monotonic() < until, f"{name} was not saved"
            time.sleep(0.02)
        return self.downloads / name

    def screenshot(self, file: Path, *, whole: bool = True) -> Path:
        """A picture of the page, for people."""
        found = self._ask("Page.captureScreenshot", captureBeyondViewport=whole)
        file.write_bytes(base64.b64decode(found["data"]))
        return file

    def _send(self, method: str, **params: Any) -> int:
        self._number += 1
        message = {"id": self._number, "method": method, "params": params}
        self._out.write(json.dumps(message | ({"sessionId": self._session} if self._session else {})).encode() + b"\0")
        self._out.flush()
        return self._number

    def _ask(self, method: str, **params: Any) -> dict[str, Any]:
        number = self._send(method, **params)
        while True:
            while b"\0" not in self._rest:
                read = os.read(self._in.fileno(), 2**16)
                assert read, "the browser has gone"
                self._rest += read
            message, _, self._rest = self._rest.partition(b"\0")
            answer = json.loads(message)
            if answer.get("id") == number:
                assert "error" not in answer, answer
                found: dict[str, Any] = answer["result"]
                return found


@pytest.fixture
def browser(tmp_path: Path) -> Iterator[Browser]:
    """A headless browser."""
    program = next((found for name in _NAMES if (found := shutil.which(name))), None)
    if program is None:
        pytest.skip("there is no Chromium on this machine")
    one = Browser(program, tmp_path / "browser")
    yield one
    one.close()
