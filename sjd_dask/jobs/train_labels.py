"""Which samples a model is trained on and judged by: their class, their person, and whether they are core."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from sjd_dask import names
from sjd_dask.designs.labels import label_text
from sjd_dask.designs.query import known_columns, query_samples
from sjd_dask.errors import DataError, SpecError

if TYPE_CHECKING:
    from sjd_dask.jobs.train_spec import TrainSpec
    from sjd_dask.store.cohort import Cohort
    from sjd_dask.store.result import Result

LABEL, CORE, PERSON = "label", "core", "person"
MOST_CLASSES = 50
# Of a sample without an entry in the person column: no person has an id that begins so.
ALONE = "\x00sample:"


@dataclass(frozen=True)
class Labelled:
    """The labelled samples.

    Attributes
    ----------
    frame : DataFrame
        Index sample ids, sorted; ``label``, ``core`` (bool), ``person``.
    classes : tuple of str
        Sorted as people count: C2 before C10.
    strata : Result or None
        The grouping that labels come from.
    person_column : str or None
    facts : dict
        How many samples there were, and why some were left out.
    """

    frame: pd.DataFrame
    classes: tuple[str, ...]
    strata: Result | None
    person_column: str | None
    facts: dict[str, Any]

    @property
    def n_persons(self) -> int:
        """How many persons there are."""
        return int(self.frame[PERSON].nunique())


def read_labels(spec: TrainSpec, cohort: Cohort, sheet: pd.DataFrame, stored: list[str], source: str) -> Labelled:
    """The samples of a spec that have a label.

    Parameters
    ----------
    spec : TrainSpec
    cohort : Cohort
    sheet : DataFrame
        Sample columns of the cohort.
    stored : list of str
        Samples that have values.
    source : str
        What has them, for messages.

    Raises
    ------
    SpecError
        No such column or grouping; a query that selects nothing.
    DataError
        Fewer than two classes, or too many.
    """
    frame = sheet.reindex(sorted(map(str, stored)))
    frame.index.name = names.SAMPLE_ID
    facts: dict[str, Any] = {"available": len(frame), "filter": spec.samples, "dropped": []}
    if spec.samples is not None:
        kept = query_samples(frame, spec.samples, "samples")
        if kept.empty:
            raise SpecError(f"`samples: {spec.samples}` selects none of the {len(frame):,} samples of {source!r}")
        _drop(facts, f"not selected by `{spec.samples}`", len(frame) - len(kept))
        frame = kept
    strata = None
    if spec.from_strata:
        strata = cohort.result(spec.labels)
        table = strata.to_pandas(columns=[names.SAMPLE_ID, "stratum", "core"]).set_index(names.SAMPLE_ID)
        found = table.reindex(frame.index)
        label = found["stratum"].astype(object).where(found["stratum"].notna(), None)
        core = found["core"].fillna(False).astype(bool) if spec.core else found["stratum"].notna()
        what = strata.ref
    else:
        if spec.labels not in frame.columns:
            there = known_columns(spec.labels, frame.columns)
            raise SpecError(f"`labels: {spec.labels}` is neither strata/NAME nor a sample column; {there}")
        column = frame[spec.labels]
        if pd.api.types.is_float_dtype(column) and not (column.dropna() % 1 == 0).all():
            raise DataError(
                f"`labels: {spec.labels}` holds numbers with fractions, which are no classes: cut them into groups"
            )
        label = column.map(label_text, na_action="ignore").astype(object)
        label = label.where(column.notna(), None)
        core = label.notna()
        what = f"column {spec.labels!r}"
    person_column, person = _persons(spec, frame)
    made = pd.DataFrame({LABEL: label, CORE: core.to_numpy(dtype=bool), PERSON: person}, index=frame.index)
    known = made[made[LABEL].notna()].copy()
    _drop(facts, f"no label in {what}", len(made) - len(known))
    known[LABEL] = known[LABEL].map(str)
    classes = tuple(sorted(set(known[LABEL]), key=_natural))
    if not 2 <= len(classes) <= MOST_CLASSES:
        few = ", ".join(map(repr, classes[:5])) or "none"
        more = f" A grouping of one group has no classes to tell apart ({strata.meta.get('reason')})." if strata else ""
        raise DataError(
            f"{what} has {len(classes)} classes among the {len(known):,} samples that have a label ({few}"
            f"{', ...' if len(classes) > 5 else ''}); a model tells 2 to {MOST_CLASSES} apart.{more}"
        )
    if bad := [one for one in classes if "|" in one or one != one.strip() or not one]:
        raise DataError(
            f"{what}: {', '.join(map(repr, bad[:5]))} can't name a class: the names in a conformal set are joined by "
            "'|', and blanks at their ends would be lost. Rename them in the sample sheet"
        )
    facts["used"] = len(known)
    return Labelled(known, classes, strata, person_column, facts)


def _persons(spec: TrainSpec, frame: pd.DataFrame) -> tuple[str | None, np.ndarray[Any, Any]]:
    column = spec.person
    if column is None and names.PERSON_ID in frame.columns:
        column = names.PERSON_ID
    alone = np.array([f"{ALONE}{one}" for one in frame.index], dtype=object)
    if column is None:
        return None, alone
    if column not in frame.columns:
        raise SpecError(f"`person: {column}` is not a sample column; {known_columns(column, frame.columns)}")
    given = frame[column]
    return column, np.where(given.notna(), given.map(str), alone)


def check_persons(labelled: Labelled, spec: TrainSpec) -> list[str]:
    """Refuse classes of too few persons for the folds; give what a person should know of the rest.

    Raises
    ------
    DataError
        Naming each class with its persons, and the remedy.
    """
    frame, warnings = labelled.frame, []
    outer, inner = spec.folds.outer, spec.folds.inner
    # A fold takes whole persons, and a person counts for the class it has most often, as in `person_folds`.
    core = frame[frame[CORE]]
    seen = {one: int(core.loc[core[LABEL] == one, PERSON].nunique()) for one in labelled.classes}
    own = frame.groupby([PERSON, LABEL]).size().unstack(fill_value=0).sort_index(axis=1).idxmax(axis=1).value_counts()
    counts = {one: min(n, int(own.get(one, 0))) for one, n in seen.items()}
    # After one outer fold is held out every inner fold still needs a person of each class.
    needed = max(outer, -(-inner * outer // (outer - 1)))
    if few := {one: n for one, n in counts.items() if n < needed}:
        told = ", ".join(
            f"{one!r} has {n}"
            + (f" (of {seen[one]}, the others have another class more often)" if n < seen[one] else "")
            for one, n in few.items()
        )
        raise DataError(
            f"{outer} outer and {inner} inner folds of persons need at least {needed} "
            f"{'core ' if labelled.strata is not None and spec.core else ''}persons of each class, and {told}. "
            "Ask for fewer `folds`, leave these samples out with `samples`, or join classes in a sample column."
        )
    warnings += _coverage_warnings(spec, frame)
    several = frame.groupby(PERSON)[LABEL].nunique()
    if n := int((several > 1).sum()):
        warnings.append(
            f"{n:,} persons have samples of several classes: in the folds a person counts for its most frequent class"
        )
    if labelled.person_column is None:
        warnings.append(
            "there is no person column, so every sample counts as a person: if some are of the same person, the "
            "metrics are too good; name the column with `person`"
        )
    elif n := int(frame[PERSON].str.startswith(ALONE).sum()):
        warnings.append(f"{n:,} samples have no entry in {labelled.person_column!r} and count as persons of their own")
    return warnings


def _coverage_warnings(spec: TrainSpec, frame: pd.DataFrame) -> list[str]:
    """What a coverage asks for that so few persons can't tell: every class is then in every set."""
    from sjd_dask.classify.conformal import fewest_persons

    persons, least = frame[PERSON].nunique(), fewest_persons(spec.coverage)
    judged = persons - -(-persons // spec.folds.outer)
    if persons < least:
        return [
            f"`coverage: {spec.coverage:g}` takes at least {least:,} persons, and there are {persons:,}: every class "
            "will be in every set, so that no sample is called. Ask for less, or train on more persons"
        ]
    if judged < least:
        return [
            f"`coverage: {spec.coverage:g}` takes at least {least:,} persons, and some outer folds train on "
            f"{judged:,}: there no sample is called, so the metrics say too little of the final model's calls"
        ]
    return []


def _drop(facts: dict[str, Any], reason: str, count: int) -> None:
    if count:
        facts["dropped"].append({"reason": reason, "count": count})


def _natural(text: str) -> tuple[Any, ...]:
    import re

    return tuple((1, int(one), "") if one.isdigit() else (0, 0, one) for one in re.split(r"(\d+)", text) if one)
