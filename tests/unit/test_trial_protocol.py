"""The protocol: what it may hold, and what it says of a typing error."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from sjd_dask.clinical.trials.protocol import parse_protocol, protocol_rules
from sjd_dask.errors import SpecError
from sjd_dask.jobs.spec import read_spec
from sjd_dask.jobs.trial import read_protocol

READY = Path(__file__).parents[2] / "jobs" / "trial.yaml"
BASE = {"name": "t", "output": "out"}
ENDPOINT = {"name": "essdai", "kind": "continuous", "sd": 6, "effect": 3}
FINISHED = {"table": "t.csv", "endpoint": "y", "control": "placebo", "by": ["c"]}


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ({}, "nothing to do"),
        ({"sheet": "s.csv", "critera": {}}, "unknown key `critera`; did you mean `criteria`?"),
        ({"sheet": "s.csv", "criteria": {"inclde": []}}, "`criteria.inclde`; did you mean `include`?"),
        ({"sheet": "s.csv", "criteria": {"include": [{"name": "a", "wen": "x"}]}}, "did you mean `when`?"),
        ({"sheet": "s.csv", "cohort": "c", "feasibility": {}}, "only asked for `calls: classes/NAME`"),
        ({"criteria": {}}, "`criteria` needs the persons"),
        ({"template": "twinss_1"}, "`template` needs the persons"),
        ({"randomisation": {"arms": ["a", "b"]}}, "`randomisation.seed` is required"),
        ({"randomisation": {"arms": ["a", "b"], "seed": 1, "strata": ["x"]}}, "`randomisation.strata` needs"),
        ({"randomisation": {"arms": ["a", "b"], "seed": 1, "blocks": 2}}, "did you mean `block_sizes`?"),
        ({"design": {"endpoints": [{**ENDPOINT, "efect": 3}]}}, "`design.endpoints.0.efect`; did you mean `effect`?"),
        ({"design": {"endpoints": [ENDPOINT]}, "design_shares": "c"}, "`design_shares`"),
        ({"reanalysis": {**FINISHED, "kid": "binary"}}, "`reanalysis.0.kid`; did you mean `kind`?"),
        ({"reanalysis": {**FINISHED, "missing": "non_responder"}}, "belongs to `kind: binary`"),
        ({"calls": "classes/calls", "sheet": "s.csv", "feasibility": {}}, "result of a cohort"),
        ({"calls": "c.csv", "reanalysis": FINISHED}, "`calls` belong"),
        ({"name": "a b", "reanalysis": FINISHED}, "`name` is 'a b'"),
        (
            {"design": {"endpoints": [{"name": "e", "knd": "continuous"}]}},
            "`design.endpoints.0.knd`; did you mean `kind`?",
        ),
        (
            {"design": {"endpoints": [{"name": "e"}]}},
            "`design.endpoints.0.kind` is required; it is one of continuous, bin",
        ),
        (
            {"design": {"endpoints": [{**ENDPOINT, "kind": "ordinal"}]}},
            "`design.endpoints.0.kind` is 'ordinal'; it is one",
        ),
        ({"design": {"endpoints": [{**ENDPOINT, "ancova": True}]}}, "`design.endpoints.0`: `ancova` needs"),
        (
            {"design": {"endpoints": [{**ENDPOINT, "sd": "x"}]}},
            "unable to parse string as a number or a valid dictionary",
        ),
    ],
)
def test_what_is_refused(keys: dict[str, Any], said: str) -> None:
    with pytest.raises(SpecError) as found:
        parse_protocol({**BASE, **keys}, "p.yaml")
    assert said in str(found.value) and str(found.value).startswith("p.yaml: ")


def test_of_several_types_only_the_one_that_was_meant_is_told() -> None:
    with pytest.raises(SpecError) as found:
        parse_protocol({**BASE, "design": {"endpoints": [ENDPOINT], "simulate": {"trails": 200}}}, "p")
    assert str(found.value) == "p: unknown key `design.simulate.trails`; did you mean `trials`?"


def test_criteria_of_one_name_are_refused() -> None:
    twice = [{"name": "a", "when": "x > 1"}, {"name": "a", "when": "y > 1"}]
    with pytest.raises(SpecError, match="two criteria are called 'a'"):
        parse_protocol({**BASE, "sheet": "s.csv", "criteria": {"include": twice}})


def test_rules_of_templates_stand_first_and_each_query_is_read_at_once() -> None:
    raw = {**BASE, "sheet": "s.csv", "template": "twinss_2",
           "criteria": {"exclude": [{"name": "child", "when": "age < 18"}]}}  # fmt: skip
    rules = protocol_rules(parse_protocol(raw))
    assert [(rule.kind, rule.when) for rule in rules] == [
        ("include", "essdai < 5"), ("include", "dryness >= 5 or fatigue >= 5"), ("exclude", "age < 18"),
    ]  # fmt: skip
    with pytest.raises(SpecError, match="did you mean 'twinss_1'"):
        protocol_rules(parse_protocol({**raw, "template": "twins_1"}))
    raw["criteria"] = {"include": [{"name": "odd", "when": "age >"}]}
    with pytest.raises(SpecError, match="include 'odd'"):
        protocol_rules(parse_protocol(raw))


def test_one_reanalysis_is_a_list_of_one() -> None:
    short = parse_protocol({**BASE, "sheet": "s.csv", "feasibility": {"by": "class"}})
    assert short.feasibility is not None and short.feasibility.by == ["class"]
    one = parse_protocol({**BASE, "reanalysis": FINISHED})
    assert one == parse_protocol({**BASE, "reanalysis": [FINISHED]})
    assert parse_protocol(one.model_dump()) == one


def test_the_ready_protocol_is_valid_and_no_job() -> None:
    protocol, base = read_protocol(READY, ["hide_below=0", "randomisation.seed=5"])
    assert base == READY.parent and protocol.cohort == "../cohort"
    assert protocol.hide_below == 0 and protocol.randomisation is not None and protocol.randomisation.seed == 5
    assert protocol_rules(protocol) and READY.read_text(encoding="utf-8").startswith("# ")
    with pytest.raises(SpecError, match="sjd trial"):
        read_spec(READY)
