"""Three parallel axes: systemic activity, gland function and damage, symptom amplification; and which one dominates."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from sjd_dask import names
from sjd_dask.clinical.axis_dominance import AXES, dominance
from sjd_dask.clinical.axis_items import axis_items
from sjd_dask.clinical.axis_likely import likely_dominance
from sjd_dask.clinical.axis_reference import THIS_SHEET, AxisReference, as_reference
from sjd_dask.clinical.definitions import Overrides, load_definition
from sjd_dask.clinical.endpoints import endpoints_for
from sjd_dask.clinical.essdai import ESSDAI
from sjd_dask.clinical.gland_axis import PARTS, gland_axis
from sjd_dask.clinical.gland_tests import answer, test_columns
from sjd_dask.clinical.kept import kept_by_sheet
from sjd_dask.clinical.measures import Measure, find_measure
from sjd_dask.clinical.reasons import join_reasons, listed, missing_reason, texts_at
from sjd_dask.clinical.sheet import Sheet
from sjd_dask.clinical.threeway import any_of, at_least


@kept_by_sheet
def axes(
    sheet: Sheet,
    *,
    reference: AxisReference | Mapping[str, Any] | str | Path | None = None,
    definitions: Overrides | None = None,
    domains: Sequence[str] | str | None = None,
    laboratory: str = "propose",
) -> pd.DataFrame:
    """Place each row on the three axes and name the dominant one.

    Parameters
    ----------
    sheet : Sheet
        ESSDAI domains, gland tests, ESSPRI scales, and evidence of amplification; any may be absent.
    reference : AxisReference, mapping or path, optional
        The cohort in which positions become percentiles. Default: this sheet itself, each person counting once; then,
        and only then, a row's percentiles depend on the other rows.
    definitions : mapping, optional
        ``axes``, ``glands``, ``essdai``, ``esspri`` count here.
    domains, laboratory
        As in `essdai`.

    Returns
    -------
    DataFrame
        The columns of `axis_positions`, then those of `place`: per axis ``_percentile``, ``_min``, ``_max``;
        ``dominant`` (systemic, gland, symptoms, ``none dominates``; None where open), ``dominant_possible`` (what it
        may turn out to be), ``dominant_margin`` and its ``_min`` and ``_max`` (percentiles between the two highest
        axes), ``dominant_reason``, ``axes_reference`` (its name), ``axes_endpoints`` (endpoints that read the dominant
        axis), ``axes_immunotherapy`` (1, 0, NaN). Last, those of `axis_likely.likely_dominance`: ``dominant_likely``,
        the most probable answer where `dominant` is open, and ``dominant_likely_probability``.

    References
    ----------
    Three axes at every visit, the dominant one with its margin, endpoints to match: editorial on the three axes (P). It
    gives no cut-offs: all are configuration, ``definitions/axes.yaml`` (K).
    """
    positions = axis_positions(sheet, definitions=definitions, domains=domains, laboratory=laboratory)
    options = {"definitions": definitions, "domains": domains, "laboratory": laboratory}
    items = axis_items(sheet, **options)
    if reference is None:
        cohort = AxisReference.from_positions(positions, THIS_SHEET, persons=_persons(sheet), items=items, **options)
    else:
        cohort = as_reference(reference)
        cohort.check(**options)
    placed = place(positions, cohort, definitions=definitions)
    table = load_definition("axes", definitions)
    likely = likely_dominance(items, positions, _state_flags(positions, table), placed["dominant"], table, cohort)
    return pd.concat([positions, placed, pd.DataFrame(likely, index=positions.index)], axis=1)


def axis_positions(
    sheet: Sheet,
    *,
    definitions: Overrides | None = None,
    domains: Sequence[str] | str | None = None,
    laboratory: str = "propose",
) -> pd.DataFrame:
    """State and position of each row on each axis; each row by itself.

    Returns
    -------
    DataFrame
        For N = 1, 2, 3: ``axisN_state`` (None where the missing items leave it open), ``axisN_position`` (NaN where
        open), ``axisN_position_min``, ``axisN_position_max``, ``axisN_reason``. Besides ``axis1_organs`` (domains known
        to be active); ``axis2_<part>_state`` (positive, negative, None) and ``axis2_<part>_position`` with ``_min`` and
        ``_max`` for function, structure, inflammation; ``axis2_positive`` (tests known to be positive),
        ``axis2_early_inflammatory`` (1, 0, NaN); ``axis3_high_burden`` and ``axis3_amplification`` (1, 0, NaN),
        ``axis3_evidence`` (what is recorded as present).

    Notes
    -----
    ``axis3_state`` says `amplification` only for a high burden with evidence; `high burden` stands where there is
    none, and where it isn't recorded: ``axis3_amplification`` tells the two apart.
    """
    table = load_definition("axes", definitions)
    own = table["axes"]
    score_options = {"domains": domains, "laboratory": laboratory}
    columns: dict[str, Any] = {}
    columns |= _systemic(sheet, own["systemic"], score_options, definitions)
    columns |= _gland(sheet, own["gland"], definitions)
    columns |= _symptoms(sheet, own["symptoms"], table["amplification_evidence"], score_options, definitions)
    return pd.DataFrame(columns)


def place(positions: pd.DataFrame, reference: AxisReference, *, definitions: Overrides | None = None) -> pd.DataFrame:
    """Percentiles of positions in a reference cohort, the dominant axis, and what follows from it.

    Parameters
    ----------
    positions : DataFrame
        As `axis_positions` makes them.
    reference : AxisReference
    """
    table = load_definition("axes", definitions)
    low, high = np.empty((len(positions), 3)), np.empty((len(positions), 3))
    columns: dict[str, Any] = {}
    for at, axis in enumerate(AXES):
        name = f"axis{at + 1}"
        low[:, at] = reference.percentile(axis, positions[f"{name}_position_min"].to_numpy(dtype=np.float64))
        high[:, at] = reference.percentile(axis, positions[f"{name}_position_max"].to_numpy(dtype=np.float64))
        columns |= _interval(f"{name}_percentile", low[:, at], high[:, at])
    columns |= dominance(low, high, _state_flags(positions, table), AXES, table, reference)
    columns |= _what_follows(columns["dominant"], positions, table, definitions)
    return pd.DataFrame(columns, index=positions.index)


def _interval(name: str, low: np.ndarray, high: np.ndarray) -> dict[str, np.ndarray]:
    return {name: np.where(low == high, low, np.nan), f"{name}_min": low, f"{name}_max": high}


def _states(low: np.ndarray, high: np.ndarray, cut: float) -> np.ndarray:
    """1, 0 or NaN for values between low and high against a cut-off."""
    surely, possibly = at_least(low, cut), at_least(high, cut)
    return np.where(surely == possibly, surely, np.nan)


def _words(flag: np.ndarray, no: str, yes: str) -> Any:
    return texts_at(_code(flag), [no, yes, None])


def _code(flag: np.ndarray) -> np.ndarray:
    """0 no, 1 yes, 2 open."""
    return np.where(np.isnan(flag), 2, flag).astype(np.int8)


def _state_flags(positions: pd.DataFrame, table: Mapping[str, Any]) -> np.ndarray:
    """1 active, impaired or of high burden, 0 not, NaN open, (n, axes)."""
    return np.column_stack([_state_flag(positions, at, table["axes"][axis]) for at, axis in enumerate(AXES)])


def _state_flag(positions: pd.DataFrame, at: int, own: Mapping[str, Any]) -> np.ndarray:
    codes, different = pd.factorize(positions[f"axis{at + 1}_state"])
    flags = [float(one in (own["positive"], own.get("amplified"))) for one in different]
    return np.array([*flags, np.nan])[codes]


def _persons(sheet: Sheet) -> np.ndarray | None:
    ids = sheet.ids
    return ids[names.PERSON_ID].to_numpy() if names.PERSON_ID in ids else None


def _scored(
    sheet: Sheet, own: Mapping[str, Any], options: Mapping[str, Any], definitions: Overrides | None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Least, greatest and reason of the score that gives an axis its position."""
    measure = find_measure(own["measure"])
    taken = {name: value for name, value in options.items() if name in measure.options}
    found = measure.function(sheet, definitions=definitions, **taken)
    low, high = (found[f"{measure.name}_{end}"].to_numpy(dtype=np.float64) for end in ("min", "max"))
    return low, high, found[f"{measure.name}_reason"].to_numpy(dtype=object)


def _systemic(
    sheet: Sheet, own: Mapping[str, Any], options: Mapping[str, Any], definitions: Overrides | None
) -> dict[str, np.ndarray]:
    low, high, reason = _scored(sheet, own, options, definitions)
    domains = list(load_definition("essdai", definitions)["items"])
    return {
        "axis1_state": _words(_states(low, high, float(own["at_least"])), own["negative"], own["positive"]),
        **_interval("axis1_position", low, high),
        "axis1_organs": listed([sheet.level(name) > 0 for name in domains], domains),
        "axis1_reason": reason,
    }


def _gland(sheet: Sheet, own: Mapping[str, Any], definitions: Overrides | None) -> dict[str, np.ndarray]:
    found = gland_axis(sheet, definitions=definitions)
    tests = list(found.answers)
    unknown = np.column_stack([~np.isnan(found.answers[test]) for test in tests])
    columns = {
        "axis2_state": _words(found.state, own["negative"], own["positive"]),
        **_interval("axis2_position", *found.position()),
    }
    for part in PARTS:
        columns[f"axis2_{part}_state"] = _words(found.part_state(part), "negative", "positive")
        columns |= _interval(f"axis2_{part}_position", *found.part_position(part))
    return {
        **columns,
        "axis2_positive": listed([found.answers[test] == 1 for test in tests], tests),
        "axis2_early_inflammatory": found.early,
        "axis2_reason": missing_reason(unknown, tests),
    }


def _symptoms(
    sheet: Sheet,
    own: Mapping[str, Any],
    evidence: Mapping[str, Any],
    options: Mapping[str, Any],
    definitions: Overrides | None,
) -> dict[str, np.ndarray]:
    low, high, reason = _scored(sheet, own, options, definitions)
    burden = _states(low, high, float(own["at_least"]))
    kinds = list(evidence)
    answers = [answer(sheet, evidence[kind]["test"]) for kind in kinds]
    some = any_of(*answers)
    amplified = np.where((burden == 0) | (some == 0), 0.0, burden * some)
    state = np.where(amplified == 1, 3, _code(burden))
    absent = missing_reason(~np.isnan(np.column_stack(answers)), kinds, prefix="amplification open, missing: ")
    return {
        "axis3_state": texts_at(state, [own["negative"], own["positive"], None, own["amplified"]]),
        **_interval("axis3_position", low, high),
        "axis3_high_burden": burden,
        "axis3_amplification": amplified,
        "axis3_evidence": listed([one == 1 for one in answers], kinds),
        "axis3_reason": join_reasons(reason, np.where(np.isnan(amplified) & np.isnan(some), absent, "")),
    }


def _what_follows(
    dominant: np.ndarray, positions: pd.DataFrame, table: Mapping[str, Any], definitions: Overrides | None
) -> dict[str, np.ndarray]:
    """Endpoints that read the dominant axis, and whether the disease is of the kind targeted immunotherapy is for."""
    codes, different = pd.factorize(pd.Series(dominant))
    texts = ["; ".join(endpoints_for(one, definitions=definitions)) for one in different]
    sent = [float(one in table["immunotherapy"]["dominant"]) for one in different]
    found = np.array([*sent, np.nan])[codes]
    if table["immunotherapy"]["early_inflammatory_gland"]:
        found = any_of(found, positions["axis2_early_inflammatory"].to_numpy(dtype=np.float64))
    return {"axes_endpoints": texts_at(codes % (len(texts) + 1), [*texts, None]), "axes_immunotherapy": found}


_POSITION = {
    "": "missing where the missing items leave it open",
    "_min": "least it can be under the missing items",
    "_max": "most it can be under the missing items",
}
_UNITS = {
    1: "position on axis 1, ESSDAI points",
    2: "position on axis 2, 0 to 1",
    3: "position on axis 3, ESSPRI points",
}


def _number_columns(name: str, title: str) -> dict[str, tuple[str, str]]:
    return {f"{name}{end}": ("number", f"{title}; {text}") for end, text in _POSITION.items()}


def _gland_columns() -> tuple[str, ...]:
    table = load_definition("axes")
    own = [column for one in table["gland_instruments"].values() for column in (*one["columns"], one.get("recorded"))]
    early = [column for one in table["gland_early_inflammatory"].values() for column in test_columns(one["test"])]
    return tuple(dict.fromkeys(one for one in (*own, *early) if one))


_COLUMNS: dict[str, tuple[str, str]] = {
    "axis1_state": ("text", "active or inactive; missing where open"),
    **_number_columns("axis1_position", _UNITS[1]),
    "axis1_organs": ("text", "ESSDAI domains known to be active, separated by semicolons"),
    "axis1_reason": ("text", "what is missing"),
    "axis2_state": ("text", "impaired or not impaired; missing where open"),
    **_number_columns("axis2_position", _UNITS[2]),
    **{
        name: text
        for part in PARTS
        for name, text in {
            f"axis2_{part}_state": ("text", f"{part} of the glands, positive or negative; missing where open"),
            **_number_columns(f"axis2_{part}_position", f"{part} of the glands, 0 to 1"),
        }.items()
    },
    "axis2_positive": ("text", "gland tests known to be positive, separated by semicolons"),
    "axis2_early_inflammatory": ("flag", "early, inflammatory disease of the glands; missing where open"),
    "axis2_reason": ("text", "what is missing"),
    "axis3_state": (
        "text",
        "low burden, high burden, or amplification (a high burden with evidence); missing where open",
    ),
    **_number_columns("axis3_position", _UNITS[3]),
    "axis3_high_burden": ("flag", "high burden of symptoms; missing where open"),
    "axis3_amplification": ("flag", "a high burden with evidence of amplification; missing where open"),
    "axis3_evidence": ("text", "evidence of amplification recorded as present, separated by semicolons"),
    "axis3_reason": ("text", "what is missing"),
    **{
        name: text
        for number in (1, 2, 3)
        for name, text in _number_columns(
            f"axis{number}_percentile", f"percentile on axis {number} in the reference cohort"
        ).items()
    },
    "dominant": ("text", f"{', '.join(AXES)} or none dominates; missing where open"),
    "dominant_possible": ("text", "what the dominant axis may turn out to be, separated by semicolons"),
    **_number_columns("dominant_margin", "percentiles between the two highest axes"),
    "dominant_reason": ("text", "why none dominates, or what leaves it open"),
    "axes_reference": ("text", "name of the reference cohort"),
    "axes_endpoints": (
        "text",
        "endpoints that read the dominant axis, separated by semicolons; missing where that is open",
    ),
    "axes_immunotherapy": ("flag", "the kind of disease targeted immunotherapy is for; missing where open"),
    "dominant_likely": (
        "text",
        "the dominant axis, or where it is open the most probable answer, by how often persons of the reference have "
        "each value of the missing items; missing where the reference can't tell",
    ),
    "dominant_likely_probability": ("number", "its probability; 1 where the dominant axis is sure"),
}

MEASURE = Measure(
    name="axes",
    function=axes,
    title="three parallel axes (systemic, gland, symptoms) and the one that dominates",
    needs=(
        *ESSDAI.needs,
        *_gland_columns(),
        *("dryness", "fatigue", "pain", "esspri"),
        *("sleep_disturbance", "anxiety", "fibromyalgia", "widespread_pain"),
    ),
    columns=_COLUMNS,
)
