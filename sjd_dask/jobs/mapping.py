"""The mapping file: how the columns of someone else's table become the columns of a clinical sheet.

.. code-block:: yaml

    columns:
      Subject: person_id
      Visit no: visit
      IgG result: {to: igg, unit: mg/dL}
      Dry eyes?: {to: dry_eyes_daily, values: {1: yes, 2: no, 9: null}}
    missing: [-99, "not asked"]
    others: keep
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from sjd_dask.clinical.definitions import did_you_mean, load_definition
from sjd_dask.clinical.sheet import canonical_name
from sjd_dask.errors import SpecError
from sjd_dask.store.ingest.ids import name_some

Cell = str | int | float | bool | None


class ColumnMapping(BaseModel):
    """What becomes of one column."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    to: str = Field(description="The column of the clinical sheet.")
    unit: str | None = Field(None, description="Unit of the values, where it isn't the sheet's own.")
    values: dict[Cell, Cell] = Field(
        default_factory=dict, description="Their value -> the sheet's; null: missing. Values not named stay."
    )


class Mapped(BaseModel):
    """A mapping file, checked.

    Attributes
    ----------
    columns : dict
        Their column -> what becomes of it; a text is short for ``{to: text}``.
    missing : list
        Values that mean a missing one, in every column.
    others : {"keep", "drop"}
        What becomes of columns that are not named.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    columns: dict[str, ColumnMapping] = Field(min_length=1)
    missing: list[Cell] = Field(default_factory=list)
    others: Literal["keep", "drop"] = "keep"

    @field_validator("columns", mode="before")
    @classmethod
    def _short_form(cls, given: Any) -> Any:
        if not isinstance(given, Mapping):
            return given
        return {str(name): {"to": one} if isinstance(one, str) else one for name, one in given.items()}

    @field_validator("columns")
    @classmethod
    def _known_targets(cls, columns: dict[str, ColumnMapping]) -> dict[str, ColumnMapping]:
        known = list(load_definition("columns")["columns"])
        found: dict[str, str] = {}
        for name, one in columns.items():
            target = canonical_name(one.to)
            if target is None:
                raise ValueError(
                    f"column {name!r} goes to {one.to!r}, which no clinical sheet has{did_you_mean(one.to, known)}; "
                    "`sjd schema clinical-sheet` lists the columns"
                )
            if target[0] in found:
                raise ValueError(f"columns {found[target[0]]!r} and {name!r} both go to {target[0]!r}")
            found[target[0]] = name
        return columns

    def targets(self) -> dict[str, str]:
        """Their column -> column of the clinical sheet."""
        return {name: canonical_name(one.to)[0] for name, one in self.columns.items()}  # type: ignore[index]

    def id_columns(self) -> list[str]:
        """Their columns that hold ids, which are never read as numbers."""
        return [name for name, target in self.targets().items() if target in ("sample_id", "person_id", "visit")]

    def apply(self, frame: pd.DataFrame, where: str = "the table") -> tuple[pd.DataFrame, dict[str, str]]:
        """A table with the columns of a clinical sheet.

        Parameters
        ----------
        frame : DataFrame
            As `sheet_files.read_table` gives it.
        where : str
            What the table is called in messages.

        Returns
        -------
        frame : DataFrame
            Renamed and recoded; the rows stay.
        units : dict
            Column of the clinical sheet -> unit, where the file names one.

        Raises
        ------
        SpecError
            A column the table doesn't have, or a result with two columns of one name.
        """
        columns = [str(one) for one in frame.columns]
        absent = [name for name in self.columns if name not in columns]
        if absent:
            near = difflib.get_close_matches(absent[0], columns, n=3, cutoff=0.5)
            hint = f"; near to it: {', '.join(map(repr, near))}" if near else f". It has: {name_some(columns, 20)}"
            more = f" (and {len(absent) - 1} more of the mapping)" if len(absent) > 1 else ""
            raise SpecError(f"{where} has no column {absent[0]!r}{more}{hint}")
        targets = self.targets()
        kept = columns if self.others == "keep" else [name for name in columns if name in targets]
        taken = {target: name for name, target in targets.items()}
        for name in kept:
            same = canonical_name(name)
            if name not in targets and same is not None and same[0] in taken:
                raise SpecError(
                    f"{where} has a column {name!r} beside {taken[same[0]]!r}, which the mapping makes {same[0]!r}: "
                    "map it to something else, or write `others: drop`"
                )
        missing = lookup(dict.fromkeys(self.missing))
        result = {}
        for name in kept:
            given = self.columns.get(name)
            table = {**missing, **(lookup(given.values) if given else {})}
            result[targets.get(name, name)] = recode(frame[name], table) if table else frame[name]
        units = {targets[name]: one.unit for name, one in self.columns.items() if one.unit is not None}
        return pd.DataFrame(result, index=frame.index), units


def read_mapping(path: Path | str) -> Mapped:
    """Read a mapping file.

    Raises
    ------
    SpecError
        No such file, not YAML, an unknown key, or a column no clinical sheet has; near names are offered.
    """
    file = Path(path)
    try:
        raw = yaml.safe_load(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise SpecError(f"there is no mapping file {file}") from None
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise SpecError(f"the mapping file {file} can't be read: {error}") from None
    if not isinstance(raw, dict):
        raise SpecError(f"the mapping file {file} must hold `columns:` with lines such as `IgG result: igg`")
    try:
        return Mapped.model_validate(raw)
    except ValidationError as error:
        raise SpecError(f"the mapping file {file}: {'; '.join(map(_sentence, error.errors()))}") from None


def _sentence(finding: Any) -> str:
    key = ".".join(str(part) for part in finding["loc"])
    if finding["type"] == "extra_forbidden":
        last = str(finding["loc"][-1])
        known = list(Mapped.model_fields) if len(finding["loc"]) == 1 else list(ColumnMapping.model_fields)
        return f"unknown key `{key}`{did_you_mean(last, known)}; the keys here are: {', '.join(known)}"
    if finding["type"] == "missing":
        return f"the key `{key}` is required"
    return f"`{key}`: {finding['msg'].removeprefix('Value error, ')}"


def recode(column: pd.Series, table: Mapping[str, Cell]) -> pd.Series:
    """A column with some of its values replaced; each different value is looked up once.

    Parameters
    ----------
    column : Series
    table : mapping
        By the text of a value (`value_text`); None is missing.
    """
    codes, different = pd.factorize(column)
    texts = [value_text(value) for value in different]
    if not any(one in table for one in texts):
        return column
    new = [table.get(text, value) for text, value in zip(texts, different, strict=True)]
    if all(one is None or (isinstance(one, (int, float, np.number)) and not isinstance(one, bool)) for one in new):
        values = np.array([np.nan if one is None else float(one) for one in (*new, None)])
    else:
        values = np.empty(len(new) + 1, dtype=object)
        values[:] = [*new, None]
    # The last place is that of a missing value: its code is -1.
    return pd.Series(values[codes], index=column.index, name=column.name)


def lookup(values: Mapping[Cell, Cell]) -> dict[str, Cell]:
    """A table for `recode`. YAML reads the words yes and no as true and false; here they stand for both."""
    words = {True: ("true", "yes", "on"), False: ("false", "no", "off")}
    found: dict[str, Cell] = {}
    for key, value in values.items():
        for text in words[key] if isinstance(key, bool) else (value_text(key),):
            found[text] = value
    return found


def value_text(value: Any) -> str:
    """A value as text without regard to case, so that 1, 1.0 and "1" are one."""
    if isinstance(value, (bool, np.bool_)):
        return "true" if value else "false"
    if isinstance(value, (float, np.floating)) and float(value).is_integer():
        return str(int(value))
    return str(value).strip().casefold()
