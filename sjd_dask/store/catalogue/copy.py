"""Copying a whole catalogue into another database, of the same kind or of the other."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Final

import sqlalchemy as sa

from sjd_dask.store.catalogue import migrate
from sjd_dask.store.catalogue import tables as t
from sjd_dask.store.catalogue.session import Catalogue, engine_url, now

# Who is at work belongs to the machine, not to the cohort.
_NOT_COPIED: Final = ("staging", "leases")
_ROWS: Final = 2000


def copy_catalogue(source: Catalogue, target: Catalogue) -> int:
    """Fill a new catalogue with all of another, as one moment sees it.

    Parameters
    ----------
    source : Catalogue
        Read in one transaction: writers go on meanwhile.
    target : Catalogue
        From `migrate.create`, still empty.

    Returns
    -------
    int
        The newest change in the copy.

    Notes
    -----
    Runs that were at work are interrupted in the copy: their processes don't know it. What was staged is left out.
    """
    with source.read() as reading, target.write() as writing:
        writing.execute(sa.delete(t.meta))
        for table in t.metadata.sorted_tables:
            if table.name in _NOT_COPIED:
                continue
            for records in reading.execute(sa.select(table)).mappings().partitions(_ROWS):
                writing.execute(sa.insert(table), [dict(record) for record in records])
        writing.execute(
            sa.update(t.runs)
            .where(t.runs.c.state == "running")
            .values(state="interrupted", finished=now(), message="it was at work when the copy was made")
        )
        newest = writing.execute(sa.select(sa.func.max(t.snapshots.c.id))).scalar() or 0
        if not target.is_sqlite:
            _go_on_counting(writing)
    return int(newest)


def copy_to_file(source: Catalogue, file: Path) -> Catalogue:
    """A copy of a catalogue as it is now, in a SQLite file that isn't there yet.

    The pages of a SQLite file are copied, with who is at work; of another database what `copy_catalogue` copies.
    """
    copy = Catalogue(f"sqlite:///{file}", source.timeout)
    if source.is_sqlite:
        with (
            closing(sqlite3.connect(str(engine_url(source.url).database), timeout=source.timeout)) as reading,
            closing(sqlite3.connect(file)) as writing,
        ):
            reading.backup(writing)
    else:
        migrate.create(copy, "copy")
        copy_catalogue(source, copy)
    return copy


def _go_on_counting(connection: sa.Connection) -> None:
    # PostgreSQL numbers new records by counters of their own, which copied numbers don't move.
    for table in t.metadata.sorted_tables:
        column = table.autoincrement_column
        if column is None or table.name in _NOT_COPIED:
            continue
        highest = connection.execute(sa.select(sa.func.max(column))).scalar()
        counter = connection.execute(sa.select(sa.func.pg_get_serial_sequence(table.name, column.name))).scalar()
        if highest is not None and counter is not None:
            connection.execute(sa.select(sa.func.setval(counter, highest)))
