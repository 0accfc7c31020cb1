"""The table of a classification from scores, and which chunks a model's features ask for."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import classify_scene as scene
import numpy as np
import pandas as pd
import pytest
from score_scene import calls, classify, make_bundle, publish

from sjd_dask import names
from sjd_dask.errors import DataError, SpecError
from sjd_dask.jobs.class_tables import classes_of, classes_schema, classes_table, conformal_text, people, refused
from sjd_dask.jobs.score import chain_sheet, restricted_chain, scores_frame, stripes
from sjd_dask.jobs.score_values import Collected, Scored, _apply, empty_scores
from sjd_dask.jobs.table_columns import TABLES
from sjd_dask.store.cohort import open_cohort

CLASSES = ("C1", "C2", "C10")
FIXED = {
    names.CLASSES: "sample_id person_id visit date call status top_class confidence conformal_set model run",
    names.REPORTED: "person_id reported_call since_date since_run",
    names.CHANGES: "sample_id person_id visit previous_sample_id previous_call call reported_before reported_call "
    "reason previous_model model previous_confidence confidence run",
}


@pytest.mark.parametrize("kind", FIXED)
def test_columns_are_those_of_the_contract(kind: str) -> None:
    assert list(TABLES[kind].columns) == FIXED[kind].split()
    assert kind in names.RESULT_KINDS


def test_probabilities_stand_before_the_set() -> None:
    found = classes_schema(CLASSES).names
    assert found[8:12] == ["p_C1", "p_C2", "p_C10", "conformal_set"]
    assert [one for one in found if not one.startswith("p_")] == FIXED[names.CLASSES].split()


def scores() -> pd.DataFrame:
    """Called, abstained, without probabilities; in no order."""
    found = empty_scores(4, 3)
    found["probabilities"][:3] = [[0.1, 0.7, 0.2], [0.4, 0.3, 0.3], [0.0, 0.0, 1.0]]
    found["top"][:3], found["confidence"][:3] = [1, 0, 2], [0.7, 0.4, 1.0]
    found["conformal"][:3] = [[0, 1, 0], [1, 0, 1], [0, 0, 0]]
    found["ood_score"][:3], found["n_missing"][:] = [0.1, 0.2, 9.0], [0, 1, 2, -1]
    found["status"][:] = ["called", "abstained", "out_of_distribution", "pending_batch"]
    found["reason"][3] = "pending_batch"
    return scores_frame([{names.SAMPLE_ID: np.array(["b", "d", "a", "e"], dtype=object), **found}], CLASSES)


def test_rows_are_by_id_and_what_is_not_known_is_missing() -> None:
    index = pd.Index(list("edcba"), name="sample_id", dtype=object)
    sheet = pd.DataFrame(
        {"person_id": list("PQRST"), "visit": [1.0, 2.0, np.nan, 1.0, 2.0], "lab": list("xyxyx")}, index=index
    )
    made, companion = classes_table(scores(), sheet, CLASSES, "m@3", "r1", "lab")
    table = made.to_pandas().set_index("sample_id")
    assert made.schema == classes_schema(CLASSES) and classes_of(made) == CLASSES
    assert list(table.index) == list("abcde")
    assert list(table["status"]) == ["out_of_distribution", "called", "not_eligible", "abstained", "pending_batch"]
    assert made["call"].to_pylist() == [None, "C2", None, None, None]
    assert made["top_class"].to_pylist() == ["C10", "C2", None, "C1", None]
    assert made["conformal_set"].to_pylist() == ["", "C2", None, "C1|C10", None]
    assert made["confidence"].to_pylist() == [1.0, 0.7, None, 0.4, None]
    assert made["p_C2"].to_pylist() == [0.0, 0.7, None, 0.3, None]
    assert made["person_id"].to_pylist() == list("TSRQP") and made["date"].null_count == 5
    assert made["visit"].to_pylist() == ["2", "1", None, "2", "1"]
    assert companion["sample_id"].to_pylist() == list("abde") and companion["n_missing"].to_pylist() == [2, 0, 1, None]
    assert companion["reason"].to_pylist() == [None, None, None, "pending_batch"]
    assert companion["batch"].to_pylist() == ["x", "y", "y", "x"]
    with pytest.raises(ValueError, match="not in the sheet"):
        classes_table(scores(), sheet.loc[["a"]], CLASSES, "m@3", "r1")


def test_nobody_scored_and_nobody_at_all() -> None:
    sheet = pd.DataFrame(index=pd.Index(["b", "a"], name="sample_id", dtype=object))
    made, companion = classes_table(scores_frame([], CLASSES), sheet, CLASSES, "m@3", "r1")
    assert made["status"].to_pylist() == ["not_eligible"] * 2 and companion.num_rows == 0
    assert classes_table(scores_frame([], CLASSES), sheet[:0], CLASSES, "m@3", "r1")[0].num_rows == 0


def test_sets_as_text_for_many_classes() -> None:
    many = [f"k{i}" for i in range(70)]
    members = np.random.default_rng(1).random((200, 70)) < 0.05
    wanted = ["|".join(name for name, one in zip(many, row, strict=True) if one) for row in members]
    assert conformal_text(members, many).tolist() == wanted


@pytest.mark.parametrize(
    ("cells", "wanted"),
    [
        ([1, 2, 10], ["1", "2", "10"]),
        ([1.0, np.nan, 2.5], ["1", None, "2.5"]),
        (["V1", None, " "], ["V1", None, None]),
        (
            pd.to_datetime(["2025-03-01", None, "2025-03-02 10:30"], format="mixed"),
            ["2025-03-01", None, "2025-03-02T10:30:00"],
        ),
    ],
    ids=["whole", "real", "text", "dates"],
)
def test_visits_and_dates_as_text(cells: Any, wanted: list[str | None]) -> None:
    sheet = pd.DataFrame({"visit": cells}, index=["a", "b", "c"])
    found = people(sheet)
    assert found["visit"].tolist() == wanted and found["person_id"].tolist() == [None] * 3


def test_warnings_count_and_name_nobody() -> None:
    frame = scores()
    frame.loc["b", "reason"], frame.loc["d", "reason"] = "refused: sample 'b' is empty", "without plate"
    assert [one.split(":")[0] for one in refused(frame)] == ["1 sample"] * 3
    assert not any("'b'" in one for one in refused(frame)) and refused(frame.iloc[:0]) == []


# -- reading -----------------------------------------------------------------------------------------------------------


def test_stripes_are_the_chunks_that_are_needed() -> None:
    columns = np.array([5, -1, 39, 4, 21, 12, 47])
    found = stripes(columns, 10, 48)
    assert [(one.start, one.stop) for one in found] == [(0, 48)]
    found = stripes(np.array([5, -1, 39, 4, 35]), 10, 48)
    assert [(one.start, one.stop) for one in found] == [(0, 10), (30, 40)]
    assert [one.take.tolist() for one in found] == [[4, 5], [5, 9]]
    assert [one.to.tolist() for one in found] == [[3, 0], [4, 2]]
    assert stripes(np.array([-1]), 10, 48) == []


def test_only_the_chunks_that_hold_the_panel_are_read(tmp_path: Path) -> None:
    """All others are gone, and the calls are the same; without one of those needed the error names it."""
    ids = scene.sample_ids(range(20))
    cohort = scene.make(tmp_path / "cohort", ids, chunks=(8, 6))
    bundle = make_bundle([{"method": "log", "offset": 1}])
    publish(cohort, bundle)
    wanted = calls(classify(cohort))
    needed = {scene.FEATURES.index(str(one)) // 6 for one in bundle.classifier.features}
    assert 0 < len(needed) < 150 // 6
    (stored,) = (tmp_path / "cohort" / "segments" / "rna").glob("*.zarr")
    for row in (stored / "counts" / "c").iterdir():
        for chunk in row.iterdir():
            if int(chunk.name) not in needed:
                chunk.unlink()
    found = calls(classify(cohort, output="again"))
    pd.testing.assert_frame_equal(found.drop(columns="run"), wanted.drop(columns="run"))
    # The same spec after another model was promoted is another run; a name stands for what is in production.
    publish(cohort, dataclasses.replace(bundle, facts={"trained": "again"}))
    newer = classify(cohort)
    assert newer.results == ["classes/calls@2"] and set(calls(newer)["model"]) == {"groups@2"}
    assert classify(cohort, model="groups@2").state == classify(cohort).state == "unchanged"
    # Back to the first one: the newest calls are the second model's, so the first one's are published again.
    older = classify(cohort, model="groups@1")
    assert older.results == ["classes/calls@3"] and set(calls(older)["model"]) == {"groups@1"}
    shutil.rmtree(stored / "counts" / "c" / "0")
    with pytest.raises(DataError, match="is lost"):
        classify(cohort, output="lost")
    assert [one.ref for one in open_cohort(cohort).results() if one.name == "lost"] == []


def test_halves_are_tried_until_the_refused_stand_alone() -> None:
    """Seven samples of which two are refused: few calls, and everyone else's values."""
    asked = []

    def apply(values: np.ndarray, ids: tuple[str, ...], sheet: pd.DataFrame, pending: np.ndarray) -> Any:
        asked.append(ids)
        if {"s2", "s6"} & set(ids):
            raise DataError("no counts")
        return SimpleNamespace(values=values * 2, pending=pending)

    ids = tuple(f"s{i}" for i in range(7))
    values, out = np.arange(14.0).reshape(7, 2), np.full((7, 2), np.nan)
    sheet = pd.DataFrame(index=list(ids))
    pending = _apply(SimpleNamespace(apply=apply), values, ids, sheet, np.full(7, "", dtype=object), out)  # type: ignore[arg-type]
    bad = [2, 6]
    assert [i for i in range(7) if pending[i]] == bad and set(pending[bad]) == {"refused: no counts"}
    rest = [0, 1, 3, 4, 5]
    assert (out[rest] == 2 * values[rest]).all() and np.isnan(out[bad]).all() and len(asked) < 13


def test_scores_are_put_where_their_samples_belong() -> None:
    total = Collected(("a", "b", "c"), SimpleNamespace(classes=("x", "y")))  # type: ignore[arg-type]
    one = empty_scores(2, 2)
    one["confidence"][:], one["status"][:] = [0.3, 0.1], ["called", "abstained"]
    total.put(np.array([2, 0]), Scored(one, np.empty((2, 0))))
    frame = scores_frame([total.arrays], ("x", "y"))
    assert frame["confidence"].tolist()[::2] == [0.1, 0.3] and frame["status"].tolist() == ["abstained", "", "called"]


def test_a_chain_with_masks_is_refused() -> None:
    """Values that a companion assay makes missing would be taken for measured."""
    bundle = SimpleNamespace(chain=SimpleNamespace(masks={"detection_p": 0.01}))
    with pytest.raises(SpecError, match="detection_p"):
        restricted_chain(bundle)  # type: ignore[arg-type]


def test_a_column_that_the_chain_needs_and_the_sheet_lacks() -> None:
    with pytest.raises(SpecError, match=r"'batch'.*there are: age"):
        chain_sheet(SimpleNamespace(columns=("batch",)), pd.DataFrame({"age": [1]}))  # type: ignore[arg-type]
