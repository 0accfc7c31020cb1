"""Fixtures of the fault tests that go through the command line."""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from spine_scene import SMALL_LAYOUT, SPEC, DaskCluster, Processes, Scene, Template, make_matrices

from sjd_dask.store.cohort import create_cohort, open_cohort
from sjd_dask.store.ingest import ingest


@pytest.fixture(scope="session")
def dask_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DaskCluster]:
    """A scheduler and two workers, as separate processes."""
    cluster = DaskCluster(tmp_path_factory.mktemp("cluster"))
    yield cluster
    cluster.close()


@pytest.fixture(scope="session")
def spine_template(tmp_path_factory: pytest.TempPathFactory, dask_cluster: DaskCluster) -> Template:
    """A cohort of two segments, the undisturbed result of a run, and an undisturbed ingest."""
    folder = tmp_path_factory.mktemp("template")
    scene = Scene(folder, Processes(folder))
    make_matrices(folder)
    scene.spec.write_text(SPEC)
    cohort = create_cohort(scene.cohort)
    for name in ("first", "second"):
        ingest(cohort, "methylation", folder / f"{name}.npz", quantity="beta", samples=folder / "sheet.csv")
    shutil.copytree(scene.cohort, folder / "pristine")
    done = scene.start_run("--cluster", dask_cluster.address).end()
    assert done.code == 0, done.err
    assert done.out == "associations/ewas@1\n"
    result = open_cohort(scene.cohort).result("associations/ewas")
    create_cohort(folder / "small", layout=SMALL_LAYOUT)
    begin = time.monotonic()
    done = scene.call("ingest", folder / "small", "m", folder / "small.tsv", "--quantity", "beta")
    seconds = time.monotonic() - begin
    assert done.code == 0, done.err
    content = open_cohort(folder / "small").assay("m").reader().content_hash()
    assert scene.processes.close() == []
    return Template(folder, result.file().hash, result.meta["run"]["tasks"], content, seconds)


@pytest.fixture
def scene(spine_template: Template, tmp_path: Path) -> Iterator[Scene]:
    """A fresh copy of the cohort; afterwards nothing that the test started may be left running."""
    shutil.copytree(spine_template.folder / "pristine", tmp_path / "cohort")
    made = Scene(tmp_path, Processes(tmp_path), spine_template.result_hash, spine_template.n_partitions)
    made.spec.write_text(SPEC)
    yield made
    left = made.processes.close()
    assert left == [], f"left running, now killed: {left}"


@pytest.fixture
def spine_processes(tmp_path: Path) -> Iterator[Processes]:
    """Processes of a test without a run; none may be left."""
    made = Processes(tmp_path)
    yield made
    left = made.close()
    assert left == [], f"left running, now killed: {left}"
