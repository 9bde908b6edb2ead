"""`Service`: a run that answers whoever asks. It knows nothing about HTTP.

Everything is asked with the bytes of a picture, and answered by a future whose error is a FieldmarkError: an ImageError
for a picture that cannot be read, a Refusal where there was no time.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar, final

import numpy as np
from numpy.typing import NDArray

from fieldmark.answering.predictor import Predictor
from fieldmark.answering.stream import Shown
from fieldmark.answering.things import Thing
from fieldmark.answering.verdicts import Speaker
from fieldmark.core.errors import FieldmarkError, RunError, nearest
from fieldmark.core.listener import Listener
from fieldmark.data.decode import check_pixels
from fieldmark.data.formats import extension_of
from fieldmark.data.names import lookup, normal
from fieldmark.evaluation.outputs import Outputs
from fieldmark.evaluation.verdict import Verdict
from fieldmark.gallery.finding import Found, Question, look_up
from fieldmark.gallery.gallery import Gallery
from fieldmark.gallery.maker import maker_of
from fieldmark.gallery.opening import default_place
from fieldmark.gallery.photographs import Photograph
from fieldmark.serving.batcher import Batcher
from fieldmark.serving.corrections import Corrections
from fieldmark.serving.desk import Desk
from fieldmark.serving.examples import Examples
from fieldmark.serving.limits import Limits

if TYPE_CHECKING:
    from fieldmark.answering.explaining.explainer import Explainer
    from fieldmark.answering.explaining.explanation import Explanation

__all__ = ["Service"]

T = TypeVar("T")

_NAME = "the picture"
_MOST_LETTERS = 200


@final
class Service:
    """A predictor with a queue, and what else can be asked of its run."""

    def __init__(
        self,
        predictor: Predictor,
        *,
        accuracy: float | None = None,
        coverage: float | None = None,
        gallery: str | Path | None = None,
        corrections: Corrections | None = None,
        examples: bool = True,
        root: Path | None = None,
        limits: Limits | None = None,
        listener: Listener | None = None,
        heard: Callable[[int], None] = lambda num_pictures: None,
    ) -> None:
        """`accuracy` and `coverage` as for `Predictor.predict`. `gallery` is that of the run by default, if it has one.
        `examples` says whether training images may be shown, which lie in `root` if they were moved. `heard` is told
        the size of each batch.

        Raises RunError for a promise that cannot be kept, and for a gallery that is named and cannot be used.
        """
        self.predictor, self.bundle = predictor, predictor.bundle
        self.limits = limits or Limits()
        self.speaker = Speaker.of(self.bundle, accuracy=accuracy, coverage=coverage)
        self.corrections = corrections
        self.gallery = self._gallery(gallery, listener or Listener())
        self.examples = Examples(self.bundle, root) if examples else None
        self._root = root
        each, self.sample = self._tried()
        self.batcher = Batcher(
            self._see,
            predictor.engine,
            seconds=self.limits.seconds,
            most_waiting=self.limits.most_waiting,
            in_turns=predictor.device == "cpu",
            each=each,
            heard=heard,
        )
        self._explaining = Desk("explain", most_waiting=self.limits.explaining, seconds=self.limits.explaining_seconds)
        self._looking = Desk("look", most_waiting=self.limits.looking, seconds=self.limits.seconds)

    def close(self) -> None:
        """Answer what was accepted, and end."""
        for one in (self.batcher, self._explaining, self._looking):
            one.close()
        if self.gallery is not None:
            self.gallery.close()

    # ---- what can be asked

    def check_room(self) -> None:
        """Raise the Refusal that a picture would meet now, so that nobody sends one in vain."""
        self.batcher.check_room()

    def outputs(self, picture: bytes) -> Future[Outputs]:
        """The outputs, N = 1. Raises Refusal if too many pictures are waiting."""
        return self.batcher.submit(Thing(_NAME, picture))

    def outputs_of(self, views: NDArray[np.uint8]) -> list[Future[Outputs]]:
        """The outputs, N = 1 each, of pictures that are cut already, (B, 3, S, S).

        Raises Refusal if there is no room for all of them.
        """
        return self.batcher.submit_all([Shown(view) for view in views])

    def verdict(self, outputs: Outputs, *, candidates: int = 5, among: Sequence[str] = ()) -> Verdict:
        """What outputs, N = 1, mean. Raises RunError for a class that the model does not know."""
        rows = self.bundle.class_rows(among) if among else None
        return replace(self.speaker, candidates=candidates, among=rows).verdicts([_NAME], outputs)[0]

    def explanation(self, picture: bytes, versus: str | None, then: Callable[[Explanation], T]) -> Future[T]:
        """Why it is the answer and not `versus`. Raises Refusal if too many are waiting, and RunError for a class that
        the model does not know."""
        if versus is not None:
            self._class_named(versus)

        def explained() -> T:
            check_pixels(picture, self.limits.pixels)
            return then(self._explainer(Thing(_NAME, picture), versus))

        return self._explaining.submit(explained)

    def check_gallery(self) -> None:
        """Raise RunError if there is none."""
        if self.gallery is None:
            raise RunError("This run has no gallery to search", "Make one with: fieldmark index RUN PHOTOS.")

    def neighbours(
        self, picture: bytes, outputs: Outputs, then: Callable[[Found], T], *, most: int, label: str | None = None
    ) -> Future[T]:
        """The most similar pictures of the gallery. Raises RunError without one, and Refusal if too much is waiting."""
        self.check_gallery()
        gallery = self.gallery
        assert gallery is not None
        asked = Photograph(Thing(_NAME, picture), digest=hashlib.sha256(picture).hexdigest())
        vector = outputs.embedding[0] / np.linalg.norm(outputs.embedding[0]).clip(1e-12)
        question = Question(most, None if label is None else normal(label))
        return self._looking.submit(lambda: then(look_up(gallery, asked, vector, question)))

    def examples_of(self, label: str) -> Future[tuple[str, ...]]:
        """A few small training images of a class, as data URLs. Raises Refusal if too much is waiting."""
        examples = self.examples
        return self._looking.submit(lambda: () if examples is None else examples.of(label))

    def checked_label(self, label: str) -> str:
        """The class that is meant, or the name of a new one. Raises RunError if it is no name, or nothing is kept."""
        if self.corrections is None:
            raise RunError("This service keeps no corrections", "Start it with --keep FOLDER.")
        name = lookup(self.bundle.classes)(label) or normal(label)
        if not name or not name.isprintable():
            raise RunError("The right name is empty or cannot be printed", "Send the name of a class as label.")
        return name

    def correct(self, picture: bytes, verdict: Verdict, label: str) -> Future[None]:
        """Keep that the answer is wrong, and that a `checked_label` is right. Raises Refusal if too much is waiting."""
        corrections = self.corrections
        assert corrections is not None
        return self._looking.submit(lambda: corrections.add(picture, f".{extension_of(picture)}", verdict.said, label))

    def _class_named(self, name: str) -> str:
        if (found := lookup(self.bundle.classes)(name)) is None:
            raise RunError(f"This model has no class {name[:_MOST_LETTERS]!r}", nearest(name, self.bundle.classes))
        return found

    def _tried(self) -> tuple[float, Outputs]:
        """The seconds that the network takes for a picture, and its outputs for a black one. What is wrong with it is
        told now, not to a visitor."""
        side = self.bundle.images.size
        blank = np.zeros((1, 3, side, side), np.uint8)
        self.predictor.engine(blank)  # whatever is made ready on first use
        begun = time.monotonic()
        outputs = self.predictor.engine(blank)
        return time.monotonic() - begun, outputs

    def _see(self, thing: Thing) -> Shown:
        assert isinstance(thing.source, bytes)
        check_pixels(thing.source, self.limits.pixels)
        return self.predictor.see(thing)

    def _gallery(self, place: str | Path | None, listener: Listener) -> Gallery | None:
        if place is not None:
            return Gallery.open(place, maker_of(self.predictor))
        if self.bundle.folder is None:
            return None
        own = default_place(self.bundle.folder)
        if not own.is_dir():
            return None
        try:
            return Gallery.open(own, maker_of(self.predictor))
        except FieldmarkError as error:
            listener.warn(f"There will be no search. {error}")
            return None

    @cached_property
    def _explainer(self) -> Explainer:
        """It has a network of its own, since it puts other features into it while pictures are answered. It needs
        torch, which takes seconds to load: whoever asks first waits for it."""
        from fieldmark.answering.explaining.explainer import Explainer

        if self.bundle.folder is None:
            raise RunError("Only a bundle that was saved can explain", "Save it, and serve the folder.")
        return Explainer(self.bundle.folder, root=self._root, device=self.predictor.device)
