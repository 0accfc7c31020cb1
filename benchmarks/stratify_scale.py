"""What landmark consensus costs against the number of samples: `sjd run` as a whole process, and its memory.

python benchmarks/stratify_scale.py FOLDER [--samples 25000,50000,100000] [--features 2000] [--resamples 100]
    [--landmarks 2000] [--workers 2]

Four planted classes (33, 25, 29, 13 %) beside three continuous factors, expression as float32. CPU seconds are of the
driver, the scheduler and all workers; on a machine with other work they say more than wall seconds. The exponent is the
slope of log(CPU) against log(samples) by least squares; since the landmarks cost the same whatever the samples, what
10,000 more samples cost is given too, from one size to the next: it would grow if the cost were more than linear. The
table goes to FOLDER/stratify_scale.md.
"""

from __future__ import annotations

import argparse
import os
import resource
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

for _name in ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE"):
    os.environ.pop(_name, None)

import numpy as np  # noqa: E402
import pandas as pd  # noqa: E402

from sjd_dask.store.cohort import create_cohort, open_cohort  # noqa: E402
from sjd_dask.store.features import FeatureSpace  # noqa: E402
from sjd_dask.store.hashing import RowHasher  # noqa: E402
from sjd_dask.store.layout import encoding_for  # noqa: E402
from sjd_dask.store.segment import SegmentWriter, new_segment_id  # noqa: E402

SHARES = (0.33, 0.25, 0.29, 0.13)
ROWS = 1024


def make_cohort(path: Path, n: int, p: int, effect: float, seed: int = 1) -> None:
    """A cohort of one segment with planted classes in the sample column `truth`; samples are in no order of ids."""
    shutil.rmtree(path, ignore_errors=True)
    cohort = create_cohort(str(path))
    random = np.random.default_rng(seed)
    truth = random.choice(len(SHARES), n, p=SHARES)
    centres = effect * random.normal(size=(len(SHARES), p))
    factors, scale = 0.3 * random.normal(size=(3, p)), random.uniform(0.7, 1.3, p)
    ids = [f"S{i:07d}" for i in random.permutation(n)]
    features = [f"g{i:05d}" for i in range(p)]
    space = FeatureSpace.of(pd.Index(features), pd.DataFrame(index=features))
    encoding = encoding_for("expression", np.dtype("float32"), -10.0, 20.0, None)
    segment = new_segment_id()
    staging = cohort.begin_staging("rna", segment, ids)
    writer = SegmentWriter(cohort.files, "rna", segment, "expression", encoding, cohort.layout, ids, space)
    hasher = RowHasher(n, encoding)
    for start in range(0, n, ROWS):
        stop = min(n, start + ROWS)
        values = 6.0 + random.normal(size=(stop - start, p)) * scale + centres[truth[start:stop]]
        values += random.normal(size=(stop - start, 3)) @ factors
        raw = encoding.encode(values.astype(np.float32))
        hasher.update(start, raw)
        writer.write(start, 0, raw)
    sheet = pd.DataFrame({"truth": [f"t{one}" for one in truth]}, index=pd.Index(ids, name="sample_id"))
    cohort.publish_segment(staging, writer.finish(), hasher.hexdigests(), message="simulated", sample_columns=sheet)


def measure(folder: Path, n: int, options: argparse.Namespace) -> dict[str, Any]:
    """One run, from the command to the published result."""
    path = folder / f"cohort_{n}"
    make_cohort(path, n, options.features, options.effect)
    spec = folder / f"scale_{n}.yaml"
    spec.write_text(
        f"job: stratify\ncohort: {path.name}\nassay: rna\nfeatures: {{top: {options.features}}}\n"
        f"resamples: {{n: {options.resamples}}}\nconsensus: landmarks\nlandmarks: {options.landmarks}\n"
        "compare: [truth]\noutput: groups\n"
    )
    before, begin = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run(
        [Path(sys.executable).with_name("sjd"), "run", spec, "--workers", str(options.workers), "-q"], check=True
    )
    wall = time.perf_counter() - begin
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    result = open_cohort(path).result("strata/groups")
    agreement = result.to_pandas("cross").set_index("column")["ari"]
    row = {
        "samples": n,
        "wall": wall,
        "cpu": after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime,
        "worker": result.meta["run"]["peak_rss"] / 1e6,
        "k": result.meta["k"],
        "truth": float(agreement["truth"]),
        "check": (result.meta["consensus"].get("check") or {}).get("ari", float("nan")),
    }
    shutil.rmtree(path)
    return row


def exponent(samples: list[int], cpu: list[float]) -> float:
    """Slope of log(CPU) on log(samples)."""
    return float(np.polyfit(np.log(samples), np.log(cpu), 1)[0])


def main(arguments: list[str] | None = None) -> list[dict[str, Any]]:
    """Run every size and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--samples", default="25000,50000,100000")
    parser.add_argument("--features", type=int, default=2000)
    parser.add_argument("--resamples", type=int, default=100)
    parser.add_argument("--landmarks", type=int, default=2000)
    parser.add_argument("--effect", type=float, default=0.12)
    parser.add_argument("--workers", type=int, default=2)
    options = parser.parse_args(arguments)
    options.folder.mkdir(parents=True, exist_ok=True)
    rows = [measure(options.folder, int(n), options) for n in options.samples.split(",")]
    lines = [
        f"{options.features:,} features, {options.resamples} resamples, {options.landmarks:,} landmarks, "
        f"{options.workers} workers",
        "",
        "| samples | wall s | CPU s | CPU s for 10,000 more | peak MB a worker | k | ARI with the truth | "
        "ARI with a second draw |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for before, row in zip([None, *rows], rows, strict=False):
        more = (
            "" if before is None else f"{1e4 * (row['cpu'] - before['cpu']) / (row['samples'] - before['samples']):.1f}"
        )
        lines.append(
            f"| {row['samples']:,} | {row['wall']:.0f} | {row['cpu']:.0f} | {more} | {row['worker']:.0f} | "
            f"{row['k']} | {row['truth']:.3f} | {row['check']:.3f} |"
        )
    if len(rows) > 1:
        power = exponent([row["samples"] for row in rows], [row["cpu"] for row in rows])
        lines += ["", f"CPU grows with samples to the power {power:.2f}."]
    text = "\n".join(lines) + "\n"
    (options.folder / "stratify_scale.md").write_text(text)
    sys.stdout.write(text)
    return rows


if __name__ == "__main__":
    main()
