"""How far frozen normalisation is from a full refit, on real matrices, when samples and batches arrive.

    python benchmarks/frozen_against_refit.py FOLDER [--output TABLES.md] [--draws 3]

FOLDER holds the reference data (default: the environment variable SJD_REFERENCE_DATA). A chain is fitted on a reference
set; then 10, 50 and 200 samples arrive, or 5, 10 and 30 of a new batch. The frozen chain and one fitted again on
everything normalise all samples. Differences are in units of each feature's standard deviation over the samples as the
refit leaves them. Every line stands for several draws of reference set and arrivals: medians over the draws of the
median and the 99th percentile, the largest difference and the lowest rank correlation of any sample. The last column
is the correlation over all samples of a feature's frozen with its refitted values, at the first percentile of the
features: what moves a whole feature alike leaves it at 1, and no comparison within the layer is touched.

People, where a sheet names them, don't stand on both sides; samples of one person are drawn together.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import rankdata

from sjd_dask.errors import DesignError, SpecError
from sjd_dask.normalise.chain import Chain, extend_chain, fit_chain
from sjd_dask.normalise.methods import make_method
from sjd_dask.normalise.reference import MemoryReference

ARRIVING = (10, 50, 200)
HEAD = (
    "| data | steps | reference | new | old: median | 99 % | largest | rank "
    "| new: median | 99 % | largest | rank | features |\n"
    "|---|---|---|---|---|---|---|---|---|---|---|---|---|"
)


@dataclass(frozen=True)
class Matrix:
    """A matrix, samples x features, with its sheets; `person` names the column of people."""

    name: str
    values: np.ndarray
    samples: pd.DataFrame
    features: np.ndarray
    scale: str
    person: str | None = None
    annotation: pd.DataFrame = field(default_factory=pd.DataFrame)

    def reference(self, rows: np.ndarray) -> MemoryReference:
        """Some samples as a reference set."""
        sheet = self.samples.iloc[rows]
        annotation = self.annotation if len(self.annotation) else None
        return MemoryReference(self.values[rows], sheet.index, self.features, sheet, annotation, scale=self.scale)

    def order(self, rng: np.random.Generator) -> np.ndarray:
        """All samples in a random order that keeps people together."""
        if self.person is None:
            return rng.permutation(len(self.samples))
        codes, people = pd.factorize(self.samples[self.person])
        place = rng.permutation(len(people))
        return np.lexsort((rng.random(len(codes)), place[codes]))


@dataclass(frozen=True)
class Distance:
    """What frozen and refitted values differ by, for some samples."""

    median: float
    high: float
    largest: float
    rank: float


def distance(frozen: np.ndarray, refit: np.ndarray, spread: np.ndarray) -> Distance:
    """Absolute differences over `spread`; lowest Spearman correlation of a sample's features."""
    away = np.abs(frozen - refit) / spread
    away = away[np.isfinite(away)]
    middle, high = np.quantile(away, [0.5, 0.99])
    rank = 1.0
    for a, b in zip(frozen, refit, strict=True):
        there = np.isfinite(a) & np.isfinite(b)
        if not np.array_equal(a[there], b[there]):
            rank = min(rank, float(np.corrcoef(rankdata(a[there]), rankdata(b[there]))[0, 1]))
    return Distance(float(middle), float(high), float(away.max()), rank)


@dataclass(frozen=True)
class Comparison:
    """Old samples, new samples (text where these have no values), and how alike a feature is over all of them.

    `alike` is the first percentile, over the features, of the correlation of frozen with refitted values over samples.
    """

    old: Distance
    new: Distance | str
    alike: float


def compare(matrix: Matrix, steps: list[Any], old: np.ndarray, new: np.ndarray, is_batch: bool) -> Comparison:
    """Frozen against refit."""
    methods = [make_method(step) for step in steps]
    chain = fit_chain(methods, matrix.reference(old))
    if is_batch and hasattr(methods[-1], "batch"):
        # A method without parameters for a new batch puts its samples off, and the table says so.
        with contextlib.suppress(SpecError):
            chain = extend_chain(chain, matrix.reference(new))
    again = fit_chain(methods, matrix.reference(np.concatenate([old, new])))
    # A step that drops features may drop others when it is fitted again: what both keep is compared.
    both = np.intersect1d(chain.out_feature_ids, again.out_feature_ids)
    refit = {which: normalised(again, matrix, rows, both)[0] for which, rows in (("old", old), ("new", new))}
    spread = np.nanstd(np.vstack(list(refit.values())), axis=0, ddof=1)
    spread[spread == 0] = np.nan
    frozen = {which: normalised(chain, matrix, rows, both) for which, rows in (("old", old), ("new", new))}
    found: dict[str, Any] = {}
    for which, (values, pending) in frozen.items():
        held = pending != ""
        found[which] = str(pending[held][0]) if held.all() else distance(values[~held], refit[which][~held], spread)
    sides = [which for which in found if not isinstance(found[which], str)]
    a, b = (np.vstack([one[which] for which in sides]) for one in ({k: v[0] for k, v in frozen.items()}, refit))
    return Comparison(found["old"], found["new"], float(np.nanquantile(correlations(a, b), 0.01)))


def correlations(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Pearson correlation of each column, NaN for constant ones."""
    a, b = a - a.mean(axis=0), b - b.mean(axis=0)
    squares = (a * a).sum(axis=0) * (b * b).sum(axis=0)
    squares[squares == 0] = np.nan
    return (a * b).sum(axis=0) / np.sqrt(squares)


def normalised(chain: Chain, matrix: Matrix, rows: np.ndarray, features: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Values of these features, and reasons why there are none."""
    done = chain.apply(matrix.reference(rows).block())
    return done.values[:, pd.Index(done.feature_ids).get_indexer(features)], done.pending


def text(steps: list[Any]) -> str:
    """The steps in words."""
    return ", ".join(
        step if isinstance(step, str) else
        f"{step['method']} ({', '.join(f'{k} {v}' for k, v in step.items() if k != 'method')})"
        for step in steps
    )  # fmt: skip


def line(matrix: Matrix, steps: list[Any], n_old: int, n_new: int, draws: list[Comparison]) -> str:
    """A line of the table: the draws together."""
    cells = [matrix.name, text(steps), str(n_old), str(n_new)]
    for side in ([one.old for one in draws], [one.new for one in draws]):
        if isinstance(side[0], str):
            cells += [side[0], "", "", ""]
            continue
        cells.append(number(np.median([one.median for one in side])))
        cells.append(number(np.median([one.high for one in side])))
        cells.append(number(max(one.largest for one in side)))
        cells.append(correlation(min(one.rank for one in side)))
    cells.append(correlation(min(one.alike for one in draws)))
    return f"| {' | '.join(cells)} |"


def number(value: float) -> str:
    """Two digits; what is only rounding is called so."""
    return "0" if value == 0 else "rounding" if value < 1e-11 else f"{value:.2g}"


def correlation(value: float) -> str:
    """Rounded down: 1 is only what is 1."""
    return "1" if value > 1 - 1e-12 else f"{np.floor(value * 1e5) / 1e5:.5f}"


# -- the matrices ----------------------------------------------------------------------------------------------------


def lupus(data: Path) -> Matrix:
    """GSE65391: every sixth probe."""
    folder = data / "sle_wb_GSE65391_training"
    with np.load(folder / "expression_log2x1000_int16.npz") as archive:
        values, ids, features = archive["values"][::6], archive["samples"].astype(str), archive["features"][::6]
    sheet = pd.read_csv(folder / "phenotype.csv", index_col=0, dtype=str).loc[
        ids, ["batch", "disease_state", "subject"]
    ]
    return Matrix("lupus, 673 arrays", values.T / 1000.0, sheet, features.astype(str), "expression", "subject")


def lupus_cohorts(data: Path) -> Matrix:
    """Four cohorts on four platforms, the genes all have."""
    folder = data / "sle_4cohorts_pathMED"
    tables, sheets = [], []
    for k in "1234":
        tables.append(pd.read_csv(folder / f"cohort{k}_expression.csv.gz", index_col=0))
        sheet = pd.read_csv(folder / f"cohort{k}_phenotype.csv", index_col=0)
        sheets.append(pd.DataFrame({"batch": f"cohort {k}", "disease": sheet["group"]}))
    shared = tables[0].index
    for one in tables[1:]:
        shared = shared.intersection(one.index)
    values = np.hstack([one.loc[shared].to_numpy(float) for one in tables]).T
    return Matrix("lupus, 4 platforms", values, pd.concat(sheets), shared.to_numpy(str), "expression")


def bladder(data: Path) -> Matrix:
    """57 bladder arrays of five dates; the groups are spread over them very unevenly."""
    folder = data.parent / "oracles" / "combat"
    table = pd.read_csv(folder / "bladder3000_input.tsv.gz", sep="\t", index_col=0)
    sheet = pd.read_csv(folder / "bladder3000_samples.tsv.gz", sep="\t", index_col=0, dtype=str).loc[table.columns]
    return Matrix("bladder, 5 dates", table.to_numpy(float).T, sheet, table.index.to_numpy(str), "expression")


def brain(data: Path) -> Matrix:
    """Betas of 472 brains at sites that change with age: too few lie at 0 and 1 for BMIQ, which refuses them."""
    with np.load(data / "brain_meth_GSE74193_7503cpg" / "train_beta_x30000_int16.npz") as archive:
        values, ids, features = archive["values"], archive["samples"].astype(str), archive["features"].astype(str)
    values = (values if values.shape[0] == len(ids) else values.T) / 30000.0
    return Matrix("brain betas", values, pd.DataFrame(index=ids), features, "beta")


def arthritis(data: Path) -> Matrix:
    """Blood of 329 people, 500 sites."""
    table = pd.read_csv(data / "ra_meth_GSE42861_500cpg" / "beta.csv.gz", index_col=0)
    return with_types("blood betas", table)


def brain_27k(data: Path) -> Matrix:
    """A whole array of 16 brains."""
    table = pd.read_csv(data / "horvath_example55_27k" / "MethylationDataExample55.csv.gz", index_col=0)
    return with_types("brain betas, 27k", table)


def with_types(name: str, table: pd.DataFrame) -> Matrix:
    """Betas whose probe types are not at hand (or all I): half is called type I at random, to see the target move."""
    types = np.where(np.random.default_rng(3).random(len(table)) < 0.5, "I", "II")
    annotation = pd.DataFrame({"probe_type": types}, index=table.index)
    features = table.index.to_numpy(str)
    return Matrix(name, table.to_numpy(float).T, pd.DataFrame(index=table.columns), features, "beta", None, annotation)


def counts(data: Path) -> Matrix:
    """RNA-seq of 85 cell lines."""
    table = pd.read_csv(data / "counts_humanGender" / "counts.csv.gz", index_col=0)
    values = table.to_numpy(float).T
    return Matrix("85 libraries", values, pd.DataFrame(index=table.columns), table.index.to_numpy(str), "counts")


def simulated_counts(data: Path) -> Matrix:
    """Libraries of this package's simulation, where real ones are too few."""
    from sjd_dask.simulate import Simulation

    made = Simulation(400, 10, seed=5, n_genes=6000)
    values = made.block("rnaseq", 0, 400, 0, 6000).astype(float)
    return Matrix(
        "simulated libraries", values, pd.DataFrame(index=made.sample_ids), made.feature_ids("rnaseq"), "counts"
    )


def cytokines(data: Path) -> Matrix:
    """25 cytokines of stimulated cells; no value is missing or below 0.01."""
    table = pd.read_csv(data / "cytokines_CytoProfile" / "ExampleData5.csv", dtype={"Batch": str})
    table.index = pd.Index([f"C{i:03d}" for i in range(len(table))])
    sheet = table[["Group", "Treatment", "Batch"]].rename(columns={"Batch": "batch"})
    measured = table.iloc[:, 4:]
    return Matrix("cytokines", measured.to_numpy(float), sheet, measured.columns.to_numpy(str), "concentration")


def fractions(data: Path) -> Matrix:
    """Seven cell fractions of 329 people, estimated from their methylation."""
    sheet = pd.read_csv(data / "ra_meth_GSE42861_500cpg" / "phenotype.csv", index_col="sample_id")
    cells = sheet.filter(like="cell_").clip(lower=0)
    values = cells.div(cells.sum(axis=1), axis=0)
    return Matrix("cell fractions", values.to_numpy(float), sheet, cells.columns.to_numpy(str), "proportion")


COMBAT = {"method": "combat", "batch": "batch"}
REMOVE = {"method": "remove_batch_effect", "batch": "batch"}
STANDARD = {"method": "standardise", "constant": "drop"}
ROBUST = STANDARD | {"robust": True}
PLATE = {"method": "plate_centre", "plate": "batch"}
LIBRARY = [[one, "log_cpm"] for one in ("library_size", "tmm", "tmmwsp", "rle", "upper_quartile")]
# Which chains each matrix goes through, and how many samples are the reference set.
MATRICES: tuple[tuple[Callable[[Path], Matrix], int, list[list[Any]]], ...] = (
    (lupus, 400, [["quantile"], ["scale"], ["standardise"], [ROBUST],
                  [COMBAT], [COMBAT | {"covariates": "~ disease_state"}], [REMOVE], [PLATE], ["quantile", COMBAT]]),
    (brain, 272, [["m_value"], ["quantile"], ["quantile", "m_value"]]),
    (arthritis, 129, [["quantile"], ["bmiq"], ["bmiq", "m_value"]]),
    (brain_27k, 6, [["quantile"], ["bmiq"]]),
    (counts, 35, [*LIBRARY, ["vst"]]),
    (simulated_counts, 200, [*LIBRARY, ["vst"]]),
    (cytokines, 97, [["log"], ["arcsinh"], ["log", PLATE], ["log", "quantile"], ["log", STANDARD]]),
    (fractions, 129, [["logit"], ["clr"]]),
)  # fmt: skip
BATCHES: list[list[Any]] = [
    [COMBAT], [COMBAT | {"covariates": ""}], [COMBAT | {"mean_only": True}],
    [COMBAT | {"reference_batch": ""}], ["quantile", COMBAT],
    [REMOVE], [PLATE], ["quantile"], ["scale"], ["standardise"],
]  # fmt: skip


def arrivals(data: Path, draws: int) -> Iterator[str]:
    """Lines of the first table."""
    for load, n_old, chains in MATRICES:
        matrix = load(data)
        for steps in chains:
            for n_new in ARRIVING:
                if n_old + n_new > len(matrix.samples):
                    continue
                found = []
                for draw in range(draws):
                    order = matrix.order(np.random.default_rng([draw, 11]))
                    found.append(compare(matrix, steps, order[:n_old], order[n_old : n_old + n_new], False))
                yield line(matrix, steps, n_old, n_new, found)


def new_batches(data: Path, draws: int) -> Iterator[str]:
    """Lines of the second table: each platform in turn is the new one; then one date; then one lot of one platform."""
    for matrix, column, home, arriving, sizes in (
        (lupus_cohorts(data), "disease", "cohort 1", ("cohort 2", "cohort 3", "cohort 4"), (5, 10, 30)),
        (bladder(data), "cancer", "2", ("5",), (5, 10, 18)),
        (lupus(data), "disease_state", "1", ("2",), (5, 10, 30, 100)),
    ):
        batch = matrix.samples["batch"].to_numpy()
        for steps in BATCHES:
            steps = [adapted(step, column, home) for step in steps]
            if np.unique(batch).size == 2 and any(isinstance(step, dict) for step in steps):
                continue  # one batch before the new one: there is no batch effect to fit
            for n_new in sizes:
                found: list[Comparison] = []
                for one in arriving:
                    for draw in range(draws):
                        new = spread_over(matrix.samples[column], batch == one, n_new, np.random.default_rng([draw, 7]))
                        try:
                            found.append(compare(matrix, steps, np.flatnonzero(batch != one), new, True))
                        except DesignError:
                            continue
                n_old = int((batch != arriving[0]).sum())
                if found:
                    yield line(matrix, steps, n_old, n_new, found)
                else:
                    head = f"| {matrix.name} | {text(steps)} | {n_old} | {n_new} | refused: confounded"
                    yield head + " |" * 9


def adapted(step: Any, column: str, home: str) -> Any:
    """A step with the matrix's own disease column and reference batch."""
    own = {"covariates": f"~ {column}", "reference_batch": home}
    return {k: own.get(k, v) for k, v in step.items()} if isinstance(step, dict) else step


def spread_over(labels: pd.Series, here: np.ndarray, n: int, rng: np.random.Generator) -> np.ndarray:
    """Samples of a batch with the groups in about the batch's own shares, both of them present."""
    order = rng.permutation(np.flatnonzero(here))
    value = labels.to_numpy()[order]
    groups, sizes = np.unique(value, return_counts=True)
    quota = np.maximum(1, np.floor(sizes * n / sizes.sum()).astype(int))
    quota[np.argmax(sizes)] += n - quota.sum()
    return np.concatenate([order[value == group][:k] for group, k in zip(groups, quota, strict=True)])


def main() -> None:
    """Print both tables, and write them where asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", nargs="?", default=os.environ.get("SJD_REFERENCE_DATA"))
    parser.add_argument("--output", type=Path)
    parser.add_argument("--draws", type=int, default=3)
    chosen = parser.parse_args()
    if not chosen.folder or not (Path(chosen.folder) / "data").is_dir():
        sys.exit(
            f"frozen_against_refit: no reference data ({chosen.folder or 'SJD_REFERENCE_DATA is not set'}): this table "
            "is made of public matrices that are not part of the repository. Set SJD_REFERENCE_DATA to their folder."
        )
    lines: list[str] = []

    def say(one: str) -> None:
        lines.append(one)
        print(one, flush=True)

    data = Path(chosen.folder) / "data"
    for title, table in (("New samples", arrivals), ("A new batch", new_batches)):
        say(f"### {title}\n\n{HEAD}")
        for one in table(data, chosen.draws):
            say(one)
        say("")
    if chosen.output:
        chosen.output.write_text("\n".join(lines), encoding="utf-8")


if __name__ == "__main__":
    main()
