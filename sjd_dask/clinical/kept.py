"""Scores that other measures build on are computed once for a sheet."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar, cast
from weakref import WeakKeyDictionary

import pandas as pd

from sjd_dask.clinical.sheet import Sheet

Function = TypeVar("Function", bound=Callable[..., Any])
_KEPT: WeakKeyDictionary[Sheet, dict[Any, tuple[Any, Any]]] = WeakKeyDictionary()


def kept_by_sheet(function: Function) -> Function:
    """A function of a sheet and options that remembers, for as long as the sheet lives, what it gave.

    ESSDAI is asked for by itself, by the axes and by their change; it is the same each time. Of a table a caller gets a
    copy that shares its values until one of the two is written to; anything else is for reading only.
    """

    defaults = {
        name: one.default
        for name, one in inspect.signature(function).parameters.items()
        if one.default is not inspect.Parameter.empty
    }

    @functools.wraps(function)
    def once(sheet: Sheet, **options: Any) -> Any:
        kept = _KEPT.setdefault(sheet, {})
        asked = {**defaults, **options}
        key = (function.__qualname__, tuple((name, _key(asked[name])) for name in sorted(asked)))
        if key not in kept:
            # What a key names by its place in memory must not make room for another.
            kept[key] = function(sheet, **options), options
        found = kept[key][0]
        return found.copy(deep=False) if isinstance(found, pd.DataFrame) else found

    return cast("Function", once)


def _key(value: Any) -> Any:
    """Plain values by what they are, anything else by itself."""
    if value is None or isinstance(value, (str, int, float, bool, Path)):
        return repr(value)
    if isinstance(value, (list, tuple)):
        return tuple(_key(one) for one in value)
    if isinstance(value, Mapping):
        return tuple((str(name), _key(one)) for name, one in value.items())
    return id(value)
