"""Removing bytes that nothing refers to any more.

What is removed was first taken out of the catalogue, or was never in it; a crash in between leaves bytes for the next
run of `gc`, never a reference without bytes.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

import sqlalchemy as sa

from sjd_dask.errors import SpecError
from sjd_dask.store.bundle import BUNDLES
from sjd_dask.store.catalogue import tables as t
from sjd_dask.store.catalogue.retention import old_nights, reading_run, remove_nights
from sjd_dask.store.catalogue.runs import Run, list_runs, run_of
from sjd_dask.store.catalogue.session import now
from sjd_dask.store.catalogue.staging import drop_staging, list_staging
from sjd_dask.store.cohort import Cohort
from sjd_dask.store.features import features_path
from sjd_dask.store.segment import is_layer_key, remove_segment, segment_path


@dataclass(frozen=True)
class Removed:
    """One removed thing: kind (segment, staging, orphan, night, table, bundle, features, parts), its place, and its
    bytes. The bytes of a night are those of its tables, which are things of their own once it has left."""

    kind: str
    path: str
    n_bytes: int


@dataclass
class GcReport:
    """What was removed, or would be."""

    dry_run: bool
    items: list[Removed] = field(default_factory=list)
    kept: list[str] = field(default_factory=list)

    @property
    def n_bytes(self) -> int:
        """Bytes freed."""
        return sum(item.n_bytes for item in self.items)

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return {
            "dry_run": self.dry_run,
            "bytes": self.n_bytes,
            "removed": [item.__dict__.copy() for item in self.items],
            "kept": list(self.kept),
        }


def gc(cohort: Cohort, grace_hours: float = 24.0, dry_run: bool = False, *, keep_nights: int | None = None) -> GcReport:
    """Remove what nothing refers to.

    Parameters
    ----------
    grace_hours : float
        How long retired segments and unknown files are kept, for readers that are not runs.
    dry_run : bool
        Only say what would be removed.
    keep_nights : int, optional
        Also remove the tables ``classes/NAME`` and ``reported/NAME`` of nights but for so many of the newest of each
        NAME, and for versions that another result names. The changes of all nights and the history of calls stay. A
        night can be taken back as long as the one before it is there.

    Returns
    -------
    GcReport
        Retired segments that no live run can be reading, leftovers of dead writers, tables, bundles and feature tables
        without a reference, parts of published and cancelled runs. `kept` says what waits, and why.

    Raises
    ------
    SpecError
        `keep_nights` below 1.
    Busy
        With `keep_nights`: a night or a withdrawal is at work. Nothing was removed.
    """
    if keep_nights is not None and keep_nights < 1:
        raise SpecError(
            f"keep_nights is {keep_nights}; the newest night is what the next one goes on from: keep 1 or more"
        )
    report = GcReport(dry_run)
    before = now() - grace_hours * 3600
    if keep_nights is not None:
        _nights(cohort, report, keep_nights)
    _retired_segments(cohort, report, before)
    _dead_writers(cohort, report)
    _orphans(cohort, report, before)
    _tables(cohort, report, before)
    _features(cohort, report, before)
    _parts(cohort, report, before)
    return report


def _nights(cohort: Cohort, report: GcReport, keep: int) -> None:
    if report.dry_run:
        with cohort.catalogue.read() as connection:
            old = old_nights(connection, keep)
    else:
        with cohort.lease() as lease, cohort.catalogue.write() as connection:
            lease.check(connection)
            if run := reading_run(connection):
                report.kept.append(f"old nights: run {run} may be reading one")
                return
            old = old_nights(connection, keep)
            remove_nights(connection, old)
    report.kept += [f"{ref}: another result was made from it" for ref in old.kept]
    # What is removed is counted below, as tables.
    report.items += [Removed("night", ref, size if report.dry_run else 0) for _, ref, size in old.live]


def _size(cohort: Cohort, folder: str) -> int:
    return sum(entry.size for entry in cohort.files.walk(folder))


def _retired_segments(cohort: Cohort, report: GcReport, before: float) -> None:
    segments = t.segments.c
    with cohort.catalogue.read() as connection:
        records = connection.execute(sa.select(t.segments).where(segments.state == "retired")).mappings().all()
    # A run that began before a segment was retired may hold its place; a dead run plans anew when it is resumed.
    live = [run for run in list_runs(cohort.catalogue, "running") if run.is_live()]
    for record in records:
        path = segment_path(record["assay"], record["id"])
        readers = [run.id for run in live if run.snapshot < record["retired_in"]]
        if readers:
            report.kept.append(f"{path}: run {readers[0]} may be reading it")
            continue
        if record["retired_at"] > before:
            report.kept.append(f"{path}: retired less than the grace period ago")
            continue
        size = _size(cohort, path)
        if not report.dry_run and not _mark_removed(cohort, record["id"], record["retired_in"]):
            report.kept.append(f"{path}: a run began to read it")
            continue
        if not report.dry_run:
            remove_segment(cohort.files, record["assay"], record["id"])
        report.items.append(Removed("segment", path, size))


def _mark_removed(cohort: Cohort, segment_id: str, retired_in: int) -> bool:
    # Under the write lock: no run can be claimed on an earlier view between this check and the mark.
    with cohort.catalogue.write() as connection:
        early = sa.select(t.runs).where(t.runs.c.state == "running", t.runs.c.snapshot < retired_in)
        if any(run_of(record).is_live() for record in connection.execute(early).mappings()):
            return False
        referred = connection.execute(sa.select(t.rows.c.id).where(t.rows.c.segment_id == segment_id).limit(1)).scalar()
        if referred is not None:
            return False
        done = connection.execute(
            sa.update(t.segments)
            .where(t.segments.c.id == segment_id, t.segments.c.state == "retired")
            .values(state="removed")
        )
        return done.rowcount == 1


def _dead_writers(cohort: Cohort, report: GcReport) -> None:
    for record in list_staging(cohort.catalogue):
        if record.is_alive():
            continue
        sizes = {one: _size(cohort, segment_path(record.assay, one)) for one in record.segment_ids}
        if not report.dry_run:
            if drop_staging(cohort.catalogue, record.id, only_dead=True) is None:
                continue
            for segment_id in record.segment_ids:
                remove_segment(cohort.files, record.assay, segment_id)
        for segment_id, size in sizes.items():
            report.items.append(Removed("staging", segment_path(record.assay, segment_id), size))


def _orphans(cohort: Cohort, report: GcReport, before: float) -> None:
    # Listed before the catalogue is asked: a writer registers before its first byte, so whatever is listed and not
    # registered afterwards belongs to nobody.
    found: dict[tuple[str, str], tuple[int, float]] = {}
    for entry in cohort.files.walk("segments"):
        assay, _, rest = entry.name.partition("/")
        name = rest.split("/", 1)[0]
        for suffix in (".zarr", ".manifest.json"):
            if name.endswith(suffix):
                size, newest = found.get((assay, name.removesuffix(suffix)), (0, 0.0))
                found[assay, name.removesuffix(suffix)] = (size + entry.size, max(newest, entry.modified))
    with cohort.catalogue.read() as connection:
        states = {row.id: row.state for row in connection.execute(sa.select(t.segments.c.id, t.segments.c.state))}
        staged = {
            one for text in connection.execute(sa.select(t.staging.c.segment_ids)).scalars() for one in json.loads(text)
        }
        runs = {record["id"]: run_of(record) for record in connection.execute(sa.select(t.runs)).mappings()}
    for (assay, segment_id), (size, newest) in found.items():
        state = states.get(segment_id)
        if state in ("live", "retired") or segment_id in staged:
            continue
        # A layer's segment bears the name of the run that writes it, which goes on there when it is resumed.
        run = runs.get(segment_id.rpartition("-")[0]) if is_layer_key(assay) else None
        if state is None and run is not None:
            if not parts_ended(run, before):
                report.kept.append(f"{segment_path(assay, segment_id)}: run {run.id} ({run.state}) is not done with it")
                continue
        elif state is None and newest > before:
            report.kept.append(f"{segment_path(assay, segment_id)}: unknown, younger than the grace period")
            continue
        if not report.dry_run:
            remove_segment(cohort.files, assay, segment_id)
        report.items.append(Removed("orphan", segment_path(assay, segment_id), size))


def _tables(cohort: Cohort, report: GcReport, before: float) -> None:
    # A bundle is a folder; it goes as a whole.
    found: dict[str, tuple[str, int, float]] = {}
    for entry in cohort.files.walk("tables"):
        found[f"tables/{entry.name}"] = ("table", entry.size, entry.modified)
    for entry in cohort.files.walk(BUNDLES):
        path = f"{BUNDLES}/{entry.name.split('/', 1)[0]}"
        _, size, newest = found.get(path, ("bundle", 0, 0.0))
        found[path] = ("bundle", size + entry.size, max(newest, entry.modified))
    with cohort.catalogue.read() as connection:
        used = {
            file["path"]
            for text in connection.execute(sa.select(t.results.c.files)).scalars()
            for file in json.loads(text).values()
        }
        running = connection.execute(sa.select(t.runs).where(t.runs.c.state == "running")).mappings()
        live = [run for run in map(run_of, running) if run.is_live()]
    for path, (kind, size, modified) in found.items():
        if path in used:
            continue
        if live:
            # A run writes its tables before the transaction that shows them, so an unknown one may be about to be used.
            report.kept.append(f"{path}: run {live[0].id} may be publishing it")
        else:
            _remove_file(cohort, report, kind, path, size, modified, before, used)


def _features(cohort: Cohort, report: GcReport, before: float) -> None:
    entries = list(cohort.files.walk("features"))
    with cohort.catalogue.read() as connection:
        used = {features_path(one) for one in connection.execute(sa.select(t.assays.c.feature_table)).scalars()}
        if connection.execute(sa.select(t.staging.c.id).limit(1)).scalar() is not None:
            return  # A writer may be about to refer to a table that is there already.
        running = connection.execute(sa.select(t.runs).where(t.runs.c.state == "running")).mappings()
        if any(run_of(record).is_live() for record in running):
            return  # So may a run that writes a layer.
    for entry in entries:
        _remove_file(cohort, report, "features", f"features/{entry.name}", entry.size, entry.modified, before, used)


def _remove_file(
    cohort: Cohort, report: GcReport, kind: str, path: str, size: int, modified: float, before: float, used: set[str]
) -> None:
    if path in used or modified > before:
        return
    if not report.dry_run and kind == "bundle":
        cohort.files.delete_tree(path)
    elif not report.dry_run:
        cohort.files.delete(path)
    report.items.append(Removed(kind, path, size))


def parts_ended(run: Run, before: float) -> bool:
    """Whether what a run wrote on its way is of no more use: it published, or was cancelled a while ago."""
    return run.state == "published" or (run.state == "cancelled" and (run.finished or 0.0) <= before)


def _parts(cohort: Cohort, report: GcReport, before: float) -> None:
    for run in list_runs(cohort.catalogue):
        if not parts_ended(run, before):
            continue
        for attempt in cohort.files.folders(f"runs/{run.id}"):
            folder = f"runs/{run.id}/{attempt}/parts"
            size = _size(cohort, folder)
            if not size:
                continue
            if not report.dry_run:
                cohort.files.delete_tree(folder)
            report.items.append(Removed("parts", folder, size))
