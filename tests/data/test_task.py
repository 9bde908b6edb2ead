"""What a task says of its classes."""

from __future__ import annotations

import time

import pytest

from fieldmark.data.task import Task
from fieldmark.model.losses.cross_entropy import CrossEntropy
from fieldmark.model.losses.proxy_anchor import ProxyAnchor


def test_the_classes_with_training_images() -> None:
    assert Task(5, unlearnt=(3, 1)).learnt == [0, 2, 4]
    assert Task(2).learnt == [0, 1]


@pytest.mark.parametrize("loss", [CrossEntropy, ProxyAnchor])
def test_many_classes_without_training_images_are_told_apart_in_no_time(loss: type[CrossEntropy | ProxyAnchor]) -> None:
    """Of 20,000 classes, each was once looked up in a set that was made for it."""
    task, begun = Task(20_000, unlearnt=tuple(range(10, 20_000))), time.process_time()
    learnt = loss(task).learnt
    assert learnt is not None
    assert learnt.tolist() == list(range(10))
    assert time.process_time() - begun < 1
