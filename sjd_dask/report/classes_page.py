"""The page of a classification: who was called what, how sure, who was not, and why. It names nobody."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from sjd_dask import names
from sjd_dask.report import facts
from sjd_dask.report.format import count, natural_key, number, shorten, spec_text
from sjd_dask.report.layer_facts import Rows
from sjd_dask.report.page import TEMPLATES, Picture, environment, picture_uri
from sjd_dask.report.suppress import short, suppress

MOST_GROUPS = 60
SUPPRESS_BELOW = 5
# The number of samples that a warning begins with may be one that the page hides.
_COUNT = re.compile(r"^[\d,]+ samples?: ")
# Why a sample has no answer, by how the reason begins.
REASONS = {
    "pending_batch": "of a batch that the model's normalisation has no parameters for",
    "without": "an empty cell in a sample column that the normalisation needs",
    "refused": "values that a step of the normalisation refuses",
}


def render_classes(meta: Mapping[str, Any], table: pd.DataFrame, scores: pd.DataFrame | None = None) -> str:
    """The page of one ``classes/NAME``.

    Parameters
    ----------
    meta : mapping
        The result's facts; every key is optional.
    table : DataFrame
        One row a sample, columns of the contract.
    scores : DataFrame, optional
        The companion table: ``sample_id``, ``ood_score``, ``n_missing``, ``reason``, ``batch``.

    Returns
    -------
    str
        HTML that fetches nothing and runs nothing. User text is escaped. Counts of fewer than ``suppress_below`` people
        are not shown, nor bars of as few samples.
    """
    below = int(meta.get("suppress_below") or SUPPRESS_BELOW)
    classes = [one.removeprefix(names.PROBABILITY) for one in table.columns if one.startswith(names.PROBABILITY)]
    frame = table.assign(person=table[names.PERSON_ID].astype(object).where(table[names.PERSON_ID].notna(), None))
    frame["person"] = frame["person"].fillna(frame[names.SAMPLE_ID])
    if scores is not None:
        frame = frame.merge(scores, on=names.SAMPLE_ID, how="left")
    reference = str(meta.get("reference") or names.CLASSES)
    return (
        environment()
        .get_template("classes.html.j2")
        .render(
            title=str(meta.get("title") or reference),
            reference=reference,
            export_name=reference.split("@")[0].split("/")[-1],
            cohort_path=str((meta.get("cohort") or {}).get("path") or "COHORT"),
            style=(TEMPLATES / "style.css").read_text(encoding="utf-8"),
            warnings=[_COUNT.sub("Some samples: ", str(one)) for one in meta.get("warnings") or []],
            below=below if below > 1 else None,
            cards=_cards(frame, below),
            calls=_calls(frame, classes, below),
            statuses=_statuses(frame, below),
            reasons=_reasons(frame, below),
            visits=_groups(frame, names.VISIT, "visit", below),
            batches=_groups(frame, "batch", str(meta.get("batch") or "batch"), below),
            pictures=_pictures(frame, classes, meta, below),
            guarantee=_guarantee(meta),
            what=_what(meta),
            where=facts.on_what({**meta, "quantity": None}),
            provenance=facts.provenance(meta),
            spec=spec_text(meta["spec"]) if meta.get("spec") else "",
        )
    )


def counted(frame: pd.DataFrame, column: str, keys: list[Any], below: int) -> tuple[dict[Any, int | None], int | None]:
    """Samples by the values of a column, and in all; None where so few people are behind them that nobody is told.

    People are counted, not samples: six visits of two people are two.
    """
    samples = {key: int((frame[column] == key).sum()) for key in keys}
    people = {key: int(frame.loc[frame[column] == key, "person"].nunique()) for key in keys}
    told, total = suppress(people, below)
    shown = {key: None if told[key] is None else samples[key] for key in keys}
    return shown, None if total is None else sum(samples.values())


def _cards(frame: pd.DataFrame, below: int) -> list[tuple[str, str, str]]:
    shown, _ = counted(frame, "status", list(names.CALL_STATUSES), below)
    scored = int((frame["status"] != names.NOT_ELIGIBLE).sum())
    of = f"of {count(len(frame))} samples"
    cards = [(count(scored) if scored >= below else "*", "samples looked at", of)]
    texts = {
        names.CALLED: "called",
        names.ABSTAINED: "abstained: more than one class is possible",
        names.OUT_OF_DISTRIBUTION: "unlike the samples of the training",
    }
    for status, text in texts.items():
        n = shown[status]
        share = f"{number(100 * n / scored, 3)} %" if n is not None and scored else ""
        cards.append((short(n), text, share))
    return cards


def _calls(frame: pd.DataFrame, classes: list[str], below: int) -> Rows:
    called = frame[frame["status"] == names.CALLED]
    rest = frame[frame["top_class"].notna() & (frame["status"] != names.CALLED)]
    shown, _ = counted(called, "call", classes, below)
    others, _ = counted(rest, "top_class", classes, below)
    rows = []
    for name in classes:
        own = called.loc[called["call"] == name, "confidence"]
        n = shown[name]
        share = number(100 * n / len(called), 3) if n is not None and len(called) else "–"
        middle = number(own.median(), 3) if n else "–"
        rows.append([shorten(name, 40), short(n), share, middle, short(others[name])])
    titles = ("called", "share, %", "median confidence", "most probable, not called")
    return Rows([("class", False), *((one, True) for one in titles)], rows, len(rows))


def _statuses(frame: pd.DataFrame, below: int) -> Rows:
    shown, _ = counted(frame, "status", list(names.CALL_STATUSES), below)
    rows = [[status.replace("_", " "), short(n)] for status, n in shown.items() if n != 0]
    return Rows([("status", False), ("samples", True)], rows, len(rows))


def _reasons(frame: pd.DataFrame, below: int) -> Rows | None:
    if "reason" not in frame or not frame["reason"].notna().any():
        return None
    by_status, _ = counted(frame, "status", list(names.CALL_STATUSES), below)
    found = frame.assign(kind=frame["reason"].map(_kind, na_action="ignore"))[frame["reason"].notna()]
    shown, _ = counted(found, "kind", sorted(found["kind"].unique()), below)
    rows = []
    for text, n in shown.items():
        is_hidden = any(by_status[one] is None for one in found.loc[found["kind"] == text, "status"].unique())
        rows.append([text, short(None if is_hidden else n)])
    return Rows([("why there is no answer", False), ("samples", True)], rows, len(rows))


def _kind(reason: str) -> str:
    head = reason.split(":", 1)[0]
    return REASONS.get(head.split(" ", 1)[0], head.replace("_", " "))


def _groups(frame: pd.DataFrame, column: str, title: str, below: int) -> Rows | None:
    """Statuses within each visit or batch; what is hidden of all samples is hidden of each part too."""
    if column not in frame or not frame[column].notna().any():
        return None
    statuses = [one for one in names.CALL_STATUSES if (frame["status"] == one).any()]
    levels = sorted(frame[column].dropna().unique(), key=natural_key)
    own = frame[frame[column].notna()]
    samples = pd.crosstab(own[column], own["status"]).reindex(index=levels, columns=statuses, fill_value=0)
    people = own.groupby([column, "status"])["person"].nunique().unstack(fill_value=0)
    people = people.reindex(index=levels, columns=statuses, fill_value=0)
    shown, _ = counted(frame, "status", statuses, below)
    hidden = hide(people.to_numpy(), below, np.array([shown[one] is None for one in statuses]))
    rows = []
    for level, counts, away in zip(levels, samples.to_numpy(), hidden, strict=True):
        total = None if away.sum() == 1 or 0 < counts.sum() < below else int(counts.sum())
        cells = [short(None if one else int(n)) for n, one in zip(counts, away, strict=True)]
        rows.append([shorten(str(level), 40), short(total), *cells])
    columns = [(title, False), ("samples", True), *((one.replace("_", " "), True) for one in statuses)]
    return Rows(columns, rows[:MOST_GROUPS], len(levels))


def hide(people: np.ndarray, below: int, columns: np.ndarray) -> np.ndarray:
    """Cells of a table of counts that are not shown.

    Parameters
    ----------
    people : ndarray of int (r, c)
    below : int
        Counts from 1 to ``below - 1`` are hidden.
    columns : ndarray of bool (c,)
        Hidden as a whole: their totals are.

    Returns
    -------
    ndarray of bool (r, c)
        In no row, and in no column whose total is shown, is one cell alone hidden: it would be the total less the
        others.
    """
    away = ((people > 0) & (people < below)) | (columns & (people > 0))
    while True:
        before = away.copy()
        for lines, counts in ((away, people), (away.T, people.T)):
            for line, row in zip(lines, counts, strict=True):
                others = np.flatnonzero(~line & (row > 0))
                if line.sum() == 1 and others.size:
                    line[others[np.argmin(row[others])]] = True
        if (away == before).all():
            return away


def _pictures(frame: pd.DataFrame, classes: list[str], meta: Mapping[str, Any], below: int) -> list[Picture]:
    from sjd_dask.report import classes_figures as figures

    pictures = []
    known = frame[frame["confidence"].notna()]
    if len(known) >= below:
        pictures.append(
            Picture(
                "half",
                picture_uri(figures.confidences(known, below)),
                f"Probability of the most probable class, {len(known):,} samples.",
                f"Probability of the most probable class; of {len(classes)} classes it is "
                f"{number(1 / len(classes), 2)} at least.{_few(below)}",
            )
        )
    scored = frame["ood_score"].dropna() if "ood_score" in frame else pd.Series(dtype=np.float64)
    if len(scored) >= below:
        threshold = meta.get("ood_threshold")
        pictures.append(
            Picture(
                "half",
                picture_uri(figures.distances(scored.to_numpy(dtype=np.float64), threshold, below)),
                f"Distance of {len(scored):,} samples from those of the training.",
                f"How far samples lie from those that the model was trained on; beyond the line nobody is "
                f"called.{_few(below)}",
            )
        )
    return pictures


def _few(below: int) -> str:
    return f" Bars of fewer than {below} samples are not drawn." if below > 1 else ""


def _guarantee(meta: Mapping[str, Any]) -> str:
    coverage = meta.get("coverage")
    if coverage is None:
        return ""
    return (
        "A sample is called when exactly one class is in its conformal set, it is like the samples of the training, "
        f"and at most {number(100 * float(meta.get('max_missing') or 0), 3)} % of the features are missing. For people "
        "like those of the training the set holds the true class with a probability of at least "
        f"{number(100 * float(coverage), 3)} %."
    )


def _what(meta: Mapping[str, Any]) -> facts.Pairs:
    pairs: facts.Pairs = []
    if meta.get("model"):
        pairs.append(("Model", f"{meta['model']} (bundle {str(meta.get('model_hash') or '')[:12]})"))
    if meta.get("classes"):
        pairs.append(("Classes", ", ".join(map(str, meta["classes"]))))
    if meta.get("n_panel") is not None:
        sentinels = meta.get("n_sentinels") or 0
        also = f", and {count(sentinels)} that tell whether a sample is like the training" if sentinels else ""
        pairs.append(("Features looked at", f"{count(meta['n_panel'])} of the panel{also}"))
    pairs.append(("Normalisation", str(meta.get("chain") or "none: values as they are")))
    if meta.get("eligible"):
        pairs.append(("Eligible", str(meta["eligible"])))
    return pairs
