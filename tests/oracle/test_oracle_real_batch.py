"""Real batch effects: gone after ComBat, the disease kept; and where there is no batch effect, none is invented.

The measures are those of `benchmarks/real_batch_effects.py`, which use NumPy and SciPy alone.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from benchmark_files import benchmark
from jobs_helpers import bring, make_cohort, run, write_npz

from sjd_dask.jobs.driver import run_spec
from sjd_dask.jobs.spec import parse_spec
from sjd_dask.store.cohort import open_cohort

measure = benchmark("real_batch_effects")


def stored(folder: Path, data: Any) -> Path:
    """A cohort that holds a set."""
    cohort = make_cohort(folder / "cohort", 32, 512)
    matrix = write_npz(folder / "matrix.npz", data.values, data.samples.index, data.features)
    bring(cohort, "expression", matrix, samples=data.samples.rename_axis("sample_id"))
    return cohort


def normalise(cohort: Path, cluster: Any, output: str, data: Any, **step: Any) -> tuple[np.ndarray, pd.DataFrame]:
    """The layer's values in the set's order, and the factors' shares that the job published."""
    keys: dict[str, Any] = {"job": "normalise", "cohort": str(cohort), "output": output, "assay": "expression"}
    keys |= {"steps": [{"method": "combat"} | step], "factors": [column for column in data.samples]}
    run_spec(parse_spec(keys, "spec"), Path(), cluster=cluster, quiet=True)
    opened = open_cohort(cohort)
    layer = opened.layer(output)
    reader = layer.reader(list(data.samples.index))
    place = pd.Index(layer.feature_ids()).get_indexer(data.features)
    values, encoding = reader.columns(0, reader.n_features)
    assert encoding.is_float
    values = values[:, place]
    factors = opened.result(f"qc/{output}").to_pandas("factors")
    return values, factors.set_index(["factor", "stage"])


def association(
    cohort: Path, cluster: Any, output: str, contrast: str, data: Any, **keys: Any
) -> tuple[np.ndarray, int]:
    """Moderated t statistics in the set's order, and how many features have q < 0.05."""
    rows = run(cohort, cluster, output, contrasts=[contrast], **keys)[contrast].loc[list(data.features)]
    return rows["statistic"].to_numpy(), int((rows["q_value"] < 0.05).sum())


def say(capsys: pytest.CaptureFixture[str], title: str, **figures: Any) -> None:
    with capsys.disabled():
        shown = (
            f"{name} {value:.4g}" if isinstance(value, float) else f"{name} {value}" for name, value in figures.items()
        )
        print(f"\n{title}: {', '.join(shown)}")


def test_four_lupus_cohorts(
    reference_data: Path, cluster: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = measure.four_cohorts(reference_data)
    cohort, labels = stored(tmp_path, data), data.samples["cohort"]
    is_case = (data.samples["disease"] == "lupus").to_numpy()
    contrast = "disease[T.lupus]"
    before_t, before_found = association(
        cohort, cluster, "before", contrast, data, assay="expression", design="~ disease + cohort"
    )
    _, naive = association(cohort, cluster, "naive", contrast, data, assay="expression", design="~ disease")
    share = measure.explained(data.values, labels)
    score = measure.interferon_score(data.values, data.features, ~is_case)
    before_auc = measure.auc(score, is_case)
    say(
        capsys, "four cohorts, before", share=share, neighbours=measure.neighbours(data.values, labels),
        found=before_found, found_without_cohort=naive, auc=before_auc,
    )  # fmt: skip
    assert share > 0.8 and measure.neighbours(data.values, labels) > 0.99
    assert naive < 0.2 * before_found

    for name, covariates in (("free", None), ("kept", "~ disease")):
        step = {"batch": "cohort"} | ({"covariates": covariates} if covariates else {})
        values, factors = normalise(cohort, cluster, name, data, **step)
        t, found = association(cohort, cluster, f"{name}_t", contrast, data, layer=name, design="~ disease")
        after = measure.explained(values, labels)
        near = measure.neighbours(values, labels)
        score = measure.interferon_score(values, data.features, ~is_case)
        agrees = float(np.corrcoef(t, before_t)[0, 1])
        say(
            capsys, f"four cohorts, {name}", share=after, above_chance=measure.above_chance(values, labels),
            neighbours=near, disease=measure.explained(values, is_case), found=found, t_agrees=agrees,
            auc=measure.auc(score, is_case),
        )  # fmt: skip
        # Less than chance: the batches' own means were taken out.
        assert after < measure.chance(labels)
        # What is left beyond levels and scales: neighbours of one's own cohort, 29 of 119 by chance.
        assert near < 0.5
        assert agrees > 0.99
        assert found > 0.9 * before_found
        assert measure.auc(score, is_case) > before_auc
        assert measure.explained(values, is_case) > 4 * measure.explained(data.values, is_case)
        # The shares that the job publishes leave outlying samples out.
        published = factors.loc["cohort"]
        assert (published["n_samples"] > 100).all()
        assert np.allclose(published["chance"], 3 / (published["n_samples"] - 1))
        assert published.loc["before", "share"] == pytest.approx(share, abs=0.02)
        assert published.loc["after", "share"] < published.loc["after", "chance"] / 2


def test_cohorts_that_the_fit_has_not_seen(reference_data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Half of each cohort is the reference; in the other half the cohorts explain little more than chance."""
    before, after, by_chance = measure.held_out(measure.four_cohorts(reference_data), "cohort", "disease", draws=5)
    say(capsys, "held-out half", before=before, after=after, chance=by_chance)
    assert before > 0.8
    assert after < by_chance + 0.06


def test_bladder(reference_data: Path, cluster: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Dates and groups overlap little: what the dates explain is judged beside the groups."""
    data = measure.bladder(reference_data)
    cohort, labels, groups = stored(tmp_path, data), data.samples["batch"], data.samples["cancer"]
    contrast = "cancer[T.Cancer]"
    before_t, before_found = association(
        cohort, cluster, "before", contrast, data, assay="expression", design="~ cancer + batch"
    )
    beside = measure.beside(data.values, labels, groups)
    say(capsys, "bladder, before", share=measure.explained(data.values, labels), beside=beside, found=before_found)
    for name, covariates in (("free", None), ("kept", "~ cancer")):
        step = {"batch": "batch"} | ({"covariates": covariates} if covariates else {})
        values, _ = normalise(cohort, cluster, name, data, **step)
        t, found = association(cohort, cluster, f"{name}_t", contrast, data, layer=name, design="~ cancer + batch")
        plain_t, plain = association(cohort, cluster, f"{name}_plain", contrast, data, layer=name, design="~ cancer")
        agrees = float(np.corrcoef(t, before_t)[0, 1])
        left = measure.beside(values, labels, groups)
        near = measure.neighbours(values, labels)
        say(
            capsys, f"bladder, {name}", share=measure.explained(values, labels), beside=left, neighbours=near,
            cancer=measure.explained(values, groups), found=found, found_without_batch=plain, t_agrees=agrees,
            plain_t_agrees=float(np.corrcoef(plain_t, before_t)[0, 1]),
        )  # fmt: skip
        assert near < 0.6 * measure.neighbours(data.values, labels)
        assert agrees > 0.98
        assert found > 0.85 * before_found
        if covariates:
            assert left < 0.1 * beside
            assert measure.explained(values, groups) > measure.explained(data.values, groups)
        else:
            # Without the groups ComBat takes what groups and dates share for the dates'.
            assert measure.explained(values, labels) < measure.chance(labels)
            assert measure.explained(values, groups) < measure.explained(data.values, groups)


@pytest.mark.parametrize("n_batches", [2, 6, 28])
def test_no_batch_effect_is_invented(reference_data: Path, n_batches: int, capsys: pytest.CaptureFixture[str]) -> None:
    """Batches drawn at random in one cohort: at chance before, nothing significant after, most values hardly moved."""
    found = measure.invented(measure.one_cohort(reference_data), n_batches, 1)
    say(capsys, f"{n_batches} drawn batches", **found)
    assert found["share before"] == pytest.approx(found["chance"], rel=0.3)
    assert found["share after"] < found["chance"]
    assert found["found before"] == 0 and found["found after"] == 0
    # The noise of a batch's mean is 1/sqrt(size) of a standard deviation: no more than half of it is typical.
    assert found["median"] < 0.5 / np.sqrt(673 / n_batches)
    assert found["99 %"] < 4 / np.sqrt(673 / n_batches)


def test_the_recorded_lots_of_one_cohort(reference_data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Two lots are recorded. Samples run in both are no nearer after ComBat: there was little to correct."""
    data = measure.one_cohort(reference_data)
    after = measure.combat(data, "batch", "~ disease_state")
    first, second = measure.replicates(data)
    apart = [float(np.sqrt(((one[first] - one[second]) ** 2).mean())) for one in (data.values, after)]
    lot = data.samples["batch"]
    say(
        capsys, "recorded lots", before=measure.explained(data.values, lot), after=measure.explained(after, lot),
        chance=measure.chance(lot), replicates=first.size, apart_before=apart[0], apart_after=apart[1],
    )  # fmt: skip
    assert measure.explained(data.values, lot) < 0.03
    assert first.size >= 10
    assert apart[1] == pytest.approx(apart[0], rel=0.05)


def test_labels_that_mean_nothing(reference_data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Type I errors after ComBat: nominal for a balanced label; too many where a leaning label was protected.

    The last is a known property of the method (Nygaard, Rødland and Hovig 2016), and is sva's as well.
    """
    data = measure.one_cohort(reference_data)
    few = data.take(np.random.default_rng(4).permutation(len(data.samples))[:120])
    rates = {
        lean: {way: one[0] for way, one in measure.false_positives(few, 6, lean, 12, 9).items()} for lean in (0.0, 0.4)
    }
    for lean, ways in rates.items():
        say(capsys, f"p < 0.05, lean {lean}", **{way: float(one.mean()) for way, one in ways.items()})
    balanced, leaning = rates[0.0], rates[0.4]
    for way in balanced:
        # Features move together, so that a label's own rate varies: twice its standard error is allowed, and a bit.
        error = balanced[way].std(ddof=1) / np.sqrt(balanced[way].size)
        assert abs(balanced[way].mean() - 0.05) < 0.01 + 2 * error, way
    assert leaning["ComBat"].mean() < 0.05
    assert 0.08 < leaning["ComBat, label protected"].mean() < 0.25
    honest = leaning["as measured, batch in the model"]
    assert honest.mean() < leaning["ComBat, label protected"].mean() - 0.03
