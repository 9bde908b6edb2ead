"""A trained run that is served."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from fieldmark.commands.index import index
from fieldmark.serving.limits import Limits
from support.services import Visitor, served

LIMITS = Limits(body=2**20, pixels=3_000_000, sending_seconds=1.5, explaining_seconds=120)


@pytest.fixture(scope="module")
def birds(_trained: Path, pictures: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with a gallery; nothing is written into it."""
    run = shutil.copytree(_trained, tmp_path_factory.mktemp("served") / "run")
    index(run, pictures)
    return run


@pytest.fixture(scope="module")
def visitor(birds: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Visitor]:
    """Somebody who asks a service of it, which keeps corrections and their pictures."""
    with served(birds, limits=LIMITS, corrections=tmp_path_factory.mktemp("kept"), keep_pictures=True) as one:
        yield one


@pytest.fixture
def photograph(pictures: Path) -> Path:
    return pictures / "jade" / "03.png"
