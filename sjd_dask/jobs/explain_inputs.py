"""What a job of explanations takes from the cohort: the grouping, the healthy, assays, columns; refused by name."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from sjd_dask import names
from sjd_dask.clinical.module_lists import read_gmt
from sjd_dask.designs.formula import formula_columns
from sjd_dask.designs.query import query_samples
from sjd_dask.errors import DataError, SpecError
from sjd_dask.jobs.explain_spec import ExplainedAssay, ExplainSpec
from sjd_dask.jobs.explain_tests import GROUP, HEALTHY
from sjd_dask.jobs.sources import SampleSource, comparable_quantity, open_source
from sjd_dask.jobs.spec import resolve_path

if TYPE_CHECKING:
    from sjd_dask.store.cohort import Cohort
    from sjd_dask.store.result import Result

FRACTIONS = "fractions"
# Columns of fractions/NAME that are no cell type.
_NOT_CELLS = (names.SAMPLE_ID, "residual", "n_features", "converged")
# Samples that say what is usual.
MOST_USUAL = 20_000


@dataclass(frozen=True)
class ExplainedGroups:
    """A grouping with what is known of its samples and of the healthy.

    Attributes
    ----------
    result : Result
    groups : Series
        Group of each sample as published; index sample ids, in the order of ids.
    healthy : tuple of str
        Sample ids, in order.
    sheet : DataFrame
        Sample columns (and cell fractions) of both.
    cells : tuple of str
        Columns of cell fractions.
    features : dict
        Source assay -> the features that made the groups.
    """

    result: Result
    groups: pd.Series
    healthy: tuple[str, ...]
    sheet: pd.DataFrame
    cells: tuple[str, ...]
    features: dict[str, set[str]]

    @property
    def compared(self) -> pd.Series:
        """Group of each sample, "healthy" for the healthy; index sample ids in order."""
        groups = self.groups.copy()
        for one in self.healthy:
            groups[one] = HEALTHY
        return groups.sort_index()

    @property
    def patients(self) -> pd.Series:
        """Group of each sample that is not healthy."""
        return self.groups[~self.groups.index.isin(self.healthy)]


def open_groups(spec: ExplainSpec, cohort: Cohort) -> ExplainedGroups:
    """The grouping, the healthy and their columns.

    Raises
    ------
    SpecError
        No such grouping, or a column that isn't there.
    """
    result = cohort.result(spec.strata)
    if result.kind != names.STRATA:
        raise SpecError(f"`strata: {spec.strata}` is no grouping: write strata/NAME or strata/NAME@version")
    table = result.to_pandas(columns=[names.SAMPLE_ID, "stratum"])
    groups = pd.Series(
        table["stratum"].astype(str).to_numpy(dtype=object),
        index=pd.Index(table[names.SAMPLE_ID].astype(str), dtype=object),
    ).sort_index()
    everyone = cohort.samples()
    healthy: tuple[str, ...] = ()
    if spec.healthy is not None:
        kept = query_samples(everyone, spec.healthy, "healthy")
        if kept.empty:
            raise SpecError(f"`healthy: {spec.healthy}` selects none of the {len(everyone):,} samples")
        healthy = tuple(sorted(map(str, kept.index)))
    ids = sorted({*groups.index, *healthy})
    sheet = everyone.reindex(ids).infer_objects()
    cells = _cells(spec, cohort, sheet)
    _check_columns(spec, sheet)
    return ExplainedGroups(result, groups, healthy, sheet, cells, _made_of(result, cohort))


def _cells(spec: ExplainSpec, cohort: Cohort, sheet: pd.DataFrame) -> tuple[str, ...]:
    """Columns of cell fractions; those of a result are added to the sheet."""
    if not isinstance(spec.composition, str):
        return tuple(spec.composition)
    found = cohort.result(spec.composition)
    if found.kind != FRACTIONS:
        raise SpecError(f"`composition: {spec.composition}` is not fractions/NAME")
    table = found.to_pandas().set_index(names.SAMPLE_ID)
    cells = [one for one in table.columns if one not in _NOT_CELLS]
    if not set(table.index) & set(sheet.index):
        raise DataError(f"{found.ref} and the grouping have no sample in common")
    for one in cells:
        sheet[one] = table[one].reindex(sheet.index)
    return tuple(map(str, cells))


def _check_columns(spec: ExplainSpec, sheet: pd.DataFrame) -> None:
    """Refuse columns that aren't there, and the one that a model's groups are called."""
    wanted: dict[str, list[str]] = {
        "clinical": spec.clinical,
        "composition": [] if isinstance(spec.composition, str) else spec.composition,
        "batch": spec.batches,
        "drugs": spec.drugs,
        "compare": [one for one in spec.compare if not one.startswith("strata/")],
        **{key: [value] for key in ("sex", "person", "visit", "specimen") if (value := getattr(spec, key))},
    }
    for key, columns in wanted.items():
        for name in columns:
            if name not in sheet.columns:
                raise SpecError(
                    f"`{key}`: {name!r} is not a sample column; there are: {', '.join(map(str, sheet.columns))}"
                )
            if sheet[name].isna().all():
                raise SpecError(f"`{key}`: {name!r} has no value in any sample of the grouping")
    if GROUP in sheet.columns:
        raise SpecError(f"a sample column is called {GROUP!r}, as the groups are in the models: rename it")


def _made_of(result: Result, cohort: Cohort) -> dict[str, set[str]]:
    """Source assay -> features that made the groups."""
    if "features" not in result.tables:
        return {}
    frame = result.to_pandas("features")
    if "assay" not in frame:
        frame["assay"] = str(result.meta.get("assay") or "")
    found: dict[str, set[str]] = {}
    for name, own in frame.groupby("assay"):
        found.setdefault(_source_of(str(name), cohort), set()).update(own[names.FEATURE_ID].astype(str))
    return found


def _source_of(name: str, cohort: Cohort) -> str:
    """The assay that a layer is made of; an assay's own name."""
    if not name.startswith("layers/"):
        return name
    try:
        return str(cohort.layer(name).source_assay)
    except SpecError:
        # The version that made the groups may have been taken back since.
        return name


def source_name(named: SampleSource) -> str:
    """The assay that a source's features are of."""
    return str(getattr(named.assay, "source_assay", named.assay.name))


@dataclass(frozen=True)
class ExplainedSource:
    """An assay or a layer to compare.

    Attributes
    ----------
    named : SampleSource
    quantity, scale : str
        What is read, and what its values are.
    """

    named: SampleSource
    quantity: str
    scale: str


def open_sources(spec: ExplainSpec, cohort: Cohort, result: Result) -> list[ExplainedSource]:
    """Assays and layers of a spec; by default that of the grouping first, then all others that can be compared.

    Raises
    ------
    SpecError
        One that isn't there, holds counts, or is named twice.
    """
    asked = spec.asked
    if asked is None:
        asked = _all_sources(cohort, result)
    found: list[ExplainedSource] = []
    for one in asked:
        named = open_source(cohort, one.assay, one.layer)
        quantity, scale = comparable_quantity(named, one.quantity, "differences")
        found.append(ExplainedSource(replace(named, quantity=quantity), quantity, scale))
    refs = [(one.named.name, one.quantity) for one in found]
    if twice := sorted({name for name, quantity in refs if refs.count((name, quantity)) > 1}):
        raise SpecError(f"`assays` names {', '.join(twice)} twice")
    return found


def _all_sources(cohort: Cohort, result: Result) -> list[ExplainedAssay]:
    layers = {info.name: cohort.layer(info.name) for info in cohort.layers()}
    made_of = {str(one.source_assay) for one in layers.values()}
    own = str(result.meta.get("assay") or "")
    found = [ExplainedAssay(layer=own)] if own.startswith("layers/") else []
    found += [ExplainedAssay(layer=f"layers/{name}") for name in layers if own.split("@")[0] != f"layers/{name}"]
    for name in sorted(cohort.assays(), key=lambda one: (one != own, one)):
        if cohort.assay(name).quantity != names.COUNTS and (name == own or name not in made_of):
            found.append(ExplainedAssay(assay=name))
    return found


def read_modules(spec: ExplainSpec, base: Path) -> tuple[dict[str, tuple[str, ...]], str | None, str | None]:
    """Gene sets of the user's file, its path, and its hash.

    Raises
    ------
    SpecError
        The file can't be read.
    DataError
        It is no GMT file.
    """
    if spec.modules is None:
        return {}, None, None
    path = Path(resolve_path(spec.modules, base))
    try:
        content = path.read_bytes()
        text = content.decode("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise SpecError(f"`modules: {spec.modules}` can't be read: {error}") from None
    return read_gmt(text, path.name), str(path), hashlib.blake2b(content, digest_size=16).hexdigest()


def used_columns(spec: ExplainSpec, cells: tuple[str, ...]) -> list[str]:
    """Sample columns whose values the results depend on."""
    single = [one for one in (spec.sex, spec.person, spec.visit, spec.specimen) if one]
    compare = [one for one in spec.compare if not one.startswith("strata/")]
    listed = [*spec.clinical, *cells, *spec.batches, *spec.drugs, *compare, *single, *formula_columns(spec.covariates)]
    return list(dict.fromkeys(listed))


def usual_samples(groups: ExplainedGroups, ids: list[str]) -> list[str]:
    """Samples of an assay that say what is usual: the healthy, or all where nobody is known to be.

    More than `MOST_USUAL` say no more: every so many of them is taken, in the order of their ids' hashes.
    """
    from sjd_dask.stratify.draws import id_keys, ranking

    healthy = set(groups.healthy)
    chosen = [one for one in ids if one in healthy] or ids
    if len(chosen) > MOST_USUAL:
        chosen = [chosen[i] for i in np.sort(ranking(id_keys(chosen), 0)[:MOST_USUAL])]
    return chosen


def portable(spec: ExplainSpec) -> dict[str, Any]:
    """The spec with the bare name of its file."""
    made = spec.model_dump(mode="json", exclude_none=True)
    if spec.modules is not None:
        made["modules"] = Path(spec.modules).name
    return {**made, "cohort": "."}
