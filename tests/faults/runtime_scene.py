"""A small job with sums over generated blocks, as a driver that can be started, watched and killed.

Run as a script: `python runtime_scene.py COHORT CLUSTER SECONDS` works on the run and prints one JSON line; its exit
code is that of the command line.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from sjd_dask.errors import SjdError
from sjd_dask.runtime.cluster import Cluster, open_cluster
from sjd_dask.runtime.events import Listener
from sjd_dask.runtime.execute import ExecutionReport, run_partitions
from sjd_dask.runtime.fingerprint import fingerprint
from sjd_dask.runtime.plan import Partition, Plan, feature_partitions
from sjd_dask.runtime.runs import RunSession
from sjd_dask.store.cohort import Cohort, open_cohort

N_FEATURES = 120
PARTITIONS = feature_partitions(N_FEATURES, 4)
SPEC = {"job": "scene", "n_features": N_FEATURES}
OUTPUT = "sums"


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


def session_of(cohort: Cohort, on_event: Listener | None = None, **more: Any) -> RunSession:
    return RunSession(cohort, fingerprint(SPEC), SPEC, "scene", OUTPUT, on_event=on_event, **more)


def drive(
    cohort: Cohort,
    cluster: Cluster | Callable[[], Cluster],
    seconds: float,
    on_event: Listener | None = None,
    **common: Any,
) -> tuple[RunSession, ExecutionReport | None]:
    """Claim, compute, publish: what a job does."""
    with session_of(cohort, on_event) as session:
        if session.state == "published":
            return session, None
        if not isinstance(cluster, Cluster):
            cluster = cluster()
        previous = session.previous_plan()
        partitions = previous.partitions if previous else PARTITIONS
        session.save_plan(
            Plan("scene", OUTPUT, partitions, 0, 0, 10**8, 0, cluster.n_workers, cluster.memory_per_worker)
        )
        report = run_partitions(
            cluster, block_sums, {"seed": 1, "seconds": seconds, **common}, partitions, session.parts,
            on_event=session.tell, should_stop=session.should_stop, worker_timeout=60,
        )  # fmt: skip
        table = pa.concat_tables(list(session.parts.tables(partitions)))
        session.check()
        result = cohort.publish_result(
            "associations", OUTPUT, {"table": table}, {}, run_id=session.run_id, epoch=session.epoch
        )
        session.finish([result.ref])
        return session, report


def main() -> int:
    path, cluster, seconds = sys.argv[1:4]
    try:
        cohort = open_cohort(path)
        opened: list[Cluster] = []

        def opening() -> Cluster:
            opened.append(open_cluster(cluster, workers=2 if cluster == "local" else None))
            return opened[0]

        try:
            session, report = drive(cohort, opening, float(seconds))
        finally:
            for item in opened:
                item.close()
    except SjdError as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return error.exit_code
    print(json.dumps({"run": session.run_id, "published": session.published, "n_run": report.n_run if report else 0}))
    return 0


# -- watching a driver from outside
# ---------------------------------------------------------------------------------------


def environment() -> dict[str, str]:
    """So that separate processes find this module."""
    return {**os.environ, "PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])}


def start_driver(cohort: Cohort, cluster: str = "local", seconds: float = 0.1, **more: Any) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, __file__, cohort.path, cluster, str(seconds)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment(), **more,
    )  # fmt: skip


def n_parts(cohort: Cohort) -> int:
    return len(list(Path(cohort.path).glob("runs/*/*/parts/[0-9]*.arrow")))


def wait_for(condition: Callable[[], bool], what: str, timeout: float = 90.0) -> None:
    deadline = time.monotonic() + timeout
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"waited {timeout} s in vain for {what}")
        time.sleep(0.02)


def wait_for_moment(cohort: Cohort, seed: int) -> int:
    """Wait for a seeded moment in the middle of a run; returns the number of parts then."""
    draw = random.Random(seed)
    aim, pause = draw.randint(1, len(PARTITIONS) // 2), draw.random() * 0.15
    wait_for(lambda: n_parts(cohort) >= aim, f"{aim} parts")
    time.sleep(pause)
    return n_parts(cohort)


class SeparateCluster:
    """A scheduler and two workers, each a process of its own."""

    def __init__(self, folder: Path) -> None:
        file = folder / "scheduler.json"
        self._log = (folder / "cluster.log").open("wb")
        self.scheduler = self._start("dask_scheduler", "--port", "0", "--no-dashboard", "--scheduler-file", str(file))
        wait_for(file.exists, "the scheduler", 60)
        self.address: str = json.loads(file.read_text())["address"]
        self.workers = [
            self._start("dask_worker", self.address, "--nthreads", "1", "--no-dashboard", "--no-nanny",
                        "--local-directory", str(folder), "--death-timeout", "60")
            for _ in range(2)
        ]  # fmt: skip

    def _start(self, module: str, *arguments: str) -> subprocess.Popen[bytes]:
        threads = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "RAYON_NUM_THREADS"), "1")
        return subprocess.Popen(
            [sys.executable, "-m", f"distributed.cli.{module}", *arguments],
            env={**environment(), **threads}, stdout=self._log, stderr=self._log,
        )  # fmt: skip

    def close(self) -> None:
        for process in (*self.workers, self.scheduler):
            process.kill()
            process.wait()
        self._log.close()


if __name__ == "__main__":
    sys.exit(main())
