"""The page of all people: axes, scores and answers as shares, without names and without counts of few."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import pandas as pd

from sjd_dask.report.format import count, number
from sjd_dask.report.layer_facts import Rows
from sjd_dask.report.layer_figures import COLORS
from sjd_dask.report.page import TEMPLATES, Picture, environment, picture_uri
from sjd_dask.report.people_figures import NOT_COLOR, OPEN_COLOR
from sjd_dask.report.person_page import CLASS_WORDS
from sjd_dask.report.suppress import short

ANSWER_COLORS = {"positive": "#e69f00", "negative": NOT_COLOR, "unknown": OPEN_COLOR}
RESPONSE_COLORS = {"yes": "#009e73", "no": NOT_COLOR, "undetermined": OPEN_COLOR}
RAISED_COLORS = {"active": "#0072b2", "impaired": "#e69f00", "amplification": "#009e73", "high burden": "#56b4e9"}
CLASS_COLORS = ("#009e73", OPEN_COLOR, NOT_COLOR, "#333f4c", "#cc79a7", "#56b4e9")
OPEN, NONE = "open", "none dominates"
MOST_ITEMS = 20
TITLES = {"acr_eular": "ACR/EULAR", "essdai": "ESSDAI", "esspri": "ESSPRI", "sgus": "ultrasound"}


class Counted(Protocol):
    """How many people gave each answer; None where that is not told."""

    @property
    def title(self) -> str: ...
    @property
    def counts(self) -> Mapping[str, int | None]: ...
    @property
    def untold(self) -> int | None: ...


class People(Protocol):
    """What the page takes: counts and distributions, nobody's own values."""

    sheet: str
    n_persons: int
    n_visits: int
    below: int
    parts: Mapping[str, Sequence[Counted]]
    scores: Mapping[str, Any]
    missing: Sequence[tuple[str, str, int]]
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


def render_people(found: People) -> str:
    """The page of all people of a sheet.

    Parameters
    ----------
    found : People

    Returns
    -------
    str
        HTML that fetches nothing, runs nothing and names nobody. User text is escaped.
    """
    return (
        environment()
        .get_template("people.html.j2")
        .render(
            sheet=found.sheet,
            which=found.which,
            calls=found.calls,
            reference=found.reference,
            below=found.below,
            style=(TEMPLATES / "style.css").read_text(encoding="utf-8"),
            notes=list(found.notes),
            cards=_cards(found),
            axes=_axes(found),
            dominant=_dominant(found),
            scores=_scores(found),
            classification=_classification(found),
            answers=_part(found, "glands", ANSWER_COLORS, "Objective gland tests."),
            responses=_part(found, "responses", RESPONSE_COLORS, "At each person's newest visit after the baseline."),
            missing=_missing(found),
        )
    )


def _cards(found: People) -> list[tuple[str, str, str]]:
    cards = [
        (count(found.n_persons), "people", f"at their {found.which}"),
        (count(found.n_visits), "rows of the sheet", ""),
    ]
    for part, answer, words in (
        ("classification", "definite", "meet 2016 ACR/EULAR"),
        ("activity", "high", "high ESSDAI activity"),
    ):
        if part in found.parts:
            n = found.parts[part][0].counts.get(answer, 0)
            cards.append((short(n), words, "" if n is None else f"{100 * n / max(found.n_persons, 1):.0f} %"))
    return cards


def _part(
    found: People, name: str, colors: Mapping[str, str], caption: str, absent: str = "0", words: Any = None
) -> Part | None:
    """A bar and a row of numbers for each question of a part."""
    if name not in found.parts:
        return None
    from sjd_dask.report.people_figures import shares

    rows = found.parts[name]
    cells = [[one.title, *(short(one.counts[c]) if c in one.counts else absent for c in colors)] for one in rows]
    columns = [("", False), *((words[answer] if words else answer, True) for answer in colors)]
    said = "; ".join(
        f"{row[0]}: " + ", ".join(f"{title} {n}" for (title, _), n in zip(columns[1:], row[1:], strict=True) if n)
        for row in cells
    )
    uri = picture_uri(shares(rows, colors, words))
    return Part(Picture("wide", uri, f"{caption} {said}.", caption), Rows(columns, cells, len(cells)))


def _axes(found: People) -> Part | None:
    states = [state for one in found.parts.get("axes", ()) for state in one.counts]
    rest = [one for one in dict.fromkeys(states) if one not in (*RAISED_COLORS, OPEN)]
    colors = {state: color for state, color in RAISED_COLORS.items() if state in states}
    colors |= dict.fromkeys(rest, NOT_COLOR)
    if OPEN in states:
        colors[OPEN] = OPEN_COLOR
    return _part(found, "axes", colors, "State on each axis.", absent="")


def _dominant(found: People) -> Part | None:
    colors = dict(zip(found.axes["name"].astype(str), COLORS, strict=False)) | {NONE: NOT_COLOR, OPEN: OPEN_COLOR}
    by = ", of all and by molecular class" if len(found.parts.get("dominant", ())) > 1 else ""
    return _part(found, "dominant", colors, f"Dominant axis{by}.")


def _classification(found: People) -> Part | None:
    counted = found.parts.get("classification")
    if not counted:
        return None
    colors = {
        name: color
        for name, color in zip(CLASS_WORDS, CLASS_COLORS, strict=True)
        if any(name in one.counts for one in counted)
    }
    return _part(found, "classification", colors, "2016 ACR/EULAR classification.", words=CLASS_WORDS)


def _scores(found: People) -> Part | None:
    if not found.scores:
        return None
    from sjd_dask.report.people_figures import distributions

    columns = [("score", False), ("known", True), ("open", True), ("median", True), ("quartiles", True)]
    rows = []
    for name, one in found.scores.items():
        low, middle, high = one.quartiles
        rows.append([found.scales[name]["title"], short(one.known), short(one.unknown), number(middle, 3),
                     f"{number(low, 3)} to {number(high, 3)}"])  # fmt: skip
    said = "; ".join(f"{row[0]}: median {row[3]}" for row in rows)
    picture = Picture(
        "wide",
        picture_uri(distributions(found.scores, found.scales, found.below)),
        f"Distributions of scores. {said}.",
        "Those whose score is known. Dashed: where a state begins. Dotted: too few people, not drawn to height.",
    )
    return Part(picture, Rows(columns, rows, len(rows)))


def _missing(found: People) -> Part | None:
    if not found.missing:
        return None
    from sjd_dask.report.people_figures import bars

    top = found.missing[:MOST_ITEMS]
    labels = [f"{TITLES[measure]}: {item.removeprefix('sgus_').replace('_', ' ')}" for measure, item, _ in top]
    percent = [100 * n / found.n_persons for *_, n in top]
    rows = [[label, count(row[2]), f"{share:.0f} %"] for label, row, share in zip(labels, top, percent, strict=True)]
    picture = Picture(
        "wide",
        picture_uri(bars(labels, percent, "% of people in whom it is missing")),
        f"What is missing most often: {'; '.join(f'{row[0]} {row[2]}' for row in rows[:5])}.",
        "What is missing most often.",
    )
    return Part(picture, Rows([("item", False), ("people", True), ("share", True)], rows, len(found.missing)))
