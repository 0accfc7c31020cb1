"""What a night has to do, who changed and why: each reason, and nothing where nothing changed."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from sjd_dask.jobs.night_changes import CHANGES_COLUMNS, call_changes, changes, rolled_back
from sjd_dask.jobs.night_inputs import calls_frame
from sjd_dask.jobs.night_state import Night, Rules, find_work, sheet_hashes
from sjd_dask.jobs.reported import replay, with_runs

RULES = Rules("model1", "all", 0.2)
CLASSES = ("A", "B")


def night(
    rows: dict[str, tuple[str, int, str | None, float]], rules: Rules = RULES, run: str = "run1", **more: Any
) -> Night:
    """Sample -> (person, visit, call, probability of A). `hashes`: other row hashes; `not_eligible`: samples."""
    ids = pd.Index(sorted(rows), name="sample_id", dtype=object)
    p = np.array([rows[one][3] for one in ids])
    left_out = np.isin(ids, more.get("not_eligible", []))
    call = pd.Series([rows[one][2] for one in ids], index=ids, dtype=object).where(~left_out, None)
    calls = pd.DataFrame(
        {
            "person_id": [rows[one][0] for one in ids], "visit": [str(rows[one][1]) for one in ids], "date": None,
            "call": call, "status": np.where(left_out, "not_eligible", np.where(call.isna(), "abstained", "called")),
            "top_class": np.where(p >= 0.5, "A", "B"), "confidence": np.where(left_out, np.nan, np.maximum(p, 1 - p)),
            "p_A": np.where(left_out, np.nan, p), "p_B": np.where(left_out, np.nan, 1 - p),
            "model": rules.model_hash, "run": run,
        }, index=ids,
    )  # fmt: skip
    hashes = {one: f"h{one}" for one in ids} | more.get("hashes", {})
    state = pd.DataFrame(
        {"row_hash": [hashes[one] for one in ids], "sheet_hash": "", "eligible": ~left_out}, index=ids
    )  # fmt: skip
    reported = with_runs(replay(calls[~left_out], CLASSES, rules.margin), calls["run"], None)
    return Night(calls, state, reported, rules, n_published=len(ids))


BEFORE = night({"a1": ("a", 1, "A", 0.9), "b1": ("b", 1, "B", 0.2), "c1": ("c", 1, None, 0.5)})


def table(after: Night, before: Night | None = BEFORE) -> dict[str, dict[str, Any]]:
    found = changes(before, after, "run2", after.rules.model_hash)
    assert list(found.columns) == list(CHANGES_COLUMNS) and set(found["run"]) <= {"run2"}
    held = found.astype(object).where(found.notna(), None)
    return {row["sample_id"]: row for row in held.to_dict("records")}


def after(more: dict[str, tuple[str, int, str | None, float]], rules: Rules = RULES, **keys: Any) -> Night:
    rows = {one: (row.person_id, int(row.visit), row.call, row.p_A) for one, row in BEFORE.calls.iterrows()}
    rows = {one: (p, v, None if pd.isna(c) else c, x) for one, (p, v, c, x) in rows.items()}
    return night({**rows, **more}, rules, "run2", **keys)


def work(now: Night, before: Night | None = BEFORE) -> Any:
    return find_work(now.state, now.calls, now.rules, before)


def test_the_first_night_and_a_night_of_nothing() -> None:
    first = table(BEFORE, None)
    assert {one: row["reason"] for one, row in first.items()} == dict.fromkeys(("a1", "b1", "c1"), "new_person")
    assert first["a1"]["previous_call"] is None and first["a1"]["reported_call"] == "A"
    assert work(BEFORE, None).score == ["a1", "b1", "c1"]
    same = after({})
    assert table(same) == {} and work(same).nothing
    assert call_changes(BEFORE, same) == ([], [])
    retired, rows = call_changes(None, BEFORE)
    assert retired == [] and [row["sample_id"] for row in rows] == ["a1", "b1", "c1"]
    assert rows[2]["call"] is None and rows[0]["row_hash"] == "ha1"


def test_a_report_of_nothing_is_the_same_whatever_stands_for_missing() -> None:
    stored = BEFORE.reported.assign(reported_call=BEFORE.reported["reported_call"].astype("str"))
    assert stored["reported_call"].isna().any()
    before = Night(BEFORE.calls, BEFORE.state, stored, BEFORE.rules, n_published=3)
    assert table(after({}), before) == {}


def test_new_persons_and_new_visits() -> None:
    now = after({"a2": ("a", 2, "B", 0.4), "d1": ("d", 1, "B", 0.1), "d2": ("d", 2, "A", 0.9)})
    assert work(now).score == ["a2", "d1", "d2"]
    found = table(now)
    assert {one: row["reason"] for one, row in found.items()} == {
        "a2": "new_visit", "d1": "new_person", "d2": "new_visit",
    }  # fmt: skip
    visit = found["a2"]
    assert (visit["previous_sample_id"], visit["previous_call"], visit["call"]) == ("a1", "A", "B")
    assert (visit["reported_before"], visit["reported_call"]) == ("A", "A")  # 0.6 - 0.4 is no evidence yet
    assert (visit["previous_confidence"], visit["confidence"]) == (0.9, 0.6)
    assert (found["d2"]["previous_sample_id"], found["d1"]["previous_sample_id"]) == ("d1", None)
    assert (found["d2"]["reported_before"], found["d2"]["reported_call"]) == (None, "A")
    retired, rows = call_changes(BEFORE, now)
    assert retired == [] and [row["sample_id"] for row in rows] == ["a2", "d1", "d2"]


def test_new_data_of_a_known_sample() -> None:
    now = after({"b1": ("b", 1, "A", 0.95)}, hashes={"b1": "other"})
    assert work(now).score == ["b1"]
    (row,) = table(now).values()
    assert (row["reason"], row["previous_sample_id"], row["previous_call"], row["call"]) == (
        "new_data", "b1", "B", "A",
    )  # fmt: skip
    assert (row["reported_before"], row["reported_call"]) == ("B", "A")
    retired, rows = call_changes(BEFORE, now)
    assert retired == ["b1"] and rows[0]["row_hash"] == "other"
    # The same call of other data: the history says so, and nobody changed.
    quiet = after({"b1": ("b", 1, "B", 0.2)}, hashes={"b1": "other"})
    assert table(quiet) == {} and call_changes(BEFORE, quiet)[0] == ["b1"]


def test_a_new_model_and_the_same_model_with_another_threshold() -> None:
    rules = Rules("model2", "all", 0.2)
    now = after({"b1": ("b", 1, "A", 0.7), "c1": ("c", 1, "A", 0.5)}, rules)
    assert work(now).score == ["a1", "b1", "c1"]
    found = table(now)
    assert {one: row["reason"] for one, row in found.items()} == {"b1": "new_model", "c1": "threshold"}
    assert (found["b1"]["previous_model"], found["b1"]["model"]) == ("model1", "model2")


def test_another_margin_changes_reports_alone() -> None:
    base = night({"a1": ("a", 1, "A", 0.9), "a2": ("a", 2, "B", 0.3)}, Rules("model1", "all", 0.5))
    now = night({"a1": ("a", 1, "A", 0.9), "a2": ("a", 2, "B", 0.3)}, RULES)
    todo = work(now, base)
    assert todo.rules and not todo.score and not todo.nothing
    (row,) = table(now, base).values()
    assert (row["sample_id"], row["reason"], row["previous_call"], row["call"]) == ("a2", "threshold", "B", "B")
    assert (row["reported_before"], row["reported_call"]) == ("A", "B")
    assert call_changes(base, now) == ([], [])


def test_who_is_not_eligible_any_more_and_who_is_again() -> None:
    now = after({}, not_eligible=["a1"])
    todo = work(now)
    assert todo.sheet and not todo.score
    (row,) = table(now).values()
    assert (row["sample_id"], row["reason"], row["previous_call"], row["call"]) == ("a1", "new_data", "A", None)
    assert (row["reported_before"], row["reported_call"]) == ("A", None)
    (row,) = table(after({}, Rules("model1", "x > 1", 0.2), not_eligible=["a1"])).values()
    assert row["reason"] == "threshold"
    again = after({})
    assert work(again, now).score == ["a1"]
    (row,) = table(again, now).values()
    assert (row["reason"], row["reported_before"], row["reported_call"]) == ("new_person", None, "A")


def test_withdrawn_people_are_counted_and_not_named() -> None:
    """Their rows are gone from the tables of the night before too; only its number of samples tells."""
    left = night({one: ("b" if one == "b1" else "c", 1, None, 0.5) for one in ("b1", "c1")})
    scrubbed = Night(left.calls, left.state, left.reported, left.rules, n_published=3)
    todo = work(left, scrubbed)
    assert todo.gone == 1 and not todo.score and not todo.nothing
    found = changes(scrubbed, left, "run2", "m@1")
    assert found["reason"].tolist() == ["withdrawn"]
    assert found.drop(columns=["reason", "run", "model"]).isna().all().all()


def test_samples_that_were_taken_back_are_named() -> None:
    """A sample that is in the tables still, and not in the assay: nobody withdrew."""
    kept = night({"b1": ("b", 1, "B", 0.2), "c1": ("c", 1, None, 0.5)})
    assert work(kept).gone == 1 and call_changes(BEFORE, kept) == (["a1"], [])
    (row,) = table(kept).values()
    assert (row["sample_id"], row["person_id"], row["reason"]) == ("a1", "a", "rollback")
    assert (row["previous_call"], row["call"], row["reported_before"], row["reported_call"]) == ("A", None, "A", None)
    assert (row["previous_confidence"], row["confidence"], row["model"]) == (0.9, None, None)
    # Of two samples one: the person's report goes back with it, in the same row.
    two = after({"b2": ("b", 2, "A", 0.9)})
    (row,) = table(BEFORE, two).values()
    assert (row["sample_id"], row["reason"], row["reported_before"], row["reported_call"]) == (
        "b2",
        "rollback",
        "A",
        "B",
    )
    # Whoever was not eligible had no call that could end.
    assert table(kept, after({}, not_eligible=["a1"])) == {}


def test_a_sheet_that_moves_a_sample_to_another_person() -> None:
    now = after({"b1": ("a", 2, "B", 0.2)})
    assert work(now).sheet and not work(now).score
    rows = table(now)  # neither call is another one; the reports of a and of b, who has no sample any more, are
    assert set(rows) == {"b1", None} and {row["reason"] for row in rows.values()} == {"new_data"}
    assert (rows["b1"]["person_id"], rows["b1"]["reported_before"], rows["b1"]["reported_call"]) == ("a", "A", "B")
    lost = rows[None]
    assert (lost["person_id"], lost["previous_sample_id"], lost["previous_call"]) == ("b", "b1", "B")
    assert (lost["reported_before"], lost["reported_call"], lost["call"]) == ("B", None, None)
    assert call_changes(BEFORE, now)[0] == ["b1"]
    # Taken back it is told the other way round.
    back = rolled_back(now, BEFORE, "back").astype(object)
    back = back.where(back.notna(), None)
    assert set(zip(back["person_id"], back["reported_before"], back["reported_call"], strict=True)) == {
        ("a", "B", "A"), ("b", None, "B"),
    }  # fmt: skip
    (row,) = rolled_back(after({"b1": ("x", 1, "B", 0.2)}), BEFORE, "back").query("person_id == 'x'").to_dict("records")
    assert (row["previous_sample_id"], row["reported_before"]) == ("b1", "B") and pd.isna(row["reported_call"])


def test_the_columns_that_the_chain_needs() -> None:
    frame = pd.DataFrame({"batch": ["x", "y", None], "n": [1, 1, 1]}, index=["s1", "s2", "s3"])
    assert set(sheet_hashes(frame, [])) == {""}
    first = sheet_hashes(frame, ["batch"])
    assert first.nunique() == 3 and first.equals(sheet_hashes(frame.assign(n=2), ["batch"]))
    assert (first != sheet_hashes(frame.assign(batch="x"), ["batch"])).tolist() == [False, True, True]


def test_a_night_that_is_taken_back() -> None:
    now = after({"b1": ("b", 1, "A", 0.95), "d1": ("d", 1, "B", 0.1)}, hashes={"b1": "other"})
    found = rolled_back(now, BEFORE, "back").set_index("sample_id")
    assert set(found["reason"]) == {"rollback"} and list(found.index) == ["b1", "d1"]
    assert (found.at["b1", "previous_call"], found.at["b1", "call"]) == ("A", "B")
    assert (found.at["b1", "reported_before"], found.at["b1", "reported_call"]) == ("A", "B")
    assert found.at["d1", "previous_call"] == "B" and pd.isna(found.at["d1", "call"])
    assert (found.at["d1", "person_id"], found.at["d1", "reported_before"]) == ("d", "B")
    first = rolled_back(BEFORE, None, "back")
    assert list(first["sample_id"]) == ["a1", "b1", "c1"] and first["call"].isna().all()
    # A report alone: another margin was in force.
    rows = {"a1": ("a", 1, "A", 0.9), "a2": ("a", 2, "B", 0.3)}
    (row,) = rolled_back(night(rows), night(rows, Rules("model1", "all", 0.5)), "back").to_dict("records")
    assert (row["sample_id"], row["reported_before"], row["reported_call"]) == ("a2", "B", "A")
    assert list(found.reset_index().columns) == list(CHANGES_COLUMNS)


@pytest.mark.parametrize("seed", range(3))
def test_changes_do_not_depend_on_the_order_of_samples(seed: int) -> None:
    rng = np.random.default_rng(seed)
    ids = [f"s{i:02d}" for i in range(40)]

    def draw(chosen: list[str]) -> dict[str, tuple[str, int, str | None, float]]:
        p = rng.random(len(chosen))
        return {
            one: (f"p{int(one[1:]) % 13}", int(one[1:]), None if 0.4 < x < 0.6 else "A" if x > 0.5 else "B", float(x))
            for one, x in zip(chosen, p, strict=True)
        }

    before, now = night(draw(ids[:30])), night(draw(ids[5:]), Rules("model2", "all", 0.2), "run2")
    found = changes(before, now, "run2", "m@2")
    mixed = rng.permutation(len(now.calls))
    other = Night(now.calls.iloc[mixed], now.state.iloc[mixed], now.reported, now.rules)
    pd.testing.assert_frame_equal(changes(before, other, "run2", "m@2"), found)
    assert set(found["reason"]) >= {"new_visit", "new_model", "rollback"}


def test_text_of_many_samples_is_held_once() -> None:
    ids, few = [f"s{i}" for i in range(50)], ["A", None, "B", "A", ""] * 10
    parts = [pa.table({"sample_id": ids[at : at + 7], "call": pa.array(few[at : at + 7], pa.string()),
                       "confidence": [0.5] * len(ids[at : at + 7])}) for at in range(0, 50, 7)]  # fmt: skip
    found = calls_frame(pa.concat_tables(parts))
    assert list(found.index) == ids and found["call"].tolist() == few and found["call"].dtype == object
    assert len({id(one) for one in found["call"]}) == 4 and found["confidence"].dtype == np.float64
    assert calls_frame(parts[0].slice(0, 0)).empty
