"""What groups are: their features in every assay, modules, clinic, what else explains them, how stable they are."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pyarrow as pa

from sjd_dask import names
from sjd_dask.clinical.module_lists import TYPE_I
from sjd_dask.errors import DataError
from sjd_dask.jobs import explain_inputs as inputs
from sjd_dask.jobs import explain_tests as tests
from sjd_dask.jobs.arrays_table import from_table, to_table
from sjd_dask.jobs.driver import publish_tables
from sjd_dask.jobs.explain_modules import Scored, module_tests, score_samples
from sjd_dask.jobs.explain_spec import ExplainSpec
from sjd_dask.jobs.explain_tables import INTERFERON, agreement_tables, clinic_tables, share_problems, stability_tables
from sjd_dask.jobs.matrix import Matrix
from sjd_dask.jobs.normalise_reference import COLUMN_STRIPE_BYTES, Phases, sample_ranges
from sjd_dask.jobs.normalise_source import Source
from sjd_dask.jobs.spec import JobSpec, resolve_path
from sjd_dask.runtime.fingerprint import fingerprint
from sjd_dask.runtime.plan import PROCESS_BYTES, Partition, Plan
from sjd_dask.store.cohort import open_cohort
from sjd_dask.stratify.shares import ShareProblem, share_explained, share_row

if TYPE_CHECKING:
    from sjd_dask.jobs.associate import AssociateJob
    from sjd_dask.jobs.driver import Runner
    from sjd_dask.runtime.runs import RunSession
    from sjd_dask.store.cohort import Cohort

# Raised when numbers change.
METHOD_VERSIONS = {"comparison": 1, "modules": 2, "clinic": 1, "shares": 1, "stability": 1}
# Draws of chance in a task: some tenths of a second.
ROUNDS = 20


@dataclass
class Comparison:
    """One assay: its samples, and the model of its features."""

    source: inputs.ExplainedSource
    groups: pd.Series
    compared: tests.Contrasts
    job: AssociateJob

    @property
    def name(self) -> str:
        """As the user says it."""
        return self.source.named.name


@dataclass
class ExplainJob:
    """A prepared job: everything is opened and checked, nothing computed."""

    spec: ExplainSpec
    cohort: Cohort
    groups: inputs.ExplainedGroups
    comparisons: list[Comparison]
    modules: dict[str, tuple[str, ...]]
    fingerprint: str
    snapshot: int
    warnings: list[str] = field(default_factory=list)
    kind: str = names.EXPLANATIONS

    def up_to_date(self) -> list[str] | None:
        """None: the run's fingerprint says whether there is something to do."""
        return None

    # -- plan ------------------------------------------------------------------------------------------------------

    def plan(self, n_workers: int, memory_per_worker: int, *, calibrate: bool = False) -> Plan:
        """For each assay the comparisons, the spread of the healthy and the scores; then the shares explained."""
        partitions: list[Partition] = []
        peak = bytes_in = bytes_out = driver = 0
        notes = []
        for one in self.comparisons:
            own = one.job.plan(n_workers, memory_per_worker)
            reader = one.job.matrix.reader
            n, p = len(one.groups), reader.n_features
            width = max(1, min(p, COLUMN_STRIPE_BYTES // (8 * n)))
            partitions += own.partitions
            partitions += [Partition(0, start, min(p, start + width)) for start in range(0, p, width)]
            partitions += [
                Partition(0, 0, p, {"samples": list(block)}) for block in sample_ranges(n, p, reader.chunk_samples)
            ]
            scoring = 3 * n * width * 8 + 4 * 64 * p * 8
            peak = max(peak, own.peak_bytes_per_task, PROCESS_BYTES + scoring)
            bytes_in += own.bytes_in + 2 * reader.n_bytes
            bytes_out += own.bytes_out
            driver = max(driver, own.driver_bytes) + own.bytes_out
            text = ", ".join(f"{group} {count:,}" for group, count in one.groups.value_counts(sort=False).items())
            notes.append(f"{one.name}: {p:,} features, {len(one.compared.pairs)} comparisons; {text}")
        sets = [name for name, given in self._asked().items() if given]
        if sets:
            notes.append(f"shares of {', '.join(sets)}: {self.spec.permutations} draws of chance each")
        return Plan(
            job="explain",
            output=f"{self.kind}/{self.spec.output}",
            partitions=[replace(one, index=i) for i, one in enumerate(partitions)],
            bytes_in=bytes_in,
            bytes_out=bytes_out,
            peak_bytes_per_task=peak,
            driver_bytes=driver,
            notes=notes,
            n_workers=n_workers,
            memory_per_worker=memory_per_worker,
        )

    def _asked(self) -> dict[str, list[str]]:
        """What may explain the groups, by name."""
        spec = self.spec
        return {
            "composition": list(self.groups.cells),
            "sex": [spec.sex] if spec.sex else [],
            "batch": spec.batches,
            "drugs": list(spec.drugs),
        }

    # -- execute ---------------------------------------------------------------------------------------------------

    def execute(self, plan: Plan, runner: Runner) -> tuple[dict[str, pa.Table], dict[str, Any]]:
        """Compare every assay, score modules, then everything that the driver can do by itself."""
        phases = Phases(runner, self.cohort.files, self.cohort.layout, self.spec.output, self.fingerprint)
        parts, tops, summaries, matched, tested, scores = [], [], [], [], [], {}
        for one in self.comparisons:
            one.job.assay.check_chunks()
            made, facts = one.job.execute(one.job.plan(plan.n_workers, plan.memory_per_worker), phases)  # type: ignore[arg-type]
            self.warnings += [f"{one.name}: {text}" for text in one.job.warnings]
            used = self.groups.features.get(inputs.source_name(one.source.named), set())
            parts.append(tests.comparison_table(made["table"], one.source.named, one.compared, used))
            tops.append(tests.top_rows(parts[-1], one.source.named.assay.features()))
            summaries += tests.summary_rows(parts[-1], facts["lambdas"])
            if (found := self._scores(one, phases)) is not None:
                scores[one.name] = found.scores
                matched.append(
                    found.matched.table.assign(assay=one.name, n_descriptive=self._descriptive(one, found, used))
                )
                tested.append(
                    module_tests(found.scores, found.high_above, one.compared, one.groups).assign(assay=one.name)
                )
                if found.n_unusable:
                    self.warnings.append(
                        f"{one.name}: {found.n_unusable} features of modules have one value in most healthy samples, "
                        "and are left out of their genes"
                    )
        tables = {"table": pa.concat_tables(parts), "summary": _arrow(pd.DataFrame(summaries))}
        tables["top"] = _arrow(pd.concat(tops, ignore_index=True))
        tables |= self._module_tables(matched, tested, scores)
        tables |= clinic_tables(self.spec, self.groups)
        tables["shares"] = self._shares(phases, scores)
        tables |= stability_tables(self.spec, self.groups)
        tables |= agreement_tables(self.spec, self.groups, self.cohort)
        phases.clean()
        return tables, self._facts(tables)

    def _scores(self, one: Comparison, phases: Phases) -> Scored | None:
        """Module scores of all samples of an assay."""
        ids = [str(name) for name in one.groups.index]
        named = one.source.named

        def source(chosen: list[str]) -> Source:
            reader = named.assay.reader(chosen)
            return Source(
                Matrix(reader, one.source.quantity), one.source.scale, self.groups.sheet.loc[chosen],
                named.assay.feature_ids(), named.assay.features(),
            )  # fmt: skip

        return score_samples(source(ids), source(inputs.usual_samples(self.groups, ids)), self.modules, phases)

    def _descriptive(self, one: Comparison, found: Scored, used: set[str]) -> list[int]:
        """Features of each module that made the groups."""
        ids = one.source.named.assay.feature_ids()
        made = np.array([str(ids[i]) in used for i in found.matched.features], dtype=float)
        counts = dict(zip(found.matched.names, made @ (abs(found.matched.weights) > 0), strict=True))
        return [int(counts.get(name, 0)) for name in found.matched.table["module"]]

    def _module_tables(
        self, matched: list[pd.DataFrame], tested: list[pd.DataFrame], scores: dict[str, pd.DataFrame]
    ) -> dict[str, pa.Table]:
        if not matched:
            return {}
        genes = pd.concat(matched, ignore_index=True)
        genes = genes[["assay", *(name for name in genes.columns if name != "assay")]]
        found = pd.concat(tested, ignore_index=True).merge(genes[["assay", "module", "n_descriptive"]], "left")
        found = found[["assay", *(name for name in found.columns if name != "assay")]]
        long = [
            frame.rename_axis(names.SAMPLE_ID).reset_index()
            .melt(names.SAMPLE_ID, var_name="module", value_name="score").assign(assay=assay)
            for assay, frame in scores.items()
        ]  # fmt: skip
        each = pd.concat(long, ignore_index=True)
        each["group"] = each[names.SAMPLE_ID].map(self.groups.compared)
        return {
            "modules": _arrow(found),
            "module_genes": _arrow(genes),
            "module_scores": _arrow(each[["assay", "module", names.SAMPLE_ID, "group", "score"]]),
        }

    def _shares(self, phases: Phases, scores: dict[str, pd.DataFrame]) -> pa.Table:
        """How far cells, sex, batch, drugs and interferon explain the groups, each draw of chance on the cluster."""
        sheet, asked = self.groups.sheet, self._asked()
        score = next((one[TYPE_I] for one in scores.values() if TYPE_I in one), None)
        if score is not None:
            sheet = sheet.assign(**{f"score of {TYPE_I}": score.reindex(sheet.index)})
            asked[INTERFERON] = [f"score of {TYPE_I}"]
        problems, rows = share_problems(self.spec, self.groups, sheet, asked)
        self.warnings += [f"share of {row['what']}: {row['note']}" for row in rows if row["note"]]
        rounds = self.spec.permutations + 1
        blocks = [
            (i, start, min(rounds, start + ROUNDS)) for i in range(len(problems)) for start in range(0, rounds, ROUNDS)
        ]
        partitions = [
            Partition(at, 0, 0, {"phase": "shares", "problem": i, "rounds": [start, stop]})
            for at, (i, start, stop) in enumerate(blocks)
        ]
        found: dict[int, list[Any]] = {}
        if partitions:
            for (i, _, _), part in zip(blocks, phases.run(shares_task, tuple(problems), partitions), strict=True):
                found.setdefault(i, []).append(from_table(part)["shares"]["shares"])
        done = iter(range(len(problems)))
        table = []
        for row in rows:
            if not row["note"]:
                i = next(done)
                row = {**row, **share_row(problems[i], np.concatenate(found[i]))}
            table.append(row)
        columns = [
            "what",
            "beyond",
            "columns",
            "n_samples",
            "n_persons",
            "share",
            "chance",
            "chance_95",
            "p_value",
            "note",
        ]
        made = pd.DataFrame(table, columns=columns)
        kinds: dict[str, Any] = dict.fromkeys(("share", "chance", "chance_95", "p_value"), float)
        made = made.fillna({"n_samples": 0, "n_persons": 0}).astype(
            {**kinds, "n_samples": np.int64, "n_persons": np.int64}
        )
        return _arrow(made)

    def publish(self, session: RunSession, tables: dict[str, pa.Table], meta: dict[str, Any]) -> list[str]:
        """One result with its companion tables."""
        return publish_tables(self, session, tables, meta)

    def _facts(self, tables: dict[str, pa.Table]) -> dict[str, Any]:
        sizes = self.groups.groups.value_counts(sort=False)
        return {
            "job": "explain",
            "title": self.spec.output,
            "spec": inputs.portable(self.spec),
            "strata": self.groups.result.ref,
            "cohort": {"name": self.cohort.name, "snapshot": self.snapshot},
            "sizes": {str(name): int(count) for name, count in sorted(sizes.items())},
            "n_healthy": len(self.groups.healthy),
            "assays": {
                one.name: {
                    "quantity": one.source.scale,
                    "features": one.job.matrix.reader.n_features,
                    "descriptive": len(self.groups.features.get(inputs.source_name(one.source.named), ())),
                    "samples": {str(k): int(v) for k, v in one.groups.value_counts(sort=False).items()},
                    "design": one.compared.design.formula,
                    "persons_correlated": one.compared.blocks is not None,
                }
                for one in self.comparisons
            },
            "reference": "healthy" if self.groups.healthy else "all samples",
            "method_versions": {**METHOD_VERSIONS, **tests.methods()},
            "warnings": list(self.warnings),
        }


def shares_task(problems: tuple[ShareProblem, ...], partition: Partition) -> pa.Table:
    """Shares of some draws."""
    problem = problems[partition.extras["problem"]]
    return to_table({"shares": {"shares": share_explained(problem, *partition.extras["rounds"])}})


def _arrow(frame: pd.DataFrame) -> pa.Table:
    return pa.Table.from_pandas(frame, preserve_index=False)


def prepare(spec: JobSpec, base: Path) -> ExplainJob:
    """Open the grouping and the assays, make the models; nothing is computed.

    Raises
    ------
    SpecError, DesignError, DataError
        Naming what the spec asks for and the cohort doesn't have.
    """
    assert isinstance(spec, ExplainSpec)
    cohort = open_cohort(resolve_path(spec.cohort, base))
    groups = inputs.open_groups(spec, cohort)
    given, path, content = inputs.read_modules(spec, base)
    # Where a run is taken up again, the folder of its spec is not known any more.
    spec = spec.model_copy(update={"strata": groups.result.ref, **({"modules": path} if path else {})})
    warnings: list[str] = []
    both = len(set(groups.healthy) & set(groups.groups.index))
    if both:
        warnings.append(
            f"{both:,} healthy samples are in the grouping too: they count as healthy, not as of their group"
        )
    everyone, comparisons = groups.compared, []
    for one in inputs.open_sources(spec, cohort, groups.result):
        there = set(one.named.assay.sample_ids())
        own = everyone[[name in there for name in everyone.index]]
        if spec.asked is None and (own != tests.HEALTHY).sum() == 0:
            continue
        compared = tests.contrasts_of(own, groups.sheet, spec.covariates, spec.person, one.named.name)
        warnings += [f"{one.named.name}: {text}" for text in compared.design.warnings]
        if compared.left_out:
            warnings.append(
                f"{one.named.name}: {', '.join(compared.left_out)} {'has' if len(compared.left_out) == 1 else 'have'} "
                f"fewer than {tests.FEWEST} samples with all columns of the model, and no comparison"
            )
        job = tests.association_job(cohort, one.named, one.quantity, compared, spec.output, spec.person)
        comparisons.append(Comparison(one, own, compared, job))
    if not comparisons:
        raise DataError(f"no assay and no layer of the cohort holds a sample of {groups.result.ref}")
    key = {
        "spec": inputs.portable(spec),
        "modules": content,
        "groups": groups.groups.to_dict(),
        "healthy": list(groups.healthy),
        "columns": {name: groups.sheet[name].astype(str).tolist() for name in inputs.used_columns(spec, groups.cells)},
        "features": {name: sorted(one) for name, one in groups.features.items()},
        "assays": [
            [one.name, one.source.quantity, one.job.fingerprint, one.compared.design.matrix, one.compared.weights]
            for one in comparisons
        ],
        "samples": [list(one.groups.index) for one in comparisons],
        "compare": [cohort.result(one).ref for one in spec.compare if one.startswith("strata/")],
        "methods": {**METHOD_VERSIONS, **tests.methods()},
    }
    return ExplainJob(
        spec=spec,
        cohort=cohort,
        groups=groups,
        comparisons=comparisons,
        modules=given,
        fingerprint=fingerprint(key),
        snapshot=comparisons[0].job.snapshot,
        warnings=warnings,
    )
