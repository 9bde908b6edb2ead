"""What answers are written as, checked by the formats' own validators, in an environment of their own."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from fieldmark.commands.predict_into import predict_into
from fieldmark.runs.run import Run
from support.surveys import rows_of


def by_validator(code: str) -> str:
    """What a program prints there. FIELDMARK_VALIDATORS names a Python that has the packages."""
    python = os.environ.get("FIELDMARK_VALIDATORS")
    if not python:
        pytest.skip("FIELDMARK_VALIDATORS names no Python with megadetector, frictionless and trap-schema")
    done = subprocess.run([python, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
@pytest.mark.parametrize("boxes", [None, "md.json"])
def test_megadetectors_own_validator(survey: Path, trained: Run, boxes: str | None) -> None:
    predict_into(trained.folder, ["photos"], "out.json", form="megadetector", boxes=boxes)
    told = by_validator(
        "from megadetector.postprocessing.validate_batch_results import validate_batch_results as check\n"
        "found = check('out.json')['validation_results']; print(found['errors'], found['warnings'])"
    )
    assert told == "[] []\n"


@pytest.mark.slow
@pytest.mark.parametrize("boxes", [None, "md.json"])
def test_speciesnets_predictions_are_read(survey: Path, trained: Run, boxes: str | None) -> None:
    done = predict_into(trained.folder, ["photos"], "out.json", form="speciesnet", boxes=boxes)
    told = by_validator(
        "from megadetector.utils.wi_taxonomy_utils import generate_md_results_from_predictions_json as read\n"
        "print(len(read('out.json', 'md out.json')['images']))"  # which it also validates
    )
    assert told.splitlines()[-1] == str(done.num_pictures)


@pytest.mark.slow
@pytest.mark.parametrize("gap", [None, 30])
@pytest.mark.parametrize("boxes", [None, "md.json"])
def test_camtrap_dp_by_the_rules_of_the_standard(
    survey: Path, trained: Run, boxes: str | None, gap: int | None
) -> None:
    """As trap-schema has them, which makes its classes from the official profile and table schemas."""
    predict_into(trained.folder, ["photos"], "p", form="camtrap-dp", boxes=boxes, gap=gap, survey="survey.toml")
    told = by_validator("from trap_schema import Dataset; print(len(Dataset.load('p').media))")
    assert int(told) == len(rows_of(Path("p/media.csv")))


@pytest.mark.slow
def test_camtrap_dp_by_frictionless(survey: Path, trained: Run) -> None:
    """Without the official schemas, which are read from the network: the tables."""
    predict_into(trained.folder, ["photos"], "p", form="camtrap-dp", boxes="md.json", gap=30, survey="survey.toml")
    told = by_validator(
        "import json; from frictionless import validate\n"
        "package = json.load(open('p/datapackage.json'))\n"
        "for one in package['resources']: del one['schema'], one['profile']\n"
        "del package['profile']\n"
        "json.dump(package, open('p/local.json', 'w'))\n"
        "report = validate('p/local.json'); print(report.valid, report.flatten(['message']))"
    )
    assert told == "True []\n"
