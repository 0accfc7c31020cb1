"""Reclassification of a whole cohort beside a bare read of the chunks that it needs, and scikit-learn in memory.

python benchmarks/classify.py FOLDER [--samples 50000,500000] [--features 20000] [--panel 300] [--repeat 5] [--here]

The cohort holds float32 expression in segments of 2,500 samples; a model of one panel is in production. Each
repetition opens the assay and reads the chunks bare, then runs `job: classify` from its spec to the published tables,
both on the same workers and with the same pages in memory. With --here all runs in this process, and seconds are those
of the processor: on a machine that does other things too, only they can be compared. scikit-learn's predict_proba has
the panel of all samples in memory, already standardised; it neither reads, nor calibrates, nor looks for outliers. The
table goes to FOLDER/classify.md.
"""

from __future__ import annotations

import argparse
import functools
import os
import resource
import shutil
import statistics
import sys
import time
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

os.environ.setdefault("DASK_LOGGING__DISTRIBUTED", "warning")

import numpy as np
import pandas as pd
import pyarrow as pa

SEGMENT, TRAINED, N_CLASSES = 2500, 600, 3
# What a classifier can be made of: a cross-section of the features is enough to find a panel.
LOOKED_AT = 3000


def main(arguments: list[str] | None = None) -> list[dict[str, Any]]:
    """Measure, write the table, and give its rows."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--samples", default="50000")
    parser.add_argument("--features", type=int, default=20_000)
    parser.add_argument("--panel", type=int, default=300)
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--here", action="store_true")
    options = parser.parse_args(arguments)
    options.folder.mkdir(parents=True, exist_ok=True)
    from sjd_dask.runtime.cluster import open_cluster
    from sjd_dask.runtime.here import Here

    rows = []
    opened = nullcontext(Here()) if options.here else open_cluster("local")
    with opened as cluster:
        for n in (int(one) for one in options.samples.split(",")):
            path = make_cohort(options.folder, n, options.features, options.panel)
            rows.append(measure(cluster, path, options.repeat, options.here))
            print(rows[-1], file=sys.stderr)
    text = table(rows, options.here)
    (options.folder / "classify.md").write_text(text, encoding="utf-8")
    print(text)
    return rows


def make_cohort(folder: Path, n: int, p: int, panel: int) -> Path:
    """A cohort of n samples with a model in production, made once."""
    from sjd_dask.store.cohort import create_cohort, open_cohort
    from sjd_dask.store.ingest.pipeline import ingest

    path = folder / f"classify_{n}x{p}"
    if (path / "made").exists():
        return path
    shutil.rmtree(path, ignore_errors=True)
    create_cohort(path)
    for start in range(0, n, SEGMENT):
        rows = np.arange(start, min(n, start + SEGMENT))
        npz = folder / "part.npz"
        np.savez(npz, values=values_of(rows, p), samples=np.array([f"s{i:07d}" for i in rows]),
                 features=feature_ids(p))  # fmt: skip
        ingest(open_cohort(path), "rna", npz, quantity="expression")
        npz.unlink()
    publish_model(path, p, panel)
    (path / "made").touch()
    return path


def values_of(rows: np.ndarray, p: int) -> np.ndarray:
    """Expression of some samples, the same whatever others are drawn: three classes, a tenth of the features tell."""
    out = np.empty((len(rows), p), dtype=np.float32)
    level = np.random.default_rng(1).normal(7, 2, p)
    for i, row in enumerate(rows):
        out[i] = level + np.random.default_rng([2, int(row)]).normal(0, 1, p)
        k = int(row) % N_CLASSES
        out[i, np.arange(p) % 30 == k] += 0.8
    # Two decimals of a logarithm, as instruments give them.
    return np.round(out * 64) / 64


@functools.cache
def make_bundle(p: int, panel: int) -> Any:
    """A multinomial model of the first samples."""
    from sjd_dask.classify.fitting import fit_classifier
    from sjd_dask.classify.recipe import Recipe
    from sjd_dask.jobs.bundle import Bundle

    features, rows = feature_ids(p).astype(object), np.arange(TRAINED)
    at = np.unique(np.linspace(0, p - 1, min(p, LOOKED_AT)).astype(np.int64))
    ids = np.array([f"s{i:07d}" for i in rows], dtype=object)
    labels = np.array([f"C{i % N_CLASSES + 1}" for i in rows], dtype=object)
    recipe = Recipe(panel_method="none", prefilter=min(panel, len(at)), panel_size=panel, inner=3)
    values = values_of(rows, p)[:, at].astype(np.float64)
    fitted = fit_classifier(values, labels, ids, ids, features[at], recipe)
    platform = {
        "assay": "rna", "quantity": "expression", "scale": "expression", "scale_after": "expression", "n_features": p,
        "sample_columns": [],
    }  # fmt: skip
    return Bundle(None, fitted.classifier, platform, features)


def feature_ids(p: int) -> np.ndarray:
    """Ids of p features."""
    return np.array([f"g{j:06d}" for j in range(p)])


def publish_model(path: Path, p: int, panel: int) -> None:
    """The model in production."""
    from sjd_dask.store.cohort import open_cohort

    opened, bundle = open_cohort(path), make_bundle(p, panel)
    table = pa.table({"feature_id": list(bundle.classifier.panel)})
    result = opened.publish_model("bench", bundle.save(opened), {"table": table}, {})
    opened.promote("bench", result.version, why="a benchmark", who="benchmarks")


def read_bare(cluster: Any, path: Path) -> None:
    """Open the cohort and the assay, and read what the model needs of all samples, by the tasks of a scoring."""
    from sjd_dask.jobs import bundle as bundles
    from sjd_dask.jobs.score import make_work
    from sjd_dask.store.cohort import open_cohort

    cohort = open_cohort(path)
    assay = cohort.assay("rna")
    sheet = pd.DataFrame(index=assay.sample_ids())
    run_tasks(cluster, cohort, read_task, make_work(bundles.load(cohort, "bench"), assay, sheet))


def read_task(work: Any, partition: Any) -> dict[str, int]:
    """What a scoring task reads, and nothing else."""
    start, stop = partition.extras["samples"]
    reader = work.matrix.reader.subset(np.arange(start, stop))
    total = 0
    for one in work.stripes:
        for _, raw, _ in reader.row_blocks(one.start, one.stop, rows=work.read_rows, reuse=True):
            total += raw.nbytes
    return {"bytes": total}


def measure(cluster: Any, path: Path, repeat: int, here: bool) -> dict[str, Any]:
    """Seconds of a bare read, of the scoring tasks and of the whole job, and of scikit-learn in memory."""
    from sjd_dask.jobs import bundle as bundles
    from sjd_dask.jobs.score import make_work
    from sjd_dask.store.cohort import open_cohort

    cohort = open_cohort(path)
    bundle, assay = bundles.load(cohort, "bench"), cohort.assay("rna")
    work = make_work(bundle, assay, pd.DataFrame(index=assay.sample_ids()))
    clock = time.process_time if here else time.perf_counter
    bare, whole, peaks = [], [], []
    for turn in range(repeat + 1):
        begin = clock()
        read_bare(cluster, path)
        between = clock()
        facts = run_job(cluster, path)
        end = clock()
        if turn:  # the first one compiles and fills the cache
            bare.append(between - begin)
            whole.append(end - between)
            peaks.append(facts["peak_rss"])
    floor = sklearn_seconds(bundle, work.matrix.reader.n_samples, clock)
    return {
        "samples": work.matrix.reader.n_samples,
        "features": work.matrix.reader.n_features,
        "looked_at": len(bundle.classifier.features),
        "gigabytes": work.matrix.reader.n_samples * work.width * work.matrix.reader.dtype.itemsize / 1e9,
        "bare": statistics.median(bare),
        "job": statistics.median(whole),
        "ratio": statistics.median(b / a for a, b in zip(bare, whole, strict=True)),
        "sklearn": floor,
        "peak": max(peaks) / 1e6,
        "driver_peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3,
    }


def run_tasks(cluster: Any, cohort: Any, function: Any, work: Any) -> None:
    """The tasks of a scoring with another function, as a run of their own."""
    from sjd_dask.jobs.driver import Runner
    from sjd_dask.runtime.runs import open_run

    token = f"bench{time.time_ns()}"
    with open_run(cohort, token, {"job": "bench"}, "bench", "bench", snapshot=cohort.snapshot()) as session:
        list(Runner(cluster, session, 0).run(function, work, work.partitions()))
        session.finish([])


def run_job(cluster: Any, path: Path) -> dict[str, Any]:
    """One job from its spec to its published tables; what its run says of itself."""
    from sjd_dask.jobs.driver import run_spec
    from sjd_dask.jobs.spec import parse_spec

    spec = parse_spec(
        {"job": "classify", "cohort": str(path.resolve()), "model": "bench@production", "assay": "rna",
         "eligible": "all", "output": f"bench_{time.time_ns()}"},
        "bench",
    )  # fmt: skip
    outcome = run_spec(spec, Path(), cluster=cluster, quiet=True)
    found: dict[str, Any] = outcome.cohort.result(outcome.results[0]).meta["run"]
    return found


def sklearn_seconds(bundle: Any, n: int, clock: Callable[[], float]) -> float:
    """predict_proba of the fitted pipeline's model on the panel of n samples in memory."""
    model = bundle.classifier.pipeline()[-1]
    values = np.random.default_rng(3).normal(size=(n, bundle.classifier.n_panel))
    model.predict_proba(values[:1000])
    begin = clock()
    model.predict_proba(values)
    return clock() - begin


def table(rows: list[dict[str, Any]], here: bool) -> str:
    """The rows as Markdown."""
    lines = [
        "| samples x features | features looked at | read, GB | bare read, s | job, s | job / bare read | "
        "microseconds a sample | scikit-learn in memory, s | peak MB of a worker |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        lines.append(
            f"| {row['samples']:,} x {row['features']:,} | {row['looked_at']} | {row['gigabytes']:.2f} | "
            f"{row['bare']:.2f} | {row['job']:.2f} | {row['ratio']:.2f} | {1e6 * row['job'] / row['samples']:.0f} | "
            f"{row['sklearn']:.2f} | {row['peak']:.0f} |"
        )
    kind = "Processor seconds of one process." if here else f"{len(os.sched_getaffinity(0))} cores, wall clock."
    return "\n".join([*lines, "", f"{kind} Medians of the repetitions, both warm."]) + "\n"


if __name__ == "__main__":
    main()
