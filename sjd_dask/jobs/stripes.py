"""Stripes of features as partitions, and the parts of them put together again."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from sjd_dask.errors import DataError
from sjd_dask.runtime.plan import Partition, feature_partitions


def stripes(n_features: int, width: int, chunk: int) -> list[Partition]:
    """Stripes whose borders are those of chunks; narrower ones are parts of one chunk each, so none reads two."""
    if width >= chunk:
        return feature_partitions(n_features, width, multiple_of=chunk)
    found: list[Partition] = []
    for start in range(0, n_features, chunk):
        for part in feature_partitions(min(chunk, n_features - start), width):
            found.append(Partition(len(found), start + part.feature_start, start + part.feature_stop))
    return found


def gather(parts: Any, n_features: int) -> dict[str, NDArray[Any]]:
    """The columns of all parts, features in order, each written once into its place."""
    whole: dict[str, NDArray[Any]] = {}
    at = 0
    for part in parts:
        for name in part.column_names:
            values = part[name].to_numpy()
            if name not in whole:
                whole[name] = np.empty(n_features, dtype=values.dtype)
            whole[name][at : at + len(values)] = values
        at += part.num_rows
    if at != n_features:
        raise DataError(f"the parts hold {at:,} features and the assay {n_features:,}")
    return whole
