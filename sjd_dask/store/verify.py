"""Checking that everything published is still what was published."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import sqlalchemy as sa

from sjd_dask import names
from sjd_dask.errors import DataError, SjdError
from sjd_dask.store.assay import SegmentInfo, segment_info, segment_problems
from sjd_dask.store.bundle import bundle_problems
from sjd_dask.store.catalogue import tables as t
from sjd_dask.store.catalogue.results import BundleFile, list_results
from sjd_dask.store.cohort import Cohort
from sjd_dask.store.features import load_features
from sjd_dask.store.hashing import RowHasher
from sjd_dask.store.layer import LAYERS
from sjd_dask.store.region import Piece, RegionReader
from sjd_dask.store.segment import open_array, segment_path
from sjd_dask.store.tables import file_digest


@dataclass
class VerifyReport:
    """What was checked and what is wrong."""

    n_segments: int = 0
    n_rows: int = 0
    n_bytes: int = 0
    n_tables: int = 0
    n_bundles: int = 0
    problems: list[str] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return dict(self.__dict__)


def verify(cohort: Cohort, *, raise_errors: bool = True, progress: Callable[[str], None] | None = None) -> VerifyReport:
    """Hash every file of every live segment of assays and layers, every row, and the files of features and results.

    Parameters
    ----------
    raise_errors : bool
        Whether to end with an error where something is wrong.

    Raises
    ------
    DataError
        Names what is lost or changed.
    """
    report = VerifyReport()
    segments = t.segments.c
    with cohort.catalogue.read() as connection:
        assays = connection.execute(sa.select(t.assays).order_by(t.assays.c.name)).mappings().all()
        live = connection.execute(
            sa.select(t.segments).where(segments.state == "live").order_by(segments.assay, segments.published_in)
        )
        records = live.mappings().all()
        lost = connection.execute(
            sa.select(t.rows.c.assay, sa.func.count())
            .join(t.segments, segments.id == t.rows.c.segment_id)
            .where(segments.state != "live")
            .group_by(t.rows.c.assay)
        ).all()
    report.problems += [f"assay {name!r}: {count} rows lie in segments that are not live" for name, count in lost]
    by_name = {record["name"]: record for record in assays}
    for record in assays:
        try:
            space = load_features.__wrapped__(cohort.files, record["feature_table"])
        except DataError as error:
            report.problems.append(str(error))
            continue
        if space.hash != record["feature_hash"]:
            report.problems.append(f"the feature table of assay {record['name']!r} changed after it was published")
    for record in records:
        info = segment_info(record)
        if progress:
            progress(f"{record['assay']}: segment {info.id}")
        found = segment_problems(cohort.files, record["assay"], info, deep=True)
        report.n_segments += 1
        report.n_bytes += info.n_bytes
        if not found:
            found = _row_problems(cohort, by_name[record["assay"]], info, report)
        report.problems += [f"assay {record['assay']!r}, {one}" for one in found]
    for result in list_results(cohort.catalogue):
        if result.kind == LAYERS and result.meta.get("assay_key") not in by_name:
            report.problems.append(
                f"{result.kind}/{result.name}@{result.version} names rows the catalogue doesn't have"
            )
        for name, file in result.files.items():
            report.n_bytes += file.n_bytes
            if isinstance(file, BundleFile):
                report.n_bundles += 1
                where = f"{result.kind}/{result.name}@{result.version}, bundle ({cohort.files.where(file.path)})"
                report.problems += [f"{where}: {one}" for one in bundle_problems(cohort.files, file)]
                continue
            report.n_tables += 1
            what = f"{result.kind}/{result.name}@{result.version}, table {name!r} ({cohort.files.where(file.path)})"
            try:
                if file_digest(cohort.files, file.path) != file.hash:
                    report.problems.append(f"{what} changed after it was published")
            except FileNotFoundError:
                report.problems.append(f"{what} is lost")
    if report.problems and raise_errors:
        shown = "\n  ".join(report.problems[:20])
        more = f"\n  and {len(report.problems) - 20} more" if len(report.problems) > 20 else ""
        raise DataError(
            f"{len(report.problems)} problems in cohort {cohort.name!r}:\n  {shown}{more}\n"
            f"Restore what is named from a backup."
        )
    return report


def _row_problems(cohort: Cohort, assay: sa.RowMapping, info: SegmentInfo, report: VerifyReport) -> list[str]:
    rows = t.rows.c
    with cohort.catalogue.read() as connection:
        records = connection.execute(
            sa.select(rows.row_index, rows.sample_id, rows.row_hash)
            .where(rows.segment_id == info.id)
            .order_by(rows.row_index)
        ).all()
    if not records:
        return []
    report.n_rows += len(records)
    indices = np.array([record.row_index for record in records], dtype=np.int64)
    if indices[-1] >= info.n_samples:
        return [f"segment {info.id}: the catalogue names row {indices[-1]} of {info.n_samples}"]
    folder = segment_path(assay["name"], info.id)
    stored = [str(one) for one in np.asarray(open_array(cohort.files, f"{folder}/{names.SAMPLE_ID}")[:])]
    wrong = [record.sample_id for record in records if stored[record.row_index] != record.sample_id]
    if wrong:
        return [f"segment {info.id}: sample ids differ from the catalogue's: {', '.join(map(repr, wrong[:5]))}"]
    piece = Piece(info.id, info.encoding, info.chunks, info.manifest_hash, indices, np.arange(len(indices)))
    reader = RegionReader(
        cohort.files,
        assay["name"],
        assay["quantity"],
        [record.sample_id for record in records],
        assay["n_features"],
        [piece],
        "",
    )
    hasher = RowHasher(len(records), info.encoding)
    try:
        for start in range(0, reader.n_features, info.chunks[1]):
            stop = min(start + info.chunks[1], reader.n_features)
            for positions, raw, _ in reader.row_blocks(start, stop, reuse=True):
                hasher.update(int(positions[0]), raw)
    except SjdError as error:
        return [f"segment {info.id}: {error}"]
    changed = [
        record.sample_id
        for record, digest in zip(records, hasher.hexdigests(), strict=True)
        if digest != record.row_hash
    ]
    if changed:
        return [f"segment {info.id}: {len(changed)} rows changed: {', '.join(map(repr, changed[:5]))}"]
    return []
