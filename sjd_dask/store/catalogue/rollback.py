"""Taking back a published change, as a new change.

What the change showed is retired, what it retired comes back as new records; nothing is deleted, so every past view
stays as it was. A change that later ones built upon is not taken back before them.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Final, NoReturn

import sqlalchemy as sa

from sjd_dask import names
from sjd_dask.errors import DataError, SpecError
from sjd_dask.store.catalogue import tables as t
from sjd_dask.store.catalogue.nights import check_newest
from sjd_dask.store.catalogue.promotions import ROLLBACK
from sjd_dask.store.catalogue.results import NewResult, insert_result, new_result_id, next_version
from sjd_dask.store.catalogue.retention import RETENTION
from sjd_dask.store.catalogue.session import Catalogue, in_pieces, new_snapshot, now, undone_changes, who_am_i
from sjd_dask.store.segment import is_layer_key

# What names a record of each table among the live ones: at most one of them is live at a time.
KEYS: Final[dict[str, tuple[str, ...]]] = {
    "rows": ("assay", "sample_id"),
    "sample_columns": ("sample_id",),
    "calls": ("output", "sample_id"),
    "promotions": ("name",),
    "results": ("kind", "name", "version"),
}
_TABLES: Final = {name: t.metadata.tables[name] for name in KEYS}
# Changes whose results each go on from the one before: an earlier one can't be taken from under a later one.
_CHAINED: Final = ("night", "layer")
_FINAL: Final = {
    "compact": "it moved rows to other segments and changed no value, so there is nothing to take back",
    "withdraw": "people who were withdrawn are removed everywhere; nothing of them is left that could come back",
    RETENTION: "the tables of old nights that it removed are gone",
}


@dataclass(frozen=True)
class Change:
    """A published change.

    Attributes
    ----------
    snapshot : int
    kind, message : str
    run_id : str or None
    undoes : int or None
        Of a rollback: the change that it took back.
    undone_by : int or None
        The rollback that took this one back.
    refs : list of str
        Results that it showed.
    """

    snapshot: int
    kind: str
    message: str
    run_id: str | None
    undoes: int | None
    undone_by: int | None
    refs: list[str]


@dataclass(frozen=True)
class RolledBack:
    """What taking back a change did.

    Attributes
    ----------
    snapshot : int
        The new change.
    undone : Change
        The one that was taken back.
    retired, restored : dict of str to int
        Records by table: those that left, and those that came back.
    refs : list of str
        Results that were retired.
    restored_refs, new_refs : list of str
        Results that came back, and those that were published with the rollback.
    """

    snapshot: int
    undone: Change
    retired: dict[str, int]
    restored: dict[str, int]
    refs: list[str]
    restored_refs: list[str] = field(default_factory=list)
    new_refs: list[str] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return asdict(self)


def find_change(catalogue: Catalogue, target: int | str) -> Change:
    """A change by its snapshot number, or by the run (or the beginning of its id) that published it.

    Of a run that published several times, the newest change that was not taken back.

    Raises
    ------
    SpecError
        There is no such change; the message says which there are.
    """
    with catalogue.read() as connection:
        return _find(connection, target)


def _find(connection: sa.Connection, target: int | str) -> Change:
    columns = t.snapshots.c
    undone = undone_changes(connection)
    text = str(target).strip()
    # The id of a run begins with a date, which is a number too.
    number = int(text) if text.isdigit() and len(text) < 8 else None
    if number is not None:
        record = connection.execute(sa.select(t.snapshots).where(columns.id == number)).mappings().one_or_none()
        if record is None:
            newest = int(connection.execute(sa.select(sa.func.max(columns.id))).scalar() or 0)
            raise SpecError(f"there is no snapshot {number}; the newest is {newest}. List them with: sjd log COHORT")
    else:
        begins = columns.run_id.startswith(text, autoescape=True)
        query = sa.select(t.snapshots).where(begins, columns.undoes.is_(None)).order_by(columns.id.desc())
        found = connection.execute(query).mappings().all() if text else []
        if not found:
            raise SpecError(
                f"{text!r} is neither the number of a published change nor a run that published one; list them with: "
                f"sjd log COHORT, sjd runs COHORT"
            )
        of_runs = sorted({str(one["run_id"]) for one in found})
        if len(of_runs) > 1:
            raise SpecError(f"more than one run begins with {text!r}: {', '.join(of_runs[:5])}; name one")
        record = next((one for one in found if one["id"] not in undone), found[0])
    results = t.results.c
    shown = connection.execute(
        sa.select(results.kind, results.name, results.version)
        .where(results.published_in == record["id"])
        .order_by(results.kind, results.name, results.version)
    )
    return Change(
        snapshot=record["id"],
        kind=record["kind"],
        message=record["message"],
        run_id=record["run_id"],
        undoes=record["undoes"],
        undone_by=undone.get(record["id"]),
        refs=[f"{kind}/{name}@{version}" for kind, name, version in shown],
    )


def roll_back(
    catalogue: Catalogue,
    target: int | str,
    why: str,
    who: str | None,
    extra: Sequence[NewResult],
    after: Mapping[str, int],
) -> RolledBack:
    """Take back a change. See `Cohort.rollback`."""
    with catalogue.write() as connection:
        check_newest(connection, after)
        return _Rollback(connection, _find(connection, target)).run(why, who, extra)


class _Rollback:
    """One rollback, inside its transaction."""

    def __init__(self, connection: sa.Connection, change: Change) -> None:
        self.connection = connection
        self.change = change
        self.undone = undone_changes(connection)
        # By table: what the change showed and a later rollback brought back, so what stands for it now.
        self.again: dict[str, list[sa.RowMapping]] = {}

    def run(self, why: str, who: str | None, extra: Sequence[NewResult]) -> RolledBack:
        change = self.change
        if change.kind in _FINAL:
            raise DataError(f"snapshot {change.snapshot} ({change.message}) can't be taken back: {_FINAL[change.kind]}")
        if change.undone_by is not None:
            raise DataError(
                f"snapshot {change.snapshot} was taken back already, in snapshot {change.undone_by}; nothing was "
                f"changed. To bring it again: sjd rollback COHORT {change.undone_by}"
            )
        leaving, coming = {}, {}
        for name, table in _TABLES.items():
            gone = sa.and_(table.c.published_in == change.snapshot, table.c.retired_in.is_not(None))
            self.again[name] = [self._now(name, one) for one in self._select(table, gone)]
            leaving[name] = self._count(table, self._own(table)) + len(self.again[name])
            coming[name] = self._count(table, table.c.retired_in == change.snapshot)
            if coming[name]:
                self._check_places(name)
        if not any([*leaving.values(), *coming.values()]):
            raise DataError(f"snapshot {change.snapshot} ({change.message}) holds nothing that could be taken back")
        results = [*self._select(t.results, self._own(t.results)), *self.again["results"]]
        back = self._select(t.results, t.results.c.retired_in == change.snapshot)
        self._check_results(results, back)
        snapshot = self._write(why, who)
        return RolledBack(
            snapshot=snapshot,
            undone=change,
            retired={name: count for name, count in leaving.items() if count},
            restored={name: count for name, count in coming.items() if count},
            refs=_refs(results),
            restored_refs=_refs(back),
            new_refs=[self._insert(item, snapshot) for item in extra],
        )

    def _select(self, table: sa.Table, condition: sa.ColumnElement[bool]) -> list[sa.RowMapping]:
        query = sa.select(table).where(condition).order_by(table.c.id)
        return list(self.connection.execute(query).mappings())

    def _count(self, table: sa.Table, condition: sa.ColumnElement[bool]) -> int:
        query = sa.select(sa.func.count()).select_from(table).where(condition)
        return int(self.connection.execute(query).scalar() or 0)

    def _own(self, table: sa.Table | sa.Alias) -> sa.ColumnElement[bool]:
        """What the change showed and is live still."""
        return sa.and_(table.c.published_in == self.change.snapshot, table.c.retired_in.is_(None))

    def _now(self, name: str, record: sa.RowMapping) -> sa.RowMapping:
        """The live form of a record: itself, or what came back for it when the change that retired it was undone."""
        table = _TABLES[name]
        while record["retired_in"] is not None:
            back = self.undone.get(record["retired_in"])
            if back is None:
                self._refuse(record["retired_in"], _text(name, record))
            same = sa.and_(*(table.c[key] == record[key] for key in KEYS[name]))
            found = self._select(table, sa.and_(same, table.c.published_in == back))
            if not found:
                self._refuse(back, _text(name, record))
            record = found[0]
        return record

    def _check_places(self, name: str) -> None:
        """What comes back needs its place free of all but what leaves."""
        table = _TABLES[name]
        old = table.alias("old")
        same = sa.and_(*(table.c[key] == old.c[key] for key in KEYS[name]))
        query = (
            sa.select(table)
            .join(old, same)
            .where(old.c.retired_in == self.change.snapshot, table.c.retired_in.is_(None))
            .where(table.c.published_in != self.change.snapshot)
        )
        mine = {one["id"] for one in self.again[name]}
        for record in self.connection.execute(query).mappings():
            if record["id"] not in mine:
                self._refuse(record["published_in"], _text(name, record))

    def _check_results(self, leaving: Sequence[sa.RowMapping], coming: Sequence[sa.RowMapping]) -> None:
        mine = {one["id"] for one in leaving}
        chained = [*leaving, *coming] if self._first_kind() in _CHAINED else []
        results = t.results.c
        for kind, name in sorted({(one["kind"], one["name"]) for one in chained}):
            first = min(one["version"] for one in chained if (one["kind"], one["name"]) == (kind, name))
            later = sa.and_(
                results.kind == kind, results.name == name, results.version > first, results.retired_in.is_(None)
            )
            for record in self._select(t.results, later):
                if record["id"] not in mine and not self._beside_rollback(record):
                    self._refuse(record["published_in"], _text("results", record))
        for record in leaving:
            if record["kind"] == names.MODELS:
                self._check_promoted(record)
            if record["kind"] == "layers":
                self._check_layer(record)

    def _first_kind(self) -> str:
        """What kind of change is taken back, or brought again, in the end."""
        snapshots = t.snapshots.c
        kind, undoes = self.change.kind, self.change.undoes
        while undoes is not None:
            query = sa.select(snapshots.kind, snapshots.undoes).where(snapshots.id == undoes)
            kind, undoes = self.connection.execute(query).one()
        return kind

    def _beside_rollback(self, record: sa.RowMapping) -> bool:
        """Whether a result tells of a rollback (changes that it made), and is not one that came back by it."""
        snapshots, results = t.snapshots.c, t.results.c
        undoes = self.connection.execute(
            sa.select(snapshots.undoes).where(snapshots.id == record["published_in"])
        ).scalar()
        if undoes is None:
            return False
        same = sa.and_(*(results[key] == record[key] for key in KEYS["results"]))
        before = sa.select(results.id).where(same, results.retired_in == undoes)
        return self.connection.execute(before).scalar() is None

    def _check_promoted(self, model: sa.RowMapping) -> None:
        columns = t.promotions.c
        live = sa.and_(columns.name == model["name"], columns.version == model["version"], columns.retired_in.is_(None))
        self._refuse_others("promotions", live, f"{model['name']}@{model['version']}, which is in production")

    def _check_layer(self, layer: sa.RowMapping) -> None:
        """Rows that later runs added to a version would be left without it."""
        key = json.loads(layer["meta"]).get("assay_key")
        live = sa.and_(t.rows.c.assay == key, t.rows.c.retired_in.is_(None))
        self._refuse_others("rows", live, f"rows of layers/{layer['name']}@{layer['version']}")

    def _refuse_others(self, name: str, live: sa.ColumnElement[bool], what: str) -> None:
        table = _TABLES[name]
        mine = {one["id"] for one in self.again[name]}
        for record in self._select(table, sa.and_(live, table.c.published_in != self.change.snapshot)):
            if record["id"] not in mine:
                self._refuse(record["published_in"], what)

    def _refuse(self, later: int, what: str) -> NoReturn:
        snapshots = t.snapshots.c
        query = sa.select(snapshots.kind, snapshots.message).where(snapshots.id == later)
        kind, message = self.connection.execute(query).one()
        first = f"Take that one back first: sjd rollback COHORT {later}"
        raise DataError(
            f"snapshot {self.change.snapshot} can't be taken back: the later snapshot {later} ({message}) touched "
            f"{what}; nothing was changed. {first if kind not in _FINAL else 'That one is final.'}"
        )

    def _write(self, why: str, who: str | None) -> int:
        change = self.change
        shown = change.message if len(change.message) <= 200 else change.message[:200] + "..."
        text = f"took back snapshot {change.snapshot} ({change.kind}: {shown})" + (f": {why}" if why else "")
        snapshot = new_snapshot(self.connection, ROLLBACK, text, who=who, undoes=change.snapshot)
        for name, table in _TABLES.items():
            retire = sa.update(table).values(retired_in=snapshot)
            self.connection.execute(retire.where(self._own(table)))
            for piece in in_pieces([one["id"] for one in self.again[name]]):
                self.connection.execute(retire.where(table.c.id.in_(piece)))
        for name in ("rows", "sample_columns", "calls"):
            # By the database: a night may have changed half a million calls.
            table = _TABLES[name]
            kept = [one for one in table.columns if one.name not in ("id", "published_in", "retired_in")]
            query = sa.select(*kept, sa.literal(snapshot)).where(table.c.retired_in == change.snapshot)
            columns = [*(one.name for one in kept), "published_in"]
            self.connection.execute(sa.insert(table).from_select(columns, query.order_by(table.c.id)))
        for table in (t.promotions, t.results):
            for record in self._select(table, table.c.retired_in == change.snapshot):
                new = {**record, "published_in": snapshot, "retired_in": None}
                new.pop("id")
                if table is t.results:
                    new["id"] = new_result_id()
                else:
                    new |= {"action": ROLLBACK, "who": who or who_am_i(), "time": now(), "why": why}
                self.connection.execute(sa.insert(table).values(**new))
        return snapshot

    def _insert(self, item: NewResult, snapshot: int) -> str:
        version = next_version(self.connection, item.kind, item.name)
        insert_result(self.connection, item, version, snapshot, None)
        return f"{item.kind}/{item.name}@{version}"


def _refs(records: Iterable[sa.RowMapping]) -> list[str]:
    keys = sorted((one["kind"], one["name"], one["version"]) for one in records)
    return [f"{kind}/{name}@{version}" for kind, name, version in keys]


def _text(name: str, record: sa.RowMapping) -> str:
    """A record in words; of one sample, since a change may touch many."""
    if name == "rows":
        assay = record["assay"]
        where = f"layer {assay.split('@')[0]!r}" if is_layer_key(assay) else f"assay {assay!r}"
        return f"sample {record['sample_id']!r} of {where}"
    if name == "sample_columns":
        return f"the columns of sample {record['sample_id']!r}"
    if name == "calls":
        return f"the call of sample {record['sample_id']!r} in {record['output']!r}"
    if name == "promotions":
        return f"what is in production of model {record['name']!r}"
    return f"{record['kind']}/{record['name']}@{record['version']}"
