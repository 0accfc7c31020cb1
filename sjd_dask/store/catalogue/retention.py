"""Nights whose tables are not kept for ever: the newest of an output stay, the others leave the catalogue as a change.

A night publishes whole tables, one row a sample and one a person, though most of them say what the night before said.
What changed is in ``changes/NAME``, and the history of calls is in the catalogue; both stay.
"""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

import sqlalchemy as sa

from sjd_dask import names
from sjd_dask.store.catalogue import tables as t
from sjd_dask.store.catalogue.runs import run_of
from sjd_dask.store.catalogue.session import in_pieces, new_snapshot

# The kind of the change.
RETENTION: Final = "retention"
# Whole tables; what differs from one night to the next is in `changes`.
_WHOLE: Final = (names.CLASSES, names.REPORTED)
_KINDS: Final = (*_WHOLE, names.CHANGES)
_REF: Final = re.compile(rf"\b(?:{'|'.join(_WHOLE)})/[A-Za-z0-9][A-Za-z0-9_.-]*@[0-9]+")


@dataclass(frozen=True)
class OldNights:
    """What is older than the nights to be kept.

    Attributes
    ----------
    live : list of (record id, reference, bytes)
        Results that leave.
    taken_back : list of str
        Records of results that no rollback can bring again; they have no reference any more.
    kept : list of str
        References that another result names, and so stay.
    """

    live: list[tuple[str, str, int]]
    taken_back: list[str]
    kept: list[str]

    @property
    def refs(self) -> list[str]:
        """Of the results that leave."""
        return [ref for _, ref, _ in self.live]


def reading_run(connection: sa.Connection) -> str | None:
    """A living run, which may be reading results; None where there is none."""
    running = connection.execute(sa.select(t.runs).where(t.runs.c.state == "running")).mappings()
    return next((run.id for run in map(run_of, running) if run.is_live()), None)


def old_nights(connection: sa.Connection, keep: int) -> OldNights:
    """The nights beyond the newest `keep` of each output."""
    results, runs = t.results.c, t.runs.c
    nightly = sa.select(runs.id).where(runs.job == "nightly")
    query = (
        sa.select(
            results.id, results.kind, results.name, results.version, results.run_id, results.files,
            results.published_in, results.retired_in,
        )
        .where(results.kind.in_(_WHOLE), results.run_id.in_(nightly))
        .order_by(results.name, results.version, results.kind)
    )  # fmt: skip
    by_output: dict[str, list[Any]] = defaultdict(list)
    for record in connection.execute(query):
        by_output[record.name].append(record)
    found, named = OldNights([], [], []), _named(connection)
    for records in by_output.values():
        _of_output(records, keep, named, found)
    return found


def _of_output(records: list[Any], keep: int, named: set[str], found: OldNights) -> None:
    live = [one for one in records if one.retired_in is None]
    newest = sorted((one for one in live if one.kind == names.CLASSES), key=lambda one: -one.version)[:keep]
    if not newest:
        return
    stays = {one.run_id for one in newest}
    # A rollback since then may be taken back itself, and brings again what it retired.
    since = min(one.published_in for one in newest)
    for one in records:
        ref = f"{one.kind}/{one.name}@{one.version}"
        if one.run_id in stays:
            continue
        if one.retired_in is None and ref in named:
            found.kept.append(ref)
        elif one.retired_in is None:
            size = sum(int(file["n_bytes"]) for file in json.loads(one.files).values())
            found.live.append((one.id, ref, size))
        elif one.retired_in < since and one.files != "{}":
            found.taken_back.append(one.id)


def _named(connection: sa.Connection) -> set[str]:
    """Versions that other results say they were made from."""
    results = t.results.c
    others = sa.select(results.meta).where(results.kind.not_in(_KINDS), results.retired_in.is_(None))
    return {ref for text in connection.execute(others).scalars() for ref in _REF.findall(text)}


def remove_nights(connection: sa.Connection, old: OldNights) -> int | None:
    """Take old nights out of the catalogue, inside the transaction; their files are then nobody's."""
    if not old.live and not old.taken_back:
        return None
    shown = ", ".join(old.refs[:6]) + (", ..." if len(old.live) > 6 else "")
    snapshot = new_snapshot(connection, RETENTION, f"tables of {len(old.live)} old results removed: {shown}")
    for piece in in_pieces([one for one, _, _ in old.live]):
        gone = sa.update(t.results).where(t.results.c.id.in_(piece))
        connection.execute(gone.values(retired_in=snapshot, files="{}"))
    for piece in in_pieces(old.taken_back):
        connection.execute(sa.update(t.results).where(t.results.c.id.in_(piece)).values(files="{}"))
    return snapshot


def removed_versions(connection: sa.Connection, kind: str, name: str) -> dict[int, int]:
    """Versions of a result that were removed so, and the changes that did it."""
    results, snapshots = t.results.c, t.snapshots.c
    query = (
        sa.select(results.version, results.retired_in)
        .join(t.snapshots, snapshots.id == results.retired_in)
        .where(results.kind == kind, results.name == name, snapshots.kind == RETENTION)
    )
    return {version: snapshot for version, snapshot in connection.execute(query)}


def removed_text(refs: Iterable[str], snapshot: int) -> str:
    """For messages."""
    return f"{', '.join(refs)} was removed in snapshot {snapshot}, as an old night (sjd gc --keep-nights)"
