"""Groups of samples: features chosen, resamples grouped on the cluster, consensus and its judgement in the driver."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray

from sjd_dask import names
from sjd_dask.errors import DataError, PlanRefused, SpecError
from sjd_dask.jobs.arrays_table import from_table
from sjd_dask.jobs.driver import publish_tables
from sjd_dask.jobs.matrix import Matrix
from sjd_dask.jobs.normalise_reference import COLUMN_STRIPE_BYTES, ClusterReference, Phases, Source, sample_ranges
from sjd_dask.jobs.sources import SampleSource, comparable_quantity, open_source, select
from sjd_dask.jobs.spec import JobSpec, resolve_path
from sjd_dask.jobs.stratify_assays import AssaysJob, prepare_assays
from sjd_dask.jobs.stratify_features import Chosen, Wanted, choose_features, take_features, wanted_features
from sjd_dask.jobs.stratify_judge import judge_bytes
from sjd_dask.jobs.stratify_previous import Previous, previous_labels
from sjd_dask.jobs.stratify_spec import StratifySpec
from sjd_dask.jobs.stratify_tables import MATRIX_SAMPLES, grouping_tables
from sjd_dask.jobs.stratify_tasks import GroupingWork, null_task, resample_task
from sjd_dask.runtime.fingerprint import fingerprint
from sjd_dask.runtime.plan import MEMORY_SHARE, PROCESS_BYTES, Partition, Plan, size
from sjd_dask.store.cohort import open_cohort
from sjd_dask.stratify.null import NULL_DRAWS
from sjd_dask.stratify.recipe import Recipe

if TYPE_CHECKING:
    from sjd_dask.jobs.driver import Runner
    from sjd_dask.runtime.runs import RunSession
    from sjd_dask.store.cohort import Cohort

# Raised when numbers change.
METHOD_VERSIONS = {"hierarchical": 1, "kmeans": 1, "pam": 1, "mixture": 1, "consensus": 1, "choice": 2, "landmarks": 1}
# Above it the consensus of all pairs doesn't fit a common machine.
MOST_SAMPLES = 20_000
FEWEST_SAMPLES = 8
# Operations of a task, about: some tenths of a second.
TASK_WORK = 1e9
MOST_TASKS = 128
NULL_TASKS = 8


@dataclass
class StratifyJob:
    """A prepared job: everything is opened and checked, nothing computed."""

    spec: StratifySpec
    cohort: Cohort
    source: Source
    named: SampleSource
    wanted: Wanted
    recipe: Recipe
    previous: Previous | None
    sample_facts: dict[str, Any]
    fingerprint: str
    snapshot: int
    # Landmarks, and the samples in the order of storage; None for the consensus of all pairs.
    n_landmarks: int | None = None
    stored: Source | None = None
    warnings: list[str] = field(default_factory=list)
    kind: str = names.STRATA

    def up_to_date(self) -> list[str] | None:
        """None: the run's fingerprint says whether there is something to do."""
        return None

    # -- plan ------------------------------------------------------------------------------------------------------

    def plan(self, n_workers: int, memory_per_worker: int, *, calibrate: bool = False) -> Plan:
        """A pass that scores features, one that takes the chosen ones, then the resamples.

        Raises
        ------
        PlanRefused
            More samples than a consensus of all pairs is made for.
        """
        if self.n_landmarks is not None:
            return self._landmark_plan(n_workers, memory_per_worker)
        reader, source = self.source.reader, self.source
        n, p = reader.n_samples, reader.n_features
        if n > MOST_SAMPLES:
            raise PlanRefused(
                f"stratify: {n:,} samples have a consensus matrix of {size(4 * n * n)}, and it is made of all pairs of "
                f"at most {MOST_SAMPLES:,} samples. Nothing was started. Leave `consensus: exact` out: then landmarks "
                "make the groups, at a cost linear in the samples. Or choose fewer samples with `samples`."
            )
        chosen = self.n_chosen
        width = min(p, max(1, COLUMN_STRIPE_BYTES // (8 * n)))
        stripes = [Partition(i, start, min(p, start + width)) for i, start in enumerate(range(0, p, width))]
        takes = [
            Partition(i, 0, p, {"samples": list(one)})
            for i, one in enumerate(sample_ranges(n, p, reader.chunk_samples))
        ]
        rounds = self._rounds(n, chosen)
        values, labels = n * chosen * 8, self.labels_bytes(n)
        scoring = 3 * n * width * 8
        taking = source.read_rows * p * reader.dtype.itemsize + 3 * source.block_rows * p * 8
        # A round holds its draw, the distances of its samples (all pairs, and a copy that the linkage works on), and
        # the labels it leaves.
        grouping = 3 * values + 4 * 8 * n * n + labels // max(1, len(rounds))
        judging = judge_bytes(n, labels, labels // len(self.recipe.k))
        task = PROCESS_BYTES + max(scoring, taking, grouping, judging)
        if task > MEMORY_SHARE * memory_per_worker and n > self.spec.landmarks:
            raise PlanRefused(
                f"stratify: the consensus of all pairs of {n:,} samples needs about {size(task)} in one task, and a "
                f"worker may use {size(MEMORY_SHARE * memory_per_worker)} ({MEMORY_SHARE:.0%} of its "
                f"{size(memory_per_worker)}). Nothing was started. With `consensus: landmarks` {self.spec.landmarks:,} "
                "samples make the groups and all are placed among them. Or use fewer workers on this machine, or "
                "workers of more memory."
            )
        matrices = 28 * n * n if n <= MATRIX_SAMPLES else 8 * 4 * 512 * n
        driver = (256 << 20) + 4 * values + 2 * labels + matrices
        held = "" if n > MATRIX_SAMPLES else f" and consensus matrices of {size(4 * n * n)} each"
        return Plan(
            job="stratify",
            output=f"{self.kind}/{self.spec.output}",
            partitions=[
                *stripes,
                *takes,
                *(Partition(i, 0, chosen, {"rounds": list(one)}) for i, one in enumerate(rounds)),
                *(Partition(i, 0, chosen, {"draws": i}) for i in range(NULL_TASKS)),
            ],
            bytes_in=2 * reader.n_bytes,
            bytes_out=values + labels,
            peak_bytes_per_task=task,
            driver_bytes=driver,
            notes=[
                f"features: {self.wanted.text}",
                f"{self.recipe.resamples:,} resamples x {len(self.recipe.algorithms)} algorithms x "
                f"{len(self.recipe.k)} numbers of groups, in {len(rounds)} tasks; {NULL_DRAWS} draws without groups",
                f"the driver holds {n:,} samples x {chosen:,} features ({size(values)}) and the labels of all "
                f"resamples ({size(labels)}){held}",
            ],
            n_workers=n_workers,
            memory_per_worker=memory_per_worker,
        )

    def _landmark_plan(self, n_workers: int, memory_per_worker: int) -> Plan:
        from sjd_dask.jobs.stratify_landmarks import landmark_bytes, landmark_note, landmark_partitions

        reader, m = self.source.reader, min(self.n_landmarks or 0, self.source.reader.n_samples)
        partitions, width = landmark_partitions(self)
        task, driver = landmark_bytes(self, width)
        rounds = self._rounds(m, self.n_chosen)
        return Plan(
            job="stratify",
            output=f"{self.kind}/{self.spec.output}",
            partitions=[
                *partitions,
                *(Partition(i, 0, self.n_chosen, {"rounds": list(one)}) for i, one in enumerate(rounds)),
                *(Partition(i, 0, self.n_chosen, {"draws": i}) for i in range(NULL_TASKS)),
            ],
            bytes_in=4 * reader.n_bytes,
            bytes_out=2 * m * self.n_chosen * 8 + self.labels_bytes(m),
            peak_bytes_per_task=task,
            driver_bytes=driver,
            notes=[
                f"features: {self.wanted.text}",
                landmark_note(self),
                f"{self.recipe.resamples:,} resamples x {len(self.recipe.algorithms)} algorithms x "
                f"{len(self.recipe.k)} numbers of groups, in {len(rounds)} tasks; {NULL_DRAWS} draws without groups",
            ],
            n_workers=n_workers,
            memory_per_worker=memory_per_worker,
        )

    @property
    def n_chosen(self) -> int:
        if self.wanted.ids is not None:
            return len(self.wanted.ids)
        return self.spec.features.top or 0

    def labels_bytes(self, n: int) -> int:
        """The groups of n samples in all resamples."""
        return self.recipe.resamples * len(self.recipe.algorithms) * len(self.recipe.k) * n

    def _rounds(self, n: int, n_chosen: int) -> list[tuple[int, int]]:
        """Blocks of resamples: a function of the data alone, so that a resumed run meets the same parts."""
        total, recipe = self.recipe.resamples, self.recipe
        # The distances of all samples are made once in a process, those on drawn features in every round.
        features = n_chosen if recipe.feature_fraction < 1.0 else 0
        work = float(n) * n * (5 * len(recipe.k) * len(recipe.algorithms) + features)
        width = int(np.clip(TASK_WORK / work, -(-total // MOST_TASKS), -(-total // 8)))
        return _blocks(total, max(1, width))

    # -- execute ---------------------------------------------------------------------------------------------------

    def execute(self, plan: Plan, runner: Runner) -> tuple[dict[str, pa.Table], dict[str, Any]]:
        """Choose features, group the resamples, judge."""
        self.named.assay.check_chunks()
        phases = Phases(runner, self.cohort.files, self.cohort.layout, self.spec.output, self.fingerprint)
        if self.n_landmarks is not None:
            from sjd_dask.jobs.stratify_landmarks import group_by_landmarks

            chosen, tables, facts = group_by_landmarks(self, phases)
            phases.clean()
            return tables, self._facts(chosen, facts)
        reference = ClusterReference(self.source, phases)
        chosen = choose_features(self.spec.features, self.wanted, reference)
        values = reference.by_samples(take_features, chosen.index).rows["values"]
        work = GroupingWork(values, self.source.reader.sample_ids, self.recipe)
        labels = self.resampled(phases, work)
        null = self.null(phases, work)
        phases.clean()
        tables, facts = grouping_tables(self, values, labels, null, chosen, phases)
        return tables, self._facts(chosen, facts)

    def null(self, phases: Phases, work: GroupingWork) -> NDArray[np.float64]:
        """Inertia of all draws without groups, (draws, k)."""
        partitions = [
            Partition(i, 0, work.values.shape[1], {"phase": "null", "draws": list(one), "values": work.token})
            for i, one in enumerate(_blocks(NULL_DRAWS, -(-NULL_DRAWS // NULL_TASKS)))
        ]
        return np.concatenate([from_table(part)["null"]["inertia"] for part in phases.run(null_task, work, partitions)])

    def resampled(self, phases: Phases, work: GroupingWork) -> NDArray[np.int8]:
        """Labels of all resamples, (resamples, algorithms, k, samples)."""
        values = work.values
        partitions = [
            Partition(i, 0, values.shape[1], {"phase": "resamples", "rounds": list(one), "values": work.token})
            for i, one in enumerate(self._rounds(*values.shape))
        ]
        shape = (len(work.recipe.algorithms), len(work.recipe.k), values.shape[0])
        labels = np.empty((work.recipe.resamples, *shape), dtype=np.int8)
        for partition, part in zip(partitions, phases.run(resample_task, work, partitions), strict=True):
            start, stop = partition.extras["rounds"]
            labels[start:stop] = from_table(part)["labels"]["labels"]
        return labels

    def publish(self, session: RunSession, tables: dict[str, pa.Table], meta: dict[str, Any]) -> list[str]:
        """One result with its companion tables."""
        return publish_tables(self, session, tables, meta)

    def _facts(self, chosen: Chosen, facts: dict[str, Any]) -> dict[str, Any]:
        available = len(self.source.feature_ids)
        return {
            "job": "stratify",
            "title": self.spec.output,
            "spec": {**_portable(self.spec).model_dump(mode="json", exclude_none=True), "cohort": "."},
            "assay": self.named.name,
            "source_assay": self.named.assay.name,
            "quantity": self.source.scale,
            "cohort": {"name": self.cohort.name, "snapshot": self.snapshot},
            "samples": {**self.sample_facts, "used": len(self.source.reader.sample_ids)},
            "features": {
                "available": available,
                "used": len(chosen.ids),
                "choice": self.wanted.text,
                "dropped": chosen.dropped,
                **({"sets": self.wanted.sets} if self.wanted.sets else {}),
            },
            "recipe": {
                "algorithms": list(self.recipe.algorithms),
                "distance": self.recipe.distance,
                "linkage": self.recipe.linkage,
                "k": list(self.spec.k),
                "resamples": self.recipe.resamples,
                "sample_fraction": self.recipe.sample_fraction,
                "feature_fraction": self.recipe.feature_fraction,
                "seed": self.recipe.seed,
            },
            **({"previous": self.previous.ref, "matched_by": self.previous.by} if self.previous else {}),
            **facts,
            "method_versions": {
                name: METHOD_VERSIONS[name] for name in (*self.recipe.algorithms, "consensus", "choice", "landmarks")
            },
            "warnings": list(self.warnings),
        }


def _blocks(total: int, width: int) -> list[tuple[int, int]]:
    return [(start, min(total, start + width)) for start in range(0, total, width)]


def _portable(spec: StratifySpec) -> StratifySpec:
    """The spec with the bare name of its list."""
    if spec.features.list is None:
        return spec
    features = spec.features.model_copy(update={"list": Path(spec.features.list).name})
    return spec.model_copy(update={"features": features})


def sample_columns(spec: StratifySpec, frame: pd.DataFrame) -> list[str]:
    """Sample columns that the spec names.

    Raises
    ------
    SpecError
        There is none of that name.
    """
    wanted = [*spec.compare, *(one for one in (spec.person, spec.visit) if one)]
    if spec.person and not spec.visit and names.VISIT in frame.columns:
        wanted.append(names.VISIT)
    for name in wanted:
        if name not in frame.columns:
            raise SpecError(
                f"{name!r} is not a sample column; there are: {', '.join(map(str, frame.columns)) or 'none'}"
            )
    return wanted


def prepare(spec: JobSpec, base: Path) -> StratifyJob | AssaysJob:
    """Open the cohort, select samples, look for what makes the groups; nothing is computed.

    Raises
    ------
    SpecError, DataError
        Naming what the spec asks for and the cohort doesn't have.
    """
    assert isinstance(spec, StratifySpec)
    if spec.assays is not None:
        return prepare_assays(spec, base)
    cohort = open_cohort(resolve_path(spec.cohort, base))
    named = open_source(cohort, spec.assay, spec.layer)
    quantity, scale = comparable_quantity(named, spec.quantity, "distances")
    frame, facts = select(named, cohort, spec.samples)
    columns = sample_columns(spec, frame)
    # In the order of ids: neither storage nor the order of arrival has a say.
    stored, frame = frame, frame.loc[sorted(map(str, frame.index))]
    by_landmarks = spec.consensus == "landmarks" or (spec.consensus == "auto" and len(frame) > MOST_SAMPLES)
    grouped = min(len(frame), spec.landmarks) if by_landmarks else len(frame)
    if grouped < FEWEST_SAMPLES or spec.resamples.sample_fraction * grouped < spec.k[1] + 1:
        what = "landmarks" if by_landmarks else "samples"
        raise DataError(
            f"{grouped} {what} are too few: groups need at least {FEWEST_SAMPLES}, and each resample "
            f"(`sample_fraction: {spec.resamples.sample_fraction:g}`) more samples than the largest k ({spec.k[1]})"
        )
    if spec.features.list is not None:
        # Where a run is taken up again, the folder of its spec is not known any more.
        features = spec.features.model_copy(update={"list": resolve_path(spec.features.list, base)})
        spec = spec.model_copy(update={"features": features})
    assay = named.assay
    wanted = wanted_features(spec.features, cohort, spec.features.list, assay.feature_ids(), assay.features())
    previous = previous_labels(spec, cohort, frame, assay.feature_ids())
    if previous is not None:
        spec = spec.model_copy(update={"previous": previous.ref})
    reader = assay.reader(list(frame.index))
    recipe = spec.recipe
    key = {
        "spec": _portable(spec).model_dump(mode="json", exclude={"cohort"}),
        "quantity": quantity,
        "content": reader.content_hash(),
        "samples": list(reader.sample_ids),
        "features": wanted.content,
        "columns": {name: frame[name].astype(str).tolist() for name in columns},
        "methods": METHOD_VERSIONS,
    }
    job = StratifyJob(
        spec=spec,
        cohort=cohort,
        source=Source(Matrix(reader, quantity), scale, frame, assay.feature_ids(), assay.features()),
        named=named,
        wanted=wanted,
        recipe=recipe,
        previous=previous,
        sample_facts=facts,
        fingerprint=fingerprint(key),
        snapshot=assay.snapshot,
    )
    if by_landmarks:
        job.n_landmarks = spec.landmarks
        in_storage = Matrix(assay.reader(list(stored.index)), quantity)
        job.stored = Source(in_storage, scale, stored, assay.feature_ids(), assay.features())
    if wanted.absent:
        job.warnings.append(f"{wanted.absent:,} features of the list are not in {named.name}")
    if spec.features.by != "mad" and scale in (names.EXPRESSION, names.M_VALUE):
        job.warnings.append(
            f"`by: {spec.features.by}` divides by the mean, which on a log scale depends on its unit: `by: mad` doesn't"
        )
    if spec.person is not None and (several := int(frame[spec.person].dropna().duplicated(keep=False).sum())):
        job.warnings.append(
            f"{several:,} samples are of persons with several: each is grouped by itself, and persons of many samples "
            'weigh more; take one of each with `samples`, such as "visit == 1"'
        )
    return job
