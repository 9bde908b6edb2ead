"""The deterministic loader.

The order of samples is a pure function of (seed, epoch), a sample's augmentation of (seed, epoch, sample). So no
generator state is saved, the number of workers changes nothing, and training can be taken up at any step.

Shapes: B images of S × S pixels, P key points.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from fieldmark.core.errors import FieldmarkError
from fieldmark.core.interrupts import deaf_to_termination
from fieldmark.core.memory import lacked_memory
from fieldmark.core.seeds import Stream, derive_seed
from fieldmark.data.catalog import Catalog
from fieldmark.data.decode import Decoded
from fieldmark.data.remote import WAITING, is_remote
from fieldmark.data.sampling import class_order, recurrences

__all__ = [
    "Augmentation",
    "Change",
    "Keys",
    "Marked",
    "Pixels",
    "Sampled",
    "Samples",
    "Schedule",
    "Source",
    "batches_of",
    "training_batches",
]


Keys = list[tuple[int, int]]
"""The (epoch, row) pairs of one step."""


class Pixels(Protocol):
    """Anything that answers a row with its decoded pixels, such as `cache.PixelStore`."""

    def __getitem__(self, row: int) -> Decoded: ...


class Sampled(NamedTuple):
    """One batch as it leaves the loader."""

    images: Tensor
    """uint8 (B, 3, S, S); or (B, E), what a frozen backbone made of them."""
    labels: Tensor
    """(B,) int64."""
    rows: Tensor
    """(B,) int64."""
    boxes: Tensor | None
    keypoints: Tensor | None


class Marked(NamedTuple):
    """A picture and where things are in it."""

    pixels: NDArray[np.uint8]
    """(H, W, 3)."""
    box: NDArray[np.float32] | None
    """(4,) x, y, width, height; NaN where there is none."""
    keypoints: NDArray[np.float32] | None
    """(P, 3) x, y, visible; NaN coordinates where there is none."""


class ViewLike(Protocol):
    """What an augmentation returns for one image; see `augment.image.View`."""

    @property
    def image(self) -> Tensor: ...
    @property
    def box(self) -> Tensor | None: ...
    @property
    def keypoints(self) -> Tensor | None: ...


class Source(Protocol):
    """Anything that gives the batches of a training, such as `Samples`."""

    def batch(self, keys: Keys) -> Sampled: ...


Augmentation = Callable[
    [NDArray[np.uint8], int, NDArray[np.float32] | None, NDArray[np.float32] | None],
    ViewLike,
]
"""(pixels, seed, box, key points) → view."""

Change = Callable[[Marked, int, int, Callable[[int], Marked]], Marked]
"""(picture, its row, seed, what gives the picture of another row) → picture; see `augment.pose`."""


@dataclass(frozen=True)
class Schedule:
    """Which rows make up which step. Steps count through the whole training."""

    rows: NDArray[np.int64]
    batch_size: int
    epochs: int
    seed: int
    labels: NDArray[np.int64] | None = None
    """(N,) of the rows: each class comes equally often. None: each row comes once an epoch, shuffled."""
    images_per_class: int = 1
    """With labels, a batch has so many images of each of its classes."""
    views: int = 0
    """So many views of an image come in turn, those of epochs 0, 1, …; 0: each epoch has its own."""

    @property
    def steps_per_epoch(self) -> int:
        """Full batches only: a last batch of one or two would upset BatchNorm. Each epoch leaves out others."""
        return max(1, len(self.rows) // self.batch_size)

    @property
    def num_steps(self) -> int:
        return self.epochs * self.steps_per_epoch

    @property
    def step_size(self) -> int:
        """The images of a step."""
        size = min(self.batch_size, len(self.rows))
        return size if self.labels is None else max(1, size // self.images_per_class) * self.images_per_class

    def batch(self, step: int) -> Keys:
        """The (epoch, row) pairs of one step."""
        return next(self.batches(step))

    def batches(self, first_step: int) -> Iterator[Keys]:
        """The (epoch, row) pairs of steps `first_step`, `first_step` + 1, … to the end.

        A row that comes again within an epoch is paired with the next of its `views`, or else with an epoch that the
        training never reaches, so that its augmentation is another one.
        """
        begun, index = divmod(first_step, self.steps_per_epoch)
        for epoch in range(begun, self.epochs):
            for batch in self._epoch(epoch)[index:]:  # not all as lists at once, of which an epoch has millions
                yield [(view, row) for view, row in batch.tolist()]
            index = 0

    def _epoch(self, epoch: int) -> NDArray[np.int64]:
        """(steps, B, 2) the (epoch, row) pairs of one epoch."""
        rng = np.random.Generator(np.random.PCG64(derive_seed(Stream.ORDER, self.seed, epoch)))
        steps, size = self.steps_per_epoch, self.step_size
        if self.labels is None:
            rows = rng.permutation(self.rows)[: steps * size]
        else:
            images = self.images_per_class
            classes = size // images
            rows = self.rows[class_order(self.labels, batches=steps, classes=classes, images=images, rng=rng).ravel()]
        again = recurrences(rows)
        views = (epoch + again) % self.views if self.views else epoch + self.epochs * again
        return np.stack([views, rows], axis=1).reshape(steps, -1, 2)


class Samples(Dataset[tuple[Tensor, int, int, Tensor | None, Tensor | None]]):
    """(epoch, row) → one augmented sample. `changes` come, one after the other, before the view is drawn."""

    def __init__(
        self,
        catalog: Catalog,
        pixels: Pixels,
        augmentation: Augmentation,
        seed: int,
        *,
        changes: Sequence[Change] = (),
    ) -> None:
        self.catalog = catalog
        self.pixels = pixels
        self.augmentation = augmentation
        self.seed = seed
        self.changes = changes

    def __getitems__(self, keys: Keys) -> list[tuple[Tensor, int, int, Tensor | None, Tensor | None]]:
        """The samples of a step. An object store is asked for several at a time, since it takes its time for each."""
        if not is_remote(self.catalog.root):
            return [self[key] for key in keys]
        with ThreadPoolExecutor(WAITING, thread_name_prefix="fetching") as pool:
            return list(pool.map(self.__getitem__, keys))

    def __getitem__(self, key: tuple[int, int]) -> tuple[Tensor, int, int, Tensor | None, Tensor | None]:
        epoch, row = key
        seed = derive_seed(Stream.SAMPLE, self.seed, epoch, row)
        picture = self.marked(row)
        for change in self.changes:
            picture = change(picture, row, seed, self.marked)
        view = self.augmentation(picture.pixels, seed, picture.box, picture.keypoints)
        return view.image, int(self.catalog.labels[row]), row, view.box, view.keypoints

    def batch(self, keys: Keys) -> Sampled:
        """Those of a batch."""
        return _collate(self.__getitems__(keys))

    def marked(self, row: int) -> Marked:
        """The decoded picture of a row; its box and key points are scaled with it."""
        decoded = self.pixels[row]
        scale = np.float32(decoded.pixels.shape[1] / decoded.size[0])
        box = None if self.catalog.boxes is None else self.catalog.boxes[row] * scale
        points = None
        if self.catalog.keypoints is not None:
            points = self.catalog.keypoints[row] * np.array([scale, scale, 1], np.float32)
        return Marked(decoded.pixels, box, points)


def _collate(samples: list[tuple[Tensor, int, int, Tensor | None, Tensor | None]]) -> Sampled:
    images, labels, rows, boxes, points = zip(*samples, strict=True)
    return Sampled(
        # by numpy: beside a network that computes, torch would start threads of its own for a copy
        torch.from_numpy(np.stack([image.numpy() for image in images])),
        torch.tensor(labels),
        torch.tensor(rows),
        None if boxes[0] is None else torch.stack(boxes),
        None if points[0] is None else torch.stack(points),
    )


def training_batches(
    samples: Source,
    schedule: Schedule,
    *,
    first_step: int = 0,
    workers: int = 0,
    share: Callable[[int], slice] = slice,
) -> Iterator[Sampled]:
    """The batches of steps `first_step`, `first_step` + 1, … to the end of the schedule; of each, this `share` of so
    many images."""
    own = (keys[share(len(keys))] for keys in schedule.batches(first_step))
    return batches_of(samples, own, workers)


def batches_of(samples: Source, steps: Iterable[Keys], workers: int) -> Iterator[Sampled]:
    """The batches of these steps, prepared ahead."""
    if workers == 0 or not isinstance(samples, Samples):
        # DataLoader would draw a seed from the global generator, and its overhead shows on small images
        yield from _one_ahead(samples.batch, steps)
        return
    for batch in DataLoader(
        _InWorker(samples),
        batch_sampler=steps,
        num_workers=workers,
        collate_fn=_as_it_is,
        generator=torch.Generator().manual_seed(0),
        worker_init_fn=_begin_worker,
    ):
        if isinstance(batch, FieldmarkError):
            raise batch
        yield batch


class _InWorker(Dataset[Sampled | FieldmarkError]):
    """Step → its batch, or the error that it meets, as a value: of one that is raised in a worker process, DataLoader
    makes a traceback in place of the problem and the hint."""

    def __init__(self, samples: Samples) -> None:
        self.samples = samples

    def __getitems__(self, keys: Keys) -> Sampled | FieldmarkError:
        try:
            return self.samples.batch(keys)
        except FieldmarkError as error:
            return error


def _as_it_is(batch: Any) -> Any:
    return batch


def _one_ahead(prepare: Callable[[Keys], Sampled], steps: Iterable[Keys]) -> Iterator[Sampled]:
    """What `prepare` makes of each step, in order; a thread prepares the next one while the caller works on this one.

    What it raises comes in the place of the step that it was raised for. What finds no memory beside the caller's work
    is prepared again while the caller waits for it.
    """
    with ThreadPoolExecutor(1, thread_name_prefix="batches") as ahead:
        begun: tuple[Keys, Future[Sampled]] | None = None
        for keys in steps:
            begun, ready = (keys, ahead.submit(prepare, keys)), begun
            if ready is not None:
                yield _ready(prepare, *ready)
        if begun is not None:
            yield _ready(prepare, *begun)


def _ready(prepare: Callable[[Keys], Sampled], keys: Keys, begun: Future[Sampled]) -> Sampled:
    try:
        return begun.result()
    except Exception as error:  # a lack of memory has no class of its own
        if not lacked_memory(error):
            raise
    return prepare(keys)


def _begin_worker(worker: int) -> None:
    torch.set_num_threads(1)
    deaf_to_termination()
