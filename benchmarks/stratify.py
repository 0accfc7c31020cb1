"""Paired timings of consensus clustering, whole processes: ours in a notebook's way, `sjd run`, ConsensusClusterPlus.

python benchmarks/stratify.py FOLDER [--features 1000] [--samples 500] [--resamples 500] [--repeat 3]
    [--algorithms hierarchical,kmeans] [--without-r] [--without-run]

k = 2 to 6. Each repetition starts one process after the other: `find_groups` on a matrix that it reads from a file;
`sjd run` on a cohort of the same matrix, with its own workers, publication and page; R, reading the same file. The
first repetition is a warm-up (machine code is compiled once for an installation) and doesn't count; R has none. Ours
judges k against data without groups besides, which R leaves to the reader. The table goes to FOLDER/stratify.md.
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
from pathlib import Path
from typing import Any

for _name in ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE"):
    os.environ.pop(_name, None)

HERE = Path(__file__).parent
SIZES = (2, 3, 4, 5, 6)
PLANTED = 5
PEERS = {"hierarchical": ("hc", "pearson"), "kmeans": ("km", "euclidean"), "pam": ("pam", "pearson")}
SPEC = """job: stratify
cohort: {cohort}
assay: expression
features: {{top: {features}}}
algorithms: [{algorithm}]
k: [2, 6]
resamples: {{n: {resamples}}}
output: bench
"""


def main(arguments: list[str] | None = None) -> list[dict[str, Any]]:
    """Run every algorithm in pairs, write the table, and give its rows."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--features", type=int, default=1000)
    parser.add_argument("--samples", type=int, default=500)
    parser.add_argument("--resamples", type=int, default=500)
    parser.add_argument("--algorithms", default="hierarchical,kmeans")
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--without-r", action="store_true")
    parser.add_argument("--without-run", action="store_true")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.one:
        _one(options)
        return []
    folder = options.folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    _matrix(folder, options)
    rows = [_paired(folder, options, name) for name in options.algorithms.split(",")]
    text = _table(rows, options)
    (folder / "stratify.md").write_text(text, encoding="utf-8")
    print(text)
    return rows


def _file(folder: Path, options: argparse.Namespace) -> Path:
    return folder / f"groups_{options.samples}x{options.features}.bin"


def _truth(n: int) -> list[int]:
    return [i * PLANTED // n for i in range(n)]


def _matrix(folder: Path, options: argparse.Namespace) -> None:
    """Five groups of one size beside noise, as doubles, sample after sample."""
    import numpy as np

    random = np.random.default_rng(1)
    n, p = options.samples, options.features
    centres = 0.4 * random.normal(size=(PLANTED, p))
    (random.normal(size=(n, p)) + centres[_truth(n)]).tofile(_file(folder, options))


def _one(options: argparse.Namespace) -> None:
    """What a notebook does, from the file to the groups. Runs in a process of its own."""
    import numpy as np
    import xarray as xr

    import sjd_dask as sjd

    values = np.fromfile(_file(options.folder, options)).reshape(options.samples, options.features)
    ids = [f"s{i:06}" for i in range(options.samples)]
    data = xr.DataArray(values, dims=("samples", "features"), coords={"sample_id": ("samples", ids)})
    begin = time.perf_counter()
    found = sjd.stratify.find_groups(data, algorithms=[options.one], k=(2, 6), resamples=options.resamples)
    seconds = time.perf_counter() - begin
    groups = ["".join(map(str, found.choice.groups[options.one, k])) for k in SIZES]
    print(json.dumps({"seconds": seconds, "groups": groups, "k": found.choice.k}))


def _timed(command: list[str]) -> tuple[float, float, str]:
    """Seconds on the clock, of processors (with all child processes that ended), and what was printed."""
    before, begin = os.times(), time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    seconds, after = time.perf_counter() - begin, os.times()
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}: {done.stderr.strip()[-500:]}")
    used = after.children_user + after.children_system - before.children_user - before.children_system
    return seconds, used, done.stdout


def _command(folder: Path, options: argparse.Namespace, algorithm: str) -> list[str]:
    """`sjd run` on a cohort that holds the matrix."""
    import numpy as np

    from sjd_dask.store.cohort import create_cohort
    from sjd_dask.store.ingest.pipeline import ingest

    cohort = folder / f"cohort_{algorithm}"
    shutil.rmtree(cohort, ignore_errors=True)
    values = np.fromfile(_file(folder, options)).reshape(options.samples, options.features)
    npz = folder / "matrix.npz"
    np.savez(npz, values=values, samples=[f"s{i:06}" for i in range(options.samples)],
             features=[f"f{i}" for i in range(options.features)])  # fmt: skip
    ingest(create_cohort(str(cohort)), "expression", npz, quantity="expression")
    npz.unlink()
    spec = folder / f"{algorithm}.yaml"
    spec.write_text(
        SPEC.format(cohort=cohort, features=options.features, algorithm=algorithm, resamples=options.resamples)
    )
    return [str(Path(sys.executable).parent / "sjd"), "run", str(spec), "--quiet"]


def _agreement(groups: str, other: Any) -> float:
    from sjd_dask.stratify.agreement import adjusted_rand_index

    return adjusted_rand_index(list(groups), list(other))


def _paired(folder: Path, options: argparse.Namespace, algorithm: str) -> dict[str, Any]:
    sizes = [f"--{name}={getattr(options, name)}" for name in ("features", "samples", "resamples")]
    ours = [sys.executable, str(HERE / "stratify.py"), str(folder), *sizes, "--one", algorithm]
    job = None if options.without_run else _command(folder, options, algorithm)
    theirs = None if options.without_r or shutil.which("Rscript") is None else [
        "Rscript", str(HERE / "consensus.R"), str(_file(folder, options)),
        *map(str, (options.features, options.samples, options.resamples)), *PEERS[algorithm],
    ]  # fmt: skip
    times: dict[str, list[tuple[float, float]]] = {"ours": [], "run": [], "R": []}
    row: dict[str, Any] = {"algorithm": algorithm, "version": ""}
    for i in range(options.repeat + 1):
        seconds, used, printed = _timed(ours)
        found = json.loads(printed)
        row |= {"k": found["k"], "truth": _agreement(found["groups"][PLANTED - 2], _truth(options.samples))}
        if i:
            times["ours"].append((seconds, used))
        if job is not None:
            seconds, used, _ = _timed([*job, "--set", f"output=bench{i}"])
            if i:
                times["run"].append((seconds, used))
        if theirs is not None and i:
            seconds, used, printed = _timed(theirs)
            peer = json.loads(printed.strip().splitlines()[-1])
            times["R"].append((seconds, used))
            row["version"] = peer["version"]
            row["agreement"] = [_agreement(a, b) for a, b in zip(found["groups"], peer["groups"], strict=True)]
    return row | {"times": times}


def _table(rows: list[dict[str, Any]], options: argparse.Namespace) -> str:
    lines = [
        f"{options.features:,} features x {options.samples:,} samples, {options.resamples} resamples, k = 2..6; whole "
        f"processes, {len(os.sched_getaffinity(0))} processors; load before: {os.getloadavg()[0]:.1f}.",
        "",
        "| algorithm | find_groups, s (lowest-highest) | its processors' s | sjd run, s | its processors' s | "
        "ConsensusClusterPlus, s | R / find_groups | R / sjd run | ARI with R, k = 2..6 | "
        f"ARI with {PLANTED} planted groups; k chosen |",
        "|" + "---|" * 10,
    ]
    for row in rows:
        times = row["times"]
        peer = f"{_spread(times['R'], 0)} ({row['version']})" if times["R"] else ""
        agreement = ", ".join(f"{one:.2f}" for one in row.get("agreement", []))
        lines.append(
            f"| {row['algorithm']} | {_spread(times['ours'], 0)} | {_spread(times['ours'], 1)} | "
            f"{_spread(times['run'], 0)} | {_spread(times['run'], 1)} | {peer} | {_ratio(times, 'ours')} | "
            f"{_ratio(times, 'run')} | {agreement} | {row['truth']:.3f}; {row['k']} |"
        )
    return "\n".join(lines) + "\n"


def _spread(times: list[tuple[float, float]], which: int) -> str:
    if not times:
        return ""
    one = [pair[which] for pair in times]
    return f"{statistics.median(one):.2f} ({min(one):.2f}-{max(one):.2f})"


def _ratio(times: dict[str, list[tuple[float, float]]], which: str) -> str:
    if not times["R"] or not times[which]:
        return ""
    return f"{statistics.median(b[0] / a[0] for a, b in zip(times[which], times['R'], strict=True)):.1f}"


if __name__ == "__main__":
    main()
