"""The column dictionary: canonical names, their other spellings, and their units."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache
from typing import Any

from sjd_dask.clinical.definitions import Overrides, did_you_mean, load_definition
from sjd_dask.errors import SpecError

_WITH_UNIT = re.compile(r"^(.*?)\s*\[([^\]]*)\]\s*$")
_IN_PARENTHESES = re.compile(r"^(.*?)\s*\(([^()]*)\)\s*$")
_SEPARATORS = re.compile(r"[\s.\-/]+")


def plain(text: object) -> str:
    """A header as it is compared: lower case, with single underscores for spaces, dots, hyphens and slashes."""
    return re.sub(r"_+", "_", _SEPARATORS.sub("_", str(text).strip().lower())).strip("_")


def _plain_unit(text: object) -> str:
    return re.sub(r"\s+", "", str(text)).replace("µ", "u").replace("μ", "u").replace("²", "2").lower()


_KINDS = ("id", "date", "category", "number", "level", "flag")


def _check_entry(name: str, spec: Mapping[str, Any]) -> None:
    """Refuse an entry (of a user's file) that lacks what its kind needs."""
    what = f"definition 'columns': column {name!r}"
    kind = spec.get("kind")
    if kind not in _KINDS:
        raise SpecError(f"{what} is of kind {kind!r}{did_you_mean(kind, _KINDS)}; use {', '.join(_KINDS)}")
    if kind == "level" and not spec.get("levels"):
        raise SpecError(f"{what} lists no levels")
    ends = spec.get("range", [0, 1])
    if not (isinstance(ends, list) and len(ends) == 2 and ends[0] < ends[1]):
        raise SpecError(f"{what}: range {ends!r} is no [least, greatest]")
    divisors = spec.get("units", {})
    if not all(isinstance(by, (int, float)) and by > 0 for by in divisors.values()):
        raise SpecError(f"{what}: each of its units needs the positive number that its values are divided by")


class Columns:
    """The columns a clinical sheet may have.

    Parameters
    ----------
    definition
        The definition `columns`.

    Attributes
    ----------
    specs
        Canonical name -> its entry (kind, unit, range, levels, aliases, mark, source, ...).
    """

    def __init__(self, definition: Mapping[str, Any]) -> None:
        self.specs: dict[str, dict[str, Any]] = dict(definition["columns"])
        self._names: dict[str, str] = {}
        for name, spec in self.specs.items():
            _check_entry(name, spec)
            for spelling in (name, *spec.get("aliases", ())):
                other = self._names.setdefault(plain(spelling), name)
                if other != name:
                    raise SpecError(f"definition 'columns': {spelling!r} is a spelling of both {other!r} and {name!r}")
        self._units: dict[str, list[str]] = {}
        for name, spec in definition["units"].items():
            for spelling in dict.fromkeys(_plain_unit(one) for one in (name, *spec["spellings"])):
                self._units.setdefault(spelling, []).append(name)
        self.words: dict[str, float] = {}
        for kind, value in (("missing", float("nan")), ("positive", 1.0), ("negative", 0.0)):
            for word in definition["values"][kind]["spellings"]:
                self.words[str(word).strip().lower()] = value
        self.missing = frozenset(str(one).strip().lower() for one in definition["values"]["missing"]["spellings"])

    def __contains__(self, name: object) -> bool:
        return name in self.specs

    def canonical(self, header: object) -> tuple[str, str | None] | None:
        """``(canonical name, unit in the header or None)``, or None for a header this dictionary doesn't know.

        What stands in brackets is a unit, what stands in parentheses is one where the column has it: ``IgG (mg/dL)``.
        """
        found = _WITH_UNIT.match(str(header))
        name = self._names.get(plain(found[1] if found else header))
        if name is None and (inside := _IN_PARENTHESES.match(str(header))) is not None:
            name = self._names.get(plain(inside[1]))
            return (name, inside[2].strip()) if name is not None and self._has_unit(name, inside[2]) else None
        return None if name is None else (name, found[2].strip() if found else None)

    def near(self, header: object, cutoff: float = 0.6) -> str:
        """``(did you mean 'x'?)`` for a header that is nearly a known one; ``cutoff`` 1 asks for the very same."""
        inside = _IN_PARENTHESES.match(str(header))
        if inside is not None and (name := self._names.get(plain(inside[1]))) is not None:
            units = self.specs[name].get("units")
            meant = f"{name} [{next(iter(units))}]" if units else name
            return f" (did you mean {meant!r}?)"
        return did_you_mean(plain(header), self._names, cutoff)

    def _has_unit(self, name: str, unit: str) -> bool:
        spec = self.specs[name]
        known = spec.get("units", {spec["unit"]: 1} if "unit" in spec else {})
        return any(one in known for one in self._units.get(_plain_unit(unit), []))

    def divisor(self, name: str, unit: object, where: str) -> float:
        """What values in ``unit`` are divided by to stand in the column's own unit.

        Raises
        ------
        SpecError
            The column has no such unit; ``where`` says who asked.
        """
        spec = self.specs[name]
        known = spec.get("units", {spec["unit"]: 1} if "unit" in spec else {})
        for candidate in self._units.get(_plain_unit(unit), []):
            if candidate in known:
                return float(known[candidate])
        if not known:
            raise SpecError(f"{where}: column {name!r} has no unit ({spec['kind']}), so {unit!r} can't be used")
        raise SpecError(
            f"{where}: unknown unit {unit!r} for column {name!r}{did_you_mean(unit, known)}; use {' or '.join(known)}"
        )


@cache
def _shipped_columns() -> Columns:
    return Columns(load_definition("columns"))


def column_dictionary(overrides: Overrides | None = None) -> Columns:
    """The shipped dictionary, or the user's where ``overrides`` has one under ``columns``."""
    if overrides and "columns" in overrides:
        return Columns(load_definition("columns", overrides))
    return _shipped_columns()
