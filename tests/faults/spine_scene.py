"""The command line as separate processes: a cohort, an undisturbed result, and ways to disturb.

Every process is started here, in a session of its own, and is known by its id: nothing else is ever signalled.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from sjd_dask.runtime.detached import status
from sjd_dask.simulate import Simulation
from sjd_dask.store.cohort import open_cohort
from sjd_dask.store.layout import Layout
from sjd_dask.store.verify import verify

N_SAMPLES, N_FEATURES = 240, 60_000
# Stripes far narrower than a chunk decode it again and again: a second of work on two processors, without sleeping.
WIDTH = 750
RESULT = "associations/ewas@1"
SPEC = f"""\
job: associate
cohort: ./cohort
assay: methylation
quantity: m_value
design: "~ disease + age + sex"
contrasts: ["disease[T.patient]", age]
partition_features: {WIDTH}
output: ewas
"""
# Many small files, so that the moment of a signal may fall between any two of them.
SMALL_LAYOUT = Layout(16, 512)
THREADS = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "RAYON_NUM_THREADS", "NUMBA_NUM_THREADS"), "1")
# Long enough for a machine with much else to do.
PATIENCE = 120.0


def wait_for(condition: Callable[[], Any], what: str, timeout: float = PATIENCE) -> None:
    """Look every few milliseconds until the condition holds."""
    deadline = time.monotonic() + timeout
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"waited {timeout} s in vain for {what}")
        time.sleep(0.003)


# -- processes ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Ended:
    """What a process gave."""

    code: int
    out: str
    err: str

    def json(self) -> dict[str, Any]:
        """Its one JSON object on stdout."""
        return dict(json.loads(self.out))


@dataclass
class Running:
    """A process that was started here. Its output goes to files: a dead one's children would keep a pipe open."""

    process: subprocess.Popen[bytes]
    folder: Path

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def is_running(self) -> bool:
        return self.process.poll() is None

    def signal(self, number: int) -> None:
        if self.is_running:
            os.kill(self.pid, number)

    def kill(self) -> None:
        self.signal(signal.SIGKILL)
        self.process.wait(30)

    def signal_group(self, number: int) -> None:
        """As a terminal does it: every process of the group gets it."""
        os.killpg(self.pid, number)

    def workers(self) -> list[int]:
        """Process ids of the local worker processes of a driver."""
        found = []
        with contextlib.suppress(psutil.Error):
            for child in psutil.Process(self.pid).children(recursive=True):
                with contextlib.suppress(psutil.Error):
                    if "multiprocessing.spawn" in " ".join(child.cmdline()):
                        found.append(child.pid)
        return sorted(found)

    def end(self, timeout: float = PATIENCE) -> Ended:
        code = self.process.wait(timeout)
        return Ended(code, (self.folder / "out").read_text(), (self.folder / "err").read_text())


@contextlib.contextmanager
def standing_still(running: Running) -> Iterator[None]:
    """Hold a process in the middle of its work, as a slow machine would, so that others certainly meet it alive."""
    assert running.is_running
    running.signal(signal.SIGSTOP)
    try:
        yield
    finally:
        running.signal(signal.SIGCONT)


class Processes:
    """Starts processes, and makes sure that none is left."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.started: list[Running] = []

    def start(self, *arguments: object, environment: dict[str, str] | None = None) -> Running:
        """Start a Python process, in a session of its own."""
        place = Path(tempfile.mkdtemp(dir=self.folder))
        with (place / "out").open("wb") as out, (place / "err").open("wb") as err:
            process = subprocess.Popen(
                [sys.executable, *(str(one) for one in arguments)],
                stdin=subprocess.DEVNULL, stdout=out, stderr=err, start_new_session=True,
                env={**os.environ, **(environment or {})},
            )  # fmt: skip
        self.started.append(Running(process, place))
        return self.started[-1]

    def sjd(self, *arguments: object) -> Running:
        """Start the command line."""
        return self.start("-m", "sjd_dask.cli", *arguments)

    def call(self, *arguments: object) -> Ended:
        """The command line, to its end."""
        return self.sjd(*arguments).end()

    def kill_child(self, parent: Running, *pids: int) -> None:
        """SIGKILL of processes that a process started here has started."""
        children = {child.pid for child in psutil.Process(parent.pid).children(recursive=True)}
        for pid in pids:
            assert pid in children
            os.kill(pid, signal.SIGKILL)

    def alive(self) -> list[psutil.Process]:
        """Living processes of the sessions that were started here, children and orphans too."""
        sessions = {one.pid for one in self.started}
        found = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error, ProcessLookupError):
                if os.getsid(process.pid) in sessions and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process)
        return found

    def close(self, patience: float = 20.0) -> list[str]:
        """Wait for all to end; what doesn't is killed, and named."""
        for one in self.started:
            one.process.poll()
        deadline = time.monotonic() + patience
        while (left := self.alive()) and time.monotonic() < deadline:
            time.sleep(0.05)
        named = []
        for process in left:
            with contextlib.suppress(psutil.Error):
                named.append(f"{process.pid}: {' '.join(process.cmdline())[:200]}")
                process.kill()
        for one in self.started:
            one.process.wait(30)
        self.started = []
        return named


class DaskCluster:
    """A scheduler and two workers, each a process of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = Path(tempfile.mkdtemp(dir=folder))
        self.processes = Processes(self.folder)
        file = self.folder / "scheduler.json"
        self.scheduler = self._start("dask_scheduler", "--port", "0", "--no-dashboard", "--scheduler-file", file)
        wait_for(lambda: file.exists() and file.read_text().endswith("}"), "the scheduler")
        self.address: str = json.loads(file.read_text())["address"]
        self.workers = [self.start_worker(), self.start_worker()]

    def _start(self, module: str, *arguments: object) -> Running:
        return self.processes.start("-m", f"distributed.cli.{module}", *arguments, environment=THREADS)

    def start_worker(self) -> Running:
        return self._start("dask_worker", self.address, "--nthreads", "1", "--no-dashboard", "--no-nanny",
                           "--local-directory", self.folder)  # fmt: skip

    def replace_dead(self) -> None:
        self.workers = [one if one.is_running else self.start_worker() for one in self.workers]

    def close(self) -> None:
        for one in (*self.workers, self.scheduler):
            one.kill()
        assert self.processes.close() == []


# -- the cohort and what a run leaves ----------------------------------------------------------------------------------


def make_matrices(folder: Path) -> None:
    """Two halves of a simulated methylation matrix as NPZ, the sample sheet, and a smaller matrix as text."""
    simulation = Simulation(N_SAMPLES, N_FEATURES, seed=5)
    beta = simulation.block("methylation", 0, N_SAMPLES, 0, N_FEATURES).astype(np.float32)
    ids = np.asarray(simulation.sample_ids).astype(str)
    features = simulation.features("methylation")["feature_id"].to_numpy().astype(str)
    half = N_SAMPLES // 2
    for name, rows in (("first", slice(0, half)), ("second", slice(half, None))):
        np.savez(folder / f"{name}.npz", values=beta[rows], features=features, samples=ids[rows])
    simulation.samples().to_csv(folder / "sheet.csv", index_label="sample_id")
    n = 12_000
    with (folder / "small.tsv").open("w") as stream:
        stream.write("feature_id\t" + "\t".join(ids[:half]) + "\n")
        for name, row in zip(features[:n], beta[:half, :n].T.tolist(), strict=True):
            stream.write(f"{name}\t" + "\t".join(f"{value:.5f}" for value in row) + "\n")


@dataclass(frozen=True)
class Template:
    """A cohort to copy, and what undisturbed work on it gives."""

    folder: Path
    result_hash: str
    n_partitions: int
    content_hash: str
    ingest_seconds: float


@dataclass
class Scene:
    """A folder with a cohort, a spec beside it, and the processes that work on it."""

    folder: Path
    processes: Processes
    truth: str = ""
    n_partitions: int = 0

    @property
    def cohort(self) -> Path:
        return self.folder / "cohort"

    @property
    def spec(self) -> Path:
        return self.folder / "ewas.yaml"

    def call(self, *arguments: object) -> Ended:
        return self.processes.call(*arguments)

    def start_run(self, *arguments: object) -> Running:
        """Start `sjd run`; two local workers unless a cluster is named."""
        where = () if "--cluster" in arguments else ("--workers", 2)
        return self.processes.sjd("run", self.spec, *where, *arguments)

    def resume(self, *arguments: object) -> Ended:
        """`sjd resume` of the only run, to its end."""
        where = () if "--cluster" in arguments else ("--workers", 2)
        return self.call("resume", self.cohort, self.run_id(), *where, *arguments)

    # -- seen from outside ---------------------------------------------------------------------------------------------

    @property
    def data(self) -> Path:
        return Path(open_cohort(self.cohort).files.url)

    def run_id(self) -> str:
        (run,) = open_cohort(self.cohort).runs()
        return run.id

    def parts(self, attempt: int | str = "*") -> set[int]:
        """Partitions that left a part."""
        return {int(path.stem) for path in self.data.glob(f"runs/*/{attempt}/parts/[0-9]*.arrow")}

    def settled_parts(self) -> set[int]:
        """The parts, once the last worker of a lost driver is through."""
        seen, since = self.parts(), time.monotonic()
        while time.monotonic() - since < 0.6:
            time.sleep(0.05)
            if (now := self.parts()) != seen:
                seen, since = now, time.monotonic()
        return seen

    def wait_for_parts(self, n: int, running: Running) -> None:
        folder = self.data
        wait_for(
            lambda: not running.is_running or sum(1 for _ in folder.glob("runs/*/*/parts/[0-9]*.arrow")) >= n,
            f"{n} parts",
        )

    def wait_for_moment(self, seed: int, running: Running, least: int = 1, most: int | None = None) -> None:
        """Wait for a seeded moment of a run: so many parts, and a little more."""
        draw = random.Random(seed)
        aim = draw.randint(least, self.n_partitions * 3 // 4 if most is None else most)
        pause = draw.random() * 0.05
        if aim == 0:
            wait_for(lambda: open_cohort(self.cohort).runs() or not running.is_running, "the claim")
            pause = draw.random() * 2.5
        else:
            self.wait_for_parts(aim, running)
        time.sleep(pause)

    # -- checks --------------------------------------------------------------------------------------------------------

    def check_nothing_published(self, state: str = "interrupted", by_command: bool = False) -> None:
        """No result is visible, and the run says that it can be resumed. `by_command`: as `sjd` says it."""
        if by_command:
            results = self.call("info", self.cohort, "--json").json()["results"]
        else:
            results = open_cohort(self.cohort).info()["results"]
        (run,) = [status(open_cohort(self.cohort), one.id) for one in open_cohort(self.cohort).runs()]
        assert results == []
        assert (run["state"], run["message"] != "") == (state, True)

    def check_published(self, reused: set[int] | None = None, by_command: bool = False) -> None:
        """The one result is the undisturbed one, bit for bit; only what was missing was computed; all hashes agree."""
        cohort = open_cohort(self.cohort)
        (result,) = cohort.results()
        assert result.ref == RESULT
        assert result.file().hash == self.truth
        assert result.meta["run"]["tasks"] == self.n_partitions
        if reused is not None:
            assert result.meta["run"]["reused"] == len(reused)
            (run,) = cohort.runs()
            assert self.parts(run.attempt) == set(range(self.n_partitions)) - reused
        if by_command:
            verified = self.call("verify", self.cohort)
            assert verified.code == 0, verified.err
        else:
            verify(cohort)


@contextlib.contextmanager
def tmpfs(folder: Path, megabytes: int) -> Iterator[Path]:
    """A small file system of its own, or OSError where this user may not mount one."""
    folder.mkdir()
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "tmpfs", str(folder)], capture_output=True, text=True
    )
    if done.returncode:
        raise OSError(done.stderr.strip())
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True, capture_output=True)


def free_bytes(folder: Path) -> int:
    return shutil.disk_usage(folder).free


def fill(folder: Path, leave: int) -> Path:
    """Put a file there that leaves so many bytes free."""
    ballast = folder / "ballast"
    with ballast.open("wb") as stream:
        while (left := free_bytes(folder) - leave) > 0:
            stream.write(b"\1" * min(left, 1 << 20))
            stream.flush()
    return ballast
