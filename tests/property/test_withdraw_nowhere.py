"""People who were withdrawn are found nowhere: not in bytes, decoded arrays, tables or past views. Others keep all."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import sqlalchemy as sa
import withdraw_scene as scene
from classify_scene import counts, sample_ids, write_matrix
from jobs_helpers import bring

from sjd_dask.errors import DataError
from sjd_dask.jobs import bundle
from sjd_dask.jobs.withdraw import withdraw
from sjd_dask.store.catalogue import tables as t
from sjd_dask.store.catalogue.withdrawals import is_signed
from sjd_dask.store.cohort import Cohort, open_cohort
from sjd_dask.store.verify import verify
from sjd_dask.store.withdraw.run import WithdrawReport

STAY = [one for one in sample_ids() if one not in scene.SAMPLES]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, cluster: Any) -> Path:
    """The folder of a cohort that holds everybody."""
    folder = tmp_path_factory.mktemp("withdraw") / "whole"
    folder.mkdir()
    scene.make(folder, cluster)
    return folder


@pytest.fixture(scope="module")
def done(whole: Path) -> tuple[Cohort, WithdrawReport]:
    """A copy of it after the withdrawal."""
    shutil.copytree(whole, whole.parent / "without")
    cohort = open_cohort(whole.parent / "without" / "cohort")
    return cohort, withdraw(cohort, scene.LEAVING)


def read(cohort: Cohort, name: str, snapshot: int | None = None) -> pd.DataFrame:
    assay = cohort.layer(name, snapshot) if name.startswith("layers/") else cohort.assay(name, snapshot)
    reader = assay.reader()
    raw, encoding = reader.columns(0, reader.n_features)
    return pd.DataFrame(encoding.decode(raw), index=list(reader.sample_ids))


def test_the_search_finds_them_before(whole: Path) -> None:
    places = scene.found_ids(whole / "cohort", scene.IDS)
    for kind in ("zarr/sample_id", "parquet (table)", "npz", "sqlite (dump)", "log.jsonl", "0.arrow", "plan.json"):
        assert any(kind in place for place in places), kind
    assert len(scene.found_values(whole / "cohort", counts(scene.SAMPLES))) >= 3


def test_nowhere_on_disk(done: tuple[Cohort, WithdrawReport]) -> None:
    cohort, report = done
    home = Path(cohort.path)
    assert scene.found_ids(home, scene.IDS) == []
    corrected = counts([scene.CORRECTED]) + 1
    assert scene.found_values(home, np.concatenate([counts(scene.SAMPLES), corrected])) == []
    assert (report.status, report.n_persons, report.n_samples) == ("withdrawn", 3, 4)
    # Two segments of four after the merge, the retired ones before it, and one a layer.
    assert report.n_rows == 4 + 1 + 2 * 4
    assert verify(cohort).problems == []


def test_everybody_else_keeps_everything(whole: Path, done: tuple[Cohort, WithdrawReport]) -> None:
    before, after = open_cohort(whole / "cohort"), done[0]
    for name in ("rna", "layers/logs@1", "layers/own@1"):
        old, new = read(before, name), read(after, name)
        assert list(new.index) == [one for one in old.index if one not in scene.SAMPLES]
        pd.testing.assert_frame_equal(new, old.loc[new.index], check_exact=True)
    old, new = before.samples().drop(columns=["twin", "note"]), after.samples().drop(columns=["twin", "note"])
    pd.testing.assert_frame_equal(new, old.loc[new.index])
    assert sorted(new.index) == sorted(STAY)
    for one in before.results():
        mine = after.result(one.ref)
        for name in one.tables:
            table = one.to_pandas(name)
            if "sample_id" not in table or name in ("consensus", "heat"):
                continue
            left = table[~table["sample_id"].isin(scene.SAMPLES)].reset_index(drop=True)
            pd.testing.assert_frame_equal(mine.to_pandas(name), left, check_exact=True)


def test_square_tables_stay_square(whole: Path, done: tuple[Cohort, WithdrawReport]) -> None:
    before, after = (one.result("strata/groups@1") for one in (open_cohort(whole / "cohort"), done[0]))
    old, new = (one.to_pandas("consensus").set_index("sample_id") for one in (before, after))
    assert list(new.index) == list(new.columns) and len(new) == len(old) - 4
    pd.testing.assert_frame_equal(new, old.loc[new.index, new.columns], check_exact=True)
    old, new = (one.to_pandas("heat").set_index("sample_id").drop(columns="stratum") for one in (before, after))
    assert list(new.columns) == [f"with_{i + 1}" for i in range(len(new))]
    place = [list(old.index).index(one) for one in new.index]
    np.testing.assert_array_equal(new.to_numpy(), old.to_numpy()[np.ix_(place, place)])


def test_past_views_lose_them_and_nothing_else(whole: Path, done: tuple[Cohort, WithdrawReport]) -> None:
    before, after = open_cohort(whole / "cohort"), done[0]
    for snapshot in range(4, before.snapshot() + 1):
        old, new = read(before, "rna", snapshot), read(after, "rna", snapshot)
        pd.testing.assert_frame_equal(new, old.loc[[one for one in old.index if one in STAY]], check_exact=True)
        assert not set(after.samples(snapshot).index) & set(scene.SAMPLES)
    assert after.snapshot() == before.snapshot() + 1
    assert after.log()[-1]["kind"] == "withdraw"


def test_relatives_and_remarks_name_nobody(done: tuple[Cohort, WithdrawReport]) -> None:
    samples = done[0].samples()
    assert samples["twin"].isna().all()
    assert samples.loc["S0030", "note"] == "same tube as [withdrawn], see [withdrawn]'s file"
    run = next(one for one in done[0].runs() if one.output == "half")
    assert run.message == "DataError: sample '[withdrawn]' failed" and run.spec == {
        "samples": "sample_id == '[withdrawn]'"
    }
    assert done[0].result("associations/tested").meta["spec"]["samples"] == "person_id != '[withdrawn]'"


def test_the_line_is_signed_and_names_nobody(done: tuple[Cohort, WithdrawReport]) -> None:
    cohort, report = done
    with cohort.catalogue.read() as connection:
        detail = connection.execute(sa.select(t.audit.c.detail).where(t.audit.c.action == "withdraw")).scalars().one()
        assert is_signed(connection, detail)
        line = json.loads(detail)
        assert line == report.signed and line["persons"] == 3 and line["places_left"] == 0
        assert not is_signed(connection, json.dumps({**line, "persons": 2}))


def test_models_and_layers_say_what_is_wrong(done: tuple[Cohort, WithdrawReport]) -> None:
    cohort, report = done
    assert report.needs_retraining == ["models/classes@1"]
    assert [one.needs_retraining for one in cohort.models()] == [True]
    assert [one["ref"] for one in report.blocked] == ["layers/own@1"]
    with pytest.raises(DataError, match="layers/own@1 is blocked since people withdrew: step `tmm`"):
        cohort.layer("own").parameters()
    # The layer that the model stands on names them no more and works as before, under the hash it had.
    stored = cohort.layer("logs").parameters()
    assert stored.attrs["kept_hash"] == cohort.layer("logs").parameters_hash
    assert bundle.load(cohort, "classes@production").hash == cohort.models()[0].hash


def test_later_samples_join_the_layer_and_get_the_same_calls(whole: Path, tmp_path: Path, cluster: Any) -> None:
    """A chain from which ids were taken out is the same chain: no new version, the same numbers."""
    wanted = {}
    for leaves in (False, True):
        home = tmp_path / str(leaves)
        shutil.copytree(whole, home)
        cohort = open_cohort(home / "cohort")
        if leaves:
            withdraw(cohort, scene.LEAVING)
        bring(home / "cohort", "rna", write_matrix(home / "new.npz", ["S0200", "S0201"]), "counts")
        keys = {"assay": "rna", "output": "logs", "parameters": "layers/logs@1"}
        scene.run(home / "cohort", cluster, job="normalise", **keys)
        keys = {"assay": "rna", "output": "calls", "model": "classes@production", "eligible": "all"}
        scene.run(home / "cohort", cluster, job="classify", **keys)
        layer, calls = cohort.layer("logs"), cohort.result("classes/calls").to_pandas().set_index("sample_id")
        assert (layer.version, len(layer.sample_ids())) == (1, len(STAY) + 2 + (0 if leaves else 4))
        wanted[leaves] = (read(cohort, "layers/logs").loc[["S0200", "S0201"]], calls.drop(columns=["run"]))
    pd.testing.assert_frame_equal(wanted[True][0], wanted[False][0], check_exact=True)
    kept = wanted[True][1]
    pd.testing.assert_frame_equal(kept, wanted[False][1].loc[kept.index], check_exact=True)


def test_what_comes_again_is_dropped(done: tuple[Cohort, WithdrawReport], tmp_path: Path, whole: Path) -> None:
    shutil.copytree(Path(done[0].path), tmp_path / "cohort")
    cohort = open_cohort(tmp_path / "cohort")
    from sjd_dask.store.ingest.pipeline import ingest

    ids = ["S0003", "S0300", "T0300"]
    sheet = pd.DataFrame(
        {"person_id": ["P0003", "P0300", "P0020"], "twin": [None, None, None]}, index=pd.Index(ids, name="sample_id")
    )
    matrix = write_matrix(tmp_path / "again.npz", ids)
    report = ingest(cohort, "rna", matrix, quantity="counts", samples=sheet)
    # One sample was theirs, another is a new one of a person who left.
    assert (report.n_withdrawn, report.new) == (2, ["S0300"])
    cohort.add_samples(sheet.assign(age=1))
    assert set(cohort.samples().index) == {*STAY, "S0300"}
    assert scene.found_ids(tmp_path / "cohort", [*scene.IDS, "T0300"]) == []
    assert withdraw(cohort, scene.LEAVING).status == "unchanged"


def test_a_model_with_the_values_of_one_person_is_blocked(whole: Path, tmp_path: Path, cluster: Any) -> None:
    shutil.copytree(whole, tmp_path / "w")
    cohort = open_cohort(tmp_path / "w" / "cohort")
    reference = str(cohort.layer("logs").parameters().arrays["step0.tmm.reference_sample"])
    person = str(cohort.samples().loc[reference, "person_id"])
    values = cohort.layer("logs").parameters().arrays["step0.tmm.reference_counts"][None, :]
    assert scene.found_values(Path(cohort.path), values) != []
    report = withdraw(cohort, [person])
    assert {one["ref"] for one in report.blocked} == {"layers/logs@1", "models/classes@1"}
    assert scene.found_values(Path(cohort.path), values) == []
    assert verify(cohort).problems == []
    assert "it is blocked: step `tmm`" in cohort.models()[0].meta["needs_retraining"]
    with pytest.raises(DataError, match="models/classes@1 is blocked since people withdrew"):
        bundle.load(cohort, "classes@production")
    keys = {"assay": "rna", "output": "logs", "parameters": "layers/logs@1"}
    with pytest.raises(DataError, match="layers/logs@1 is blocked"):
        scene.run(tmp_path / "w" / "cohort", cluster, job="normalise", **keys)


def test_a_dry_run_changes_nothing(whole: Path, done: tuple[Cohort, WithdrawReport]) -> None:
    def files() -> dict[str, Any]:
        return {
            path.relative_to(whole).as_posix(): path.read_bytes()
            for path in whole.rglob("*")
            if path.is_file() and path.suffix != ".sqlite"
        }

    before, cohort = files(), open_cohort(whole / "cohort")
    snapshot = cohort.snapshot()
    report = withdraw(cohort, scene.LEAVING, dry_run=True)
    assert files() == before and cohort.snapshot() == snapshot
    real = done[1]
    for name in ("n_persons", "n_samples", "n_segments", "n_rows", "results", "blocked", "needs_retraining"):
        assert getattr(report, name) == getattr(real, name), name
    assert report.status == "would_withdraw"
