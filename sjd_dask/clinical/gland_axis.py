"""Axis 2: function, structure and inflammation of the glands, kept apart, from objective tests."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import reduce
from typing import Any

import numpy as np

from sjd_dask.clinical.definitions import Overrides, load_definition
from sjd_dask.clinical.gland_tests import answer, cut
from sjd_dask.clinical.kept import kept_by_sheet
from sjd_dask.clinical.sheet import Sheet
from sjd_dask.clinical.threeway import all_of, any_of, negate
from sjd_dask.errors import SpecError

PARTS = ("function", "structure", "inflammation")
_USES = ("first", "every", "either")


@dataclass(frozen=True)
class GlandAxis:
    """Axis 2 of n rows.

    Attributes
    ----------
    answers
        Test -> 1 positive, 0 negative, NaN unknown, (n,).
    low, high
        Test -> least and greatest position, 0 as in health to 1, (n,).
    parts
        Test -> `function`, `structure` or `inflammation`.
    state
        1 impaired, 0 not impaired, NaN open, (n,).
    early
        1 early and inflammatory, 0 not, NaN open, (n,).
    in_position
        Tests that the position of the axis is the mean of.
    """

    answers: dict[str, np.ndarray]
    low: dict[str, np.ndarray]
    high: dict[str, np.ndarray]
    parts: dict[str, str]
    state: np.ndarray
    early: np.ndarray
    in_position: tuple[str, ...]

    def part_state(self, part: str) -> np.ndarray:
        """1 where a test of this part is positive, 0 where all are negative, NaN open, (n,)."""
        return any_of(*(self.answers[test] for test in self._of(part)))

    def part_position(self, part: str) -> tuple[np.ndarray, np.ndarray]:
        """Least and greatest position of a part: the mean of its tests, (n,) each."""
        return self._mean(self._of(part))

    def position(self) -> tuple[np.ndarray, np.ndarray]:
        """Least and greatest position of the axis, (n,) each."""
        return self._mean(list(self.in_position))

    def known(self) -> np.ndarray:
        """Which tests of the position are known, (n, tests)."""
        return np.column_stack([self.low[test] == self.high[test] for test in self.in_position])

    def _of(self, part: str) -> list[str]:
        return [test for test, own in self.parts.items() if own == part]

    def _mean(self, tests: list[str]) -> tuple[np.ndarray, np.ndarray]:
        # Summed in the order of the tests, so that a row's bits don't depend on its neighbours.
        sums = (reduce(np.add, [ends[test] for test in tests]) for ends in (self.low, self.high))
        low, high = (one / len(tests) for one in sums)
        return low, high


@kept_by_sheet
def gland_axis(sheet: Sheet, *, definitions: Overrides | None = None) -> GlandAxis:
    """Read axis 2 of each row of a sheet.

    Parameters
    ----------
    sheet : Sheet
        Columns of the gland tests; any may be absent.
    definitions : mapping, optional
        ``axes`` and ``glands`` count here.

    Notes
    -----
    A test that is not recorded is neither positive nor negative: its position may be anything from 0 to 1. Of two eyes
    the worse one counts; where one is known, the position starts there. A test with several instruments follows its
    ``use``; an instrument of which the sheet has no column isn't waited for.

    Raises
    ------
    SpecError
        A definition that names an unknown test, instrument, part or use.

    References
    ----------
    What belongs to the axis: editorial on the three axes (P), which gives no cut-offs. Cut-offs of tests: definition
    `glands` (P). Parts, and lines between cut-off, health and the worst value: our configuration (K).
    """
    table = load_definition("axes", definitions)
    glands = load_definition("glands", definitions)
    answers, lows, highs, parts = {}, {}, {}, {}
    for test, one in table["gland_tests"].items():
        if one["part"] not in PARTS or one["use"] not in _USES:
            raise SpecError(
                f"definition 'axes': test {test!r} is of part {one['part']!r} and use {one['use']!r}; parts are "
                f"{', '.join(PARTS)}, uses {', '.join(_USES)}"
            )
        parts[test] = one["part"]
        answers[test], lows[test], highs[test] = _read(sheet, test, one, table["gland_instruments"], glands)
    absent = set(PARTS) - set(parts.values())
    if absent:
        raise SpecError(f"definition 'axes': no gland test of part {', '.join(sorted(absent))}")
    needs = _known_names(table["gland_not_impaired"]["needs"], answers, "gland_not_impaired")
    positive = any_of(*answers.values())
    negative = all_of(*(negate(answers[test]) for test in needs))
    state = np.where(positive == 1, 1.0, np.where(negative == 1, 0.0, np.nan))
    in_position = tuple(test for test, one in table["gland_tests"].items() if one["in_position"])
    if not in_position:
        raise SpecError("definition 'axes': no gland test is in the position of the axis")
    early = all_of(*(_condition(sheet, one) for one in table["gland_early_inflammatory"].values()))
    return GlandAxis(answers, lows, highs, parts, state, early, in_position)


def _known_names(asked: list[str], known: Mapping[str, Any], section: str) -> list[str]:
    unknown = [one for one in asked if one not in known]
    if unknown or not asked:
        raise SpecError(
            f"definition 'axes': {section} needs {unknown[0] if unknown else 'no test'!r}; tests are {', '.join(known)}"
        )
    return list(asked)


def _condition(sheet: Sheet, one: Mapping[str, Any]) -> np.ndarray:
    found = answer(sheet, one["test"])
    return found if one["answer"] == "positive" else negate(found)


def _read(
    sheet: Sheet, test: str, one: Mapping[str, Any], instruments: Mapping[str, Any], glands: Mapping[str, Any]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Answer, least and greatest position of a test."""
    named = _known_names(one["instruments"], instruments, f"test {test!r}")
    there = [name for name in named if any(map(sheet.has, _columns(instruments[name])))] or named[:1]
    if one["use"] == "first":
        there = there[:1]
    answers = [_answer(sheet, instruments[name], glands) for name in there]
    spans = [_span(sheet, instruments[name]) for name in there]
    if one["use"] == "either":
        found, (low, high) = answers[0], spans[0]
        for other, (least, most) in zip(answers[1:], spans[1:], strict=True):
            low, high = (np.where(np.isnan(found), new, old) for new, old in ((least, low), (most, high)))
            found = np.where(np.isnan(found), other, found)
        return found, low, high
    lows, highs = zip(*spans, strict=True)
    return any_of(*answers), reduce(np.maximum, lows), reduce(np.maximum, highs)


def _columns(instrument: Mapping[str, Any]) -> list[str]:
    return [*instrument["columns"], *([instrument["recorded"]] if "recorded" in instrument else [])]


def _answer(sheet: Sheet, instrument: Mapping[str, Any], glands: Mapping[str, Any]) -> np.ndarray:
    name = instrument["answer"]
    if name in glands["tests"]:
        return answer(sheet, glands["tests"][name]["test"])
    if name in glands and "column" in glands[name]:
        return cut(sheet.number(str(glands[name]["column"])), glands[name])
    raise SpecError(f"definition 'axes': no gland test {name!r}; definition 'glands' has {', '.join(glands['tests'])}")


def _span(sheet: Sheet, instrument: Mapping[str, Any]) -> tuple[np.ndarray, np.ndarray]:
    """Least and greatest position of an instrument, (n,) each."""
    each = [_on_scale(sheet.number(str(column)), instrument) for column in instrument["columns"]]
    lows = [np.where(np.isnan(one), 0.0, one) for one in each]
    highs = [np.where(np.isnan(one), 1.0, one) for one in each]
    if instrument["combine"] == "mean":
        low, high = (reduce(np.add, ends) / len(each) for ends in (lows, highs))
    elif instrument["combine"] == "worse":
        low, high = reduce(np.maximum, lows), reduce(np.maximum, highs)
    else:
        raise SpecError(f"definition 'axes': combine is 'worse' or 'mean', not {instrument['combine']!r}")
    if "recorded" in instrument:
        recorded = _on_scale(sheet.number(str(instrument["recorded"])), instrument)
        decides = np.logical_or.reduce([np.isnan(one) for one in each]) & ~np.isnan(recorded)
        # One value for both eyes is the worse one's; an eye known to be worse still counts.
        low, high = (np.where(decides, np.maximum(low, recorded), end) for end in (low, high))
    if "absent_where_no" in instrument:
        absent = sheet.flag(str(instrument["absent_where_no"])) == 0
        low, high = np.where(absent, 0.0, low), np.where(absent, 0.0, high)
    return low, high


def _on_scale(values: np.ndarray, instrument: Mapping[str, Any]) -> np.ndarray:
    points, position = (np.asarray(instrument[key], dtype=np.float64) for key in ("values", "position"))
    if points.shape != position.shape or (np.diff(points) <= 0).any() or not _one_way(position):
        raise SpecError(
            f"definition 'axes': values {points.tolist()} must ascend, with as many positions, all going one way from "
            f"0 to 1; they are {position.tolist()}"
        )
    return np.interp(values, points, position)  # missing stays missing


def _one_way(position: np.ndarray) -> bool:
    steps = np.diff(position)
    return bool(len(steps) and ((steps >= 0).all() or (steps <= 0).all()) and {*position[[0, -1]]} == {0.0, 1.0})
