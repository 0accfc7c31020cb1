"""Leases: what only one process may do at a time, for longer than a transaction lasts."""

from __future__ import annotations

import time

import sqlalchemy as sa

from sjd_dask.errors import Busy
from sjd_dask.store.catalogue import tables as t
from sjd_dask.store.catalogue.session import Catalogue, owner_of, owner_values
from sjd_dask.store.owners import Owner, is_alive


def take_lease(catalogue: Catalogue, name: str, owner: Owner, *, own: bool = False) -> Owner | None:
    """Take a lease, from a dead holder if need be.

    Parameters
    ----------
    own : bool
        Whether a record of this very process is a leftover, which it could not remove when it was done.

    Returns
    -------
    Owner or None
        The dead holder it was taken from.

    Raises
    ------
    Busy
        A living process holds it.
    """
    here = t.leases.c.name == name
    with catalogue.write() as connection:
        record = connection.execute(sa.select(t.leases).where(here)).mappings().one_or_none()
        before = None
        if record is not None:
            before = owner_of(record)
            if is_alive(before, record["heartbeat"]) and not (own and before == owner):
                raise _held(before, name)
            connection.execute(sa.delete(t.leases).where(here))
        connection.execute(sa.insert(t.leases).values(name=name, heartbeat=time.time(), **owner_values(owner)))
    return before


def refuse_held(connection: sa.Connection, name: str) -> None:
    """Refuse (Busy) where a living process holds a lease; it is not taken."""
    record = connection.execute(sa.select(t.leases).where(t.leases.c.name == name)).mappings().one_or_none()
    if record is not None and is_alive(owner_of(record), record["heartbeat"]):
        raise _held(owner_of(record), name)


def _held(owner: Owner, name: str) -> Busy:
    return Busy(
        f"{owner} holds the {name} of this cohort; nothing was done. Wait for it to end, then run the same command "
        "again."
    )


def check_lease(connection: sa.Connection, name: str, owner: Owner, *, beat: bool = False) -> None:
    """Refuse where this process does not hold the lease any more; with `beat` say that it lives.

    Raises
    ------
    Busy
        It was taken for dead, and another process has the lease.
    """
    mine = _mine(name, owner)
    if beat:
        held = connection.execute(sa.update(t.leases).where(mine).values(heartbeat=time.time())).rowcount == 1
    else:
        held = connection.execute(sa.select(t.leases.c.name).where(mine)).scalar() is not None
    if not held:
        raise Busy(
            f"this process was taken for dead (no sign of life for too long), and lost the {name} of this cohort to "
            f"another; nothing was published. Run the same command again."
        )


def drop_lease(catalogue: Catalogue, name: str, owner: Owner) -> None:
    """Give a lease back; nothing happens where another has it by now."""
    with catalogue.write() as connection:
        connection.execute(sa.delete(t.leases).where(_mine(name, owner)))


def _mine(name: str, owner: Owner) -> sa.ColumnElement[bool]:
    columns = t.leases.c
    return sa.and_(
        columns.name == name,
        columns.host == owner.host,
        columns.pid == owner.pid,
        columns.started == owner.started,
    )
