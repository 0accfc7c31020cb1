"""Specs: what is read, what is refused, and how overrides reach in."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest

from sjd_dask.errors import SpecError
from sjd_dask.jobs.driver import stored_spec
from sjd_dask.jobs.normalise_spec import NormaliseSpec
from sjd_dask.jobs.spec import JOBS, AssociateSpec, parse_spec, read_spec, read_yaml, resolve_path
from sjd_dask.normalise.chain import check_methods
from sjd_dask.normalise.methods import METHODS

ROOT = Path(__file__).parents[2]
SCALES = {"rnaseq": "counts", "methylation": "beta", "cytokines": "concentration"}
COLUMNS = pd.DataFrame(columns=["disease", "batch", "plate", "sex"])
BASE = {"job": "associate", "cohort": ".", "assay": "a", "design": "~ x", "output": "o"}


# The protocol of a trial isn't a job: `sjd trial` reads it.
SPECS = sorted(path for path in (ROOT / "jobs").glob("*.yaml") if path.stem != "trial")


@pytest.mark.parametrize("path", SPECS, ids=lambda path: path.stem)
def test_ready_to_run_specs_are_valid(path: Path) -> None:
    spec, base = read_spec(path)
    assert base == path.parent
    assert spec.output and spec.cohort == "../cohort"
    assert path.read_text(encoding="utf-8").startswith("# ")
    if isinstance(spec, NormaliseSpec):
        check_methods([step.make() for step in spec.steps or []] or [METHODS["log_cpm"]()], SCALES[spec.assay], COLUMNS)
    # A run that is resumed reads what it stored.
    stored = json.loads(json.dumps(stored_spec(spec)))
    assert parse_spec(stored, "run") == spec.model_copy(update={"cohort": "."})


def test_every_job_has_a_ready_to_run_spec() -> None:
    assert {read_spec(path)[0].job for path in SPECS} == set(JOBS)


def test_overrides_are_yaml_and_reach_nested_keys(tmp_path: Path) -> None:
    file = tmp_path / "s.yaml"
    file.write_text("job: associate\ncohort: c\nassay: a\ndesign: '~ x'\noutput: o\n", encoding="utf-8")
    spec, _ = read_spec(file, ["trend=true", "contrasts.A.x=2", "output=p"])
    assert isinstance(spec, AssociateSpec)
    assert (spec.trend, spec.contrasts, spec.output) == (True, {"A": {"x": 2.0}}, "p")
    with pytest.raises(SpecError, match="key=value"):
        read_spec(file, ["trend"])


def test_a_key_that_stands_twice_is_refused(tmp_path: Path) -> None:
    """YAML takes the last one and says nothing."""
    file = tmp_path / "s.yaml"
    file.write_text("job: associate\ncohort: c\ncontrasts: {A: {x: 1}}\ncontrasts: {B: {x: 1}}\n", encoding="utf-8")
    with pytest.raises(SpecError, match=r"(?s)`contrasts` stands here a second time.*line 4"):
        read_spec(file)
    file.write_text("a: &one {x: 1}\nb: {<<: *one, x: 2}\n", encoding="utf-8")
    assert read_yaml(file) == {"a": {"x": 1}, "b": {"x": 2}}


def test_a_typing_error_in_a_nested_key_is_told_by_its_neighbours() -> None:
    spec = {"job": "train", "cohort": ".", "layer": "layers/x", "labels": "l", "person": "p", "output": "o"}
    with pytest.raises(SpecError, match=r"`panel\.methd`; did you mean `method`\?"):
        parse_spec({**spec, "panel": {"methd": "none"}}, "s")
    with pytest.raises(SpecError) as found:
        parse_spec({**BASE, "contrasts": {"a": {"b": "x"}}}, "s")
    assert str(found.value).startswith("s: `contrasts.a.b`: ") and ";" not in str(found.value)


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"layer": "layers/x"}, "exactly one"),
        ({"robust": True, "moderation": "none"}, "moderation"),
        ({"test": "kruskal", "block": "p"}, "block"),
        ({"exact": False}, "wilcoxon"),
        ({"block_correlation": 0.2}, "block"),
        ({"block_correlation": 1.2, "block": "p"}, "block_correlation"),
        ({"precision": "half"}, "precision"),
        ({"contrasts": {"a": {"b": "x"}}}, "contrasts"),
        ({"weights": "voom", "block": "p"}, "block"),
        ({"weights": "array", "precision": "single"}, "precision"),
        ({"weights": "array", "test": "kruskal"}, "weights"),
        ({"weights": "array", "span": 0.3}, "span"),
        ({"weights": "voom", "span": 1.5}, "span"),
        ({"weights": "voom", "array_method": "reml"}, "array_method"),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else None,
)
def test_contradictions_are_named(change: dict[str, object], word: str) -> None:
    with pytest.raises(SpecError, match=word):
        parse_spec({**BASE, **change}, "s.yaml")


def test_relative_paths_start_at_the_spec(tmp_path: Path) -> None:
    assert resolve_path("cohort", tmp_path) == str(tmp_path / "cohort")
    assert resolve_path("/abs", tmp_path) == "/abs"
    assert resolve_path("s3://bucket/x", tmp_path) == "s3://bucket/x"
