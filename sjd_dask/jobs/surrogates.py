"""Surrogate variables of a design, from all samples of an assay that the design can use."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray

from sjd_dask import names
from sjd_dask.designs import design as designs
from sjd_dask.errors import SpecError
from sjd_dask.jobs.cells_spec import SurrogatesSpec
from sjd_dask.jobs.matrix import Matrix
from sjd_dask.jobs.normalise_reference import COLUMN_STRIPE_BYTES, ClusterReference, Phases, Source
from sjd_dask.jobs.sample_results import MADE, check_columns, publish_with_columns
from sjd_dask.jobs.sources import SampleSource, open_source, select
from sjd_dask.jobs.spec import JobSpec, resolve_path
from sjd_dask.kernels.surrogates import nested, rounds_at_once
from sjd_dask.normalise.formula import design_matrix
from sjd_dask.normalise.surrogates import WHY_NOT_FROZEN, Surrogates, num_sv, surrogate_variables
from sjd_dask.runtime.fingerprint import fingerprint
from sjd_dask.runtime.plan import PROCESS_BYTES, Partition, Plan
from sjd_dask.store.cohort import open_cohort

if TYPE_CHECKING:
    from sjd_dask.jobs.driver import Runner
    from sjd_dask.runtime.runs import RunSession
    from sjd_dask.store.cohort import Cohort

SURROGATES = "surrogates"
# Raised when numbers change.
METHOD_VERSIONS = {"irw": 1, "two_step": 1, "leek": 1, "be": 1}


@dataclass
class SurrogatesJob:
    """A prepared job: everything is opened and checked, nothing computed."""

    spec: SurrogatesSpec
    cohort: Cohort
    source: Source
    named: SampleSource
    design: NDArray[np.float64]
    null: NDArray[np.float64]
    columns: list[str]
    sample_facts: dict[str, Any]
    fingerprint: str
    snapshot: int
    warnings: list[str] = field(default_factory=list)
    kind: str = SURROGATES
    _made: pd.DataFrame | None = None

    def up_to_date(self) -> list[str] | None:
        """None: the run's fingerprint says whether there is something to do."""
        return None

    def plan(self, n_workers: int, memory_per_worker: int, *, calibrate: bool = False) -> Plan:
        """Passes by features; their number is known, their stripes follow the layout."""
        reader = self.source.reader
        n, p = reader.n_samples, reader.n_features
        chunk = min(reader.chunk_features, p)
        width = max(1, COLUMN_STRIPE_BYTES // (8 * n))
        width = width // chunk * chunk if width >= chunk else -(-chunk // -(-chunk // width))
        passes = self._passes(n)
        stripes = list(range(0, p, width))
        at_once = min(rounds_at_once(n), 10 if self.spec.n == "leek" else self.spec.rounds)
        grams = (at_once if isinstance(self.spec.n, str) else 2) * n * n * 8
        return Plan(
            job="surrogates",
            output=f"{self.kind}/{self.spec.output}",
            partitions=[
                Partition(i, start, min(p, start + width))
                for i, start in enumerate(start for start in stripes * passes)
            ],
            bytes_in=reader.n_bytes * passes,
            bytes_out=len(stripes) * passes * n * n * 8,
            peak_bytes_per_task=PROCESS_BYTES + n * min(width, p) * (8 * 5 + reader.dtype.itemsize) + 3 * grams,
            driver_bytes=(256 << 20) + 10 * p * 8 + 4 * grams + 10 * n * n * 8,
            notes=[f"{passes} passes over the data; {WHY_NOT_FROZEN}"],
            n_workers=n_workers,
            memory_per_worker=memory_per_worker,
        )

    def _passes(self, n_samples: int) -> int:
        """Passes over the data."""
        passes = 1 + (2 * self.spec.n_iterations if self.spec.method == "irw" else 2)
        if isinstance(self.spec.n, str):
            grams = 10 if self.spec.n == "leek" else self.spec.rounds
            passes += 1 + -(-grams // rounds_at_once(n_samples))
        return passes

    def execute(self, plan: Plan, runner: Runner) -> tuple[dict[str, pa.Table], dict[str, Any]]:
        """Estimate their number if asked, then find them."""
        spec = self.spec
        self.named.assay.check_chunks()
        phases = Phases(runner, self.cohort.files, self.cohort.layout, spec.output, self.fingerprint)
        reference = ClusterReference(self.source, phases)
        if isinstance(spec.n, str):
            n = num_sv(reference, self.design, spec.n, rounds=spec.rounds, seed=spec.seed)
        else:
            n = spec.n
        found = surrogate_variables(reference, self.design, self.null, n, spec.method, n_iterations=spec.n_iterations)
        phases.clean()
        self.warnings.extend(found.notes)
        if n == 0:
            self.warnings.append("no surrogate variable: the data hold none beyond the design")
        self._made = found.vectors.rename(columns={f"SV{i + 1}": f"{spec.output}_{i + 1}" for i in range(n)})
        check_columns(self.cohort, SURROGATES, list(self._made.columns), "choose another `output`")
        tables = {
            "table": pa.Table.from_pandas(found.vectors.reset_index(), preserve_index=False),
            "features": pa.Table.from_pandas(found.probabilities.reset_index(), preserve_index=False),
        }
        return tables, self._facts(found, n)

    def publish(self, session: RunSession, tables: dict[str, pa.Table], meta: dict[str, Any]) -> list[str]:
        """The surrogate variables, and the sample columns."""
        assert self._made is not None
        return publish_with_columns(self.cohort, session, self.kind, self.spec.output, self._made, tables, meta)

    def _facts(self, found: Surrogates, n: int) -> dict[str, Any]:
        assert self._made is not None
        dropped = [
            {"reason": "a missing value", "count": found.n_missing},
            {"reason": "no variance beyond the design", "count": found.n_constant},
        ]
        return {
            "job": "surrogates",
            "title": self.spec.output,
            "spec": {**self.spec.model_dump(mode="json"), "cohort": "."},
            "assay": self.named.name,
            "source_assay": self.named.assay.name,
            "quantity": self.source.scale,
            "design": self.spec.design,
            "null": self.spec.null,
            "coefficients": self.columns,
            "method": self.spec.method,
            "n_wanted": n,
            "n": int(found.vectors.shape[1]),
            MADE: list(self._made.columns),
            "freezes": False,
            "why_not_frozen": WHY_NOT_FROZEN,
            "cohort": {"name": self.cohort.name, "snapshot": self.snapshot},
            "samples": self.sample_facts,
            "features": {
                "available": len(found.probabilities),
                "used": found.n_features,
                "dropped": [one for one in dropped if one["count"]],
            },
            "method_versions": {
                name: METHOD_VERSIONS[name] for name in (self.spec.method, self.spec.n) if isinstance(name, str)
            },
            "warnings": list(self.warnings),
        }


def _quantity(spec: SurrogatesSpec, named: SampleSource) -> tuple[str, str]:
    """The quantity to read, and what its values are."""
    if spec.quantity is None or spec.quantity == named.quantity:
        return named.quantity, named.scale
    if named.quantity == names.BETA and spec.quantity == names.M_VALUE:
        return names.M_VALUE, names.M_VALUE
    possible = f"{names.BETA} or {names.M_VALUE}" if named.quantity == names.BETA else named.quantity
    raise SpecError(
        f"assay {named.name!r} holds {named.quantity}; `quantity: {spec.quantity}` can't be made of it, only {possible}"
    )


def prepare(spec: JobSpec, base: Path) -> SurrogatesJob:
    """Open the cohort, select samples, build both designs; nothing is computed.

    Raises
    ------
    SpecError, DesignError, DataError
        Naming what the spec asks for and the cohort doesn't have.
    """
    assert isinstance(spec, SurrogatesSpec)
    cohort = open_cohort(resolve_path(spec.cohort, base))
    named = open_source(cohort, spec.assay, spec.layer)
    quantity, scale = _quantity(spec, named)
    frame, facts = select(named, cohort, spec.samples)
    design = designs.build_design(spec.design, frame)
    for reason, count in design.dropped.items():
        facts["dropped"].append({"reason": reason, "count": count})
    facts["used"] = len(design.sample_ids)
    assay = named.assay
    reader = assay.reader(list(design.sample_ids))
    sheet = frame.loc[list(reader.sample_ids)]
    # The reader may hold the samples in another order than the design.
    place = {one: i for i, one in enumerate(design.sample_ids)}
    matrix = design.matrix[[place[one] for one in reader.sample_ids]]
    null, _ = design_matrix(spec.null, sheet)
    nested(matrix, null)
    key = {
        "spec": spec.model_dump(mode="json", exclude={"cohort"}),
        "quantity": quantity,
        "content": reader.content_hash(),
        "samples": list(reader.sample_ids),
        "design": matrix,
        "null": null,
        "methods": METHOD_VERSIONS,
    }
    if isinstance(spec.n, int):
        check_columns(cohort, SURROGATES, [f"{spec.output}_{i + 1}" for i in range(spec.n)], "choose another `output`")
    source = Source(Matrix(reader, quantity), scale, sheet, assay.feature_ids(), assay.features())
    return SurrogatesJob(
        spec=spec,
        cohort=cohort,
        source=source,
        named=named,
        design=matrix,
        null=null,
        columns=list(design.columns),
        sample_facts=facts,
        fingerprint=fingerprint(key),
        snapshot=assay.snapshot,
        warnings=list(design.warnings),
    )
