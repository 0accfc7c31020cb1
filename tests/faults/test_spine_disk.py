"""A full disk and a read-only one: a clear error, and the same result once there is room again."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from spine_scene import (
    N_SAMPLES,
    SMALL_LAYOUT,
    DaskCluster,
    Ended,
    Processes,
    Scene,
    Template,
    fill,
    tmpfs,
)

from sjd_dask.store.cohort import create_cohort, open_cohort

MEGABYTES = 80


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 80 MB."""
    if not sys.platform.startswith("linux"):
        pytest.skip("a small file system can be mounted on Linux only")
    try:
        mounted = tmpfs(tmp_path / "disk", MEGABYTES)
        place = mounted.__enter__()
    except OSError as error:
        pytest.skip(f"this user can't mount a small file system: {error}")
    yield place
    mounted.__exit__(None, None, None)


@pytest.fixture
def scene_on_disk(scene: Scene, disk: Path) -> Scene:
    """The cohort with its data on the small disk and its catalogue elsewhere."""
    for name in ("segments", "features"):
        shutil.move(scene.cohort / name, disk / name)
    config = scene.cohort / "cohort.toml"
    config.write_text(config.read_text().replace('data = "."', f'data = "{disk}"'))
    assert open_cohort(scene.cohort).files.url == str(disk)
    return scene


def check_told(done: Ended, disk: Path, cause: str, remedy: str) -> None:
    """Exit code, place, cause and remedy, in one line without a trace."""
    assert done.code == 1, done.err
    assert done.out == ""
    assert "Traceback" not in done.err
    (line,) = [line for line in done.err.splitlines() if line.startswith("sjd: error:")]
    assert re.search(rf"cannot write {disk}/\S+: .*{cause}", line), line
    assert "Remedy: " in line and remedy in line


def test_read_only_and_full_disk_under_a_run(scene_on_disk: Scene, dask_cluster: DaskCluster, disk: Path) -> None:
    """Read-only from the start, then full in the middle of the parts; then the rest."""
    scene, where = scene_on_disk, ("--cluster", dask_cluster.address)
    remount(disk, "ro")
    check_told(scene.start_run(*where).end(), disk, "Read-only file system", "read-only")
    # Whatever is published can be read all the same.
    assert open_cohort(scene.cohort).assay("methylation").n_samples == N_SAMPLES
    scene.check_nothing_published("failed")
    remount(disk, "rw")
    ballast = fill(disk, 1 << 20)
    check_told(scene.start_run(*where).end(), disk, "No space left", "free space")
    scene.check_nothing_published("failed")
    reused = scene.settled_parts()
    assert 0 < len(reused) < scene.n_partitions
    ballast.unlink()
    done = scene.resume(*where)
    assert done.code == 0, done.err
    scene.check_published(reused)


@pytest.mark.slow
@pytest.mark.parametrize("leave", [0, 64 << 10, 2 << 20, 4 << 20, 8 << 20])
def test_full_disk_under_a_run(scene_on_disk: Scene, dask_cluster: DaskCluster, disk: Path, leave: int) -> None:
    """Full from the start, among the parts, or at the table."""
    scene, where = scene_on_disk, ("--cluster", dask_cluster.address)
    ballast = fill(disk, leave)
    check_told(scene.start_run(*where).end(), disk, "No space left", "free space")
    ballast.unlink()
    reused = scene.settled_parts()
    scene.check_nothing_published("failed")
    done = scene.resume(*where)
    assert done.code == 0, done.err
    scene.check_published(reused)


@pytest.mark.parametrize("leave", [1 << 20, pytest.param(0, marks=pytest.mark.slow)])
def test_full_disk_under_an_ingest(
    spine_template: Template, spine_processes: Processes, disk: Path, leave: int
) -> None:
    """The whole cohort lies there, its catalogue too."""
    cohort = create_cohort(disk / "small", layout=SMALL_LAYOUT)
    ballast = fill(disk, leave)
    arguments = ("ingest", cohort.path, "m", spine_template.folder / "small.tsv", "--quantity", "beta", "-q")
    done = spine_processes.call(*arguments)
    assert done.code == 1 and "Traceback" not in done.err, done.err
    assert str(disk) in done.err and "free space" in done.err
    ballast.unlink()
    assert cohort.assays() == [] and cohort.snapshot() == 0
    assert not list(Path(cohort.path).glob("segments/m/*"))
    again = spine_processes.call(*arguments)
    assert again.code == 0, again.err
    assert cohort.assay("m").reader().content_hash() == spine_template.content_hash


def test_read_only_disk_under_an_ingest(spine_template: Template, spine_processes: Processes, disk: Path) -> None:
    cohort = create_cohort(disk / "small", layout=SMALL_LAYOUT)
    arguments = ("ingest", cohort.path, "m", spine_template.folder / "small.tsv", "--quantity", "beta", "-q")
    remount(disk, "ro")
    done = spine_processes.call(*arguments)
    assert done.code == 1 and "Traceback" not in done.err, done.err
    assert str(disk) in done.err and "read-only" in done.err and "Remedy" in done.err
    remount(disk, "rw")
    again = spine_processes.call(*arguments)
    assert again.code == 0, again.err
    assert cohort.assay("m").reader().content_hash() == spine_template.content_hash


def remount(disk: Path, how: str) -> None:
    subprocess.run(["mount", "-o", f"remount,{how}", str(disk)], check=True, capture_output=True)
