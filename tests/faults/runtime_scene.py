"""A small job, and how to watch and disturb it from outside."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
from runtime_block import N_FEATURES, block_sums

from sjd_dask.runtime.cluster import Cluster
from sjd_dask.runtime.events import Listener
from sjd_dask.runtime.execute import ExecutionReport, run_partitions
from sjd_dask.runtime.fingerprint import fingerprint
from sjd_dask.runtime.plan import Plan, feature_partitions
from sjd_dask.runtime.runs import RunSession
from sjd_dask.store.cohort import Cohort

PARTITIONS = feature_partitions(N_FEATURES, 4)
SPEC = {"job": "scene", "n_features": N_FEATURES}
OUTPUT = "sums"
WORKER_TIMEOUT = 60.0


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
            on_event=session.tell, should_stop=session.should_stop, worker_timeout=WORKER_TIMEOUT,
        )  # fmt: skip
        table = pa.concat_tables(list(session.parts.tables(partitions)))
        session.check()
        result = cohort.publish_result(
            "associations", OUTPUT, {"table": table}, {}, run_id=session.run_id, epoch=session.epoch
        )
        session.finish([result.ref])
        return session, report


# -- watching a driver from outside
# ---------------------------------------------------------------------------------------


def environment() -> dict[str, str]:
    """So that separate processes find this module."""
    return {**os.environ, "PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])}


def start_driver(cohort: Cohort, cluster: str = "local", seconds: float = 0.1, **more: Any) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, str(Path(__file__).with_name("runtime_driver.py")), cohort.path, cluster, str(seconds)],
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
