"""Clinical scores of a million visits, and the same rules row by row with `DataFrame.apply` on some of them.

python benchmarks/clinical.py FOLDER [--visits 1000000] [--rows 2000] [--repeat 3] [--workers 2]

First each measure by itself in one process, then all of them in parts on workers that are up, and the whole command
from a Parquet file to a Parquet file. The peer is timed beside ours, one after the other, and what it says of its rows
must be what ours says. The tables go to FOLDER/clinical.md.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

for _name in ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE"):
    os.environ.pop(_name, None)
os.environ.setdefault("DASK_LOGGING__DISTRIBUTED", "warning")
sys.path.insert(0, str(Path(__file__).parent))

import numpy as np  # noqa: E402
import pandas as pd  # noqa: E402

from sjd_dask.clinical import MEASURES, Sheet, score  # noqa: E402
from sjd_dask.simulate import Simulation  # noqa: E402

# What the peer knows the rules of; not how laboratory values stand in for a domain, so their origin is left out here.
PEER = ("essdai", "esspri", "acr_eular", "star")
# Of another disease, or in want of a model.
OTHERS = ("sledai", "modules")
SEED = 1


def main(arguments: list[str] | None = None) -> dict[str, Any]:
    """Time everything, write the tables, and give the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--visits", type=int, default=1_000_000)
    parser.add_argument("--rows", type=int, default=2000, help="rows of the peer")
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--without-workers", action="store_true")
    options = parser.parse_args(arguments)
    options.folder.mkdir(parents=True, exist_ok=True)
    frame = Simulation(options.visits, 1, seed=SEED, patient_share=1.0, repeat_share=0.6).clinical_sheet().reset_index()
    measures = [name for name, one in MEASURES.items() if not one.needs_model and name not in OTHERS]
    found: dict[str, Any] = {"visits": len(frame), "alone": _alone(frame, measures), "peer": []}
    plain = frame.drop(columns="cytopenia_autoimmune")
    for name in PEER:
        found["peer"].append(_beside(plain, name, options.rows, options.repeat))
    if not options.without_workers:
        found["parts"] = _in_parts(frame, measures, options)
    ours, peer = (sum(one[side] for one in found["peer"]) for side in ("ours", "peer"))
    found["ratio"] = peer / ours
    text = _text(found)
    (options.folder / "clinical.md").write_text(text, encoding="utf-8")
    print(text)
    return found


def _alone(frame: pd.DataFrame, measures: list[str]) -> list[dict[str, Any]]:
    """Seconds of each measure by itself on a sheet that was read, and of all together."""
    rows = []
    for names in (*([one] for one in measures), measures):
        sheet = Sheet.read(frame)
        sheet.check([column for name in names for column in MEASURES[name].needs if sheet.has(column)])
        begin, used = time.perf_counter(), time.process_time()
        score(sheet, names)
        what = names[0] if len(names) == 1 else "all, one process"
        rows.append({"what": what, "seconds": time.perf_counter() - begin, "cpu": time.process_time() - used})
        print(f"{what}: {rows[-1]['seconds']:.2f} s", file=sys.stderr)
    return rows


def _beside(frame: pd.DataFrame, name: str, n_rows: int, repeat: int) -> dict[str, Any]:
    """Ours on all visits and the peer on the first, by turns: seconds a row, and whether they say the same."""
    from clinical_rows import Rows

    some = frame.head(n_rows)
    rules = Rows(some)
    ours, theirs = [], []
    expected = pd.DataFrame()
    for _ in range(repeat):
        sheet = Sheet.read(frame)  # headers and ids, which the peer has for nothing
        begin = time.process_time()
        score(sheet, name)
        ours.append((time.process_time() - begin) / len(frame))
        begin = time.process_time()
        expected = some.apply(getattr(rules, name), axis=1, result_type="expand")
        theirs.append((time.process_time() - begin) / len(some))
    differ = _differences(score(some, name), expected)
    ratio = statistics.median(b / a for a, b in zip(ours, theirs, strict=True))
    print(f"{name}: {ratio:.0f} x", file=sys.stderr)
    return {"what": name, "ours": min(ours), "peer": min(theirs), "ratio": ratio, "differ": differ}


def _differences(found: pd.DataFrame, expected: pd.DataFrame) -> int:
    """Cells on which they disagree; two missing ones agree."""
    n = 0
    for name in expected.columns:
        ours, theirs = found[name].to_numpy(), expected[name].to_numpy()
        if expected[name].dtype.kind == "f":
            n += int((~np.isclose(ours.astype(float), theirs, rtol=1e-12, atol=0, equal_nan=True)).sum())
        else:
            n += int((pd.Series(ours).fillna("") != pd.Series(theirs).fillna("")).sum())
    return n


def _in_parts(frame: pd.DataFrame, measures: list[str], options: Any) -> list[dict[str, Any]]:
    """All measures in parts on workers that are up, and the whole command."""
    from sjd_dask.jobs.clinical_sheet import ClinicalSheet
    from sjd_dask.jobs.score_partitions import score_in_partitions
    from sjd_dask.jobs.table_writer import table_writer, write_table
    from sjd_dask.runtime.cluster import open_cluster

    chosen = [MEASURES[name] for name in measures]
    target = options.folder / "scores.parquet"
    rows = []
    with open_cluster("local", workers=options.workers) as cluster:

        def run(part: pd.DataFrame, size: int | None = None) -> None:
            with table_writer(target) as write:
                opened, sheet = ClinicalSheet(part), Sheet.read(part)
                score_in_partitions(opened, sheet, chosen, {}, target, write, lambda: cluster, partition_rows=size)

        run(frame.head(4000), 500)
        seconds = []
        for _ in range(options.repeat):
            begin = time.perf_counter()
            run(frame)
            seconds.append(time.perf_counter() - begin)
        rows.append({"what": f"all, {options.workers} workers that are up", "seconds": min(seconds)})
    path = write_table(frame, options.folder / "sheet.parquet")
    command = ["score", str(path), str(target), "--measure", "all", "--workers", str(options.workers), "--json"]
    begin = time.perf_counter()
    subprocess.run([sys.executable, "-m", "sjd_dask.cli", *command], check=True, stdout=subprocess.DEVNULL)
    rows.append({"what": "the whole command, Parquet to Parquet", "seconds": time.perf_counter() - begin})
    return rows


def _text(found: dict[str, Any]) -> str:
    lines = [f"{found['visits']:,} visits, {len(os.sched_getaffinity(0))} cores.", ""]
    lines += ["| measure | seconds | CPU seconds |", "|---|---|---|"]
    lines += [f"| {one['what']} | {one['seconds']:.2f} | {one['cpu']:.2f} |" for one in found["alone"]]
    lines += [f"| {one['what']} | {one['seconds']:.2f} | |" for one in found.get("parts", ())]
    lines += ["", "| measure | ours, us a row | row by row, us a row | times faster | cells that differ |"]
    lines += ["|---|---|---|---|---|"]
    together = {side: sum(one[side] for one in found["peer"]) for side in ("ours", "peer", "differ")}
    rows = [*found["peer"], {"what": "these together", "ratio": found["ratio"], **together}]
    lines += [
        f"| {one['what']} | {one['ours'] * 1e6:.2f} | {one['peer'] * 1e6:.0f} | {one['ratio']:.0f} | {one['differ']} |"
        for one in rows
    ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
