"""What the workers of the scene compute. Light: every worker process imports it."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from sjd_dask.runtime.plan import Partition

N_FEATURES = 120


def block_sums(common: dict[str, Any], partition: Partition) -> pa.Table:
    """Sums of random numbers keyed by seed and feature; may die on the way as `common` says."""
    deadly = common.get("deadly", {}).get(partition.index)
    if deadly is not None:
        mark = Path(deadly)
        if str(deadly) == "always" or not mark.exists():
            if str(deadly) != "always":
                mark.touch()
            time.sleep(0.05)  # let the worker say that it began
            os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(common["seconds"])
    features = range(partition.feature_start, partition.feature_stop)
    sums = [float(np.random.default_rng([common["seed"], feature]).normal(size=100).sum()) for feature in features]
    return pa.table({"feature_id": [f"f{feature}" for feature in features], "total": sums})


def truth() -> pa.Table:
    return block_sums({"seconds": 0, "seed": 1}, Partition(0, 0, N_FEATURES))
