"""Paired timings of the whole way, from compressed Zarr on disk to a Parquet table, beside a bare loop and limma.

python benchmarks/run.py FOLDER [--parts main,missing,wide] [--repeat 5] [--features 850000 --samples 600]

Workers are up and the machine code is compiled before a timing starts; the store is read from the page cache on all
sides. Each repetition runs ours and the bare loop one after the other, so their ratio holds on a noisy machine. R takes
part where Rscript and limma are found. The table goes to FOLDER/table.md.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

# Settings made for old BLAS builds slow a current NumPy; they must be gone before it is loaded here or in a worker.
for _name in ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE"):
    os.environ.pop(_name, None)
os.environ.setdefault("DASK_LOGGING__DISTRIBUTED", "warning")

HERE = Path(__file__).parent
DESIGN = "~ disease + age + sex + CD4T + CD8T + Bcell + NK + batch"
SGKIT_BEST = 2.4e6  # cells per second per core, sgkit issue 448


def main() -> None:
    """Run the chosen parts and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--parts", default="main,missing,wide")
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--features", type=int, default=850_000)
    parser.add_argument("--samples", type=int, default=600)
    parser.add_argument("--wide-features", type=int, default=100_000)
    parser.add_argument("--wide-samples", type=int, default=20_000)
    parser.add_argument("--without-limma", action="store_true")
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    rows: list[dict[str, Any]] = []
    parts = options.parts.split(",")
    n_cores = len(os.sched_getaffinity(0))
    with _cluster() as cluster:
        if "main" in parts:
            cohort = _cohort(options.folder, "main", options.samples, options.features, 0.0)
            rows += _paired(cluster, cohort, options, bare=True)
        if "missing" in parts:
            cohort = _cohort(options.folder, "missing", options.samples, options.features, 0.01)
            rows += _paired(cluster, cohort, options, bare=False, label="1 % missing")
        if "wide" in parts:
            cohort = _cohort(options.folder, "wide", options.wide_samples, options.wide_features, 0.0)
            rows += _paired(cluster, cohort, options, bare=False, label="many samples")
    if "main" in parts and not options.without_limma:
        rows += _limma(options.features, options.samples, 0.0)
    text = _table(rows, n_cores)
    (options.folder / "table.md").write_text(text, encoding="utf-8")
    (options.folder / "rows.json").write_text(json.dumps(rows, indent=1), encoding="utf-8")
    print(text)


@contextmanager
def _cluster() -> Iterator[Any]:
    from sjd_dask.runtime.cluster import open_cluster

    with open_cluster("local") as cluster:
        yield cluster


def _cohort(folder: Path, name: str, n_samples: int, n_features: int, missing: float) -> Path:
    """The simulated cohort of this size, made once."""
    from sjd_dask.jobs.simulate import simulate_cohort

    path = folder / f"{name}_{n_samples}x{n_features}"
    if not (path / "made").exists():
        shutil.rmtree(path, ignore_errors=True)
        begin = time.perf_counter()
        simulate_cohort(str(path), n_samples=n_samples, n_features=n_features, seed=1, missing_share=missing)
        (path / "made").touch()
        print(f"made {path} in {time.perf_counter() - begin:.0f} s", file=sys.stderr)
    return path


def _run(cluster: Any, cohort: Path, precision: str, tag: str) -> tuple[float, int]:
    """Seconds of one whole run, from reading the spec to the published table, and the peak memory of a worker."""
    from sjd_dask.jobs.driver import run_spec
    from sjd_dask.jobs.spec import parse_spec

    spec = parse_spec(
        {
            "job": "associate",
            "cohort": str(cohort.resolve()),
            "assay": "methylation",
            "quantity": "m_value",
            "design": DESIGN,
            "contrasts": ["disease[T.patient]"],
            "precision": precision,
            "output": f"bench_{tag}",
        },
        "bench",
    )
    begin = time.perf_counter()
    outcome = run_spec(spec, Path(), cluster=cluster, quiet=True)
    seconds = time.perf_counter() - begin
    if outcome.state != "published":
        raise RuntimeError("the run was a no-op; its name is not new")
    return seconds, int(outcome.cohort.result(outcome.results[0]).meta["run"]["peak_rss"])


def _paired(cluster: Any, cohort: Path, options: Any, *, bare: bool, label: str = "") -> list[dict[str, Any]]:
    """Ours in both precisions, each beside the bare loop of the same precision."""
    from sjd_dask.store.cohort import open_cohort

    assay = open_cohort(cohort).assay("methylation")
    cells = assay.n_samples * assay.n_features
    stamp = f"{time.time_ns()}"
    rows = []
    for precision in ("double", "single"):
        ours: list[float] = []
        theirs: list[float] = []
        peak = 0
        for i in range(options.repeat + 1):
            seconds, rss = _run(cluster, cohort, precision, f"{stamp}_{precision}_{i}")
            beside = _bare_loop(cohort, precision) if bare else float("nan")
            if i:  # the first is the warm-up
                ours.append(seconds)
                theirs.append(beside)
                peak = max(peak, rss)
        rows.append(_row(f"sjd {precision}" + (f", {label}" if label else ""), ours, cells, peak))
        if bare:
            rows[-1]["ratio_to_bare_loop"] = statistics.median(a / b for a, b in zip(ours, theirs, strict=True))
            rows.append(_row(f"bare loop {precision}", theirs, cells, 0))
    for row in rows:
        row["size"] = f"{assay.n_features:,} x {assay.n_samples:,}"
    return rows


def _row(name: str, seconds: list[float], cells: int, peak: int) -> dict[str, Any]:
    return {
        "name": name,
        "seconds": statistics.median(seconds),
        "lowest": min(seconds),
        "highest": max(seconds),
        "cells_per_second": cells / statistics.median(seconds),
        "peak_rss": peak,
    }


def _bare_loop(cohort: Path, precision: str) -> float:
    """Seconds of the bare loop over the same store, its two processes being up."""
    sys.path.insert(0, str(HERE))
    import bare_loop

    # Dask leaves its own setting in this process's environment; the loop's processes must not inherit it, it costs them
    # page faults.
    os.environ.pop("MALLOC_TRIM_THRESHOLD_", None)
    (segment,) = sorted((cohort / "segments" / "methylation").glob("*.zarr"))
    return float(bare_loop.run(str(segment), precision=precision, columns=11)["seconds"])


def _limma(features: int, samples: int, missing: float) -> list[dict[str, Any]]:
    """limma on a matrix of the same size, in the faster of two chunk sizes."""
    if shutil.which("Rscript") is None:
        print("Rscript is not found: limma left out", file=sys.stderr)
        return []
    best: dict[str, Any] | None = None
    for chunk in (20_000, 50_000):
        arguments = ["Rscript", str(HERE / "limma.R"), *map(str, (features, samples, 11, chunk, missing))]
        done = subprocess.run(arguments, capture_output=True, text=True, check=False)
        if done.returncode:
            print(f"limma left out: {done.stderr.strip()[-300:]}", file=sys.stderr)
            return []
        found = json.loads(done.stdout.strip().splitlines()[-1])
        if best is None or found["seconds"] < best["seconds"]:
            best = found
    assert best is not None
    row = _row(
        f"limma {best['limma']}, chunks of {best['chunk']:,}, loading left out",
        [best["seconds"]],
        features * samples,
        0,
    )
    return [{**row, "size": f"{features:,} x {samples:,}"}]


def _table(rows: list[dict[str, Any]], n_cores: int) -> str:
    limma = next((row["seconds"] for row in rows if row["name"].startswith("limma")), None)
    lines = [
        "| what | features x samples | seconds, median (lowest-highest) | million cells/s/core | beside the bare loop "
        "| times faster than limma | peak MB a worker |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        cores = 1 if row["name"].startswith("limma") else n_cores
        ratio = f"{row['ratio_to_bare_loop']:.2f}" if "ratio_to_bare_loop" in row else ""
        same = (
            limma is not None and row["name"].split(",")[0] in ("sjd double", "sjd single") and "," not in row["name"]
        )
        faster = f"{limma / row['seconds']:.1f}" if same and limma is not None else ""
        peak = f"{row['peak_rss'] / 1e6:.0f}" if row["peak_rss"] else ""
        lines.append(
            f"| {row['name']} | {row['size']} | {row['seconds']:.2f} ({row['lowest']:.2f}-{row['highest']:.2f}) | "
            f"{row['cells_per_second'] / 1e6 / cores:.1f} | {ratio} | {faster} | {peak} |"
        )
    lines.append("")
    lines.append(
        f"{n_cores} cores. sgkit's published best is {SGKIT_BEST / 1e6:.1f} million cells/s/core (its issue 448)."
    )
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
