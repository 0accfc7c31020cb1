"""Arrays of models say what scikit-learn says, and bundles of them are checked."""

from __future__ import annotations

import io
import json
import zipfile

import numpy as np
import pytest
import skops.io
from scipy.special import softmax
from sklearn.calibration import CalibratedClassifierCV
from sklearn.frozen import FrozenEstimator
from trained_scene import samples, trained

from sjd_dask.classify import models
from sjd_dask.classify.classifier import Classifier
from sjd_dask.classify.model_file import dump_pipeline, load_pipeline
from sjd_dask.classify.models import GRIDS, fit_model
from sjd_dask.errors import DataError, FormatVersionError, SjdError

KINDS = tuple(GRIDS)


@pytest.mark.parametrize("n_classes", [2, 3])
@pytest.mark.parametrize("kind", KINDS)
def test_probabilities_are_those_of_scikit_learn(kind: str, n_classes: int) -> None:
    fitted = trained(kind, n_classes)
    data = samples(n_classes, seed=7)
    values = data.columns(fitted.classifier.panel)
    ours = fitted.classifier.model.probabilities(values)
    pipeline = fitted.classifier.pipeline()
    if kind == "shrunken_centroid":
        # scikit-learn leaves out the offset of the spread and the half of the distance: put in, it says the same.
        model = pipeline.named_steps["model"]
        model.within_class_std_dev_ = model.within_class_std_dev_ + np.median(model.within_class_std_dev_)
        scores = model._decision_function(pipeline[:-1].transform(values)) / 2
        theirs = softmax(scores, axis=1)
    else:
        theirs = pipeline.predict_proba(values)
    assert np.isnan(values).any()
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-12)


@pytest.mark.parametrize("n_classes", [2, 3])
@pytest.mark.parametrize("kind", ["multinomial", "random_forest"])
def test_calibrated_probabilities_are_those_of_scikit_learn(kind: str, n_classes: int) -> None:
    """CalibratedClassifierCV fits on what the pipeline says of these samples; so does ours on our scores of them."""
    from sjd_dask.classify.calibrate import fit_calibrator

    classifier = trained(kind, n_classes).classifier
    data = samples(n_classes, seed=7)
    values = data.columns(classifier.panel)
    y = np.searchsorted(classifier.classes, data.labels.astype(str))
    theirs = CalibratedClassifierCV(FrozenEstimator(classifier.pipeline()), method="isotonic").fit(values, y)
    scores = classifier.model.scores(values)
    ours = fit_calibrator(scores, y, method="isotonic", scale=classifier.model.scale)  # type: ignore[arg-type]
    np.testing.assert_allclose(ours.apply(scores), theirs.predict_proba(values), rtol=0, atol=1e-12)


@pytest.mark.parametrize("kind", KINDS)
def test_a_bundle_comes_back_as_it_was(kind: str) -> None:
    classifier = trained(kind).classifier
    files = classifier.to_files()
    again = Classifier.from_files(files)
    assert again.hash() == classifier.hash() and again.to_files() == files
    assert again.recipe == classifier.recipe and again.classes == classifier.classes
    assert list(again.features) == list(classifier.features)
    values = samples().columns(classifier.features)
    for name, told in vars(classifier.predict(values)).items():
        np.testing.assert_array_equal(getattr(again.predict(values), name), told)


def test_equal_pipelines_have_equal_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(models, "TREES", 20)
    data = samples()
    y = np.unique(data.labels.astype(str), return_inverse=True)[1]
    made = [
        fit_model(data.values[:, :5], y, np.ones(len(y)), "random_forest", {"min_samples_leaf": 5}, 3)[1]
        for _ in range(2)
    ]
    first, second = (dump_pipeline(one) for one in made)
    assert first == second and skops.io.dumps(made[0]) != skops.io.dumps(made[1])
    again = load_pipeline(first)
    np.testing.assert_array_equal(again.predict_proba(data.values[:, :5]), made[0].predict_proba(data.values[:, :5]))


def test_a_model_kept_otherwise_is_not_frozen(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another version of scikit-learn might store other numbers under the same names."""
    kept = models._arrays
    monkeypatch.setattr(models, "_arrays", lambda *args: {**kept(*args), "intercepts": np.zeros(3)})
    data = samples()
    y = np.unique(data.labels.astype(str), return_inverse=True)[1]
    with pytest.raises(SjdError, match=r"differ by .* from those of scikit-learn"):
        fit_model(data.values[:, :5], y, np.ones(len(y)), "multinomial", {"C": 1.0, "l1_ratio": 0.0}, 3)


def test_features_without_spread_within_classes_are_no_measure() -> None:
    y = np.arange(12) % 2
    values = np.repeat(y[:, None].astype(float), 4, axis=1)
    with pytest.raises(DataError, match="4 of 4 features of the panel are constant within every class"):
        fit_model(values, y, np.ones(12), "shrunken_centroid", {"shrink_threshold": None}, 1)
    values[:, 1:] += np.random.default_rng(0).normal(size=(12, 3))
    model, _ = fit_model(values, y, np.ones(12), "shrunken_centroid", {"shrink_threshold": 0.5}, 1)
    assert np.isfinite(model.probabilities(values)).all()


def rewritten(files: dict[str, bytes], change: dict[str, np.ndarray]) -> dict[str, bytes]:
    with np.load(io.BytesIO(files["arrays.npz"])) as stored:
        arrays = {name: stored[name] for name in stored.files}
    out = io.BytesIO()
    np.savez(out, **{**arrays, **change})
    return {**files, "arrays.npz": out.getvalue()}


def test_what_was_changed_is_refused_by_name() -> None:
    classifier = trained().classifier
    files = classifier.to_files()
    weights = classifier.model.arrays["weights"].copy()
    weights[0, 0] += 1e-9
    with pytest.raises(DataError, match="a number was changed"):
        Classifier.from_files(rewritten(files, {"model_weights": weights}))
    with pytest.raises(DataError, match="pickle, which is never loaded"):
        Classifier.from_files(rewritten(files, {"features": classifier.features}))
    facts = json.loads(files["classifier.json"])
    for changed, told in (
        ({**facts, "threshold": 0.0}, "a number was changed"),
        ({**facts, "model": "oracle"}, "unknown model 'oracle'"),
        ({name: one for name, one in facts.items() if name != "recipe"}, "'recipe'"),
        ({**facts, "recipe": {"shape": 3}}, "shape"),
    ):
        with pytest.raises(DataError, match=told):
            Classifier.from_files({**files, "classifier.json": json.dumps(changed).encode()})
    newer = json.dumps({**facts, "format_version": 99}).encode()
    with pytest.raises(FormatVersionError, match="classifier has on-disk format 99"):
        Classifier.from_files({**files, "classifier.json": newer})
    with pytest.raises(DataError, match=r"no arrays\.npz"):
        Classifier.from_files({name: data for name, data in files.items() if name != "arrays.npz"})
    with pytest.raises(DataError, match="can't be read"):
        Classifier.from_files({**files, "arrays.npz": files["arrays.npz"][:200]})


def test_an_unknown_type_is_never_made() -> None:
    files = trained().classifier.to_files()
    with zipfile.ZipFile(io.BytesIO(files["model.skops"])) as source:
        entries = {name: source.read(name) for name in source.namelist()}
    schema = entries["schema.json"].decode()
    assert '"StandardScaler"' in schema
    bad = schema.replace('"StandardScaler"', '"system"').replace('"sklearn.preprocessing._data"', '"os"')
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as made:
        for name, data in {**entries, "schema.json": bad.encode()}.items():
            made.writestr(name, data)
    with pytest.raises(DataError, match=r"os\.system.*nothing of it was loaded"):
        Classifier.from_files({**files, "model.skops": out.getvalue()})
    with pytest.raises(DataError, match=r"model\.skops of this bundle can't be read"):
        Classifier.from_files({**files, "model.skops": b"no archive"})
