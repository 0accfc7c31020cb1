"""A withdrawal that is stopped, or killed: nothing half is seen, and the same command ends it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import sqlalchemy as sa
from store_helpers import folder_as_bucket
from store_postgres import new_database, postgres_server
from withdraw_moments import AFTER, BEFORE, LEAVING, SAMPLES, make, stopped
from withdraw_scene import found_ids

from sjd_dask.errors import Busy, DataError
from sjd_dask.jobs.withdraw import withdraw
from sjd_dask.store.catalogue import runs
from sjd_dask.store.catalogue import tables as t
from sjd_dask.store.cohort import Cohort, open_cohort
from sjd_dask.store.gc import gc
from sjd_dask.store.owners import Owner
from sjd_dask.store.verify import verify

STAY = sorted({f"SX{i:02d}" for i in range(20)} - {"SX02", "SX12", "SX05", "SX15"})


class Stop(Exception):
    """What stops a withdrawal here."""


def stop() -> None:
    raise Stop


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("leaving") / "cohort"
    make(folder)
    return folder


@pytest.fixture
def cohort(template: Path, tmp_path: Path) -> Cohort:
    shutil.copytree(template, tmp_path / "cohort")
    return open_cohort(tmp_path / "cohort")


def files(cohort: Cohort) -> dict[str, bytes]:
    home = Path(cohort.path)
    return {
        path.relative_to(home).as_posix(): path.read_bytes()
        for path in home.rglob("*")
        if path.is_file() and path.suffix != ".sqlite"
    }


def seen(cohort: Cohort) -> list[str]:
    """Everybody that any table or assay shows, now or in a past view."""
    found = set(cohort.result("strata/groups").table()["sample_id"].to_pylist())
    for snapshot in range(1, cohort.snapshot() + 1):
        found |= set(cohort.assay("meth", snapshot).sample_ids()) | set(cohort.samples(snapshot).index)
    return sorted(found)


def check_ended(cohort: Cohort) -> None:
    assert found_ids(Path(cohort.path), [*LEAVING, *SAMPLES, "SX12"]) == []
    assert seen(cohort) == STAY and verify(cohort).problems == []
    with cohort.catalogue.read() as connection:
        lines = connection.execute(sa.select(t.audit.c.detail).where(t.audit.c.action == "withdraw")).scalars().all()
        assert connection.execute(sa.select(t.meta.c.key).where(t.meta.c.key == "withdrawal")).all() == []
    assert len(lines) == 1 and json.loads(lines[0])["persons"] == 2
    # Nothing that nobody refers to is left, but for a table that was just written and names nobody.
    assert {one.kind for one in gc(cohort, grace_hours=0).items} <= {"table"}


@pytest.mark.parametrize("moment", BEFORE)
def test_stopped_before_it_is_shown(cohort: Cohort, moment: str) -> None:
    gc(cohort, grace_hours=0)
    before, everybody, snapshot = files(cohort), seen(cohort), cohort.snapshot()
    with stopped(moment, stop), pytest.raises(Stop):
        withdraw(cohort, LEAVING)
    gc(cohort, grace_hours=0)
    assert (files(cohort), seen(cohort), cohort.snapshot()) == (before, everybody, snapshot)
    assert not withdraw(cohort, LEAVING).ended_earlier
    check_ended(cohort)


@pytest.mark.parametrize("moment", AFTER)
def test_stopped_after_it_is_shown(cohort: Cohort, moment: str) -> None:
    with stopped(moment, stop), pytest.raises(Stop):
        withdraw(cohort, LEAVING)
    assert seen(cohort) == STAY and verify(cohort).problems == []
    report = withdraw(cohort, LEAVING)
    assert report.ended_earlier and report.n_gone == 2 and report.signed["persons"] == 2
    assert (report.status, report.n_persons, report.n_samples) == ("withdrawn", 2, 4)
    check_ended(cohort)
    assert withdraw(cohort, LEAVING).status == "unchanged"


@pytest.mark.parametrize("moment", ["shown", "forgotten"])
def test_another_list_ends_it_first(cohort: Cohort, moment: str) -> None:
    with stopped(moment, stop), pytest.raises(Stop):
        withdraw(cohort, LEAVING)
    report = withdraw(cohort, ["PX07"])
    assert report.ended_earlier and (report.n_persons, report.n_gone) == (1, 0)
    assert found_ids(Path(cohort.path), [*LEAVING, *SAMPLES, "PX07", "SX07", "SX17"]) == []
    assert len(seen(cohort)) == 14 and verify(cohort).problems == []


@pytest.mark.parametrize("moment", ["table", "leftovers"])
def test_killed(cohort: Cohort, moment: str) -> None:
    """SIGKILL: no lease, staging record or temporary file is put away."""
    program = Path(__file__).with_name("withdraw_moments.py")
    paths = os.pathsep.join([str(program.parent), str(program.parents[1])])
    done = subprocess.run(
        [sys.executable, str(program), cohort.path, moment],
        env={**os.environ, "PYTHONPATH": paths}, capture_output=True, text=True, check=False, timeout=240,
    )  # fmt: skip
    assert done.returncode == -9, done.stderr
    if moment in BEFORE:
        assert len(seen(cohort)) == 20
    else:
        assert seen(cohort) == STAY
    assert withdraw(cohort, LEAVING).ended_earlier == (moment not in BEFORE)
    check_ended(cohort)


@pytest.mark.postgres
def test_a_catalogue_in_postgresql(tmp_path: Path) -> None:
    with postgres_server() as server:
        cohort = make(tmp_path / "cohort", new_database(server))
        with stopped("leftovers", stop), pytest.raises(Stop):
            withdraw(cohort, LEAVING)
        assert withdraw(cohort, LEAVING).ended_earlier
        check_ended(cohort)
        with cohort.catalogue.read() as connection:
            for table in t.metadata.sorted_tables:
                texts = repr(connection.execute(sa.select(table)).all())
                assert not any(one in texts for one in [*LEAVING, *SAMPLES]), table.name
        cohort.catalogue.close()


def test_data_in_an_object_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cohort = make(tmp_path / "cohort", data=folder_as_bucket(monkeypatch, tmp_path / "objects"))
    assert found_ids(tmp_path / "objects", SAMPLES) != []
    with stopped("table", stop), pytest.raises(Stop):
        withdraw(cohort, LEAVING)
    withdraw(cohort, LEAVING)
    check_ended(cohort)
    assert found_ids(tmp_path / "objects", [*LEAVING, *SAMPLES]) == []


def test_others_at_work_are_waited_for(cohort: Cohort) -> None:
    everybody = seen(cohort)
    claim = runs.claim_run(cohort.catalogue, "a" * 32, job="associate", output="x", spec={})
    with pytest.raises(Busy, match=f"run {claim.run.id} .* is at work"):
        withdraw(cohort, LEAVING)
    runs.finish_run(cohort.catalogue, claim.run.id, claim.run.epoch, "failed")
    staging = cohort.begin_staging("meth", "one-more", ["SX99"], Owner.current())
    with pytest.raises(Busy, match="is writing to assay 'meth'"):
        withdraw(cohort, LEAVING)
    cohort.abandon(staging)
    with cohort.lease("night"), pytest.raises(Busy, match="holds the night of this cohort"):
        withdraw(cohort, LEAVING)
    assert seen(cohort) == everybody
    withdraw(cohort, LEAVING)
    check_ended(cohort)


def test_what_is_published_meanwhile_is_not_overlooked(cohort: Cohort) -> None:
    """A writer that comes while new files are being written: nobody is withdrawn by a stale plan."""
    import pyarrow as pa
    from store_helpers import betas, put

    def add_rows() -> None:
        put(cohort, "other", ["SX02"], betas(1, 5, seed=1))

    def add_result() -> None:
        cohort.publish_result("strata", "more", {"table": pa.table({"sample_id": ["SX02"]})}, {})

    for add in (add_rows, add_result):
        with stopped("table", add), pytest.raises(Busy, match="something was published while"):
            withdraw(cohort, LEAVING)
    assert len(seen(cohort)) == 20
    withdraw(cohort, LEAVING)
    assert found_ids(Path(cohort.path), [*LEAVING, *SAMPLES]) == []


def test_a_place_that_still_names_them_is_an_error_that_can_be_mended(cohort: Cohort) -> None:
    stray = Path(cohort.path) / "features" / "left.txt"
    stray.parent.mkdir(exist_ok=True)
    stray.write_text("SX02 was here")
    with pytest.raises(DataError, match=r"1 places still name people who were withdrawn: features/left.txt") as caught:
        withdraw(cohort, LEAVING)
    assert not any(one in str(caught.value) for one in [*LEAVING, *SAMPLES])
    stray.unlink()
    assert withdraw(cohort, LEAVING).ended_earlier
    check_ended(cohort)
