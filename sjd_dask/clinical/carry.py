"""Tests that were done once, carried to a person's other visits: only where asked, and told of each row.

A biopsy is seldom repeated, and serology is often drawn at the first visit alone. Read visit by visit, such a person is
undecided for ever after. What is carried is a whole test: its columns belong together, and two eyes of two visits make
no reading.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray

from sjd_dask import names
from sjd_dask.clinical.definitions import Overrides, did_you_mean, load_definition
from sjd_dask.clinical.gland_tests import test_columns
from sjd_dask.clinical.reasons import join_reasons
from sjd_dask.clinical.sheet import Sheet, canonical_name
from sjd_dask.clinical.visit_order import VisitOrder, sheet_order
from sjd_dask.errors import DataError, SpecError

EARLIER, ANY = "earlier", "any"
DIRECTIONS = (EARLIER, ANY)
_KEPT: WeakKeyDictionary[Sheet, dict[Any, Carried]] = WeakKeyDictionary()


@dataclass(frozen=True)
class Together:
    """Columns that are carried together: those of a reading, and a flag that says whether the reading holds."""

    reading: tuple[str, ...]
    flag: str | None = None

    @property
    def columns(self) -> tuple[str, ...]:
        return (*self.reading, self.flag) if self.flag else self.reading


@dataclass(frozen=True)
class Carried:
    """A sheet with tests carried, and where they are from.

    Attributes
    ----------
    sheet : Sheet
    origin : dict
        Column -> (n,) positions of the rows its value is from, -1 where it is the row's own or missing.
    """

    sheet: Sheet
    origin: dict[str, NDArray[np.int64]] = field(default_factory=dict)

    def told(self, read: Iterable[str]) -> NDArray[np.object_]:
        """``focus_score from S1; anti_ssa from S2`` for each row, of the columns that a measure reads."""
        ids = self.sheet.frame[names.SAMPLE_ID].to_numpy(dtype=object)
        parts = []
        for column in dict.fromkeys(read):
            if column in self.origin:
                rows = self.origin[column]
                part = np.full(len(rows), "", dtype=object)
                some = np.flatnonzero(rows >= 0)
                part[some] = [f"{column} from {one}" for one in ids[rows[some]]]
                parts.append(part)
        return join_reasons(*parts) if parts else np.full(self.sheet.n, "", dtype=object)


def carried(
    sheet: Sheet,
    carry: Sequence[str] | str | None,
    carry_from: str = EARLIER,
    definitions: Overrides | None = None,
) -> Carried:
    """A sheet in which tests that a visit lacks are those of the person's last visit that has them.

    Parameters
    ----------
    sheet : Sheet
        n rows, with `person_id` and what orders a person's visits.
    carry : sequence of str, or text separated by commas; optional
        Columns, tests or items of the classification criteria and the gland tests, entry questions, exclusions; a
        column brings the others of its test. None: the sheet as it is.
    carry_from : str
        ``earlier``: the last visit before (or another row of the same visit). ``any``: where there is none, the first
        visit after as well.
    definitions
        ``acr_eular`` and ``glands`` count here.

    Returns
    -------
    Carried
        Recorded values are never overruled: a later reading replaces an earlier one from its visit on. A row of which
        any column of a reading is known keeps it as it is. A flag that confirms a reading (focal sialadenitis) is
        carried with it, and never to a newer reading.

    Raises
    ------
    SpecError
        No `person_id`; a name that can't be carried, or of which the sheet has no column; an unknown direction.
    DataError
        Nothing orders the visits of a person of whom something is to be carried, or two rows of one visit differ.
    """
    if carry_from not in DIRECTIONS:
        raise SpecError(f"carry_from: {carry_from!r}{did_you_mean(carry_from, DIRECTIONS)}; use earlier or any")
    if carry is None:
        return Carried(sheet)
    asked = [one.strip() for one in (carry.split(",") if isinstance(carry, str) else carry)]
    key = (tuple(asked), carry_from, id(definitions) if definitions else None)
    kept = {} if definitions else _KEPT.setdefault(sheet, {})
    if key not in kept:
        tests = _named(sheet, asked, definitions)
        if names.PERSON_ID not in sheet.frame:
            raise SpecError(
                "carry looks at other visits of a person, and the sheet has no column 'person_id'"
                f"{did_you_mean(names.PERSON_ID, sheet.unknown)}"
            )
        kept[key] = _carry(sheet, tests, carry_from == ANY)
    return kept[key]


def _carriable(definitions: Overrides | None) -> tuple[dict[str, list[Together]], list[Together]]:
    """Tests by the names of items and tests; and all tests."""
    criteria, glands = load_definition("acr_eular", definitions), load_definition("glands", definitions)
    by_name: dict[str, list[Together]] = {}
    for item, entry in criteria["items"].items():
        for test, one in entry["tests"].items():
            by_name.setdefault(item, []).append(_test(one))
            by_name.setdefault(test, []).append(_test(one))
    for test, entry in glands["tests"].items():
        by_name.setdefault(test, []).append(_test(entry["test"]))
    alone = [*criteria["entry"], *criteria["exclusions"], str(glands["hocevar"]["column"])]
    tests = [one for found in by_name.values() for one in found] + [Together((name,)) for name in alone]
    return by_name, list(dict.fromkeys(tests))


def _test(entry: Mapping[str, Any]) -> Together:
    flag = str(entry["confirmed_by"]) if "confirmed_by" in entry else None
    return Together(tuple(one for one in test_columns(entry) if one != flag), flag)


def _named(sheet: Sheet, asked: Sequence[str], definitions: Overrides | None) -> list[Together]:
    by_name, tests = _carriable(definitions)
    if not any(asked):
        raise SpecError("carry: name at least one column or test, such as focus_score or anti_ssa")
    found: list[Together] = []
    for name in asked:
        canonical = canonical_name(name, definitions)
        column = canonical[0] if canonical else name
        here = [one for one in tests if column in one.columns] or by_name.get(name.lower().replace("-", "_"), [])
        if not here:
            known = sorted({*by_name, *(one for test in tests for one in test.columns)})
            raise SpecError(
                f"carry: {name!r} can't be carried{did_you_mean(name, known)}; there are {', '.join(known)}"
            )
        if not any(sheet.has(one) for test in here for one in test.columns):
            columns = ", ".join(dict.fromkeys(one for test in here for one in test.columns))
            raise SpecError(f"carry: the sheet has no column for {name!r} ({columns})")
        found += here
    return list(dict.fromkeys(found))


def _carry(sheet: Sheet, tests: Sequence[Together], later: bool) -> Carried:
    order = sheet_order(sheet)
    numbers: dict[str, np.ndarray] = {}
    origin: dict[str, NDArray[np.int64]] = {}
    for test in tests:
        for columns, rows in _sources(sheet, test, order, later):
            for column in columns:
                values = sheet.number(column)
                new = np.where(rows >= 0, values[rows], np.nan)
                here = np.isnan(values) & ~np.isnan(new)
                if here.any():
                    numbers[column] = np.where(here, new, values)
                    origin[column] = np.where(here, rows, -1)
    return Carried(sheet.with_numbers(numbers), origin)


def _sources(
    sheet: Sheet, test: Together, order: VisitOrder, later: bool
) -> Iterable[tuple[tuple[str, ...], NDArray[np.int64]]]:
    """For the reading and the flag of a test: its columns, and the row that each row takes them from, -1 for none."""
    reading = tuple(one for one in test.reading if sheet.has(one))
    flag = (test.flag,) if test.flag and sheet.has(test.flag) else ()
    has_reading, has_flag = _known(sheet, reading), _known(sheet, flag)
    wanting = (~has_reading & (len(reading) > 0)) | (~has_flag & (len(flag) > 0))
    order.refuse_unclear((has_reading | has_flag), wanting, "no order of the visits")
    read, confirmed = order.last(has_reading), order.last(has_flag)
    # A flag belongs to the reading before it: a newer reading has none until one is recorded.
    confirmed = np.where(confirmed >= read, confirmed, -1)
    if later:
        after = order.next(has_reading)
        from_after = (read < 0) & (after >= 0)
        alone = (read < 0) & (after < 0) & (confirmed < 0)
        there = order.of_visit(has_flag)[np.where(from_after, after, 0)] >= 0
        confirmed = np.where(from_after & (confirmed < 0) & there, after, confirmed)
        confirmed = np.where(alone, order.next(has_flag), confirmed)
        read = np.where(from_after, after, read)
    for columns, known, visits in ((reading, has_reading, read), (flag, has_flag, confirmed)):
        if columns:
            source = np.where(known | (visits < 0), -1, order.of_visit(known)[np.maximum(visits, 0)])
            _refuse_two(sheet, columns, known, order, visits[source >= 0])
            yield columns, source


def _known(sheet: Sheet, columns: Sequence[str]) -> NDArray[np.bool_]:
    known = np.zeros(sheet.n, dtype=bool)
    for one in columns:
        known |= ~np.isnan(sheet.number(one))
    return known


def _refuse_two(
    sheet: Sheet, columns: Sequence[str], known: NDArray[np.bool_], order: VisitOrder, used: NDArray[np.int64]
) -> None:
    """Rows of one visit that differ leave open which of them would be carried."""
    rows = np.flatnonzero(known & np.isin(order.visit, used))
    first = order.of_visit(known)[order.visit[rows]]
    for column in columns:
        values = sheet.number(column)
        differ = rows[~((values[rows] == values[first]) | (np.isnan(values[rows]) & np.isnan(values[first])))]
        if len(differ):
            row, other = int(differ[0]), int(order.of_visit(known)[order.visit[differ[0]]])
            person, one, two = (
                sheet.frame[name].iloc[at]
                for name, at in ((names.PERSON_ID, row), (names.SAMPLE_ID, other), (names.SAMPLE_ID, row))
            )
            raise DataError(
                f"carry: {column} of person {str(person)!r} differs between samples {str(one)!r} and {str(two)!r} of "
                f"one visit ({values[other]:g} and {values[row]:g}): nothing tells which is carried. Correct one, or "
                f"leave {column} out of carry"
            )
