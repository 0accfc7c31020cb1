"""A cohort of counts with a published model whose bundle is made in this process: no job of training is run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import classify_scene as scene
import numpy as np
import pandas as pd
import pyarrow as pa

from sjd_dask.classify.fitting import fit_classifier
from sjd_dask.classify.recipe import Recipe
from sjd_dask.classify.reference import reference_histograms
from sjd_dask.jobs.bundle import Bundle, nameless
from sjd_dask.jobs.driver import Outcome, run_spec
from sjd_dask.jobs.spec import parse_spec
from sjd_dask.normalise.chain import fit_chain
from sjd_dask.normalise.methods import make_method
from sjd_dask.normalise.reference import MemoryReference
from sjd_dask.store.cohort import Cohort, open_cohort

TRAINED = 60  # persons; the others have never been seen
RECIPE = Recipe(panel_size=12, prefilter=60, inner=3, sentinels=10)
MODEL = "groups"


def make_bundle(steps: list[Any] | None, quantity: str = "counts", values: np.ndarray | None = None) -> Bundle:
    """A chain and a classifier, fitted on the first persons of the scene; `values` in place of counts."""
    ids = scene.sample_ids(range(TRAINED))
    raw = scene.counts(ids) if values is None else values
    sheet = scene.sheet(ids)
    features = np.array(scene.FEATURES, dtype=object)
    chain, given, out, scale = None, raw, features, quantity
    if steps is not None:
        reference = MemoryReference(raw, ids, scene.FEATURES, sheet, scale=quantity)
        chain = nameless(fit_chain([make_method(step) for step in steps], reference))
        given, out, scale = chain.apply(reference.block()).values, chain.out_feature_ids, chain.scale
    fitted = fit_classifier(
        given, sheet["group"].to_numpy(object), sheet["person_id"].to_numpy(object), np.array(ids, object), out, RECIPE
    )
    classifier = fitted.classifier
    place = pd.Index(out).get_indexer(classifier.panel)
    watched = reference_histograms(given[:, place], list(classifier.panel), {}, persons=list(sheet["person_id"]))
    platform = {
        "assay": "rna", "quantity": quantity, "scale": quantity, "scale_after": scale, "n_features": len(features),
        "sample_columns": [] if chain is None else chain.columns,
    }  # fmt: skip
    return Bundle(chain, classifier, platform, features, {}, watched.to_arrays())


def publish(cohort: Path, bundle: Bundle, name: str = MODEL) -> Cohort:
    """The model in production."""
    opened = open_cohort(cohort)
    table = pa.table({"feature_id": list(bundle.classifier.panel)})
    result = opened.publish_model(name, bundle.save(opened), {"table": table}, {})
    opened.promote(name, result.version, why="a test", who="tests")
    return opened


KEYS: dict[str, Any] = {
    "job": "classify", "model": MODEL, "assay": "rna", "eligible": "disease == 'patient'", "output": "calls",
}  # fmt: skip


def classify(cohort: Path, cluster: Any = "local", **keys: Any) -> Outcome:
    """Run the job with these keys changed; a key that is None is left out."""
    raw = {name: value for name, value in {**KEYS, **keys}.items() if value is not None}
    return run_spec(parse_spec({"cohort": str(cohort), **raw}, "spec"), Path(), cluster=cluster, quiet=True)


def calls(outcome: Outcome, table: str = "table") -> pd.DataFrame:
    """A table by sample id."""
    return outcome.cohort.result(outcome.results[0]).to_pandas(table).set_index("sample_id")
