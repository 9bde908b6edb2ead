"""Trackers with the packages that they report to: a real training, read back with the tools of each package."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import Any

import pytest

from fieldmark.commands.train import train
from fieldmark.core.errors import FieldmarkError
from fieldmark.core.listener import Done, EpochEnded, Listener, Listeners, Note, StepTaken
from fieldmark.core.trackers import TensorBoard, tracker
from support.commands import Cli, settings
from support.hearing import Heard

STEPS = settings(train__epochs="2", train__batch_size="2", train__precision="fp32", train__head_epochs="0")


def taught(pictures: Path, out: Path, listener: Listener) -> Heard:
    """Train for a second or two; everything that the listener heard."""
    heard = Heard()
    train(pictures, "finetune", out=out, overrides=STEPS, listener=Listeners(listener, heard))
    return heard


def spoken_by_epochs(heard: Heard) -> dict[str, dict[int, float]]:
    """Name → step → metric, as the events of a training have it."""
    found: dict[str, dict[int, float]] = {}
    for event in heard.events:
        if isinstance(event, EpochEnded):
            for name, value in event.metrics.items():
                found.setdefault(f"{event.fit}/{name}", {})[event.step] = value
    return found


# TensorBoard ----------------------------------------------------------------------------------------------------------


def scalars_in(folder: Path) -> dict[str, dict[int, float]]:
    """Name → step → value, as TensorBoard itself reads the event files."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    read = EventAccumulator(str(folder)).Reload()
    return {name: {one.step: one.value for one in read.Scalars(name)} for name in read.Tags()["scalars"]}


def test_tensorboard_shows_what_a_training_said(pictures: Path, tmp_path: Path) -> None:
    heard = taught(pictures, tmp_path / "run", TensorBoard(tmp_path / "events"))
    written = scalars_in(tmp_path / "events")
    expected = spoken_by_epochs(heard)
    assert {"model/loss", "model/val_top1"} <= set(expected)
    tenths = [event for event in heard.events if isinstance(event, StepTaken) and event.step % 10 == 0]
    assert len(tenths) >= 2
    expected["model/step loss"] = {event.step: event.loss for event in tenths}
    expected["model/images per second"] = {event.step: event.images_per_second for event in tenths}
    assert set(written) == set(expected)
    for name, values in expected.items():
        assert written[name] == pytest.approx(values, rel=1e-6), name  # event files hold single precision


def test_tensorboard_begins_a_file_with_the_first_number(tmp_path: Path) -> None:
    listener = tracker("tensorboard", tmp_path)
    listener.hear(Note("before anything is learnt"))
    assert list(tmp_path.iterdir()) == []  # a run begins in an empty folder
    listener.hear(Done("train"))
    assert list(tmp_path.iterdir()) == []
    listener.hear(EpochEnded("model", 1, 1, 20, {"loss": 0.5}))
    assert scalars_in(tmp_path / "tensorboard") == {"model/loss": {20: 0.5}}  # before it is done, for whoever looks on


def test_tensorboard_goes_on_after_it_was_done(tmp_path: Path) -> None:
    """As it does where one listener hears several trainings of one folder."""
    listener = TensorBoard(tmp_path)
    for step in (20, 40):
        listener.hear(EpochEnded("model", step // 20, 2, step, {"loss": 1 / step}))
        listener.hear(Done("train"))
    assert scalars_in(tmp_path) == {"model/loss": pytest.approx({20: 0.05, 40: 0.025})}


def test_train_tracks_into_the_folder_of_its_run(cli: Cli, pictures: Path, tmp_path: Path) -> None:
    options = [word for setting in STEPS for word in ("--set", setting)]
    answer = cli("train", pictures, "--out", tmp_path / "run", "--track", "tensorboard", *options)
    assert answer.status == 0, answer.err
    assert "model/val_top1" in scalars_in(tmp_path / "run" / "tensorboard")


# MLflow ---------------------------------------------------------------------------------------------------------------


@pytest.mark.skipif(importlib.util.find_spec("mlflow") is None, reason="mlflow is not installed: fieldmark[mlflow]")
@pytest.mark.filterwarnings("default")  # MLflow warns about itself
def test_mlflow_holds_what_a_training_said(pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", (tmp_path / "store").as_uri())
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")  # a store without a data base or a server
    from mlflow.tracking import MlflowClient

    heard = taught(pictures, tmp_path / "birds", tracker("mlflow", tmp_path / "birds"))
    client = MlflowClient()
    (run,) = client.search_runs([one.experiment_id for one in client.search_experiments()])
    assert run.info.run_name == "birds"
    assert run.info.status == "FINISHED"
    expected = spoken_by_epochs(heard)
    assert set(run.data.metrics) == set(expected)
    for name, values in expected.items():
        kept = {one.step: one.value for one in client.get_metric_history(run.info.run_id, name)}
        assert kept == pytest.approx(values), name


# A package that is not there ------------------------------------------------------------------------------------------


@pytest.fixture(params=["tensorboard", "mlflow"])
def absent(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The name of a tracker whose package cannot be imported, as where it is not installed."""
    for module in list(sys.modules):
        if module.partition(".")[0] == request.param or module.startswith("torch.utils.tensorboard"):
            monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, request.param, None)
    return request.param


def test_a_package_that_is_not_installed_is_named_with_its_extra(absent: Any, tmp_path: Path) -> None:
    with pytest.raises(FieldmarkError) as caught:
        tracker(absent, tmp_path)
    assert f"{absent} needs a package that is not installed" in caught.value.problem
    assert str(caught.value).endswith(f"Install it: pip install 'fieldmark[{absent}]'.")
    assert "\n" not in str(caught.value)


def test_train_says_in_one_line_what_to_install(absent: str, cli: Cli, pictures: Path, tmp_path: Path) -> None:
    answer = cli("train", pictures, "--out", tmp_path / "run", "--track", absent)
    assert f"pip install 'fieldmark[{absent}]'" in answer.complaint
    assert not (tmp_path / "run").exists()
