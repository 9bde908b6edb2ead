"""Tables of scores say what is promised, whatever was measured."""

from __future__ import annotations

from dataclasses import replace

import pytest

from fieldmark.cli.scores import print_evaluation
from fieldmark.evaluation.metrics import Score
from fieldmark.evaluation.verdict_scores import VerdictScores
from fieldmark.runs.facts import SCORE_TITLES, Scores
from fieldmark.runs.record import Evaluation

VERDICTS = VerdictScores(
    source="validation", num_calibrated=60, nll=(0.9, 0.8), calibration_error=(0.1, 0.05), if_calibrated=(0.03, 0.06),
    reliability=[], coverage=0.9, covered=None, coverage_interval=None, set_size=None, promised=0.95,
    promises={"0.9": 0.4, "0.95": 0.2, "0.99": None}, right=None, shares={"unsure": 1.0}, area=(0.1, 0.2),
    area_gain=(0.1, 0.0, 0.2), risk=[0.1],
)  # fmt: skip


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({}, "accuracy of the names given │ – │ 95 % promised, no name given"),
        ({"promised": None}, "accuracy of the names given │ – │ no accuracy can be promised, so no name is given"),
        ({"right": Score(0.9, 0.8, 1.0, percent=True)}, "accuracy of the names given │ 90.0 % │ 95 % promised (80.0"),
        ({}, "share of calibration images named, by promise │ │ 90 %: 40 %; 95 %: 20 %"),
    ],
)
def test_what_is_promised_is_said(
    change: dict[str, object], said: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    top1 = Score(0.5, 0.4, 0.6, percent=True)
    print_evaluation(Evaluation("test", {"top1": top1}, 40, [], verdicts=replace(VERDICTS, **change)))  # type: ignore[arg-type]  # any field
    out = " ".join(capsys.readouterr().out.split())
    assert said in out
    assert "│ top-1 accuracy │ 50.0 %" in out


def test_every_score_has_a_title() -> None:
    no_scores = {"num_images", "looks", "unreadable", "confused", "verdicts", "of_interest", "attributes", "enrolment"}
    assert set(Scores.__annotations__) - no_scores <= set(SCORE_TITLES)
