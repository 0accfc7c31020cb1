"""Checks on identifiers: of samples, of features, of people.

Ids are text and are never changed, with one exception: text formats lose the spaces around a field before they come
here. A control character inside an id (a tab, a line break, a NUL) is refused, since it would break every table the
id is written to.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt
import pandas as pd

from sjd_dask.errors import DataError

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
SHOWN = 5


def name_some(ids: Iterable[str], shown: int = SHOWN) -> str:
    """The first few ids, quoted, and how many more there are: `'a', 'b' and 3 more`."""
    known = list(ids)
    text = ", ".join(repr(str(i)) for i in known[:shown])
    more = len(known) - shown
    return f"{text} and {more:,} more" if more > 0 else text


def id_array(ids: Sequence[str] | npt.NDArray[np.object_]) -> npt.NDArray[np.object_]:
    """Ids as a one-dimensional object array of `str`."""
    array = np.empty(len(ids), dtype=object)
    array[:] = [str(i) for i in ids]
    return array


def check_ids(ids: Sequence[str] | npt.NDArray[np.object_], kind: str, where: str) -> None:
    """Refuse empty, repeated or control-character ids.

    Parameters
    ----------
    ids : sequence of str
    kind : str
        What they name, for the message: ``"sample"``, ``"feature"``.
    where : str
        The file or table they come from.

    Raises
    ------
    DataError
        Naming the first offenders and their positions (from 1).
    """
    for position, value in enumerate(ids, start=1):
        if not value or not value.strip():
            raise DataError(
                f"{where}: the {kind} id at position {position} is empty. Give every {kind} an id of its own."
            )
        found = _CONTROL.search(value)
        if found:
            raise DataError(
                f"{where}: the {kind} id at position {position}, {value!r}, holds the control character "
                f"{found.group()!r}. Ids may not hold tabs, line breaks or other control characters: rename it."
            )
    index = pd.Index(np.asarray(ids, dtype=object))
    if not index.is_unique:
        repeated = index[index.duplicated(keep="first")].unique()
        first = str(repeated[0])
        places = [str(i + 1) for i in np.flatnonzero(np.asarray(index == first))[:SHOWN]]
        raise DataError(
            f"{where}: {len(repeated):,} {kind} id{'s are' if len(repeated) > 1 else ' is'} repeated: "
            f"{name_some(map(str, repeated))} (the first at positions {', '.join(places)}). "
            f"Ids must be unique: remove or rename the repeated {kind}s."
        )
