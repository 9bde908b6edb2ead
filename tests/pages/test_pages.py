"""Pages: whatever it is called it is text, and nothing is loaded from elsewhere."""

from __future__ import annotations

import base64
import io
import re

import numpy as np
import pytest
from jinja2 import DictLoader, UndefinedError
from PIL import Image

from fieldmark.pages import ACCENT, INK, canvas, picture, render, svg
from fieldmark.pages import page as page_module

EVIL = "<script>alert('x')</script>\"&'"


@pytest.fixture
def template(monkeypatch: pytest.MonkeyPatch) -> None:
    base = page_module._source("base.html")
    text = (
        '{% extends "base.html" %}{% block title %}{{ name }}{% endblock %}'
        "{% block content %}<b>{{ name }}</b>{% endblock %}"
    )
    monkeypatch.setattr(page_module._environment(), "loader", DictLoader({"base.html": base, "one.html": text}))
    page_module._environment().cache.clear()


def test_text_is_escaped(template: None) -> None:
    text = render("one.html", name=EVIL)
    assert "<script>" not in text
    assert text.count("&lt;script&gt;") == 2


def test_a_value_that_is_missing_is_a_bug(template: None) -> None:
    with pytest.raises(UndefinedError):
        render("one.html")


def test_a_page_loads_nothing(template: None) -> None:
    text = render("one.html", name="robin")
    assert not re.search(r"(src|href)\s*=\s*[\"']?(https?:|//)|@import|url\(", text)
    assert "prefers-color-scheme: dark" in text
    assert "width=device-width" in text


@pytest.mark.parametrize(("shape", "expected"), [((400, 200), (80, 160)), ((90, 120), (120, 90))])
def test_a_picture_is_reduced_and_never_enlarged(shape: tuple[int, int], expected: tuple[int, int]) -> None:
    pixels = np.full((*shape, 3), (200, 30, 60), np.uint8)
    head, _, data = picture(pixels, side=160).partition(",")
    assert head == "data:image/jpeg;base64"
    image = Image.open(io.BytesIO(base64.b64decode(data)))
    assert image.size == expected
    assert np.abs(np.asarray(image.convert("RGB")).astype(int) - pixels[0, 0]).max() < 12


def test_a_plot_takes_the_pages_colours() -> None:
    figure, axes = canvas()
    axes.plot([0, 1], [0, 1], label=EVIL)
    axes.set_title(EVIL)
    axes.legend()
    text = svg(figure, title=EVIL)
    assert "var(--accent)" in text
    assert "currentColor" in text
    assert ACCENT not in text
    assert INK not in text
    assert "<script" not in text
    assert "http" not in text.replace("http://www.w3.org", "")
    assert text == svg(figure, title=EVIL)  # the same figure, the same bytes
