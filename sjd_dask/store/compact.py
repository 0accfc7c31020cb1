"""Merging small segments into larger ones.

All rows of the small segments are copied, retired ones too, so every earlier snapshot stays readable; then one
transaction moves the rows and retires the old segments. Their bytes stay until `gc` finds that nobody can be reading
them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import sqlalchemy as sa

from sjd_dask.errors import Busy, DataError
from sjd_dask.store.assay import SegmentInfo, segment_info
from sjd_dask.store.catalogue import staging
from sjd_dask.store.catalogue import tables as t
from sjd_dask.store.catalogue.publish import segment_values
from sjd_dask.store.catalogue.session import in_pieces, new_snapshot, now
from sjd_dask.store.cohort import Cohort
from sjd_dask.store.features import load_features
from sjd_dask.store.hashing import RowHasher, content_tag
from sjd_dask.store.layer import LAYERS
from sjd_dask.store.region import Piece, RegionReader
from sjd_dask.store.segment import SegmentRecord, SegmentWriter, new_segment_id


@dataclass(frozen=True)
class CompactReport:
    """What compacting one assay did. `snapshot` is None where there was nothing to merge."""

    assay: str
    snapshot: int | None
    n_before: int
    n_after: int
    n_rows: int


@dataclass(frozen=True)
class MergeRow:
    """A stored row, where it lies in its segment, and the catalogue's records of it.

    A record that was retired and came back by a rollback is a second one of the same row.
    """

    ids: tuple[int, ...]
    sample_id: str
    row_hash: str
    row_index: int


def count_small(cohort: Cohort, assay: str, small_rows: int) -> int:
    """Segments of an assay that hold published rows and are smaller than this."""
    rows, segments = t.rows.c, t.segments.c
    query = (
        sa.select(sa.func.count(rows.segment_id.distinct()))
        .join(t.segments, segments.id == rows.segment_id)
        .where(rows.assay == assay, rows.retired_in.is_(None), segments.n_samples < small_rows)
    )
    with cohort.catalogue.read() as connection:
        return int(connection.execute(query).scalar() or 0)


def stored_rows(records: Iterable[Any]) -> list[MergeRow]:
    """The stored rows, in the segment's order, of records of one segment (id, sample_id, row_hash, row_index)."""
    found: dict[int, MergeRow] = {}
    for record in records:
        before = found.get(record.row_index)
        ids = (record.id,) if before is None else (*before.ids, record.id)
        found[record.row_index] = MergeRow(ids, record.sample_id, record.row_hash, record.row_index)
    return [found[index] for index in sorted(found)]


@dataclass(frozen=True)
class Merge:
    """Small segments, in order of publication, and their rows; together they become one segment."""

    segments: list[SegmentInfo]
    rows: list[list[MergeRow]]


def compact(
    cohort: Cohort,
    assay: str | None = None,
    *,
    small_rows: int = 256,
    target_rows: int = 1024,
    message: str = "",
    progress: Callable[[str], None] | None = None,
) -> list[CompactReport]:
    """Merge the small segments of one assay or version of a layer, or of all.

    Parameters
    ----------
    assay : str, optional
        An assay, or ``layers/NAME@VERSION`` (without a version the newest).
    small_rows : int
        Segments with fewer rows are merged.
    target_rows : int
        Merged segments have about this many rows.

    Raises
    ------
    Busy
        Another process compacts the same assay. Nothing was lost.
    DataError
        A segment holds other values than were published; nothing was merged.
    """
    if assay is None:
        wanted = {name: name for name in cohort.assays()}
        wanted |= {one.ref: one.assay_key for layer in cohort.layers() for one in layer.versions}
    elif assay.startswith(f"{LAYERS}/"):
        layer = cohort.layer(assay)
        wanted = {layer.ref: layer.name}
    else:
        wanted = {assay: cohort.assay(assay).name}
    return [
        _compact_assay(cohort, label, name, small_rows, target_rows, message, progress)
        for label, name in wanted.items()
    ]


def _compact_assay(
    cohort: Cohort,
    label: str,
    assay: str,
    small_rows: int,
    target_rows: int,
    message: str,
    progress: Callable[[str], None] | None,
) -> CompactReport:
    cohort.sweep_dead(assay)
    merges, n_before = _plan(cohort, assay, small_rows, target_rows)
    if not merges:
        return CompactReport(label, None, n_before, n_before, 0)
    new_ids = [new_segment_id() for _ in merges]
    staging_id = staging.begin_staging(cohort.catalogue, assay, new_ids, [], kind="compact")
    try:
        records = []
        for number, (merge, segment_id) in enumerate(zip(merges, new_ids, strict=True)):
            if progress:
                progress(f"{label}: merging {len(merge.segments)} segments ({number + 1} of {len(merges)})")
            records.append(write_merge(cohort, assay, segment_id, merge))
            staging.heartbeat_staging(cohort.catalogue, staging_id)
        snapshot = _publish(cohort, assay, staging_id, merges, records, message or _said(label, merges))
    except BaseException:
        cohort.abandon(staging_id)
        raise
    merged = sum(len(merge.segments) for merge in merges)
    n_rows = sum(len(rows) for merge in merges for rows in merge.rows)
    return CompactReport(label, snapshot, n_before, n_before - merged + len(merges), n_rows)


def _plan(cohort: Cohort, assay: str, small_rows: int, target_rows: int) -> tuple[list[Merge], int]:
    with cohort.catalogue.read() as connection:
        segments = t.segments.c
        live = connection.execute(
            sa.select(t.segments)
            .where(segments.assay == assay, segments.state == "live")
            .order_by(segments.published_in, segments.id)
        ).mappings()
        infos = [segment_info(record) for record in live]
        small = [info for info in infos if info.n_samples < small_rows]
        known: dict[str, list[Any]] = {info.id: [] for info in small}
        columns = t.rows.c
        for piece in in_pieces(list(known)):
            query = sa.select(
                columns.segment_id, columns.id, columns.sample_id, columns.row_hash, columns.row_index
            ).where(columns.segment_id.in_(piece))
            for record in connection.execute(query.order_by(columns.row_index)):
                known[record.segment_id].append(record)
    rows = {one: stored_rows(records) for one, records in known.items()}
    merges: list[Merge] = []
    by_tag: dict[str, list[SegmentInfo]] = {}
    # Row ids are in order of publication; so is the merged segment, and results keep their bits.
    small.sort(key=lambda info: min((one for row in rows[info.id] for one in row.ids), default=0))
    for info in small:
        if rows[info.id]:
            by_tag.setdefault(content_tag(info.encoding), []).append(info)
    for group in by_tag.values():
        parts: list[list[SegmentInfo]] = [[]]
        size = 0
        for info in group:
            if parts[-1] and size + len(rows[info.id]) > target_rows:
                parts.append([])
                size = 0
            parts[-1].append(info)
            size += len(rows[info.id])
        merges += [Merge(part, [rows[info.id] for info in part]) for part in parts if len(part) > 1]
    return merges, len(infos)


def write_merge(cohort: Cohort, assay: str, segment_id: str, merge: Merge) -> SegmentRecord:
    """Write the rows of a merge as one new segment, which nobody sees yet.

    Raises
    ------
    DataError
        A row holds other values than were published.
    """
    pieces, first = [], 0
    for info, rows in zip(merge.segments, merge.rows, strict=True):
        indices = np.array([row.row_index for row in rows], dtype=np.int64)
        places = np.arange(first, first + len(rows), dtype=np.int64)
        pieces.append(Piece(info.id, info.encoding, info.chunks, info.manifest_hash, indices, places))
        first += len(rows)
    flat = [row for rows in merge.rows for row in rows]
    with cohort.catalogue.read() as connection:
        known = connection.execute(sa.select(t.assays).where(t.assays.c.name == assay)).mappings().one()
    space = load_features(cohort.files, known["feature_table"])
    ids = [row.sample_id for row in flat]
    reader = RegionReader(cohort.files, assay, known["quantity"], ids, known["n_features"], pieces, "")
    writer = SegmentWriter(
        cohort.files, assay, segment_id, known["quantity"], reader.encoding, cohort.layout, ids, space
    )
    hasher = RowHasher(len(flat), reader.encoding)
    rows_at_once = writer.chunks[0] * max(1, 256 // writer.chunks[0])
    for start in range(0, reader.n_features, writer.chunks[1]):
        stop = min(start + writer.chunks[1], reader.n_features)
        for positions, raw, _ in reader.row_blocks(start, stop, rows_at_once, reuse=True):
            writer.write(int(positions[0]), start, raw)
            hasher.update(int(positions[0]), raw)
    wrong = [row.sample_id for row, digest in zip(flat, hasher.hexdigests(), strict=True) if digest != row.row_hash]
    if wrong:
        raise DataError(
            f"{len(wrong)} rows of assay {assay!r} hold other values than were published: "
            f"{', '.join(map(repr, wrong[:5]))}; nothing was published. Restore them from a backup, or ingest these "
            f"samples again with --replace."
        )
    return writer.finish()


def _said(label: str, merges: list[Merge]) -> str:
    return f"{label}: {sum(len(merge.segments) for merge in merges)} segments merged into {len(merges)}"


def _publish(
    cohort: Cohort, assay: str, staging_id: str, merges: list[Merge], records: list[SegmentRecord], message: str
) -> int:
    old = [info.id for merge in merges for info in merge.segments]
    with cohort.catalogue.write() as connection:
        staging.take_staging(connection, staging_id)
        snapshot = new_snapshot(connection, "compact", message)
        connection.execute(sa.insert(t.segments), [segment_values(record, snapshot) for record in records])
        # Compare and set: whoever retired one of these first has moved its rows.
        for piece in in_pieces(old):
            done = connection.execute(
                sa.update(t.segments)
                .where(t.segments.c.id.in_(piece), t.segments.c.state == "live")
                .values(state="retired", retired_in=snapshot, retired_at=now())
            )
            if done.rowcount != len(piece):
                raise Busy(f"another process compacted {assay!r} meanwhile; nothing was lost")
        moves = []
        for merge, record in zip(merges, records, strict=True):
            flat = [row for rows in merge.rows for row in rows]
            moves += [
                {"this_row": one, "segment_id": record.segment_id, "row_index": index}
                for index, row in enumerate(flat)
                for one in row.ids
            ]
        connection.execute(
            sa.update(t.rows)
            .where(t.rows.c.id == sa.bindparam("this_row"))
            .values(segment_id=sa.bindparam("segment_id"), row_index=sa.bindparam("row_index")),
            moves,
        )
        left = 0
        for piece in in_pieces(old):
            counted = sa.select(sa.func.count()).where(t.rows.c.segment_id.in_(piece))
            left += int(connection.execute(counted).scalar() or 0)
        if left:
            raise Busy(f"{left} rows of {assay!r} were added to a segment while it was merged; run it again")
    return snapshot
