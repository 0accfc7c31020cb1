"""`make demo`: from raw tables to a moderated EWAS, groups of patients, a classifier and a night, with reports.

The cohort is simulated. Every step is the command a user would type, printed before it runs; the cohort's truth is
known, and at the end stands what was planted and what was found.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd

from sjd_dask import names
from sjd_dask.simulate import Simulation
from sjd_dask.store.cohort import open_cohort
from sjd_dask.stratify.agreement import adjusted_rand_index

N_SAMPLES, N_SITES, N_GENES, SEED = 424, 12_000, 1_500, 7
# The first night brings these; the rest arrive the next night, with one sample measured again.
FIRST_NIGHT = 400
MARKER = ".made-by-sjd-demo"

EWAS = """\
job: associate
cohort: cohort
assay: methylation
quantity: m_value
design: "{design}"
contrasts: ["disease[T.patient]"]
samples: "visit == 1"
output: {output}
"""
LAYER = """\
job: normalise
cohort: cohort
assay: rnaseq
steps: [{method: filter_by_expr, group: disease}, tmm, log_cpm, {method: combat, batch: batch}]
factors: [disease]
output: log_expression
"""
FROZEN = """\
job: normalise
cohort: cohort
assay: rnaseq
parameters: layers/log_expression@1
output: log_expression
"""
EXPRESSION = """\
job: associate
cohort: cohort
layer: layers/log_expression
design: "{design}"
contrasts: ["disease[T.patient]"]
samples: "visit == 1"
output: expression_disease
"""
# Genes that tell patients from volunteers make the groups; the planted class is compared, never used.
GROUPS = """\
job: stratify
cohort: cohort
layer: layers/log_expression
features: {association: associations/expression_disease, max_q: 0.05}
samples: "disease == 'patient' and visit == 1"
resamples: {n: 100}
compare: [true_class, batch, sex]
output: groups
"""
EXPLAIN = """\
job: explain
cohort: cohort
strata: strata/groups
layer: layers/log_expression
healthy: "disease == 'healthy' and visit == 1"
covariates: "~ age + sex"
clinical: [essdai, igg, anti_ssa]
composition: [CD4T, CD8T, Bcell, NK, Mono]
batch: batch
sex: sex
output: groups
"""
# Labels, normalisation and panel are made again without the persons of each outer fold.
MODEL = """\
job: train
cohort: cohort
layer: layers/log_expression
labels: strata/groups
person: person_id
panel: {method: elastic_net, size: 50}
model: multinomial
folds: {outer: 5, inner: 3}
calibration: sigmoid
coverage: 0.9
subgroups: [sex, batch]
output: blood_classes
"""
CLASSIFY = """\
job: classify
cohort: cohort
model: blood_classes@production
assay: rnaseq
eligible: "disease == 'patient'"
output: calls_by_hand
"""
NIGHT = """\
job: nightly
cohort: cohort
model: blood_classes@production
assay: rnaseq
eligible: "disease == 'patient'"
inbox: inbox
output: calls
"""
# Who may enter a trial of systemic activity, how many are needed, who gets what; classes are those of the last night.
TRIAL = """\
job: trial
name: systemic_activity
sheet: raw/clinic.csv
cohort: cohort
calls: classes/calls
output: trial
screening: "visit == 1"
criteria:
  include:
    - {name: active disease, when: "essdai >= 5"}
    - {name: anti-SSA, when: anti_ssa}
feasibility: {by: [molecular_class]}
design:
  strata: [{name: interferon, share: 0.5}, {name: others, share: 0.5}]
  classifier: {target: [interferon], sensitivity: 0.9, specificity: 0.9, not_called: 0.1}
  endpoints:
    - {name: essdai, kind: continuous, sd: 6, effect: 3}
randomisation: {arms: [active, placebo], strata: [molecular_class], block_sizes: [4], per_stratum: 20, seed: 1}
"""
CELLS = "~ disease + age + sex + CD4T + CD8T + Bcell + NK + Mono"
PLAIN = "~ disease + age + sex"


def main() -> None:
    """Run the demo into the folder named on the command line."""
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else "demo-output")
    begin = time.perf_counter()
    if folder.exists():
        if not (folder / MARKER).exists():
            sys.exit(f"{folder} exists and was not made by this demo; name another folder")
        shutil.rmtree(folder)
    folder.mkdir(parents=True)
    (folder / MARKER).touch()
    simulation = Simulation(N_SAMPLES, N_SITES, seed=SEED, n_genes=N_GENES)
    print(f"Simulating {N_SAMPLES} samples with known truth as raw tables in {folder}/raw", flush=True)
    write_raw_tables(simulation, folder)

    sjd(folder, "init", "cohort")
    sjd(folder, "ingest", "cohort", "methylation", "raw/methylation__night1.tsv.gz", "--quantity", "beta",
        "--samples", "raw/methylation__night1.samples.csv", "--features", "raw/sites.csv")  # fmt: skip
    sjd(folder, "ingest", "cohort", "rnaseq", "raw/rnaseq__night1.tsv.gz", "--quantity", "counts")
    for output, design in (("ewas_without_cells", PLAIN), ("ewas_disease", CELLS)):
        run(folder, output, EWAS.format(design=design, output=output))
    run(folder, "expression", LAYER)

    print("\nGroups of patients, by the genes that tell them from healthy volunteers", flush=True)
    run(folder, "expression_disease", EXPRESSION.format(design=CELLS))
    run(folder, "groups", GROUPS)
    run(folder, "explain_groups", EXPLAIN)

    print("\nA classifier of these groups, judged over persons, frozen and put into production", flush=True)
    run(folder, "model", MODEL)
    sjd(folder, "models", "promote", "cohort", "blood_classes@1", "--why", "the demo's first model")
    run(folder, "classify", CLASSIFY)
    run(folder, "night", NIGHT)

    print("\nThe second night: new samples arrive in the inbox, and one is measured again", flush=True)
    for file in (folder / "raw").glob("*__night2*"):
        shutil.copy(file, folder / "inbox" / file.name)
    sjd(folder, "run", "night.yaml")
    sjd(folder, "run", "ewas_disease.yaml")
    run(folder, "expression_new_samples", FROZEN)
    print("\nThe clinic: scores with what missing items leave open, three axes, a trial by class", flush=True)
    sjd(folder, "score", "raw/clinic.csv", "clinic_scores.csv", "--measure", "essdai", "--measure", "esspri",
        "--measure", "acr-eular", "--measure", "star", "--measure", "axes")  # fmt: skip
    (folder / "trial.yaml").write_text(TRIAL, encoding="utf-8")
    sjd(folder, "trial", "trial.yaml")
    sjd(folder, "person", "raw/clinic.csv", "people.html", "--cohort", "cohort", "--calls", "calls")
    sjd(folder, "verify", "cohort")
    sjd(folder, "info", "cohort")
    sjd(folder, "report", "cohort", "associations/ewas_disease", "ewas_disease.html")
    sjd(folder, "report", "cohort", "layers/log_expression", "log_expression.html")
    sjd(folder, "report", "cohort", "strata/groups", "groups.html")
    sjd(folder, "report", "cohort", "explanations/groups", "explained_groups.html")
    sjd(folder, "report", "cohort", "models/blood_classes", "model_card.html")
    sjd(folder, "report", "cohort", "changes/calls", "night.html")
    print_recovery(simulation, folder)
    print_layer(simulation, folder)
    print_groups(folder)
    print_calls(folder)
    print_clinic(simulation, folder)
    print(f"\nReports: {', '.join(map(str, sorted(folder.rglob('*.html'))))}")
    print(f"Everything took {time.perf_counter() - begin:.0f} s.")


def sjd(folder: Path, *arguments: str) -> None:
    """Print and run one command in the folder; a failure ends the demo."""
    print(f"\n$ sjd {' '.join(arguments)}", flush=True)
    done = subprocess.run([sys.executable, "-m", "sjd_dask.cli", *arguments], cwd=folder, check=False)
    if done.returncode:
        sys.exit(f"`sjd {arguments[0]}` ended with exit code {done.returncode}")


def run(folder: Path, name: str, spec: str) -> None:
    """Write a spec and run it."""
    (folder / f"{name}.yaml").write_text(spec, encoding="utf-8")
    sjd(folder, "run", f"{name}.yaml")


def write_raw_tables(simulation: Simulation, folder: Path) -> None:
    """The tables as a core facility would send them: features in rows, samples in columns."""
    raw = folder / "raw"
    raw.mkdir()
    (folder / "inbox").mkdir()
    betas = simulation.block("methylation", 0, N_SAMPLES, 0, N_SITES)
    counts = simulation.block("rnaseq", 0, N_SAMPLES, 0, N_GENES)
    sites, genes = simulation.feature_ids("methylation"), simulation.feature_ids("rnaseq")
    ids, sheet = simulation.sample_ids, simulation.samples()
    simulation.features("methylation").to_csv(raw / "sites.csv", index=False)
    simulation.clinical_sheet().to_csv(raw / "clinic.csv")
    for night, rows in ((1, slice(0, FIRST_NIGHT)), (2, slice(FIRST_NIGHT - 1, N_SAMPLES))):
        values = betas[rows].copy()
        if night == 2:
            # The corrected sample: measured again, a little differently.
            values[0] = np.clip(values[0] + np.random.default_rng(SEED).normal(0, 0.01, N_SITES), 0, 1)
        _write_matrix(raw / f"methylation__night{night}.tsv.gz", values, sites, ids[rows], "%.5f")
        sheet.iloc[rows].to_csv(raw / f"methylation__night{night}.samples.csv")
    for night, rows in ((1, slice(0, FIRST_NIGHT)), (2, slice(FIRST_NIGHT, N_SAMPLES))):
        _write_matrix(raw / f"rnaseq__night{night}.tsv.gz", counts[rows], genes, ids[rows], "%d")


def _write_matrix(path: Path, values: np.ndarray, features: np.ndarray, samples: np.ndarray, form: str) -> None:
    table = pd.DataFrame(values.T, index=pd.Index(features, name=names.FEATURE_ID), columns=samples)
    table.to_csv(path, sep="\t", float_format=form, compression={"method": "gzip", "compresslevel": 1})


def print_recovery(simulation: Simulation, folder: Path) -> None:
    """What was planted, and how much of it the tests found."""
    truth = simulation.truth("methylation").set_index(names.FEATURE_ID)["effect_patient"]
    planted = truth.index[truth != 0]
    cohort = open_cohort(folder / "cohort")
    print(f"\nPlanted: {len(planted)} of {N_SITES:,} sites differ between patients and healthy volunteers.")
    for name in ("ewas_without_cells", "ewas_disease"):
        result = cohort.result(f"associations/{name}")
        table = result.to_pandas().set_index(names.FEATURE_ID)
        found = table.index[table["q_value"] < 0.05]
        true = found.intersection(planted)
        slope = np.polyfit(truth[planted], table.loc[planted, "effect"], 1)[0]
        (value,) = result.meta["lambdas"].values()
        print(
            f"Found by {result.ref}: {len(found)} sites at q < 0.05, {len(true)} of them planted "
            f"({len(true) / len(planted):.0%} of what was planted; {len(found) - len(true)} false); "
            f"estimated against planted effect: slope {slope:.2f}; lambda {value:.2f}."
        )


def print_layer(simulation: Simulation, folder: Path) -> None:
    """What batches explain before and after, and how near the new samples come to what was planted."""
    cohort = open_cohort(folder / "cohort")
    layer = cohort.layer("layers/log_expression")
    shares = cohort.result("qc/log_expression@1").table("factors").to_pandas().set_index(["factor", "stage"])["share"]
    told = ", ".join(
        f"{name} {shares[name, 'before']:.1%} before and {shares[name, 'after']:.1%} after"
        for name in ("batch", "disease")
    )
    print(f"\n{layer.ref}, fitted on the first {FIRST_NIGHT} samples. Share of a gene's variance explained by {told}.")
    ids = simulation.sample_ids[FIRST_NIGHT:]
    planted = simulation.true_expression(FIRST_NIGHT, N_SAMPLES)
    batches = simulation.true_batch_effects().loc[simulation.samples().loc[ids, "batch"]].to_numpy()
    counts = simulation.block("rnaseq", FIRST_NIGHT, N_SAMPLES, 0, N_GENES)
    plain = np.log2((counts + 0.5) / (counts.sum(axis=1, keepdims=True) + 1) * 1e6)
    kept = pd.Index(simulation.feature_ids("rnaseq")).get_indexer(layer.feature_ids())
    reader = layer.reader(ids)
    frozen = reader.columns(0, reader.n_features)[0]
    left, correlation = zip(
        *(_against(values, planted[:, kept], batches[:, kept]) for values in (plain[:, kept], frozen)), strict=True
    )
    print(
        f"The {len(ids)} samples of the second night, by those parameters, nothing fitted again: {left[1]:.0%} of the "
        f"planted batch effects is left (log counts per million: {left[0]:.0%}); correlation with planted expression "
        f"within genes {correlation[1]:.2f} ({correlation[0]:.2f})."
    )


def print_groups(folder: Path) -> None:
    """How near the groups come to the planted classes, at the chosen number and at the planted one."""
    cohort = open_cohort(folder / "cohort")
    result = cohort.result("strata/groups")
    table = result.to_pandas().set_index(names.SAMPLE_ID)
    labels = result.to_pandas("labels").set_index(names.SAMPLE_ID).loc[table.index]
    truth = cohort.samples().loc[table.index, "true_class"]
    planted, core = truth.nunique(), table["core"]
    found = adjusted_rand_index(table["stratum"], truth)
    print(
        f"\nPlanted: {planted} classes of {len(table)} patients. Found by {result.ref} from "
        f"{result.meta['features']['used']} genes: {result.meta['k']} groups, adjusted Rand index with the planted "
        f"classes {found:.2f} ({adjusted_rand_index(labels[f'k{planted}'], truth):.2f} at {planted} groups); "
        f"{core.sum()} core samples. {result.meta['reason']}"
    )
    explained = cohort.result("explanations/groups")
    shares = explained.to_pandas("shares").dropna(subset="share")
    shares = shares[shares["beyond"] == ""].set_index("what")
    told = (f"{what} {row['share']:.0%} (by chance up to {row['chance_95']:.0%})" for what, row in shares.iterrows())
    print(f"How much of the grouping each of these alone would explain, by {explained.ref}: {', '.join(told)}.")


def print_calls(folder: Path) -> None:
    """How well persons whom the model had not seen were classified, and what the second night changed."""
    cohort = open_cohort(folder / "cohort")
    model = cohort.result("models/blood_classes")
    metrics = model.to_pandas("metrics").query("`class`.isna() or `class` == ''").set_index(["of", "metric"])

    def told(of: str, metric: str) -> str:
        one = metrics.loc[(of, metric)]
        return f"{one['value']:.0%} ({one['low']:.0%} to {one['high']:.0%})"

    facts = model.meta
    print(
        f"\n{model.ref}: {facts['n_panel']} genes, {len(facts['classes'])} classes. Of {facts['n_persons']} persons, "
        f"held out with normalisation, groups and panel made without them, {told('all', 'accuracy')} get the class of "
        f"the full grouping, of its core {told('core', 'accuracy')}; {told('all', 'called')} are called, and the set "
        f"of classes holds the one of {told('all', 'coverage')}, where {facts['recipe']['coverage']:.0%} were asked."
    )
    calls, changes = cohort.result("classes/calls").to_pandas(), cohort.result("changes/calls").to_pandas()
    new = calls[calls["sample_id"].isin(changes["sample_id"])]
    statuses = ", ".join(f"{count} {status}" for status, count in new["status"].value_counts().items())
    reasons = ", ".join(f"{count} {reason}" for reason, count in changes["reason"].value_counts().items())
    print(f"The second night: {reasons}; status of these samples: {statuses}. Why: {folder}/night.html")


def print_clinic(simulation: Simulation, folder: Path) -> None:
    """The scores of a sheet with holes, against those of the sheet without."""
    found = pd.read_csv(folder / "clinic_scores.csv", dtype={names.SAMPLE_ID: str}).set_index(names.SAMPLE_ID)
    truth = simulation.samples().loc[found.index, "essdai"]
    inside = found["essdai_min"].le(truth) & found["essdai_max"].ge(truth)
    known = found["essdai"].notna()
    exact = (found["essdai"] == truth)[known].sum()
    dominant = ", ".join(f"{one} {n}" for one, n in found["dominant"].fillna("open").value_counts().items())
    print(
        f"clinic_scores.csv: ESSDAI of {known.sum()} of {len(found)} visits, {exact} of them as planted; with what "
        f"missing domains leave open, the planted score is held in {inside.sum()} of {len(found)}. Dominant axis: "
        f"{dominant}."
    )


def _against(values: np.ndarray, planted: np.ndarray, batches: np.ndarray) -> tuple[float, float]:
    """Slope on the planted batch effects, and the median correlation of a gene with what was planted."""

    def centred(table: np.ndarray) -> np.ndarray:
        table = table - table.mean(axis=0)
        return table - table.mean(axis=1, keepdims=True)

    x, y, b = centred(values), centred(planted), centred(batches)
    slope = ((x - y) * b).sum() / (b * b).sum()
    return float(slope), float(np.median((x * y).sum(axis=0) / np.sqrt((x**2).sum(axis=0) * (y**2).sum(axis=0))))


if __name__ == "__main__":
    main()
