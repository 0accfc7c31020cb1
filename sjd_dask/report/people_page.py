"""The page of all people: axes, scores and answers as shares, without names and without counts of few."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import pandas as pd

from sjd_dask.report.format import count, number
from sjd_dask.report.layer_facts import Rows
from sjd_dask.report.layer_figures import COLORS
from sjd_dask.report.page import TEMPLATES, Picture, environment, picture_uri
from sjd_dask.report.people_figures import NOT_COLOR, OPEN_COLOR
from sjd_dask.report.person_page import CLASS_WORDS, GLANDS
from sjd_dask.report.suppress import short, suppress, suppress_table

CLASS = "molecular_class"
NO_CLASS, OPEN, NONE = "no class", "open", "none dominates"
DRAWN = ("essdai", "clinessdai", "esspri")
ANSWER_COLORS = {"positive": "#e69f00", "negative": NOT_COLOR, "unknown": OPEN_COLOR}
RESPONSE_COLORS = {"yes": "#009e73", "no": NOT_COLOR, "undetermined": OPEN_COLOR}
MOST_ITEMS = 20
TITLES = {"acr_eular": "ACR/EULAR", "essdai": "ESSDAI", "clinessdai": "ClinESSDAI", "esspri": "ESSPRI",
          "glands": "gland tests", "sgus": "ultrasound", "star": "STAR", "cress": "CRESS"}  # fmt: skip


class People(Protocol):
    """What the page takes: plain tables, one row a person where not said otherwise."""

    sheet: str
    n_persons: int
    n_visits: int
    people: pd.DataFrame
    responses: pd.DataFrame
    missing: pd.DataFrame
    scales: Mapping[str, Mapping[str, Any]]
    axes: pd.DataFrame
    reference: str
    which: str
    calls: str
    notes: Sequence[str]


@dataclass(frozen=True)
class Part:
    """A picture with the table of its counts."""

    picture: Picture
    rows: Rows


def render_people(found: People, *, below: int = 5) -> str:
    """The page of all people of a sheet.

    Parameters
    ----------
    found : People
    below : int
        A count of fewer people is not shown, nor what would tell it by subtraction.

    Returns
    -------
    str
        HTML that fetches nothing, runs nothing and names nobody. User text is escaped.
    """
    people = found.people
    return (
        environment()
        .get_template("people.html.j2")
        .render(
            sheet=found.sheet,
            which=found.which,
            calls=found.calls,
            reference=found.reference,
            below=below,
            style=(TEMPLATES / "style.css").read_text(encoding="utf-8"),
            notes=list(found.notes),
            cards=_cards(found, below),
            axes=_axes(people, found.axes, below),
            dominant=_dominant(people, found.axes, below),
            scores=_scores(people, found.scales, below),
            answers=_answers(people, below),
            classification=_classification(people, below),
            responses=_responses(found.responses, below),
            missing=_missing(found.missing, found.n_persons, below),
        )
    )


def _cards(found: People, below: int) -> list[tuple[str, str, str]]:
    cards = [
        (count(found.n_persons), "people", f"at their {found.which}"),
        (count(found.n_visits), "rows of the sheet", ""),
    ]
    people = found.people
    for column, value, words in (
        ("acr_eular_class", "definite", "meet 2016 ACR/EULAR"),
        ("essdai_activity", "high", "high ESSDAI activity"),
    ):
        if column in people:
            kept, _ = suppress(_counted(people[column].fillna(OPEN)), below)
            n = kept.get(value, 0)
            cards.append((short(n), words, "" if n is None else f"{100 * n / max(found.n_persons, 1):.0f} %"))
    return cards


def _counted(column: pd.Series) -> dict[str, int]:
    return {str(key): int(n) for key, n in column.astype(object).value_counts().items()}


def _row(title: str, counts: Mapping[str, int], below: int) -> tuple[str, dict[str, int | None], int]:
    """A row of shares: the counts that may be shown and the sum of the others."""
    kept, _ = suppress(counts, below)
    hidden = sum(n for key, n in counts.items() if kept[key] is None)
    return title, kept, hidden


def _part(
    rows: Sequence[tuple[str, dict[str, int | None], int]],
    colors: Mapping[str, str],
    what: str,
    caption: str,
    absent: str = "0",
) -> Part:
    from sjd_dask.report.people_figures import shares

    columns = [("", False), *((answer, True) for answer in colors)]
    cells = [
        [title, *(short(kept[answer]) if answer in kept else absent for answer in colors)] for title, kept, _ in rows
    ]
    said = "; ".join(f"{row[0]}: " + ", ".join(f"{c[0]} {n}" for c, n in zip(columns[1:], row[1:], strict=True))
                     for row in cells)  # fmt: skip
    picture = Picture("wide", picture_uri(shares(rows, colors)), f"{what} {said}.", caption)
    return Part(picture, Rows(columns, cells, len(cells)))


def _axes(people: pd.DataFrame, axes: pd.DataFrame, below: int) -> Part | None:
    if axes.empty or "axis1_state" not in people:
        return None
    rows = []
    states: list[str] = []
    for _, axis in axes.iterrows():
        counts = _counted(people[f"axis{axis['number']}_state"].fillna(OPEN))
        rows.append(_row(f"{axis['number']}  {axis['title']}", counts, below))
        states += [one for one in counts if one not in states]
    raised = [one for one in ("active", "impaired", "amplification", "high burden") if one in states]
    rest = [one for one in states if one not in (*raised, OPEN)]
    shades = dict(zip(raised, ("#0072b2", "#e69f00", "#009e73", "#56b4e9"), strict=False))
    colors = {**shades, **dict.fromkeys(rest, NOT_COLOR), **({OPEN: OPEN_COLOR} if OPEN in states else {})}
    return _part(rows, colors, "States on the three axes.", "State on each axis.", absent="")


def _dominant(people: pd.DataFrame, axes: pd.DataFrame, below: int) -> Part | None:
    """Dominant axis of all, and by molecular class where there are calls."""
    if axes.empty or "dominant" not in people:
        return None
    dominant = people["dominant"].astype(object).fillna(OPEN).astype(str)
    colors = dict(zip(axes["name"].astype(str), COLORS, strict=False)) | {NONE: NOT_COLOR, OPEN: OPEN_COLOR}
    whole = _row("all", _counted(dominant), below)
    if CLASS not in people:
        return _part([whole], colors, "Dominant axis.", "Dominant axis.")
    table = pd.crosstab(people[CLASS].astype(object).fillna(NO_CLASS).astype(str), dominant)
    hidden = suppress_table(table.to_numpy(), below)
    rows = [whole]
    for i, name in enumerate(table.index):
        counts = {str(column): int(n) for column, n in table.iloc[i].items()}
        kept = {key: None if out else n for (key, n), out in zip(counts.items(), hidden[i], strict=True)}
        rows.append((str(name), kept, sum(n for key, n in counts.items() if kept[key] is None)))
    return _part(rows, colors, "Dominant axis by molecular class.", "Dominant axis, of all and by molecular class.")


def _scores(people: pd.DataFrame, scales: Mapping[str, Mapping[str, Any]], below: int) -> Part | None:
    drawn = {name: people[name].dropna().to_numpy(dtype=float) for name in DRAWN if name in people}
    drawn = {name: values for name, values in drawn.items() if values.size >= max(below, 1)}
    if not drawn:
        return None
    from sjd_dask.report.people_figures import distributions

    columns = [("score", False), ("known", True), ("open", True), ("median", True), ("quartiles", True)]
    rows = []
    for name, values in drawn.items():
        kept, _ = suppress({"known": len(values), "open": len(people) - len(values)}, below)
        low, middle, high = np.quantile(values, [0.25, 0.5, 0.75])
        rows.append([scales[name]["title"], short(kept["known"]), short(kept["open"]), number(middle, 3),
                     f"{number(low, 3)} to {number(high, 3)}"])  # fmt: skip
    said = "; ".join(f"{row[0]}: median {row[3]}" for row in rows)
    picture = Picture(
        "wide",
        picture_uri(distributions(drawn, scales, below)),
        f"Distributions of scores. {said}.",
        "Those whose score is known. Dashed: where a state begins. Dotted: too few people, not drawn to height.",
    )
    return Part(picture, Rows(columns, rows, len(rows)))


def _answers(people: pd.DataFrame, below: int) -> Part | None:
    tests = [(title, column) for title, column in GLANDS if column in people and title not in ("right", "left")]
    if not tests:
        return None
    rows = [_row(title, _counted(people[column]), below) for title, column in tests]
    return _part(rows, ANSWER_COLORS, "Gland tests.", "Objective gland tests.")


def _classification(people: pd.DataFrame, below: int) -> Part | None:
    if "acr_eular_class" not in people:
        return None
    words = people["acr_eular_class"].map(CLASS_WORDS)
    palette = ("#009e73", OPEN_COLOR, NOT_COLOR, "#333f4c", "#cc79a7", "#56b4e9")
    colors = {word: color for word, color in zip(CLASS_WORDS.values(), palette, strict=True) if (words == word).any()}
    return _part([_row("all", _counted(words), below)], colors, "2016 ACR/EULAR.", "2016 ACR/EULAR classification.")


def _responses(responses: pd.DataFrame, below: int) -> Part | None:
    rows = [
        _row(TITLES[column.removesuffix("_responder")], _counted(responses[column].dropna()), below)
        for column in responses
        if responses[column].notna().any()
    ]
    if not rows:
        return None
    return _part(rows, RESPONSE_COLORS, "Response.", "Response at each person's newest visit after the baseline.")


def _missing(missing: pd.DataFrame, n_persons: int, below: int) -> Part | None:
    """What is missing most often, in per cent; items that few people lack or have are left out."""
    missing = missing[(missing["n"] >= below) & ((n_persons - missing["n"] >= below) | (missing["n"] == n_persons))]
    if missing.empty:
        return None
    from sjd_dask.report.people_figures import bars

    top = missing.sort_values("n", ascending=False, kind="stable").head(MOST_ITEMS)
    labels = [
        f"{TITLES[row['measure']]}: {row['item'].removeprefix('sgus_').replace('_', ' ')}" for _, row in top.iterrows()
    ]
    percent = [100 * n / n_persons for n in top["n"]]
    rows = [[label, count(n), f"{share:.0f} %"] for label, n, share in zip(labels, top["n"], percent, strict=True)]
    picture = Picture(
        "wide",
        picture_uri(bars(labels, percent, "% of people in whom it is missing")),
        f"What is missing most often: {'; '.join(f'{row[0]} {row[2]}' for row in rows[:5])}.",
        "What is missing most often.",
    )
    return Part(picture, Rows([("item", False), ("people", True), ("share", True)], rows, len(missing)))
