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
}
_Key = tuple[Any, ...]


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
        # Records of the change as they are live now, and records that it retired; by table.
        self.leaving: dict[str, list[sa.RowMapping]] = {}
        self.coming: dict[str, list[sa.RowMapping]] = {}

    def run(self, why: str, who: str | None, extra: Sequence[NewResult]) -> RolledBack:
        change = self.change
        if change.kind in _FINAL:
            raise DataError(f"snapshot {change.snapshot} ({change.message}) can't be taken back: {_FINAL[change.kind]}")
        if change.undone_by is not None:
            raise DataError(
                f"snapshot {change.snapshot} was taken back already, in snapshot {change.undone_by}; nothing was "
                f"changed. To bring it again: sjd rollback COHORT {change.undone_by}"
            )
        for name in KEYS:
            self.leaving[name] = [self._now(name, one) for one in self._records(name, "published_in")]
            self.coming[name] = self._records(name, "retired_in")
            self._check_places(name)
        if not any([*self.leaving.values(), *self.coming.values()]):
            raise DataError(f"snapshot {change.snapshot} ({change.message}) holds nothing that could be taken back")
        self._check_results()
        return self._write(why, who, extra)

    def _records(self, name: str, column: str) -> list[sa.RowMapping]:
        table = _TABLES[name]
        query = sa.select(table).where(table.c[column] == self.change.snapshot).order_by(table.c.id)
        return list(self.connection.execute(query).mappings())

    def _now(self, name: str, record: sa.RowMapping) -> sa.RowMapping:
        """The live form of a record: itself, or what came back for it when the change that retired it was undone."""
        table = _TABLES[name]
        while record["retired_in"] is not None:
            back = self.undone.get(record["retired_in"])
            if back is None:
                self._refuse(record["retired_in"], _text(name, record))
            same = sa.and_(*(table.c[key] == record[key] for key in KEYS[name]))
            query = sa.select(table).where(same, table.c.published_in == back)
            found = self.connection.execute(query).mappings().one_or_none()
            if found is None:
                self._refuse(back, _text(name, record))
            record = found
        return record

    def _check_places(self, name: str) -> None:
        """What comes back needs its place free of all but what leaves."""
        table, keys = _TABLES[name], KEYS[name]
        leaving = {one["id"] for one in self.leaving[name]}
        coming: dict[_Key, sa.RowMapping] = {tuple(one[key] for key in keys): one for one in self.coming[name]}
        last = table.c[keys[-1]]
        for piece in in_pieces(sorted({key[-1] for key in coming})):
            query = sa.select(table).where(table.c.retired_in.is_(None), last.in_(piece))
            for record in self.connection.execute(query).mappings():
                if record["id"] not in leaving and tuple(record[key] for key in keys) in coming:
                    self._refuse(record["published_in"], _text(name, record))

    def _check_results(self) -> None:
        leaving = {one["id"]: one for one in self.leaving["results"]}
        chained = [*leaving.values(), *self.coming["results"]] if self._first_kind() in _CHAINED else []
        results = t.results.c
        for kind, name in sorted({(one["kind"], one["name"]) for one in chained}):
            first = min(one["version"] for one in chained if (one["kind"], one["name"]) == (kind, name))
            later = sa.select(t.results).where(
                results.kind == kind, results.name == name, results.version > first, results.retired_in.is_(None)
            )
            for record in self.connection.execute(later.order_by(results.version)).mappings():
                if record["id"] not in leaving and not self._beside_rollback(record):
                    self._refuse(record["published_in"], _text("results", record))
        for record in leaving.values():
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
        query = sa.select(columns.id, columns.published_in).where(
            columns.name == model["name"], columns.version == model["version"], columns.retired_in.is_(None)
        )
        mine = {one["id"] for one in self.leaving["promotions"]}
        for record_id, since in self.connection.execute(query):
            if record_id not in mine:
                self._refuse(since, f"{model['name']}@{model['version']}, which is in production")

    def _check_layer(self, layer: sa.RowMapping) -> None:
        """Rows that later runs added to a version would be left without it."""
        key = json.loads(layer["meta"]).get("assay_key")
        mine = {one["id"] for one in self.leaving["rows"]}
        rows = t.rows.c
        query = sa.select(rows.id, rows.published_in).where(rows.assay == key, rows.retired_in.is_(None))
        for record_id, since in self.connection.execute(query.order_by(rows.id)):
            if record_id not in mine:
                self._refuse(since, f"rows of layers/{layer['name']}@{layer['version']}")

    def _refuse(self, later: int, what: str) -> NoReturn:
        snapshots = t.snapshots.c
        query = sa.select(snapshots.kind, snapshots.message).where(snapshots.id == later)
        kind, message = self.connection.execute(query).one()
        first = f"Take that one back first: sjd rollback COHORT {later}"
        raise DataError(
            f"snapshot {self.change.snapshot} can't be taken back: the later snapshot {later} ({message}) touched "
            f"{what}; nothing was changed. {first if kind not in _FINAL else 'That one is final.'}"
        )

    def _write(self, why: str, who: str | None, extra: Sequence[NewResult]) -> RolledBack:
        change = self.change
        shown = change.message if len(change.message) <= 200 else change.message[:200] + "..."
        text = f"took back snapshot {change.snapshot} ({change.kind}: {shown})" + (f": {why}" if why else "")
        snapshot = new_snapshot(self.connection, ROLLBACK, text, who=who, undoes=change.snapshot)
        for name, table in _TABLES.items():
            for piece in in_pieces([one["id"] for one in self.leaving[name]]):
                self.connection.execute(sa.update(table).where(table.c.id.in_(piece)).values(retired_in=snapshot))
            again = [{**one, "published_in": snapshot, "retired_in": None} for one in self.coming[name]]
            for one in again:
                # A new record gets a number of its own; results are numbered by whoever makes them.
                one.pop("id")
                if name == "results":
                    one["id"] = new_result_id()
                if name == "promotions":
                    one |= {"action": ROLLBACK, "who": who or who_am_i(), "time": now(), "why": why}
            if again:
                self.connection.execute(sa.insert(table), again)
        new = []
        for item in extra:
            version = next_version(self.connection, item.kind, item.name)
            insert_result(self.connection, item, version, snapshot, None)
            new.append(f"{item.kind}/{item.name}@{version}")
        return RolledBack(
            snapshot=snapshot,
            undone=change,
            retired={name: len(found) for name, found in self.leaving.items() if found},
            restored={name: len(found) for name, found in self.coming.items() if found},
            refs=_refs(self.leaving["results"]),
            restored_refs=_refs(self.coming["results"]),
            new_refs=new,
        )


def _refs(records: Iterable[sa.RowMapping]) -> list[str]:
    return [f"{one['kind']}/{one['name']}@{one['version']}" for one in records]


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
