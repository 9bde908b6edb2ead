"""The layout is a promise: dependencies point one way, folders are shallow, nothing is called utils."""

from __future__ import annotations

import ast
from pathlib import Path

import fieldmark

ROOT = Path(fieldmark.__file__).parent
STAGES = [
    "errors",
    "storage",
    "registry",
    "recipe",
    "pages",
    "fieldguide",
    "data",
    "datasets",
    "augment",
    "losses",
    "necks",
    "heads",
    "auxiliaries",
    "model",
    "methods",
    "training",
    "evaluation",
    "explaining",
    "bundle",
    "run",
    "reporting",
    "comparison",
    "commands",
    "classifier",
    "cli",
    "__main__",
]
MODULES = sorted(ROOT.rglob("*.py"))


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
    assert stages - {"__init__"} == set(STAGES) - {"recipes"}


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


def test_folders_are_shallow_and_names_say_something() -> None:
    assert all(len(path.relative_to(ROOT).parts) <= 2 for path in MODULES)
    assert not {path.stem for path in MODULES} & {"utils", "util", "misc", "helpers", "helper", "common"}


def test_files_are_one_idea() -> None:
    long = {str(path.relative_to(ROOT)): n for path in MODULES if (n := len(path.read_text().splitlines())) > 450}
    assert long == {}


def test_exports_exist_and_are_lazy() -> None:
    assert sorted(fieldmark.__all__) == fieldmark.__all__
    assert set(fieldmark._HOMES) == set(fieldmark.__all__)
    for name in fieldmark.__all__:
        assert getattr(fieldmark, name).__name__ == name
