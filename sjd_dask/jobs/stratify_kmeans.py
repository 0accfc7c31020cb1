"""k-means over all samples on the cluster: another opinion beside the groups that landmarks made."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from sjd_dask.jobs.arrays_table import from_table, to_table
from sjd_dask.jobs.normalise_reference import Phases
from sjd_dask.jobs.normalise_source import Source
from sjd_dask.jobs.stratify_ranges import chosen_values, place_ranges
from sjd_dask.runtime.plan import Partition
from sjd_dask.stratify.kmeans import Arrays, KMeans, Seeding, kmeans, label_pass

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class PassWork:
    """What the tasks of one pass share."""

    source: Source
    index: NDArray[np.int64]
    function: Callable[[Floats, Sequence[str], Any], Arrays]
    common: Any


def pass_task(work: PassWork, partition: Partition) -> pa.Table:
    """One range of samples in one pass."""
    start, stop = partition.extras["samples"]
    values = chosen_values(work.source, work.index, start, stop)
    return to_table({"pass": work.function(values, work.source.reader.sample_ids[start:stop], work.common)})


def cluster_kmeans(
    phases: Phases, source: Source, index: NDArray[np.int64], first: Floats, k: int, seed: int
) -> tuple[KMeans, NDArray[np.int8]]:
    """k-means of the chosen features of all samples.

    Parameters
    ----------
    phases : Phases
    source : Source
        Samples in the order of storage.
    index : ndarray of int64 (p,)
        Places of the chosen features.
    first : ndarray (p,)
        The first centre.
    k, seed : int

    Returns
    -------
    found : KMeans
    labels : ndarray of int8 (n,)
        In the order of storage.
    """
    reader = source.reader
    ranges = place_ranges(reader.n_samples, reader.chunk_samples)

    def run(function: Callable[[Floats, Sequence[str], Any], Arrays], common: Any) -> list[Arrays]:
        extras = {"phase": function.__name__, "common": _token(common)}
        partitions = [
            Partition(i, 0, reader.n_features, {**extras, "samples": list(one)}) for i, one in enumerate(ranges)
        ]
        parts = phases.run(pass_task, PassWork(source, index, function, common), partitions)
        return [from_table(part)["pass"] for part in parts]

    found = kmeans(run, first, k, seed)
    return found, np.concatenate([part["labels"] for part in run(label_pass, found.centres)])


def _token(common: Any) -> str:
    """Names what a pass knows: parts of another aren't taken for these."""
    if isinstance(common, Seeding):
        return f"{_token(common.centres)}-{common.wanted}-{common.seed}-{common.round}"
    return hashlib.blake2b(np.ascontiguousarray(common).tobytes(), digest_size=16).hexdigest()
