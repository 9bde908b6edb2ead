"""`fieldmark predict`: which files, which answers, in which form."""

from __future__ import annotations

import csv
import errno
import io
import json
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fieldmark.answering.predictor import Predictor
from fieldmark.answering.things import Skipped, named
from fieldmark.cli import main
from fieldmark.commands.predict import predict
from fieldmark.core.errors import DataError
from fieldmark.data.readers.checklist import read_checklist
from fieldmark.evaluation.verdict import Verdict
from fieldmark.runs.run import Run

Cli = Callable[..., Any]
PLAIN = ["path", "label", "probability", "candidates", "promised"]
KEYS = [*PLAIN, "name", "level", "certainty", "familiar", "possible", "reason"]


@pytest.fixture
def photographs(pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """new/1.png, new/2.png, new/nested/3.png and new/notes.txt in the current folder."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "new/nested").mkdir(parents=True)
    for name, source in (("1", "jade/00"), ("2", "plum/01"), ("nested/3", "amber/02")):
        shutil.copy(pictures / f"{source}.png", tmp_path / "new" / f"{name}.png")
    (tmp_path / "new/notes.txt").write_text("no photograph")
    return tmp_path / "new"


# Which files ----------------------------------------------------------------------------------------------------------


def test_files_folders_and_globs(photographs: Path) -> None:
    assert [thing.name for thing in named(["new"])] == ["new/1.png", "new/2.png", "new/nested/3.png"]
    assert [thing.name for thing in named(["new/*.png"])] == ["new/1.png", "new/2.png"]
    assert [thing.name for thing in named(["new/**/*.png"])] == ["new/1.png", "new/2.png", "new/nested/3.png"]
    assert [thing.name for thing in named(["new/2.png", "new/1.png"])] == ["new/2.png", "new/1.png"]
    assert [thing.name for thing in named(["new/absent.png"])] == ["new/absent.png"]
    (photographs / "[1].png").write_bytes(b"a name with the signs of a glob")
    assert [thing.name for thing in named(["new/[1].png"])] == ["new/[1].png"]


def test_nothing_to_answer_for(photographs: Path, trained: Run, cli: Cli) -> None:
    (photographs / "empty").mkdir()
    assert cli("predict", trained.folder, "new/empty").complaint == (
        "The folder new/empty contains no images. Give image files, folders of images, globs, or a table "
        "with a column 'path'."
    )
    assert cli("predict", trained.folder, "new/*.gif").complaint.startswith("No file matches 'new/*.gif'. Give ")


def test_a_list_on_standard_input(photographs: Path, trained: Run, monkeypatch: pytest.MonkeyPatch, cli: Cli) -> None:
    listed = "new/2.png\n\n  new/1.png \nnew/nested\n"
    for arguments in ((), ("-",)):
        answer = cli("predict", trained.folder, *arguments, "--format", "json", typed=listed)
        assert answer.status == 0
        paths = [json.loads(line)["path"] for line in answer.out.splitlines()]
        assert paths == ["new/2.png", "new/1.png", "new/nested/3.png"]
    nothing = "No images were given. Name files, folders or globs, or pass a list on standard input."
    assert cli("predict", trained.folder).complaint == nothing

    class Keyboard(io.TextIOWrapper):
        def isatty(self) -> bool:
            return True

    monkeypatch.setattr(io, "TextIOWrapper", Keyboard)  # at a terminal: complain rather than wait
    assert cli("predict", trained.folder, typed=listed).complaint == nothing


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_a_list_as_other_programs_write_it(photographs: Path, trained: Run, cli: Cli, encoding: str) -> None:
    """With a byte order mark, Windows' line ends, and quotes around paths."""
    shutil.copy(photographs / "1.png", photographs / "'4.png'")
    listed = "\"new/2.png\"\r\n'new/1.png'\r\nnew/'4.png'\r\n".encode(encoding)
    answer = cli("predict", trained.folder, "-", "--format", "json", typed=listed)
    assert [json.loads(line)["path"] for line in answer.out.splitlines()] == ["new/2.png", "new/1.png", "new/'4.png'"]


# Answers --------------------------------------------------------------------------------------------------------------


def test_verdicts_are_those_of_the_bundle(photographs: Path, trained: Run) -> None:
    verdicts = list(predict(trained.folder, ["new"], candidates=2))
    assert all(isinstance(verdict, Verdict) for verdict in verdicts)
    bundle = Predictor.load(trained.bundle)
    files = ["new/1.png", "new/2.png", "new/nested/3.png"]
    assert verdicts == bundle.predict(files, candidates=2)
    for verdict, probabilities in zip(verdicts, bundle.predict_proba(files), strict=True):
        assert isinstance(verdict, Verdict)
        assert verdict.label == bundle.classes[probabilities.argmax()] == verdict.candidates[0].label
        assert verdict.probability == pytest.approx(probabilities.max())
        assert len(verdict.candidates) == 2
        assert verdict.outside is None


def test_more_images_than_a_batch(pictures: Path, trained: Run) -> None:
    paths = [str(path) for path in sorted(pictures.rglob("*.png"))]
    paths.insert(20, "absent.png")
    answers = list(predict(trained.folder, paths))
    assert [answer.path for answer in answers] == paths
    assert [isinstance(answer, Skipped) for answer in answers] == [path == "absent.png" for path in paths]


def test_bad_files_are_named_and_skipped(photographs: Path, trained: Run, cli: Cli) -> None:
    (photographs / "broken.png").write_bytes(b"not an image")
    files = ["new/1.png", "new/absent.png", "new/broken.png", "new/2.png"]
    for form in ("table", "csv", "json"):
        answer = cli("predict", trained.folder, *files, "--format", form)
        assert answer.status == 1
        skipped = [line for line in answer.err.splitlines() if not line.startswith("note: ")]
        assert [line.split()[:2] for line in skipped] == [
            ["skipped:", "new/absent.png"],
            ["skipped:", "new/broken.png"],
        ]
        assert "new/1.png" in answer.out
        assert "new/2.png" in answer.out
        assert "new/absent.png" not in answer.out


def test_a_checklist_restricts_the_answer(photographs: Path, trained: Run, tmp_path: Path, cli: Cli) -> None:
    names = tmp_path / "names.txt"
    names.write_text("\ufeff# what lives here\n\njade\n  PLUM \n", encoding="utf-8")
    assert read_checklist(names, ["jade", "plum"]) == ["jade", "PLUM"]
    answer = cli("predict", trained.folder, "new", "--among", names, "--format", "json")
    bundle = Predictor.load(trained.bundle)
    for line, row in zip(
        answer.out.splitlines(), bundle.predict_proba([thing.name for thing in named(["new"])]), strict=True
    ):
        values = json.loads(line)
        assert list(values) == [*KEYS, "outside"]
        whole = dict(zip(bundle.classes, row, strict=True))
        assert values["outside"] == pytest.approx(whole["amber"], abs=1e-5)
        assert {c["label"] for c in values["candidates"]} == {"jade", "plum"}
        assert sum(c["probability"] for c in values["candidates"]) == pytest.approx(1, abs=1e-5)
        for c in values["candidates"]:
            assert c["probability"] == pytest.approx(whole[c["label"]] / (1 - whole["amber"]), abs=1e-5)
    table = cli("predict", trained.folder, "new/1.png", "--among", names).out
    assert "% outside the checklist]" in table


def test_a_checklist_of_unknown_names(photographs: Path, trained: Run, tmp_path: Path, cli: Cli) -> None:
    names = tmp_path / "names.txt"
    command = ("predict", trained.folder, "new", "--among", names)
    assert cli(*command).complaint.startswith(f"Cannot read the checklist {names}: ")
    names.write_text("# nothing\n")
    assert cli(*command).complaint == f"The checklist {names} is empty. Expected class names, one per line."
    names.write_text("jade\nplun\n")
    assert cli(*command).complaint == (
        "1 of 2 names are not classes of this model, such as 'plun'. Did you mean 'plum'?"
    )
    with pytest.raises(DataError, match="it is not a regular file"):
        read_checklist(Path("/dev/null"), [])


def test_a_line_with_a_hash_is_a_comment_unless_it_is_a_class(tmp_path: Path) -> None:
    names = tmp_path / "names.txt"
    names.write_text("# pencils\n#3 pencil\n#4 pencil\n  rose \u00a0bush\n")
    assert read_checklist(names, ["#3 pencil", "rose bush"]) == ["#3 pencil", "rose bush"]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes on this system")
def test_a_checklist_that_is_a_pipe(photographs: Path, trained: Run, tmp_path: Path, cli: Cli) -> None:
    os.mkfifo(tmp_path / "names.txt")
    complaint = cli("predict", trained.folder, "new", "--among", tmp_path / "names.txt").complaint
    assert complaint.endswith("names.txt: it is not a regular file. Expected class names, one per line.")


# Forms ----------------------------------------------------------------------------------------------------------------


def test_what_cannot_be_promised(photographs: Path, trained: Run, cli: Cli) -> None:
    """Six validation images: a note with the numbers needed, and a refusal where it was asked for."""
    answer = cli("predict", trained.folder, "new")
    notes = [line for line in answer.err.splitlines() if line.startswith("note: ")]
    assert notes[0].startswith("note: An accuracy of 70 % cannot be promised")
    assert notes[-1] == (
        "note: A coverage of 90 % cannot be promised from 6 independent validation images: it takes 9."
    )
    refused = cli("predict", trained.folder, "new", "--accuracy", "0.95").complaint
    assert refused.startswith("An accuracy of 95 % cannot be promised")
    refused = cli("predict", trained.folder, "new", "--coverage", "0.95").complaint
    assert refused.startswith(
        "A coverage of 95 % cannot be promised from 6 independent validation images: it takes 19."
    )
    assert cli("predict", trained.folder, "new", "--coverage", "90").complaint == (
        "The coverage cannot be 90. Expected a share between 0 and 1, such as 0.95."
    )
    assert cli("evaluate", trained.folder, "--coverage", "0.95").complaint.startswith("A coverage of 95 % cannot")
    given = cli("predict", trained.folder, "new", "--coverage", "0.8", "--format", "json")
    assert all(json.loads(line)["possible"] for line in given.out.splitlines())


def test_an_uncalibrated_bundle_says_so(photographs: Path, pictures: Path, tmp_path: Path, cli: Cli, tiny: Any) -> None:
    run = tmp_path / "refit"
    trained = cli("train", pictures, *tiny(protocol="refit"), "--out", run)
    assert "Not calibrated: " in trained.err
    answer = cli("predict", run, "new", "--format", "json")
    assert answer.err == "note: Not calibrated: these are plain softmax probabilities.\n"
    assert list(json.loads(answer.out.splitlines()[0])) == PLAIN
    for option in ("--accuracy", "--coverage"):
        assert cli("predict", run, "new", option, "0.9").complaint.startswith(
            "This bundle is not calibrated, so it can "
        )


def test_bursts(photographs: Path, trained: Run, cli: Cli) -> None:
    (photographs / "broken.png").write_bytes(b"not an image")
    answer = cli("predict", trained.folder, "new", "--bursts", "--format", "json")
    lines = [json.loads(line) for line in answer.out.splitlines()]
    assert [(line["path"], line["frames"]) for line in lines] == [
        ("new/1.png", 1), ("new/2.png", 1), ("new/nested/3.png", 1), ("new", 2), ("new/nested", 1)
    ]  # fmt: skip
    assert lines[4] | {"path": "", "frames": 0} == lines[2] | {"path": "", "frames": 0}
    table = csv.DictReader(io.StringIO(cli("predict", trained.folder, "new", "--bursts", "--format", "csv").out))
    assert [row["frames"] for row in table] == ["1", "1", "1", "2", "1"]


def test_json_lines(photographs: Path, trained: Run, cli: Cli) -> None:
    answer = cli("predict", trained.folder, "new", "--format", "json", "--candidates", 2)
    lines = [json.loads(line) for line in answer.out.splitlines()]
    assert [line["path"] for line in lines] == ["new/1.png", "new/2.png", "new/nested/3.png"]
    for line in lines:
        assert list(line) == KEYS
        assert len(line["candidates"]) == 2
        assert line["candidates"][0] == {"label": line["label"], "probability": line["probability"]}


def test_csv(photographs: Path, trained: Run, cli: Cli) -> None:
    shutil.copy(photographs / "1.png", photographs / 'a, "b".png')
    answer = cli("predict", trained.folder, "new", "--format", "csv")
    rows = list(csv.DictReader(io.StringIO(answer.out)))
    assert list(rows[0]) == KEYS
    assert [row["path"] for row in rows] == ["new/1.png", "new/2.png", 'new/a, "b".png', "new/nested/3.png"]
    first, *others = rows[0]["candidates"].split("; ")
    assert first == f"{rows[0]['label']} {float(rows[0]['probability']):.4f}"
    assert len(others) == 2


def test_csv_runs_nothing_in_a_spreadsheet(photographs: Path, trained: Run, cli: Cli) -> None:
    shutil.copy(photographs / "1.png", "=1+1.png")
    rows = list(csv.DictReader(io.StringIO(cli("predict", trained.folder, "=1+1.png", "--format", "csv").out)))
    assert rows[0]["path"] == "'=1+1.png"


@pytest.mark.parametrize("columns", [60, 80])
def test_table(photographs: Path, trained: Run, cli: Cli, columns: int) -> None:
    long = photographs / ("a" * 60) / "[b]lue.png"
    long.parent.mkdir()
    shutil.copy(photographs / "1.png", long)
    out = cli("predict", trained.folder, "new", columns=columns).out
    lines = out.splitlines()
    assert len(lines) == 4
    assert max(map(len, lines)) <= columns
    assert len({line.index(" %  ") for line in lines}) == 1, "percentages stand in one column"
    (cut,) = (line for line in lines if line.startswith("…"))
    assert "/[b]lue.png" in cut


def test_names_that_the_terminal_cannot_show(photographs: Path, trained: Run, capfd: Any) -> None:
    name = b"new/caf\xe9.png".decode(errors="surrogateescape")
    shutil.copy(photographs / "1.png", name)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["fieldmark", "predict", str(trained.folder), name, "--format", "json"])
        patch.setattr(sys, "stdout", io.TextIOWrapper(io.BytesIO(), encoding="utf-8"))
        with pytest.raises(SystemExit) as ended:
            main()
        assert not ended.value.code
        sys.stdout.flush()
        written = sys.stdout.buffer.getvalue()
    assert json.loads(written)["path"] == name


def test_a_pipe_that_is_closed(photographs: Path, trained: Run) -> None:
    class Closed(io.StringIO):
        def write(self, text: str) -> int:
            raise BrokenPipeError(errno.EPIPE, "Broken pipe")

        def fileno(self) -> int:
            return 1

    for form in ("csv", "json"):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(sys, "argv", ["fieldmark", "predict", str(trained.folder), "new", "--format", form])
            patch.setattr(sys, "stdout", Closed())
            patch.setattr(sys, "stderr", io.StringIO())
            with pytest.raises(SystemExit) as ended:
                main()
            assert ended.value.code == 1
            assert "Traceback" not in sys.stderr.getvalue()
