"""`render` turns a template and values into HTML; `jpeg` and `picture` turn pixels into small images, the latter inside
the page."""

from __future__ import annotations

import base64
import io
from functools import cache
from importlib import resources
from typing import Any

import numpy as np
from jinja2 import Environment, FunctionLoader, StrictUndefined
from markupsafe import Markup
from numpy.typing import NDArray
from PIL import Image

from fieldmark.core.storage import as_json

__all__ = ["jpeg", "picture", "render"]


def render(template: str, **values: Any) -> str:
    """The page of a template, such as "report.html". Text is escaped; only `Markup` is used as it is."""
    return _environment().get_template(template).render(values)


def jpeg(pixels: NDArray[np.uint8], side: int, quality: int) -> bytes:
    """Pixels (H, W, 3) as a file without any metadata, reduced to a longer side of `side` but never enlarged."""
    image, data = Image.fromarray(pixels), io.BytesIO()
    image.thumbnail((side, side), Image.Resampling.LANCZOS)
    image.save(data, "JPEG", quality=quality)
    return data.getvalue()


def picture(pixels: NDArray[np.uint8], *, side: int = 160, quality: int = 80) -> Markup:
    """Pixels (H, W, 3) as a data URL for `<img src>`, reduced to a longer side of `side` pixels but never enlarged."""
    return Markup("data:image/jpeg;base64," + base64.b64encode(jpeg(pixels, side, quality)).decode())


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=FunctionLoader(_source), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["percent"] = lambda share: f"{100 * share:.1f} %"
    environment.filters["number"] = lambda value: f"{value:,}"
    environment.filters["embedded"] = _embedded
    environment.globals["script"] = lambda name: Markup(_source(name))
    environment.globals["style"] = Markup(_source("page.css"))
    return environment


def _embedded(value: Any) -> Markup:
    """A value as JSON within `<script>`, which no text in it can end: what could begin a tag is an escape in JSON."""
    text = as_json(value)
    for letter in "<>&":
        text = text.replace(letter, f"\\u{ord(letter):04x}")
    return Markup(text)


def _source(name: str) -> str:
    return (resources.files("fieldmark") / "pages" / name).read_text(encoding="utf-8")
