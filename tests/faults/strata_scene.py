"""A cohort whose groups take a few seconds of resamples, and ways to see from outside how far a run is."""

from __future__ import annotations

import json
import random
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa
from spine_scene import Ended, Processes, Running, wait_for

from sjd_dask.runtime.detached import status
from sjd_dask.store.cohort import create_cohort, open_cohort
from sjd_dask.store.ingest import ingest
from sjd_dask.store.verify import verify

GROUPS = 3
# What is grouped: by all pairs, or by landmarks, with enough samples that several tasks place them.
KINDS = {
    "exact": (320, 150, "features: {top: 120}\nresamples: {n: 640}"),
    "landmarks": (12_500, 40, "features: {top: 30}\nresamples: {n: 40}\nconsensus: landmarks\nlandmarks: 150"),
}
SPEC = """\
job: stratify
cohort: ./cohort
assay: rna
k: [1, 4]
output: groups
"""
RESULT = "strata/groups@1"


def make_cohort(folder: Path, kind: str) -> None:
    """Three planted groups of one assay, in two segments."""
    rng = np.random.default_rng(11)
    n, p, _ = KINDS[kind]
    values = rng.normal(6, 1, (n, p))
    own = p // (GROUPS + 1)
    for k in range(GROUPS):
        values[k::GROUPS, own * k : own * (k + 1)] += 1.5
    cohort = create_cohort(folder / "cohort")
    ids, features = np.array([f"S{i:05d}" for i in range(n)]), np.array([f"g{i:03d}" for i in range(p)])
    for name, rows in (("first", slice(0, n // 2)), ("second", slice(n // 2, n))):
        np.savez(folder / f"{name}.npz", values=values[rows], features=features, samples=ids[rows])
        ingest(cohort, "rna", folder / f"{name}.npz", quantity="expression")


def phase_of(path: Path) -> str:
    """The phase of a part, as its partition says."""
    with pa.ipc.open_file(pa.BufferReader(path.read_bytes()[:-48])) as opened:
        metadata = opened.schema.metadata
    return str(json.loads(metadata[b"sjd_partition"])["extras"]["phase"])


@dataclass
class StrataScene:
    """A folder with a cohort and a spec, and the processes that work on it."""

    folder: Path
    processes: Processes
    kind: str
    hashes: dict[str, str] = field(default_factory=dict)
    tasks: Counter[str] = field(default_factory=Counter)

    @property
    def cohort(self) -> Path:
        return self.folder / "cohort"

    @property
    def spec(self) -> Path:
        return self.folder / "groups.yaml"

    def write_spec(self) -> None:
        self.spec.write_text(f"{SPEC}{KINDS[self.kind][2]}\n")

    def start_run(self, *arguments: object) -> Running:
        where = () if "--cluster" in arguments else ("--workers", 2)
        return self.processes.sjd("run", self.spec, *where, *arguments)

    def run_id(self) -> str:
        (run,) = open_cohort(self.cohort).runs()
        return run.id

    def start_resume(self, *arguments: object) -> Running:
        where = () if "--cluster" in arguments else ("--workers", 2)
        return self.processes.sjd("resume", self.cohort, self.run_id(), *where, *arguments)

    def call(self, *arguments: object) -> Ended:
        return self.processes.call(*arguments)

    # -- moments -------------------------------------------------------------------------------------------------------

    def parts(self, attempt: int | str = "*") -> dict[int, str]:
        """Parts that are there, and the phase of each."""
        found = self.cohort.glob(f"runs/*/{attempt}/parts/[0-9]*.arrow")
        return {int(path.stem): phase_of(path) for path in found}

    def settled_parts(self) -> dict[int, str]:
        """The parts, once the last worker of a lost driver is through."""
        seen, since = self.parts(), time.monotonic()
        while time.monotonic() - since < 1.0:
            time.sleep(0.05)
            if (now := self.parts()) != seen:
                seen, since = now, time.monotonic()
        return seen

    def wait_for_phase(self, phase: str, running: Running, least: int = 1) -> None:
        """So many parts of a phase; `publish`: all parts of the run."""
        known: dict[str, str] = {}

        def seen() -> bool:
            for path in self.cohort.glob("runs/*/*/parts/[0-9]*.arrow"):
                if path.name not in known:
                    known[path.name] = phase_of(path)
            if phase == "publish":
                return len(known) >= self.tasks.total()
            return Counter(known.values())[phase] >= least

        wait_for(lambda: not running.is_running or seen(), f"the phase {phase}")

    def wait_for_moment(self, phase: str, seed: int, running: Running) -> None:
        """A seeded moment within a phase, or between the last part and the end."""
        draw = random.Random(seed)
        self.wait_for_phase(phase, running, draw.randint(1, max(1, self.tasks[phase] * 3 // 4)))
        time.sleep(draw.random() * (0.5 if phase == "publish" else 0.05))

    # -- checks --------------------------------------------------------------------------------------------------------

    def table_hashes(self) -> dict[str, str]:
        result = open_cohort(self.cohort).result(RESULT)
        return {name: result.file(name).hash for name in result.tables}

    def check_nothing_visible(self, state: str = "interrupted") -> None:
        cohort = open_cohort(self.cohort)
        assert cohort.results() == []
        assert [status(cohort, one.id)["state"] for one in cohort.runs()] == [state]

    def check_published(self, done: Ended, reused: int | None = None) -> None:
        """The undisturbed groups, bit for bit in every table; `reused`: so many parts were not computed again."""
        assert (done.code, done.out) == (0, f"{RESULT}\n"), done.err
        cohort = open_cohort(self.cohort)
        assert [one.ref for one in cohort.results()] == [RESULT]
        found = self.table_hashes()
        assert {name for name in self.hashes if found.get(name) != self.hashes[name]} == set()
        facts = cohort.result(RESULT).meta["run"]
        assert facts["tasks"] == self.tasks.total()
        if reused is not None:
            assert facts["reused"] == reused
        verify(cohort)
