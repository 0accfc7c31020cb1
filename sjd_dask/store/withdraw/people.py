"""Whose ids these are: people with all samples they ever had, from what the sample columns say and said."""

from __future__ import annotations

import dataclasses
import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from sjd_dask import names
from sjd_dask.errors import DataError
from sjd_dask.store.catalogue import tables as t
from sjd_dask.store.catalogue.tombstones import id_text, withdrawn_ids
from sjd_dask.store.withdraw.ids import ID_COLUMNS, Leaving


@dataclass(frozen=True)
class Request:
    """What a list of ids asks for.

    Attributes
    ----------
    leaving : Leaving
        People who are here, and their samples.
    gone : list of str
        Ids that were withdrawn before.
    unknown : list of str
        Ids that this cohort has never seen.
    n_people : int
        Who leave; a sample without a person is somebody too.
    """

    leaving: Leaving
    gone: list[str]
    unknown: list[str]
    n_people: int


def resolve(
    connection: sa.Connection, ids: Sequence[str], *, person: str = names.PERSON_ID, id_columns: Iterable[str] = ()
) -> Request:
    """People and samples of a list of ids.

    Parameters
    ----------
    ids : sequence of str
        Ids of people, or of samples of which no person is known.
    person : str
        The sample column of people.
    id_columns : iterable of str
        Further sample columns that hold ids.

    Raises
    ------
    DataError
        A sample of a known person: people withdraw, with all their samples.
    """
    records = _records(connection)
    owner = {sample: found for sample, record in records.items() if (found := id_text(record.get(person))) is not None}
    samples_of: dict[str, set[str]] = defaultdict(set)
    for sample, one in owner.items():
        samples_of[one].add(sample)
    known = _stored(connection) | set(records)
    persons, samples, others, parts = set(), set(), [], []
    for one in ids:
        if one in samples_of:
            persons.add(one)
            samples |= samples_of[one]
        elif one in owner:
            parts.append(one)
        elif one in known:
            samples.add(one)
        else:
            others.append(one)
    parts = [one for one in parts if owner[one] not in persons]
    if parts:
        shown = ", ".join(f"{one!r} (of {owner[one]!r})" for one in parts[:5])
        raise DataError(
            f"{len(parts)} of the ids are samples of people who have ids of their own: {shown}"
            f"{', ...' if len(parts) > 5 else ''}; nothing was withdrawn. People withdraw, with all their samples: "
            f"write their {person} instead: {_some({owner[one]: None for one in parts})}."
        )
    gone = withdrawn_ids(connection, others)
    every = known | set(samples_of)
    own = {person, *id_columns}
    ids_here = persons | samples
    leaving = Leaving(
        frozenset(persons),
        frozenset(samples),
        stay=frozenset(every - ids_here),
        samples_each=len(records) / max(1, len(samples_of)),
    )
    told, words = _columns(records.values(), leaving, own)
    return Request(
        leaving=dataclasses.replace(leaving, id_columns=frozenset(own | told), words=frozenset(words)),
        gone=[one for one in others if one in gone],
        unknown=[one for one in others if one not in gone],
        n_people=len(persons) + len(samples - owner.keys()),
    )


def _some(ids: Iterable[str], most: int = 50) -> str:
    """Ids for a message that says what to write: as many as one can copy."""
    every = list(ids)
    return ", ".join(map(repr, every[:most])) + (f", and {len(every) - most:,} more" if len(every) > most else "")


def everybody(connection: sa.Connection, person: str = names.PERSON_ID) -> set[str]:
    """Ids of all people and samples of any view."""
    records = _records(connection)
    people = {found for one in records.values() if (found := id_text(one.get(person))) is not None}
    return people | set(records) | _stored(connection)


def _stored(connection: sa.Connection) -> set[str]:
    return set(connection.execute(sa.select(t.rows.c.sample_id).distinct()).scalars())


def _records(connection: sa.Connection) -> dict[str, dict[str, Any]]:
    """The newest sample columns of every sample there ever was."""
    columns = t.sample_columns.c
    found = connection.execute(sa.select(columns.sample_id, columns.content).order_by(columns.id))
    newest = {sample: content for sample, content in found}
    parsed = json.loads("[" + ",".join(newest.values()) + "]")
    return dict(zip(newest, parsed, strict=True))


def _columns(records: Iterable[dict[str, Any]], leaving: Leaving, own: set[str]) -> tuple[set[str], set[str]]:
    """Columns that hold ids by what is in them, and ids that are words of the others."""
    count: dict[str, Counter[str]] = defaultdict(Counter)
    for record in records:
        for name, value in record.items():
            if isinstance(value, str) and not (name in ID_COLUMNS or name in own):
                count[name][value] += 1
    told: set[str] = set()
    words: set[str] = set()
    for name, values in count.items():
        if found := leaving.ids & values.keys():
            if leaving.are_ids(values.keys(), values.total()):
                told.add(name)
            else:
                words |= found
    return told, words
