"""A night of new samples in a large cohort: the whole command, from the inbox to the published calls.

python benchmarks/night.py FOLDER [--samples 100000] [--features 20000] [--new 1000] [--nights 5]

The cohort is the one of benchmarks/classify.py. A first night classifies everybody; then each night brings new samples
as a file in the inbox, and one more run finds nothing to do. Every run is a process of its own, timed as a whole, with
the pages of the cohort wherever the system keeps them. The table goes to FOLDER/night.md.
"""

from __future__ import annotations

import argparse
import resource
import shutil
import statistics
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
from classify import feature_ids, make_cohort, values_of

SPEC = """\
job: nightly
cohort: {cohort}
model: bench@production
assay: rna
eligible: all
inbox: inbox
drift: {{batch: null}}
output: night
"""


def main(arguments: list[str] | None = None) -> list[dict[str, float]]:
    """Measure, write the table, and give its rows."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--samples", type=int, default=100_000)
    parser.add_argument("--features", type=int, default=20_000)
    parser.add_argument("--panel", type=int, default=300)
    parser.add_argument("--new", type=int, default=1000)
    parser.add_argument("--nights", type=int, default=5)
    options = parser.parse_args(arguments)
    options.folder.mkdir(parents=True, exist_ok=True)
    made = make_cohort(options.folder, options.samples, options.features, options.panel)
    home = options.folder / f"night_{time.time_ns()}"
    (home / "inbox").mkdir(parents=True)
    # Nights change the catalogue and add segments: the benchmark's cohort stays as it is.
    shutil.copytree(made, home / "cohort", copy_function=_link)
    (home / "night.yaml").write_text(SPEC.format(cohort="cohort"), encoding="utf-8")
    rows = [{"what": "first night, everybody", **run(home)}]
    nights = []
    for night in range(options.nights):
        first = options.samples + night * options.new
        arrive(home, np.arange(first, first + options.new), options.features)
        nights.append(run(home))
    rows.append(
        {
            "what": f"a night of {options.new:,} new, median of {options.nights}",
            "seconds": statistics.median(one["seconds"] for one in nights),
            "cpu": statistics.median(one["cpu"] for one in nights),
            "peak": max(one["peak"] for one in nights),
        }
    )
    rows.append({"what": "nothing to do", **run(home)})
    shutil.rmtree(home)
    text = table(rows, options.samples, options.features)
    (options.folder / "night.md").write_text(text, encoding="utf-8")
    print(text)
    return rows


def _link(source: str, target: str) -> None:
    """Segments never change, so they are linked; what changes is copied."""
    if ".zarr" in source:
        Path(target).hardlink_to(source)
    else:
        shutil.copy2(source, target)


def arrive(home: Path, rows: np.ndarray, p: int) -> None:
    """New samples as a file in the inbox."""
    ids = np.array([f"s{i:07d}" for i in rows])
    np.savez(home / "inbox" / f"rna__{ids[0]}.npz", values=values_of(rows, p), samples=ids, features=feature_ids(p))


def run(home: Path) -> dict[str, float]:
    """One night as a process: seconds, processor seconds and peak memory (MB) of it and its workers."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    begin = time.perf_counter()
    command = [sys.executable, "-m", "sjd_dask.cli", "run", str(home / "night.yaml"), "--quiet"]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    seconds = time.perf_counter() - begin
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {"seconds": seconds, "cpu": cpu, "peak": after.ru_maxrss / 1e3}


def table(rows: list[dict[str, float]], samples: int, features: int) -> str:
    """The rows as Markdown."""
    lines = [
        f"| in a cohort of {samples:,} x {features:,} | seconds | processor s | peak MB of the largest process |",
        "|---|---|---|---|",
        *(f"| {one['what']} | {one['seconds']:.1f} | {one['cpu']:.1f} | {one['peak']:.0f} |" for one in rows),
    ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
