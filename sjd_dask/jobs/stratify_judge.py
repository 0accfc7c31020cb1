"""The consensus of each algorithm and k, judged on the cluster: its matrix exists in a task and nowhere else."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from sjd_dask.jobs.arrays_table import from_table, to_table
from sjd_dask.jobs.normalise_reference import Phases
from sjd_dask.kernels.linkage import MOST_SQUARE
from sjd_dask.runtime.plan import Partition
from sjd_dask.stratify.choose import Judge, Judged, judge_rounds
from sjd_dask.stratify.consensus import support_of_rows


@dataclass(frozen=True)
class JudgeWork:
    """What the tasks share.

    Attributes
    ----------
    labels : ndarray of int8 (R, n_algorithms, n_k, n)
        Samples in the order of their ids.
    sizes : tuple of int (n_k,)
    """

    labels: NDArray[np.int8]
    sizes: tuple[int, ...]


def judge_task(work: JudgeWork, partition: Partition) -> pa.Table:
    """One consensus: its groups, curves and stability."""
    algorithms, j = partition.extras["algorithms"], partition.extras["k"]
    judged = judge_rounds(np.ascontiguousarray(work.labels[:, algorithms, j]), work.sizes[j])
    arrays = {name: np.asarray(value) for name, value in judged.curves.items()}
    return to_table({"curves": arrays, "judged": {"groups": judged.groups, "stability": np.array(judged.stability)}})


def cluster_judge(phases: Phases, labels: NDArray[np.int8], sizes: tuple[int, ...]) -> Judge:
    """`judge_rounds` for several consensuses at a time, each by a task.

    Parameters
    ----------
    phases : Phases
    labels : ndarray of int8 (R, n_algorithms, n_k, n)
        Samples in the order of their ids.
    sizes : tuple of int (n_k,)
    """
    work = JudgeWork(labels, sizes)
    token = hashlib.blake2b(np.ascontiguousarray(labels).tobytes(), digest_size=16).hexdigest()

    def judge(wanted: Sequence[tuple[tuple[int, ...], int]]) -> list[Judged]:
        partitions = [
            Partition(i, 0, 0, {"phase": "judge", "algorithms": list(some), "k": j, "labels": token})
            for i, (some, j) in enumerate(wanted)
        ]
        return [_judged(part) for part in phases.run(judge_task, work, partitions)]

    return judge


def _judged(part: pa.Table) -> Judged:
    arrays = from_table(part)
    curves = {name: float(value[0]) if value.size == 1 else value for name, value in arrays["curves"].items()}
    return Judged(arrays["judged"]["groups"], curves, float(arrays["judged"]["stability"][0]))


@dataclass(frozen=True)
class SupportWork:
    """What the tasks that average the consensus share.

    Attributes
    ----------
    labels : ndarray of int8 (R, n_algorithms, n)
        At the chosen k.
    groups : ndarray of int64 (n,)
    k : int
    """

    labels: NDArray[np.int8]
    groups: NDArray[np.int64]
    k: int


def support_task(work: SupportWork, partition: Partition) -> pa.Table:
    """Mean consensus of some samples with every group."""
    return to_table({"rows": {"means": support_of_rows(work.labels, work.groups, work.k, *partition.extras["rows"])}})


def mean_support(phases: Phases, labels: NDArray[np.int8], groups: NDArray[np.int64], k: int) -> NDArray[np.float64]:
    """`mean_with_groups` of the mean consensus of the algorithms, without its matrix, (n, k)."""
    n = labels.shape[-1]
    width = max(256, -(-n // 64))
    token = hashlib.blake2b(np.ascontiguousarray(labels).tobytes() + groups.tobytes(), digest_size=16).hexdigest()
    partitions = [
        Partition(i, 0, 0, {"phase": "support", "rows": [start, min(n, start + width)], "labels": token})
        for i, start in enumerate(range(0, n, width))
    ]
    parts = phases.run(support_task, SupportWork(labels, groups, k), partitions)
    return np.concatenate([from_table(part)["rows"]["means"] for part in parts])


def judge_bytes(n: int, labels: int, largest: int) -> int:
    """Peak bytes of a task, the process not counted.

    Parameters
    ----------
    n : int
        Samples.
    labels : int
        Bytes of all labels, which each worker holds.
    largest : int
        Bytes of the labels of one k.
    """
    # The triangle, and what the tree is made in: squares of few samples, a copy of the triangle of many.
    return labels + 3 * largest + (20 if n <= MOST_SQUARE else 8) * n * n + (32 << 20)
