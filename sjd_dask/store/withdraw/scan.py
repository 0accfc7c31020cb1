"""Looking for people who were withdrawn, everywhere: arrays, tables, texts, and the database's own bytes."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import sqlalchemy as sa

from sjd_dask.errors import DataError
from sjd_dask.store.catalogue import tables as t
from sjd_dask.store.catalogue.session import engine_url
from sjd_dask.store.catalogue.tombstones import id_text
from sjd_dask.store.catalogue.withdrawals import PENDING
from sjd_dask.store.withdraw.blobs import file_names, stored_names
from sjd_dask.store.withdraw.ids import Leaving
from sjd_dask.store.withdraw.segments import stored_ids

if TYPE_CHECKING:
    from sjd_dask.store.cohort import Cohort

# Below the cohort's data, written by the store.
OWN = ("segments", "tables", "models", "runs", "features")
_PIECE = 1 << 24
_DIGITS = re.compile(r"[0-9a-fA-F.+-]+")


def find_them(cohort: Cohort, leaving: Leaving, progress: Callable[[str], None] | None = None) -> list[str]:
    """Places in the cohort that still name one of them; the places are named, the people are not."""
    found = [*_in_segments(cohort, leaving, progress), *_in_files(cohort, leaving, progress)]
    return [*found, *_in_catalogue(cohort, leaving)]


def find_beside(cohort: Cohort, leaving: Leaving) -> list[str]:
    """Files in the cohort's folder that the store did not write and that name one of them."""
    if cohort.folder is None:
        return []
    database = _database(cohort)
    found = []
    for path in sorted(cohort.folder.rglob("*")):
        inside = path.relative_to(cohort.folder)
        if not path.is_file() or path == database:
            continue
        if cohort.files.root == cohort.folder and inside.parts[0] in OWN:
            continue
        if file_names(path, leaving):
            found.append(inside.as_posix())
    return found


def _in_segments(cohort: Cohort, leaving: Leaving, progress: Callable[[str], None] | None) -> list[str]:
    found = []
    folders = {
        (parts[0], parts[1].removesuffix(".zarr"))
        for entry in cohort.files.walk("segments")
        if len(parts := entry.name.split("/", 2)) == 3 and parts[1].endswith(".zarr")
    }
    for number, (assay, segment_id) in enumerate(sorted(folders)):
        if progress and number % 100 == 0:
            progress(f"looking through segment {number + 1} of {len(folders)}")
        try:
            ids = stored_ids(cohort, assay, segment_id)
        except DataError:
            found.append(f"segments/{assay}/{segment_id}.zarr (its sample ids cannot be read)")
            continue
        if not leaving.samples.isdisjoint(ids):
            found.append(f"segments/{assay}/{segment_id}.zarr")
    return found


def _in_files(cohort: Cohort, leaving: Leaving, progress: Callable[[str], None] | None) -> list[str]:
    found = []
    for folder in OWN:
        if progress:
            progress(f"looking through {folder}")
        for entry in cohort.files.walk(folder):
            path = f"{folder}/{entry.name}"
            # Chunks hold numbers only, and the coordinates were read.
            if folder == "segments" and not path.endswith(".json"):
                continue
            # Features are nobody.
            if folder == "features" and path.endswith(".parquet"):
                continue
            if stored_names(cohort.files, path, leaving):
                found.append(path)
    return found


def _in_catalogue(cohort: Cohort, leaving: Leaving) -> list[str]:
    found = []
    with cohort.catalogue.read() as connection:
        for table in t.metadata.sorted_tables:
            for column in table.columns:
                if isinstance(column.type, sa.String) and _column_names(connection, table, column, leaving):
                    found.append(f"catalogue, {table.name}.{column.name}")
    return found


def _column_names(connection: sa.Connection, table: sa.Table, column: sa.Column[str], leaving: Leaving) -> bool:
    query = sa.select(column).where(column.is_not(None))
    if table is t.meta:
        query = query.where(t.meta.c.key != PENDING)
    elif column.name in ("published_in", "row_hash", "segment_id"):
        return False
    whole = leaving.is_id_column(column.name)
    for text in connection.execute(query.distinct()).scalars():
        if (whole and id_text(text) in leaving.ids) or (leaving.may_name(text) and leaving.in_text(text)):
            return True
    return False


def _database(cohort: Cohort) -> Path | None:
    return Path(str(engine_url(cohort.catalogue.url).database)) if cohort.catalogue.is_sqlite else None


def raw_names(cohort: Cohort, leaving: Leaving) -> bool:
    """Whether the bytes of the database's file hold an id that nothing else in it contains; SQLite only.

    Bytes have no words: an id that is part of somebody else's id, or of any text that is still there ("run"), can't be
    told from it. Texts were read column by column before.
    """
    database = _database(cohort)
    if database is None:
        return False
    others = "\n".join(leaving.stay)
    # Hashes and numbers hold any digits by chance; the columns were read above.
    forms = {one for one in leaving.plain if one not in others and not _DIGITS.fullmatch(one)}
    files = [database, *(database.with_name(database.name + end) for end in ("-journal", "-wal"))]
    while found := {one for path in files if path.exists() for one in _in_bytes(path, forms)}:
        parts = _parts_of_texts(cohort, found)
        if found - parts:
            return True
        # Again without these: one may have hidden another.
        forms -= parts
    return False


def _in_bytes(path: Path, forms: set[str]) -> set[str]:
    """Forms that a file's bytes hold; of two that overlap perhaps one."""
    coded = sorted(one.encode() for one in forms)
    longest = max(map(len, coded), default=0)
    patterns = [re.compile(b"|".join(map(re.escape, coded[at : at + 500]))) for at in range(0, len(coded), 500)]
    found: set[bytes] = set()
    with path.open("rb") as stream:
        tail = b""
        while piece := stream.read(_PIECE):
            for pattern in patterns:
                found.update(pattern.findall(tail + piece))
            tail = piece[-longest:] if longest else b""
    return {one.decode() for one in found}


def _parts_of_texts(cohort: Cohort, forms: set[str]) -> set[str]:
    """Those of the forms that stand in a text of the catalogue, be it within a word."""
    left = set(forms)
    with cohort.catalogue.read() as connection:
        for table in t.metadata.sorted_tables:
            for column in table.columns:
                if isinstance(column.type, sa.String):
                    for text in connection.execute(sa.select(column).where(column.is_not(None)).distinct()).scalars():
                        left -= {one for one in left if one in text}
    return forms - left
