"""The life of a layer, command by command: new samples, corrected ones, new batches, refits, and what reads it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import xarray as xr

from sjd_dask.store.cohort import open_cohort

from .conftest import Called, Sjd
from .layer_tables import CHAIN, COMBAT, Bench, make_counts, make_sheet

FROZEN: dict[str, Any] = {"steps": None, "parameters": "layers/x@1"}


@pytest.fixture
def bench(tmp_path: Path, sjd: Sjd, cluster: Any) -> Bench:
    """24 samples of three batches and the layer that was fitted on them."""
    made = Bench(tmp_path, sjd, cluster.client.scheduler.address)
    assert made.ingest(make_counts(made.sheet), sheet=made.sheet).code == 0
    published(made.run(steps=CHAIN), "layers/x@1", "qc/x@1")
    return made


def published(done: Called, *refs: str) -> None:
    assert (done.code, done.out.split()) == (0, list(refs)), done.err


def values(bench: Bench, ref: str, ids: list[str] | None = None) -> pd.DataFrame:
    layer = open_cohort(bench.cohort).layer(ref)
    wanted = list(layer.sample_ids()) if ids is None else ids
    return pd.DataFrame(layer.reader(wanted).columns(0, layer.n_features)[0], index=wanted)


def files(bench: Bench) -> dict[str, tuple[int, int]]:
    """Every file of every layer: its inode and time of change."""
    found = [one for one in (bench.cohort / "segments").glob("*@*/**/*") if one.is_file()]
    return {str(one): (one.stat().st_ino, one.stat().st_mtime_ns) for one in found}


def quality(bench: Bench) -> pd.Series:
    return open_cohort(bench.cohort).result("qc/x").to_pandas().set_index("sample_id")["status"]


def state(done: Called) -> str:
    return str(json.loads(done.out)["state"])


def test_new_corrected_and_pending_samples(bench: Bench) -> None:
    first, old, at = values(bench, "x@1"), files(bench), open_cohort(bench.cohort).snapshot()
    # Nothing to do: says so, changes nothing.
    again = bench.run("--json", **FROZEN)
    assert state(again) == "unchanged" and json.loads(again.out)["results"] == ["layers/x@1", "qc/x@1"]
    assert open_cohort(bench.cohort).snapshot() == at
    # A second night: 24 samples of known batches and one of a new batch.
    night = make_sheet(24, 25, ["b1"])
    night["batch"] = [*(["b1"] * 8), *(["b2"] * 8), *(["b3"] * 8), "b4"]
    counts = make_counts(night)
    assert bench.ingest(counts, sheet=night).code == 0
    published(bench.run(**FROZEN), "layers/x@1", "qc/x@2")
    now = files(bench)
    assert {name: now[name] for name in old} == old
    layer = open_cohort(bench.cohort).layer("x@1")
    assert layer.n_samples == 48 and len(set(layer.rows()["segment_id"])) == 2
    pd.testing.assert_frame_equal(values(bench, "x@1", list(first.index)), first, check_exact=True)
    assert quality(bench)["0048"] == "pending_batch" and (quality(bench).drop("0048") == "ok").all()
    assert "0048" not in layer.sample_ids() and len(quality(bench)) == 49
    # The pending one is still pending, which is nothing new.
    assert state(bench.run("--json", **FROZEN)) == "unchanged"
    # A corrected sample: its row alone is made anew.
    before, old = values(bench, "x@1"), files(bench)
    counts["0030"] = counts["0030"] + 7
    assert bench.ingest(counts[["0030"]], "--replace").code == 0
    published(bench.run(**FROZEN), "layers/x@1", "qc/x@3")
    after, now = values(bench, "x@1"), files(bench)
    assert {name: now[name] for name in old} == old
    changed = [one for one in before.index if not before.loc[one].equals(after.loc[one])]
    assert changed == ["0030"]
    written = open_cohort(bench.cohort).layer("x@1").rows().set_index("sample_id")["segment_id"]
    assert (written == written["0030"]).sum() == 1
    # A corrected batch label: the same.
    (bench.folder / "labels.csv").write_text("sample_id,batch\n0031,b2\n0048,b3\n")
    assert bench.sjd("samples", bench.cohort, bench.folder / "labels.csv").code == 0
    published(bench.run(**FROZEN), "layers/x@1", "qc/x@4")
    relabelled = values(bench, "x@1")
    assert [one for one in after.index if not after.loc[one].equals(relabelled.loc[one])] == ["0031"]
    assert "0048" in relabelled.index and quality(bench)["0048"] == "ok"
    assert state(bench.run("--json", **FROZEN)) == "unchanged"
    assert bench.sjd("verify", bench.cohort).code == 0


def test_new_batches_and_refits_are_new_versions(bench: Bench) -> None:
    first, at = values(bench, "x@1"), open_cohort(bench.cohort).snapshot()
    night = make_sheet(24, 12, ["b4"])
    assert bench.ingest(make_counts(night), sheet=night).code == 0
    published(bench.run(**FROZEN), "layers/x@1", "qc/x@2")
    assert (quality(bench) == "pending_batch").sum() == 12
    assert bench.sjd("report", bench.cohort, "layers/x", bench.folder / "page.html").code == 0
    assert "pending" in (bench.folder / "page.html").read_text(encoding="utf-8")
    published(bench.run(**FROZEN, extend_on="batch == 'b4'"), "layers/x@2", "qc/x@3")
    second = values(bench, "x@2")
    assert len(second) == 36 and (quality(bench) == "ok").all()
    pd.testing.assert_frame_equal(second.loc[first.index], first, check_exact=True)
    # One more of the new batch comes in by the extended chain; the first version still puts it off.
    late = make_sheet(36, 1, ["b4"])
    assert bench.ingest(make_counts(late), sheet=late).code == 0
    published(bench.run(steps=None, parameters="layers/x@2"), "layers/x@2", "qc/x@4")
    third = values(bench, "x@2")
    assert third.index[-1] == "0036" and np.isfinite(third.loc["0036"]).all()
    pd.testing.assert_frame_equal(third.loc[second.index], second, check_exact=True)
    # A refit on more samples.
    published(bench.run(steps=CHAIN), "layers/x@3", "qc/x@5")
    assert len(values(bench, "x@3")) == 37
    pd.testing.assert_frame_equal(values(bench, "x@1"), first, check_exact=True)
    layer = open_cohort(bench.cohort).layer("x@1", snapshot=at)
    assert layer.n_samples == 24
    # The default of an option, said, is the same chain.
    same = [{"method": "tmm"}, {"method": "log_cpm", "prior_count": 2}, {**COMBAT, "mean_only": False}]
    published(bench.run(steps=same, colour_by="age", factors=["disease"]), "layers/x@3", "qc/x@6")
    for command in ("compact", "gc", "verify"):
        options = ("--grace", 0) if command == "gc" else ()
        done = bench.sjd(command, bench.cohort, *options)
        assert done.code == 0, done.err
    pd.testing.assert_frame_equal(values(bench, "x@2", list(third.index)), third, check_exact=True)
    pd.testing.assert_frame_equal(values(bench, "x@1", list(first.index)), first, check_exact=True)
    # After compaction there is still nothing to do.
    assert state(bench.run("--json", steps=None, parameters="layers/x@3")) == "unchanged"


def test_what_reads_a_layer(bench: Bench) -> None:
    folder, stored = bench.folder, values(bench, "x@1")
    (folder / "ewas.yaml").write_text(
        "job: associate\ncohort: cohort\nlayer: layers/x@1\ndesign: '~ disease + age'\noutput: de\n"
    )
    published(bench.sjd("run", folder / "ewas.yaml", "--cluster", bench.cluster, "-q"), "associations/de@1")
    assert open_cohort(bench.cohort).result("associations/de").to_pandas()["n_samples"].eq(24).all()
    for suffix in ("tsv", "csv", "parquet", "zarr"):
        done = bench.sjd("export", bench.cohort, "layers/x@1", folder / f"out.{suffix}")
        assert done.code == 0, done.err
    # Features in rows; 17 significant digits come back as the same bits.
    table = pd.read_csv(folder / "out.tsv", sep="\t", index_col=0)
    assert table.shape == (60, 24)
    np.testing.assert_array_equal(table[list(stored.index)].to_numpy().T, stored.to_numpy())
    exported = xr.open_zarr(folder / "out.zarr", consolidated=False)
    wanted = stored.loc[[str(one) for one in exported["sample_id"].to_numpy()]]
    np.testing.assert_array_equal(exported["x"].to_numpy(), wanted.to_numpy())
    assert len(pd.read_parquet(folder / "out.parquet")) in (24, 60)
    for ref in ("layers/x", "layers/x@1", "qc/x"):
        done = bench.sjd("report", bench.cohort, ref, folder / "page.html")
        assert done.code == 0, done.err
        page = (folder / "page.html").read_text(encoding="utf-8")
        assert "tmm" in page and "combat" in page and 'src="http' not in page
    info = json.loads(bench.sjd("info", bench.cohort, "--json").out)
    (layer,) = info["layers"]
    assert (layer["ref"], layer["n_samples"], layer["source_assay"]) == ("layers/x@1", 24, "rna")
    assert layer["steps"] == "tmm, log_cpm, combat" and list(info["assays"]) == ["rna"]
    assert "layers/x@1" in bench.sjd("info", bench.cohort).out
    changes = json.loads(bench.sjd("log", bench.cohort, "--json").out)["changes"]
    assert changes[-2]["kind"] == "layer" and "layers/x@1" in json.dumps(changes[-2])


def test_a_file_of_a_step_and_a_resumed_run(
    bench: Bench, sjd: Sjd, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The file lies beside the spec, whatever folder a command is given in; no path of this machine is published."""
    rng = np.random.default_rng(5)
    beta = pd.DataFrame(rng.uniform(0.1, 0.9, (60, 24)), [f"cg{i:02d}" for i in range(60)], bench.sheet["sample_id"])
    assert bench.ingest(beta, assay="meth", quantity="beta").code == 0
    (tmp_path / "drop.txt").write_text("cg03\ncg17\n")
    steps = [{"method": "mask_probes", "probe_list": "drop.txt"}, "m_value"]
    published(bench.run(assay="meth", steps=steps, output="m"), "layers/m@1", "qc/m@1")
    cohort = open_cohort(bench.cohort)
    assert cohort.layer("m").n_features == 58
    assert str(tmp_path) not in json.dumps(cohort.layer("m").meta)
    run = next(one for one in cohort.runs() if one.output == "m")
    monkeypatch.chdir("/")
    done = sjd("resume", bench.cohort, run.id, "-q")
    assert (done.code, done.out.split()) == (0, ["layers/m@1", "qc/m@1"]), done.err
