"""The catalogue's part of a withdrawal: one transaction after which no view shows the people who left.

Until their bytes are gone too, a record of the work that is left stands in `meta`; whoever runs the withdrawal again
goes on from there.
"""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import sqlalchemy as sa

from sjd_dask.errors import Busy
from sjd_dask.store.catalogue import staging
from sjd_dask.store.catalogue import tables as t
from sjd_dask.store.catalogue.publish import segment_values
from sjd_dask.store.catalogue.runs import run_of
from sjd_dask.store.catalogue.session import in_pieces, new_snapshot, now, who_am_i
from sjd_dask.store.catalogue.tombstones import id_key, insert_tombstones, keyed_hash

if TYPE_CHECKING:
    from sjd_dask.store.withdraw.ids import Leaving
    from sjd_dask.store.withdraw.segments import Rewritten

PENDING: Final = "withdrawal"
# Tables whose records are somebody's: column of samples, column of people.
_OWNED: Final = (
    ("rows", "sample_id", None),
    ("sample_columns", "sample_id", None),
    ("calls", "sample_id", "person_id"),
)
# Their texts are names and hashes that the store makes.
_OTHERS: Final = ("meta", "segments", "assays", "tombstones", "leases", "rows", "sample_columns", "calls")


@dataclass
class Pending:
    """What a withdrawal has still to do once the catalogue shows it.

    Attributes
    ----------
    snapshot : int
    persons, samples : list of str
        Emptied once no file has their ids any more.
    id_columns, words : list of str
        See `Leaving`.
    segments : list of (assay, segment id)
        Segments whose bytes go.
    files : list of str
        Files whose bytes go.
    tombstones : list of str
        Ids that must not come again.
    facts : dict
        Counts for the line in the audit.
    """

    snapshot: int
    persons: list[str]
    samples: list[str]
    id_columns: list[str]
    words: list[str]
    segments: list[list[str]]
    files: list[str]
    tombstones: list[str]
    facts: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class NewFiles:
    """A result's files and facts as they will be."""

    result_id: str
    before: str
    files: dict[str, Any]
    meta: dict[str, Any]


def read_pending(connection: sa.Connection) -> Pending | None:
    """The withdrawal that was begun and not ended; None where there is none."""
    found = connection.execute(sa.select(t.meta.c.value).where(t.meta.c.key == PENDING)).scalar()
    return None if found is None else Pending(**json.loads(found))


def write_pending(connection: sa.Connection, pending: Pending | None) -> None:
    """Keep, change or end the record of a withdrawal."""
    connection.execute(sa.delete(t.meta).where(t.meta.c.key == PENDING))
    if pending is not None:
        connection.execute(sa.insert(t.meta).values(key=PENDING, value=json.dumps(pending.__dict__)))


def erase_for_good(connection: sa.Connection) -> None:
    """Overwrite what this connection deletes from now on."""
    if connection.dialect.name == "sqlite":
        connection.exec_driver_sql("PRAGMA secure_delete=ON")


def refuse_at_work(connection: sa.Connection, own: Sequence[str] = ()) -> None:
    """Refuse while a run or a writer may bring back what leaves.

    Raises
    ------
    Busy
        Naming it.
    """
    for record in connection.execute(sa.select(t.runs).where(t.runs.c.state == "running")).mappings():
        run = run_of(record)
        if run.is_live():
            raise Busy(
                f"run {run.id} ({run.job}, output {run.output!r}) is at work and may hold their values; nobody was "
                f"withdrawn. Wait for it, or stop it with: sjd cancel COHORT {run.id}"
            )
    for record in connection.execute(sa.select(t.staging)).mappings():
        writer = staging.staging_of(record)
        if writer.id not in own and writer.is_alive():
            raise Busy(
                f"{writer.owner} is writing to assay {writer.assay!r}; nobody was withdrawn. Wait for it to end, then "
                "run the same command again."
            )


def publish_withdrawal(
    connection: sa.Connection,
    leaving: Leaving,
    rewritten: Sequence[Rewritten],
    results: Sequence[NewFiles],
    *,
    n_results: int,
    staged: Sequence[str],
    pending: Pending,
    who: str | None,
) -> None:
    """Show the cohort without them: rows, sample columns, calls, results, and every text that names them.

    Raises
    ------
    Busy
        Something was published since the withdrawal was planned; nothing changed.
    """
    refuse_at_work(connection, staged)
    _refuse_changed(connection, leaving, rewritten, results, n_results)
    erase_for_good(connection)
    facts = pending.facts
    facts["people"] = keyed_hash(id_key(connection), "\n".join(sorted(pending.tombstones)))
    text = f"people withdrawn: {facts['persons']}, with {facts['samples']} samples"
    snapshot = new_snapshot(connection, "withdraw", text, who=who)
    pending.snapshot = snapshot
    for one in staged:
        staging.take_staging(connection, one)
    _move_rows(connection, rewritten, snapshot)
    for name, sample, person in _OWNED:
        table = t.metadata.tables[name]
        for column, ids in ((sample, leaving.samples), (person, leaving.persons)):
            if column is not None:
                for piece in in_pieces(sorted(ids)):
                    connection.execute(sa.delete(table).where(table.c[column].in_(piece)))
    for item in results:
        connection.execute(
            sa.update(t.results)
            .where(t.results.c.id == item.result_id)
            .values(files=json.dumps(item.files), meta=json.dumps(item.meta))
        )
    _scrub_columns(connection, leaving)
    _scrub_texts(connection, leaving)
    insert_tombstones(connection, pending.tombstones, snapshot)
    write_pending(connection, pending)


def _refuse_changed(
    connection: sa.Connection,
    leaving: Leaving,
    rewritten: Sequence[Rewritten],
    results: Sequence[NewFiles],
    n_results: int,
) -> None:
    rows, planned = t.rows.c, {one.touched.info.id: one.touched for one in rewritten}
    changed = int(connection.execute(sa.select(sa.func.count()).select_from(t.results)).scalar() or 0) != n_results
    for piece in in_pieces([item.result_id for item in results]):
        query = sa.select(t.results.c.id, t.results.c.files).where(t.results.c.id.in_(piece))
        now_there = {row.id: row.files for row in connection.execute(query)}
        changed |= any(now_there.get(item.result_id) != item.before for item in results if item.result_id in set(piece))
    for piece in in_pieces(list(planned)):
        query = sa.select(rows.segment_id, sa.func.count()).where(rows.segment_id.in_(piece)).group_by(rows.segment_id)
        counts = {row[0]: row[1] for row in connection.execute(query)}
        changed |= any(counts.get(one, 0) != planned[one].n_rows for one in piece)
    for piece in in_pieces(sorted(leaving.samples)):
        query = sa.select(rows.segment_id).where(rows.sample_id.in_(piece)).distinct()
        changed |= not set(connection.execute(query).scalars()) <= set(planned)
    if changed:
        raise Busy(
            "something was published while the withdrawal was prepared; nobody was withdrawn. Run the same command "
            "again."
        )


def _move_rows(connection: sa.Connection, rewritten: Sequence[Rewritten], snapshot: int) -> None:
    new = [segment_values(one.record, snapshot) for one in rewritten if one.record is not None]
    if new:
        connection.execute(sa.insert(t.segments), new)
    moves = [
        {"this_row": record, "segment_id": one.record.segment_id, "row_index": index}
        for one in rewritten
        if one.record is not None
        for index, row in enumerate(one.touched.stay)
        for record in row.ids
    ]
    if moves:
        connection.execute(
            sa.update(t.rows)
            .where(t.rows.c.id == sa.bindparam("this_row"))
            .values(segment_id=sa.bindparam("segment_id"), row_index=sa.bindparam("row_index")),
            moves,
        )
    for piece in in_pieces([one.touched.info.id for one in rewritten]):
        connection.execute(
            sa.update(t.segments)
            .where(t.segments.c.id.in_(piece))
            .values(state="removed", retired_in=snapshot, retired_at=now())
        )


def _scrub_columns(connection: sa.Connection, leaving: Leaving) -> None:
    """Sample columns of those who stay, of any time, that name one of those who leave."""
    columns = t.sample_columns.c
    changes = []
    for row_id, content in connection.execute(sa.select(columns.id, columns.content)):
        if leaving.may_name(content):
            record = json.loads(content)
            made = leaving.scrub_record(record)
            if made != record:
                text = json.dumps(made, ensure_ascii=False, separators=(",", ":"))
                changes.append({"this_row": row_id, "content": text})
    if changes:
        connection.execute(
            sa.update(t.sample_columns)
            .where(columns.id == sa.bindparam("this_row"))
            .values(content=sa.bindparam("content")),
            changes,
        )


def _scrub_texts(connection: sa.Connection, leaving: Leaving) -> None:
    """Messages, specs and facts of every other table."""
    for table in t.metadata.sorted_tables:
        keys = list(table.primary_key.columns)
        texts = [one for one in table.columns if isinstance(one.type, sa.String) and not one.primary_key]
        if table.name in _OTHERS or not texts:
            continue
        for record in connection.execute(sa.select(*keys, *texts)).mappings().all():
            changes: dict[str, Any] = {}
            for one in texts:
                text = record[one.name]
                if text and leaving.may_name(text) and (made := scrub_any(leaving, text)) != text:
                    changes[one.name] = made
            if changes:
                here = sa.and_(*(key == record[key.name] for key in keys))
                connection.execute(sa.update(table).where(here).values(**changes))


def scrub_any(leaving: Leaving, text: str) -> str:
    """A text, or JSON as the catalogue keeps it, without their ids."""
    return leaving.scrub_json_text(text) if text[:1] in "{[" else leaving.scrub_text(text)


def sign_off(connection: sa.Connection, facts: Mapping[str, Any], who: str | None) -> dict[str, Any]:
    """The line in the audit: what was done and checked, who did it, and no id in clear.

    `people` is a hash of the withdrawn ids, and `signature` one of the line (HMAC-SHA256), both with the cohort's key:
    who has the ids can show that this line is theirs, and nobody changes it without the key.
    """
    line = dict(facts)
    text = json.dumps(line, sort_keys=True)
    line["signature"] = hmac.new(id_key(connection), text.encode(), hashlib.sha256).hexdigest()
    connection.execute(
        sa.insert(t.audit).values(
            time=now(), who=who or who_am_i(), action="withdraw", detail=json.dumps(line, sort_keys=True)
        )
    )
    return line


def is_signed(connection: sa.Connection, detail: str) -> bool:
    """Whether a line of the audit is as it was signed off."""
    line = json.loads(detail)
    signature = line.pop("signature", "")
    text = json.dumps(line, sort_keys=True)
    return hmac.compare_digest(signature, hmac.new(id_key(connection), text.encode(), hashlib.sha256).hexdigest())
