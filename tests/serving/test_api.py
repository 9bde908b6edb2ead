"""The API: the verdicts of Python over HTTP, and everything else that can be asked of a run."""

from __future__ import annotations

import base64
import csv
import hashlib
import io
import re
import shutil
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fieldmark.answering.predictor import Predictor
from fieldmark.data.decisions import Decision, read_decisions
from fieldmark.evaluation.verdict import Verdict
from support.services import Visitor, served


def shown(url: str) -> Image.Image:
    """The picture in a data URL, which holds nothing but pixels."""
    kind, _, data = url.partition(",")
    assert kind == "data:image/jpeg;base64"
    image = Image.open(io.BytesIO(base64.b64decode(data)))
    assert not image.getexif()
    return image


def same(told: dict[str, object], verdict: Verdict) -> bool:
    """Whether an answer is the verdict, up to the last digits, which depend on how many were computed together."""
    assert told["said"] == verdict.said
    theirs = verdict.as_dict()
    del theirs["path"]
    for key, value in theirs.items():
        if isinstance(value, float):
            assert told[key] == pytest.approx(value, abs=1e-4), key
        elif key == "candidates":
            assert told[key] == [{**one, "probability": pytest.approx(one["probability"], abs=1e-4)} for one in value]
        else:
            assert told[key] == value, key
    return True


def test_everybody_gets_the_verdict_of_the_own_picture(visitor: Visitor, birds: Path, pictures: Path) -> None:
    files = sorted(pictures.rglob("*.png"))
    expected = Predictor.load(birds, device="cpu").predict([file.read_bytes() for file in files])
    with ThreadPoolExecutor(12) as many:
        replies = list(many.map(lambda file: visitor.ask("/v1/predict", file.read_bytes()), files))
    assert {reply.status for reply in replies} == {200}
    assert all(same(reply.json, verdict) for reply, verdict in zip(replies, expected, strict=True))
    digests = [hashlib.sha256(file.read_bytes()).hexdigest() for file in files]
    assert [reply.json["sha256"] for reply in replies] == digests


def test_options_of_a_verdict(visitor: Visitor, birds: Path, photograph: Path) -> None:
    told = visitor.ask("/v1/predict?candidates=2&among=plum&among=AMBER", photograph.read_bytes()).json
    predictor = Predictor.load(birds, device="cpu")
    (verdict,) = predictor.predict(photograph.read_bytes(), candidates=2, among=["plum", "amber"])
    assert same(told, verdict)
    assert told["outside"] > 0
    for wrong, what in (("candidates=0", "candidates"), ("candidates=x", "candidates"), ("among=dodo", "dodo")):
        reply = visitor.ask(f"/v1/predict?{wrong}", photograph.read_bytes())
        assert reply.status == 422
        assert what in reply.complaint


@pytest.mark.parametrize("kind", ["image/png", "image/jpeg", "application/octet-stream", ""])
def test_content_decides_and_no_label(visitor: Visitor, photograph: Path, kind: str) -> None:
    reply = visitor.ask("/v1/predict", photograph.read_bytes(), **({"content_type": kind} if kind else {}))
    assert reply.status == 200


def test_why(visitor: Visitor, photograph: Path) -> None:
    first = visitor.ask("/v1/predict", photograph.read_bytes()).json
    rival = first["candidates"][2]["label"]
    told = visitor.ask(f"/v1/explain?versus={rival}", photograph.read_bytes()).json
    assert (told["first"], told["second"]) == (first["label"], rival)
    assert told["meaning"]
    assert re.search(r"\d : \d|\d : 1", told["odds"])
    assert shown(told["decided"]).size == shown(told["outlined"]).size == (420, 420)
    for region in told["regions"]:
        assert all(shown(one).size[0] > 0 for one in (region["picture"], *region["first"], *region["second"]))
    own = visitor.ask(f"/v1/explain?versus={first['label']}", photograph.read_bytes())
    assert own.status == 422
    assert "the answer is" in own.complaint.lower()
    assert visitor.ask("/v1/explain?versus=dodo", photograph.read_bytes()).complaint == "This model has no class 'dodo'"


def test_answers_are_right_while_something_is_explained(visitor: Visitor, birds: Path, pictures: Path) -> None:
    """An explanation puts other features into a network, which must not be the one that answers."""
    files = sorted(pictures.rglob("*.png"))[:20]
    expected = Predictor.load(birds, device="cpu").predict([file.read_bytes() for file in files])
    explaining = threading.Thread(target=lambda: visitor.ask("/v1/explain", files[0].read_bytes()))
    explaining.start()
    rounds = 0
    while explaining.is_alive() or not rounds:
        replies = [visitor.ask("/v1/predict", file.read_bytes()).json for file in files]
        assert all(same(reply, verdict) for reply, verdict in zip(replies, expected, strict=True))
        rounds += 1
    explaining.join()


def test_neighbours(visitor: Visitor, photograph: Path, pictures: Path) -> None:
    reply = visitor.ask("/v1/search?most=3&label=jade", photograph.read_bytes())
    found = reply.json["neighbours"]
    assert [one["label"] for one in found] == ["jade"] * 3
    assert found[0]["same_file"]
    assert found[0]["similarity"] == pytest.approx(1, abs=1e-3)
    assert not found[1]["same_file"]
    assert all(shown(one["picture"]).size == (48, 40) for one in found)
    assert str(pictures) not in reply.body.decode()


def test_what_is_wrong_is_kept_to_train_on(visitor: Visitor, photograph: Path, pictures: Path) -> None:
    folder = visitor.service.corrections.folder  # type: ignore[union-attr]  # this one keeps them
    said = visitor.ask("/v1/predict", photograph.read_bytes()).json["said"]
    reply = visitor.ask("/v1/wrong?label=%20Plum", photograph.read_bytes())
    assert reply.json == {"said": said, "label": "plum"}
    other = pictures / "amber" / "01.png"
    assert visitor.ask("/v1/wrong?label=%3DHYPERLINK(1)", other.read_bytes()).status == 200
    with (folder / "corrections.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    digest = hashlib.sha256(photograph.read_bytes()).hexdigest()
    assert [(row["sha256"], row["said"], row["label"]) for row in rows[:1]] == [(digest, said, "plum")]
    assert rows[1]["label"] == "'=HYPERLINK(1)"
    first, second = read_decisions([folder / "decisions.csv"])
    assert (first.decision, first.label) == ("label", "plum")
    assert Path(first.path).read_bytes() == photograph.read_bytes()
    assert Path(first.path).suffix == ".png"
    assert second == Decision(second.path, "label", "=HYPERLINK(1)")
    for wrong in ("", "label=", "label=%20", "label=a%00b", f"label={'x' * 201}"):
        assert visitor.ask(f"/v1/wrong?{wrong}", photograph.read_bytes()).status == 422


def test_pictures_are_not_kept_unasked(birds: Path, photograph: Path, tmp_path: Path) -> None:
    with served(birds, corrections=tmp_path / "kept") as visitor:
        assert visitor.ask("/v1/wrong?label=plum", photograph.read_bytes()).status == 200
        assert not visitor.ask("/v1/classes").json["pictures_kept"]
    assert [path.name for path in (tmp_path / "kept").iterdir() if not path.name.startswith(".")] == ["corrections.csv"]


def test_what_a_service_says_about_itself(visitor: Visitor, pictures: Path) -> None:
    about = visitor.ask("/v1/classes").json
    assert about["classes"] == ["amber", "jade", "plum"]
    assert about["model"] == "birds"
    assert about["search"]
    examples = visitor.ask("/v1/classes/1/pictures").json
    assert examples["label"] == "jade"
    assert [shown(one).size for one in examples["pictures"]] == [(48, 40)] * 3
    mean = np.asarray(shown(examples["pictures"][0])).reshape(-1, 3).mean(0)
    assert mean[1] > mean[0]  # jade
    assert visitor.ask("/health").json["status"] == "ok"
    assert visitor.ask("/v1/classes/3/pictures").status == 404


def test_what_may_not_be_shown_is_not(birds: Path, photograph: Path) -> None:
    with served(birds, examples=False) as visitor:
        assert visitor.ask("/v1/classes/1/pictures").json["pictures"] == []
        assert [one["picture"] for one in visitor.ask("/v1/search", photograph.read_bytes()).json["neighbours"]] == [
            None
        ] * 8
        told = visitor.ask("/v1/explain", photograph.read_bytes()).json
        assert all(region["first"] == region["second"] == [] for region in told["regions"])
        assert visitor.ask("/v1/wrong?label=plum", photograph.read_bytes()).complaint == (
            "This service keeps no corrections"
        )


def test_a_bundle_alone_answers(birds: Path, photograph: Path, tmp_path: Path) -> None:
    alone = shutil.copytree(birds / "bundle", tmp_path / "alone")
    with served(alone) as visitor:
        assert visitor.ask("/v1/predict", photograph.read_bytes()).status == 200
        assert visitor.ask("/v1/classes/0/pictures").json["pictures"] == []
        assert visitor.ask("/v1/search", photograph.read_bytes()).complaint == "This run has no gallery to search"


def test_metrics(visitor: Visitor, photograph: Path) -> None:
    visitor.ask("/v1/predict", photograph.read_bytes())
    visitor.ask("/v1/predict", b"nothing")
    visitor.ask("/v1/classes/0/pictures")
    visitor.ask("/a/path/that/anybody/may/invent")
    text = visitor.ask("/metrics").body.decode()
    counts = dict(re.findall(r"^(\S+) ([\d.e+]+)$", text, flags=re.MULTILINE))
    assert float(counts['fieldmark_requests_total{route="/v1/predict",status="200"}']) >= 1
    assert float(counts['fieldmark_requests_total{route="/v1/predict",status="415"}']) >= 1
    assert float(counts['fieldmark_requests_total{route="other",status="404"}']) >= 1
    assert float(counts['fieldmark_requests_total{route="/v1/classes/{number}/pictures",status="200"}']) >= 1
    assert float(counts["fieldmark_batch_size_count"]) >= 1
    assert float(counts["fieldmark_waiting"]) == 0
    assert float(counts["fieldmark_held_bytes"]) == 0
    assert "invent" not in text


def test_the_description_names_every_route(visitor: Visitor) -> None:
    described = visitor.ask("/openapi.json").json
    assert set(described["paths"]) == {
        "/v1/predict",
        "/v1/explain",
        "/v1/search",
        "/v1/wrong",
        "/v1/classes",
        "/v1/classes/{number}/pictures",
        "/health",
        "/metrics",
        "/v2",
        "/v2/health/live",
        "/v2/health/ready",
        "/v2/models/{model}",
        "/v2/models/{model}/ready",
        "/v2/models/{model}/infer",
    }
    assert described["paths"]["/v1/predict"]["post"]["requestBody"]["required"]
    page = visitor.ask("/api").body.decode()
    for path in described["paths"]:
        assert f"{path}</code>" in page
    assert "The body is empty" in page
    answer = described["components"]["schemas"]["Answer"]["properties"]
    assert all(f"<code>{name}</code>" in page for name in answer)


@pytest.mark.parametrize("path", ["/", "/api"])
def test_pages_run_nothing_but_their_own(visitor: Visitor, path: str) -> None:
    reply = visitor.ask(path)
    policy = reply.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    text = reply.body.decode()
    for kind, block in re.findall(r"<(script|style)>(.*?)</\1>", text, flags=re.DOTALL):
        digest = base64.b64encode(hashlib.sha256(block.encode()).digest()).decode()
        assert f"{kind}-src 'sha256-{digest}'" in policy
    assert not re.search(r"""(src|href)=["']?(https?:)?//""", text)
