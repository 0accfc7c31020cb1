"""The ids that leave, and how they are found and taken out of text, JSON and columns.

An id is data where a column says so (`sample_id`, `person_id`, ...), and a word anywhere else. A short id, or one of
few digits ("7", "C1"), is also a class, a plate or a number of something else: in free text it is taken out only
between quotes, as messages write ids.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Final

from sjd_dask import names
from sjd_dask.store.catalogue.tombstones import id_text

# What stands in text where an id stood.
REPLACEMENT: Final = "[withdrawn]"
ID_COLUMNS: Final = (names.SAMPLE_ID, names.PERSON_ID, "person", "sample", "reference_sample", "previous_sample_id")
_ENDINGS: Final = ("_sample_id", "_person_id")
_LISTS: Final = ("samples", "persons", "sample_ids", "person_ids")
# Shorter ones, and ones of digits alone that are not longer than a year, are words of their own.
_LEAST: Final = 3
_LEAST_DIGITS: Final = 5
# Alternatives in one pattern; more make compiling slow and matching no faster.
_AT_ONCE: Final = 500


@dataclass(frozen=True)
class Leaving:
    """The ids of the people who leave.

    Attributes
    ----------
    persons, samples : frozenset of str
        Their own ids, and those of all samples they ever had.
    id_columns : frozenset of str
        Names of columns that hold ids, beside the usual ones.
    words : frozenset of str
        Those of the ids that are also values of other columns, such as names of plates.
    stay : frozenset of str
        Ids of everybody else: a longer id that holds a shorter one is not that one.
    samples_each : float
        How many samples people have on average.
    """

    persons: frozenset[str]
    samples: frozenset[str]
    id_columns: frozenset[str] = frozenset()
    words: frozenset[str] = frozenset()
    stay: frozenset[str] = field(default=frozenset(), repr=False)
    samples_each: float = 1.0

    @cached_property
    def ids(self) -> frozenset[str]:
        """Of people and samples."""
        return self.persons | self.samples

    @cached_property
    def plain(self) -> frozenset[str]:
        """Those that are no words of their own, so that they mean the same wherever they stand."""
        return frozenset(one for one in self.ids - self.words if not _is_short(one))

    def is_id_column(self, name: str) -> bool:
        """Whether a column of that name holds ids of people or samples."""
        return name in ID_COLUMNS or name in self.id_columns or name.endswith(_ENDINGS)

    def are_ids(self, distinct: Collection[str], n_cells: int) -> bool:
        """Whether values of a column are ids by what they are: nothing else, each about as often as somebody's samples.

        Relatives and twins are; plates and groups that happen to be called like people come far more often.
        """
        return n_cells <= 2 * self.samples_each * len(distinct) and all(
            one in self.ids or one in self.stay for one in distinct
        )

    # -- text ------------------------------------------------------------------------------------------------------

    @cached_property
    def _patterns(self) -> list[re.Pattern[str]]:
        forms: dict[str, None] = {}
        for one in sorted(self.ids, key=lambda text: (-len(text), text)):
            # A number is an id only where it is written as text.
            quotes = "" if one in self.plain and not one.isdigit() else "'\"" if one in self.plain else "'"
            before, after = (f"(?<=[{quotes}])", f"(?=[{quotes}])") if quotes else (r"(?<![^\W_])", r"(?![^\W_])")
            for form in _forms(one):
                forms[f"{before}{re.escape(form)}{after}"] = None
        parts = list(forms)
        return [re.compile("|".join(parts[at : at + _AT_ONCE])) for at in range(0, len(parts), _AT_ONCE)]

    @cached_property
    def _anywhere(self) -> list[re.Pattern[str]]:
        forms = sorted({form for one in self.ids for form in _forms(one)})
        return [
            re.compile("|".join(map(re.escape, forms[at : at + _AT_ONCE]))) for at in range(0, len(forms), _AT_ONCE)
        ]

    def may_name(self, text: str) -> bool:
        """Whether the letters of an id are in a text at all: quick, and true too often."""
        return any(pattern.search(text) for pattern in self._anywhere)

    def _is_part(self, text: str, match: re.Match[str]) -> bool:
        # "P1" within "P1-2", which is somebody else.
        start, stop = match.span()
        while start and (text[start - 1].isalnum() or text[start - 1] in "_.-"):
            start -= 1
        while stop < len(text) and (text[stop].isalnum() or text[stop] in "_.-"):
            stop += 1
        longer = text[start:stop]
        return (start, stop) != match.span() and (longer in self.stay or longer.strip(".-") in self.stay)

    def in_text(self, text: str) -> bool:
        """Whether a text names one of them."""
        return any(not self._is_part(text, match) for pattern in self._patterns for match in pattern.finditer(text))

    def scrub_text(self, text: str) -> str:
        """The text with `REPLACEMENT` in place of their ids."""
        for pattern in self._patterns:
            text = pattern.sub(lambda match: match[0] if self._is_part(match.string, match) else REPLACEMENT, text)
        return text

    # -- JSON ------------------------------------------------------------------------------------------------------

    def scrub_json(self, value: Any, key: str = "") -> Any:
        """Plain data without them: items of lists and keys of mappings go, other texts are scrubbed."""
        own = self.ids if self.is_id_column(key) or key.endswith(_LISTS) else self.plain
        if isinstance(value, dict):
            return {self.scrub_text(name): self.scrub_json(one, name) for name, one in value.items() if name not in own}
        if isinstance(value, list):
            return [self.scrub_json(one, key) for one in value if not (isinstance(one, str) and one in own)]
        if isinstance(value, str):
            return REPLACEMENT if value in own else self.scrub_text(value)
        if self.is_id_column(key) and id_text(value) in self.ids:
            return None
        return value

    def scrub_json_text(self, text: str) -> str:
        """JSON in, JSON out; the very same text where nothing was in it."""
        try:
            data = json.loads(text)
        except ValueError:
            return self.scrub_text(text)
        made = self.scrub_json(data)
        return text if made == data else json.dumps(made, ensure_ascii=text.isascii())

    def scrub_record(self, record: dict[str, Any]) -> dict[str, Any]:
        """Sample columns of somebody who stays: a cell that names one of them becomes missing, a remark is scrubbed."""
        made: dict[str, Any] = {}
        for name, value in record.items():
            if self.is_id_column(name):
                made[name] = None if id_text(value) in self.ids else value
            else:
                made[name] = self.scrub_text(value) if isinstance(value, str) and value not in self.ids else value
        return made


def _forms(one: str) -> list[str]:
    """An id as it stands in text, and in JSON of either kind."""
    return list(dict.fromkeys((one, json.dumps(one)[1:-1], json.dumps(one, ensure_ascii=False)[1:-1])))


def _is_short(one: str) -> bool:
    return len(one) < _LEAST or (one.isdigit() and len(one) < _LEAST_DIGITS)


def scrub_lines(text: str, scrub: Callable[[str], str]) -> str:
    """A text of one JSON object a line, each scrubbed by itself."""
    return "".join(scrub(line.rstrip("\n")) + ("\n" if line.endswith("\n") else "") for line in text.splitlines(True))


def read_ids(lines: Iterable[str]) -> list[str]:
    """Ids, one a line; empty lines and a first line that is the name of the column are passed over."""
    found = [one.strip() for one in lines]
    if found and found[0] in (names.PERSON_ID, names.SAMPLE_ID):
        found = found[1:]
    return list(dict.fromkeys(one for one in found if one))
