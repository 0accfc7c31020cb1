"""Publishing rows of a layer: one transaction that decides the version, shows the rows, and ends the run."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError

from sjd_dask.errors import Busy, DataError
from sjd_dask.store.catalogue import tables as t
from sjd_dask.store.catalogue.publish import check_assay, insert_assay, segment_values
from sjd_dask.store.catalogue.results import ArraysFile, NewResult, insert_result, next_version
from sjd_dask.store.catalogue.runs import set_if_held
from sjd_dask.store.catalogue.session import Catalogue, in_pieces, new_snapshot
from sjd_dask.store.segment import SegmentRecord

_LAYERS = "layers"


@dataclass(frozen=True)
class LayerRows:
    """A finished segment and what its rows are; both lists in the segment's order.

    Attributes
    ----------
    record : SegmentRecord
    row_hashes, source_hashes : sequence of str
        Of the rows, and of the source rows they were made from. An empty source hash: this sample has no values now;
        its row is not published, and an older one made from other source values is retired.
    """

    record: SegmentRecord
    row_hashes: Sequence[str]
    source_hashes: Sequence[str]


@dataclass(frozen=True)
class PublishedLayer:
    """What a publication did.

    Attributes
    ----------
    refs : list of str
        ``layers/NAME@V`` first, then the companions'.
    version : int
    is_new_version : bool
    snapshot : int or None
        The number of the change; None where nothing changed.
    n_new, n_replaced, n_same, n_retired : int
        Rows of new samples, rows that retired an older one, rows that were there already (or in a newer form), and rows
        of samples that left.
    """

    refs: list[str]
    version: int
    is_new_version: bool
    snapshot: int | None
    n_new: int
    n_replaced: int
    n_same: int
    n_retired: int


@dataclass(frozen=True)
class _Live:
    id: int
    source_hash: str | None


def publish_layer(
    catalogue: Catalogue,
    run_id: str,
    epoch: int,
    name: str,
    key: str,
    parameters: ArraysFile | None,
    rows: Sequence[LayerRows],
    meta: Mapping[str, Any],
    companions: Sequence[NewResult] = (),
    retire: Iterable[str] = (),
    message: str = "",
    who: str | None = None,
    companions_after: Sequence[int] | None = None,
) -> PublishedLayer:
    """Make finished segments visible as rows of a layer. See `Cohort.publish_layer`."""
    _check_rows(key, rows)
    try:
        with catalogue.write() as connection:
            return _publish(
                connection, run_id, epoch, name, key, parameters, rows, dict(meta), companions, retire, message, who,
                companions_after,
            )  # fmt: skip
    except IntegrityError as error:
        # The index of live rows decides where locks did not.
        raise Busy(
            f"another writer published some of these samples of layer {name!r} at the same moment; nothing was "
            f"published here. Run the same command again."
        ) from error


def _check_rows(key: str, rows: Sequence[LayerRows]) -> None:
    for one in rows:
        n = one.record.n_samples
        if one.record.assay != key:
            raise ValueError(f"segment {one.record.segment_id} was written for {one.record.assay}, not {key}")
        if len(one.row_hashes) != n or len(one.source_hashes) != n:
            raise ValueError(f"{len(one.row_hashes)} and {len(one.source_hashes)} hashes for {n} rows")
    count = Counter(sample for one in rows for sample in one.record.sample_ids)
    twice = sorted(sample for sample, times in count.items() if times > 1)
    if twice:
        raise DataError(f"samples appear more than once in one layer: {', '.join(map(repr, twice[:5]))}")


def _publish(
    connection: sa.Connection,
    run_id: str,
    epoch: int,
    name: str,
    key: str,
    parameters: ArraysFile | None,
    rows: Sequence[LayerRows],
    meta: dict[str, Any],
    companions: Sequence[NewResult],
    retire: Iterable[str],
    message: str,
    who: str | None,
    companions_after: Sequence[int] | None,
) -> PublishedLayer:
    set_if_held(connection, run_id, epoch, {"state": "published", "finished": time.time()})
    version = _existing_version(connection, name, key)
    is_new = version is None
    if version is None:
        if parameters is None:
            raise ValueError(f"a new version of layer {name!r} needs its parameters")
        if not rows:
            raise ValueError(f"a new version of layer {name!r} needs rows")
        version = next_version(connection, _LAYERS, name)
    for one in rows:
        check_assay(connection, one.record)
    written = {sample for one in rows for sample in one.record.sample_ids}
    leaving = [sample for sample in dict.fromkeys(map(str, retire)) if sample not in written]
    live = _live(connection, key, [*written, *leaving])
    source = {
        sample: row_hash
        for piece in in_pieces(list(live))
        for sample, row_hash in connection.execute(
            sa.select(t.rows.c.sample_id, t.rows.c.row_hash).where(
                t.rows.c.assay == meta["source_assay"], t.rows.c.retired_in.is_(None), t.rows.c.sample_id.in_(piece)
            )
        )
    }

    def stays(sample: str, new_hash: str | None) -> bool:
        # A row that belongs to the source's row of today is never taken away by a run that read an older view.
        old = live[sample].source_hash
        return old == new_hash or (old is not None and old == source.get(sample))

    taken: list[list[int]] = []
    retired: list[int] = []
    gone = [live[sample].id for sample in leaving if sample in live and not stays(sample, None)]
    n_new = n_replaced = n_same = 0
    for one in rows:
        mine = []
        for index, (sample, source_hash) in enumerate(zip(one.record.sample_ids, one.source_hashes, strict=True)):
            if not source_hash:
                if sample in live and not stays(sample, None):
                    gone.append(live[sample].id)
                continue
            if sample not in live:
                n_new += 1
            elif stays(sample, source_hash):
                n_same += 1
                continue
            else:
                n_replaced += 1
                retired.append(live[sample].id)
            mine.append(index)
        taken.append(mine)
    refs = [f"{_LAYERS}/{name}@{version}"]
    versions = [next_version(connection, item.kind, item.name) for item in companions]
    if companions_after is not None and [_newest(connection, item) for item in companions] != list(companions_after):
        raise Busy(
            f"another run published into layer {name!r} at the same moment; nothing was published here. Run the same "
            "command again."
        )
    refs += [f"{item.kind}/{item.name}@{one}" for item, one in zip(companions, versions, strict=True)]
    snapshot: int | None = None
    if is_new or n_new or n_replaced or gone or companions:
        counts = [(n_new, "new"), (n_replaced, "replaced"), (len(gone), "retired")]
        said = ", ".join(f"{count} rows {what}" for count, what in counts if count)
        text = ", ".join(refs) + (f": {said}" if said else "") + (f"; {message}" if message else "")
        snapshot = new_snapshot(connection, "layer", text, who=who, run_id=run_id)
        for piece in in_pieces(retired + gone):
            connection.execute(sa.update(t.rows).where(t.rows.c.id.in_(piece)).values(retired_in=snapshot))
        for one, mine in zip(rows, taken, strict=True):
            if mine or is_new:
                insert_assay(connection, one.record, snapshot)
            if mine:
                _insert_rows(connection, one, mine, snapshot)
        if is_new:
            assert parameters is not None
            result = NewResult(_LAYERS, name, {"parameters": parameters}, {**meta, "assay_key": key})
            insert_result(connection, result, version, snapshot, run_id)
        for item, one_version in zip(companions, versions, strict=True):
            insert_result(connection, item, one_version, snapshot, run_id)
    stored = connection.execute(sa.select(t.runs.c.meta).where(t.runs.c.id == run_id)).scalar()
    connection.execute(
        sa.update(t.runs)
        .where(t.runs.c.id == run_id)
        .values(message=", ".join(refs), meta=json.dumps({**json.loads(stored or "{}"), "published": refs}))
    )
    return PublishedLayer(refs, version, is_new, snapshot, n_new, n_replaced, n_same, len(gone))


def _newest(connection: sa.Connection, item: NewResult) -> int:
    results = t.results.c
    query = sa.select(sa.func.max(results.version)).where(
        results.kind == item.kind, results.name == item.name, results.retired_in.is_(None)
    )
    return int(connection.execute(query).scalar() or 0)


def _existing_version(connection: sa.Connection, name: str, key: str) -> int | None:
    results = t.results.c
    query = sa.select(results.version, results.meta).where(
        results.kind == _LAYERS, results.name == name, results.retired_in.is_(None)
    )
    for version, meta in connection.execute(query.order_by(results.version.desc())):
        if json.loads(meta).get("assay_key") == key:
            return int(version)
    return None


def _live(connection: sa.Connection, key: str, sample_ids: list[str]) -> dict[str, _Live]:
    rows = t.rows.c
    found: dict[str, _Live] = {}
    for piece in in_pieces(sample_ids):
        query = sa.select(rows.sample_id, rows.id, rows.source_hash).where(
            rows.assay == key, rows.retired_in.is_(None), rows.sample_id.in_(piece)
        )
        for sample_id, row_id, source_hash in connection.execute(query):
            found[sample_id] = _Live(row_id, source_hash)
    return found


def _insert_rows(connection: sa.Connection, one: LayerRows, mine: list[int], snapshot: int) -> None:
    connection.execute(sa.insert(t.segments).values(**segment_values(one.record, snapshot)))
    connection.execute(
        sa.insert(t.rows),
        [
            {
                "assay": one.record.assay,
                "sample_id": one.record.sample_ids[index],
                "row_hash": one.row_hashes[index],
                "published_in": snapshot,
                "segment_id": one.record.segment_id,
                "row_index": index,
                "source_hash": one.source_hashes[index],
            }
            for index in mine
        ],
    )
