"""Ingest as a whole: what is published, what is skipped, and what nothing is left of."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from sjd_dask.errors import Busy, DataError, SjdError, SpecError
from sjd_dask.store.cohort import Cohort, create_cohort
from sjd_dask.store.ingest import ingest, spool, work
from sjd_dask.store.layout import Layout

FEATURES = [f"cg{i:02d}" for i in range(20)]


@pytest.fixture
def cohort(tmp_path: Path) -> Cohort:
    return create_cohort(tmp_path / "cohort", layout=Layout(4, 8))


def frame(samples: list[str], seed: int = 0, features: list[str] | None = None) -> pd.DataFrame:
    """Betas, features x samples; a sample's values depend on its name and the seed alone."""
    columns = {}
    for name in samples:
        key = [seed, *name.encode()]
        columns[name] = np.round(np.random.default_rng(key).random(len(FEATURES)), 4)
    table = pd.DataFrame(columns, index=pd.Index(FEATURES, name="feature_id"))
    return table if features is None else table.loc[features]


def write(path: Path, table: pd.DataFrame) -> Path:
    table.to_csv(path, sep="\t")
    return path


def values(cohort: Cohort, assay: str = "m") -> pd.DataFrame:
    a = cohort.assay(assay)
    raw, encoding = a.reader().columns(0, a.n_features)
    return pd.DataFrame(encoding.decode(raw), index=a.sample_ids(), columns=a.feature_ids())


def left_over(cohort: Cohort) -> list[str]:
    """Segment files that no published row belongs to."""
    live = {str(s) for name in cohort.assays() for s in cohort.assay(name).rows()["segment_id"]}
    found = [p.as_posix() for p in (Path(cohort.path) / "segments").rglob("*") if p.is_file()]
    return [name for name in found if not any(s in name for s in live)]


def test_a_matrix_is_published_and_again_is_a_no_op(cohort: Cohort, tmp_path: Path) -> None:
    table = frame(list("ABCDE"))
    path = write(tmp_path / "m.tsv", table)
    stages: list[str] = []
    report = ingest(cohort, "m", path, quantity="beta", progress=lambda stage, done, total: stages.append(stage))
    assert report.status == "published" and report.new == list("ABCDE")
    assert (report.n_samples, report.n_features) == (5, 20)
    assert 0 < report.encoding_error <= 8e-6
    assert stages[0] == "read" and stages[-1] == "publish" and "write" in stages
    np.testing.assert_allclose(values(cohort).T.to_numpy(), table.to_numpy(), atol=8e-6)
    snapshot = cohort.snapshot()
    again = ingest(cohort, "m", path)
    assert again.status == "unchanged" and again.segment_id == report.segment_id and again.snapshot is None
    assert cohort.snapshot() == snapshot
    assert left_over(cohort) == []
    assert "unchanged" in again.lines()[0]


def test_orientation_does_not_change_content(cohort: Cohort, tmp_path: Path) -> None:
    table = frame(list("ABCDE"))
    ingest(cohort, "m", write(tmp_path / "m.tsv", table), quantity="beta")
    turned = write(tmp_path / "t.tsv", table.T)
    assert ingest(cohort, "m", turned, rows="samples").status == "unchanged"
    shuffled = table.iloc[np.random.default_rng(1).permutation(20), [3, 1, 0, 4, 2]]
    again = ingest(cohort, "m", write(tmp_path / "s.tsv", shuffled))
    assert again.status == "unchanged" and again.features_permuted
    np.savez(tmp_path / "m.npz", values=table.to_numpy(), features=FEATURES, samples=list("ABCDE"))
    assert ingest(cohort, "m", tmp_path / "m.npz").status == "unchanged"
    table.reset_index().to_parquet(tmp_path / "m.parquet")
    assert ingest(cohort, "m", tmp_path / "m.parquet").status == "unchanged"


def test_a_segment_of_our_own_can_be_ingested(cohort: Cohort, tmp_path: Path) -> None:
    report = ingest(cohort, "m", write(tmp_path / "m.tsv", frame(list("ABC"))), quantity="beta")
    segment = Path(cohort.path) / "segments" / "m" / f"{report.segment_id}.zarr"
    assert ingest(cohort, "m", segment).status == "unchanged"


def test_transposed_text_is_refused_with_the_remedy(cohort: Cohort, tmp_path: Path) -> None:
    table = frame(list("ABC"))
    sheet = pd.DataFrame({"age": [1, 2, 3]}, index=list("ABC"))
    turned = write(tmp_path / "t.tsv", table.T)
    with pytest.raises(DataError, match=r"the other way round.*--rows samples"):
        ingest(cohort, "m", turned, quantity="beta", samples=sheet)
    ingest(cohort, "m", write(tmp_path / "m.tsv", table), quantity="beta")
    with pytest.raises(DataError, match="--rows samples"):
        ingest(cohort, "m", turned)
    with pytest.raises(DataError, match="--rows features"):
        ingest(cohort, "m", tmp_path / "m.tsv", rows="samples")


def test_mix_of_known_and_new_samples(cohort: Cohort, tmp_path: Path) -> None:
    ingest(cohort, "m", write(tmp_path / "a.tsv", frame(list("ABC"))), quantity="beta")
    report = ingest(cohort, "m", write(tmp_path / "b.tsv", frame(list("BXCY"))))
    assert report.new == ["X", "Y"] and report.unchanged == ["B", "C"]
    rows = cohort.assay("m").rows().set_index("sample_id")
    assert (rows.loc[["X", "Y"], "segment_id"] == report.segment_id).all()
    assert list(rows.loc[["X", "Y"], "row_index"]) == [0, 1]
    np.testing.assert_allclose(values(cohort).loc[list("ABCXY")].T, frame(list("ABCXY")), atol=8e-6)


def test_corrections_need_replace(cohort: Cohort, tmp_path: Path) -> None:
    ingest(cohort, "m", write(tmp_path / "a.tsv", frame(list("ABC"))), quantity="beta")
    first = cohort.snapshot()
    other = frame(list("ABC"))
    other["B"] = frame(["B"], seed=9)["B"]
    path = write(tmp_path / "b.tsv", other)
    with pytest.raises(DataError, match=r"1 of the 3 samples.*'B'.*--replace"):
        ingest(cohort, "m", path)
    assert cohort.snapshot() == first and left_over(cohort) == []
    report = ingest(cohort, "m", path, replace=True)
    assert report.replaced == ["B"] and report.unchanged == ["A", "C"] and report.new == []
    np.testing.assert_allclose(values(cohort).loc[list("ABC")].T, other, atol=8e-6)
    old = cohort.assay("m", snapshot=first)
    raw, encoding = old.reader(["B"]).columns(0, 20)
    np.testing.assert_allclose(encoding.decode(raw)[0], frame(["B"])["B"], atol=8e-6)


def test_sample_sheet_is_joined_by_id(cohort: Cohort, tmp_path: Path) -> None:
    path = write(tmp_path / "m.tsv", frame(["01", "02", "03"]))
    sheet = tmp_path / "s.csv"
    sheet.write_text("sample_id,person_id,visit,age\n02,7,1,50\n01,007,2,51\n99,8,1,52\n")
    report = ingest(cohort, "m", path, quantity="beta", samples=sheet)
    assert report.not_in_sheet == ["03"] and report.only_in_sheet == ["99"]
    assert any("'03'" in w for w in report.warnings) and any("'99'" in w for w in report.warnings)
    samples = cohort.samples()
    assert samples.loc["01", "person_id"] == "007" and samples.loc["02", "person_id"] == "7"
    assert "99" in samples.index
    sheet.write_text("sample_id,age\nx1,50\nx2,51\n")
    with pytest.raises(DataError, match=r"none of the 3 samples.*'01'.*'x1'"):
        ingest(cohort, "n", path, quantity="beta", samples=sheet)
    # The same matrix with a corrected sheet updates the columns.
    sheet.write_text("sample_id,age\n01,66\n")
    again = ingest(cohort, "m", path, samples=sheet)
    assert again.status == "unchanged" and again.snapshot is not None
    assert cohort.samples().loc["01", "age"] == 66


def test_features_must_match_unless_declared(cohort: Cohort, tmp_path: Path) -> None:
    ingest(cohort, "m", write(tmp_path / "a.tsv", frame(list("AB"))), quantity="beta")
    fewer = write(tmp_path / "b.tsv", frame(list("CD"), features=FEATURES[3:]))
    with pytest.raises(DataError, match=r"lacks 3 of the assay's 20 features \('cg00', 'cg01', 'cg02'\).*--features"):
        ingest(cohort, "m", fewer)
    more = frame(list("CD"))
    more.loc["zz"] = 0.5
    more_path = write(tmp_path / "c.tsv", more)
    with pytest.raises(DataError, match="holds 1 that the assay does not have \\('zz'\\)"):
        ingest(cohort, "m", more_path)
    table = pd.DataFrame({"feature_id": FEATURES})
    report = ingest(cohort, "m", fewer, features=table)
    assert (report.features_absent, report.features_dropped, report.n_missing) == (3, 0, 0)
    assert values(cohort).loc["C"].isna().tolist() == [True] * 3 + [False] * 17
    more = more.rename(columns={"C": "E", "D": "F"})
    report = ingest(cohort, "m", write(tmp_path / "d.tsv", more), features=table)
    assert (report.features_absent, report.features_dropped) == (0, 1)
    with pytest.raises(DataError, match="declares 1 features that assay 'm' does not have: 'zz'"):
        ingest(cohort, "m", more_path, features=pd.DataFrame({"feature_id": [*FEATURES, "zz"]}))
    with pytest.raises(DataError, match="none of its 20 features"):
        ingest(cohort, "m", write(tmp_path / "e.tsv", frame(["G"]).rename(index=lambda i: "x" + i)), features=table)


def test_feature_table_declares_a_new_assay(cohort: Cohort, tmp_path: Path) -> None:
    path = write(tmp_path / "m.tsv", frame(list("AB")))
    table = tmp_path / "f.csv"
    table.write_text("feature_id,chromosome,position\ncg05,1,100\ncg01,X,5\nnew,2,7\n")
    report = ingest(cohort, "m", path, quantity="beta", features=table)
    assert (report.features_dropped, report.features_absent, report.n_features) == (18, 1, 3)
    assay = cohort.assay("m")
    assert list(assay.feature_ids()) == ["cg05", "cg01", "new"]
    assert assay.features()["position"].tolist() == [100, 5, 7]
    np.testing.assert_allclose(values(cohort).to_numpy()[:, :2], frame(list("AB")).loc[["cg05", "cg01"]].T, atol=8e-6)


def test_counts_take_the_smallest_integer_and_hash_the_same(cohort: Cohort, tmp_path: Path) -> None:
    small = pd.DataFrame({"A": [0, 3, 200]}, index=pd.Index(["g1", "g2", "g3"]))
    report = ingest(cohort, "c", write(tmp_path / "a.tsv", small), quantity="counts")
    assert report.encoding["dtype"] == "uint8"
    both = small.assign(B=[0, 70000, 5])
    report = ingest(cohort, "c", write(tmp_path / "b.tsv", both))
    assert report.encoding["dtype"] == "uint32" and report.unchanged == ["A"] and report.new == ["B"]
    huge = pd.DataFrame({"C": [0, 2**33, 5]}, index=small.index)
    holes = huge.astype(object)
    holes.loc["g1", "C"] = "NA"
    report = ingest(cohort, "c", write(tmp_path / "c.tsv", holes))
    assert report.encoding["dtype"] == "uint64" and report.n_missing == 1
    found = values(cohort, "c")
    assert found.loc["B"].tolist() == [0, 70000, 5]
    assert np.isnan(found.loc["C", "g1"]) and found.loc["C", "g2"] == 2**33


def test_floats_keep_their_type_unless_told(cohort: Cohort, tmp_path: Path) -> None:
    table = pd.DataFrame({"A": [1 / 3, -2.5], "B": [1e-7, np.nan]}, index=pd.Index(["g1", "g2"]))
    path = write(tmp_path / "m.tsv", table)
    assert ingest(cohort, "e", path, quantity="expression").encoding["dtype"] == "float64"
    np.testing.assert_array_equal(values(cohort, "e").T, table)
    assert ingest(cohort, "f", path, quantity="expression", dtype="float32").encoding["dtype"] == "float32"
    big = write(tmp_path / "big.tsv", table * 1e300)
    with pytest.raises(DataError, match="does not fit float32"):
        ingest(cohort, "g", big, quantity="expression", dtype="float32")
    np.savez(tmp_path / "m.npz", values=table.to_numpy("f4"), features=["g1", "g2"], samples=["A", "B"])
    assert ingest(cohort, "h", tmp_path / "m.npz", quantity="expression").encoding["dtype"] == "float32"
    assert (
        ingest(cohort, "b", write(tmp_path / "b.tsv", frame(["A"])), quantity="beta", dtype="source").encoding["dtype"]
        == "float64"
    )


def test_one_sample_is_enough(cohort: Cohort, tmp_path: Path) -> None:
    assert ingest(cohort, "m", write(tmp_path / "m.tsv", frame(["A"])), quantity="beta").new == ["A"]
    assert ingest(cohort, "m", write(tmp_path / "t.tsv", frame(["B"]).T), rows="samples").new == ["B"]


def test_quantity_is_needed_once_and_then_fixed(cohort: Cohort, tmp_path: Path) -> None:
    path = write(tmp_path / "m.tsv", frame(["A"]))
    with pytest.raises(SpecError, match="is new, so its quantity"):
        ingest(cohort, "m", path)
    with pytest.raises(SpecError):
        ingest(cohort, "m", path, quantity="betas")
    with pytest.raises(SpecError):
        ingest(cohort, "../m", path, quantity="beta")
    ingest(cohort, "m", path, quantity="beta")
    with pytest.raises(DataError, match="holds beta, and this matrix was declared as expression"):
        ingest(cohort, "m", path, quantity="expression")


def test_spool_on_disk_and_small_tiles_change_nothing(
    cohort: Cohort, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = frame([f"S{i:02d}" for i in range(11)])
    table.iloc[3, 4] = np.nan
    ingest(cohort, "m", write(tmp_path / "m.tsv", table), quantity="beta")
    monkeypatch.setattr(work, "Spool", lambda n, dtype, folder: spool.Spool(n, dtype, folder, 100))
    monkeypatch.setattr("sjd_dask.store.ingest.writing.TILE_BYTES", 1)
    shuffled = table.iloc[np.random.default_rng(1).permutation(20)]
    assert ingest(cohort, "m", write(tmp_path / "s.tsv", shuffled)).status == "unchanged"
    turned = write(tmp_path / "t.tsv", shuffled.T)
    assert ingest(cohort, "m", turned, rows="samples").status == "unchanged"
    ingest(cohort, "n", turned, rows="samples", quantity="beta")
    pd.testing.assert_frame_equal(values(cohort, "n")[FEATURES], values(cohort)[FEATURES])
    # The nameless file leaves nothing behind.
    assert {p.name for p in Path(cohort.path).iterdir()} >= {"cohort.toml", "segments"}
    assert not [p for p in Path(cohort.path).iterdir() if p.name.startswith("tmp")]


def test_a_failure_at_any_stage_leaves_nothing(cohort: Cohort, tmp_path: Path) -> None:
    path = write(tmp_path / "m.tsv", frame(list("ABCDEF")))
    seen: list[tuple[str, int]] = []
    ingest(create_cohort(tmp_path / "other"), "m", path, quantity="beta", progress=lambda s, d, t: seen.append((s, d)))
    steps = [s for s in seen if s != ("publish", 1)]
    for stop in steps:

        def fail(stage: str, done: int, total: int | None, stop: tuple[str, int] = stop) -> None:
            if (stage, done) == stop:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            ingest(cohort, "m", path, quantity="beta", progress=fail)
        assert cohort.assays() == [] and left_over(cohort) == []
    assert ingest(cohort, "m", path, quantity="beta").status == "published"


def test_a_second_writer_of_a_sample_is_turned_away(cohort: Cohort, tmp_path: Path) -> None:
    path = write(tmp_path / "m.tsv", frame(list("AB")))
    staging = cohort.begin_staging("m", "another", ["B", "C"])
    with pytest.raises(Busy):
        ingest(cohort, "m", path, quantity="beta")
    cohort.abandon(staging)
    assert ingest(cohort, "m", path, quantity="beta").new == ["A", "B"]


def test_geo_columns_become_sample_columns(cohort: Cohort, tmp_path: Path) -> None:
    text = (
        '!Series_title\t"x"\n!Sample_geo_accession\t"GSM1"\t"GSM2"\n!Sample_characteristics_ch1\t"age: 5"\t"age: 6"\n'
        '!series_matrix_table_begin\n"ID_REF"\t"GSM1"\t"GSM2"\n"cg1"\t0.1\t0.2\n!series_matrix_table_end\n'
    )
    path = tmp_path / "g.txt.gz"
    path.write_bytes(gzip.compress(text.encode()))
    ingest(cohort, "m", path, quantity="beta", samples=pd.DataFrame({"sex": ["F"]}, index=["GSM2"]))
    samples = cohort.samples()
    assert samples.loc["GSM1", "age"] == 5 and samples.loc["GSM2", "sex"] == "F"


def broken(**changes: Any) -> pd.DataFrame:
    table = frame(list("ABC")).astype(object)
    for value, (feature, sample) in changes.values():
        table.loc[feature, sample] = value
    return table


@pytest.mark.parametrize(
    ("quantity", "value", "parts"),
    [
        ("beta", 1.2, ["above 1", "beta"]),
        ("beta", -0.1, ["below 0", "beta"]),
        ("counts", -1, ["below 0", "counts"]),
        ("counts", 1.5, ["not a whole number"]),
        ("proportion", 20, ["above 1", "divided by 100"]),
        ("concentration", -3, ["below 0"]),
        ("dosage", 2.5, ["above 2"]),
        ("m_value", "inf", ["finite"]),
        ("expression", "high", ["not a number"]),
    ],
)
def test_values_outside_the_quantity_are_named(
    cohort: Cohort, tmp_path: Path, quantity: str, value: Any, parts: list[str]
) -> None:
    table = broken(x=(value, ("cg07", "B")))
    if quantity == "counts":
        table = table.map(lambda v: v if v == value else 3)
    for name, content, rows, line in (("m.tsv", table, None, "line 9"), ("t.tsv", table.T, "samples", "line 3")):
        with pytest.raises(DataError) as caught:
            ingest(cohort, "m", write(tmp_path / name, content), quantity=quantity, rows=rows)  # type: ignore[arg-type]
        for part in [*parts, line, "'cg07'", "'B'", str(value)]:
            assert part in str(caught.value)
    assert cohort.assays() == [] and left_over(cohort) == []


def test_infinity_in_an_array_is_refused(cohort: Cohort, tmp_path: Path) -> None:
    np.savez(tmp_path / "m.npz", values=np.array([[1.0, np.inf]]), features=["a", "b"], samples=["S"])
    with pytest.raises(DataError, match=r"'b'.*inf is not a finite number"):
        ingest(cohort, "m", tmp_path / "m.npz", quantity="m_value")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "empty"),
        ("id\tA\tA\nf\t1\t1\n", "sample id is repeated: 'A'"),
        ("id\tA\nf\t1\nf\t0\n", "feature id is repeated: 'f'"),
        ("id\tA\t\nf\t1\t1\n", "sample id at position 2 is empty"),
        ("id\tA\nf\t1\n\t0\n", "feature id at position 2 is empty"),
        ("id\tA\x07\nf\t1\n", "control character"),
        ("id\nf\n", "delimiter"),
        ("id\tA\tB\nf\t1\tNA\ng\t1\t\n", "1 of 2 samples have no value at all: 'B'"),
    ],
)
def test_bad_files_are_named_and_leave_nothing(cohort: Cohort, tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "bad.tsv"
    path.write_text(content)
    with pytest.raises(DataError) as caught:
        ingest(cohort, "m", path, quantity="beta")
    assert message in str(caught.value)
    assert cohort.assays() == [] and left_over(cohort) == []
    assert cohort.begin_staging("m", "free", ["A", "B"])


def test_missing_share_warns_and_refuses(cohort: Cohort, tmp_path: Path) -> None:
    table = frame(list("ABC"))
    table.iloc[:3, 0] = np.nan
    table.iloc[:11, 1] = np.nan
    path = write(tmp_path / "m.tsv", table)
    with pytest.raises(DataError, match=r"more than 50% of their values: 'B' \(55.0%\)"):
        ingest(cohort, "m", path, quantity="beta")
    report = ingest(cohort, "m", path, quantity="beta", max_missing=0.6)
    assert report.high_missing == {"B": 0.55, "A": 0.15} and report.n_missing == 14
    with pytest.raises(SpecError):
        ingest(cohort, "m", path, quantity="beta", max_missing=60)


def test_missing_share_counts_kept_features_alone(cohort: Cohort, tmp_path: Path) -> None:
    table = frame(list("AB"))
    table.iloc[:3, 0] = np.nan
    keep = pd.DataFrame({"feature_id": FEATURES[:3]})
    with pytest.raises(DataError, match="no value at all: 'A'"):
        ingest(cohort, "m", write(tmp_path / "m.tsv", table), quantity="beta", features=keep)


def test_storage_that_refuses_is_a_clear_error(cohort: Cohort, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "m.tsv", frame(list("ABC")))

    class Full:
        def write(self, data: bytes) -> int:
            raise OSError(28, "No space left on device")

        def close(self) -> None:
            pass

    monkeypatch.setattr(work, "Spool", lambda n, dtype, folder: spool.Spool(n, dtype, folder, 1))
    monkeypatch.setattr("sjd_dask.store.ingest.spool.tempfile.TemporaryFile", lambda dir: Full())
    with pytest.raises(SjdError, match="No space left") as caught:
        ingest(cohort, "m", path, quantity="beta")
    assert "nothing was published" in str(caught.value)
    assert cohort.assays() == [] and left_over(cohort) == []
