"""Module scores of the samples of an assay: the spread of the healthy by stripes, then one pass by samples."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from sjd_dask import names
from sjd_dask.associate import model as models
from sjd_dask.associate.results import summarise
from sjd_dask.clinical import module_lists
from sjd_dask.jobs.explain_tests import Contrasts
from sjd_dask.jobs.normalise_reference import ClusterReference, Phases
from sjd_dask.jobs.normalise_source import Source
from sjd_dask.kernels import correlation, gene_modules
from sjd_dask.kernels.multiplicity import benjamini_hochberg
from sjd_dask.normalise.method import Block, Partial, Stripe

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Scored:
    """Scores of an assay's samples.

    Attributes
    ----------
    matched : MatchedModules
    scores : DataFrame
        One column a module, index sample ids.
    high_above : Series
        By module, the mean of the healthy's scores and so many of their standard deviations (definition ``modules``).
    n_unusable : int
        Features that most healthy samples have at one value.
    """

    matched: module_lists.MatchedModules
    scores: pd.DataFrame
    high_above: pd.Series
    n_unusable: int


def score_samples(source: Source, healthy: Source, given: dict[str, tuple[str, ...]], phases: Phases) -> Scored | None:
    """Scores of all samples of a source; None where no module has a member in it.

    Parameters
    ----------
    source : Source
        Every sample to score.
    healthy : Source
        Those that say what is usual; all samples where nobody is known to be healthy.
    given : dict
        The user's modules.
    phases : Phases
    """
    wanted = module_lists.modules_of(source.scale, given)
    feature_ids = np.asarray(source.feature_ids)
    annotation = source.annotation
    symbols = annotation[names.GENE_SYMBOL].to_numpy(dtype=object) if names.GENE_SYMBOL in annotation else None
    named = module_lists.match_modules(wanted, feature_ids, symbols)
    if not named.names:
        return None
    spread = ClusterReference(healthy, phases).by_features(_spread, named.features).columns
    mean, sd, usable_there = (spread[one] for one in ("mean", "sd", "usable"))
    usable = np.zeros(len(feature_ids), dtype=bool)
    usable[named.features] = usable_there > 0
    matched = module_lists.match_modules(wanted, feature_ids, symbols, usable)
    if not matched.names:
        return None
    at = np.searchsorted(named.features, matched.features)
    common = (matched.features, mean[at], sd[at], matched.weights)
    rows = ClusterReference(source, phases).by_samples(_score, common).rows["scores"]
    scores = pd.DataFrame(rows, columns=list(matched.names), index=pd.Index(source.reader.sample_ids, dtype=object))
    usual = scores.loc[[str(one) for one in healthy.reader.sample_ids]]
    high_above = usual.mean() + module_lists.high_by() * usual.std()
    return Scored(matched, scores, high_above, int((usable_there == 0).sum()))


def _spread(stripe: Stripe, features: NDArray[np.int64]) -> Partial:
    """Mean and spread of the features of modules in a stripe."""
    start, stop = np.searchsorted(features, [stripe.feature_start, stripe.feature_start + stripe.values.shape[1]])
    own = features[start:stop] - stripe.feature_start
    mean, sd, usable = gene_modules.spread_of(stripe.values[:, own])
    return Partial(columns={"mean": mean, "sd": sd, "usable": usable.astype(np.int64)})


def _score(block: Block, common: Any) -> Partial:
    """Scores of a block of samples."""
    features, mean, sd, weights = common
    return Partial(rows={"scores": gene_modules.module_scores(block.values[:, features], mean, sd, weights)})


def module_tests(scores: pd.DataFrame, high_above: pd.Series, compared: Contrasts, groups: pd.Series) -> pd.DataFrame:
    """Scores between groups, by the model that the features are compared with, without moderation.

    Parameters
    ----------
    scores : DataFrame
        One column a module, index sample ids.
    high_above : Series
        See `Scored`.
    compared : Contrasts
    groups : Series

    Returns
    -------
    DataFrame
        ``module``, ``group``, ``against``, ``n``, ``mean``, ``sd``, ``share_high``, ``effect``,
        ``standard_error``, ``statistic``, ``df``, ``p_value``, ``q_value`` (over the modules of a comparison).
    """
    values = np.ascontiguousarray(scores.loc[list(compared.design.sample_ids)].to_numpy(dtype=np.float64))
    model = models.LinearModel(compared.basis, compared.weights, blocks=compared.blocks, correlation_method="reml")
    if compared.blocks is not None:
        rho = correlation.consensus_correlation(models.block_correlations(model, values))
        fits = models.fit_blocks(model, values, rho)
    else:
        stream = models.new_stream(model, values.shape[1]).step(model, values)
        fits = models.finish_stream(model, stream, lambda wanted: values[:, wanted])
    found = summarise(compared.names, fits, moderated=False)
    rows = []
    for k, (group, against) in enumerate(compared.pairs):
        own = scores.loc[groups.index[groups == group]]
        q = benjamini_hochberg(found.p_value[k])
        for j, name in enumerate(scores.columns):
            values_there = own[name].dropna()
            rows.append(
                {
                    "module": name,
                    "group": group,
                    "against": against,
                    "n": len(values_there),
                    "mean": values_there.mean(),
                    "sd": values_there.std(),
                    "share_high": (values_there > high_above[name]).mean() if len(values_there) else np.nan,
                    "effect": found.effect[k, j],
                    "standard_error": found.standard_error[k, j],
                    "statistic": found.statistic[k, j],
                    "df": float(np.broadcast_to(found.df, found.effect.shape)[k, j]),
                    "p_value": found.p_value[k, j],
                    "q_value": q[j],
                }
            )
    return pd.DataFrame(rows)
