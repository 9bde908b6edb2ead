"""Shards: write data as tar files, for sets that are too large for a folder of pictures."""

from __future__ import annotations

from pathlib import Path

from fieldmark.core.listener import Done, Listener, relayed_warnings
from fieldmark.core.wording import counted, first_few
from fieldmark.data.catalog import Catalog, data_read
from fieldmark.data.readers.columns import Columns
from fieldmark.data.remote import place_of
from fieldmark.data.sets import read
from fieldmark.data.sharding import Sharded, write_shards

__all__ = ["shards"]


def shards(
    data: Path | str | Catalog,
    out: Path | str,
    *,
    root: Path | str | None = None,
    columns: Columns | None = None,
    megabytes: int = 1000,
    listener: Listener | None = None,
) -> Sharded:
    """Write `data` as tar shards of about so many megabytes, with a table beside them, into a folder or to an address.

    Every command reads them in place of the data, and WebDataset reads them, too. Files are copied as they are; what
    cannot be read is left out with a warning. Raises StorageError if the place is not empty or cannot be written.
    """
    listener = listener or Listener()
    with relayed_warnings(listener):
        catalog = data if isinstance(data, Catalog) else read(data, root, columns=columns, tell=listener.note)
    listener.hear(data_read(catalog))
    with listener.progress("Writing shards") as tick:
        written = write_shards(catalog, out, size=megabytes * 10**6, progress=tick)
    if written.left_out:
        listener.warn(f"Left out {counted(len(written.left_out), 'picture')}: {first_few(written.left_out, 1)}")
    size = f"{written.size / 1e9:,.1f} GB" if written.size >= 1e9 else f"{written.size / 1e6:,.1f} MB"
    listener.note(
        f"Wrote {counted(written.images, 'picture')} into {counted(written.shards, 'shard')}, "
        f"{size}, at {place_of(out)}"
    )
    listener.hear(Done("shards", None))
    return written
