"""The report of a night: what it says, whom it does not name, and which counts it hides."""

from __future__ import annotations

import json
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from sjd_dask.report import write_report
from sjd_dask.report.night_facts import night_json, night_report
from sjd_dask.report.night_page import render_night
from sjd_dask.report.suppress import suppress

META: dict[str, Any] = {
    "reference": "changes/calls@12",
    "model": "blood@2",
    "previous_model": "blood@1",
    "eligible": "disease == 'patient'",
    "margin": 0.2,
    "suppress_below": 5,
    "cohort": {"name": "demo", "path": "./cohort", "snapshot": 31},
    "run": {"id": "abc123", "package_version": "0.4"},
    "spec": {"job": "nightly", "output": "calls"},
    "night": {
        "arrivals": [
            {"file": "rna__b7.npz", "assay": "rna", "n_new": 60, "n_replaced": 8, "n_unchanged": 0, "n_withdrawn": 2},
            {"file": "rna__late.tsv.gz", "assay": "rna", "n_new": 24, "n_replaced": 0, "n_unchanged": 12},
        ],
        "sheets": [{"file": "rna__b7.samples.csv", "n_samples": 60}],
        "quarantined": [{"file": "rna__bad.npz", "reason": "sample 'S0042' is there twice"}],
        "waiting": ["rna__big.h5ad"],
        "n_samples": 900,
        "n_scored": 92,
        "statuses": {"called": 700, "abstained": 90, "out_of_distribution": 14, "pending_batch": 6, "not_eligible": 90},
        "previous_statuses": {
            "called": 640, "abstained": 80, "out_of_distribution": 12, "pending_batch": 6, "not_eligible": 78,
        },
        "calls": {"C1": 210, "C2": 150, "C3": 41},
        "previous_calls": {"C1": 200, "C2": 148, "C3": 38},
        "drift": {
            "level": "warn",
            "messages": ["tonight: 3 of 30 features have moved: g1."],
            "accepted": False,
            "limits": {"warn": {"psi": 0.1, "ks": 0.15}, "hold": {"psi": 0.25, "ks": 0.3}},
        },
    },
}  # fmt: skip
COLUMNS = [
    "sample_id", "person_id", "visit", "previous_sample_id", "previous_call", "call", "reported_before",
    "reported_call", "reason", "previous_model", "model", "previous_confidence", "confidence", "run",
]  # fmt: skip


def rows(n: int, reason: str, before: str | None, now: str | None, start: int = 0) -> pd.DataFrame:
    made = pd.DataFrame(None, index=range(n), columns=COLUMNS, dtype=object)
    made["sample_id"] = [f"S{start + i:04d}" for i in range(n)]
    made["person_id"] = [f"Person-{start + i:04d}" for i in range(n)]
    made["reported_before"], made["reported_call"], made["call"], made["reason"] = before, now, now, reason
    made["confidence"], made["run"], made["model"] = 0.9, "abc123", "blood@2"
    return made


def tables() -> dict[str, pd.DataFrame]:
    parts = [
        rows(40, "new_person", None, "C1"), rows(20, "new_person", None, "C2", 100),
        rows(24, "new_visit", "C1", "C1", 200), rows(7, "new_model", "C1", "C2", 300),
        rows(6, "new_model", "C2", "C3", 400), rows(2, "new_data", "C3", "C1", 500),
    ]  # fmt: skip
    gone = rows(1, "withdrawn", None, None)
    gone[["sample_id", "person_id", "model", "confidence"]] = None
    rng = np.random.default_rng(4)
    names = [f"g{i}" for i in range(1, 31)] + ["p_C1", "p_C2", "p_C3", "confidence", "ood_score"]
    watched = pd.DataFrame(
        {
            "variable": names, "kind": ["feature"] * 30 + ["score"] * 5, "span": "night", "batch": "",
            "n_samples": 84, "n_persons": 80, "psi": rng.gamma(2, 0.08, 35), "psi_limit": 0.42,
            "ks": rng.gamma(2, 0.05, 35), "ks_limit": 0.21, "share": [0.01] * 30 + [np.nan] * 5,
            "reference_share": [0.01] * 30 + [np.nan] * 5, "p_value": [0.5] * 30 + [np.nan] * 5, "level": "none",
        }
    )  # fmt: skip
    watched.loc[:2, ["psi", "ks", "level"]] = [[1.2, 0.5, "hold"], [0.9, 0.4, "hold"], [0.6, 0.25, "warn"]]
    panel = {"variable": "features that moved", "kind": "panel", "span": "night", "batch": "", "n_samples": 84,
             "n_persons": 80, "share": 0.1, "level": "warn"}  # fmt: skip
    few = {"variable": "missing_data", "kind": "status", "span": "night", "batch": "B7", "n_samples": 24,
           "n_persons": 24, "share": 3 / 24, "reference_share": 0.0, "p_value": 0.02, "level": "none"}  # fmt: skip
    some = {**few, "variable": "abstained", "share": 6 / 24}
    watched = pd.concat([watched, pd.DataFrame([panel, few, some])], ignore_index=True)
    return {"table": pd.concat([*parts, gone], ignore_index=True), "drift": watched}


def text_of(page: str) -> str:
    body = re.sub(r"<(script|style).*?</\1>", "", page, flags=re.DOTALL)
    return re.sub(r"\s+", " ", re.sub(r"<[^>]*>", " ", body)).replace("\u00a0", " ")


def page_of(meta: dict[str, Any], made: dict[str, pd.DataFrame], **options: Any) -> str:
    return render_night(night_report(meta, made, **options), meta.get("spec"))


def test_the_page_says_who_changed_why_and_what_arrived() -> None:
    page = page_of(META, tables())
    text = text_of(page)
    for words in (
        "84 new samples 8 corrected",
        "92 samples scored tonight of 900 samples",
        "75 persons reported otherwise",
        "new_person a person seen for the first time 60",
        "new_visit a new visit of a known person 24",
        "new_model another model in production 13",
        "nothing C1 40",
        "C1 C2 7",
        "rna__late.tsv.gz rna 24 0 12 0",
        "1 file was put into quarantine",
        "rna__bad.npz its reason lies beside it, in rna__bad.npz.reason.txt",
        "rna__big.h5ad",
        "called 700 640",
        "C3 41 38",
        "3 of 30 features have moved",
        "hold g1 feature tonight 84 1.2 0.42 0.5 0.21 1 % 1 %",
        "blood@2 (before: blood@1)",
        "disease == &#39;patient&#39;",
        "This page names nobody.",
        "sjd export ./cohort changes/calls@12 calls.tsv",
        "sjd history ./cohort calls PERSON",
        "abc123",
    ):
        assert words in text, words
    assert re.findall(r'<figure class="(\w+)"', page) == ["wide", "wide"]
    assert all(re.findall(r'<img src="data:image/svg\+xml;base64,[^"]+" alt="([^"]*)"', page))
    assert "<script" not in page and not re.search(r'(src|href)="(?!data:|#)', page)
    assert "default-src 'none'" in page and len(page) < 1_000_000


def test_nobody_is_named_and_few_are_not_counted() -> None:
    report = night_report(META, tables())
    for text in (night_json(report), page_of(META, tables())):
        assert not re.search(r"S\d{4}|Person-", text)
    moved = {(one["from"], one["to"]): one["persons"] for one in report["changes"]["reported"]}
    # Two persons went from C3 to C1; six others are hidden with them, or 75 less the rest would tell.
    assert moved == {(None, "C1"): 40, (None, "C2"): 20, ("C1", "C2"): 7, ("C2", "C3"): None, ("C3", "C1"): None}
    assert report["changes"]["n_persons"] == 75
    reasons = {one["reason"]: one["n"] for one in report["changes"]["reasons"]}
    assert reasons == {"new_person": 60, "new_visit": 24, "new_model": 13, "new_data": None, "withdrawn": None}
    shares = {one["variable"]: one["share"] for one in report["drift"]["variables"] if one["kind"] == "status"}
    assert shares == {"missing_data": None, "abstained": 0.25}
    files = report["arrivals"]
    assert files[0]["n_withdrawn"] is None and files[0]["n_replaced"] == 8 and files[0]["n_new"] == 60
    assert report["arrived"] == {"n_new": 84, "n_replaced": 8, "n_unchanged": 12, "n_withdrawn": None}
    assert "reason" not in report["quarantined"][0]
    assert night_report(META, tables(), suppress_below=2)["changes"]["reported"][-1]["persons"] == 2


def test_warnings_name_nobody_and_say_nothing_twice() -> None:
    warnings = [
        "drift: tonight: 3 of 30 features have moved: g1.",
        "rna__bad.npz goes to quarantine: sample 'S0042' is there twice",
        "rna__big.h5ad waits in the inbox: 'S0007' is being written",
        "2 samples: without batch, which the model's chain needs; they wait. Fill the sample sheet",
        "1,200 samples: refused by a step of the model's chain; the table `scores` says why",
    ]
    meta = {**META, "warnings": warnings}
    assert night_report(meta, tables())["warnings"] == [
        "rna__big.h5ad waits in the inbox",
        "fewer than 5 samples: without batch, which the model's chain needs; they wait. Fill the sample sheet",
        warnings[4],
    ]
    assert page_of(meta, tables()).count("3 of 30 features have moved") == 1
    assert night_report(meta, tables(), persons=True)["warnings"] == warnings[1:]


def test_persons_are_listed_when_asked_for() -> None:
    report = night_report(META, tables(), persons=True)
    page = render_night(report)
    assert report["changes"]["reported"][-1]["persons"] == 2 and len(report["persons"]) == 100
    assert "Person-0500" in page and "This page names persons" in page and "S0042" in page
    assert "fewer than" not in page
    # Who was reported otherwise before stands above those who are new.
    assert [one["reason"] for one in report["persons"]][:16] == ["new_model"] * 13 + ["new_data"] * 2 + ["new_person"]


@pytest.mark.parametrize(
    ("counts", "shown", "total"),
    [
        ({"a": 10, "b": 9}, {"a": 10, "b": 9}, 19),
        ({"a": 10, "b": 0}, {"a": 10, "b": 0}, 10),
        ({"a": 10, "b": 3, "c": 7}, {"a": 10, "b": None, "c": None}, 20),
        ({"a": 10, "b": 3, "c": 2}, {"a": 10, "b": None, "c": None}, 15),
        ({"a": 3}, {"a": None}, None),
        ({"a": 1, "b": 2}, {"a": None, "b": None}, None),
        ({}, {}, 0),
    ],
)
def test_what_is_hidden_is_not_left_by_subtraction(counts: Any, shown: Any, total: Any) -> None:
    assert suppress(counts, 5) == (shown, total)
    assert suppress(counts, 1) == (counts, sum(counts.values()))


def test_a_quiet_first_night() -> None:
    empty = {"table": pd.DataFrame(columns=COLUMNS)}
    text = text_of(page_of({}, empty))
    assert "Nobody: no call and no report is another" in text and "No file." in text and "Drift" not in text
    watched = {
        **META["night"],
        "drift": {"level": "none", "messages": ["7 new samples are too few to be judged alone (20)."]},
    }
    text = text_of(page_of({**META, "night": watched}, {**empty, "drift": tables()["drift"].iloc[:0]}))
    assert "7 new samples are too few" in text and "no drift seen" in text


def test_an_accepted_night_says_so() -> None:
    drift = {**META["night"]["drift"], "level": "hold", "accepted": True}
    text = text_of(page_of({**META, "night": {**META["night"], "drift": drift}}, tables()))
    assert "somebody accepted it" in text and "seen, and accepted" in text


def test_text_of_users_is_escaped() -> None:
    made = tables()
    made["table"]["reported_call"] = "<b>$x$</b>"
    made["drift"].loc[0, "variable"] = "<i>$1</i>"
    page = page_of({**META, "title": "<script>1</script>", "warnings": ["<u>"]}, made)
    assert "<script>1" not in page and "<b>$" not in page and "<i>$" not in page and "<u>" not in page


def test_the_json_is_strict_and_written_beside_the_page(tmp_path: Path) -> None:
    made = tables()
    made["drift"].loc[0, "psi"] = np.nan
    result = SimpleNamespace(
        kind="changes", name="calls", version=12, ref="changes/calls@12", meta=META, tables=list(made),
        to_pandas=lambda name: made[name],
    )  # fmt: skip
    cohort: Any = SimpleNamespace(result=lambda ref: result)
    page = write_report(cohort, "changes/calls", tmp_path / "n.html").read_text(encoding="utf-8")
    assert page == page_of(META, made)
    text = write_report(cohort, "changes/calls", tmp_path / "n.json").read_text(encoding="utf-8")
    found = json.loads(text, parse_constant=lambda name: pytest.fail(name))
    assert found["result"] == "changes/calls@12" and found["changes"]["n_persons"] == 75
    named = write_report(cohort, "changes/calls", tmp_path / "p.html", persons=True).read_text(encoding="utf-8")
    assert "Person-0500" in named
