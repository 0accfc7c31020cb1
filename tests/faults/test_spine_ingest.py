"""`sjd ingest` killed at any moment, two of them at once: nothing or all of the segment is visible."""

from __future__ import annotations

import random
import time
from pathlib import Path

import pytest
from spine_scene import SMALL_LAYOUT, Processes, Running, Template, standing_still, wait_for

from sjd_dask.store.catalogue.staging import list_staging
from sjd_dask.store.cohort import create_cohort, open_cohort
from sjd_dask.store.gc import gc
from sjd_dask.store.verify import verify

TEN = [pytest.param(seed, marks=pytest.mark.slow) for seed in range(1, 11)]
CHUNKS = "segments/m/*.zarr/beta/c/*/*"
N_CHUNKS = 8 * 24  # 120 samples by 16, 12,000 features by 512


@pytest.fixture
def small(tmp_path: Path) -> Path:
    """An empty cohort of small chunks."""
    return Path(create_cohort(tmp_path / "small", layout=SMALL_LAYOUT).path)


def start(processes: Processes, small: Path, matrix: Path, *more: object) -> Running:
    return processes.sjd("ingest", small, "m", matrix, "--quantity", "beta", *more)


def seen(small: Path, content: str) -> bool:
    """Whether the assay is there, and then whole."""
    cohort = open_cohort(small)
    info = cohort.info()
    if not info["assays"]:
        assert cohort.snapshot() == 0
        return False
    assert info["assays"]["m"]["n_segments"] == 1
    assert cohort.assay("m").reader().content_hash() == content
    verify(cohort)
    return True


@pytest.mark.parametrize("seed", [0, *TEN])
def test_ingest_killed(spine_template: Template, spine_processes: Processes, small: Path, seed: int) -> None:
    """At a moment of its undisturbed duration; one in three while it writes or publishes."""
    matrix, content = spine_template.folder / "small.tsv", spine_template.content_hash
    draw = random.Random(seed)
    run = start(spine_processes, small, matrix)
    if seed % 3 == 0:
        n = draw.randint(1, N_CHUNKS)
        wait_for(lambda: not run.is_running or sum(1 for _ in small.glob(CHUNKS)) >= n, f"{n} chunks")
        time.sleep(draw.random() * 0.02)
    else:
        time.sleep(draw.uniform(0.2, 1.0) * spine_template.ingest_seconds)
    run.kill()
    code = run.end().code
    whole = seen(small, content)
    assert whole or code == -9
    if seed % 2:
        gc(open_cohort(small), grace_hours=0)
        assert len(list(small.glob("segments/m/*.zarr"))) == whole
        assert len(list(small.glob("features/*"))) == whole
    again = start(spine_processes, small, matrix).end()
    assert again.code == 0, again.err
    assert again.out.startswith("m: unchanged:" if whole else "m: published")
    assert seen(small, content)
    collected = spine_processes.call("gc", small, "--grace", 0)
    assert collected.code == 0, collected.err
    assert len(list(small.glob("segments/m/*.zarr"))) == len(list(small.glob("segments/m/*.json"))) == 1
    assert not [path for path in small.rglob("*") if "tmp" in path.name]
    assert seen(small, content)


def test_second_ingest_of_the_same_samples_has_exit_code_6(
    spine_template: Template, spine_processes: Processes, small: Path
) -> None:
    """The first is held still once its samples are registered, so that they certainly meet."""
    matrix = spine_template.folder / "small.tsv"
    first = start(spine_processes, small, matrix)
    cohort = open_cohort(small)
    wait_for(lambda: list_staging(cohort.catalogue) or not first.is_running, "the registration")
    with standing_still(first):
        second = start(spine_processes, small, matrix, "-q").end()
        # Neither the second one nor a collection touches what the living one has.
        gc(cohort, grace_hours=0)
    assert second.code == 6, second.err
    assert f"process {first.pid}" in second.err and "120 of the same samples" in second.err
    done = first.end()
    assert done.code == 0, done.err
    assert seen(small, spine_template.content_hash)
    third = start(spine_processes, small, matrix, "-q").end()
    assert third.code == 0, third.err
    assert open_cohort(small).snapshot() == 1
