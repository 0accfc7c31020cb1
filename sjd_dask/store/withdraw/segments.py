"""Segments without the rows of people who leave: the rows that stay are written anew, retired ones too."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import sqlalchemy as sa

from sjd_dask import names
from sjd_dask.errors import DataError
from sjd_dask.store.assay import SegmentInfo, segment_info
from sjd_dask.store.catalogue import staging
from sjd_dask.store.catalogue import tables as t
from sjd_dask.store.compact import Merge, MergeRow, stored_rows, write_merge
from sjd_dask.store.lease import Lease
from sjd_dask.store.segment import SegmentRecord, new_segment_id, open_array, segment_path

if TYPE_CHECKING:
    from sjd_dask.store.cohort import Cohort
    from sjd_dask.store.withdraw.ids import Leaving


@dataclass(frozen=True)
class Touched:
    """A segment that holds values of people who leave.

    Attributes
    ----------
    assay : str
    info : SegmentInfo
    stay : list of MergeRow
        Rows of everybody else, of any view.
    n_rows : int
        All of the catalogue's records in it.
    """

    assay: str
    info: SegmentInfo
    stay: list[MergeRow]
    n_rows: int


def touched_segments(cohort: Cohort, leaving: Leaving, progress: Callable[[str], None] | None = None) -> list[Touched]:
    """Segments with their values, merged and retired ones included, in order of publication."""
    segments, rows = t.segments.c, t.rows.c
    with cohort.catalogue.read() as connection:
        query = sa.select(t.segments).where(segments.state != "removed")
        records = connection.execute(query.order_by(segments.published_in, segments.id)).mappings().all()
    held = []
    for number, record in enumerate(records):
        if progress and number % 100 == 0:
            progress(f"segment {number + 1} of {len(records)}")
        if leaving.samples.intersection(stored_ids(cohort, record["assay"], record["id"])):
            held.append(record)
    found = []
    with cohort.catalogue.read() as connection:
        for record in held:
            query = sa.select(rows.id, rows.sample_id, rows.row_hash, rows.row_index)
            known = connection.execute(query.where(rows.segment_id == record["id"]).order_by(rows.row_index)).all()
            stay = stored_rows(row for row in known if row.sample_id not in leaving.samples)
            found.append(Touched(record["assay"], segment_info(record), stay, len(known)))
    return found


def stored_ids(cohort: Cohort, assay: str, segment_id: str) -> list[str]:
    """The sample ids that lie in a segment, whether the catalogue names all of them or not.

    Raises
    ------
    DataError
        They are lost.
    """
    path = f"{segment_path(assay, segment_id)}/{names.SAMPLE_ID}"
    try:
        return [str(one) for one in np.asarray(open_array.__wrapped__(cohort.files, path)[:])]
    except (OSError, KeyError, ValueError) as error:
        raise DataError(
            f"the sample ids of segment {segment_id} of {assay} are lost ({cohort.files.where(path)}); nobody was "
            "withdrawn. Restore them from a backup."
        ) from error


@dataclass(frozen=True)
class Rewritten:
    """A segment and what takes its place; nothing does where nobody stays."""

    touched: Touched
    record: SegmentRecord | None


class Rewriting:
    """New segments that are registered as being written, so that what a killed withdrawal leaves is found."""

    def __init__(self, cohort: Cohort, lease: Lease) -> None:
        self.cohort = cohort
        self.lease = lease
        self.staged: list[str] = []

    def write(self, touched: list[Touched], progress: Callable[[str], None] | None = None) -> Iterator[Rewritten]:
        """Write the rows that stay, segment by segment.

        Raises
        ------
        Busy
            Somebody compacts the assay at this moment.
        """
        number = 0
        for assay in dict.fromkeys(one.assay for one in touched):
            mine = [one for one in touched if one.assay == assay]
            new_ids = [new_segment_id() for _ in mine]
            # As a compaction: only one process at a time moves the rows of an assay.
            staging_id = staging.begin_staging(self.cohort.catalogue, assay, new_ids, [], kind="compact")
            self.staged.append(staging_id)
            self.lease.keep(staging_id)
            for one, segment_id in zip(mine, new_ids, strict=True):
                number += 1
                if progress:
                    progress(f"{assay}: segment {number} of {len(touched)}")
                merge = Merge([one.info], [one.stay])
                yield Rewritten(one, write_merge(self.cohort, assay, segment_id, merge) if one.stay else None)

    def abandon(self) -> None:
        """Remove what was written and not published."""
        for one in self.staged:
            self.cohort.abandon(one)
