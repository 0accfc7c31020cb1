"""Which version of a model is in production, and which was: records that are retired, never changed."""

from __future__ import annotations

import time
from dataclasses import dataclass

import sqlalchemy as sa

from sjd_dask import names
from sjd_dask.errors import SpecError
from sjd_dask.store.catalogue import tables as t
from sjd_dask.store.catalogue.session import Catalogue, as_of, new_snapshot, who_am_i

PROMOTE, ROLLBACK = "promote", "rollback"


@dataclass(frozen=True)
class Promotion:
    """One record: this version was in production from `published_in` until `retired_in` (None: it still is)."""

    name: str
    version: int
    action: str
    who: str
    time: float
    why: str
    published_in: int
    retired_in: int | None


def _promotion(record: sa.RowMapping) -> Promotion:
    return Promotion(**{key: record[key] for key in Promotion.__dataclass_fields__})


def list_promotions(
    connection: sa.Connection, name: str | None = None, snapshot: int | None = None, *, all_records: bool = False
) -> list[Promotion]:
    """Promotions of a view (or, with `all_records`, all there ever were), oldest first."""
    query = sa.select(t.promotions).order_by(t.promotions.c.id)
    if not all_records:
        query = query.where(as_of(t.promotions, snapshot))
    if name is not None:
        query = query.where(t.promotions.c.name == name)
    return [_promotion(record) for record in connection.execute(query).mappings()]


def in_production(connection: sa.Connection, name: str, snapshot: int | None = None) -> Promotion | None:
    """The promotion that ``NAME@production`` means."""
    found = list_promotions(connection, name, snapshot)
    return found[0] if found else None


def live_versions(connection: sa.Connection, name: str) -> list[int]:
    """The versions of a model that are published, oldest first."""
    results = t.results.c
    query = sa.select(results.version).where(
        results.kind == names.MODELS, results.name == name, results.retired_in.is_(None)
    )
    return [int(one) for one in connection.execute(query.order_by(results.version)).scalars()]


def promote(catalogue: Catalogue, name: str, version: int, why: str, who: str | None) -> int | None:
    """Put a version in production; None where it is there already. See `Cohort.promote`."""
    with catalogue.write() as connection:
        known = live_versions(connection, name)
        if version not in known:
            there = ", ".join(f"models/{name}@{one}" for one in known) or "none of that name"
            raise SpecError(f"this cohort has no model {name}@{version}; it has: {there}; nothing was promoted")
        now = in_production(connection, name)
        if now is not None and now.version == version:
            return None
        before = f" (before: {name}@{now.version})" if now else ""
        return _replace(
            connection, name, version, PROMOTE, f"{name}@{version} promoted to production{before}", why, who
        )


def demote(catalogue: Catalogue, name: str, why: str, who: str | None) -> int:
    """Take a model out of production. See `Cohort.demote`."""
    with catalogue.write() as connection:
        now = _needed(connection, name)
        return _replace(connection, name, None, PROMOTE, f"{name}@{now.version} taken out of production", why, who)


def roll_back(catalogue: Catalogue, name: str, why: str, who: str | None, to: int | None = None) -> tuple[int, int]:
    """Back to the version that was in production before; returns it and the snapshot. See `Cohort.rollback_model`."""
    with catalogue.write() as connection:
        history = list_promotions(connection, name, all_records=True)
        if not history:
            raise SpecError(_never(name))
        now = in_production(connection, name)
        stack = _stack(history)
        if now is not None:
            stack = stack[:-1]
        known = live_versions(connection, name)
        usable = [version for version in stack if version in known]
        if not usable:
            held = f"{name}@{now.version} is the first that was promoted" if now else "no earlier version is published"
            raise SpecError(
                f"model {name!r} has no earlier version to go back to: {held}; nothing was changed. To use another: "
                f"sjd models promote COHORT {name}@VERSION"
            )
        if to is not None and to not in usable:
            before_it = ", ".join(f"{name}@{one}" for one in usable)
            raise SpecError(
                f"{name}@{to} is not one to go back to: before the present there were {before_it}; nothing was "
                f"changed. To use it all the same: sjd models promote COHORT {name}@{to}"
            )
        version = usable[-1] if to is None else to
        before = f" (before: {name}@{now.version})" if now else ""
        text = f"{name}@{version} is in production again{before}"
        return version, _replace(connection, name, version, ROLLBACK, text, why, who)


def _stack(history: list[Promotion]) -> list[int]:
    """Versions as they were promoted one upon the other; going back takes off what lay above."""
    stack: list[int] = []
    for one in history:
        if one.action == ROLLBACK and one.version in stack:
            while stack[-1] != one.version:
                stack.pop()
        elif not stack or stack[-1] != one.version:
            stack.append(one.version)
    return stack


def _needed(connection: sa.Connection, name: str) -> Promotion:
    now = in_production(connection, name)
    if now is None:
        raise SpecError(not_promoted(name, live_versions(connection, name)))
    return now


def _never(name: str) -> str:
    return f"no version of model {name!r} was ever promoted; list the models with: sjd models list COHORT"


def not_promoted(name: str, versions: list[int]) -> str:
    """Why ``NAME@production`` means nothing, and what to do."""
    if not versions:
        return f"this cohort has no model {name!r}; list the models with: sjd models list COHORT"
    there = ", ".join(f"{name}@{one}" for one in versions)
    return (
        f"no version of model {name!r} is in production; it has: {there}. Promote one with: sjd models promote COHORT "
        f"{name}@{versions[-1]} --why REASON, or name a version"
    )


def _replace(
    connection: sa.Connection, name: str, version: int | None, action: str, text: str, why: str, who: str | None
) -> int:
    snapshot = new_snapshot(connection, "promotion", f"{text}: {why}" if why else text, who=who)
    columns = t.promotions.c
    live = sa.and_(columns.name == name, columns.retired_in.is_(None))
    connection.execute(sa.update(t.promotions).where(live).values(retired_in=snapshot))
    if version is not None:
        insert_promotion(connection, name, version, action, why, who, snapshot)
    return snapshot


def insert_promotion(
    connection: sa.Connection, name: str, version: int, action: str, why: str, who: str | None, snapshot: int
) -> None:
    """Add a record inside the transaction that publishes it."""
    connection.execute(
        sa.insert(t.promotions).values(
            name=name,
            version=version,
            action=action,
            who=who or who_am_i(),
            time=time.time(),
            why=why,
            published_in=snapshot,
        )
    )
