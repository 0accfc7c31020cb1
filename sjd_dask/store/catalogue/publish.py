"""Publishing a written segment: one transaction that either shows all of its rows or none."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError

from sjd_dask.errors import Busy, DataError
from sjd_dask.store.catalogue import samples as sample_records
from sjd_dask.store.catalogue import tables as t
from sjd_dask.store.catalogue.session import Catalogue, in_pieces, new_snapshot
from sjd_dask.store.catalogue.staging import take_staging
from sjd_dask.store.segment import SegmentRecord


@dataclass(frozen=True)
class Published:
    """What a publication did.

    Attributes
    ----------
    snapshot : int or None
        The number of the change; None where nothing changed.
    segment_id : str
        The segment that holds the content: the new one, or for a no-op one that held it already.
    n_new, n_replaced, n_same : int
        Rows of new samples, rows that retired an older one, rows that were there already.
    """

    snapshot: int | None
    segment_id: str
    n_new: int
    n_replaced: int
    n_same: int

    @property
    def noop(self) -> bool:
        """Whether all rows were there already."""
        return self.n_new == 0 and self.n_replaced == 0


@dataclass(frozen=True)
class LiveRow:
    """The live row of a sample."""

    id: int
    row_hash: str
    segment_id: str


def live_rows(connection: sa.Connection, assay: str, sample_ids: list[str]) -> dict[str, LiveRow]:
    """The live rows of these samples."""
    rows = t.rows.c
    found: dict[str, LiveRow] = {}
    for piece in in_pieces(sample_ids):
        query = sa.select(rows.sample_id, rows.id, rows.row_hash, rows.segment_id).where(
            rows.assay == assay, rows.retired_in.is_(None), rows.sample_id.in_(piece)
        )
        for sample_id, row_id, row_hash, segment_id in connection.execute(query):
            found[sample_id] = LiveRow(row_id, row_hash, segment_id)
    return found


def publish_segment(
    catalogue: Catalogue,
    staging_id: str,
    record: SegmentRecord,
    row_hashes: list[str],
    *,
    replace: bool = False,
    message: str = "",
    who: str | None = None,
    columns: dict[str, dict[str, Any]] | None = None,
) -> Published:
    """Make a finished segment visible.

    Parameters
    ----------
    staging_id : str
        From `begin_staging`.
    record : SegmentRecord
        From `SegmentWriter.finish`.
    row_hashes : list of str
        One a row, in the segment's order.
    replace : bool
        Whether rows may retire live rows with other content.
    columns : dict, optional
        Sample columns by sample id, published in the same change.

    Raises
    ------
    DataError
        Samples that are published with other content and `replace` was not asked, an id twice, or a quantity or
        features other than the assay's.
    Busy
        The writer was taken for dead meanwhile.
    """
    _check_ids(record, row_hashes)
    try:
        with catalogue.write() as connection:
            take_staging(connection, staging_id)
            check_withdrawn(connection, record.sample_ids, columns or {})
            rows = compare_rows(connection, record, row_hashes, replace=replace)
            changed = sample_records.changed_records(connection, columns) if columns else {}
            if not rows.changes:
                snapshot = None
                if changed:
                    snapshot = new_snapshot(connection, "samples", message, who=who)
                    sample_records.insert_records(connection, changed, snapshot)
                return Published(snapshot, rows.holder, 0, 0, rows.n_same)
            snapshot = new_snapshot(connection, "replace" if rows.other else "ingest", message, who=who)
            insert_rows(connection, rows, snapshot)
            if changed:
                sample_records.insert_records(connection, changed, snapshot)
    except IntegrityError as error:
        raise at_the_same_moment(record.assay) from error
    return Published(snapshot, record.segment_id, len(rows.new), len(rows.other), rows.n_same)


@dataclass(frozen=True)
class ComparedRows:
    """A finished segment's rows beside the live ones: places of new samples, and of those with other content."""

    record: SegmentRecord
    row_hashes: list[str]
    live: dict[str, LiveRow]
    new: list[int]
    other: list[int]

    @property
    def changes(self) -> bool:
        """Whether there is anything to publish."""
        return bool(self.new or self.other)

    @property
    def n_same(self) -> int:
        """Rows that are there already."""
        return len(self.row_hashes) - len(self.new) - len(self.other)

    @property
    def holder(self) -> str:
        """The segment that holds the first row already."""
        return self.live[self.record.sample_ids[0]].segment_id


def _check_ids(record: SegmentRecord, row_hashes: list[str]) -> None:
    ids = record.sample_ids
    if len(row_hashes) != len(ids):
        raise ValueError(f"{len(row_hashes)} row hashes for {len(ids)} rows")
    if len(set(ids)) != len(ids):
        twice = sorted(one for one, count in Counter(ids).items() if count > 1)
        raise DataError(f"sample ids appear more than once in one segment: {', '.join(map(repr, twice[:5]))}")


def compare_rows(
    connection: sa.Connection, record: SegmentRecord, row_hashes: list[str], *, replace: bool
) -> ComparedRows:
    """What publishing a segment would change, inside the transaction that does it.

    Raises
    ------
    DataError
        As `publish_segment`.
    """
    _check_ids(record, row_hashes)
    check_assay(connection, record)
    ids = list(record.sample_ids)
    live = live_rows(connection, record.assay, ids)
    new = [one for one in range(len(ids)) if ids[one] not in live]
    other = [one for one in range(len(ids)) if ids[one] in live and live[ids[one]].row_hash != row_hashes[one]]
    if other and not replace:
        shown = ", ".join(repr(ids[one]) for one in other[:5])
        raise DataError(
            f"{len(other)} of {len(ids)} samples are published in {record.assay!r} with other values: {shown}"
            f"{', ...' if len(other) > 5 else ''}; nothing was published. To correct them use --replace."
        )
    return ComparedRows(record, row_hashes, live, new, other)


def insert_rows(connection: sa.Connection, rows: ComparedRows, snapshot: int) -> None:
    """Show the new rows and retire those they correct, inside the transaction that publishes them."""
    record, ids = rows.record, rows.record.sample_ids
    insert_assay(connection, record, snapshot)
    connection.execute(sa.insert(t.segments).values(**segment_values(record, snapshot)))
    retired = [rows.live[ids[one]].id for one in rows.other]
    for piece in in_pieces(retired):
        connection.execute(sa.update(t.rows).where(t.rows.c.id.in_(piece)).values(retired_in=snapshot))
    connection.execute(
        sa.insert(t.rows),
        [
            {
                "assay": record.assay,
                "sample_id": ids[one],
                "row_hash": rows.row_hashes[one],
                "published_in": snapshot,
                "segment_id": record.segment_id,
                "row_index": one,
            }
            for one in sorted([*rows.new, *rows.other])
        ],
    )


def check_withdrawn(
    connection: sa.Connection, sample_ids: Sequence[str], columns: Mapping[str, Mapping[str, Any]]
) -> None:
    """Refuse samples of people who were withdrawn after these samples were looked at."""
    gone = sample_records.withdrawn_samples(connection, sample_ids, columns)
    if gone:
        raise Busy(
            f"{len(gone)} of {len(sample_ids)} samples belong to people who were withdrawn meanwhile; nothing was "
            f"published. Run the same command again: it leaves them out."
        )


def at_the_same_moment(assay: str) -> Busy:
    """What the index of live rows says where locks did not decide."""
    return Busy(
        f"another writer published some of these samples of {assay!r} at the same moment; nothing was "
        f"published here. Run the same command again."
    )


def segment_values(record: SegmentRecord, snapshot: int) -> dict[str, Any]:
    """A segment's columns in the catalogue."""
    return {
        "id": record.segment_id,
        "assay": record.assay,
        "n_samples": record.n_samples,
        "n_features": record.n_features,
        "encoding": json.dumps(record.encoding.to_json()),
        "chunk_samples": record.chunks[0],
        "chunk_features": record.chunks[1],
        "n_bytes": record.n_bytes,
        "manifest_hash": record.manifest_hash,
        "state": "live",
        "published_in": snapshot,
    }


def check_assay(connection: sa.Connection, record: SegmentRecord) -> None:
    """Refuse a segment whose quantity or features are not its assay's."""
    known = connection.execute(sa.select(t.assays).where(t.assays.c.name == record.assay)).mappings().one_or_none()
    if known is None:
        return
    if known["quantity"] != record.quantity:
        raise DataError(f"assay {record.assay!r} holds {known['quantity']}, not {record.quantity}; nothing was changed")
    if known["feature_hash"] != record.feature_hash:
        raise DataError(
            f"assay {record.assay!r} has {known['n_features']} features, and this segment's {record.n_features} are "
            f"not the same ones in the same order; nothing was published. Reconcile them with --features."
        )


def insert_assay(connection: sa.Connection, record: SegmentRecord, snapshot: int) -> None:
    """Make the assay of a segment where it is new."""
    known = connection.execute(sa.select(t.assays.c.name).where(t.assays.c.name == record.assay)).scalar()
    if known is None:
        connection.execute(
            sa.insert(t.assays).values(
                name=record.assay,
                quantity=record.quantity,
                n_features=record.n_features,
                feature_hash=record.feature_hash,
                feature_table=record.feature_table,
                published_in=snapshot,
            )
        )
