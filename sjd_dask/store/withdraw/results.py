"""Results without people who leave: tables and parameters are written anew, models and copies of one person marked."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq
import sqlalchemy as sa

from sjd_dask.names import MODELS
from sjd_dask.store.arrays import read_arrays, write_arrays
from sjd_dask.store.bundle import read_bundle, write_bundle
from sjd_dask.store.catalogue import tables as t
from sjd_dask.store.catalogue.results import (
    ArraysFile,
    BundleFile,
    ResultRecord,
    StoredFile,
    TableFile,
    file_to_json,
    record_of,
)
from sjd_dask.store.catalogue.session import now
from sjd_dask.store.catalogue.tombstones import id_key
from sjd_dask.store.catalogue.withdrawals import NewFiles
from sjd_dask.store.describe import iso_time
from sjd_dask.store.features import features_path
from sjd_dask.store.layer import BLOCKED, LAYERS
from sjd_dask.store.models import RETRAIN
from sjd_dask.store.tables import open_table, write_table
from sjd_dask.store.withdraw.ids import Leaving
from sjd_dask.store.withdraw.rules import Rules, Verdict
from sjd_dask.store.withdraw.tables import table_names, without, words_in

if TYPE_CHECKING:
    from sjd_dask.store.cohort import Cohort

# Of a result's meta: when people left whose values it may rest on.
WITHDRAWALS = "withdrawals"


@dataclass
class ResultPlan:
    """What a withdrawal does to the results.

    Attributes
    ----------
    changed : list of NewFiles
    n_results : int
        All there are, of any view.
    rewritten : list of str
        References of results whose tables or parameters named them.
    blocked : list of (reference, why)
    retrain : list of str
        Models that they trained.
    rest_on : list of str
        Results made while they were here, whose numbers may rest on them.
    new, old : list of StoredFile
        Files written, and files that go.
    """

    changed: list[NewFiles] = field(default_factory=list)
    n_results: int = 0
    rewritten: list[str] = field(default_factory=list)
    blocked: list[tuple[str, str]] = field(default_factory=list)
    retrain: list[str] = field(default_factory=list)
    rest_on: list[str] = field(default_factory=list)
    new: list[StoredFile] = field(default_factory=list)
    old: list[StoredFile] = field(default_factory=list)


def words_of_results(cohort: Cohort, leaving: Leaving) -> frozenset[str]:
    """Those of their ids that are also names of groups, features or batches in what is stored."""
    found: set[str] = set()
    with cohort.catalogue.read() as connection:
        records = [record_of(row) for row in connection.execute(sa.select(t.results)).mappings()]
        features = connection.execute(sa.select(t.assays.c.feature_table).distinct()).scalars().all()
    for record in records:
        for file in record.files.values():
            if isinstance(file, TableFile):
                with open_table(cohort.files, file) as opened:
                    found |= words_in(opened, leaving)
    for one in features:
        with pq.ParquetFile(pa.BufferReader(cohort.files.read_bytes(features_path(one)))) as opened:
            found |= words_in(opened, leaving, features=True)
    return frozenset(found)


def plan_results(
    cohort: Cohort,
    leaving: Leaving,
    rules: Rules,
    plan: ResultPlan,
    *,
    since: int | None,
    write: bool,
    progress: Callable[[str], None] | None = None,
) -> None:
    """Look through all results of any view; with `write` make the files that take the place of theirs.

    Parameters
    ----------
    plan : ResultPlan
        Filled as the work goes on, so that whoever stops it knows what was written.
    since : int or None
        The change that first showed one of them; None where no values of theirs ever came.
    """
    with cohort.catalogue.read() as connection:
        query = sa.select(t.results).order_by(t.results.c.published_in, t.results.c.kind, t.results.c.name)
        rows = connection.execute(query).mappings().all()
        views = {row.id: row.snapshot for row in connection.execute(sa.select(t.runs.c.id, t.runs.c.snapshot))}
        key = id_key(connection)
    plan.n_results = len(rows)
    for row in rows:
        record = record_of(row)
        ref = f"{record.kind}/{record.name}@{record.version}"
        if progress:
            progress(f"looking through {ref}")
        files, verdicts = dict(record.files), []
        for name, file in record.files.items():
            made, verdict = _one(cohort, record, name, file, leaving, rules, key, write)
            verdicts.append(verdict)
            if made is not None:
                plan.old.append(file)
                plan.rewritten += [] if ref in plan.rewritten else [ref]
                if made is not file:
                    files[name] = made
                    plan.new.append(made)
        meta: dict[str, Any] = leaving.scrub_json(record.meta)
        reasons = list(dict.fromkeys(why for one in verdicts for why in one.blocked))
        if reasons:
            plan.blocked += [(ref, why) for why in reasons]
            meta[BLOCKED] = list(dict.fromkeys([*meta.get(BLOCKED, []), *reasons]))
        if any(one.trained for one in verdicts) or (reasons and record.kind == MODELS):
            plan.retrain.append(ref)
            why = f"; it is blocked: {'; '.join(meta[BLOCKED])}" if meta.get(BLOCKED) else ""
            meta[RETRAIN] = f"people who trained it were withdrawn{why}"
        # A run reads the view it began with; only layers and models say exactly whose values they are made from.
        seen = views.get(record.run_id or "", record.published_in)
        if since is not None and seen >= since and record.kind not in (LAYERS, MODELS):
            plan.rest_on.append(ref)
            meta[WITHDRAWALS] = [*meta.get(WITHDRAWALS, []), iso_time(now())]
        if files != record.files or meta != record.meta:
            stored = {name: file_to_json(file) for name, file in files.items()}
            plan.changed.append(NewFiles(record.id, row["files"], stored, meta))


def _one(
    cohort: Cohort,
    record: ResultRecord,
    name: str,
    file: StoredFile,
    leaving: Leaving,
    rules: Rules,
    key: bytes,
    write: bool,
) -> tuple[StoredFile | None, Verdict]:
    """What takes a file's place (None: it stays; itself: something would, in a dry run), and what is said of it."""
    if isinstance(file, BundleFile):
        blobs, facts = read_bundle(cohort.files, file)
        verdict = rules.bundle(record, blobs, leaving, key)
        if verdict.content is None:
            return None, verdict
        return (write_bundle(cohort.files, verdict.content, facts) if write else file), verdict
    if isinstance(file, ArraysFile):
        verdict = rules.arrays(record, read_arrays(cohort.files, file), leaving)
        if verdict.content is None:
            return None, verdict
        return (write_arrays(cohort.files, *verdict.content) if write else file), verdict

    def read(wanted: str) -> Any:
        other = record.files[wanted]
        assert isinstance(other, TableFile)
        with open_table(cohort.files, other) as opened:
            return opened.read()

    with open_table(cohort.files, file) as opened:
        is_named = table_names(opened, leaving)
        content = without(opened.read(), leaving) if is_named and write else None
    verdict = rules.table(record, name, read, leaving)
    if verdict.content is None and not is_named:
        return None, verdict
    if not write:
        return file, verdict
    if verdict.content is not None:
        content = without(verdict.content, leaving)
    return write_table(cohort.files, content), verdict
