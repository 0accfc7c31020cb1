"""Models of scikit-learn: what is tried, how one is fitted, and the arrays that score a sample without it."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sjd_dask.errors import DataError, SjdError
from sjd_dask.kernels.calibration import softmax_rows
from sjd_dask.kernels.scoring import centroid_scores, linear_scores, standardised, tree_sums

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Arrays = dict[str, NDArray[Any]]
Parameters = dict[str, float | int | None]

# What is tried, the most regularised first: of equals the first is taken.
GRIDS: dict[str, tuple[Parameters, ...]] = {
    "multinomial": tuple({"C": c, "l1_ratio": r} for c in (0.003, 0.01, 0.03, 0.1, 0.3, 1.0) for r in (0.5, 0.0)),
    "random_forest": ({"min_samples_leaf": 5}, {"min_samples_leaf": 1}),
    "gradient_boosting": tuple({"n_estimators": n, "max_depth": d} for n in (50, 150) for d in (1, 3)),
    "shrunken_centroid": tuple({"shrink_threshold": t} for t in (4.0, 3.0, 2.0, 1.5, 1.0, 0.5, None)),
}
TREES = 300
# Probabilities below it count as it in the loss that tunes: a forest says 0 where it has seen no case.
FLOOR = 1e-6
# How far the arrays may be from the model they were read from.
_PARITY = 1e-9


@dataclass(frozen=True)
class Model:
    """Arrays of a fitted model, with the preparation of values before it.

    Parameters
    ----------
    kind : str
        One of `GRIDS`.
    arrays : dict of ndarray
        ``fill``, ``mean``, ``scale`` (p,) and those of the kind.
    """

    kind: str
    arrays: Mapping[str, NDArray[Any]]

    @property
    def scale(self) -> str:
        """What `scores` are: "logits" or "probabilities"."""
        return "probabilities" if self.kind == "random_forest" else "logits"

    def scores(self, values: Floats) -> Floats:
        """Scores of each row alone, (n, k).

        Decision values whose softmax is the model's probability, or the probabilities themselves of a forest;
        of two classes minus and plus half the log odds.
        """
        a = self.arrays
        rows = standardised(np.ascontiguousarray(values, dtype=np.float64), a["fill"], a["mean"], a["scale"])
        if self.kind == "multinomial":
            return np.asarray(linear_scores(rows, a["weights"], a["intercepts"]))
        if self.kind == "shrunken_centroid":
            return np.asarray(centroid_scores(rows, a["centroids"], a["spread"], a["log_prior"]))
        trees = tree_sums(rows, a["roots"], a["feature"], a["threshold"], a["left"], a["right"], a["value"])
        return np.asarray(trees / a["divisor"] + a["baseline"])

    def probabilities(self, values: Floats) -> Floats:
        """The model's own probabilities, not calibrated, (n, k)."""
        scores = self.scores(values)
        return scores if self.scale == "probabilities" else np.asarray(softmax_rows(scores, 1.0))


def fit_model(
    values: Floats, y: Ints, weights: Floats, kind: str, parameters: Mapping[str, Any], seed: int
) -> tuple[Model, Any]:
    """Fit one model.

    Parameters
    ----------
    values : ndarray (n, p)
        NaN = missing: filled with the mean of the feature in these samples.
    y : ndarray of int64 (n,)
        Classes; each of 0..k-1 is there.
    weights : ndarray (n,)
        Of samples. Shrunken centroids know none.
    kind : str
    parameters : mapping
        One of the kind's `GRIDS`.
    seed : int
        Of scikit-learn's generator.

    Returns
    -------
    Model, sklearn.pipeline.Pipeline
        The pipeline (mean imputation, scaling, model) gives the same probabilities to rounding, except shrunken
        centroids, whose scikit-learn class takes no offset to the spread and no half of the distance.

    Raises
    ------
    DataError
        Shrunken centroids of features that mostly don't vary within classes: there is no spread to measure by.
    SjdError
        The arrays don't say what the model says: a version of scikit-learn that keeps its models otherwise.
    """
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.impute import SimpleImputer
    from sklearn.pipeline import Pipeline
    from sklearn.preprocessing import StandardScaler

    imputer = SimpleImputer(strategy="mean", keep_empty_features=True)
    scaler = StandardScaler()
    prepared = scaler.fit_transform(imputer.fit_transform(values))
    estimator = _estimator(kind, parameters, seed)
    if kind == "shrunken_centroid":
        _check_spread(prepared, y)
        with warnings.catch_warnings():
            # Of single features without variance within classes: the offset of the spread is for them.
            warnings.filterwarnings("ignore", "self.within_class_std_dev_ has at least 1 zero", UserWarning)
            estimator.fit(prepared, y)
    else:
        with warnings.catch_warnings():
            # Where classes are separable and the penalty small the last digits take long: they don't matter.
            warnings.simplefilter("ignore", ConvergenceWarning)
            # The mean weight is 1, so that penalties mean the same whatever the weights add up to.
            estimator.fit(prepared, y, sample_weight=weights * (len(weights) / weights.sum()))
    arrays: Arrays = {
        "fill": np.asarray(imputer.statistics_, dtype=np.float64),
        "mean": np.asarray(scaler.mean_, dtype=np.float64),
        "scale": np.asarray(scaler.scale_, dtype=np.float64),
        **_arrays(kind, estimator),
    }
    model = Model(kind, arrays)
    pipeline = Pipeline([("impute", imputer), ("scale", scaler), ("model", estimator)])
    if kind != "shrunken_centroid":
        far = float(np.abs(model.probabilities(values) - pipeline.predict_proba(values)).max())
        if not far <= _PARITY:
            import sklearn

            raise SjdError(
                f"the {kind} model's probabilities differ by {far:.2g} from those of scikit-learn {sklearn.__version__}"
                ", which keeps its models in another way than this version of sjd-dask knows. Nothing was stored; "
                "install a version of scikit-learn that was tested with it."
            )
    return model, pipeline


def _check_spread(prepared: Floats, y: Ints) -> None:
    flat = np.ones(prepared.shape[1], dtype=bool)
    for c in np.unique(y):
        flat &= np.ptp(prepared[y == c], axis=0) == 0
    if 2 * flat.sum() >= len(flat):
        raise DataError(
            f"{int(flat.sum())} of {len(flat)} features of the panel are constant within every class: shrunken "
            "centroids measure by that spread. Use model: multinomial, or a larger panel."
        )


def _estimator(kind: str, parameters: Mapping[str, Any], seed: int) -> Any:
    if kind == "multinomial":
        from sklearn.linear_model import LogisticRegression

        sparse = parameters["l1_ratio"] > 0
        return LogisticRegression(
            C=parameters["C"],
            l1_ratio=parameters["l1_ratio"],
            solver="saga" if sparse else "lbfgs",
            tol=1e-5,
            max_iter=3_000,
            random_state=seed,
        )
    if kind == "random_forest":
        from sklearn.ensemble import RandomForestClassifier

        return RandomForestClassifier(TREES, min_samples_leaf=parameters["min_samples_leaf"], random_state=seed)
    if kind == "gradient_boosting":
        from sklearn.ensemble import GradientBoostingClassifier

        return GradientBoostingClassifier(
            learning_rate=0.1, subsample=0.7, max_features="sqrt", random_state=seed, **parameters
        )
    from sklearn.neighbors import NearestCentroid

    return NearestCentroid(shrink_threshold=parameters["shrink_threshold"], priors="empirical")


def _arrays(kind: str, estimator: Any) -> Arrays:
    k = len(estimator.classes_)
    if kind == "multinomial":
        weights, intercepts = np.asarray(estimator.coef_), np.asarray(estimator.intercept_)
        if k == 2:
            weights, intercepts = np.vstack([-weights, weights]) / 2, np.concatenate([-intercepts, intercepts]) / 2
        return {"weights": np.ascontiguousarray(weights), "intercepts": np.ascontiguousarray(intercepts)}
    if kind == "shrunken_centroid":
        spread = np.asarray(estimator.within_class_std_dev_)
        return {
            "centroids": np.ascontiguousarray(estimator.centroids_),
            # The offset keeps features of little variance from deciding: s + s0 of Tibshirani et al.
            "spread": spread + np.median(spread),
            "log_prior": np.log(np.asarray(estimator.class_prior_)),
        }
    if kind == "random_forest":
        trees = [one.tree_ for one in estimator.estimators_]
        values = [tree.value[:, 0, :] for tree in trees]
        return {**_nodes(trees, values), "divisor": np.full(1, float(len(trees))), "baseline": np.zeros(k)}
    prior = np.asarray(estimator.init_.class_prior_)
    trees, values = [], []
    for stage in estimator.estimators_:
        for c, one in enumerate(stage):
            tree = one.tree_
            value = np.zeros((tree.node_count, k))
            step = tree.value[:, 0, 0] * estimator.learning_rate
            if k == 2:
                value[:, 0], value[:, 1] = -step / 2, step / 2
            else:
                value[:, c] = step
            trees.append(tree)
            values.append(value)
    return {**_nodes(trees, values), "divisor": np.ones(1), "baseline": np.log(prior)}


def _nodes(trees: list[Any], values: list[Floats]) -> Arrays:
    """The nodes of all trees in one list."""
    starts = np.cumsum([0, *(tree.node_count for tree in trees)])[:-1]

    def moved(children: NDArray[Any], start: int) -> Ints:
        return np.where(children >= 0, children + start, -1)

    return {
        "roots": starts.astype(np.int64),
        "feature": np.concatenate([tree.feature for tree in trees]).astype(np.int64),
        "threshold": np.concatenate([tree.threshold for tree in trees]).astype(np.float64),
        "left": np.concatenate([moved(t.children_left, s) for t, s in zip(trees, starts, strict=True)]).astype(
            np.int64
        ),
        "right": np.concatenate([moved(t.children_right, s) for t, s in zip(trees, starts, strict=True)]).astype(
            np.int64
        ),
        "value": np.ascontiguousarray(np.concatenate(values)),
    }
