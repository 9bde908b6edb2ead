"""What answers are written as, each checked by a schema that was written from the format's own description."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from fieldmark.answering.answers import Answer, Look
from fieldmark.answering.predictor import Predictor
from fieldmark.answering.verdicts import Speaker
from fieldmark.commands.predict_into import predict_into
from fieldmark.core.errors import DataError, DataWarning, FieldmarkError, StorageError
from fieldmark.data.detections import Detection
from fieldmark.data.readers.detections import read_detections
from fieldmark.evaluation.verdict import Verdict
from fieldmark.exporting.results import camtrap
from fieldmark.exporting.results.answered import Event, Row
from fieldmark.exporting.results.observed import in_event, in_picture
from fieldmark.exporting.results.survey import read_survey
from fieldmark.runs.bundle import Bundle
from fieldmark.runs.run import Run
from support.surveys import DEPLOYMENTS, SURVEY, rows_of

Cli = Callable[..., Any]

# ---- MegaDetector 1.6


def check_megadetector(found: dict[str, Any]) -> None:
    """The rules of the format's description."""
    assert set(found) <= {
        "info",
        "detection_categories",
        "classification_categories",
        "classification_category_descriptions",
        "images",
    }
    assert found["info"]["format_version"] == "1.6"
    for key in ("detection_categories", "classification_categories"):
        assert all(number.isdecimal() and name.strip() for number, name in found[key].items())
    assert found["detection_categories"].items() >= {"1": "animal", "2": "person", "3": "vehicle"}.items()
    for image in found["images"]:
        assert "\\" not in image["file"]
        if "failure" in image:
            assert isinstance(image["failure"], str)
            assert image["detections"] is None
            continue
        for one in image["detections"]:
            assert one["category"] in found["detection_categories"]
            assert isinstance(one["conf"], float)
            assert len(one["bbox"]) == 4
            assert all(0 <= number <= 1 for number in one["bbox"])
            scores = [score for _, score in one.get("classifications", ())]
            assert scores == sorted(scores, reverse=True)
            assert all(number in found["classification_categories"] for number, _ in one.get("classifications", ()))


def test_megadetector_keeps_detections_and_adds_classifications(survey: Path, trained: Run) -> None:
    done = predict_into(trained.folder, ["photos"], "out.json", form="megadetector", boxes="md.json")
    found, given_ = json.loads(Path("out.json").read_text()), json.loads(Path("md.json").read_text())
    check_megadetector(found)
    assert len(done.skipped) == 2
    assert "gone.jpg was not searched by the detector: Failure image access" in done.skipped["photos/gone.jpg"]
    before = {image["file"]: image["detections"] for image in given_["images"]}
    assert {image["file"] for image in found["images"]} == set(before)
    for image in found["images"]:
        if image["file"] in ("gone.jpg", "broken <b>.jpg"):
            assert image["detections"] is None
            continue
        plain = [{k: v for k, v in one.items() if k != "classifications"} for one in image["detections"]]
        assert plain == sorted(before[image["file"]], key=lambda one: -one["conf"])
        for one in image["detections"]:
            assert ("classifications" in one) == (one["category"] == "1" and one["conf"] >= 0.2)
    again = {one.path: one.detections for one in read_detections(Path("out.json"))}  # what is written can be read
    assert (
        again["cam1/IMG 0.jpg"]
        == {one.path: one for one in read_detections(Path("md.json"))}["cam1/IMG 0.jpg"].detections
    )


def test_megadetector_keeps_videos_as_they_came(survey: Path, trained: Run) -> None:
    at = {"bbox": [0.1, 0.2, 0.3, 0.4], "frame_number": 30}
    video = {"file": "cam1/v.mp4", "frame_rate": 29.97, "frames_processed": [0, 30], "note": {"by": "me"}}
    people, boat = {"category": "7", "conf": 0.9, **at}, {"category": "8", "conf": 0.5, **at}
    failed = {"file": "cam1/w.mp4", "frame_rate": 30.0, "detections": None, "failure": "Failure video open"}
    given_ = {
        "info": {"format_version": "1.6"},
        "detection_categories": {"7": "person", "8": "boat"},
        "classification_categories": {"0": "somebody"},
        "images": [
            video | {"detections": [people | {"classifications": [["0", 0.8]]}, boat, people | {"category": "9"}]},
            failed,
        ],
    }
    Path("videos.json").write_text(json.dumps(given_))
    Path("there").mkdir()
    done = predict_into(trained.folder, ["there"], "out.json", form="megadetector", boxes="videos.json")
    assert "it is a video" in done.skipped["there/cam1/v.mp4"]
    found = json.loads(Path("out.json").read_text())
    check_megadetector(found)
    one, other = found["images"]
    names = found["detection_categories"]
    told = [detection | {"category": names[detection["category"]]} for detection in one["detections"]]
    assert one | {"detections": told} == video | {
        "detections": [people | {"category": "person"}, boat | {"category": "boat"}]
    }
    assert other["file"] == "cam1/w.mp4"
    assert other["detections"] is None


def test_megadetector_without_boxes_says_that_nobody_searched(survey: Path, trained: Run) -> None:
    predict_into(trained.folder, ["photos"], "out.json", form="megadetector")
    found = json.loads(Path("out.json").read_text())
    check_megadetector(found)
    (one,) = next(image for image in found["images"] if image["file"] == "cam1/IMG 0.jpg")["detections"]
    assert found["detection_categories"][one["category"]] == "unknown"
    assert one["bbox"] == [0, 0, 1, 1]


def test_boxes_need_the_folder_of_their_paths(survey: Path, trained: Run) -> None:
    for things in (["fotos"], ["photos/cam1", "photos/far"], ["photos/broken <b>.jpg"]):
        with pytest.raises(DataError, match="--boxes needs the one folder that its paths are relative to"):
            predict_into(trained.folder, things, "out.csv", boxes="md.json")
    assert not list(Path().glob("out*"))


# ---- SpeciesNet


def check_speciesnet(found: dict[str, Any]) -> None:
    """The rules of the format's description."""
    assert set(found) == {"info", "predictions"}
    assert found["info"]["format_version"] == "20261015"
    labels = {"0": "whole_image_classification", "1": "animal", "2": "human", "3": "vehicle"}
    for one in found["predictions"]:
        assert set(one) <= {"filepath", "failures", "detections", "model_version"}
        assert set(one.get("failures", ())) <= {"CLASSIFIER", "DETECTOR", "GEOLOCATION"}
        confidences = [found["conf"] for found in one.get("detections", ())]
        assert confidences == sorted(confidences, reverse=True)
        for detection in one.get("detections", ()):
            assert detection["label"] == labels[detection["category"]]
            raw, processed = detection.get("raw_classifications"), detection.get("processed_classification")
            assert (raw is None) == (processed is None)
            if raw:
                assert len(raw["classes"]) == len(raw["scores"]) > 0
                assert raw["scores"] == sorted(raw["scores"], reverse=True)
                assert set(processed) == {"class", "score", "source"}
            for text in [*raw["classes"], processed["class"]] if raw else []:
                assert len(text.split(";")) == 7
                assert text == text.lower()


@pytest.mark.parametrize("boxes", [None, "md.json"])
def test_speciesnet(survey: Path, trained: Run, boxes: str | None) -> None:
    done = predict_into(trained.folder, ["photos"], "out.json", form="speciesnet", boxes=boxes)
    found = json.loads(Path("out.json").read_text())
    check_speciesnet(found)
    failed = {one["filepath"] for one in found["predictions"] if "failures" in one}
    assert failed == set(done.skipped)
    assert len(found["predictions"]) == done.num_pictures


# ---- Camtrap DP and Darwin Core

ZONED = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d[+-]\d\d:\d\d")
KINDS = {"animal", "human", "vehicle", "blank", "unknown", "unclassified"}


def check_camtrap(folder: Path) -> tuple[list[dict[str, str]], list[dict[str, str]]]:
    """The rules of the standard; media and observations."""
    package = json.loads((folder / "datapackage.json").read_text())
    required = {"resources", "profile", "created", "contributors", "project", "spatial", "temporal", "taxonomic"}
    assert required <= set(package)
    assert {one["name"] for one in package["resources"]} == {"deployments", "media", "observations"}
    for one in package["resources"]:
        assert one["profile"] == "tabular-data-resource"
        assert "/1.0.2/" in one["schema"]
    assert {"title", "samplingDesign", "captureMethod", "individualAnimals", "observationLevel"} <= set(
        package["project"]
    )
    deployments, media, observations = (
        rows_of(folder / f"{name}.csv") for name in ("deployments", "media", "observations")
    )
    for table, key in ((deployments, "deploymentID"), (media, "mediaID"), (observations, "observationID")):
        ids = [row[key] for row in table]
        assert all(ids)
        assert len(set(ids)) == len(ids)
    known = {row["deploymentID"] for row in deployments}
    assert {row["deploymentID"] for row in [*media, *observations]} <= known
    times = [row[key] for row in media for key in ("timestamp",)]
    times += [row[key] for row in observations for key in ("eventStart", "eventEnd", "classificationTimestamp")]
    times += [row[key] for row in deployments for key in ("deploymentStart", "deploymentEnd")]
    assert all(ZONED.fullmatch(time) for time in times)
    for row in media:
        assert re.fullmatch(r"(?=^[^./~])(^((?!\.{2}).)*$).*", row["filePath"])
        assert row["filePublic"] in ("true", "false")
        assert row["fileMediatype"].startswith("image/")
    for row in observations:
        assert row["observationLevel"] in package["project"]["observationLevel"]
        assert row["observationType"] in KINDS
        assert bool(row["mediaID"]) == (row["observationLevel"] == "media")
        assert row["mediaID"] in {"", *(one["mediaID"] for one in media)}
        assert row["classificationMethod"] == "machine"
        box = [float(row[name]) for name in ("bboxX", "bboxY", "bboxWidth", "bboxHeight") if row[name]]
        assert len(box) in (0, 4)
        assert all(0 <= number <= 1 for number in box)
        assert row["eventStart"] <= row["eventEnd"]
    names = {row["scientificName"] for row in observations if row["scientificName"]}
    assert {one["scientificName"] for one in package["taxonomic"]} == names
    return media, observations


def test_camtrap_dp_with_boxes_and_bursts(survey: Path, trained: Run, cli: Cli) -> None:
    command = ["predict", trained.folder, "photos", "--boxes", "md.json", "--gap", "30", "--survey", "survey.toml"]
    answer = cli(*command, "--out", "package", "--format", "camtrap-dp")
    assert answer.status == 1  # two were skipped
    media, observations = check_camtrap(Path("package"))
    assert [row["filePath"] for row in media] == [
        *(f"cam1/IMG {number}.jpg" for number in range(5)),
        *(f"far/cam2/IMG {number}.jpg" for number in (5, 6, 7)),
    ]
    assert media[0]["timestamp"] == "2026-05-02T06:00:00+02:00"
    assert media[-1]["timestamp"] == "2026-05-02T06:30:07+00:00"
    of_media = [row for row in observations if row["observationLevel"] == "media"]
    assert [row["observationType"] for row in of_media if row["mediaID"] == media[3]["mediaID"]] == ["blank"]
    assert [row["observationType"] for row in of_media if row["mediaID"] == media[4]["mediaID"]] == ["human", "animal"]
    events = [row for row in observations if row["observationLevel"] == "event"]
    assert len({row["eventID"] for row in events}) == 5
    assert (events[0]["eventStart"], events[0]["eventEnd"]) == (
        "2026-05-02T06:00:00+02:00",
        "2026-05-02T06:00:01+02:00",
    )
    assert rows_of(Path("package/deployments.csv"))[0]["habitat"] == "'=wood"  # no spreadsheet runs it
    assert cli(*command, "--out", "package", "--format", "camtrap-dp", "--resume").status == 1
    check_camtrap(Path("package"))


def test_camtrap_dp_invents_nothing(survey: Path, trained: Run) -> None:
    with Image.open("photos/cam1/IMG 0.jpg") as image:
        image.save("photos/cam1/no time.png", exif=Image.Exif())
    Path("photos/elsewhere").mkdir()
    shutil.copy("photos/cam1/IMG 0.jpg", "photos/elsewhere")
    with pytest.warns(DataWarning) as heard:
        predict_into(trained.folder, ["photos"], "p", form="camtrap-dp", survey="survey.toml")
    media, observations = check_camtrap(Path("p"))
    assert len(media) == len(observations) == 8
    told = " ".join(str(one.message) for one in heard)
    assert "1 picture left out: the file does not say when it was taken" in told
    assert "1 picture left out: in no deployment's folder" in told
    with pytest.raises(FieldmarkError, match="which only you know"):
        predict_into(trained.folder, ["photos"], "q", form="camtrap-dp")
    Path("deployments.csv").write_text(DEPLOYMENTS.replace("cam", "kam"))
    with pytest.raises(DataError, match="nothing to put into a package"), pytest.warns(DataWarning):
        predict_into(trained.folder, ["p.answers.jsonl"], "q", form="camtrap-dp", survey="survey.toml")
    assert not Path("q").exists()
    (Path("mine") / "x").mkdir(parents=True)
    with pytest.raises(StorageError, match="did not make it for a Camtrap DP package"):  # before the run is used
        predict_into(
            Predictor(Bundle.load(trained.bundle), engine=refuse),
            ["photos"],
            "mine",
            form="camtrap-dp",
            survey="survey.toml",
        )
    with pytest.raises(StorageError, match="did not make it for a Camtrap DP package"):
        predict_into(trained.folder, ["p.answers.jsonl"], "mine", form="camtrap-dp", survey="survey.toml")


def refuse(*_: Any, **__: Any) -> Any:
    raise OSError("not here")


def test_a_package_that_is_half_rewritten_has_no_description(
    survey: Path, trained: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    predict_into(trained.folder, ["photos"], "p", form="camtrap-dp", survey="survey.toml")
    assert Path("p/datapackage.json").exists()
    monkeypatch.setattr(camtrap, "write_json", refuse)
    with pytest.raises(OSError, match="not here"):
        predict_into(trained.folder, "p.answers.jsonl", "p", form="camtrap-dp", survey="survey.toml")
    assert not Path("p/datapackage.json").exists()


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (("51.5", "95"), "line 2: the latitude is '95', but it should be a number from -90 to 90"),
        (("51.5", ""), "line 2: the latitude is empty"),
        (("habitat", "baitUse"), "line 2: the baitUse is '=wood', but it should be true or false"),
        (("habitat\n", "featureType\n"), "it should be roadPaved, roadDirt, "),
        (("+02:00", ""), "which does not say its time zone. Write times as in"),
        (("2026-06-01T00:00:00Z", "2025-06-01T00:00:00Z"), "line 3: it ends before it starts"),
        (("d2", "d1"), "comes twice"),
        (("longitude", "lon"), "no column 'longitude'"),
    ],
)
def test_deployments_that_make_no_sense(survey: Path, trained: Run, change: tuple[str, str], complaint: str) -> None:
    Path("deployments.csv").write_text(DEPLOYMENTS.replace(*change))
    with pytest.raises(DataError, match=re.escape(complaint)):
        predict_into(trained.folder, ["photos"], "p", form="camtrap-dp", survey="survey.toml")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "x",
        'deployments = "deployments.csv"',
        SURVEY.replace("opportunistic", "random"),
        SURVEY.replace('"Ada Field"', "3"),
    ],
)
def test_surveys_that_lack_something(survey: Path, trained: Run, text: str) -> None:
    Path("survey.toml").write_text(text)
    with pytest.raises(DataError, match="cannot be read"):
        predict_into(trained.folder, ["photos"], "p", form="camtrap-dp", survey="survey.toml")


def test_darwin_core_has_the_animals_that_somebody_names(
    survey: Path, trained: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    spoken = Speaker.verdicts

    def vouched(*given: Any) -> list[Verdict]:
        """For every other picture."""
        found = spoken(*given)
        return [replace(one, name=one.label, level="class") if int(one.path[-5]) % 2 else one for one in found]

    monkeypatch.setattr(Speaker, "verdicts", vouched)
    predict_into(trained.folder, ["photos"], "d.csv", form="darwin-core", survey="survey.toml")
    rows = rows_of(Path("d.csv"))
    predict_into(trained.folder, ["d.answers.jsonl"], "plain.csv")
    named = [row for row in rows_of(Path("plain.csv")) if row["name"]]
    assert named
    assert [row["scientificName"] for row in rows] == [row["name"] for row in named]
    for row in rows:
        assert row["basisOfRecord"] == "MachineObservation"
        assert row["kingdom"] == "Animalia"
        assert row["parentEventID"] in ("d1", "d2")
        assert datetime.fromisoformat(row["eventDate"].split("/")[0]).tzinfo is not None
        assert (row["decimalLatitude"], row["decimalLongitude"]) in (("51.5", "-0.1"), ("-3.25", "36.5"))
    assert len({row["occurrenceID"] for row in rows}) == len(rows)


def test_darwin_core_has_every_animal_of_a_picture(survey: Path, trained: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    spoken = Speaker.verdicts

    def vouched(speaker: Speaker, *given: Any) -> list[Verdict]:
        """For two classes in turn."""
        names = speaker.bundle.classes[:2]
        return [replace(one, name=names[at % 2], level="class") for at, one in enumerate(spoken(speaker, *given))]

    monkeypatch.setattr(Speaker, "verdicts", vouched)
    predict_into(trained.folder, ["photos"], "d.csv", form="darwin-core", boxes="md.json", survey="survey.toml")
    first, second, other = rows_of(Path("d.csv"))[:3]
    assert [first["scientificName"], second["scientificName"]] == list(Bundle.load(trained.bundle).classes[:2])
    assert first["eventID"] == second["eventID"] != other["eventID"]
    assert first["occurrenceID"] != second["occurrenceID"]


# ---- the animals of an event


def named(name: str | None, sureness: float = 0.9) -> Verdict:
    return Verdict("a.jpg", name or "fox", 0.9, (), name=name, level="species" if name else "none", certainty=sureness)


def frame(*names: str | None) -> Row:
    """A picture with a box for each animal, in which somebody vouches for these names."""
    box = Detection("animal", 0.9, (0.0, 0.0, 0.5, 0.5))
    return Row(Answer("a.jpg", tuple(Look(box, None) for _ in names)), tuple(map(named, names)))


def test_animals_of_an_event_are_those_of_its_name() -> None:
    rows = frame("fox", "badger", "badger", None), frame("fox")
    (one,) = in_event(Event("e", rows, named("fox")), 0.2)
    assert (one.name, one.individuals) == ("fox", 2)
    (one,) = in_event(Event("e", rows, named(None)), 0.2)
    assert (one.name, one.individuals) == ("", 4)


def test_two_animals_in_one_picture_are_both_told() -> None:
    found = in_event(Event("e", (frame("fox", "badger", "badger"),), named("fox")), 0.2)
    assert [(one.name, one.individuals) for one in found] == [("fox", 1), ("badger", 2)]
    found = in_event(Event("e", (frame(None, "badger"),), named(None)), 0.2)
    assert [(one.name, one.individuals) for one in found] == [("", 1), ("badger", 1)]


def test_nothing_is_told_twice_and_a_box_of_nothing_not_at_all() -> None:
    (one,) = in_event(Event("e", (frame("human"), frame("human")), named("human")), 0.2)
    assert one.kind == "human"
    (fox,) = in_picture(frame("fox", "empty"), 0.2)
    assert (fox.name, fox.individuals) == ("fox", 1)
    (nothing,) = in_picture(frame("empty", "empty"), 0.2)
    assert (nothing.kind, nothing.box, nothing.individuals) == ("blank", None, None)


def test_a_folder_from_a_mac_is_that_of_the_table(tmp_path: Path) -> None:
    (tmp_path / "deployments.csv").write_text(DEPLOYMENTS.replace("cam1", "For\u00eat-1"), encoding="utf-8")
    (tmp_path / "survey.toml").write_text(SURVEY)
    found = read_survey(tmp_path / "survey.toml").deployment_of("photos/Fore\u0302t-1/IMG 1.jpg")
    assert found is not None
    assert found.id == "d1"
