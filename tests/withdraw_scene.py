"""A cohort with everything that can hold a person: corrections, merged segments, layers, groups, tests, a model, calls,
an interrupted run; and a search of all its bytes that shares no code with the package's own."""

from __future__ import annotations

import gzip
import io
import json
import sqlite3
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import classify_scene as scene
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import zarr
from jobs_helpers import bring

from sjd_dask.jobs.driver import run_spec
from sjd_dask.jobs.spec import parse_spec
from sjd_dask.store.catalogue import runs
from sjd_dask.store.cohort import open_cohort
from sjd_dask.store.compact import compact

# P0003 has two visits and is the reference of one layer; P0010 was corrected; P0020 is somebody's twin.
LEAVING = ["P0003", "P0010", "P0020"]
SAMPLES = ["S0003", "T0003", "S0010", "S0020"]
IDS = [*LEAVING, *SAMPLES]
CORRECTED = "S0010"


def run(cohort: Path, cluster: Any, **keys: Any) -> None:
    """Run a job of the cohort."""
    run_spec(parse_spec({"cohort": str(cohort), **keys}, "spec"), Path(), cluster=cluster, quiet=True)


def make(folder: Path, cluster: Any) -> Path:
    """The cohort."""
    ids = scene.sample_ids()
    cohort = scene.make(folder / "cohort", ids, chunks=(16, 64), pieces=4)
    opened = open_cohort(cohort)
    sheet = scene.sheet(ids)
    twins = pd.Series([None] * len(ids), index=sheet.index, dtype=object)
    twins[["S0021", "S0020"]] = ["P0020", "P0021"]
    notes = pd.Series([None] * len(ids), index=sheet.index, dtype=object)
    notes["S0030"] = "same tube as S0010, see P0010's file"
    opened.add_samples(pd.DataFrame({"twin": twins, "note": notes}), "remarks on S0010")
    # A correction retires a row; merging leaves retired segments behind.
    values = scene.counts([CORRECTED]) + 1
    bring(cohort, "rna", scene.write_matrix(folder / "fix.npz", [CORRECTED], values), "counts", replace=True)
    opened.add_samples(pd.DataFrame({"age": [99]}, index=pd.Index(["S0003"], name="sample_id")))
    compact(opened, "rna", small_rows=20, target_rows=100)
    run(cohort, cluster, job="normalise", assay="rna", steps=["tmm", "log_cpm"], output="logs")
    run(
        cohort, cluster, job="normalise", assay="rna", output="own",
        steps=[{"method": "tmm", "reference_sample": "T0003"}, {"method": "log_cpm"}],
    )  # fmt: skip
    run(
        cohort, cluster, job="stratify", layer="layers/logs", features={"top": 40}, k=[1, 3], resamples={"n": 10},
        person="person_id", visit="visit", output="groups",
    )  # fmt: skip
    run(
        cohort, cluster, job="associate", assay="rna", quantity="counts", design="~ disease",
        samples="person_id != 'P0010'", output="tested",
    )  # fmt: skip
    run(cohort, cluster, **scene.TRAIN)
    opened.promote("classes", 1, why="tried on P0003 too", who="tests")
    run(cohort, cluster, job="classify", model="classes@production", assay="rna", eligible="all", output="calls")
    # A run that was interrupted, with a part, a log and an orphan of a table.
    claim = runs.claim_run(
        opened.catalogue, "f" * 32, job="associate", output="half", spec={"samples": "sample_id == 'S0020'"}
    )
    home = Path(opened.path) / "runs" / claim.run.id / "1"
    (home / "parts").mkdir(parents=True)
    (home / "parts" / "0.arrow").write_bytes(b"ARROW1 S0020 and so on")
    (home / "log.jsonl").write_text(json.dumps({"kind": "Message", "text": "sample 'S0020' failed"}) + "\n{}\n")
    (home / "plan.json").write_text(json.dumps({"notes": ["P0003", "others"]}))
    runs.finish_run(opened.catalogue, claim.run.id, claim.run.epoch, "failed", "DataError: sample 'S0020' failed")
    pq.write_table(
        pa.table({"sample_id": ["S0020"]}), Path(opened.path) / "tables" / "0123456789abcdef01234567.parquet"
    )
    return cohort


# -- the search ------------------------------------------------------------------------------------------------------


def found_ids(folder: Path, ids: list[str]) -> list[str]:
    """Places below a folder whose bytes, unpacked and decoded, hold one of the ids."""
    wanted = [one.encode() for one in ids]
    return [place for place, content in contents(folder) for one in wanted if one in content]


def contents(folder: Path) -> Iterator[tuple[str, bytes]]:
    """Every file as it is, and once more decoded: arrays, tables, archives, the database's own dump."""
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            place = path.relative_to(folder).as_posix()
            yield place, path.read_bytes()
            yield from _decoded(place, path)
    for path in sorted(one.parent for one in folder.rglob("*.zarr/zarr.json")):
        group = zarr.open_group(path, mode="r")
        for name, array in group.arrays():
            if array.dtype.kind not in "uif":
                yield f"{path.name}/{name}", "\n".join(map(str, array[:])).encode()


def _decoded(place: str, path: Path) -> Iterator[tuple[str, bytes]]:
    if path.suffix == ".parquet":
        table = pq.read_table(path)
        yield f"{place} (table)", (repr(table.schema.metadata) + "\n" + repr(table.to_pydict())).encode()
        for column in table.columns:
            for chunk in column.chunks:
                if pa.types.is_dictionary(chunk.type):
                    yield f"{place} (dictionary)", repr(chunk.dictionary.to_pylist()).encode()
    elif path.suffix in (".npz", ".skops"):
        yield from _archive(place, path.read_bytes())
    elif path.suffix == ".gz":
        yield f"{place} (unpacked)", gzip.decompress(path.read_bytes())
    elif path.suffix == ".sqlite":
        connection = sqlite3.connect(path)
        yield f"{place} (dump)", "\n".join(connection.iterdump()).encode()
        connection.close()


def _archive(place: str, content: bytes) -> Iterator[tuple[str, bytes]]:
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        for name in archive.namelist():
            inner = archive.read(name)
            yield f"{place}/{name}", inner
            if name.endswith(".npy"):
                array = np.load(io.BytesIO(inner), allow_pickle=False)
                if array.dtype.kind == "U":
                    yield f"{place}/{name} (text)", "\n".join(array.ravel().tolist()).encode()


def found_values(folder: Path, rows: np.ndarray) -> list[str]:
    """Places whose decoded numbers hold one of these rows whole."""
    places = []
    for place, matrix in matrices(folder):
        if matrix.ndim and matrix.shape[-1] == rows.shape[1]:
            flat = matrix.reshape(-1, rows.shape[1]).astype(np.float64)
            if any((flat == row).all(axis=1).any() for row in rows):
                places.append(place)
    return places


def matrices(folder: Path) -> Iterator[tuple[str, np.ndarray]]:
    """Every stored array of numbers, decoded."""
    for path in sorted(one.parent for one in folder.rglob("*.zarr/zarr.json")):
        for name, array in zarr.open_group(path, mode="r").arrays():
            if array.dtype.kind in "uif":
                yield f"{path.name}/{name}", np.asarray(array[:])
    for path in sorted([*folder.rglob("*.npz"), *folder.rglob("*.skops")]):
        with zipfile.ZipFile(path) as archive:
            for name in archive.namelist():
                if name.endswith(".npy"):
                    array = np.load(io.BytesIO(archive.read(name)), allow_pickle=False)
                    if array.dtype.kind in "uif":
                        yield f"{path.name}/{name}", array
    for path in sorted(folder.rglob("*.parquet")):
        frame = pq.read_table(path).to_pandas()
        for name in frame.select_dtypes("number"):
            yield f"{path.name}/{name}", frame[name].to_numpy()
