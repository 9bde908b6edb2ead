"""What an answer does not need is not imported for it, and is there for whoever asks."""

from __future__ import annotations

import gc
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from fieldmark.commands.train import train
from fieldmark.core.imports import compiler_on_demand, uncollected
from fieldmark.model.choosing import listed_backbones
from fieldmark.runs.run import Run

SLOW = (
    "scipy.stats",
    "scipy.optimize",
    "scipy.sparse",
    "sklearn",
    "pandas",
    "pyarrow",
    "matplotlib",
    "jinja2",
    "torch._dynamo",
    "torch._inductor",
    "torchvision.transforms.v2",
)
PREDICT = f"""
import sys
from fieldmark.cli import main

try:
    main()
except SystemExit as stopped:
    assert not stopped.code, stopped.code
found = {{name for name in {SLOW} for module in sys.modules if module == name or module.startswith(name + ".")}}
print("slow:", *sorted(found))
"""


def python(code: str, *arguments: object) -> str:
    """What a process of its own prints."""
    done = subprocess.run([sys.executable, "-c", code, *map(str, arguments)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("head", [None, 'name = "linear"\nunit = true', 'name = "cosine"\nscale = 32.0'])
def test_an_answer_needs_neither_statistics_nor_plots_nor_a_compiler(
    trained: Run, pictures: Path, tmp_path: Path, head: str | None
) -> None:
    run = trained.folder
    if head is not None:  # options that change no size
        (tmp_path / "recipe.toml").write_text(
            f'[head]\n{head}\n[backbone]\nname = "test_resnet"\nweights = "none"\n[images]\nsize = 32\n'
            "[train]\nepochs = 1\nbatch_size = 21\n"
        )
        run = train(pictures, str(tmp_path / "recipe.toml"), out=tmp_path / "run").folder
    printed = python(PREDICT, "predict", run, next(pictures.rglob("*.png"))).splitlines()
    assert len(printed) == 2
    assert printed[1] == "slow:"


MISTAKES = """
import sys
from pathlib import Path
from fieldmark.cli import main

pictures, run = sys.argv[1:]
for command in (
    "train nowhere", f"train {pictures} --recipe finetun", f"train {pictures} --recipe nowhere.toml",
    f"train {pictures} --set train.epoch=3", f"train {pictures} --backbone resnet5", f"train {pictures} --weights w.pt",
    "compare nowhere --recipes finetune,probe", f"compare {pictures} --recipes finetune,prob", f"evaluate {pictures}",
    f"evaluate {run} nowhere", f"predict {pictures} a.jpg", f"predict {run}", f"explain {pictures} a.jpg",
    "audit nowhere", "preview nowhere", f"preview {pictures} --recipe finetun", f"parts {pictures}",
    f"report {pictures}",
):
    sys.argv = ["fieldmark", *command.split()]
    try:
        main()
    except SystemExit as stopped:
        assert stopped.code == 2, (command, stopped.code)
    heavy = {"torch", "torchvision", "timm", "matplotlib", "sklearn"} & set(sys.modules)
    assert not heavy, (command, heavy)
"""


def test_common_mistakes_are_answered_before_torch_is_imported(trained: Run, pictures: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", MISTAKES, str(pictures), str(trained.folder)],
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("fieldmark: ") == len(done.stderr.splitlines()) == 18


def test_an_audit_needs_no_torch() -> None:
    assert python("import sys, fieldmark.commands.audit; print('torch' in sys.modules)").strip() == "False"


def test_timms_models_are_read_from_its_source() -> None:
    import timm

    assert listed_backbones() == set(timm.list_models())


def test_the_compiler_is_there_for_whoever_asks() -> None:
    """timm and torchvision were imported without it, and all three work together afterwards."""
    assert python("""
import sys
from fieldmark.core.imports import compiler_on_demand

with compiler_on_demand():
    import timm, torchvision
assert "torch._dynamo" not in sys.modules
assert "torch._dynamo.utils" not in sys.modules

import torch
from torchvision.ops import roi_align

assert timm.layers.disable_compiler(lambda x: x + 1)(1) == 2
assert timm.layers.disable_compiler(reason="none")(lambda x: x + 1)(1) == 2
assert "torch._dynamo" in sys.modules
assert sys.modules["torchvision.ops.roi_align"].is_compile_supported("cpu") is True
assert roi_align(torch.zeros(1, 1, 8, 8), [torch.tensor([[0.0, 0.0, 4.0, 4.0]])], 2).shape == (1, 1, 2, 2)
assert torch.compile(lambda x: x + 1, backend="eager")(torch.ones(1)) == 2
assert torch.compiler.disable.__module__ == "torch.compiler"
print("done")
""") == "done\n"  # fmt: skip


def test_a_compiler_that_is_imported_in_the_meantime_is_the_real_one() -> None:
    assert python("""
import sys
from fieldmark.core.imports import compiler_on_demand

with compiler_on_demand():
    import torch._dynamo
    import torchvision
assert sys.modules["torch._dynamo.utils"] is torch._dynamo.utils
assert torch._dynamo.utils.__file__
assert torch.compile(lambda x: x + 1, backend="eager")(torch.ones(1)) == 2
print("done")
""") == "done\n"  # fmt: skip


def test_a_compiler_that_is_imported_already_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch._dynamo", sys.modules.get("torch._dynamo", torch))
    before, disable = sys.modules.get("torch._dynamo.utils"), torch.compiler.disable
    with compiler_on_demand():
        assert sys.modules.get("torch._dynamo.utils") is before
        assert torch.compiler.disable is disable


def test_garbage_is_collected_again_afterwards() -> None:
    assert gc.isenabled()
    with uncollected():
        assert not gc.isenabled()
    assert gc.isenabled()
    with pytest.raises(ValueError, match="no good"), uncollected():
        raise ValueError("no good")
    assert gc.isenabled()
    gc.disable()
    try:
        with uncollected():
            pass
        assert not gc.isenabled()  # as whoever turned it off wants it
    finally:
        gc.enable()
