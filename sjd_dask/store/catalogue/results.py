"""Published results: versions exist here only, the tables lie under ids that never change."""

from __future__ import annotations

import difflib
import json
import re
import secrets
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import sqlalchemy as sa

from sjd_dask.errors import DataError, SpecError
from sjd_dask.store.catalogue import tables as t
from sjd_dask.store.catalogue.retention import removed_text, removed_versions
from sjd_dask.store.catalogue.runs import set_if_held
from sjd_dask.store.catalogue.session import Catalogue, as_of, new_snapshot
from sjd_dask.store.segment import check_name

_REF = re.compile(r"([^/@]+)/([^/@]+)(?:@v?([0-9]+))?")


@dataclass(frozen=True)
class TableFile:
    """A stored table: where, how large, and its hash (blake2b-128)."""

    path: str
    n_bytes: int
    hash: str
    n_rows: int


@dataclass(frozen=True)
class ArraysFile:
    """A stored file of named arrays (see store/arrays.py): where, how large, and its hash (blake2b-128)."""

    path: str
    n_bytes: int
    hash: str


@dataclass(frozen=True)
class BundleFile:
    """A stored bundle (see store/bundle.py): its folder, the bytes of all its files, and the hash of its manifest."""

    path: str
    n_bytes: int
    hash: str


StoredFile: TypeAlias = TableFile | ArraysFile | BundleFile
_TYPES: dict[str, type[ArraysFile] | type[BundleFile]] = {"arrays": ArraysFile, "bundle": BundleFile}


def file_to_json(file: StoredFile) -> dict[str, Any]:
    """A stored file as the catalogue keeps it; a table has no `type`."""
    kinds = [name for name, kind in _TYPES.items() if isinstance(file, kind)]
    return {**({"type": kinds[0]} if kinds else {}), **file.__dict__}


def file_from_json(data: dict[str, Any]) -> StoredFile:
    """The file that `file_to_json` described."""
    rest = {key: value for key, value in data.items() if key != "type"}
    if "type" not in data:
        return TableFile(**rest)
    if data["type"] not in _TYPES:
        raise DataError(f"a file of the unknown type {data['type']!r} is in the catalogue; install a newer sjd-dask")
    return _TYPES[data["type"]](**rest)


@dataclass(frozen=True)
class ResultRecord:
    """A result as the catalogue knows it."""

    id: str
    kind: str
    name: str
    version: int
    run_id: str | None
    files: dict[str, StoredFile]
    meta: dict[str, Any]
    published_in: int
    retired_in: int | None


def parse_ref(ref: str) -> tuple[str, str, int | None]:
    """Kind, name and version of ``kind/name[@version]``.

    Raises
    ------
    SpecError
        The text has another form.
    """
    match = _REF.fullmatch(ref)
    if match is None:
        raise SpecError(f"{ref!r} does not name a result; write kind/name or kind/name@version, as associations/ewas@2")
    kind, name, version = match.groups()
    return check_name(kind, "a kind of result"), check_name(name, "a result"), None if version is None else int(version)


def record_of(row: sa.RowMapping) -> ResultRecord:
    """A result from its record."""
    return ResultRecord(
        id=row["id"],
        kind=row["kind"],
        name=row["name"],
        version=row["version"],
        run_id=row["run_id"],
        files={key: file_from_json(value) for key, value in json.loads(row["files"]).items()},
        meta=json.loads(row["meta"]),
        published_in=row["published_in"],
        retired_in=row["retired_in"],
    )


def find_result(catalogue: Catalogue, ref: str, snapshot: int | None = None) -> ResultRecord:
    """The result of that name: the version asked for, else the newest.

    Raises
    ------
    SpecError
        There is none; the message names what there is.
    """
    kind, name, version = parse_ref(ref)
    results = t.results.c
    with catalogue.read() as connection:
        query = sa.select(t.results).where(results.kind == kind, results.name == name, as_of(t.results, snapshot))
        if version is not None:
            query = query.where(results.version == version)
        row = connection.execute(query.order_by(results.version.desc()).limit(1)).mappings().one_or_none()
        if row is not None:
            return record_of(row)
        known = connection.execute(
            sa.select(results.kind, results.name, results.version)
            .where(as_of(t.results, snapshot))
            .order_by(results.kind, results.name, results.version)
        ).all()
        removed = removed_versions(connection, kind, name) if version is not None else {}
    if version in removed:
        raise SpecError(removed_text([ref], removed[version]))
    raise SpecError(f"this cohort has no result {ref!r}; {what_there_is(f'{kind}/{name}', known)}")


def what_there_is(wanted: str, known: Sequence[Sequence[Any]]) -> str:
    """What to say of a name that isn't there: its other versions, else the one that is meant and some of all.

    Parameters
    ----------
    wanted : str
        ``kind/name``.
    known : sequence of (kind, name, version)
    """
    by_name: dict[str, list[str]] = {}
    for kind, name, version in known:
        by_name.setdefault(f"{kind}/{name}", []).append(f"{kind}/{name}@{version}")
    near = difflib.get_close_matches(wanted, list(by_name), n=1, cutoff=0.75)
    shown = by_name.get(wanted) or [one for several in by_name.values() for one in several]
    hint = f"did you mean {by_name[near[0]][-1]!r}? It" if near and near[0] != wanted else "it"
    return f"{hint} has: {', '.join(shown[:10]) or 'none yet'}{', ...' if len(shown) > 10 else ''}"


def list_results(catalogue: Catalogue, snapshot: int | None = None) -> list[ResultRecord]:
    """All results of a view, in order of publication."""
    columns = t.results.c
    query = sa.select(t.results).where(as_of(t.results, snapshot))
    with catalogue.read() as connection:
        rows = connection.execute(query.order_by(columns.published_in, columns.kind, columns.name)).mappings()
        return [record_of(row) for row in rows]


@dataclass(frozen=True)
class NewResult:
    """Stored tables that are to become the next version of a result."""

    kind: str
    name: str
    files: Mapping[str, StoredFile]
    meta: dict[str, Any]


def insert_results(
    catalogue: Catalogue,
    items: list[NewResult],
    *,
    run_id: str | None,
    epoch: int | None,
    message: str,
    who: str | None,
) -> list[ResultRecord]:
    """Make stored tables visible as results, and their run published, in one transaction.

    Raises
    ------
    Busy
        Another driver took the run over; nothing was published.
    """
    with catalogue.write() as connection:
        if run_id is not None:
            if epoch is None:
                raise ValueError("a run publishes with its epoch")
            text = ", ".join(f"{item.kind}/{item.name}" for item in items)
            set_if_held(connection, run_id, epoch, {"state": "published", "finished": time.time(), "message": text})
        versions = [next_version(connection, item.kind, item.name) for item in items]
        refs = [f"{item.kind}/{item.name}@{version}" for item, version in zip(items, versions, strict=True)]
        text = ", ".join(refs) + (f": {message}" if message else "")
        snapshot = new_snapshot(connection, "result", text, who=who, run_id=run_id)
        return [
            insert_result(connection, item, version, snapshot, run_id)
            for item, version in zip(items, versions, strict=True)
        ]


def next_version(connection: sa.Connection, kind: str, name: str) -> int:
    """The number of a result's next version; retired ones keep theirs."""
    same = sa.and_(t.results.c.kind == kind, t.results.c.name == name)
    return int(connection.execute(sa.select(sa.func.max(t.results.c.version)).where(same)).scalar() or 0) + 1


def new_result_id() -> str:
    """An id for a result's record."""
    return secrets.token_hex(8)


def insert_result(
    connection: sa.Connection, item: NewResult, version: int, snapshot: int, run_id: str | None
) -> ResultRecord:
    """Make stored files visible as a version of a result, inside the transaction that publishes them."""
    result_id = new_result_id()
    connection.execute(
        sa.insert(t.results).values(
            id=result_id,
            kind=item.kind,
            name=item.name,
            version=version,
            run_id=run_id,
            files=json.dumps({key: file_to_json(value) for key, value in item.files.items()}),
            meta=json.dumps(item.meta),
            published_in=snapshot,
        )
    )
    stored = sa.select(t.results).where(t.results.c.id == result_id)
    return record_of(connection.execute(stored).mappings().one())
