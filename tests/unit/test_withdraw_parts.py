"""Ids in text, JSON, columns and tables: those who leave go, whoever is called alike stays."""

from __future__ import annotations

import gzip
import io
import json
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from store_helpers import put

from sjd_dask.errors import DataError
from sjd_dask.jobs.withdraw import CopyRules, matrix_ids, withdraw
from sjd_dask.store.arrays import Arrays
from sjd_dask.store.catalogue.results import ResultRecord
from sjd_dask.store.catalogue.tombstones import id_text
from sjd_dask.store.cohort import Cohort, create_cohort
from sjd_dask.store.withdraw import blobs
from sjd_dask.store.withdraw.blobs import blob_names
from sjd_dask.store.withdraw.folders import clean_inbox
from sjd_dask.store.withdraw.ids import REPLACEMENT, Leaving, read_ids
from sjd_dask.store.withdraw.people import resolve
from sjd_dask.store.withdraw.run import Order
from sjd_dask.store.withdraw.scan import raw_names
from sjd_dask.store.withdraw.tables import without


def leaving(*ids: str, stay: tuple[str, ...] = (), words: tuple[str, ...] = ()) -> Leaving:
    return Leaving(frozenset(), frozenset(ids), words=frozenset(words), stay=frozenset(stay))


@pytest.mark.parametrize(
    ("text", "made"),
    [
        ("sample 'S001' failed", "sample '[withdrawn]' failed"),
        ("S001, S0010 and xS001", "[withdrawn], S0010 and xS001"),
        ("rnaseq__S001.tsv", "rnaseq__[withdrawn].tsv"),
        ("S001-2 is somebody else, S001-3 is not", "S001-2 is somebody else, [withdrawn]-3 is not"),
        ("C1 and 'C1'", "C1 and '[withdrawn]'"),
        ("12345 samples, '12345' failed", "12345 samples, '[withdrawn]' failed"),
    ],
)
def test_text(text: str, made: str) -> None:
    who = leaving("S001", "C1", "12345", stay=("S001-2", "S0010"))
    assert who.scrub_text(text) == made
    assert who.in_text(text) == (made != text) and not who.in_text(made)


def test_json() -> None:
    who = leaving("S001", "C1", "Mühle\n7")
    data = {
        "samples": ["S001", "C1", "S002"],
        "levels": ["C1", "C2"],
        "note": "by S001",
        "S001": 1,
        "reference_sample": "C1",
        "sample_id": 7,
        "text": "Mühle\n7",
    }
    made = json.loads(who.scrub_json_text(json.dumps(data)))
    assert made == {
        "samples": ["S002"], "levels": ["C1", "C2"], "note": f"by {REPLACEMENT}", "reference_sample": REPLACEMENT,
        "sample_id": 7, "text": REPLACEMENT,
    }  # fmt: skip
    # Escaped as JSON writes it, in a text that is no JSON.
    assert who.scrub_text('half {"a": "M\\u00fchle\\n7"') == f'half {{"a": "{REPLACEMENT}"'
    assert leaving("S9").scrub_json_text('{"a" : 1}') == '{"a" : 1}'


_IDS = st.text(st.characters(codec="utf-8", exclude_categories=("Cc", "Cs", "Zs", "Zl", "Zp")), min_size=3, max_size=12)


@settings(max_examples=150, deadline=None)
@given(st.lists(_IDS, min_size=1, max_size=6, unique=True), st.data())
def test_any_ids_leave_any_json(ids: list[str], data: st.DataObject) -> None:
    """Scrubbed JSON is JSON, names nobody who left, and whoever stays is still named."""
    gone = data.draw(st.sets(st.sampled_from(ids), min_size=1))
    stay = [one for one in ids if one not in gone]
    who = leaving(*gone, stay=tuple(stay))
    record = {"samples": ids, "text": " ".join(f"'{one}'" for one in ids), "other": [{"sample_id": one} for one in ids]}
    for ascii_only in (True, False):
        text = who.scrub_json_text(json.dumps(record, ensure_ascii=ascii_only))
        made = json.loads(text)
        assert made["samples"] == stay
        assert [one["sample_id"] for one in made["other"]] == [REPLACEMENT if one in gone else one for one in ids]
        words = made["text"].split(" ")
        assert [one for one in words if one != f"'{REPLACEMENT}'"] == [f"'{one}'" for one in stay]
        assert not who.in_text(text)


def test_ids_of_a_list() -> None:
    assert read_ids(["person_id", " P1 ", "", "P2", "P1\t"]) == ["P1", "P2"]
    assert [id_text(one) for one in (1, 1.0, "01", None, float("nan"), True)] == ["1", "1", "01", None, None, None]


# -- tables ------------------------------------------------------------------------------------------------------------


def test_a_table_of_any_shape() -> None:
    who = leaving("S2", "S4")
    table = pa.table(
        {
            "sample_id": pa.array(["S1", "S2", "S3", "S4", None]),
            "kind": pa.array(["a", "S4", "S4", "b", None]).dictionary_encode(),
            "previous_sample_id": pa.array([None, None, None, None, "S2"], pa.large_string()),
            "samples": pa.array([["S1", "S2"], [], None, ["S4"], []], pa.list_(pa.string())),
            "feature_id": ["S2", "x", "S4", "y", "z"],
            "n": [1, 2, 3, 4, 5],
            "S2": [0.0] * 5,
        }
    )
    made = without(table, leaving("S2", "S4", words=("S4",)))
    assert made.to_pydict() == {
        "sample_id": ["S1", "S3"], "kind": ["a", "S4"], "previous_sample_id": [None, None], "samples": [["S1"], None],
        "feature_id": ["S2", "S4"], "n": [1, 3],
    }  # fmt: skip
    assert made.schema.field("kind").type == table.schema.field("kind").type
    assert "b" not in made["kind"].chunk(0).dictionary.to_pylist()
    assert without(table, who)["kind"].to_pylist() == ["a", "S4"]


def test_long_ids_are_no_words_elsewhere() -> None:
    table = pa.table({"sample_id": ["GSM1", "GSM2"], "about": ["like GSM2", "GSM2"], "is": ["GSM2", "x"]})
    made = without(table, leaving("GSM2"))
    assert made.to_pydict() == {"sample_id": ["GSM1"], "about": [f"like {REPLACEMENT}"], "is": [None]}


def test_names_of_groups_and_features_are_words(tmp_path: Path) -> None:
    """People who are called like a group, a gene and a batch leave; the group, the gene and the batch stay."""
    made = create_cohort(tmp_path / "cohort")
    people = [f"P{i:02d}" for i in range(20)]
    people[:3] = ["C10", "TP53", "B-7"]
    sheet = pd.DataFrame(
        {"person_id": people, "batch": ["B-7", "B-8"] * 10},
        index=pd.Index([f"GSM{i:02d}" for i in range(20)], name="sample_id"),
    )
    put(made, "rna", list(sheet.index), np.random.default_rng(1).random((20, 2)), sheet=sheet)
    tables = {
        "table": pa.table({"sample_id": list(sheet.index), "stratum": ["C10", "C11"] * 10}),
        "genes": pa.table({"feature_id": ["TP53", "BRCA1"], "text": ["TP53", "not TP53"]}),
        "donors": pa.table({"donor": people, "n": list(range(20))}),
    }
    made.publish_result("strata", "s", tables, {"levels": ["C10", "C11"], "genes": ["TP53"], "people": people})
    withdraw(made, ["C10", "TP53", "B-7"])
    result = made.result("strata/s")
    assert result.to_pandas()["stratum"].tolist() == ["C11", *["C10", "C11"] * 8]
    assert result.to_pandas("genes").to_dict("list") == {"feature_id": ["TP53", "BRCA1"], "text": ["TP53", "not TP53"]}
    assert result.meta["levels"] == ["C10", "C11"] and result.meta["genes"] == ["TP53"]
    assert set(made.samples()["batch"]) == {"B-7", "B-8"}
    # A column of nothing but people is one of ids, whatever it is called.
    assert result.to_pandas("donors")["donor"].tolist() == people[3:]


def test_pandas_remarks_of_columns_go() -> None:
    frame = pd.DataFrame({"sample_id": ["GSM1", "GSM2"], "GSM1": [1.0, 0.5], "GSM2": [0.5, 1.0]})
    table = pa.Table.from_pandas(frame, preserve_index=False)
    assert b"GSM2" in table.schema.metadata[b"pandas"]
    made = without(table, leaving("GSM2"))
    assert "GSM2" not in str(made.schema.metadata) and made.to_pandas().to_dict("list") == {
        "sample_id": ["GSM1"],
        "GSM1": [1.0],
    }


def test_bytes_of_any_kind() -> None:
    who = leaving("GSM22")
    table = io.BytesIO()
    pq.write_table(pa.table({"sample_id": ["GSM22"] * 9}), table, compression="zstd")
    arrays, packed = io.BytesIO(), io.BytesIO()
    np.savez_compressed(arrays, samples=np.array(["GSM1", "GSM22"]))
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("inner.json", '{"a": "GSM22"}')
    for name, content in (
        ("a.parquet", table.getvalue()),
        ("a.npz", arrays.getvalue()),
        ("a.skops", packed.getvalue()),
        ("a.tsv.gz", gzip.compress(b"id\tGSM22\n")),
        ("a.txt", b"GSM22"),
        ("half.parquet", table.getvalue()[:-9] + b"GSM22"),
    ):
        assert blob_names(name, content, who), name
        assert not blob_names(name, content, leaving("GSM2")), name


def test_a_large_file_is_read_in_pieces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blobs, "_WHOLE", 1000)
    who = leaving("GSM22")
    for at in (1, 995, 998, 3001, 7990):
        content = b"x,x" * at + b"\tGSM22\t" + b"y\n" * (4000 - at // 2)
        (tmp_path / "a.tsv").write_bytes(content)
        (tmp_path / "a.tsv.gz").write_bytes(gzip.compress(content))
        for name in ("a.tsv", "a.tsv.gz"):
            assert blobs.file_names(tmp_path / name, who) and not blobs.file_names(tmp_path / name, leaving("GSM2"))


def test_files_of_an_inbox(tmp_path: Path) -> None:
    for folder in ("done", "quarantine"):
        (tmp_path / folder).mkdir()
    (tmp_path / "done" / "rna__1.tsv").write_text("\tGSM1\tGSM22\n")
    (tmp_path / "done" / "rna__2.tsv").write_text("\tGSM1\tGSM3\n")
    np.savez_compressed(tmp_path / "quarantine" / "rna__3.npz", values=np.eye(1), features=["f"], samples=["GSM22"])
    (tmp_path / "quarantine" / "rna__3.npz.reason.txt").write_text("not taken in")
    (tmp_path / "rna__4.tsv").write_text("\tGSM22\n")
    assert matrix_ids(tmp_path / "quarantine" / "rna__3.npz") and matrix_ids(tmp_path / "nothing.npz") == []
    assert clean_inbox(tmp_path, leaving("GSM22"), matrix_ids) == ["done/rna__1.tsv", "quarantine/rna__3.npz"]
    left = sorted(path.name for path in tmp_path.rglob("*") if path.is_file())
    assert left == ["rna__2.tsv", "rna__4.tsv"]


# -- who is who --------------------------------------------------------------------------------------------------------


@pytest.fixture
def cohort(tmp_path: Path) -> Cohort:
    made = create_cohort(tmp_path / "cohort")
    sheet = pd.DataFrame(
        {
            "person_id": [101, 101, 102, None, *range(201, 209)],
            "twin": ["102", None, None, None, *[None] * 8],
            "mother_person_id": [None, None, 101, None, *[None] * 8],
            "plate": ["S1", "S1", "S1", "S2", *["S1"] * 8],
        },
        index=pd.Index([f"S{i}" for i in range(1, 13)], name="sample_id"),
    )
    made.add_samples(sheet)
    # S2 was said to be somebody else's first.
    made.add_samples(pd.DataFrame({"person_id": [103]}, index=pd.Index(["S2"], name="sample_id")))
    return made


def test_people_and_their_samples(cohort: Cohort) -> None:
    with cohort.catalogue.read() as connection:
        found = resolve(connection, ["101", "S4", "999"])
    who = found.leaving
    assert (who.persons, who.samples) == (frozenset({"101"}), frozenset({"S1", "S4"}))
    assert (found.unknown, found.gone, found.n_people) == (["999"], [], 2)
    # Many samples say S1 of their plate: there it is a word.
    assert who.words == {"S1"} and "plate" not in who.id_columns
    with cohort.catalogue.read() as connection, pytest.raises(DataError, match=r"'S3' \(of '102'\)") as refused:
        resolve(connection, ["S3", "S2"])
    # What to write in their place can be copied.
    assert str(refused.value).endswith("write their person_id instead: '102', '103'.")


def test_ids_that_are_numbers_or_words(cohort: Cohort) -> None:
    report = withdraw(cohort, ["101", "S4"])
    samples = cohort.samples()
    assert sorted(samples.index) == sorted({f"S{i}" for i in range(1, 13)} - {"S1", "S4"}) and report.n_persons == 2
    assert samples["mother_person_id"].isna().all() and set(samples["plate"]) == {"S1"}
    # What was said of S2 before names 101 no more.
    assert set(cohort.samples(1).index) == set(samples.index)
    assert pd.isna(cohort.samples(1).loc["S2", "person_id"]) and cohort.samples().loc["S2", "person_id"] == 103
    assert withdraw(cohort, ["101", "S1"]).status == "unchanged"
    with pytest.raises(DataError, match="neither people nor samples of this cohort: '999'"):
        withdraw(cohort, ["101", "999"])
    assert withdraw(cohort, ["999"], Order(allow_unknown=True)).n_unknown == 1
    # As numbers, with and without a decimal point, where somebody else's is missing.
    again = pd.DataFrame({"person_id": [999.0, 101.0, np.nan]}, index=pd.Index(["S90", "S91", "S92"], name="sample_id"))
    cohort.add_samples(again)
    assert {"S90", "S91", "S92"} & set(cohort.samples().index) == {"S92"}


def test_a_column_of_relatives_is_found_by_what_is_in_it(cohort: Cohort) -> None:
    with cohort.catalogue.read() as connection:
        assert "twin" in resolve(connection, ["102"]).leaving.id_columns
    withdraw(cohort, ["102"])
    assert cohort.samples()["twin"].isna().all()


# -- copies of one person's values -------------------------------------------------------------------------------------


def layer_record() -> ResultRecord:
    return ResultRecord("x", "layers", "l", 1, None, {}, {"parameters_hash": "h" * 32}, 1, None)


def test_a_plate_of_one_sample_and_a_target_are_copies() -> None:
    samples = pd.DataFrame({"plate": ["a", "b", "b"]}, index=["GSM1", "GSM2", "GSM3"])
    arrays = {
        "feature_id": np.array(["f", "g"]),
        "reference_sample": np.array(["GSM1", "GSM2", "GSM3"]),
        "step0.quantile.target": np.array([1.0, 2.0]),
        "step1.plate_centre.plates": np.array(["a", "b"]),
        "step1.plate_centre.n_samples": np.array([1, 2]),
        "step1.plate_centre.centre": np.array([[1.0, 2.0], [3.0, 4.0]]),
        "step1.plate_centre.overall": np.array([2.0, 3.0]),
    }
    attrs = {
        "steps": [
            {"method": "quantile", "target_samples": ["GSM1"], "version": 1},
            {"method": "plate_centre", "plate": "plate", "version": 1},
        ]
    }
    verdict = CopyRules(samples).arrays(layer_record(), Arrays(arrays, attrs), leaving("GSM1"))
    made, stored = verdict.content
    assert made["reference_sample"].tolist() == ["GSM2", "GSM3"] and stored["kept_hash"] == "h" * 32
    assert made["step1.plate_centre.centre"].tolist() == [[0.0, 0.0], [3.0, 4.0]]
    assert made["step1.plate_centre.overall"].tolist() == [2.0, 3.0] and not made["step0.quantile.target"].any()
    assert verdict.blocked == [
        "step `quantile` has a target made of samples that all left",
        "step `plate_centre` held the values of the one sample of 'a', which left",
    ]
    # One of two on a plate: a mean of several stays.
    other = CopyRules(samples).arrays(layer_record(), Arrays(arrays, attrs), leaving("GSM2"))
    assert other.blocked == [] and np.array_equal(other.content[0]["step1.plate_centre.centre"], [[1, 2], [3, 4]])
    everybody = CopyRules(samples).arrays(layer_record(), Arrays(arrays, attrs), leaving("GSM1", "GSM2", "GSM3"))
    assert everybody.blocked[-1] == "everybody it was fitted on withdrew"
    assert CopyRules(samples).arrays(layer_record(), Arrays(arrays, attrs), leaving("GSM9")).content is None


def test_the_profile_of_a_group_of_one_goes() -> None:
    record = ResultRecord("x", "strata", "s", 1, None, {}, {}, 1, None)
    tables = {
        "table": pa.table({"sample_id": ["GSM1", "GSM2", "GSM3"], "stratum": ["C1", "C1", "C2"]}),
        "centroids": pa.table({"feature_id": ["f"], "mean": [1.0], "mean_C1": [2.0], "mean_C2": [3.0]}),
    }
    rules = CopyRules(pd.DataFrame())
    verdict = rules.table(record, "centroids", tables.__getitem__, leaving("GSM3"))
    assert verdict.content.column_names == ["feature_id", "mean", "mean_C1"] and len(verdict.blocked) == 1
    assert rules.table(record, "centroids", tables.__getitem__, leaving("GSM1")).content is None


def test_an_id_that_is_part_of_a_text_is_no_leftover_of_the_database(tmp_path: Path) -> None:
    cohort = create_cohort(tmp_path / "cohort")
    cohort.add_samples(pd.DataFrame({"age": [1]}, index=pd.Index(["S1"], name="sample_id")), "a batch, run again")
    assert not raw_names(cohort, leaving("a b", "atc", "chain"))
    with cohort.catalogue.write() as connection:
        connection.exec_driver_sql("INSERT INTO meta VALUES ('gone', 'a bSOMEBODY')")
    assert not raw_names(cohort, leaving("SOMEBODY"))
    with cohort.catalogue.write() as connection:
        connection.exec_driver_sql("PRAGMA secure_delete=OFF")
        connection.exec_driver_sql("DELETE FROM meta WHERE key = 'gone'")
    # What was deleted is in the file until it is written anew, also where another id stands in a text beside it.
    assert raw_names(cohort, leaving("SOMEBODY")) and raw_names(cohort, leaving("a b", "bSOME"))
    cohort.catalogue.vacuum()
    assert not raw_names(cohort, leaving("SOMEBODY", "a b"))
