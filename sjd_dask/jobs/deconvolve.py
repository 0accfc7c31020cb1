"""Cell fractions of every sample of an assay, from a reference table."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pyarrow as pa

from sjd_dask import names
from sjd_dask.errors import DataError, SpecError
from sjd_dask.jobs.cells_spec import DeconvolveSpec
from sjd_dask.jobs.matrix import Matrix
from sjd_dask.jobs.normalise_reference import ClusterReference, Phases, Source, sample_ranges
from sjd_dask.jobs.sample_results import MADE, check_columns, publish_with_columns
from sjd_dask.jobs.sources import SampleSource, open_source, select
from sjd_dask.jobs.spec import JobSpec, resolve_path
from sjd_dask.normalise.cells import EXTRA_COLUMNS, CellProfiles
from sjd_dask.normalise.method import Block, Partial
from sjd_dask.runtime.fingerprint import fingerprint
from sjd_dask.runtime.plan import PROCESS_BYTES, Partition, Plan
from sjd_dask.store.cohort import open_cohort

if TYPE_CHECKING:
    from sjd_dask.jobs.driver import Runner
    from sjd_dask.runtime.runs import RunSession
    from sjd_dask.store.cohort import Cohort

FRACTIONS = "fractions"
# Raised when numbers change.
METHOD_VERSIONS = {"constrained": 1, "robust": 1}


@dataclass
class DeconvolveJob:
    """A prepared job: everything is opened and checked, nothing computed."""

    spec: DeconvolveSpec
    cohort: Cohort
    source: Source
    named: SampleSource
    profiles: CellProfiles
    sample_facts: dict[str, Any]
    fingerprint: str
    snapshot: int
    warnings: list[str] = field(default_factory=list)
    kind: str = FRACTIONS

    def up_to_date(self) -> list[str] | None:
        """None: the run's fingerprint says whether there is something to do."""
        return None

    def plan(self, n_workers: int, memory_per_worker: int, *, calibrate: bool = False) -> Plan:
        """One pass by samples."""
        reader, source = self.source.reader, self.source
        n, p, k = reader.n_samples, reader.n_features, len(self.profiles.cells)
        ranges = sample_ranges(n, p, reader.chunk_samples)
        raw = source.read_rows * p * reader.dtype.itemsize
        return Plan(
            job="deconvolve",
            output=f"{self.kind}/{self.spec.output}",
            partitions=[Partition(i, 0, p, {"samples": list(one)}) for i, one in enumerate(ranges)],
            bytes_in=reader.n_bytes,
            bytes_out=n * (k + 3) * 8,
            peak_bytes_per_task=PROCESS_BYTES + raw + 3 * source.block_rows * p * 8,
            driver_bytes=(256 << 20) + n * (k + 3) * 64,
            notes=[
                f"{self.profiles.index.size:,} of the {self.profiles.n_table:,} reference features are in the assay"
            ],
            n_workers=n_workers,
            memory_per_worker=memory_per_worker,
        )

    def execute(self, plan: Plan, runner: Runner) -> tuple[dict[str, pa.Table], dict[str, Any]]:
        """Solve every sample."""
        self.named.assay.check_chunks()
        phases = Phases(runner, self.cohort.files, self.cohort.layout, self.spec.output, self.fingerprint)
        reference = ClusterReference(self.source, phases)
        options = {"total": self.spec.total, "max_iterations": self.spec.max_iterations}
        rows = reference.by_samples(_solve, (self.profiles, self.spec.method, options)).rows["found"]
        phases.clean()
        cells = list(self.profiles.cells)
        found = pd.DataFrame(rows, columns=[*cells, *EXTRA_COLUMNS])
        found.insert(0, names.SAMPLE_ID, list(reference.sample_ids))
        found["n_features"] = found["n_features"].astype(np.int64)
        found["converged"] = found["converged"].astype(bool)
        without = int(found[cells].isna().any(axis=1).sum())
        if without:
            self.warnings.append(
                f"{without} samples have no fractions: no coefficient is positive, or their features don't tell the "
                "cell types apart"
            )
        if not found["converged"].all():
            self.warnings.append(
                f"{int((~found['converged']).sum())} samples did not converge in {self.spec.max_iterations} rounds"
            )
        return {"table": pa.Table.from_pandas(found, preserve_index=False)}, self._facts(found)

    def publish(self, session: RunSession, tables: dict[str, pa.Table], meta: dict[str, Any]) -> list[str]:
        """The fractions, and the sample columns."""
        found = tables["table"].to_pandas().set_index(names.SAMPLE_ID)[list(self.profiles.cells)]
        made = found.rename(columns=dict(zip(found.columns, self.columns, strict=True)))
        return publish_with_columns(self.cohort, session, self.kind, self.spec.output, made, tables, meta)

    @property
    def columns(self) -> list[str]:
        """Sample columns that the job makes."""
        return [f"{self.spec.prefix}{cell}" for cell in self.profiles.cells]

    def _facts(self, found: pd.DataFrame) -> dict[str, Any]:
        return {
            "job": "deconvolve",
            "title": self.spec.output,
            "spec": {
                **self.spec.model_dump(mode="json"),
                "cohort": ".",
                "reference": Path(self.spec.reference).name,
            },
            "assay": self.named.name,
            "source_assay": self.named.assay.name,
            "quantity": self.source.scale,
            "method": self.spec.method,
            "reference": {
                "file": Path(self.spec.reference).name,
                "features": self.profiles.n_table,
                "features_used": int(self.profiles.index.size),
                "cells": list(self.profiles.cells),
            },
            MADE: self.columns,
            "cohort": {"name": self.cohort.name, "snapshot": self.snapshot},
            "samples": {**self.sample_facts, "used": len(found)},
            "median_residual": float(found["residual"].median()),
            "method_versions": {self.spec.method: METHOD_VERSIONS[self.spec.method]},
            "warnings": list(self.warnings),
        }


def _solve(block: Block, common: tuple[CellProfiles, Any, dict[str, Any]]) -> Partial:
    """Fractions of the samples of a block."""
    profiles, method, options = common
    found = profiles.solve(block.values[:, profiles.index], block.sample_ids, method, **options)
    return Partial(rows={"found": found.to_numpy(dtype=np.float64)})


def read_profiles(path: str) -> pd.DataFrame:
    """A reference table: index the first column as text.

    Raises
    ------
    SpecError
        The file isn't there or has an unknown ending.
    DataError
        It can't be read as a table.
    """
    name = Path(path).name.lower().removesuffix(".gz")
    if not Path(path).is_file():
        raise SpecError(f"`reference: {path}` is not a file")
    try:
        if name.endswith(".parquet"):
            frame = pd.read_parquet(path)
            if not isinstance(frame.index, pd.RangeIndex):
                frame = frame.reset_index()
        elif name.endswith((".tsv", ".txt", ".csv")):
            first = pd.read_csv(path, sep="," if name.endswith(".csv") else "\t", nrows=0).columns[0]
            frame = pd.read_csv(path, sep="," if name.endswith(".csv") else "\t", dtype={first: str})
        else:
            raise SpecError(f"`reference: {path}`: a table ends in .tsv, .txt, .csv (or these with .gz) or .parquet")
    except SpecError:
        raise
    except Exception as error:
        raise DataError(f"the reference table {path} can't be read: {error}") from error
    if frame.empty or len(frame.columns) < 2:
        raise DataError(f"the reference table {path} has {len(frame)} rows and {len(frame.columns)} columns")
    return frame.set_index(frame.columns[0])


def prepare(spec: JobSpec, base: Path) -> DeconvolveJob:
    """Open the cohort and the table, select samples; nothing is computed.

    Raises
    ------
    SpecError, DataError
        Naming what the spec asks for and the cohort or the table doesn't have.
    """
    assert isinstance(spec, DeconvolveSpec)
    cohort = open_cohort(resolve_path(spec.cohort, base))
    named = open_source(cohort, spec.assay, spec.layer)
    frame, facts = select(named, cohort, spec.samples)
    path = resolve_path(spec.reference, base)
    table = read_profiles(path)
    assay = named.assay
    profiles = CellProfiles.match(assay.feature_ids(), table, spec.min_features)
    reader = assay.reader(list(frame.index))
    source = Source(
        Matrix(reader, named.quantity),
        named.scale,
        frame.loc[list(reader.sample_ids)],
        assay.feature_ids(),
        assay.features(),
    )
    key = {
        "spec": spec.model_dump(mode="json", exclude={"cohort", "reference"}),
        "content": reader.content_hash(),
        "samples": list(reader.sample_ids),
        "reference": hashlib.blake2b(Path(path).read_bytes(), digest_size=16).hexdigest(),
        "methods": METHOD_VERSIONS,
    }
    # Where a run is taken up again, the folder of its spec is not known any more.
    kept = spec.model_copy(update={"reference": path})
    job = DeconvolveJob(
        spec=kept,
        cohort=cohort,
        source=source,
        named=named,
        profiles=profiles,
        sample_facts=facts,
        fingerprint=fingerprint(key),
        snapshot=assay.snapshot,
    )
    check_columns(cohort, FRACTIONS, job.columns, "choose another `prefix`")
    if profiles.index.size < 0.8 * profiles.n_table:
        job.warnings.append(
            f"{profiles.n_table - profiles.index.size:,} of the {profiles.n_table:,} reference features are not in "
            f"{named.name}: fractions rest on the others"
        )
    return job
