"""Every piece keeps the contract: the suite that is shipped, for plug-ins too, run on all that is registered."""

from __future__ import annotations

from pathlib import Path

import pytest

import fieldmark.methods
from fieldmark.core.recipe import NONE
from fieldmark.learning.conformance import *  # noqa: F403  # its fixtures and tests
from fieldmark.learning.conformance import (
    check_export,
    forks,
    test_two_processes_have_one_model,
    test_two_processes_take_the_step_of_one,
)
from fieldmark.methods import bilinear_attention
from fieldmark.model.heads.classifier import CLASSIFIERS
from fieldmark.model.losses import proxy_anchor
from fieldmark.model.method import METHODS
from fieldmark.model.necks.neck import NECKS


def test_every_method_module_is_imported() -> None:
    files = {path.stem for path in Path(fieldmark.methods.__file__).parent.glob("*.py")} - {"__init__"}
    assert files == {METHODS.get(name).__module__.rsplit(".", 1)[1] for name in METHODS}


@forks
def test_what_is_not_gathered_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A plug-in's author may not know that several processes share a batch."""
    monkeypatch.setattr(proxy_anchor, "gathered", lambda rows: rows)
    monkeypatch.setattr(bilinear_attention, "gathered", lambda rows: rows)
    with pytest.raises(AssertionError, match="Not equal to tolerance"):
        test_two_processes_take_the_step_of_one({"loss": "proxy_anchor"})
    with pytest.raises(AssertionError):  # its centres have moved apart
        test_two_processes_have_one_model("bilinear_attention")


@pytest.mark.slow
@pytest.mark.parametrize("backbone", ["mobilenetv3_small_050", "vit_tiny_patch16_224"])
@pytest.mark.parametrize("head", list(CLASSIFIERS))
@pytest.mark.parametrize(
    ("method", "neck"),
    [(name, neck) for name in METHODS for neck in (NONE, *NECKS) if neck == NONE or not METHODS.get(name).pools],
)
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")  # torch's own, on the way
def test_every_combination_exports(method: str, neck: str, head: str, backbone: str) -> None:
    check_export(method, {}, neck, head, backbone)
