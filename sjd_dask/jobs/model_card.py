"""The card of a model: on whom it was trained, how good it is on persons unseen, what it must not be used for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from sjd_dask import names
from sjd_dask.classify.metrics import Judged, brier_difference, evaluate, evaluate_subgroups, reliability

SUPPRESS_BELOW = 5
# Persons below which a class is said to be small, and a subgroup's shortfall in coverage that is told.
SMALL_CLASS = 20
ALL, CORE, OTHERS = "all", "core", "not core"
PANEL_ROWS = 500
_FACTS = (
    "title",
    "assay",
    "source_assay",
    "quantity",
    "labels",
    "person_column",
    "recipe",
    "refit",
    "folds",
    "platform",
    "n_panel",
    "panel_sizes",
    "n_sentinels",
    "threshold",
    "classifier_hash",
)


@dataclass(frozen=True)
class ModelCard:
    """A model's card and the tables that it sums up.

    Parameters
    ----------
    card
        For ``meta["card"]``: plain JSON, without the id of any sample or person; numbers of fewer than
        ``suppress_below`` persons are null.
    tables
        ``metrics``, ``reliability`` and, where columns were asked for, ``subgroups``: for the companions of the model.
    """

    card: dict[str, Any]
    tables: dict[str, pd.DataFrame]


def build(
    facts: Mapping[str, Any],
    predictions: pd.DataFrame,
    panel: pd.DataFrame,
    *,
    subgroups: pd.DataFrame | None = None,
    inner: pd.DataFrame | None = None,
    seed: int = 1,
    n_draws: int = 1000,
    suppress_below: int = SUPPRESS_BELOW,
) -> ModelCard:
    """Sum up a training.

    Parameters
    ----------
    facts
        What the job knows: ``classes``, ``recipe``, ``folds``, ``refit``, ``platform``, ``threshold`` ...; what it
        doesn't name is left out of the card.
    predictions
        One row a sample and repeat, by classifiers that had not seen the person: sample_id, person_id, label, status,
        ``p_<class>``, conformal_set, and optionally core, ood_score and ``uncalibrated_<class>``.
    panel
        feature_id with weights, direction and frequencies.
    subgroups
        Sample columns to give metrics for, indexed by sample_id.
    inner
        ``label``, person_id, ``p_<class>`` and ``uncalibrated_<class>`` of the folds within the final training; shows
        what calibration did where `predictions` can't.
    seed, n_draws
        Of the intervals.
    suppress_below
        Numbers of fewer persons are not in the card.
    """
    classes = tuple(str(name) for name in facts["classes"])
    known = predictions[predictions["label"].isin(classes)]
    judged = as_judged(known, classes)
    parts = {ALL: judged}
    if "core" in known and not known["core"].all():
        core = known["core"].to_numpy(dtype=bool)
        parts |= {CORE: judged.only(core), OTHERS: judged.only(~core)}
    metrics = pd.concat(
        [evaluate(part, seed=seed, n_draws=n_draws).assign(of=of) for of, part in parts.items() if len(part.labels)],
        ignore_index=True,
    )
    metrics.insert(0, "of", metrics.pop("of"))
    tables = {"metrics": metrics, "reliability": reliability(judged)}
    if subgroups is not None and len(subgroups.columns):
        own = subgroups.reindex(known[names.SAMPLE_ID])
        columns = {str(name): own[name].to_numpy(dtype=object) for name in own.columns}
        tables["subgroups"] = evaluate_subgroups(
            judged, columns, seed=seed, n_draws=n_draws, fewest=max(suppress_below, 1)
        )
    hidden = {name: hide_few(table, suppress_below) for name, table in tables.items()}
    card: dict[str, Any] = {name: facts[name] for name in _FACTS if facts.get(name) is not None}
    card |= {
        "classes": list(classes),
        "data": _data(judged, known, suppress_below),
        "metrics": _records(hidden["metrics"]),
        "reliability": _records(hidden["reliability"]),
        "calibration": _calibration(known, inner, classes, facts),
        "conformal": _conformal(metrics, facts),
        "out_of_distribution": _distribution(metrics, facts),
        "confusion": _confusion(judged, suppress_below),
        "panel": _panel(panel),
        "suppress_below": suppress_below,
    }
    if "subgroups" in hidden:
        card["subgroups"] = _records(_hide_beside(hidden["subgroups"]))
    card["limits"] = limits(card, metrics, tables.get("subgroups"))
    return ModelCard(card, tables)


def panel_sizes(sizes: pd.DataFrame) -> dict[str, Any]:
    """What was tried by the final model, and what the outer folds chose."""
    final, outer = sizes[sizes["fold"].isna()], sizes[sizes["fold"].notna() & sizes["chosen"]]
    counts = outer["size"].value_counts().sort_index()
    return {
        "tried": _records(final.drop(columns=["repeat", "fold"])),
        "outer_folds": {str(size): int(count) for size, count in counts.items()},
    }


def as_judged(predictions: pd.DataFrame, classes: tuple[str, ...]) -> Judged:
    """The table of predictions as numbers; a sample without a person is a person of its own."""
    persons = predictions[names.PERSON_ID].astype(object).where(predictions[names.PERSON_ID].notna(), None)
    pairs = zip(predictions[names.SAMPLE_ID], persons, strict=True)
    ids = np.array([f"sample {s}" if p is None else f"person {p}" for s, p in pairs], dtype=object)
    held = [set(str(one).split("|")) if isinstance(one, str) else set() for one in predictions["conformal_set"]]
    return Judged(
        classes,
        predictions["label"].map({name: i for i, name in enumerate(classes)}).to_numpy(dtype=np.int64),
        _probabilities(predictions, names.PROBABILITY, classes),
        ids,
        np.array([[name in one for name in classes] for one in held], dtype=bool).reshape(-1, len(classes)),
        predictions["status"].to_numpy(dtype=object),
    )


def hide_few(table: pd.DataFrame, below: int) -> pd.DataFrame:
    """The table with every number missing in rows of fewer persons than `below`."""
    out = table.copy()
    few = (out["n_persons"].fillna(0) < below).to_numpy(dtype=bool)
    labels = {"of", "metric", "class", "column", "level", "low", "high"} if "mean_probability" in out else {
        "of", "metric", "class", "column", "level",
    }  # fmt: skip
    for name in out.columns.difference(list(labels)):
        out[name] = out[name].astype("Int64" if name in ("n_samples", "n_persons") else "float64")
        out.loc[few, name] = pd.NA if name in ("n_samples", "n_persons") else np.nan
    return out


def _hide_beside(subgroups: pd.DataFrame) -> pd.DataFrame:
    """Where one level of a column has no count, that of the smallest other goes too: else it is the total less them."""
    out = subgroups.copy()
    for _, own in out.groupby("column", sort=False):
        counts = own.drop_duplicates("level").set_index("level")["n_persons"]
        if counts.isna().sum() == 1 and counts.notna().any():
            beside = own.index[own["level"] == counts.astype("Float64").idxmin()]
            out.loc[beside, ["n_samples", "n_persons"]] = pd.NA
    return out


def limits(card: Mapping[str, Any], metrics: pd.DataFrame, subgroups: pd.DataFrame | None) -> list[str]:
    """What the numbers don't say, in sentences; each follows from the card."""
    found = []
    data, conformal = card["data"], card["conformal"]
    found.append(
        f"Judged on {data['n_persons']:,} persons of one cohort. Another laboratory, platform or population was not "
        "seen: judge the model there before using it."
    )
    overall = metrics[metrics["of"] == ALL]
    few = overall[(overall["metric"] == "recall") & (overall["n_persons"] < SMALL_CLASS)]["class"].tolist()
    if few:
        found.append(
            f"Fewer than {SMALL_CLASS} persons of {', '.join(map(repr, few))}: intervals are wide, and rare mistakes "
            "were not seen."
        )
    if data["n_samples"] > data["n_persons"]:
        found.append(
            f"{data['n_samples']:,} samples are of {data['n_persons']:,} persons; visits of a person are alike, so "
            "intervals are over persons."
        )
    if str(card.get("labels", "")).startswith("strata/"):
        found.append(
            "The labels are groups found in the same data, not an outcome: agreement with them is not a diagnosis."
        )
    refit = card.get("refit") or {}
    there = {
        "normalisation": card.get("assay") != card.get("source_assay"),
        "groups": str(card.get("labels", "")).startswith("strata/"),
    }
    unfitted = [name for name, is_there in there.items() if is_there and refit.get(name) is False]
    if unfitted:
        found.append(f"Not made again inside the folds: {' and '.join(unfitted)}.")
    wanted = conformal.get("wanted")
    if wanted is not None:
        low = overall[
            (overall["metric"] == "coverage") & (overall["class"] != "") & (overall["high"] < wanted)
        ]["class"].tolist()  # fmt: skip
        text = f"{100 * wanted:g} % coverage is over all persons together, not within each class or group."
        below = overall[(overall["metric"] == "coverage") & (overall["class"] == "") & (overall["high"] < wanted)]
        if len(below):
            found.append(
                f"The sets held the true class of {100 * float(below['value'].iloc[0]):.0f} % of held-out persons, "
                f"fewer than the {100 * wanted:g} % that were asked for: calls are less sure than they say."
            )
        if low:
            text += f" It is lower for {', '.join(map(repr, low))}."
        found.append(text)
        if subgroups is not None:
            # Where all are short of it, no group is singled out.
            all_high = overall[(overall["metric"] == "coverage") & (overall["class"] == "")]["high"]
            is_low = (subgroups["metric"] == "coverage") & (subgroups["high"] < wanted)
            short = subgroups[is_low & bool((all_high >= wanted).all())]
            for column, level in zip(short["column"], short["level"], strict=True):
                found.append(f"Coverage is below {100 * wanted:g} % where {column} is {level!r}.")
    found.append(
        "For research. A call is a statement about a sample's values at one visit, not a diagnosis or a prediction."
    )
    return found


def _probabilities(table: pd.DataFrame, prefix: str, classes: tuple[str, ...]) -> NDArray[np.float64]:
    return table[[f"{prefix}{name}" for name in classes]].to_numpy(dtype=np.float64)


def _data(judged: Judged, known: pd.DataFrame, below: int) -> dict[str, Any]:
    persons = judged.persons.astype(str)
    sample = known[names.SAMPLE_ID].to_numpy()
    rows: list[dict[str, Any]] = []
    for c, name in enumerate(judged.classes):
        own = judged.labels == c
        rows.append(
            {
                "class": name,
                "n_samples": int(np.unique(sample[own]).size),
                "n_persons": int(np.unique(persons[own]).size),
            }
        )
    hidden = [row for row in rows if row["n_persons"] < below]
    shown = [row for row in rows if row["n_persons"] >= below]
    if len(hidden) == 1 and shown:
        # Alone it would be the total less the others.
        hidden.append(min(shown, key=lambda row: row["n_persons"]))
    for row in hidden:
        row["n_samples"] = row["n_persons"] = None
    return {"n_samples": int(np.unique(sample).size), "n_persons": int(np.unique(persons).size), "classes": rows}


def _calibration(
    known: pd.DataFrame, inner: pd.DataFrame | None, classes: tuple[str, ...], facts: Mapping[str, Any]
) -> dict[str, Any]:
    out: dict[str, Any] = {"method": (facts.get("recipe") or {}).get("calibration")}
    for table, where in ((known, "outer folds"), (inner, "inner folds of the final model")):
        if table is None or f"uncalibrated_{classes[0]}" not in table:
            continue
        table = table.reset_index(drop=True)
        other = _probabilities(table, "uncalibrated_", classes)
        judged = as_judged(table.assign(**{n: "" for n in ("conformal_set", "status") if n not in table}), classes)
        both = np.isfinite(judged.probabilities).all(axis=1) & np.isfinite(other).all(axis=1)
        found = brier_difference(judged.only(both), other[both])
        own = evaluate(judged.only(both), n_draws=1).set_index(["metric", "class"])["value"]
        return {
            **out,
            "measured_in": where,
            "brier": float(own["brier", ""]),
            "brier_uncalibrated": float(own["brier", ""] - found.value),
            "difference": found.value,
            "standard_error": found.standard_error,
            "n_persons": found.n_persons,
        }
    return out


def _of_all(metrics: pd.DataFrame, metric: str) -> dict[str, float] | None:
    row = metrics[(metrics["of"] == ALL) & (metrics["metric"] == metric) & (metrics["class"] == "")]
    return None if row.empty else {name: _plain(row.iloc[0][name]) for name in ("value", "low", "high")}


def _conformal(metrics: pd.DataFrame, facts: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "wanted": (facts.get("recipe") or {}).get("coverage"),
        "threshold": facts.get("threshold"),
        "observed": _of_all(metrics, "coverage"),
        "set_size": _of_all(metrics, "set_size"),
        "called": _of_all(metrics, "called"),
        "accuracy_of_called": _of_all(metrics, "accuracy_of_called"),
    }


def _distribution(metrics: pd.DataFrame, facts: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "wanted": (facts.get("recipe") or {}).get("abstain_rate"),
        "observed": _of_all(metrics, "out_of_distribution"),
    }


def _confusion(judged: Judged, below: int) -> list[dict[str, Any]]:
    """Share of each class's persons by the class that they are put in; None where few persons are behind it."""
    from sjd_dask.classify.conformal import person_weights

    known = np.isfinite(judged.probabilities).all(axis=1)
    top = np.argmax(np.where(known[:, None], judged.probabilities, 0), axis=1)
    weights, persons = person_weights(judged.persons) * known, judged.persons.astype(str)
    rows = []
    for c, name in enumerate(judged.classes):
        own = known & (judged.labels == c)
        total = float(weights[own].sum())
        cells = [own & (top == d) for d in range(len(judged.classes))]
        counts = [int(np.unique(persons[cell]).size) for cell in cells]
        hidden = {d for d, n in enumerate(counts) if 0 < n < below}
        others = [d for d, n in enumerate(counts) if n >= below]
        if len(hidden) == 1 and others:
            # Shares of a class sum to 1: alone it would be what the others leave.
            hidden.add(min(others, key=lambda d: counts[d]))
        for d, other in enumerate(judged.classes):
            share = float(weights[cells[d]].sum()) / total if total and d not in hidden else None
            rows.append({"class": name, "top_class": other, "share": share})
    return rows


def _panel(panel: pd.DataFrame) -> dict[str, Any]:
    features = panel.head(PANEL_ROWS)
    return {"n_features": len(panel), "features": _records(features)}


def _records(table: pd.DataFrame) -> list[dict[str, Any]]:
    return [{str(name): _plain(value) for name, value in row.items()} for row in table.to_dict("records")]


def _plain(value: Any) -> Any:
    """A value as JSON has it; missing and infinite numbers are null."""
    if value is None or value is pd.NA or (isinstance(value, float | np.floating) and not np.isfinite(value)):
        return None
    return value.item() if isinstance(value, np.generic) else value
