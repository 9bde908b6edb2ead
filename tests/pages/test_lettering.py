"""Names in any script: fonts that have their letters, code points where none has, and no warning of a library."""

from __future__ import annotations

import io
import logging
import warnings
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.font_manager import fontManager
from matplotlib.ft2font import FT2Font

from fieldmark.core.errors import FieldmarkWarning
from fieldmark.pages import canvas, legible, lettering, shortened, svg, wrapped


@pytest.fixture
def bare(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A machine that has no fonts but matplotlib's own, and a process that has said nothing yet."""
    monkeypatch.setattr(lettering, "_others", lambda: ())
    monkeypatch.setattr(lettering, "_told", set())
    lettering._fonts_for.cache_clear()
    yield
    lettering._fonts_for.cache_clear()


def drawn(figure: Figure) -> bytes:
    """What matplotlib draws; its warnings are errors, as all are."""
    data = io.BytesIO()
    figure.savefig(data, format="png", dpi=50, metadata={"Software": None})
    return data.getvalue()


def lettered(text: str, **options: object) -> Figure:
    figure = Figure(figsize=(4, 1))
    figure.text(0.1, 0.4, text, **options)
    legible(figure)
    return figure


def test_letters_that_no_font_has_are_code_points_and_the_package_is_told_once(bare: None) -> None:
    with pytest.warns(FieldmarkWarning, match="apt install fonts-noto-cjk$"):
        one = lettered("红狐 fox", weight="bold")
    other = lettered("狐狸 fox")  # nothing more is said
    assert [figure.texts[0].get_text() for figure in (one, other)] == ["[U+7EA2 U+72D0] fox", "[U+72D0 U+72F8] fox"]
    assert drawn(one) != drawn(other)
    with pytest.warns(FieldmarkWarning, match="apt install fonts-symbola$"):
        family = lettered("👨\u200d👩").texts[0].get_text()  # what joins them is not seen
    assert family.replace("\u200d", "") == "[U+1F468][U+1F469]"
    with pytest.warns(FieldmarkWarning, match="apt install fonts-noto-core$"):
        lettered("लोमड़ी")


def test_a_font_that_has_the_letters_is_found(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    stix = next(font for font in fontManager.ttflist if font.name == "STIXGeneral" and font.weight == 400)
    own = FT2Font(next(font.fname for font in fontManager.ttflist if font.name == "DejaVu Sans"))
    letter = chr(
        next(code for code in FT2Font(stix.fname).get_charmap() if code > 127 and not own.get_char_index(code))
    )
    monkeypatch.setattr(lettering, "_others", lambda: (stix,))
    lettering._fonts_for.cache_clear()
    with caplog.at_level(logging.WARNING):
        figure = lettered(f"a {letter}", weight="bold")
        drawn(figure)
    lettering._fonts_for.cache_clear()
    assert figure.texts[0].get_text() == f"a {letter}"
    assert figure.texts[0].get_fontfamily() == ["sans-serif", "STIXGeneral"]
    assert not caplog.records


def test_plain_names_are_left_alone() -> None:
    figure = lettered("Ardea alba $x$ Ж ῥόδον")
    assert figure.texts[0].get_fontfamily() == ["sans-serif"]
    assert figure.texts[0].get_text() == "Ardea alba $x$ Ж ῥόδον"


def ink(figure: Figure) -> np.ndarray:
    """(width,) how much is drawn in each column."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return 255 - np.asarray(canvas.buffer_rgba())[..., :3].mean(axis=(0, 2))


def test_a_number_behind_a_name_from_right_to_left_stays_behind_it() -> None:
    name = "ثعلب"
    apart, alone = ink(lettered(f"{shortened(name)}  99 %")), ink(lettered(name))
    end = int(np.flatnonzero(alone > 1).max())
    np.testing.assert_allclose(apart[: end - 2], alone[: end - 2])  # the name comes first, drawn as if it were alone
    assert apart[end + 3 :].max() > 1  # the number behind it


@given(st.text(st.characters(codec="utf-8", categories=["L", "N", "P", "Zs"]), max_size=80), st.integers(6, 40))
def test_shortened_names_fit(name: str, most: int) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FieldmarkWarning)
        short, spelt = shortened(name, most), lettering.written(name)
    assert lettering._room(short.strip("\u2068\u2069")) <= most
    if short.strip("\u2068\u2069") != spelt:
        assert "…" in short


def test_the_middle_gives_way_since_names_differ_at_their_ends() -> None:
    assert shortened("Ford F-150 Regular Cab 2012", 18) == "Ford F-15…Cab 2012"
    assert shortened("Ford F-150 Regular Cab 2012", 27) == "Ford F-150 Regular Cab 2012"


def test_wrapped_lines_keep_their_words() -> None:
    text = "Region 1: 34 % of the evidence for a very long name. It would be taken for another."
    assert wrapped(text, 20).split() == text.split()
    assert max(map(len, wrapped(text, 20).split("\n"))) <= 20


def test_plots_of_pages_leave_letters_to_the_browser() -> None:
    figure, axes = canvas()
    axes.set_title("红狐")
    assert "红狐" in svg(figure, title="one")
