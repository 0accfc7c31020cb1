"""The page of a person: any number of visits, with or without dates, models whose classes differ."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pandas as pd
import pytest

from sjd_dask.report.history_page import render_history

CLASSES = ("inflamed", "quiet", "mixed")


def calls(n: int, dated: bool = True, seed: int = 1) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    top = rng.choice(CLASSES, n)
    status = rng.choice(["called", "abstained", "out_of_distribution"], n, p=[0.8, 0.15, 0.05]).astype(object)
    frame = pd.DataFrame(
        {
            "sample_id": [f"S{i:03d}" for i in range(n)], "visit": [f"V{i + 1}" for i in range(n)],
            "date": [str(np.datetime64("2021-03-01") + 97 * i) for i in range(n)] if dated else None,
            "status": status, "top_class": top, "confidence": rng.uniform(0.4, 1, n), "model": "blood@2",
            "published_at": 1.75e9, "retired_in": np.nan, "retired_at": np.nan,
        }
    )  # fmt: skip
    frame["call"] = frame["top_class"].where(frame["status"] == "called")
    frame["reported"] = frame["call"].ffill()
    old = frame.iloc[::3].assign(model="blood@1", retired_in=4.0, retired_at=1.76e9, reported=None, published_at=1.7e9)
    return pd.concat([old, frame]).sort_values("sample_id", kind="stable").reset_index(drop=True)


@pytest.mark.parametrize(("n", "dated"), [(1, True), (1, False), (9, True), (120, False)])
def test_any_number_of_visits_makes_a_page(n: int, dated: bool) -> None:
    made = calls(n, dated)
    page = render_history("P1", made, CLASSES, output="calls", margin=0.2)
    assert page.count("<tr>") == len(made) + 1 and len(page) < 1_000_000
    assert ("By date of visit." in page) == dated
    assert page == render_history("P1", made, CLASSES, output="calls", margin=0.2)


def test_classes_of_an_earlier_model_and_no_class_at_all_have_a_lane() -> None:
    made = calls(6)
    made.loc[0, ["top_class", "call"]] = "gone"
    made.loc[3, ["status", "top_class", "call", "confidence"]] = ["missing_data", None, None, np.nan]
    page = render_history("P1", made, (*CLASSES, "gone"), output="calls")
    assert "missing data" in page and "gone" in page and "is reported. A later" not in page


def test_text_of_users_is_escaped() -> None:
    made: Any = calls(3)
    made["model"] = "<b>$x$</b>"
    made["top_class"] = made["call"] = made["reported"] = "<i>$1"
    page = render_history("<script>1</script>", made, ("<i>$1",), output="calls")
    assert not re.search(r"<script|<b>\$|<i>\$", page)
