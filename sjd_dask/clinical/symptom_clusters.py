"""Symptom clusters: five symptoms, Ward's tree on one visit of each person, and a frozen multinomial model of it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from sjd_dask import names
from sjd_dask.clinical.cluster_stability import told_stability
from sjd_dask.clinical.definitions import Overrides, load_definition
from sjd_dask.clinical.group_fit import chosen_rows, enough, fit_groups, halves, name_groups
from sjd_dask.clinical.measures import Measure, require_columns
from sjd_dask.clinical.multinomial_file import (
    DISAGREE,
    RE_DERIVED,
    MultinomialModel,
    NumberItem,
    classify_numbers,
    group_columns,
    read_model,
    result_table,
)
from sjd_dask.clinical.sheet import Sheet
from sjd_dask.clinical.visits import baselines
from sjd_dask.errors import DataError, SpecError

Floats = NDArray[np.float64]

NAME = "nsst"


def fit_nsst(
    sheet: Any,
    *,
    baseline: str | None = None,
    name: str = "the given sheet",
    units: Mapping[str, str] | None = None,
    definitions: Overrides | None = None,
) -> dict[str, Any]:
    """Find the symptom clusters again in a cohort.

    Parameters
    ----------
    sheet : Sheet, DataFrame or Dataset
        With pain, fatigue, dryness (0-10), anxiety and depression (HADS, 0-21).
    baseline : str, optional
        Query that names the visit of each person to fit on; by default the earliest.
    name : str
        What the cohort is called in the model.
    units, definitions
        As in `score`; ``nsst`` and ``columns`` count.

    Returns
    -------
    dict
        A model as `read_model` takes it and a file of JSON holds it: coefficients, groups, how each came by its name,
        the groups' centres, the share of persons whose most probable group is the tree's (``agreement``, and
        ``agreement_held_out`` by models of the other folds), and how alike the groups of two halves of the persons are
        (``split_half``), with a warning where they are not.

    Raises
    ------
    DataError
        Too few persons with all five symptoms, or a symptom that is the same in all of them.
    SpecError
        A sheet without these columns.

    Notes
    -----
    One visit of each person, and only visits with all five symptoms known: nothing is filled in for the fit. Symptoms
    are standardised; Ward's criterion on Euclidean distances; then multinomial logistic regression with a small ridge.
    The form is published [1]_ (P); the coefficients of the published tool are not public as far as found, so the groups
    are re-derived and named by rules on their centres (K), each of which has to hold, else a group is called by number.

    References
    ----------
    .. [1] Tarn et al. 2019, Lancet Rheumatology: symptom-based stratification (mark P; naming rules and ridge mark K).
    """
    sheet = Sheet.read(sheet, units=units, definitions=definitions)
    definition = load_definition(NAME, definitions)
    items = list(definition["inputs"])
    rules = {key: entry["value"] for key, entry in definition["fit"].items()}
    require_columns(sheet, tuple(items), "finding symptom clusters")
    values = symptom_values(sheet, items)
    first = baselines(with_columns(sheet), baseline).is_baseline
    complete = np.isfinite(values).all(axis=1)
    rows = chosen_rows(fit_ids(sheet), np.flatnonzero(first & complete), rules["most_persons"])
    n_persons = int(first.sum())
    enough(len(rows), rules["least_persons"], f"with {', '.join(items)} all known at the visit to fit on", sheet.n)
    own = values[rows]
    centre, scale = own.mean(axis=0), own.std(axis=0, ddof=1)
    for item, spread in zip(items, scale, strict=True):
        if not spread > 0:
            raise DataError(f"{item} is the same in all {len(rows)} persons: groups can't be found by it")
    points = (own - centre) / scale
    fitted = fit_groups(points, fit_ids(sheet)[rows], rules["n_groups"], ridge=rules["ridge"], folds=rules["folds"])
    k = rules["n_groups"]
    sizes = np.bincount(fitted.groups, minlength=k)
    centres = pd.DataFrame([points[fitted.groups == g].mean(axis=0) for g in range(k)], columns=items)
    named = name_groups(centres, sizes.tolist(), definition["naming"])
    order = rule_order(named.names, definition["naming"])
    slopes = fitted.coefficients[:-1][:, order]
    alike = halves(points, fit_ids(sheet)[rows], rules)
    model = MultinomialModel(
        measure=NAME,
        label=DISAGREE if alike["warnings"] else RE_DERIVED,
        source=f"re-derived on {len(rows):,} persons of {name}",
        groups=[named.names[g] for g in order],
        intercepts=fitted.coefficients[-1][order].tolist(),
        items=[
            NumberItem(
                name=item,
                centre=float(centre[j]),
                scale=float(scale[j]),
                low=float(definition["inputs"][item]["low"]),
                high=float(definition["inputs"][item]["high"]),
                slopes=slopes[j].tolist(),
            )
            for j, item in enumerate(items)
        ],
        fit={
            "persons": len(rows),
            "persons_incomplete": n_persons - int((first & complete).sum()),
            "persons_not_drawn": int((first & complete).sum()) - len(rows),
            "baseline": baseline or "earliest visit",
            "linkage": "ward",
            **{key: rules[key] for key in ("ridge", "folds")},
            "agreement": fitted.agreement,
            "agreement_held_out": fitted.held_out,
            **alike,
            "groups": [
                {
                    **named.how[g],
                    "persons": int(sizes[g]),
                    "centre": dict(zip(items, own[fitted.groups == g].mean(axis=0).tolist(), strict=True)),
                }
                for g in order
            ],
        },
    )
    return model.model_dump()


def nsst(
    sheet: Sheet, *, model: str | Path | Mapping[str, Any] | None = None, definitions: Overrides | None = None
) -> pd.DataFrame:
    """Symptom cluster of each row by a frozen model.

    Parameters
    ----------
    sheet : Sheet
    model : path or mapping
        Of `fit_nsst`, or coefficients in the same form.
    definitions
        ``nsst`` counts (share of symptoms for the group under means).

    Returns
    -------
    DataFrame
        ``nsst`` (missing where missing symptoms leave more than one group), ``nsst_possible`` (groups that some
        completion makes the most probable), ``nsst_probability`` with ``_min`` and ``_max`` (of the group named),
        ``nsst_known``, ``nsst_items``, ``nsst_reason``, ``nsst_at_means`` (the group with missing symptoms at the means
        of the cohort that the model was fitted on: a guess, and called so), ``nsst_label``, and
        ``nsst_p_<group>`` with its bounds.

    Raises
    ------
    SpecError
        No model, or one that doesn't fit.

    Notes
    -----
    A group is named where it is the most probable whatever the missing symptoms are within their ranges; this is exact.
    Bounds of probabilities hold every completion and may be wider than need be.

    References
    ----------
    .. [1] Tarn et al. 2019, Lancet Rheumatology (mark P); the rule for missing symptoms is ours.
    """
    definition = load_definition(NAME, definitions)
    if model is None:
        raise SpecError(
            "nsst needs a model: find the groups again in a cohort (`--fit FILE`, or `fit_nsst`), or give a file of "
            "coefficients (`--model FILE`)"
        )
    frozen = read_model(model, NAME)
    if not frozen.items:
        raise SpecError("the model of nsst holds categories; symptoms are numbers, so it wants `items`")
    items = [one.name for one in frozen.items]
    found = classify_numbers(frozen, symptom_values(sheet, items))
    return result_table(frozen, found, items, items, definition["report"]["least_known"]["value"])


def symptom_values(sheet: Sheet, items: list[str]) -> Floats:
    """Values of the symptoms, (n, p); NaN where missing."""
    return np.column_stack([sheet.number(item) for item in items])


def with_columns(sheet: Sheet) -> pd.DataFrame:
    """What names a person's baseline: ids and dates as they were read, and the columns of a query."""
    ids = sheet.ids
    return pd.concat([ids, sheet.frame.drop(columns=list(ids.columns)).reset_index(drop=True)], axis=1)


def fit_ids(sheet: Sheet) -> NDArray[np.object_]:
    """The person of each row, else its sample: what draws and folds hang on."""
    ids = sheet.ids
    samples = ids[names.SAMPLE_ID]
    found = ids[names.PERSON_ID].where(ids[names.PERSON_ID].notna(), samples) if names.PERSON_ID in ids else samples
    return np.asarray(found.to_numpy(dtype=object))


def rule_order(given: tuple[str, ...], rules: list[Mapping[str, Any]]) -> list[int]:
    """Groups in the order of the naming rules, those called by number last."""
    place = {str(rule["group"]): at for at, rule in enumerate(rules)}
    return sorted(range(len(given)), key=lambda g: (place.get(given[g], len(place)), given[g]))


MEASURE = Measure(
    name=NAME,
    function=nsst,
    title="Symptom clusters of five symptoms, by a model",
    needs_model=True,
    beside=told_stability(NAME),
    needs=("pain", "fatigue", "dryness", "anxiety", "depression"),
    columns=group_columns(NAME),
)
