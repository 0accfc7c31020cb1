"""Groups of samples by several assays: each assay read and resampled on the cluster, judged together."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pyarrow as pa

from sjd_dask import names
from sjd_dask.errors import DataError, PlanRefused, SpecError
from sjd_dask.jobs.driver import publish_tables
from sjd_dask.jobs.matrix import Matrix
from sjd_dask.jobs.normalise_reference import COLUMN_STRIPE_BYTES, ClusterReference, Phases, Source, sample_ranges
from sjd_dask.jobs.sources import SampleSource, comparable_quantity, open_source
from sjd_dask.jobs.spec import resolve_path
from sjd_dask.jobs.stratify_assays_place import place_samples
from sjd_dask.jobs.stratify_assays_spec import AssayInput, FusionOptions
from sjd_dask.jobs.stratify_assays_tables import assays_tables
from sjd_dask.jobs.stratify_assays_tasks import AssaysWork, Grouped, group_assays, n_draws, round_blocks
from sjd_dask.jobs.stratify_features import Chosen, Wanted, choose_features, take_features, wanted_features
from sjd_dask.jobs.stratify_features_spec import FeatureChoice
from sjd_dask.jobs.stratify_previous import Previous, previous_labels
from sjd_dask.runtime.fingerprint import fingerprint
from sjd_dask.runtime.plan import PROCESS_BYTES, Partition, Plan, size
from sjd_dask.store.cohort import open_cohort
from sjd_dask.stratify.fusion import AssayTable, Fusion
from sjd_dask.stratify.landmarks import draw_landmarks
from sjd_dask.stratify.recipe import Recipe

if TYPE_CHECKING:
    from sjd_dask.jobs.driver import Runner
    from sjd_dask.jobs.stratify_spec import StratifySpec
    from sjd_dask.runtime.runs import RunSession
    from sjd_dask.store.cohort import Cohort

# Raised when numbers change.
METHOD_VERSIONS = {"assays": 1, "snf": 1}
SNF = "snf"
MOST_SAMPLES = 5_000
FEWEST_SAMPLES = 8


@dataclass(frozen=True)
class AssaySource:
    """One of the assays, opened and checked.

    Attributes
    ----------
    name : str
    source : Source
    named : SampleSource
    features : FeatureChoice
    wanted : Wanted
    """

    name: str
    source: Source
    named: SampleSource
    features: FeatureChoice
    wanted: Wanted

    @property
    def n_chosen(self) -> int:
        """Features that make the groups, at most."""
        return len(self.wanted.ids) if self.wanted.ids is not None else self.features.top or 0

    def of(self, samples: tuple[str, ...]) -> Source:
        """Those of some samples that it has."""
        own = set(self.source.reader.sample_ids)
        ids = [one for one in samples if one in own]
        matrix = Matrix(self.named.assay.reader(ids), self.source.matrix.quantity)
        return replace(self.source, matrix=matrix, sheet=self.source.sheet.loc[ids])


@dataclass
class AssaysJob:
    """A prepared job: everything is opened and checked, nothing computed."""

    spec: StratifySpec
    cohort: Cohort
    inputs: list[AssaySource]
    frame: pd.DataFrame
    recipe: Recipe
    fusion: Fusion | None
    previous: Previous | None
    sample_facts: dict[str, Any]
    fingerprint: str
    snapshot: int
    warnings: list[str] = field(default_factory=list)
    kind: str = names.STRATA

    def up_to_date(self) -> list[str] | None:
        """None: the run's fingerprint says whether there is something to do."""
        return None

    @property
    def sample_ids(self) -> tuple[str, ...]:
        """All samples, sorted."""
        return tuple(map(str, self.frame.index))

    # -- plan ------------------------------------------------------------------------------------------------------

    def plan(self, n_workers: int, memory_per_worker: int, *, calibrate: bool = False) -> Plan:
        """Two passes over each assay, then the resamples.

        Raises
        ------
        PlanRefused
            More samples than a consensus of all pairs is made for.
        """
        every, n = len(self.frame), len(self.makers)
        if n > MOST_SAMPLES:
            raise PlanRefused(
                f"stratify: {n:,} samples have a consensus matrix of {size(4 * n * n)} for every algorithm and k, and "
                f"several assays are grouped over all pairs of at most {MOST_SAMPLES:,} samples. Nothing was started. "
                "Give `consensus: landmarks` (with fewer `landmarks`), or choose fewer samples with `samples`."
            )
        partitions: list[Partition] = []
        bytes_in = values = reading = 0
        for one in self.inputs:
            reader = one.source.reader
            rows, p = reader.n_samples, reader.n_features
            width = min(p, max(1, COLUMN_STRIPE_BYTES // (8 * rows)))
            partitions += [Partition(0, start, min(p, start + width)) for start in range(0, p, width)]
            partitions += [
                Partition(0, 0, p, {"samples": list(span)}) for span in sample_ranges(rows, p, reader.chunk_samples)
            ]
            bytes_in += (2 if n == every else 3) * reader.n_bytes
            values += min(n, rows) * one.n_chosen * 8
            taking = one.source.read_rows * p * reader.dtype.itemsize + 3 * one.source.block_rows * p * 8
            reading = max(reading, 3 * rows * width * 8, taking)
        makers = set(self.makers)
        sizes = [len(makers.intersection(one.source.reader.sample_ids)) for one in self.inputs]
        work = round_blocks(sizes, n, self.recipe, self.fusion)
        partitions += [Partition(0, 0, 0, {"assay": a, "rounds": list(span)}) for a, span in work]
        sets = len(self.inputs) + (self.fusion is not None)
        labels = self.recipe.resamples * len(self._algorithms) * len(self.recipe.k) * n * sets
        # Networks or distances of all assays and their copies; the judge holds matrices of all algorithms.
        grouping = 2 * values + 8 * n * n * (4 + 3 * len(self.inputs))
        judging = values + 2 * labels + 4 * n * n * (4 + 2 * len(self._algorithms))
        placing = 200 * every * (len(self.inputs) + sum(self.recipe.k))
        driver = (256 << 20) + placing + 3 * values + 3 * labels + 4 * n * n * (4 + 2 * len(self._algorithms))
        return Plan(
            job="stratify",
            output=f"{self.kind}/{self.spec.output}",
            partitions=[
                Partition(i, one.feature_start, one.feature_stop, one.extras) for i, one in enumerate(partitions)
            ],
            bytes_in=bytes_in,
            bytes_out=values + labels,
            peak_bytes_per_task=PROCESS_BYTES + max(reading, grouping, judging),
            driver_bytes=driver,
            notes=[
                f"{every:,} samples: "
                + "; ".join(f"{one.name} has {len(one.source.sheet):,}, {one.wanted.text}" for one in self.inputs),
                f"{self.recipe.resamples:,} resamples of each x {', '.join(self._algorithms)} x "
                f"{len(self.recipe.k)} numbers of groups, in {len(work)} tasks; "
                f"{n_draws(len(self.inputs))} draws without groups for each assay",
                *([f"{n:,} landmarks make the groups, and all samples are placed among them"] if n < every else []),
            ],
            n_workers=n_workers,
            memory_per_worker=memory_per_worker,
        )

    @property
    def makers(self) -> tuple[str, ...]:
        """The samples that make the groups, sorted: all, or landmarks."""
        ids, m = self.sample_ids, self.spec.landmarks
        way = self.spec.consensus
        if way == "exact" or m >= len(ids) or (way == "auto" and len(ids) <= MOST_SAMPLES):
            return ids
        return tuple(ids[i] for i in draw_landmarks(ids, m, self.recipe.seed)[0])

    @property
    def _algorithms(self) -> tuple[str, ...]:
        return (SNF,) if self.fusion is not None else self.recipe.algorithms

    # -- execute ---------------------------------------------------------------------------------------------------

    def execute(self, plan: Plan, runner: Runner) -> tuple[dict[str, pa.Table], dict[str, Any]]:
        """Choose the features of each assay, group the resamples, judge."""
        phases = Phases(runner, self.cohort.files, self.cohort.layout, self.spec.output, self.fingerprint)
        makers = self.makers
        place = {one: i for i, one in enumerate(makers)}
        tables, chosen = [], []
        token = hashlib.blake2b(digest_size=16)
        for one in self.inputs:
            one.named.assay.check_chunks()
            reference = ClusterReference(one.source, phases)
            try:
                found = choose_features(one.features, one.wanted, reference)
            except DataError as error:
                raise DataError(f"{one.name}: {error}") from None
            source = one.source if len(makers) == len(self.frame) else one.of(makers)
            taken = ClusterReference(source, phases).by_samples(take_features, found.index)
            values = np.ascontiguousarray(taken.rows["values"])
            rows = np.array([place[sample] for sample in source.reader.sample_ids], dtype=np.int64)
            tables.append(AssayTable(one.name, values, rows))
            chosen.append(found)
            token.update(values.tobytes())
        work = AssaysWork(tuple(tables), makers, self.recipe, self.fusion, token.hexdigest())
        given = None if self.spec.choose_k == "auto" else self.spec.choose_k
        grouped = group_assays(phases, work, given, self.previous.labels if self.previous else None)
        everybody = None
        if len(makers) < len(self.frame):
            everybody = place_samples(
                phases, work, grouped, [one.source for one in self.inputs], chosen, self.sample_ids
            )
        phases.clean()
        made, facts = assays_tables(self, work, grouped, chosen, everybody)
        return made, self._facts(chosen, grouped, facts)

    def publish(self, session: RunSession, tables: dict[str, pa.Table], meta: dict[str, Any]) -> list[str]:
        """One result with its companion tables."""
        return publish_tables(self, session, tables, meta)

    def _facts(self, chosen: list[Chosen], grouped: Grouped, facts: dict[str, Any]) -> dict[str, Any]:
        recipe: dict[str, Any] = {
            "algorithms": list(self._algorithms),
            "distance": self.recipe.distance,
            "k": list(self.spec.k),
            "resamples": self.recipe.resamples,
            "sample_fraction": self.recipe.sample_fraction,
            "feature_fraction": self.recipe.feature_fraction,
            "seed": self.recipe.seed,
        }
        if self.fusion is None:
            recipe["linkage"] = self.recipe.linkage
        else:
            recipe |= {
                "neighbours": self.fusion.neighbours,
                "width": self.fusion.width,
                "iterations": self.fusion.iterations,
            }
        methods = {**_methods(self.fusion is None), **METHOD_VERSIONS}
        return {
            "job": "stratify",
            "title": self.spec.output,
            "spec": {**portable(self.spec).model_dump(mode="json", exclude_none=True), "cohort": "."},
            "assay": ", ".join(one.named.name for one in self.inputs),
            "integration": self.spec.integration or "consensus",
            "cohort": {"name": self.cohort.name, "snapshot": self.snapshot},
            "samples": {**self.sample_facts, "used": len(self.frame)},
            "features": {
                "available": sum(len(one.source.feature_ids) for one in self.inputs),
                "used": sum(len(one.ids) for one in chosen),
                "choice": "; ".join(f"{one.name}: {one.wanted.text}" for one in self.inputs),
                "dropped": [
                    {"reason": f"{one.name}: {row['reason']}", "count": row["count"]}
                    for one, found in zip(self.inputs, chosen, strict=True)
                    for row in found.dropped
                ],
            },
            "recipe": recipe,
            **({"previous": self.previous.ref} if self.previous else {}),
            **facts,
            "method_versions": methods,
            "warnings": list(self.warnings),
        }


def _methods(consensus: bool) -> dict[str, int]:
    from sjd_dask.jobs.stratify import METHOD_VERSIONS as OF_ONE

    return dict(OF_ONE) if consensus else {name: OF_ONE[name] for name in ("consensus", "choice")}


def portable(spec: StratifySpec) -> StratifySpec:
    """The spec with the bare names of its lists."""
    assert spec.assays is not None
    bare = [
        one.model_copy(update={"features": one.features.model_copy(update={"list": Path(one.features.list).name})})
        if one.features is not None and one.features.list is not None
        else one
        for one in spec.assays
    ]
    return spec.model_copy(update={"assays": bare})


def prepare_assays(spec: StratifySpec, base: Path) -> AssaysJob:
    """Open the assays, select samples, look for what makes the groups; nothing is computed.

    Raises
    ------
    SpecError, DataError
        Naming what the spec asks for and the cohort doesn't have.
    """
    from sjd_dask.jobs.stratify import sample_columns

    assert spec.assays is not None
    cohort = open_cohort(resolve_path(spec.cohort, base))
    # Where a run is taken up again, the folder of its spec is not known any more.
    spec = spec.model_copy(update={"assays": [_absolute(one, base) for one in spec.assays]})
    assert spec.assays is not None
    # In the order of names: that of the spec has no say.
    wanted_of = sorted(spec.assays, key=lambda one: one.name)
    opened = [open_source(cohort, one.assay, one.layer) for one in wanted_of]
    frame, members, facts = _samples(spec, cohort, wanted_of, opened)
    columns = sample_columns(spec, frame)
    inputs: list[AssaySource] = []
    contents: list[Any] = []
    for one, named, ids in zip(wanted_of, opened, members, strict=True):
        quantity, scale = comparable_quantity(named, one.quantity, "distances")
        _enough(one.name, len(ids), spec)
        feature_ids = named.assay.feature_ids()
        features = one.features or FeatureChoice(top=min(1000, len(feature_ids)))
        try:
            wanted = wanted_features(features, cohort, features.list, feature_ids, named.assay.features())
        except (SpecError, DataError) as error:
            raise type(error)(f"{one.name}: {error}") from None
        reader = named.assay.reader(ids)
        source = Source(Matrix(reader, quantity), scale, frame.loc[ids], feature_ids, named.assay.features())
        inputs.append(AssaySource(one.name, source, named, features, wanted))
        contents.append([one.name, quantity, reader.content_hash(), list(reader.sample_ids), wanted.content])
    previous = previous_labels(spec, cohort, frame)
    if previous is not None:
        spec = spec.model_copy(update={"previous": previous.ref})
    recipe = spec.recipe
    fusion = None
    if spec.integration == SNF:
        options = spec.snf or FusionOptions()
        fusion = Fusion(options.neighbours, options.width, options.iterations)
    key = {
        "spec": portable(spec).model_dump(mode="json", exclude={"cohort"}),
        "assays": contents,
        "columns": {name: frame[name].astype(str).tolist() for name in columns},
        "methods": {**_methods(True), **METHOD_VERSIONS},
    }
    job = AssaysJob(
        spec=spec,
        cohort=cohort,
        inputs=inputs,
        frame=frame,
        recipe=recipe,
        fusion=fusion,
        previous=previous,
        sample_facts=facts,
        fingerprint=fingerprint(key),
        snapshot=max(one.named.assay.snapshot for one in inputs),
    )
    job.warnings += [
        f"{one.wanted.absent:,} features of the list are not in {one.named.name}" for one in inputs if one.wanted.absent
    ]
    shared = sum(len(one.source.reader.sample_ids) for one in inputs) - len(frame)
    if not shared:
        raise DataError(
            f"no sample is in two of the assays ({', '.join(one.name for one in inputs)}): nothing joins them. Assays "
            "are joined by sample_id: give samples of the same person and visit the same id"
        )
    return job


def _absolute(one: AssayInput, base: Path) -> AssayInput:
    if one.features is None or one.features.list is None:
        return one
    features = one.features.model_copy(update={"list": resolve_path(one.features.list, base)})
    return one.model_copy(update={"features": features})


def _enough(name: str, n: int, spec: StratifySpec) -> None:
    if n < FEWEST_SAMPLES or spec.resamples.sample_fraction * n < spec.k[1] + 1:
        raise DataError(
            f"{name}: {n} samples are too few: groups need at least {FEWEST_SAMPLES} in each assay, and each resample "
            f"(`sample_fraction: {spec.resamples.sample_fraction:g}`) more samples than the largest k ({spec.k[1]})"
        )


def _samples(
    spec: StratifySpec, cohort: Cohort, wanted: list[AssayInput], opened: list[SampleSource]
) -> tuple[pd.DataFrame, list[list[str]], dict[str, Any]]:
    """Sample columns of all samples, the samples of each assay, and what was left out."""
    from sjd_dask.designs.query import query_samples

    stored = [set(map(str, one.assay.sample_ids())) for one in opened]
    ids = pd.Index(sorted(set().union(*stored)), name=names.SAMPLE_ID, dtype=object)
    frame = cohort.samples().reindex(ids).infer_objects()
    frame.index = ids
    facts: dict[str, Any] = {"available": len(ids), "filter": spec.samples, "dropped": []}
    if spec.samples is not None:
        kept = query_samples(frame, spec.samples, "samples")
        if kept.empty:
            raise SpecError(f"`samples: {spec.samples}` selects none of the {len(frame):,} samples of the assays")
        facts["dropped"].append({"reason": f"not selected by `{spec.samples}`", "count": len(frame) - len(kept)})
        frame = kept
    for one, own in zip(wanted, stored, strict=True):
        if one.samples is not None:
            own &= set(query_samples(frame, one.samples, f"samples of {one.name}").index)
            if not own:
                raise SpecError(f"{one.name}: `samples: {one.samples}` selects none of its samples")
    require = spec.require or 1
    counts = np.array([sum(sample in own for own in stored) for sample in frame.index])
    if (counts < require).any():
        reason = f"in fewer than {require} of the assays" if require > 1 else "in none of the assays"
        facts["dropped"].append({"reason": reason, "count": int((counts < require).sum())})
        frame = frame[counts >= require]
    # A frame without columns is `empty` too.
    if not len(frame):
        raise DataError(f"`require: {require}`: no sample is in so many of the {len(stored)} assays")
    return frame, [[sample for sample in frame.index if sample in own] for own in stored], facts
