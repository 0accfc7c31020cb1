"""Making, opening and describing cohorts."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import sqlalchemy as sa
from store_helpers import betas, decoded, put

from sjd_dask.errors import Busy, DataError, FormatVersionError, SpecError
from sjd_dask.store.catalogue import tables as t
from sjd_dask.store.catalogue.migrate import upgrade
from sjd_dask.store.cohort import create_cohort, open_cohort
from sjd_dask.store.layout import Layout


def test_create_and_open(tmp_path: Path) -> None:
    folder = tmp_path / "a place"
    folder.mkdir()
    (folder / "notes.txt").write_text("stays")
    made = create_cohort(folder, name="Größe", layout=Layout(8, 100))
    opened = open_cohort(folder)
    assert (opened.name, opened.snapshot(), opened.assays(), opened.log()) == ("Größe", 0, [], [])
    assert opened.layout == made.layout == Layout(8, 100)
    assert opened.samples().empty
    assert (folder / "notes.txt").read_text() == "stays"
    with pytest.raises(SpecError, match=r"there is a cohort already"):
        create_cohort(folder)


def test_data_elsewhere(tmp_path: Path) -> None:
    create_cohort(tmp_path / "home", data=str(tmp_path / "bytes"), catalogue="sqlite:///deep.sqlite")
    cohort = open_cohort(tmp_path / "home")
    put(cohort, "meth", ["a", "b"], betas(2, 3, 0))
    assert (tmp_path / "bytes" / "segments" / "meth").is_dir()
    assert (tmp_path / "home" / "deep.sqlite").is_file()
    assert not (tmp_path / "home" / "segments").exists()


def test_no_cohort_and_lost_catalogue(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="sjd init"):
        open_cohort(tmp_path / "nowhere")
    create_cohort(tmp_path / "c")
    (tmp_path / "c" / "catalogue.sqlite").unlink()
    with pytest.raises(DataError, match="is lost"):
        open_cohort(tmp_path / "c")
    assert not (tmp_path / "c" / "catalogue.sqlite").exists()


def test_newer_format_is_refused_with_both_versions(tmp_path: Path) -> None:
    create_cohort(tmp_path / "c")
    file = tmp_path / "c" / "cohort.toml"
    file.write_text(file.read_text().replace("format_version = 1", "format_version = 7"))
    with pytest.raises(FormatVersionError, match=r"format 7.*up to 1") as caught:
        open_cohort(tmp_path / "c")
    assert (caught.value.found, caught.value.known) == (7, 1)


@pytest.mark.parametrize(
    ("statement", "error", "match"),
    [
        ("UPDATE alembic_version SET version_num='0099'", FormatVersionError, "format 99.*up to 3"),
        ("UPDATE alembic_version SET version_num='x7'", DataError, "unknown revision 'x7'"),
        ("UPDATE meta SET value='3' WHERE key='format_version'", FormatVersionError, "format 3.*up to 1"),
    ],
)
def test_newer_catalogue_is_refused(tmp_path: Path, statement: str, error: type[Exception], match: str) -> None:
    cohort = create_cohort(tmp_path / "c")
    with cohort.catalogue.write() as connection:
        connection.execute(sa.text(statement))
    before = (tmp_path / "c" / "catalogue.sqlite").read_bytes()
    with pytest.raises(error, match=match):
        open_cohort(tmp_path / "c")
    assert (tmp_path / "c" / "catalogue.sqlite").read_bytes() == before


def test_migrations_give_the_tables_the_code_uses(tmp_path: Path) -> None:
    engine = sa.create_engine(f"sqlite:///{tmp_path / 'm.sqlite'}")
    with engine.begin() as connection:
        upgrade(connection)
        inspector = sa.inspect(connection)
        assert set(inspector.get_table_names()) == set(t.metadata.tables) | {"alembic_version"}
        for name, table in t.metadata.tables.items():
            found = {column["name"]: column["nullable"] for column in inspector.get_columns(name)}
            assert found == {column.name: bool(column.nullable) for column in table.columns}
            made = {
                (one["name"], tuple(one["column_names"]), bool(one["unique"])) for one in inspector.get_indexes(name)
            }
            assert made == {(one.name, tuple(c.name for c in one.columns), one.unique) for one in table.indexes}
    engine.dispose()


@pytest.mark.parametrize("name", ["../x", "a/b", "", ".hidden", "a..b", "a b", "é", "-x", "a\n", "x" * 201])
def test_bad_names(tmp_path: Path, name: str) -> None:
    cohort = create_cohort(tmp_path / "c")
    for call in (
        lambda: put(cohort, name, ["a"], betas(1, 2, 0)),
        lambda: cohort.assay(name),
        lambda: cohort.publish_result("associations", name, {}, {}),
        lambda: cohort.publish_result(name, "x", {}, {}),
    ):
        with pytest.raises(SpecError, match=r"use letters, digits"):
            call()
    assert not (tmp_path / "c" / "segments").exists()
    assert [one.name for one in tmp_path.iterdir()] == ["c"]


def test_catalogue_urls(tmp_path: Path) -> None:
    for url in ("mysql://x/y", "nonsense", "sqlite://"):
        with pytest.raises(SpecError, match=r"sqlite|file"):
            create_cohort(tmp_path / "c", catalogue=url)
    with pytest.raises(SpecError, match="--data s3://bucket/x"):
        create_cohort("s3://bucket/x")
    assert not (tmp_path / "c" / "cohort.toml").exists()


def test_info_and_log_are_plain(tmp_path: Path) -> None:
    cohort = create_cohort(tmp_path / "c")
    put(cohort, "meth", ["a", "b"], betas(2, 30, 0), sheet=pd.DataFrame({"age": [1, 2]}, index=["a", "b"]))
    put(cohort, "rna", ["b", "c"], np.array([[1.0, 300.0], [2.0, np.nan]]), "counts")
    put(cohort, "meth", ["b"], betas(1, 30, 1), replace=True)
    info = json.loads(json.dumps(cohort.info()))
    assert info["n_samples"] == 3 and info["snapshot"] == 3
    assert {
        key: info["assays"]["meth"][key] for key in ("quantity", "n_features", "n_samples", "n_segments", "dtype")
    } == {
        "quantity": "beta",
        "n_features": 30,
        "n_samples": 2,
        "n_segments": 2,
        "dtype": "uint16",
    }
    assert info["assays"]["meth"]["bytes"] > 0 and info["assays"]["rna"]["dtype"] == "uint16"
    log = json.loads(json.dumps(cohort.log()))
    assert [one["kind"] for one in log] == ["ingest", "ingest", "replace"]
    assert [one["snapshot"] for one in log] == [1, 2, 3]
    assert log[0]["time"].endswith("+00:00") and log[0]["who"]


def test_publishing_rules(tmp_path: Path) -> None:
    cohort = create_cohort(tmp_path / "c")
    first = betas(3, 10, 0)
    done = put(cohort, "meth", ["a", "b", "01005"], first)
    assert (done.n_new, done.n_replaced, done.n_same, done.noop, done.snapshot) == (3, 0, 0, False, 1)
    again = put(cohort, "meth", ["01005", "a"], first[[2, 0]])
    assert again.noop and again.segment_id == done.segment_id and again.snapshot is None and again.n_same == 2
    changed = first.copy()
    changed[1, 4] = 0.123
    with pytest.raises(DataError, match=r"1 of 3 samples are published in 'meth' with other values: 'b'.*--replace"):
        put(cohort, "meth", ["a", "b", "01005"], changed)
    with pytest.raises(DataError, match="holds beta, not m_value"):
        put(cohort, "meth", ["x"], betas(1, 10, 1), "m_value")
    with pytest.raises(DataError, match=r"has 10 features.*--features"):
        put(cohort, "meth", ["x"], betas(1, 11, 1))
    with pytest.raises(DataError, match="more than once in one segment: 'x'"):
        put(cohort, "meth", ["x", "x"], betas(2, 10, 1))
    assert cohort.snapshot() == 1 and len(list((tmp_path / "c" / "segments" / "meth").iterdir())) == 2
    fixed = put(cohort, "meth", ["a", "b", "new"], np.vstack([changed[:2], betas(1, 10, 5)]), replace=True)
    assert (fixed.n_new, fixed.n_replaced, fixed.n_same) == (1, 1, 1)
    assert cohort.assay("meth").sample_ids() == ["a", "01005", "b", "new"]
    np.testing.assert_allclose(decoded(cohort, "meth", ["b", "a", "01005"]), changed[[1, 0, 2]], atol=8e-6)
    np.testing.assert_allclose(decoded(cohort, "meth", ["b"], snapshot=1), first[[1]], atol=8e-6)
    assert cohort.published_hashes("meth", ["a", "zz"]).keys() == {"a"}


def test_overlapping_writers_and_abandon(tmp_path: Path) -> None:
    cohort = create_cohort(tmp_path / "c")
    held = cohort.begin_staging("meth", "one", ["a", "b"])
    cohort.begin_staging("meth", "two", ["c"])
    cohort.begin_staging("other", "three", ["a"])
    with pytest.raises(Busy, match=r"1 of the same samples \('b'\) to assay 'meth'"):
        cohort.begin_staging("meth", "four", ["b", "d"])
    cohort.heartbeat_staging(held)
    cohort.abandon(held)
    with pytest.raises(Busy, match="taken for dead"):
        cohort.heartbeat_staging(held)
    cohort.begin_staging("meth", "four", ["b", "d"])


def test_unknown_assay_snapshot_and_samples(tmp_path: Path) -> None:
    cohort = create_cohort(tmp_path / "c")
    put(cohort, "meth", ["a", "b"], betas(2, 4, 0))
    with pytest.raises(SpecError, match=r"no assay 'rna'; it has: meth"):
        cohort.assay("rna")
    with pytest.raises(SpecError, match="no snapshot 9; the newest is 1"):
        cohort.assay("meth", snapshot=9)
    with pytest.raises(SpecError, match="no assay"):
        cohort.assay("meth", snapshot=0)
    with pytest.raises(DataError, match="2 of 3 samples are not in assay 'meth': 'x', 'y'"):
        cohort.assay("meth").reader(["x", "a", "y"])
    with pytest.raises(DataError, match="asked for twice: 'a'"):
        cohort.assay("meth").reader(["a", "a"])
    with pytest.raises(DataError, match="no samples"):
        cohort.assay("meth").reader([])
