"""Layers for tests: run a normalisation, read what it published, and how far it is from another program's numbers."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from sjd_dask import names
from sjd_dask.jobs.driver import Outcome, run_spec
from sjd_dask.jobs.spec import parse_spec


@dataclass(frozen=True)
class Normalised:
    """A published layer, features x samples as R has them, and its quality table by sample."""

    values: pd.DataFrame
    quality: pd.DataFrame
    meta: dict[str, Any]
    outcome: Outcome

    def error(self, wanted: pd.DataFrame) -> float:
        """See `error_of`; features and samples are matched by id."""
        assert set(wanted.columns) == set(self.values.columns)
        return error_of(self.values.loc[list(wanted.index), list(wanted.columns)], wanted)


def normalise(cohort: Path, cluster: Any, output: str, steps: list[Any] | None = None, **keys: Any) -> Normalised:
    """Run `job: normalise` and read the layer."""
    keys = {"job": "normalise", "cohort": str(cohort), "output": output, **keys}
    if steps is not None:
        keys["steps"] = steps
    outcome = run_spec(parse_spec(keys, "spec"), Path(), cluster=cluster, quiet=True)
    return read_layer(outcome)


def read_layer(outcome: Outcome) -> Normalised:
    """What a run published: the layer as it is stored, and the quality table."""
    cohort = outcome.cohort
    refs = {ref.split("/")[0]: ref for ref in outcome.results}
    layer = cohort.layer(refs["layers"])
    quality = cohort.result(refs["qc"])
    return Normalised(layer_frame(layer), quality.to_pandas().set_index(names.SAMPLE_ID), quality.meta, outcome)


def layer_frame(layer: Any) -> pd.DataFrame:
    """A layer as stored, features x samples."""
    data = layer.to_xarray()[layer.layer]
    return pd.DataFrame(
        data.to_numpy().T, index=data[names.FEATURE_ID].to_numpy(), columns=data[names.SAMPLE_ID].to_numpy()
    )


def error_of(found: Any, wanted: Any) -> float:
    """Largest difference over max(|value|, SD of the feature); infinite where only one side is missing.

    Features are in rows.
    """
    a: NDArray[np.float64] = np.asarray(found, np.float64)
    b: NDArray[np.float64] = np.asarray(wanted, np.float64)
    assert a.shape == b.shape
    if not np.array_equal(np.isnan(a), np.isnan(b)):
        return np.inf
    there = ~np.isnan(b)
    n = np.maximum(there.sum(axis=1, keepdims=True), 1)
    centre = np.where(there, b, 0.0).sum(axis=1, keepdims=True) / n
    spread = np.sqrt((np.where(there, b - centre, 0.0) ** 2).sum(axis=1, keepdims=True) / np.maximum(n - 1, 1))
    difference = np.where(there, np.abs(a - b), 0.0)
    scale = np.maximum(np.where(there, np.abs(b), 0.0), spread)
    return float(np.divide(difference, scale, out=np.where(difference > 0, np.inf, 0.0), where=scale > 0).max())
