"""Integrated clusters: categorical variables, correspondence analysis, Ward's tree, and a frozen model of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from sjd_dask.clinical.category_table import CategoryTable, categories, variables_of
from sjd_dask.clinical.cluster_stability import told_stability
from sjd_dask.clinical.definitions import Overrides, load_definition
from sjd_dask.clinical.group_fit import chosen_rows, enough, fit_groups, halves, name_groups
from sjd_dask.clinical.mca import Mca, fit_mca, place
from sjd_dask.clinical.measures import Measure
from sjd_dask.clinical.multinomial_file import (
    DISAGREE,
    RE_DERIVED,
    Category,
    MultinomialModel,
    Variable,
    classify_categories,
    group_columns,
    read_model,
    result_table,
)
from sjd_dask.clinical.sheet import Sheet
from sjd_dask.clinical.symptom_clusters import fit_ids, rule_order, with_columns
from sjd_dask.clinical.visits import baselines
from sjd_dask.errors import DataError, SpecError

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Codes = NDArray[np.int8]

NAME = "integrated"
# Coordinates that a result shows.
SHOWN_AXES = 2


def fit_integrated(
    sheet: Any,
    columns: Sequence[str] | str | None = None,
    *,
    baseline: str | None = None,
    name: str = "the given sheet",
    units: Mapping[str, str] | None = None,
    definitions: Overrides | None = None,
) -> dict[str, Any]:
    """Find the integrated clusters again in a cohort.

    Parameters
    ----------
    sheet : Sheet, DataFrame or Dataset
    columns : sequence of str, or names with commas between, optional
        Variables: names of the definition ``integrated``, or columns of the sheet whose values are categories. By
        default those of the definition that the sheet has columns for.
    baseline : str, optional
        Query that names the visit of each person to fit on; by default the earliest.
    name : str
        What the cohort is called in the model.
    units, definitions
        As in `score`; ``integrated`` and ``columns`` count.

    Returns
    -------
    dict
        A model as `read_model` takes it and a file of JSON holds it: the scores that each category adds for each group,
        its coordinates, inertias, groups with their shares of every category, how each came by its name, and how alike
        the groups of two halves of the persons are (``split_half``), with a warning where they are not.

    Raises
    ------
    DataError
        Too few persons with enough variables known, or nothing that varies.
    SpecError
        A variable that is not known.

    Notes
    -----
    One visit of each person, of those with half of the variables known (K). A missing value counts in the analysis as
    the shares of its variable's categories: it pulls a person nowhere. A category of fewer than five persons (K) is
    passive. Ward's criterion on the coordinates of the first axes, and multinomial logistic regression of the groups on
    them, so that a new person is placed by its own values alone. Multiple correspondence analysis, Ward and k = 3 are
    published [1]_ (P); the list of variables isn't public as far as found, so ours (K) gives re-derived groups whose
    names end in "-like", and only where the naming rules hold.

    References
    ----------
    .. [1] Nguyen et al. 2024: integrated clusters of Sjögren disease (mark P; variables, axes and names mark K).
    """
    sheet = Sheet.read(sheet, units=units, definitions=definitions)
    definition = load_definition(NAME, definitions)
    rules = {key: entry["value"] for key, entry in definition["fit"].items()}
    if isinstance(columns, str):
        columns = [one.strip() for one in columns.split(",")]
    variables = variables_of(sheet, definition["variables"], columns, rules["most_levels"])
    if len(variables) < 2:
        raise SpecError(
            f"integrated clusters want two variables at least, and the sheet has columns for {len(variables)}: "
            f"the definition knows {', '.join(definition['variables'])}"
        )
    table = categories(sheet, variables)
    first = baselines(with_columns(sheet), baseline).is_baseline
    known = (table.codes >= 0).mean(axis=1) >= rules["least_known"] - 1e-9
    rows = chosen_rows(fit_ids(sheet), np.flatnonzero(first & known), rules["most_persons"])
    enough(
        len(rows),
        rules["least_persons"],
        f"with {rules['least_known']:.0%} of the variables known at the visit to fit on",
        sheet.n,
    )
    active = _Active.of(table, rows, rules["least_category"])
    codes = active.recode(table.codes[rows])
    mca = fit_mca(codes, active.sizes, rules["n_axes"])
    points = place(codes, active.sizes, mca.coordinates)
    k = rules["n_groups"]
    fitted = fit_groups(points, fit_ids(sheet)[rows], k, ridge=rules["ridge"], folds=rules["folds"])
    sizes = np.bincount(fitted.groups, minlength=k)
    centres = _roles(table, rows, fitted.groups, k, variables)
    named = name_groups(centres, sizes.tolist(), definition["naming"])
    order = rule_order(named.names, definition["naming"])
    alike = halves(points, fit_ids(sheet)[rows], rules)
    model = MultinomialModel(
        measure=NAME,
        label=DISAGREE if alike["warnings"] else RE_DERIVED,
        source=f"re-derived on {len(rows):,} persons of {name}",
        groups=[named.names[g] for g in order],
        intercepts=fitted.coefficients[-1][order].tolist(),
        variables=active.variables(table, mca, fitted.coefficients[:-1][:, order], variables),
        fit={
            "persons": len(rows),
            "persons_incomplete": int((first & ~known).sum()),
            "persons_not_drawn": int((first & known).sum()) - len(rows),
            "baseline": baseline or "earliest visit",
            "missing": float((table.codes[rows] < 0).mean()),
            "linkage": "ward",
            **{key: rules[key] for key in ("ridge", "folds", "least_category", "least_known")},
            "inertias": mca.eigenvalues.tolist(),
            "inertia_total": mca.total,
            "passive": active.passive_names(table),
            "agreement": fitted.agreement,
            "agreement_held_out": fitted.held_out,
            **alike,
            "groups": [
                {
                    **named.how[g],
                    "persons": int(sizes[g]),
                    "roles": {role: float(centres[role].iloc[g]) for role in centres},
                    "shares": _shares(table, rows[fitted.groups == g]),
                }
                for g in order
            ],
        },
    )
    return model.model_dump()


def integrated(
    sheet: Sheet, *, model: str | Path | Mapping[str, Any] | None = None, definitions: Overrides | None = None
) -> pd.DataFrame:
    """Integrated cluster of each row by a frozen model.

    Parameters
    ----------
    sheet : Sheet
    model : path or mapping
        Of `fit_integrated`, or scores of categories in the same form.
    definitions
        ``integrated`` counts (share of variables for the group under means); variables are made as the model says.

    Returns
    -------
    DataFrame
        As `nsst`: ``integrated``, ``integrated_possible``, probabilities with bounds, counts, ``integrated_reason``,
        ``integrated_at_means``, ``integrated_label``; and ``integrated_axis1``, ``integrated_axis2``, the coordinates
        of a row with everything known.

    Raises
    ------
    SpecError
        No model, or one that doesn't fit.
    DataError
        A category that was not there when the groups were found.

    Notes
    -----
    A group is named where it is the most probable whichever categories the missing variables have; this is exact.

    References
    ----------
    .. [1] Nguyen et al. 2024 (mark P); the rule for missing variables is ours.
    """
    definition = load_definition(NAME, definitions)
    if model is None:
        raise SpecError(
            "integrated needs a model: find the groups again in a cohort (`--fit FILE`, or `fit_integrated`), or give "
            "a model file (`--model FILE`)"
        )
    frozen = read_model(model, NAME)
    if not frozen.variables:
        raise SpecError("the model of integrated holds numbers; it wants `variables` with categories")
    entries = {one.name: one.made_from or {"column": one.name, "levels": _names_of(one)} for one in frozen.variables}
    table = categories(sheet, entries)
    for one, levels in zip(frozen.variables, table.levels, strict=True):
        if tuple(_names_of(one)) != levels:
            raise SpecError(
                f"variable {one.name!r} of the model has categories {', '.join(_names_of(one))}; those its sources "
                f"make are {', '.join(levels)}"
            )
    found = classify_categories(frozen, table.codes)
    names = list(table.names)
    result = result_table(frozen, found, names, names, definition["report"]["least_known"]["value"])
    shown = np.array([c.coordinates[:SHOWN_AXES] for one in frozen.variables for c in one.categories])
    if shown.ndim == 2 and shown.shape[1]:
        at = place(table.codes, np.array([len(one) for one in table.levels]), shown)
        at[~found.known.all(axis=1)] = np.nan
        for axis in range(shown.shape[1]):
            result[f"{NAME}_axis{axis + 1}"] = at[:, axis]
    return result


def _names_of(variable: Variable) -> list[str]:
    return [one.name for one in variable.categories]


class _Active:
    """Which categories shape the axes, by variable: those that enough persons of the fit have."""

    def __init__(self, places: list[Ints], n_variables: int) -> None:
        # Place of each category among the active ones of its variable; -1 is passive.
        self.places = places
        self.used = [j for j in range(n_variables) if (places[j] >= 0).sum() > 1]
        self.sizes = np.array([(places[j] >= 0).sum() for j in self.used], dtype=np.int64)

    @classmethod
    def of(cls, table: CategoryTable, rows: Ints, least: int) -> _Active:
        places = []
        for j, levels in enumerate(table.levels):
            own = table.codes[rows, j]
            counts = np.bincount(own[own >= 0], minlength=len(levels))
            active = counts >= max(least, 1)
            if active.sum() < 2:
                active[:] = False
            places.append(np.where(active, np.cumsum(active) - 1, -1).astype(np.int8))
        found = cls(places, len(table.levels))
        if len(found.used) < 2:
            raise DataError(
                f"only {len(found.used)} of {len(table.levels)} variables have two categories with {least} persons or "
                "more: groups can't be found by them"
            )
        return found

    def recode(self, codes: Codes) -> Codes:
        """Categories of the variables used; passive and unknown ones are -1."""
        return np.column_stack(
            [np.where(codes[:, j] >= 0, np.append(self.places[j], -1)[codes[:, j]], -1) for j in self.used]
        )

    def variables(
        self, table: CategoryTable, mca: Mca, slopes: Floats, entries: Mapping[str, Mapping[str, Any]]
    ) -> list[Variable]:
        """The model's variables; coordinates are the part of a mean over the variables used."""
        offsets = np.concatenate([[0], np.cumsum(self.sizes)])
        found = []
        # A row's place is the mean over the variables of a model: those that weren't used would thin it.
        for u, j in enumerate(self.used):
            made = []
            for level, at in zip(table.levels[j], self.places[j], strict=True):
                own = np.zeros(mca.coordinates.shape[1]) if at < 0 else mca.coordinates[offsets[u] + at]
                made.append(
                    Category(
                        name=level,
                        share=None if at < 0 else float(mca.shares[offsets[u] + at]),
                        scores=(own / len(self.used) @ slopes).tolist(),
                        coordinates=own.tolist(),
                    )
                )
            kept = ("present", "first", "column", "levels")
            entry = entries[table.names[j]]
            origin = {key: entry[key] for key in kept if key in entry}
            found.append(Variable(name=table.names[j], categories=made, made_from=origin))
        return found

    def passive_names(self, table: CategoryTable) -> list[str]:
        """Categories that shape nothing."""
        return [
            f"{table.names[j]}: {level}"
            for j, levels in enumerate(table.levels)
            for level, at in zip(levels, self.places[j], strict=True)
            if at < 0
        ]


def _roles(
    table: CategoryTable, rows: Ints, groups: Ints, k: int, entries: Mapping[str, Mapping[str, Any]]
) -> pd.DataFrame:
    """How far each group lies from all in each role, (k, roles): mean over its variables, in standard deviations."""
    found: dict[str, list[Floats]] = {}
    for j, name in enumerate(table.names):
        own = table.codes[rows, j]
        known = own >= 0
        # Roles are of variables with a no and a yes.
        if "role" not in entries[name] or not known.any():
            continue
        share = own[known].mean()
        spread = np.sqrt(share * (1 - share))
        if not spread > 0:
            continue
        means = [own[known & (groups == g)].mean() if (known & (groups == g)).any() else share for g in range(k)]
        found.setdefault(str(entries[name]["role"]), []).append((np.array(means) - share) / spread)
    return pd.DataFrame({role: np.mean(values, axis=0) for role, values in found.items()}, index=range(k))


def _shares(table: CategoryTable, rows: Ints) -> dict[str, dict[str, float | None]]:
    """Share of each category among the persons of a group with a value."""
    found: dict[str, dict[str, float | None]] = {}
    for j, (name, levels) in enumerate(zip(table.names, table.levels, strict=True)):
        own = table.codes[rows, j]
        own = own[own >= 0]
        found[name] = {level: float((own == at).mean()) if len(own) else None for at, level in enumerate(levels)}
    return found


MEASURE = Measure(
    name=NAME,
    function=integrated,
    title="Integrated clusters of categorical variables, by a model",
    needs_model=True,
    beside=told_stability(NAME),
    needs=(),
    columns={
        **group_columns(NAME),
        **{f"{NAME}_axis{axis}": ("number", "coordinate of the correspondence analysis") for axis in (1, 2)},
    },
)
