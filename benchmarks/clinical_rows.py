"""The peer of the clinical benchmark: the published rules row by row, as one writes them with `DataFrame.apply`.

Plain Python on one row at a time, with the same tables of weights and cut-offs, the same three-valued logic, and the
same bounds under missing items; it also checks what the vectorised code says.
"""

from __future__ import annotations

import math
from typing import Any

import pandas as pd

from sjd_dask.clinical import load_definition

Row = Any  # pandas' row: a Series
Answer = bool | None
WORDS = {True: "positive", False: "negative", None: "unknown"}


def known(value: Any) -> bool:
    """Whether a cell holds a number."""
    return value is not None and not (isinstance(value, float) and math.isnan(value))


def reason(missing: list[str]) -> str:
    """Why a score is open."""
    return f"missing: {', '.join(missing)}" if missing else ""


def any_of(answers: list[Answer]) -> Answer:
    """Kleene's or."""
    if any(one is True for one in answers):
        return True
    return None if any(one is None for one in answers) or not answers else False


class Rows:
    """The rules of one sheet, with its baselines; each method scores one row."""

    def __init__(self, frame: pd.DataFrame) -> None:
        self.columns = set(frame.columns)
        self.tables = {name: load_definition(name) for name in ("essdai", "clinessdai", "esspri", "acr_eular", "star")}
        first = frame.sort_values(["person_id", "date"]).drop_duplicates("person_id")
        self.baselines = {one["person_id"]: one for _, one in first.iterrows()}

    def total(self, row: Row, table: dict[str, Any]) -> tuple[float, float]:
        """Least and greatest weighted sum."""
        low = high = 0.0
        for name, item in table["items"].items():
            if known(row[name]):
                low, high = low + item["weight"] * row[name], high + item["weight"] * row[name]
            else:
                high += item["weight"] * max(item["levels"])
        return low, high

    def essdai(self, row: Row) -> dict[str, Any]:
        """Value, bounds, activity and reason."""
        table = self.tables["essdai"]
        low, high = self.total(row, table)
        missing = [name for name in table["items"] if not known(row[name])]
        bands = sorted(((one["from"], name) for name, one in table["activity"].items()), reverse=True)
        least, most = (next(name for cut, name in bands if value >= cut) for value in (low, high))
        return {
            "essdai": low if low == high else math.nan,
            "essdai_min": low,
            "essdai_max": high,
            "essdai_known": len(table["items"]) - len(missing),
            "essdai_items": len(table["items"]),
            "essdai_activity": least if least == most else None,
            "essdai_reason": reason(missing),
        }

    def scales(self, row: Row) -> tuple[float, float]:
        """Least and greatest ESSPRI."""
        values = [row[name] for name in ("dryness", "fatigue", "pain")]
        low = sum(one if known(one) else 0.0 for one in values) / 3
        return low, sum(one if known(one) else 10.0 for one in values) / 3

    def esspri(self, row: Row) -> dict[str, Any]:
        """Value and bounds."""
        low, high = self.scales(row)
        missing = [name for name in ("dryness", "fatigue", "pain") if not known(row[name])]
        cut = self.tables["esspri"]["acceptable"]["below"]
        return {
            "esspri": low if low == high else math.nan,
            "esspri_min": low,
            "esspri_max": high,
            "esspri_known": 3 - len(missing),
            "esspri_items": 3,
            "esspri_acceptable": 1.0 if high < cut else 0.0 if low >= cut else math.nan,
            "esspri_reason": reason(missing),
        }

    def test(self, row: Row, test: dict[str, Any]) -> Answer:
        """One test of the classification: worse eye, one value, or a flag."""
        if "flag" in test:
            return bool(row[test["flag"]]) if known(row[test["flag"]]) else None

        def cut(name: str) -> Answer:
            if not known(row[name]):
                return None
            return bool(row[name] >= test["at_least"] if "at_least" in test else row[name] <= test["at_most"])

        if "right" in test:
            found = any_of([cut(test["right"]), cut(test["left"])])
        else:
            found = cut(test["recorded"])
        flag = test.get("confirmed_by")
        if flag is None or found is False:
            return found
        return (found if row[flag] else False) if known(row[flag]) else None

    def acr_eular(self, row: Row) -> dict[str, Any]:
        """Observed and attainable points, class, entry, exclusion, and each item."""
        table = self.tables["acr_eular"]
        low = high = 0.0
        items = {}
        for name, item in table["items"].items():
            items[name] = any_of([self.test(row, one) for one in item["tests"].values()])
            low += item["points"] * (items[name] is True)
            high += item["points"] * (items[name] is not False)
        flags = [bool(row[name]) if known(row[name]) else None for name in table["entry"]]
        domains = [row[name] > 0 if known(row[name]) else None for name in table["activity"]["domains"]]
        entered = any_of([*flags, *domains])
        excluded = any_of([bool(row[name]) if known(row[name]) else None for name in table["exclusions"]])
        cut = table["met_at"]["points"]
        is_met = True if low >= cut else False if high < cut else None
        if excluded:
            klass = "excluded"
        elif entered is False:
            klass = "not_entered"
        else:
            klass = {True: "definite", False: "no", None: "undecided"}[is_met]
        parts = [is_met, entered, None if excluded is None else not excluded]
        whole = False if False in parts else None if None in parts else True
        missing = [name for name, one in items.items() if one is None]
        return {
            "acr_eular": low if low == high else math.nan,
            "acr_eular_min": low,
            "acr_eular_max": high,
            "acr_eular_known": len(items) - len(missing),
            "acr_eular_items": len(items),
            "acr_eular_reason": reason(missing),
            "acr_eular_class": klass,
            "acr_eular_met": math.nan if whole is None else float(whole),
            "acr_eular_entry": {True: "met", False: "not_met", None: "unknown"}[entered],
            "acr_eular_exclusion": {True: "present", False: "none", None: "unknown"}[excluded],
            **{f"acr_eular_item_{name}": WORDS[one] for name, one in items.items()},
        }

    def star(self, row: Row) -> dict[str, Any]:
        """Points of a visit after the baseline, each domain, and the responder."""
        base, table = self.baselines[row["person_id"]], self.tables["star"]
        follows = base["sample_id"] != row["sample_id"]
        answers: dict[str, list[Answer]] = {name: [] for name in table["domains"]}
        for one in table["tests"].values() if follows else ():
            answers[one["domain"]].append(self._responds(one, base, row))
        met = {name: any_of(one) for name, one in answers.items()}
        low = float(sum(domain["points"] * (met[name] is True) for name, domain in table["domains"].items()))
        high = float(sum(domain["points"] * (met[name] is not False) for name, domain in table["domains"].items()))
        cut = table["responder"]["at_least"]
        responder = "yes" if low >= cut else "no" if high < cut else "undetermined"
        missing = [name for name, one in met.items() if one is None]
        return {
            "star": low if low == high else math.nan,
            "star_min": low if follows else math.nan,
            "star_max": high if follows else math.nan,
            "star_responder": responder if follows else None,
            **{f"star_{name}": math.nan if one is None else float(one) for name, one in met.items()},
            "star_baseline": base["sample_id"],
            "star_reason": reason(missing) if follows else "the baseline visit",
        }

    def _interval(self, test: dict[str, Any], row: Row) -> tuple[float, float]:
        if test.get("measure") == "clinessdai":
            return self.total(row, self.tables["clinessdai"])
        if test.get("measure") == "esspri":
            return self.scales(row)
        name = test["column"]
        value = (row[f"{name}_right"] + row[f"{name}_left"]) / 2 if test.get("eyes") == "mean" else row[name]
        return value, value

    def _responds(self, test: dict[str, Any], base: Row, row: Row) -> Answer:
        (low, high), (least, most) = self._interval(test, base), self._interval(test, row)
        cut, rule = test["at_least"], test["rule"]
        if not (known(low) and known(least)):
            return None
        if rule == "drop":
            return _decided(_reaches(low - most, cut), _reaches(high - least, cut))
        if rule == "relative_drop":
            return _decided(_share(low, low - most, cut), _share(high, high - least, cut))
        if rule == "relative_rise":
            return least > low if low == 0 else _share(low, least - low, cut)
        if rule == "rise_or_stay_normal":
            limit = test["abnormal_below"]
            return _reaches(least - low, cut) if low < limit else least >= limit
        limit = test["abnormal_at_least"]
        return _reaches(low - least, cut) if low >= limit else least < limit


def _reaches(value: float, cut: float) -> bool:
    return value >= cut or math.isclose(value, cut, rel_tol=1e-9, abs_tol=1e-9)


def _share(base: float, difference: float, cut: float) -> bool:
    return base > 0 and _reaches(difference / base, cut)


def _decided(worst: bool, best: bool) -> Answer:
    return True if worst else None if best else False
