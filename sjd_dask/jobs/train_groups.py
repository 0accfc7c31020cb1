"""Groups found again without the persons of a fold, under the names that they have in the full grouping."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from sjd_dask import names
from sjd_dask.errors import SpecError
from sjd_dask.jobs.arrays_table import from_table
from sjd_dask.jobs.normalise_reference import ClusterReference, Phases
from sjd_dask.jobs.normalise_source import Source
from sjd_dask.jobs.spec import parse_spec
from sjd_dask.jobs.stratify_features import Wanted, choose_features, take_features
from sjd_dask.jobs.stratify_spec import StratifySpec
from sjd_dask.jobs.stratify_tasks import GroupingWork, resample_task
from sjd_dask.jobs.train_labels import CORE, LABEL
from sjd_dask.jobs.train_sources import Origin, check_refit, open_origin, subset, values_present
from sjd_dask.runtime.plan import Partition
from sjd_dask.store.cohort import Cohort
from sjd_dask.store.result import Result
from sjd_dask.stratify.recipe import Recipe
from sjd_dask.stratify.strata import strata

# Tasks of the resamples of one grouping.
TASKS = 8


@dataclass(frozen=True)
class Grouping:
    """How a published grouping was made, and so how it is made again.

    Attributes
    ----------
    origin : Origin
        What was grouped.
    recipe : Recipe
        With the one k that was chosen and the algorithms that were trusted.
    spec : StratifySpec
    wanted : Wanted
        Features by a list, or None for the most variable ones: these are chosen again.
    labels : dict
        Sample -> group in the full grouping, of all samples that were grouped.
    """

    origin: Origin
    recipe: Recipe
    spec: StratifySpec
    wanted: Wanted
    labels: dict[str, str]

    @property
    def n_chosen(self) -> int:
        """Features that make the groups."""
        return len(self.wanted.ids) if self.wanted.ids is not None else self.spec.features.top or 0

    def again(self, source: Source, held_out: Collection[str], phases: Phases) -> pd.DataFrame:
        """Groups of the samples of a source that are not held out.

        Parameters
        ----------
        source : Source
            After the fold's own normalisation; more samples than were grouped are allowed.
        held_out : collection of str
        phases : Phases

        Returns
        -------
        DataFrame
            Index sample ids, sorted; ``label``, ``core``. Groups have the names of the groups that they share most
            samples with; one that shares none with those left has a name of its own.
        """
        away = set(held_out)
        here = {one for one, there in zip(source.reader.sample_ids, values_present(source), strict=True) if there}
        ids = sorted(one for one in self.labels if one in here and one not in away)
        part = ClusterReference(subset(source, ids), phases)
        chosen = choose_features(self.spec.features, self.wanted, part)
        values = part.by_samples(take_features, chosen.index).rows["values"]
        work = GroupingWork(values, tuple(ids), self.recipe)
        n, k = len(ids), self.recipe.k[0]
        width = -(-self.recipe.resamples // TASKS)
        starts = range(0, self.recipe.resamples, width)
        partitions = [
            Partition(
                i, 0, len(chosen.ids),
                {"phase": "groups", "rounds": [start, min(self.recipe.resamples, start + width)], "values": work.token},
            )
            for i, start in enumerate(starts)
        ]  # fmt: skip
        parts = phases.run(resample_task, work, partitions)
        labels = np.concatenate([from_table(part)["labels"]["labels"] for part in parts]).astype(np.int8)
        assert labels.shape == (self.recipe.resamples, len(self.recipe.algorithms), 1, n)
        previous = {one: self.labels[one] for one in ids}
        table = strata(values, ids, self.recipe, labels, k, previous).table
        return pd.DataFrame(
            {LABEL: table["stratum"].to_numpy(dtype=object), CORE: table["core"].to_numpy(dtype=bool)},
            index=pd.Index(table[names.SAMPLE_ID], name=names.SAMPLE_ID),
        )


def open_grouping(cohort: Cohort, result: Result) -> tuple[Grouping, list[str]]:
    """How a grouping was made, from what it keeps; and what a person should know of doing it again.

    Raises
    ------
    SpecError
        It was made in a way that can't be repeated in a fold.
    """
    meta = result.meta
    if meta.get("job") != "stratify":
        raise SpecError(f"{result.ref} says nothing of how its groups were made: set `refit: false`")
    if meta["spec"].get("assays"):
        raise SpecError(
            f"{result.ref} was made of several assays, and groups of these are not found again in folds: set "
            "`refit: false`"
        )
    if (meta.get("consensus") or {}).get("kind", "exact") != "exact":
        raise SpecError(
            f"{result.ref} was made by landmarks, and such groups are not found again in folds: set `refit: false`"
        )
    spec = parse_spec({**_without_files(meta["spec"]), "cohort": cohort.path}, f"the spec of {result.ref}")
    assert isinstance(spec, StratifySpec)
    # The version that was grouped, not the newest.
    layer = None if spec.layer is None else str(meta["assay"])
    origin = open_origin(cohort, spec.assay, layer, spec.quantity, "distances")
    check_refit(origin)
    warnings = []
    choice = meta["spec"]["features"]
    if choice.get("top") is not None:
        wanted = Wanted(None, {}, "", None)
    else:
        ids = tuple(map(str, result.to_pandas("features", [names.FEATURE_ID])[names.FEATURE_ID]))
        wanted = Wanted(ids, {}, f"the {len(ids):,} of {result.ref}", None)
        if choice.get("association") is not None:
            warnings.append(
                f"the features of {result.ref} come from {choice['association']}, which has seen all persons: they are "
                "not chosen again in the folds, so the metrics may be too good"
            )
    made = meta["recipe"]
    recipe = Recipe(
        algorithms=tuple(meta["algorithms"]),
        distance=made["distance"],
        linkage=made["linkage"],
        k=(int(meta["k"]),),
        resamples=made["resamples"],
        sample_fraction=made["sample_fraction"],
        feature_fraction=made["feature_fraction"],
        seed=made["seed"],
    )
    table = result.to_pandas(columns=[names.SAMPLE_ID, "stratum"])
    there = set(origin.raw.sample_ids())
    labels = {str(one): str(group) for one, group in table.itertuples(index=False) if one in there}
    return Grouping(origin, recipe, spec, wanted, labels), warnings


def _without_files(spec: dict[str, Any]) -> dict[str, Any]:
    """The spec as it can be read again: defaults of one way of choosing features don't belong to another."""
    features = {key: value for key, value in spec["features"].items() if value is not None}
    ways = {"top": ("by",), "association": ("contrast", "max_q", "min_effect"), "list": ("set",)}
    way = next(one for one in ways if one in features)
    kept = {key: value for key, value in features.items() if key in (way, *ways[way])}
    return {key: value for key, value in {**spec, "features": kept}.items() if key != "previous"}
