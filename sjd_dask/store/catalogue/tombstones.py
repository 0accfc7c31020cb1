"""Tombstones: withdrawn people and samples, by hashes that only the cohort's key can make.

Nobody reads an id out of one; whoever has an id and the key can tell whether it was withdrawn.
"""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import blake2b
from typing import Any

import sqlalchemy as sa

from sjd_dask.errors import DataError
from sjd_dask.store.catalogue import tables as t
from sjd_dask.store.catalogue.session import in_pieces

ID_KEY = "id_key"


def id_key(connection: sa.Connection) -> bytes:
    """The cohort's secret.

    Raises
    ------
    DataError
        The catalogue has lost it.
    """
    found = connection.execute(sa.select(t.meta.c.value).where(t.meta.c.key == ID_KEY)).scalar()
    if found is None:
        raise DataError("the catalogue has lost the key of its tombstones; restore it from a backup")
    return bytes.fromhex(str(found))


def keyed_hash(key: bytes, one: str) -> str:
    """An id as a tombstone or a training record holds it: blake2b-128 with the cohort's key, in hexadecimal."""
    return blake2b(one.encode(), key=key, digest_size=16).hexdigest()


def id_text(value: Any) -> str | None:
    """A cell as an id is written; None for a missing one. Whole numbers have no decimal point."""
    if value is None or isinstance(value, bool) or value != value:
        return None
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value)


def withdrawn_ids(connection: sa.Connection, ids: Iterable[str]) -> set[str]:
    """Those of the ids, of people or of samples, that were withdrawn."""
    tombstones = t.tombstones.c.keyed_hash
    if connection.execute(sa.select(tombstones).limit(1)).scalar() is None:
        return set()
    key = id_key(connection)
    by_hash = {keyed_hash(key, one): one for one in ids}
    found: set[str] = set()
    for piece in in_pieces(list(by_hash)):
        found |= {
            by_hash[one] for one in connection.execute(sa.select(tombstones).where(tombstones.in_(piece))).scalars()
        }
    return found


def insert_tombstones(connection: sa.Connection, ids: Iterable[str], snapshot: int) -> None:
    """Make tombstones of ids; those that have one keep it."""
    there = withdrawn_ids(connection, wanted := sorted(set(ids)))
    key = id_key(connection)
    new = [{"keyed_hash": keyed_hash(key, one), "published_in": snapshot} for one in wanted if one not in there]
    if new:
        connection.execute(sa.insert(t.tombstones), new)
