"""`Texts`: millions of strings as one Arrow column."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, final, overload

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["Texts", "chosen"]

_BLOCK = 2**14


@final
class Texts(Sequence[str]):
    """Strings, of which each takes its bytes and eight more; as an object of Python it would take some sixty.

    Processes that are forked share them, as looking at one changes nothing in memory.
    """

    def __init__(self, texts: Iterable[str] | pa.Array) -> None:
        import pyarrow as pa

        self._column: Any = texts if isinstance(texts, pa.Array) else pa.array(texts, pa.large_string())

    def __len__(self) -> int:
        return len(self._column)

    @overload
    def __getitem__(self, place: int) -> str: ...
    @overload
    def __getitem__(self, place: slice) -> Texts: ...
    def __getitem__(self, place: int | slice) -> str | Texts:
        if isinstance(place, slice):
            return self.select(np.arange(len(self))[place])
        return str(self._column[int(place)].as_py())

    def __iter__(self) -> Iterator[str]:
        for start in range(0, len(self), _BLOCK):
            yield from self._column.slice(start, _BLOCK).to_pylist()

    def select(self, rows: NDArray[np.int64]) -> Texts:
        """Those of these rows."""
        return Texts(self._column.take(rows))


def chosen(texts: Sequence[str], rows: NDArray[np.int64]) -> Sequence[str]:
    """The texts of these rows, held as they were."""
    return texts.select(rows) if isinstance(texts, Texts) else tuple(texts[row] for row in rows)
