"""Classify every sample of an assay, or of a file, by a published model: only what the model needs is read."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pyarrow as pa

from sjd_dask import names
from sjd_dask.designs.query import query_samples
from sjd_dask.errors import SpecError
from sjd_dask.jobs import bundle as bundles
from sjd_dask.jobs.class_tables import classes_table, people, refused
from sjd_dask.jobs.classify_file import FileValues, file_hash, file_sheet, read_file
from sjd_dask.jobs.classify_spec import ALL, ClassifySpec
from sjd_dask.jobs.driver import publish_tables
from sjd_dask.jobs.score import (
    BLOCK_BYTES,
    BLOCKS_HELD,
    ScoreWork,
    chain_sheet,
    make_work,
    place_features,
    read_scores,
    restricted_chain,
    score_task,
    scores_frame,
)
from sjd_dask.jobs.score_values import Collected, score_values
from sjd_dask.jobs.spec import JobSpec, resolve_path
from sjd_dask.runtime.fingerprint import fingerprint
from sjd_dask.runtime.plan import Partition, Plan, estimate_seconds
from sjd_dask.runtime.plan import calibrate as measure
from sjd_dask.store.cohort import open_cohort
from sjd_dask.store.ingest.sources import SourceOptions
from sjd_dask.store.models import RETRAIN

if TYPE_CHECKING:
    from sjd_dask.jobs.bundle import Bundle
    from sjd_dask.jobs.driver import Runner
    from sjd_dask.normalise.restrict import Restricted
    from sjd_dask.runtime.runs import RunSession
    from sjd_dask.store.cohort import Cohort
    from sjd_dask.store.result import Result

# Raised when numbers change.
METHOD_VERSIONS = {"classify": 1}
# Key of a result's facts: hash of all that it follows from.
INPUTS = "inputs"
# What the driver holds of a sample while it makes the tables: text columns, and numbers of each class.
ROW_BYTES, CLASS_BYTES = 1200, 40
DRIVER_BYTES = 256 << 20


@dataclass
class ClassifyJob:
    """A prepared job: everything is opened and checked, nothing computed."""

    spec: ClassifySpec
    cohort: Cohort
    bundle: Bundle
    model: str
    restricted: Restricted
    # Of an assay: sample columns of all its samples, of those to score, and the work. Of a file all is found out later.
    sheet: pd.DataFrame | None
    work: ScoreWork | None
    # Of all that the result follows from.
    inputs: str
    # Of the run: after a rollback of the model the same inputs make a new version, for the newest is of another model.
    fingerprint: str
    newest: Result | None
    snapshot: int
    warnings: list[str] = field(default_factory=list)
    kind: str = names.CLASSES

    def up_to_date(self) -> list[str] | None:
        """The newest version, if it was made from the same inputs."""
        same = self.newest is not None and (self.newest.meta or {}).get(INPUTS) == self.inputs
        return [self.newest.ref] if same and self.newest is not None else None

    def plan(self, n_workers: int, memory_per_worker: int, *, calibrate: bool = False) -> Plan:
        """One pass over the chunks that hold what the model needs; a file is read by the driver."""
        notes = [
            f"{self.model} looks at {len(self.restricted.feature_ids):,} features, and its chain at "
            f"{len(self.restricted.source_ids):,} of {len(self.bundle.feature_ids):,}"
        ]
        row = ROW_BYTES + CLASS_BYTES * len(self.bundle.classifier.classes)
        common: dict[str, Any] = {
            "job": "classify",
            "output": f"{self.kind}/{self.spec.output}",
            "notes": notes,
            "n_workers": n_workers,
            "memory_per_worker": memory_per_worker,
        }
        if self.work is None:
            size = Path(str(self.spec.file)).stat().st_size
            notes.append(f"the file of {size:,} bytes is read by the driver")
            held = (256 << 20) + BLOCKS_HELD * BLOCK_BYTES
            return Plan(
                partitions=[], bytes_in=0, bytes_out=0, peak_bytes_per_task=0, driver_bytes=DRIVER_BYTES + held,
                **common,
            )  # fmt: skip
        work, reader = self.work, self.work.matrix.reader
        assert self.sheet is not None
        notes.append(f"{work.width:,} of {reader.n_features:,} stored features are read")
        partitions = work.partitions(self.spec.partition_samples)
        return Plan(
            partitions=partitions,
            estimated_seconds=self._estimate(partitions, n_workers) if calibrate else None,
            bytes_in=reader.n_samples * work.width * reader.dtype.itemsize,
            bytes_out=reader.n_samples * (80 + 9 * len(self.bundle.classifier.classes)),
            peak_bytes_per_task=work.task_bytes(self.spec.partition_samples),
            driver_bytes=DRIVER_BYTES + len(self.sheet) * row,
            **common,
        )

    def _estimate(self, partitions: list[Partition], n_workers: int) -> float:
        """Seconds of the run, from scoring the first few samples."""
        assert self.work is not None
        start, stop = partitions[0].extras["samples"]
        rows = min(stop - start, 4 * self.work.matrix.reader.chunk_samples)
        first = replace(partitions[0], extras={"samples": [start, start + rows]})
        seconds = measure(lambda: score_task(self.work, first))  # type: ignore[arg-type]
        return estimate_seconds(seconds * (stop - start) / rows, len(partitions), n_workers)

    def execute(self, plan: Plan, runner: Runner) -> tuple[dict[str, pa.Table], dict[str, Any]]:
        """Score; make the tables."""
        classes = self.bundle.classifier.classes
        if self.work is not None:
            # What is read is checked as it is read; chunks that nobody needs may be anywhere.
            assert self.sheet is not None
            scores = read_scores(runner.run(score_task, self.work, plan.partitions), classes)
            sheet, source = self.sheet, str(self.spec.assay)
        else:
            scores, sheet = self._score_file(runner)
            source = Path(str(self.spec.file)).name
        self.warnings += refused(scores)
        chain = self.bundle.chain
        batch = chain.batch_column if chain is not None else None
        table, companion = classes_table(scores, sheet, classes, self.model, runner.session.run_id, batch)
        return {"table": table, "scores": companion}, self._facts(table, source)

    def publish(self, session: RunSession, tables: dict[str, pa.Table], meta: dict[str, Any]) -> list[str]:
        """One result."""
        return publish_tables(self, session, tables, meta)

    def _score_file(self, runner: Runner) -> tuple[pd.DataFrame, pd.DataFrame]:
        """Scores of the eligible samples of a file, and the sheet of all of them."""
        spec, restricted, classifier = self.spec, self.restricted, self.bundle.classifier
        path, quantity = Path(str(spec.file)), str(spec.quantity)
        shared = self.cohort.samples()
        columns: list[np.ndarray] = []

        def check(feature_ids: np.ndarray) -> None:
            columns.append(place_features(self.bundle, restricted, path.name, quantity, feature_ids))

        values: FileValues = read_file(
            path,
            SourceOptions(rows=spec.rows, quantity=quantity),
            quantity,
            restricted.source_ids,
            (set(map(str, shared.index)), set(map(str, self.bundle.feature_ids))),
            check,
            self.cohort.files.root,
        )
        try:
            sheet, said = file_sheet(shared, values, spec.sheet)
            self.warnings += said
            chosen = eligible_samples(sheet, spec.eligible, path.name)
            needed = chain_sheet(restricted, chosen)
            ids = tuple(map(str, chosen.index))
            found = Collected(ids, classifier)
            rows = sheet.index.get_indexer(chosen.index).astype(np.int64)
            step = int(np.clip(BLOCK_BYTES // (8 * max(1, len(restricted.source_ids))), 1, 4096))
            for places, block in values.blocks(rows, step, restricted.source_scale):
                runner.session.check()
                mine = tuple(ids[i] for i in places)
                found.put(places, score_values(restricted, classifier, block, mine, needed.iloc[places], columns[0]))
        finally:
            values.close()
        return scores_frame([found.arrays], classifier.classes), sheet

    def _facts(self, table: pa.Table, source: str) -> dict[str, Any]:
        counts = Counter(table["status"].to_pylist())
        classifier, platform = self.bundle.classifier, self.bundle.platform
        return {
            "job": "classify",
            INPUTS: self.inputs,
            "title": self.spec.output,
            "spec": _plain_spec(self.spec),
            "model": self.model,
            "model_hash": self.bundle.hash,
            "classes": list(classifier.classes),
            "n_panel": classifier.n_panel,
            "n_sentinels": len(classifier.features) - classifier.n_panel,
            "coverage": classifier.recipe.coverage,
            "max_missing": classifier.recipe.max_missing,
            "ood_threshold": float(classifier.distribution.threshold),
            "chain": self.bundle.chain.text if self.bundle.chain is not None else None,
            "assay": source,
            "quantity": platform["quantity"],
            "batch": self.bundle.chain.batch_column if self.bundle.chain is not None else None,
            "eligible": self.spec.eligible,
            "suppress_below": self.spec.suppress_below,
            "statuses": {name: counts[name] for name in names.CALL_STATUSES if counts[name]},
            "cohort": {"name": self.cohort.name, "snapshot": self.snapshot},
            "samples": {"available": table.num_rows, "used": table.num_rows - counts[names.NOT_ELIGIBLE]},
            "features": {
                "available": len(self.bundle.feature_ids),
                "read": len(self.restricted.source_ids),
                "used": len(classifier.features),
            },
            "method_versions": METHOD_VERSIONS,
            "warnings": list(self.warnings),
        }


def eligible_samples(sheet: pd.DataFrame, query: str, where: str) -> pd.DataFrame:
    """The rows of a sheet that are to be classified, in order.

    Raises
    ------
    SpecError
        The query can't be read, or keeps nobody.
    """
    if query.strip() == ALL:
        return sheet
    found = query_samples(sheet, query, "eligible")
    if found.empty:
        raise SpecError(f"`eligible: {query}` selects none of the {len(sheet):,} samples of {where!r}")
    return found


def open_model(cohort: Cohort, ref: str) -> tuple[Bundle, str, list[str]]:
    """A model's bundle, its name with the version, and what a person should know of it.

    Raises
    ------
    SpecError, DataError
        See `sjd_dask.jobs.bundle.load`.
    """
    found = cohort.find_model(ref)
    said = []
    if (found.meta or {}).get(RETRAIN):
        said.append(f"{found.ref} was trained on people who withdrew since: train it again")
    return bundles.load(cohort, found.ref), f"{found.name}@{found.version}", said


def prepare(spec: JobSpec, base: Path) -> ClassifyJob:
    """Open the cohort, the model and the assay, and select samples; nothing is computed.

    Raises
    ------
    SpecError, DataError
        Naming what the spec asks for and the cohort doesn't have; an assay of another platform.
    """
    assert isinstance(spec, ClassifySpec)
    cohort = open_cohort(resolve_path(spec.cohort, base))
    bundle, model, said = open_model(cohort, spec.model)
    restricted = restricted_chain(bundle)
    # Where a run is taken up again, the folder of its spec is not known any more.
    paths = {name: resolve_path(text, base) for name in ("file", "sheet") if (text := getattr(spec, name)) is not None}
    spec = spec.model_copy(update=paths)
    key: dict[str, Any] = {
        "spec": spec.model_dump(mode="json", exclude={"cohort", "model", "file", "sheet", "partition_samples"}),
        "model": [model, bundle.hash],
        "methods": METHOD_VERSIONS,
    }
    sheet, work = None, None
    if spec.assay is not None:
        assay = cohort.assay(spec.assay)
        stored = pd.Index(assay.sample_ids(), name=names.SAMPLE_ID, dtype=object)
        sheet = cohort.samples().reindex(stored).infer_objects()
        sheet.index = stored
        chosen = eligible_samples(sheet, spec.eligible, assay.name)
        work = make_work(bundle, assay, chosen)
        reader = work.matrix.reader
        key["content"] = reader.content_hash()
        # Those to score, and what is read of them, are in the hash of the content.
        key["samples"] = _digest(stored)
        key["columns"] = _columns_key(sheet, work.sheet)
        snapshot = assay.snapshot
    else:
        assert spec.file is not None
        shared = cohort.samples()
        key["content"] = file_hash(Path(spec.file))
        key["sheet"] = None if spec.sheet is None else file_hash(Path(spec.sheet))
        key["columns"] = {str(name): _digest(shared[name]) for name in shared}
        key["samples"] = _digest(shared.index)
        snapshot = cohort.snapshot()
    inputs, newest = fingerprint(key), _newest(cohort, spec.output)
    return ClassifyJob(
        spec=spec,
        cohort=cohort,
        bundle=bundle,
        model=model,
        restricted=restricted,
        sheet=sheet,
        work=work,
        inputs=inputs,
        fingerprint=inputs if newest is None else fingerprint([inputs, newest.ref]),
        newest=newest,
        snapshot=snapshot,
        warnings=said,
    )


def _newest(cohort: Cohort, name: str) -> Result | None:
    """The newest version of the result."""
    found = [one for one in cohort.results() if (one.kind, one.name) == (names.CLASSES, name)]
    return max(found, key=lambda one: one.version, default=None)


def _columns_key(sheet: pd.DataFrame, needed: pd.DataFrame) -> dict[str, str]:
    """What of the sample sheet enters the result: who, when, and what the chain needs."""
    person = people(sheet)
    return {
        **{str(name): _digest(person[name]) for name in person},
        **{f"chain.{name}": _digest(needed[name]) for name in needed},
    }


def _digest(values: Iterable[Any]) -> str:
    """Hash of many cells as text: much quicker than one by one."""
    cells = np.array(list(values), dtype=object)
    missing = pd.isna(cells)
    texts = [] if missing.all() else [None if gone else str(one) for one, gone in zip(cells, missing, strict=True)]
    return hashlib.blake2b(json.dumps([len(cells), texts]).encode(), digest_size=16).hexdigest()


def _plain_spec(spec: ClassifySpec) -> dict[str, Any]:
    """The spec without paths of this machine."""
    found = {**spec.model_dump(mode="json", exclude_unset=True), "cohort": "."}
    return {name: Path(value).name if name in ("file", "sheet") and value else value for name, value in found.items()}
