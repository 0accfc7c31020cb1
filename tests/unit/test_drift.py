"""The watch of drift: its distances, what chance does, what warns, and what holds a night back."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from sjd_dask.classify.reference import Reference, reference_histograms
from sjd_dask.errors import DataError
from sjd_dask.jobs.drift import COLUMNS, HOLD, NONE, WARN, DriftReport, batch_codes, watch
from sjd_dask.jobs.drift_spec import DriftWatch
from sjd_dask.kernels import drift

FEATURES = [f"g{i:02d}" for i in range(20)]
SETTINGS = DriftWatch()


def samples(n: int, seed: int, shift: float = 0.0, moved: int = 0, out: float = 0.02) -> tuple[np.ndarray, Any]:
    """Values and predictions; `moved` features are shifted, and with them the score that says how far off they are."""
    rng = np.random.default_rng(seed)
    values = rng.normal(0, 1, (n, len(FEATURES)))
    values[:, :moved] += shift
    one = 1 / (1 + np.exp(-values[:, -1]))
    scores = pd.DataFrame({"p_a": one, "p_b": 1 - one, "confidence": np.maximum(one, 1 - one)})
    scores["ood_score"] = (values**2).sum(axis=1)
    scores["status"] = np.where(rng.random(n) < out, "out_of_distribution", "called").astype(object)
    scores.insert(0, "person_id", [f"P{seed}-{i}" for i in range(n)])
    return values, scores


@pytest.fixture(scope="module")
def reference() -> Reference:
    values, scores = samples(400, 1)
    watched = {name: scores[name].to_numpy() for name in ("p_a", "p_b", "confidence", "ood_score")}
    return reference_histograms(
        values, FEATURES, watched, persons=scores["person_id"], statuses=scores["status"].tolist()
    )


def watched(reference: Reference, values: np.ndarray, scores: pd.DataFrame, **more: Any) -> DriftReport:
    codes, batches = batch_codes(scores.get("batch"), len(scores))
    settings = more.pop("settings", SETTINGS)
    found = reference.histograms(values, codes, len(batches))
    return watch(reference, scores, found, settings, batches=batches, **more)


def test_bins_are_those_of_a_plain_count() -> None:
    rng = np.random.default_rng(0)
    values = np.round(rng.normal(0, 2, (300, 3)))  # ties on the edges
    values[rng.random(values.shape) < 0.1] = np.nan
    values[0, 0], values[1, 0] = np.inf, -np.inf
    edges = drift.quantile_edges(values[2:], 8)
    groups = rng.integers(-1, 2, 300)
    found = drift.bin_counts(values, edges, groups, 2)
    for g in range(2):
        for j in range(3):
            own = values[groups == g, j]
            bounds = np.concatenate([[-np.inf], edges[j], [np.inf]])
            for i in range(8):
                inside = (own > bounds[i]) & (own <= bounds[i + 1]) if i else own <= bounds[1]
                assert found[g, j, i] == inside.sum()
            assert found[g, j, 8] == np.isnan(own).sum()
    halves = drift.bin_counts(values[:150], edges, groups[:150], 2) + drift.bin_counts(
        values[150:], edges, groups[150:], 2
    )
    np.testing.assert_array_equal(found, halves)


def test_kolmogorov_is_scipys_within_a_bin() -> None:
    rng = np.random.default_rng(5)
    one, other = rng.normal(0, 1, 1000), rng.normal(0.3, 1.2, 700)
    edges = drift.quantile_edges(one[:, None], 100)
    counts = [drift.bin_counts(x[:, None], edges, np.zeros(len(x), np.int64), 1)[0, 0, :-1] for x in (other, one)]
    exact = stats.ks_2samp(one, other)
    assert exact.statistic - 0.02 <= max(drift.kolmogorov(*counts)) <= exact.statistic + 1e-12
    for side, alternative in enumerate(("greater", "less")):
        one_sided = stats.ks_2samp(other, one, alternative=alternative, method="asymp").statistic
        assert one_sided - 0.02 <= drift.kolmogorov(*counts)[side] <= one_sided + 1e-12
    limit = drift.kolmogorov_limit(1000, 700, 0.01)
    assert limit == pytest.approx(stats.kstwobign.isf(0.01) * np.sqrt(1 / 1000 + 1 / 700))


def test_stability_index_by_hand_and_without_a_side() -> None:
    reference, found = np.array([50, 30, 20]), np.array([10, 30, 60])
    f, r = (found + 0.5) / 101.5, (reference + 0.5) / 101.5
    # Thirds of the reference: the bin of 50 is one, 30 (0.9 of a third) the second, 20 the last one.
    assert drift.merged_bins(reference, 3).tolist() == [0, 1, 1]
    assert drift.merged_bins(np.array([34, 33, 33]), 3).tolist() == [0, 1, 2]
    assert drift.merged_bins(np.array([60, 0, 0, 20, 20]), 5).tolist() == [0, 1, 1, 1, 2]
    merged = np.array([[10, 90], [50, 50]])
    g, s = (merged + 0.5) / 101
    assert drift.stability_index(found, reference, 3) == (pytest.approx(np.sum((g - s) * np.log(g / s))), 2)
    even = np.array([34, 33, 33])
    e = (even + 0.5) / 101.5
    assert drift.stability_index(found, even, 3) == (pytest.approx(np.sum((f - e) * np.log(f / e))), 3)
    assert np.isnan(drift.stability_index(np.zeros(3, np.int64), reference, 3)[0])
    assert r.sum() == pytest.approx(1)


def test_the_reference_survives_its_arrays_and_refuses_others(reference: Reference) -> None:
    arrays = reference.to_arrays()
    assert all(one.dtype != object for one in arrays.values())
    again = Reference.from_arrays(arrays)
    np.testing.assert_array_equal(again.edges, reference.edges)
    np.testing.assert_array_equal(again.counts, reference.counts)
    assert (again.features, again.scores, again.statuses) == (reference.features, reference.scores, reference.statuses)
    # Bins of five samples: none tells where one of them lies.
    assert reference.n_bins == 80 and (reference.counts[:20, :-1] == 5).all()
    with pytest.raises(DataError, match="lacks counts"):
        Reference.from_arrays({name: one for name, one in arrays.items() if name != "counts"})
    with pytest.raises(DataError, match="shape"):
        Reference.from_arrays({**arrays, "features": arrays["features"][1:]})
    with pytest.raises(DataError, match="format 9"):
        Reference.from_arrays({**arrays, "format": np.array([9])})
    with pytest.raises(DataError, match="needs 10 samples, and there are 4"):
        reference_histograms(np.zeros((4, 1)), ["g"], {}, persons=list("abcd"))


def test_nights_of_the_same_kind_pass(reference: Reference) -> None:
    """The stated chance of a false alarm is kept: of quiet nights of four sizes no larger share reaches a level."""
    alarms = [
        watched(reference, *samples(n, 1000 * n + i)).level != NONE for n in (20, 60, 150, 600) for i in range(50)
    ]
    assert sum(alarms) <= stats.binom.ppf(0.999, len(alarms), SETTINGS.alpha)


def test_a_platform_that_moved_holds_the_night(reference: Reference) -> None:
    report = watched(reference, *samples(60, 7, shift=2.0, moved=12, out=0.6))
    assert report.level == HOLD and list(report.table) == list(COLUMNS)
    panel = report.table[report.table["kind"] == "panel"].iloc[0]
    assert panel["share"] == 12 / 20 and panel["level"] == HOLD
    assert (
        report.messages[0].startswith("tonight: 12 of 20 features have moved: g") and "and 7 more" in report.messages[0]
    )
    assert any("are out of distribution" in text for text in report.messages)
    with pytest.raises(DataError, match=r"holds this night back.*drift.accept=true"):
        report.check(accept=False)
    report.check(accept=True)
    rows = report.table[report.table["kind"] == "feature"].set_index("variable")
    assert (rows.loc[FEATURES[:12], "level"] == HOLD).all() and (rows.loc[FEATURES[12:], "level"] == NONE).all()
    assert (rows["psi_limit"] > 0.1).all()  # what chance gives 60 persons lies above the level: it decides


def test_one_feature_warns_and_does_not_hold(reference: Reference) -> None:
    values, scores = samples(200, 8)
    values[:, 3] += 1.5
    report = watched(reference, values, scores)
    assert report.level == WARN and not report.is_held and "1 of 20 features" in report.messages[0]
    report.check(accept=False)


def test_missing_values_are_drift(reference: Reference) -> None:
    values, scores = samples(100, 9)
    values[:50, :8] = np.nan
    report = watched(reference, values, scores)
    assert report.level == HOLD and "50 % missing" in report.messages[0]
    values, scores = samples(40, 9)
    values[:] = np.nan
    assert watched(reference, values, scores).level == HOLD


def test_other_classes_only_warn(reference: Reference) -> None:
    """A night of patients of one class is no fault of the platform."""
    values, scores = samples(150, 10)
    scores["p_a"] = np.clip(scores["p_a"] + 0.3, 0, 1)
    scores["p_b"] = 1 - scores["p_a"]
    report = watched(reference, values, scores)
    assert report.level == WARN and all("p_" in text for text in report.messages)


def test_a_model_that_is_surer_than_those_of_its_folds_is_no_drift(reference: Reference) -> None:
    values, scores = samples(300, 15)
    sharper = scores["p_a"] ** 3 / (scores["p_a"] ** 3 + scores["p_b"] ** 3)
    sure = scores.assign(p_a=sharper, p_b=1 - sharper, confidence=np.maximum(sharper, 1 - sharper))
    report = watched(reference, values, sure)
    assert report.level == NONE
    assert report.table.set_index("variable").loc["confidence", "ks"] > 0.3  # seen, and in the good direction
    nearer = watched(reference, values, scores.assign(ood_score=scores["ood_score"] / 3))
    assert nearer.level == NONE
    unsure = watched(reference, values, scores.assign(confidence=0.5 + (scores["confidence"] - 0.5) / 4))
    farther = watched(reference, values, scores.assign(ood_score=scores["ood_score"] * 3))
    assert unsure.level == farther.level == HOLD
    assert "confidence" in unsure.messages[0] and "ood_score" in farther.messages[0]


def test_a_batch_is_judged_by_itself(reference: Reference) -> None:
    """30 wrong samples among 400 right ones are lost in the whole, and hold the night by their batch."""
    good, bad = samples(400, 11), samples(30, 12, shift=3.0, moved=10)
    good[1]["batch"], bad[1]["batch"] = "B1", "B2"
    values, scores = np.concatenate([good[0], bad[0]]), pd.concat([good[1], bad[1]], ignore_index=True)
    order = np.random.default_rng(0).permutation(len(scores))
    report = watched(reference, values[order], scores.iloc[order])
    assert report.level == HOLD and report.messages[0].startswith("batch 'B2' of tonight: ")
    held = report.table[(report.table["level"] == HOLD)]
    assert set(held["batch"]) == {"B2"} and all("B2" in text for text in report.messages)
    assert not ((report.table["batch"] == "B1") & (report.table["kind"] == "feature")).any()
    pd.testing.assert_frame_equal(report.table, watched(reference, values, scores).table)


def test_batches_are_named_as_their_labels() -> None:
    codes, found = batch_codes(pd.Series([3.0, np.nan, "3", 10, None, " b "], dtype=object), 6)
    assert found == ["", "10", "3", "b"] and codes.tolist() == [2, 0, 2, 1, 0, 3]
    assert batch_codes(None, 3)[0].tolist() == [0, 0, 0] and batch_codes(None, 3)[1] == [""]


def test_small_nights_are_judged_with_those_before(reference: Reference) -> None:
    earlier, levels = None, []
    for night in range(6):
        report = watched(
            reference, *samples(8, 20 + night, shift=3.0, moved=15), earlier=earlier, night=f"n{night}", model="m"
        )
        earlier = report.window
        levels.append(report.level)
        assert "too few to be judged alone (20)" in " ".join(report.messages)
    assert levels[:2] == [NONE, NONE] and levels[-1] == HOLD
    assert list(dict.fromkeys(earlier["night"])) == [f"n{i}" for i in range(6)]
    # The same night again, another model, or a night without new data: nothing is counted twice or mixed.
    quiet = samples(8, 99)
    again = watched(reference, *quiet, earlier=earlier, night="n5", model="m")
    assert list(dict.fromkeys(again.window["night"])) == [f"n{i}" for i in range(6)]
    other = watched(reference, *quiet, earlier=earlier, night="n6", model="other")
    assert other.level == NONE and set(other.window["night"]) == {"n6"}
    none = watched(reference, quiet[0][:0], quiet[1].iloc[:0], earlier=earlier, night="n6", model="m")
    assert none.level == NONE and none.table.empty and none.window["night"].nunique() == 6


def test_slow_drift_only_warns_by_the_window(reference: Reference) -> None:
    earlier, last = None, None
    for night in range(9):
        values, scores = samples(25, 50 + night)
        values[:, :12] += 0.4
        last = watched(reference, values, scores, earlier=earlier, night=f"n{night}", model="m")
        earlier = last.window
    assert last is not None and last.level == WARN
    assert (last.table.loc[last.table["span"] == "night", "level"] == NONE).all()
    assert any(text.startswith("the newest 200 samples: ") for text in last.messages)
    assert earlier["night"].nunique() == 8  # no more than the window wants


def test_samples_that_were_not_scored_are_left_out(reference: Reference) -> None:
    values, scores = samples(60, 13)
    waiting = scores.assign(status="pending_batch", p_a=np.nan, ood_score=np.nan)
    both = pd.concat([scores, waiting], ignore_index=True)
    found = reference.histograms(values)
    pd.testing.assert_frame_equal(
        watch(reference, both, found, SETTINGS).table, watch(reference, scores, found, SETTINGS).table
    )
    with pytest.raises(ValueError, match="not of the same samples"):
        watch(reference, scores.iloc[1:], found, SETTINGS)
    with pytest.raises(DataError, match="no column ood_score"):
        watch(reference, scores.drop(columns="ood_score"), found, SETTINGS)


def test_a_person_with_many_visits_is_one_person(reference: Reference) -> None:
    values, scores = samples(3, 14)
    many = np.repeat(values, 30, axis=0)
    frame = scores.loc[np.repeat(scores.index, 30)].reset_index(drop=True)
    report = watched(reference, many, frame)
    assert report.level == NONE and (report.table["n_persons"] == 3).all()
    frame["person_id"] = [f"Q{i}" for i in range(90)]
    assert watched(reference, many, frame).level != NONE


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({"hold": {"psi": 0.05}}, "hold.psi: 0.05"),
        ({"window": 15}, "window: 15"),
        ({"warn": {"pssi": 1}}, "pssi"),
        ({"alpha": 0}, "alpha"),
    ],
)
def test_levels_that_contradict_are_refused(keys: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        DriftWatch.model_validate(keys)
    assert DriftWatch.model_validate({"hold": {"psi": 0.5}}).hold.ks == 0.3
