"""The page of a person: every call that was ever made of them, over their visits."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pandas as pd

from sjd_dask import names
from sjd_dask.report.format import count, number
from sjd_dask.report.layer_facts import Rows
from sjd_dask.report.page import TEMPLATES, Picture, environment, picture_uri


def render_history(
    person: str,
    calls: pd.DataFrame,
    classes: Sequence[str],
    *,
    output: str,
    margin: float | None = None,
    cohort_path: str = "COHORT",
) -> str:
    """The page of one person.

    Parameters
    ----------
    person : str
    calls : DataFrame
        One row a call, in order of visits and then of publication: the columns of the history of calls, and
        ``reported`` (what is reported after the visit; missing for calls that were replaced).
    classes : sequence of str
    output : str
        Name of the calls.
    margin : float, optional
        Of the reports.
    cohort_path : str

    Returns
    -------
    str
        HTML that fetches nothing and runs nothing. User text is escaped.
    """
    from sjd_dask.report.history_figures import over_visits

    live = calls[calls["retired_in"].isna()]
    said = "; ".join(
        f"{_visit(row)}: {row['call'] if pd.notna(row['call']) else str(row['status']).replace('_', ' ')}"
        for _, row in live.iterrows()
    )
    by_date = bool(len(live)) and live[names.DATE].notna().all()
    picture = Picture(
        "wide",
        picture_uri(over_visits(calls, classes)),
        f"Calls of {person} over {len(live)} samples: {said or 'none today'}.",
        ("By date of visit. " if by_date else "In order of visits; not all have a date. ")
        + "Filled: called; hollow: no call, at the most probable class. Small and grey: calls that were replaced. The "
        "band is what is reported.",
    )
    return (
        environment()
        .get_template("history.html.j2")
        .render(
            person=person,
            output=output,
            cohort_path=cohort_path,
            style=(TEMPLATES / "style.css").read_text(encoding="utf-8"),
            cards=_cards(calls, live),
            picture=picture,
            rows=_rows(calls),
            margin=None if margin is None else number(margin),
        )
    )


def day(seconds: Any) -> str:
    """A moment as a day, in UTC; "" where there is none."""
    return "" if pd.isna(seconds) else datetime.fromtimestamp(float(seconds), UTC).date().isoformat()


def _visit(row: pd.Series) -> str:
    found = [str(row[name]) for name in (names.DATE, names.VISIT) if pd.notna(row[name])]
    return found[0] if found else str(row[names.SAMPLE_ID])


def _cards(calls: pd.DataFrame, live: pd.DataFrame) -> list[tuple[str, str, str]]:
    known = live["reported"].dropna() if "reported" in live else live["call"].iloc[:0]
    cards = [(str(known.iloc[-1]) if len(known) else "–", "reported today", "")]
    cards.append(
        (count(len(live)), "sample" if len(live) == 1 else "samples", f"{count(live['call'].notna().sum())} called")
    )
    replaced = int(calls["retired_in"].notna().sum())
    cards.append((count(replaced), "earlier call" if replaced == 1 else "earlier calls", "replaced since"))
    models = live["model"].dropna().unique()
    if len(models):
        cards.append((", ".join(map(str, models)), "model", ""))
    return cards


def _rows(calls: pd.DataFrame) -> Rows:
    columns = [("visit", False), ("date", False), ("sample", False), ("status", False), ("call", False),
               ("most probable", False), ("confidence", True), ("reported after it", False), ("model", False),
               ("since", False), ("until", False)]  # fmt: skip
    rows = []
    for _, one in calls.iterrows():
        text = [_text(one.get(name)) for name in (names.VISIT, names.DATE, names.SAMPLE_ID)]
        text += [str(one["status"]).replace("_", " "), _text(one["call"]), _text(one["top_class"])]
        confidence = one["confidence"]
        text += [
            number(np.nan if pd.isna(confidence) else confidence, 3),
            _text(one.get("reported")),
            _text(one["model"]),
        ]
        rows.append([*text, day(one["published_at"]), day(one["retired_at"]) or "today"])
    return Rows(columns, rows, len(rows))


def _text(value: Any) -> str:
    if value is None or pd.isna(value):
        return "–"
    if isinstance(value, float | np.floating) and float(value).is_integer():
        return str(int(value))
    return str(value)
