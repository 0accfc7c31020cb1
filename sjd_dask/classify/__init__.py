"""Classifiers of samples: a small panel, calibrated probabilities, and silence where they can't be trusted.

``sjd_dask.classify.train(data, labels, persons)`` does it all on a DataArray; ``Classifier.predict`` says of each
sample, by itself, what it is.
"""

from __future__ import annotations

from typing import Any

_WHERE = {
    "Classifier": "classifier",
    "Fitted": "fitting",
    "Predictions": "classifier",
    "Recipe": "recipe",
    "fit_classifier": "fitting",
    "person_folds": "splits",
    "predict": "api",
    "train": "api",
}
__all__ = ["Classifier", "Fitted", "Predictions", "Recipe", "fit_classifier", "person_folds", "predict", "train"]


def __getattr__(name: str) -> Any:
    # Loaded when first used: the models bring their libraries.
    if name in _WHERE:
        from importlib import import_module

        return getattr(import_module(f"sjd_dask.classify.{_WHERE[name]}"), name)
    raise AttributeError(f"module 'sjd_dask.classify' has no attribute {name!r}")
