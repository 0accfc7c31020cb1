"""Runs: one record a fingerprint, with an epoch that only one driver holds."""

from __future__ import annotations

import json
import secrets
import time
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from sjd_dask.errors import Busy, SpecError
from sjd_dask.store.catalogue import tables as t
from sjd_dask.store.catalogue.session import Catalogue, current_snapshot, owner_of, owner_values, undone_changes
from sjd_dask.store.owners import Owner, is_alive

STATES = ("running", "interrupted", "failed", "cancelled", "published")


@dataclass(frozen=True)
class Run:
    """One run as the catalogue knows it. Times are seconds since 1970."""

    id: str
    fingerprint: str
    job: str
    output: str
    spec: dict[str, Any]
    state: str
    epoch: int
    attempt: int
    owner: Owner
    heartbeat: float
    snapshot: int
    created: float
    finished: float | None
    message: str
    meta: dict[str, Any]
    cancel_requested: bool

    def is_live(self) -> bool:
        """Whether a living driver works on it."""
        return self.state == "running" and is_alive(self.owner, self.heartbeat)

    def to_json(self) -> dict[str, Any]:
        """Plain data for messages and files."""
        return {
            **{key: value for key, value in self.__dict__.items() if key != "owner"},
            "owner": self.owner.__dict__.copy(),
            "is_live": self.is_live(),
        }


@dataclass(frozen=True)
class Claim:
    """What claiming a run gave: status ``new``, ``resume`` or ``published``."""

    status: str
    run: Run


def run_of(record: sa.RowMapping) -> Run:
    """A run from its record."""
    return Run(
        id=record["id"],
        fingerprint=record["fingerprint"],
        job=record["job"],
        output=record["output"],
        spec=json.loads(record["spec"]),
        state=record["state"],
        epoch=record["epoch"],
        attempt=record["attempt"],
        owner=owner_of(record),
        heartbeat=record["heartbeat"],
        snapshot=record["snapshot"],
        created=record["created"],
        finished=record["finished"],
        message=record["message"],
        meta=json.loads(record["meta"]),
        cancel_requested=bool(record["cancel_requested"]),
    )


def _one(connection: sa.Connection, condition: sa.ColumnElement[bool]) -> Run | None:
    record = connection.execute(sa.select(t.runs).where(condition)).mappings().one_or_none()
    return None if record is None else run_of(record)


def claim_run(
    catalogue: Catalogue,
    fingerprint: str,
    *,
    job: str,
    output: str,
    spec: dict[str, Any],
    owner: Owner | None = None,
    meta: dict[str, Any] | None = None,
    snapshot: int | None = None,
) -> Claim:
    """Begin, take up again, or find finished the run of this fingerprint.

    Parameters
    ----------
    snapshot : int, optional
        The view the run reads; default the present. Segments retired after it are kept while the run lives.

    Returns
    -------
    Claim
        ``new``: epoch 1. ``resume``: epoch and attempt one higher, so the earlier driver can publish no more.
        ``published``: its results are there; nothing was changed.

    Raises
    ------
    Busy
        A living driver holds it, or data of the view was removed by `gc` before the claim.
    """
    holder = owner or Owner.current()
    now = time.time()
    with catalogue.write() as connection:
        at = current_snapshot(connection) if snapshot is None else snapshot
        found = _one(connection, t.runs.c.fingerprint == fingerprint)
        _check_view(connection, at)
        if found is None:
            run_id = time.strftime("%Y%m%d-%H%M%S-", time.gmtime(now)) + secrets.token_hex(4)
            connection.execute(
                sa.insert(t.runs).values(
                    id=run_id,
                    fingerprint=fingerprint,
                    job=job,
                    output=output,
                    spec=json.dumps(spec),
                    state="running",
                    epoch=1,
                    attempt=1,
                    heartbeat=now,
                    snapshot=at,
                    created=now,
                    message="",
                    meta=json.dumps(meta or {}),
                    cancel_requested=False,
                    **owner_values(holder),
                )
            )
            run = _one(connection, t.runs.c.id == run_id)
            assert run is not None
            return Claim("new", run)
        if found.is_live():
            raise Busy(
                f"run {found.id} ({found.job}, output {found.output!r}) is being worked on by {found.owner}; nothing "
                f"was started. Wait for it, or stop it with: sjd cancel COHORT {found.id}"
            )
        if found.state == "published" and _stands(connection, found.id):
            return Claim("published", found)
        connection.execute(
            sa.update(t.runs)
            .where(t.runs.c.id == found.id, t.runs.c.epoch == found.epoch)
            .values(
                state="running",
                epoch=found.epoch + 1,
                attempt=found.attempt + 1,
                heartbeat=now,
                snapshot=at,
                finished=None,
                message="",
                cancel_requested=False,
                meta=json.dumps({**found.meta, **(meta or {})}),
                **owner_values(holder),
            )
        )
        run = _one(connection, t.runs.c.id == found.id)
        assert run is not None
        return Claim("resume", run)


def _check_view(connection: sa.Connection, snapshot: int) -> None:
    # From the claim on, gc keeps what this view needs; here it is made sure that it did not come just before.
    gone = sa.select(t.segments.c.id).where(t.segments.c.state == "removed", t.segments.c.retired_in > snapshot)
    if connection.execute(gone.limit(1)).scalar() is not None:
        raise Busy(
            f"data of snapshot {snapshot}, which this run would read, was merged and removed a moment ago; nothing was "
            f"started. Run the same command again."
        )


def _stands(connection: sa.Connection, run_id: str) -> bool:
    """Whether what a run published is still there, at least in part."""
    query = sa.select(sa.func.count()).where(t.results.c.run_id == run_id)
    total = int(connection.execute(query).scalar() or 0)
    live = int(connection.execute(query.where(t.results.c.retired_in.is_(None))).scalar() or 0)
    if total and not live:
        return False
    # A run may publish without a result (rows of a layer, say), or nothing at all.
    of_run = sa.select(t.snapshots.c.id).where(t.snapshots.c.run_id == run_id, t.snapshots.c.undoes.is_(None))
    changes = set(connection.execute(of_run).scalars())
    return not changes or bool(changes - set(undone_changes(connection)))


def _stale(run_id: str, epoch: int, found: Run | None) -> Busy:
    if found is None:
        return Busy(f"run {run_id} is gone from the catalogue; nothing was published")
    return Busy(
        f"run {run_id} was taken over: this driver has epoch {epoch}, the run is {found.state} at epoch {found.epoch} "
        f"with {found.owner}; nothing was published here."
    )


def set_if_held(connection: sa.Connection, run_id: str, epoch: int, values: dict[str, Any]) -> None:
    """Change a running run, on condition that this epoch still holds it.

    Raises
    ------
    Busy
        Another driver took it over, or it is not running any more.
    """
    done = connection.execute(
        sa.update(t.runs)
        .where(t.runs.c.id == run_id, t.runs.c.epoch == epoch, t.runs.c.state == "running")
        .values(**values)
    )
    if done.rowcount != 1:
        raise _stale(run_id, epoch, _one(connection, t.runs.c.id == run_id))


def heartbeat_run(catalogue: Catalogue, run_id: str, epoch: int, meta: dict[str, Any] | None = None) -> bool:
    """Say that the driver lives. Returns whether someone asked it to stop.

    Raises
    ------
    Busy
        Another driver took the run over: stop, and publish nothing.
    """
    with catalogue.write() as connection:
        set_if_held(connection, run_id, epoch, {"heartbeat": time.time()})
        run = _one(connection, t.runs.c.id == run_id)
        assert run is not None
        if meta:
            connection.execute(
                sa.update(t.runs).where(t.runs.c.id == run_id).values(meta=json.dumps({**run.meta, **meta}))
            )
        return run.cancel_requested


def finish_run(catalogue: Catalogue, run_id: str, epoch: int, state: str, message: str = "") -> None:
    """End this driver's hold of a run.

    Parameters
    ----------
    state : str
        ``interrupted``, ``failed`` or ``cancelled`` (all can be taken up again), or ``published`` for a run without a
        result table.

    Raises
    ------
    Busy
        Another driver took it over.
    """
    if state not in STATES or state == "running":
        raise ValueError(f"a run cannot end as {state!r}")
    with catalogue.write() as connection:
        set_if_held(connection, run_id, epoch, {"state": state, "message": message, "finished": time.time()})


def request_cancel(catalogue: Catalogue, run_id: str) -> Run:
    """Ask the driver of a run to stop; a run whose driver is dead is cancelled at once."""
    run = get_run(catalogue, run_id)
    with catalogue.write() as connection:
        now = _one(connection, t.runs.c.id == run.id)
        assert now is not None
        if now.state == "running" or now.state in ("interrupted", "failed"):
            values: dict[str, Any] = {"cancel_requested": True}
            if not now.is_live():
                values |= {"state": "cancelled", "finished": time.time(), "message": "cancelled"}
            connection.execute(sa.update(t.runs).where(t.runs.c.id == run.id).values(**values))
        result = _one(connection, t.runs.c.id == run.id)
        assert result is not None
        return result


def get_run(catalogue: Catalogue, run_id: str) -> Run:
    """A run by its id or the beginning of it.

    Raises
    ------
    SpecError
        No run, or more than one, begins so.
    """
    with catalogue.read() as connection:
        found = _one(connection, t.runs.c.id == run_id)
        if found is not None:
            return found
        start = t.runs.c.id.startswith(run_id, autoescape=True)
        records = connection.execute(sa.select(t.runs).where(start).limit(3)).mappings().all()
    if len(records) == 1 and run_id:
        return run_of(records[0])
    what = "no run" if not records else "more than one run"
    raise SpecError(f"{what} of this cohort has an id that begins with {run_id!r}; list them with: sjd runs COHORT")


def list_runs(catalogue: Catalogue, state: str | None = None) -> list[Run]:
    """All runs, oldest first."""
    query = sa.select(t.runs).order_by(t.runs.c.created, t.runs.c.id)
    if state is not None:
        query = query.where(t.runs.c.state == state)
    with catalogue.read() as connection:
        return [run_of(record) for record in connection.execute(query).mappings()]
