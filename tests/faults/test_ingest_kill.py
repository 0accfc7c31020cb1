"""SIGKILL of an ingest, two ingests at once, a full disk: real processes."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from sjd_dask.store.cohort import Cohort, create_cohort, open_cohort
from sjd_dask.store.ingest import ingest
from sjd_dask.store.layout import Layout

N_SAMPLES, N_FEATURES = 40, 600

# Prints each step and pauses there, so that the moment of the signal is the same in every run. A negative pause
# waits for a line on stdin.
CHILD = """
import sys, time
from sjd_dask.errors import SjdError
from sjd_dask.store.cohort import open_cohort
from sjd_dask.store.ingest import ingest
cohort, matrix, pause = sys.argv[1], sys.argv[2], float(sys.argv[3])
def tell(stage, done, total):
    print(stage, done, flush=True)
    time.sleep(pause) if pause >= 0 else sys.stdin.readline()
try:
    report = ingest(open_cohort(cohort, timeout=10.0), "m", matrix, quantity="beta", progress=tell)
except SjdError as error:
    print("error", type(error).__name__, error, file=sys.stderr, flush=True)
    sys.exit(error.exit_code)
print("done", report.status, flush=True)
"""


@pytest.fixture(scope="module")
def matrix(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("matrix") / "m.tsv"
    values = np.round(np.random.default_rng(3).random((N_FEATURES, N_SAMPLES)), 4)
    lines = ["id\t" + "\t".join(f"S{i}" for i in range(N_SAMPLES))]
    lines += [f"cg{i}\t" + "\t".join(map(str, row)) for i, row in enumerate(values.tolist())]
    path.write_text("\n".join(lines) + "\n")
    return path


def new_cohort(folder: Path) -> Cohort:
    return create_cohort(folder, layout=Layout(8, 100))


def start(cohort: Cohort, matrix: Path, pause: float = 0.02, **options: object) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", CHILD, cohort.path, str(matrix), str(pause)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **options,  # type: ignore[call-overload]
    )


@pytest.fixture(scope="module")
def undisturbed(matrix: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, int]:
    """Content hash, and how many steps an ingest reports."""
    cohort = new_cohort(tmp_path_factory.mktemp("whole") / "c")
    steps: list[str] = []
    ingest(cohort, "m", matrix, quantity="beta", progress=lambda stage, done, total: steps.append(stage))
    return cohort.assay("m").reader().content_hash(), len(steps)


@pytest.mark.parametrize("seed", range(10))
def test_sigkill_leaves_nothing_visible_and_the_next_run_succeeds(
    seed: int, matrix: Path, undisturbed: tuple[str, int], tmp_path: Path
) -> None:
    content, n_steps = undisturbed
    cohort = new_cohort(tmp_path / "c")
    rng = random.Random(seed)
    step, delay = rng.randrange(n_steps), rng.random() * 0.02
    child = start(cohort, matrix)
    assert child.stdout is not None and child.stderr is not None
    for _ in range(step + 1):
        child.stdout.readline()
    time.sleep(delay)
    child.kill()
    child.communicate()
    assert child.returncode == -9
    seen = open_cohort(cohort.path)
    # All of it or none of it; the last step comes after publication.
    if seen.assays():
        assert step == n_steps - 1 or seen.assay("m").n_samples == N_SAMPLES
    else:
        assert seen.snapshot() == cohort.snapshot()
    report = ingest(seen, "m", matrix, quantity="beta")
    assert report.status in ("published", "unchanged")
    assay = seen.assay("m")
    assert assay.reader().content_hash() == content
    assay.check_chunks(deep=True)
    # The dead writer's bytes are gone, and it left no temporary file behind.
    assert len(list((tmp_path / "c" / "segments" / "m").glob("*.zarr"))) == 1
    assert not list((tmp_path / "c").glob("tmp*"))


def test_a_second_ingest_of_the_same_samples_is_turned_away(
    matrix: Path, undisturbed: tuple[str, int], tmp_path: Path
) -> None:
    cohort = new_cohort(tmp_path / "c")
    first = start(cohort, matrix, pause=-1)
    assert first.stdout is not None
    try:
        first.stdout.readline()  # it reads, so its samples are staged; it waits until it is told to go on
        second = start(cohort, matrix, pause=0.0)
        _, complaint = second.communicate(timeout=120)
    finally:
        out, other_complaint = first.communicate("\n" * (undisturbed[1] + 1), timeout=120)
    assert second.returncode == 6, complaint
    assert "Busy" in complaint
    assert first.returncode == 0 and "done published" in out, other_complaint
    assert open_cohort(cohort.path).assay("m").reader().content_hash() == undisturbed[0]


def test_two_ingests_started_together_publish_once(matrix: Path, undisturbed: tuple[str, int], tmp_path: Path) -> None:
    cohort = new_cohort(tmp_path / "c")
    children = [start(cohort, matrix, pause=0.0) for _ in range(2)]
    ends = [child.communicate(timeout=120) for child in children]
    # The other one was turned away, or came after the first was through and found nothing to do.
    assert sorted("done published" in out for out, _ in ends) == [False, True], ends
    for child, (out, complaint) in zip(children, ends, strict=True):
        assert child.returncode == 6 or "done" in out, complaint
    assay = open_cohort(cohort.path).assay("m")
    assert assay.n_samples == N_SAMPLES and assay.reader().content_hash() == undisturbed[0]


def test_a_full_disk_is_a_clear_error_and_nothing_is_lost(
    matrix: Path, undisturbed: tuple[str, int], tmp_path: Path
) -> None:
    import resource

    cohort = new_cohort(tmp_path / "c")
    ingest(cohort, "old", matrix, quantity="beta")
    child_limit = 1 << 16  # the catalogue is larger than this, so that writing it fails as on a full disk

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (child_limit, child_limit))

    child = start(cohort, matrix, pause=0.0, preexec_fn=limit)
    _, complaint = child.communicate(timeout=60)
    assert child.returncode not in (0, -25), complaint
    assert "Traceback" not in complaint
    seen = open_cohort(cohort.path)
    assert seen.assays() == ["old"]
    assert ingest(seen, "m", matrix, quantity="beta").status == "published"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write into a read-only folder")
def test_a_read_only_folder_is_a_clear_error(matrix: Path, tmp_path: Path) -> None:
    from sjd_dask.errors import SjdError

    cohort = new_cohort(tmp_path / "c")
    folder = Path(cohort.path)
    folder.chmod(0o500)
    try:
        with pytest.raises(SjdError, match=r"ermission|read-only"):
            ingest(cohort, "m", matrix, quantity="beta")
    finally:
        folder.chmod(0o700)
