"""Training: nothing of a held-out person comes in, every person counts once, and the order of samples is nothing."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from trained_scene import TELLING, fit, samples, trained

from sjd_dask.classify import conformal
from sjd_dask.classify import recipe as recipes
from sjd_dask.classify.classifier import Classifier
from sjd_dask.classify.fitting import fit_classifier, inner_folds
from sjd_dask.classify.recipe import Recipe
from sjd_dask.classify.splits import person_folds
from sjd_dask.errors import DataError

SMALL = Recipe(model="shrunken_centroid", panel_size=8, inner=3, sentinels=6)


def classes_of(frame: pd.DataFrame, classes: tuple[str, ...], which: str = "p") -> np.ndarray:
    return np.asarray(classes, dtype=object)[frame[[f"{which}_{name}" for name in classes]].to_numpy().argmax(axis=1)]


def test_the_order_of_samples_changes_no_bit() -> None:
    data = samples()
    recipe = Recipe(panel_size=8, inner=3, sentinels=6)
    first = fit(data, recipe)
    order = np.random.default_rng(3).permutation(len(data.ids))
    second = fit(data.take(order), recipe)
    assert first.classifier.to_files() == second.classifier.to_files()
    pd.testing.assert_frame_equal(first.inner.iloc[order].reset_index(drop=True), second.inner, check_exact=True)
    pd.testing.assert_frame_equal(first.panel, second.panel, check_exact=True)
    assert list(first.inner["sample_id"]) == list(data.ids)
    assert np.array_equal(first.inner["fold"], inner_folds(data.persons, data.labels, recipe))
    other = fit(data, dataclasses.replace(recipe, seed=2))
    assert other.classifier.hash() != first.classifier.hash()


def test_a_held_out_person_is_not_seen() -> None:
    """Whatever the values of one person of a fold, what is said of the fold's other persons is the same."""
    data = samples()
    base = fit(data, SMALL)
    held = base.inner["fold"] == base.inner["fold"][0]
    own = data.persons == data.persons[0]
    values = data.values.copy()
    values[own] = 30.0 - values[own]
    other = fit(dataclasses.replace(data, values=values), SMALL)
    assert other.classifier.parameters == base.classifier.parameters
    columns = [f"uncalibrated_{name}" for name in base.classifier.classes]
    there = (held & ~own).to_numpy()
    pd.testing.assert_frame_equal(base.inner.loc[there, columns], other.inner.loc[there, columns], check_exact=True)
    assert not base.inner.loc[~held, columns].equals(other.inner.loc[~held, columns])


def test_labels_that_mean_nothing_are_not_learned() -> None:
    """1,000 features chosen among without the held-out persons: chance, and conformal sets know it."""
    data = samples(2, n_persons=60, n_features=1000, effect=0.0)
    made = fit(data, Recipe(panel_size=10, inner=5, sentinels=0))
    right = classes_of(made.inner, made.classifier.classes) == data.labels
    weights = conformal.person_weights(data.persons)
    assert 0.3 < (weights @ right) / weights.sum() < 0.7
    own = made.inner[[f"p_{name}" for name in made.classifier.classes]].to_numpy()
    held = conformal.sets(own, made.classifier.threshold)
    assert held.sum(axis=1).mean() > 1.5


def test_known_classes_are_told_apart_and_the_panel_explains_it() -> None:
    for kind in ("multinomial", "shrunken_centroid", "random_forest", "gradient_boosting"):
        made, data = trained(kind), samples()
        right = classes_of(made.inner, made.classifier.classes) == data.labels
        assert right.mean() > 0.75, kind
        new = samples(seed=7)
        said = made.classifier.predict(new.columns(made.classifier.features))
        assert (np.asarray(made.classifier.classes)[said.top] == new.labels).mean() > 0.75, kind
        table = made.panel
        assert list(table["feature_id"]) == list(made.classifier.panel)
        telling = table["feature_id"].isin(data.features[:TELLING])
        assert telling.sum() >= 6
        assert table.loc[telling, "selection_frequency"].mean() > 0.6
        means = table[[f"mean_{name}" for name in made.classifier.classes]].to_numpy()
        for row, direction in zip(means, table["direction"], strict=True):
            far = np.abs(row).argmax()
            assert direction == f"{'higher' if row[far] > 0 else 'lower'} in {made.classifier.classes[far]}"
        assert table[[f"weight_{name}" for name in made.classifier.classes]].notna().all(axis=None)


def test_the_size_of_the_panel_is_chosen_in_the_inner_folds(monkeypatch: pytest.MonkeyPatch) -> None:
    """Beside the recipe everything is as if the size had been given; it is larger where more features tell."""
    monkeypatch.setattr(recipes, "SIZES", (2, 4, 8, 16, 64))
    chosen = {}
    for name, telling, effect in (("few", 2, 3.0), ("many", 40, 0.5)):
        random = np.random.default_rng(5)
        y = np.arange(80) % 2
        values = random.normal(size=(80, 60))
        values[:, :telling] += effect * (y[:, None] - 0.5)
        ids, features = [f"S{i:03}" for i in range(80)], [f"g{j:02}" for j in range(60)]
        recipe = Recipe(model="shrunken_centroid", panel_size="auto", inner=4, sentinels=0)
        given: Any = (values, np.array(["a", "b"])[y], ids, ids, features)
        made = fit_classifier(*given, recipe)
        tried = made.sizes
        assert tried["size"].tolist() == [2, 4, 8, 16, 64] and tried["n_features"].tolist()[:2] == [2, 4]
        (size,) = tried.loc[tried["chosen"], "size"]
        fixed = fit_classifier(*given, dataclasses.replace(recipe, panel_size=int(size)))
        again = dataclasses.replace(made.classifier, recipe=fixed.classifier.recipe)
        assert again.hash() == fixed.classifier.hash() and fixed.sizes["chosen"].tolist() == [True]
        pd.testing.assert_frame_equal(made.inner, fixed.inner, check_exact=True)
        pd.testing.assert_frame_equal(made.panel, fixed.panel, check_exact=True)
        truth = made.inner["label"].map({"a": 0, "b": 1}).to_numpy()
        own = made.inner[["uncalibrated_a", "uncalibrated_b"]].to_numpy()[np.arange(80), truth]
        (loss,) = tried.loc[tried["chosen"], "log_loss"]
        np.testing.assert_allclose(loss, -np.log(own).mean(), atol=1e-9)
        # It is frozen and thawed like any other.
        assert Classifier.from_files(made.classifier.to_files()).recipe.panel_size == "auto"
        chosen[name] = size
    assert chosen["few"] <= 4 and chosen["many"] >= 16, chosen


def test_repeated_samples_of_a_person_weigh_no_more() -> None:
    data = samples(2)
    one = data.take(np.flatnonzero(~pd.Series(data.persons).duplicated().to_numpy()))
    index = np.repeat(np.arange(len(one.ids)), np.where(np.arange(len(one.ids)) < 20, 4, 1))
    many = dataclasses.replace(one.take(index), ids=np.array([f"T{i:04}" for i in range(len(index))], dtype=object))
    recipe = Recipe(panel_size=6, inner=3, sentinels=0, class_weight="balanced")
    first, second = fit(one, recipe).classifier, fit(many, recipe).classifier
    assert set(first.panel) & set(data.features[:TELLING]) == set(second.panel) & set(data.features[:TELLING])
    # The same persons, so the same share of them at least is covered, and no more than one person more.
    assert abs(first.threshold - second.threshold) < 0.1


def test_core_samples_train_and_all_are_judged() -> None:
    data = samples()
    core = np.arange(len(data.ids)) % 3 > 0
    made = fit(data, SMALL, core=core)
    assert len(made.inner) == len(data.ids) and made.inner.filter(like="p_").notna().all(axis=None)
    # What is not core has no part in the model.
    values = data.values.copy()
    values[~core] += 5.0
    other = fit(dataclasses.replace(data, values=values), SMALL, core=core)
    if made.classifier.parameters == other.classifier.parameters:
        for name, array in made.classifier.model.arrays.items():
            np.testing.assert_array_equal(array, other.classifier.model.arrays[name])
    assert made.classifier.threshold != other.classifier.threshold


def test_sentinels_are_given_or_chosen_beside_the_panel() -> None:
    data = samples()
    chosen = fit(data, SMALL).classifier
    assert len(chosen.sentinels) == 6 and not set(chosen.sentinels) & set(chosen.panel)
    wanted = [data.features[50], chosen.panel[0], data.features[51]]
    given = fit(data, SMALL, sentinel=wanted).classifier
    assert list(given.sentinels) == [data.features[50], data.features[51]]
    with pytest.raises(DataError, match="1 sentinel features are not among the features: g999"):
        fit(data, SMALL, sentinel=["g999"])


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"labels": ["a"] * 90}, r"name 1 class \('a'\)"),
        ({"sample_ids": ["x", "x"] + [f"s{i}" for i in range(88)]}, r"1 sample ids repeat \(x\)"),
        ({"feature_ids": ["g", "g", *[f"g{j}" for j in range(58)]]}, r"1 feature ids repeat \(g\)"),
        ({"feature_ids": ["g"]}, "a feature id for each column"),
        ({"persons": ["p"] * 89}, "89 persons"),
        ({"core": np.ones(80, dtype=bool)}, "80 core"),
        ({"core": np.arange(90) > 88}, "has no core sample outside inner fold"),
        ({"labels": ["a", "a"] + ["b"] * 88}, r"at least 3 persons in each class.*'a': 2"),
    ],
)
def test_what_cannot_be_trained_on_is_refused(change: dict[str, Any], told: str) -> None:
    data = samples()
    given = {"labels": data.labels, "persons": data.persons, "sample_ids": data.ids, "feature_ids": data.features}
    with pytest.raises(DataError, match=told):
        fit_classifier(data.values, **{**given, "recipe": SMALL, **change})  # type: ignore[arg-type]


def test_ordinary_accuracy_on_leukaemias_is_that_of_plain_scikit_learn(reference_data: Path) -> None:
    """Golub et al. 1999, 38 samples: logistic regression of all genes and ours of 50, on the same folds."""
    folder = reference_data / "oracles" / "data"
    table = pd.read_csv(folder / "golub_expr.tsv.gz", sep="\t", index_col=0)
    sheet = pd.read_csv(folder / "golub_samples.tsv.gz", sep="\t", dtype=str).set_index("sample")
    values, ids, genes = table.T.to_numpy(), table.columns.to_numpy(object), table.index.to_numpy(object)
    labels = ("cl" + sheet.loc[table.columns, "cl"]).to_numpy(object)
    folds = person_folds(ids, labels, 3, seed=1)
    plain = ours = 0
    for fold in range(3):
        train, test = folds != fold, folds == fold
        model = make_pipeline(StandardScaler(), LogisticRegression()).fit(values[train], labels[train].astype(str))
        plain += int((model.predict(values[test]) == labels[test]).sum())
        made = fit_classifier(values[train], labels[train], ids[train], list(ids[train]), list(genes), Recipe())
        at = pd.Index(genes).get_indexer(made.classifier.features)
        said = made.classifier.predict(values[np.ix_(test, at)])
        ours += int((np.asarray(made.classifier.classes)[said.top] == labels[test]).sum())
    assert ours >= plain
