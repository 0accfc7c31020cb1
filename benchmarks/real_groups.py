"""Groups of lupus patients from blood, through the commands of `sjd`: found, and explained.

    python benchmarks/real_groups.py FOLDER [--work WORK] [--output TABLES.md] [--resamples N]

FOLDER holds the reference data (default: the environment variable SJD_REFERENCE_DATA). In WORK a cohort is made of
GSE65391 (673 arrays: 618 of children with lupus over many visits, 55 of healthy children, 16 of them measured twice),
normalised, grouped in four ways and explained; what the explanations say is printed as tables. Pages are left in WORK.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from sjd_dask.store.cohort import open_cohort
from sjd_dask.stratify.agreement import adjusted_rand_index

DATA = Path("data") / "sle_wb_GSE65391_training"
# Genes of neutrophils, and of the granules of immature ones: general knowledge, for this page; the package has no such
# list, a user gives modules as a GMT file.
MODULES = {
    "neutrophil": "FCGR3B CSF3R CXCR2 CXCR1 MNDA FPR1 MMP25 S100A12 VNN2 SELL",
    "neutrophil granules": "CEACAM8 ELANE MPO DEFA4 LTF CAMP LCN2 BPI AZU1 MMP8",
    "plasma cell": "IGJ TNFRSF17 MZB1 TXNDC5 CD38 IGLL1",
    "T cell": "CD3D CD3E CD3G CD2 CD5 CD6 TRAT1 ITK",
}
INTERFERON = ("IFI44", "IFI44L", "IFIT1", "IFIT3", "MX1")
NUMBERS = [
    "age",
    "sledai",
    "alb",
    "c3",
    "c4",
    "esr",
    "hgb",
    "platelet_count",
    "wbc",
    "neutrophil_percent",
    "lymphocyte_percent",
    "monocyte_percent",
    "days_since_diagnosis",
]
DRUGS = ["hydroxychloroquine", "oral_steroids", "mycophenolate", "cyclophosphamide", "steroid_iv"]
ITEMS = ["renal", "low_complement", "increased_dna_binding", "arthritis", "new_rash"]
CELLS = ["neutrophil_percent", "lymphocyte_percent"]


def sample_sheet(root: Path) -> pd.DataFrame:
    """The columns used here, under plain names; "Not Applicable" and "Data Not Available" are missing."""
    raw = pd.read_csv(root / DATA / "phenotype.csv", index_col=0, dtype=str)
    raw = raw.replace(["Not Applicable", "Data Not Available"], np.nan)
    sheet = pd.DataFrame(
        {
            "person_id": raw["subject"],
            "visit": raw["visit"],
            "disease": raw["disease_state"],
            "batch": "batch " + raw["batch"],
            # The same blood, on one array or two.
            "specimen": raw["sample_source_name"],
            "sex": raw["sex"],
            "race": raw["race"],
            "nephritis": raw["nephritis_class_1"],
        }
    )
    for name in NUMBERS:
        sheet[name] = pd.to_numeric(raw[name])
    for name in DRUGS:
        sheet[name] = raw[f"{name}_category"].map({"0": "no", "1": "yes"})
    for name in ITEMS:
        sheet[name] = (raw[name] != "0").map({True: "yes", False: "no"}).where(raw[name].notna())
    return sheet.rename_axis("sample_id")


def sjd(work: Path, *arguments: str) -> str:
    """One command in the folder; its standard output."""
    done = subprocess.run(
        [sys.executable, "-m", "sjd_dask.cli", *arguments], cwd=work, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise RuntimeError(f"sjd {' '.join(arguments)} ended with {done.returncode}:\n{done.stderr}")
    return done.stdout


def run(work: Path, spec: dict[str, Any], *options: str) -> str:
    """Run a spec, and write its page."""
    name = f"{spec['job']}_{spec['output']}"
    (work / f"{name}.yaml").write_text(json.dumps({"cohort": "cohort", **spec}, indent=1), encoding="utf-8")
    return sjd(work, "run", f"{name}.yaml", "-q", "--report", f"{name}.html", *options).strip()


def bring(root: Path, work: Path) -> None:
    """Make the cohort."""
    sample_sheet(root).to_csv(work / "sheet.csv")
    features = pd.read_csv(root / DATA / "features.csv.gz").rename(columns={"feature": "feature_id"})
    matrix = root / DATA / "expression_log2x1000_int16.npz"
    features.to_csv(work / "features.csv", index=False)
    (work / "modules.gmt").write_text(
        "".join(f"{name}\tgeneral knowledge\t{genes.replace(' ', chr(9))}\n" for name, genes in MODULES.items()),
        encoding="utf-8",
    )
    sjd(work, "init", "cohort")
    stored = ("--quantity", "expression", "--scale", "1000", "--missing", "-32768", "--rows", "features")
    sheets = ("--samples", "sheet.csv", "--features", "features.csv")
    sjd(work, "ingest", "cohort", "expression", str(matrix), *stored, *sheets, "-q")


LAYER = {
    "job": "normalise", "assay": "expression", "factors": ["disease"], "output": "log_expression",
    "steps": [{"method": "combat", "batch": "batch", "covariates": "~ disease"}],
}  # fmt: skip
VERSUS = {
    "job": "associate", "layer": "layers/log_expression", "design": "~ disease + sex", "contrasts": ["disease[T.SLE]"],
    "output": "lupus",
}  # fmt: skip
# Genes that differ between patients and the healthy by a factor of two: no score, no list of interferon genes.
TELLING = {"association": "associations/lupus", "max_q": 0.01, "min_effect": 1}
STRATIFY = {
    "job": "stratify", "layer": "layers/log_expression", "features": TELLING, "samples": "disease == 'SLE'",
    "k": [1, 6], "seed": 1,
}  # fmt: skip
EXPLAIN = {
    "job": "explain", "layer": "layers/log_expression", "healthy": "disease == 'Healthy'", "covariates": "~ sex + age",
    "modules": "modules.gmt", "clinical": [*ITEMS, "sledai", "c3", "c4", "esr", "hgb", "nephritis", "race", "age"],
    "composition": CELLS, "batch": "batch", "sex": "sex", "drugs": DRUGS, "person": "person_id", "visit": "visit",
    "specimen": "specimen",
}  # fmt: skip


def groupings(work: Path, resamples: int) -> dict[str, float]:
    """The four groupings; seconds of each."""
    features = pd.read_csv(work / "features.csv")
    scored = set(features.loc[features["gene_symbol"].isin(INTERFERON), "feature_id"])
    seconds = {}

    def group(name: str, **keys: Any) -> None:
        begin = time.perf_counter()
        run(work, {**STRATIFY, "resamples": {"n": resamples}, "output": name, **keys})
        seconds[name] = time.perf_counter() - begin

    group("telling")
    chosen = open_cohort(work / "cohort").result("strata/telling").to_pandas("features")["feature_id"]
    (work / "without.txt").write_text("\n".join(one for one in chosen if one not in scored), encoding="utf-8")
    k = int(open_cohort(work / "cohort").result("strata/telling").meta["k"])
    group("without_score", features={"list": "without.txt"}, choose_k=k)
    group("everyone", samples="specimen.notna()")
    group("variable", features={"top": 1000, "by": "mad"}, choose_k=2)
    return seconds


# -- what is printed --------------------------------------------------------------------------------------------------


def lines(work: Path) -> list[str]:
    """Tables of the explanations."""
    cohort = open_cohort(work / "cohort")
    strata = {name: cohort.result(f"strata/{name}") for name in ("telling", "without_score", "everyone", "variable")}
    labels = {name: one.to_pandas().set_index("sample_id")["stratum"] for name, one in strata.items()}
    found = {name: cohort.result(f"explanations/{name}") for name in ("telling", "everyone", "variable")}
    text = ["### Groups", "", "| grouping | features | k | sizes | core | reason |", "|---|---|---|---|---|---|"]
    for name, one in strata.items():
        sizes = ", ".join(f"{k} {v}" for k, v in sorted(one.meta["sizes"].items()))
        text.append(
            f"| {name} | {one.meta['features']['used']} | {one.meta['k']} ({one.meta['chosen']}) | {sizes} | "
            f"{one.meta['n_core']} | {one.meta['reason']} |"
        )
    ari = adjusted_rand_index(labels["telling"], labels["without_score"])
    text += ["", f"ARI of *telling* and *without_score*: {ari:.3f}."]
    for name, one in found.items():
        text += ["", f"### {name}", "", *group_rows(one), "", *share_rows(one), "", *stability_rows(one)]
    return text


def row(*cells: Any) -> str:
    """A row of a table."""
    return f"| {' | '.join(map(str, cells))} |"


def group_rows(result: Any) -> list[str]:
    """Modules and clinic by group."""
    modules, clinic = result.to_pandas("modules"), result.to_pandas("clinical_groups")
    tests = result.to_pandas("clinical").set_index("column")
    groups = sorted(modules["group"].unique())
    rows = [row("", *groups, ""), f"|---|{'---|' * len(groups)}---|"]
    for name in dict.fromkeys(modules["module"]):
        own = modules[modules["module"] == name].drop_duplicates("group").set_index("group").loc[groups]
        high = ", ".join(f"{100 * one:.0f}" for one in own["share_high"])
        rows.append(row(f"{name}, mean", *(f"{one:.2f}" for one in own["mean"]), f"high: {high} %"))
    for name in ("sledai", "neutrophil_percent", "lymphocyte_percent", "c3", "esr", "hgb"):
        medians = clinic[clinic["column"] == name].set_index("group").loc[groups, "median"]
        test = f"ε² {tests.loc[name, 'effect']:.2f}, q {tests.loc[name, 'q_value']:.2g}"
        rows.append(row(f"{name}, median", *(f"{one:.3g}" for one in medians), test))
    for name in ("increased_dna_binding", "renal", "mycophenolate", "steroid_iv"):
        own = clinic[(clinic["column"] == name) & (clinic["level"] == "yes")].set_index("group")
        test = f"V {tests.loc[name, 'effect']:.2f}, q {tests.loc[name, 'q_value']:.2g}"
        rows.append(row(f"{name}, %", *(f"{100 * one:.0f}" for one in own.loc[groups, "share"]), test))
    return rows


def share_rows(result: Any) -> list[str]:
    """What else explains the groups."""
    rows = [row("explained by", "beyond", "share, %", "95 % of chance", "p"), "|---|---|---|---|---|"]
    for r in result.to_pandas("shares").to_dict("records"):
        shares = (f"{100 * r['share']:.1f}", f"{100 * r['chance_95']:.1f}", f"{r['p_value']:.2g}")
        rows.append(row(r["what"], r["beyond"], *shares))
    return rows


def stability_rows(result: Any) -> list[str]:
    """Replicates and visits."""
    titles = ("pairs of", "units", "in one group, %", "chance, %", "kappa", "p", "p within kind")
    rows = [row(*titles), f"|{'---|' * len(titles)}"]
    for r in result.to_pandas("stability").to_dict("records"):
        percent = (f"{100 * r['agreement']:.1f}", f"{100 * r['chance']:.1f}")
        p = (f"{r['kappa']:.2f}", f"{r['p_value']:.2g}", f"{r['p_value_within_kind']:.2g}")
        rows.append(row(r["what"], r["n_units"], *percent, *p))
    return rows


def main() -> None:
    """Run it all."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", nargs="?", default=os.environ.get("SJD_REFERENCE_DATA"))
    parser.add_argument("--work", type=Path)
    parser.add_argument("--output", type=Path)
    parser.add_argument("--resamples", type=int, default=100)
    options = parser.parse_args()
    if not options.folder or not (Path(options.folder) / DATA).is_dir():
        sys.exit("name the folder of reference data, or set SJD_REFERENCE_DATA")
    work = options.work or Path(tempfile.mkdtemp(prefix="real_groups_"))
    work.mkdir(parents=True, exist_ok=True)
    bring(Path(options.folder), work)
    run(work, LAYER)
    run(work, VERSUS)
    seconds = groupings(work, options.resamples)
    for name in ("telling", "everyone", "variable"):
        begin = time.perf_counter()
        compare = ["disease"] if name == "everyone" else ["strata/without_score"] if name == "telling" else []
        run(work, {**EXPLAIN, "strata": f"strata/{name}", "output": name, "compare": compare})
        seconds[f"explain {name}"] = time.perf_counter() - begin
    text = lines(work)
    text += ["", "Seconds: " + ", ".join(f"{name} {one:.0f}" for name, one in seconds.items()) + "."]
    print("\n".join(text))
    print(f"\nPages: {work}", file=sys.stderr)
    if options.output:
        options.output.write_text("\n".join(text) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
