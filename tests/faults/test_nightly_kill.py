"""SIGKILL in a night at each of its moments: nobody sees half of one, and the next leads to what an undisturbed one
gives."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import night_scene as scene
import psutil
import pytest
from night_lives import Life, strike_at
from spine_scene import wait_for

from sjd_dask.errors import Busy
from sjd_dask.store.verify import verify

NEW = [scene.sample(150), scene.sample(151), scene.sample(1, 2)]
# Which time of the moment: the night has two matrices and two sheets to move, and two parts to write.
MOMENTS = (("staged", 1), ("staged", 2), ("scored", 1), ("scored", 2), ("before", 1), ("within", 1), ("after", 1),
           ("moved", 1), ("moved", 3))  # fmt: skip


def deliver(home: Path) -> None:
    scene.write_arrival(home / "inbox", "new", NEW)
    scene.write_arrival(home / "inbox", "correction", [scene.sample(2)], version=1)
    (home / "inbox" / "rna__cut.npz").write_bytes(b"PK")


def one_night(home: Path, moment: str | None = None, count: int = 1, number: int = signal.SIGKILL) -> None:
    if moment is not None:
        strike_at(moment, count, number)
    scene.night(home, partition_samples=2)


def files(home: Path) -> list[str]:
    return sorted(path.relative_to(home).as_posix() for path in (home / "inbox").rglob("*"))


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = scene.make(tmp_path_factory.mktemp("killed"))
    scene.night(home)
    return home


@pytest.fixture(scope="module")
def undisturbed(template: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], Any, list[str]]:
    """What is published after the night, its changes, and where the files are."""
    home = scene.copied(template, tmp_path_factory.mktemp("undisturbed"))
    deliver(home)
    one_night(home)
    return scene.published(home), changes(home), files(home)


def changes(home: Path) -> Any:
    return scene.table(home, "changes").drop(columns="run")


@pytest.mark.parametrize(("moment", "count"), MOMENTS)
def test_killed_at_a_moment(
    template: Path, undisturbed: tuple[dict[str, Any], Any, list[str]], tmp_path: Path, moment: str, count: int
) -> None:
    home = scene.copied(template, tmp_path)
    before = scene.published(home)
    deliver(home)
    there = files(home)
    assert Life(one_night, home, moment, count, errors=tmp_path / "error").end() == -signal.SIGKILL
    wanted, told, put_away = undisturbed
    is_through = moment in ("after", "moved")
    # All of it or nothing.
    assert scene.published(home) == (wanted if is_through else before)
    if not is_through:
        assert files(home) == there
    again = scene.night(home, partition_samples=2)
    assert again.state == ("unchanged" if is_through else "published"), again.notes
    assert scene.published(home) == wanted and changes(home).equals(told) and files(home) == put_away
    cohort = scene.opened(home)
    assert cohort.result("classes/calls").version == 2
    if moment == "scored":
        assert cohort.result("classes/calls").meta["run"]["reused"] == count
    assert scene.night(home).state == "unchanged"
    # Nothing is left of the segments that nobody published.
    cohort.sweep_dead()
    listed = {path.stem for path in (home / "cohort" / "segments" / "rna").glob("*.zarr")}
    assert listed == {one.id for one in cohort.assay("rna").segments.values()} | retired(cohort)
    verify(cohort)


def retired(cohort: Any) -> set[str]:
    """Segments of earlier views."""
    found: set[str] = set()
    for snapshot in range(1, cohort.snapshot() + 1):
        if "rna" in cohort.assays():
            found |= {one.id for one in cohort.assay("rna", snapshot).segments.values()}
    return found


def test_a_second_night_while_the_first_stands_still(template: Path, tmp_path: Path) -> None:
    home = scene.copied(template, tmp_path)
    deliver(home)
    life = Life(one_night, home, "before", 1, signal.SIGSTOP, errors=tmp_path / "error")
    process = psutil.Process(life.process.pid)
    wait_for(lambda: not life.is_running or process.status() == psutil.STATUS_STOPPED, "the night to stand still")
    assert life.is_running
    try:
        with pytest.raises(Busy, match=f"process {life.process.pid}"):
            scene.night(home)
    finally:
        life.signal(signal.SIGCONT)
    assert life.end() == 0
    assert scene.opened(home).result("classes/calls").version == 2
