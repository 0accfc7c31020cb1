"""Paired timings of normalisation: the whole job, from the stored matrix to the published layer, beside R in memory.

python benchmarks/normalise.py FOLDER [--parts combat,quantile,memory] [--repeat 3] [--without-r]

Workers are up and the machine code is compiled before a timing starts. Each repetition runs ours and R one after the
other. R's time is that of the call alone: its matrix is in memory, and it writes nothing; ours reads and writes, and
makes the quality table. The table goes to FOLDER/normalise.md.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

for _name in ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE"):
    os.environ.pop(_name, None)
os.environ.setdefault("DASK_LOGGING__DISTRIBUTED", "warning")

import numpy as np  # noqa: E402
import pandas as pd  # noqa: E402

HERE = Path(__file__).parent
BATCHES = 6
SIZES = {"combat": (100_000, 600), "quantile": (212_500, 600)}
QUANTITIES = {"combat": "expression", "quantile": "beta"}
STEPS: dict[str, list[Any]] = {
    "combat": [{"method": "combat", "batch": "batch", "covariates": "~ group"}],
    "quantile": [{"method": "quantile", "ties": "preprocesscore"}],
}


def main() -> None:
    """Run the chosen parts and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--parts", default="combat,quantile,memory")
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--without-r", action="store_true")
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    from sjd_dask.runtime.cluster import open_cluster

    lines = [
        "| what | features x samples | ours, s (lowest-highest) | R, s (lowest-highest) | times faster | "
        "peak MB a worker | first values, ours and R |",
        "|---|---|---|---|---|---|---|",
    ]
    with open_cluster("local") as cluster:
        for part in options.parts.split(","):
            if part == "memory":
                lines += [_memory(cluster, options.folder, n) for n in (600, 2400)]
            else:
                lines.append(_paired(cluster, options.folder, part, options.repeat, not options.without_r))
            print(lines[-1], file=sys.stderr)
    text = "\n".join([*lines, "", f"{len(os.sched_getaffinity(0))} cores."]) + "\n"
    (options.folder / "normalise.md").write_text(text, encoding="utf-8")
    print(text)


def _cohort(folder: Path, part: str, features: int, samples: int, keep_raw: bool = True) -> tuple[Path, Path]:
    """The simulated cohort and its matrix as plain doubles, made once."""
    from sjd_dask.store.cohort import create_cohort, open_cohort
    from sjd_dask.store.ingest.pipeline import ingest

    path, raw = folder / f"{part}_{samples}x{features}", folder / f"{part}_{samples}x{features}.bin"
    if (path / "made").exists():
        return path, raw
    shutil.rmtree(path, ignore_errors=True)
    draw = np.random.default_rng(11)
    # A column of one batch after the other, as R's script takes them: batch = (i + 1) modulo 6, groups of six.
    numbers = np.arange(1, samples + 1)
    sheet = pd.DataFrame(
        {
            "sample_id": [f"s{i:05d}" for i in numbers],
            "batch": [f"b{i % BATCHES}" for i in numbers],
            "group": [f"g{(i - 1) // BATCHES % 2}" for i in numbers],
        }
    )
    values = draw.beta(2, 3, (samples, features)) if part == "quantile" else draw.normal(7, 1, (samples, features))
    if part == "combat":
        for b in range(BATCHES):
            values[sheet["batch"] == f"b{b}"] += draw.normal(0, 0.5, features)
    create_cohort(str(path))
    npz = folder / "matrix.npz"
    np.savez(npz, values=values, samples=sheet["sample_id"].to_numpy(str),
             features=np.array([f"f{i}" for i in range(features)]))  # fmt: skip
    sheet.to_csv(folder / "sheet.csv", index=False)
    dtype = "float64" if part == "quantile" else None
    ingest(open_cohort(path), part, npz, quantity=QUANTITIES[part], samples=folder / "sheet.csv", dtype=dtype)
    npz.unlink()
    if keep_raw:
        values.tofile(raw)
    (path / "made").touch()
    return path, raw


def _run(cluster: Any, cohort: Path, part: str) -> tuple[float, int, float]:
    """Seconds of one whole job, the peak memory of a worker, and the mean of the first 100 features."""
    from sjd_dask.jobs.driver import run_spec
    from sjd_dask.jobs.spec import parse_spec
    from sjd_dask.store.cohort import open_cohort

    spec = parse_spec(
        {"job": "normalise", "cohort": str(cohort.resolve()), "assay": part, "steps": STEPS[part],
         "output": f"bench_{time.time_ns()}"},
        "bench",
    )  # fmt: skip
    begin = time.perf_counter()
    outcome = run_spec(spec, Path(), cluster=cluster, quiet=True)
    seconds = time.perf_counter() - begin
    opened = open_cohort(cohort)
    peak = int(opened.result(outcome.results[1]).meta["run"]["peak_rss"])
    values, _ = opened.layer(outcome.results[0]).reader().columns(0, 100)
    return seconds, peak, float(values.mean())


def _r(part: str, raw: Path, features: int, samples: int) -> tuple[float, str, float] | None:
    if shutil.which("Rscript") is None:
        print("Rscript is not found: R left out", file=sys.stderr)
        return None

    def larger_stack() -> None:
        resource.setrlimit(resource.RLIMIT_STACK, (1 << 30, resource.RLIM_INFINITY))

    arguments = ["Rscript", str(HERE / "normalise.R"), part, str(raw), *map(str, (features, samples, BATCHES))]
    done = subprocess.run(
        arguments, capture_output=True, text=True, check=False, preexec_fn=larger_stack,
        env={**os.environ, "R_THREADS": "1"},
    )  # fmt: skip
    if done.returncode:
        print(f"R left out: {done.stderr.strip()[-300:]}", file=sys.stderr)
        return None
    found = json.loads(done.stdout.strip().splitlines()[-1])
    return found["seconds"], found["version"], found["check"]


def _paired(cluster: Any, folder: Path, part: str, repeat: int, with_r: bool) -> str:
    features, samples = SIZES[part]
    cohort, raw = _cohort(folder, part, features, samples)
    ours: list[float] = []
    theirs: list[float] = []
    peak, version, checks = 0, "", ["", ""]
    for i in range(repeat + 1):
        seconds, rss, check = _run(cluster, cohort, part)
        other = _r(part, raw, features, samples) if with_r and i else None
        if not i:
            continue  # the warm-up
        ours.append(seconds)
        peak, checks[0] = max(peak, rss), f"{check:.10f}"
        if other is not None:
            theirs.append(other[0])
            version, checks[1] = other[1], f"{other[2]:.10f}"
    ratio = f"{statistics.median(b / a for a, b in zip(ours, theirs, strict=True)):.1f}" if theirs else ""
    return (
        f"| {part} | {features:,} x {samples:,} | {_spread(ours)} | "
        f"{_spread(theirs) + ' (' + version + ')' if theirs else ''} | {ratio} | {peak / 1e6:.0f} | "
        f"{checks[0]}, {checks[1]} |"
    )


def _memory(cluster: Any, folder: Path, samples: int) -> str:
    """The same job with four times the samples: memory must stay."""
    cohort, _ = _cohort(folder, "combat", 50_000, samples, keep_raw=False)
    _run(cluster, cohort, "combat")
    seconds, peak, _ = _run(cluster, cohort, "combat")
    return f"| combat, memory | 50,000 x {samples:,} | {seconds:.2f} | | | {peak / 1e6:.0f} | |"


def _spread(seconds: list[float]) -> str:
    return f"{statistics.median(seconds):.2f} ({min(seconds):.2f}-{max(seconds):.2f})"


if __name__ == "__main__":
    main()
