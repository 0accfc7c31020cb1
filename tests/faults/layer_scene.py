"""A cohort of counts whose layer takes a few seconds to make: fit passes, a staged matrix, many small writes."""

from __future__ import annotations

import hashlib
import random
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from spine_scene import Ended, Processes, Running, wait_for

from sjd_dask.runtime.detached import status
from sjd_dask.store.cohort import Cohort, open_cohort
from sjd_dask.store.ingest import ingest
from sjd_dask.store.layout import Layout
from sjd_dask.store.verify import verify

N_SAMPLES, N_FEATURES = 128, 8_000
# Tasks write whole chunk rows, so there are as many as a run of this size can have.
LAYOUT = Layout(8, 1024)
STEPS = "[tmm, log_cpm, {method: combat, batch: batch, covariates: '~ disease'}]"
SPEC = """\
job: normalise
cohort: ./cohort
assay: rna
steps: {steps}
fit_on: "{fit_on}"
output: x
"""
PHASES = ("fit", "stage", "write", "publish")


def counts(first: int, n: int, seed: int = 7) -> tuple[np.ndarray[Any, Any], list[str], pd.DataFrame]:
    """Counts of samples from number `first` on, and their sheet."""
    level = np.random.default_rng(seed).gamma(2.0, 60.0, N_FEATURES) + 3.0
    number = np.arange(first, first + n)
    batch = number // 32 % 4
    shift = np.stack([np.random.default_rng([seed, b]).normal(0, 0.3, N_FEATURES) for b in range(4)])
    rng = np.random.default_rng([seed, first])
    depth = rng.uniform(0.5, 2.0, n)
    values = rng.poisson(level * depth[:, None] * np.exp(shift[batch])).astype(np.uint16)
    ids = [f"S{i:04d}" for i in number]
    sheet = pd.DataFrame({"sample_id": ids, "batch": [f"b{b}" for b in batch], "number": number})
    return values, ids, sheet.assign(disease=np.where(number % 3 == 0, "patient", "healthy"))


def write_counts(folder: Path, name: str, first: int, n: int) -> Path:
    """An NPZ matrix of samples, and NAME.csv beside it."""
    values, ids, sheet = counts(first, n)
    sheet.to_csv(folder / f"{name}.csv", index=False)
    features = np.array([f"g{i:05d}" for i in range(N_FEATURES)])
    np.savez(folder / f"{name}.npz", values=values, features=features, samples=np.array(ids))
    return folder / f"{name}.npz"


def layer_hash(cohort: Cohort, ref: str = "x") -> str:
    """Hash of the rows of a layer, of its parameters, and of its quality table."""
    layer = cohort.layer(ref)
    rows = layer.rows().sort_values("sample_id")
    quality = cohort.result(f"qc/{layer.layer}").to_pandas().sort_values("sample_id").to_csv(index=False)
    text = "\n".join([*(rows["sample_id"] + rows["row_hash"] + rows["source_hash"]), layer.parameters_hash, quality])
    return hashlib.blake2b(text.encode()).hexdigest()


@dataclass
class LayerScene:
    """A folder with a cohort and a spec, and the processes that work on it."""

    folder: Path
    processes: Processes
    truth: str = ""

    @property
    def cohort(self) -> Path:
        return self.folder / "cohort"

    @property
    def spec(self) -> Path:
        return self.folder / "layer.yaml"

    @property
    def data(self) -> Path:
        return Path(open_cohort(self.cohort).files.url)

    def write_spec(self, steps: str = STEPS, fit_on: str = "number < 128") -> None:
        self.spec.write_text(SPEC.format(steps=steps, fit_on=fit_on))

    def fill(self) -> None:
        """Ingest the samples; the cohort is there."""
        file = write_counts(self.folder, "first", 0, N_SAMPLES)
        ingest(open_cohort(self.cohort), "rna", file, quantity="counts", samples=self.folder / "first.csv")

    def start_run(self, *arguments: object) -> Running:
        where = () if "--cluster" in arguments else ("--workers", 2)
        return self.processes.sjd("run", self.spec, *where, *arguments)

    def call(self, *arguments: object) -> Ended:
        return self.processes.call(*arguments)

    def resume(self, *arguments: object) -> Ended:
        (run,) = open_cohort(self.cohort).runs()
        where = () if "--cluster" in arguments else ("--workers", 2)
        return self.call("resume", self.cohort, run.id, *where, *arguments)

    # -- moments -------------------------------------------------------------------------------------------------------

    def chunks(self, staged: bool) -> list[Path]:
        """Chunks of the staged matrix, or of the layer."""
        found = self.data.glob("segments/x*@*/*/*/c/*/*")
        return [one for one in found if (".stage" in str(one)) == staged and not one.name.startswith(".")]

    def parts(self) -> int:
        return sum(1 for _ in self.data.glob("runs/*/*/parts/[0-9]*.arrow"))

    def wait_for_phase(self, phase: str, seed: int, running: Running, pause: bool = True) -> None:
        """A seeded moment in a phase of the run: before the first staged chunk, among those, among the layer's, or
        after the last of them until it ends."""
        draw = random.Random(seed)
        whole = 16 * 8
        aim = draw.randint(1, whole * 3 // 4)
        seen = {
            "fit": lambda: self.parts() >= 1,
            "stage": lambda: len(self.chunks(staged=True)) >= aim,
            "write": lambda: len(self.chunks(staged=False)) >= aim,
            "publish": lambda: len(self.chunks(staged=False)) >= whole,
        }[phase]
        wait_for(lambda: not running.is_running or seen(), f"the phase {phase}")
        if pause:
            time.sleep(draw.random() * (0.6 if phase == "publish" else 0.03))

    # -- checks --------------------------------------------------------------------------------------------------------

    def check_nothing_visible(self, state: str = "interrupted") -> None:
        cohort = open_cohort(self.cohort)
        assert cohort.layers() == [] and cohort.results() == []
        (run,) = [status(cohort, one.id) for one in cohort.runs()]
        assert run["state"] == state

    def check_published(self) -> None:
        """The undisturbed layer, bit for bit; all hashes agree; what was staged is gone, before and after `gc`."""
        cohort = open_cohort(self.cohort)
        assert [one.ref for one in cohort.results()] == ["layers/x@1", "qc/x@1"]
        assert layer_hash(cohort) == self.truth
        verify(cohort)
        assert list(self.data.glob("segments/*.stage*")) == []
        done = self.call("gc", self.cohort, "--grace", 0)
        assert done.code == 0, done.err
        assert len(list(self.data.glob("segments/x*@*/*.zarr"))) == len(set(cohort.layer("x").rows()["segment_id"]))
        assert len(list(self.data.glob("tables/*.npz"))) == 1
        assert layer_hash(cohort) == self.truth
