"""The features of one assay between groups: a linear model of each, every group against healthy and the rest."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray

from sjd_dask import names
from sjd_dask.designs import design as designs
from sjd_dask.designs.formula import parse_formula
from sjd_dask.errors import DataError
from sjd_dask.jobs import associate_weights as weighing
from sjd_dask.jobs.associate import METHOD_VERSIONS, AssociateJob
from sjd_dask.jobs.matrix import Matrix
from sjd_dask.jobs.sources import SampleSource
from sjd_dask.jobs.spec import AssociateSpec
from sjd_dask.kernels import linear

if TYPE_CHECKING:
    from sjd_dask.store.cohort import Cohort

GROUP = "explained_group"
HEALTHY, REST = "healthy", "rest"
FEWEST = 2
# Features of each comparison in the table `top`.
MOST_TOP = 50
COLUMNS = (
    "assay", names.FEATURE_ID, "group", "against", "effect", "standard_error", "statistic", "df", "p_value", "q_value",
    "log_odds", "mean", "n_samples", "descriptive",
)  # fmt: skip


@dataclass(frozen=True)
class Contrasts:
    """The comparisons of one assay.

    Attributes
    ----------
    design : Design
        Means of the groups (and the healthy), with covariates.
    basis : LinearDesign
    weights : ndarray (p, k)
    pairs : tuple of (group, against) (k,)
    blocks : ndarray of int64 (n,) or None
        Person of each sample, where persons have several.
    left_out : tuple of str
        Groups too small to compare here.
    """

    design: designs.Design
    basis: linear.LinearDesign
    weights: NDArray[np.float64]
    pairs: tuple[tuple[str, str], ...]
    blocks: NDArray[np.int64] | None
    left_out: tuple[str, ...]

    @property
    def names(self) -> list[str]:
        """One name a comparison."""
        return [f"{group} against {against}" for group, against in self.pairs]


def contrasts_of(
    groups: pd.Series, sheet: pd.DataFrame, covariates: str | None, person: str | None, where: str
) -> Contrasts:
    """The model of the groups of some samples, and its comparisons.

    Parameters
    ----------
    groups : Series
        Group of each sample, or "healthy"; index sample ids.
    sheet : DataFrame
    covariates : str or None
        Formula.
    person : str or None
    where : str
        The assay, for messages.

    Raises
    ------
    SpecError, DesignError
        A formula that can't be read, or terms that can't be told from the groups.
    DataError
        Nothing to compare.
    """
    frame = sheet.loc[groups.index].assign(**{GROUP: groups})
    terms = ["0", GROUP]
    if covariates is not None:
        parsed = parse_formula(covariates, [name for name in frame.columns if name != GROUP])
        terms += [text for term in parsed if (text := str(term)) not in ("0", "1")]
        for name in designs.build_design(covariates, frame).factors:
            frame = frame[frame[name].notna()]
    if person is not None:
        frame = frame[frame[person].notna()]
    counts = frame[GROUP].value_counts()
    small = sorted(str(one) for one in groups.unique() if counts.get(one, 0) < FEWEST)
    frame = frame[~frame[GROUP].isin(small)]
    there = sorted((str(one) for one in frame[GROUP].unique() if one != HEALTHY), key=lambda one: (len(one), one))
    has_healthy = HEALTHY in set(frame[GROUP])
    if not there or (len(there) < 2 and not has_healthy):
        raise DataError(
            f"{where}: nothing to compare: {len(there)} groups have at least {FEWEST} samples with all columns of the "
            f"model, and {int(counts.get(HEALTHY, 0))} healthy samples do; name them with `healthy`, or leave the "
            "assay out"
        )
    design = designs.build_design(" + ".join(["~ 0", *terms[1:]]), frame)
    designs.check_design(design)
    place = {}
    for level in [*there, *([HEALTHY] if has_healthy else [])]:
        place[level] = design.columns.index(f"{GROUP}[{level}]")
    columns, pairs = [], []
    for group in there:
        others = {one: int(counts[one]) for one in there if one != group}
        for against, own in ((HEALTHY, {HEALTHY: 1} if has_healthy else {}), (REST, others)):
            if own:
                column = np.zeros(len(design.columns))
                column[place[group]] = 1.0
                # The rest as it is: each of its samples counts the same.
                for one, n in own.items():
                    column[place[one]] = -n / sum(own.values())
                columns.append(column)
                pairs.append((group, against))
    blocks = None
    if person is not None:
        codes, levels = pd.factorize(sheet.loc[list(design.sample_ids), person].astype(str), sort=True)
        if len(levels) < len(codes):
            blocks = np.asarray(codes, dtype=np.int64)
    return Contrasts(
        design, linear.linear_design(design.matrix), np.stack(columns, axis=1), tuple(pairs), blocks,
        tuple(one for one in small if one != HEALTHY),
    )  # fmt: skip


def association_job(
    cohort: Cohort, named: SampleSource, quantity: str, compared: Contrasts, output: str, person: str | None
) -> AssociateJob:
    """The comparisons as an association: the same arithmetic, tasks and plan as `job: associate`."""
    layer = named.name if named.name.startswith("layers/") else None
    notes = []
    if (blocked := compared.blocks is not None) and layer is not None and _last_step(named) == "voom":
        notes.append(
            f"{named.name}: persons have several samples, so their correlation is estimated, and voom's weights "
            "are not used"
        )
    spec = AssociateSpec(
        cohort=".",
        output=output,
        assay=None if layer else named.assay.name,
        layer=layer,
        design=compared.design.formula,
        block=person if blocked else None,
        correlation_method="reml",
        weights="none" if blocked else "auto",
    )
    ids = compared.design.sample_ids
    reader = named.assay.reader(ids)
    return AssociateJob(
        spec=spec,
        cohort=cohort,
        assay=named.assay,
        matrix=Matrix(reader, quantity),
        design=compared.design,
        basis=compared.basis,
        contrast_matrix=compared.weights,
        contrast_names=compared.names,
        block_codes=compared.blocks,
        weighting=weighing.asked_weights(spec, cohort, named.assay, quantity, ids),
        group_codes=None,
        group_levels=[],
        sample_facts={},
        fingerprint=reader.content_hash(),
        snapshot=named.assay.snapshot,
        warnings=notes,
    )


def _last_step(named: SampleSource) -> str | None:
    from sjd_dask.jobs.associate_inputs import last_step

    return last_step(named.assay)  # type: ignore[arg-type]


def comparison_table(table: pa.Table, named: SampleSource, compared: Contrasts, descriptive: set[str]) -> pa.Table:
    """Rows of the main table: without the overall F, with the pair in place of the contrast."""
    n = named.assay.n_features
    pairs = compared.pairs
    kept = table.slice(0, n * len(pairs))
    codes = pa.array(np.repeat(np.arange(len(pairs), dtype=np.int32), n))

    def label(texts: list[str]) -> pa.Array:
        return pa.DictionaryArray.from_arrays(codes, pa.array(texts, pa.string())).cast(pa.string())

    used = np.array([one in descriptive for one in kept[names.FEATURE_ID].slice(0, n).to_pylist()], dtype=bool)
    made = {
        "assay": pa.array([named.name], pa.string()).take(pa.array(np.zeros(len(codes), dtype=np.int32))),
        "group": label([group for group, _ in pairs]),
        "against": label([against for _, against in pairs]),
        "descriptive": pa.array(np.tile(used, len(pairs))),
    }
    return pa.table({name: made.get(name, kept[name] if name in kept.column_names else None) for name in COLUMNS})


def top_rows(table: pa.Table, annotation: pd.DataFrame) -> pd.DataFrame:
    """The features of smallest p in each comparison of an assay, with their gene symbols."""
    found = []
    n, start = len(annotation), 0
    symbols = annotation.get(names.GENE_SYMBOL)
    while start < table.num_rows:
        part = table.slice(start, n)
        p, t = (part[name].to_numpy() for name in ("p_value", "statistic"))
        # The smallest p-values are all 0: their statistics part them; equal ones stand in the order of features.
        order = np.lexsort((-np.abs(np.nan_to_num(t)), np.where(np.isnan(p), 2.0, p)))[:MOST_TOP]
        own = part.take(pa.array(order)).to_pandas()
        own.insert(2, names.GENE_SYMBOL, None if symbols is None else symbols.iloc[order].to_numpy(dtype=object))
        found.append(own[own["p_value"].notna()])
        start += n
    return pd.concat(found, ignore_index=True).astype({names.GENE_SYMBOL: object})


def summary_rows(table: pa.Table, lambdas: dict[str, Any]) -> list[dict[str, Any]]:
    """Features found in each comparison of an assay; those that made the groups apart."""
    frame = table.select(["assay", "group", "against", "effect", "q_value", "p_value", "descriptive"]).to_pandas()
    rows = []
    for (assay, group, against), own in frame.groupby(["assay", "group", "against"], sort=False):
        found = (own["q_value"] < 0.05).to_numpy()
        used, up = own["descriptive"].to_numpy(dtype=bool), own["effect"].to_numpy() > 0
        rows.append(
            {
                "assay": assay,
                "group": group,
                "against": against,
                "n_tested": int(own["p_value"].notna().sum()),
                "n_up": int((found & up).sum()),
                "n_down": int((found & ~up).sum()),
                "n_descriptive": int(used.sum()),
                "n_found_not_descriptive": int((found & ~used).sum()),
                "inflation": lambdas.get(f"{group} against {against}", np.nan),
            }
        )
    return rows


def methods() -> dict[str, int]:
    """Versions of the arithmetic that is shared with associations."""
    return dict(METHOD_VERSIONS)
