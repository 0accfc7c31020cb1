"""What a training will read, hold, write and take, said before it starts."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from sjd_dask.jobs.normalise_plan import BLOCKS_HELD, METHODS_BYTES
from sjd_dask.jobs.normalise_reference import COLUMN_STRIPE_BYTES, sample_ranges
from sjd_dask.jobs.normalise_source import GROUP_BYTES
from sjd_dask.jobs.train_groups import TASKS
from sjd_dask.runtime.plan import PROCESS_BYTES, Partition, Plan, size

if TYPE_CHECKING:
    from sjd_dask.jobs.train import TrainJob

# scikit-learn and its machine code.
LIBRARY_BYTES = 120 << 20
# Copies of the values at hand that exist at a time: as they came, in order of ids, an inner part, what it becomes when
# scaled, and what variances and covariances are made of. Measured: 6.
FIT_COPIES = 7
# Copies of a stripe: as stored, decoded, a training set of it, and what is summed.
STRIPE_COPIES = 5


def most_features(job: TrainJob) -> int:
    """Most features that a fit can come to hold: those of the final training set and of every inner one, and sentinels.

    The inner sets share most of theirs, so it is far less as a rule.
    """
    recipe = job.recipe
    beside = 2 * (recipe.sentinels + recipe.sizes[-1]) + recipe.sentinels
    return min(job.origin.named.assay.n_features, (recipe.inner + 1) * recipe.prefilter + beside)


def sizes_text(sizes: tuple[int, ...]) -> str:
    """The sizes of panel that are tried."""
    *first, last = (f"{one:,}" for one in sizes)
    return f"{', '.join(first)} or {last} features" if first else last


def make_plan(job: TrainJob, n_workers: int, memory_per_worker: int) -> Plan:
    """The plan of a prepared job. The passes of a fold's normalisation are counted one for each step."""
    assay = job.origin.named.assay
    n, p = len(job.labelled.frame), assay.n_features
    chain = job.origin.chain if job.spec.refit else None
    reader = assay.reader(list(job.labelled.frame.index))
    n_folds, held = job.spec.repeats * job.spec.folds.outer, most_features(job)
    width = max(1, min(p, COLUMN_STRIPE_BYTES // (8 * n)))
    stripes = [(start, min(p, start + width)) for start in range(0, p, width)]
    passes = (len(chain.steps) + 1) if chain else 0
    raw = job.origin.raw
    ranges = sample_ranges(n, raw.n_features, raw.reader().chunk_samples) if passes else []
    rounds = TASKS if job.grouping and job.spec.refit else 0
    partitions = [
        *(Partition(i, *one) for i, one in enumerate(stripes * (n_folds + 1))),
        *(Partition(i, 0, p, {"samples": list(one)}) for i, one in enumerate(ranges * (passes * n_folds))),
        *(Partition(i, 0, job.grouping.n_chosen if job.grouping else 0) for i in range(rounds * n_folds)),
        *(Partition(i, 0, held) for i in range(n_folds + 1)),
    ]
    block = 24 << 20
    judging = STRIPE_COPIES * n * width * 8
    writing = GROUP_BYTES + BLOCKS_HELD * max(block, raw.n_features * 8) + raw.n_features * 64 * 8 if passes else 0
    fitting = FIT_COPIES * n * held * 8 + 2 * max(block, 64 * p * reader.dtype.itemsize)
    grouping = 0
    if rounds and job.grouping is not None:
        m = len(job.grouping.labels)
        grouping = 3 * m * job.grouping.n_chosen * 8 + 4 * 8 * m * m
    parameters = 2 * p * 8 * (len(chain.steps) + 2) if chain else 0
    task = PROCESS_BYTES + METHODS_BYTES + LIBRARY_BYTES + max(judging, writing, fitting, grouping) + parameters
    staged = n * p * 8 * n_folds if chain else 0
    n_views = job.recipe.inner + 2
    notes = [
        f"{n_folds} outer folds of persons and the final model, each with {job.recipe.inner} inner folds: "
        f"{n_folds + 1} fits",
        f"a fit holds {n:,} samples x at most {held:,} features ({size(n * held * 8)}); panels of at most "
        f"{sizes_text(job.recipe.sizes)} are chosen in every inner fold",
    ]
    if staged:
        notes.append(f"normalised copies for the folds take up to {size(staged)} on disk until the run ends")
    if not job.refits:
        notes.append("nothing but panel and model is fitted again in the folds")
    return Plan(
        job="train",
        output=f"{job.kind}/{job.spec.output}",
        partitions=partitions,
        bytes_in=reader.n_bytes * 2 * (n_folds + 1) + raw.n_features * n * 8 * passes * n_folds,
        bytes_out=staged + n * (n_folds + 1) * 8 * 64,
        peak_bytes_per_task=int(task),
        driver_bytes=(320 << 20) + n_views * p * 8 * 3 + parameters * 2 + _consensus_bytes(job),
        notes=notes,
        n_workers=n_workers,
        memory_per_worker=memory_per_worker,
    )


def _consensus_bytes(job: TrainJob) -> int:
    """What the driver holds while it makes the groups of one fold."""
    if job.grouping is None or not job.spec.refit:
        return 0
    m, recipe = len(job.grouping.labels), job.grouping.recipe
    return int(4 * m * job.grouping.n_chosen * 8 + np.int64(4 * 4 + 8) * m * m + 2 * recipe.resamples * 4 * m)
