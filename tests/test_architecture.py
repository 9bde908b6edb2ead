"""The layout is a promise: dependencies point one way, folders are shallow, and commands are acts."""

from __future__ import annotations

import ast
from pathlib import Path

import fieldmark

ROOT = Path(fieldmark.__file__).parent
STAGES = [
    "core",
    "pages",
    "fieldguide",
    "data",
    "augment",
    "model",
    "methods",
    "evaluation",
    "runs",
    "answering",
    "gallery",
    "learning",
    "labelling",
    "reporting",
    "comparison",
    "exporting",
    "serving",
    "commands",
    "classifier",
    "cli",
    "__main__",
]
TO_COME: set[str] = set()
MODULES = sorted(ROOT.rglob("*.py"))
BIGGEST_COMMAND, ORDINARY_COMMAND = 290, 115  # lines


def _stage(module: str) -> str:
    return module.removeprefix("fieldmark.").split(".")[0]


def _imports(path: Path) -> set[str]:
    """Every fieldmark module that a file imports, wherever in the file."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("fieldmark"):
            found |= (
                {f"{node.module}.{alias.name}" for alias in node.names} if node.module == "fieldmark" else {node.module}
            )
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names if alias.name.startswith("fieldmark")}
    return found


def test_every_module_belongs_to_a_stage() -> None:
    stages = {path.relative_to(ROOT).parts[0].removesuffix(".py") for path in MODULES}
    assert stages - {"__init__"} == set(STAGES)


def test_dependencies_point_to_earlier_stages() -> None:
    wrong = []
    for path in MODULES:
        own = path.relative_to(ROOT).parts[0].removesuffix(".py")
        if own == "__init__":
            continue
        for module in _imports(path):
            if STAGES.index(_stage(module)) > STAGES.index(own):
                wrong.append(f"{path.relative_to(ROOT)} imports {module}")
    assert wrong == []


def test_rooms_can_be_seen_at_a_glance() -> None:
    rooms = {path.name for path in ROOT.iterdir() if path.is_dir() and path.name != "__pycache__"}
    assert len(rooms | TO_COME) <= 20
    assert all(len(path.relative_to(ROOT).parts) <= 3 for path in MODULES)
    assert not {path.stem for path in MODULES} & {"utils", "util", "misc", "helpers", "helper", "common"}


def test_commands_are_acts() -> None:
    files = sorted((ROOT / "commands").glob("*.py"))
    assert [
        f"{path.name} imports {module}"
        for path in files
        for module in _imports(path)
        if module.startswith("fieldmark.commands")
    ] == []
    lengths = [len(path.read_text(encoding="utf-8").splitlines()) for path in files]
    assert max(lengths) <= BIGGEST_COMMAND
    assert sum(lengths) <= ORDINARY_COMMAND * len(files)


def test_pictures_are_answered_in_one_place() -> None:
    """Decode, view, batch, network: whoever wants answers goes through the stream."""
    stacking = [
        str(path.relative_to(ROOT)) for path in MODULES if "stack([one.view" in path.read_text(encoding="utf-8")
    ]
    assert stacking == ["answering/stream.py"]
    inferring = [str(path.relative_to(ROOT)) for path in MODULES if "inference_mode" in path.read_text("utf-8")]
    assert inferring == [
        "answering/engine.py",
        "commands/backbones.py",  # noise, for the time that it takes
        "learning/training/mirror.py",  # the demo's small network, for whether a flip changes the meaning
    ]


def test_verdicts_need_no_torch() -> None:
    answering = (ROOT / "answering" / f"{name}.py" for name in ("stream", "things", "verdicts", "views"))
    for path in (*(ROOT / "evaluation").rglob("*.py"), *answering, ROOT / "data" / "square.py"):
        text = path.read_text(encoding="utf-8")
        assert "import torch" not in text, path
        assert "from torch" not in text, path


def test_files_are_read_and_written_in_one_place() -> None:
    """What is read has a schema, what is written has no NaN, and nothing that can run code is opened."""

    def users(word: str) -> set[str]:
        return {str(path.relative_to(ROOT)) for path in MODULES if word in path.read_text(encoding="utf-8")}

    assert users("json.loads(") == {"core/reading.py", "data/cache.py"}
    assert users("tomllib.loads(") == {"core/reading.py", "core/version.py"}
    inside = {"answering/explaining/explainer.py", "data/cache.py", "learning/training/state.py"}  # strings in arrays
    assert users("json.dumps(") == {"core/storage.py"} | inside
    assert users("pickle.load") == {
        "data/sets/cifar10.py",  # a published file, by its hash
        "learning/training/bare.py",  # what its own parent writes to its pipe
    }
    assert users("torch.load(") == {"model/installed.py"}  # published files, by their hashes, and tensors only
    assert users("from rich.console import Console") == {"cli/terminal.py"}


def test_files_are_one_idea() -> None:
    long = {str(path.relative_to(ROOT)): n for path in MODULES if (n := len(path.read_text().splitlines())) > 450}
    assert long == {}


def test_exports_exist_and_are_lazy() -> None:
    assert sorted(fieldmark.__all__) == fieldmark.__all__
    assert set(fieldmark._HOMES) == set(fieldmark.__all__)
    for name in fieldmark.__all__:
        assert getattr(fieldmark, name).__name__ == name
