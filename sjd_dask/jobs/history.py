"""All that was ever said of one person: one query of the history of calls, and what is reported after each visit."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from sjd_dask import names
from sjd_dask.errors import SpecError
from sjd_dask.jobs.reported import in_order, replay

if TYPE_CHECKING:
    from sjd_dask.store.cohort import Cohort
    from sjd_dask.store.result import Result


@dataclass(frozen=True)
class PersonHistory:
    """The calls of a person.

    Attributes
    ----------
    output, person : str
    calls : DataFrame
        One row a call: the columns of :meth:`Cohort.call_history`, in order of visits, then of publication; and
        ``reported``, what is reported after that visit by the calls of today (missing for calls that were replaced).
    classes : tuple of str
    margin : float or None
        Of the reports; None where there is no night of that name.
    """

    output: str
    person: str
    calls: pd.DataFrame
    classes: tuple[str, ...]
    margin: float | None

    def to_rows(self) -> list[dict[str, Any]]:
        """The calls as plain data; a missing value is None."""
        frame = self.calls.astype(object)
        rows = frame.where(frame.notna(), None).to_dict("records")
        return [{str(key): value.item() if hasattr(value, "item") else value for key, value in row.items()}
                for row in rows]  # fmt: skip


def person_history(cohort: Cohort, output: str, person: str) -> PersonHistory:
    """Every call of a person, the replaced ones too.

    Parameters
    ----------
    cohort : Cohort
    output : str
        NAME of ``classes/NAME``.
    person : str
        The ``person_id``; the sample id of a sample that has none.

    Raises
    ------
    SpecError
        No calls under that name, or none of that person.
    """
    output = output.removeprefix(f"{names.CLASSES}/").removeprefix(f"{names.CHANGES}/")
    found = cohort.call_history(output, person_id=person)
    if found.empty:
        found = cohort.call_history(output, sample_id=person)
        found = found[found[names.PERSON_ID].isna()]
    if found.empty:
        raise SpecError(
            f"{output!r} has no call of a person {person!r}, nor of a sample of that id without a person. Persons are "
            f"in the column person_id of `sjd export COHORT classes/{output} FILE.csv`"
        )
    result = _newest(cohort, names.CLASSES, output)
    night = _newest(cohort, names.CHANGES, output)
    margin = None if night is None else _margin(night)
    samples = found[names.SAMPLE_ID].unique().tolist()
    frame = None if result is None else _rows(result, samples)
    classes = _classes(frame, found)
    calls = _ordered(found)
    reports = _reports(frame, classes, margin) if frame is not None and margin is not None else {}
    live = calls["retired_in"].isna()
    calls["reported"] = calls[names.SAMPLE_ID].map(reports).astype(object).where(live)
    return PersonHistory(output, person, calls, classes, margin)


def _newest(cohort: Cohort, kind: str, name: str) -> Result | None:
    found = [one for one in cohort.results() if one.kind == kind and one.name == name]
    return max(found, key=lambda one: one.version, default=None)


def _margin(night: Result) -> float | None:
    meta: dict[str, Any] = dict(night.meta or {})
    found = meta.get("margin", (meta.get("spec") or {}).get("margin"))
    return None if found is None else float(found)


def _rows(result: Result, samples: list[str]) -> pd.DataFrame | None:
    """The rows of some samples, read in pieces."""
    import pyarrow as pa
    import pyarrow.compute as pc

    wanted = pa.array(samples, pa.string())
    parts = [batch.filter(pc.is_in(batch.column(names.SAMPLE_ID), wanted)) for batch in result.batches()]
    if not parts:
        return None
    frame: pd.DataFrame = pa.Table.from_batches(parts).to_pandas()
    return frame.set_index(names.SAMPLE_ID)


def _classes(frame: pd.DataFrame | None, calls: pd.DataFrame) -> tuple[str, ...]:
    """The model's classes, and those that only earlier models knew."""
    known = [] if frame is None else [
        str(one).removeprefix(names.PROBABILITY) for one in frame.columns if str(one).startswith(names.PROBABILITY)
    ]  # fmt: skip
    others = set(calls["call"].dropna()) | set(calls["top_class"].dropna())
    return (*known, *sorted(others - set(known)))


def _ordered(calls: pd.DataFrame) -> pd.DataFrame:
    """By visit, and the calls of one sample in order of publication."""
    calls = calls.sort_values("published_in", kind="stable")
    newest = calls.drop_duplicates(names.SAMPLE_ID, keep="last").set_index(names.SAMPLE_ID)
    # The query found one person: samples are put in order as that one's, whatever an earlier sheet said.
    order, _, _ = in_order(newest.assign(**{names.PERSON_ID: "one"}))
    place = {sample: i for i, sample in enumerate(newest.index[order])}
    return calls.iloc[np.argsort(calls[names.SAMPLE_ID].map(place).to_numpy(), kind="stable")].reset_index(drop=True)


def _reports(frame: pd.DataFrame, classes: tuple[str, ...], margin: float) -> dict[str, str | None]:
    """What is reported after each visit, by the calls of today up to it."""
    known = tuple(one for one in classes if f"{names.PROBABILITY}{one}" in frame)
    if frame.empty or not known:
        return {}
    frame = frame.assign(**{names.PERSON_ID: "one"})
    order, _, _ = in_order(frame)
    found: dict[str, str | None] = {}
    for n in range(1, len(order) + 1):
        report = replay(frame.iloc[order[:n]], known, margin)
        found[str(frame.index[order[n - 1]])] = report["reported_call"].iloc[0]
    return found
