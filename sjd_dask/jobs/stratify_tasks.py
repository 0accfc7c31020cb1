"""What workers do for a grouping: rounds of resamples, draws without groups. Imported by workers; kept light."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from sjd_dask.jobs.arrays_table import to_table
from sjd_dask.runtime.plan import Partition
from sjd_dask.stratify.null import Components, components_of, null_statistics
from sjd_dask.stratify.recipe import Recipe
from sjd_dask.stratify.resampling import Resampling


@dataclass(frozen=True)
class GroupingWork:
    """What the tasks of resamples and of draws without groups share.

    Attributes
    ----------
    values : ndarray of float64 (n, p)
    sample_ids : tuple of str
    recipe : Recipe
    """

    values: NDArray[np.float64]
    sample_ids: tuple[str, ...]
    recipe: Recipe

    @cached_property
    def resampling(self) -> Resampling:
        """The samples made ready, once in a process for all its tasks."""
        return Resampling(self.values, self.sample_ids, self.recipe)

    @cached_property
    def components(self) -> Components:
        """What all draws without groups share, once in a process too."""
        return components_of(self.values, self.sample_ids, self.recipe)

    @cached_property
    def token(self) -> str:
        """Hash of the values: parts of others aren't taken for these."""
        return hashlib.blake2b(np.ascontiguousarray(self.values).tobytes(), digest_size=16).hexdigest()


def null_task(work: GroupingWork, partition: Partition) -> pa.Table:
    """How far apart groups are that are found in some draws without groups."""
    start, stop = partition.extras["draws"]
    inertia = null_statistics(work.values, work.sample_ids, work.recipe, start, stop, work.components)
    return to_table({"null": {"inertia": inertia}})


def resample_task(work: GroupingWork, partition: Partition) -> pa.Table:
    """Labels of some rounds."""
    start, stop = partition.extras["rounds"]
    return to_table({"labels": {"labels": work.resampling.labels(start, stop)}})
