"""The version whose names groups keep: by samples, by persons, or by mean profiles where neither is shared."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from sjd_dask import names
from sjd_dask.errors import DataError, SpecError
from sjd_dask.stratify.centroids import nearest_centroid

if TYPE_CHECKING:
    from sjd_dask.jobs.stratify_spec import StratifySpec
    from sjd_dask.store.cohort import Cohort

CENTROIDS = "centroids"


@dataclass(frozen=True)
class Previous:
    """Labels that groups are matched to.

    Attributes
    ----------
    ref : str
        The version they are of.
    labels : dict
        Sample -> group there, of the samples (or, by persons, of samples of the persons) of both.
    by : str
        samples, persons or centroids.
    centroids : DataFrame or None
        Mean profiles of the groups there, where neither samples nor persons are shared.
    """

    ref: str
    labels: dict[str, str]
    by: str = "samples"
    centroids: pd.DataFrame | None = None

    def labels_of(
        self, sample_ids: NDArray[Any], feature_ids: NDArray[Any], values: NDArray[np.float64]
    ) -> dict[str, str]:
        """Labels to match by: those known, or of each sample the group there whose profile is nearest.

        Raises
        ------
        DataError
            By profiles, and fewer than two features are shared.
        """
        if self.centroids is None:
            return self.labels
        near = nearest_centroid(self.centroids, feature_ids, values)
        return {str(sample): str(group) for sample, group in zip(sample_ids, near, strict=True)}


def previous_labels(
    spec: StratifySpec, cohort: Cohort, frame: pd.DataFrame, features: NDArray[Any] | None = None
) -> Previous | None:
    """Labels of the version that `previous` names, for the samples of this run.

    With `person` a sample takes the label that most samples of its person have there.

    Parameters
    ----------
    spec : StratifySpec
    cohort : Cohort
    frame : DataFrame
        Sample columns of the samples of this run.
    features : ndarray, optional
        The features that may make the groups; given, profiles are compared where nothing else is shared.

    Raises
    ------
    SpecError
        It is no grouping.
    DataError
        It shares no sample (or person) with this run, nor features of its profiles.
    """
    if spec.previous is None:
        return None
    result = cohort.result(spec.previous)
    if result.kind != names.STRATA:
        raise SpecError(f"`previous: {spec.previous}` is not a grouping: write strata/NAME@version")
    there = result.to_pandas(columns=[names.SAMPLE_ID, "stratum"]).set_index(names.SAMPLE_ID)["stratum"]
    if spec.person is None:
        labels = {one: str(there[one]) for one in frame.index if one in there.index}
        what = "sample"
    else:
        persons = cohort.samples()[spec.person].reindex(there.index)
        known = pd.DataFrame({"person": persons, "stratum": there}).dropna()
        counts = known.groupby(["person", "stratum"]).size().reset_index(name="n")
        # The most frequent; of equals the first by name.
        best = counts.sort_values(["person", "n", "stratum"], ascending=[True, False, True], kind="stable")
        of = best.drop_duplicates("person").set_index("person")["stratum"]
        labels = {one: str(of[person]) for one, person in frame[spec.person].items() if person in of.index}
        what = "person"
    if labels:
        return Previous(result.ref, labels, f"{what}s")
    also = ""
    if features is not None and CENTROIDS in result.tables:
        centroids = result.to_pandas(CENTROIDS)
        shared = int(centroids[names.FEATURE_ID].isin(features).sum())
        if shared >= 2:
            return Previous(result.ref, {}, CENTROIDS, centroids)
        also = f", and {shared} of the {len(centroids):,} features of its profiles"
    raise DataError(
        f"{result.ref} shares no {what} with this run{also}, so its names can't be kept: leave `previous` out"
        + ("" if spec.person else ", or name the sample column of the `person`")
    )
