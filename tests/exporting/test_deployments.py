"""The table of deployments: what each column may hold."""

from __future__ import annotations

from pathlib import Path

import pytest

from fieldmark.core.errors import DataError
from fieldmark.exporting.results.deployments import read_deployments

REQUIRED = "deploymentID,latitude,longitude,deploymentStart,deploymentEnd"
ROW = "d1,51.5,-0.1,2026-05-01T00:00:00Z,2026-06-01T00:00:00Z"


def table(folder: Path, column: str, value: str) -> Path:
    file = folder / "deployments.csv"
    file.write_text(f"{REQUIRED},{column}\n{ROW},{value}\n")
    return file


@pytest.mark.parametrize(
    ("column", "value", "allowed"),
    [
        ("coordinateUncertainty", "0", "a whole number of at least 1"),
        ("coordinateUncertainty", "1.5", "a whole number of at least 1"),
        ("cameraDelay", "-1", "a whole number of at least 0"),
        ("cameraHeight", "nan", "a number of at least 0"),
        ("cameraHeight", "1_0", "a number of at least 0"),
        ("cameraDepth", "deep", "a number of at least 0"),
        ("cameraTilt", "-91", "a whole number from -90 to 90"),
        ("cameraHeading", "361", "a whole number from 0 to 360"),
        ("detectionDistance", "12 m", "a number of at least 0"),
        ("timestampIssues", "none", "true or false"),
        ("baitUse", "yes", "true or false"),
        ("featureType", "den", "waterSource or fruitingTree"),
    ],
)
def test_a_value_that_the_standard_does_not_allow_is_refused(
    tmp_path: Path, column: str, value: str, allowed: str
) -> None:
    with pytest.raises(DataError) as told:
        read_deployments(table(tmp_path, column, value))
    assert f"line 2: the {column} is {value!r}, but it should be " in str(told.value)
    assert allowed in str(told.value)


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("coordinateUncertainty", "100"),
        ("cameraHeight", "1.2"),
        ("cameraTilt", "-90"),
        ("cameraHeading", "360"),
        ("detectionDistance", "9.5e0"),
        ("baitUse", "TRUE"),
        ("featureType", "nestSite"),
        ("featureType", ""),
        ("habitat", "anything at all"),
    ],
)
def test_a_value_that_the_standard_allows_is_kept_as_it_is(tmp_path: Path, column: str, value: str) -> None:
    assert read_deployments(table(tmp_path, column, value))["d1"].values[column] == value
