"""`sjd compare`: counts, shares and tests are those of SciPy, small counts are hidden, and misuse is named."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from sjd_dask.cli import main


@pytest.fixture
def scores(tmp_path: Path) -> Path:
    rng = np.random.default_rng(3)
    n = 240
    cluster = np.array(["LSB", "HSB", "PDF"])[rng.integers(0, 3, n)]
    frame = pd.DataFrame(
        {
            "sample_id": [f"{i:05d}" for i in range(n)],
            "person_id": [f"p{i}" for i in range(n)],
            "visit": 1,
            "nsst": cluster,
            "dominant": np.where(rng.random(n) < np.where(cluster == "LSB", 0.7, 0.3), "systemic", "symptoms"),
            "interferon": rng.normal(size=n) + (cluster == "LSB"),
            "rare": ["seldom" if i < 3 else "often" for i in range(n)],
        }
    )
    frame.loc[:9, "nsst"] = None
    frame.to_csv(tmp_path / "scores.csv", index=False)
    calls = frame[["sample_id"]].assign(call=np.array(["C1", "C2"])[rng.integers(0, 2, n)])
    calls.to_csv(tmp_path / "calls.csv", index=False)
    return tmp_path / "scores.csv"


def sjd(*arguments: object) -> int:
    with pytest.raises(SystemExit) as ended:
        main([str(one) for one in arguments])
    code: int = ended.value.code  # type: ignore[assignment]
    return code


def test_tables_are_those_of_scipy(scores: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    assert sjd("compare", scores, out, "--groups", "nsst", "--with", "dominant", "--with", "class", "--markers",
               "interferon", "--calls", tmp_path / "calls.csv", "--json") == 0  # fmt: skip
    said = json.loads(capsys.readouterr().out)
    assert said["rows"] == 230 and [Path(one).name for one in said["files"]] == [
        "cells.csv", "tests.csv", "markers.csv", "marker_tests.csv",
    ]  # fmt: skip
    frame = pd.read_csv(scores, dtype=str).merge(pd.read_csv(tmp_path / "calls.csv", dtype=str), on="sample_id")
    frame = frame[frame["nsst"].notna()].astype({"interferon": float})
    tests = pd.read_csv(out / "tests.csv").set_index("beside")
    for beside, column in (("dominant", "dominant"), ("class", "call")):
        counts = pd.crosstab(frame["nsst"], frame[column])
        assert tests.loc[beside, "p_value"] == pytest.approx(stats.chi2_contingency(counts)[1], rel=1e-9)
        cells = pd.read_csv(out / "cells.csv").query("beside == @beside").set_index(["first", "second"])
        assert {key: cells.loc[key, "n"] for key in cells.index} == counts.stack().to_dict()
    samples = [part["interferon"].to_numpy() for _, part in frame.groupby("nsst")]
    found = pd.read_csv(out / "marker_tests.csv").set_index("marker").loc["interferon"]
    assert found["p_value"] == pytest.approx(stats.kruskal(*samples).pvalue, rel=1e-9) and found["n"] == 230


def test_counts_of_few_are_hidden_unless_asked(scores: Path, tmp_path: Path) -> None:
    assert sjd("compare", scores, tmp_path / "a", "--groups", "dominant", "--with", "rare") == 0
    cells, frame = pd.read_csv(tmp_path / "a" / "cells.csv").set_index(["first", "second"]), pd.read_csv(scores)
    assert not cells["n"].between(1, 4).any()
    # Nor does it follow from what stands beside it: its row and its total are hidden too.
    few = pd.crosstab(frame["dominant"], frame["rare"])["seldom"].between(1, 4)
    assert few.any()
    for name in few.index[few]:
        assert cells.loc[name, "hidden"].all() and cells.loc[name, "share_of_first"].isna().all()
    shown = ("--suppress-below", "0")
    assert sjd("compare", scores, tmp_path / "b", "--groups", "dominant", "--with", "rare", *shown) == 0
    cells = pd.read_csv(tmp_path / "b" / "cells.csv")
    assert cells.groupby("second")["n"].sum().to_dict() == {"often": 237, "seldom": 3}


def test_no_table_shows_what_another_hides(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sizes = {"X": 3, "Y": 10, "Z": 20}
    group = [name for name, n in sizes.items() for _ in range(n)]
    frame = pd.DataFrame({"sample_id": [f"s{i}" for i in range(33)], "group": group})
    frame["half"] = ["ab"[i % 2] for i in range(33)]
    frame["marker"] = np.random.default_rng(0).normal(size=33)
    frame.to_csv(tmp_path / "t.csv", index=False)
    asked = ("--groups", "group", "--with", "half", "--markers", "marker", "--json")
    assert sjd("compare", tmp_path / "t.csv", tmp_path / "out", *asked) == 0
    markers, tests = (pd.read_csv(tmp_path / "out" / f"{name}.csv") for name in ("markers", "tests"))
    assert json.loads(capsys.readouterr().out)["rows"] == 33 == tests["n"].item()
    # 33 less the sizes that are shown is 13, and not the 3 of X.
    assert markers.set_index("group")["n"].to_dict() == pytest.approx({"X": np.nan, "Y": np.nan, "Z": 20}, nan_ok=True)
    assert markers.set_index("group").loc["Y", ["probability_above", "p_value"]].isna().all()


@pytest.mark.parametrize(
    ("options", "code", "said"),
    [
        (["--groups", "nstt", "--with", "dominant"], 2, "'nstt'.*did you mean 'nsst'"),
        (["--groups", "nsst"], 2, "--with.*--markers"),
        (["--groups", "class", "--with", "nsst"], 2, "give --calls"),
        (["--groups", "nsst", "--with", "class", "--calls", "calls"], 2, "give --cohort"),
        (["--groups", "nsst", "--markers", "dominant"], 2, "not numbers"),
        (["--groups", "visit", "--markers", "interferon"], 3, "nothing to compare"),
    ],
)
def test_misuse_is_named(
    scores: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], options: list[str], code: int, said: str
) -> None:
    import re

    assert sjd("compare", scores, tmp_path / "out", *options) == code
    assert re.search(said, capsys.readouterr().err) and not (tmp_path / "out").exists()


def test_a_person_counts_once(scores: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    frame = pd.read_csv(scores, dtype=str)
    twice = pd.concat([frame, frame.tail(1).assign(sample_id="again", visit="2")])
    twice.to_csv(tmp_path / "twice.csv", index=False)
    asked = ("compare", tmp_path / "twice.csv", tmp_path / "out", "--groups", "nsst", "--with", "dominant")
    assert sjd(*asked) == 3 and "--samples 'visit == 1'" in capsys.readouterr().err
    assert sjd(*asked, "--samples", "visit == 1") == 0
    assert sjd(*asked, "--samples", "visit == 1") == 2 and "exists" in capsys.readouterr().err
