"""2016 ACR/EULAR classification: three-valued items, the score seen and the score still possible."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from sjd_dask.clinical import threeway
from sjd_dask.clinical.carry import EARLIER, carried
from sjd_dask.clinical.definitions import load_definition
from sjd_dask.clinical.gland_tests import cut, in_words, read_test, test_columns, text_column
from sjd_dask.clinical.measures import Measure, carried_column, interval_columns
from sjd_dask.clinical.reasons import by_pattern, join_reasons, missing_reason
from sjd_dask.clinical.sheet import Sheet
from sjd_dask.errors import SpecError

DEFINITE, UNDECIDED, NO = "definite", "undecided", "no"
EXCLUDED, NOT_ENTERED, CHILD_NOT_MET = "excluded", "not_entered", "child_not_met"
CLASSES = (DEFINITE, UNDECIDED, NO, EXCLUDED, NOT_ENTERED, CHILD_NOT_MET)
SCALE_RULES = ("never", "always")


def acr_eular(
    sheet: Sheet,
    *,
    definitions: Mapping[str, Any] | None = None,
    missing_as_negative: bool = False,
    one_scale: bool | None = None,
    carry: Sequence[str] | str | None = None,
    carry_from: str = EARLIER,
) -> pd.DataFrame:
    """Classify each row by the 2016 ACR/EULAR criteria.

    Parameters
    ----------
    sheet : Sheet
        The columns of the five items, of entry, of exclusions, and ``age`` (years); any may be absent, which is the
        same as missing.
    definitions : mapping, optional
        ``acr_eular``: a table in place of ``definitions/acr_eular.yaml``.
    missing_as_negative : bool
        Sensitivity analysis: an item that is not recorded counts as negative, an exclusion that is not recorded as
        absent. Entry stays as recorded. The column ``acr_eular_missing_as_negative`` says that it was asked for.
    one_scale : bool, optional
        Whether one staining scale below its cut-off in both eyes is a negative item although the sheet has columns of
        the other scale, empty in that row; default: the table's ``one_scale_decides``. A sheet with columns of one
        scale is always read by that one.
    carry : sequence of str, or text separated by commas; optional
        Tests that a row without them takes from the person's last visit that has them: a biopsy is seldom repeated.
        Columns or tests of the five items, entry questions and exclusions; see `carry.carried`. Default: none, each row
        by itself.
    carry_from : str
        ``earlier`` (default), never from a later visit; ``any``: from the first later one where no earlier one has it.

    Returns
    -------
    DataFrame
        One row a row of the sheet: ``acr_eular`` (points, 0-9; NaN while an item is unknown), ``acr_eular_min`` (points
        observed), ``acr_eular_max`` (points attainable), ``acr_eular_known`` and ``acr_eular_items`` (of the five),
        ``acr_eular_reason`` (items not recorded, and columns that contradict each other), ``acr_eular_class``,
        ``acr_eular_met`` (1, 0 or NaN),
        ``acr_eular_entry`` (met, not_met, unknown), ``acr_eular_exclusion`` (present, none, unknown),
        ``acr_eular_child`` (1, 0 or NaN), ``acr_eular_note`` (entry and exclusions that are not recorded, and what the
        class of a child means), ``acr_eular_missing_as_negative`` and ``acr_eular_item_<item>`` (positive, negative,
        unknown). With `carry` also ``acr_eular_carried``: which columns were carried, and from which sample.

    Notes
    -----
    ``acr_eular_class`` is, in this order: ``excluded`` (an exclusion is present); ``not_entered`` (every entry
    question is answered with no); ``definite`` (observed >= 4); ``undecided`` (observed < 4 <= attainable); ``no``
    (attainable < 4), which for a child is ``child_not_met``: failing criteria made for adults says little of a child.
    Entry or exclusions that are not recorded change no class: they are in their own columns and in the note.
    ``acr_eular_met`` is stricter: 1 only where the score is definite, entry is met and every exclusion is recorded as
    absent; 0 where any of the three is known to fail; NaN otherwise, and NaN instead of 0 for a child below the score.

    Raises
    ------
    SpecError
        A table that lacks a part; what `carry.carried` refuses.
    DataError
        Nothing orders the visits of a person of whom something is to be carried.

    References
    ----------
    Items, weights, cut-offs, entry, exclusions: Shiboski et al. 2017, Arthritis Rheumatol 69:35-45 (P). Missing is not
    negative, children: the editorial on the three axes (P). One scale of staining decides: same paper, methods (S).
    """
    table = load_definition("acr_eular", definitions)
    taken = carried(sheet, carry, carry_from, definitions)
    sheet = taken.sheet
    items, noticed = item_answers(sheet, table, one_scale=one_scale)
    excluded = any_there(sheet, table["exclusions"], sheet.flag)
    entered = entry(sheet, table)
    child = threeway.below(sheet.number("age"), float(table["adult_age"]["years"]))
    if missing_as_negative:
        items = {name: np.nan_to_num(one, nan=0.0) for name, one in items.items()}
        excluded = np.nan_to_num(excluded, nan=0.0)

    points = [float(one["points"]) for one in table["items"].values()]
    known = ~np.isnan(np.column_stack(list(items.values())))
    low, high = threeway.bounds(*items.values(), weights=points)
    reason = missing_reason(known, list(items))
    met_at = float(table["met_at"]["points"])
    met = np.where(low >= met_at, 1.0, np.where(high < met_at, 0.0, np.nan))

    code = np.where(met == 1, CLASSES.index(DEFINITE), CLASSES.index(UNDECIDED))
    code = np.where(met == 0, np.where(child == 1, CLASSES.index(CHILD_NOT_MET), CLASSES.index(NO)), code)
    code = np.where(entered == 0, CLASSES.index(NOT_ENTERED), code)
    code = np.where(excluded == 1, CLASSES.index(EXCLUDED), code)
    whole = threeway.all_of(met, entered, threeway.negate(excluded))
    columns: dict[str, Any] = {
        "acr_eular": np.where(low == high, low, np.nan),
        "acr_eular_min": low,
        "acr_eular_max": high,
        "acr_eular_observed": low,
        "acr_eular_attainable": high,
        "acr_eular_known": known.sum(axis=1),
        "acr_eular_items": np.full(sheet.n, len(items)),
        "acr_eular_reason": join_reasons(reason, *noticed) if noticed else reason,
        "acr_eular_class": text_column(CLASSES, code),
        "acr_eular_met": np.where((child == 1) & (met != 1) & (whole == 0) & (excluded != 1), np.nan, whole),
        "acr_eular_entry": in_words(entered, "not_met", "met"),
        "acr_eular_exclusion": in_words(excluded, "none", "present"),
        "acr_eular_child": child,
        "acr_eular_note": _notes(sheet, table, entered, excluded, child, code),
        "acr_eular_missing_as_negative": np.full(sheet.n, missing_as_negative),
    }
    columns |= {f"acr_eular_item_{name}": in_words(one) for name, one in items.items()}
    if carry is not None:
        columns["acr_eular_carried"] = taken.told(_columns(table))
    return pd.DataFrame(columns, index=sheet.frame.index)


def item_answers(
    sheet: Sheet, table: Mapping[str, Any], *, one_scale: bool | None = None
) -> tuple[dict[str, np.ndarray], list[np.ndarray]]:
    """Each item, 1 positive, 0 negative, NaN unknown, (n,) each; and columns of texts on what contradicts itself."""
    rule = str(table["one_scale_decides"]["value"])
    if rule not in SCALE_RULES:
        raise SpecError(f"one_scale_decides of the acr_eular table is {rule!r}; it is one of {', '.join(SCALE_RULES)}")
    decides = rule == "always" if one_scale is None else one_scale
    found, notes = {}, []
    for name, item in table["items"].items():
        # A scale the sheet has no column of was not used there: the other one is the item.
        tests = item["tests"]
        tests = {key: one for key, one in tests.items() if any(map(sheet.has, test_columns(one)))} or tests
        readings = {key: read_test(sheet, one) for key, one in tests.items()}
        notes += [text for key, one in readings.items() for text in one.notes(key)]
        answers = [one.answer for one in readings.values()]
        either = threeway.any_of(*answers)
        if decides and len(answers) > 1:
            either = np.where(np.isnan(np.column_stack(answers)).all(axis=1), np.nan, np.nan_to_num(either, nan=0.0))
        found[name] = either
    return found, notes


def entry(sheet: Sheet, table: Mapping[str, Any]) -> np.ndarray:
    """Whether a row enters: any symptom, or a positive domain of activity; 1, 0 or NaN, (n,)."""
    activity = table["activity"]
    domains = any_there(sheet, activity["domains"], lambda name: cut(sheet.level(name), activity))
    total = str(activity["total"])
    if sheet.has(total):
        # A total stands for its domains where they leave it open.
        domains = np.where(np.isnan(domains), cut(sheet.number(total), activity), domains)
    return threeway.any_of(any_there(sheet, table["entry"], sheet.flag), domains)


def _columns(table: Mapping[str, Any]) -> list[str]:
    """The columns that items, entry and exclusions read."""
    tests = [test for item in table["items"].values() for test in item["tests"].values()]
    return [*(one for test in tests for one in test_columns(test)), *table["entry"], *table["exclusions"]]


def any_there(sheet: Sheet, columns: Iterable[str], read: Callable[[str], np.ndarray]) -> np.ndarray:
    """Whether any column says yes, (n,); a column the sheet lacks is unknown, and takes no time."""
    columns = list(columns)
    there = [read(name) for name in columns if sheet.has(name)]
    if len(there) < len(columns):
        there.append(np.full(sheet.n, np.nan))
    return threeway.any_of(*there)


def _notes(
    sheet: Sheet,
    table: Mapping[str, Any],
    entered: np.ndarray,
    excluded: np.ndarray,
    child: np.ndarray,
    code: np.ndarray,
) -> np.ndarray:
    """What else a reader of the class must know."""
    years = float(table["adult_age"]["years"])
    adults = "the criteria were made for adults"
    exclusions = list(table["exclusions"])
    # All that decides the text of a row in one whole number, so that each text is made once.
    absent = sum(1 << i for i, name in enumerate(exclusions) if not sheet.has(name))
    state = np.full(sheet.n, absent, dtype=np.int64)
    for i, name in enumerate(exclusions):
        if not absent >> i & 1:
            state |= np.isnan(sheet.flag(name)).astype(np.int64) << i
    # One exclusion that is present decides: the others are not asked for.
    state[excluded == 1] = 0
    parts = (np.isnan(entered), child == 1, np.isnan(child) & (code == CLASSES.index(NO)))
    for part in parts:
        state = (state << 1) | part

    def text(one: int) -> str:
        no_entry, is_child, no_age = (one >> i & 1 for i in (2, 1, 0))
        missing = [name for i, name in enumerate(exclusions) if one >> (i + len(parts)) & 1]
        said = [
            "entry not recorded" if no_entry else "",
            f"exclusions not recorded: {', '.join(missing)}" if missing else "",
            f"younger than {years:g}: {adults}" if is_child else "",
            f"age not recorded: {adults}" if no_age else "",
        ]
        return "; ".join(filter(None, said))

    return by_pattern([state], text)


ACR_EULAR = Measure(
    name="acr_eular",
    function=acr_eular,
    title="2016 ACR/EULAR classification: points, class, entry and exclusions",
    needs=(
        "focus_score", "focal_lymphocytic_sialadenitis", "anti_ssa", "oss_right", "oss_left", "oss",
        "van_bijsterveld_right", "van_bijsterveld_left", "van_bijsterveld", "schirmer_right", "schirmer_left",
        "schirmer", "saliva_unstimulated",
    ),
    also=carried_column("acr_eular"),
    columns={
        **interval_columns("acr_eular", "points of the 2016 ACR/EULAR criteria, 0-9"),
        "acr_eular_observed": ("number", "points of the items recorded as positive: the minimum"),
        "acr_eular_attainable": ("number", "points with every missing item positive: the maximum"),
        "acr_eular_class": ("text", "definite, undecided, no, excluded, not_entered or child_not_met"),
        "acr_eular_met": ("flag", "definite, entry met and every exclusion recorded as absent; missing while open"),
        "acr_eular_entry": ("text", "met, not_met or unknown"),
        "acr_eular_exclusion": ("text", "present, none or unknown"),
        "acr_eular_child": ("flag", "younger than the criteria were made for"),
        "acr_eular_note": ("text", "entry and exclusions that are not recorded; what the class means for a child"),
        "acr_eular_missing_as_negative": ("flag", "the sensitivity analysis was asked for"),
        "acr_eular_item_focal_lymphocytic_sialadenitis": ("text", "positive, negative or unknown"),
        "acr_eular_item_anti_ssa": ("text", "positive, negative or unknown"),
        "acr_eular_item_ocular_staining": ("text", "positive, negative or unknown"),
        "acr_eular_item_schirmer": ("text", "positive, negative or unknown"),
        "acr_eular_item_unstimulated_saliva": ("text", "positive, negative or unknown"),
    },
)  # fmt: skip
