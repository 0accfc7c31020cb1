"""Per-feature tests of an assay: spec -> plan -> partitions -> reduce -> publish."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from sjd_dask import names
from sjd_dask.associate import model as models
from sjd_dask.associate.results import FeatureFits, Summary, association_columns, contrast_labels, summarise
from sjd_dask.designs import design as designs
from sjd_dask.errors import PlanRefused, SpecError
from sjd_dask.jobs import associate_inputs as inputs
from sjd_dask.jobs import associate_tasks as tasks
from sjd_dask.jobs import associate_weights as weighing
from sjd_dask.jobs.matrix import Matrix
from sjd_dask.jobs.spec import AssociateSpec, JobSpec, resolve_path
from sjd_dask.jobs.stripes import gather, stripes
from sjd_dask.jobs.weight_tasks import ROW_BLOCK as WEIGHTED_ROWS
from sjd_dask.jobs.weight_tasks import WeightedWork, fit_weighted_partition
from sjd_dask.kernels import correlation, linear, multiplicity
from sjd_dask.runtime.fingerprint import fingerprint
from sjd_dask.runtime.limits import available_cpus
from sjd_dask.runtime.plan import PROCESS_BYTES, Partition, Plan, calibrate, estimate_seconds
from sjd_dask.store.cohort import open_cohort

if TYPE_CHECKING:
    from sjd_dask.jobs.driver import Runner
    from sjd_dask.runtime.runs import RunSession
    from sjd_dask.store.assay import Assay
    from sjd_dask.store.cohort import Cohort

# Raised when a kernel's numbers change: a run done with another version is not the same run.
METHOD_VERSIONS = {"linear": 2, "block": 2, "wilcoxon": 2, "kruskal": 2, "welch": 2, "moderation": 2}

# Cells of a task: at 3 to 5 ns a cell about a tenth of a second, against 6 ms that a task costs to schedule.
TASK_CELLS = 20_000_000
ROW_BLOCK = 256
# Keys of the spec that don't make another run by themselves: what they come to is in its fingerprint.
WEIGHT_KEYS = ("weights", "span", "array_method")
# Raw bytes of whole columns in a task; a stripe narrower than a chunk decodes its chunks several times over.
COLUMN_STRIPE_BYTES = 256 << 20
MOST_DECODES = 16


@dataclass
class AssociateJob:
    """A prepared job: everything is opened and checked, nothing computed."""

    spec: AssociateSpec
    cohort: Cohort
    assay: Assay
    matrix: Matrix
    design: designs.Design
    basis: linear.LinearDesign | None
    contrast_matrix: NDArray[np.float64]
    contrast_names: list[str]
    block_codes: NDArray[np.int64] | None
    weighting: weighing.Weighting | None
    group_codes: NDArray[np.int64] | None
    group_levels: list[str]
    sample_facts: dict[str, Any]
    fingerprint: str
    snapshot: int
    warnings: list[str] = field(default_factory=list)
    kind: str = names.ASSOCIATIONS

    # -- plan ------------------------------------------------------------------------------------------------------

    @property
    def by_columns(self) -> bool:
        """Whether a task needs all samples of a feature at once."""
        weighed = self.weighting is not None and self.weighting.has_samples
        return self.spec.test != "linear" or self.block_codes is not None or weighed

    def up_to_date(self) -> list[str] | None:
        """None: the run's fingerprint says whether there is something to do."""
        return None

    def plan(self, n_workers: int, memory_per_worker: int, *, calibrate: bool = False) -> Plan:
        """Partitions, which don't depend on the cluster, and what they cost."""
        reader = self.matrix.reader
        n, width = reader.n_samples, self._width()
        notes = []
        if self.weighting is not None:
            weighing.check_size(self.weighting, n)
        partitions = stripes(reader.n_features, width, reader.chunk_features)
        itemsize = reader.dtype.itemsize
        if self.by_columns:
            decodes = -(-min(reader.chunk_features, reader.n_features) // width)
            if decodes > MOST_DECODES:
                raise PlanRefused(
                    f"{self._test_name()} needs all {n:,} samples of a feature at once. Chunks hold "
                    f"{reader.chunk_features:,} features, and only {width:,} of them fit in "
                    f"{COLUMN_STRIPE_BYTES / 1e6:.0f} MB, so each chunk would be decoded {decodes} times. "
                    "Remedy: a feature-major copy of the assay, in a cohort made with "
                    f"`sjd init --chunk-features {max(64, width // 64 * 64)}`, or fewer samples."
                )
            if decodes > 1:
                notes.append(
                    f"stripes of {width:,} features, narrower than a chunk: each chunk is decoded {decodes} times"
                )
            peak = n * width * itemsize * 2 + 6 * tasks.COLUMN_BYTES
            if self.weighting is not None:
                notes.append("the weights of samples take further rounds where they converge in steps")
                peak = max(peak + 3 * n * n * 8, self._streamed_peak(width))
        else:
            peak = self._streamed_peak(width)
        rounds = self._rounds()
        # The coefficients that a trend was made from: every worker gets those of all features.
        trend_bytes = 0
        if self.weighting is not None and self.weighting.has_trend and self.basis is not None:
            trend_bytes = 2 * self.basis.p * reader.n_features * 8
        n_columns = 2 * max(1, len(self.contrast_names)) + 5
        rows = reader.n_features * (len(self.contrast_names) + (len(self.contrast_names) > 1))
        return Plan(
            job="associate",
            output=f"{self.kind}/{self.spec.output}",
            partitions=[
                one for i, name in enumerate(rounds) for one in weighing.numbered(partitions, name, i * len(partitions))
            ]
            if len(rounds) > 1
            else partitions,
            bytes_in=reader.n_bytes * len(rounds),
            bytes_out=rows * 10 * 8,
            peak_bytes_per_task=peak + trend_bytes + PROCESS_BYTES,
            driver_bytes=reader.n_features * n_columns * 8 * 3 + rows * 12 * 8 * 2 + trend_bytes + (256 << 20),
            estimated_seconds=self._estimate(partitions, n_workers) * len(rounds) if calibrate else None,
            notes=notes,
            n_workers=n_workers,
            memory_per_worker=memory_per_worker,
        )

    def _streamed_peak(self, width: int) -> int:
        """Bytes of the sums of a stripe of features, with a block of samples."""
        p = 1 if self.basis is None else self.basis.p
        width, n = min(width, self.matrix.reader.n_features), self.matrix.reader.n_samples
        # The sums of each feature's own design, once more while they are turned for the solver where all have one.
        own = p * (p + 1) // 2 * (1 if self.weighting is None else 4) + 2 * p
        block = min(n, ROW_BLOCK) * width * self.matrix.reader.dtype.itemsize * 2
        if self.weighting is not None:
            block += 4 * min(n, WEIGHTED_ROWS) * width * 8
        return block + width * 8 * (4 * p + own + 4 * len(self.contrast_names) + 8)

    def _rounds(self) -> list[str]:
        """Passes over the data."""
        if self.weighting is not None:
            return self.weighting.rounds()
        return ["correlation", "fit"] if self._estimates_correlation() else ["fit"]

    def _width(self) -> int:
        """Features of a partition: a function of the data alone, so that a run can be resumed on any cluster."""
        reader = self.matrix.reader
        chunk = min(reader.chunk_features, reader.n_features)
        if self.spec.partition_features is not None:
            return min(self.spec.partition_features, reader.n_features)
        if not self.by_columns:
            return chunk * max(1, round(TASK_CELLS / max(1, reader.n_samples * chunk)))
        fitting = COLUMN_STRIPE_BYTES // max(1, reader.n_samples * reader.dtype.itemsize)
        if fitting >= chunk:
            return chunk
        # Equal parts of a chunk, so that no stripe touches two.
        return -(-chunk // -(-chunk // max(1, fitting)))

    def _estimate(self, partitions: list[Partition], n_workers: int) -> float:
        """Seconds from a short calibration: one real stripe is read and computed here."""
        reader = self.matrix.reader
        first = partitions[0]
        stop = min(first.feature_stop, first.feature_start + reader.chunk_features)
        trial = Partition(0, first.feature_start, stop)
        function, work = self._fit_task(self.spec.block_correlation if self.block_codes is not None else None)
        if self.block_codes is not None and self.spec.block_correlation is None:
            function, work = tasks.correlation_partition, work
        if self.weighting is not None:
            # Not the rule, which isn't known yet, but the same arithmetic.
            rounds = self._weight_rounds(None)
            function = fit_weighted_partition
            work = dataclasses.replace(rounds.work, samples=np.ones(reader.n_samples))
        share = (stop - first.feature_start) / (first.feature_stop - first.feature_start)
        seconds = calibrate(lambda: function(work, trial), budget=0.5)
        return estimate_seconds(seconds / share, len(partitions), n_workers)

    # -- execute ---------------------------------------------------------------------------------------------------

    def execute(self, plan: Plan, runner: Runner) -> tuple[dict[str, pa.Table], dict[str, Any]]:
        """Run the partitions, reduce, and give the table with the facts a report needs."""
        self.assay.check_chunks()
        partitions = plan.partitions
        facts: dict[str, Any] = {}
        rho = self.spec.block_correlation
        if self.block_codes is not None:
            if self._estimates_correlation():
                half = len(partitions) // 2
                found = runner.run(tasks.correlation_partition, self._linear_work(None), partitions[:half])
                rho = correlation.consensus_correlation(
                    np.concatenate([part["correlation"].to_numpy() for part in found])
                )
                partitions = partitions[half:]
            facts["block"] = {
                "column": self.spec.block,
                "n_blocks": int(np.unique(self.block_codes).size),
                "correlation": rho,
                "estimated": self._estimates_correlation(),
                "method": self.spec.correlation_method if self._estimates_correlation() else "given",
            }
        if self.weighting is None:
            function, work = self._fit_task(rho)
            parts = runner.run(function, work, partitions)
        else:
            rounds = self._weight_rounds(runner)
            rounds.estimate()
            facts["weights"] = rounds.facts
            self.warnings.extend(rounds.warnings)
            parts = rounds.fit()
        gathered = gather(parts, self.matrix.reader.n_features)
        if self.spec.test != "linear":
            columns, labels, more = self._group_columns(gathered)
        else:
            columns, labels, more = self._linear_columns(gathered)
        table = self._table(columns, labels)
        return {"table": table}, {**self._facts(gathered), **facts, **more}

    def _estimates_correlation(self) -> bool:
        return self.block_codes is not None and self.spec.block_correlation is None

    def _weight_rounds(self, runner: Runner | None) -> weighing.Rounds:
        assert self.weighting is not None
        reader = self.matrix.reader
        partitions = stripes(reader.n_features, self._width(), reader.chunk_features)
        work = WeightedWork(self.matrix, self._linear_work(None).model, width=self._width())
        return weighing.Rounds(runner, partitions, reader.n_features, self.weighting, work)

    def _linear_work(self, rho: float | None) -> tasks.LinearWork:
        assert self.basis is not None
        model = models.LinearModel(
            self.basis,
            self.contrast_matrix,
            self.spec.na_contrasts,
            self.spec.precision,
            blocks=self.block_codes,
            correlation_method=self.spec.correlation_method,
        )
        return tasks.LinearWork(self.matrix, model, rho)

    def _fit_task(self, rho: float | None) -> tuple[Any, Any]:
        if self.spec.test != "linear":
            assert self.group_codes is not None
            model = models.GroupModel(
                self.spec.test,
                self.group_codes,
                len(self.group_levels),
                exact=self.spec.exact,
                continuity=self.spec.continuity,
            )
            return tasks.group_partition, tasks.GroupWork(self.matrix, model)
        return (tasks.fit_partition if self.block_codes is None else tasks.fit_block_partition), self._linear_work(rho)

    # -- reduce ----------------------------------------------------------------------------------------------------

    def _linear_columns(
        self, got: dict[str, NDArray[Any]]
    ) -> tuple[dict[str, NDArray[Any]], tuple[str, ...], dict[str, Any]]:
        k = len(self.contrast_names)
        fits = FeatureFits(
            effects=np.stack([got[f"effect_{i}"] for i in range(k)]),
            stdev_unscaled=np.stack([got[f"stdev_{i}"] for i in range(k)]),
            sigma2=got["sigma2"],
            df_residual=got["df_residual"],
            mean=got["mean"],
            n_samples=got["n_samples"],
            f_quadratic=got.get("f_quadratic"),
            f_rank=int(np.linalg.matrix_rank(self.contrast_matrix)),
        )
        summary = summarise(
            self.contrast_names,
            fits,
            moderated=self.spec.moderation == "ebayes",
            trend=self.spec.trend,
            robust=self.spec.robust,
            threads=available_cpus(),
        )
        self.warnings.extend(summary.notes)
        return association_columns(summary), contrast_labels(summary), _test_facts(summary)

    def _group_columns(
        self, got: dict[str, NDArray[Any]]
    ) -> tuple[dict[str, NDArray[Any]], tuple[str, ...], dict[str, Any]]:
        label = self.contrast_names[0]
        missing = np.full(got["p_value"].size, np.nan)
        columns = {name: got.get(name, missing) for name in names.ASSOCIATION_COLUMNS[2:]}
        columns["q_value"] = multiplicity.benjamini_hochberg(got["p_value"])
        return columns, (label,), {"lambdas": {label: multiplicity.genomic_inflation(p=got["p_value"])}}

    def _table(self, columns: dict[str, NDArray[Any]], labels: tuple[str, ...]) -> pa.Table:
        ids = pa.array(self.assay.feature_ids(), pa.string())
        n = len(ids)
        feature_id = ids if len(labels) == 1 else pa.chunked_array([ids] * len(labels))
        codes = pa.array(np.repeat(np.arange(len(labels), dtype=np.int32), n))
        contrast = pa.DictionaryArray.from_arrays(codes, pa.array(list(labels), pa.string())).cast(pa.string())
        arrays = {names.FEATURE_ID: feature_id, names.CONTRAST: contrast}
        for name in names.ASSOCIATION_COLUMNS[2:]:
            values = np.ascontiguousarray(columns[name])
            arrays[name] = pa.array(values, from_pandas=values.dtype.kind == "f")
        return pa.table(arrays)

    def publish(self, session: RunSession, tables: dict[str, pa.Table], meta: dict[str, Any]) -> list[str]:
        """One result with its tables."""
        from sjd_dask.jobs.driver import publish_tables

        return publish_tables(self, session, tables, meta)

    # -- facts -----------------------------------------------------------------------------------------------------

    def _test_name(self) -> str:
        if self.weighting is not None:
            return f"weights: {self.weighting.kind}"
        return f"test: {self.spec.test}" if self.spec.test != "linear" else f"block: {self.spec.block}"

    def _facts(self, got: dict[str, NDArray[Any]]) -> dict[str, Any]:
        """What the report says of what was run and on what."""
        used = got["n_samples"]
        n = self.matrix.reader.n_samples
        encoding = self.matrix.reader.encoding
        tested = got.get("effect_0", got.get("p_value"))
        untested = int(np.isnan(tested).sum()) if tested is not None else 0
        empty = int((used == 0).sum())
        dropped = [
            {"reason": "no value in any sample", "count": empty},
            {"reason": "too few values for the test", "count": untested - empty},
        ]
        return {
            "job": "associate",
            "spec": {**self.spec.model_dump(mode="json", exclude_none=True), "cohort": self.cohort.name},
            "test": self.spec.test,
            "design": self.spec.design,
            "coefficients": list(self.design.columns),
            "contrasts": {
                name: {c: float(w) for c, w in zip(self.design.columns, weights, strict=True) if w}
                for name, weights in zip(self.contrast_names, self.contrast_matrix.T, strict=True)
            }
            if self.spec.test == "linear"
            else {self.contrast_names[0]: {}},
            "moderation": self.spec.moderation,
            "trend": self.spec.trend,
            "robust": self.spec.robust,
            "na_contrasts": self.spec.na_contrasts,
            "precision": self.spec.precision,
            "cohort": {"name": self.cohort.name, "snapshot": self.assay.snapshot},
            **self._source(),
            "encoding": {
                "stored_quantity": self.assay.quantity,
                "dtype": encoding.dtype,
                "scale_factor": encoding.scale_factor,
                "max_error": encoding.scale_factor / 2 if encoding.scale_factor else None,
            },
            "samples": self.sample_facts,
            "groups": {column: dict(counts) for column, counts in self.design.groups.items()},
            "features": {
                "available": int(used.size),
                "tested": int(used.size) - untested,
                "dropped": [item for item in dropped if item["count"]],
                "with_missing": int(((used < n) & (used > 0)).sum()),
            },
            "method_versions": self.method_versions,
            "warnings": list(self.warnings),
        }

    def _source(self) -> dict[str, Any]:
        """The assay or layer, and what of it was tested."""
        if self.spec.layer is not None:
            layer: Any = self.assay
            quantity = layer.meta.get("scale_after") or self.matrix.quantity
            return {"assay": layer.source_assay, "layer": layer.ref, "quantity": quantity}
        log_counts = self.weighting is not None and self.weighting.has_trend
        return {"assay": self.assay.name, "quantity": names.EXPRESSION if log_counts else self.matrix.quantity}

    @property
    def method_versions(self) -> dict[str, int]:
        """Versions of the methods; those of weights where they are used."""
        return METHOD_VERSIONS if self.weighting is None else {**METHOD_VERSIONS, **weighing.METHOD_VERSIONS}


def prepare(spec: JobSpec, base: Path) -> AssociateJob:
    """Open the cohort, select samples, build the design; nothing is computed.

    Raises
    ------
    SpecError, DesignError, DataError
        Naming what the spec asks for and the cohort doesn't have.
    """
    assert isinstance(spec, AssociateSpec)
    cohort = open_cohort(resolve_path(spec.cohort, base))
    assay = inputs.open_matrix(spec, cohort)
    quantity = inputs.tested_quantity(spec, assay)
    warnings: list[str] = []
    chosen, facts = inputs.select_samples(spec, cohort, assay, warnings)
    design = designs.build_design(spec.design, chosen)
    warnings.extend(design.warnings)
    for reason, count in design.dropped.items():
        facts["dropped"].append({"reason": reason, "count": count})
    sheet = chosen.loc[list(design.sample_ids)]
    facts["used"] = len(sheet)
    basis, weights, contrast_names = None, np.zeros((0, 0)), []
    codes, levels, blocks = None, [], None
    if spec.test == "linear":
        weights, contrast_names = designs.contrast_matrix(design, spec.contrasts)
        designs.check_design(design)
        basis = linear.linear_design(design.matrix)
        if spec.block is not None:
            blocks = inputs.block_codes(spec.block, sheet)
    else:
        factor, codes, levels = designs.single_factor(design, sheet)
        if spec.test == "wilcoxon" and len(levels) != 2:
            raise SpecError(
                f"test: wilcoxon compares two groups, and {factor} has {len(levels)}: {', '.join(levels)}. "
                "Use test: kruskal, or choose two with `samples`."
            )
        contrast_names = [f"{factor}[T.{levels[1]}]" if len(levels) == 2 else factor]
    reader = assay.reader(design.sample_ids)
    matrix = Matrix(reader, quantity)
    weighting = weighing.asked_weights(spec, cohort, assay, quantity, design.sample_ids)
    if quantity != assay.quantity and reader.encoding.is_float:
        warnings.append(
            "betas are stored as floats, so M-values are computed cell by cell: slower than from uint16 codes"
        )
    left_out = {"cohort", "partition_features", *WEIGHT_KEYS, *(("layer",) if spec.layer is not None else ())}
    key = {
        "spec": spec.model_dump(mode="json", exclude=left_out),
        "quantity": quantity,
        "content": reader.content_hash(),
        "samples": list(design.sample_ids),
        "design": design.matrix,
        "columns": list(design.columns),
        "contrasts": weights,
        "blocks": blocks,
        "groups": codes,
        "methods": METHOD_VERSIONS,
    }
    if spec.layer is not None:
        key["layer"] = assay.name
    if weighting is not None:
        key |= {"weights": weighting.key(), "weight_methods": weighing.METHOD_VERSIONS}
    return AssociateJob(
        spec=spec,
        cohort=cohort,
        assay=assay,
        matrix=matrix,
        design=design,
        basis=basis,
        contrast_matrix=weights,
        contrast_names=list(contrast_names),
        block_codes=blocks,
        weighting=weighting,
        group_codes=codes,
        group_levels=levels,
        sample_facts=facts,
        fingerprint=fingerprint(key),
        snapshot=assay.snapshot,
        warnings=warnings,
    )


def _test_facts(summary: Summary) -> dict[str, Any]:
    below = {name: int((q < 0.05).sum()) for name, q in zip(summary.contrasts, summary.q_value, strict=True)}
    return {"lambdas": summary.lambdas, "n_q05": below, **({"prior": summary.prior} if summary.prior else {})}
