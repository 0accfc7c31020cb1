"""Taking a change back; where it is a night, `changes/NAME` says whose calls went back too."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sjd_dask import names
from sjd_dask.errors import DataError

if TYPE_CHECKING:
    from sjd_dask.jobs.night_state import Night
    from sjd_dask.store.catalogue.rollback import Change, RolledBack
    from sjd_dask.store.cohort import Cohort
    from sjd_dask.store.items import ResultItem
    from sjd_dask.store.result import Result


@dataclass(frozen=True)
class _Output:
    """One output of nights, as it is and as it will be."""

    name: str
    now: Night
    again: Night | None
    meta: dict[str, Any]
    newest: dict[str, int]


def roll_back(cohort: Cohort, target: int | str, why: str = "", who: str | None = None) -> RolledBack:
    """Take back a published change, as a new change.

    Parameters
    ----------
    target : int or str
        A snapshot number, or a run.
    why, who : str, optional
        For the log.

    Returns
    -------
    RolledBack
        Where calls of a night went back, `new_refs` names the version of `changes/NAME` that says whose (reason
        `rollback`).

    Raises
    ------
    SpecError, DataError
        See `Cohort.rollback`.
    Busy
        A night or a withdrawal is under way.
    """
    with cohort.lease():
        change = cohort.change(target)
        outputs = _outputs(cohort, change)
        items = [_item(one, change, why) for one in outputs]
        after = {ref: version for one in outputs for ref, version in one.newest.items()}
        return cohort.rollback(change.snapshot, why, who, extra=items, after=after)


def _outputs(cohort: Cohort, change: Change) -> list[_Output]:
    from sjd_dask.jobs.night_inputs import STATE, newest_versions, night_of

    live = {one.ref: one for one in cohort.results()}
    earlier = cohort.results(change.snapshot - 1) if change.snapshot > 1 else []
    coming = {one.ref: one for one in earlier if one.record.retired_in == change.snapshot and one.ref not in live}
    later = {ref: one for ref, one in {**live, **coming}.items() if ref not in change.refs}

    def night(found: dict[str, Result], output: str) -> Result | None:
        nights = [
            one for one in found.values()
            if (one.kind, one.name) == (names.CLASSES, output) and STATE in one.tables
        ]  # fmt: skip
        return max(nights, key=lambda one: one.version, default=None)

    made = []
    for output in sorted({one.name for one in [*live.values(), *coming.values()] if one.kind == names.CLASSES}):
        now, again = night(live, output), night(later, output)
        if now is None or (again is not None and now.ref == again.ref):
            continue
        _check_there(cohort, change, output, 0 if again is None else again.version)
        made.append(
            _Output(
                output,
                night_of(cohort, now),
                None if again is None else night_of(cohort, again),
                now.meta,
                newest_versions(live.values(), output),
            )
        )
    return made


def _check_there(cohort: Cohort, change: Change, output: str, version: int) -> None:
    """Refuse where the night that would be published again is an old one whose tables are gone."""
    removed = {one: by for one, by in cohort.removed_versions(names.CLASSES, output).items() if one > version}
    if removed:
        newest = max(removed)
        raise DataError(
            f"snapshot {change.snapshot} ({change.message}) can't be taken back: the night before it, "
            f"{names.CLASSES}/{output}@{newest}, was removed in snapshot {removed[newest]} (sjd gc --keep-nights); "
            "nothing was changed"
        )


def _item(output: _Output, change: Change, why: str) -> ResultItem:
    from sjd_dask.jobs.night_changes import rolled_back
    from sjd_dask.jobs.night_tables import changes_table

    run = f"rollback of {change.run_id or f'snapshot {change.snapshot}'}"
    table = rolled_back(output.now, output.again, run)
    facts: dict[str, Any] = {
        **{
            name: output.meta.get(name)
            for name in ("title", "classes", "eligible", "margin", "suppress_below", "cohort")
        },
        "job": "rollback",
        "model": None if output.again is None else _model(output.again),
        "previous_model": output.meta.get("model"),
        "undone": {"snapshot": change.snapshot, "run": change.run_id, "refs": change.refs, "why": why},
        "warnings": [],
        "night": {
            "n_samples": 0 if output.again is None else len(output.again.calls),
            "n_scored": 0,
            "statuses": {} if output.again is None else dict(Counter(output.again.calls["status"])),
            "previous_statuses": dict(Counter(output.now.calls["status"])),
            "calls": {} if output.again is None else _reported(output.again),
            "previous_calls": _reported(output.now),
        },
    }
    return (names.CHANGES, output.name, {"table": changes_table(table)}, facts)


def _model(night: Night) -> str | None:
    found = Counter(night.calls["model"].dropna())
    return str(found.most_common(1)[0][0]) if found else None


def _reported(night: Night) -> dict[str, int]:
    return dict(sorted(Counter(night.reported["reported_call"].dropna()).items()))
