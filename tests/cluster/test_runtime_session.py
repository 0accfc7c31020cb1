"""Claiming a run, taking it over, stopping it, and runs whose client goes away. No cluster is started here."""

# ruff: noqa: PT012 - what a session does with an error is seen only when the error passes through its block
from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from sjd_dask.errors import Busy, DataError, Interrupted, SjdError, SpecError
from sjd_dask.runtime import detached
from sjd_dask.runtime.events import Message
from sjd_dask.runtime.plan import Plan, feature_partitions
from sjd_dask.runtime.runs import RunSession, cancel_marker
from sjd_dask.store.catalogue.runs import claim_run, get_run
from sjd_dask.store.cohort import Cohort, create_cohort, open_cohort
from sjd_dask.store.owners import Owner

TABLE = pa.table({"x": [1.0]})
NOBODY = Owner("another-machine", 1, "long ago")


@pytest.fixture
def cohort(tmp_path: Path) -> Cohort:
    return create_cohort(tmp_path / "cohort")


def session_of(cohort: Cohort, **more: Any) -> RunSession:
    return RunSession(cohort, "f" * 32, {"job": "scene"}, "scene", "sums", **more)


def publish(session: RunSession) -> None:
    result = session.cohort.publish_result(
        "associations", "sums", {"table": TABLE}, {}, run_id=session.run_id, epoch=session.epoch
    )
    session.finish([result.ref])


def status_of(session: RunSession) -> dict[str, Any]:
    return dict(json.loads(session.cohort.files.read_bytes(f"{session.folder}/status.json")))


def test_new_then_published_then_no_op(cohort: Cohort) -> None:
    with session_of(cohort) as session:
        assert (session.state, session.epoch, session.attempt, session.published) == ("new", 1, 1, [])
        assert status_of(session)["state"] == "running"
        session.tell(Message("hello"))
        publish(session)
    assert status_of(session)["state"] == "published"
    log = Path(cohort.path) / session.folder / "log.jsonl"
    assert json.loads(log.read_text())["text"] == "hello"
    with session_of(cohort) as again:
        assert (again.state, again.published) == ("published", ["associations/sums@1"])
    assert len(cohort.results()) == 1


def test_second_driver_is_told_and_changes_nothing(cohort: Cohort) -> None:
    with session_of(cohort) as session:
        with (
            pytest.raises(Busy, match=f"run {session.run_id} .*is being worked on by process {os.getpid()}"),
            session_of(cohort),
        ):
            pass
        assert get_run(cohort.catalogue, session.run_id).epoch == 1
        publish(session)


def test_exception_marks_the_run_failed_and_the_next_claim_resumes(cohort: Cohort) -> None:
    plan = Plan("scene", "sums", feature_partitions(10, 5), 1, 1, 1, 1, 1, 10**9)
    with pytest.raises(DataError, match=r"^bad$"), session_of(cohort) as session:
        assert session.previous_plan() is None
        session.save_plan(plan)
        raise DataError("bad")
    run = get_run(cohort.catalogue, session.run_id)
    assert (run.state, run.message) == ("failed", "DataError: bad")
    with session_of(cohort) as again:
        assert (again.state, again.run_id, again.epoch, again.attempt) == ("resumed", session.run_id, 2, 2)
        assert again.previous_plan() == plan
        publish(again)


def test_leaving_without_a_result_is_a_failure(cohort: Cohort) -> None:
    with session_of(cohort) as session:
        pass
    assert "without publishing" in get_run(cohort.catalogue, session.run_id).message


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signal_stops_at_the_next_occasion(cohort: Cohort, number: signal.Signals) -> None:
    before = signal.getsignal(number)
    with (
        pytest.raises(
            Interrupted, match=rf"{number.name} received; resume with: sjd resume {cohort.path} \S+$"
        ) as caught,
        session_of(cohort) as session,
    ):
        assert session.should_stop() is None
        session.check()
        os.kill(os.getpid(), number)
        assert session.should_stop() == f"{number.name} received"
        session.check()
    assert signal.getsignal(number) == before
    assert caught.value.exit_code == 5
    assert get_run(cohort.catalogue, session.run_id).state == "interrupted"
    assert status_of(session)["state"] == "interrupted"


def test_interrupt_from_elsewhere_counts_too(cohort: Cohort) -> None:
    with pytest.raises(Interrupted, match="KeyboardInterrupt; resume with"), session_of(cohort) as session:
        raise KeyboardInterrupt
    assert get_run(cohort.catalogue, session.run_id).state == "interrupted"


def test_what_breaks_after_a_signal_is_an_interruption(cohort: Cohort) -> None:
    with pytest.raises(Interrupted, match="SIGINT received; resume with") as caught, session_of(cohort) as session:
        os.kill(os.getpid(), signal.SIGINT)
        raise SjdError("worker processes could not be started")
    assert isinstance(caught.value.__cause__, SjdError)
    assert get_run(cohort.catalogue, session.run_id).state == "interrupted"


@pytest.mark.parametrize("way", ["command", "marker"])
def test_cancel_is_seen_by_the_driver(cohort: Cohort, way: str) -> None:
    with pytest.raises(Interrupted, match="cancelled on request"), session_of(cohort, beat_seconds=0.1) as session:
        if way == "command":
            assert detached.cancel(open_cohort(cohort.path), session.run_id) == session.run_id
        else:
            cohort.files.write_bytes(cancel_marker(session.run_id), b"")
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            session.check()
            time.sleep(0.02)
    found = detached.status(cohort, session.run_id)
    assert (found["state"], found["job"], found["output"]) == ("cancelled", "scene", "sums")
    with pytest.raises(SjdError, match="is not running"):
        detached.cancel(cohort, session.run_id)
    # The mark is gone at the next claim.
    with session_of(cohort, beat_seconds=0.05) as again:
        time.sleep(0.3)
        again.check()
        publish(again)
    assert detached.wait(cohort, again.run_id, timeout=1)["state"] == "published"


def take_over(cohort: Cohort, session: RunSession) -> None:
    """As if this driver had been silent for minutes on another machine, and a second one claimed the run."""
    import sqlalchemy as sa

    from sjd_dask.store.catalogue import tables

    with cohort.catalogue.write() as connection:
        connection.execute(sa.update(tables.runs).values(host=NOBODY.host, pid=NOBODY.pid, started="", heartbeat=0.0))
    claim = claim_run(cohort.catalogue, "f" * 32, job="scene", output="sums", spec={})
    assert (claim.status, claim.run.epoch) == ("resume", 2)


def test_driver_that_was_taken_over_publishes_nothing(cohort: Cohort) -> None:
    with pytest.raises(Busy, match="nothing was published"), session_of(cohort, beat_seconds=60) as session:
        take_over(cohort, session)
        publish(session)
    assert cohort.results() == []
    assert get_run(cohort.catalogue, session.run_id).state == "running"


def test_heartbeat_tells_a_driver_that_was_taken_over(cohort: Cohort) -> None:
    with pytest.raises(Busy, match="taken over"), session_of(cohort, beat_seconds=0.1) as session:
        take_over(cohort, session)
        deadline = time.monotonic() + 20
        while session.should_stop() is None and time.monotonic() < deadline:
            time.sleep(0.02)
        raise Interrupted(str(session.should_stop()))
    run = get_run(cohort.catalogue, session.run_id)
    assert (run.state, run.epoch) == ("running", 2)


def test_run_of_a_dead_driver_shows_as_interrupted(cohort: Cohort) -> None:
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    owner = Owner(Owner.current().host, dead.pid, "gone")
    claim = claim_run(cohort.catalogue, "f" * 32, job="scene", output="sums", spec={}, owner=owner)
    found = detached.wait(cohort, claim.run.id[:20], timeout=1)
    assert found["state"] == "interrupted"
    assert f"resume with: sjd resume {cohort.path} {claim.run.id}" in found["message"]


# -- submit
# -------------------------------------------------------------------------------------------------------------

DRIVER = """
import sys, time
from sjd_dask.errors import SpecError
from sjd_dask.runtime.runs import RunSession
from sjd_dask.store.cohort import open_cohort

def main():
    path, what = sys.argv[1:]
    print("driver is here")
    if what == "bad":
        print("unknown key 'colour'", file=sys.stderr)
        sys.exit(2)
    if what == "silent":
        time.sleep(60)
    with RunSession(open_cohort(path), "f" * 32, {}, "scene", "sums", beat_seconds=0.1) as session:
        while what == "long":
            time.sleep(0.05)
            session.check()
        session.finish([])

main()
"""


@pytest.fixture
def driver(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    (tmp_path / "tiny_driver.py").write_text(DRIVER)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    return "tiny_driver"


def test_submitted_driver_lives_on_and_can_be_cancelled(cohort: Cohort, driver: str) -> None:
    begun = detached.submit(cohort, [cohort.path, "long"], module=driver)
    try:
        assert begun.state == "new"
        assert detached.status(cohort, begun.run_id)["state"] == "running"
        assert os.getsid(begun.pid) == begun.pid
        assert begun.log == Path(cohort.path) / f"runs/{begun.run_id}/1/driver.log"
        with pytest.raises(SjdError, match="still runs after 0 s"):
            detached.wait(cohort, begun.run_id, timeout=0.1, poll=0.05)
        with pytest.raises(Busy, match="is being worked on"), session_of(cohort):
            pass
        detached.cancel(cohort, begun.run_id)
        assert detached.wait(cohort, begun.run_id, timeout=30, poll=0.05)["state"] == "cancelled"
    finally:
        os.waitpid(begun.pid, 0)
    text = begun.log.read_text()
    assert "driver is here" in text
    assert "cancelled on request; resume with" in text


def test_submitted_driver_that_fails_tells_why(cohort: Cohort, driver: str) -> None:
    with pytest.raises(SpecError, match=r"exit code 2 before it had a run: driver is here\nunknown key 'colour'"):
        detached.submit(cohort, [cohort.path, "bad"], module=driver)
    with pytest.raises(SjdError, match=r"claimed no run within 1 s and was stopped"):
        detached.submit(cohort, [cohort.path, "silent"], module=driver, timeout=1)
