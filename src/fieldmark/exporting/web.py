"""A page that answers in the browser: a folder that any static host serves, and that works without a network later.

    index.html, page.js, words.js, elements.js, page.css
                                           the page
    worker.js, seeing.js, verdicts.js      what answers, beside the page
    model.onnx, rules.json                 the network, and the rules of its verdicts
    examples.json, examples/               photographs of each class, if they were asked for
    offline.js, app.webmanifest, icon.png  for use without a network, from a phone's home screen
    runtime/                               ONNX Runtime for browsers, with its licence

Nothing comes from another host.
"""

from __future__ import annotations

import base64
import hashlib
import io
from collections.abc import Mapping
from importlib import resources

from PIL import Image, ImageDraw

from fieldmark.core.storage import json_bytes
from fieldmark.exporting.rules import rules
from fieldmark.exporting.runtime import LICENSE
from fieldmark.pages.page import render
from fieldmark.runs.bundle import Bundle

__all__ = ["site"]

_PAGE = ("pocket/page.js", "pocket/worker.js", "elements.js", "words.js", "seeing.js", "verdicts.js")


def site(
    bundle: Bundle,
    graph: bytes,
    runtime: Mapping[str, bytes],
    *,
    title: str,
    examples: Mapping[str, list[bytes]] | None = None,
) -> dict[str, bytes]:
    """The files of the page, by their paths in the folder; `examples` are JPEG files of each class."""
    told = rules(bundle)
    files = {name.removeprefix("pocket/"): _page(name) for name in _PAGE}
    files |= {
        "index.html": render("pocket/index.html", title=title, number=f"{len(bundle.classes):,}").encode(),
        "page.css": _page("page.css") + _page("pocket/page.css"),
        "model.onnx": graph,
        "rules.json": json_bytes(told),
        "icon.png": _icon(),
        "app.webmanifest": json_bytes(
            {
                "name": title,
                "short_name": title[:12],
                "start_url": ".",
                "display": "standalone",
                "background_color": "#fbfaf7",
                "theme_color": "#2b6a8c",
                "icons": [{"src": "icon.png", "sizes": f"{_ICON}x{_ICON}", "type": "image/png"}],
            }
        ),
        "runtime/LICENSE.txt": LICENSE.encode(),
    }
    files |= {f"runtime/{name}": data for name, data in runtime.items()}
    pictures: dict[str, list[str]] = {}
    for number, (label, shown) in enumerate(sorted((examples or {}).items())):
        pictures[label] = [f"examples/{number}-{k}.jpg" for k in range(len(shown))]
        files |= dict(zip(pictures[label], shown, strict=True))
    files["examples.json"] = json_bytes(pictures)
    kept = {name: _integrity(files[name]) for name in sorted(files) if not name.endswith(".txt")}
    kept["./"] = kept["index.html"]
    digest = hashlib.sha256(json_bytes(kept)).hexdigest()[:16]
    files["offline.js"] = render("pocket/offline.js", digest=digest, files=kept).encode()
    return files


def _integrity(data: bytes) -> str:
    """What a browser compares a file with."""
    return f"sha256-{base64.b64encode(hashlib.sha256(data).digest()).decode()}"


def _page(name: str) -> bytes:
    return (resources.files("fieldmark") / "pages" / name).read_bytes()


_ICON = 512


def _icon() -> bytes:
    """A field mark: a pale brow over an eye."""
    image = Image.new("RGB", (_ICON, _ICON), "#2b6a8c")
    draw = ImageDraw.Draw(image)
    draw.ellipse((176, 216, 336, 376), fill="#16181b")
    draw.ellipse((222, 246, 262, 286), fill="#fbfaf7")
    draw.arc((96, 120, 416, 440), 205, 335, fill="#f2c14e", width=44)
    data = io.BytesIO()
    image.save(data, "PNG")
    return data.getvalue()
