"""A classifier from labels: judged by nested cross-validation over persons, then made of everybody and frozen."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray

from sjd_dask import names
from sjd_dask.classify.recipe import AUTO, Recipe
from sjd_dask.classify.reference import reference_histograms
from sjd_dask.designs.query import known_columns
from sjd_dask.errors import SpecError
from sjd_dask.jobs import model_card
from sjd_dask.jobs.arrays_table import from_table
from sjd_dask.jobs.bundle import Bundle, nameless, training_record
from sjd_dask.jobs.normalise_reference import Phases
from sjd_dask.jobs.spec import JobSpec, resolve_path
from sjd_dask.jobs.train_folds import Splitter, Told, enough_core, outer_folds
from sjd_dask.jobs.train_groups import Grouping, open_grouping
from sjd_dask.jobs.train_labels import CORE, LABEL, PERSON, Labelled, check_persons, read_labels
from sjd_dask.jobs.train_plan import make_plan
from sjd_dask.jobs.train_sources import Origin, check_refit, open_origin
from sjd_dask.jobs.train_spec import TrainSpec
from sjd_dask.jobs.train_tables import (
    Groups,
    Judged,
    arrow,
    folds_table,
    panel_table,
    panels_table,
    person_ids,
    predictions_table,
    sizes_table,
)
from sjd_dask.jobs.train_tasks import FitWork, Fold, fit_task
from sjd_dask.runtime.fingerprint import fingerprint
from sjd_dask.runtime.plan import Partition, Plan
from sjd_dask.store.cohort import open_cohort

if TYPE_CHECKING:
    from sjd_dask.jobs.driver import Runner
    from sjd_dask.runtime.runs import RunSession
    from sjd_dask.store.cohort import Cohort

# Raised when numbers change.
METHOD_VERSIONS = {"classifier": 1, "folds": 1, "bundle": 1}


@dataclass
class TrainJob:
    """A prepared job: everything is opened and checked, nothing computed."""

    spec: TrainSpec
    cohort: Cohort
    origin: Origin
    labelled: Labelled
    grouping: Grouping | None
    recipe: Recipe
    folds: NDArray[np.int64]
    fingerprint: str
    snapshot: int
    warnings: list[str] = field(default_factory=list)
    kind: str = names.MODELS
    _bundle: Bundle | None = None

    def up_to_date(self) -> list[str] | None:
        """None: the run's fingerprint says whether there is something to do."""
        return None

    def plan(self, n_workers: int, memory_per_worker: int, *, calibrate: bool = False) -> Plan:
        """Passes of every fold, then one task for each fit."""
        return make_plan(self, n_workers, memory_per_worker)

    @property
    def refits(self) -> bool:
        """Whether folds have a normalisation or groups of their own."""
        return self.spec.refit and (self.origin.chain is not None or self.grouping is not None)

    # -- execute ---------------------------------------------------------------------------------------------------

    def execute(self, plan: Plan, runner: Runner) -> tuple[dict[str, pa.Table], dict[str, Any]]:
        """Make the folds, fit all of them and the final model, and put the bundle together."""
        self.origin.named.assay.check_chunks()
        phases = Phases(runner, self.cohort.files, self.cohort.layout, self.spec.output, self.fingerprint)
        persons = pd.Series(self.labelled.frame[PERSON])
        if self.labelled.person_column is not None:
            everybody = self.origin.sheet[self.labelled.person_column]
            persons = everybody[everybody.notna()].map(str)
        splitter = Splitter(self.spec, self.origin, self.labelled, self.recipe, self.grouping, persons)
        folds: list[Fold] = []
        told: list[Told] = []
        for repeat in range(self.spec.repeats):
            for number in range(self.spec.folds.outer):
                fold, one = splitter.outer(repeat, number, self.folds[repeat], phases)
                folds.append(fold)
                told.append(one)
        folds.append(splitter.final(phases))
        work = FitWork(tuple(folds), self.recipe)
        # The final one is the largest: it begins first.
        order = [len(folds) - 1, *range(len(folds) - 1)]
        partitions = [Partition(i, 0, len(folds[k].features), {"phase": "fit", "fold": k}) for i, k in enumerate(order)]
        parts = [from_table(part) for part in phases.run(fit_task, work, partitions)]
        phases.clean()
        judged = [Judged(fold, one, groups) for fold, one, groups in zip(folds, told, parts[1:], strict=False)]
        return self._finished(parts[0], judged)

    def _finished(self, final: Groups, judged: list[Judged]) -> tuple[dict[str, pa.Table], dict[str, Any]]:
        predictions = predictions_table(self.labelled, judged)
        # The curve of `panel: size: auto`, of the final model and of each fold.
        sizes = sizes_table(final, judged) if self.recipe.panel_size == AUTO else None
        chosen = {} if sizes is None else {"panel_sizes": model_card.panel_sizes(sizes)}
        bundle = self._make_bundle(final, predictions, chosen)
        self._bundle = bundle
        panel, folds = panel_table(final, judged), folds_table(judged)
        subgroups = self.origin.sheet[self.spec.subgroups] if self.spec.subgroups else None
        if waiting := int((predictions["status"] == "pending_batch").sum()):
            self.warnings.append(
                f"{waiting:,} held-out samples could not be judged: without the persons of their fold the chain has no "
                "parameters for their batch"
            )
        tables = {
            "table": arrow(panel),
            "predictions": arrow(predictions),
            "folds": arrow(folds),
            "panels": arrow(panels_table(judged)),
        }
        if sizes is not None:
            tables["sizes"] = arrow(sizes)
        facts = {**self._facts(bundle), **chosen}
        card = model_card.build(
            facts,
            predictions,
            panel,
            subgroups=subgroups,
            inner=pd.DataFrame(dict(final["inner"])),
            seed=self.spec.seed,
        )
        tables |= {name: arrow(table) for name, table in card.tables.items()}
        return tables, {**facts, "card": card.card}

    def _make_bundle(self, final: Groups, predictions: pd.DataFrame, chosen: dict[str, Any]) -> Bundle:
        from sjd_dask.classify.classifier import Classifier

        classifier = Classifier.from_files({name: blob.tobytes() for name, blob in final["files"].items()})
        frame = self.labelled.frame
        first = predictions[predictions["repeat"] == 1].set_index(names.SAMPLE_ID).loc[frame.index]
        scores = {name: first[name].to_numpy(dtype=np.float64) for name in first.columns if name.startswith("p_")}
        for name in ("confidence", "ood_score"):
            scores[name] = first[name].to_numpy(dtype=np.float64)
        reference = reference_histograms(
            final["values"]["panel"],
            [str(one) for one in classifier.panel],
            scores,
            persons=frame[PERSON].tolist(),
            statuses=first["status"].tolist(),
        )
        persons = [one for one in person_ids(frame[PERSON]) if one is not None]
        record = training_record(self.cohort, list(frame.index), persons)
        chain = self.origin.chain
        return Bundle(
            None if chain is None else nameless(chain),
            classifier,
            self.origin.facts(),
            self.origin.raw.feature_ids(),
            {**self._bundle_facts(), **chosen},
            reference.to_arrays(),
            record,
        )

    def _bundle_facts(self) -> dict[str, Any]:
        return {
            "recipe": asdict(self.recipe),
            "counts": self.counts(),
            "n_samples": len(self.labelled.frame),
            "n_persons": self.labelled.n_persons,
            "method_versions": METHOD_VERSIONS,
        }

    def counts(self) -> dict[str, dict[str, int]]:
        """Samples, persons and core samples of each class."""
        frame, found = self.labelled.frame, {}
        for name in self.labelled.classes:
            own = frame[frame[LABEL] == name]
            found[name] = {"samples": len(own), "persons": int(own[PERSON].nunique()), "core": int(own[CORE].sum())}
        return found

    def _facts(self, bundle: Bundle) -> dict[str, Any]:
        spec = self.spec
        return {
            "job": "train",
            "title": spec.output,
            "spec": {**spec.model_dump(mode="json", exclude_none=True), "cohort": "."},
            "assay": self.origin.name,
            "source_assay": self.origin.raw.name,
            "quantity": self.origin.scale,
            "cohort": {"name": self.cohort.name, "snapshot": self.snapshot},
            "samples": self.labelled.facts,
            "labels": self.labelled.strata.ref if self.labelled.strata else spec.labels,
            "person_column": self.labelled.person_column,
            "n_persons": self.labelled.n_persons,
            "classes": list(bundle.classifier.classes),
            "counts": self.counts(),
            "recipe": asdict(self.recipe),
            "refit": {
                "normalisation": spec.refit and self.origin.chain is not None,
                "groups": spec.refit and self.grouping is not None,
                "panel": True,
            },
            "folds": {"outer": spec.folds.outer, "inner": spec.folds.inner, "repeats": spec.repeats},
            "platform": bundle.platform,
            "n_panel": bundle.classifier.n_panel,
            "n_sentinels": len(bundle.classifier.features) - bundle.classifier.n_panel,
            "classifier_hash": bundle.classifier.hash(),
            "threshold": bundle.classifier.threshold,
            "method_versions": METHOD_VERSIONS,
            "warnings": list(self.warnings),
        }

    # -- publish ---------------------------------------------------------------------------------------------------

    def publish(self, session: RunSession, tables: dict[str, pa.Table], meta: dict[str, Any]) -> list[str]:
        """The bundle with its tables in one transaction; nothing is promoted."""
        assert self._bundle is not None
        file = self._bundle.save(self.cohort)
        result = self.cohort.publish_model(
            self.spec.output, file, tables, {**meta, "bundle_hash": file.hash}, session.run_id, session.epoch
        )
        return [result.ref]


def make_recipe(spec: TrainSpec) -> Recipe:
    """The recipe of a spec."""
    return Recipe(
        panel_method=spec.panel.method,
        panel_size=spec.panel.size,
        model=spec.model,
        calibration=spec.calibration,
        coverage=spec.coverage,
        inner=spec.folds.inner,
        seed=spec.seed,
        max_missing=spec.max_missing,
        abstain_rate=spec.abstain_rate,
        prefilter=spec.panel.prefilter,
    )


def prepare(spec: JobSpec, base: Path) -> TrainJob:
    """Open the cohort, the values and the labels; nothing is computed.

    Raises
    ------
    SpecError, DataError
        Naming what the spec asks for and the cohort doesn't have.
    """
    assert isinstance(spec, TrainSpec)
    cohort = open_cohort(resolve_path(spec.cohort, base))
    origin = open_origin(cohort, spec.assay, spec.layer, spec.quantity, "values")
    labelled = read_labels(spec, cohort, origin.sheet, origin.named.assay.sample_ids(), origin.name)
    warnings = check_persons(labelled, spec)
    grouping = None
    if spec.refit:
        check_refit(origin)
        if labelled.strata is not None:
            grouping, told = open_grouping(cohort, labelled.strata)
            warnings += told
    elif origin.chain is not None or labelled.strata is not None:
        what = [*(["normalisation"] if origin.chain is not None else []), *(["groups"] if labelled.strata else [])]
        warnings.append(
            f"`refit: false`: {' and '.join(what)} have seen the persons that the folds judge, so the metrics may be "
            "too good"
        )
    if spec.panel.method == "none" and "size" in spec.panel.model_fields_set:
        warnings.append(
            f"`panel: size: {spec.panel.size}` counts for nothing with `method: none`, which takes all of the "
            f"{spec.panel.prefilter:,} features that `prefilter` leaves"
        )
    recipe = make_recipe(spec)
    if few := [
        one
        for one in enough_core(labelled.frame, recipe)[1]
        if not labelled.frame.loc[labelled.frame[LABEL] == one, CORE].all()
    ]:
        warnings.append(
            f"fewer than {2 * recipe.inner} persons of {', '.join(map(repr, few))} have a core sample: all samples of "
            "the class are trained on"
        )
    for name in spec.subgroups:
        if name not in origin.sheet.columns:
            raise SpecError(
                f"`subgroups`: {name!r} is not a sample column; {known_columns(name, origin.sheet.columns)}"
            )
    frame = labelled.frame
    key = {
        "spec": spec.model_dump(mode="json", exclude={"cohort"}),
        "quantity": origin.quantity,
        "content": origin.named.assay.reader(list(frame.index)).content_hash(),
        "raw": _raw_content(origin, grouping, list(frame.index)) if spec.refit else None,
        "chain": origin.chain.hash() if origin.chain else None,
        "samples": list(frame.index),
        "labels": frame[LABEL].tolist(),
        "core": frame[CORE].tolist(),
        "persons": frame[PERSON].tolist(),
        "columns": {name: origin.sheet[name].reindex(frame.index).astype(str).tolist() for name in spec.subgroups},
        "strata": labelled.strata.ref if labelled.strata else None,
        "methods": METHOD_VERSIONS,
    }
    return TrainJob(
        spec=spec,
        cohort=cohort,
        origin=origin,
        labelled=labelled,
        grouping=grouping,
        recipe=recipe,
        folds=outer_folds(spec, labelled),
        fingerprint=fingerprint(key),
        snapshot=origin.named.assay.snapshot,
        warnings=warnings,
    )


def _raw_content(origin: Origin, grouping: Grouping | None, labelled: list[str]) -> list[Any]:
    """What the folds hang on beside the stored values: rows that chains begin with, and columns they ask for."""
    found: list[Any] = []
    others = [(grouping.origin, list(grouping.labels))] if grouping else []
    for one, more in ((origin, labelled), *others):
        there = set(one.raw.sample_ids())
        ids = sorted({*more, *(one.chain.reference_samples if one.chain else ())} & there)
        found.append([ids, one.raw.reader(ids).content_hash()])
        if one.chain:
            columns = sorted({c for m, _ in one.chain.steps for c in (*m.fit_columns(), *m.apply_columns())})
            found.append({name: one.sheet[name].reindex(ids).astype(str).tolist() for name in columns})
    return found
