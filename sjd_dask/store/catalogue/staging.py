"""Records of segments that are being written: who writes what, so writers don't collide and leftovers are found."""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import sqlalchemy as sa

from sjd_dask.errors import Busy
from sjd_dask.store.catalogue import tables as t
from sjd_dask.store.catalogue.session import Catalogue, owner_of, owner_values
from sjd_dask.store.owners import Owner, is_alive


@dataclass(frozen=True)
class Staging:
    """One registered writer."""

    id: str
    kind: str
    assay: str
    segment_ids: tuple[str, ...]
    owner: Owner
    heartbeat: float
    created: float

    def is_alive(self) -> bool:
        """Whether its process still lives."""
        return is_alive(self.owner, self.heartbeat)


def staging_of(record: sa.RowMapping) -> Staging:
    """A writer from its record."""
    return Staging(
        id=record["id"],
        kind=record["kind"],
        assay=record["assay"],
        segment_ids=tuple(json.loads(record["segment_ids"])),
        owner=owner_of(record),
        heartbeat=record["heartbeat"],
        created=record["created"],
    )


def begin_staging(
    catalogue: Catalogue,
    assay: str,
    segment_ids: Sequence[str],
    sample_ids: Iterable[str],
    owner: Owner | None = None,
    kind: str = "ingest",
) -> str:
    """Register a writer before it writes its first byte.

    Returns
    -------
    str
        The staging id.

    Raises
    ------
    Busy
        A living writer of the same assay has one of these samples in hand (or, for a compaction, also compacts).
    """
    wanted = set(sample_ids)
    now = time.time()
    staging_id = secrets.token_hex(8)
    with catalogue.write() as connection:
        condition = sa.and_(t.staging.c.assay == assay, t.staging.c.kind == kind)
        for record in connection.execute(sa.select(t.staging).where(condition)).mappings():
            other = staging_of(record)
            if not other.is_alive():
                continue
            shared = sorted(wanted.intersection(json.loads(record["sample_ids"])))
            if kind == "ingest" and not shared:
                continue
            age = now - other.created
            what = "compacts"
            if kind == "ingest":
                what = f"is writing {len(shared)} of the same samples ({shared[0]!r}) to"
            raise Busy(
                f"{other.owner} {what} assay {assay!r} since {age:.0f} s; nothing was written. "
                f"Wait for it to end, then run the same command again."
            )
        connection.execute(
            sa.insert(t.staging).values(
                id=staging_id,
                kind=kind,
                assay=assay,
                segment_ids=json.dumps(list(segment_ids)),
                sample_ids=json.dumps(sorted(wanted)),
                heartbeat=now,
                created=now,
                **owner_values(owner or Owner.current()),
            )
        )
    return staging_id


def heartbeat_staging(catalogue: Catalogue, staging_id: str) -> None:
    """Say that the writer still lives; needed where writers run on several machines."""
    with catalogue.write() as connection:
        take_staging(connection, staging_id, remove=False)


def take_staging(connection: sa.Connection, staging_id: str, *, remove: bool = True) -> Staging:
    """The record of a writer that is about to publish, removed in the same transaction.

    Raises
    ------
    Busy
        The record is gone: another process took this writer for dead and cleaned up after it.
    """
    here = t.staging.c.id == staging_id
    record = connection.execute(sa.select(t.staging).where(here)).mappings().one_or_none()
    if record is None:
        raise Busy(
            "this writer was taken for dead (no sign of life for too long) and its unpublished data was removed; "
            "nothing was published. Run the same command again."
        )
    if remove:
        connection.execute(sa.delete(t.staging).where(here))
    else:
        connection.execute(sa.update(t.staging).where(here).values(heartbeat=time.time()))
    return staging_of(record)


def list_staging(catalogue: Catalogue) -> list[Staging]:
    """All registered writers, dead ones included."""
    with catalogue.read() as connection:
        return [staging_of(record) for record in connection.execute(sa.select(t.staging)).mappings()]


def drop_staging(catalogue: Catalogue, staging_id: str, *, only_dead: bool = False) -> Staging | None:
    """Forget a writer. Returns its record where there was one (and, with `only_dead`, its process is gone)."""
    with catalogue.write() as connection:
        here = t.staging.c.id == staging_id
        record = connection.execute(sa.select(t.staging).where(here)).mappings().one_or_none()
        if record is None:
            return None
        found = staging_of(record)
        if only_dead and found.is_alive():
            return None
        connection.execute(sa.delete(t.staging).where(here))
    return found
