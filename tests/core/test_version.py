"""Which Fieldmark this is, installed or not."""

from __future__ import annotations

import tomllib
from importlib import metadata
from pathlib import Path

import pytest

from fieldmark.core import version as of


def test_the_version_is_that_of_the_project() -> None:
    project = Path(of.__file__).parents[3] / "pyproject.toml"
    assert of.version() == tomllib.loads(project.read_text(encoding="utf-8"))["project"]["version"]


def test_a_source_tree_that_is_not_installed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def absent(name: str) -> str:
        raise metadata.PackageNotFoundError(name)

    installed = of.version()
    monkeypatch.setattr(metadata, "version", absent)
    assert of.version() == installed
    monkeypatch.setattr(of, "__file__", str(tmp_path / "a" / "b" / "c" / "version.py"))
    assert of.version() == "unknown"
