"""The features that make the groups: scored over the chosen samples, chosen, and brought into the driver."""

from __future__ import annotations

import difflib
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from sjd_dask import names
from sjd_dask.clinical.module_lists import read_gmt
from sjd_dask.errors import DataError, SpecError
from sjd_dask.jobs.normalise_reference import COLUMN_STRIPE_BYTES, ClusterReference, stripe_task
from sjd_dask.jobs.stratify_features_spec import FeatureChoice
from sjd_dask.normalise.method import Block, Partial, Stripe

if TYPE_CHECKING:
    from sjd_dask.store.cohort import Cohort
    from sjd_dask.store.result import Result

MISSING, CONSTANT = "a missing value", "no variation"
# 1 / the normal's third quartile: the MAD of normal values is their standard deviation.
MAD_SCALE = 1.482602218505602


@dataclass(frozen=True)
class Wanted:
    """Features that the spec names, before the values are looked at.

    Attributes
    ----------
    ids : tuple of str or None
        None: all, by their variation.
    scores : dict
        Feature -> effect, of an association.
    text : str
        How they were chosen, in words.
    content : Any
        What the choice depends on, for the fingerprint.
    absent : int
        Of a list: those that the assay hasn't.
    sets : dict
        Of a .gmt file: set -> members listed, and features of the assay that they are.
    """

    ids: tuple[str, ...] | None
    scores: dict[str, float]
    text: str
    content: Any
    absent: int = 0
    sets: dict[str, dict[str, int]] = field(default_factory=dict)


@dataclass(frozen=True)
class Chosen:
    """The features that make the groups, in the order of their ids.

    Attributes
    ----------
    index : ndarray of int64 (p,)
        Their places in the assay.
    ids : ndarray of object (p,)
    scores : ndarray of float64 (p,)
        NaN for a list.
    dropped : list of dict
        Reasons and counts, as results have them.
    """

    index: NDArray[np.int64]
    ids: NDArray[Any]
    scores: NDArray[np.float64]
    dropped: list[dict[str, Any]]


def wanted_features(
    choice: FeatureChoice,
    cohort: Cohort,
    path: str | None,
    feature_ids: NDArray[Any],
    annotation: pd.DataFrame | None = None,
) -> Wanted:
    """What the spec asks for.

    Parameters
    ----------
    choice : FeatureChoice
    cohort : Cohort
    path : str or None
        Where the list lies.
    feature_ids : ndarray
        Of the assay.
    annotation : DataFrame, optional
        Its feature columns, in the same order: gene sets are of its `gene_symbol` too.

    Raises
    ------
    SpecError
        No such association, contrast, file or set.
    DataError
        It names fewer than two features of the assay.
    """
    if choice.top is not None:
        if choice.top > len(feature_ids):
            raise SpecError(f"`features: top: {choice.top}`: there are only {len(feature_ids):,} features")
        text = {"mad": "median absolute deviation", "cv": "coefficient of variation", "dispersion": "dispersion"}
        return Wanted(None, {}, f"the {choice.top:,} of largest {text[choice.by]}", None)
    if choice.association is not None:
        return _of_association(choice, cohort, feature_ids)
    assert path is not None
    if path.lower().endswith(".gmt"):
        return _of_sets(choice.set, path, feature_ids, annotation)
    ids, digest = read_list(path)
    known = set(feature_ids)
    kept = tuple(one for one in ids if one in known)
    _check_kept(kept, ids, f"list {Path(path).name}", feature_ids)
    return Wanted(kept, {}, f"{len(kept):,} of the list {Path(path).name}", digest, len(ids) - len(kept))


def _check_kept(kept: Sequence[str], ids: Sequence[str], what: str, feature_ids: NDArray[Any]) -> None:
    if len(kept) < 2:
        raise DataError(
            f"{len(kept)} of the {len(ids):,} features of the {what} are in the assay, and groups need at least 2. "
            f"The list begins with {', '.join(map(repr, ids[:3]))}, the assay with "
            f"{', '.join(map(repr, feature_ids[:3]))}"
        )


def _of_sets(only: str | None, path: str, feature_ids: NDArray[Any], annotation: pd.DataFrame | None) -> Wanted:
    """Features that are members of gene sets, by id or by gene symbol."""
    file = Path(path).name
    text, digest = _read_text(path)
    sets = read_gmt(text, f"`features: list: {file}`")
    if only is not None:
        if only not in sets:
            near = difflib.get_close_matches(only, sets, 3) or list(sets)[:3]
            raise SpecError(f"`features: set: {only}`: {file} has no such set among its {len(sets):,}; near: {near}")
        sets = {only: sets[only]}
    features_of: dict[str, list[str]] = {}
    if annotation is not None and names.GENE_SYMBOL in annotation:
        for feature, symbol in zip(feature_ids, annotation[names.GENE_SYMBOL], strict=True):
            features_of.setdefault(str(symbol), []).append(str(feature))
    for feature in feature_ids:
        features_of.setdefault(str(feature), []).append(str(feature))
    kept: dict[str, None] = {}
    told = {}
    for name, members in sets.items():
        own = dict.fromkeys(one for member in members for one in features_of.get(member, ()))
        told[name] = {"listed": len(members), "features": len(own)}
        kept.update(own)
    listed = list(dict.fromkeys(member for one in sets.values() for member in one))
    what = f"set {only!r} of {file}" if only is not None else f"{len(sets):,} sets of {file}"
    _check_kept(list(kept), listed, what, feature_ids)
    absent = sum(member not in features_of for member in listed)
    return Wanted(tuple(kept), {}, f"{len(kept):,} of the {what}", digest, absent, told)


def _of_association(choice: FeatureChoice, cohort: Cohort, feature_ids: NDArray[Any]) -> Wanted:
    assert choice.association is not None
    result = cohort.result(choice.association)
    if result.kind != names.ASSOCIATIONS:
        raise SpecError(f"`association: {choice.association}` is not an association: write associations/NAME")
    rows = _contrast(result, choice.contrast)
    passed = rows[(rows["q_value"] <= choice.max_q) & (rows["effect"].abs() >= choice.min_effect)]
    known = set(feature_ids)
    passed = passed[passed[names.FEATURE_ID].isin(known)].sort_values(names.FEATURE_ID, kind="stable")
    contrast = str(rows[names.CONTRAST].iloc[0])
    text = f"q <= {choice.max_q:g} and |effect| >= {choice.min_effect:g} for {contrast!r} in {result.ref}"
    if len(passed) < 2:
        raise DataError(
            f"{len(passed)} features have {text} (smallest q {rows['q_value'].min():.3g}, largest |effect| "
            f"{rows['effect'].abs().max():.3g}), and groups need at least 2: raise `max_q`, lower `min_effect`, or "
            "take the most variable features with `top`"
        )
    ids = tuple(str(one) for one in passed[names.FEATURE_ID])
    scores = dict(zip(ids, passed["effect"].astype(float), strict=True))
    return Wanted(ids, scores, f"the {len(ids):,} with {text}", [result.ref, contrast])


def _contrast(result: Result, contrast: str | None) -> pd.DataFrame:
    columns = [names.FEATURE_ID, names.CONTRAST, "effect", "q_value"]
    table = result.to_pandas(columns=columns)
    table = table[table["effect"].notna()]
    known = [str(one) for one in table[names.CONTRAST].unique()]
    if contrast is None and len(known) == 1:
        contrast = known[0]
    if contrast not in known:
        said = (
            "has several contrasts: name one with `contrast`" if contrast is None else f"has no contrast {contrast!r}"
        )
        raise SpecError(f"{result.ref} {said}. There are: {', '.join(known) or 'none with an effect'}")
    return table[table[names.CONTRAST] == contrast]


def read_list(path: str) -> tuple[list[str], str]:
    """Feature ids of a text file, one a line, and the hash of the file. Empty lines and # comments are left out.

    Raises
    ------
    SpecError
        It isn't there or is no text.
    """
    text, digest = _read_text(path)
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    ids = [line.replace(",", "\t").split("\t")[0].strip().strip('"') for line in lines]
    return list(dict.fromkeys(one for one in ids if one)), digest


def _read_text(path: str) -> tuple[str, str]:
    """A file, and its hash."""
    try:
        raw = Path(path).read_bytes()
        return raw.decode("utf-8-sig"), hashlib.blake2b(raw, digest_size=16).hexdigest()
    except (OSError, UnicodeDecodeError) as error:
        raise SpecError(f"`features: list: {path}` can't be read: {error}") from None


def choose_features(
    choice: FeatureChoice, wanted: Wanted, reference: ClusterReference, holes: NDArray[np.bool_] | None = None
) -> Chosen:
    """Score every feature over the samples of the reference, and choose.

    Features with a missing value or without variation are left out: distances need both. `holes` marks features with a
    missing value in other samples that matter too.

    Raises
    ------
    DataError
        Fewer than two are left.
    """
    by = choice.by if wanted.ids is None else "dispersion"
    found = _scored(reference, by)
    ids = reference.feature_ids
    inside = np.ones(len(ids), dtype=bool) if wanted.ids is None else np.isin(ids.astype(str), np.array(wanted.ids))
    missing = (found["missing"] if holes is None else found["missing"] | holes) & inside
    constant = found["constant"] & inside & ~missing
    usable = inside & ~missing & ~constant & np.isfinite(found["score"])
    dropped = [{"reason": MISSING, "count": int(missing.sum())}, {"reason": CONSTANT, "count": int(constant.sum())}]
    place = np.flatnonzero(usable)
    if wanted.ids is None:
        assert choice.top is not None
        # Equal scores: by id, so that the order of features has no say.
        order = np.lexsort((ids[place].astype(str), -found["score"][place]))
        dropped.append({"reason": "less variable", "count": max(0, place.size - choice.top)})
        place = place[order[: choice.top]]
    if place.size < 2:
        told = ", ".join(f"{one['count']:,} with {one['reason']}" for one in dropped if one["count"])
        raise DataError(
            f"{place.size} features are left to make groups of, and at least 2 are needed: of {int(inside.sum()):,}, "
            f"{told}. Choose other features or samples, or fill missing values by a normalisation"
        )
    place = place[np.argsort(ids[place].astype(str), kind="stable")]
    if wanted.ids is None:
        scores = found["score"][place]
    else:
        scores = np.array([wanted.scores.get(str(one), np.nan) for one in ids[place]], dtype=np.float64)
    return Chosen(place, ids[place], scores, [one for one in dropped if one["count"]])


def _scored(reference: ClusterReference, by: str) -> dict[str, NDArray[Any]]:
    # Wider than what `by_features` allows: with 20,000 samples a chunk is decoded up to twice as often.
    most = max(1, COLUMN_STRIPE_BYTES // (8 * len(reference.sample_ids)))
    return reference._stripes(stripe_task, reference.source, most, score_stripe, by).columns


def score_stripe(stripe: Stripe, by: str) -> Partial:
    """Variation of each feature of a stripe; sums run over samples in their order, whatever the stripe's width."""
    # Rows of one feature lie together: its sums don't depend on its neighbours.
    values = np.array(stripe.values.T, order="C")
    missing = np.asarray(np.isnan(values).any(axis=1))
    values[missing] = 0.0
    constant = (values.max(axis=1) == values.min(axis=1)) & ~missing
    if by == "mad":
        score = MAD_SCALE * np.median(np.abs(values - np.median(values, axis=1)[:, None]), axis=1)
    else:
        mean = np.abs(values.mean(axis=1))
        variance = values.var(axis=1, ddof=1)
        with np.errstate(divide="ignore", invalid="ignore"):
            score = (np.sqrt(variance) if by == "cv" else variance) / mean
    score[missing] = np.nan
    return Partial(columns={"score": score, "missing": missing, "constant": constant})


def take_features(block: Block, index: NDArray[np.int64]) -> Partial:
    """The chosen features of the samples of a block."""
    return Partial(rows={"values": np.ascontiguousarray(block.values[:, index])})
