"""Tests carried from a person's earlier visits: only where asked, whole, never backwards, and told of."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from sjd_dask.clinical import score
from sjd_dask.clinical.exchange.observations import Answer, score_columns
from sjd_dask.errors import DataError, SpecError
from sjd_dask.jobs.score_sheet import score_sheet

NONE = {"head_neck_radiation": 0, "hepatitis_c_active": 0, "aids": 0, "sarcoidosis": 0, "amyloidosis": 0,
        "graft_versus_host": 0, "igg4_related": 0}  # fmt: skip


def visits(*rows: dict[str, Any], person: str = "p") -> pd.DataFrame:
    return pd.DataFrame(
        [{"sample_id": f"{person}{i}", "person_id": person, "visit": i, **row} for i, row in enumerate(rows)]
    )


ONCE = visits(
    {"anti_ssa": None, "schirmer": 3},
    {"anti_ssa": "yes", "focus_score": 0.5, "schirmer": 9},
    {"schirmer": 4},
    {"anti_ssa": "no", "schirmer": 4},
    {"schirmer": 4},
)


def classes(frame: pd.DataFrame, **options: Any) -> list[str]:
    return score(frame, "acr_eular", **options)["acr_eular_class"].tolist()


def test_nothing_is_carried_unless_asked() -> None:
    result = score(ONCE, "acr_eular")
    assert "acr_eular_carried" not in result
    assert classes(ONCE, carry=None) == result["acr_eular_class"].tolist() == ["undecided"] * 5


def test_earlier_tests_reach_later_visits_and_none_goes_back() -> None:
    result = score(ONCE, "acr_eular", carry=["anti_ssa", "focus_score"])
    assert result["acr_eular_carried"].tolist() == [
        "",
        "",
        "focus_score from p1; anti_ssa from p1",
        "focus_score from p1",
        "focus_score from p1; anti_ssa from p3",
    ]
    assert result["acr_eular_item_anti_ssa"].tolist() == ["unknown", "positive", "positive", "negative", "negative"]
    assert result["acr_eular_class"].tolist() == ["undecided", "undecided", "definite", "no", "no"]
    np.testing.assert_array_equal(result["acr_eular_known"], [1, 3, 3, 3, 3])


def test_a_later_visit_counts_for_an_earlier_one_when_asked() -> None:
    result = score(ONCE, "acr_eular", carry="anti_ssa, focus_score", carry_from="any")
    assert result["acr_eular_carried"][0] == "focus_score from p1; anti_ssa from p1"
    assert result["acr_eular_class"].tolist() == ["definite", "undecided", "definite", "no", "no"]


def test_rows_in_any_order_and_of_other_persons() -> None:
    frame = pd.concat([ONCE, visits({"anti_ssa": "yes"}, {}, person="q"), visits({}, {"anti_ssa": 1}, person="r")])
    frame.loc[frame["person_id"] == "r", "person_id"] = None  # persons of their own
    asked = {"carry": ["anti_ssa"]}
    told = score(frame, "acr_eular", **asked).set_index("sample_id")
    mixed = score(frame.sample(frac=1, random_state=1), "acr_eular", **asked).set_index("sample_id")
    pd.testing.assert_frame_equal(mixed.loc[told.index], told)
    assert told.loc["q1", "acr_eular_carried"] == "anti_ssa from q0"
    assert told.loc[["r0", "r1"], "acr_eular_carried"].tolist() == ["", ""]


def test_a_biopsy_is_carried_with_the_flag_that_says_whether_it_holds() -> None:
    frame = visits(
        {"focus_score": 2, "focal_lymphocytic_sialadenitis": "no"},
        {},
        {"focal_lymphocytic_sialadenitis": "yes"},
        {"focus_score": 1},  # a new biopsy: the flag of the old one says nothing of it
        {"focal_lymphocytic_sialadenitis": "no"},
        {},
    )
    for name in ("focus_score", "focal_lymphocytic_sialadenitis", "biopsy", "FLS"):
        result = score(frame, ["acr_eular", "glands"], carry=[name])
        items = result["acr_eular_item_focal_lymphocytic_sialadenitis"].tolist()
        assert (
            items
            == ["negative", "negative", "positive", "unknown", "negative", "negative"]
            == list(result["glands_biopsy"])
        )
    assert result["acr_eular_carried"].tolist() == [
        "", "focus_score from p0; focal_lymphocytic_sialadenitis from p0", "focus_score from p0", "",
        "focus_score from p3", "focus_score from p3; focal_lymphocytic_sialadenitis from p4",
    ]  # fmt: skip


def test_two_eyes_of_two_visits_are_no_reading() -> None:
    frame = visits({"schirmer_right": 9, "schirmer_left": 3}, {"schirmer_right": 9, "schirmer_left": None}, {})
    result = score(frame, "acr_eular", carry=["schirmer"])
    assert result["acr_eular_item_schirmer"].tolist() == ["positive", "unknown", "unknown"]
    assert result["acr_eular_carried"].tolist() == ["", "", "schirmer_right from p1"]


def test_ultrasound_entry_and_exclusions() -> None:
    glands = ("parotid_right", "parotid_left", "submandibular_right", "submandibular_left")
    four = {f"sgus_{gland}": grade for gland, grade in zip(glands, (0, 2, 1, 1), strict=True)}
    frame = visits({**four, "sgus_hocevar": 20, "gritty_eyes": "yes", **NONE, "anti_ssa": 1, "schirmer": 2}, {})
    asked = ["ultrasound", "sgus_hocevar", "gritty_eyes", *NONE, "anti_ssa", "schirmer"]
    result = score(frame, ["acr_eular", "glands", "sgus"], carry=asked).iloc[1]
    assert (result["sgus"], result["sgus_positive"], result["sgus_hocevar_positive"]) == (4, "positive", "positive")
    assert result["glands_ultrasound"] == "positive" and result["acr_eular_met"] == 1
    assert "sgus" not in result["acr_eular_carried"] and result["sgus_carried"].count(" from p0") == 5


def test_exchange_says_what_was_carried() -> None:
    scored = score(ONCE, "acr_eular", carry="anti_ssa")
    (told,) = [one for one in score_columns(scored) if one.name == "acr_eular_carried"]
    assert isinstance(told, Answer)
    assert told.text.tolist() == [None, None, "anti_ssa from p1", None, "anti_ssa from p3"]


def test_dates_order_the_visits_and_one_day_is_one_visit() -> None:
    frame = visits({"anti_ssa": 1}, {}, {}).drop(columns="visit")
    frame["date"] = ["2021-03-02", "2021-03-02", "2021-03-01"]
    assert score(frame, "acr_eular", carry="anti_ssa")["acr_eular_carried"].tolist() == ["", "anti_ssa from p0", ""]
    frame["anti_ssa"] = [1, 0, None]
    assert score(frame, "acr_eular", carry="anti_ssa")["acr_eular_carried"].tolist() == ["", "", ""]
    frame["date"] = ["2021-03-02", "2021-03-02", "2021-03-03"]
    with pytest.raises(DataError, match=r"anti_ssa of person 'p' differs between samples 'p0' and 'p1' of one visit"):
        score(frame, "acr_eular", carry="anti_ssa")


def test_an_order_that_nothing_tells_is_refused_where_it_matters() -> None:
    frame = visits({"anti_ssa": 1}, {})
    frame["visit"] = ["baseline", "week 24"]
    with pytest.raises(DataError, match="no order of the visits of person 'p'"):
        score(frame, "acr_eular", carry="anti_ssa")
    frame["anti_ssa"] = [1, 0]
    assert score(frame, "acr_eular", carry="anti_ssa")["acr_eular_carried"].tolist() == ["", ""]


@pytest.mark.parametrize(
    ("carry", "options", "says"),
    [
        (["focus_scor"], {}, r"carry: 'focus_scor' can't be carried \(did you mean 'focus_score'\?\)"),
        (["renal"], {}, "'renal' can't be carried"),
        ([], {}, "name at least one"),
        ("", {}, "name at least one"),
        (["van_bijsterveld"], {}, "the sheet has no column for 'van_bijsterveld'"),
        (["anti_ssa"], {"carry_from": "later"}, "use earlier or any"),
    ],
)
def test_what_cannot_be_carried(carry: Any, options: dict[str, Any], says: str) -> None:
    with pytest.raises(SpecError, match=says):
        score(ONCE, "acr_eular", carry=carry, **options)


def test_without_persons_there_is_nothing_to_carry_from() -> None:
    with pytest.raises(SpecError, match="no column 'person_id'"):
        score(ONCE.drop(columns="person_id"), "acr_eular", carry="anti_ssa")


def test_against_a_plain_loop_over_persons(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    n = 400
    frame = pd.DataFrame(
        {
            "sample_id": [f"s{i}" for i in range(n)],
            "person_id": [f"{i % 90:03d}" for i in range(n)],
            "date": (pd.Timestamp("2020-01-01") + pd.to_timedelta(rng.permutation(n), unit="D")).strftime("%Y-%m-%d"),
            "focus_score": np.where(rng.random(n) < 0.7, np.nan, rng.choice([0, 1, 2.0], n)),
            "focal_lymphocytic_sialadenitis": np.where(rng.random(n) < 0.8, np.nan, rng.choice([0, 1.0], n)),
            "anti_ssa": np.where(rng.random(n) < 0.6, np.nan, rng.choice([0, 1.0], n)),
        }
    )
    wanted = frame.copy()
    for _, rows in frame.groupby("person_id"):
        score_now = flag_now = ssa_now = np.nan
        for at in rows["date"].sort_values().index:
            here = frame.loc[at]
            if not np.isnan(here["focus_score"]):
                score_now, flag_now = here["focus_score"], here["focal_lymphocytic_sialadenitis"]
            elif not np.isnan(here["focal_lymphocytic_sialadenitis"]):
                flag_now = here["focal_lymphocytic_sialadenitis"]
            ssa_now = ssa_now if np.isnan(here["anti_ssa"]) else here["anti_ssa"]
            wanted.loc[at, ["focus_score", "focal_lymphocytic_sialadenitis", "anti_ssa"]] = score_now, flag_now, ssa_now
    asked = ["focus_score", "anti_ssa"]
    found = score(frame, ["acr_eular", "glands"], carry=asked)
    plain = score(wanted, ["acr_eular", "glands"])
    pd.testing.assert_frame_equal(found[plain.columns], plain)
    # In parts, no person is split, and each row has the same cells.
    frame.to_csv(tmp_path / "sheet.csv", index=False)
    from sjd_dask.runtime.here import Here

    for size, name in ((None, "whole"), (40, "parts")):
        score_sheet(
            tmp_path / "sheet.csv", tmp_path / f"{name}.csv", measures=["acr-eular"], options={"carry": asked},
            cluster=Here() if size else "local", partition_rows=size,
        )  # fmt: skip
    assert (tmp_path / "whole.csv").read_bytes() == (tmp_path / "parts.csv").read_bytes()
