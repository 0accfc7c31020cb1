"""Real batch effects before and after ComBat: what the batches explain, what is kept of the disease, what is invented.

    python benchmarks/real_batch_effects.py FOLDER [--picture batch_effect.png] [--output TABLES.md]

FOLDER holds the reference data (default: the environment variable SJD_REFERENCE_DATA). Prints tables: four lupus
cohorts on four platforms, bladder arrays of five dates, and as the control one large lupus cohort in which batches are
drawn at random. The measures here are plain NumPy and SciPy, so that they judge the package and don't use it; the
tests take them from here.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

# Type I interferon (see the clinical facts of the field: Soret, Barturen and others use these genes).
INTERFERON = ("IFI44", "IFI44L", "IFIT1", "IFIT3", "MX1")


@dataclass(frozen=True)
class Set:
    """A matrix, samples x features, with its sheet."""

    values: np.ndarray
    samples: pd.DataFrame
    features: np.ndarray

    def take(self, rows: np.ndarray) -> Set:
        """Some samples."""
        return Set(self.values[rows], self.samples.iloc[rows], self.features)


def four_cohorts(root: Path) -> Set:
    """30 people each (20 patients) of GSE65391, GSE45291, GSE61635 and GSE72509; the genes that all measure."""
    folder = root / "data" / "sle_4cohorts_pathMED"
    tables, sheets = [], []
    for k in "1234":
        tables.append(pd.read_csv(folder / f"cohort{k}_expression.csv.gz", index_col=0))
        group = pd.read_csv(folder / f"cohort{k}_phenotype.csv", index_col=0)["group"]
        disease = group.map({"Disease_sample": "lupus", "Healthy_sample": "healthy"})
        sheets.append(pd.DataFrame({"cohort": f"cohort {k}", "disease": disease}).loc[tables[-1].columns])
    shared = sorted(set.intersection(*(set(one.index) for one in tables)))
    values = np.hstack([one.loc[shared].to_numpy(float) for one in tables]).T
    return Set(np.ascontiguousarray(values), pd.concat(sheets), np.array(shared))


def bladder(root: Path) -> Set:
    """57 arrays of five dates; two of the dates have one group each."""
    folder = root / "oracles" / "combat"
    table = pd.read_csv(folder / "bladder3000_input.tsv.gz", sep="\t", index_col=0)
    sheet = pd.read_csv(folder / "bladder3000_samples.tsv.gz", sep="\t", index_col=0, dtype=str).loc[table.columns]
    return Set(np.ascontiguousarray(table.to_numpy(float).T), sheet, table.index.to_numpy(str))


def one_cohort(root: Path, step: int = 6) -> Set:
    """GSE65391: 673 arrays of one platform, normalised by its authors; every `step`-th probe."""
    folder = root / "data" / "sle_wb_GSE65391_training"
    with np.load(folder / "expression_log2x1000_int16.npz") as archive:
        values, ids, features = archive["values"][::step], archive["samples"].astype(str), archive["features"][::step]
    sheet = pd.read_csv(folder / "phenotype.csv", index_col=0, dtype=str).loc[ids]
    sheet = sheet[["batch", "disease_state", "subject", "visit", "sample_source_name"]]
    return Set(np.ascontiguousarray(values.T / 1000.0), sheet, features.astype(str))


# -- measures --------------------------------------------------------------------------------------------------------


def explained(values: np.ndarray, labels: Any) -> float:
    """Mean over features of the share of the variance that a factor explains."""
    codes, levels = pd.factorize(np.asarray(labels))
    centred = values - values.mean(axis=0)
    between = sum((codes == k).sum() * centred[codes == k].mean(axis=0) ** 2 for k in range(len(levels)))
    total = (centred**2).sum(axis=0)
    return float((between[total > 0] / total[total > 0]).mean())


def chance(labels: Any) -> float:
    """What a meaningless factor of as many levels explains."""
    return (pd.unique(np.asarray(labels)).size - 1) / (len(labels) - 1)


def above_chance(values: np.ndarray, labels: Any) -> float:
    """Explained share less what chance explains, over what there is beyond chance (the adjusted R2)."""
    by_chance = chance(labels)
    return (explained(values, labels) - by_chance) / (1 - by_chance)


def beside(values: np.ndarray, labels: Any, others: Any) -> float:
    """Mean over features of the share that a factor explains of what other factors leave."""
    left = values - _fitted(values, dummies(others))
    rest = values - _fitted(values, dummies(others, labels))
    total = (left**2).sum(axis=0)
    return float((1 - (rest**2).sum(axis=0)[total > 0] / total[total > 0]).mean())


def _fitted(values: np.ndarray, design: np.ndarray) -> np.ndarray:
    return design @ np.linalg.lstsq(design, values, rcond=None)[0]


def dummies(*columns: Any) -> np.ndarray:
    """Intercept and treatment contrasts."""
    blocks = [pd.get_dummies(pd.Series(np.asarray(one)), drop_first=True).to_numpy(float) for one in columns]
    return np.column_stack([np.ones(len(blocks[0])), *blocks])


def t_tests(values: np.ndarray, tested: np.ndarray, others: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Ordinary t statistics and p-values of one column beside others, for every feature."""
    basis, _ = np.linalg.qr(others)
    x = tested - basis @ (basis.T @ tested)
    y = values - basis @ (basis.T @ values)
    degrees = len(values) - others.shape[1] - 1
    slope = x @ y / (x @ x)
    rest = np.maximum((y**2).sum(axis=0) - slope**2 * (x @ x), 1e-300)
    t = slope * np.sqrt(x @ x * degrees / rest)
    return t, 2 * stats.t.sf(np.abs(t), degrees)


def discoveries(p: np.ndarray) -> int:
    """Features below 0.05 after Benjamini and Hochberg."""
    return int((stats.false_discovery_control(p[np.isfinite(p)]) < 0.05).sum())


def batch_discoveries(values: np.ndarray, labels: Any) -> int:
    """Features whose level differs between batches, by one-way analysis of variance and Benjamini-Hochberg."""
    codes, levels = pd.factorize(np.asarray(labels))
    varies = values.std(axis=0) > 0
    return discoveries(stats.f_oneway(*(values[codes == k][:, varies] for k in range(len(levels)))).pvalue)


def interferon_score(values: np.ndarray, features: np.ndarray, is_healthy: np.ndarray) -> np.ndarray:
    """Mean over the genes of (x - mean of healthy) / SD of healthy."""
    genes = values[:, pd.Index(features).get_indexer(list(INTERFERON))]
    healthy = genes[is_healthy]
    return ((genes - healthy.mean(axis=0)) / healthy.std(axis=0, ddof=1)).mean(axis=1)


def auc(score: np.ndarray, is_case: np.ndarray) -> float:
    """Area under the curve of a score that should be higher in cases."""
    wins = stats.mannwhitneyu(score[is_case], score[~is_case]).statistic
    return float(wins / (is_case.sum() * (~is_case).sum()))


def neighbours(values: np.ndarray, labels: Any, k: int = 5) -> float:
    """Share of a sample's nearest neighbours that have its label."""
    codes = pd.factorize(np.asarray(labels))[0]
    standard = (values - values.mean(axis=0)) / np.where(values.std(axis=0) > 0, values.std(axis=0), 1)
    away = (standard**2).sum(axis=1)[:, None] - 2 * standard @ standard.T
    np.fill_diagonal(away, np.inf)
    away += (standard**2).sum(axis=1)[None, :] - (standard**2).sum(axis=1)[:, None]
    nearest = np.argsort(away, axis=1)[:, :k]
    return float((codes[nearest] == codes[:, None]).mean())


def components(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """First two principal components of standardised features, and their shares."""
    standard = (values - values.mean(axis=0)) / values.std(axis=0)
    left, size, _ = np.linalg.svd(standard, full_matrices=False)
    return left[:, :2] * size[:2], size[:2] ** 2 / (size**2).sum()


# -- ComBat through the public functions -----------------------------------------------------------------------------


def combat(data: Set, batch: str, covariates: str | None = None, fit_on: np.ndarray | None = None) -> np.ndarray:
    """Values after ComBat, fitted on all samples or on some."""
    import xarray as xr

    from sjd_dask.normalise import apply, fit

    ids = data.samples.index.to_numpy(str)
    coordinates = {"sample_id": ("samples", ids), "feature_id": ("features", data.features)}
    array = xr.DataArray(data.values, dims=("samples", "features"), coords=coordinates, name="expression")
    step = {"method": "combat", "batch": batch} | ({"covariates": covariates} if covariates else {})
    chosen = None if fit_on is None else ids[fit_on]
    parameters = fit(array, [step], samples=data.samples, reference_samples=chosen)
    return apply(array, parameters, samples=data.samples).to_numpy()


def halves(data: Set, columns: list[str], seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Two halves of the samples, each with half of every combination of the columns."""
    rng = np.random.default_rng(seed)
    groups = data.samples.groupby(columns, sort=True).ngroup().to_numpy()
    first = []
    for group in np.unique(groups):
        rows = rng.permutation(np.flatnonzero(groups == group))
        first.append(rows[: (len(rows) + 1) // 2])
    chosen = np.sort(np.concatenate(first))
    return chosen, np.setdiff1d(np.arange(len(groups)), chosen)


def signal(data: Set, values: np.ndarray, batch: str, group: str, case: str) -> dict[str, Any]:
    """Batch and disease in a matrix: shares, discoveries, statistics."""
    label, is_case = data.samples[batch], (data.samples[group] == case).to_numpy()
    one = np.ones((len(values), 1))
    within, p_within = t_tests(values, is_case.astype(float), dummies(label))
    _, p_plain = t_tests(values, is_case.astype(float), one)
    found = {
        "batch share": explained(values, label),
        "above chance": above_chance(values, label),
        "batch share beside the disease": beside(values, label, data.samples[group]),
        "same-batch neighbours": neighbours(values, label),
        "disease share": explained(values, is_case),
        "q < 0.05, batch in the model": discoveries(p_within),
        "q < 0.05, no batch in the model": discoveries(p_plain),
        "t": within,
    }
    if set(INTERFERON) <= set(data.features):
        found["interferon AUC"] = auc(interferon_score(values, data.features, ~is_case), is_case)
    return found


# -- the control: batches drawn at random ----------------------------------------------------------------------------


def drawn(n: int, n_batches: int, rng: np.random.Generator) -> np.ndarray:
    """Batches of about equal size, at random."""
    return np.array([f"drawn {k:02d}" for k in rng.permutation(np.arange(n) % n_batches)])


def leaning(batches: np.ndarray, lean: float, rng: np.random.Generator) -> np.ndarray:
    """A label at random whose share is 1/2 + lean in every other batch and 1/2 - lean in those between.

    Exactly, batch by batch: a lean of 0 is a balanced study.
    """
    label = np.zeros(len(batches))
    for k, one in enumerate(np.unique(batches)):
        rows = rng.permutation(np.flatnonzero(batches == one))
        label[rows[: round(len(rows) * (0.5 + (lean if k % 2 else -lean)))]] = 1.0
    return label


def invented(data: Set, n_batches: int, seed: int) -> dict[str, float]:
    """What ComBat does with batches that mean nothing."""
    labels = drawn(len(data.samples), n_batches, np.random.default_rng([seed, n_batches]))
    given = Set(data.values, data.samples.assign(drawn=labels), data.features)
    after = combat(given, "drawn")
    spread = data.values.std(axis=0, ddof=1)
    away = np.abs(after - data.values)[:, spread > 0] / spread[spread > 0]
    return {
        "share before": explained(data.values, labels),
        "chance": chance(labels),
        "share after": explained(after, labels),
        "median": float(np.median(away)),
        "99 %": float(np.quantile(away, 0.99)),
        "largest": float(away.max()),
        "found before": batch_discoveries(data.values, labels),
        "found after": batch_discoveries(after, labels),
    }


def false_positives(data: Set, n_batches: int, lean: float, n_labels: int, seed: int) -> dict[str, np.ndarray]:
    """Share of features with p < 0.05 for labels that mean nothing, (n_labels,) for each way to analyse."""
    rng = np.random.default_rng([seed, n_batches])
    rates: dict[str, list[float]] = {}
    found: dict[str, list[int]] = {}
    one = np.ones((len(data.samples), 1))
    for _ in range(n_labels):
        batches = drawn(len(data.samples), n_batches, rng)
        label = leaning(batches, lean, rng)
        sheet = data.samples.assign(drawn=batches, label=np.where(label > 0, "b", "a"))
        given = Set(data.values, sheet, data.features)
        plain, kept = combat(given, "drawn"), combat(given, "drawn", "~ label")
        for name, values, others in (
            ("as measured", data.values, one),
            ("as measured, batch in the model", data.values, dummies(batches)),
            ("ComBat", plain, one),
            ("ComBat, label protected", kept, one),
            ("ComBat, label protected, batch in the model", kept, dummies(batches)),
        ):
            p = t_tests(values, label, others)[1]
            rates.setdefault(name, []).append(float((p < 0.05).mean()))
            found.setdefault(name, []).append(discoveries(p))
    return {name: np.array([rates[name], found[name]]) for name in rates}


# -- tables and the picture ------------------------------------------------------------------------------------------


def table(rows: dict[str, dict[str, Any]], decimals: int = 3) -> Iterator[str]:
    """Lines of Markdown: a column a stage."""
    names = [name for name in next(iter(rows.values())) if name != "t"]
    yield f"| | {' | '.join(rows)} |"
    yield "|---|" + "---|" * len(rows)
    for name in names:
        cells = [one.get(name, "") for one in rows.values()]
        shown = [str(cell) if isinstance(cell, (int, str)) else f"{cell:.{decimals}f}" for cell in cells]
        yield f"| {name} | {' | '.join(shown)} |"


def stages(data: Set, batch: str, group: str, case: str, formula: str) -> dict[str, dict[str, Any]]:
    """Before, after ComBat without and with the protected group."""
    found = {"before": signal(data, data.values, batch, group, case)}
    for name, covariates in (("ComBat", None), ("ComBat, disease protected", formula)):
        found[name] = signal(data, combat(data, batch, covariates), batch, group, case)
    for one in found.values():
        one["t as before: correlation"] = float(np.corrcoef(one["t"], found["before"]["t"])[0, 1])
    return found


def held_out(data: Set, batch: str, group: str, draws: int = 10) -> tuple[float, float, float]:
    """Batch share in samples that the fit has not seen: before, after, by chance."""
    seen = []
    for seed in range(draws):
        first, second = halves(data, [batch, group], seed)
        after = combat(data, batch, fit_on=first)[second]
        labels = data.samples[batch].iloc[second]
        seen.append((explained(data.values[second], labels), explained(after, labels), chance(labels)))
    before, after_, by_chance = np.mean(seen, axis=0)
    return float(before), float(after_), float(by_chance)


def replicates(data: Set) -> tuple[np.ndarray, np.ndarray]:
    """Rows of the samples that were run in both lots: one of each."""
    lots = [data.samples[data.samples["batch"] == lot].reset_index() for lot in ("1", "2")]
    key = ["subject", "visit"]
    both = lots[0].drop_duplicates(key).merge(lots[1].drop_duplicates(key), on=key)
    place = data.samples.index
    name = lots[0].columns[0]
    return place.get_indexer(both[f"{name}_x"]), place.get_indexer(both[f"{name}_y"])


def picture(data: Set, path: Path) -> None:
    """Principal components before and after, by cohort and by disease."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    colours = ("#4477aa", "#ee6677", "#228833", "#aa3377")
    figure, axes = plt.subplots(2, 2, figsize=(9, 7.6), layout="constrained")
    for column, (title, values) in enumerate((("Before", data.values), ("After ComBat", combat(data, "cohort")))):
        scores, share = components(values)
        for row, (name, markers) in enumerate((("cohort", "os^D"), ("disease", "oX"))):
            axis = axes[row, column]
            for k, level in enumerate(sorted(data.samples[name].unique())):
                here = (data.samples[name] == level).to_numpy()
                axis.scatter(*scores[here].T, s=22, c=colours[k], marker=markers[k], alpha=0.8, lw=0, label=level)
            axis.set_xlabel(f"component 1 ({share[0]:.0%})")
            axis.set_ylabel(f"component 2 ({share[1]:.0%})")
            explains = explained(values, data.samples[name])
            axis.set_title(f"{title}: {name} explains {explains:.1%}", fontsize=11)
            axis.spines[["top", "right"]].set_visible(False)
            axis.legend(frameon=False, fontsize=9)
    figure.suptitle("Four lupus cohorts on four platforms: 120 people, 1,182 genes", fontsize=12)
    figure.savefig(path, dpi=110)
    plt.close(figure)


def lines(root: Path) -> Iterator[str]:
    """All tables."""
    lupus, date, control = four_cohorts(root), bladder(root), one_cohort(root)
    yield "### Four lupus cohorts, 120 people, 1,182 genes\n"
    yield from table(stages(lupus, "cohort", "disease", "lupus", "~ disease"))
    before, after, by_chance = held_out(lupus, "cohort", "disease")
    yield f"\nHeld-out half: cohorts explain {before:.3f} before, {after:.3f} after, {by_chance:.3f} by chance."
    own = []
    for one in np.unique(lupus.samples["cohort"]):
        part = lupus.take(np.flatnonzero(lupus.samples["cohort"] == one))
        is_case = (part.samples["disease"] == "lupus").to_numpy()
        own.append(auc(interferon_score(part.values, part.features, ~is_case), is_case))
    yield f"Interferon AUC within each cohort: {', '.join(f'{one:.3f}' for one in own)}."
    yield "\n### Bladder, 57 arrays, 3,000 probe sets, five dates\n"
    yield from table(stages(date, "batch", "cancer", "Cancer", "~ cancer"))
    yield "\n### Control: 673 arrays of GSE65391, 4,015 probes, batches drawn at random\n"
    yield from table({f"{k} batches": invented(control, k, 1) for k in (2, 6, 28)}, 4)
    lot = control.samples["batch"]
    adjusted = combat(control, "batch", "~ disease_state")
    first, second = replicates(control)
    apart = [float(np.sqrt(((one[first] - one[second]) ** 2).mean())) for one in (control.values, adjusted)]
    yield (
        f"\nRecorded lots: {explained(control.values, lot):.4f} before, {explained(adjusted, lot):.4f} after, "
        f"{chance(lot):.4f} by chance; {first.size} samples run in both lots lie {apart[0]:.3f} apart before and "
        f"{apart[1]:.3f} after (root mean square, log2)."
    )
    pairs = control.values[second] - control.values[first]
    paired = stats.ttest_1samp(pairs[:, pairs.std(axis=0) > 0], 0).pvalue
    size, noise = (pairs.mean(axis=0) ** 2).mean() ** 0.5, (pairs.var(axis=0, ddof=1) / first.size).mean() ** 0.5
    yield (
        f"Their mean difference between lots is {size:.3f} (root mean square over probes), and noise alone would give "
        f"{noise:.3f}; {discoveries(paired)} probes differ (paired t-tests, q < 0.05)."
    )
    yield "\n### Control: labels that mean nothing, 120 of the arrays, 6 batches of 20 drawn at random, 40 labels\n"
    few = control.take(np.random.default_rng(4).permutation(len(lot))[:120])
    rows: dict[str, dict[str, Any]] = {}
    for name, lean in (("half in every batch", 0.0), ("30 or 70 %", 0.2), ("10 or 90 %", 0.4)):
        rates = false_positives(few, 6, lean, 40, 9)
        rows[name] = {
            way: f"{one[0].mean():.3f} ± {stats.sem(one[0]):.3f}; {int((one[1] > 0).sum())} of 40"
            for way, one in rates.items()
        }
    yield from table(rows)


def main() -> None:
    """Print the tables; write them and the picture where asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", nargs="?", default=os.environ.get("SJD_REFERENCE_DATA"))
    parser.add_argument("--picture", type=Path)
    parser.add_argument("--output", type=Path)
    chosen = parser.parse_args()
    if not chosen.folder or not (Path(chosen.folder) / "data").is_dir():
        sys.exit(
            f"real_batch_effects: no reference data ({chosen.folder or 'SJD_REFERENCE_DATA is not set'}): these tables "
            "are made of public matrices that are not part of the repository. Set SJD_REFERENCE_DATA to their folder."
        )
    said = []
    for one in lines(Path(chosen.folder)):
        print(one, flush=True)
        said.append(one)
    if chosen.output:
        chosen.output.write_text("\n".join(said) + "\n", encoding="utf-8")
    if chosen.picture:
        picture(four_cohorts(Path(chosen.folder)), chosen.picture)


if __name__ == "__main__":
    main()
