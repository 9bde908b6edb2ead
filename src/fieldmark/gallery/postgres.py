"""`PostgresStore`: a gallery in PostgreSQL with pgvector, for one that outgrows a machine or that several share.

    fieldmark_galleries         name, number, description
    fieldmark_pictures_<number> a row for each picture; vectors are halfvec, with an HNSW index

A database can hold several galleries: `postgresql://host/database#birds` names one, and without a name it is "default".

Shapes: N pictures, D embedding.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final, final

import numpy as np

from fieldmark.core.errors import RunError, StorageError
from fieldmark.core.reading import parse_json
from fieldmark.core.storage import as_json
from fieldmark.gallery.store import Absent, Added, Description, Entry, Hit, Vectors, Wanted, sorted_out

if TYPE_CHECKING:
    from psycopg import Connection, sql

__all__ = ["INSTALL", "PostgresStore"]

INSTALL: Final = "pip install 'fieldmark[postgres]'"
_GO_ON = (
    "What was acknowledged is safe there, and nothing of it is kept on this machine: once it answers, run the same "
    "command again, which goes on where this stopped. A folder needs no database: --gallery DIR."
)
_OLDEST = (0, 8)
"""Of pgvector: the first that goes on looking when a filter has left out what it found."""
_WIDEST = 4000
"""The longest halfvec that pgvector can index."""
_TIMEOUT = 10
"""Seconds to wait for a connection, unless the address says otherwise."""
_COLUMNS = "path, digest, label, grouped, id"


@final
class PostgresStore:
    """A gallery in a database. Any number of processes may read and write; they wait for each other."""

    def __init__(self, url: str, *, new: Description | None = None) -> None:
        """Raises RunError if there is no such gallery and no `new` one is given, and StorageError if the database does
        not answer or lacks pgvector."""
        try:
            import psycopg
            from psycopg import sql
            from psycopg.conninfo import conninfo_to_dict
        except ImportError:
            raise RunError("A gallery in PostgreSQL needs the package psycopg", INSTALL) from None
        address, _, name = url.partition("#")
        self._psycopg, self._sql, self._name = psycopg, sql, name or "default"
        try:
            known = conninfo_to_dict(address)
        except psycopg.ProgrammingError as error:
            raise StorageError(
                f"The address of the database is not understood: {_line(error)}",
                "Write it as postgresql://USER:PASSWORD@HOST/DATABASE#NAME.",
            ) from None
        port = f":{known['port']}" if known.get("port") else ""
        self.place = f"postgresql://{known.get('host', 'localhost')}{port}/{known.get('dbname', '')}#{self._name}"
        with self._talk():
            self._connection: Connection[Any] = psycopg.connect(
                address, autocommit=True, connect_timeout=int(known.get("connect_timeout") or _TIMEOUT)
            )
        try:
            with self._talk():
                self._number, self.description = self._found() or self._made(new)
        except BaseException:  # whatever ended it, nobody else closes the connection
            self._connection.close()
            raise
        self._table = sql.Identifier(f"fieldmark_pictures_{self._number}")

    def _found(self) -> tuple[int, Description] | None:
        there = self._connection.execute("SELECT to_regclass('fieldmark_galleries')").fetchone()
        if there == (None,):
            return None
        row = self._connection.execute(
            "SELECT number, description::text FROM fieldmark_galleries WHERE name = %s", (self._name,)
        ).fetchone()
        if row is None:
            return None
        self._check_extension()
        try:
            return row[0], parse_json(row[1], Description)
        except ValueError as error:
            raise RunError(f"The gallery {self.place} is damaged: {error}", "Restore the table from a copy.") from None

    def _made(self, new: Description | None) -> tuple[int, Description]:
        """A new gallery, or the one that another process has made meanwhile."""
        if new is None:
            raise Absent(
                f"There is no gallery at {self.place}", "Make one with: fieldmark index RUN --gallery postgresql://…"
            )
        run, sql = self._connection.execute, self._sql
        with self._connection.transaction():
            run("SELECT pg_advisory_xact_lock(hashtext('fieldmark'))")
            run("CREATE EXTENSION IF NOT EXISTS vector")
            self._check_extension()
            run(
                "CREATE TABLE IF NOT EXISTS fieldmark_galleries (name text PRIMARY KEY, "
                "number integer GENERATED ALWAYS AS IDENTITY, description jsonb NOT NULL)"
            )
            if found := self._found():
                return found
            row = run(
                "INSERT INTO fieldmark_galleries (name, description) VALUES (%s, %s) RETURNING number",
                (self._name, as_json(new)),
            ).fetchone()
            assert row is not None
            table, dimension = sql.Identifier(f"fieldmark_pictures_{row[0]}"), new["dimension"]
            run(
                sql.SQL(
                    "CREATE TABLE {} (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, path bytea NOT NULL, "
                    "digest text NOT NULL UNIQUE, label text, grouped text, embedding halfvec({}) NOT NULL)"
                ).format(table, sql.Literal(dimension))
            )
            run(sql.SQL("CREATE UNIQUE INDEX ON {} (sha256(path))").format(table))  # paths may be too long for an index
            run(sql.SQL("CREATE INDEX ON {} (label)").format(table))
            if dimension <= _WIDEST:
                run(sql.SQL("CREATE INDEX ON {} USING hnsw (embedding halfvec_ip_ops)").format(table))
            return row[0], new

    def _check_extension(self) -> None:
        row = self._connection.execute("SELECT extversion FROM pg_extension WHERE extname = 'vector'").fetchone()
        version = tuple(int(one) for one in row[0].split(".")[:2]) if row else ()
        if version < _OLDEST:
            raise StorageError(
                f"The database {self.place} has pgvector {row[0] if row else 'not'}, and 0.8 or later is needed",
                "Update it: ALTER EXTENSION vector UPDATE.",
            )

    def __len__(self) -> int:
        (number,) = self._rows(self._sql.SQL("SELECT count(*) FROM {}").format(self._table))[0]
        return int(number)

    def entries(self) -> Iterator[Entry]:
        query = self._sql.SQL(f"SELECT {_COLUMNS} FROM {{}} ORDER BY id").format(self._table)
        yield from map(_entry, self._rows(query))

    def contents(self) -> Iterator[tuple[Entry, Vectors]]:
        query = self._sql.SQL(f"SELECT {_COLUMNS}, embedding::text FROM {{}} ORDER BY id").format(self._table)
        for row in self._rows(query):
            yield _entry(row), np.array(row[5].strip("[]").split(","), np.float32)

    def known(self, digests: Iterable[str], paths: Iterable[str]) -> list[Entry]:
        query = self._sql.SQL(f"SELECT {_COLUMNS} FROM {{}} WHERE digest = ANY(%s) OR sha256(path) = ANY(%s)").format(
            self._table
        )
        hashes = [hashlib.sha256(_bytes(path)).digest() for path in paths]
        return list(map(_entry, self._rows(query, (list(digests), hashes))))

    def add(self, entries: Sequence[Entry], vectors: Vectors) -> Added:
        sql = self._sql
        insert = sql.SQL(
            "INSERT INTO {} (path, digest, label, grouped, embedding) VALUES (%s, %s, %s, %s, %s::halfvec)"
        ).format(self._table)
        with self._talk(), self._connection.transaction():
            self._connection.execute("SELECT pg_advisory_xact_lock(hashtext('fieldmark'), %s)", (self._number,))
            found = sorted_out(entries, self.known([one.digest for one in entries], [one.path for one in entries]))
            self.remove(found.stale)
            with self._connection.cursor() as cursor:
                cursor.executemany(
                    insert,
                    [
                        (_bytes(one.path), one.digest, one.label, one.group, _text(vectors[row]))
                        for row in found.rows
                        for one in [entries[row]]
                    ],
                )
        return found.counts

    def remove(self, ids: Iterable[int]) -> int:
        query = self._sql.SQL("DELETE FROM {} WHERE id = ANY(%s)").format(self._table)
        with self._talk():
            return self._connection.execute(query, (list(ids),)).rowcount

    def search(self, vector: Vectors, most: int, wanted: Wanted) -> list[Hit]:
        sql, asked = self._sql, _text(vector)
        conditions, values = [sql.SQL("true")], list[Any]()
        for condition, value in (
            ("label = %s", wanted.label),
            ("grouped IS DISTINCT FROM %s", wanted.not_group),
            ("digest <> %s", wanted.not_digest),
        ):
            if value is not None:
                conditions.append(sql.SQL(condition))
                values.append(value)
        query = sql.SQL(
            f"SELECT {_COLUMNS}, -(embedding <#> %s::halfvec) FROM {{}} WHERE {{}} "
            "ORDER BY embedding <#> %s::halfvec LIMIT %s"
        ).format(self._table, sql.SQL(" AND ").join(conditions))
        with self._talk(), self._connection.transaction():
            run = self._connection.execute
            run("SET LOCAL hnsw.iterative_scan = strict_order")
            run(sql.SQL("SET LOCAL hnsw.ef_search = {}").format(sql.Literal(min(1000, max(100, 2 * most)))))
            rows = run(query, (asked, *values, asked, most)).fetchall()
            if len(rows) < most:  # the index gives up at some point, where a filter leaves little
                run("SET LOCAL enable_indexscan = off")
                rows = run(query, (asked, *values, asked, most)).fetchall()
        return [Hit(_entry(row), min(1.0, float(row[5]))) for row in rows]

    def tidy(self) -> None:
        """The database looks after itself."""

    def close(self) -> None:
        self._connection.close()

    def _rows(self, query: sql.Composed, values: Sequence[Any] = ()) -> list[Any]:
        with self._talk():
            return self._connection.execute(query, values).fetchall()

    @contextmanager
    def _talk(self) -> Iterator[None]:
        """Raise StorageError, which says what to do, for whatever the database objects to."""
        try:
            yield
        except self._psycopg.OperationalError as error:
            raise StorageError(f"The database {self.place} does not answer: {_line(error)}", _GO_ON) from None
        except self._psycopg.Error as error:
            raise StorageError(
                f"The database {self.place} refused: {_line(error)}",
                "It needs the extension pgvector (CREATE EXTENSION vector) and the right to create tables.",
            ) from None


def _entry(row: Sequence[Any]) -> Entry:
    path, digest, label, group, number = row[:5]
    return Entry(bytes(path).decode("utf-8", "surrogateescape"), digest, label, group, number)


def _bytes(path: str) -> bytes:
    return path.encode("utf-8", "surrogateescape")


def _text(vector: Vectors) -> str:
    """A vector as pgvector reads it, in the precision in which it is kept."""
    return f"[{','.join(map(str, np.asarray(vector, np.float16).tolist()))}]"


def _line(error: Exception) -> str:
    """What the database says; lines after the first are questions and hints of its own."""
    return next(iter(str(error).splitlines()), "").strip() or type(error).__name__
