"""The tables that hold every clinical definition, and how a user replaces them.

A definition is a YAML file in ``definitions/``. Its top level holds *sections*; a section, or each of its entries,
carries ``mark`` (how sure: P read in a published table or abstract, S read in a secondary source, K general knowledge
of the field) and ``source``. A user's file is laid over the shipped one: what it gives counts, ``null`` takes an entry
out, the rest stays; ``replace: true`` at its top keeps nothing of the shipped one. What a user gave carries the mark U.
"""

from __future__ import annotations

import copy
import difflib
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

import yaml

from sjd_dask.errors import SpecError

MARKS = {
    "P": "read in a published table or abstract",
    "S": "read in a secondary source",
    "K": "general knowledge of the field, not checked",
    "U": "given by the user",
}
_TOP_TEXTS = ("title", "note")
_Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

Overrides = Mapping[str, "Path | str | Mapping[str, Any]"]


def did_you_mean(name: object, known: Any, cutoff: float = 0.6) -> str:
    """`` (did you mean 'x'?)`` where a known name is near, else an empty text."""
    near = difflib.get_close_matches(str(name), [str(one) for one in known], n=1, cutoff=cutoff)
    return f" (did you mean {near[0]!r}?)" if near else ""


@cache
def definition_names() -> tuple[str, ...]:
    """Names of the shipped definitions, sorted."""
    folder = files("sjd_dask.clinical") / "definitions"
    return tuple(sorted(one.name.removesuffix(".yaml") for one in folder.iterdir() if one.name.endswith(".yaml")))


@cache
def _shipped(name: str) -> dict[str, Any]:
    text = (files("sjd_dask.clinical") / "definitions" / f"{name}.yaml").read_text(encoding="utf-8")
    table = yaml.load(text, Loader=_Loader)
    check_marks(table, f"definition {name!r}")
    return table


def _marked(entry: Any) -> bool:
    return isinstance(entry, Mapping) and entry.get("mark") in MARKS and bool(entry.get("source"))


def check_marks(table: Any, what: str) -> None:
    """Refuse a definition in which a section or one of its entries says neither mark nor source.

    Raises
    ------
    SpecError
        Names the section and the entry.
    """
    if not isinstance(table, Mapping):
        raise SpecError(f"{what} is not a mapping of sections, but {type(table).__name__}: see the shipped ones")
    for section, entries in table.items():
        if section in _TOP_TEXTS or _marked(entries):
            continue
        if isinstance(entries, Mapping) and entries:
            pairs = list(entries.items())
        elif isinstance(entries, list) and entries:
            pairs = list(enumerate(entries))
        else:
            raise SpecError(
                f"{what}: section {section!r} is no table of entries; write it as {{value: ..., mark: K, source: ...}}"
            )
        for key, entry in pairs:
            if not _marked(entry):
                raise SpecError(
                    f"{what}: entry {key!r} of section {section!r} carries no mark ({', '.join(MARKS)}) or no source"
                )


def _kind(value: Any) -> str:
    if isinstance(value, bool):
        return "true or false"
    if isinstance(value, (int, float)):
        return "a number"
    if isinstance(value, Mapping):
        return "a mapping"
    if isinstance(value, list):
        return "a list"
    return "a text"


def _lay_over(base: dict[str, Any], given: Mapping[str, Any], what: str, depth: int = 0) -> dict[str, Any]:
    """``given`` laid over ``base``: same kinds of values, ``null`` takes out, a changed entry carries the mark U."""
    result = copy.deepcopy(base)
    changed = False
    for key, value in given.items():
        if depth == 0 and key not in base:
            raise SpecError(f"{what}: no section {key!r}{did_you_mean(key, base)}; it has {', '.join(map(str, base))}")
        if value is None:
            if depth == 0:
                raise SpecError(f"{what}: section {key!r} can't be taken out whole; take out entries of it")
            if key not in base:
                raise SpecError(f"{what}: nothing called {key!r} to take out{did_you_mean(key, base)}")
            del result[key]
        elif depth >= 2 and key not in base and did_you_mean(key, base, 0.75):
            raise SpecError(f"{what}: nothing here reads {key!r}{did_you_mean(key, base, 0.75)}")
        elif key in base and base[key] is not None and _kind(base[key]) != _kind(value):
            raise SpecError(f"{what}: {key!r} is {_kind(base[key])} and not {_kind(value)} ({value!r})")
        elif key in base and isinstance(value, Mapping):
            result[key] = _lay_over(base[key], value, f"{what}, {key}", depth + 1)
        else:
            result[key] = _as_given(copy.deepcopy(value)) if depth <= 1 else copy.deepcopy(value)
        changed = changed or not isinstance(value, Mapping)
    if depth and changed and ("mark" in base or "source" in base):
        if "mark" not in given:
            result["mark"] = "U"
        if "source" not in given:
            result["source"] = "given by the user"
    return result


def _as_given(value: Any) -> Any:
    """A section or entry of the user's own, with the mark U where it says none."""
    if isinstance(value, list):
        return [_as_given(one) for one in value]
    if isinstance(value, dict):
        if value and all(isinstance(one, dict) for one in value.values()):
            return {key: _as_given(one) for key, one in value.items()}
        return {"mark": "U", "source": "given by the user", **value}
    return value


def _given(name: str, override: Any) -> dict[str, Any]:
    if isinstance(override, Mapping):
        return dict(override)
    path = Path(override)
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise SpecError(f"definition {name!r}: {path} can't be read ({error.strerror or error})") from None
    try:
        table = yaml.load(text, Loader=_Loader)
    except yaml.YAMLError as error:
        raise SpecError(f"definition {name!r}: {path} is no valid YAML: {error}") from None
    if not isinstance(table, dict):
        raise SpecError(f"definition {name!r}: {path} holds no mapping of sections")
    return table


def load_definition(name: str, overrides: Overrides | None = None) -> dict[str, Any]:
    """One clinical definition: sections of entries, each with its mark and source.

    Parameters
    ----------
    name
        A name of `definition_names`.
    overrides
        By definition's name, a YAML file (or the mapping such a file would hold) laid over the shipped definition.

    Returns
    -------
    dict
        A copy: changing it changes nothing else.

    Raises
    ------
    SpecError
        An unknown definition or section, a value of another kind than the shipped one, a file that can't be read, or
        an entry without mark or source.
    """
    for asked in (name, *(overrides or ())):
        if asked not in definition_names():
            raise SpecError(
                f"no clinical definition {asked!r}{did_you_mean(asked, definition_names())}; "
                f"there are {', '.join(definition_names())}"
            )
    if not overrides or name not in overrides:
        return copy.deepcopy(_shipped(name))
    given = _given(name, overrides[name])
    what = f"the given definition {name!r}"
    if given.pop("replace", False):
        table = {key: value if key in _TOP_TEXTS else _as_given(value) for key, value in given.items()}
        missing = [section for section in _shipped(name) if section not in (*_TOP_TEXTS, *table)]
        if missing:
            raise SpecError(f"{what} replaces the shipped one but lacks its section {missing[0]!r}")
    else:
        table = _lay_over(_shipped(name), given, what)
    check_marks(table, what)
    return table
