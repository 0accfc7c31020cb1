"""Classifiers on real data: how good, how sure, and whom they turn away.

    python benchmarks/real_classes.py FOLDER [--work WORK] [--output TABLES.md] [--only PART ...]

FOLDER holds the reference data (default: the environment variable SJD_REFERENCE_DATA). Parts:

- commands: through `sjd`, GSE65391 (673 arrays of whole blood; 106 children with lupus over many visits, 39 healthy
  ones): interferon high or low, trained, judged by nested cross-validation over persons, promoted, and let loose on
  healthy blood, on arrays whose values were permuted, and on another platform. Pages are left in WORK.
- accuracy: golub, khan, TCGA and rheumatoid arthritis against plain scikit-learn on the same folds, with panels of at
  most --size features, or "auto".
- strangers: brain against blood on the same probes.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from sjd_dask.classify.conformal import person_weights
from sjd_dask.classify.fitting import Fitted, fit_classifier
from sjd_dask.classify.metrics import Judged, draws, evaluate
from sjd_dask.classify.recipe import Recipe
from sjd_dask.classify.splits import person_folds

sys.path.insert(0, str(Path(__file__).parent))
import real_groups

BLOOD = real_groups.DATA
INTERFERON = real_groups.INTERFERON
SCENARIOS = "permuted_features", "permuted_samples"


@dataclass(frozen=True)
class Set:
    """Labelled samples."""

    name: str
    values: np.ndarray
    labels: np.ndarray
    persons: np.ndarray
    sample_ids: np.ndarray
    feature_ids: np.ndarray

    def only(self, kept: np.ndarray) -> Set:
        """The samples of `kept`."""
        parts = (one[kept] for one in (self.values, self.labels, self.persons, self.sample_ids))
        return Set(self.name, *parts, self.feature_ids)


def alone(name: str, table: pd.DataFrame, labels: Any) -> Set:
    """Samples in rows, each a person."""
    ids = table.index.to_numpy(dtype=str)
    values = table.to_numpy(dtype=np.float64)
    return Set(name, values, np.asarray(labels, dtype=str), ids, ids, table.columns.to_numpy(dtype=str))


def leukaemia(root: Path) -> Set:
    """golub: acute leukaemia, lymphoid (0) or myeloid (1)."""
    return _oracle(root, "golub", "cl")


def tumours(root: Path) -> Set:
    """khan: small round blue cell tumours, four kinds, with missing values."""
    return _oracle(root, "khan", "class")


def _oracle(root: Path, name: str, column: str) -> Set:
    folder = root / "oracles" / "data"
    path = folder / f"{name}_expr.tsv.gz"
    # A gene may be called NA, and some clones are there twice: the first is taken.
    ids = pd.read_csv(path, sep="\t", usecols=[0], dtype=str, keep_default_na=False).iloc[:, 0]
    table = pd.read_csv(path, sep="\t", index_col=0).set_axis(ids.to_numpy())
    table = table[~table.index.duplicated()].T
    sheet = pd.read_csv(folder / f"{name}_samples.tsv.gz", sep="\t", dtype=str).set_index("sample").loc[table.index]
    return alone(name, table, sheet[column])


def breast(root: Path, part: str = "train") -> Set:
    """TCGA breast cancer, gene expression, PAM50 subtype."""
    folder = root / "data" / "tcga_brca_multiomics_mixOmics"
    table = pd.read_csv(folder / f"data.{part}_mrna.csv.gz", index_col=0)
    return alone(f"TCGA {part}", table, pd.read_csv(folder / f"data.{part}_subtype.csv")["subtype"])


def arthritis(root: Path) -> Set:
    """Rheumatoid arthritis or not, from 500 random probes of blood methylation."""
    folder = root / "data" / "ra_meth_GSE42861_500cpg"
    beta = np.clip(pd.read_csv(folder / "beta.csv.gz", index_col=0).T, 1e-3, 1 - 1e-3)
    sheet = pd.read_csv(folder / "phenotype.csv", index_col=0).loc[beta.index]
    return alone("RA methylation", np.log2(beta / (1 - beta)), sheet["disease"].astype(int))


def interferon(root: Path) -> Set:
    """GSE65391: whole blood of children with lupus, interferon high or low."""
    raw = np.load(root / BLOOD / "expression_log2x1000_int16.npz")
    sheet = real_groups.sample_sheet(root).loc[raw["samples"].astype(str)]
    labels = interferon_labels(root, raw, sheet)
    values, ids = raw["values"].T / 1000.0, sheet.index.to_numpy(dtype=str)
    data = Set("interferon", values, labels, sheet["person_id"].to_numpy(dtype=str), ids, raw["features"].astype(str))
    return data.only((sheet["disease"] == "SLE").to_numpy())


def interferon_labels(root: Path, raw: Any, sheet: pd.DataFrame) -> np.ndarray:
    """High: a mean of five genes above two standard deviations of the healthy."""
    symbols = pd.read_csv(root / BLOOD / "features.csv.gz").set_index("feature")["gene_symbol"]
    chosen = symbols.loc[raw["features"].astype(str)].isin(INTERFERON).to_numpy()
    score = raw["values"][chosen].mean(axis=0) / 1000
    healthy = (sheet["disease"] == "Healthy").to_numpy()
    return np.where(score > score[healthy].mean() + 2 * score[healthy].std(ddof=1), "high", "low")


# -- judged by folds of persons ---------------------------------------------------------------------------------------


def judge(data: Set, recipe: Recipe, folds: int = 5, seed: int = 1) -> tuple[Judged, list[tuple[Fitted, np.ndarray]]]:
    """Predictions of held-out persons, and the classifier of each fold with the samples that it judged."""
    fold = person_folds(data.persons, data.labels, folds, seed)
    classes = tuple(sorted(set(data.labels)))
    k = len(classes)
    p, sets = np.full((len(fold), k), np.nan), np.zeros((len(fold), k), dtype=bool)
    status = np.empty(len(fold), dtype=object)
    fits = []
    for number in range(folds):
        held = fold == number
        fitted = fit(data.only(~held), recipe)
        found = fitted.classifier.predict(columns(data, fitted)[held])
        p[held], sets[held], status[held] = found.probabilities, found.conformal, found.status
        fits.append((fitted, held))
    return Judged(classes, np.searchsorted(classes, data.labels), p, data.persons, sets, status), fits


def fit(data: Set, recipe: Recipe) -> Fitted:
    """A classifier of all of these samples."""
    return fit_classifier(
        data.values, data.labels, data.persons, list(data.sample_ids), list(data.feature_ids), recipe
    )  # fmt: skip


def columns(data: Set, fitted: Fitted) -> np.ndarray:
    """Values in the order of the classifier's features."""
    at = pd.Index(data.feature_ids).get_indexer(pd.Index(fitted.classifier.features.astype(str)))
    return data.values[:, at]


def plain(data: Set, model: str = "multinomial", folds: int = 5, seed: int = 1) -> np.ndarray:
    """Class of each held-out sample by plain scikit-learn on all features, on the same folds."""
    fold = person_folds(data.persons, data.labels, folds, seed)
    out = np.empty(len(fold), dtype=object)
    for number in range(folds):
        held = fold == number
        out[held] = plain_model(model).fit(data.values[~held], data.labels[~held]).predict(data.values[held])
    return out


def plain_model(model: str) -> Any:
    """What one would write in a notebook."""
    from sklearn.ensemble import RandomForestClassifier
    from sklearn.impute import SimpleImputer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    if model == "random_forest":
        return make_pipeline(SimpleImputer(), RandomForestClassifier(random_state=1))
    return make_pipeline(SimpleImputer(), StandardScaler(), LogisticRegression(max_iter=5000))


def accuracy_difference(ours: np.ndarray, theirs: np.ndarray, persons: np.ndarray, n_draws: int = 1000) -> np.ndarray:
    """Share right of ours less theirs, with the ends of its 95 % interval over persons."""
    gain = ours.astype(float) - theirs.astype(float)
    weights = np.vstack([person_weights(persons)[None, :], *draws(persons, 1, n_draws)])
    means = weights @ gain / weights.sum(axis=1)
    return np.array([means[0], *np.percentile(means[1:], [2.5, 97.5])])


# -- strangers --------------------------------------------------------------------------------------------------------


def permuted_features(values: np.ndarray, seed: int = 1) -> np.ndarray:
    """The values of each sample dealt to other features."""
    return np.random.default_rng(seed).permuted(values, axis=1)


def permuted_samples(values: np.ndarray, seed: int = 1) -> np.ndarray:
    """Each feature's values dealt to other samples: every value in its range, no two that belong together."""
    return np.random.default_rng(seed).permuted(values, axis=0)


def brain_and_blood(root: Path) -> tuple[Set, np.ndarray]:
    """M-values of adult brain, younger or older than 50, and of sorted blood, on the probes that both have."""
    raw = np.load(root / "data" / "brain_meth_GSE74193_7503cpg" / "train_beta_x30000_int16.npz")
    blood = pd.read_csv(root / "data" / "blood_meth_carpentries_5000x37" / "methylation_M.csv.gz", index_col=0)
    blood = blood if str(blood.columns[0]).startswith("cg") else blood.T
    features = raw["features"].astype(str)
    shared = np.isin(features, blood.columns)
    adult = raw["age"] >= 18
    beta = np.clip(raw["values"][shared][:, adult].T / 30000, 1e-3, 1 - 1e-3)
    ids = raw["samples"].astype(str)[adult]
    labels = np.where(raw["age"][adult] < 50, "younger", "older")
    brain = Set("brain methylation", np.log2(beta / (1 - beta)), labels, ids, ids, features[shared])
    return brain, blood[features[shared]].to_numpy(dtype=np.float64)


def shares(status: Any) -> dict[str, float]:
    """Share of samples with each status."""
    found = pd.Series(np.asarray(status, dtype=object)).value_counts(normalize=True)
    return {str(name): float(value) for name, value in found.items()}


# -- through the commands ---------------------------------------------------------------------------------------------

TRAIN: dict[str, Any] = {
    "job": "train", "assay": "expression", "labels": "interferon", "subgroups": ["sex", "batch", "race"],
}  # fmt: skip


def bring(root: Path, work: Path) -> None:
    """The cohort, with the label as a sample column."""
    real_groups.bring(root, work)
    raw = np.load(root / BLOOD / "expression_log2x1000_int16.npz")
    sheet = real_groups.sample_sheet(root).loc[raw["samples"].astype(str)]
    column = pd.DataFrame({"interferon": interferon_labels(root, raw, sheet)}, index=sheet.index)
    column.to_csv(work / "interferon.csv")
    real_groups.sjd(work, "samples", "cohort", "interferon.csv", "-q")


def train(work: Path, name: str, **keys: Any) -> float:
    """Train a model by its command; CPU seconds are the machine's, so seconds on the clock are given."""
    begin = time.perf_counter()
    real_groups.run(work, {**TRAIN, **keys, "output": name})
    return time.perf_counter() - begin


def classify(work: Path, name: str, **keys: Any) -> pd.DataFrame:
    """Classify by the command; the table of classes."""
    from sjd_dask.store.cohort import open_cohort

    real_groups.run(work, {"job": "classify", "eligible": "all", **keys, "output": name})
    return open_cohort(work / "cohort").result(f"classes/{name}").to_pandas()


def refusal(work: Path, **keys: Any) -> str:
    """What the command says when it refuses."""
    try:
        real_groups.run(work, {"job": "classify", "eligible": "all", "output": "refused", **keys})
    except RuntimeError as error:
        return str(error)
    raise AssertionError("it was not refused")


def write_permuted(root: Path, work: Path, kind: str) -> Path:
    """The arrays of lupus patients with their values permuted, as a file."""
    raw = np.load(root / BLOOD / "expression_log2x1000_int16.npz")
    sheet = real_groups.sample_sheet(root).loc[raw["samples"].astype(str)]
    ill = (sheet["disease"] == "SLE").to_numpy()
    values = (raw["values"][:, ill].T / 1000).astype(np.float32)
    mixed = permuted_features(values) if kind == SCENARIOS[0] else permuted_samples(values)
    path = work / f"{kind}.npz"
    names = np.array([f"{kind}_{i}" for i in range(len(mixed))])
    np.savez(path, values=mixed, features=raw["features"].astype(str), samples=names)
    return path


# -- what is printed --------------------------------------------------------------------------------------------------


def row(*cells: Any) -> str:
    return f"| {' | '.join(map(str, cells))} |"


def interval(record: Any, digits: int = 3) -> str:
    return f"{record['value']:.{digits}f} ({record['low']:.{digits}f} to {record['high']:.{digits}f})"


def accuracy_lines(root: Path, models: list[str], size: int | str = 50) -> list[str]:
    """Accuracy against plain scikit-learn, five folds; TCGA also from its training to its test part."""
    text = [
        row("data", "persons", "features", "model", "panel", "accuracy", "scikit-learn, all features", "difference"),
        "|---|---|---|---|---|---|---|---|",
    ]
    for model in models:
        for make in (leukaemia, tumours, breast, arthritis):
            data = make(root)
            judged, fits = judge(data, Recipe(model=model, panel_size=size))
            right = np.asarray(judged.classes)[judged.probabilities.argmax(axis=1)] == data.labels
            theirs = plain(data, model) == data.labels
            gain = accuracy_difference(right, theirs, data.persons)
            sizes = [fitted.classifier.n_panel for fitted, _ in fits]
            text.append(
                row(data.name, len(data.labels), len(data.feature_ids), model, f"{min(sizes)}-{max(sizes)}",
                    f"{right.mean():.3f}", f"{theirs.mean():.3f}",
                    f"{gain[0]:+.3f} ({gain[1]:+.3f} to {gain[2]:+.3f})")
            )  # fmt: skip
            print(text[-1], file=sys.stderr, flush=True)
    data, test = breast(root), breast(root, "test")
    for model in models:
        fitted = fit(data, Recipe(model=model, panel_size=size))
        top = fitted.classifier.predict(columns(test, fitted)).top
        right = np.asarray(fitted.classifier.classes)[top] == test.labels
        theirs = plain_model(model).fit(data.values, data.labels).predict(test.values) == test.labels
        gain = accuracy_difference(right, theirs, test.persons)
        text.append(
            row("TCGA train, then test", len(test.labels), len(test.feature_ids), model, fitted.classifier.n_panel,
                f"{right.mean():.3f}", f"{theirs.mean():.3f}", f"{gain[0]:+.3f} ({gain[1]:+.3f} to {gain[2]:+.3f})")
        )  # fmt: skip
        print(text[-1], file=sys.stderr, flush=True)
    return text


def stranger_lines(root: Path) -> list[str]:
    """Brain and blood on shared probes."""
    brain, blood = brain_and_blood(root)
    judged, fits = judge(brain, Recipe())
    own = evaluate(judged).query("`class` == ''").set_index("metric")
    text = [
        f"Adult brain (450k array), younger or older than 50: {len(brain.labels)} persons, the "
        f"{len(brain.feature_ids)} probes that the blood data share. Held-out brains: accuracy "
        f"{interval(own.loc['accuracy'])}, out of distribution {interval(own.loc['out_of_distribution'])}.",
        "",
        row("scored by the classifier of each fold", "out of distribution", "not called"),
        "|---|---|---|",
    ]
    for name, make in (
        ("sorted blood, 37 samples", lambda held, at: blood[:, at]),
        ("brain, permuted across features", lambda held, at: permuted_features(brain.values[held][:, at])),
        ("brain, each feature permuted across samples", lambda held, at: permuted_samples(brain.values[held][:, at])),
    ):
        status = np.concatenate([_status(brain, fitted, held, make) for fitted, held in fits])
        text.append(row(name, f"{np.mean(status == 'out_of_distribution'):.3f}", f"{np.mean(status != 'called'):.3f}"))
    return text


def _status(data: Set, fitted: Fitted, held: np.ndarray, make: Any) -> np.ndarray:
    at = pd.Index(data.feature_ids).get_indexer(pd.Index(fitted.classifier.features.astype(str)))
    return fitted.classifier.predict(make(held, at)).status


def command_lines(root: Path, work: Path) -> list[str]:
    """GSE65391 through `sjd`."""
    from sjd_dask.store.cohort import open_cohort

    bring(root, work)
    text = train_lines(work, "lupus", "106 persons with lupus", samples="disease == 'SLE'")
    real_groups.sjd(work, "models", "promote", "cohort", "lupus@1", "--why", "benchmark", "--who", "benchmark")
    model = {"model": "lupus@production"}
    text += ["", row("scored by the model of lupus", "samples", "called", "abstained", "out of distribution"),
             "|---|---|---|---|---|"]  # fmt: skip
    calls = classify(work, "blood", assay="expression", **model)
    sheet = real_groups.sample_sheet(root)
    disease = sheet["disease"].reindex(calls["sample_id"]).to_numpy()
    parts = {"lupus, as trained on": calls[disease == "SLE"], "healthy blood": calls[disease == "Healthy"]}
    for kind in SCENARIOS:
        path = write_permuted(root, work, kind)
        name = "permuted across features" if kind == SCENARIOS[0] else "each feature permuted across samples"
        parts[f"lupus, {name}"] = classify(work, kind, file=path.name, quantity="expression", rows="samples", **model)
    for name, found in parts.items():
        told = shares(found["status"])
        text.append(
            row(
                name, len(found), *(f"{told.get(one, 0):.3f}" for one in ("called", "abstained", "out_of_distribution"))
            )
        )
        print(text[-1], file=sys.stderr, flush=True)
    text += ["", *visit_lines(open_cohort(work / "cohort").result("models/lupus").to_pandas("predictions"), sheet)]
    other = pd.read_csv(root / "data" / "sle_4cohorts_pathMED" / "cohort2_expression.csv.gz", index_col=0)
    other.rename_axis("feature_id").to_csv(work / "other_platform.csv")
    said = refusal(work, file="other_platform.csv", quantity="expression", **model)
    text += ["", "Another platform (a pathMED cohort, genes in place of probes) is refused:", "", "```",
             said.strip().splitlines()[-1], "```", ""]  # fmt: skip
    print(text[-3], file=sys.stderr, flush=True)
    return [*text, *train_lines(work, "everyone", "145 persons, healthy ones too")]


def train_lines(work: Path, name: str, whom: str, **keys: Any) -> list[str]:
    """Train a model; its card's metrics as a table."""
    from sjd_dask.store.cohort import open_cohort

    seconds = train(work, name, **keys)
    card = open_cohort(work / "cohort").result(f"models/{name}").meta["card"]
    text = [f"Model *{name}*, trained on {whom}:", "", row("metric", "value (95 % interval over persons)"), "|---|---|"]
    text += [row(one["metric"], interval(one)) for one in card["metrics"] if one["of"] == "all" and not one["class"]]
    calibration = card["calibration"]
    text.append(
        row("Brier score, calibrated less uncalibrated",
            f"{calibration['difference']:+.5f}, standard error {calibration['standard_error']:.5f} "
            f"({calibration['measured_in']})")
    )  # fmt: skip
    print(f"{seconds:.0f} s on the clock", *text, sep="\n", file=sys.stderr, flush=True)
    return text


def visit_lines(predictions: pd.DataFrame, sheet: pd.DataFrame) -> list[str]:
    """How the calls of a held-out person go on over visits, and how the true classes do."""
    called = predictions[predictions["status"] == "called"]
    visit = pd.to_numeric(sheet["visit"].reindex(called["sample_id"]), errors="coerce").to_numpy()
    seen = called.assign(visit=visit).sort_values(["person_id", "visit"])
    steps = {}
    for column in ("call", "label"):
        by = seen.groupby("person_id")[column]
        steps[column] = by.apply(lambda one: int((one.to_numpy()[1:] != one.to_numpy()[:-1]).sum()))
    visits = seen.groupby("person_id").size()
    many = visits >= 2
    same, changed, true = (steps["call"][many] == 0).sum(), steps["call"][many].sum(), steps["label"][many].sum()
    return [
        f"Calls of held-out persons over visits: {int(many.sum())} have two called visits or more (median "
        f"{visits[many].median():.0f}); {same} of them have the same call at all of them, and {changed} of "
        f"{int((visits[many] - 1).sum())} steps from one called visit to the next change it. True classes: {true}."
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", nargs="?", default=os.environ.get("SJD_REFERENCE_DATA"), type=Path)
    parser.add_argument("--work", type=Path)
    parser.add_argument("--output", type=Path)
    parser.add_argument("--only", nargs="*", choices=["commands", "accuracy", "strangers"])
    parser.add_argument("--models", nargs="*", default=["multinomial", "random_forest"])
    parser.add_argument("--size", default=50, type=lambda text: text if text == "auto" else int(text))
    given = parser.parse_args()
    if given.folder is None:
        parser.error("name the folder of the reference data")
    work = given.work or Path(tempfile.mkdtemp(prefix="real_classes_"))
    work.mkdir(parents=True, exist_ok=True)
    text: list[str] = []
    parts = {
        "accuracy": lambda: ["## Accuracy", "", *accuracy_lines(given.folder, given.models, given.size)],
        "strangers": lambda: ["## Brain and blood", "", *stranger_lines(given.folder)],
        "commands": lambda: ["## Whole blood", "", *command_lines(given.folder, work)],
    }
    for name, make in parts.items():
        if not given.only or name in given.only:
            text += [*make(), ""]
    print("\n".join(text))
    if given.output:
        given.output.write_text("\n".join(text), encoding="utf-8")
    print(json.dumps({"work": str(work)}), file=sys.stderr)


if __name__ == "__main__":
    main()
